//! Reports over results made by hand: verdicts, expectations, widths.

use struct_ops_model::place::{Code, Site};
use struct_ops_model::reach::Kind;
use struct_ops_model::{Design, Invariant, Machine, Pc, StepSet};
use struct_ops_sim::bounds::UNBOUNDED;
use struct_ops_sim::check::{Settings, check};
use struct_ops_sim::explore::Reductions;
use struct_ops_sim::reach;
use struct_ops_sim::report::screen::Screen;
use struct_ops_sim::report::summary::{Detail, command, summary};
use struct_ops_sim::report::text::columns;
use struct_ops_sim::report::{explain, list, matrix, reach as lookup, trace as table};
use struct_ops_sim::scenario::{Case, Scenario};
use struct_ops_sim::shipped;
use struct_ops_sim::verdict::{Bound, Counterexample, Results, Run, Skipped, Verdict};
use struct_ops_sim::walk::Walked as _;

const TEXT: &str = include_str!("scenarios/two-links.toml");

fn run(design: &Design, broken: &[(Invariant, usize)], expected: Option<&[Invariant]>) -> Run {
    let found = broken.iter().map(|(invariant, steps)| Counterexample {
        invariant: *invariant,
        place: Some(("CallBody", Site::Code(Code::Program))),
        transitions: *steps,
        steps: *steps,
        actions: vec!["cpu0 step".into(); *steps],
    });
    Run {
        scenario: "two-links".into(),
        design: design.clone(),
        lookups: false,
        expected: expected.map(<[Invariant]>::to_vec),
        states: 20_000_000,
        transitions: 60_000_000,
        depth: 40,
        seconds: 1.5,
        bytes_per_state: 17.25,
        witnesses: vec![3; Invariant::ALL.len()],
        taken: StepSet::from_iter([Pc::CallBody]),
        fates: Vec::new(),
        found: found.collect(),
        bound: None,
    }
}

/// What the attach path can break.
fn attach() -> impl Iterator<Item = Invariant> {
    Invariant::ALL.iter().copied().filter(|i| !i.of_lookups())
}

/// Whether every line fits; one that is a single word after its margin cannot be broken, nor may a command be.
fn fits(text: &str, width: usize) {
    for line in text.lines() {
        let words = line.split_whitespace().count();
        let single = words == 1 || line.trim_start().starts_with("* ") && words == 2;
        let command = line.contains("struct-ops-sim ");
        let wide = columns(line) > width;
        assert!(!wide || single || command, "{width} columns: {line}");
    }
}

fn results(designs: Vec<Design>, runs: Vec<Run>) -> Results {
    let scenario = Scenario::parse("two-links", "two-links.toml", TEXT).unwrap();
    Results {
        scenarios: vec![Case::Attach(Box::new(scenario))],
        designs,
        invariants: attach().collect(),
        runs,
        skipped: Vec::new(),
        stopped: None,
        failed: Vec::new(),
        at: None,
        part: false,
    }
}

#[test]
fn verdicts_follow_what_was_found() {
    use Invariant::{CookieFidelity, NoLeak, NoUseAfterFree};
    let mut rfc = run(
        &Design::rfc(),
        &[(NoLeak, 9)],
        Some(&[NoLeak, CookieFidelity]),
    );
    assert_eq!(rfc.verdict(NoLeak), Verdict::Violated);
    assert_eq!(rfc.verdict(NoUseAfterFree), Verdict::Holds);
    assert!(rfc.differs(CookieFidelity) && !rfc.differs(NoLeak));
    rfc.bound = Some(Bound::MaxStates);
    assert_eq!(rfc.verdict(NoUseAfterFree), Verdict::Incomplete);
    assert!(
        !rfc.differs(CookieFidelity),
        "what was not seen contradicts nothing"
    );
    let mainline = run(&Design::mainline(), &[], Some(&[]));
    assert_eq!(mainline.verdict(CookieFidelity), Verdict::NotApplicable);
    assert!(Invariant::ALL.iter().all(|i| !mainline.differs(*i)));
    let surprise = run(&Design::mainline(), &[(NoLeak, 4)], Some(&[]));
    assert!(surprise.differs(NoLeak));
    assert!(!run(&Design::mainline(), &[(NoLeak, 4)], None).differs(NoLeak));
}

