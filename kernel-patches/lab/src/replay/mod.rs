//! `replay`: the interleaving of a counterexample, forced on a booted kernel.
//!
//! `trace` has the counterexamples, `derive` makes moves of their steps, `gates` knows where a thread can be held, the
//! runner in the VM makes the moves, ten times by default, each time from the set-up on. Reproduced is what shows the
//! predicted symptom in nine of ten runs; a run in which somebody did not come to a gate is none, whatever it shows.

pub mod derive;
pub mod gates;
pub mod report;
pub mod search;
pub mod trace;

use std::collections::BTreeMap;

use struct_ops_model::world::Plan;
use struct_ops_model::{Invariant, Machine as Model, Pc};
use struct_ops_sim::scenario::Scenario;

use crate::error::{Error, Result};
use crate::scenario::explain::Unexplained;
use crate::scenario::job::{self, Job};
use crate::scenario::program::{self, Round, Target};
use crate::scenario::symptom::{self, Symptom};
use crate::vm::{Machine, PROCESSORS};
use derive::{Moves, Needs};
pub use trace::Trace;

/// What came of a trace on one kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The predicted symptom, in at least nine of ten runs.
    Reproduced,
    /// The moves were made, and the symptom did not come up often enough; what came up first, if that ended the kernel.
    NotReproduced(Option<String>),
    /// Somebody did not come where he should be held, and why.
    NotReached(String),
    /// A step that cannot be gated.
    NotGated(String),
    /// A kernel shows no symptom of this promise.
    NotObservable,
    /// The scenario cannot be expressed.
    NotExpressible(String),
    /// Its moves are known, and were not made.
    NotTried,
    /// The runner failed.
    Runner(String),
}

impl Verdict {
    /// The word in text and JSON.
    pub fn word(&self) -> &'static str {
        match self {
            Verdict::Reproduced => "reproduced",
            Verdict::NotReproduced(_) => "not reproduced",
            Verdict::NotReached(_) => "not reached",
            Verdict::NotGated(_) => "not gated",
            Verdict::NotObservable => "not observable",
            Verdict::NotExpressible(_) => "not expressible",
            Verdict::NotTried => "not tried",
            Verdict::Runner(_) => "THE RUNNER FAILED",
        }
    }

    /// Nothing that a kernel should have shown is missing.
    pub fn is_as_predicted(&self) -> bool {
        matches!(
            self,
            Verdict::Reproduced | Verdict::NotObservable | Verdict::NotExpressible(_)
        )
    }

    /// The reason, if it has one.
    pub fn why(&self) -> Option<&str> {
        match self {
            Verdict::NotReached(why)
            | Verdict::NotGated(why)
            | Verdict::NotExpressible(why)
            | Verdict::NotReproduced(Some(why))
            | Verdict::Runner(why) => Some(why),
            _ => None,
        }
    }
}

/// One trace on one kernel.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What the trace is called.
    pub name: String,
    scenario: String,
    design: String,
    invariant: Invariant,
    step: Option<Pc>,
    what: String,
    moves: Option<Moves>,
    /// The trace whose moves are the same, and were made for both.
    with: Option<String>,
    /// What is said of it.
    pub verdict: Verdict,
    runs: usize,
    hits: usize,
    seen: BTreeMap<Symptom, (usize, String)>,
    told: usize,
    explained: usize,
    open: BTreeMap<String, usize>,
}

impl Outcome {
    fn new(trace: &Trace) -> Self {
        Outcome {
            name: trace.name.clone(),
            scenario: trace.scenario.head.name.clone(),
            design: trace.design.name.clone(),
            invariant: trace.invariant,
            step: trace.step,
            what: trace.what(),
            moves: None,
            with: None,
            verdict: Verdict::NotTried,
            runs: 0,
            hits: 0,
            seen: BTreeMap::new(),
            told: 0,
            explained: 0,
            open: BTreeMap::new(),
        }
    }
}

/// Each CPU of a scenario has a plan: what a trace does of it can be carried out again.
pub fn has_plans(scenario: &Scenario) -> bool {
    let mut cpus = scenario.world.cpus.iter();
    cpus.all(|cpu| matches!(cpu.plan, Plan::Fixed(_)))
}

/// What was made on a kernel, by what the runner read: counterexamples of different promises may come to the same moves.
pub type Made = BTreeMap<String, (String, Vec<Job>)>;

/// A round in which a kernel carries a trace out.
///
/// # Errors
/// Why it cannot.
fn round(target: &Target, trace: &Trace) -> std::result::Result<Round, Verdict> {
    let round = Round {
        world: trace.scenario.world.clone(),
        turns: Vec::new(),
        fail: None,
        seed: 1,
        ksyms: matches!(
            trace.invariant,
            Invariant::KsymsMatchImages | Invariant::FailureAtomic | Invariant::NoLeak
        ),
        moves: Vec::new(),
        foreseen: None,
        broken: None,
    };
    program::program(target, &[(0, &round)]).map_err(Verdict::NotExpressible)?;
    if !has_plans(&trace.scenario) {
        let why = "its plans are free: a run of it is no plan of its own";
        return Err(Verdict::NotExpressible(why.into()));
    }
    Ok(round)
}

