//! Who can know its scheduler: the table, its counts, the bugs that reviewers found, and the broken twins.
//!
//! Expected verdicts of shipped scenarios are compared in `job.rs`.

mod common;

use struct_ops_model::reach::{Found, Kind, Reach};
use struct_ops_model::{Design, Invariant};
use struct_ops_sim::bounds::UNBOUNDED;
use struct_ops_sim::check::Settings;
use struct_ops_sim::explore::Reductions;
use struct_ops_sim::reach::{self, Event, Explored, Help, Verdict, explore, universe};
use struct_ops_sim::report::reach::table;
use struct_ops_sim::report::screen::Screen;
use struct_ops_sim::scenario::InputError;
use struct_ops_sim::scenario::{Case, ReachScenario};
use struct_ops_sim::shipped;
use struct_ops_sim::tracefile::{File, Replayed};
use struct_ops_sim::walk::{self, trace};

fn scenario(name: &str) -> ReachScenario {
    match common::case(name) {
        Case::Reach(scenario) => *scenario,
        Case::Attach(_) => panic!("{name} is about the attach path"),
    }
}

fn design(text: &str) -> Design {
    Design::parse(text).unwrap()
}

fn kind(text: &str) -> Kind {
    Kind::parse(text).unwrap()
}

/// What a scenario breaks under a design, and at which step of a shortest run.
fn broken(name: &str, under: &str) -> Vec<(Invariant, &'static str)> {
    let settings = Settings {
        threads: 1,
        max_states: None,
        exact: false,
        reductions: Reductions::ALL,
    };
    let run = reach::check(
        &scenario(name),
        &design(under),
        &settings,
        &UNBOUNDED,
        &mut |_| (),
    )
    .unwrap();
    let all = Invariant::ALL.iter();
    let found = all.filter_map(|i| Some((*i, run.shortest(*i)?.place.map_or("the end", |p| p.0))));
    found.collect()
}

/// The choices that reviewers fought over, and the mistakes: each is found out by a scenario that the design
/// without it passes, or breaks less. The last word is the step at which the shortest run is caught.
const CHOICES: [(&str, &str, &str, Invariant, &str); 14] = [
    (
        "association",
        "assoc-share=keep-first",
        "shared-program",
        Invariant::NoOtherScheduler,
        "Ask",
    ),
    (
        "association",
        "assoc-share=overwrite",
        "shared-program",
        Invariant::NoOtherScheduler,
        "Ask",
    ),
    (
        "association",
        "assoc-free=clear-poison",
        "third-map",
        Invariant::NoOtherScheduler,
        "Ask",
    ),
    (
        "association",
        "assoc-free=clear-poison",
        "third-map",
        Invariant::AssocRules,
        "MapClear",
    ),
    (
        "association",
        "assoc-ref=getter",
        "tracer-timer-outlives-map",
        Invariant::NoFreedScheduler,
        "Ask",
    ),
    (
        "association",
        "assoc-get=put",
        "tracer-timer-outlives-map",
        Invariant::AssocRules,
        "Ask",
    ),
    (
        "association",
        "assoc-again=counted",
        "tracer-timer-outlives-map",
        Invariant::AssocRules,
        "Associate",
    ),
    (
        "association",
        "assoc-undo=twice",
        "failed-second-map",
        Invariant::AssocRules,
        "MapUpdate",
    ),
    (
        "association",
        "assoc-undo=twice",
        "failed-second-map",
        Invariant::NoFreedScheduler,
        "Enter",
    ),
    (
        "association",
        "assoc-clear=after-gp",
        "timer-outlives-link",
        Invariant::NoFreedScheduler,
        "Use",
    ),
    (
        "this-pointer",
        "this-clear=detach",
        "attach-again",
        Invariant::CookieReachability,
        "Ask",
    ),
    (
        "rfc",
        "cookie-read=current",
        "timer-over-program",
        Invariant::NoOtherScheduler,
        "Ask",
    ),
    (
        "association",
        "twin=no-dead-check",
        "two-schedulers",
        Invariant::NoDeadScheduler,
        "Ask",
    ),
    (
        "rfc",
        "twin=stale-entry",
        "two-schedulers",
        Invariant::NoFreedScheduler,
        "Ask",
    ),
];

