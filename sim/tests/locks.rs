//! The order of locks: what one run shows of it, what contradicts it, and a deadlock that comes of that.

mod common;

use std::collections::{HashSet, VecDeque};

use struct_ops_model::lock::LockClass::{self, TcpCongList, UpdateMutex};
use struct_ops_model::{Design, Invariant, Pc, Report, Wait};
use struct_ops_sim::bounds::UNBOUNDED;
use struct_ops_sim::check::{Settings, check};
use struct_ops_sim::engine::{Options, explore};
use struct_ops_sim::explore::{Explored, Reductions};
use struct_ops_sim::scenario::Scenario;
use struct_ops_sim::trace::Trace;
use struct_ops_sim::verdict::Run;
use struct_ops_sim::walk::{self, Walked as _};

/// A link is created and the member is called: by one CPU, one after the other, or by two at once.
fn singleton(cpus: &str) -> Scenario {
    let text = format!(
        r#"
title = "Locks"
question = "In which order are they taken?"
source = "a test"
type = [{{ name = "st", subsystem = "st_ops", members = [{{ name = "test_prologue" }}] }}]
program = [{{ name = "p", type = "st", member = "test_prologue" }}]
map = [{{ name = "m", type = "st", programs = ["p"] }}]
{cpus}
"#
    );
    Scenario::parse("locks", "locks.toml", &text).unwrap()
}

const ONE: &str = r#"
run = { setup = ["map_create m", "map_update m"] }
cpu = [{ do = ["link_create m as l", "call 0 test_prologue"] }]
"#;
const TWO: &str = r#"
run = { setup = ["map_create m", "map_update m", "link_create m as l"] }
cpu = [{ do = ["link_detach l"] }, { do = ["call 0 test_prologue"] }]
"#;

fn run(scenario: &Scenario, design: &str, reductions: Reductions) -> Run {
    let settings = Settings {
        threads: 1,
        max_states: None,
        exact: false,
        reductions,
    };
    let design = Design::parse(design).unwrap();
    check(scenario, &design, &settings, &UNBOUNDED, &mut |_| ()).unwrap()
}

/// The shortest run that breaks the invariant.
fn shortest(scenario: &Scenario, design: &str, invariant: Invariant) -> Trace {
    let run = run(scenario, design, Reductions::ALL);
    let found = run.shortest(invariant).expect("it is broken");
    let design = Design::parse(design).unwrap();
    let machine = walk::attach(scenario, &design).unwrap();
    let trace = machine.carry_out(&found.actions).unwrap();
    assert!(trace.broken().any(|b| b.1 == found.broken()));
    trace
}

#[test]
fn one_cpu_shows_both_orders_and_no_deadlock() {
    let scenario = singleton(ONE);
    for reductions in [Reductions::ALL, Reductions::NONE] {
        let twin = run(&scenario, "mainline,twin=lock-order", reductions);
        let broken: Vec<_> = twin.found.iter().map(|f| f.invariant).collect();
        assert_eq!(broken, [Invariant::LockOrder]);
        assert!(run(&scenario, "mainline", reductions).found.is_empty());
    }
    let trace = shortest(&scenario, "mainline,twin=lock-order", Invariant::LockOrder);
    let first = trace.steps.iter().find(|s| s.label == "SingletonReg");
    let last = trace.broken().next().and_then(|b| b.0).unwrap();
    assert_eq!(last.label, "SingletonCallDone");
    let said = format!(
        "takes update_mutex under st_ops_mutex, and this run took st_ops_mutex under update_mutex in step {}",
        first.unwrap().number
    );
    assert!(last.event.contains(&said), "{}", last.event);
}

#[test]
fn two_cpus_that_wait_for_each_others_lock_are_shown() {
    let trace = shortest(
        &singleton(TWO),
        "mainline,twin=lock-order",
        Invariant::NoDeadlock,
    );
    assert_eq!(
        trace.stuck,
        [
            "cpu0 waits in st_ops_unreg for st_ops_mutex, which cpu1 holds",
            "cpu1 waits in bpf_kfunc_st_ops_test_prologue for update_mutex, which cpu0 holds",
        ]
    );
}

/// Whoever holds a lock takes the next one by itself: which steps of others come in between shows no other pair.
#[test]
fn no_pair_of_locks_is_lost_to_the_reductions() {
    let pairs = |scenario: &str, reductions| -> Vec<(LockClass, LockClass)> {
        let world = common::scenario(scenario).world;
        let explored = Explored::new(world, Design::mainline(), reductions).unwrap();
        explore(&explored, &Options::default(), &mut |_| ());
        explored.lock_order().pairs().collect()
    };
    let tcp = [(UpdateMutex, TcpCongList)];
    assert_eq!(pairs("two-links-tcp", Reductions::ALL), tcp);
    for scenario in [
        "two-links-tcp",
        "two-links-singleton",
        "two-links-hid",
        "failing-init",
        "update-to-same-map",
    ] {
        let reduced = pairs(scenario, Reductions::ALL);
        assert!(!reduced.is_empty(), "{scenario}");
        assert_eq!(reduced, pairs(scenario, Reductions::NONE), "{scenario}");
    }
}

/// Who cannot begin its next operation waits for the lock of its first step, and for whoever holds that.
#[test]
fn what_keeps_an_operation_from_beginning_is_told() {
    const STATES: usize = 1_000;
    let mut kept = 0;
    for scenario in common::all() {
        let Ok(machine) = walk::attach(&scenario, &Design::mainline()) else {
            continue;
        };
        let mut seen = HashSet::from([machine.initial()]);
        let mut todo = VecDeque::from([machine.initial()]);
        while let Some(k) = todo.pop_front() {
            let mut enabled = Vec::new();
            machine.enabled(&k, &mut enabled);
            for cpu in 0..machine.world.cpus.len() as u8 {
                let Some(wait) = machine.lock_to_begin(&k, cpu) else {
                    continue;
                };
                kept += 1;
                let Wait::Lock(_, holder) = wait else {
                    panic!("{wait:?}");
                };
                assert_ne!(holder, cpu, "{}", scenario.head.name);
                assert_ne!(k.cpus[usize::from(holder)].pc, Pc::Idle);
                assert!(enabled.iter().all(|a| a.cpu() != Some(cpu)));
            }
            for action in enabled {
                let mut next = k;
                machine.apply(&mut next, action, &mut Report::default(), None);
                if !next.dead && seen.len() < STATES && seen.insert(next) {
                    todo.push_back(next);
                }
            }
        }
    }
    assert!(kept > 0);
}
