//! Sequences of steps: what `run` and `replay` print, and the traces in other documents.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use struct_ops_model::Invariant;
use struct_ops_model::place::{Code, Function, Site};

use crate::report::describe::Change;
use crate::trace;
use crate::tracefile::{Again, Promise};

/// One step of a trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// From 1.
    pub step: usize,
    /// Who acts: `cpu0`, `work` for deferred work, `user` for a loader.
    pub actor: String,
    /// The number of the CPU, if it is one.
    pub cpu: Option<u8>,
    /// The action, as it stands in a saved trace.
    pub action: String,
    /// The step of the model (`explain STEP`).
    pub label: String,
    /// The kernel function that executes it; none where no function does.
    pub function: Option<String>,
    /// The file of that function.
    pub file: Option<String>,
    /// The series of patches that adds that function, if Linux does not have it.
    pub series: Option<String>,
    /// What carries the step out where no kernel function does: `trampoline`, `program`, `user space`, ...
    pub code: Option<String>,
    /// What happened, or what the step is for where there is nothing to add.
    pub event: String,
    /// What is different now.
    pub changes: Vec<Change>,
    /// The invariants that it broke.
    pub broke: Vec<String>,
    /// The invariants that it put to the test.
    pub exercised: Vec<String>,
}

fn ids(invariants: impl IntoIterator<Item = Invariant>) -> Vec<String> {
    invariants.into_iter().map(|i| i.id().into()).collect()
}

fn site(site: Site) -> (Option<&'static str>, Option<Function>, Option<Code>) {
    match site {
        Site::Linux(function) => (None, Some(function), None),
        Site::Series(series, function) => (Some(series), Some(function), None),
        Site::Code(code) => (None, None, Some(code)),
    }
}

impl From<&trace::Step> for Step {
    fn from(step: &trace::Step) -> Self {
        let (series, function, code) = site(step.site);
        Step {
            step: step.number,
            actor: step.actor.clone(),
            cpu: step.cpu(),
            action: step.action.clone(),
            label: step.label.into(),
            function: function.map(|f| f.name.into()),
            file: function.map(|f| f.file.into()),
            series: series.map(Into::into),
            code: code.map(|c| c.name().into()),
            event: step.told().into(),
            changes: step.changes.clone(),
            broke: ids(step.broke.iter().map(|v| v.invariant)),
            exercised: ids(step.exercised.iter().copied()),
        }
    }
}

/// How often each invariant was put to the test; those that never were are not in it.
pub type Exercised = BTreeMap<String, u64>;

/// Counts of invariants by their ids.
pub fn counted(counts: &BTreeMap<Invariant, u64>) -> Exercised {
    let counts = counts.iter().filter(|c| *c.1 > 0);
    counts.map(|(i, n)| (i.id().into(), *n)).collect()
}

fn tally(invariants: impl IntoIterator<Item = Invariant>) -> Exercised {
    let mut counts = Exercised::new();
    for invariant in invariants {
        *counts.entry(invariant.id().into()).or_default() += 1;
    }
    counts
}

/// A sequence of steps, and what it came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sequence {
    /// The kernel whose functions are named.
    pub linux: String,
    /// Nothing can happen any more.
    pub ended: bool,
    /// What was broken, in the order of the steps.
    pub violated: Vec<Promise>,
    /// How often each invariant was put to the test; those that never were are not in it.
    pub exercised: Exercised,
    /// The steps.
    pub trace: Vec<Step>,
}

impl From<&trace::Trace> for Sequence {
    fn from(trace: &trace::Trace) -> Self {
        let steps = trace.steps.iter().flat_map(|s| s.exercised.iter());
        Sequence {
            linux: trace.linux.version().into(),
            ended: trace.ended,
            violated: Promise::broken(trace),
            exercised: tally(steps.chain(&trace.end_exercised).copied()),
            trace: trace.steps.iter().map(Step::from).collect(),
        }
    }
}

/// What `run` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// The scenario's name.
    pub scenario: String,
    /// The design.
    pub design: String,
    /// What decided who moves; none if CPUs took turns.
    pub seed: Option<u64>,
    /// What happened.
    #[serde(flatten)]
    pub sequence: Sequence,
}

/// What `replay` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Replay {
    /// The scenario's name, or the kind of program whose lookup was saved.
    pub scenario: String,
    /// The design under which it was carried out again.
    pub design: String,
    /// Where the file comes from.
    pub recorded: Recorded,
    /// It came out as the file records; none if the file records nothing.
    pub as_recorded: Option<bool>,
    /// Each promise that the file records, and where it was broken again.
    pub again: Vec<Again>,
    /// Why not every action of the file could be taken; none if every one was.
    pub parted: Option<String>,
    /// What happened.
    #[serde(flatten)]
    pub sequence: Sequence,
}

/// Where a saved trace comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Recorded {
    /// The version of struct-ops-sim that saved it; none for files of schema 1, which record no promise either.
    pub version: Option<String>,
    /// The design.
    pub design: String,
}
