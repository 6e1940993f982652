//! The model as a system that an engine can walk: which reductions are on, and what a report becomes.
//!
//! Not an engine (those know no design), and no report for people.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use struct_ops_model::lock::{LockClass, LockOrder};
use struct_ops_model::pack::Packing;
use struct_ops_model::world::Plan;
use struct_ops_model::{
    Action, Design, Invariant, Kernel, Machine, Report, SetUpError, StepSet, World,
};

use crate::engine::{StepReport, System, Violation, Violations};

/// Which reductions are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reductions {
    /// One representative per class of states that differ only in names.
    pub symmetry: bool,
    /// Steps that nobody else can observe are merged with their neighbours.
    pub merge: bool,
}

impl Reductions {
    /// Both.
    pub const ALL: Reductions = Reductions {
        symmetry: true,
        merge: true,
    };
    /// None: every step, every name.
    pub const NONE: Reductions = Reductions {
        symmetry: false,
        merge: false,
    };
}

/// What became of one operation of a plan in all that was explored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fate {
    /// It began.
    pub begun: bool,
    /// It returned, and its object was not there.
    pub missed: bool,
    /// It returned, and its object was there.
    pub met: bool,
}

impl Fate {
    /// Both.
    pub fn or(self, other: Fate) -> Fate {
        Fate {
            begun: self.begun | other.begun,
            missed: self.missed | other.missed,
            met: self.met | other.met,
        }
    }
}

/// A [`Fate`] that all threads write.
#[derive(Debug, Default)]
pub(crate) struct SharedFate(AtomicU8);

impl SharedFate {
    pub(crate) const BEGUN: u8 = 1;
    pub(crate) const MISSED: u8 = 2;
    pub(crate) const MET: u8 = 4;

    pub(crate) fn set(&self, bits: u8) {
        // Almost always known already: a load is cheaper than a write that all threads contend for.
        if self.0.load(Relaxed) & bits != bits {
            self.0.fetch_or(bits, Relaxed);
        }
    }

    pub(crate) fn get(&self) -> Fate {
        let bits = self.0.load(Relaxed);
        Fate {
            begun: bits & Self::BEGUN != 0,
            missed: bits & Self::MISSED != 0,
            met: bits & Self::MET != 0,
        }
    }
}

/// A machine and how its states are packed.
#[derive(Debug)]
pub struct Explored {
    /// The model.
    pub machine: Machine,
    packing: Packing,
    /// Steps taken so far, as [`StepSet::words`].
    taken: [AtomicU64; StepSet::WORDS],
    /// Locks taken so far while others were held, one row for each class that was held, bit `class as u32`.
    nested: [AtomicU32; LockClass::ALL.len()],
    /// Per CPU: one per operation of a fixed plan, one per kind of operation of a free one.
    fates: Vec<Vec<SharedFate>>,
}

impl Explored {
    /// `design` in `world`, after the set-up.
    ///
    /// # Errors
    /// The set-up operation that failed.
    pub fn new(world: World, design: Design, reductions: Reductions) -> Result<Self, SetUpError> {
        let packing = Packing::new(&world, reductions.symmetry);
        let mut machine = Machine::new(world, design)?;
        machine.merge = reductions.merge;
        let fates = machine.world.cpus.iter().map(|cpu| {
            let count = match &cpu.plan {
                Plan::Fixed(operations) => operations.len(),
                Plan::Free { kinds, .. } => kinds.len(),
            };
            (0..count).map(|_| SharedFate::default()).collect()
        });
        Ok(Explored {
            fates: fates.collect(),
            machine,
            packing,
            taken: Default::default(),
            nested: Default::default(),
        })
    }

    /// The steps that were taken so far, those of the set-up included.
    pub fn taken(&self) -> StepSet {
        let words = self.taken.each_ref().map(|word| word.load(Relaxed));
        let mut taken = StepSet::from_words(words);
        taken.extend(&self.machine.set_up());
        taken
    }

