//! Grace periods as a choice of the design: which of them a scenario needs, and which are not enough.
//!
//! Mixes are not run by `check` unless they are asked for; what the shipped files expect of them is held here.

mod common;

use struct_ops_model::{Design, Invariant};
use struct_ops_sim::bounds::UNBOUNDED;
use struct_ops_sim::check::{Settings, check};
use struct_ops_sim::explore::Reductions;
use struct_ops_sim::scenario::Scenario;

fn broken(scenario: &Scenario, design: &str, reductions: Reductions) -> Vec<Invariant> {
    let settings = Settings {
        threads: 2,
        max_states: None,
        exact: false,
        reductions,
    };
    let design = Design::parse(design).unwrap();
    let run = check(scenario, &design, &settings, &UNBOUNDED, &mut |_| ()).expect("a set-up");
    let all = Invariant::ALL.iter().copied();
    all.filter(|i| run.shortest(*i).is_some()).collect()
}

#[test]
fn mixes_break_what_the_files_say() {
    let mut asked = 0;
    for scenario in common::all() {
        for design in scenario.head.expect.iter().map(|e| e.design.as_str()) {
            if !design.contains(',') {
                continue;
            }
            asked += 1;
            let mut expected = scenario.head.expectation(design).expect("it runs").to_vec();
            expected.sort();
            for reductions in [Reductions::NONE, Reductions::ALL] {
                let found = broken(&scenario, design, reductions);
                assert_eq!(found, expected, "{} under {design}", scenario.head.name);
            }
        }
    }
    assert!(asked > 5, "{asked}");
}

/// A map that waits for nobody is freed under somebody in every scenario in which another grace period is what saves it.
#[test]
fn a_free_without_grace_period_is_found() {
    for scenario in [
        "tasks-rcu-optional",
        "hid-unplug-interrupt",
        "switch-inside-program",
    ] {
        let scenario = common::scenario(scenario);
        for design in ["mainline", "link-owned"] {
            let uaf = |design: &str| {
                broken(&scenario, design, Reductions::ALL).contains(&Invariant::NoUseAfterFree)
            };
            assert!(!uaf(design), "{} under {design}", scenario.head.name);
            let none = format!("{design},grace=none");
            assert!(uaf(&none), "{} under {none}", scenario.head.name);
        }
    }
}
