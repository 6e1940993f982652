//! What an engine is: something that walks the states of a [`System`] and reports what it met.
//! An engine knows no kernel, no design and no report; the system it walks says what is wrong.
//!
//! - `system`: the trait an engine walks, and what one step says
//! - `exhaustive`: breadth-first over all states, several threads, deterministic
//! - `visited`: the set of states seen, and where each came from
//! - `frontier`: packed states waiting for their turn
//! - `trace`: from a stored state back to the actions that lead to it

mod exhaustive;
mod frontier;
mod system;
#[cfg(test)]
mod tests;
mod trace;
mod visited;

pub use exhaustive::{Found, MAX_THREADS, Options, Outcome, Progress, explore, explore_with};
pub use system::{StepReport, System, Violation, Violations};
pub use trace::{End, TraceError};
pub use visited::{Fingerprint, Xxh3};
