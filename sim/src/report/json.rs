//! `--format json`: schema 1, a contract. Additions are allowed, changes are a new schema.

use crate::scenario::Expect;
use crate::trace::{Step, Trace};
use crate::verdict::{Counterexample, Expected, Results, Run, SetUpFails, Vacuous};
use serde::Serialize;
use struct_ops_model::place::Site;

/// The version of everything here.
pub const SCHEMA: u32 = 1;

/// What `check` prints.
#[derive(Debug, Serialize)]
pub struct Check<'a> {
    schema: u32,
    results: Vec<Entry<'a>>,
    overall: Vec<Overall<'a>>,
    set_up_fails: Vec<SetUp<'a>>,
    warnings: Vec<Warning<'a>>,
}

/// A scenario that was not run under a design because its set-up does not work there.
#[derive(Debug, Serialize)]
struct SetUp<'a> {
    scenario: &'a str,
    design: &'a str,
    why: &'a str,
    /// Whether the scenario says so.
    expected: bool,
}

/// Something of a scenario that did not happen, so that no verdict speaks of it.
#[derive(Debug, Serialize)]
struct Warning<'a> {
    scenario: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<String>,
    message: String,
}

impl<'a> From<&'a SetUpFails> for SetUp<'a> {
    fn from(failed: &'a SetUpFails) -> Self {
        SetUp {
            scenario: &failed.scenario,
            design: &failed.design.name,
            why: &failed.why,
            expected: failed.expected == Some(Expect::SetUpFails),
        }
    }
}

impl<'a> Warning<'a> {
    fn new(scenario: &'a str, what: &Vacuous) -> Self {
        let place = match what {
            Vacuous::NeverBegan(place) | Vacuous::NeverMet(place) => Some(place.clone()),
            Vacuous::NotRun(_) | Vacuous::Nothing => None,
        };
        Warning {
            scenario,
            actor: place.as_ref().map(|p| p.actor.clone()),
            position: place.as_ref().map(|p| p.position),
            operation: place.map(|p| p.operation),
            message: super::summary::vacuous(what),
        }
    }
}

/// The verdict over all scenarios: a cell of the matrix.
#[derive(Debug, Serialize)]
struct Overall<'a> {
    design: &'a str,
    invariant: &'static str,
    verdict: &'static str,
    exercised: u64,
    /// The design was not run because it attaches as this one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    same_as: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct Entry<'a> {
    scenario: &'a str,
    design: &'a str,
    invariant: &'static str,
    verdict: &'static str,
    expected: Option<&'static str>,
    exercised: u64,
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
    /// The kernel function; null where none carries the step out.
    function: Option<&'static str>,
    /// The file of the function.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'static str>,
    /// The series of patches that adds the function.
    #[serde(skip_serializing_if = "Option::is_none")]
    series: Option<&'static str>,
    /// What carries the step out where no function does.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    label: &'static str,
    event: String,
}

impl StepEntry {
    fn new(step: usize, cpu: Option<u8>, site: Site, label: &'static str, event: &str) -> Self {
        let (series, function, code) = match site {
            Site::Linux(function) => (None, Some(function), None),
            Site::Series(series, function) => (Some(series), Some(function), None),
            Site::Code(code) => (None, None, Some(code.name())),
        };
        StepEntry {
            step,
            cpu,
            function: function.map(|f| f.name),
            file: function.map(|f| f.file),
            series,
            code,
            label,
            event: event.to_string(),
        }
    }
}

