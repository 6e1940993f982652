//! One scenario under one design, handed to the exhaustive engine; its outcome becomes a [`Run`].

use struct_ops_model::{Design, Invariant, Pc, SetUpError, Violation};

use crate::action;
use crate::bounds::{Bound, Bounds};
use crate::engine::{self, Options, Progress};
use crate::explore::{Explored, LockSearch, Reductions, unmerge};
use crate::reach;
use crate::scenario::{Case, InputError, Scenario};
use crate::trace::Broken;
use crate::verdict::{Counterexample, Run};

/// How to explore.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Threads.
    pub threads: usize,
    /// Stop after so many states.
    pub max_states: Option<u64>,
    /// Store whole states instead of fingerprints.
    pub exact: bool,
    /// Symmetry and merging.
    pub reductions: Reductions,
}

/// Why a scenario could not be explored.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The scenario's set-up does not work.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A bug of ours: what was found cannot be told.
    #[error("{0}")]
    Internal(String),
}

/// The machine's set-up may fail under a design.
pub(crate) fn setup_error(scenario: &Scenario, design: &Design, error: &SetUpError) -> InputError {
    let message = format!("under design `{design}`: {}", why_not(scenario, error));
    InputError::whole(&scenario.head.file, message)
}

/// Which operation of the set-up fails, and how.
pub(crate) fn why_not(scenario: &Scenario, error: &SetUpError) -> String {
    let SetUpError { operation, why } = error;
    let text = scenario.setup_operation(*operation);
    format!("set-up operation {}, `{text}`: {why}", operation + 1)
}

/// Two representatives of one symmetry class are legal but may hide the way from one to the other: then
/// the violation is found again with every name its own.
///
/// # Errors
/// The bound that was reached before; `None` if there is no such violation.
fn without_symmetry(
    explored: &Explored,
    options: &Options<'_>,
    violation: engine::Violation,
) -> Result<Vec<struct_ops_model::Action>, Option<Bound>> {
    let reductions = Reductions {
        symmetry: false,
        merge: explored.machine.merge,
    };
    let machine = &explored.machine;
    let plain = Explored::new(machine.world.clone(), machine.design.clone(), reductions);
    let outcome = engine::explore(&plain.map_err(|_| None)?, options, &mut |_| ());
    let mut found = outcome.violations.into_iter();
    let found = found.find(|f| f.violation == violation);
    found.and_then(|f| f.trace.ok()).ok_or(outcome.incomplete)
}

/// Explores all that can happen in a scenario of either kind.
///
/// # Errors
/// As of [`fn@check`].
pub fn case(
    case: &Case,
    design: &Design,
    settings: &Settings,
    bounds: &Bounds,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Run, CheckError> {
    match case {
        Case::Attach(scenario) => check(scenario, design, settings, bounds, progress),
        Case::Reach(scenario) => reach::check(scenario, design, settings, bounds, progress),
    }
}

/// Explores all that can happen in the attach path.
///
/// # Errors
/// A set-up that fails, or a trace that cannot be told.
pub fn check(
    scenario: &Scenario,
    design: &Design,
    settings: &Settings,
    bounds: &Bounds,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Run, CheckError> {
    let _span =
        tracing::info_span!("check", scenario = scenario.head.name, design = design.name).entered();
    let explored = Explored::new(scenario.world.clone(), design.clone(), settings.reductions)
        .map_err(|why| setup_error(scenario, design, &why))?;
    let options = Options {
        threads: settings.threads,
        max_states: settings.max_states,
        exact: settings.exact,
        bounds,
    };
    let mut outcome = engine::explore(&explored, &options, progress);
    tracing::info!(
        states = outcome.states,
        transitions = outcome.transitions,
        depth = outcome.depth,
        seconds = outcome.seconds,
        "explored"
    );
    let linux = scenario.world.linux;
    let mut found = Vec::new();
    let cycles = explored.lock_order().cycles();
    if !cycles.is_empty() && outcome.incomplete.is_none() {
        tracing::info!(
            ?cycles,
            "a run that shows both orders of the locks is looked for"
        );
        let second = engine::explore(&LockSearch::new(&explored, cycles), &options, progress);
        if second.violations.is_empty() {
            tracing::warn!("locks are taken in two orders, in no single run");
        }
        outcome.violations.extend(second.violations);
        outcome.incomplete = second.incomplete;
    }
    for f in std::mem::take(&mut outcome.violations) {
        let violation = Violation {
            invariant: Invariant::ALL[usize::from(f.violation.invariant)],
            step: Pc::ALL[usize::from(f.violation.label)],
        };
        let actions = match f.trace {
            Ok(actions) => actions,
            Err(why) => {
                tracing::warn!(%why, "the trace is looked for again without symmetry");
                match without_symmetry(&explored, &options, f.violation) {
                    Ok(actions) => actions,
                    // A violation that cannot be shown is not claimed.
                    Err(Some(bound)) => {
                        outcome.incomplete = Some(bound);
                        continue;
                    }
                    Err(None) => {
                        return Err(CheckError::Internal(format!(
                            "{}, {design}: the trace to {} at {}: {why}",
                            scenario.head.name,
                            violation.invariant.id(),
                            violation.step.name()
                        )));
                    }
                }
            }
        };
        tracing::debug!(
            invariant = violation.invariant.id(),
            step = violation.step.name(),
            depth = f.depth,
            "violated"
        );
        let transitions = actions.len();
        let actions = unmerge(&explored.machine, &actions);
        found.push((transitions, actions.len(), violation, actions));
    }
    found.sort_by_key(|(transitions, steps, violation, _)| (*transitions, *steps, *violation));
    let found = found
        .into_iter()
        .map(|(transitions, steps, violation, actions)| Counterexample {
            invariant: violation.invariant,
            place: Broken::of(violation, linux).place,
            transitions,
            steps,
            actions: actions.into_iter().map(action::write).collect(),
        });
    let expected = scenario.head.expectation(&design.name);
    Ok(Run {
        taken: explored.taken(),
        fates: explored.fates(),
        found: found.collect(),
        ..Run::new(&scenario.head.name, design, expected, &outcome)
    })
}
