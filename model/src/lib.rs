//! How BPF struct_ops programs are attached to the Linux kernel, as a state machine that can be checked.
//!
//! The whole attach path: maps, programs, trampolines in image pages, links, cookies, kallsyms, locks, RCU
//! and its two task flavours, deferred frees, and the subsystems that take struct_ops. A [`Machine`] is a
//! [`Design`] in a [`World`]; [`Machine::enabled`] lists what may happen next and [`Machine::apply`] lets it
//! happen and reports which [`Invariant`] broke.
//!
//! A step is written once, in `proc` or `subsys`, over the vocabulary of [`backend`]. The explorer's tables carry it out
//! here; a runtime with threads, locks and pages can be another backend, and enters through [`proc`].
//!
//! The example `own_property` checks a property of one's own in every interleaving of a small world.
//!
//! What it is not: it explores nothing (that is an engine's work), reads no file, knows no thread and no
//! clock. A step stands for what the kernel does between two points at which another CPU could look.
#![forbid(unsafe_code)]

pub mod assoc;
pub mod backend;
pub mod contract;
mod declare;
pub mod design;
pub mod errno;
pub mod invariant;
pub mod kernel;
pub mod lock;
pub mod machine;
mod met;
mod mover;
pub mod operation;
pub mod pack;
pub mod pc;
pub mod place;
pub mod proc;
mod quarantine;
pub mod reach;
mod report;
mod request;
pub mod script;

mod subsys;
pub mod table;
mod tables;
pub mod uapi;
pub mod visit;
pub mod world;

pub use design::Design;
pub use invariant::{Invariant, InvariantSet};
pub use kernel::Kernel;
pub use machine::{Action, Machine, Request, SetUpError, Wait};
pub use pc::{Pc, StepSet};
pub use place::Linux;
pub use report::{Report, Returned, Violation};
pub use world::World;
