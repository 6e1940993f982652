//! Reports over results made by hand: verdicts, expectations, widths.

use struct_ops_model::{Action, Design, Invariant, Pc, Violation};
use struct_ops_sim::report::matrix;
use struct_ops_sim::report::summary::{Detail, command, quote, summary};
use struct_ops_sim::scenario::{Case, Scenario};
use struct_ops_sim::verdict::{Bound, Counterexample, Path, Results, Run, Verdict};

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
        skipped: 0,
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
    for table in [matrix::verdicts(&results), matrix::witnesses(&results)] {
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
