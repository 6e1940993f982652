//! What `scenario` prints: a table for each scenario and kernel, and one of all kernels side by side.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use struct_ops_model::Invariant;

use super::{Outcome, Row, Runtime, Shown};
use crate::error::{Error, Result};
use struct_ops_sim::verdict::Verdict;

/// All scenarios on one kernel.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Base and series, or the image.
    pub title: String,
    /// What it says of itself.
    pub version: String,
    /// `kvm` or `tcg`.
    pub accel: &'static str,
    /// One a scenario.
    pub rows: Vec<Row>,
}

/// For people.
pub fn text(kernels: &[Kernel], brief: bool) -> String {
    let mut out = String::new();
    for kernel in kernels {
        for row in &kernel.rows {
            if !brief || !row.as_predicted() {
                out += &one(kernel, row);
                out.push('\n');
            }
        }
    }
    if brief {
        let tables: Vec<String> = kernels.iter().map(executions).collect();
        return out + &tables.join("\n");
    }
    let rows: usize = kernels.iter().map(|kernel| kernel.rows.len()).sum();
    if rows > 1 {
        out += &summary(kernels);
    }
    out
}

/// The three executions side by side: a row for each promise that one of them sees broken, then the scenarios of which no
/// promise is, and what a kernel or the runtime cannot carry out.
fn executions(kernel: &Kernel) -> String {
    let mut out = format!(
        "{} (Linux {}, {})\n\n{:<32} {:<20} {:<9} {:<16} kernel\n",
        kernel.title, kernel.version, kernel.accel, "scenario", "promise", "model", "runtime"
    );
    let mut kept = BTreeSet::new();
    let mut reasons: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for row in &kernel.rows {
        let broken = row.broken();
        for (number, invariant) in broken.iter().enumerate() {
            let model = super::of(&row.model, *invariant);
            let line = format!(
                "{:<32} {:<20} {:<9} {:<16} {}",
                if number == 0 { &row.scenario } else { "" },
                invariant.id(),
                model.map_or("", Verdict::word),
                row.runtime.word(*invariant),
                row.kernel(*invariant)
            );
            out += line.trim_end();
            out.push('\n');
        }
        let ran = matches!(row.outcome, Outcome::Ran { .. });
        if broken.is_empty() && ran {
            kept.insert(row.scenario.as_str());
        }
        if let Outcome::Skipped(why) = &row.outcome {
            let of_kernel = reasons.entry(format!("not on the kernel: {why}"));
            of_kernel.or_default().insert(&row.scenario);
        }
        if let Runtime::NotExpressible(why) = &row.runtime {
            let of_runtime = reasons.entry(format!("not in the runtime: {why}"));
            of_runtime.or_default().insert(&row.scenario);
        }
    }
    let kept = (!kept.is_empty()).then(|| ("run, and nothing broken".to_owned(), kept));
    for (what, scenarios) in kept.into_iter().chain(reasons) {
        let scenarios: Vec<&str> = scenarios.into_iter().collect();
        out.push('\n');
        out += &wrapped(&format!("{what}: {}", scenarios.join(", ")));
    }
    out
}

/// The width of a page of the book.
const WIDTH: usize = 100;

/// In lines that are not too long, indented from the second on.
fn wrapped(text: &str) -> String {
    let mut out = String::new();
    let mut width = 0;
    for word in text.split(' ') {
        if width > 0 && width + 1 + word.len() > WIDTH {
            out += "\n ";
            width = 1;
        }
        if width > 0 {
            out.push(' ');
        }
        out += word;
        width += 1 + word.len();
    }
    out + "\n"
}

