//! What ends a job before its work is done: a signal, a deadline, memory that runs short.
//!
//! Engines ask between rounds, verbs between explorations and seeds. What the model itself bounds (its tables) is not
//! decided here, only named.

mod memory;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

pub use memory::{Memory, Room, Scarce};

/// Why not everything was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// `--max-states`.
    MaxStates,
    /// `--max-memory`, or what the system has.
    MaxMemory(Scarce),
    /// `--timeout`.
    Timeout,
    /// The signal with this number.
    Signal(i32),
    /// A fixed-size table of the model was full; everything that fits into it was explored.
    ModelTable,
}

impl Bound {
    /// Each that there can be.
    pub fn all() -> impl Iterator<Item = Self> {
        let memory = Scarce::ALL.into_iter().map(Bound::MaxMemory);
        let signals = (1..=64).map(Bound::Signal);
        let others = [Bound::MaxStates, Bound::Timeout, Bound::ModelTable];
        others.into_iter().chain(memory).chain(signals)
    }

    /// The word in JSON: the option's name, or the signal's.
    pub fn word(self) -> &'static str {
        match self {
            Bound::MaxStates => "max-states",
            Bound::MaxMemory(_) => "max-memory",
            Bound::Timeout => "timeout",
            Bound::Signal(number) => {
                signal_hook::low_level::signal_name(number).unwrap_or("signal")
            }
            Bound::ModelTable => "model-table",
        }
    }

    /// The reason in words.
    pub fn reason(self) -> String {
        match self {
            Bound::MaxStates | Bound::Timeout => format!("--{} was reached", self.word()),
            Bound::MaxMemory(scarce) => scarce.reason().into(),
            Bound::Signal(_) => format!("interrupted by {}", self.word()),
            Bound::ModelTable => {
                "a table of the model was full: the scenario creates too much at once".into()
            }
        }
    }

    /// Whether it ends the whole job, not one exploration of several.
    pub fn ends_the_job(self) -> bool {
        matches!(self, Bound::Timeout | Bound::Signal(_))
    }
}

/// The bounds of one job, asked by whoever works at it.
#[derive(Debug)]
pub struct Bounds {
    /// The number of the signal that was caught; 0 is none. A signal handler writes it.
    signal: Option<Arc<AtomicUsize>>,
    deadline: Option<Instant>,
    /// What may still be allocated.
    pub memory: Memory,
}

/// Nothing ends the job, and whatever can be allocated is.
pub static UNBOUNDED: Bounds = Bounds {
    signal: None,
    deadline: None,
    memory: Memory::endless(),
};

impl Bounds {
    /// Bounds that `signal` reaches when it is no longer 0, and the clock at `deadline`.
    pub fn new(signal: Arc<AtomicUsize>, deadline: Option<Instant>, memory: Memory) -> Self {
        Bounds {
            signal: Some(signal),
            deadline,
            memory,
        }
    }

    /// What ends the job now, if something does. Memory is not asked for: an exploration that ends gives it back.
    pub fn reached(&self) -> Option<Bound> {
        let over = |deadline| Instant::now() >= deadline;
        match self.signal.as_ref().map_or(0, |s| s.load(Relaxed)) {
            0 => self.deadline.is_some_and(over).then_some(Bound::Timeout),
            number => Some(Bound::Signal(number as i32)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_is_named() {
        assert_eq!(UNBOUNDED.reached(), None);
        let signal = Arc::new(AtomicUsize::new(0));
        let bounds = Bounds::new(signal.clone(), Some(Instant::now()), Memory::endless());
        assert_eq!(bounds.reached(), Some(Bound::Timeout));
        signal.store(signal_hook::consts::SIGTERM as usize, Relaxed);
        let bound = bounds.reached().unwrap();
        assert_eq!((bound.word(), bound.ends_the_job()), ("SIGTERM", true));
        assert_eq!(bound.reason(), "interrupted by SIGTERM");
        assert!(!Bound::MaxMemory(Scarce::Given).ends_the_job());
    }
}
