//! The random engine: a seed decides everything, shrinking keeps what broke, and whatever it finds in a
//! world the exhaustive engine finds there too.

use struct_ops_sim::bounds::UNBOUNDED;

use struct_ops_model::{Design, Linux, Machine, Pc, Violation};
use struct_ops_sim::check::{Settings, check};
use struct_ops_sim::explore::Reductions;
use struct_ops_sim::random::{self, Finding, Judgement};
use struct_ops_sim::scenario::{Scenario, Words, emit};
use struct_ops_sim::trace::Broken;
use struct_ops_sim::walk::trace;

const WORDS: Words<'static> = Words {
    title: "A \"title\"",
    question: "A question\nin two lines",
    source: "-",
};

#[test]
fn the_seed_decides_everything() {
    for seed in 0..40 {
        assert_eq!(random::world(seed), random::world(seed));
        assert_eq!(
            random::run(seed, &Design::rfc()),
            random::run(seed, &Design::rfc())
        );
    }
}

#[test]
fn worlds_survive_a_scenario_file() {
    for seed in 0..2000 {
        let world = random::world(seed);
        let text = emit(WORDS, &world);
        let read = Scenario::parse("emitted", "emitted.toml", &text)
            .unwrap_or_else(|e| panic!("seed {seed}: {e}\n{text}"));
        assert_eq!(read.world, world, "seed {seed}\n{text}");
    }
}

#[test]
fn worlds_run_under_every_design() {
    for seed in 0..500 {
        for design in Design::attach_paths() {
            if let Err(e) = Machine::new(random::world(seed), design.clone()) {
                panic!(
                    "seed {seed}, {design}: {e}\n{}",
                    emit(WORDS, &random::world(seed))
                );
            }
        }
    }
}

#[test]
fn shrinking_keeps_the_violation_and_only_makes_smaller() {
    for design in Design::attach_paths() {
        for seed in 0..60 {
            let Some(finding) = random::run(seed, &design).finding else {
                assert_eq!(random::violation(seed, &design), None);
                continue;
            };
            let before = random::violation(seed, &design).expect("it broke before it shrank");
            assert_eq!(before.invariant, finding.violation.invariant);
            assert!(random::operations(&finding.world) <= finding.before.1);
            let machine = Machine::new(finding.world.clone(), design.clone()).unwrap();
            let shown = trace(&machine, &finding.actions).expect("every action is enabled");
            assert!(
                shown
                    .broken()
                    .any(|(_, b)| b == Broken::of(finding.violation, shown.linux))
            );
        }
    }
}

#[test]
fn the_exhaustive_engine_finds_it_too() {
    let settings = Settings {
        threads: 1,
        max_states: None,
        exact: false,
        reductions: Reductions::ALL,
    };
    for design in Design::attach_paths() {
        for finding in (0..40).filter_map(|seed| random::run(seed, &design).finding) {
            let text = finding.scenario();
            let scenario = Scenario::parse("found", "found.toml", &text).unwrap();
            assert_eq!(scenario.world, finding.world, "{text}");
            let run = check(&scenario, &design, &settings, &UNBOUNDED, &mut |_| ()).unwrap();
            let invariant = finding.violation.invariant;
            assert!(
                run.shortest(invariant).is_some(),
                "{design}: {} in\n{text}",
                invariant.id()
            );
        }
    }
}

#[test]
fn link_owned_breaks_nothing() {
    let mut excused = 0;
    for seed in 4000..6000 {
        if let Some(f) = random::run(seed, &Design::link_owned()).finding {
            // 6.12's bpf_scx_unreg() disables whatever is enabled, and an attach to a cgroup of 7.4 does not look whether it is
            // there: nothing outside of them can prevent that.
            if matches!(f.judge(None), Judgement::Subsystem(_)) {
                excused += 1;
                continue;
            }
            panic!(
                "seed {seed}: {} at {}\n{}",
                f.violation.invariant.id(),
                f.violation.step.name(),
                f.scenario()
            );
        }
    }
    assert!(excused > 0, "the seeds meet it");
}

#[test]
fn only_the_subsystems_own_bug_is_excused() {
    // One that a later kernel does not have any more.
    let mut finding = (5700..6000)
        .filter_map(|seed| random::run(seed, &Design::link_owned()).finding)
        .find(|finding| finding.world.linux < Linux::V7_3)
        .expect("the seeds meet it");
    assert!(matches!(finding.judge(None), Judgement::Subsystem(_)));
    let elsewhere = Finding {
        violation: Violation {
            step: Pc::SingletonUnreg,
            ..finding.violation
        },
        ..finding.clone()
    };
    assert_eq!(elsewhere.judge(None), Judgement::New);
    assert_eq!(finding.judge(Some(&[])), Judgement::New);
    let invariant = finding.violation.invariant;
    assert_eq!(finding.judge(Some(&[invariant])), Judgement::Expected);
    finding.world.linux = Linux::V7_3;
    assert_eq!(finding.judge(None), Judgement::New);
    finding.design = Design::rfc();
    assert_eq!(finding.judge(None), Judgement::Expected);
}
