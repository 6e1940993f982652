//! The runtime held against the model: every shipped scenario on real threads, and records that must be rejected.

mod common;

use std::collections::BTreeMap;

use struct_ops_model::world::{Operation, Subsystem};
use struct_ops_model::{Design, Invariant, Pc};
use struct_ops_sim::live::Task;
use struct_ops_sim::live::event::{Actor, Recorded};
use struct_ops_sim::live::round::{RoundError, run};
use struct_ops_sim::live::runtime::{Machine, Settings};
use struct_ops_sim::live::shrink::{Rejected, shrink};
use struct_ops_sim::live::side;
use struct_ops_sim::live::stress::world;
use struct_ops_sim::live::validate::{Validator, Verdict};
use struct_ops_sim::report::screen::Screen;
use struct_ops_sim::report::side::table;

const MACHINE: bool = cfg!(all(target_arch = "x86_64", unix));
/// Rounds of every scenario under every design.
const ROUNDS: u64 = 40;

fn explain(design: &Design, recorded: &Recorded) -> String {
    let validator = Validator::new(&recorded.world, design).expect("the set-up works");
    let verdict = validator.validate(recorded);
    let rejected = Rejected {
        recorded: recorded.clone(),
        verdict,
    };
    let small = shrink(rejected, design);
    let validator = Validator::new(&small.recorded.world, design).expect("the set-up works");
    let rows = side::rows(validator.machine(), &small.recorded, &small.verdict);
    table(&Screen::plain(120), &rows)
}

/// Every scenario under every design that has a runtime: accepted, and nothing broken that is not expected.
#[test]
fn every_scenario_is_explained_by_the_model() {
    let mut judged: BTreeMap<String, u64> = BTreeMap::new();
    for scenario in common::all() {
        for design in Design::attach_paths() {
            if !scenario.runs_under(&design) {
                continue;
            }
            // An extended universe says nothing of a design under which it was not explored to its end.
            let Some(expected) = scenario.head.expectation(&design.name) else {
                continue;
            };
            judged.entry(scenario.head.name.clone()).or_default();
            for seed in 0..ROUNDS {
                let recorded = match run(&scenario.world, &design, MACHINE, seed) {
                    Err(
                        RoundError::OwnSubsystem(_)
                        | RoundError::ExplorerOnly(_)
                        | RoundError::Cgroups
                        | RoundError::Callbacks
                        | RoundError::Rings,
                    ) => {
                        judged.remove(&scenario.head.name);
                        break;
                    }
                    recorded => recorded.expect("it can be set up"),
                };
                let validator = Validator::new(&recorded.world, &design).expect("the set-up works");
                match validator.validate(&recorded) {
                    Verdict::Accepted { broke, .. } => {
                        *judged.entry(scenario.head.name.clone()).or_default() += 1;
                        let unexpected: Vec<_> = broke
                            .iter()
                            .map(|v| v.invariant)
                            .chain(recorded.findings.iter().map(|f| f.invariant))
                            .filter(|i| i.applies(&design) && !expected.contains(i))
                            .collect();
                        assert_eq!(unexpected, [], "{} under {design}", scenario.head.name);
                    }
                    Verdict::Rejected { .. } => panic!(
                        "{} under {design}, seed {seed}:\n{}",
                        scenario.head.name,
                        explain(&design, &recorded)
                    ),
                    Verdict::Beyond(_) => {}
                }
            }
        }
    }
    for (scenario, rounds) in judged {
        assert!(rounds > 0, "no round of {scenario} was judged");
    }
}

/// The first round of a scenario that is accepted or rejected, as asked.
fn rounds(name: &str, design: &Design) -> impl Iterator<Item = Recorded> {
    let scenario = common::scenario(name);
    let design = design.clone();
    (0..400)
        .map(move |seed| run(&scenario.world, &design, MACHINE, seed).expect("it can be set up"))
}

fn rejected(design: &Design, recorded: &Recorded) -> bool {
    let validator = Validator::new(&recorded.world, design).expect("the set-up works");
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
            .any(|recorded| rejected(&Design::link_owned(), &recorded));
        let same_steps = other.name.contains("validate");
        assert_eq!(found, !same_steps, "{other}");
    }
}

