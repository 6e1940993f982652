//! `replay`: the interleaving of a saved counterexample, forced on a booted kernel.
//!
//! `derive` makes moves of the trace's steps, `gates` knows where a thread can be held, the runner in the VM makes the
//! moves, ten times by default, each time from the set-up on. Reproduced is what shows the predicted symptom in nine of
//! ten runs; a run in which somebody did not come to a gate is none, whatever it shows.

pub mod derive;
pub mod gates;

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};
use struct_ops_model::{Design, Invariant, Machine as Model};
use struct_ops_sim::counterexample::Steps;
use struct_ops_sim::scenario::{Case, Scenario};
use struct_ops_sim::tracefile::File;

use crate::error::{At, Error, Result};
use crate::scenario::explain::Unexplained;
use crate::scenario::job::{self, Job};
use crate::scenario::program::{self, Round, Target};
use crate::scenario::symptom::{self, Symptom};
use crate::series::{Base, Series};
use crate::vm::Machine;
use derive::Moves;

/// A saved counterexample.
#[derive(Clone, Debug)]
pub struct Trace {
    /// The file, as it was given.
    pub file: String,
    scenario: Scenario,
    /// The design under which it was found.
    pub design: Design,
    invariant: Invariant,
    actions: Vec<struct_ops_model::Action>,
}

impl Trace {
    /// Reads a file that `check --save-traces` or the explorer has written.
    ///
    /// # Errors
    /// What is wrong with it, or that it is about lookups or breaks nothing.
    pub fn read(path: &str) -> Result<Self> {
        let input = |error: struct_ops_sim::scenario::InputError| Error::Input(error.to_string());
        let text = std::fs::read_to_string(path).at(path)?;
        let file = File::parse(path, &text).map_err(input)?;
        let case = file.case_inside().transpose().map_err(input)?;
        let Some(Case::Attach(scenario)) = case else {
            return Err(Error::Input(format!(
                "{path}: a trace of a lookup: expected one of the attach path"
            )));
        };
        let replayed = file.replay(path, None).map_err(input)?;
        if let Some(why) = &replayed.parted {
            return Err(Error::Input(format!("{path}: {why}")));
        }
        let Steps::Attach(steps) = &replayed.steps else {
            return Err(Error::Bug(format!("{path}: two kinds of steps")));
        };
        let again = replayed.again().into_iter().find_map(|again| again.found);
        let recorded = again.and_then(|promise| Invariant::from_id(&promise.invariant));
        let invariant = recorded.or_else(|| steps.broken().next().map(|(_, v)| v.invariant));
        let invariant = invariant
            .ok_or_else(|| Error::Input(format!("{path}: expected a run that breaks a promise")))?;
        Ok(Trace {
            file: path.to_owned(),
            scenario: *scenario,
            invariant,
            actions: steps.steps.iter().map(|step| step.action).collect(),
            design: replayed.design,
        })
    }

    /// The series whose kernels are what the design stands for.
    ///
    /// # Errors
    /// That there is none.
    pub fn series(&self, base: Base) -> Result<Series> {
        let all = [Series::Stock, Series::Rfc, Series::LinkOwned, Series::Fixes];
        let of = |series: &Series| {
            Design::parse(series.design(base)).is_ok_and(|design| design.name == self.design.name)
        };
        all.into_iter().find(of).ok_or_else(|| {
            Error::Input(format!(
                "{}: no series of patches on {} is design {}: say with --series on which kernel",
                self.file,
                base.name(),
                self.design.name
            ))
        })
    }
}

/// What came of a trace on one kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The predicted symptom, in at least nine of ten runs.
    Reproduced,
    /// The moves were made, and the symptom did not come up often enough.
    NotReproduced,
    /// Somebody did not come where he should be held, and why.
    NotReached(String),
    /// A step that cannot be gated.
    NotGated(String),
    /// A kernel shows no symptom of this promise.
    NotObservable,
    /// The scenario cannot be expressed.
    NotExpressible(String),
    /// The runner failed.
    Runner(String),
}

