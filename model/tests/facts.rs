//! Facts of the kernel that no invariant states, asked of the model from outside: for which grace period a program's
//! memory waits, how trampolines fill image pages, what an allocation that fails leaves behind, and which locks a reg()
//! takes under which.

mod common;

use std::collections::HashSet;

use struct_ops_model::design::Owner;
use struct_ops_model::kernel::Kernel;
use struct_ops_model::lock::LockClass;
use struct_ops_model::pack::Packing;
use struct_ops_model::world::{
    Body, Called, CpuDecl, Member, Operation, PAGE_SIZE, Plan, ProgType, Subsystem, World,
};
use struct_ops_model::{Action, Design, Invariant, Machine, Pc, Report, Violation, errno};

/// Every state that is reached as long as nothing breaks, and each step between two of them. What has begun ends.
fn explore(machine: &Machine, mut step: impl FnMut(&Kernel, &Kernel)) {
    let mut seen = HashSet::from([machine.initial()]);
    let mut todo = vec![machine.initial()];
    let (mut actions, mut report) = (Vec::new(), Report::default());
    while let Some(state) = todo.pop() {
        actions.clear();
        machine.enabled(&state, &mut actions);
        if actions.is_empty() {
            report.clear();
            machine.terminal(&state, &mut report);
            let stays = |v: &&Violation| {
                [Invariant::EventualRelease, Invariant::NoDeadlock].contains(&v.invariant)
            };
            let stays = report.violations.iter().find(stays);
            assert_eq!(stays, None, "{}", machine.design);
        }
        for action in &actions {
            let mut next = state;
            report.clear();
            machine.apply(&mut next, *action, &mut report, None);
            step(&state, &next);
            if !report.fatal && !report.overflow && seen.insert(next) {
                todo.push(next);
            }
        }
    }
}

// ---- programs ---------------------------------------------------------------------------------------

/// One process attaches a map, detaches it and closes everything, its program included; another one calls the member.
fn taken_down(subsystem: Subsystem, sleepable: bool) -> World {
    let mut world = common::on_its_kernel(common::world(subsystem, &[(true, 0, true)], vec![]));
    world.types[0].members[0].sleepable = sleepable;
    world.progs[0].body = if sleepable {
        Body::Sleep
    } else {
        Body::ReadCookie
    };
    world.progs[0].process = Some(0);
    world.procs = 2;
    let create = Operation::LinkCreate {
        target: (!world.cgroups.is_empty()).then_some(0),
        position: None,
        revision: None,
        map: 0,
        cookie: 1,
        link: 0,
    };
    world.setup = vec![
        Operation::MapCreate { map: 0 },
        Operation::MapUpdate { map: 0 },
        create,
    ];
    let close = vec![
        Operation::ProgClose { prog: 0 },
        Operation::MapClose { map: 0 },
        Operation::LinkClose { link: 0 },
    ];
    let call = match subsystem.facts().called {
        Called::ThroughCgroups => Operation::CgroupCall {
            cgroup: 0,
            member: 0,
        },
        _ => Operation::Call {
            entry: 0,
            member: 0,
        },
    };
    let cpu = |proc, operations| CpuDecl {
        proc,
        plan: Plan::Fixed(operations),
    };
    world.cpus = vec![cpu(0, close), cpu(1, vec![call])];
    world
}

/// bpf_prog_put(): the memory stays for those who run the program when its last reference goes, for which a program of
/// a sleepable member waits for Tasks Trace RCU and another one for RCU.
#[test]
fn a_program_outlives_those_who_run_it() {
    let cases = [
        (Subsystem::Always, false),
        (Subsystem::Always, true),
        (Subsystem::BpfTcp, false),
    ];
    for preset in Design::attach_paths() {
        // Nothing else waits for anybody.
        let design = Design::parse(&format!("{preset},grace=none")).expect("a mix");
        for (subsystem, sleepable) in cases {
            let world = taken_down(subsystem, sleepable);
            let mut met = 0;
            let machine = Machine::new(world, design.clone()).expect("the set-up works");
            explore(&machine, |before, after| {
                if before.progs[0].refs == 0 || after.progs[0].refs > 0 {
                    return;
                }
                let runs = |cpu: &usize| {
                    let within = [Pc::CallBody, Pc::CallSleep, Pc::CallExit];
                    within.contains(&after.cpus[*cpu].pc)
                };
                for cpu in [0, 1].iter().filter(|cpu| runs(cpu)) {
                    met += 1;
                    let (prog, bit) = (&after.progs[0], 1 << cpu);
                    let waits = match sleepable {
                        true => prog.free.trace & bit,
                        false => prog.free.rcu & bit,
                    };
                    assert!(
                        waits != 0 && !prog.freed,
                        "{design}, {subsystem:?}, sleepable: {sleepable}: {prog:?}"
                    );
                }
            });
            // Where attachments own what is generated the map's own free waits for RCU, whatever else does not.
            let reached = sleepable || design.owner == Owner::Map;
            assert_eq!(
                met > 0,
                reached,
                "{design}, {subsystem:?}, sleepable: {sleepable}"
            );
        }
    }
}

