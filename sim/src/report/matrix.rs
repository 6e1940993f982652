//! The matrix: one row per invariant, one column per design, over all scenarios.
//!
//! Invariants are rows because they are many and designs few: their whole ids fit.

use std::fmt::Write;

use struct_ops_model::{Design, Invariant};

use super::screen::{Mark, Screen};
use super::text::{plural, short_count};
use crate::verdict::{Results, Verdict};

const GAP: &str = "  ";

/// The designs with a column of their own: not those that were not run because they attach as mainline does.
fn shown(results: &Results) -> impl Iterator<Item = &Design> {
    let own = |d: &Design, i: Invariant| {
        !results.as_mainline(d, i) && results.overall(d, i) != Verdict::NotApplicable
    };
    let any = |f: &dyn Fn(Invariant) -> bool| results.invariants.iter().any(|i| f(*i));
    results
        .designs
        .iter()
        .filter(move |d| any(&|i| own(d, i)) || !any(&|i| results.as_mainline(d, i)))
}

/// A table with designs as columns; broken into several where it would be too wide.
fn table(
    screen: &Screen,
    results: &Results,
    cell: impl Fn(&Design, Invariant) -> String,
) -> String {
    let label = results
        .invariants
        .iter()
        .map(|i| i.id().len())
        .max()
        .unwrap_or(0);
    let width = |design: &Design| {
        let cells = results.invariants.iter().map(|i| cell(design, *i).len());
        cells.chain([design.name.len()]).max().unwrap_or(0)
    };
    let mut out = String::new();
    let shown: Vec<&Design> = shown(results).collect();
    let mut rest = shown.as_slice();
    while !rest.is_empty() {
        let mut used = label;
        let fit = rest.iter().take_while(|d| {
            used += GAP.len() + width(d);
            used <= screen.width
        });
        let (part, after) = rest.split_at(fit.count().max(1));
        rest = after;
        let mut line = format!("{:label$}", "");
        for design in part {
            let _ = write!(line, "{GAP}{:width$}", design.name, width = width(design));
        }
        let _ = writeln!(out, "{}", screen.paint(Mark::Head, line.trim_end()));
        for invariant in &results.invariants {
            let mut line = format!("{:label$}", invariant.id());
            for design in part {
                let word = cell(design, *invariant);
                let pad = width(design) - word.len();
                let word = match word.as_str() {
                    "VIOLATED" => screen.paint(Mark::Broken, &word),
                    _ => word,
                };
                let _ = write!(line, "{GAP}{word}{:pad$}", "");
            }
            let _ = writeln!(out, "{}", line.trim_end());
        }
        if !rest.is_empty() {
            out.push('\n');
        }
    }
    out
}

/// A cell of a design that was not run because mainline was.
const AS_MAINLINE: &str = "as mainline";

/// The verdicts over all scenarios.
pub fn verdicts(screen: &Screen, results: &Results) -> String {
    let mut out = table(screen, results, |design, invariant| {
        if results.as_mainline(design, invariant) {
            AS_MAINLINE.into()
        } else {
            results.overall(design, invariant).cell().into()
        }
    });
    let mut notes = vec![format!(
        "over {}",
        plural(results.scenarios.len(), "scenario")
    )];
    let faulty: Vec<&str> = results.faulty().map(|c| c.head().name.as_str()).collect();
    if !faulty.is_empty() {
        notes.push(format!(
            "not counted, because what breaks is a mistake of the subsystem: {}",
            faulty.join(", ")
        ));
    }
    let explained = [
        Verdict::NotApplicable,
        Verdict::NeverExercised,
        Verdict::NotAsked,
        Verdict::Incomplete,
    ];
    for verdict in explained {
        let said = |d: &Design| {
            let mut invariants = results.invariants.iter();
            invariants.any(|i| results.overall(d, *i) == verdict && !results.as_mainline(d, *i))
        };
        if shown(results).any(said) {
            let word = if verdict.cell() == verdict.word() {
                String::new()
            } else {
                format!("{}, ", verdict.word())
            };
            notes.push(format!("{}: {word}{}", verdict.cell(), verdict.meaning()));
        }
    }
    let hidden: Vec<&str> = results
        .designs
        .iter()
        .filter(|d| !shown(results).any(|s| s == *d))
        .map(|d| d.name.as_str())
        .collect();
    if !hidden.is_empty() {
        notes.push(format!("{AS_MAINLINE}: {}", hidden.join(", ")));
    }
    out.push('\n');
    for note in &notes {
        out += &screen.paragraph(note, 0);
    }
    out
}

/// For every verdict that is not a violation: how often the invariant was put to the test.
pub fn exercised(screen: &Screen, results: &Results) -> String {
    table(screen, results, |design, invariant| {
        let verdict = results.overall(design, invariant);
        match verdict {
            _ if results.as_mainline(design, invariant) => AS_MAINLINE.into(),
            Verdict::Holds | Verdict::Incomplete | Verdict::NeverExercised => {
                short_count(results.exercised(design, invariant))
            }
            Verdict::Violated | Verdict::NotAsked => verdict.word().into(),
            Verdict::NotApplicable => verdict.cell().into(),
        }
    })
}
