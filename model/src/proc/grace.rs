//! The grace periods that precede the freeing of image pages, one after the other.
//!
//! Who waits for them is in [`super::map_free`] and [`super::attachment`].

use crate::design::{Design, Grace};
use crate::kernel::Stage;

/// What a design waits for, in this order.
fn stages(grace: Grace) -> &'static [Stage] {
    use Stage::{Rcu, RcuAndTasks, Srcu, Tasks, Trace};
    match grace {
        Grace::None => &[],
        Grace::Rcu => &[Rcu],
        Grace::Tasks => &[Tasks],
        Grace::Trace => &[Trace],
        Grace::Srcu => &[Srcu],
        Grace::TraceRcu => &[Trace, Rcu],
        Grace::TraceOnlyTasks => &[Trace, Tasks],
        Grace::RcuTasks => &[RcuAndTasks],
        Grace::TraceTasks => &[Trace, RcuAndTasks],
        Grace::TasksTraceTasks => &[Tasks, Trace, RcuAndTasks],
    }
}

/// The first one that the design waits for, if it waits for any. Where no program may sleep, Tasks Trace RCU and what
/// precedes it are left out, unless nothing would be left.
pub(crate) fn first(design: &Design, sleepable: bool) -> Option<Stage> {
    let stages = stages(design.grace);
    let trace = stages.iter().rposition(|s| *s == Stage::Trace);
    let skipped = match trace {
        Some(place) if !sleepable => (place + 1).min(stages.len() - 1),
        _ => 0,
    };
    stages.get(skipped).copied()
}

/// The one that follows.
pub(crate) fn next(design: &Design, over: Stage) -> Option<Stage> {
    let stages = stages(design.grace);
    let place = stages.iter().position(|s| *s == over)?;
    stages.get(place + 1).copied()
}
