//! A design in a world of lookups, and what one step of it reports.
//!
//! What may happen is in `enabled`, what then happens in `apply`, how the scheduler is found in `lookup`, the facts on
//! program types in `context`.

use super::context::Way;
use super::label::Label;
use super::state::{Action, State};
use super::world::{Op, Source, World};
use crate::design::Design;
use crate::invariant::{Invariant, InvariantSet};

/// What somebody learned; the table is made of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Found {
    /// A program asked and found its own scheduler: which.
    Own(u8),
    /// It found nothing although its scheduler is enabled: which.
    Nothing(u8),
    /// The verifier or a system call refused what the scheduler's loader wants: which.
    Refused(u8),
}

/// What one step did.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What it broke.
    pub violations: Vec<Invariant>,
    /// Put to the test.
    pub witnessed: InvariantSet,
    /// What was learned.
    pub found: Option<Found>,
    /// Memory that is gone was used: nothing that follows means anything.
    pub fatal: bool,
}

impl Report {
    pub(super) fn violate(&mut self, invariant: Invariant) {
        if !self.violations.contains(&invariant) {
            self.violations.push(invariant);
        }
    }

    pub(super) fn witness(&mut self, invariant: Invariant) {
        self.witnessed.insert(invariant);
    }
}

/// A design in a world.
#[derive(Clone, Debug)]
pub struct Reach {
    /// What there is.
    pub world: World,
    /// How a scheduler is found.
    pub design: Design,
}

impl Reach {
    /// A design in a world.
    pub fn new(world: World, design: Design) -> Self {
        Reach { world, design }
    }

    /// Nothing is loaded.
    pub fn initial(&self) -> State {
        State::default()
    }

    /// The label of an action in a state.
    pub fn label(&self, s: &State, action: Action) -> Label {
        match action {
            Action::Loader(_, op) => match op {
                Op::Load(_) => Label::Load,
                Op::MapCreate(_) => Label::MapCreate,
                Op::MapUpdate(_) | Op::MapUpdateFails(_) => Label::MapUpdate,
                Op::Associate(..) => Label::Associate,
                Op::Store(..) => Label::Store,
                Op::Attach(_) => Label::Attach,
                Op::LinkCreate(_) => Label::LinkCreate,
                Op::LinkClose(_) => Label::LinkClose,
                Op::Error(_) => Label::Error,
                Op::Detach(_) => Label::Detach,
                Op::MapClose(_) => Label::MapClose,
                Op::Exit(_) => Label::Exit,
            },
            Action::Member(..) | Action::Hook(..) => Label::Enter,
            Action::Fire(_, sched) => match self.way(s.asyncs[usize::from(sched)].prog) {
                Way::Wq => Label::Wq,
                _ => Label::Timer,
            },
            Action::Arm(_) => Label::Arm,
            Action::Jump(_) => Label::Jump,
            Action::Ask(cpu) => {
                let cpu = &s.cpus[usize::from(cpu)];
                let asks = cpu
                    .depth
                    .checked_sub(1)
                    .map(|f| cpu.frames[usize::from(f)].prog);
                match asks.map(|prog| self.world.progs[usize::from(prog)].source) {
                    Some(Source::Root) => Label::AskRoot,
                    _ => Label::Ask,
                }
            }
            Action::AskTask(..) => Label::AskTask,
            Action::Use(_) => Label::Use,
            Action::Return(_) => Label::Return,
            Action::SchedFree(_) => Label::SchedFree,
            Action::MapClear(_) => Label::MapClear,
            Action::MapFree(_) => Label::MapFree,
            Action::ProgFree(_) => Label::ProgFree,
        }
    }

    pub(super) fn way(&self, prog: u8) -> Way {
        self.world.progs[usize::from(prog)].kind.way
    }

    pub(super) fn prog_name(&self, prog: u8) -> &str {
        &self.world.progs[usize::from(prog)].name
    }

    pub(super) fn sched_name(&self, sched: u8) -> &str {
        &self.world.scheds[usize::from(sched)].name
    }
}
