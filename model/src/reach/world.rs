//! What there is in an exploration: schedulers, programs, attachments, and what their loaders do.
//!
//! Names are kept for reports; the machine uses indices. Not the state: nothing here changes.

use super::context::Kind;
use crate::place::Linux;

/// Most schedulers (each has one struct_ops map and one loader).
pub const MAX_SCHEDS: usize = 3;
/// Most programs.
pub const MAX_PROGS: usize = 8;
/// Most attachments of programs other than struct_ops.
pub const MAX_ATTACHMENTS: usize = 6;

/// Where a program takes its identity from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// From nowhere but what the kernel knows of it.
    Kernel,
    /// From `bpf_get_attach_cookie(ctx)`.
    Helper,
    /// From a global variable of its object file.
    Global,
    /// A callback: from its map value, where the program that armed it left what it had read.
    Stash,
    /// From an argument: the attachment that the member was handed.
    Argument,
    /// It need not: it calls a kfunc with a task, which finds the scheduler of that task.
    Task,
    /// From nowhere, and it is not asked: the kfunc takes scx_root, whoever calls it.
    Root,
}

impl Source {
    /// Words in files, and what they mean.
    pub const ALL: [(&'static str, Source, &'static str); 7] = [
        (
            "kernel",
            Source::Kernel,
            "names nothing: the kfunc has to know its caller",
        ),
        ("helper", Source::Helper, "bpf_get_attach_cookie(ctx)"),
        (
            "global",
            Source::Global,
            "a global variable of the object file",
        ),
        (
            "stash",
            Source::Stash,
            "a callback's map value, filled by the program that armed it",
        ),
        (
            "argument",
            Source::Argument,
            "the attachment that the caller of a member hands it",
        ),
        (
            "task",
            Source::Task,
            "a task handed to the kfunc: its own in a struct_ops member, any in other programs",
        ),
        (
            "root",
            Source::Root,
            "nothing: a kfunc that nobody has converted takes scx_root, whoever calls it",
        ),
    ];
}

/// A scheduler: a struct_ops map, and what is registered through it.
#[derive(Clone, Debug)]
pub struct Sched {
    /// Name.
    pub name: String,
    /// The cookie that its loader gives to link_create, or to map creation as map_extra.
    pub key: u8,
    /// The id of its map. Two maps have the same one only if the first is gone: ids are given out again when they
    /// have gone round.
    pub map_id: u8,
    /// struct_ops programs of the map.
    pub members: Vec<u8>,
}

/// A program.
#[derive(Clone, Debug)]
pub struct Prog {
    /// Name.
    pub name: String,
    /// What it is, and how the code that asks is reached.
    pub kind: Kind,
    /// The program that the way leads to, where it is another one.
    pub callee: Option<u8>,
    /// Reached from another program only: never attached itself.
    pub is_callee: bool,
    /// Object file: one set of global variables.
    pub object: u8,
    /// Where the code that asks takes its identity from.
    pub source: Source,
    /// It asks; otherwise it is only there to be interrupted.
    pub asks: bool,
}

/// A program of another type than struct_ops, attached on behalf of a scheduler.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// Name.
    pub name: String,
    /// Program.
    pub prog: u8,
    /// On whose behalf.
    pub sched: u8,
    /// The cookie given; 0 is none.
    pub cookie: u8,
}