/// What a design waits for is enough for whoever is inside a member when everything is closed.
#[test]
fn a_page_outlives_those_who_run_it() {
    // Mainline does not wait for those who sleep.
    let cases = [
        (Design::mainline(), Subsystem::Always, false),
        (Design::mainline(), Subsystem::BpfTcp, false),
        (Design::link_owned(), Subsystem::Always, false),
        (Design::link_owned(), Subsystem::Always, true),
        (Design::link_owned(), Subsystem::BpfTcp, false),
    ];
    for (design, subsystem, sleepable) in cases {
        let world = taken_down(subsystem, sleepable);
        let machine = Machine::new(world, design.clone()).expect("the set-up works");
        let mut waited = false;
        explore(&machine, |_, after| {
            assert!(
                !after.dead,
                "{design}, {subsystem:?}, sleepable: {sleepable}"
            );
            let calls = after.cpus[1].readers.tasks;
            let maps = after.maps.iter().map(|(_, m)| m.free);
            let mut frees = maps.chain(after.kdatas.iter().map(|(_, d)| d.free));
            waited |= calls && frees.any(|free| !free.elapsed());
        });
        assert!(waited, "{design}, {subsystem:?}, sleepable: {sleepable}");
    }
}

// ---- pages ------------------------------------------------------------------------------------------

/// What each page of a kdata holds, if trampolines of these sizes are put one behind the other and a new page begins
/// where the next one does not fit.
fn pages(sizes: &[u16]) -> Vec<(u16, usize)> {
    let mut pages: Vec<(u16, usize)> = Vec::new();
    for size in sizes {
        match pages.last_mut() {
            Some((fill, n)) if *fill + size <= PAGE_SIZE => {
                *fill += size;
                *n += 1;
            }
            _ => pages.push((*size, 1)),
        }
    }
    pages
}

#[test]
fn a_trampoline_goes_into_the_page_if_it_fits_to_the_last_byte() {
    let half = PAGE_SIZE / 2;
    let all = [
        1,
        171,
        half - 1,
        half,
        half + 1,
        PAGE_SIZE - 171,
        PAGE_SIZE - 1,
        PAGE_SIZE,
    ];
    for design in Design::attach_paths() {
        for sizes in all
            .map(|a| all.map(|b| all.map(|c| [a, b, c])))
            .as_flattened()
            .as_flattened()
        {
            let mut world = common::world(Subsystem::TcpCong, &[(true, 0, true)], vec![]);
            world.types[0].members = (0..)
                .zip(sizes)
                .map(|(i, size)| Member {
                    name: format!("member{i}"),
                    sleepable: false,
                    required: false,
                    size: *size,
                })
                .collect();
            let first = world.progs[0].clone();
            world.progs = (0..sizes.len())
                .map(|member| {
                    let mut prog = first.clone();
                    prog.of = ProgType::StructOps { ty: 0, member };
                    prog
                })
                .collect();
            world.maps[0].progs = vec![Some(0), Some(1), Some(2)];
            world.cpus = vec![CpuDecl {
                proc: 0,
                plan: Plan::Fixed(vec![]),
            }];
            world.setup = vec![
                Operation::MapCreate { map: 0 },
                Operation::MapUpdate { map: 0 },
                Operation::LinkCreate {
                    target: None,
                    position: None,
                    revision: None,
                    map: 0,
                    cookie: 1,
                    link: 0,
                },
            ];
            let k = Machine::new(world, design.clone())
                .expect("it is attached")
                .initial();
            let found: Vec<_> = k
                .images
                .iter()
                .map(|(_, page)| {
                    let used = page.code.iter().filter(|c| c.prog != 0);
                    (page.fill, used.count())
                })
                .collect();
            assert_eq!(found, pages(sizes), "{design}: {sizes:?}");
            assert!(k.images.iter().all(|(_, page)| page.protected), "{design}");
        }
    }
}

// ---- allocations ------------------------------------------------------------------------------------

