//! The grace periods that precede the freeing of image pages, one after the other.
//!
//! Who waits for them is in [`super::map_free`] and [`super::attachment`].

use crate::design::{Design, Grace};
use crate::kernel::Stage;

/// The first one that the design waits for; programs that may sleep make a difference.
pub(crate) fn first(design: &Design, sleepable: bool) -> Stage {
    match (sleepable, design.grace) {
        (true, Grace::TasksTraceTasks) => Stage::Tasks,
        (true, Grace::TraceTasks) => Stage::Trace,
        _ => Stage::RcuAndTasks,
    }
}

/// The one that follows.
pub(crate) fn next(stage: Stage) -> Option<Stage> {
    match stage {
        Stage::Tasks => Some(Stage::Trace),
        Stage::Trace => Some(Stage::RcuAndTasks),
        _ => None,
    }
}
