//! `check`: explore, print verdicts, compare them with what scenarios expect.

use std::io::IsTerminal;
use std::path::Path;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use struct_ops_model::reach::{Action, Reach};
use struct_ops_model::{Design, Invariant, Machine};

use super::args::{Check, Format};
use super::output::{json, print, screen};
use super::{Exit, Failure, Job};
use crate::bounds::Bounds;
use crate::check::Settings;
use crate::explore::Reductions;
use crate::reach;
use crate::report::json::StepEntry;
use crate::report::summary::{Detail, summary};
use crate::report::text::count;
use crate::report::{self, trace as table};
use crate::scenario::{Case, InputError, ReachScenario, Scenario};
use crate::trace::trace;
use crate::verdict::{Counterexample, Path as Way, Results, Run, SetUpFails, Skipped, Vacuous};
use crate::{shipped, tracefile};

/// Explores every chosen scenario under every chosen design.
pub(super) fn check(
    job: &Job,
    args: &Check,
    format: Format,
    quiet: bool,
    verbose: bool,
) -> Result<Exit, Failure> {
    let mut scenarios = cases(&args.scenario)?;
    if args.scenario.is_empty() && !args.extended {
        scenarios.retain(|s| !s.extended());
    }
    let designs = super::designs(&args.design)?;
    let mut invariants = super::invariants(&args.invariant)?;
    if args.invariant.is_empty() {
        // What no scenario of this run can break is no row.
        let kinds: Vec<bool> = scenarios
            .iter()
            .map(|s| matches!(s, Case::Reach(_)))
            .collect();
        invariants.retain(|i| kinds.contains(&i.of_lookups()));
    }
    if let Some(directory) = &args.save_traces {
        writable(directory)?;
    }
    let bounds = job.bounds(args.limits.timeout, args.limits.max_memory);
    let processors = || std::thread::available_parallelism().map_or(1, |n| n.get());
    let threads = args.threads.map_or_else(processors, |n| n as usize);
    let settings = Settings {
        threads,
        max_states: args.max_states,
        exact: args.exact,
        reductions: Reductions {
            symmetry: !args.no_symmetry,
            merge: !args.no_merge,
        },
    };
    let mut results = Results {
        scenarios,
        designs,
        invariants,
        runs: Vec::new(),
        skipped: Vec::new(),
        stopped: None,
        failed: Vec::new(),
    };
    let by_name = !args.design.is_empty();
    explore(&mut results, &settings, &bounds, by_name, quiet)?;
    if let Some(directory) = &args.save_traces {
        save(&results, directory)?;
    }
    match format {
        // Where nothing was run there is nothing to tell but why.
        Format::Text if results.runs.is_empty() && results.skipped.is_empty() => {}
        Format::Text => text(&results, verbose)?,
        Format::Json => {
            let steps = |run: &Run, found: &Counterexample| steps(case(&results, run), run, found);
            json(&report::json::Check::new(&results, steps)?)?;
        }
    }
    let mistakes = mistakes(&results);
    for mistake in &mistakes {
        eprintln!("error: {mistake}");
    }
    Ok(if results.differs() {
        Exit::Different
    } else if !mistakes.is_empty() {
        Exit::Input
    } else if results.incomplete() {
        Exit::Incomplete
    } else {
        Exit::Expected
    })
}

/// What is wrong with the scenarios: a set-up that fails where the file does not say so, and what cannot have run.
fn mistakes(results: &Results) -> Vec<InputError> {
    let file = |name: &str| {
        let case = results.scenarios.iter().find(|s| s.name() == name);
        case.map_or(name, |s| s.file()).to_string()
    };
    let set_ups = results
        .failed
        .iter()
        .filter(|f| f.expected.is_none())
        .map(|f| {
            let message = format!(
                "under design `{}`: {}; write `{} = \"{}\"` under [expect] if that is meant",
                f.design,
                f.why,
                toml_key(&f.design.name),
                SetUpFails::WORD
            );
            InputError::whole(&file(&f.scenario), message)
        });
    let vacuous = results.vacuous();
    let nothing = vacuous.iter().filter_map(|(name, what)| match what {
        Vacuous::Nothing => Some(InputError::whole(
            &file(name),
            "no operation had an object in any run: nothing was asked",
        )),
        Vacuous::NotRun(why) if results.runs.is_empty() => {
            let why = why.as_ref().map_or(String::new(), |w| format!(": {w}"));
            let designs: Vec<&str> = results.designs.iter().map(|d| d.name.as_str()).collect();
            let message = format!("not run under {}{why}", designs.join(", "));
            Some(InputError::whole(&file(name), message))
        }
        _ => None,
    });
    set_ups.chain(nothing).collect()
}

/// A key of a TOML table.
fn toml_key(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    if key.chars().all(bare) {
        key.to_string()
    } else {
        format!("\"{key}\"")
    }
}

fn lost(error: &crate::trace::NotEnabled) -> Failure {
    Failure::Bug(format!(
        "step {} of a trace cannot be taken again",
        error.step
    ))
}