/// Every way in which an operation can end that nobody else disturbs: its result, and what is left when all deferred
/// work is done.
fn ends(machine: &Machine, k: Kernel, operation: Operation) -> Vec<(i8, Kernel)> {
    let request = machine
        .resolve(&k, 0, operation)
        .expect("its target is there");
    let mut todo = vec![(k, Action::Begin(0, request), None)];
    let mut ends = Vec::new();
    let (mut report, mut actions) = (Report::default(), Vec::new());
    while let Some((mut k, action, mut result)) = todo.pop() {
        if k.cpus[0].pc == Pc::Finish {
            result = Some(k.cpus[0].err);
        }
        report.clear();
        machine.apply(&mut k, action, &mut report, None);
        assert!(!report.fatal && !report.overflow, "{action:?}: {report:?}");
        actions.clear();
        machine.enabled(&k, &mut actions);
        actions.retain(|action| !matches!(action, Action::Begin(..)));
        if k.cpus[0].pc != Pc::Idle && actions.iter().any(|a| matches!(a, Action::Step(..))) {
            actions.retain(|action| matches!(action, Action::Step(..)));
        } else {
            actions.truncate(1);
        }
        match (actions.is_empty(), result) {
            (true, Some(result)) => ends.push((result, k)),
            (true, None) => panic!("{operation:?} never returns"),
            _ => todo.extend(actions.iter().map(|action| (k, *action, result))),
        }
    }
    ends
}

/// What an operation does if an allocation fails.
#[derive(Clone, Copy, PartialEq)]
enum Fails {
    /// It returns -ENOMEM, and all is as it was.
    Back,
    /// It returns -ENOMEM.
    Somehow,
    /// It does without.
    Never,
}

fn fails(design: &Design, operation: Operation, cgroups: bool) -> Fails {
    match operation {
        // The kvalue keeps pointers into pages that the RFC frees at once.
        Operation::LinkCreate { .. } | Operation::LinkUpdate { .. }
            if design.name.starts_with("rfc") =>
        {
            Fails::Somehow
        }
        // Stubs take the place of a link for which no new array can be had.
        Operation::LinkDetach { .. } | Operation::LinkClose { .. } if cgroups => Fails::Never,
        _ => Fails::Back,
    }
}

/// The lines of both states that differ.
fn differences(before: &Kernel, after: &Kernel) -> String {
    let (before, after) = (format!("{before:#?}"), format!("{after:#?}"));
    let lines = before.lines().zip(after.lines());
    let differ = lines.filter(|(before, after)| before != after);
    differ
        .map(|(before, after)| format!("\n{before} -> {after}"))
        .collect()
}

/// How many allocations of these operations fail, one at a time.
fn each_allocation(design: &Design, subsystem: Subsystem) -> usize {
    let maps = [(true, 0, true), (true, 0, true), (false, 1, true)];
    let mut world = common::on_its_kernel(common::world(subsystem, &maps, vec![]));
    world.cpus = vec![CpuDecl {
        proc: 0,
        plan: Plan::Fixed(vec![]),
    }];
    world.alloc_failures = 1;
    let cgroups = !world.cgroups.is_empty();
    let plain = subsystem != Subsystem::Dummy && !cgroups;
    let create = |map, link| Operation::LinkCreate {
        target: cgroups.then_some(0),
        position: None,
        revision: None,
        map,
        cookie: 1,
        link,
    };
    let mut operations = common::rings(subsystem, &[0, 1]);
    operations.extend([
        Operation::MapCreate { map: 0 },
        Operation::MapCreate { map: 1 },
    ]);
    if subsystem != Subsystem::Dummy {
        operations.extend([
            Operation::MapUpdate { map: 0 },
            Operation::MapUpdate { map: 1 },
        ]);
    }
    if plain {
        operations.extend([
            Operation::MapCreate { map: 2 },
            Operation::MapUpdate { map: 2 },
            Operation::MapDelete { map: 2 },
        ]);
    }
    if subsystem == Subsystem::Dummy {
        operations.push(Operation::TestRun { prog: 0 });
    } else {
        operations.push(create(0, 0));
        if subsystem.facts().called == Called::ThroughCgroups || subsystem == Subsystem::TcpCong {
            operations.push(Operation::LinkUpdate {
                link: 0,
                map: 1,
                replace: None,
            });
        }
        operations.push(Operation::LinkDetach { link: 0 });
        operations.push(create(0, 1));
        operations.push(Operation::LinkClose { link: 1 });
    }
    let machine = Machine::new(world, design.clone()).expect("there is no set-up");
    let packing = Packing::new(&machine.world, true);
    let packed = |k: &Kernel| {
        let mut k = *k;
        k.cpus[0].position = 0;
        k.alloc_failures = 1;
        // Of a registration that is over.
        for kdata in k.kdatas.values_mut().filter(|d| d.registered == 0) {
            kdata.expect = 0;
        }
        let mut bytes = Vec::new();
        packing.pack(&k, &mut bytes);
        bytes
    };
    let mut k = machine.initial();
    let mut failed = 0;
    for operation in operations {
        let what = format!("{operation:?} of {subsystem:?} under {design}");
        let mut well = None;
        for (result, after) in ends(&machine, k, operation) {
            if after.alloc_failures > 0 {
                assert_eq!(result, 0, "{what}");
                assert!(well.replace(after).is_none(), "{what} ends in two ways");
                continue;
            }
            failed += 1;
            let expected = fails(design, operation, cgroups);
            let enomem = if expected == Fails::Never {
                0
            } else {
                errno::ENOMEM
            };
            assert_eq!(result, enomem, "{what}");
            if expected == Fails::Back {
                assert!(
                    packed(&after) == packed(&k),
                    "{what}: {}",
                    differences(&k, &after)
                );
            }
        }
        k = well.unwrap_or_else(|| panic!("{what} cannot succeed"));
    }
    failed
}

