//! A property of one's own, checked in every interleaving: does a link map that is READY ever leave that state?
//!
//! One map, two threads that attach it and detach again. `cargo run -p struct-ops-model --example own_property` prints
//! how many states there are and whether the property holds, under mainline and under the guard that lets a map have one
//! link at a time.

use std::collections::HashSet;

use struct_ops_model::kernel::{Kernel, MapState};
use struct_ops_model::world::{
    Body, CpuDecl, MapDecl, Member, Operation, Plan, ProgDecl, ProgType, StructOpsType, Subsystem,
};
use struct_ops_model::{Design, Machine, Report, World};

/// A tcp congestion control with one member, attached and detached by two threads of one process.
fn world() -> World {
    let thread = |link| CpuDecl {
        proc: 0,
        plan: Plan::Fixed(vec![
            Operation::LinkCreate {
                target: None,
                position: None,
                revision: None,
                map: 0,
                cookie: 0,
                link,
            },
            Operation::LinkDetach { link },
        ]),
    };
    World {
        types: vec![StructOpsType {
            name: "ca".into(),
            subsystem: Subsystem::TcpCong,
            members: vec![Member {
                name: "ssthresh".into(),
                sleepable: false,
                required: true,
                size: 171,
            }],
            module: false,
        }],
        progs: vec![ProgDecl {
            name: "ssthresh".into(),
            of: ProgType::StructOps { ty: 0, member: 0 },
            body: Body::ReadCookie,
            process: None,
        }],
        maps: vec![MapDecl {
            name: "map".into(),
            ty: 0,
            link: true,
            key: 0,
            progs: vec![Some(0)],
            owner_set: false,
        }],
        links: vec!["l1".into(), "l2".into()],
        cookies: vec![0],
        keys: vec!["bpf_cc".into()],
        procs: 1,
        cpus: vec![thread(0), thread(1)],
        setup: vec![
            Operation::MapCreate { map: 0 },
            Operation::MapUpdate { map: 0 },
        ],
        max_links: 2,
        ..World::default()
    }
}

/// Every state that can be reached, and whether `property` holds in all of them.
fn explore(machine: &Machine, property: impl Fn(&Kernel) -> bool) -> (usize, bool) {
    let mut seen = HashSet::from([machine.initial()]);
    let mut todo = vec![machine.initial()];
    let (mut actions, mut report, mut holds) = (Vec::new(), Report::default(), true);
    while let Some(state) = todo.pop() {
        holds &= property(&state);
        actions.clear();
        machine.enabled(&state, &mut actions);
        for action in &actions {
            let mut next = state;
            report.clear();
            machine.apply(&mut next, *action, &mut report, None);
            if seen.insert(next) {
                todo.push(next);
            }
        }
    }
    (seen.len(), holds)
}

fn main() -> Result<(), String> {
    for design in [Design::mainline(), Design::rfc_one_link()] {
        let machine = Machine::new(world(), design)?;
        let (states, holds) = explore(&machine, |k| {
            k.maps.iter().all(|(_, map)| map.state == MapState::Ready)
        });
        println!("{}: {states} states, {holds}", machine.design);
    }
    Ok(())
}
