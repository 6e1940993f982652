//! One run of a machine from its initial state to its end: which action is taken where several could be.

use struct_ops_model::{Action, Machine, Report};

use crate::walk::unmerged;

/// No run of the model is nearly as long: every CPU's plan is finite.
const LONGEST: usize = 10_000;

/// Who decides.
#[derive(Debug)]
pub enum Chooser {
    /// CPUs take turns, one step each; the worker comes after the last one.
    Fair,
    /// A generator with a seed.
    Random(fastrand::Rng),
}

impl Chooser {
    /// Fair, or random if there is a seed.
    pub fn new(seed: Option<u64>) -> Self {
        seed.map_or(Chooser::Fair, |seed| {
            Chooser::Random(fastrand::Rng::with_seed(seed))
        })
    }

    fn choose(&mut self, enabled: &[Action], last: Option<u8>) -> Action {
        match self {
            Chooser::Random(rng) => enabled[rng.usize(..enabled.len())],
            Chooser::Fair => {
                // No allocation fails, and the first choice of a free plan is taken.
                let turn = |a: &Action| match (a.cpu(), last) {
                    (None, Some(last)) if last == u8::MAX => u16::MAX,
                    (None, _) => 255,
                    (Some(cpu), Some(last)) if cpu <= last && last != u8::MAX => {
                        256 + u16::from(cpu)
                    }
                    (Some(cpu), _) => u16::from(cpu),
                };
                *enabled
                    .iter()
                    .min_by_key(|a| turn(a))
                    .expect("something is enabled")
            }
        }
    }
}

/// Runs until nothing can happen any more, or something is broken.
pub fn run(machine: &Machine, chooser: &mut Chooser) -> Vec<Action> {
    let machine = unmerged(machine);
    let mut k = machine.initial();
    let mut actions = Vec::new();
    let mut enabled = Vec::new();
    let mut report = Report::default();
    let mut last = None;
    while actions.len() < LONGEST {
        enabled.clear();
        machine.enabled(&k, &mut enabled);
        if enabled.is_empty() {
            break;
        }
        let action = chooser.choose(&enabled, last);
        last = Some(action.cpu().unwrap_or(u8::MAX));
        actions.push(action);
        report.clear();
        machine.apply(&mut k, action, &mut report, None);
        if !report.violations.is_empty() {
            break;
        }
    }
    actions
}
