//! A trace as one would paste it into a reply on a mailing list: 72 columns, one column per CPU, no escape sequences.

use std::fmt::Write;

use super::screen::Screen;
use super::text::{columns, wrap};
use super::trace::{Row, sentence};
use crate::trace::{Broken, Trace};

/// Columns of a mail.
pub const WIDTH: usize = 72;
/// Columns of a CPU's text, where there is room for no more.
const COLUMN: usize = 36;
/// Columns of a step's number, and of the space behind it.
const NUMBER: usize = 4;

/// What is told beside the steps.
#[derive(Clone, Debug)]
pub struct Words<'a> {
    /// Before the steps, a paragraph each.
    pub before: Vec<String>,
    /// Below the steps, a paragraph each.
    pub after: Vec<String>,
    /// The command that shows the run again.
    pub command: &'a str,
    /// What each step changes is told, too.
    pub changes: bool,
}

impl<'a> Words<'a> {
    /// What `about` says; without what changes.
    pub fn new(about: String, command: &'a str) -> Self {
        Words {
            before: vec![about],
            after: Vec::new(),
            command,
            changes: false,
        }
    }
}

/// A run, and everything that it breaks.
pub fn of_run(trace: &Trace, words: Words<'_>) -> String {
    of_trace(trace, &trace.distinct(), words)
}

/// A run, and what it breaks of these promises.
pub fn of_trace(trace: &Trace, broken: &[Broken], mut words: Words<'_>) -> String {
    words.before.push(format!(
        "Functions are those of Linux {}.",
        trace.linux.version()
    ));
    let mut after: Vec<String> = broken.iter().map(|b| sentence(trace, *b)).collect();
    if broken.is_empty() {
        after.push("This run breaks nothing.".into());
    }
    words.after.splice(0..0, after);
    let rows: Vec<Row<'_>> = trace.steps.iter().map(Row::from).collect();
    mail(&rows, &words)
}

/// Where the column of each actor begins. Only one acts in a line, so that columns may overlap.
fn starts(actors: usize) -> Vec<usize> {
    let step = match actors {
        0 | 1 => 0,
        _ => COLUMN / (actors - 1),
    };
    (0..actors).map(|i| i * step).collect()
}

/// The actors of a run: CPUs in their order, then whoever else acts.
pub fn actors<'a>(rows: &[Row<'a>]) -> Vec<&'a str> {
    let mut actors: Vec<&str> = Vec::new();
    for row in rows {
        if !actors.contains(&row.actor) {
            actors.push(row.actor);
        }
    }
    actors.sort_by_key(|a| (!a.starts_with("cpu"), *a));
    actors
}

/// The head of a column.
fn head(actor: &str) -> String {
    match actor.strip_prefix("cpu") {
        Some(number) => format!("CPU {number}"),
        None if actor == "work" => "worker".into(),
        None => actor.to_string(),
    }
}

/// The steps: below each function what it does, in the column of who does it.
fn steps(rows: &[Row<'_>], changes: bool) -> String {
    let actors = actors(rows);
    let starts = starts(actors.len());
    let most = if actors.len() < 2 { WIDTH } else { COLUMN };
    let mut out = String::new();
    let mut line = |start: usize, text: &str| {
        // A name that does not fit is moved to the left, not cut.
        let start = start.min(WIDTH.saturating_sub(columns(text)));
        let _ = writeln!(out, "{:start$}{text}", "");
    };
    let mut heads = String::new();
    for (actor, start) in actors.iter().zip(&starts) {
        let pad = start.saturating_sub(heads.len());
        let _ = write!(heads, "{:pad$}{}", "", head(actor));
        heads.push(' ');
    }
    line(0, heads.trim_end());
    line(0, &"-".repeat(WIDTH));
    let mut last = None;
    for row in rows {
        let place = actors.iter().position(|a| *a == row.actor).unwrap_or(0);
        let start = starts[place];
        let site = row.site.to_string();
        let function = match site.starts_with('[') {
            true => site.clone(),
            false => format!("{site}()"),
        };
        if last != Some((place, site.clone())) {
            line(start, &function);
        }
        last = Some((place, site));
        let number = format!("{:>2}", row.number);
        for (i, part) in wrap(row.event, most - NUMBER).iter().enumerate() {
            let number = if i == 0 { number.as_str() } else { "" };
            line(start, &format!("{number:<NUMBER$}{part}"));
        }
        if changes {
            for change in row.changes {
                for (i, part) in wrap(&change.to_string(), most - NUMBER - 2)
                    .iter()
                    .enumerate()
                {
                    let bullet = if i == 0 { "* " } else { "  " };
                    line(start, &format!("{:NUMBER$}{bullet}{part}", ""));
                }
            }
        }
        for id in &row.broke {
            line(start, &format!("{:NUMBER$}!! breaks {id}", ""));
        }
    }
    out
}

fn mail(rows: &[Row<'_>], words: &Words<'_>) -> String {
    let screen = Screen::plain(WIDTH);
    let mut out = String::new();
    for text in &words.before {
        out += &screen.paragraph(text, 0);
        out.push('\n');
    }
    out += &steps(rows, words.changes);
    out.push('\n');
    let mut series: Vec<&str> = rows.iter().filter_map(Row::series).collect();
    series.sort_unstable();
    series.dedup();
    for series in series {
        let text = format!("+ is not in Linux: the patches in kernel-patches/{series} add it.");
        out += &screen.paragraph(&text, 0);
        out.push('\n');
    }
    for text in &words.after {
        out += &screen.paragraph(text, 0);
        out.push('\n');
    }
    let _ = writeln!(out, "To see it again:\n\n  {}", words.command);
    out
}
