//! Trace files: what is saved replays to the same end, and whatever is wrong with a file is explained.

use struct_ops_sim::bounds::UNBOUNDED;

use struct_ops_model::{Action, Design, Invariant, Machine};
use struct_ops_sim::check::{Settings, check};
use struct_ops_sim::explore::Reductions;
use struct_ops_sim::scenario::Scenario;
use struct_ops_sim::schedule::{self, Chooser};
use struct_ops_sim::trace::trace;
use struct_ops_sim::tracefile::{replay, save};
use struct_ops_sim::verdict::Path;

const TEXT: &str = include_str!("scenarios/two-links.toml");

fn scenario() -> Scenario {
    Scenario::parse("two-links", "two-links.toml", TEXT).unwrap()
}

fn saved(actions: &[Action], design: &Design) -> String {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("trace.json");
    save(&file, &scenario(), design, actions).unwrap();
    std::fs::read_to_string(file).unwrap()
}

#[test]
fn counterexamples_replay_to_what_they_broke() {
    let scenario = scenario();
    for reductions in [Reductions::ALL, Reductions::NONE] {
        let settings = Settings {
            threads: 1,
            max_states: None,
            exact: false,
            reductions,
        };
        let design = Design::rfc();
        let run = check(&scenario, &design, &settings, &UNBOUNDED, &mut |_| ()).unwrap();
        assert!(run.shortest(Invariant::CookieFidelity).is_some());
        for found in &run.found {
            let Path::Attach(violation, actions) = &found.path else {
                panic!("the attach path was explored");
            };
            let replayed = replay("trace.json", &saved(actions, &design)).unwrap();
            assert_eq!(replayed.design, design);
            assert_eq!(replayed.trace.steps.len(), actions.len());
            assert!(
                replayed.trace.broken().any(|(_, v)| v == *violation),
                "{violation:?}"
            );
        }
    }
}

#[test]
fn schedules_replay() {
    let scenario = scenario();
    for design in Design::attach_paths() {
        let machine = Machine::new(scenario.world.clone(), design.clone()).unwrap();
        for seed in (0..20).map(Some).chain([None]) {
            let actions = schedule::run(&machine, &mut Chooser::new(seed));
            let shown = trace(&machine, &actions).unwrap();
            assert!(shown.ended || shown.broken().next().is_some());
            assert_eq!(
                replay("trace.json", &saved(&actions, &design))
                    .unwrap()
                    .trace,
                shown
            );
        }
    }
}

#[test]
fn what_is_wrong_is_said() {
    let machine = Machine::new(scenario().world, Design::mainline()).unwrap();
    let good = saved(
        &schedule::run(&machine, &mut Chooser::Fair),
        &Design::mainline(),
    );
    let broken = |text: &str| {
        replay("trace.json", text)
            .expect_err("a mistake")
            .to_string()
    };
    for (text, message) in [
        (&good[..good.len() / 2], "the file ends too early"),
        ("", "trace.json:1:1: the file ends too early"),
        (
            &good.replacen("\"schema\": 1", "\"schema\": 2", 1),
            "schema 2: expected 1",
        ),
        (
            &good.replacen("\"actions\"", "\"action\"", 1),
            "unknown field `action`",
        ),
        (
            &good.replacen("\"mainline\"", "\"mainlin\"", 1),
            "did you mean `mainline`?",
        ),
        (
            &good.replacen("subsystem", "subsytem", 1),
            "did you mean `subsystem`?",
        ),
        (&good.replacen("cpu0 step", "cpu0 stop", 1), "is no action"),
        (
            &good.replacen("cpu0 begin link_create", "cpu9 begin link_create", 1),
            "step 1: `cpu9 begin link_create",
        ),
        (
            &good.replacen("\"cpu0 begin", "\"cpu1 begin", 1),
            "is not enabled; enabled are `cpu0 begin link_create",
        ),
        (
            &good
                .replacen("      \"cpu0 step\",\n", "", 1)
                .replacen("    \"cpu0 step\",\n", "", 1),
            "is not enabled",
        ),
    ] {
        let found = broken(text);
        assert!(
            found.starts_with("trace.json") && found.contains(message),
            "expected {message}, found {found}"
        );
    }
}

#[test]
fn whatever_the_parser_accepts_runs() {
    fn runs(moves: Vec<(u16, u16)>, seed: u64) -> bool {
        let mut words: Vec<&str> = TEXT.split_inclusive([' ', '\n', '"', ',']).collect();
        for (a, b) in moves.into_iter().take(3) {
            let (a, b) = (usize::from(a) % words.len(), usize::from(b) % words.len());
            words[a] = words[b];
        }
        let Ok(scenario) = Scenario::parse("moved", "moved.toml", &words.concat()) else {
            return true;
        };
        for design in Design::attach_paths() {
            let Ok(machine) = Machine::new(scenario.world.clone(), design) else {
                continue;
            };
            let actions = schedule::run(&machine, &mut Chooser::new(Some(seed)));
            assert!(trace(&machine, &actions).is_ok());
        }
        true
    }
    quickcheck::QuickCheck::new()
        .tests(2000)
        .quickcheck(runs as fn(Vec<(u16, u16)>, u64) -> bool);
}