    /// The order of locks that the set-up and all that was explored so far has shown.
    pub fn lock_order(&self) -> LockOrder {
        let seen = |held: LockClass, taken: LockClass| {
            self.nested[held as usize].load(Relaxed) & 1 << taken as u32 != 0
        };
        let all = LockClass::ALL.iter().copied();
        let pairs = all
            .clone()
            .flat_map(|held| all.clone().map(move |taken| (held, taken)));
        let pairs = pairs.filter(|(held, taken)| seen(*held, *taken));
        LockOrder::from_pairs(pairs.chain(self.machine.lock_order().pairs()))
    }

    /// What became of each CPU's operations so far. CPUs that do the same are told apart by no state: what one of them
    /// did, the other may have done.
    pub fn fates(&self) -> Vec<Vec<Fate>> {
        let cpus = &self.machine.world.cpus;
        let of = |i: usize| {
            let twins = (0..cpus.len()).filter(move |j| cpus[*j] == cpus[i]);
            (0..self.fates[i].len()).map(move |n| {
                let fates = twins.clone().map(|j| self.fates[j][n].get());
                fates.fold(Fate::default(), Fate::or)
            })
        };
        (0..cpus.len()).map(|i| of(i).collect()).collect()
    }

    /// Notes which operation begins.
    fn begins(&self, state: &Kernel, action: Action) {
        let Action::Begin(cpu, request) = action else {
            return;
        };
        let cpu = usize::from(cpu);
        let decl = &self.machine.world.cpus[cpu];
        // What removes the rest once a process is gone belongs to no plan.
        if state.procs[usize::from(decl.proc)].exiting {
            return;
        }
        let place = match &decl.plan {
            Plan::Fixed(_) => Some(usize::from(state.cpus[cpu].position)),
            Plan::Free { kinds, .. } => kinds.iter().position(|k| *k == request.kind),
        };
        if let Some(fate) = place.and_then(|p| self.fates[cpu].get(p)) {
            fate.set(SharedFate::BEGUN);
        }
    }

    /// Notes what an operation of a fixed plan met. One of a free plan is offered only where it has an object.
    fn returns(&self, report: &Report) {
        let Some(returned) = report.returned else {
            return;
        };
        let cpu = usize::from(returned.cpu);
        if matches!(self.machine.world.cpus[cpu].plan, Plan::Fixed(_)) {
            let place = usize::from(returned.position).checked_sub(1);
            if let Some(fate) = place.and_then(|p| self.fates[cpu].get(p)) {
                let bit = if returned.met {
                    SharedFate::MET
                } else {
                    SharedFate::MISSED
                };
                fate.set(bit);
            }
        }
    }
}

fn step_report(report: &Report) -> StepReport {
    let mut violations = Violations::default();
    for v in &report.violations {
        violations.push(Violation {
            invariant: v.invariant as u8,
            label: v.step as u16,
        });
    }
    StepReport {
        violations,
        witnessed: report.witnessed.bits(),
        steps: report.steps,
        fatal: report.fatal,
        overflow: report.overflow,
        fired: None,
    }
}

impl System for Explored {
    type State = Kernel;
    type Action = Action;

    fn initial(&self) -> Kernel {
        self.machine.initial()
    }

    fn actions(&self, state: &Kernel, out: &mut Vec<Action>) {
        self.machine.enabled(state, out);
    }

    fn apply(&self, state: &mut Kernel, action: Action) -> StepReport {
        let mut report = Report::default();
        self.begins(state, action);
        self.machine.apply(state, action, &mut report, None);
        self.returns(&report);
        for (word, bits) in self.taken.iter().zip(report.taken.words()) {
            // Almost always known already: a load is cheaper than a write that all threads contend for.
            if bits & !word.load(Relaxed) != 0 {
                word.fetch_or(*bits, Relaxed);
            }
        }
        if report.nests() {
            for nested in report.nested() {
                let (row, bit) = (&self.nested[nested.held as usize], 1 << nested.taken as u32);
                if row.load(Relaxed) & bit == 0 {
                    row.fetch_or(bit, Relaxed);
                }
            }
        }
        step_report(&report)
    }

