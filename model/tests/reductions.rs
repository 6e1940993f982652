//! Merging steps and exchanging names change no verdict: small worlds, each explored as it is and reduced.
//!
//! All subsystems and all designs that attach in a way of their own; the shipped scenarios are compared by the engine's
//! tests. The counts are pinned: whoever changes a step, the packing or a mover sees it here.

mod common;

use std::collections::{BTreeSet, HashSet};
use std::fmt::Write;

use struct_ops_model::pack::Packing;
use struct_ops_model::world::{Body, Called, CpuDecl, Operation, Plan, Subsystem, World};
use struct_ops_model::{Design, Invariant, Machine, Report};

/// One thread attaches, moves the link to another map and closes it; another one calls, attaches the first map as well
/// and detaches that link.
fn world(subsystem: Subsystem, sleeps: bool) -> World {
    let maps = [(true, 0, true), (true, 0, true)];
    let mut world = common::on_its_kernel(common::world(subsystem, &maps, vec![]));
    let target = (!world.cgroups.is_empty()).then_some(0);
    let create = |map, link, cookie| Operation::LinkCreate {
        target,
        position: None,
        revision: None,
        map,
        cookie,
        link,
    };
    let called = match subsystem.facts().called {
        Called::ThroughSockets => vec![
            Operation::SockOpen { key: 0 },
            Operation::SockCall { sock: 0, member: 0 },
        ],
        Called::ThroughCgroups => vec![Operation::CgroupCall {
            cgroup: 0,
            member: 0,
        }],
        Called::ByTestRun => vec![Operation::TestRun { prog: 0 }],
        _ => vec![Operation::Call {
            entry: 0,
            member: 0,
        }],
    };
    if sleeps {
        world.types[0].members[0].sleepable = true;
        world.progs[1].body = Body::Sleep;
    }
    world.setup = common::rings(subsystem, &[0]);
    world.setup.extend([
        Operation::MapCreate { map: 0 },
        Operation::MapUpdate { map: 0 },
        Operation::MapCreate { map: 1 },
        Operation::MapUpdate { map: 1 },
    ]);
    let mut first = vec![
        create(0, 0, 1),
        Operation::LinkUpdate {
            link: 0,
            map: 1,
            replace: None,
        },
        Operation::LinkClose { link: 0 },
    ];
    if subsystem == Subsystem::Dummy {
        // Its map_update() is refused, which ends a set-up.
        let all = world.setup.into_iter();
        let updates: Vec<_>;
        (updates, world.setup) = all.partition(|o| matches!(o, Operation::MapUpdate { .. }));
        first.splice(..0, updates);
    }
    let mut second = called;
    second.push(create(0, 1, 2));
    second.push(Operation::LinkDetach { link: 1 });
    let cpu = |operations| CpuDecl {
        proc: 0,
        plan: Plan::Fixed(operations),
    };
    world.cpus = vec![cpu(first), cpu(second)];
    world
}

/// Number of states, and what is broken in any of them.
fn explore(machine: &Machine, packing: &Packing) -> (usize, BTreeSet<Invariant>) {
    let packed = |k: &_| {
        let mut bytes = Vec::new();
        packing.pack(k, &mut bytes);
        bytes
    };
    let first = packed(&machine.initial());
    let (mut seen, mut todo) = (HashSet::from([first.clone()]), vec![first]);
    let (mut actions, mut report, mut broken) = (Vec::new(), Report::default(), BTreeSet::new());
    while let Some(bytes) = todo.pop() {
        let k = packing.unpack(&bytes);
        actions.clear();
        machine.enabled(&k, &mut actions);
        report.clear();
        if actions.is_empty() {
            machine.terminal(&k, &mut report);
            broken.extend(report.violations.iter().map(|v| v.invariant));
        }
        for action in &actions {
            let mut next = k;
            report.clear();
            machine.apply(&mut next, *action, &mut report, None);
            assert!(!report.overflow, "{}", machine.design);
            broken.extend(report.violations.iter().map(|v| v.invariant));
            let next = packed(&next);
            if !report.fatal && seen.insert(next.clone()) {
                todo.push(next);
            }
        }
    }
    (seen.len(), broken)
}

