//! What `check` says: the matrix, the counterexamples behind it, differences, bounds and coverage.

use std::fmt::Write;

use struct_ops_model::pc::STEPS;
use struct_ops_model::{Design, Invariant, StepSet};

use super::matrix;
use super::screen::{Mark, Screen};
use super::text::{count, plural, wrap};
use crate::scenario::Expect;
use crate::verdict::{Counterexample, Expected, Place, Results, Run, SetUpFails, Vacuous, Verdict};

/// How much to say beside the verdicts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Detail {
    /// Wall-clock times.
    pub seconds: bool,
    /// Steps that were never taken.
    pub coverage: bool,
}

/// The whole summary.
pub fn summary(screen: &Screen, results: &Results, detail: Detail) -> String {
    let mut out = sizes(screen, results, detail);
    let text = "How often each promise was put to the test (`explain INVARIANT` says by what)";
    out += "\n";
    out += &screen.paragraph(text, 0);
    out += &matrix::exercised(screen, results);
    if detail.coverage {
        out += &coverage(screen, results);
    }
    if results.runs.len() > 1 {
        out += &counterexamples(screen, results);
    }
    out.push('\n');
    out += &matrix::verdicts(screen, results);
    out += &warnings(screen, results);
    out += &set_ups(screen, results);
    out += &bounds(screen, results);
    out += &differences(screen, results);
    out
}

/// What did not happen, so that no verdict speaks of it.
fn warnings(screen: &Screen, results: &Results) -> String {
    let all = results.vacuous().into_iter();
    all.map(|(scenario, what)| {
        screen.paragraph(&format!("warning: {scenario}: {}", vacuous(&what)), 0)
    })
    .collect()
}

/// What did not happen, in words.
pub fn vacuous(what: &Vacuous) -> String {
    let place = |p: &Place| format!("{}, operation {}, `{}`", p.actor, p.position, p.operation);
    match what {
        Vacuous::NotRun(None) => "not run under any of these designs".into(),
        Vacuous::NotRun(Some(why)) => format!("not run under any of these designs: {why}"),
        Vacuous::Nothing => "no operation had an object in any run: nothing was asked".into(),
        Vacuous::NotAsked => "none of the promises chosen is asked of it".into(),
        Vacuous::NeverBegan(p) => format!("{}: never began in any run", place(p)),
        Vacuous::NeverMet(p) => format!("{}: never had its object in any run", place(p)),
    }
}

/// Set-ups that do not work.
fn set_ups(screen: &Screen, results: &Results) -> String {
    let line = |f: &SetUpFails| {
        let (word, why) = (SetUpFails::WORD, &f.why);
        screen.paragraph(
            &format!("{word}: {} under {}: {why}", f.scenario, f.design),
            0,
        )
    };
    results.failed.iter().map(line).collect()
}