fn one(kernel: &Kernel, row: &Row) -> String {
    let mut out = format!(
        "{} on {} (Linux {}, {}), design {}\n",
        row.scenario, kernel.title, kernel.version, kernel.accel, row.design
    );
    match &row.outcome {
        Outcome::Skipped(why) => out += &format!("  skipped: {why}\n"),
        Outcome::Runner(why) => out += &format!("  THE RUNNER FAILED: {why}\n"),
        Outcome::Ran {
            rounds,
            operations,
            boots,
            promises,
            explained,
            unexpected,
        } => {
            let boots = if *boots == 1 {
                "1 boot".into()
            } else {
                format!("{boots} boots")
            };
            out += &format!(
                "  {rounds} rounds, {operations} operations, {boots}; the model explains {}{}\n\n",
                explained.rounds,
                beyond(explained)
            );
            out += &format!(
                "  {:<20} {:<15} {:<15} {:<15} seen on the kernel\n",
                "promise", "model", "runtime", "kernel"
            );
            for promise in promises.iter().filter(|p| p.kernel != Shown::NotAsked) {
                let line = format!(
                    "  {:<20} {:<15} {:<15} {:<15}",
                    promise.invariant.id(),
                    promise.model.word(),
                    row.runtime.word(promise.invariant),
                    promise.kernel.word()
                );
                let told = (promise.told > 0)
                    .then(|| format!("no explanation of {} rounds keeps it", promise.told));
                let seen: Vec<String> = promise
                    .seen
                    .iter()
                    .map(|(symptom, count, what)| {
                        let times = if *count == 1 {
                            String::new()
                        } else {
                            format!("{count} x ")
                        };
                        format!("{times}{}: {what}", symptom.word())
                    })
                    .chain(told)
                    .collect();
                out += format!("{line} {}", seen.join("; ")).trim_end();
                out.push('\n');
            }
            for seen in unexpected {
                let round = seen
                    .round
                    .map_or(String::new(), |round| format!(" in round {round}"));
                out += &format!(
                    "\n  UNEXPECTED{round}: {}: {}\n",
                    seen.symptom.word(),
                    seen.what
                );
            }
        }
    }
    out
}

/// Rounds of which nothing is said.
fn beyond(explained: &super::explain::Explained) -> String {
    let parts = explained
        .beyond
        .iter()
        .map(|(why, count)| format!(", says nothing of {count}: {why}"));
    parts.collect()
}

/// In a word: how many promises the model, the runtime and the kernel broke.
fn word(row: &Row) -> String {
    match &row.outcome {
        Outcome::Skipped(_) => "-".into(),
        Outcome::Runner(_) => "RUNNER FAILED".into(),
        Outcome::Ran {
            promises,
            unexpected,
            ..
        } => {
            let model = promises.iter().filter(|p| p.model == Verdict::Violated);
            let runtime = promises.iter().filter(|p| {
                let verdict = row.runtime.verdict(p.invariant);
                verdict == Some(Verdict::Violated)
            });
            let kernel = promises.iter().filter(|p| p.kernel == Shown::Seen);
            let mark = if unexpected.is_empty() {
                ""
            } else {
                " UNEXPECTED"
            };
            let (model, runtime, kernel) = (model.count(), runtime.count(), kernel.count());
            format!("{model} / {runtime} / {kernel}{mark}")
        }
    }
}

fn summary(kernels: &[Kernel]) -> String {
    let mut out = format!("{:<30}", "broken: model/runtime/kernel");
    for kernel in kernels {
        out += &format!(" {:<18}", kernel.title);
    }
    out = out.trim_end().to_owned() + "\n";
    let rows = kernels.first().map_or(0, |kernel| kernel.rows.len());
    for row in 0..rows {
        let mut line = format!("{:<30}", kernels[0].rows[row].scenario);
        for kernel in kernels {
            line += &format!(" {:<18}", word(&kernel.rows[row]));
        }
        out += line.trim_end();
        out.push('\n');
    }
    out
}

/// For programs.
///
/// # Errors
/// JSON that cannot be written.
pub fn json(kernels: &[Kernel]) -> Result<String> {
    let all: Vec<Value> = kernels.iter().map(kernel).collect();
    let all = json!({ "schema": 1, "verb": "scenario", "kernels": all });
    serde_json::to_string_pretty(&all).map_err(|err| Error::Bug(err.to_string()))
}

fn kernel(kernel: &Kernel) -> Value {
    let rows: Vec<Value> = kernel.rows.iter().map(row).collect();
    json!({
        "title": kernel.title,
        "kernel": kernel.version,
        "accel": kernel.accel,
        "scenarios": rows,
    })
}