/// A link's files: one process creates the link, forks, pins it and closes it; the child finds it by its id and by its
/// pin, has it twice and removes the pin.
fn files() -> World {
    let mut world = world(Subsystem::TcpCong, false);
    world.procs = 2;
    let create = Operation::LinkCreate {
        target: None,
        position: None,
        revision: None,
        map: 0,
        cookie: 1,
        link: 0,
    };
    let parent = vec![
        create,
        Operation::LinkPin { link: 0 },
        Operation::Fork {},
        Operation::LinkClose { link: 0 },
    ];
    let child = vec![
        Operation::LinkGetFdById { link: 0 },
        Operation::LinkDup { link: 0 },
        Operation::LinkUnpin { link: 0 },
    ];
    world.cpus = vec![
        CpuDecl {
            proc: 0,
            plan: Plan::Fixed(parent),
        },
        CpuDecl {
            proc: 1,
            plan: Plan::Fixed(child),
        },
    ];
    world
}

/// What the world is about, the design, states as they are and reduced, and what is broken.
const PINNED: &str = "\
tcp_congestion_ops mainline 3613 517
tcp_congestion_ops rfc 4459 726 uaf leak atomic ksyms
tcp_congestion_ops rfc-one-link 5125 1046 uaf leak atomic ksyms
tcp_congestion_ops link-owned 46934 605
sched_ext_ops mainline 1731 201
sched_ext_ops rfc 2320 328 leak atomic ksyms
sched_ext_ops rfc-one-link 2476 431 leak ksyms
sched_ext_ops link-owned 12075 211
bpf_testmod_ops mainline 2643 364 1link
bpf_testmod_ops rfc 3544 514 1link uaf leak ksyms
bpf_testmod_ops rfc-one-link 3554 681 uaf leak ksyms
bpf_testmod_ops link-owned 31387 466
st_ops mainline 1633 180
st_ops rfc 2208 305 leak atomic ksyms
st_ops rfc-one-link 2358 402 leak ksyms
st_ops link-owned 11721 185
bpf_testmod_multi_st_ops mainline 1724 192
bpf_testmod_multi_st_ops rfc 2327 320 leak atomic ksyms
bpf_testmod_multi_st_ops rfc-one-link 2427 413 leak ksyms
bpf_testmod_multi_st_ops link-owned 12006 198
hid_bpf_ops mainline 2429 359 uaf
hid_bpf_ops rfc 3260 544 uaf leak atomic ksyms
hid_bpf_ops rfc-one-link 2942 591 uaf leak ksyms
hid_bpf_ops link-owned 14751 438 uaf
bpf_dummy_ops mainline 365 106
bpf_dummy_ops rfc 365 106
bpf_dummy_ops rfc-one-link 365 106
bpf_dummy_ops link-owned 365 106
bpf_tcp_ops mainline 1837 291 1link
bpf_tcp_ops rfc 3104 565 1link uaf leak ksyms
bpf_tcp_ops rfc-one-link 3290 721 uaf leak ksyms
bpf_tcp_ops link-owned 26823 358
io_uring_bpf_ops mainline 2623 285
io_uring_bpf_ops rfc 3652 494 leak atomic ksyms
io_uring_bpf_ops rfc-one-link 3863 621 leak ksyms
io_uring_bpf_ops link-owned 21143 266
asleep mainline 2655 369 1link
asleep rfc 3556 519 1link uaf leak ksyms
asleep rfc-one-link 3566 687 uaf leak ksyms
asleep link-owned 92785 475
files mainline 6477 1047
files rfc 6479 1050
files rfc-one-link 6480 1104
files link-owned 9022 1099
";

#[test]
fn reductions_change_no_verdict() {
    let all = Subsystem::ALL.iter();
    let mut worlds: Vec<_> = all.map(|s| (s.facts().name, world(*s, false))).collect();
    // Its unreg() waits for nobody: only grace periods do.
    worlds.push(("asleep", world(Subsystem::Always, true)));
    worlds.push(("files", files()));
    let mut now = String::new();
    for (name, world) in worlds {
        for design in Design::attach_paths() {
            let mut machine = Machine::new(world.clone(), design).expect("the set-up works");
            let (all, broken) = explore(&machine, &Packing::new(&machine.world, false));
            machine.merge = true;
            let (some, still) = explore(&machine, &Packing::new(&machine.world, true));
            assert_eq!(still, broken, "{name} under {}", machine.design);
            write!(now, "{name} {} {all} {some}", machine.design).unwrap();
            for invariant in broken {
                write!(now, " {}", invariant.short()).unwrap();
            }
            now.push('\n');
        }
    }
    assert!(now == PINNED, "the counts of today:\n{now}");
}
