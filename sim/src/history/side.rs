//! A history beside the run of the model that explains it, or beside the nearest one.
//!
//! Not the table for people: `report::history` prints it.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use struct_ops_model::world::{Plan, World};
use struct_ops_model::{Action, Design, Invariant, SetUpError, errno};

use super::{Call, Event, Explainer, Explanation, History, shrink};
use crate::scenario::{Scenario, operation};
use crate::walk::trace;

/// A moment of a history, or a step of the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Row {
    /// What was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<String>,
    /// What the model did, or would have done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

/// What the model says of a history.
#[derive(Clone, Debug)]
pub struct Told {
    /// The scenario's name.
    pub scenario: String,
    /// The design's name.
    pub design: String,
    /// What came of the search.
    pub explanation: Explanation,
    /// How many operations the history has, and how many of them have a part in what is not explained.
    pub calls: (usize, usize),
    /// What was seen, each moment behind the steps that explain it. What no run explains comes last.
    pub rows: Vec<Row>,
}

impl Told {
    /// Looks for a run that explains the history. One that no run explains is made smaller first.
    ///
    /// # Errors
    /// The set-up operation that failed.
    pub fn new(
        scenario: &Scenario,
        design: &Design,
        history: &History,
    ) -> Result<Self, SetUpError> {
        let explainer = Explainer::new(&scenario.world, design)?;
        let explanation = explainer.explain(history);
        let calls = history.calls.len();
        let mut told = Told {
            scenario: scenario.head.name.clone(),
            design: design.name.clone(),
            explanation,
            calls: (calls, calls),
            rows: Vec::new(),
        };
        match &told.explanation {
            Explanation::Beyond(_) => {}
            Explanation::Explained { actions, .. } => {
                told.rows = rows(&explainer, history, actions);
            }
            Explanation::Unexplained { .. } => {
                let (world, shorter) = shrink(&scenario.world, design, history)?;
                let explainer = Explainer::new(&world, design)?;
                told.explanation = explainer.explain(&shorter);
                told.calls.1 = shorter.calls.len();
                if let Explanation::Unexplained {
                    events,
                    allowed,
                    nearest,
                } = &told.explanation
                {
                    told.rows = rows(&explainer, &shorter, nearest);
                    told.rows.push(Row {
                        seen: Some(match shorter.events.get(*events) {
                            Some(event) => moment(&world, &shorter, *event),
                            None => "the kernel dies".into(),
                        }),
                        model: Some(match allowed.as_slice() {
                            [] => "nothing else is possible".into(),
                            allowed => allowed.join(", or "),
                        }),
                    });
                }
            }
        }
        Ok(told)
    }

    /// The promises that every run breaks that explains the history.
    pub fn broke(&self) -> impl Iterator<Item = Invariant> {
        let broke = match &self.explanation {
            Explanation::Explained { broke, .. } => broke.clone(),
            _ => BTreeSet::new(),
        };
        broke.into_iter()
    }

    /// What the model would have allowed instead of what no run explains.
    pub fn allowed(&self) -> &[String] {
        match &self.explanation {
            Explanation::Unexplained { allowed, .. } => allowed,
            _ => &[],
        }
    }
}

/// What was seen, each moment behind the steps that explain it.
fn rows(explainer: &Explainer, history: &History, actions: &[Action]) -> Vec<Row> {
    let machine = explainer.machine();
    let explained = explainer.follow(history, actions);
    // Each of them was enabled when the search took it.
    let steps = trace(machine, actions).map_or_else(|_| Vec::new(), |trace| trace.steps);
    let seen = |from: usize, to: usize| {
        let events = history.events.get(from..to).unwrap_or_default();
        events.iter().map(|event| Row {
            seen: Some(moment(&machine.world, history, *event)),
            model: None,
        })
    };
    let mut rows: Vec<Row> = seen(0, explained[0]).collect();
    for (step, now) in steps.iter().zip(explained.windows(2)) {
        let mut text = format!("{} {}", step.actor.clone(), step.site);
        if !step.event.is_empty() {
            text += &format!(": {}", step.event);
        }
        for violation in &step.broke {
            text += &format!("; BREAKS {}", violation.invariant.id());
        }
        rows.push(Row {
            seen: None,
            model: Some(text),
        });
        rows.extend(seen(now[0], now[1]));
    }
    rows
}

/// A moment in words.
fn moment(world: &World, history: &History, event: Event) -> String {
    let call = &history.calls[event.call()];
    let text = match &world.cpus[usize::from(call.cpu)].plan {
        Plan::Fixed(operations) => operations
            .get(usize::from(call.number))
            .map_or_else(String::new, |o| operation(world, *o)),
        Plan::Free { .. } => String::new(),
    };
    match event {
        Event::Invoke(_) => format!("cpu{} begins {text}", call.cpu),
        Event::Return(_) => format!("cpu{} {text} = {}", call.cpu, returned(world, call)),
    }
}

/// What a call returned, and what was seen meanwhile.
fn returned(world: &World, call: &Call) -> String {
    let result = call.result.map_or("?".into(), |result| {
        i8::try_from(result).map_or_else(|_| result.to_string(), errno::name)
    });
    let reads = call.reads.iter().map(|read| {
        let name = &world.progs[usize::from(read.prog)].name;
        match read.cookie {
            Some(cookie) => format!(", {name} reads {cookie:#x}"),
            None => format!(", {name} runs"),
        }
    });
    let ksyms = call.ksyms.map(|n| format!(", {n} ksyms"));
    result + &reads.chain(ksyms).collect::<String>()
}
