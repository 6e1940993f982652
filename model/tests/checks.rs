//! The checks of a state see what they are about: a count that is one too high or too low, and everything that is left
//! behind. What is tried is each object of states that random runs reach, under every subsystem and design.

mod common;

use quickcheck::{Arbitrary, Gen};
use struct_ops_model::invariant::{eventual_release, no_leak, refcounts_balance};
use struct_ops_model::kernel::{
    Holds, Image, Kdata, Kernel, Ksym, Link, Map, MapState, Prog, Stage,
};
use struct_ops_model::world::Subsystem;
use struct_ops_model::{Design, Invariant, Machine, Report};

/// Every subsystem under every design that attaches in a way of its own, and under those that count otherwise.
fn machines() -> Vec<Machine> {
    let mixes = ["link-owned,count=map", "link-owned,progs=map"];
    let mixes = mixes.map(|mix| Design::parse(mix).expect("it makes sense"));
    let designs: Vec<Design> = Design::attach_paths().into_iter().chain(mixes).collect();
    let all = Subsystem::ALL.iter();
    let all = all.flat_map(|s| designs.iter().map(|d| (common::free(*s, 2), d.clone())));
    all.map(|(world, design)| Machine::new(world, design).expect("there is no set-up"))
        .collect()
}

fn choices(g: &mut Gen, n: usize) -> Vec<u16> {
    (0..n).map(|_| u16::arbitrary(g)).collect()
}

/// A change of one number or bit, and what it was made to.
type Wrong = (String, Kernel);

/// The state with each count, each holder of a reference and each lock of a map changed, one at a time.
fn wrong(k: &Kernel) -> Vec<Wrong> {
    let mut wrong: Vec<Wrong> = Vec::new();
    let mut change = |what: String, change: &dyn Fn(&mut Kernel)| {
        let mut other = *k;
        change(&mut other);
        if other != *k {
            wrong.push((what, other));
        }
    };
    for more in [true, false] {
        let count = |refs: &mut u8| {
            *refs = match more {
                true => *refs + 1,
                false => refs.saturating_sub(1),
            }
        };
        let what = |object, n| format!("{object} {n}, {}", if more { "more" } else { "fewer" });
        for (key, _) in k.maps.iter() {
            change(what("map", key.slot()), &|k| count(&mut k.maps[key].refs));
        }
        for (key, _) in k.links.iter() {
            change(what("link", key.slot()), &|k| count(&mut k.links[key].refs));
        }
        for (key, _) in k.kdatas.iter().filter(|(_, d)| d.attachment) {
            let refs = |k: &mut Kernel| count(&mut k.kdatas[key].refs);
            change(what("attachment", key.slot()), &refs);
        }
        // Those of the world come first.
        for place in 0..3 {
            change(what("program", place), &|k| count(&mut k.progs[place].refs));
        }
    }
    for (key, map) in k.maps.iter() {
        change("fd of a map".into(), &|k| k.maps[key].fds ^= 1);
        change("pinned map".into(), &|k| k.maps[key].pinned = !map.pinned);
        change("further fd of a map".into(), &|k| {
            k.maps[key].more.0[0] += 1;
        });
        change("programs of a map".into(), &|k| k.maps[key].filled ^= 1);
    }
    for (key, link) in k.links.iter() {
        change("fd of a link".into(), &|k| k.links[key].fds ^= 1);
        change("pinned link".into(), &|k| {
            k.links[key].pinned = !link.pinned;
        });
        change("further fd of a link".into(), &|k| {
            k.links[key].more.0[0] += 1;
        });
        change("what a link is attached to".into(), &|k| {
            (k.links[key].map, k.links[key].attachment) = (None, None);
        });
    }
    for cpu in 0..2 {
        for held in [
            Holds::MAP,
            Holds::OLD,
            Holds::LINK,
            Holds::ATTACHMENT,
            Holds::OLD_ATTACHMENT,
            Holds::REGISTERED,
        ] {
            change(format!("what cpu{cpu} holds: {held:?}"), &|k| {
                k.cpus[cpu].holds.remove(held);
            });
        }
    }
    for sock in 0..2 {
        change("socket".into(), &|k| k.socks[sock] = Default::default());
    }
    wrong
}