#[test]
fn an_allocation_that_fails_is_enomem_and_leaves_nothing() {
    for design in Design::attach_paths() {
        let failed: Vec<_> = Subsystem::ALL
            .iter()
            .map(|subsystem| (*subsystem, each_allocation(&design, *subsystem)))
            .collect();
        // A map of bpf_dummy_ops is created and never filled.
        let least = |subsystem| if subsystem == Subsystem::Dummy { 2 } else { 4 };
        let enough = failed.iter().all(|(subsystem, n)| *n >= least(*subsystem));
        assert!(enough, "{design}: {failed:?}");
    }
}

// ---- locks ------------------------------------------------------------------------------------------

/// The locks that reg() takes, one after the other.
fn locks(subsystem: Subsystem) -> &'static [LockClass] {
    match subsystem {
        Subsystem::TcpCong => &[LockClass::TcpCongList],
        Subsystem::SchedExt => &[LockClass::ScxEnable],
        Subsystem::Singleton => &[LockClass::StOps],
        Subsystem::Always | Subsystem::KeyedByMap => &[LockClass::MultiStOps],
        // It reprobes its device at last.
        Subsystem::HidBpf => &[LockClass::ProgList, LockClass::Device],
        Subsystem::BpfTcp => &[LockClass::Cgroup],
        Subsystem::IoUring => &[LockClass::IoBpfCtrl, LockClass::Uring],
        Subsystem::Dummy | Subsystem::Own(_) => &[],
    }
}

#[test]
fn a_reg_takes_its_locks_under_that_of_the_map_or_of_links() {
    for design in Design::attach_paths() {
        for subsystem in Subsystem::ALL.iter().filter(|s| **s != Subsystem::Dummy) {
            let maps = [(true, 0, true), (false, 0, true)];
            let mut world = common::on_its_kernel(common::world(*subsystem, &maps, vec![]));
            world.cpus = vec![CpuDecl {
                proc: 0,
                plan: Plan::Fixed(vec![]),
            }];
            let cgroups = !world.cgroups.is_empty();
            let by_link = vec![
                Operation::MapCreate { map: 0 },
                Operation::MapUpdate { map: 0 },
                Operation::LinkCreate {
                    target: cgroups.then_some(0),
                    position: None,
                    revision: None,
                    map: 0,
                    cookie: 1,
                    link: 0,
                },
            ];
            let by_map = vec![
                Operation::MapCreate { map: 1 },
                Operation::MapUpdate { map: 1 },
            ];
            // The cgroup layer asks for no mutex, and knows no plain map; the RFC generates under it.
            let serialised = !cgroups || design.name.starts_with("rfc");
            let ways = [
                (by_link, serialised.then_some(LockClass::UpdateMutex)),
                (by_map, Some(LockClass::StMap)),
            ];
            for (setup, held) in ways.into_iter().take(if cgroups { 1 } else { 2 }) {
                world.setup = common::rings(*subsystem, &[0]);
                world.setup.extend(setup);
                let machine = Machine::new(world.clone(), design.clone()).expect("it is attached");
                let found: HashSet<_> = machine.lock_order().pairs().collect();
                let taken = locks(*subsystem).iter();
                let mut wanted: HashSet<_> = held
                    .into_iter()
                    .flat_map(|held| taken.clone().map(move |taken| (held, *taken)))
                    .collect();
                if *subsystem == Subsystem::IoUring {
                    wanted.insert((LockClass::IoBpfCtrl, LockClass::Uring));
                }
                assert_eq!(found, wanted, "{subsystem:?}, {design}");
            }
        }
    }
}