impl Verdict {
    /// The word in text and JSON.
    pub fn word(&self) -> &'static str {
        match self {
            Verdict::Reproduced => "reproduced",
            Verdict::NotReproduced => "not reproduced",
            Verdict::NotReached(_) => "not reached",
            Verdict::NotGated(_) => "not gated",
            Verdict::NotObservable => "not observable",
            Verdict::NotExpressible(_) => "not expressible",
            Verdict::Runner(_) => "THE RUNNER FAILED",
        }
    }

    /// The reason, if it has one.
    pub fn why(&self) -> Option<&str> {
        match self {
            Verdict::NotReached(why)
            | Verdict::NotGated(why)
            | Verdict::NotExpressible(why)
            | Verdict::Runner(why) => Some(why),
            _ => None,
        }
    }
}

/// One trace on one kernel.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The trace.
    pub file: String,
    scenario: String,
    design: String,
    invariant: Invariant,
    moves: Option<Moves>,
    /// What is said of it.
    pub verdict: Verdict,
    runs: usize,
    hits: usize,
    seen: BTreeMap<Symptom, (usize, String)>,
    told: usize,
    explained: usize,
    open: BTreeMap<String, usize>,
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
    verbose: bool,
) -> Result<Outcome> {
    let mut outcome = Outcome {
        file: trace.file.clone(),
        scenario: trace.scenario.name.clone(),
        design: trace.design.name.clone(),
        invariant: trace.invariant,
        moves: None,
        verdict: Verdict::NotReproduced,
        runs,
        hits: 0,
        seen: BTreeMap::new(),
        told: 0,
        explained: 0,
        open: BTreeMap::new(),
    };
    let mut round = Round {
        world: trace.scenario.world.clone(),
        turns: Vec::new(),
        fail: None,
        seed: 1,
        ksyms: matches!(
            trace.invariant,
            Invariant::KsymsMatchImages | Invariant::FailureAtomic | Invariant::NoLeak
        ),
        moves: Vec::new(),
        broken: None,
    };
    if let Err(why) = program::program(target, &[(0, &round)]) {
        outcome.verdict = Verdict::NotExpressible(why);
        return Ok(outcome);
    }
    if !target.modules {
        outcome.verdict =
            Verdict::NotExpressible("the gates are in a module that was not built for it".into());
        return Ok(outcome);
    }
    let model = Model::new(trace.scenario.world.clone(), trace.design.clone())
        .map_err(|error| Error::Input(format!("{}: {error}", trace.file)))?;
    let moves = match derive::derive(&model, &trace.actions, trace.invariant, target.base) {
        Ok(moves) => moves,
        Err(why) => {
            outcome.verdict = Verdict::NotGated(why);
            return Ok(outcome);
        }
    };
    round.world = moves.world.clone();
    round.moves = moves.moves.iter().map(derive::Move::line).collect();
    let needed = moves.moves.len();
    outcome.moves = Some(moves);
    let mut jobs = vec![Job::new(vec![round]); runs];
    job::carry_out(machine, target, &trace.design, &mut jobs, verbose)?;
    let (mut unmade, mut runner) = (Vec::new(), None);
    for job in &jobs {
        if let Some(why) = &job.runner {
            runner.get_or_insert_with(|| why.clone());
            continue;
        }
        let (begun, failed) = &job.moves;
        if let Some((number, why)) = failed {
            let place = outcome
                .moves
                .as_ref()
                .and_then(|all| all.moves.get(*number));
            let place = place.map_or(String::new(), |place| format!("{place}: "));
            unmade.push(format!("{place}{why}"));
            continue;
        }
        if *begun < needed && job.seen.is_empty() {
            unmade.push(format!("it ended after {begun} of {needed} moves"));
            continue;
        }
        let shows = |symptom: Symptom| symptom.shows(|i| i == trace.invariant).is_some();
        let told = job.explained.broke.contains_key(&trace.invariant);
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
        _ if outcome.hits == 0 && !observable(trace.invariant) => Verdict::NotObservable,
        _ => Verdict::NotReproduced,
    };
    Ok(outcome)
}

