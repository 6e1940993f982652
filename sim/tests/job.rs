//! What `check` without arguments comes to, explored once for all tests here: what every shipped scenario expects, the
//! matrices of the README and the book, and what the README and the book say of verdicts.
//!
//! A sentence about verdicts is tested by a comment below its paragraph, which says the same in words that can be
//! evaluated, several of them apart by `;`:
//!
//! `<!-- check: DESIGN... [in SCENARIO...] VERDICT INVARIANT... [alone] -->`
//!
//! `every` stands for every preset, or every scenario in which the invariants are asked. Without `in` it is about the
//! verdict over all scenarios. With `alone`, no other invariant has the verdict. The verdicts are those of the matrix,
//! and `not violated`; `nothing` in the place of the invariants says that none has it.
//!
//! `JOB=overwrite cargo test --test job` writes the matrices of today into the README and the book, and the counts of
//! today into `counts/job.txt`.

#[path = "common/counts.rs"]
mod counts;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use counts::{each, pinned};
use struct_ops_model::pack::Packing;
use struct_ops_model::{Design, Invariant};
use struct_ops_sim::bounds::UNBOUNDED;
use struct_ops_sim::check::Settings;
use struct_ops_sim::explore::Reductions;
use struct_ops_sim::report::matrix;
use struct_ops_sim::report::screen::Screen;
use struct_ops_sim::report::summary::{Detail, summary};
use struct_ops_sim::report::text::columns;
use struct_ops_sim::scenario::Case;
use struct_ops_sim::verdict::{Results, Run, Verdict};
use struct_ops_sim::view::{self, Shown, html};
use struct_ops_sim::{campaign, check, counterexample, shipped, walk};

/// One pair explored; several of them are at once.
fn explore(case: &Case, design: &Design) -> Run {
    explore_some(case, design, None)
}

/// One pair explored up to a number of states.
fn explore_some(case: &Case, design: &Design, max_states: Option<u64>) -> Run {
    let settings = Settings {
        threads: 1,
        max_states,
        exact: false,
        reductions: Reductions::ALL,
    };
    let run = check::case(case, design, &settings, &UNBOUNDED, &mut |_| ());
    run.unwrap_or_else(|e| panic!("{} under {design}: {e}", case.head().name))
}

/// Every pair explored, on as many threads as there are processors.
fn explore_all(pairs: &[(&Case, &Design)], max_states: Option<u64>) -> Vec<Run> {
    each(pairs, |(case, design)| {
        explore_some(case, design, max_states)
    })
}

/// The results of the whole job, every pair on a thread of its own as long as there are any.
static JOB: LazyLock<Results> = LazyLock::new(|| {
    let mut scenarios = shipped::all().expect("shipped scenarios are right");
    scenarios.retain(|s| !s.head().extended);
    let designs = Design::presets();
    let (pairs, failed) = campaign::set_ups(campaign::pairs(&scenarios, &designs, false));
    Results {
        runs: explore_all(&pairs, None),
        failed,
        scenarios,
        designs,
        invariants: Invariant::ALL.to_vec(),
        skipped: Vec::new(),
        stopped: None,
        at: None,
        part: false,
    }
});

#[test]
fn every_scenario_gets_what_it_expects() {
    let unlike: Vec<String> = JOB
        .differences()
        .iter()
        .map(|(run, i)| {
            let (found, expected) = (run.verdict(*i).word(), run.expected(*i));
            let (scenario, design, id) = (&run.scenario, &run.design, i.id());
            format!("{scenario} under {design}: {id} {found}, expected {expected:?}")
        })
        .collect();
    assert!(unlike.is_empty(), "{}", unlike.join("\n"));
    assert!(JOB.failed.is_empty(), "{:?}", JOB.failed);
    assert!(!JOB.incomplete());
    // Nothing shipped says something of what did not happen.
    assert_eq!(JOB.vacuous(), []);
    let silent: Vec<&Run> = JOB.runs.iter().filter(|r| r.expected.is_none()).collect();
    assert!(silent.is_empty(), "no expectation: {silent:?}");
    for (design, invariant) in cells() {
        let verdict = JOB.overall(design, *invariant);
        let asked = verdict != Verdict::NotAsked || JOB.as_mainline(design, *invariant);
        assert!(asked, "{}: nobody asks {design}", invariant.id());
        let exercised = verdict != Verdict::NeverExercised || JOB.as_mainline(design, *invariant);
        assert!(exercised, "{design}: {}", invariant.id());
    }
}

