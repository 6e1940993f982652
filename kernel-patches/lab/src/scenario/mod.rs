//! `scenario`: a scenario's plans, carried out by booted kernels and put beside what the model says of each promise.
//!
//! The prediction is the scenario's: its exploration under the design that the series stands for. What a broken
//! promise looks like is in `symptom`, written once; how a kernel plays the scenario, in `program`.

pub mod explain;
pub mod job;
pub mod program;
pub mod prove;
pub mod random;
pub mod record;
pub mod report;
pub mod symptom;

use std::time::{Duration, Instant};

use struct_ops_model::{Design, Invariant, Pc};
use struct_ops_sim::bounds::{Bounds, Memory};
use struct_ops_sim::check::{CheckError, Settings, check};
use struct_ops_sim::explore::Reductions;
use struct_ops_sim::live::round::RoundError;
use struct_ops_sim::live::stress;
use struct_ops_sim::scenario::{Case, InputError, Scenario};
use struct_ops_sim::shipped;
use struct_ops_sim::verdict::{Counterexample, Run, Verdict};

use crate::error::{Error, Result};
use crate::vm::Machine;
use explain::Explained;
use job::Job;
use program::Target;
use symptom::{Seen, Symptom};

/// The scenarios of these names and files; all shipped ones about the attach path, but the largest, if there are none.
///
/// # Errors
/// The mistake in a file, or that there is none.
pub fn find(names: &[String]) -> Result<Vec<Scenario>> {
    let input = |error: InputError| Error::Input(error.to_string());
    if names.is_empty() {
        let cases = shipped::all().map_err(|error| Error::Bug(error.to_string()))?;
        let attach = cases.into_iter().filter_map(|case| match case {
            Case::Attach(scenario) if !scenario.head.extended => Some(*scenario),
            _ => None,
        });
        return Ok(attach.collect());
    }
    names
        .iter()
        .map(|name| shipped::find(name).map_err(input))
        .collect()
}

/// How much to do.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Rounds of each scenario.
    pub rounds: usize,
    /// Where the random choices begin.
    pub seed: u64,
    /// Seconds that the runtime gets for each scenario.
    pub stress: u64,
}

/// What an execution did with each promise.
pub type Verdicts = Vec<(Invariant, Verdict)>;

/// What real threads in user space did with each promise.
#[derive(Clone, Debug)]
pub enum Runtime {
    /// Nobody asked them.
    NotAsked,
    /// They have no such operations or objects, and which.
    NotExpressible(String),
    /// They ran.
    Ran(Verdicts),
}

impl Runtime {
    /// The verdict, if they ran.
    pub fn verdict(&self, invariant: Invariant) -> Option<Verdict> {
        match self {
            Runtime::Ran(verdicts) => of(verdicts, invariant),
            Runtime::NotAsked | Runtime::NotExpressible(_) => None,
        }
    }

    /// The word in text and JSON.
    pub fn word(&self, invariant: Invariant) -> &'static str {
        match self {
            Runtime::NotExpressible(_) => NOT_EXPRESSIBLE,
            _ => self
                .verdict(invariant)
                .map_or(Verdict::NotAsked.word(), Verdict::word),
        }
    }
}

/// Of an execution that cannot carry a scenario out.
pub const NOT_EXPRESSIBLE: &str = "not expressible";

fn of(verdicts: &Verdicts, invariant: Invariant) -> Option<Verdict> {
    let mut verdicts = verdicts.iter();
    let found = verdicts.find(|(other, _)| *other == invariant);
    found.map(|(_, verdict)| *verdict)
}

/// Most scenarios that share a VM.
const SHARED: usize = 6;
/// How long the model may explore one scenario, and how far.
const MOST_TIME: Duration = Duration::from_secs(60);
const MOST_STATES: u64 = 5_000_000;

