//! The matrix: one row per invariant, one column per design, over all scenarios.
//!
//! Invariants are rows because they are many and designs few: their whole ids fit.

use std::fmt::Write;

use struct_ops_model::{Design, Invariant};

use super::text::{WIDTH, plural, short_count};
use crate::verdict::{Results, Verdict};

const GAP: &str = "  ";

/// A table with designs as columns; broken into several where it would be too wide.
fn table(results: &Results, cell: impl Fn(&Design, Invariant) -> String) -> String {
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
    let mut rest = results.designs.as_slice();
    while !rest.is_empty() {
        let mut used = label;
        let fit = rest.iter().take_while(|d| {
            used += GAP.len() + width(d);
            used <= WIDTH
        });
        let (part, after) = rest.split_at(fit.count().max(1));
        rest = after;
        let mut line = format!("{:label$}", "");
        for design in part {
            let _ = write!(line, "{GAP}{:width$}", design.name, width = width(design));
        }
        let _ = writeln!(out, "{}", line.trim_end());
        for invariant in &results.invariants {
            let mut line = format!("{:label$}", invariant.id());
            for design in part {
                let _ = write!(
                    line,
                    "{GAP}{:width$}",
                    cell(design, *invariant),
                    width = width(design)
                );
            }
            let _ = writeln!(out, "{}", line.trim_end());
        }
        if !rest.is_empty() {
            out.push('\n');
        }
    }
    out
}

/// The attach path of a design that has mainline's was not explored again.
fn as_mainline(design: &Design, invariant: Invariant) -> bool {
    design.attaches_as_mainline() && !invariant.of_lookups()
}

/// The verdicts over all scenarios.
pub fn verdicts(results: &Results) -> String {
    let mut out = table(results, |design, invariant| {
        let verdict = results.overall(design, invariant);
        match verdict {
            Some(Verdict::Violated) => "VIOLATED".into(),
            Some(Verdict::Incomplete) => "?".into(),
            Some(verdict) => verdict.word().into(),
            None if as_mainline(design, invariant) => "as mainline".into(),
            None => "-".into(),
        }
    });
    let has = |v: Option<Verdict>| {
        results.designs.iter().any(|d| {
            let mut invariants = results
                .invariants
                .iter()
                .filter(|i| v.is_some() || !as_mainline(d, **i));
            invariants.any(|i| results.overall(d, *i) == v)
        })
    };
    let _ = write!(
        out,
        "\nover {}",
        plural(results.scenarios.len(), "scenario")
    );
    if has(Some(Verdict::NotApplicable)) {
        out += " · n/a: the design promises nothing here";
    }
    if has(Some(Verdict::Incomplete)) {
        out += " · ?: not everything was seen";
    }
    if has(None) {
        out += " · -: not run";
    }
    out.push('\n');
    out
}

/// For every verdict that is not a violation: how often the invariant was put to the test.
pub fn witnesses(results: &Results) -> String {
    let table = table(results, |design, invariant| {
        match results.overall(design, invariant) {
            Some(Verdict::Holds | Verdict::Incomplete) => {
                match results
                    .of(design)
                    .map(|r| r.witnesses[invariant as usize])
                    .sum()
                {
                    0 => "never".into(),
                    n => short_count(n),
                }
            }
            Some(Verdict::Violated) => "violated".into(),
            Some(Verdict::NotApplicable) => "n/a".into(),
            None if as_mainline(design, invariant) => "as mainline".into(),
            None => "-".into(),
        }
    });
    let note = if table.contains("never") {
        "\nnever: never exercised, so that its \"holds\" says nothing\n"
    } else {
        ""
    };
    table + note
}