/// The scenario of a run.
fn case<'a>(results: &'a Results, run: &Run) -> &'a Case {
    let found = results.scenarios.iter().find(|s| s.name() == run.scenario);
    found.expect("results have their scenarios")
}

/// A counterexample, carried out again.
fn steps(case: &Case, run: &Run, found: &Counterexample) -> Result<Vec<StepEntry>, Failure> {
    match (case, &found.path) {
        (Case::Attach(scenario), Way::Attach(_, actions)) => {
            let trace = trace(&super::machine(scenario, &run.design)?, actions);
            let trace = trace.map_err(|e| lost(&e))?;
            Ok(trace.steps.iter().map(StepEntry::from).collect())
        }
        (Case::Reach(scenario), Way::Reach(actions)) => {
            let trace = reach_trace(scenario, run, actions)?;
            Ok(trace.iter().map(StepEntry::from).collect())
        }
        _ => Err(Failure::Bug("a run of another kind of scenario".into())),
    }
}

fn reach_trace(
    scenario: &ReachScenario,
    run: &Run,
    actions: &[Action],
) -> Result<reach::Trace, Failure> {
    let machine = Reach::new(scenario.world(&run.design), run.design.clone());
    reach::replay(&machine, actions)
        .map_err(|(step, _)| Failure::Bug(format!("step {step} of a trace cannot be taken again")))
}

/// The scenarios about the attach path among those named, or all that are shipped.
pub(super) fn scenarios(names: &[String]) -> Result<Vec<Scenario>, Failure> {
    let attach = |case| match case {
        Case::Attach(scenario) => Some(Ok(*scenario)),
        // Shipped ones of the other kind are not meant here, named ones are a mistake.
        Case::Reach(_) if names.is_empty() => None,
        Case::Reach(scenario) => Some(shipped::find(scenario.argument()).map_err(Failure::from)),
    };
    cases(names)?.into_iter().filter_map(attach).collect()
}

/// Looks up the scenarios named, whatever they are about.
pub(super) fn named(names: &[String]) -> Result<(), Failure> {
    match names {
        [] => Ok(()),
        names => cases(names).map(drop),
    }
}

/// The scenarios named, or all that are shipped. Two files of the same name could not be told apart.
fn cases(names: &[String]) -> Result<Vec<Case>, Failure> {
    if names.is_empty() {
        // A mistake in a shipped scenario is no user's.
        return shipped::all().map_err(|e| Failure::Bug(e.to_string()));
    }
    let mut scenarios: Vec<Case> = Vec::new();
    for name in names {
        let scenario = shipped::find_case(name)?;
        match scenarios.iter().find(|s| s.name() == scenario.name()) {
            Some(other) if other.file() == scenario.file() => {}
            Some(other) => {
                let message = format!(
                    "another scenario is called {} too: {}",
                    scenario.name(),
                    other.file()
                );
                return Err(InputError::whole(scenario.file(), message).into());
            }
            None => scenarios.push(scenario),
        }
    }
    Ok(scenarios)
}

fn explore(
    results: &mut Results,
    settings: &Settings,
    bounds: &Bounds,
    by_name: bool,
    quiet: bool,
) -> Result<(), Failure> {
    let (mut pairs, mut failed) = (Vec::new(), Vec::new());
    for scenario in &results.scenarios {
        for design in results
            .designs
            .iter()
            .filter(|d| scenario.runs_under(d, by_name))
        {
            // A set-up that fails is a result of this pair alone.
            match set_up(scenario, design) {
                Ok(()) => pairs.push((scenario, design)),
                Err(why) => failed.push(SetUpFails {
                    scenario: scenario.name().to_string(),
                    design: design.clone(),
                    why,
                    expected: scenario.expected(design).cloned(),
                }),
            }
        }
    }
    let progress = Progress::new(pairs.len(), quiet);
    let mut runs = Vec::new();
    for (scenario, design) in &pairs {
        results.stopped = bounds.reached();
        if results.stopped.is_some() {
            break;
        }
        progress.begin(scenario.name(), &design.name);
        let tick = &mut |p: &crate::engine::Progress| progress.tick(p);
        let run = match scenario {
            Case::Attach(s) => crate::check::check(s, design, settings, bounds, tick)?,
            Case::Reach(s) => reach::check(s, design, settings, bounds, tick)?,
        };
        progress.end(runs.len() + 1, &run, &results.invariants);
        runs.push(run);
    }
    let skipped = pairs[runs.len()..]
        .iter()
        .map(|(scenario, design)| Skipped {
            scenario: scenario.name().to_string(),
            design: (*design).clone(),
            lookups: matches!(scenario, Case::Reach(_)),
        });
    results.skipped = skipped.collect();
    results.failed = failed;
    results.runs = runs;
    Ok(())
}

/// Which operation of the set-up fails under the design, and how.
fn set_up(scenario: &Case, design: &Design) -> Result<(), String> {
    let Case::Attach(scenario) = scenario else {
        return Ok(());
    };
    match Machine::new(scenario.world.clone(), design.clone()) {
        Ok(_) => Ok(()),
        Err(error) => Err(crate::check::why_not(scenario, &error)),
    }
}