    fn encode(&self, state: &Kernel, out: &mut Vec<u8>) {
        self.packing.pack(state, out);
    }

    fn decode(&self, bytes: &[u8]) -> Kernel {
        self.packing.unpack(bytes)
    }

    fn terminal(&self, state: &Kernel) -> StepReport {
        let mut report = Report::default();
        self.machine.terminal(state, &mut report);
        step_report(&report)
    }
}

/// The same machine, for a second look at the order of locks: a state also says which of some pairs of classes its run
/// has shown, so that the shortest run is found that contradicts itself.
#[derive(Debug)]
pub struct LockSearch<'a> {
    explored: &'a Explored,
    /// Pairs that contradict others, held and taken.
    pairs: Vec<(LockClass, LockClass)>,
}

impl<'a> LockSearch<'a> {
    /// A search for runs that show all of some of these pairs.
    pub fn new(explored: &'a Explored, mut pairs: Vec<(LockClass, LockClass)>) -> Self {
        // More than that no state says: a run that needs the rest is not found.
        pairs.truncate(16);
        LockSearch { explored, pairs }
    }

    fn bit(&self, pair: (LockClass, LockClass)) -> u16 {
        let place = self.pairs.iter().position(|p| *p == pair);
        place.map_or(0, |place| 1 << place)
    }

    /// The order that a set of pairs is.
    fn order(&self, set: u16) -> LockOrder {
        let pairs = self.pairs.iter().enumerate();
        LockOrder::from_pairs(pairs.filter(|(i, _)| set & 1 << i != 0).map(|p| *p.1))
    }
}

impl System for LockSearch<'_> {
    type State = (Kernel, u16);
    type Action = Action;

    fn initial(&self) -> (Kernel, u16) {
        let order = self.explored.machine.lock_order();
        let set_up = order.pairs().map(|pair| self.bit(pair));
        (
            self.explored.machine.initial(),
            set_up.fold(0, |set, bit| set | bit),
        )
    }

    fn actions(&self, state: &(Kernel, u16), out: &mut Vec<Action>) {
        self.explored.machine.enabled(&state.0, out);
    }

    fn apply(&self, (k, shown): &mut (Kernel, u16), action: Action) -> StepReport {
        let mut report = Report::default();
        self.explored.machine.apply(k, action, &mut report, None);
        let mut violations = Violations::default();
        for nested in report.nested() {
            let bit = self.bit((nested.held, nested.taken));
            if bit & !*shown != 0
                && self
                    .order(*shown | bit)
                    .way(nested.taken, nested.held)
                    .is_some()
            {
                violations.push(Violation {
                    invariant: Invariant::LockOrder as u8,
                    label: nested.step as u16,
                });
            }
            *shown |= bit;
        }
        StepReport {
            // A run that has contradicted itself has nothing more to say.
            fatal: report.fatal || !violations.is_empty(),
            violations,
            ..step_report(&report)
        }
    }

    fn encode(&self, (k, shown): &(Kernel, u16), out: &mut Vec<u8>) {
        self.explored.packing.pack(k, out);
        out.extend(shown.to_le_bytes());
    }

    fn decode(&self, bytes: &[u8]) -> (Kernel, u16) {
        let (k, shown) = bytes.split_last_chunk().expect("encode wrote them");
        (self.explored.packing.unpack(k), u16::from_le_bytes(*shown))
    }

    fn terminal(&self, _: &(Kernel, u16)) -> StepReport {
        StepReport::default()
    }
}

/// The same trace without merging: every step an action of its own.
pub fn unmerge(machine: &Machine, actions: &[Action]) -> Vec<Action> {
    let mut k = machine.initial();
    actions
        .iter()
        .flat_map(|action| machine.expand(&mut k, *action))
        .collect()
}
