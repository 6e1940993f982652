//! What `check` says: the matrix, the counterexamples behind it, differences, bounds and coverage.

use std::fmt::Write;

use struct_ops_model::Invariant;
use struct_ops_model::pc::STEPS;

use super::matrix;
use super::text::{count, paragraph, plural, wrap};
use crate::verdict::{Counterexample, Expected, Results, Run, Verdict};

/// How much to say beside the verdicts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Detail {
    /// Wall-clock times.
    pub seconds: bool,
    /// Steps that were never taken.
    pub coverage: bool,
}

/// The whole summary.
pub fn summary(results: &Results, detail: Detail) -> String {
    let mut out = sizes(results, detail);
    out += "\nHow often each promise was put to the test (`explain INVARIANT` says by what)\n";
    out += &matrix::exercised(results);
    if detail.coverage {
        out += &coverage(results);
    }
    if results.runs.len() > 1 {
        out += &counterexamples(results);
    }
    out.push('\n');
    out += &matrix::verdicts(results);
    out += &bounds(results);
    out += &differences(results);
    out
}

/// One line per scenario: states and transitions of all designs together.
fn sizes(results: &Results, detail: Detail) -> String {
    let width = results
        .scenarios
        .iter()
        .map(|s| s.name().len())
        .max()
        .unwrap_or(0)
        .max("scenario".len());
    let mut out = format!(
        "{:width$}  {:>13} {:>14} {:>5} {:>11}",
        "scenario", "unique states", "transitions", "depth", "bytes/state"
    );
    out += if detail.seconds { " seconds\n" } else { "\n" };
    for scenario in &results.scenarios {
        let runs: Vec<&Run> = results
            .runs
            .iter()
            .filter(|r| r.scenario == scenario.name())
            .collect();
        if runs.is_empty() {
            continue;
        }
        let states: u64 = runs.iter().map(|r| r.states).sum();
        let bytes: f64 = runs
            .iter()
            .map(|r| r.bytes_per_state * r.states as f64)
            .sum();
        let _ = write!(
            out,
            "{:width$}  {:>13} {:>14} {:>5} {:>11.1}",
            scenario.name(),
            count(states),
            count(runs.iter().map(|r| r.transitions).sum()),
            runs.iter().map(|r| r.depth).max().unwrap_or(0),
            bytes / states.max(1) as f64,
        );
        if detail.seconds {
            let _ = write!(out, " {:>7.2}", runs.iter().map(|r| r.seconds).sum::<f64>());
        }
        out.push('\n');
    }
    out
}

/// One run in one line.
pub fn line(run: &Run, invariants: &[Invariant]) -> String {
    let asked = || invariants.iter().copied().filter(|i| run.asks(*i));
    let those = |verdict| asked().filter(move |i| run.verdict(*i) == verdict);
    let mut said = Vec::new();
    let violated: Vec<&str> = those(Verdict::Violated).map(Invariant::id).collect();
    if !violated.is_empty() {
        said.push(format!("violated: {}", violated.join(", ")));
    }
    match those(Verdict::Holds).count() {
        0 => {}
        1 => said.push("1 promise holds".into()),
        n => said.push(format!("{n} promises hold")),
    }
    match those(Verdict::NeverExercised).count() {
        0 => {}
        n => said.push(format!("{n} {}", Verdict::NeverExercised.word())),
    }
    if run.bound.is_some() {
        said.push(Verdict::Incomplete.word().into());
    }
    format!(
        "{} under {}: {} states; {}",
        run.scenario,
        run.design,
        count(run.states),
        said.join("; ")
    )
}

/// Steps that nothing has taken: what no verdict speaks of.
fn coverage(results: &Results) -> String {
    let taken = results.runs.iter().fold(0u128, |all, r| all | r.taken);
    let never: Vec<&str> = STEPS
        .iter()
        .filter(|s| taken & (1 << s.pc as u32) == 0)
        .map(|s| s.name)
        .collect();
    if never.is_empty() {
        return format!("\nEvery one of the {} steps was taken.\n", STEPS.len());
    }
    let mut out = format!(
        "\nNever taken: {} of {} steps (`explain STEP`)\n",
        never.len(),
        STEPS.len()
    );
    out += &paragraph(&never.join(" "), 2);
    out
}

fn counterexamples(results: &Results) -> String {
    let mut out = String::new();
    for design in &results.designs {
        for invariant in &results.invariants {
            let Some((run, example)) = results.shortest(design, *invariant) else {
                continue;
            };
            let place = place(example);
            let _ = writeln!(
                out,
                "{design}: {} is violated {place}, shortest in {}, {}",
                invariant.id(),
                run.scenario,
                plural(example.steps, "step")
            );
            let _ = writeln!(out, "  {}", command(results, run, *invariant));
        }
    }
    if !out.is_empty() {
        out.insert_str(0, "\nCounterexamples, and the command that prints each\n");
    }
    out
}

/// Where it broke.
pub fn place(example: &Counterexample) -> String {
    example
        .place
        .map_or("in the final state".into(), |(name, function)| {
            format!("at {name} in {function}")
        })
}

/// The command that prints the trace.
pub fn command(results: &Results, run: &Run, invariant: Invariant) -> String {
    let scenario = results.scenarios.iter().find(|s| s.name() == run.scenario);
    let scenario = scenario.map_or(run.scenario.as_str(), |s| s.argument());
    format!(
        "struct-ops-sim check --design {} --scenario {} --invariant {}",
        quote(&run.design.name),
        quote(scenario),
        invariant.id()
    )
}

/// A word for a shell.
pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./,=+:@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_string()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn bounds(results: &Results) -> String {
    let mut out = String::new();
    for run in &results.runs {
        if let Some(bound) = run.bound {
            let _ = writeln!(
                out,
                "incomplete: {} under {}: {} after {} states",
                run.scenario,
                run.design,
                bound.reason(),
                count(run.states)
            );
        }
    }
    if !results.skipped.is_empty() {
        let _ = writeln!(
            out,
            "incomplete: {} not explored at all",
            plural(results.skipped.len(), "run")
        );
    }
    out
}

fn differences(results: &Results) -> String {
    let differences = results.differences();
    let pairs = results.runs.iter().filter(|r| r.expected.is_some()).count();
    let silent = results.runs.len() - pairs;
    let mut out = String::new();
    for (run, invariant) in &differences {
        let expected = run.expected(*invariant).map_or("nothing", Expected::word);
        let _ = writeln!(
            out,
            "DIFFERENT: {} under {}: {} expected {expected}, found {}",
            run.scenario,
            run.design,
            invariant.id(),
            run.verdict(*invariant).word()
        );
        if run.verdict(*invariant) == Verdict::Violated {
            let _ = writeln!(out, "  {}", command(results, run, *invariant));
        }
    }
    if differences.is_empty() && pairs > 0 {
        let also = if results.incomplete() {
            " as far as was seen"
        } else {
            ""
        };
        let _ = writeln!(
            out,
            "as expected{also}: {} with an expectation",
            plural(pairs, "run")
        );
    }
    if silent > 0 {
        let text = format!(
            "{} without one: verdicts are only shown",
            plural(silent, "run")
        );
        let _ = writeln!(out, "{}", wrap(&text, 80).join("\n"));
    }
    out
}
