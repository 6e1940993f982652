//! A step in the making: the state, what is reported, what is said; and what every kind of step asks of them.

use super::context::Way;
use super::machine::{Reach, Report};
use super::state::{Frame, Stage, State};

/// A step in the making.
pub(super) struct Step<'a> {
    pub(super) reach: &'a Reach,
    pub(super) s: &'a mut State,
    pub(super) report: &'a mut Report,
    pub(super) said: Option<&'a mut String>,
}

macro_rules! say {
    ($step:expr, $($arg:tt)+) => {
        if let Some(said) = $step.said.as_deref_mut() {
            if !said.is_empty() {
                said.push_str("; ");
            }
            let _ = write!(said, $($arg)+);
        }
    };
}
pub(super) use say;

impl Step<'_> {
    pub(super) fn sched(&mut self, i: u8) -> &mut super::state::Sched {
        &mut self.s.scheds[usize::from(i)]
    }

    pub(super) fn prog(&mut self, i: u8) -> &mut super::state::Prog {
        &mut self.s.progs[usize::from(i)]
    }

    pub(super) fn frame(&mut self, cpu: u8) -> &mut Frame {
        let c = &mut self.s.cpus[usize::from(cpu)];
        &mut c.frames[usize::from(c.depth) - 1]
    }

    pub(super) fn put_map(&mut self, i: u8) {
        let sched = self.sched(i);
        sched.refs = sched.refs.saturating_sub(1);
    }

    pub(super) fn put_prog(&mut self, i: u8) {
        let prog = self.prog(i);
        prog.refs = prog.refs.saturating_sub(1);
    }

    /// CPUs in an RCU read-side section now: bit per CPU.
    pub(super) fn readers(&self) -> u8 {
        let reads = |f: &Frame| {
            let prog = &self.reach.world.progs[usize::from(f.prog)];
            let trace = if f.callback {
                prog.kind.way == Way::Wq
            } else {
                prog.kind.facts().sleepable
            };
            !trace || f.stage == Stage::Holding
        };
        let cpus = (0u8..).zip(&self.s.cpus);
        cpus.filter(|(_, c)| c.frames[..usize::from(c.depth)].iter().any(reads))
            .fold(0, |mask, (i, _)| mask | 1 << i)
    }

    /// Grace periods no longer wait for a CPU that has left its read-side section.
    pub(super) fn quiescent(&mut self, cpu: u8) {
        if self.readers() & (1 << cpu) == 0 {
            for sched in &mut self.s.scheds {
                sched.gp &= !(1 << cpu);
                sched.map_gp &= !(1 << cpu);
            }
        }
    }
}