fn row(row: &Row) -> Value {
    let mut value = match &row.outcome {
        Outcome::Skipped(why) => {
            let promise = |(invariant, model): &(Invariant, Verdict)| {
                json!({
                    "invariant": invariant.id(),
                    "model": model.word(),
                    "runtime": row.runtime.word(*invariant),
                    "kernel": row.kernel(*invariant),
                })
            };
            let promises: Vec<Value> = row.model.iter().map(promise).collect();
            json!({ "outcome": "skipped", "why": why, "promises": promises })
        }
        Outcome::Runner(why) => json!({ "outcome": "runner-failed", "why": why }),
        Outcome::Ran {
            rounds,
            operations,
            boots,
            promises,
            explained,
            unexpected,
        } => {
            let promise = |p: &super::Promise| {
                let seen: Vec<Value> = p
                    .seen
                    .iter()
                    .map(|(symptom, count, what)| {
                        json!({ "symptom": symptom.word(), "count": count, "what": what })
                    })
                    .collect();
                json!({
                    "invariant": p.invariant.id(),
                    "model": p.model.word(),
                    "runtime": row.runtime.word(p.invariant),
                    "kernel": p.kernel.word().to_lowercase(),
                    "seen": seen,
                    "rounds_unexplained_without": p.told,
                })
            };
            let unexpected: Vec<Value> = unexpected
                .iter()
                .map(|seen| {
                    json!({
                        "symptom": seen.symptom.word(),
                        "what": seen.what,
                        "round": seen.round,
                        "invariant": seen.symptom.first().map(Invariant::id),
                    })
                })
                .collect();
            json!({
                "outcome": "ran",
                "rounds": rounds,
                "operations": operations,
                "boots": boots,
                "explained": explained.rounds,
                "not_judged": explained.beyond,
                "unexplained": explained.unexplained.len(),
                "promises": promises.iter().map(promise).collect::<Vec<Value>>(),
                "unexpected": unexpected,
            })
        }
    };
    value["scenario"] = row.scenario.clone().into();
    value["design"] = row.design.clone().into();
    value["as_predicted"] = row.as_predicted().into();
    value
}

#[cfg(test)]
mod tests {
    use super::super::{Promise, Verdicts};
    use super::*;
    use crate::scenario::explain::Explained;

    #[test]
    fn what_some_execution_sees_broken_has_a_row() {
        let verdicts = |broken: &[Invariant]| -> Verdicts {
            let verdict = |invariant: &Invariant| match broken.contains(invariant) {
                true => Verdict::Violated,
                false => Verdict::Holds,
            };
            let all = Invariant::ALL.iter();
            all.map(|invariant| (*invariant, verdict(invariant)))
                .collect()
        };
        let row = |scenario: &str, model: &[Invariant], runtime, outcome| Row {
            scenario: scenario.into(),
            design: "rfc".into(),
            model: verdicts(model),
            runtime,
            outcome,
        };
        let ran = |shown: &[(Invariant, Shown)]| Outcome::Ran {
            rounds: 8,
            operations: 24,
            boots: 1,
            promises: shown
                .iter()
                .map(|(invariant, kernel)| Promise {
                    invariant: *invariant,
                    model: Verdict::Holds,
                    kernel: *kernel,
                    seen: Vec::new(),
                    told: 0,
                })
                .collect(),
            explained: Explained::default(),
            unexpected: Vec::new(),
        };
        let leak = [Invariant::NoLeak];
        let rows = vec![
            row(
                "a",
                &leak,
                Runtime::Ran(verdicts(&[Invariant::NoUseAfterFree])),
                ran(&[
                    (Invariant::NoLeak, Shown::NotSeen),
                    (Invariant::NoUseAfterFree, Shown::Kept),
                    (Invariant::CookieFidelity, Shown::Seen),
                    (Invariant::NoDeadlock, Shown::Kept),
                ]),
            ),
            row("b", &[], Runtime::NotAsked, ran(&[])),
            row(
                "c",
                &leak,
                Runtime::NotExpressible("no rings".into()),
                Outcome::Skipped("no such kernel".into()),
            ),
        ];
        let kernel = Kernel {
            title: "6.12-rfc".into(),
            version: "6.12.117-lab".into(),
            accel: "tcg",
            rows,
        };
        let text = text(&[kernel], true);
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split("  ").map(str::trim).filter(|w| !w.is_empty()))
            .map(Iterator::collect)
            .collect();
        let table = &lines[3..7];
        assert_eq!(
            table[0],
            ["a", "cookie-fidelity", "holds", "holds", "violated"]
        );
        assert_eq!(
            table[1],
            ["no-use-after-free", "holds", "violated", "holds"]
        );
        assert_eq!(table[2], ["no-leak", "violated", "holds", "not seen"]);
        let beyond = [
            "c",
            "no-leak",
            "violated",
            "not expressible",
            "not expressible",
        ];
        assert_eq!(table[3], beyond);
        let rest = "run, and nothing broken: b\n\nnot in the runtime: no rings: c\n\n\
            not on the kernel: no such kernel: c\n";
        assert!(text.ends_with(rest), "{text}");
    }

    #[test]
    fn long_lists_are_wrapped() {
        let text = wrapped(&format!("all: {}", vec!["scenario"; 40].join(", ")));
        assert!(text.lines().all(|line| line.len() <= WIDTH), "{text}");
        assert!(
            text.lines().skip(1).all(|line| line.starts_with("  s")),
            "{text}"
        );
        assert_eq!(text.matches("scenario").count(), 40);
    }
}