/// What the model says of one promise, and what a kernel showed.
#[derive(Clone, Debug)]
pub struct Promise {
    /// Which.
    pub invariant: Invariant,
    /// The model's verdict under the design.
    pub model: Verdict,
    /// What the kernel did.
    pub kernel: Shown,
    /// How often, and in words.
    pub seen: Vec<(Symptom, usize, String)>,
    /// Rounds that no run of the model explains without breaking it.
    pub told: usize,
}

/// What a kernel did with a promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Broken, as predicted.
    Seen,
    /// Predicted to be broken, and no symptom of it came up.
    NotSeen,
    /// Kept, as far as anybody can see.
    Kept,
    /// Broken, and nothing predicts it.
    Unexpected,
    /// A kernel shows no symptom of it.
    NotObservable,
    /// The scenario does not ask for it.
    NotAsked,
}

impl Shown {
    /// The word in text and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Shown::Seen => "violated",
            Shown::NotSeen => "not seen",
            Shown::Kept => "holds",
            Shown::Unexpected => "UNEXPECTED",
            Shown::NotObservable => "not observable",
            Shown::NotAsked => "not asked",
        }
    }
}

/// What came of one scenario on one kernel.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It cannot be expressed, and why.
    Skipped(String),
    /// The runner, or what it was given, failed: nothing is said of the kernel.
    Runner(String),
    /// It ran.
    Ran {
        /// Rounds that began.
        rounds: usize,
        /// Operations in them.
        operations: usize,
        /// Boots that it took.
        boots: usize,
        /// One row a promise.
        promises: Vec<Promise>,
        /// What the model says to the rounds.
        explained: Explained,
        /// Symptoms of which no promise is known to be broken.
        unexpected: Vec<Seen>,
    },
}

/// One scenario on one kernel.
#[derive(Clone, Debug)]
pub struct Row {
    /// The scenario's name.
    pub scenario: String,
    /// The design whose verdicts are the prediction.
    pub design: String,
    /// The model under that design; empty if it is not run under it.
    pub model: Verdicts,
    /// The runtime under that design.
    pub runtime: Runtime,
    /// What came of it.
    pub outcome: Outcome,
}

impl Row {
    /// What the kernel did with a promise, in a word.
    pub fn kernel(&self, invariant: Invariant) -> &'static str {
        match &self.outcome {
            Outcome::Skipped(_) => NOT_EXPRESSIBLE,
            Outcome::Runner(_) => "RUNNER FAILED",
            Outcome::Ran { promises, .. } => {
                let mut promises = promises.iter();
                let found = promises.find(|promise| promise.invariant == invariant);
                found.map_or(Shown::NotAsked.word(), |promise| promise.kernel.word())
            }
        }
    }

    /// The promises that some execution sees broken.
    pub fn broken(&self) -> Vec<Invariant> {
        let kernel = |invariant| {
            [Shown::Seen, Shown::Unexpected]
                .iter()
                .any(|shown| shown.word() == self.kernel(invariant))
        };
        let violated = Some(Verdict::Violated);
        let broken = |invariant: &Invariant| {
            of(&self.model, *invariant) == violated
                || self.runtime.verdict(*invariant) == violated
                || kernel(*invariant)
        };
        Invariant::ALL.iter().copied().filter(broken).collect()
    }

    /// Nothing unexpected, and nothing of ours failed.
    pub fn as_predicted(&self) -> bool {
        match &self.outcome {
            Outcome::Skipped(_) => true,
            Outcome::Runner(_) => false,
            Outcome::Ran {
                unexpected, rounds, ..
            } => unexpected.is_empty() && *rounds > 0,
        }
    }
}

/// What the model says under a design.
#[derive(Clone, Debug, Default)]
pub struct Predicted {
    /// Of each promise.
    pub verdicts: Verdicts,
    /// No run leaves a kernel on which another scenario would meet what this one has left: what is broken is a result, an
    /// answer, or that kallsyms does not name who runs.
    pub harmless: bool,
}

