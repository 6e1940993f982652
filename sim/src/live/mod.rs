//! The attach path in motion: real threads, real locks, real trampolines; and the proof that it does what the model
//! says.
//!
//! What happens is the model's: a [`Task`] is a backend that carries out the vocabulary of `struct_ops_model::backend`
//! on objects that other tasks work on at once. Every step is recorded, with its label and with what it saw (`event`);
//! `validate` then looks for an order of the model's steps that explains all of it.
//!
//! What is wrong in a design goes wrong here too, but is noticed and not suffered: freed objects stay in quarantine,
//! and a page is looked up before it is entered. Not here: the model's exhaustive exploration, and kernels.

mod backend;
mod enter;
pub mod event;
mod lock;
mod object;
mod operation;
mod page;
mod rcu;
pub mod round;
pub mod runtime;
pub mod shrink;
pub mod side;
pub mod stress;
mod sync;
mod task;
#[cfg(test)]
mod tests;
mod text;
pub mod validate;
pub mod watch;

use struct_ops_model::Design;
use struct_ops_model::design::Twin;

pub use enter::set_stats;
pub use task::Task;

/// Executable memory cannot be had, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("trampolines are not available: {0}")]
pub struct Unavailable(pub String);

/// A design with a deliberate mistake: those are made for the explorer, and some of them below the steps that it shares
/// with the runtime.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the runtime makes no mistake on purpose: it does not run {key}={value} of design `{design}`"
)]
pub struct NotAsked {
    /// The choice.
    pub key: &'static str,
    /// What the design chooses.
    pub value: &'static str,
    /// The design.
    pub design: String,
}

impl NotAsked {
    /// # Errors
    /// The mistake that would not be made.
    fn check(design: &Design) -> Result<(), Self> {
        if design.twin == Twin::None {
            return Ok(());
        }
        Err(NotAsked {
            key: Twin::KEY,
            value: design.twin.as_str(),
            design: design.name.clone(),
        })
    }
}
