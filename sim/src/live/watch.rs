//! A look at a round from outside, by somebody who holds none of its locks: does anything move, and who stands where?
//!
//! Threads of the runtime that wait for each other for ever cannot be stopped; they can be reported.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use struct_ops_model::Pc;
use struct_ops_model::world::MAX_CPUS;

use super::event::Actor;

/// What the tasks of a round leave for the watchdog.
#[derive(Debug, Default)]
pub struct Watch {
    /// A round is on.
    running: AtomicBool,
    /// Steps begun, in all rounds.
    steps: AtomicU64,
    /// The last step that each task has begun; the worker's is the last one.
    at: [AtomicU8; MAX_CPUS + 1],
}

impl Watch {
    /// A round begins or ends.
    pub(crate) fn running(&self, running: bool) {
        self.at
            .iter()
            .for_each(|at| at.store(Pc::Idle as u8, Relaxed));
        self.running.store(running, Relaxed);
    }

    /// A task begins a step.
    pub(crate) fn begin(&self, actor: Actor, pc: Pc) {
        let place = match actor {
            Actor::Cpu(cpu) => usize::from(cpu).min(MAX_CPUS - 1),
            Actor::Worker => MAX_CPUS,
        };
        self.at[place].store(pc as u8, Relaxed);
        self.steps.fetch_add(1, Relaxed);
    }

    /// The last step of each task that has begun one.
    fn places(&self) -> String {
        let tasks = self.at.iter().enumerate().map(|(place, at)| {
            let who = if place == MAX_CPUS {
                "work".into()
            } else {
                format!("cpu{place}")
            };
            (who, Pc::ALL[usize::from(at.load(Relaxed))])
        });
        let known = tasks.filter(|(_, pc)| *pc != Pc::Idle);
        let texts: Vec<String> = known
            .map(|(who, pc)| format!("{who} in {}", pc.name()))
            .collect();
        texts.join(", ")
    }
}

/// One who looks at a [`Watch`] now and then.
#[derive(Debug)]
pub(crate) struct Watchdog<'a> {
    watch: &'a Watch,
    patience: Duration,
    /// How many steps there were when something was last seen to move, and when that was.
    moved: (u64, Instant),
}

impl<'a> Watchdog<'a> {
    pub(crate) fn new(watch: &'a Watch, patience: Duration, now: Instant) -> Self {
        Watchdog {
            watch,
            patience,
            moved: (0, now),
        }
    }

    /// Where the tasks stand, if nothing has moved for longer than patience allows.
    pub(crate) fn look(&mut self, now: Instant) -> Option<String> {
        let steps = self.watch.steps.load(Relaxed);
        if steps != self.moved.0 || !self.watch.running.load(Relaxed) {
            self.moved = (steps, now);
        }
        (now - self.moved.1 > self.patience).then(|| self.watch.places())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_round_that_stands_still_is_reported() {
        let (watch, start) = (Watch::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut dog = Watchdog::new(&watch, Duration::from_secs(60), start);
        assert_eq!(dog.look(at(100)), None, "no round is on");
        watch.running(true);
        watch.begin(Actor::Cpu(1), Pc::LcLock);
        watch.begin(Actor::Worker, Pc::MapFree);
        assert_eq!(dog.look(at(120)), None);
        assert_eq!(dog.look(at(180)), None);
        let places = "cpu1 in LcLock, work in MapFree";
        assert_eq!(dog.look(at(181)).as_deref(), Some(places));
        watch.begin(Actor::Cpu(1), Pc::LcReg);
        assert_eq!(dog.look(at(182)), None, "it moves again");
        watch.running(false);
        assert_eq!(dog.look(at(300)), None);
    }
}
