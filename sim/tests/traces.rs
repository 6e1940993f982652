//! Trace files: what is saved replays to the same end, and whatever is wrong with a file is explained.

mod common;

use struct_ops_model::design::About;
use struct_ops_model::world::{Operation, Plan};
use struct_ops_model::{Action, Design, Invariant, Machine, Pc};
use struct_ops_sim::bounds::UNBOUNDED;
use struct_ops_sim::check::{Settings, check};
use struct_ops_sim::engine;
use struct_ops_sim::explore::{Explored, Reductions};
use struct_ops_sim::scenario::{InputError, Scenario};
use struct_ops_sim::schedule::{self, Chooser};
use struct_ops_sim::trace::Trace;
use struct_ops_sim::tracefile::{File, Promise, Replayed};
use struct_ops_sim::walk::{Walk as _, trace};

const TEXT: &str = include_str!("scenarios/two-links.toml");

fn scenario() -> Scenario {
    Scenario::parse("two-links", "two-links.toml", TEXT).unwrap()
}

fn written(actions: &[Action]) -> Vec<String> {
    actions.iter().map(|a| Machine::write(*a)).collect()
}

fn saved(actions: Vec<String>, design: &Design, breaks: Vec<Promise>) -> String {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("trace.json");
    let scenario = scenario();
    File::new(About::AttachPath, &scenario.head, design, actions, breaks)
        .save(&file)
        .unwrap();
    std::fs::read_to_string(file).unwrap()
}

fn replay(text: &str, design: Option<&Design>) -> Result<Replayed, InputError> {
    File::parse("trace.json", text)?.replay("trace.json", design)
}

fn attach(replayed: Replayed) -> Trace {
    assert_eq!(replayed.about, About::AttachPath);
    replayed.trace
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
            let broken = found.broken();
            let promise = Promise::new(broken, Some(found.steps));
            let text = saved(found.actions.clone(), &design, vec![promise]);
            let replayed = replay(&text, None).unwrap();
            assert_eq!(replayed.design, design);
            assert_eq!(replayed.as_recorded(), Some(true), "{broken:?}");
            // What rfc breaks here, mainline cannot: it has no cookies.
            let elsewhere = replay(&text, Some(&Design::mainline())).unwrap();
            assert_eq!(elsewhere.as_recorded(), Some(false), "{broken:?}");
            let trace = attach(replayed);
            assert_eq!(trace.steps.len(), found.actions.len());
            assert!(trace.broken().any(|(_, b)| b == broken), "{broken:?}");
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
            let text = saved(shown.actions(), &design, Promise::broken(&shown));
            let replayed = replay(&text, None).unwrap();
            assert_eq!(replayed.as_recorded(), Some(true));
            assert_eq!(attach(replayed), shown);
        }
    }
}

