//! Reductions, threads and hashing change how much is stored, never what is found.
//!
//! Not here: whether what is found is right, which each scenario expects for itself.

mod common;

use std::collections::BTreeSet;

use struct_ops_model::world::{OpKind, Plan, World};
use struct_ops_model::{Action, Design};
use struct_ops_sim::engine::{Options, Outcome, Violation, explore};
use struct_ops_sim::explore::{Explored, Reductions};
use struct_ops_sim::scenario::Scenario;

const ALL: [Reductions; 4] = [
    Reductions::NONE,
    Reductions {
        symmetry: true,
        merge: false,
    },
    Reductions {
        symmetry: false,
        merge: true,
    },
    Reductions::ALL,
];

/// Unreduced spaces beyond this are the universes' work, not a test's.
const BOUND: u64 = 60_000;

fn run(
    world: &World,
    design: &Design,
    reductions: Reductions,
    options: &Options,
) -> Option<Outcome<Action>> {
    let explored = Explored::new(world.clone(), design.clone(), reductions).ok()?;
    Some(explore(&explored, options, &mut |_| ()))
}

fn found(outcome: &Outcome<Action>) -> BTreeSet<Violation> {
    outcome.violations.iter().map(|f| f.violation).collect()
}

/// Whether the space was small enough to compare.
fn agree(name: &str, world: &World, design: &Design) -> bool {
    let bound = Options {
        threads: 2,
        max_states: Some(BOUND),
        ..Options::default()
    };
    let Some(whole) = run(world, design, Reductions::NONE, &bound) else {
        return false;
    };
    if whole.incomplete.is_some() {
        return false;
    }
    for reductions in &ALL[1..] {
        // A representative may have more names than the states that it stands for: only the whole is bounded.
        let unbound = Options {
            threads: 2,
            ..Options::default()
        };
        let reduced =
            run(world, design, *reductions, &unbound).expect("the set-up has worked before");
        let what = format!("{name} under {design} with {reductions:?}");
        assert_eq!(found(&reduced), found(&whole), "{what}");
        assert_eq!(reduced.incomplete, None, "{what}");
    }
    true
}

#[test]
fn scenarios_find_the_same_with_every_reduction() {
    let mut compared = 0;
    for scenario in common::all()
        .iter()
        .filter(|s| !s.head.name.starts_with("universe"))
    {
        for design in Design::attach_paths()
            .iter()
            .filter(|d| scenario.runs_under(d))
        {
            compared += usize::from(agree(&scenario.head.name, &scenario.world, design));
        }
    }
    assert!(compared >= 50, "only {compared} spaces were small enough");
}

/// Where a declaration was created twice, which map comes first depends on numbers that symmetry exchanges: an operation
/// on the name has to mean either.
#[test]
fn a_name_of_two_maps_means_either_with_every_reduction() {
    let text = include_str!("scenarios/one-name-two-maps.toml");
    let scenario = Scenario::parse("one-name-two-maps", "one-name-two-maps.toml", text).unwrap();
    for design in Design::attach_paths() {
        assert!(
            agree(&scenario.head.name, &scenario.world, &design),
            "{design}"
        );
        let of = |reductions| {
            let options = Options::default();
            let outcome = run(&scenario.world, &design, reductions, &options).unwrap();
            outcome.witnesses.map(|n| n > 0)
        };
        assert_eq!(of(Reductions::ALL), of(Reductions::NONE), "{design}");
    }
}

/// The universes with fewer kinds of operation and no more than two of them on each CPU.
#[test]
fn free_choice_finds_the_same_with_every_reduction() {
    const KINDS: [&[OpKind]; 4] = [
        &[OpKind::LinkCreate, OpKind::LinkClose],
        &[OpKind::LinkCreate, OpKind::LinkUpdate],
        &[OpKind::LinkCreate, OpKind::LinkDetach, OpKind::MapClose],
        &[
            OpKind::LinkCreate,
            OpKind::SockOpen,
            OpKind::SockCall,
            OpKind::Call,
        ],
    ];
    let mut compared = 0;
    for scenario in common::all()
        .iter()
        .filter(|s| s.head.name.starts_with("universe") && s.head.name.ends_with("2cpu"))
    {
        for kinds in KINDS {
            let mut world = scenario.world.clone();
            world.alloc_failures = 0;
            for cpu in &mut world.cpus {
                cpu.plan = Plan::Free {
                    kinds: kinds.to_vec(),
                    budget: 2,
                };
            }
            for design in Design::attach_paths() {
                compared += usize::from(agree(&scenario.head.name, &world, &design));
            }
        }
    }
    assert!(compared >= 7, "only {compared} spaces were small enough");
}

#[test]
fn threads_change_no_count() {
    for (scenario, design) in [
        ("two-links-tcp", "rfc"),
        ("update-races-close", "link-owned"),
        ("plain-map", "mainline"),
    ] {
        let world = common::scenario(scenario).world;
        let design = Design::parse(design).unwrap();
        for reductions in [Reductions::NONE, Reductions::ALL] {
            let counts = [1, 2, 4].map(|threads| {
                let o = run(
                    &world,
                    &design,
                    reductions,
                    &Options {
                        threads,
                        ..Options::default()
                    },
                )
                .unwrap();
                let traces: Vec<_> = o
                    .violations
                    .iter()
                    .map(|f| (f.violation, f.depth))
                    .collect();
                (
                    o.states,
                    o.transitions,
                    o.terminals,
                    o.depth,
                    o.witnesses,
                    traces,
                )
            });
            assert_eq!(counts[0], counts[1], "{scenario}: 2 threads");
            assert_eq!(counts[0], counts[2], "{scenario}: 4 threads");
        }
    }
}

/// A weak hash would lose states without a word: the full states are the proof that none is lost.
#[test]
fn fingerprints_lose_no_state() {
    let mut world = common::scenario("universe-tcp-2cpu").world;
    for (cpu, times) in world.cpus.iter_mut().zip([1, 2]) {
        let Plan::Free { budget, .. } = &mut cpu.plan else {
            panic!("a universe is free")
        };
        *budget = times;
    }
    let design = Design::link_owned();
    let of = |exact| {
        let options = Options {
            threads: 2,
            exact,
            ..Options::default()
        };
        let o = run(&world, &design, Reductions::NONE, &options).unwrap();
        (
            o.states,
            o.transitions,
            o.terminals,
            o.depth,
            o.witnesses,
            found(&o),
        )
    };
    let exact = of(true);
    assert!(exact.0 > 50_000, "only {} states", exact.0);
    assert_eq!(of(false), exact);
}