/// One line per scenario: states and transitions of all designs together.
fn sizes(screen: &Screen, results: &Results, detail: Detail) -> String {
    // What the numbers take: a longer name stands above its line.
    let numbers = if detail.seconds { 56 } else { 48 };
    let names = results.scenarios.iter().map(|s| s.head().name.len());
    let width = names
        .filter(|width| width + numbers <= screen.width)
        .max()
        .unwrap_or(0)
        .max("scenario".len());
    let mut heading = format!(
        "{:width$}  {:>13} {:>14} {:>5} {:>11}",
        "scenario", "unique states", "transitions", "depth", "bytes/state"
    );
    heading += if detail.seconds { " seconds" } else { "" };
    let mut out = screen.paint(Mark::Head, &heading) + "\n";
    for scenario in &results.scenarios {
        let runs: Vec<&Run> = results
            .runs
            .iter()
            .filter(|r| r.scenario == scenario.head().name)
            .collect();
        if runs.is_empty() {
            continue;
        }
        let states: u64 = runs.iter().map(|r| r.states).sum();
        let bytes: f64 = runs
            .iter()
            .map(|r| r.bytes_per_state * r.states as f64)
            .sum();
        let mut name = scenario.head().name.as_str();
        if name.len() > width {
            let _ = writeln!(out, "{name}");
            name = "";
        }
        let _ = write!(
            out,
            "{name:width$}  {:>13} {:>14} {:>5} {:>11.1}",
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
fn coverage(screen: &Screen, results: &Results) -> String {
    let taken: StepSet = results.runs.iter().flat_map(|r| r.taken.iter()).collect();
    let never: Vec<&str> = STEPS
        .iter()
        .filter(|s| !taken.contains(s.pc))
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
    out += &screen.paragraph(&never.join(" "), 2);
    out
}

fn counterexamples(screen: &Screen, results: &Results) -> String {
    let mut out = String::new();
    for design in &results.designs {
        for invariant in &results.invariants {
            let Some((run, example)) = results.shortest(design, *invariant) else {
                continue;
            };
            let place = place(example);
            let text = format!(
                "{design}: {} is violated {place}, shortest in {}, {}",
                invariant.id(),
                run.scenario,
                plural(example.steps, "step")
            );
            out += &screen.paragraph(&text, 0);
            let _ = writeln!(out, "  {}", command(screen, results, run, *invariant));
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
        .map_or("in the final state".into(), |(name, site)| {
            format!("at {name} in {site}")
        })
}

/// The command that prints the trace.
pub fn command(screen: &Screen, results: &Results, run: &Run, invariant: Invariant) -> String {
    let scenario = results
        .scenarios
        .iter()
        .find(|s| s.head().name == run.scenario);
    let linux = scenario.and_then(|s| s.head().on);
    let scenario = scenario.map_or(run.scenario.as_str(), |s| s.head().argument());
    let mut options = vec![
        ("--design", run.design.name.as_str()),
        ("--scenario", scenario),
    ];
    options.extend(linux.map(|linux| ("--linux", linux.version())));
    options.push(("--invariant", invariant.id()));
    options.extend(results.at.as_deref().map(|at| ("--at", at)));
    screen.command("check", &options)
}

/// What one run broke, before its traces are told; nothing where there is but one to tell.
pub fn overview(screen: &Screen, results: &Results, run: &Run) -> String {
    let broken = results.invariants.iter();
    let broken = broken.filter_map(|i| run.told(*i, results.at.as_deref()));
    let broken: Vec<&Counterexample> = broken.collect();
    if broken.len() < 2 {
        return String::new();
    }
    let mut out = format!(
        "{} under {} violates {}\n\n",
        run.scenario,
        run.design,
        plural(broken.len(), "promise")
    );
    let name = broken.iter().map(|found| found.invariant.id().len()).max();
    let name = name.unwrap_or(0);
    let heading = format!("{:name$}  {:>5}  where it breaks", "promise", "steps");
    out += &screen.paint(Mark::Head, &heading);
    out.push('\n');
    for found in &broken {
        let mut head = format!("{:name$}  {:>5}  ", found.invariant.id(), found.steps);
        let margin = head.len();
        for part in wrap(&place(found), screen.width - margin) {
            let _ = writeln!(out, "{head:margin$}{part}");
            head.clear();
        }
    }
    let text = "A shortest run for each follows; `--invariant NAME` tells one alone.";
    out + "\n" + &screen.paragraph(text, 0) + "\n"
}

fn bounds(screen: &Screen, results: &Results) -> String {
    let mut out = String::new();
    for run in &results.runs {
        if let Some(bound) = run.bound {
            let text = format!(
                "incomplete: {} under {}: {} after {}",
                run.scenario,
                run.design,
                bound.reason(),
                plural(run.states as usize, "state")
            );
            out += &screen.paragraph(&text, 0);
        }
    }
    if !results.skipped.is_empty() {
        let why = results.stopped.map(|bound| format!(": {}", bound.reason()));
        let _ = writeln!(
            out,
            "incomplete: {} not explored at all{}",
            plural(results.skipped.len(), "run"),
            why.unwrap_or_default()
        );
    }
    out
}

fn differences(screen: &Screen, results: &Results) -> String {
    let differences = results.differences();
    let as_said = |f: &&SetUpFails| f.expected == Some(Expect::SetUpFails);
    let works: Vec<&Run> = results.working_set_ups().collect();
    let runs = results.runs.iter().filter(|r| r.expected.is_some()).count();
    let pairs = runs + results.failed.iter().filter(as_said).count();
    let silent = results.runs.len() - runs - works.len();
    let mut out = String::new();
    let different = |scenario: &str, design: &Design, what: &str| {
        let text = format!("DIFFERENT: {scenario} under {design}: {what}");
        let word = screen.paint(Mark::Broken, "DIFFERENT");
        screen.paragraph(&text, 0).replacen("DIFFERENT", &word, 1)
    };
    for f in results.failing_set_ups() {
        let what = format!("expected verdicts, found that the {}", SetUpFails::WORD);
        out += &different(&f.scenario, &f.design, &what);
    }
    for run in &works {
        let what = format!(
            "expected that the {}, found that it works",
            SetUpFails::WORD
        );
        out += &different(&run.scenario, &run.design, &what);
    }
    for (run, invariant) in &differences {
        let what = format!(
            "{} expected {}, found {}",
            invariant.id(),
            run.expected(*invariant).map_or("nothing", Expected::word),
            run.verdict(*invariant).word()
        );
        out += &different(&run.scenario, &run.design, &what);
        if run.verdict(*invariant) == Verdict::Violated {
            let _ = writeln!(out, "  {}", command(screen, results, run, *invariant));
        }
    }
    if !results.differs() && pairs > 0 {
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
        out += &screen.paragraph(&text, 0);
    }
    out
}
