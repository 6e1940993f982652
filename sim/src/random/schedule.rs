//! A schedule as a sequence of choices, and a run of a machine that follows it.
//!
//! What is enabled is listed with the actions of whoever moved last in front: choice 0 goes on with the same
//! CPU and lets no allocation fail. A schedule that has come to its end goes on with 0, so that fewer choices
//! mean fewer context switches.

use quickcheck::{Arbitrary, Gen};
use struct_ops_model::kernel::CpuId;
use struct_ops_model::{Action, Invariant, InvariantSet, Machine, Report, Violation};

/// No run of the model is nearly as long: every CPU's plan is finite.
const LONGEST: usize = 10_000;
/// Most choices of a schedule made at random.
const CHOICES: usize = 400;

/// Indices into what is enabled; those beyond the end wrap around.
pub(super) type Choices = Vec<u8>;

/// Every fourth choice on average is another one than to go on.
pub(super) fn choices(g: &mut Gen) -> Choices {
    let switch = |g: &mut Gen| {
        if u8::arbitrary(g) < 64 {
            u8::arbitrary(g)
        } else {
            0
        }
    };
    (0..CHOICES).map(|_| switch(g)).collect()
}

/// A step that was taken: by whom, in which operation of its plan, and with which outcome of allocation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    pub cpu: Option<CpuId>,
    pub position: u8,
    outcome: u8,
}

/// How a run is steered.
pub(super) enum Guide<'a> {
    /// By choices.
    Choices(&'a [u8]),
    /// By the order in which CPUs moved in another run; one that cannot move is passed over.
    Order(Vec<Taken>),
}

/// What a run came to.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub actions: Vec<Action>,
    pub choices: Choices,
    pub taken: Vec<Taken>,
    pub violations: Vec<Violation>,
    /// What was put to the test.
    pub witnessed: InvariantSet,
}

impl Outcome {
    pub(super) fn breaks(&self, invariant: Invariant) -> bool {
        self.violations.iter().any(|v| v.invariant == invariant)
    }
}

fn outcome_of(action: Action) -> u8 {
    match action {
        Action::Step(_, choice) => choice,
        _ => 0,
    }
}

/// Runs until something breaks, or nothing can happen any more, or a table of the model is full.
pub(super) fn run(machine: &Machine, guide: Guide<'_>) -> Outcome {
    let mut out = Outcome {
        actions: Vec::new(),
        choices: Vec::new(),
        taken: Vec::new(),
        violations: Vec::new(),
        witnessed: InvariantSet::default(),
    };
    let mut k = machine.initial();
    let mut locks = machine.lock_order();
    let mut enabled = Vec::new();
    let mut report = Report::default();
    let mut last = Some(0);
    let mut order = match &guide {
        Guide::Order(order) => order.as_slice(),
        Guide::Choices(_) => &[],
    };
    while out.actions.len() < LONGEST {
        enabled.clear();
        machine.enabled(&k, &mut enabled);
        report.clear();
        if enabled.is_empty() {
            machine.terminal(&k, &mut report);
            out.witnessed.extend(report.witnessed);
            out.violations = report.violations;
            break;
        }
        enabled.sort_by_key(|a| a.cpu() != last);
        let choice = match &guide {
            Guide::Choices(choices) => choices
                .get(out.actions.len())
                .map_or(0, |c| usize::from(*c) % enabled.len()),
            Guide::Order(_) => loop {
                let Some((first, rest)) = order.split_first() else {
                    break 0;
                };
                order = rest;
                let mut of_cpu = enabled
                    .iter()
                    .enumerate()
                    .filter(|(_, a)| a.cpu() == first.cpu);
                let same = of_cpu
                    .clone()
                    .find(|(_, a)| outcome_of(**a) == first.outcome);
                if let Some((place, _)) = same.or_else(|| of_cpu.next()) {
                    break place;
                }
            },
        };
        let action = enabled[choice];
        let position = action
            .cpu()
            .map_or(0, |cpu| k.cpus[usize::from(cpu)].position);
        out.taken.push(Taken {
            cpu: action.cpu(),
            position,
            outcome: outcome_of(action),
        });
        last = action.cpu();
        out.actions.push(action);
        out.choices.push(u8::try_from(choice).unwrap_or(u8::MAX));
        machine.apply(&mut k, action, &mut report, None);
        out.witnessed.extend(report.witnessed);
        if report.overflow {
            break;
        }
        for nested in report.nested() {
            locks.add(nested);
            if locks.way(nested.taken, nested.held).is_some() {
                report.violations.push(Violation {
                    invariant: Invariant::LockOrder,
                    step: nested.step,
                });
            }
        }
        if !report.violations.is_empty() {
            out.violations = report.violations;
            break;
        }
    }
    while out.choices.last() == Some(&0) {
        out.choices.pop();
    }
    out
}