/// One recorded result is changed: the model has no explanation any more, and the difference is printed.
#[test]
fn a_tampered_record_is_rejected() {
    let design = Design::link_owned();
    let recorded = rounds("two-links-always", &design).next().expect("a round");
    assert!(!rejected(&design, &recorded));
    let mut tampered = 0;
    for i in 0..recorded.events.len() {
        let mut other = recorded.clone();
        let event = &mut other.events[i];
        match event.cookie {
            Some(cookie) => event.cookie = Some(cookie ^ 0x33),
            // Neither the worker nor a process that is gone has a result.
            None if event.actor == Actor::Worker || event.pc == Pc::ExitNext => continue,
            None if event.ask.is_some() => continue,
            None => event.err = -99,
        }
        tampered += 1;
        assert!(rejected(&design, &other), "{}", recorded.events[i]);
    }
    assert!(tampered > 20, "{tampered} events were changed");
    let mut other = recorded.clone();
    let read = other.events.iter().position(|e| e.cookie.is_some());
    other.events[read.expect("a program ran")].cookie = Some(0x99);
    let table = explain(&design, &other);
    assert!(table.contains("cookie 0x99"), "{table}");
    assert!(table.contains("no explanation"), "{table}");
    assert!(table.lines().count() < recorded.events.len(), "{table}");
}

/// A record without its last steps is no record of a whole run.
#[test]
fn a_cut_record_is_rejected() {
    let design = Design::mainline();
    let mut recorded = rounds("straight-path", &design).next().expect("a round");
    assert!(!rejected(&design, &recorded));
    recorded.events.pop();
    assert!(rejected(&design, &recorded));
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
        let found = rounds(scenario, &design).any(|recorded| {
            let seen = recorded.findings.iter().any(|f| f.invariant == invariant);
            if seen {
                let validator = Validator::new(&recorded.world, &design).expect("the set-up works");
                match validator.validate(&recorded) {
                    Verdict::Accepted { broke, .. } => {
                        assert!(broke.iter().any(|v| v.invariant == invariant));
                    }
                    _ => panic!("{}", explain(&design, &recorded)),
                }
            }
            seen
        });
        assert!(
            found,
            "{scenario}: no round in 400 shows {}",
            invariant.id()
        );
    }
}

/// Many threads on one runtime: no page goes while somebody is inside, and nothing is left at the end.
#[test]
fn a_page_is_never_freed_with_a_thread_inside() {
    const THREADS: u8 = 24;
    for design in [Design::mainline(), Design::link_owned()] {
        let mut world = world(1, &mut fastrand::Rng::with_seed(0));
        world.types[0].subsystem = Subsystem::TcpCong;
        world.maps[1].key = 1;
        let settings = Settings {
            jit: MACHINE,
            jitter: true,
            alloc_failures: 0,
        };
        let machine = Machine::boot(world.clone(), design.clone(), settings, 0);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let rt = machine.runtime();
                scope.spawn(move || {
                    busy(
                        &mut Task::new(rt, Actor::Cpu(thread), 0, thread.into()),
                        thread,
                    )
                });
            }
        });
        let mut task = Task::new(machine.runtime(), Actor::Cpu(0), 0, 0);
        for sock in 0..=u8::MAX {
            task.carry_out(Operation::SockClose { sock });
        }
        machine.runtime().quiesce();
        // Mainline names a trampoline only after it can be called.
        let findings: Vec<_> = machine
            .runtime()
            .findings()
            .into_iter()
            .filter(|f| design != Design::mainline() || f.invariant != Invariant::KsymsMatchImages)
            .collect();
        assert_eq!(findings, [], "{design}");
        assert_eq!(machine.runtime().freed_inside(), 0, "{design}");
        let programs = format!("{} programs", world.progs.len());
        assert_eq!(machine.runtime().left(), [programs], "{design}");
    }
}

/// Maps come and go, links are attached and closed, sockets use whatever is there.
fn busy(task: &mut Task<'_>, thread: u8) {
    let (map, link) = (thread % 2, thread);
    let mut rng = fastrand::Rng::with_seed(thread.into());
    for _ in 0..120 {
        if thread < 6 {
            let life = [
                Operation::MapCreate { map },
                Operation::MapUpdate { map },
                Operation::LinkCreate {
                    target: None,
                    position: None,
                    revision: None,
                    map,
                    cookie: 1,
                    link,
                },
                Operation::LinkClose { link },
                Operation::MapClose { map },
            ];
            for operation in life {
                assert!(task.carry_out(operation).is_some(), "{operation:?}");
            }
        } else {
            let sock = rng.u8(..8);
            let operation = match rng.u8(..4) {
                0 => Operation::SockOpen { key: rng.u8(..2) },
                1 => Operation::SockClose { sock },
                _ => Operation::SockCall {
                    sock,
                    member: rng.u8(..2),
                },
            };
            assert!(task.carry_out(operation).is_some(), "{operation:?}");
        }
    }
}
