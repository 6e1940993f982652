//! What `check` and `merge` print, whole or line by line, and the way back to results: nothing that a report needs is
//! lost.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use struct_ops_model::design::About;
use struct_ops_model::pc::STEPS;
use struct_ops_model::{Design, Invariant, Linux, Pc, StepSet};

use super::steps::Step;
use super::{Incomplete, Origin};
use crate::campaign::Shard;
use crate::explore::Fate;
use crate::scenario::{Case, Expect};
use crate::verdict::{self, Expected, FailOn, Results, SetUpFails, Skipped, Vacuous, Verdict};
use crate::walk::{self, Walked};

/// What `check` and `merge` print.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Check {
    /// What was to be explored.
    #[serde(flatten)]
    pub begin: Begin,
    /// One per scenario and design.
    pub runs: Vec<Run>,
    /// What it all comes to.
    #[serde(flatten)]
    pub end: End,
}

/// One line of `check --format json-lines`. Each is written as soon as it is known: a program that is killed leaves
/// what it has found so far, and `merge` reads that.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "line", rename_all = "kebab-case")]
pub enum Line {
    /// The first line.
    Begin {
        /// What it is.
        #[serde(flatten)]
        origin: Origin,
        /// What is to be explored.
        #[serde(flatten)]
        begin: Begin,
    },
    /// A scenario was explored under a design.
    Run {
        /// What came of it.
        #[serde(flatten)]
        run: Run,
    },
    /// The last line.
    End {
        /// The exit status.
        exit: u8,
        /// What it all comes to.
        #[serde(flatten)]
        end: End,
    },
}

/// What is known before anything is explored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Begin {
    /// What was asked for.
    pub asked: Asked,
    /// The scenarios, in the order in which they are explored.
    pub scenarios: Vec<Scenario>,
}

/// What was asked for, defaults filled in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Asked {
    /// The designs.
    pub designs: Vec<String>,
    /// The designs were named: those that attach as mainline does are explored, too.
    pub designs_named: bool,
    /// The invariants.
    pub invariants: Vec<String>,
    /// Most states of each exploration.
    pub max_states: Option<u64>,
    /// Most bytes of memory.
    pub max_memory: Option<u64>,
    /// Seconds after which it was to end.
    pub timeout: Option<f64>,
    /// States that differ only in names are the same.
    pub symmetry: bool,
    /// Steps that nobody else can observe are taken together.
    pub merge: bool,
    /// Whole states were stored, not fingerprints.
    pub exact: bool,
    /// What exit status 1 stands for.
    pub fail_on: FailOn,
    /// The part that was explored, if not all of it.
    pub shard: Option<Shard>,
}

/// A scenario file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// It came with the program.
    pub shipped: bool,
    /// Where it was read from.
    pub file: String,
    /// Its text.
    pub toml: String,
    /// The kernel that was asked for in the place of the one that the file names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linux: Option<String>,
}

/// One scenario under one design.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// The scenario's name.
    pub scenario: String,
    /// The design.
    pub design: String,
    /// Distinct states.
    pub states: u64,
    /// Transitions, those to known states included.
    pub transitions: u64,
    /// Distance of the farthest state.
    pub depth: u32,
    /// How long it took.
    pub seconds: f64,
    /// Memory per stored state.
    pub bytes_per_state: f64,
    /// Why not every state was seen; none if every one was.
    pub incomplete: Option<Incomplete>,
    /// The invariants that the scenario expects to be broken; none if it says nothing of this design.
    pub expected: Option<Vec<String>>,
    /// Steps of the attach path that were taken in some state.
    pub taken: Vec<String>,
    /// Of each CPU or loader of the scenario, what became of its operations.
    pub operations: Vec<Vec<Fate>>,
    /// What is said of each invariant that was asked for.
    pub verdicts: Vec<Judged>,
}

/// What is said of one invariant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Judged {
    /// The invariant.
    pub invariant: String,
    /// The verdict.
    pub verdict: Verdict,
    /// What the scenario expects, if it says.
    pub expected: Option<Expected>,
    /// The verdict is another one than expected.
    pub differs: bool,
    /// How often it was put to the test: a verdict on what never happened would say nothing.
    pub exercised: u64,
    /// Each way to break it that was found, at different steps, the shortest first.
    pub counterexamples: Vec<Counterexample>,
}

/// A shortest way to break an invariant at one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counterexample {
    /// The step of the model that breaks it, or at which a CPU is stuck; none in other final states.
    pub label: Option<String>,
    /// Transitions of the explored system, of which no fewer lead here. One may stand for several steps.
    pub transitions: usize,
    /// The steps.
    pub trace: Vec<Step>,
}

/// What is known when all is explored, or when that was ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct End {
    /// What was not explored at all because there was an end before.
    pub skipped: Vec<Pair>,
    /// What ended the check before that; none if nothing did, or if the program was killed.
    pub stopped: Option<Incomplete>,
    /// Scenarios that were not run under a design because their set-up does not work there.
    pub set_up_fails: Vec<SetUp>,
    /// What did not happen, so that no verdict speaks of it.
    pub warnings: Vec<Warning>,
    /// The verdicts over all scenarios.
    pub matrix: Vec<Cell>,
}