/// Bytes of a run's first state.
fn packed(run: &Run) -> usize {
    let mut bytes = Vec::new();
    let mut cases = JOB.scenarios.iter();
    match cases.find(|case| case.head().name == run.scenario) {
        Some(Case::Attach(scenario)) => {
            let machine = walk::attach(scenario, &run.design).expect("it was explored");
            Packing::new(&machine.world, true).pack(&machine.initial(), &mut bytes);
        }
        Some(Case::Reach(scenario)) => walk::lookup(scenario, &run.design)
            .initial()
            .encode(&mut bytes),
        None => unreachable!("results have their scenarios"),
    }
    bytes.len()
}

/// What an exploration came to, in a line: whatever changes what a step does, tests or hides shows in one of them.
fn counted(run: &Run) -> String {
    let found = run.found.iter().map(|c| {
        let at = c.place.map_or("the end", |p| p.0);
        format!(", {} at {at} in {}", c.invariant.id(), c.steps)
    });
    format!(
        "{} {}: {} bytes, {} states, {} transitions, {} deep, {} steps taken, {} exercised{}\n",
        run.scenario,
        run.design,
        packed(run),
        run.states,
        run.transitions,
        run.depth,
        run.taken.iter().count(),
        run.witnesses.iter().sum::<u64>(),
        found.collect::<String>()
    )
}

#[test]
fn counts_are_those_of_today() {
    let now: String = JOB.runs.iter().map(counted).collect();
    pinned("job.txt", &now, ("JOB", "job"));
}

fn cells() -> impl Iterator<Item = (&'static Design, &'static Invariant)> {
    let designs = JOB.designs.iter();
    designs.flat_map(|d| JOB.invariants.iter().map(move |i| (d, i)))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace")
}

/// The designs that attach in ways of their own, the promises that no lookup is asked for, and their scenarios.
fn attaching() -> Results {
    let mut results = JOB.clone();
    results.designs = Design::attach_paths();
    results.invariants.retain(|i| !i.of_lookups());
    results.runs.retain(|run| !run.lookups);
    results
        .scenarios
        .retain(|case| matches!(case, Case::Attach(_)));
    results
}

#[test]
fn the_matrices_are_those_of_today() {
    let pages = [
        ("README.md", "attach", attaching()),
        ("docs/src/matrix.md", "all", JOB.clone()),
    ];
    for (page, what, results) in pages {
        let path = root().join(page);
        let text = fs::read_to_string(&path).expect(page);
        let mark = format!("<!-- matrix: {what} -->\n```text\n");
        let (before, after) = text.split_once(&mark).expect("a matrix");
        let (shown, after) = after.split_once("```").expect("its end");
        let now = matrix::verdicts(&Screen::plain(Screen::USUAL), &results);
        if std::env::var("JOB").is_ok_and(|v| v == "overwrite") {
            fs::write(&path, format!("{before}{mark}{now}```{after}")).expect(page);
        } else {
            assert!(
                shown == now,
                "{page}: `JOB=overwrite cargo test --test job`:\n{now}"
            );
        }
    }
}

/// "Above the matrix stands a command for each such cell."
#[test]
fn a_command_stands_above_the_matrix_for_each_violation() {
    let screen = Screen::plain(Screen::USUAL);
    let printed = summary(&screen, &JOB, Detail::default());
    let matrix = matrix::verdicts(&screen, &JOB);
    let (above, _) = printed.split_once(&matrix).expect("the matrix is printed");
    let mut commands = 0;
    for (design, invariant) in cells() {
        let command = |run: &Run| {
            let (scenario, id) = (&run.scenario, invariant.id());
            format!("check --design {design} --scenario {scenario} --invariant {id}\n")
        };
        let stands = JOB.of(design).any(|run| above.contains(&command(run)));
        let violated = JOB.overall(design, *invariant) == Verdict::Violated;
        assert_eq!(stands, violated, "{design}: {}", invariant.id());
        commands += usize::from(stands);
    }
    assert!(commands > 10, "{commands}");
}

/// The README and every page of the book.
fn pages() -> Vec<PathBuf> {
    let book = fs::read_dir(root().join("docs/src")).expect("the book");
    let book = book.map(|entry| entry.expect("a page").path());
    let pages = book.filter(|path| path.extension().is_some_and(|e| e == "md"));
    pages.chain([root().join("README.md")]).collect()
}

/// The comments of a page that are claims.
fn claims(text: &str) -> impl Iterator<Item = &str> {
    let parts = text.split("<!-- check:").skip(1);
    let comments = parts.map(|part| part.split_once("-->").expect("the comment's end").0);
    comments.flat_map(|comment| comment.split(';').map(str::trim))
}

/// What a claim says of an invariant.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Said {
    Verdict(Verdict),
    NotViolated,
}

impl Said {
    fn is(self, found: Verdict) -> bool {
        match self {
            Said::Verdict(verdict) => found == verdict,
            Said::NotViolated => ![Verdict::Violated, Verdict::Incomplete].contains(&found),
        }
    }
}

