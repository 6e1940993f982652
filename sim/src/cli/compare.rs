//! `compare`: two designs in the same scenarios, and for each difference the two runs aligned.

use struct_ops_model::{Design, Invariant};

use super::args::{Check, Compare, Format};
use super::output::{document, print, screen};
use super::{Exit, Failure, Job, check};
use crate::counterexample::steps;
use crate::report::compare::aligned;
use crate::report::json::{Incomplete, compare as json, steps::Step};
use crate::report::screen::{Mark, Screen};
use crate::report::text::plural;
use crate::report::trace::Row;
use crate::scenario::{Case, InputError};
use crate::trace::Trace;
use crate::verdict::{Results, Run, Verdict};
use crate::walk;

/// Explores the scenarios under both designs.
pub(super) fn compare(
    job: &Job,
    args: &Compare,
    format: Format,
    quiet: bool,
) -> Result<Exit, Failure> {
    let asked = Check {
        design: args.designs.clone(),
        scenario: args.scenario.clone(),
        invariant: args.invariant.clone(),
        limits: args.limits.clone(),
        ..Check::default()
    };
    if super::designs_of("DESIGN", &args.designs)?.len() < 2 {
        return Err(
            InputError::whole("compare", "expected two designs that are not the same").into(),
        );
    }
    let (results, _, explored) = check::explored(job, &asked, false, quiet)?;
    explored?;
    let exit = match results.incomplete() {
        true => Exit::Incomplete,
        false => Exit::Expected,
    };
    let compared = results
        .scenarios
        .iter()
        .filter_map(|case| Compared::new(&results, case))
        .collect::<Vec<_>>();
    if format == Format::Json {
        let body = document_of(&results, &compared)?;
        return document("compare", exit, body);
    }
    print(&text(screen(), &results, &compared)?)?;
    Ok(exit)
}

/// A scenario that was explored under both designs.
struct Compared<'a> {
    case: &'a Case,
    runs: [&'a Run; 2],
}

/// A promise that one of them breaks and the other one does not.
struct Difference {
    invariant: Invariant,
    /// Which of the two breaks it.
    broken: usize,
    run: Trace,
    /// The same schedule under the other one, as far as it can be followed.
    beside: Trace,
    /// Why it cannot be followed any further.
    parted: Option<String>,
}

impl<'a> Compared<'a> {
    fn new(results: &'a Results, case: &'a Case) -> Option<Self> {
        let of = |design: &Design| {
            let mut runs = results.runs.iter();
            runs.find(|r| r.scenario == case.head().name && r.design == *design)
        };
        let [one, other] = results.designs.as_slice() else {
            return None;
        };
        Some(Compared {
            case,
            runs: [of(one)?, of(other)?],
        })
    }

    fn verdicts(&self, invariant: Invariant) -> [Verdict; 2] {
        self.runs.map(|r| r.verdict(invariant))
    }

    /// The promises that one of the designs alone breaks.
    fn differences(&self, results: &Results) -> Result<Vec<Difference>, Failure> {
        let mut differences = Vec::new();
        for invariant in &results.invariants {
            let broken = self.verdicts(*invariant).map(|v| v == Verdict::Violated);
            let which = match broken {
                [true, false] => 0,
                [false, true] => 1,
                _ => continue,
            };
            differences.push(self.difference(*invariant, which)?);
        }
        Ok(differences)
    }

    fn difference(&self, invariant: Invariant, broken: usize) -> Result<Difference, Failure> {
        let run = self.runs[broken];
        let found = run.shortest(invariant).expect("it is broken");
        let other = walk::machine(self.case, &self.runs[1 - broken].design)?;
        let (beside, parted) = other.follow(&found.actions).map_err(Failure::Bug)?;
        Ok(Difference {
            invariant,
            broken,
            run: steps(self.case, &run.design, found).map_err(Failure::Bug)?,
            beside,
            parted: parted.map(|p| p.why),
        })
    }
}

/// Choices that the designs make differently.
fn choices(results: &Results) -> Vec<json::Choice> {
    let [one, other] = results.designs.as_slice() else {
        return Vec::new();
    };
    let (one, other) = (one.values(), other.values());
    let choice = |(a, b): (&(&str, &str), &(&str, &str))| json::Choice {
        key: a.0.to_string(),
        values: [a.1.to_string(), b.1.to_string()],
    };
    let pairs = one.iter().zip(&other).filter(|(a, b)| a.1 != b.1);
    pairs.map(choice).collect()
}