#[test]
fn what_is_wrong_is_said() {
    let machine = Machine::new(scenario().world, Design::mainline()).unwrap();
    let good = saved(
        trace(&machine, &schedule::run(&machine, &mut Chooser::Fair))
            .unwrap()
            .actions(),
        &Design::mainline(),
        Vec::new(),
    );
    let broken = |text: &str| replay(text, None).expect_err("a mistake").to_string();
    for (text, message) in [
        (&good[..good.len() / 2], "the file ends too early"),
        ("", "trace.json:1:1: the file ends too early"),
        (
            &good.replacen("\"schema\": 2", "\"schema\": 3", 1),
            "schema 3: struct-ops-sim 0.1.0 reads schemas 1 to 2",
        ),
        (
            &good.replacen("\"schema\": 2", "\"schema\": 0", 1),
            "schema 0: expected 1 or 2",
        ),
        (
            "{\"schema\": 2, \"design\": \"rfc\", \"actions\": []}",
            "expected one of `scenario` (the attach path) and `reach` (a lookup)",
        ),
        (
            &good.replacen("  \"breaks\": [],\n", "", 1),
            "schema 2: expected `version` and `breaks`",
        ),
        (
            &good.replacen(
                "\"breaks\": []",
                "\"breaks\": [{\"invariant\": \"no-leeks\", \"step\": 1, \"label\": null}]",
                1,
            ),
            "did you mean `no-leak`?",
        ),
        (
            &good.replacen("\"actions\"", "\"action\"", 1),
            "unknown key `action`",
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

/// Files of schema 1 record neither a version nor a promise: they are carried out, and nothing is compared.
#[test]
fn old_files_are_read() {
    let design = Design::rfc();
    let machine = Machine::new(scenario().world, design.clone()).unwrap();
    let actions = schedule::run(&machine, &mut Chooser::new(Some(3)));
    let now: serde_json::Value =
        serde_json::from_str(&saved(written(&actions), &design, Vec::new())).unwrap();
    let old = serde_json::json!({
        "schema": 1, "scenario": now["scenario"], "design": "rfc", "actions": now["actions"],
    });
    let replayed = replay(&old.to_string(), None).unwrap();
    assert_eq!(replayed.as_recorded(), None);
    assert_eq!(attach(replayed).steps.len(), actions.len());
}

/// Where the steps are others, a run takes another way: under the design and version of the file that is a mistake in
/// it, elsewhere it is the answer.
#[test]
fn a_run_that_parts_does_not_break_it_again() {
    let design = Design::rfc();
    let machine = Machine::new(scenario().world, design.clone()).unwrap();
    let (actions, shown) = (0..)
        .map(|seed| schedule::run(&machine, &mut Chooser::new(Some(seed))))
        .map(|actions| (actions.clone(), trace(&machine, &actions).unwrap()))
        .find(|(_, shown)| shown.broken().next().is_some())
        .unwrap();
    let text = saved(written(&actions), &design, Promise::broken(&shown));
    let mainline = replay(&text, Some(&Design::mainline())).unwrap();
    assert_eq!(mainline.as_recorded(), Some(false));
    assert!(mainline.again().iter().all(|a| a.found.is_none()));

    let first = text.replacen("\"cpu0 step\"", "\"cpu7 step\"", 1);
    assert!(
        replay(&first, None)
            .unwrap_err()
            .to_string()
            .contains("`cpu7 step` is not enabled")
    );
    let other = first.replacen("\"version\": \"", "\"version\": \"0.0.", 1);
    let other = replay(&other, None).unwrap();
    let parted = other.parted.clone().unwrap();
    assert!(parted.contains("`cpu7 step` is not enabled"), "{parted}");
    assert_eq!(other.as_recorded(), Some(false));
}

/// Nobody asks for a scheduler there: what a file of the attach path says of that is not compared.
#[test]
fn what_a_program_finds_is_of_lookups() {
    let design = Design::rfc();
    let machine = Machine::new(scenario().world, design.clone()).unwrap();
    let actions = schedule::run(&machine, &mut Chooser::Fair);
    let shown = trace(&machine, &actions).unwrap();
    let text = saved(shown.actions(), &design, Promise::broken(&shown));
    let text = text.replacen("\"actions\"", "\"finds\": \"nothing\", \"actions\"", 1);
    let replayed = replay(&text, None).unwrap();
    assert_eq!(replayed.finds(), None);
    assert_eq!(replayed.as_recorded(), Some(true));
}

/// What was saved because it breaks nothing must go on to break nothing.
#[test]
fn a_clean_run_stays_clean() {
    let design = Design::rfc();
    let machine = Machine::new(scenario().world, design.clone()).unwrap();
    for seed in 0..20 {
        let actions = schedule::run(&machine, &mut Chooser::new(Some(seed)));
        let breaks = trace(&machine, &actions).unwrap().broken().next().is_some();
        let replayed = replay(&saved(written(&actions), &design, Vec::new()), None).unwrap();
        assert_eq!(replayed.as_recorded(), Some(!breaks));
    }
}

/// An operation on a descriptor that is not open: it is named, it puts the contract to the test, and what the set-up
/// did counts as taken.
#[test]
fn what_does_not_exist_is_named() {
    let mut world = scenario().world;
    world.cpus.truncate(1);
    world.cpus[0].plan = Plan::Fixed(vec![Operation::LinkDetach { link: 1 }]);
    let machine = Machine::new(world.clone(), Design::mainline()).unwrap();
    let actions = schedule::run(&machine, &mut Chooser::new(None));
    let first = trace(&machine, &actions[..1]).unwrap();
    assert_eq!(first.steps[0].event, "link_detach l2: no such fd: -EBADF");
    let explored = Explored::new(world, Design::mainline(), Reductions::NONE).unwrap();
    assert!(explored.taken().contains(Pc::UpdMembers));
    assert!(!explored.taken().contains(Pc::LdCheck));
    let outcome = engine::explore(&explored, &engine::Options::default(), &mut |_| ());
    assert!(outcome.witnesses[Invariant::ErrnoContract as usize] > 0);
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

/// Whatever happens is a step of the model, the worker's and its callbacks' too.
#[test]
fn every_step_has_a_name() {
    let mut workers = std::collections::BTreeSet::new();
    for scenario in common::all() {
        for design in Design::attach_paths() {
            let Ok(machine) = Machine::new(scenario.world.clone(), design) else {
                continue;
            };
            for seed in 0..3 {
                let actions = schedule::run(&machine, &mut Chooser::new(Some(seed)));
                for step in trace(&machine, &actions).unwrap().steps {
                    let what = format!("{}: {}", scenario.head.name, step.action);
                    assert_ne!(step.label, Pc::Idle.name(), "{what}");
                    if step.actor == "work" {
                        let words = step.action.split(' ').skip(1);
                        workers.extend(words.take(1).map(str::to_string));
                    }
                }
            }
        }
    }
    let frees = ["attachment", "callback", "link", "map"];
    let all = frees.iter().all(|what| workers.contains(*what));
    assert!(all, "{workers:?}");
}