/// Where the verdict's words begin and end, and which it is.
fn said(claim: &str) -> Option<(&str, Said, &str)> {
    let all = Verdict::ALL.map(|v| (v.word(), Said::Verdict(v)));
    let words = [("not violated", Said::NotViolated)].into_iter().chain(all);
    words.into_iter().find_map(|(word, said)| {
        let (subject, invariants) = claim.split_once(&format!(" {word} "))?;
        Some((subject, said, invariants))
    })
}

/// What is wrong with a claim.
fn mistake(claim: &str) -> Result<(), String> {
    let (subject, said, rest) = said(claim).ok_or("no verdict in it")?;
    let (designs, scenarios) = match subject.split_once(" in ") {
        Some((designs, scenarios)) => (designs, Some(scenarios)),
        None => (subject, None),
    };
    let (ids, alone) = match rest.strip_suffix(" alone") {
        Some(ids) => (ids, true),
        None => (rest, rest == "nothing"),
    };
    let ids = ids.split_whitespace().filter(|id| *id != "nothing");
    let ids = ids.map(|id| Invariant::from_id(id).ok_or(format!("no invariant {id}")));
    let ids: Vec<Invariant> = ids.collect::<Result<_, _>>()?;
    let designs: Vec<Design> = match designs {
        "every" => Design::presets(),
        named => named
            .split_whitespace()
            .map(|d| Design::parse(d).map_err(|e| e.to_string()))
            .collect::<Result<_, _>>()?,
    };
    let judge = |place: &str, found: &dyn Fn(Invariant) -> Verdict| {
        for invariant in Invariant::ALL {
            let (is, verdict) = (said.is(found(*invariant)), found(*invariant).word());
            let id = invariant.id();
            if ids.contains(invariant) && !is || alone && is && !ids.contains(invariant) {
                return Err(format!("{place}: {id} {verdict}"));
            }
        }
        Ok(())
    };
    for design in &designs {
        let Some(scenarios) = scenarios else {
            let mainline = Design::mainline();
            judge(&design.name, &|i| match JOB.as_mainline(design, i) {
                true => JOB.overall(&mainline, i),
                false => JOB.overall(design, i),
            })?;
            continue;
        };
        let asked = |case: &Case| {
            let lookups = matches!(case, Case::Reach(_));
            ids.iter().all(|i| i.of_lookups() == lookups) && case.runs_under(design, false)
        };
        let cases: Vec<Case> = match scenarios {
            "every" => JOB.scenarios.iter().filter(|c| asked(c)).cloned().collect(),
            named => named
                .split_whitespace()
                .map(|name| shipped::find_case(name).map_err(|e| e.to_string()))
                .collect::<Result<_, _>>()?,
        };
        for case in &cases {
            // Those that attach as mainline does say of the attach path what it says.
            if !case.runs_under(design, false) && Design::presets().contains(design) {
                continue;
            }
            let place = format!("{design} in {}", case.head().name);
            let known = |r: &&Run| r.scenario == case.head().name && r.design == *design;
            match JOB.runs.iter().find(known) {
                Some(run) => judge(&place, &|i| run.verdict(i))?,
                None => {
                    let run = explore(case, design);
                    judge(&place, &|i| run.verdict(i))?;
                }
            }
        }
    }
    Ok(())
}