#[test]
fn a_count_that_differs_from_its_holders_is_seen() {
    let mut g = Gen::from_size_and_seed(300, 1);
    for machine in machines() {
        let (world, design) = (&machine.world, &machine.design);
        let mut tried = 0;
        for _ in 0..20 {
            let states = common::walk(&machine, choices(&mut g, 250));
            for k in states.iter().step_by(5).filter(|k| !k.dead) {
                assert!(refcounts_balance(k, world, design), "{design}: {k:?}");
                // Whose reference it is cannot be told.
                let dangling = |s: &&_| k.kdatas.get(**s).is_none();
                if k.socks
                    .iter()
                    .filter_map(|s| s.kdata.as_ref())
                    .any(|s| dangling(&s))
                {
                    continue;
                }
                for (what, k) in wrong(k) {
                    tried += 1;
                    assert!(!refcounts_balance(&k, world, design), "{design}: {what}");
                }
            }
        }
        assert!(tried > 1000, "{design}: {tried}");
    }
}

/// What is left, and how it comes to be there.
type Change<'a> = (&'static str, &'a dyn Fn(&mut Kernel));

/// What may be left, each in a state in which nothing else is.
fn left(end: &Kernel) -> Vec<(&'static str, Invariant, Kernel)> {
    let with = |change: &dyn Fn(&mut Kernel)| {
        let mut k = *end;
        change(&mut k);
        k
    };
    let leaks: [Change; 8] = [
        ("a map", &|k| _ = k.maps.insert(Map::default())),
        ("a link", &|k| _ = k.links.insert(Link::default())),
        ("a kdata", &|k| _ = k.kdatas.insert(Kdata::default())),
        ("a page", &|k| _ = k.images.insert(Image::default())),
        ("a ksym", &|k| _ = k.ksyms.insert(Ksym::default())),
        ("a program", &|k| k.progs[1].freed = false),
        ("the module", &|k| k.module.refs = 1),
        ("an object", &|k| k.subsys.own.objects[1] = 1),
    ];
    let leaks = leaks.map(|(what, change)| (what, Invariant::NoLeak, with(change)));
    let under_way: [Change; 3] = [
        ("a map", &|k| {
            let mut map = Map::default();
            map.free.stage = Stage::Rcu;
            _ = k.maps.insert(map);
        }),
        ("an attachment", &|k| {
            let mut kdata = Kdata::default();
            kdata.free.stage = Stage::Queued;
            _ = k.kdatas.insert(kdata);
        }),
        ("a program", &|k| {
            k.progs[1] = Prog::default();
            k.progs[1].free.stage = Stage::Trace;
        }),
    ];
    let release = Invariant::EventualRelease;
    let under_way = under_way.map(|(what, change)| (what, release, with(change)));
    leaks.into_iter().chain(under_way).collect()
}

#[test]
fn whatever_is_left_at_the_end_is_seen() {
    let mut g = Gen::from_size_and_seed(300, 1);
    let mut ends = 0;
    for machine in machines() {
        for _ in 0..20 {
            let states = common::walk(&machine, choices(&mut g, 3000));
            let end = states.last().expect("the first state");
            let mut enabled = Vec::new();
            machine.enabled(end, &mut enabled);
            let judge = |k: &Kernel| {
                let mut report = Report::default();
                machine.terminal(k, &mut report);
                report.violations
            };
            if end.dead || !enabled.is_empty() || !judge(end).is_empty() {
                continue;
            }
            ends += 1;
            assert!(no_leak(end, &machine.world) && eventual_release(end, &machine.world));
            assert!(end.maps.iter().all(|(_, m)| m.state != MapState::InUse));
            for (what, invariant, k) in left(end) {
                let found = judge(&k);
                let found: Vec<_> = found.iter().map(|v| v.invariant).collect();
                assert_eq!(found, [invariant], "{what} is left");
            }
        }
    }
    assert!(ends > 300, "{ends}");
}