#[test]
fn every_choice_that_reviewers_fought_over_is_found_out() {
    let mut missed = String::new();
    for (preset, choice, scenario, invariant, step) in CHOICES {
        let without = broken(scenario, preset);
        let with = broken(scenario, &format!("{preset},{choice}"));
        if without.iter().any(|b| b.0 == invariant) || !with.contains(&(invariant, step)) {
            missed += &format!(
                "{preset}: {without:?}, with {choice}: {with:?}, in {scenario}, not {step}\n"
            );
        }
    }
    assert!(missed.is_empty(), "{missed}");
}

#[test]
fn no_invariant_of_lookups_is_without_twin() {
    for invariant in Invariant::ALL.iter().filter(|i| i.of_lookups()) {
        assert!(
            CHOICES.iter().any(|c| c.3 == *invariant),
            "{}",
            invariant.id()
        );
    }
}

/// What they expect is compared with what they get in `job.rs`.
#[test]
fn scenarios_say_something_of_every_design() {
    for case in struct_ops_sim::shipped::all().unwrap() {
        // But for the one that is about a kfunc with a task.
        let about = |d: &Design| case.head().name != "task-argument" || d.name == "task";
        if let Case::Reach(s) = &case {
            for preset in Design::presets() {
                let runs = case.runs_under(&preset, false);
                assert_eq!(runs, about(&preset), "{}", s.head.name);
            }
        }
    }
}

/// Design, program, verdict, help, steps of the witness or counterexample.
const CELLS: &str = "\
task struct_ops self none 6
task fentry wrong none 11
mainline struct_ops self none 6
mainline fentry wrong none 11
rfc struct_ops with-help cookie 6
rfc struct_ops+timer with-help stash 8
rfc syscall with-help global 8
rfc,cookie-read=current struct_ops+timer wrong cookie 14
map-id fentry with-help global 8
this-pointer fentry none none 7
association fentry with-help assoc 8
association struct_ops+tailcall none assoc 4
";

#[test]
fn cells_are_what_they_were_and_replay() {
    let mut now = String::new();
    for line in CELLS.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let cell = reach::cell(&design(words[0]), kind(words[1]), false, &UNBOUNDED).unwrap();
        let trace = trace(&cell.reach(), &cell.trace).unwrap();
        let last = trace.steps.last().unwrap();
        match cell.verdict {
            Verdict::Own | Verdict::WithHelp => assert!(matches!(last.found, Some(Found::Own(_)))),
            Verdict::None => assert!(!matches!(last.found, Some(Found::Own(_)) | None)),
            Verdict::Wrong => assert!(!last.broke.is_empty()),
            Verdict::Incomplete(bound) => panic!("{bound:?}"),
        }
        now += &format!(
            "{} {} {} {} {}\n",
            cell.design,
            cell.kind,
            cell.verdict.word(),
            cell.help.word(),
            trace.steps.len()
        );
    }
    assert_eq!(now, CELLS, "the cells of today:\n{now}");
}

/// Program, help, states and transitions of its universe.
const COUNTS: &str = "\
rfc struct_ops cookie 760 2514
association fentry assoc 4132 17312
this-pointer struct_ops+timer none 4106 14676
";

#[test]
fn states_and_transitions_are_what_they_were() {
    let mut now = String::new();
    for line in COUNTS.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let (design, kind) = (design(words[0]), kind(words[1]));
        let help = Help::ALL.iter().find(|h| h.1 == words[2]).unwrap().0;
        let world = universe(&design, kind, help, false);
        let explored = Explored::new(Reach::new(world, design), true);
        let mut counts = Vec::new();
        for threads in [1, 2] {
            let o = explore(&explored, threads, None, &UNBOUNDED, &mut |_| ()).unwrap();
            counts.push((o.explored.states, o.explored.transitions));
        }
        assert_eq!(counts[0], counts[1], "threads make no difference");
        let (states, transitions) = counts[0];
        now += &format!(
            "{} {} {} {states} {transitions}\n",
            words[0], words[1], words[2]
        );
    }
    assert_eq!(now, COUNTS, "the counts of today:\n{now}");
}