/// A scenario that was not run under a design because its set-up does not work there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SetUp {
    /// The scenario's name.
    pub scenario: String,
    /// The design.
    pub design: String,
    /// Which operation fails, and how.
    pub why: String,
    /// The scenario says so.
    pub expected: bool,
}

/// Something of a scenario that did not happen, so that no verdict speaks of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Warning {
    /// The scenario's name.
    pub scenario: String,
    /// The CPU or loader, if it is about one of its operations.
    pub actor: Option<String>,
    /// Which of its operations.
    pub position: Option<usize>,
    /// The operation.
    pub operation: Option<String>,
    /// In words.
    pub message: String,
}

impl From<&SetUpFails> for SetUp {
    fn from(failed: &SetUpFails) -> Self {
        SetUp {
            scenario: failed.scenario.clone(),
            design: failed.design.name.clone(),
            why: failed.why.clone(),
            expected: failed.expected == Some(Expect::SetUpFails),
        }
    }
}

impl Warning {
    fn new(scenario: &str, what: &Vacuous) -> Self {
        let place = match what {
            Vacuous::NeverBegan(place) | Vacuous::NeverMet(place) => Some(place.clone()),
            Vacuous::NotRun(_) | Vacuous::Nothing | Vacuous::NotAsked => None,
        };
        Warning {
            scenario: scenario.into(),
            actor: place.as_ref().map(|p| p.actor.clone()),
            position: place.as_ref().map(|p| p.position),
            operation: place.map(|p| p.operation),
            message: crate::report::summary::vacuous(what),
        }
    }
}

/// A scenario under a design.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pair {
    /// The scenario's name.
    pub scenario: String,
    /// The design.
    pub design: String,
}

/// The verdict on one invariant under one design, over all scenarios.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cell {
    /// The design.
    pub design: String,
    /// The invariant.
    pub invariant: String,
    /// The verdict.
    pub verdict: Verdict,
    /// How often it was put to the test.
    pub exercised: u64,
    /// The design whose verdict stands for this one, because both attach in the same way.
    pub same_as: Option<String>,
}

/// More than anybody counts; ten thousand shards of that can be added.
const MOST: u64 = 1 << 48;

fn ids(invariants: &[Invariant]) -> Vec<String> {
    invariants.iter().map(|i| i.id().into()).collect()
}

impl Asked {
    /// The same, whichever part of it was explored.
    pub fn without_shard(&self) -> Self {
        Asked {
            shard: None,
            ..self.clone()
        }
    }
}

impl Begin {
    /// What was asked of these scenarios.
    pub fn new(asked: Asked, scenarios: &[Case]) -> Self {
        let scenario = |case: &Case| Scenario {
            name: case.head().name.clone(),
            shipped: case.head().shipped,
            file: case.head().file.clone(),
            toml: case.head().text.clone(),
            linux: case.head().on.map(|l| l.version().into()),
        };
        Begin {
            asked,
            scenarios: scenarios.iter().map(scenario).collect(),
        }
    }

    /// Results without runs.
    ///
    /// # Errors
    /// What cannot be understood.
    pub fn results(&self) -> Result<Results, String> {
        let case = |s: &Scenario| {
            let case = Case::parse(&s.name, &s.file, &s.toml).map_err(|e| e.to_string())?;
            let linux = s.linux.as_deref().map(|version| {
                Linux::from_version(version).ok_or(format!("`{version}` is no Linux known here"))
            });
            let case = case.on(linux.transpose()?).map_err(|e| e.to_string())?;
            Ok(if s.shipped { case.ship() } else { case })
        };
        Ok(Results {
            scenarios: self
                .scenarios
                .iter()
                .map(case)
                .collect::<Result<_, String>>()?,
            designs: self
                .asked
                .designs
                .iter()
                .map(|d| design(d))
                .collect::<Result<_, _>>()?,
            invariants: self
                .asked
                .invariants
                .iter()
                .map(|i| invariant(i))
                .collect::<Result<_, _>>()?,
            runs: Vec::new(),
            skipped: Vec::new(),
            stopped: None,
            failed: Vec::new(),
            at: None,
            part: false,
        })
    }
}

