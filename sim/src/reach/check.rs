//! One scenario of `kind = "reach"` under one design, explored; its outcome becomes a [`Run`].

use struct_ops_model::Design;
use struct_ops_model::reach::Reach;

use super::action;
use super::explored::{Event, Explored, explore};
use crate::bounds::Bounds;
use crate::check::{CheckError, Settings};
use crate::engine::Progress;
use crate::scenario::ReachScenario;
use crate::verdict::{Counterexample, Run};

/// Explores all that can happen.
///
/// # Errors
/// A trace that cannot be told.
pub fn check(
    scenario: &ReachScenario,
    design: &Design,
    settings: &Settings,
    bounds: &Bounds,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Run, CheckError> {
    let reach = Reach::new(scenario.world(design), design.clone());
    let explored = Explored::new(reach, false);
    let outcome = explore(
        &explored,
        settings.threads,
        settings.max_states,
        bounds,
        progress,
    )
    .map_err(|e| CheckError::Internal(format!("{}, {design}: {e}", scenario.head.name)))?;
    let found = outcome
        .events
        .into_iter()
        .filter_map(|(event, actions)| match event {
            Event::Broken(invariant, label) => Some(Counterexample {
                invariant,
                place: Some((label.name(), label.site())),
                transitions: actions.len(),
                steps: actions.len(),
                actions: actions.into_iter().map(action::write).collect(),
            }),
            Event::Found(_) => None,
        });
    let expected = scenario.head.expectation(&design.name);
    Ok(Run {
        lookups: true,
        fates: explored.fates(),
        found: found.collect(),
        ..Run::new(&scenario.head.name, design, expected, &outcome.explored)
    })
}