/// `holds` is said only of what was asked, exercised and seen whole.
#[test]
fn no_verdict_is_said_of_what_did_not_happen() {
    use Invariant::{AssocRules, CookieFidelity, NoDeadScheduler, NoLeak};
    let (mainline, rfc) = (Design::mainline(), Design::rfc());
    let idle = |design| Run {
        witnesses: vec![0; Invariant::ALL.len()],
        ..run(design, &[], Some(&[NoLeak]))
    };
    assert_eq!(idle(&rfc).verdict(NoLeak), Verdict::NeverExercised);
    assert_eq!(idle(&rfc).verdict(NoDeadScheduler), Verdict::NotAsked);
    assert_eq!(idle(&rfc).verdict(AssocRules), Verdict::NotApplicable);
    assert!(idle(&rfc).differs(NoLeak), "it was to be violated");
    assert!(
        !idle(&rfc).differs(CookieFidelity),
        "a scenario need not exercise everything"
    );

    let mut all = results(vec![mainline.clone(), rfc.clone()], vec![idle(&rfc)]);
    assert_eq!(all.overall(&rfc, NoLeak), Verdict::NeverExercised);
    assert_eq!(all.overall(&mainline, NoLeak), Verdict::NotAsked);
    assert_eq!(
        all.overall(&mainline, CookieFidelity),
        Verdict::NotApplicable
    );
    let text = matrix::verdicts(&Screen::plain(80), &all);
    for verdict in [
        Verdict::NeverExercised,
        Verdict::NotAsked,
        Verdict::NotApplicable,
    ] {
        assert!(text.contains(verdict.cell()), "{text}");
        assert!(text.contains(verdict.word()), "{text}");
        assert!(text.contains(verdict.meaning()), "{text}");
    }
    assert!(!text.contains(Verdict::Holds.cell()), "{text}");

    // One scenario that exercises it is enough, unless another one was not seen whole.
    all.runs.push(run(&rfc, &[], None));
    assert_eq!(all.overall(&rfc, NoLeak), Verdict::Holds);
    all.skipped.push(Skipped {
        scenario: "other".into(),
        design: rfc.clone(),
        lookups: false,
    });
    assert_eq!(all.overall(&rfc, NoLeak), Verdict::Incomplete);
    assert!(matrix::verdicts(&Screen::plain(80), &all).contains(Verdict::Incomplete.meaning()));
    all.runs.push(run(&rfc, &[(NoLeak, 4)], None));
    assert_eq!(all.overall(&rfc, NoLeak), Verdict::Violated);
}

/// A design that was not run because it attaches as mainline does says so, and only beside mainline.
#[test]
fn as_mainline_stands_beside_mainline_alone() {
    let (mainline, map_id) = (Design::mainline(), Design::parse("map-id").unwrap());
    let runs = vec![run(&mainline, &[(Invariant::NoLeak, 4)], None)];
    let text = matrix::verdicts(
        &Screen::plain(80),
        &results(vec![mainline, map_id.clone()], runs),
    );
    assert!(text.contains("as mainline: map-id"), "{text}");
    assert!(!text.contains("not asked"), "{text}");
    let text = matrix::verdicts(&Screen::plain(80), &results(vec![map_id], vec![]));
    assert!(text.contains("not asked: "), "{text}");
    assert!(!text.contains("as mainline"), "{text}");
}

#[test]
fn the_shortest_over_all_scenarios_is_shown() {
    let design = Design::rfc();
    let mut other = run(&design, &[(Invariant::NoLeak, 5)], None);
    other.scenario = "other".into();
    let results = results(
        vec![design.clone()],
        vec![run(&design, &[(Invariant::NoLeak, 9)], None), other],
    );
    let (found, example) = results.shortest(&design, Invariant::NoLeak).unwrap();
    assert_eq!((found.scenario.as_str(), example.steps), ("other", 5));
    assert!(
        summary(&Screen::plain(80), &results, Detail::default())
            .contains("struct-ops-sim check --design rfc --scenario other --invariant no-leak")
    );
}

