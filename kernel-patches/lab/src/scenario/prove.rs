//! `prove`: whether the lab sees what it must not overlook.
//!
//! A kernel, or the runner in it, is broken on purpose, in one way at a time, in the first operation of a round that goes
//! well otherwise. Each has a VM of its own, and what the lab says of it is held against what it must say. What breaks
//! is in `vm/tests/scenario.c` (`go_wrong`) and, in the kernel, in `vm/module/lab_ops.c` (`lab_break`).

use std::time::Duration;

use struct_ops_model::Design;
use struct_ops_sim::shipped;

use super::job::{self, Job};
use super::program::{Target, rounds};
use super::symptom::Symptom;
use super::{Outcome, Row, Runtime, judge, predict};
use crate::error::{Error, Result};
use crate::vm::Machine;

/// What the lab must say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Must {
    /// That all is as predicted.
    Pass,
    /// That it has seen this, and no other.
    See(Symptom),
    /// That the runner failed: it is not the kernel's mistake.
    Runner,
}

impl Must {
    fn word(self) -> &'static str {
        match self {
            Must::Pass => "as predicted",
            Must::See(symptom) => symptom.word(),
            Must::Runner => "runner failed",
        }
    }
}

/// The word for the runner, what it does, and what the lab must say.
type Proof = (&'static str, &'static str, Must);

const PROOFS: [Proof; 15] = [
    ("nothing", "nothing is broken", Must::Pass),
    (
        "cookie",
        "links are made with another cookie than the plan says",
        Must::See(Symptom::WrongCookie),
    ),
    (
        "null",
        "the kernel follows a function pointer that is NULL",
        Must::See(Symptom::Crash),
    ),
    (
        "sleep",
        "an operation sleeps in the kernel for ever",
        Must::See(Symptom::Hang),
    ),
    (
        "spin",
        "an operation keeps its CPU for ever, in the kernel",
        Must::See(Symptom::Hang),
    ),
    (
        "stay",
        "a process does not end when its operations are done",
        Must::See(Symptom::Hang),
    ),
    (
        "silence",
        "nobody in the VM says anything any more",
        Must::See(Symptom::Hang),
    ),
    (
        "leak",
        "a process stays, with all descriptors of the round",
        Must::See(Symptom::Left),
    ),
    (
        "result",
        "an operation returns 1",
        Must::See(Symptom::Result),
    ),
    (
        "warn",
        "a warning of the kernel",
        Must::See(Symptom::Complaint),
    ),
    (
        "panic",
        "a panic without an Oops before",
        Must::See(Symptom::Complaint),
    ),
    (
        "power-off",
        "somebody powers the VM off",
        Must::See(Symptom::Lost),
    ),
    (
        "reset",
        "a triple fault resets the VM",
        Must::See(Symptom::Lost),
    ),
    ("die", "the runner is killed in a round", Must::Runner),
    (
        "exit",
        "the runner ends in a round, with status 0",
        Must::Runner,
    ),
];

/// The longest that a VM is silent here if nothing hangs.
const SILENCE: Duration = Duration::from_secs(45);

/// What came of one.
#[derive(Clone, Debug)]
pub struct Proven {
    name: &'static str,
    broken: &'static str,
    must: Must,
    /// What the lab said, in a word and in full.
    said: String,
    seen: String,
    /// It said what it must.
    pub right: bool,
}

/// Breaks one after the other.
///
/// # Errors
/// What is outside of kernel and runner: files, QEMU.
pub fn run(
    machine: &Machine<'_>,
    target: &Target,
    design: &Design,
    verbose: bool,
) -> Result<Vec<Proven>> {
    let machine = &Machine {
        limits: crate::vm::Limits {
            silence: SILENCE,
            ..machine.limits
        },
        ..*machine
    };
    let scenario = shipped::find("two-links-tcp").map_err(|err| Error::Bug(err.to_string()))?;
    let predicted = predict(&scenario, design)?.map_err(Error::Bug)?.verdicts;
    let mut all = Vec::new();
    for (name, broken, must) in PROOFS {
        if name == "cookie" && !target.cookie {
            continue;
        }
        let mut rounds = rounds(&scenario.world, target, 1, 1);
        for round in &mut rounds {
            round.ksyms = false;
            round.broken = (must != Must::Pass).then_some(name);
        }
        let mut jobs = [Job::new(rounds)];
        job::carry_out(machine, target, design, &mut jobs, verbose)?;
        let [job] = jobs;
        let proven = proven((name, broken, must), &job, &predicted, design);
        eprintln!("{name}: {}", proven.said);
        all.push(proven);
    }
    Ok(all)
}

fn proven(
    (name, broken, must): Proof,
    job: &Job,
    predicted: &[(
        struct_ops_model::Invariant,
        struct_ops_sim::verdict::Verdict,
    )],
    design: &Design,
) -> Proven {
    let row = Row {
        scenario: name.into(),
        design: design.name.clone(),
        model: predicted.to_vec(),
        runtime: Runtime::NotAsked,
        outcome: judge(job, predicted),
    };
    let mut symptoms: Vec<Symptom> = job.seen.iter().map(|seen| seen.symptom).collect();
    symptoms.dedup();
    let pass = row.as_predicted();
    let words: Vec<&str> = symptoms.iter().map(|symptom| symptom.word()).collect();
    let seen = job
        .seen
        .first()
        .map_or(String::new(), |seen| seen.what.clone());
    let (said, seen) = match &row.outcome {
        Outcome::Runner(why) => (Must::Runner.word().to_owned(), why.clone()),
        _ if pass => (Must::Pass.word().to_owned(), seen),
        _ => (words.join(", "), seen),
    };
    let right = match must {
        Must::Pass => pass && symptoms.is_empty() && job.explained.rounds == job.rounds.len(),
        Must::See(symptom) => !pass && job.runner.is_none() && symptoms == [symptom],
        Must::Runner => !pass && job.runner.is_some() && symptoms.is_empty(),
    };
    Proven {
        name,
        broken,
        must,
        said,
        seen,
        right,
    }
}

/// For people.
pub fn text(title: &str, all: &[Proven]) -> String {
    let mut out = format!("{title}\n\n");
    for one in all {
        let mark = if one.right {
            ""
        } else {
            "NOT SEEN AS WHAT IT IS: "
        };
        out += &format!(
            "{:<10} {}\n{:<10} must say: {}; {mark}says: {}\n",
            one.name,
            one.broken,
            "",
            one.must.word(),
            one.said
        );
        if !one.seen.is_empty() {
            out += &format!("{:<10} {}\n", "", one.seen);
        }
    }
    let wrong = all.iter().filter(|one| !one.right).count();
    out + &format!(
        "\n{} ways to break it, {wrong} not seen as what they are\n",
        all.len()
    )
}

/// For programs.
pub fn json(title: &str, all: &[Proven]) -> serde_json::Value {
    let one = |one: &Proven| {
        serde_json::json!({
            "name": one.name,
            "broken": one.broken,
            "expected": one.must.word(),
            "said": one.said,
            "seen": one.seen,
            "right": one.right,
        })
    };
    serde_json::json!({
        "schema": 1,
        "verb": "prove",
        "kernel": title,
        "proofs": all.iter().map(one).collect::<Vec<_>>(),
    })
}
