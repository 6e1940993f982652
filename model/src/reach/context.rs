//! Every kind of BPF program in which somebody may ask for its scheduler: where it finds a cookie, what the
//! verifier says, how it is entered.
//!
//! Facts of Linux 6.12, one row each, with the function to read. Not here: what follows from them. The verifier's
//! message for a helper is that of `check_helper_call()` in `kernel/bpf/verifier.c`.

/// What `current->bpf_ctx` points to while the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunCtx {
    /// To a run context of its own whose first word is the cookie.
    Cookie,
    /// To a run context of its own that has something else in the place of the cookie.
    Other,
    /// To what it pointed to before: to the context of the interrupted program, or nowhere.
    Inherited,
}

/// Where `bpf_get_attach_cookie()` finds the cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// In the run context.
    RunCtx,
    /// In the link, through the run context and the instruction pointer.
    Link,
    /// In the perf event, through the program's ctx.
    Event,
    /// Nowhere: the verifier refuses the helper.
    Nowhere,
}

/// Where the hook of a program may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// A member of the struct: only its scheduler calls it.
    Member,
    /// In kernel code, which another program may be running.
    Kernel,
    /// An interrupt or NMI, over whatever runs.
    Interrupt,
    /// In user space, or a system call: no other program runs in this task.
    Task,
}

/// What keeps a program from running inside itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recursion {
    /// Nothing.
    Free,
    /// `prog->active`: the same program does not nest on a CPU.
    Program,
    /// `bpf_prog_active`: no two programs of these types nest on a CPU.
    Cpu,
}

/// A row of facts.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// The name in files and commands.
    pub name: &'static str,
    /// Program type and attach type.
    pub kind: &'static str,
    /// What `current->bpf_ctx` points to.
    pub run_ctx: RunCtx,
    /// Where the helper finds the cookie.
    pub slot: Slot,
    /// Through which field of `union bpf_attr` the cookie is given.
    pub field: Option<&'static str>,
    /// The function that enters the program.
    pub enter: &'static str,
    /// May sleep: runs under RCU Tasks Trace instead of RCU.
    pub sleepable: bool,
    /// Where it may run.
    pub hook: Hook,
    /// What nests.
    pub recursion: Recursion,
    /// May use maps with timers and work queues.
    pub async_callbacks: bool,
    /// A global subprogram of it may be replaced by freplace, and the replacement may read the cookie.
    pub freplace: Freplace,
    /// sched_ext has registered kfuncs for it.
    pub kfuncs: bool,
    /// Where in the source this is read.
    pub source: &'static str,
}

/// What a program of type EXT in the place of a global subprogram may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freplace {
    /// It gets the target's helpers, the cookie among them.
    Cookie,
    /// It is loaded, but the cookie helper asks for the program's own type, which is EXT.
    NoCookie,
    /// The verifier refuses it.
    Refused,
}

/// What the verifier says where there is no cookie helper.
pub const NO_HELPER: &str = "program of this type cannot use helper bpf_get_attach_cookie#174";
/// What it says of code that has no ctx to pass.
pub const NO_CTX: &str = "R1 type=map_ptr expected=ctx";
/// What it says of timers in tracing programs (`check_map_prog_compatibility()`, no longer in 7.x).
pub const NO_TIMER: &str = "tracing progs cannot use bpf_timer yet";
/// The same of work queues.
pub const NO_WQ: &str = "tracing progs cannot use bpf_wq yet";
/// What it says of freplace over tracing programs (`bpf_check_attach_target()`).
pub const NO_FREPLACE: &str = "Cannot extend fentry/fexit";

const TRACING: Context = Context {
    name: "fentry",
    kind: "TRACING, BPF_TRACE_FENTRY",
    run_ctx: RunCtx::Cookie,
    slot: Slot::RunCtx,
    field: Some("link_create.tracing.cookie"),
    enter: "__bpf_prog_enter_recur",
    sleepable: false,
    hook: Hook::Kernel,
    recursion: Recursion::Program,
    async_callbacks: true,
    freplace: Freplace::Refused,
    kfuncs: true,
    source: "bpf_trampoline_enter() in kernel/bpf/trampoline.c, tracing_prog_func_proto() in kernel/trace/bpf_trace.c",
};