/// A bar on a terminal, a line per run elsewhere.
struct Progress {
    bar: ProgressBar,
    lines: bool,
    total: usize,
}

impl Progress {
    fn new(total: usize, quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(
            Some(total as u64),
            if terminal && !quiet {
                ProgressDrawTarget::stderr()
            } else {
                ProgressDrawTarget::hidden()
            },
        );
        let style =
            ProgressStyle::with_template("{pos}/{len} {wide_bar} {msg}").expect("a fixed template");
        bar.set_style(style);
        Progress {
            bar,
            lines: !terminal && !quiet,
            total,
        }
    }

    fn begin(&self, scenario: &str, design: &str) {
        self.bar.set_message(format!("{scenario} under {design}"));
    }

    fn tick(&self, p: &crate::engine::Progress) {
        let message = self.bar.message();
        let message = message.split(':').next().unwrap_or_default().to_string();
        self.bar.set_message(format!(
            "{message}: {} states, depth {}",
            count(p.states),
            p.depth
        ));
    }

    fn end(&self, number: usize, run: &Run, invariants: &[Invariant]) {
        self.bar.inc(1);
        if self.lines {
            super::say(&format!(
                "{number}/{} {}",
                self.total,
                report::summary::line(run, invariants)
            ));
        }
    }
}

fn text(results: &Results, verbose: bool) -> Result<(), Failure> {
    if let [run] = results.runs.as_slice() {
        print(&report::summary::overview(screen(), results, run))?;
        for invariant in &results.invariants {
            if let Some(shortest) = run.shortest(*invariant) {
                print(&counterexample(results, run, shortest)?)?;
            }
        }
    }
    // One scenario is not meant to take every step.
    let detail = Detail {
        seconds: verbose,
        coverage: verbose || results.scenarios.len() > 1,
    };
    print(&summary(screen(), results, detail))
}

/// A counterexample as a document: what broke, the steps, why there is no shorter one, how to see it again.
fn counterexample(
    results: &Results,
    run: &Run,
    shortest: &Counterexample,
) -> Result<String, Failure> {
    let invariant = shortest.invariant;
    let mut out = format!(
        "{} under {} violates {}\n\n",
        run.scenario,
        run.design,
        invariant.id()
    );
    match (case(results, run), &shortest.path) {
        (Case::Attach(scenario), Way::Attach(violation, actions)) => {
            let trace =
                trace(&super::machine(scenario, &run.design)?, actions).map_err(|e| lost(&e))?;
            out += &table::table(screen(), &trace);
            out.push('\n');
            out += &table::broke(screen(), &trace, *violation);
        }
        (Case::Reach(scenario), Way::Reach(actions)) => {
            let trace = reach_trace(scenario, run, actions)?;
            out += &report::reach::steps(screen(), &trace);
            out.push('\n');
            out += &report::reach::broke(screen(), &trace, invariant);
        }
        _ => return Err(Failure::Bug("a run of another kind of scenario".into())),
    }
    out += &table::minimal(screen(), shortest.steps, shortest.transitions);
    let others = run
        .found
        .iter()
        .filter(|c| c.invariant == invariant)
        .skip(1);
    for other in others {
        let text = format!(
            "Also broken {}, after {} steps (--save-traces keeps each one).",
            report::summary::place(other),
            other.steps
        );
        out += &screen().paragraph(&text, 0);
    }
    out += &format!(
        "See it again: {}\n\n",
        report::summary::command(screen(), results, run, invariant)
    );
    Ok(out)
}

fn writable(directory: &Path) -> Result<(), Failure> {
    let shown = directory.display().to_string();
    let error =
        |e: std::io::Error| InputError::whole(&shown, format!("traces cannot be saved here: {e}"));
    std::fs::create_dir_all(directory).map_err(error)?;
    // Asked before hours of exploration, not after.
    let probe = directory.join(".struct-ops-sim");
    std::fs::write(&probe, "")
        .and_then(|()| std::fs::remove_file(&probe))
        .map_err(error)?;
    Ok(())
}

/// One file per distinct violation.
fn save(results: &Results, directory: &Path) -> Result<(), Failure> {
    for run in &results.runs {
        for found in run
            .found
            .iter()
            .filter(|f| results.invariants.contains(&f.invariant))
        {
            let name = format!(
                "{}.{}.{}.{}.json",
                run.scenario,
                run.design,
                found.invariant.id(),
                found.place.map_or("end", |p| p.0)
            );
            let path = directory.join(name);
            match (case(results, run), &found.path) {
                (Case::Attach(s), Way::Attach(_, actions)) => {
                    tracefile::save(&path, s, &run.design, actions)?;
                }
                (Case::Reach(s), Way::Reach(actions)) => {
                    let subject = tracefile::Subject::scenario(&s.name, &s.text);
                    tracefile::save_reach(&path, subject, &run.design, actions)?;
                }
                _ => return Err(Failure::Bug("a run of another kind of scenario".into())),
            }
        }
    }
    Ok(())
}