/// The model's verdicts under a design.
///
/// Why there are none is that the set-up does not work under it.
///
/// # Errors
/// A bug of ours.
pub fn predict(
    scenario: &Scenario,
    design: &Design,
) -> Result<std::result::Result<Predicted, String>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let run = match explore(scenario, design, threads)? {
        Ok(run) => run,
        Err(why) => return Ok(Err(why)),
    };
    let asked = Invariant::ALL
        .iter()
        .filter(|invariant| !invariant.of_lookups());
    let verdicts = asked
        .map(|invariant| (*invariant, run.verdict(*invariant)))
        .collect();
    let harmless = |found: &Counterexample| match found.invariant {
        Invariant::KsymsMatchImages => found.broken().label() == Some(Pc::CallEnter.name()),
        invariant => matches!(
            invariant,
            Invariant::SingleLinkPerMap
                | Invariant::CookieFidelity
                | Invariant::ErrnoContract
                | Invariant::RefusalsKept
                | Invariant::AssocFidelity
        ),
    };
    Ok(Ok(Predicted {
        verdicts,
        harmless: run.found.iter().all(harmless) && run.bound.is_none(),
    }))
}

/// All that the model can do under a design, within bounds.
///
/// Why there is nothing is that the set-up does not work under it.
///
/// # Errors
/// A bug of ours.
pub fn explore(
    scenario: &Scenario,
    design: &Design,
    threads: usize,
) -> Result<std::result::Result<Run, String>> {
    let deadline = Some(Instant::now() + MOST_TIME);
    let bounds = Bounds::new(std::sync::Arc::default(), deadline, Memory::new(None));
    let settings = Settings {
        threads,
        max_states: Some(MOST_STATES),
        exact: false,
        reductions: Reductions::ALL,
    };
    match check(scenario, design, &settings, &bounds, &mut |_| ()) {
        Ok(run) => Ok(Ok(run)),
        Err(CheckError::Input(error)) => Ok(Err(error.to_string())),
        Err(CheckError::Internal(text)) => Err(Error::Bug(text)),
    }
}

/// Carries scenarios out on one kernel. What may leave a broken kernel behind, as the model says, has VMs of its own.
///
/// # Errors
/// What is outside of kernel and scenario: files, QEMU, the model's bounds.
pub fn run(
    machine: &Machine<'_>,
    target: &Target,
    design: &Design,
    scenarios: &[Scenario],
    effort: Effort,
    verbose: bool,
) -> Result<Vec<Row>> {
    let mut rows: Vec<Row> = Vec::new();
    let (mut alone, mut together) = (Vec::new(), Vec::new());
    for (place, scenario) in scenarios.iter().enumerate() {
        let mut row = Row {
            scenario: scenario.head.name.clone(),
            design: design.name.clone(),
            model: Verdicts::new(),
            runtime: Runtime::NotAsked,
            outcome: Outcome::Skipped(String::new()),
        };
        let predicted = match scenario.runs_under(design) {
            true => predict(scenario, design)?,
            false => Err(format!("it is not run under design {design}")),
        };
        let predicted = match predicted {
            Ok(predicted) => predicted,
            Err(why) => {
                row.outcome = Outcome::Skipped(why);
                rows.push(row);
                continue;
            }
        };
        row.model = predicted.verdicts;
        row.runtime = runtime(scenario, design, effort.stress)?;
        let rounds = program::rounds(&scenario.world, target, effort.rounds, effort.seed);
        let numbered: Vec<_> = rounds.iter().enumerate().collect();
        match program::program(target, &numbered) {
            Err(why) => row.outcome = Outcome::Skipped(why),
            Ok(_) if predicted.harmless => together.push((place, Job::new(rounds))),
            Ok(_) => alone.push(vec![(place, Job::new(rounds))]),
        }
        rows.push(row);
    }
    while !together.is_empty() {
        let rest = together.split_off(together.len().min(SHARED));
        alone.insert(0, std::mem::replace(&mut together, rest));
    }
    for group in alone {
        let (places, mut jobs): (Vec<usize>, Vec<Job>) = group.into_iter().unzip();
        job::carry_out(machine, target, design, &mut jobs, verbose)?;
        for (place, job) in places.into_iter().zip(&jobs) {
            rows[place].outcome = judge(job, &rows[place].model);
            eprintln!("{}", rows[place].scenario);
        }
    }
    Ok(rows)
}

