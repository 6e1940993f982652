//! Worlds for the tests of this crate, written out in Rust: the crate reads no scenario file.

// Not every test asks for all of it.
#![allow(dead_code)]

use struct_ops_model::world::{
    Body, Called, CgroupDecl, CpuDecl, MAX_MEMBERS, MapDecl, Member, OpKind, Operation, Plan,
    ProgDecl, ProgType, StructOpsType, Subsystem, World,
};
use struct_ops_model::{Action, Kernel, Machine, Report};

/// A world of one subsystem whose type has one required member; each map is `(BPF_F_LINK, name, has the member)` and
/// has a program of its own.
pub fn world(subsystem: Subsystem, maps: &[(bool, u8, bool)], cpus: Vec<Plan>) -> World {
    let member = Member {
        name: subsystem.facts().members.first().unwrap_or(&"").to_string(),
        sleepable: false,
        required: true,
        size: 171,
    };
    World {
        types: vec![StructOpsType {
            name: "st".into(),
            subsystem,
            members: vec![member],
            module: false,
        }],
        progs: (0..maps.len())
            .map(|i| ProgDecl {
                name: format!("p{i}"),
                of: ProgType::StructOps { ty: 0, member: 0 },
                body: Body::ReadCookie,
                process: None,
            })
            .collect(),
        maps: maps
            .iter()
            .enumerate()
            .map(|(i, (link, key, filled))| {
                let mut progs = [None; MAX_MEMBERS];
                progs[0] = filled.then_some(i as u8);
                MapDecl {
                    name: format!("m{i}"),
                    ty: 0,
                    link: *link,
                    key: *key,
                    progs: progs.to_vec(),
                    owner_set: false,
                }
            })
            .collect(),
        links: (0..4).map(|i| format!("l{i}")).collect(),
        cookies: vec![0, 0x11, 0x22],
        keys: vec!["a".into(), "b".into()],
        procs: 1,
        cpus: cpus
            .into_iter()
            .map(|plan| CpuDecl { proc: 0, plan })
            .collect(),
        max_links: 3,
        ..World::default()
    }
}

/// The same on the first kernel that has the subsystem, with cgroups where it is attached to them.
pub fn on_its_kernel(mut world: World) -> World {
    let facts = world.types[0].subsystem.facts();
    world.linux = facts.since;
    let cgroup = |name: &str, parent| CgroupDecl {
        name: name.into(),
        parent,
    };
    if facts.called == Called::ThroughCgroups {
        world.cgroups = vec![cgroup("c", None), cgroup("d", Some(0))];
    }
    world
}

/// What must be there before a map of the subsystem is attached: the rings of these numbers.
pub fn rings(subsystem: Subsystem, keys: &[u8]) -> Vec<Operation> {
    let keys = match subsystem {
        Subsystem::IoUring => keys,
        _ => &[],
    };
    keys.iter()
        .map(|key| Operation::RingSetup { key: *key })
        .collect()
}

/// Two link maps and a plain one, CPUs that are free to do anything, and an allocation that may fail.
pub fn free(subsystem: Subsystem, cpus: usize) -> World {
    let maps = [(true, 0, true), (true, 0, true), (false, 1, true)];
    let mut world = on_its_kernel(world(subsystem, &maps, Vec::new()));
    let kinds: Vec<OpKind> = OpKind::drawn(&world).collect();
    let plan = Plan::Free { kinds, budget: 8 };
    world.cpus = vec![CpuDecl { proc: 0, plan }; cpus];
    world.alloc_failures = 1;
    world
}

/// Every state on the way that `choices` take, as long as it has a meaning.
pub fn walk(machine: &Machine, choices: impl IntoIterator<Item = u16>) -> Vec<Kernel> {
    let mut k = machine.initial();
    let mut states = vec![k];
    let mut actions: Vec<Action> = Vec::new();
    for choice in choices {
        actions.clear();
        machine.enabled(&k, &mut actions);
        if actions.is_empty() {
            break;
        }
        let mut report = Report::default();
        let action = actions[usize::from(choice) % actions.len()];
        machine.apply(&mut k, action, &mut report, None);
        if report.overflow {
            break;
        }
        states.push(k);
    }
    states
}
