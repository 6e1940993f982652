//! One scenario of `kind = "reach"` under one design, explored; its outcome becomes a [`Run`].

use std::sync::atomic::AtomicBool;

use struct_ops_model::reach::Reach;
use struct_ops_model::{Design, Invariant};

use super::explored::{Event, Explored, explore};
use crate::check::{CheckError, Settings};
use crate::engine::{Incomplete, Progress};
use crate::scenario::ReachScenario;
use crate::verdict::{Bound, Counterexample, Path, Run};

/// Explores all that can happen.
///
/// # Errors
/// A trace that cannot be told.
pub fn check(
    scenario: &ReachScenario,
    design: &Design,
    settings: &Settings,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Run, CheckError> {
    let reach = Reach::new(scenario.world(design), design.clone());
    let explored = Explored::new(reach, false);
    let outcome = explore(
        &explored,
        settings.threads,
        settings.max_states,
        stop,
        progress,
    )
    .map_err(|e| CheckError::Internal(format!("{}, {design}: {e}", scenario.name)))?;
    let found = outcome
        .events
        .into_iter()
        .filter_map(|(event, actions)| match event {
            Event::Broken(invariant, label) => Some(Counterexample {
                invariant,
                place: Some((label.name(), label.function())),
                transitions: actions.len(),
                steps: actions.len(),
                path: Path::Reach(actions),
            }),
            Event::Found(_) => None,
        });
    Ok(Run {
        scenario: scenario.name.clone(),
        design: design.clone(),
        lookups: true,
        expected: scenario
            .expectation(&design.name)
            .map(<[Invariant]>::to_vec),
        states: outcome.states,
        transitions: outcome.transitions,
        depth: outcome.depth,
        seconds: outcome.seconds,
        bytes_per_state: outcome.bytes_per_state,
        witnesses: outcome.witnesses,
        taken: 0,
        found: found.collect(),
        bound: outcome.incomplete.map(|why| match why {
            Incomplete::MaxStates => Bound::MaxStates,
            Incomplete::Stopped => Bound::Interrupted,
            Incomplete::Overflow => Bound::ModelTable,
        }),
    })
}
