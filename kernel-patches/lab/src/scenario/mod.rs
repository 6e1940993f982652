//! `scenario`: a scenario's plans, carried out by booted kernels and put beside what the model says of each promise.
//!
//! The prediction is the scenario's: its exploration under the design that the series stands for. What a broken
//! promise looks like is in `symptom`, written once; how a kernel plays the scenario, in `program`.

pub mod program;
pub mod record;
pub mod report;
pub mod symptom;

use std::time::{Duration, Instant};

use struct_ops_model::{Design, Invariant};
use struct_ops_sim::bounds::{Bounds, Memory};
use struct_ops_sim::check::{CheckError, Settings, check};
use struct_ops_sim::explore::Reductions;
use struct_ops_sim::scenario::{Case, InputError, Scenario};
use struct_ops_sim::shipped;
use struct_ops_sim::verdict::Verdict;

use crate::console::strip;
use crate::error::{Error, Result};
use crate::vm::Machine;
use program::{Round, Target};
use record::Record;
use symptom::{End, Seen, Symptom};

/// The scenarios of these names and files; all shipped ones about the attach path, but the largest, if there are none.
///
/// # Errors
/// The mistake in a file, or that there is none.
pub fn find(names: &[String]) -> Result<Vec<Scenario>> {
    let input = |error: InputError| Error::Input(error.to_string());
    if names.is_empty() {
        let cases = shipped::all().map_err(|error| Error::Bug(error.to_string()))?;
        let attach = cases.into_iter().filter_map(|case| match case {
            Case::Attach(scenario) if !scenario.extended => Some(*scenario),
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
}

/// Boots of one scenario that its own crashes may take.
const MOST_BOOTS: usize = 4;
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
        /// Rounds that came to their end.
        rounds: usize,
        /// Operations in them.
        operations: usize,
        /// Boots that it took.
        boots: usize,
        /// One row a promise.
        promises: Vec<Promise>,
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
    /// What came of it.
    pub outcome: Outcome,
}

impl Row {
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

/// The model's verdicts under a design.
///
/// # Errors
/// A set-up that fails, or a bug of ours.
pub fn predict(scenario: &Scenario, design: &Design) -> Result<Vec<(Invariant, Verdict)>> {
    let deadline = Some(Instant::now() + MOST_TIME);
    let bounds = Bounds::new(std::sync::Arc::default(), deadline, Memory::new(None));
    let settings = Settings {
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        max_states: Some(MOST_STATES),
        exact: false,
        reductions: Reductions::ALL,
    };
    let run =
        check(scenario, design, &settings, &bounds, &mut |_| ()).map_err(|error| match error {
            CheckError::Input(error) => Error::Input(error.to_string()),
            CheckError::Internal(text) => Error::Bug(text),
        })?;
    let asked = Invariant::ALL
        .iter()
        .filter(|invariant| !invariant.of_lookups());
    Ok(asked
        .map(|invariant| (*invariant, run.verdict(*invariant)))
        .collect())
}

/// A scenario on its way through the boots.
struct Job {
    place: usize,
    rounds: Vec<Round>,
    /// Of rounds that have not been tried.
    next: usize,
    boots: usize,
    seen: Vec<Seen>,
    done: usize,
    operations: usize,
    runner: Option<String>,
}

impl Job {
    fn over(&self) -> bool {
        self.next >= self.rounds.len() || self.boots >= MOST_BOOTS || self.runner.is_some()
    }
}

/// Carries scenarios out on one kernel. What the model says is broken has VMs of its own.
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
    let mut rows: Vec<Option<Row>> = vec![None; scenarios.len()];
    let mut predicted = Vec::new();
    let (mut alone, mut together) = (Vec::new(), Vec::new());
    for (place, scenario) in scenarios.iter().enumerate() {
        let skip = |why: String| {
            Some(Row {
                scenario: scenario.name.clone(),
                design: design.name.clone(),
                outcome: Outcome::Skipped(why),
            })
        };
        predicted.push(Vec::new());
        if !scenario.runs_under(design) {
            rows[place] = skip(format!("it is not run under design {design}"));
            continue;
        }
        let rounds = program::rounds(scenario, target, effort.rounds, effort.seed);
        if let Err(why) = program::program(target, &rounds.iter().enumerate().collect::<Vec<_>>()) {
            rows[place] = skip(why);
            continue;
        }
        predicted[place] = predict(scenario, design)?;
        let broken = predicted[place]
            .iter()
            .any(|(_, verdict)| *verdict == Verdict::Violated);
        let job = Job {
            place,
            rounds,
            next: 0,
            boots: 0,
            seen: Vec::new(),
            done: 0,
            operations: 0,
            runner: None,
        };
        if broken {
            alone.push(vec![job])
        } else {
            together.push(job)
        }
    }
    if !together.is_empty() {
        alone.insert(0, together);
    }
    for mut jobs in alone {
        while !jobs.iter().all(Job::over) {
            boot(machine, target, scenarios, &mut jobs, verbose)?;
        }
        for job in jobs {
            rows[job.place] = Some(Row {
                scenario: scenarios[job.place].name.clone(),
                design: design.name.clone(),
                outcome: judge(&job, &predicted[job.place]),
            });
        }
    }
    Ok(rows.into_iter().flatten().collect())
}

/// One VM: the rounds of all jobs that are left, until it ends.
fn boot(
    machine: &Machine<'_>,
    target: &Target,
    scenarios: &[Scenario],
    jobs: &mut [Job],
    verbose: bool,
) -> Result<()> {
    let mut files = Vec::new();
    let mut command = String::new();
    let waiting: Vec<usize> = (0..jobs.len()).filter(|job| !jobs[*job].over()).collect();
    for (number, job) in waiting.iter().enumerate() {
        let job = &jobs[*job];
        let left: Vec<_> = job.rounds.iter().enumerate().skip(job.next).collect();
        let text = program::program(target, &left).map_err(Error::Bug)?;
        files.push((format!("lab/scenario.{number}"), text.into_bytes()));
        command += &format!("echo @scenario {number}\nlabrun /lab/scenario.{number} || exit 1\n");
    }
    let mut records: Vec<Record> = Vec::new();
    let ended = machine.run_with(&command, &files, |line| {
        if verbose {
            eprintln!("{}", line.trim_end_matches('\r'));
        }
        let line = strip(line);
        if line.starts_with("@scenario ") {
            records.push(Record::default());
        } else if let Some(record) = records.last_mut() {
            record.line(line);
        }
    })?;
    if records.is_empty() {
        return Err(Error::Other(format!("the VM did not start: {}", ended.why)));
    }
    let last = records.len() - 1;
    for (number, record) in records.iter().enumerate() {
        let job = &mut jobs[waiting[number]];
        let mut end = End::default();
        if number == last {
            end.complaint = ended.console.complaint();
            end.lost = ended.status.is_none().then(|| ended.why.clone());
        }
        job.boots += 1;
        job.next = record
            .rounds
            .last()
            .map_or(job.next, |round| round.number + 1);
        job.done += record.rounds.iter().filter(|round| round.over).count();
        job.operations += record
            .rounds
            .iter()
            .map(|round| round.done.len())
            .sum::<usize>();
        job.seen
            .extend(symptom::look(&job.rounds, target.cookie, record, &end));
        job.runner = mistake(&scenarios[job.place], record).or_else(|| {
            let silent = number == last && record.rounds.is_empty() && end.complaint.is_none();
            silent.then(|| format!("it said nothing: {}", ended.why))
        });
    }
    Ok(())
}

/// What went wrong with the runner, or with a set-up that works in the model.
fn mistake(scenario: &Scenario, record: &Record) -> Option<String> {
    if let Some(what) = &record.runner {
        return Some(what.clone());
    }
    let all = record.rounds.iter().flat_map(|round| &round.setup);
    let failed = all.into_iter().find(|done| done.result != 0)?;
    let operation = scenario.setup_operation(failed.number);
    Some(format!("set-up: `{operation}` returned {}", failed.result))
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
        })
        .collect();
    let mut unexpected = Vec::new();
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
        rounds: job.done,
        operations: job.operations,
        boots: job.boots,
        promises,
        unexpected,
    }
}
