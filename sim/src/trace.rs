//! A sequence of steps, told: what each of them did, changed and broke, of the attach path and of lookups alike.
//!
//! Not how steps are carried out: that is `walk`. Not a table for people: `report::trace` prints it.

use struct_ops_model::place::Site;
use struct_ops_model::reach::Found;
use struct_ops_model::{Invariant, Linux, Violation};

use crate::report::describe::Change;

/// A promise that was broken, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The promise.
    pub invariant: Invariant,
    /// At which step of the model, and where that is carried out; none if only the final state shows it.
    pub place: Option<(&'static str, Site)>,
}

impl Broken {
    /// What the model of the attach path reports, with the functions of this kernel.
    pub fn of(violation: Violation, linux: Linux) -> Self {
        let step = violation.step.info();
        Broken {
            invariant: violation.invariant,
            place: step.map(|i| (i.name, i.place.on(linux))),
        }
    }

    /// The name of the step.
    pub fn label(&self) -> Option<&'static str> {
        self.place.map(|p| p.0)
    }
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// From 1.
    pub number: usize,
    /// `cpu0`, `work` for the worker, or `user` for a loader.
    pub actor: String,
    /// What was done, as it stands in trace files.
    pub action: String,
    /// The step of the model.
    pub label: &'static str,
    /// Where it was carried out.
    pub site: Site,
    /// What the step is for.
    pub why: &'static str,
    /// What happened, in words; empty where there is nothing to add.
    pub event: String,
    /// What is different now.
    pub changes: Vec<Change>,
    /// What it broke.
    pub broke: Vec<Broken>,
    /// What it put to the test.
    pub exercised: Vec<Invariant>,
    /// What a program found that asked for its scheduler.
    pub found: Option<Found>,
}

impl Step {
    /// The number of the CPU, if one acts.
    pub fn cpu(&self) -> Option<u8> {
        self.actor.strip_prefix("cpu")?.parse().ok()
    }

    /// What happened, or what the step is for where there is nothing to add.
    pub fn told(&self) -> &str {
        match self.event.as_str() {
            "" => self.why,
            event => event,
        }
    }
}

/// A sequence of steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The kernel whose functions are named.
    pub linux: Linux,
    /// The steps.
    pub steps: Vec<Step>,
    /// Nothing can happen any more.
    pub ended: bool,
    /// What the final state breaks, if it is one.
    pub end: Vec<Broken>,
    /// What the final state put to the test.
    pub end_exercised: Vec<Invariant>,
    /// Who can never move again, where, and what it waits for, in words.
    pub stuck: Vec<String>,
}

impl Trace {
    /// Everything that was broken, in the order of the steps; what the final state alone shows has none.
    pub fn broken(&self) -> impl Iterator<Item = (Option<&Step>, Broken)> {
        let steps = self
            .steps
            .iter()
            .flat_map(|s| s.broke.iter().map(move |b| (Some(s), *b)));
        steps.chain(self.end.iter().map(|b| (None, *b)))
    }

    /// The same, each place once.
    pub fn distinct(&self) -> Vec<Broken> {
        let mut broken = Vec::new();
        for (_, one) in self.broken() {
            if !broken.contains(&one) {
                broken.push(one);
            }
        }
        broken
    }

    /// The promises that were broken, each once.
    pub fn invariants(&self) -> Vec<Invariant> {
        let mut broken = Vec::new();
        for (_, Broken { invariant, .. }) in self.broken() {
            if !broken.contains(&invariant) {
                broken.push(invariant);
            }
        }
        broken
    }

    /// The step that broke this first; none if only the final state shows it.
    pub fn step_of(&self, broken: Broken) -> Option<&Step> {
        self.steps.iter().find(|s| s.broke.contains(&broken))
    }

    /// The actions, as they stand in trace files.
    pub fn actions(&self) -> Vec<String> {
        self.steps.iter().map(|s| s.action.clone()).collect()
    }
}