/// What real threads in user space did with the promises, in so many seconds.
fn runtime(scenario: &Scenario, design: &Design, seconds: u64) -> Result<Runtime> {
    if seconds == 0 {
        return Ok(Runtime::NotAsked);
    }
    let options = stress::Options {
        design: design.clone(),
        threads: scenario.world.cpus.len(),
        time: Duration::from_secs(seconds),
        seed: 1,
        scenario: Some(scenario),
        machine: true,
        patience: Duration::from_secs(60),
    };
    let hung = |places: String| {
        eprintln!("kernel-lab: a bug: the runtime is deadlocked: {places}");
        std::process::exit(70);
    };
    let outcome = match stress::stress(&options, &|| false, &hung) {
        Ok(outcome) => outcome,
        Err(error @ RoundError::SetUp { .. }) => return Err(Error::Bug(error.to_string())),
        Err(error) => return Ok(Runtime::NotExpressible(error.to_string())),
    };
    let asked = Invariant::ALL
        .iter()
        .filter(|invariant| !invariant.of_lookups());
    let word = |invariant: &Invariant| match () {
        () if !invariant.applies(design) => Verdict::NotApplicable,
        () if outcome.broken.contains_key(invariant) => Verdict::Violated,
        () if outcome.exercised.contains_key(invariant) => Verdict::Holds,
        () => Verdict::NeverExercised,
    };
    let verdicts = asked.map(|invariant| (*invariant, word(invariant)));
    Ok(Runtime::Ran(verdicts.collect()))
}

/// Puts what was seen beside what was predicted.
fn judge(job: &Job, verdicts: &[(Invariant, Verdict)]) -> Outcome {
    if let Some(why) = &job.runner {
        return Outcome::Runner(why.clone());
    }
    let broken = |invariant: Invariant| verdicts.contains(&(invariant, Verdict::Violated));
    let mut promises: Vec<Promise> = verdicts
        .iter()
        .map(|(invariant, model)| Promise {
            invariant: *invariant,
            model: *model,
            kernel: match model {
                Verdict::NotApplicable | Verdict::NotAsked => Shown::NotAsked,
                _ if !symptom::observable(*invariant) => Shown::NotObservable,
                Verdict::Violated => Shown::NotSeen,
                _ => Shown::Kept,
            },
            seen: Vec::new(),
            told: 0,
        })
        .collect();
    for promise in &mut promises {
        promise.told = job
            .explained
            .broke
            .get(&promise.invariant)
            .copied()
            .unwrap_or(0);
        // The model breaks it in a run of its own, so that it is predicted, too.
        if promise.told > 0 {
            promise.kernel = Shown::Seen;
        }
    }
    let mut unexpected: Vec<Seen> = Vec::new();
    for explain::Unexplained { round, why, .. } in &job.explained.unexplained {
        unexpected.push(Seen {
            symptom: Symptom::Unexplained,
            what: why.clone(),
            round: Some(*round),
        });
    }
    for (symptom, (count, what)) in symptom::summary(&job.seen) {
        let shows = symptom.shows(broken);
        let of = shows.or(symptom.first());
        if let Some(promise) = promises.iter_mut().find(|p| Some(p.invariant) == of) {
            promise.kernel = if shows.is_some() {
                Shown::Seen
            } else {
                Shown::Unexpected
            };
            promise.seen.push((symptom, count, what));
        }
        if shows.is_none() {
            unexpected.extend(
                job.seen
                    .iter()
                    .find(|seen| seen.symptom == symptom)
                    .cloned(),
            );
        }
    }
    Outcome::Ran {
        rounds: job.begun,
        operations: job.operations,
        boots: job.boots,
        promises,
        explained: job.explained.clone(),
        unexpected,
    }
}
