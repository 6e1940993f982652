//! The steps of the machine: their names, the kernel functions they stand for, and why each is one step.

macro_rules! labels {
    ($($name:ident $function:literal $why:literal;)+) => {
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

            /// The kernel function, or who acts.
            pub fn function(self) -> &'static str {
                match self { $(Label::$name => $function),+ }
            }

            /// What it does, and why nobody can look in between.
            pub fn why(self) -> &'static str {
                match self { $(Label::$name => $why),+ }
            }
        }
    };
}

labels! {
    Load "bpf_prog_load" "The verifier accepts the programs of an object file or says why not; a program is nobody's before that.";
    MapCreate "map_create" "The struct_ops map gets its id, and map_extra where the design has it.";
    MapUpdate "bpf_struct_ops_map_update_elem" "Takes the programs under the map's lock, and writes the pointers from programs to map.";
    Associate "bpf_prog_assoc_struct_ops" "Ties a program to a map under the program's st_ops_assoc_mutex.";
    Store "user space" "The loader writes to the memory of a global variable before it attaches anything.";
    Attach "link_create" "A program is attached with a cookie, through the field of its type.";
    LinkCreate "bpf_struct_ops_link_create" "scx_enable() copies the ops, publishes the scheduler and enters it into the table.";
    LinkClose "bpf_scx_unreg" "Marks the scheduler dead, takes it out of the table, clears ops->priv, and puts it.";
    Error "scx_disable_workfn" "The scheduler is dead; the link still refers to it.";
    Detach "bpf_link_release" "The program is no longer called at its hook.";
    MapClose "bpf_map_put" "The last fd of the map goes.";
    Exit "bpf_map_put_uref" "The fds of programs and maps go; timers in the maps are cancelled.";
    Enter "bpf_prog_run" "A program is entered; current->bpf_ctx is saved and set as its type does it.";
    Timer "bpf_timer_cb" "A callback is entered: no run context is set.";
    Wq "bpf_wq_work" "A callback is entered in a kworker: no run context is set.";
    Arm "bpf_timer_set_callback" "The timer or work queue takes a reference on the program; the program may leave a value for its callback.";
    Jump "bpf_tail_call" "Another program goes on, in the run context of the first.";
    Ask "scx_prog_sched" "The kfunc looks its caller's scheduler up.";
    AskTask "scx_task_sched" "The kfunc reads p->scx.sched of the task that it was handed.";
    Use "kfunc" "The kfunc follows the pointer that it has found.";
    Return "bpf_prog_exit" "The program returns; current->bpf_ctx is what it was.";
    SchedFree "scx_sched_free_rcu_work" "The grace period is over: the memory of a scheduler goes.";
    MapClear "bpf_struct_ops_map_free" "The last reference of the map has gone: pointers to it are cleared, and the grace period begins.";
    MapFree "bpf_struct_ops_map_free" "The grace period is over: the memory of the map goes, and its references on programs.";
    ProgFree "bpf_prog_free_deferred" "The last reference of a program has gone and its grace period is over.";
}