#[test]
fn what_is_said_of_verdicts_is_so() {
    let (mut count, mut wrong) = (0, Vec::new());
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page");
        for claim in claims(&text) {
            count += 1;
            if let Err(why) = mistake(claim) {
                wrong.push(format!("{}: {claim}: {why}", page.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 20, "only {count} claims");
    for (claim, why) in [
        ("mainline violated no-leak", "mainline: no-leak holds"),
        (
            "mainline in two-links-tcp holds no-deadlock",
            "no-deadlock never exercised",
        ),
        (
            "every in two-links-tcp not violated cookie-fidelity",
            "rfc in two-links-tcp",
        ),
        (
            "rfc in two-links-tcp violated no-leak alone",
            "cookie-fidelity violated",
        ),
        ("link-owned violated nothing", "no-foreign-unreg violated"),
        ("mainline breaks no-leak", "no verdict"),
        ("mainline violated no-leek", "no invariant no-leek"),
    ] {
        let found = mistake(claim).unwrap_err();
        assert!(found.contains(why), "{claim}: {found}");
    }
}

/// Sentences of this kind carry a claim: they name a design and an invariant, or speak of every design or preset.
#[test]
fn sentences_about_verdicts_carry_a_claim() {
    let designs: Vec<String> = Design::presets()
        .iter()
        .map(|d| format!("`{}`", d.name))
        .collect();
    let ids: Vec<String> = Invariant::ALL
        .iter()
        .map(|i| format!("`{}`", i.id()))
        .collect();
    let all = [
        "every design",
        "no design",
        "no preset",
        "every scenario",
        "every preset",
    ];
    let verbs = ["break", "broken", "violat", "hold", "mends"];
    let mut silent = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page");
        let mut fenced = false;
        let prose: Vec<&str> = text
            .lines()
            .filter(|line| {
                fenced ^= line.starts_with("```");
                !fenced && !line.starts_with("```")
            })
            .collect();
        for paragraph in prose.join("\n").split("\n\n") {
            let low = paragraph.to_lowercase();
            let names = |list: &[String]| list.iter().any(|name| paragraph.contains(name.as_str()));
            let universal = all.iter().any(|words| low.contains(words));
            let about = names(&ids) && (names(&designs) || universal);
            let verdict = verbs.iter().any(|verb| low.contains(verb));
            // What stands in the section of an invariant is held against runs by `what_breaks_a_promise`.
            let section = page.ends_with("invariants.md");
            if about && verdict && !section && !paragraph.contains("<!-- check:") {
                silent.push(format!("{}: {paragraph}\n", page.display()));
            }
        }
    }
    assert!(silent.is_empty(), "without a claim:\n{}", silent.join("\n"));
}

/// Whatever is shown of a counterexample can be sent: pages are small and valid, pictures are XML, mails are narrow.
#[test]
fn every_counterexample_can_be_sent() {
    let tidy = std::process::Command::new("tidy").arg("-version").output();
    if tidy.is_err() {
        println!("SKIPPED: no tidy to validate HTML with");
    }
    let mut extended = shipped::all().expect("shipped scenarios are right");
    extended.retain(|case| case.head().extended);
    let designs = Design::presets();
    let (pairs, _) = campaign::set_ups(campaign::pairs(&extended, &designs, false));
    // Those that do not belong to the job take minutes: of them what is found in the nearest states.
    let found = explore_all(&pairs, Some(200_000));
    let runs: Vec<(&[Case], &Run)> = JOB
        .runs
        .iter()
        .map(|run| (JOB.scenarios.as_slice(), run))
        .chain(found.iter().map(|run| (extended.as_slice(), run)))
        .collect();
    let files = each(&runs, |(cases, run)| {
        let case = cases.iter().find(|s| s.head().name == run.scenario);
        let directory = tempfile::tempdir().unwrap();
        sent(
            case.expect("what was run"),
            run,
            directory.path(),
            tidy.is_ok(),
        )
    });
    let (job, rest) = files.split_at(JOB.runs.len());
    let (job, rest): (usize, usize) = (job.iter().sum(), rest.iter().sum());
    println!("{job} counterexamples of the job, {rest} of extended scenarios");
    assert!(job > 100 && rest > 10, "{job} and {rest}");
}

/// Most bytes of a page.
const LARGEST: usize = 1_000_000;

/// What is sent of each counterexample of a run is as it should be; gives how many there are.
fn sent(case: &Case, run: &Run, directory: &Path, tidy: bool) -> usize {
    let screen = Screen::plain(72);
    // Another design under which the scenario has a meaning, for a page that shows two.
    let mut others = Design::presets().into_iter();
    let beside = others.find(|d| *d != run.design && case.runs_under(d, false));
    let mut files = 0;
    for found in JOB.invariants.iter().filter_map(|i| run.shortest(*i)) {
        let steps = counterexample::steps(case, &run.design, found).unwrap();
        let shown = view::again(case, &run.design, &steps).unwrap();
        let title = shown.title();
        for beside in [None, beside.as_ref()] {
            let page = Shown::new(&*shown, beside, &screen).unwrap();
            let page = html::file(&title, &page.to_send()).unwrap();
            assert!(page.len() < LARGEST, "{title}: {} bytes", page.len());
            assert!(!page.contains(" src="), "{title} needs another file");
            if tidy {
                let file = directory.join("page.html");
                fs::write(&file, &page).unwrap();
                let mut tidy = std::process::Command::new("tidy");
                let checked = tidy.args(["-q", "-e"]).arg(&file).output().unwrap();
                let said = String::from_utf8_lossy(&checked.stderr);
                assert!(checked.status.success(), "{title}: {said}");
            }
        }
        files += 1;
        let svg = shown.svg();
        let mut reader = quick_xml::Reader::from_str(&svg);
        while reader.read_event().expect(&title) != quick_xml::events::Event::Eof {}
        for line in shown.mail(&screen, true).lines() {
            // A command is never broken.
            let command = line.starts_with("  struct-ops-sim");
            assert!(command || columns(line) <= 72, "{title}: {line}");
        }
    }
    files
}