/// The moves of a trace, and the round that makes them.
fn prepare(target: &Target, trace: &Trace) -> Result<std::result::Result<(Moves, Round), Verdict>> {
    let mut round = match round(target, trace) {
        Ok(round) => round,
        Err(verdict) => return Ok(Err(verdict)),
    };
    let model = Model::new(trace.scenario.world.clone(), trace.design.clone())
        .map_err(|error| Error::Input(format!("{}: {error}", trace.name)))?;
    let broken = (trace.invariant, trace.step);
    let mut moves = match derive::derive(&model, &trace.actions, broken, target.base) {
        Ok(moves) => moves,
        Err(why) => return Ok(Err(Verdict::NotGated(why))),
    };
    if !target.modules {
        if moves.needs() == Needs::Gates {
            let why = "the gates are in a module that was not built for it";
            return Ok(Err(Verdict::NotExpressible(why.into())));
        }
        moves.let_work_come();
    }
    round.world = moves.world.clone();
    round.foreseen = moves.foreseen.filter(|_| {
        let of_cookies = [Invariant::CookieFidelity, Invariant::NoTornPublish];
        target.cookie && of_cookies.contains(&trace.invariant)
    });
    round.moves = moves.moves.iter().map(derive::Move::line).collect();
    Ok(Ok((moves, round)))
}

/// Says which moves there would be.
///
/// # Errors
/// A trace that is none of its scenario.
pub fn plan(target: &Target, trace: &Trace) -> Result<Outcome> {
    let mut outcome = Outcome::new(trace);
    match prepare(target, trace)? {
        Ok((moves, _)) => outcome.moves = Some(moves),
        Err(verdict) => outcome.verdict = verdict,
    }
    Ok(outcome)
}

/// Replays one trace so many times.
///
/// # Errors
/// What is outside of kernel and runner: files, QEMU.
pub fn replay(
    machine: &Machine<'_>,
    target: &Target,
    trace: &Trace,
    runs: usize,
    made: &mut Made,
    verbose: bool,
) -> Result<Outcome> {
    let mut outcome = Outcome::new(trace);
    let (moves, round) = match prepare(target, trace)? {
        Ok(prepared) => prepared,
        Err(verdict) => {
            outcome.verdict = verdict;
            return Ok(outcome);
        }
    };
    let mut text = program::program(target, &[(0, &round)]).map_err(Error::Bug)?;
    text += &format!("{:?}", round.foreseen);
    let moves = &outcome.moves.insert(moves).moves;
    outcome.runs = runs;
    let (first, jobs) = match made.entry(text) {
        std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
        std::collections::btree_map::Entry::Vacant(entry) => {
            // one for each thread; one for who opens the gates if somebody spins in his
            let spins = moves.iter().any(derive::Move::may_spin);
            let processors = PROCESSORS.max(round.world.cpus.len() + usize::from(spins));
            let machine = &Machine {
                processors,
                ..*machine
            };
            let mut jobs = vec![Job::new(vec![round]); runs];
            job::carry_out(machine, target, &trace.design, &mut jobs, verbose)?;
            entry.insert((trace.name.clone(), jobs))
        }
    };
    outcome.with = (*first != trace.name).then(|| first.clone());
    judge(&mut outcome, jobs);
    Ok(outcome)
}

/// Puts what the runs showed beside what the trace breaks.
fn judge(outcome: &mut Outcome, jobs: &[Job]) {
    let runs = jobs.len();
    let (mut unmade, mut runner) = (Vec::new(), None);
    let moves = outcome.moves.as_ref().map_or(&[][..], |all| &all.moves);
    for job in jobs {
        if let Some(why) = &job.runner {
            runner.get_or_insert_with(|| why.clone());
            continue;
        }
        let (begun, failed) = &job.moves;
        if let Some((number, why)) = failed {
            let place = moves.get(*number);
            let place = place.map_or(String::new(), |place| format!("{place}: "));
            unmade.push(format!("{place}{why}"));
            continue;
        }
        if *begun == 0 || *begun < moves.len() && job.seen.is_empty() {
            unmade.push(format!("it ended after {begun} of {} moves", moves.len()));
            continue;
        }
        let shows = |symptom: Symptom| symptom.shows(|i| i == outcome.invariant).is_some();
        let told = job.explained.broke.contains_key(&outcome.invariant);
        outcome.told += usize::from(told);
        outcome.explained += job.explained.rounds;
        for (why, count) in &job.explained.beyond {
            *outcome.open.entry(why.clone()).or_default() += count;
        }
        for Unexplained { why, .. } in &job.explained.unexplained {
            *outcome
                .open
                .entry(format!("UNEXPLAINED: {why}"))
                .or_default() += 1;
        }
        outcome.hits += usize::from(told || job.seen.iter().any(|seen| shows(seen.symptom)));
        for (symptom, (count, what)) in symptom::summary(&job.seen) {
            outcome.seen.entry(symptom).or_insert((0, what)).0 += count;
        }
    }
    outcome.verdict = match (runner, unmade.first()) {
        (Some(why), _) => Verdict::Runner(why),
        _ if 10 * outcome.hits >= 9 * runs => Verdict::Reproduced,
        (_, Some(why)) if 10 * unmade.len() > runs => {
            Verdict::NotReached(format!("{why} ({} of {runs} runs)", unmade.len()))
        }
        _ if outcome.hits == 0 && !observable(outcome.invariant) => Verdict::NotObservable,
        _ => {
            let died = jobs.iter().flat_map(|job| &job.seen);
            let mut died =
                died.filter(|seen| matches!(seen.symptom, Symptom::Crash | Symptom::Hang));
            let why = |seen: &symptom::Seen| format!("the kernel dies before: {}", seen.what);
            Verdict::NotReproduced(died.next().map(why))
        }
    };
}

/// Some symptom shows it, alone or with others.
fn observable(invariant: Invariant) -> bool {
    Symptom::ALL
        .iter()
        .any(|symptom| symptom.shows(|other| other == invariant).is_some())
}
