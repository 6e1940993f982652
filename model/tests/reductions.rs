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
tcp_congestion_ops mainline 2569 414
tcp_congestion_ops rfc 3248 593 uaf leak atomic ksyms
tcp_congestion_ops rfc-one-link 3918 904 uaf leak atomic ksyms
tcp_congestion_ops link-owned 30082 532
sched_ext_ops mainline 1277 175
sched_ext_ops rfc 1652 275 leak atomic ksyms
sched_ext_ops rfc-one-link 1742 356 leak ksyms
sched_ext_ops link-owned 7515 194
bpf_testmod_ops mainline 2189 338 1link
bpf_testmod_ops rfc 2830 471 1link uaf leak ksyms
bpf_testmod_ops rfc-one-link 2770 629 uaf leak ksyms
bpf_testmod_ops link-owned 20935 448
st_ops mainline 1179 154
st_ops rfc 1540 252 leak atomic ksyms
st_ops rfc-one-link 1624 327 leak ksyms
st_ops link-owned 7161 168
bpf_testmod_multi_st_ops mainline 1270 166
bpf_testmod_multi_st_ops rfc 1659 267 leak atomic ksyms
bpf_testmod_multi_st_ops rfc-one-link 1693 338 leak ksyms
bpf_testmod_multi_st_ops link-owned 7446 181
hid_bpf_ops mainline 1667 252
hid_bpf_ops rfc 2216 392 leak atomic ksyms
hid_bpf_ops rfc-one-link 1941 429 leak ksyms
hid_bpf_ops link-owned 9010 304
bpf_dummy_ops mainline 342 101
bpf_dummy_ops rfc 342 101
bpf_dummy_ops rfc-one-link 342 101
bpf_dummy_ops link-owned 342 101
bpf_tcp_ops mainline 1331 257 1link
bpf_tcp_ops rfc 2308 508 1link uaf leak ksyms
bpf_tcp_ops rfc-one-link 2418 655 uaf leak ksyms
bpf_tcp_ops link-owned 15269 335
io_uring_bpf_ops mainline 1523 215
io_uring_bpf_ops rfc 2005 350 leak atomic ksyms
io_uring_bpf_ops rfc-one-link 2060 432 leak ksyms
io_uring_bpf_ops link-owned 9803 221
asleep mainline 2201 343 1link
asleep rfc 2842 476 1link uaf leak ksyms
asleep rfc-one-link 2782 635 uaf leak ksyms
asleep link-owned 53165 458
files mainline 4104 811
files rfc 4106 814
files rfc-one-link 4107 862
files link-owned 5855 867
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