#[test]
fn a_saved_run_is_carried_out_again() {
    let cell = reach::cell(&design("association"), kind("fentry"), false, &UNBOUNDED).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("trace.json");
    let trace = trace(&cell.reach(), &cell.trace).unwrap();
    File::of_cell(&cell, &trace).save(&file).unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    let again = |text: &str| -> Result<Replayed, InputError> {
        File::parse("trace.json", text)?.replay("trace.json", None)
    };
    let replayed = again(&text).unwrap();
    assert_eq!(replayed.trace, trace);
    assert_eq!(replayed.as_recorded(), Some(true));
    let other = text.replacen("\"finds\": \"own\"", "\"finds\": \"nothing\"", 1);
    assert_eq!(again(&other).unwrap().as_recorded(), Some(false));
    let wrong = |from: &str, to: &str| {
        assert!(text.contains(from));
        again(&text.replacen(from, to, 1)).unwrap_err().to_string()
    };
    assert!(
        wrong("map_create 0", "map_creat 0").contains("step 2: `loader 0 map_creat 0` is no step")
    );
    assert!(
        wrong("map_create 0", "map_create 1")
            .contains("step 2: `loader 0 map_create 1` is not enabled; enabled are")
    );
    assert!(wrong("\"fentry\"", "\"fentri\"").contains("did you mean `fentry`?"));
    assert!(wrong("\"assoc\"", "\"cookie\"").contains("unknown help"));
}

/// The same object file for both: what belongs to an attachment tells them apart, what belongs to the program does not.
#[test]
fn one_object_file_for_two_schedulers() {
    let verdict = |d: &str, k: &str| {
        reach::cell(&design(d), kind(k), true, &UNBOUNDED)
            .unwrap()
            .verdict
    };
    assert_eq!(verdict("rfc", "struct_ops"), Verdict::WithHelp);
    assert_eq!(verdict("rfc", "fentry"), Verdict::WithHelp);
    assert_eq!(verdict("map-id,map-id-in=slot", "struct_ops"), Verdict::Own);
    assert_eq!(verdict("map-id", "struct_ops"), Verdict::Wrong);
    assert_eq!(verdict("this-pointer", "struct_ops"), Verdict::None);
    assert_eq!(verdict("association", "struct_ops"), Verdict::None);
}

/// `source = "task"` is about the kfunc, not about the design: the scheduler found is the task's under every one.
#[test]
fn a_kfunc_that_takes_a_task_takes_it_under_every_design() {
    let Ok(Case::Reach(scenario)) = shipped::find_case("task-argument") else {
        panic!("it is about lookups");
    };
    let settings = Settings {
        threads: 1,
        max_states: None,
        exact: false,
        reductions: Reductions::ALL,
    };
    for name in ["task", "association", "rfc"] {
        let run = reach::check(&scenario, &design(name), &settings, &UNBOUNDED, &mut |_| ());
        let run = run.unwrap();
        let found = run.shortest(Invariant::NoOtherScheduler).expect(name);
        assert_eq!(found.broken().label(), Some("AskTask"), "{name}");
    }
}

/// A member gets its attachment as an argument where the design hands it over, and is refused elsewhere.
#[test]
fn an_argument_is_there_where_the_design_hands_it_over() {
    let Ok(Case::Reach(scenario)) = shipped::find_case("task-argument") else {
        panic!("it is about lookups");
    };
    let text = scenario
        .head
        .text
        .replace("source = \"task\"", "source = \"argument\"");
    let scenario = ReachScenario::parse("argument", "argument.toml", &text).unwrap();
    for (name, refused) in [("argument", false), ("map-id", true), ("association", true)] {
        let design = design(name);
        let explored = Explored::new(walk::lookup(&scenario, &design), true);
        let outcome = explore(&explored, 1, None, &UNBOUNDED, &mut |_| ()).unwrap();
        let own = |e: &Event| matches!(e, Event::Found(Found::Own(_)));
        let reached = outcome.events.iter().any(|(e, _)| own(e));
        assert_eq!(reached, !refused, "{name}: {:?}", outcome.events.first());
    }
}