#[test]
fn the_matrix_fits_a_terminal() {
    let designs: Vec<Design> = [
        "mainline",
        "rfc",
        "rfc-one-link",
        "link-owned",
        "rfc,links=one",
        "rfc,kallsyms=before-reg",
    ]
    .map(|d| Design::parse(d).unwrap())
    .to_vec();
    let runs = designs
        .iter()
        .map(|d| run(d, &[(Invariant::NoUseAfterFree, 7)], None))
        .collect();
    let results = results(designs, runs);
    for width in 72..=200 {
        let screen = Screen::plain(width);
        for table in [
            matrix::verdicts(&screen, &results),
            matrix::exercised(&screen, &results),
        ] {
            fits(&table, width);
            let parts = table.matches("no-use-after-free").count();
            match width {
                80 => assert_eq!(parts, 2, "{table}"),
                200 => assert_eq!(parts, 1, "{table}"),
                _ => {}
            }
        }
    }
    let screen = Screen::plain(80);
    let all = summary(
        &screen,
        &results,
        Detail {
            coverage: true,
            ..Detail::default()
        },
    );
    assert!(all.contains("Never taken: "));
}

#[test]
fn a_command_names_what_was_run() {
    let design = Design::rfc();
    let results = results(
        vec![design.clone()],
        vec![run(&design, &[(Invariant::NoLeak, 1)], None)],
    );
    assert_eq!(
        command(
            &Screen::plain(80),
            &results,
            &results.runs[0],
            Invariant::NoLeak
        ),
        "struct-ops-sim check --design rfc --scenario two-links.toml --invariant no-leak"
    );
}

/// Scenarios with long function names, long lists of changes and several processes, under designs that break much.
const TOLD: &[(&str, &str)] = &[
    ("two-links-tcp", "rfc"),
    ("two-links-tcp", "mainline"),
    ("two-links-sched-ext", "mainline"),
];

#[test]
fn traces_fit_every_width() {
    let settings = Settings {
        threads: 1,
        max_states: None,
        exact: false,
        reductions: Reductions::ALL,
    };
    let mut told = 0;
    for (name, design) in TOLD {
        let scenario = shipped::find(name).unwrap();
        let design = Design::parse(design).unwrap();
        let machine = Machine::new(scenario.world.clone(), design.clone()).unwrap();
        let run = check(&scenario, &design, &settings, &UNBOUNDED, &mut |_| ()).unwrap();
        for found in &run.found {
            let trace = machine.carry_out(&found.actions).unwrap();
            for width in 72..=200 {
                let screen = Screen::plain(width);
                fits(&table::table(&screen, &trace), width);
                fits(&table::broke(&screen, &trace, found.broken()), width);
                fits(
                    &table::minimal(&screen, found.steps, found.transitions),
                    width,
                );
            }
            told += 1;
        }
    }
    assert!(told > 10, "{told} traces");
}

#[test]
fn lookups_and_listings_fit_every_width() {
    let scenarios = shipped::all().unwrap();
    let design = Design::parse("association").unwrap();
    let cell = reach::cell(&design, Kind::parse("fentry").unwrap(), false, &UNBOUNDED).unwrap();
    let lookup = lookup::trace(&cell).unwrap();
    for width in [72, 73, 80, 99, 100, 101, 137, 200] {
        let screen = Screen::plain(width);
        fits(&lookup::run(&screen, &cell, &lookup), width);
        for kind in list::KINDS {
            let section = list::section(kind, &scenarios);
            fits(&list::text(&screen, std::slice::from_ref(&section)), width);
            for name in section.names() {
                let text = explain::explain(&screen, &name, &scenarios);
                let text = text.unwrap_or_else(|| panic!("{name} is listed among {kind}"));
                assert!(text.contains(&name), "{text}");
                fits(&text, width);
            }
        }
    }
}
