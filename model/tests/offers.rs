//! What a thread with a free plan may begin: each operation with everything that its operands can name, and nothing else.
//!
//! Asked in states in which nobody is inside the kernel: nothing waits for a lock then.

mod common;

use std::collections::HashSet;

use quickcheck::{Arbitrary, Gen};
use struct_ops_model::kernel::{Kernel, ScxState};
use struct_ops_model::operation::{Needs, OpKind, Operand, Which};
use struct_ops_model::world::{Subsystem, World};
use struct_ops_model::{Action, Design, Machine, Pc, Request};

/// What an operand can name, each as a change of the request. There is one process.
fn choices(world: &World, k: &Kernel, operand: Operand) -> Vec<Box<dyn Fn(Request) -> Request>> {
    type Change = Box<dyn Fn(Request) -> Request>;
    let number = |arg: u8| -> Change { Box::new(move |r| Request { arg, ..r }) };
    let is = |which: Which, open: bool, pinned: bool| match which {
        Which::Open => open,
        Which::Unpinned => open && !pinned,
        Which::Pinned => pinned,
        Which::ById => true,
    };
    let nothing = || -> Vec<Change> { vec![Box::new(|r| r)] };
    let numbers = |n: usize| (0..n as u8).map(number).collect::<Vec<_>>();
    match operand {
        Operand::NewMap => {
            let alive: HashSet<u8> = k.maps.iter().map(|(_, m)| m.decl).collect();
            let absent = (0..world.maps.len() as u8).filter(|d| !alive.contains(d));
            absent.map(number).collect()
        }
        Operand::Map(which) => {
            let maps = k.maps.iter();
            let maps = maps.filter(|(_, m)| is(which, m.fds != 0, m.pinned));
            maps.map(|(key, _)| -> Change {
                Box::new(move |r| Request {
                    map: Some(key),
                    ..r
                })
            })
            .collect()
        }
        Operand::Replace => {
            let mut all = nothing();
            for (key, _) in k.maps.iter().filter(|(_, m)| m.fds != 0) {
                all.push(Box::new(move |r| Request {
                    old: Some(key),
                    ..r
                }));
            }
            all
        }
        Operand::Link(which) => {
            let links = k.links.iter();
            let links = links.filter(|(_, l)| is(which, l.fds != 0, l.pinned));
            links
                .map(|(key, _)| -> Change {
                    Box::new(move |r| Request {
                        link: Some(key),
                        ..r
                    })
                })
                .collect()
        }
        Operand::NewLink if k.links.len() < usize::from(world.max_links) => nothing(),
        Operand::NewLink => Vec::new(),
        Operand::Cookie => {
            let cookies = 1..world.cookies.len() as u8;
            let change = |cookie| -> Change { Box::new(move |r| Request { cookie, ..r }) };
            cookies.map(change).collect()
        }
        Operand::Key if k.socks.iter().all(|s| s.kdata.is_some()) => Vec::new(),
        Operand::Key => numbers(world.keys.len()),
        Operand::Socket => {
            let socks = (0u8..).zip(&k.socks);
            let open = socks.filter(|(_, s)| s.kdata.is_some());
            open.map(|(sock, _)| number(sock)).collect()
        }
        Operand::NewRing if k.subsys.rings.iter().all(|r| r.there) => Vec::new(),
        Operand::NewRing => {
            let open = |key: &u8| k.subsys.rings.iter().any(|r| r.fds != 0 && r.key == *key);
            let keys = (0..world.keys.len() as u8).filter(|key| !open(key));
            keys.map(number).collect()
        }
        Operand::Ring => open_rings(k).map(number).collect(),
        Operand::Entry if world.has_rings() => open_rings(k).map(number).collect(),
        Operand::Entry => {
            let scheduler = k.subsys.scx.state == ScxState::Enabled;
            numbers(k.subsys.regs.iter().flatten().count() + usize::from(scheduler))
        }
        Operand::Member => {
            let members = 0..world.types[0].members.len() as u8;
            let change = |member| -> Change { Box::new(move |r| Request { member, ..r }) };
            members.map(change).collect()
        }
        Operand::Program(runs) => {
            let progs = (0u8..).zip(k.progs.iter().zip(&world.progs));
            let open = progs.filter(|(_, (p, decl))| p.fds != 0 && runs.is(decl.of));
            open.map(|(prog, _)| number(prog)).collect()
        }
        Operand::Function => Vec::new(),
        Operand::Cgroup | Operand::Target if !world.cgroups.is_empty() => {
            let cgroups = 1..=world.cgroups.len() as u8;
            let change = |cgroup| -> Change { Box::new(move |r| Request { cgroup, ..r }) };
            cgroups.map(change).collect()
        }
        Operand::Cgroup => Vec::new(),
        Operand::Target | Operand::Position | Operand::Revision => nothing(),
    }
}

