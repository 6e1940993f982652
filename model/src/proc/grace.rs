//! The grace periods that precede the freeing of image pages, one after the other.
//!
//! Who waits for them is in [`super::map_free`] and [`super::attachment`].

use crate::design::{Design, Grace, Owner};
use crate::kernel::Stage;
use crate::place::Linux;
use crate::world::{MapDecl, World};

/// What bpf_map_put() of 7.4 starts, call_rcu(), and what bpf_struct_ops_map_free() adds for a type that asks for it
/// (`free_after_tasks_rcu_gp`). A design that says nothing else of a map's grace periods has these there.
const SINCE_7_4: [Stage; 2] = [Stage::Rcu, Stage::Tasks];

/// Those of a map: the first one, if there is any.
pub(crate) fn first_of_map(design: &Design, world: &World, decl: &MapDecl) -> Option<Stage> {
    match design.owner {
        _ if of_7_4(design, world) => Some(SINCE_7_4[0]),
        Owner::Map => first(design, world.sleepable(decl)),
        // Its pages have had their own grace periods by then.
        Owner::Link if world.linux >= Linux::V7_4 => Some(Stage::Rcu),
        Owner::Link => Some(Stage::RcuAndTasks),
    }
}

/// Those of a map: the one that follows.
pub(crate) fn next_of_map(
    design: &Design,
    world: &World,
    decl: &MapDecl,
    over: Stage,
) -> Option<Stage> {
    if of_7_4(design, world) {
        let tasks = world.types[decl.ty].subsystem.facts().tasks_rcu && over == SINCE_7_4[0];
        return tasks.then_some(SINCE_7_4[1]);
    }
    next(design, over).filter(|_| design.owner == Owner::Map)
}

/// The map's grace periods are those of the kernel, which is 7.4.
fn of_7_4(design: &Design, world: &World) -> bool {
    world.linux >= Linux::V7_4 && design.owner == Owner::Map && design.grace == Grace::RcuTasks
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{StructOpsType, Subsystem};

    /// The grace periods of a map, one after the other.
    fn of_map(design: &str, linux: Linux, subsystem: Subsystem) -> Vec<Stage> {
        let design = Design::parse(design).unwrap();
        let world = World {
            linux,
            types: vec![StructOpsType {
                name: String::new(),
                subsystem,
                members: Vec::new(),
                module: false,
            }],
            ..World::default()
        };
        let decl = MapDecl {
            name: String::new(),
            ty: 0,
            link: true,
            key: 0,
            progs: Vec::new(),
            owner_set: false,
        };
        let next = |over: &Stage| next_of_map(&design, &world, &decl, *over);
        std::iter::successors(first_of_map(&design, &world, &decl), next).collect()
    }

    #[test]
    fn a_map_waits_as_its_kernel_and_its_type_do() {
        let asks = |s: &&Subsystem| s.facts().tasks_rcu;
        let asking = Subsystem::ALL.iter().find(asks).unwrap();
        let plain = Subsystem::ALL.iter().find(|s| !asks(s)).unwrap();
        for subsystem in [*asking, *plain] {
            for linux in [Linux::V6_12, Linux::V7_3] {
                assert_eq!(of_map("mainline", linux, subsystem), [Stage::RcuAndTasks]);
            }
        }
        // From 7.4 on a type says whether it wants a grace period of Tasks RCU as well.
        let both = [Stage::Rcu, Stage::Tasks];
        assert_eq!(of_map("mainline", Linux::V7_4, *asking), both);
        assert_eq!(of_map("mainline", Linux::V7_4, *plain), both[..1]);
        assert_eq!(
            of_map("mainline,grace=tasks", Linux::V7_4, *plain),
            [Stage::Tasks]
        );
        // The pages of an attachment have had theirs.
        assert_eq!(
            of_map("link-owned", Linux::V7_3, *asking),
            [Stage::RcuAndTasks]
        );
        assert_eq!(of_map("link-owned", Linux::V7_4, *asking), [Stage::Rcu]);
    }
}
