//! Makes a rejected record smaller: what is left still cannot be explained, at the same step.
//!
//! First everything after the point of rejection goes, then whole operations, one after the other, with their place
//! in the plan. The runtime is not run again: threads would not meet in the same way.

use struct_ops_model::Design;
use struct_ops_model::world::{OpKind, Plan};

use super::event::{Actor, Event, Recorded};
use super::validate::{Validator, Verdict};

/// A rejected record.
#[derive(Clone, Debug)]
pub struct Rejected {
    /// What was recorded.
    pub recorded: Recorded,
    /// Why not.
    pub verdict: Verdict,
}

/// Steps that the model refuses, and why: the same ones mean the same rejection.
fn at(events: &[Event], verdict: &Verdict) -> Vec<(Actor, String, String)> {
    let Verdict::Rejected { refused, .. } = verdict else {
        return Vec::new();
    };
    let stuck = refused.iter().filter(|r| !r.blocked);
    stuck
        .filter_map(|r| r.event.map(|e| (&events[e], &r.why)))
        .map(|(e, why)| (e.actor, e.to_string(), why.clone()))
        .collect()
}

/// Shrinks a rejection.
pub fn shrink(rejected: Rejected, design: &Design) -> Rejected {
    let mut small = cut(rejected, design);
    'again: loop {
        for (actor, number) in operations(&small) {
            if let Some(smaller) = without(&small, actor, number)
                && let Some(smaller) = still(&small, smaller, design)
            {
                small = smaller;
                continue 'again;
            }
        }
        return small;
    }
}

/// The candidate, if it is rejected at some of the same steps.
fn still(of: &Rejected, recorded: Recorded, design: &Design) -> Option<Rejected> {
    let validator = Validator::new(&recorded.world, design).ok()?;
    let verdict = validator.validate(&recorded);
    let before = at(&of.recorded.events, &of.verdict);
    let now = at(&recorded.events, &verdict);
    let same = !now.is_empty() && now.iter().all(|stuck| before.contains(stuck));
    same.then_some(Rejected { recorded, verdict })
}

/// Without what comes after the point of rejection.
fn cut(rejected: Rejected, design: &Design) -> Rejected {
    let Verdict::Rejected { order, refused } = &rejected.verdict else {
        return rejected;
    };
    let kept =
        |i: usize| order.iter().any(|e| e.event == i) || refused.iter().any(|r| r.event == Some(i));
    let mut recorded = rejected.recorded.clone();
    let mut i = 0;
    recorded.events.retain(|_| {
        i += 1;
        kept(i - 1)
    });
    still(&rejected, recorded, design).unwrap_or(rejected)
}

/// Operations of plans, later ones first.
fn operations(of: &Rejected) -> Vec<(Actor, usize)> {
    let mut list = Vec::new();
    for (cpu, decl) in of.recorded.world.cpus.iter().enumerate() {
        if let Plan::Fixed(plan) = &decl.plan {
            list.extend((0..plan.len()).map(|n| (Actor::Cpu(cpu as u8), n)));
        }
    }
    list.reverse();
    list
}

/// The record without one operation of a plan.
fn without(of: &Rejected, actor: Actor, number: usize) -> Option<Recorded> {
    let Actor::Cpu(cpu) = actor else { return None };
    let mut recorded = of.recorded.clone();
    let Plan::Fixed(plan) = &mut recorded.world.cpus[usize::from(cpu)].plan else {
        return None;
    };
    plan.remove(number);
    let mut begun = 0;
    recorded.events.retain(|e| {
        if e.actor != actor {
            return true;
        }
        begun += usize::from(e.ask.is_some_and(|a| a.kind != OpKind::Exit));
        begun != number + 1 || e.ask.is_some_and(|a| a.kind == OpKind::Exit)
    });
    Some(recorded)
}
