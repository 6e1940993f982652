//! From a stored state back to the actions that lead to it. Not a search: the parents say which
//! states lie on the way, and the system is asked again which action leads from one to the next.

use super::exhaustive::encode;
use super::system::{System, Violation};
use super::visited::{Fingerprint, NO_PARENT, Store, Visited, fingerprint};

/// Where a trace ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With an action that broke the invariant.
    Action,
    /// In a state without actions, judged as such.
    Terminal,
}

/// A trace that could not be rebuilt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceError {
    /// The number of actions that were found.
    pub found: usize,
    /// The number of actions that were looked for.
    pub expected: usize,
}

impl std::fmt::Display for TraceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "no action leads to the next state of the trace after {} of {} actions: two states \
             share a fingerprint, or the symmetry of the system is not one",
            self.found, self.expected
        )
    }
}

impl std::error::Error for TraceError {}

/// The actions from the initial state to `state`, and then the one that breaks `violation` if
/// the trace ends with an action.
///
/// The states on the way are replayed as they are, never permuted, so the actions fit together
/// even where the stored states are representatives of their orbits.
pub(super) fn rebuild<S: System, V: Visited, F: Fingerprint>(
    system: &S,
    store: &Store<V>,
    state: u64,
    violation: Violation,
    end: End,
) -> Result<Vec<S::Action>, TraceError> {
    let parent = |&id: &u64| Some(store.parent(id)).filter(|&parent| parent != NO_PARENT);
    let mut path: Vec<u64> = std::iter::successors(Some(state), parent).collect();
    path.pop(); // the initial state
    let expected = path.len() + usize::from(end == End::Action);

    let mut trace = Vec::with_capacity(expected);
    let mut current = system.initial();
    let mut actions = Vec::new();
    let mut bytes = Vec::new();
    while trace.len() < expected {
        let target = path.pop();
        actions.clear();
        system.actions(&current, &mut actions);
        let step = actions.iter().find_map(|&action| {
            let mut next = current;
            let report = system.apply(&mut next, action);
            let hit = match target {
                Some(_) if report.overflow => false,
                Some(id) => {
                    bytes.clear();
                    encode(system, &next, report.fatal, &mut bytes);
                    store.find(fingerprint::<F>(&bytes), &bytes) == Some(id)
                }
                None => report.violations.contains(&violation),
            };
            hit.then_some((action, next))
        });
        let (action, next) = step.ok_or(TraceError {
            found: trace.len(),
            expected,
        })?;
        trace.push(action);
        current = next;
    }
    Ok(trace)
}
