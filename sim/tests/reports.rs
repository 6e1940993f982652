//! Reports over results made by hand: verdicts, expectations, widths.

use struct_ops_model::{Action, Design, Invariant, Pc, Violation};
use struct_ops_sim::report::matrix;
use struct_ops_sim::report::summary::{Detail, command, quote, summary};
use struct_ops_sim::scenario::{Case, Scenario};
use struct_ops_sim::verdict::{Bound, Counterexample, Path, Results, Run, Skipped, Verdict};

const TEXT: &str = include_str!("scenarios/two-links.toml");

fn run(design: &Design, broken: &[(Invariant, usize)], expected: Option<&[Invariant]>) -> Run {
    let found = broken.iter().map(|(invariant, steps)| {
        let violation = Violation {
            invariant: *invariant,
            step: Pc::CallBody,
        };
        Counterexample {
            invariant: *invariant,
            place: Some(("CallBody", "bpf_prog_run")),
            transitions: *steps,
            steps: *steps,
            path: Path::Attach(violation, vec![Action::Step(0, 0); *steps]),
        }
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
        taken: 1 << Pc::CallBody as u32,
        found: found.collect(),
        bound: None,
    }
}

/// What the attach path can break.
fn attach() -> impl Iterator<Item = Invariant> {
    Invariant::ALL.iter().copied().filter(|i| !i.of_lookups())
}

fn results(designs: Vec<Design>, runs: Vec<Run>) -> Results {
    let scenario = Scenario::parse("two-links", "two-links.toml", TEXT).unwrap();
    Results {
        scenarios: vec![Case::Attach(Box::new(scenario))],
        designs,
        invariants: attach().collect(),
        runs,
        skipped: Vec::new(),
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
    let text = matrix::verdicts(&all);
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
    assert!(matrix::verdicts(&all).contains(Verdict::Incomplete.meaning()));
    all.runs.push(run(&rfc, &[(NoLeak, 4)], None));
    assert_eq!(all.overall(&rfc, NoLeak), Verdict::Violated);
}

/// A design that was not run because it attaches as mainline does says so, and only beside mainline.
#[test]
fn as_mainline_stands_beside_mainline_alone() {
    let (mainline, map_id) = (Design::mainline(), Design::parse("map-id").unwrap());
    let runs = vec![run(&mainline, &[(Invariant::NoLeak, 4)], None)];
    let text = matrix::verdicts(&results(vec![mainline, map_id.clone()], runs));
    assert!(text.contains("as mainline: map-id"), "{text}");
    assert!(!text.contains("not asked"), "{text}");
    let text = matrix::verdicts(&results(vec![map_id], vec![]));
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
        summary(&results, Detail::default())
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
    for table in [matrix::verdicts(&results), matrix::exercised(&results)] {
        assert!(table.lines().all(|l| l.chars().count() <= 80), "{table}");
        assert_eq!(table.matches("no-use-after-free").count(), 2, "{table}");
    }
    let all = summary(
        &results,
        Detail {
            coverage: true,
            ..Detail::default()
        },
    );
    assert!(all.contains("Never taken: "));
}

#[test]
fn commands_survive_a_shell() {
    assert_eq!(quote("rfc,links=one"), "rfc,links=one");
    assert_eq!(quote("my file's"), r"'my file'\''s'");
    let design = Design::rfc();
    let results = results(
        vec![design.clone()],
        vec![run(&design, &[(Invariant::NoLeak, 1)], None)],
    );
    assert_eq!(
        command(&results, &results.runs[0], Invariant::NoLeak),
        "struct-ops-sim check --design rfc --scenario two-links.toml --invariant no-leak"
    );
}
