//! A record and the model side by side: what ran, what the model's step did, and where they part.
//!
//! Not the table for people: `report::side` prints it.

use struct_ops_model::{Machine, Report};

use super::event::{Event, Recorded};
use super::validate::{Explained, Verdict};

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Row {
    /// Stamps before and after the effect.
    pub stamps: (u64, u64),
    /// Who.
    pub actor: String,
    /// The step.
    pub step: &'static str,
    /// What was recorded.
    pub recorded: String,
    /// What the model did, or would have allowed.
    pub model: String,
    /// The model explains this row.
    pub explained: bool,
}

fn row(event: &Event, model: String, explained: bool) -> Row {
    Row {
        stamps: (event.first, event.last),
        actor: event.actor.to_string(),
        step: event.pc.name(),
        recorded: event.seen(),
        model,
        explained,
    }
}

/// The rows of a verdict, in the order that the search found.
pub fn rows(machine: &Machine, recorded: &Recorded, verdict: &Verdict) -> Vec<Row> {
    let events = &recorded.events;
    let (order, refused) = match verdict {
        Verdict::Accepted { order, .. } => (order.as_slice(), &[][..]),
        Verdict::Rejected { order, refused } => (order.as_slice(), refused.as_slice()),
        Verdict::Beyond(_) => (&[][..], &[][..]),
    };
    let mut k = machine.initial();
    let mut rows: Vec<Row> = order
        .iter()
        .map(|Explained { event, action }| {
            let mut said = String::new();
            let mut report = Report::default();
            machine.apply(&mut k, *action, &mut report, Some(&mut said));
            for violation in &report.violations {
                if violation.invariant.applies(&machine.design) {
                    said += &format!("; BREAKS {}", violation.invariant.id());
                }
            }
            row(&events[*event], said.trim_start_matches("; ").into(), true)
        })
        .collect();
    for refused in refused {
        match refused.event {
            Some(event) => rows.push(row(&events[event], refused.why.clone(), false)),
            None => rows.push(Row {
                stamps: (0, 0),
                actor: "end".into(),
                step: "-",
                recorded: format!("left: {}", left(recorded)),
                model: refused.why.clone(),
                explained: false,
            }),
        }
    }
    rows
}

fn left(recorded: &Recorded) -> String {
    if recorded.left.is_empty() {
        "nothing".into()
    } else {
        recorded.left.join(", ")
    }
}
