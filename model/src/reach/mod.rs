//! Who can know its scheduler: sched_ext schedulers, the programs that run on their behalf, and the lookup of a
//! kfunc that gets no task.
//!
//! A second state machine beside the attach path: [`Reach`] is a [`crate::Design`] in a [`World`];
//! [`Reach::enabled`] lists what may happen next, [`Reach::apply`] lets it happen and says what was found and which
//! [`crate::Invariant`] broke. What it leaves out is the attach path itself (trampolines, pages, locks: `machine`); a
//! struct_ops attachment is here one step that enables a scheduler. Stands for `kernel/sched/ext.c`,
//! `include/linux/bpf.h` (run contexts), `kernel/bpf/{trampoline,helpers,verifier}.c` of Linux 6.12 and for the
//! association code of `kernel/bpf/bpf_struct_ops.c` of Linux 7.3.

mod apply;
mod balance;
pub mod context;
mod enabled;
mod label;
mod loader;
mod lookup;
mod machine;
mod program;
pub mod state;
mod step;
pub mod world;

pub use context::Kind;
pub use label::Label;
pub use machine::{Found, Reach, Report};
pub use state::{Action, State};
pub use world::World;
