//! What `scenario` prints: a table for each scenario and kernel, and one of all kernels side by side.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use struct_ops_model::Invariant;

use super::{Outcome, Row, Shown};
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
    let rows: usize = kernels.iter().map(|kernel| kernel.rows.len()).sum();
    if brief || rows > 1 {
        out += &summary(kernels);
    }
    if brief {
        out += &skipped(kernels);
    }
    out
}

/// The scenarios that cannot be expressed, and why.
fn skipped(kernels: &[Kernel]) -> String {
    let mut reasons: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for row in kernels.iter().flat_map(|kernel| &kernel.rows) {
        if let Outcome::Skipped(why) = &row.outcome {
            reasons.entry(why).or_default().insert(&row.scenario);
        }
    }
    let mut out = String::new();
    for (why, scenarios) in reasons {
        let scenarios: Vec<&str> = scenarios.into_iter().collect();
        out += &format!("\n- {why}: {}", scenarios.join(", "));
    }
    if !out.is_empty() {
        out.push('\n');
    }
    out
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
                    runtime(row, promise.invariant),
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

fn runtime(row: &Row, invariant: Invariant) -> &'static str {
    let found = row.runtime.iter().find(|(of, _)| *of == invariant);
    found.map_or("not asked", |(_, verdict)| verdict.word())
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
            let runtime = row.runtime.iter().filter(|(_, v)| *v == Verdict::Violated);
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
        Outcome::Skipped(why) => json!({ "outcome": "skipped", "why": why }),
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
                    "runtime": runtime(row, p.invariant),
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