/// What a loader does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// BPF_PROG_LOAD of every program of an object file.
    Load(u8),
    /// BPF_MAP_CREATE.
    MapCreate(u8),
    /// BPF_MAP_UPDATE_ELEM.
    MapUpdate(u8),
    /// BPF_MAP_UPDATE_ELEM that fails after it has taken the programs (validate(), say).
    MapUpdateFails(u8),
    /// BPF_PROG_ASSOC_STRUCT_OPS.
    Associate(u8, u8),
    /// Writes the scheduler's id or cookie into the global variables of an object file.
    Store(u8, u8),
    /// BPF_LINK_CREATE of an attachment.
    Attach(u8),
    /// BPF_LINK_CREATE of a map: enables the scheduler.
    LinkCreate(u8),
    /// Closes the struct_ops link: disables the scheduler.
    LinkClose(u8),
    /// The scheduler fails on its own (watchdog, runtime error); the link stays.
    Error(u8),
    /// Closes the link of an attachment.
    Detach(u8),
    /// Closes the last fd of a struct_ops map.
    MapClose(u8),
    /// Closes the fds of the programs of an object file, and of its maps: timers in them are cancelled.
    Exit(u8),
}

impl Op {
    /// Words in files, with what follows, and what each does.
    pub const SYNTAX: [(&'static str, &'static str); 13] = [
        ("load OBJECT", "loads the programs of an object file"),
        (
            "map_create SCHEDULER",
            "creates the scheduler's struct_ops map, with its cookie as map_extra where that exists",
        ),
        ("map_update SCHEDULER", "hands the programs to the map"),
        (
            "map_update_fails SCHEDULER",
            "the same, but the subsystem refuses the struct at last",
        ),
        (
            "assoc PROGRAM SCHEDULER",
            "ties a program to the scheduler's map, where that exists",
        ),
        (
            "store OBJECT SCHEDULER",
            "stores the scheduler's id or cookie in the global variables of an object file",
        ),
        (
            "attach ATTACHMENT",
            "attaches a program, with the attachment's cookie",
        ),
        (
            "link_create SCHEDULER",
            "enables the scheduler, with its cookie where that exists",
        ),
        ("link_close SCHEDULER", "detaches and disables it"),
        (
            "scx_error SCHEDULER",
            "the scheduler fails on its own; its link stays",
        ),
        ("detach ATTACHMENT", "closes the attachment's link"),
        (
            "map_close SCHEDULER",
            "closes the last fd of the scheduler's map",
        ),
        (
            "exit OBJECT",
            "closes the fds of an object file's programs and maps: their timers are cancelled",
        ),
    ];
}

/// What one loader does: first this, in order; then any of that, in any order, each at most once.
#[derive(Clone, Debug, Default)]
pub struct Loader {
    /// In order; a system call that would fail with -EBUSY is tried again later.
    pub first: Vec<Op>,
    /// At any time after that.
    pub later: Vec<Op>,
    /// Begins when this one has done what it does in order.
    pub after: Option<u8>,
}

/// Everything.
#[derive(Clone, Debug)]
pub struct World {
    /// Schedulers.
    pub scheds: Vec<Sched>,
    /// Programs.
    pub progs: Vec<Prog>,
    /// Attachments.
    pub attachments: Vec<Attachment>,
    /// Object files, for reports.
    pub objects: Vec<String>,
    /// Loaders.
    pub loaders: Vec<Loader>,
    /// CPUs on which programs run.
    pub cpus: u8,
    /// How many programs may run inside each other on a CPU.
    pub depth: u8,
    /// A kfunc's lookup and what it does with the result are two steps.
    pub split: bool,
    /// The kernel. Every design here is made for 7.3: on an older one the subsystem knows the design and the BPF core
    /// does not.
    pub linux: Linux,
    /// The first scheduler to be enabled takes sub-schedulers: several may be enabled.
    pub subs: bool,
}

/// Nothing, on a kernel that knows every design.
impl Default for World {
    fn default() -> Self {
        World {
            scheds: Vec::new(),
            progs: Vec::new(),
            attachments: Vec::new(),
            objects: Vec::new(),
            loaders: Vec::new(),
            cpus: 0,
            depth: 0,
            split: false,
            linux: Linux::V7_3,
            subs: false,
        }
    }
}

impl World {
    /// The kernel is older than the design: it knows its system calls only as far as they were there before.
    pub(super) fn old_kernel(&self) -> bool {
        self.linux < Linux::V7_3
    }
}
