//! The runtime under shuttle: schedules that real threads seldom take, each one held against the model.
//!
//! Trampolines are the same calls without machine code here: shuttle's threads share one.

use struct_ops_model::Design;

use super::round::run;
use super::side;
use super::stress::world;
use super::validate::{Validator, Verdict};
use crate::report::screen::Screen;
use crate::report::side::table;
use crate::shipped;

/// Schedules of each scenario.
const SCHEDULES: usize = 60;

/// Runs `check` under so many random schedules. The search of the model needs more stack than shuttle gives.
fn schedules(check: impl Fn() + Send + Sync + 'static, count: usize) {
    let mut config = shuttle::Config::new();
    config.stack_size = 4 << 20;
    let scheduler = shuttle::scheduler::RandomScheduler::new(count);
    shuttle::Runner::new(scheduler, config).run(check);
}

/// Every schedule is explained by the model, and breaks nothing that is not expected.
fn explore(scenario: &'static str, design: fn() -> Design) {
    let check = move || {
        let scenario = shipped::find(scenario).expect("shipped");
        let design = design();
        let expected = scenario.head.expectation(&design.name).expect("shipped");
        let recorded = run(&scenario.world, &design, false, 1).expect("it can be set up");
        let validator = Validator::new(&recorded.world, &design).expect("the set-up works");
        let verdict = validator.validate(&recorded);
        match &verdict {
            Verdict::Accepted { broke, .. } => {
                let seen = recorded.findings.iter().map(|f| f.invariant);
                for invariant in broke.iter().map(|v| v.invariant).chain(seen) {
                    assert!(
                        !invariant.applies(&design) || expected.contains(&invariant),
                        "{}",
                        invariant.id()
                    );
                }
            }
            Verdict::Beyond(why) => panic!("{why}"),
            Verdict::Rejected { .. } => {
                let rows = side::rows(validator.machine(), &recorded, &verdict);
                panic!("{}", table(&Screen::plain(120), &rows));
            }
        }
    };
    schedules(check, SCHEDULES);
}

#[test]
fn mainline_locks() {
    for scenario in [
        "update-races-detach",
        "update-races-close",
        "two-links-tcp",
        "two-links-sched-ext",
        "two-links-singleton",
        "sleeping-member",
    ] {
        explore(scenario, Design::mainline);
    }
}

#[test]
fn link_owned_locks() {
    for scenario in [
        "update-races-detach",
        "update-races-close",
        "update-to-same-map",
        "two-links-always",
        "two-links-keyed",
        "sleeping-member",
        "plain-map",
        "light-skeleton",
    ] {
        explore(scenario, Design::link_owned);
    }
}

#[test]
fn rfc_locks() {
    for scenario in ["two-links-always", "two-links-tcp", "update-between-maps"] {
        explore(scenario, Design::rfc);
    }
}

/// Random worlds of three threads.
#[test]
fn random_worlds() {
    for seed in 0..12 {
        let check = move || {
            let design = Design::link_owned();
            let world = world(3, &mut fastrand::Rng::with_seed(seed));
            let recorded = run(&world, &design, false, seed).expect("it can be set up");
            assert_eq!(recorded.findings, []);
            assert_eq!(recorded.left, [""; 0]);
            let validator = Validator::new(&recorded.world, &design).expect("the set-up works");
            let verdict = validator.validate(&recorded);
            if let Verdict::Rejected { .. } = verdict {
                let rows = side::rows(validator.machine(), &recorded, &verdict);
                panic!("{}", table(&Screen::plain(120), &rows));
            }
        };
        schedules(check, 20);
    }
}