/// Who calls a callback back is a step of its own kind.
#[test]
fn timers_and_work_queues_are_told_apart() {
    for (program, expected) in [("struct_ops+timer", "Timer"), ("struct_ops+wq", "Wq")] {
        let cell = reach::cell(&design("map-id"), kind(program), false, &UNBOUNDED).unwrap();
        let trace = trace(&cell.reach(), &cell.trace).unwrap();
        let fires = trace.steps.iter().filter(|s| s.action.contains(" fire "));
        let labels: Vec<_> = fires.map(|s| s.label).collect();
        assert_eq!(labels, [expected], "{program}");
    }
}

#[test]
fn the_table_fits_a_terminal() {
    let designs = Design::presets();
    let cells = reach::cells(
        &designs,
        &[kind("struct_ops+freplace"), kind("fentry")],
        false,
        2,
        &UNBOUNDED,
    )
    .unwrap();
    let table = table(&Screen::plain(80), &cells);
    assert!(table.lines().all(|l| l.len() <= 80), "{table}");
    assert!(
        table.contains("rfc*: rfc, rfc-one-link, link-owned agree in every row"),
        "{table}"
    );
    assert_eq!(cells.len(), 2 * designs.len());
}

/// A finding's code says what it was.
#[test]
fn events_are_told_apart() {
    let (design, kind) = (design("mainline"), kind("fentry"));
    let world = universe(&design, kind, Help::None, false);
    let outcome = explore(
        &Explored::new(Reach::new(world, design), true),
        1,
        None,
        &UNBOUNDED,
        &mut |_| (),
    )
    .unwrap();
    let has = |event: Event| outcome.events.iter().any(|e| e.0 == event);
    assert!(has(Event::Found(Found::Own(0))) && has(Event::Found(Found::Own(1))));
    assert!(
        outcome
            .events
            .iter()
            .any(|e| matches!(e.0, Event::Broken(Invariant::NoOtherScheduler, _)))
    );
}

#[test]
fn mistakes_in_files_are_explained() {
    let good = include_str!("../scenarios/two-schedulers.toml");
    let wrong = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        let text = good.replacen(from, to, 1);
        ReachScenario::parse("x", "x.toml", &text)
            .unwrap_err()
            .to_string()
    };
    for (from, to, says) in [
        (
            "kind = \"fentry\"",
            "kind = \"fentyr\"",
            "did you mean `fentry`?",
        ),
        ("attach hookA", "atach hookA", "unknown operation `atach`"),
        (
            "attach hookA",
            "attach hookB",
            "unknown attachment `hookB`: the only one is hookA",
        ),
        ("attach hookA", "attach", "expected `attach ATTACHMENT`"),
        ("assoc probeA A", "assoc probeA C", "unknown scheduler `C`"),
        (
            "programs = [\"tickA\"]",
            "programs = [\"probeA\"]",
            "`probeA` is a fentry program: expected struct_ops",
        ),
        (
            "program = \"probeA\"",
            "program = \"tickA\"",
            "is attached with its scheduler",
        ),
        ("depth = 2", "depth = 9", "`depth` is 9: expected 1 to 3"),
        (
            "rfc = []",
            "rfc = [\"no-leak\"]",
            "is not judged by this kind of scenario",
        ),
        ("title =", "titel =", "did you mean `title`?"),
    ] {
        let said = wrong(from, to);
        assert!(said.contains(says), "{to}: {said}");
        assert!(said.starts_with("x.toml:"), "{said}");
    }
}