/// Some symptom shows it, alone or with others.
fn observable(invariant: Invariant) -> bool {
    Symptom::ALL
        .iter()
        .any(|symptom| symptom.shows(|other| other == invariant).is_some())
}

/// For people: each trace, then how many came to what.
pub fn text(title: &str, outcomes: &[Outcome], brief: bool) -> String {
    let mut out = String::new();
    for outcome in outcomes {
        out += &one(title, outcome, brief);
    }
    if outcomes.len() > 1 {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for outcome in outcomes {
            *counts.entry(outcome.verdict.word()).or_default() += 1;
        }
        let counts: Vec<String> = counts
            .iter()
            .map(|(word, count)| format!("{count} {word}"))
            .collect();
        let _ = writeln!(
            out,
            "\n{title}: {} traces: {}",
            outcomes.len(),
            counts.join(", ")
        );
    }
    out
}

fn one(title: &str, outcome: &Outcome, brief: bool) -> String {
    let mut out = String::new();
    let place = format!("{} {}", outcome.scenario, outcome.invariant.id());
    let why = outcome
        .verdict
        .why()
        .map_or(String::new(), |why| format!(": {why}"));
    let times = match outcome.verdict {
        Verdict::Reproduced | Verdict::NotReproduced => {
            format!(", {} of {} runs", outcome.hits, outcome.runs)
        }
        _ => String::new(),
    };
    let _ = writeln!(
        out,
        "{place} on {title}, design {}: {}{times}{why}",
        outcome.design,
        outcome.verdict.word()
    );
    if brief {
        return out;
    }
    if let Some(moves) = &outcome.moves {
        for step in &moves.moves {
            let _ = writeln!(out, "  {step}");
        }
        if moves.moved > 0 {
            let _ = writeln!(
                out,
                "  {} steps come in another place than in the trace; the model breaks the same promise so",
                moves.moved
            );
        }
        for note in &moves.notes {
            let _ = writeln!(out, "  {note}");
        }
    }
    for (symptom, (count, what)) in &outcome.seen {
        let _ = writeln!(out, "  seen: {count} x {}: {what}", symptom.word());
    }
    if outcome.explained > 0 {
        let _ = writeln!(
            out,
            "  the model explains {} runs, {} of them not without breaking the promise",
            outcome.explained, outcome.told
        );
    }
    for (why, count) in &outcome.open {
        let _ = writeln!(out, "  {count} runs: {why}");
    }
    out.push('\n');
    out
}

/// For programs.
pub fn json(title: &str, outcomes: &[Outcome]) -> Value {
    let one = |outcome: &Outcome| {
        let moves = outcome.moves.iter().flat_map(|moves| &moves.moves);
        let seen: Vec<Value> = outcome
            .seen
            .iter()
            .map(|(symptom, (count, what))| {
                json!({ "symptom": symptom.word(), "count": count, "what": what })
            })
            .collect();
        json!({
            "trace": outcome.file,
            "scenario": outcome.scenario,
            "design": outcome.design,
            "invariant": outcome.invariant.id(),
            "verdict": outcome.verdict.word().to_lowercase(),
            "why": outcome.verdict.why(),
            "runs": outcome.runs,
            "hits": outcome.hits,
            "rounds_unexplained_without": outcome.told,
            "moves": moves.map(ToString::to_string).collect::<Vec<String>>(),
            "steps_moved": outcome.moves.as_ref().map(|moves| moves.moved),
            "notes": outcome.moves.as_ref().map(|moves| moves.notes.clone()),
            "seen": seen,
        })
    };
    json!({ "title": title, "traces": outcomes.iter().map(one).collect::<Vec<Value>>() })
}