fn open_rings(k: &Kernel) -> impl Iterator<Item = u8> {
    let rings = (0u8..).zip(&k.subsys.rings);
    rings.filter(|(_, r)| r.fds != 0).map(|(ring, _)| ring)
}

/// Every request of this kind.
fn wanted(world: &World, k: &Kernel, kind: OpKind) -> HashSet<Request> {
    let needs = kind.info().needs;
    let there = match needs {
        Needs::Scheduler => k.subsys.scx.state == ScxState::Enabled,
        Needs::Module => !k.module.unloaded,
        _ => true,
    };
    let mut all = HashSet::new();
    if there {
        all.insert(Request {
            kind,
            ..Request::default()
        });
    }
    for operand in kind.info().operands {
        let choices = choices(world, k, *operand);
        let each = all.iter().flat_map(|r| choices.iter().map(|c| c(*r)));
        all = each.collect();
    }
    all
}

#[test]
fn a_free_plan_offers_what_there_is() {
    let mut g = Gen::from_size_and_seed(300, 1);
    for subsystem in Subsystem::ALL {
        for design in Design::attach_paths() {
            let mut world = common::free(*subsystem, 2);
            let module = [Subsystem::Always, Subsystem::Singleton];
            world.types[0].module = module.contains(subsystem);
            let kinds: Vec<OpKind> = OpKind::drawn(&world).collect();
            for cpu in &mut world.cpus {
                cpu.plan = struct_ops_model::world::Plan::Free {
                    kinds: kinds.clone(),
                    budget: 30,
                };
            }
            let machine = Machine::new(world, design).expect("there is no set-up");
            let (mut asked, mut enabled) = (0, Vec::new());
            for _ in 0..15 {
                let walk: Vec<u16> = (0..400).map(|_| u16::arbitrary(&mut g)).collect();
                for k in common::walk(&machine, walk) {
                    let idle = k.cpus.iter().all(|c| c.pc == Pc::Idle);
                    if k.dead || !idle || k.procs[0].exiting || k.cpus[0].position >= 30 {
                        continue;
                    }
                    asked += 1;
                    enabled.clear();
                    machine.enabled(&k, &mut enabled);
                    let offered = enabled.iter().filter_map(|action| match action {
                        Action::Begin(0, request) if request.kind != OpKind::Exit => Some(*request),
                        _ => None,
                    });
                    let offered: Vec<Request> = offered.collect();
                    let all: HashSet<Request> = offered.iter().copied().collect();
                    assert_eq!(all.len(), offered.len(), "offered twice: {offered:?}");
                    let each = kinds
                        .iter()
                        .flat_map(|kind| wanted(&machine.world, &k, *kind));
                    let wanted: HashSet<Request> = each.collect();
                    let differ: Vec<&Request> = all.symmetric_difference(&wanted).collect();
                    assert!(differ.is_empty(), "{}: {differ:?}", machine.design);
                }
            }
            assert!(asked > 50, "{asked}");
        }
    }
}