impl Run {
    /// A run, and its judgement on these invariants; `trace` carries a counterexample out again.
    ///
    /// # Errors
    /// What `trace` says.
    pub fn new<E>(
        run: &verdict::Run,
        invariants: &[Invariant],
        trace: impl Fn(&verdict::Counterexample) -> Result<Vec<Step>, E>,
    ) -> Result<Self, E> {
        let judged = |invariant: &Invariant| {
            let found = run.found.iter().filter(|c| c.invariant == *invariant);
            let counterexample = |c: &verdict::Counterexample| {
                Ok(Counterexample {
                    label: c.place.map(|p| p.0.into()),
                    transitions: c.transitions,
                    trace: trace(c)?,
                })
            };
            Ok(Judged {
                invariant: invariant.id().into(),
                verdict: run.verdict(*invariant),
                expected: run.expected(*invariant),
                differs: run.differs(*invariant),
                exercised: run.exercised(*invariant),
                counterexamples: found.map(counterexample).collect::<Result<_, E>>()?,
            })
        };
        let taken = run.taken.iter();
        Ok(Run {
            scenario: run.scenario.clone(),
            design: run.design.name.clone(),
            states: run.states,
            transitions: run.transitions,
            depth: run.depth,
            seconds: run.seconds,
            bytes_per_state: run.bytes_per_state,
            incomplete: run.bound.map(Incomplete::from),
            expected: run.expected.as_deref().map(ids),
            taken: taken.map(|step| step.name().into()).collect(),
            operations: run.fates.clone(),
            verdicts: invariants.iter().map(judged).collect::<Result<_, E>>()?,
        })
    }

    /// The run that this one was made from, as far as invariants were asked for.
    ///
    /// # Errors
    /// What cannot be understood.
    pub fn read(&self, scenarios: &[Case]) -> Result<verdict::Run, String> {
        let counts = self.verdicts.iter().map(|v| v.exercised);
        let counts = counts.chain([self.states, self.transitions]);
        if let Some(n) = counts.max().filter(|n| *n > MOST) {
            return Err(format!("{n} is more than can have been counted"));
        }
        let case = scenarios.iter().find(|s| s.head().name == self.scenario);
        let case =
            case.ok_or_else(|| format!("no scenario {} is among those asked for", self.scenario))?;
        let mut run = verdict::Run {
            scenario: self.scenario.clone(),
            design: design(&self.design)?,
            lookups: case.about() == About::Lookups,
            expected: match &self.expected {
                Some(ids) => Some(ids.iter().map(|i| invariant(i)).collect::<Result<_, _>>()?),
                None => None,
            },
            states: self.states,
            transitions: self.transitions,
            depth: self.depth,
            seconds: self.seconds,
            bytes_per_state: self.bytes_per_state,
            witnesses: vec![0; Invariant::ALL.len()],
            taken: StepSet::default(),
            fates: self.operations.clone(),
            found: Vec::new(),
            bound: self.incomplete.as_ref().map(Incomplete::read).transpose()?,
        };
        for name in &self.taken {
            run.taken.insert(step(name)?);
        }
        let machine = walk::machine(case, &run.design).map_err(|e| e.to_string())?;
        for judged in &self.verdicts {
            let invariant = invariant(&judged.invariant)?;
            run.witnesses[invariant as usize] = judged.exercised;
            for counterexample in &judged.counterexamples {
                run.found.push(counterexample.read(invariant, &*machine)?);
            }
        }
        // As they were found: those with the fewest transitions first.
        run.found.sort_by_key(|c| (c.transitions, c.steps));
        Ok(run)
    }
}

impl Counterexample {
    fn read(
        &self,
        invariant: Invariant,
        machine: &dyn Walked,
    ) -> Result<verdict::Counterexample, String> {
        let place = self.label.as_deref().map(|name| machine.place(name));
        let actions: Vec<String> = self.trace.iter().map(|s| s.action.clone()).collect();
        machine.read(&actions).map_err(|(_, why)| why)?;
        Ok(verdict::Counterexample {
            invariant,
            place: place.transpose()?,
            transitions: self.transitions,
            steps: self.trace.len(),
            actions,
        })
    }
}

impl End {
    /// What results come to.
    pub fn new(results: &Results) -> Self {
        let pair = |s: &Skipped| Pair {
            scenario: s.scenario.clone(),
            design: s.design.name.clone(),
        };
        let cell = |design: &Design, invariant: Invariant| Cell {
            design: design.name.clone(),
            invariant: invariant.id().into(),
            verdict: results.overall(design, invariant),
            exercised: results.exercised(design, invariant),
            same_as: results
                .as_mainline(design, invariant)
                .then(|| Design::mainline().name),
        };
        let designs = results.designs.iter();
        let cells = designs.flat_map(|d| results.invariants.iter().map(move |i| cell(d, *i)));
        End {
            skipped: results.skipped.iter().map(pair).collect(),
            stopped: results.stopped.map(Incomplete::from),
            set_up_fails: results.failed.iter().map(SetUp::from).collect(),
            warnings: results
                .vacuous()
                .into_iter()
                .map(|(scenario, what)| Warning::new(scenario, &what))
                .collect(),
            matrix: cells.collect(),
        }
    }
}

fn design(name: &str) -> Result<Design, String> {
    Design::parse(name).map_err(|e| e.to_string())
}

fn invariant(id: &str) -> Result<Invariant, String> {
    Invariant::from_id(id).ok_or_else(|| format!("`{id}` is no invariant"))
}

fn step(name: &str) -> Result<Pc, String> {
    let found = STEPS.iter().find(|s| s.name == name);
    found
        .map(|s| s.pc)
        .ok_or_else(|| format!("`{name}` is no step"))
}
