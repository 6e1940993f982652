//! The runtime held against the model: every shipped scenario on real threads, and records that must be rejected.

mod common;

use std::collections::BTreeMap;

use struct_ops_model::{Design, Invariant, World};
use struct_ops_sim::live::event::Recorded;
use struct_ops_sim::live::round::{concrete, run};
use struct_ops_sim::live::shrink::{Rejected, shrink};
use struct_ops_sim::live::side;
use struct_ops_sim::live::validate::{Validator, Verdict};

const MACHINE: bool = cfg!(all(target_arch = "x86_64", unix));
/// Rounds of every scenario under every design.
const ROUNDS: u64 = 40;

fn explain(world: &World, design: &Design, recorded: &Recorded) -> String {
    let validator = Validator::new(world, design).expect("the set-up works");
    let verdict = validator.validate(recorded);
    let rejected = Rejected {
        world: world.clone(),
        recorded: recorded.clone(),
        verdict,
    };
    let small = shrink(rejected, design);
    let validator = Validator::new(&small.world, design).expect("the set-up works");
    side::table(&side::rows(
        validator.machine(),
        &small.recorded,
        &small.verdict,
    ))
}

/// Every scenario under every design that has a runtime: accepted, and nothing broken that is not expected.
#[test]
fn every_scenario_is_explained_by_the_model() {
    let mut judged: BTreeMap<String, u64> = BTreeMap::new();
    for scenario in common::all() {
        for design in Design::presets() {
            if !scenario.runs_under(&design) {
                continue;
            }
            let expected = scenario.expectation(&design.name).expect("shipped");
            for seed in 0..ROUNDS {
                let mut rng = fastrand::Rng::with_seed(seed);
                let world = concrete(&scenario.world, &mut rng);
                let recorded = run(&world, &design, MACHINE, seed).expect("it can be set up");
                let validator = Validator::new(&world, &design).expect("the set-up works");
                match validator.validate(&recorded) {
                    Verdict::Accepted { broke, .. } => {
                        *judged.entry(scenario.name.clone()).or_default() += 1;
                        let unexpected: Vec<_> = broke
                            .iter()
                            .map(|v| v.invariant)
                            .chain(recorded.findings.iter().map(|f| f.invariant))
                            .filter(|i| i.applies(&design) && !expected.contains(i))
                            .collect();
                        assert_eq!(unexpected, [], "{} under {design}", scenario.name);
                    }
                    Verdict::Rejected { .. } => panic!(
                        "{} under {design}, seed {seed}:\n{}",
                        scenario.name,
                        explain(&world, &design, &recorded)
                    ),
                    Verdict::Beyond(_) => {}
                }
            }
        }
    }
    for scenario in common::all() {
        let rounds = judged.get(&scenario.name).copied().unwrap_or(0);
        assert!(rounds > 0, "no round of {} was judged", scenario.name);
    }
}

/// The first round of a scenario that is accepted or rejected, as asked.
fn rounds(name: &str, design: &Design) -> impl Iterator<Item = (World, Recorded)> {
    let scenario = common::scenario(name);
    let design = design.clone();
    (0..400).map(move |seed| {
        let mut rng = fastrand::Rng::with_seed(seed);
        let world = concrete(&scenario.world, &mut rng);
        let recorded = run(&world, &design, MACHINE, seed).expect("it can be set up");
        (world, recorded)
    })
}

fn rejected(world: &World, design: &Design, recorded: &Recorded) -> bool {
    let validator = Validator::new(world, design).expect("the set-up works");
    matches!(validator.validate(recorded), Verdict::Rejected { .. })
}

/// The runtime of one design is not the model of another one.
#[test]
fn a_runtime_that_does_something_else_is_rejected() {
    // Pages freed without a grace period, and kdata shared by all links of a map.
    for other in [
        "link-owned,free=at-once",
        "rfc",
        "mainline",
        "link-owned,kallsyms=after-reg",
        "link-owned,validate=link_create",
    ] {
        let other = Design::parse(other).expect("a design");
        let found = rounds("two-links-always", &other)
            .any(|(world, recorded)| rejected(&world, &Design::link_owned(), &recorded));
        let same_steps = other.name.contains("validate");
        assert_eq!(found, !same_steps, "{other}");
    }
}

/// One recorded result is changed: the model has no explanation any more, and the difference is printed.
#[test]
fn a_tampered_record_is_rejected() {
    let design = Design::link_owned();
    let (world, recorded) = rounds("two-links-always", &design).next().expect("a round");
    assert!(!rejected(&world, &design, &recorded));
    let mut tampered = 0;
    for i in 0..recorded.events.len() {
        let mut other = recorded.clone();
        let event = &mut other.events[i];
        match event.cookie {
            Some(cookie) => event.cookie = Some(cookie ^ 0x33),
            None if event.ask.is_none() && event.actor != struct_ops_sim::live::event::Actor::Worker => {
                event.err = -99;
            }
            None => continue,
        }
        tampered += 1;
        assert!(rejected(&world, &design, &other), "{}", recorded.events[i]);
    }
    assert!(tampered > 20, "{tampered} events were changed");
    let mut other = recorded.clone();
    let read = other.events.iter().position(|e| e.cookie.is_some());
    other.events[read.expect("a program ran")].cookie = Some(0x99);
    let table = explain(&world, &design, &other);
    assert!(table.contains("cookie 0x99"), "{table}");
    assert!(table.contains("no explanation"), "{table}");
    assert!(table.lines().count() < recorded.events.len(), "{table}");
}

/// A record without its last steps is no record of a whole run.
#[test]
fn a_cut_record_is_rejected() {
    let design = Design::mainline();
    let (world, mut recorded) = rounds("straight-path", &design).next().expect("a round");
    assert!(!rejected(&world, &design, &recorded));
    recorded.events.pop();
    assert!(rejected(&world, &design, &recorded));
}

/// What the open problem predicts happens on real threads: noticed, explained, and not a crash.
#[test]
fn the_rfc_goes_wrong_as_predicted() {
    for (scenario, invariant) in [
        ("two-links-always", Invariant::CookieFidelity),
        ("two-links-tcp", Invariant::NoUseAfterFree),
        ("two-links-keyed", Invariant::NoUseAfterFree),
        ("update-between-maps", Invariant::NoUseAfterFree),
    ] {
        let design = Design::rfc();
        let found = rounds(scenario, &design).any(|(world, recorded)| {
            let seen = recorded.findings.iter().any(|f| f.invariant == invariant);
            if seen {
                let validator = Validator::new(&world, &design).expect("the set-up works");
                match validator.validate(&recorded) {
                    Verdict::Accepted { broke, .. } => {
                        assert!(broke.iter().any(|v| v.invariant == invariant));
                    }
                    _ => panic!("{}", explain(&world, &design, &recorded)),
                }
            }
            seen
        });
        assert!(found, "{scenario}: no round in 400 shows {}", invariant.id());
    }
}
