//! A small world made at random: types, programs, maps, and what each CPU does.
//!
//! Everything comes from quickcheck's [`Gen`], so the seed decides everything. A world made here is one that
//! a scenario file can express. Not here: in which order the CPUs move.

use quickcheck::{Arbitrary, Gen};
use struct_ops_model::world::{
    Body, Called, CgroupDecl, CpuDecl, MapDecl, Member, Operation, Plan, ProgDecl, ProgType,
    StructOpsType, Subsystem,
};
use struct_ops_model::{Linux, World};

use super::prune;
use crate::draw;

/// A number below `n`.
fn below(g: &mut Gen, n: usize) -> usize {
    usize::from(u16::arbitrary(g)) % n
}

fn one_in(g: &mut Gen, n: usize) -> bool {
    below(g, n) == 0
}

/// A world that runs under every design.
pub(super) fn world(g: &mut Gen) -> World {
    let subsystem = Subsystem::ALL[below(g, Subsystem::ALL.len())];
    let kernels: Vec<Linux> = Linux::ALL
        .into_iter()
        .filter(|l| *l >= subsystem.facts().since)
        .collect();
    let mut world = World {
        linux: kernels[below(g, kernels.len())],
        cookies: vec![0, 0x11, 0x22],
        procs: 1,
        alloc_failures: u8::from(one_in(g, 3)),
        max_links: 3,
        ..World::default()
    };
    world.types.push(struct_ops_type(g, subsystem));
    if subsystem.facts().called == Called::ThroughCgroups {
        cgroups(g, &mut world);
    }
    for number in 0..1 + below(g, 2) {
        map(g, &mut world, number);
    }
    let cpus = 2 + below(g, 2);
    if one_in(g, 6) {
        world.procs = 2;
    }
    for cpu in 0..cpus {
        let proc = if cpu > 0 && world.procs == 2 { 1 } else { 0 };
        let count = 1 + below(g, 4);
        let operations = (0..count).filter_map(|_| operation(g, &mut world));
        let operations = operations.collect();
        world.cpus.push(CpuDecl {
            proc,
            plan: Plan::Fixed(operations),
        });
    }
    // Most of what can go wrong needs a map with a value: often it is there from the start.
    if !one_in(g, 4) {
        if world.has_rings() {
            world.setup.push(Operation::RingSetup { key: 0 });
        }
        let refused = subsystem.facts().init_member != 0;
        for (i, decl) in world.maps.iter().enumerate() {
            let map = i as u8;
            world.setup.push(Operation::MapCreate { map });
            if decl.link && !decl.owner_set && world.validates(decl) && !refused {
                world.setup.push(Operation::MapUpdate { map });
            }
        }
    }
    prune::normalised(world)
}

fn struct_ops_type(g: &mut Gen, subsystem: Subsystem) -> StructOpsType {
    let names = subsystem.facts().members;
    let count = 1 + below(g, names.len());
    let members = names.iter().take(count).map(|name| {
        let size = [171, 171, 1400, 4096][below(g, 4)];
        Member {
            name: name.to_string(),
            // What the cgroup layer calls is called under RCU: no program that may sleep is loaded.
            sleepable: subsystem.facts().called != Called::ThroughCgroups && one_in(g, 3),
            required: one_in(g, 4),
            size,
        }
    });
    let members = members.collect();
    StructOpsType {
        name: "ops".to_string(),
        subsystem,
        members,
        module: one_in(g, 4),
    }
}

/// One or two cgroups, beside each other or one below the other.
fn cgroups(g: &mut Gen, world: &mut World) {
    for number in 0..1 + below(g, 2) {
        world.cgroups.push(CgroupDecl {
            name: format!("c{}", number + 1),
            parent: (number > 0 && one_in(g, 2)).then_some(0),
        });
    }
}

fn map(g: &mut Gen, world: &mut World, number: usize) {
    let members = world.types[0].members.clone();
    let mut progs = vec![None; world.types[0].members.len()];
    for (i, member) in members.iter().enumerate() {
        // A required member is rarely left out, another one more often.
        if one_in(g, if member.required { 16 } else { 4 }) {
            continue;
        }
        let other = world.maps.first().and_then(|m| m.progs[i]);
        progs[i] = match other {
            Some(shared) if one_in(g, 3) => Some(shared),
            _ => {
                let body = body(g, world.types[0].subsystem, member.sleepable);
                let name = format!("p{}", world.progs.len() + 1);
                world.progs.push(ProgDecl {
                    name,
                    of: ProgType::StructOps { ty: 0, member: i },
                    body,
                    process: None,
                });
                Some((world.progs.len() - 1) as u8)
            }
        };
    }
    let key = if number > 0 && !one_in(g, 3) {
        world.keys.push(format!("key{}", number + 1));
        number as u8
    } else {
        if number == 0 {
            world.keys.push("key1".to_string());
        }
        0
    };
    world.maps.push(MapDecl {
        name: format!("m{}", number + 1),
        ty: 0,
        // A type that attaches to cgroups has no plain maps.
        link: !one_in(g, 6) || !world.cgroups.is_empty(),
        key,
        progs,
        owner_set: one_in(g, 8),
    });
}

fn body(g: &mut Gen, subsystem: Subsystem, sleepable: bool) -> Body {
    match below(g, 6) {
        0 | 1 if sleepable => Body::Sleep,
        2 if subsystem.facts().called == Called::ThroughSockets => Body::Switch,
        3 => Body::Fail,
        _ => Body::ReadCookie,
    }
}

/// An operation, if the first choices have a target. It may name a link that nobody creates: [`prune::normalised`] drops
/// it.
fn operation(g: &mut Gen, world: &mut World) -> Option<Operation> {
    (0..4).find_map(|_| {
        let kind = draw::kind(world, &mut |n| below(g, n));
        draw::operation(world, kind, &mut |n| below(g, n))
    })
}
