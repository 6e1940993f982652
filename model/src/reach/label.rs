//! The steps of the machine: their names, where each is carried out, and why each is one step.

use crate::place::{Code, Linux, Place, Site, always, new_in_7_3};

macro_rules! labels {
    ($($name:ident $place:expr => $why:literal;)+) => {
        /// A step.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Label { $(#[doc = $why] $name),+ }

        impl Label {
            /// All, in the order of a scheduler's life.
            pub const ALL: &[Label] = &[$(Label::$name),+];

            /// The name in reports.
            pub fn name(self) -> &'static str {
                match self { $(Label::$name => stringify!($name)),+ }
            }

            /// Where it is carried out.
            pub fn place(self) -> Place {
                match self { $(Label::$name => $place),+ }
            }

            /// The same on Linux 7.3, the kernel with sub-schedulers.
            pub fn site(self) -> Site {
                self.place().on(Linux::V7_3)
            }

            /// What it does, and why nobody can look in between.
            pub fn why(self) -> &'static str {
                match self { $(Label::$name => $why),+ }
            }
        }
    };
}

const SYSCALL: &str = "kernel/bpf/syscall.c";
const STRUCT_OPS: &str = "kernel/bpf/bpf_struct_ops.c";
const HELPERS: &str = "kernel/bpf/helpers.c";
const SCX: &str = "kernel/sched/ext/ext.c";
const SCX_INTERNAL: &str = "kernel/sched/ext/internal.h";

labels! {
    Load always("bpf_prog_load", SYSCALL) => "The verifier accepts the programs of an object file or says why not; a program is nobody's before that.";
    MapCreate always("map_create", SYSCALL) => "The struct_ops map gets its id, and map_extra where the design has it.";
    MapUpdate always("bpf_struct_ops_map_update_elem", STRUCT_OPS) => "Takes the programs under the map's lock, and writes the pointers from programs to map.";
    Associate new_in_7_3("bpf_prog_assoc_struct_ops", STRUCT_OPS) => "Ties a program to a map under the program's st_ops_assoc_mutex.";
    Store Place::Code(Code::User) => "The loader writes to the memory of a global variable before it attaches anything.";
    Attach always("link_create", SYSCALL) => "A program is attached with a cookie, through the field of its type.";
    LinkCreate always("bpf_struct_ops_link_create", STRUCT_OPS) => "scx_enable() copies the ops, publishes the scheduler and enters it into the table.";
    LinkClose new_in_7_3("bpf_scx_unreg", SCX) => "Marks the scheduler dead, takes it out of the table, clears ops->priv, and puts it.";
    Error new_in_7_3("scx_disable_workfn", SCX) => "The scheduler is dead; the link still refers to it.";
    Detach always("bpf_link_release", SYSCALL) => "The program is no longer called at its hook.";
    MapClose always("bpf_map_release", SYSCALL) => "The last fd of the map goes.";
    Exit always("exit_files", "fs/file.c") => "The fds of programs and maps go; bpf_map_put_uref() cancels the timers in the maps.";
    Enter Place::Code(Code::Caller) => "A program is entered; current->bpf_ctx is saved and set as its type does it.";
    Timer always("bpf_timer_cb", HELPERS) => "A callback is entered: no run context is set.";
    Wq always("bpf_wq_work", HELPERS) => "A callback is entered in a kworker: no run context is set.";
    Arm always("__bpf_async_set_callback", HELPERS) => "The timer or work queue takes a reference on the program; the program may leave a value for its callback.";
    Jump Place::Code(Code::Program) => "bpf_tail_call(): another program goes on, in the run context of the first.";
    Ask new_in_7_3("scx_prog_sched", SCX_INTERNAL) => "The kfunc looks its caller's scheduler up.";
    AskTask new_in_7_3("scx_task_sched", SCX_INTERNAL) => "The kfunc reads p->scx.sched of the task that it was handed.";
    AskRoot Place::Code(Code::Kfunc) => "A kfunc that nobody has converted takes scx_root, whoever calls it.";
    Use Place::Code(Code::Kfunc) => "The kfunc follows the pointer that it has found.";
    Return Place::Code(Code::Caller) => "The program returns; current->bpf_ctx is what it was.";
    SchedFree new_in_7_3("scx_sched_free_rcu_work", SCX) => "The grace period is over: the memory of a scheduler goes.";
    MapClear always("bpf_struct_ops_map_free", STRUCT_OPS) => "The last reference of the map has gone: pointers to it are cleared, and the grace period begins.";
    MapFree always("bpf_struct_ops_map_free", STRUCT_OPS) => "The grace period is over: the memory of the map goes, and its references on programs.";
    ProgFree always("bpf_prog_free_deferred", "kernel/bpf/core.c") => "The last reference of a program has gone and its grace period is over.";
}