const KPROBE: Context = Context {
    name: "kprobe",
    kind: "KPROBE",
    field: Some("link_create.perf_event.bpf_cookie"),
    enter: "trace_call_bpf",
    recursion: Recursion::Cpu,
    async_callbacks: false,
    freplace: Freplace::Cookie,
    kfuncs: false,
    source: "bpf_prog_run_array() in include/linux/bpf.h, kprobe_prog_func_proto() in kernel/trace/bpf_trace.c",
    ..TRACING
};

const NETWORK: Context = Context {
    name: "tc",
    kind: "SCHED_CLS",
    run_ctx: RunCtx::Inherited,
    slot: Slot::Nowhere,
    field: None,
    enter: "tcx_run",
    sleepable: false,
    hook: Hook::Interrupt,
    recursion: Recursion::Free,
    async_callbacks: true,
    freplace: Freplace::NoCookie,
    kfuncs: false,
    source: "tc_cls_act_func_proto() in net/core/filter.c has no case for it; tcx_run() in net/core/dev.c sets no run context",
};

/// Every row, in the order of the table.
pub const CONTEXTS: &[Context] = &[
    Context {
        name: "struct_ops",
        kind: "STRUCT_OPS",
        run_ctx: RunCtx::Cookie,
        slot: Slot::RunCtx,
        field: Some("link_create.struct_ops.cookie (the RFC's)"),
        enter: "__bpf_prog_enter",
        hook: Hook::Member,
        recursion: Recursion::Free,
        freplace: Freplace::NoCookie,
        source: "bpf_trampoline_enter() in kernel/bpf/trampoline.c; no helper before the RFC: bpf_scx_get_func_proto() in kernel/sched/ext.c",
        ..TRACING
    },
    Context {
        name: "struct_ops.s",
        kind: "STRUCT_OPS, sleepable",
        run_ctx: RunCtx::Cookie,
        slot: Slot::RunCtx,
        field: Some("link_create.struct_ops.cookie (the RFC's)"),
        enter: "__bpf_prog_enter_sleepable",
        sleepable: true,
        hook: Hook::Member,
        recursion: Recursion::Free,
        freplace: Freplace::NoCookie,
        source: "bpf_trampoline_enter() in kernel/bpf/trampoline.c",
        ..TRACING
    },
    TRACING,
    Context {
        name: "fentry.s",
        kind: "TRACING, BPF_TRACE_FENTRY, sleepable",
        enter: "__bpf_prog_enter_sleepable_recur",
        sleepable: true,
        ..TRACING
    },
    Context {
        name: "fexit",
        kind: "TRACING, BPF_TRACE_FEXIT",
        ..TRACING
    },
    Context {
        name: "fmod_ret",
        kind: "TRACING, BPF_MODIFY_RETURN",
        freplace: Freplace::NoCookie,
        ..TRACING
    },
    Context {
        name: "lsm",
        kind: "LSM, BPF_LSM_MAC",
        enter: "__bpf_prog_enter",
        recursion: Recursion::Free,
        freplace: Freplace::NoCookie,
        kfuncs: true,
        source: "bpf_trampoline_enter() in kernel/bpf/trampoline.c, bpf_lsm_func_proto() in kernel/bpf/bpf_lsm.c",
        ..TRACING
    },
    Context {
        name: "lsm.s",
        kind: "LSM, BPF_LSM_MAC, sleepable",
        enter: "__bpf_prog_enter_sleepable",
        sleepable: true,
        recursion: Recursion::Free,
        freplace: Freplace::NoCookie,
        source: "bpf_trampoline_enter() in kernel/bpf/trampoline.c, bpf_lsm_func_proto() in kernel/bpf/bpf_lsm.c",
        ..TRACING
    },
    Context {
        name: "lsm_cgroup",
        kind: "LSM, BPF_LSM_CGROUP",
        run_ctx: RunCtx::Other,
        slot: Slot::Nowhere,
        field: None,
        enter: "bpf_prog_run_array_cg",
        recursion: Recursion::Free,
        freplace: Freplace::NoCookie,
        source: "__cgroup_bpf_run_lsm_sock() in kernel/bpf/cgroup.c; bpf_prog_has_trampoline() wants BPF_LSM_MAC",
        ..TRACING
    },
    Context {
        name: "tp_btf",
        kind: "TRACING, BPF_TRACE_RAW_TP",
        field: Some("raw_tracepoint.cookie or link_create.tracing.cookie"),
        enter: "__bpf_trace_run",
        freplace: Freplace::NoCookie,
        source: "__bpf_trace_run() and tracing_prog_func_proto() in kernel/trace/bpf_trace.c",
        ..TRACING
    },
    Context {
        name: "raw_tp",
        kind: "RAW_TRACEPOINT",
        field: Some("raw_tracepoint.cookie"),
        enter: "__bpf_trace_run",
        async_callbacks: false,
        freplace: Freplace::Cookie,
        kfuncs: false,
        source: "__bpf_trace_run() and raw_tp_prog_func_proto() in kernel/trace/bpf_trace.c",
        ..TRACING
    },
    Context {
        name: "tracepoint",
        kind: "TRACEPOINT",
        kfuncs: true,
        source: "bpf_prog_run_array() in include/linux/bpf.h, tp_prog_func_proto() in kernel/trace/bpf_trace.c",
        ..KPROBE
    },
    KPROBE,
    Context {
        name: "kprobe.multi",
        kind: "KPROBE, BPF_TRACE_KPROBE_MULTI",
        run_ctx: RunCtx::Other,
        slot: Slot::Link,
        field: Some("link_create.kprobe_multi.cookies[]"),
        enter: "kprobe_multi_link_prog_run",
        source: "bpf_kprobe_multi_cookie() in kernel/trace/bpf_trace.c",
        ..KPROBE
    },
    Context {
        name: "kprobe.session",
        kind: "KPROBE, BPF_TRACE_KPROBE_SESSION",
        run_ctx: RunCtx::Other,
        slot: Slot::Link,
        field: Some("link_create.kprobe_multi.cookies[]"),
        enter: "kprobe_multi_link_prog_run",
        source: "bpf_kprobe_multi_cookie() in kernel/trace/bpf_trace.c",
        ..KPROBE
    },
    Context {
        name: "uprobe",
        kind: "KPROBE (uprobe)",
        enter: "bpf_prog_run_array_uprobe",
        hook: Hook::Task,
        recursion: Recursion::Free,
        source: "bpf_prog_run_array_uprobe() in include/linux/bpf.h, kprobe_prog_func_proto() in kernel/trace/bpf_trace.c",
        ..KPROBE
    },
    Context {
        name: "uprobe.multi",
        kind: "KPROBE, BPF_TRACE_UPROBE_MULTI",
        run_ctx: RunCtx::Other,
        slot: Slot::Link,
        field: Some("link_create.uprobe_multi.cookies[]"),
        enter: "uprobe_prog_run",
        hook: Hook::Task,
        recursion: Recursion::Free,
        source: "bpf_uprobe_multi_cookie() in kernel/trace/bpf_trace.c",
        ..KPROBE
    },
    Context {
        name: "perf_event",
        kind: "PERF_EVENT",
        run_ctx: RunCtx::Inherited,
        slot: Slot::Event,
        enter: "bpf_overflow_handler",
        hook: Hook::Interrupt,
        kfuncs: true,
        source: "bpf_overflow_handler() in kernel/events/core.c, bpf_get_attach_cookie_pe() in kernel/trace/bpf_trace.c",
        ..KPROBE
    },
    Context {
        name: "syscall",
        kind: "SYSCALL, by BPF_PROG_TEST_RUN",
        run_ctx: RunCtx::Inherited,
        slot: Slot::Nowhere,
        field: None,
        enter: "bpf_prog_test_run_syscall",
        sleepable: true,
        hook: Hook::Task,
        recursion: Recursion::Free,
        freplace: Freplace::NoCookie,
        source: "bpf_prog_test_run_syscall() in net/bpf/test_run.c, syscall_prog_func_proto() in kernel/bpf/syscall.c",
        ..TRACING
    },
    Context {
        name: "iter",
        kind: "TRACING, BPF_TRACE_ITER",
        run_ctx: RunCtx::Other,
        slot: Slot::Nowhere,
        field: None,
        enter: "bpf_iter_run_prog",
        hook: Hook::Task,
        recursion: Recursion::Free,
        freplace: Freplace::NoCookie,
        source: "bpf_iter_run_prog() in kernel/bpf/bpf_iter.c; bpf_prog_has_trampoline() is false for it",
        ..TRACING
    },
    Context {
        name: "cgroup",
        kind: "CGROUP_SKB and the other cgroup types",
        run_ctx: RunCtx::Other,
        enter: "bpf_prog_run_array_cg",
        source: "bpf_prog_run_array_cg() in kernel/bpf/cgroup.c: bpf_cg_run_ctx has prog_item in that place",
        ..NETWORK
    },
    NETWORK,
    Context {
        name: "xdp",
        kind: "XDP",
        enter: "bpf_prog_run_xdp",
        source: "xdp_func_proto() in net/core/filter.c has no case for it",
        ..NETWORK
    },
    Context {
        name: "netfilter",
        kind: "NETFILTER",
        enter: "nf_hook_run_bpf",
        source: "bpf_nf_func_proto() in net/netfilter/nf_bpf_link.c knows base helpers only",
        ..NETWORK
    },
];

