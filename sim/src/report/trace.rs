//! A trace as a table: step, CPU, where it is carried out, what happened, and below it what changed.

use std::fmt::Write;

use struct_ops_model::kernel::Stage;
use struct_ops_model::lock::Lock;
use struct_ops_model::place::Site;
use struct_ops_model::{Linux, Wait};

use super::describe::Change;
use super::screen::{Mark, Screen};
use super::text::{columns, plural, wrap};
use crate::trace::{Broken, Step, Trace};

/// Columns for what happened, at least: where they are not left, long function names get a line of their own.
const TEXT: usize = 36;

/// One step as the table shows it.
#[derive(Clone, Debug)]
pub struct Row<'a> {
    /// From 1.
    pub number: usize,
    /// Who acts.
    pub actor: &'a str,
    /// Where it is carried out.
    pub site: Site,
    /// What happened.
    pub event: &'a str,
    /// What is different now.
    pub changes: &'a [Change],
    /// Ids of the invariants that it broke.
    pub broke: Vec<&'static str>,
}

impl<'a> From<&'a Step> for Row<'a> {
    fn from(step: &'a Step) -> Self {
        Row {
            number: step.number,
            actor: &step.actor,
            site: step.site,
            event: step.told(),
            changes: &step.changes,
            broke: step.broke.iter().map(|b| b.invariant.id()).collect(),
        }
    }
}

impl Row<'_> {
    /// The series of patches that adds the function, if Linux does not have it.
    pub fn series(&self) -> Option<&'static str> {
        match self.site {
            Site::Series(series, _) => Some(series),
            _ => None,
        }
    }
}

/// The table of steps.
pub fn table(screen: &Screen, trace: &Trace) -> String {
    rows(
        screen,
        &trace.steps.iter().map(Row::from).collect::<Vec<_>>(),
        trace.linux,
    )
}

/// The table of any steps; functions are those of `linux`.
pub fn rows(screen: &Screen, steps: &[Row<'_>], linux: Linux) -> String {
    let number = steps.len().to_string().len().max("step".len());
    let actor = steps.iter().map(|s| s.actor.len()).max().unwrap_or(3);
    let heading = format!("in Linux {}", linux.version());
    let functions = steps.iter().map(|s| s.site.to_string().len());
    let room = screen.width.saturating_sub(number + actor + 6 + TEXT);
    let fitting = functions.filter(|width| *width <= room).max();
    let function = fitting.unwrap_or(0).max(heading.len());
    let margin = number + actor + function + 6;
    let text = screen.width - margin;
    let mut out = screen.paint(
        Mark::Head,
        &format!(
            "{:>number$}  {:actor$}  {:function$}  what happened, and what changed",
            "step", "cpu", heading
        ),
    );
    out.push('\n');
    for step in steps {
        let mut head = format!(
            "{:>number$}  {:actor$}  {:function$}  ",
            step.number, step.actor, step.site
        );
        if head.trim_end().len() > margin - 2 {
            let _ = writeln!(out, "{}", paint(screen, step, head.trim_end()));
            head.clear();
        }
        let mut line = |mark, body: &str| {
            let head = std::mem::take(&mut head);
            let mut body = body.to_string();
            if let Some(mark) = mark {
                body = screen.paint(mark, &body);
            }
            let pad = margin.saturating_sub(columns(&head));
            let line = format!("{}{:pad$}{body}", paint(screen, step, &head), "");
            let _ = writeln!(out, "{}", line.trim_end());
        };
        for part in wrap(step.event, text) {
            line(None, &part);
        }
        for change in step.changes {
            for (i, part) in wrap(&change.to_string(), text - 4).iter().enumerate() {
                let bullet = if i == 0 { "  * " } else { "    " };
                line(Some(Mark::Detail), &format!("{bullet}{part}"));
            }
        }
        for id in &step.broke {
            line(Some(Mark::Broken), &format!("!! {id} is violated"));
        }
    }
    let mut series: Vec<&str> = steps.iter().filter_map(Row::series).collect();
    series.sort_unstable();
    series.dedup();
    for series in series {
        let text = format!(
            "+ is not in Linux {}: kernel-patches/{series} adds it",
            linux.version()
        );
        let _ = writeln!(out, "{}", screen.paint(Mark::Detail, &text));
    }
    out
}

/// The left part of a row, with its actor in the actor's colour.
fn paint(screen: &Screen, step: &Row<'_>, head: &str) -> String {
    let number = step.actor.trim_start_matches("cpu").parse();
    match number {
        Ok(cpu) => {
            let actor = screen.paint(Mark::Actor(cpu), step.actor);
            head.replacen(step.actor, &actor, 1)
        }
        Err(_) => head.to_string(),
    }
}

/// A set of CPUs, in words.
fn cpus(mask: u8) -> String {
    let cpus: Vec<String> = (0..8)
        .filter(|c| mask & (1 << c) != 0)
        .map(|c| format!("cpu{c}"))
        .collect();
    cpus.join(" and ")
}

/// What a CPU waits for, and for whom; `locks` and `flags` are the names of the scenario's own.
pub fn waits(wait: &Wait, locks: &[String], flags: &[String]) -> String {
    match wait {
        Wait::Lock(lock, holder) => {
            let name = match lock {
                Lock::Own(own) => &locks[usize::from(*own)],
                lock => lock.class().name(),
            };
            format!("{name}, which cpu{holder} holds")
        }
        Wait::Flag(flag) => flags[usize::from(*flag)].clone(),
        Wait::Ring(ring, user) => format!("the file of ring {ring}, which cpu{user} uses"),
        Wait::GracePeriod(gp) if gp.stage == Stage::Srcu => {
            format!("{} to leave SRCU", cpus(gp.rcu))
        }
        Wait::GracePeriod(gp) => {
            let kinds = [
                ("RCU", gp.rcu),
                ("Tasks RCU", gp.tasks),
                ("Tasks Trace RCU", gp.trace),
            ];
            let kinds: Vec<String> = kinds
                .iter()
                .filter(|k| k.1 != 0)
                .map(|(kind, mask)| format!("{} to leave {kind}", cpus(*mask)))
                .collect();
            kinds.join(" and ")
        }
    }
}

/// One sentence on what broke.
pub fn broke(screen: &Screen, trace: &Trace, broken: Broken) -> String {
    screen.paragraph(&sentence(trace, broken), 0)
}

/// The same in one line.
pub fn sentence(trace: &Trace, broken: Broken) -> String {
    let step = trace.step_of(broken);
    let place = match step {
        Some(step) => format!(
            "Step {} ({} in {}) breaks",
            step.number, step.label, step.site
        ),
        None if broken.place.is_some() => format!(
            "Nothing can happen any more: {}. This breaks",
            trace.stuck.join("; ")
        ),
        None => "The final state breaks".into(),
    };
    let Broken { invariant, .. } = broken;
    let text = format!("{place} {}: {}", invariant.id(), invariant.sentence());
    match step.map_or("", |s| &s.event) {
        "" => text,
        event => format!("{text} Here: {event}."),
    }
}

/// Why there is no shorter one.
pub fn minimal(screen: &Screen, steps: usize, transitions: usize) -> String {
    let merged = if steps == transitions {
        String::new()
    } else {
        format!(
            " ({}; those that nobody else can observe count with the one before)",
            plural(steps, "step")
        )
    };
    let text = format!(
        "Minimal: the search is breadth-first, and in this scenario nothing shorter than {}{merged} breaks it at \
         this step.",
        plural(transitions, "transition")
    );
    screen.paragraph(&text, 0)
}