impl From<&Step> for StepEntry {
    fn from(step: &Step) -> Self {
        StepEntry::new(
            step.number,
            step.cpu,
            step.site,
            step.pc.name(),
            &step.event,
        )
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
    /// A sequence of steps of a lookup.
    pub fn of_lookup(scenario: &'a str, design: &'a str, trace: &crate::reach::Trace) -> Self {
        let broken = trace
            .iter()
            .flat_map(|s| s.broke.iter().map(|i| (i.id(), s.number)));
        Replay {
            schema: SCHEMA,
            scenario,
            design,
            seed: None,
            violated: broken
                .map(|(invariant, step)| Broken {
                    invariant,
                    step: Some(step),
                })
                .collect(),
            trace: trace.iter().map(StepEntry::from).collect(),
        }
    }

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

/// What `reach` prints.
#[derive(Debug, Serialize)]
pub struct Reach<'a> {
    schema: u32,
    cells: Vec<CellEntry<'a>>,
}

#[derive(Debug, Serialize)]
struct CellEntry<'a> {
    design: &'a str,
    program: String,
    shared: bool,
    verdict: &'static str,
    help: Option<&'static str>,
    states: u64,
    trace: Vec<StepEntry>,
}

impl From<&crate::reach::Step> for StepEntry {
    fn from(step: &crate::reach::Step) -> Self {
        StepEntry::new(
            step.number,
            step.actor.strip_prefix("cpu").and_then(|n| n.parse().ok()),
            step.label.site(),
            step.label.name(),
            &step.event,
        )
    }
}

impl<'a> Reach<'a> {
    /// Every cell with its run.
    ///
    /// # Errors
    /// A trace that cannot be carried out again: a bug of ours.
    pub fn new(cells: &'a [crate::reach::Cell]) -> Result<Self, String> {
        let entry = |cell: &'a crate::reach::Cell| {
            let trace = super::reach::trace(cell)?;
            Ok(CellEntry {
                design: &cell.design.name,
                program: cell.kind.to_string(),
                shared: cell.shared,
                verdict: cell.verdict.word(),
                help: (cell.help != crate::reach::Help::None).then(|| cell.help.word()),
                states: cell.states,
                trace: trace.iter().map(StepEntry::from).collect(),
            })
        };
        let cells = cells.iter().map(entry).collect::<Result<_, String>>()?;
        Ok(Reach {
            schema: SCHEMA,
            cells,
        })
    }
}

impl<'a> Check<'a> {
    /// Every verdict of every run, then those over all runs; `steps` carries a counterexample out again.
    ///
    /// # Errors
    /// What `steps` says.
    pub fn new<E>(
        results: &'a Results,
        steps: impl Fn(&Run, &Counterexample) -> Result<Vec<StepEntry>, E>,
    ) -> Result<Self, E> {
        let mut entries = Vec::new();
        for run in &results.runs {
            for invariant in &results.invariants {
                let verdict = run.verdict(*invariant);
                // What the other kind of scenario judges.
                if !run.asks(*invariant) {
                    continue;
                }
                let steps = run
                    .shortest(*invariant)
                    .map(|c| steps(run, c))
                    .transpose()?;
                entries.push(Entry {
                    scenario: &run.scenario,
                    design: &run.design.name,
                    invariant: invariant.id(),
                    verdict: verdict.word(),
                    expected: run.expected(*invariant).map(Expected::word),
                    exercised: run.exercised(*invariant),
                    states: run.states,
                    transitions: run.transitions,
                    depth: run.depth,
                    seconds: run.seconds,
                    trace: steps,
                });
            }
        }
        let cells = results
            .designs
            .iter()
            .flat_map(|design| results.invariants.iter().map(move |i| (design, *i)));
        let overall = cells.map(|(design, invariant)| Overall {
            design: &design.name,
            invariant: invariant.id(),
            verdict: results.overall(design, invariant).word(),
            exercised: results.exercised(design, invariant),
            same_as: results.as_mainline(design, invariant).then_some("mainline"),
        });
        Ok(Check {
            schema: SCHEMA,
            results: entries,
            overall: overall.collect(),
            set_up_fails: results.failed.iter().map(SetUp::from).collect(),
            warnings: results
                .vacuous()
                .into_iter()
                .map(|(scenario, what)| Warning::new(scenario, &what))
                .collect(),
        })
    }
}
