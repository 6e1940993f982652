//! The model as a system that an engine can walk: which reductions are on, and what a report becomes.
//!
//! Not an engine (those know no design), and no report for people.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use struct_ops_model::pack::Packing;
use struct_ops_model::{Action, Design, Kernel, Machine, Report, World};

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

/// A machine and how its states are packed.
#[derive(Debug)]
pub struct Explored {
    /// The model.
    pub machine: Machine,
    packing: Packing,
    /// Steps taken so far, one bit each as in [`Report::taken`].
    taken: [AtomicU64; 2],
}

impl Explored {
    /// `design` in `world`, after the set-up.
    ///
    /// # Errors
    /// The set-up operation that failed.
    pub fn new(world: World, design: Design, reductions: Reductions) -> Result<Self, String> {
        let packing = Packing::new(&world, reductions.symmetry);
        let mut machine = Machine::new(world, design)?;
        machine.merge = reductions.merge;
        Ok(Explored {
            machine,
            packing,
            taken: Default::default(),
        })
    }

    /// The steps that were taken so far, bit `pc as u32`.
    pub fn taken(&self) -> u128 {
        let [low, high] = self
            .taken
            .each_ref()
            .map(|half| u128::from(half.load(Relaxed)));
        low | high << 64
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
        witnessed: report.witnessed,
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
        self.machine.apply(state, action, &mut report, None);
        for (half, bits) in self
            .taken
            .iter()
            .zip([report.taken as u64, (report.taken >> 64) as u64])
        {
            // Almost always known already: a load is cheaper than a write that all threads contend for.
            if bits & !half.load(Relaxed) != 0 {
                half.fetch_or(bits, Relaxed);
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

/// The same trace without merging: every step an action of its own.
pub fn unmerge(machine: &Machine, actions: &[Action]) -> Vec<Action> {
    let mut k = machine.initial();
    actions
        .iter()
        .flat_map(|action| machine.expand(&mut k, *action))
        .collect()
}
