//! Packed states over random walks: nothing is lost, and states that differ only in names become one.
//!
//! The engines trust the packed bytes as the identity of a state. Not here: whether reductions change a
//! verdict, which the engine's tests ask.

mod common;

use quickcheck::{QuickCheck, TestResult};
use struct_ops_model::kernel::{CpuId, Deferred, Kernel, Mask};
use struct_ops_model::pack::Packing;
use struct_ops_model::world::Subsystem;
use struct_ops_model::{Action, Design, Machine, Report};

fn machine(design: u8, subsystem: u8, cpus: usize) -> Machine {
    let presets = Design::attach_paths();
    let design = presets[usize::from(design) % presets.len()].clone();
    let subsystem = Subsystem::ALL[usize::from(subsystem) % Subsystem::ALL.len()];
    Machine::new(common::free(subsystem, cpus), design).expect("there is no set-up")
}

fn pack(packing: &Packing, k: &Kernel) -> Vec<u8> {
    let mut bytes = Vec::new();
    packing.pack(k, &mut bytes);
    bytes
}

/// What can be told of a state without naming anything.
fn look(k: &Kernel) -> String {
    let mut cpus: Vec<_> = k
        .cpus
        .iter()
        .map(|c| {
            (
                c.op,
                c.pc,
                c.ret,
                c.call_ret,
                c.position,
                c.err,
                c.holds.bits(),
                c.dirty.bits(),
                c.seen.bits(),
                c.readers.rcu,
            )
        })
        .collect();
    let mut maps: Vec<_> = k
        .maps
        .iter()
        .map(|(_, m)| {
            (
                m.state as u8,
                m.refs,
                m.fds,
                m.filled,
                m.lock.is_some(),
                m.free.stage,
            )
        })
        .collect();
    let mut kdatas: Vec<_> = k
        .kdatas
        .iter()
        .map(|(_, d)| (d.attachment, d.refs, d.registered, d.free.stage))
        .collect();
    let mut links: Vec<_> = k
        .links
        .iter()
        .map(|(_, l)| {
            (
                l.refs,
                l.fds,
                l.pinned,
                l.map.is_some(),
                l.attachment.is_some(),
            )
        })
        .collect();
    cpus.sort();
    maps.sort();
    kdatas.sort();
    links.sort();
    format!(
        "{cpus:?} {maps:?} {kdatas:?} {links:?} {} {}",
        k.images.len(),
        k.ksyms.len()
    )
}

/// What each action breaks and leads to, sorted. Looks, not bytes: where the walk of the packing cannot tell
/// two orders apart, a class has two representatives.
fn successors(machine: &Machine, k: &Kernel) -> Vec<String> {
    let mut actions: Vec<Action> = Vec::new();
    machine.enabled(k, &mut actions);
    let mut all: Vec<_> = actions
        .into_iter()
        .map(|action| {
            let mut next = *k;
            let mut report = Report::default();
            machine.apply(&mut next, action, &mut report, None);
            format!(
                "{:?} {} {}",
                report.violations,
                report.overflow,
                look(&next)
            )
        })
        .collect();
    all.sort();
    all
}

/// The same state with two CPUs in each other's place.
fn swapped(k: &Kernel, a: CpuId, b: CpuId) -> Kernel {
    let cpu = |id: &mut Option<CpuId>| {
        if let Some(id) = id {
            *id = if *id == a {
                b
            } else if *id == b {
                a
            } else {
                *id
            };
        }
    };
    let mask = |mask: &mut Mask| {
        let differ = (*mask >> a ^ *mask >> b) & 1;
        *mask ^= differ << a | differ << b;
    };
    let deferred = |free: &mut Deferred| {
        mask(&mut free.rcu);
        mask(&mut free.tasks);
        mask(&mut free.trace);
    };
    let mut k = *k;
    k.cpus.swap(a.into(), b.into());
    k.cpus.iter_mut().for_each(|c| deferred(&mut c.wait));
    k.maps.values_mut().for_each(|m| {
        cpu(&mut m.lock);
        deferred(&mut m.free);
    });
    k.kdatas.values_mut().for_each(|d| deferred(&mut d.free));
    k.progs.iter_mut().for_each(|p| deferred(&mut p.free));
    k.socks.iter_mut().for_each(|s| cpu(&mut s.busy));
    let rings = &mut k.subsys.rings;
    rings.iter_mut().for_each(|r| cpu(&mut r.lock));
    k.locks.iter_mut().for_each(cpu);
    k
}

/// Walks are long enough to fill maps, attach, call and take down.
fn check(property: fn(u8, u8, Vec<u16>) -> TestResult) {
    QuickCheck::new()
        .tests(600)
        .rng(quickcheck::Gen::new(300))
        .quickcheck(property);
}

fn all(states: &[Kernel], property: impl Fn(&Kernel) -> bool) -> TestResult {
    TestResult::from_bool(states.iter().all(property))
}

#[test]
fn without_symmetry_a_state_comes_back_as_it_was() {
    check(|design, subsystem, choices| {
        let machine = machine(design, subsystem, 2);
        let packing = Packing::new(&machine.world, false);
        all(&common::walk(&machine, choices), |k| {
            packing.unpack(&pack(&packing, k)) == *k
        })
    });
}

#[test]
fn the_representative_represents_itself() {
    check(|design, subsystem, choices| {
        let machine = machine(design, subsystem, 3);
        let packing = Packing::new(&machine.world, true);
        all(&common::walk(&machine, choices), |k| {
            let bytes = pack(&packing, k);
            pack(&packing, &packing.unpack(&bytes)) == bytes
        })
    });
}

#[test]
fn cpus_that_do_the_same_have_no_order() {
    check(|design, subsystem, choices| {
        let machine = machine(design, subsystem, 3);
        let packing = Packing::new(&machine.world, true);
        all(&common::walk(&machine, choices), |k| {
            let bytes = pack(&packing, k);
            [(0, 1), (1, 2), (0, 2)]
                .iter()
                .all(|(a, b)| pack(&packing, &swapped(k, *a, *b)) == bytes)
        })
    });
}

#[test]
fn the_representative_has_the_same_successors() {
    check(|design, subsystem, choices| {
        let machine = machine(design, subsystem, 3);
        let packing = Packing::new(&machine.world, true);
        // One state in sixteen: looks are slow to take.
        let states: Vec<_> = common::walk(&machine, choices)
            .into_iter()
            .step_by(16)
            .collect();
        all(&states, |k| {
            let representative = packing.unpack(&pack(&packing, k));
            successors(&machine, k) == successors(&machine, &representative)
        })
    });
}