/// How the code that asks is reached from the program that is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// It is the program.
    Direct,
    /// A global subprogram, which gets ctx as `void *ctx __arg_ctx` (`btf_prepare_func_args()`).
    Subprog,
    /// A callback that bpf_loop() calls; ctx comes in its callback_ctx.
    Loop,
    /// A program in a prog array, reached by bpf_tail_call(): another program, in the run context of the first.
    TailCall,
    /// A program of type EXT in the place of a global subprogram: another program in the same run context.
    Freplace,
    /// The callback of a bpf_timer: (map, key, value), in a softirq over whatever runs (`bpf_timer_cb()`).
    Timer,
    /// The callback of a bpf_wq: (map, key, value), in a kworker (`bpf_wq_work()`).
    Wq,
}

impl Way {
    /// Each with its suffix after the program's name, and what it is.
    pub const ALL: [(&'static str, Way, &'static str); 7] = [
        ("", Way::Direct, "the program itself asks"),
        (
            "+subprog",
            Way::Subprog,
            "a global subprogram of it asks, with the program's ctx",
        ),
        (
            "+loop",
            Way::Loop,
            "a callback that bpf_loop() calls asks, with the program's ctx",
        ),
        (
            "+tailcall",
            Way::TailCall,
            "a program asks that it has tail-called: another program in the same run context",
        ),
        (
            "+freplace",
            Way::Freplace,
            "a program of type EXT asks that has replaced a subprogram of it",
        ),
        (
            "+timer",
            Way::Timer,
            "the callback of a bpf_timer asks that it has armed: no ctx, and over whatever runs",
        ),
        (
            "+wq",
            Way::Wq,
            "the callback of a bpf_wq asks that it has armed: no ctx, in a kworker",
        ),
    ];

