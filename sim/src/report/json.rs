//! `--format json`: schema 1, a contract. Additions are allowed, changes are a new schema.

use serde::Serialize;
use struct_ops_model::Machine;

use crate::trace::{NotEnabled, Step, Trace, trace};
use crate::verdict::{Results, Verdict};

/// The version of everything here.
pub const SCHEMA: u32 = 1;

/// What `check` prints.
#[derive(Debug, Serialize)]
pub struct Check<'a> {
    schema: u32,
    results: Vec<Entry<'a>>,
}

#[derive(Debug, Serialize)]
struct Entry<'a> {
    scenario: &'a str,
    design: &'a str,
    invariant: &'static str,
    verdict: &'static str,
    expected: Option<&'static str>,
    states: u64,
    transitions: u64,
    depth: u32,
    seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<Vec<StepEntry>>,
}

/// One step of a trace.
#[derive(Debug, Serialize)]
pub struct StepEntry {
    step: usize,
    cpu: Option<u8>,
    function: &'static str,
    label: &'static str,
    event: String,
}

impl From<&Step> for StepEntry {
    fn from(step: &Step) -> Self {
        StepEntry {
            step: step.number,
            cpu: step.cpu,
            function: step.function(),
            label: step.pc.name(),
            event: step.event.clone(),
        }
    }
}

/// What `run`, `replay` and `random` print of one sequence of steps.
#[derive(Debug, Serialize)]
pub struct Replay<'a> {
    schema: u32,
    scenario: &'a str,
    design: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    violated: Vec<Broken>,
    trace: Vec<StepEntry>,
}

#[derive(Debug, Serialize)]
struct Broken {
    invariant: &'static str,
    step: Option<usize>,
}

impl<'a> Replay<'a> {
    /// A sequence of steps and what it broke.
    pub fn new(scenario: &'a str, design: &'a str, seed: Option<u64>, trace: &Trace) -> Self {
        let violated = trace.broken();
        Replay {
            schema: SCHEMA,
            scenario,
            design,
            seed,
            violated: violated
                .map(|(s, v)| Broken {
                    invariant: v.invariant.id(),
                    step: s.map(|s| s.number),
                })
                .collect(),
            trace: trace.steps.iter().map(StepEntry::from).collect(),
        }
    }
}

impl<'a> Check<'a> {
    /// Every verdict that applies; `machine` builds the machine of a scenario under a design.
    ///
    /// # Errors
    /// A trace that cannot be carried out again.
    pub fn new(
        results: &'a Results,
        machine: impl Fn(&str, &struct_ops_model::Design) -> Machine,
    ) -> Result<Self, Box<NotEnabled>> {
        let mut entries = Vec::new();
        for run in &results.runs {
            for invariant in &results.invariants {
                let verdict = run.verdict(*invariant);
                if verdict == Verdict::NotApplicable {
                    continue;
                }
                let steps = run
                    .shortest(*invariant)
                    .map(|c| trace(&machine(&run.scenario, &run.design), &c.actions));
                let steps = steps
                    .transpose()?
                    .map(|t| t.steps.iter().map(StepEntry::from).collect());
                entries.push(Entry {
                    scenario: &run.scenario,
                    design: &run.design.name,
                    invariant: invariant.id(),
                    verdict: verdict.word(),
                    expected: run.expected(*invariant).map(Verdict::word),
                    states: run.states,
                    transitions: run.transitions,
                    depth: run.depth,
                    seconds: run.seconds,
                    trace: steps,
                });
            }
        }
        Ok(Check {
            schema: SCHEMA,
            results: entries,
        })
    }
}