fn document_of(results: &Results, compared: &[Compared<'_>]) -> Result<json::Compare, Failure> {
    let scenario = |compared: &Compared<'_>| -> Result<json::Scenario, Failure> {
        let differences = compared.differences(results)?;
        let of = |trace: &Trace| trace.steps.iter().map(Step::from).collect();
        let difference = |d: &Difference| json::Difference {
            invariant: d.invariant.id().into(),
            broken_by: compared.runs[d.broken].design.name.clone(),
            run: of(&d.run),
            beside: of(&d.beside),
            parted: d.parted.clone(),
        };
        Ok(json::Scenario {
            scenario: compared.case.head().name.clone(),
            verdicts: results
                .invariants
                .iter()
                .map(|i| json::Verdicts {
                    invariant: i.id().into(),
                    verdicts: compared.verdicts(*i),
                })
                .collect(),
            differences: differences.iter().map(difference).collect(),
            incomplete: compared.runs.map(|r| r.bound.map(Incomplete::from)),
        })
    };
    Ok(json::Compare {
        designs: [0, 1].map(|i| results.designs[i].name.clone()),
        choices: choices(results),
        scenarios: compared.iter().map(scenario).collect::<Result<_, _>>()?,
    })
}

fn text(screen: &Screen, results: &Results, compared: &[Compared<'_>]) -> Result<String, Failure> {
    let names = [0, 1].map(|i| results.designs[i].name.as_str());
    let mut out = screen.paragraph(&format!("{} and {}", names[0], names[1]), 0);
    for json::Choice { key, values } in choices(results) {
        out += &screen.paragraph(&format!("{key}: {} | {}", values[0], values[1]), 2);
    }
    let mut same = Vec::new();
    for compared in compared {
        let differs = |i: &&Invariant| compared.verdicts(**i)[0] != compared.verdicts(**i)[1];
        let rows: Vec<&Invariant> = results.invariants.iter().filter(differs).collect();
        if rows.is_empty() {
            same.push(compared.case.head().name.as_str());
            continue;
        }
        out += &table(screen, compared, &rows, names);
        for difference in compared.differences(results)? {
            out += &told(screen, compared, &difference);
        }
    }
    if !same.is_empty() {
        let count = plural(same.len(), "scenario");
        let text = format!(
            "\nThe same verdicts under both in {count}: {}.",
            same.join(", ")
        );
        out += "\n";
        out += &screen.paragraph(text.trim_start(), 0);
    }
    for (scenario, design) in not_run(results) {
        out += &screen.paragraph(&format!("{scenario} is not run under {design}."), 0);
    }
    Ok(out)
}

/// Scenarios that one of the designs alone is run in, and the other one.
fn not_run(results: &Results) -> Vec<(&str, &str)> {
    let missing = results.scenarios.iter().flat_map(|case| {
        let ran = |design: &Design| {
            let mut runs = results.runs.iter();
            runs.any(|r| r.scenario == case.head().name && r.design == *design)
        };
        let designs = results.designs.iter().filter(move |d| !ran(d));
        designs.map(|d| (case.head().name.as_str(), d.name.as_str()))
    });
    missing.collect()
}

fn table(
    screen: &Screen,
    compared: &Compared<'_>,
    rows: &[&Invariant],
    names: [&str; 2],
) -> String {
    let first = rows.iter().map(|i| i.id().len()).max().unwrap_or(0).max(8);
    let second = names[0]
        .len()
        .max(Verdict::NeverExercised.cell().len())
        .max(10);
    let about = format!(
        "{}: {}",
        compared.case.head().name,
        compared.case.head().question
    );
    let mut out = format!(
        "
{}
",
        screen.paragraph(&about, 0)
    );
    let head = format!("{:first$}  {:second$}  {}", "promise", names[0], names[1]);
    out += &(screen.paint(Mark::Head, &head) + "\n");
    for invariant in rows {
        let [one, other] = compared.verdicts(**invariant).map(Verdict::cell);
        out += &format!("{:first$}  {one:second$}  {other}\n", invariant.id());
    }
    out
}

fn told(screen: &Screen, compared: &Compared<'_>, difference: &Difference) -> String {
    let Difference {
        invariant, broken, ..
    } = difference;
    let [breaks, keeps] = [*broken, 1 - broken].map(|i| compared.runs[i].design.name.as_str());
    let mut out = "\n".to_string();
    let text = format!(
        "{} of {}: a shortest run that breaks it under {breaks}, and the same schedule under {keeps} (= is the same).",
        invariant.id(),
        compared.case.head().name
    );
    out += &(screen.paragraph(&text, 0) + "\n");
    let [one, other] = [&difference.run, &difference.beside]
        .map(|trace| trace.steps.iter().map(Row::from).collect::<Vec<_>>());
    let parted = difference.parted.as_deref();
    out += &aligned(screen, [breaks, keeps], &one, &other, parted);
    out
}