    /// The suffix.
    pub fn suffix(self) -> &'static str {
        Self::ALL.iter().find(|w| w.1 == self).map_or("", |w| w.0)
    }

    /// Runs later, and without a ctx.
    pub fn is_callback(self) -> bool {
        matches!(self, Way::Timer | Way::Wq)
    }

    /// Asks with another program's `bpf_prog_aux` than the one that is attached.
    pub fn is_other_program(self) -> bool {
        matches!(self, Way::TailCall | Way::Freplace)
    }
}

/// A program as the table names it: a context and the way to the code that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kind {
    /// Index into [`CONTEXTS`].
    pub context: u8,
    /// The way.
    pub way: Way,
}

impl Kind {
    /// Reads `CONTEXT[+WAY]`.
    pub fn parse(text: &str) -> Option<Self> {
        let (context, way) = text.split_at(text.find('+').unwrap_or(text.len()));
        let context = CONTEXTS.iter().position(|c| c.name == context)?;
        let way = Way::ALL.iter().find(|w| w.0 == way)?.1;
        Some(Kind {
            context: context as u8,
            way,
        })
    }

    /// The facts.
    pub fn facts(self) -> &'static Context {
        &CONTEXTS[usize::from(self.context)]
    }

    /// Every name that [`Kind::parse`] reads.
    pub fn names() -> Vec<String> {
        CONTEXTS
            .iter()
            .flat_map(|c| Way::ALL.map(|w| format!("{}{}", c.name, w.0)))
            .collect()
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.facts().name, self.way.suffix())
    }
}
