//! `check`: explore, print verdicts, compare them with what scenarios expect.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use struct_ops_model::design::About;
use struct_ops_model::pc::STEPS;
use struct_ops_model::reach::Label;
use struct_ops_model::{Design, Linux};
use xxhash_rust::xxh3::xxh3_64;

use super::args::{Check, Format};
use super::output::json;
use super::progress::Progress;
use super::{Exit, Failure, Job, results};
use crate::bounds::Bounds;
use crate::check::{CheckError, Settings};
use crate::explore::Reductions;
use crate::report::json::Origin;
use crate::report::json::check::{Asked, Begin, Line};
use crate::scenario::{Case, InputError, Scenario};
use crate::verdict::{Results, Run, Skipped};
use crate::{campaign, shipped};

/// Explores every chosen scenario under every chosen design.
pub(super) fn check(
    job: &Job,
    args: &Check,
    format: Format,
    quiet: bool,
    verbose: bool,
) -> Result<Exit, Failure> {
    let (results, asked, explored) = explored(job, args, format == Format::JsonLines, quiet)?;
    let save = |directory: &PathBuf| save(&results, directory);
    let saved = args.save_traces.as_ref().map_or(Ok(()), save);
    // Whatever has failed, what is known is told.
    let done = explored.and(saved);
    let failed = done.as_ref().err().map(Failure::exit);
    let exit = results::show("check", &results, asked, format, verbose, failed)?;
    done.map(|()| exit)
}

/// The same without a word of what came out, but for `lines` of JSON; what is known when something fails is kept.
pub(super) fn explored(
    job: &Job,
    args: &Check,
    lines: bool,
    quiet: bool,
) -> Result<(Results, Asked, Result<(), Failure>), Failure> {
    let mut scenarios = cases(&args.scenario, args.linux)?;
    if args.scenario.is_empty() && !args.extended {
        scenarios.retain(|s| !s.head().extended);
    }
    let designs = super::designs(&args.design)?;
    let about: Vec<About> = scenarios.iter().map(Case::about).collect();
    super::asked(&designs, &about)?;
    let mut invariants = super::invariants(&args.invariant)?;
    if args.invariant.is_empty() {
        // What no scenario of this run can break is no row.
        invariants.retain(|i| scenarios.iter().any(|s| s.asks(*i)));
    }
    if let Some(at) = &args.at {
        at_one_step(at, &scenarios, &designs)?;
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
        at: args.at.clone(),
        part: args.shard.is_some(),
    };
    let asked = asked(args, &settings, &results);
    if lines {
        json(&Line::Begin {
            origin: Origin::new("check"),
            begin: Begin::new(asked.clone(), &results.scenarios),
        })?;
    }
    let ended = |results: &Results, run: &Run| match lines {
        true => json(&Line::Run {
            run: results::json_run(results, run)?,
        }),
        false => Ok(()),
    };
    let explored = explore(&mut results, &settings, &bounds, &asked, quiet, &ended);
    Ok((results, asked, explored))
}

/// `--at` names a step, and there is one run whose counterexamples are told.
fn at_one_step(at: &str, scenarios: &[Case], designs: &[Design]) -> Result<(), Failure> {
    let steps = STEPS.iter().map(|s| s.name);
    let steps = steps.chain(Label::ALL.iter().map(|l| l.name()));
    if !steps.clone().any(|s| s == at) {
        let message = super::unknown("step", at, steps);
        return Err(InputError::whole("--at", message).into());
    }
    if scenarios.len() * designs.len() != 1 {
        let message = format!(
            "one run is told, and these are {} scenarios under {} designs: name one of each with --scenario and --design",
            scenarios.len(),
            designs.len()
        );
        return Err(InputError::whole("--at", message).into());
    }
    Ok(())
}

/// What was asked for, as results say it.
fn asked(args: &Check, settings: &Settings, results: &Results) -> Asked {
    Asked {
        designs: results.designs.iter().map(|d| d.name.clone()).collect(),
        designs_named: !args.design.is_empty(),
        invariants: results.invariants.iter().map(|i| i.id().into()).collect(),
        max_states: settings.max_states,
        max_memory: args.limits.max_memory,
        timeout: args.limits.timeout.map(|t| t.as_secs_f64()),
        symmetry: settings.reductions.symmetry,
        merge: settings.reductions.merge,
        exact: settings.exact,
        fail_on: args.fail_on,
        shard: args.shard,
    }
}

/// The scenarios about the attach path among those named, or all that are shipped.
pub(super) fn scenarios(names: &[String], linux: Option<Linux>) -> Result<Vec<Scenario>, Failure> {
    let attach = |case| match case {
        Case::Attach(scenario) => Some(Ok(*scenario)),
        // Shipped ones of the other kind are not meant here, named ones are a mistake.
        Case::Reach(_) if names.is_empty() => None,
        Case::Reach(scenario) => {
            Some(shipped::find(scenario.head.argument()).map_err(Failure::from))
        }
    };
    cases(names, linux)?
        .into_iter()
        .filter_map(attach)
        .collect()
}

/// Looks up the scenarios named, whatever they are about.
pub(super) fn named(names: &[String]) -> Result<(), Failure> {
    match names {
        [] => Ok(()),
        names => cases(names, None).map(drop),
    }
}

/// The scenarios named, or all that are shipped, on another kernel than they name, if one is given. Two files of the
/// same name could not be told apart.
fn cases(names: &[String], linux: Option<Linux>) -> Result<Vec<Case>, Failure> {
    if names.is_empty() {
        // A mistake in a shipped scenario is no user's.
        let all = shipped::all().map_err(|e| Failure::Bug(e.to_string()))?;
        // What that kernel does not have cannot be asked of it.
        let there = |case: Case| match case.on(linux) {
            Ok(case) => Some(case),
            Err(why) => {
                super::say(&format!("left out: {why}"));
                None
            }
        };
        return Ok(all.into_iter().filter_map(there).collect());
    }
    let mut scenarios: Vec<Case> = Vec::new();
    for name in names {
        let scenario = shipped::find_case(name)?.on(linux)?;
        match scenarios
            .iter()
            .find(|s| s.head().name == scenario.head().name)
        {
            Some(other) if other.head().file == scenario.head().file => {}
            Some(other) => {
                let message = format!(
                    "another scenario is called {} too: {}",
                    scenario.head().name,
                    other.head().file
                );
                return Err(InputError::whole(&scenario.head().file, message).into());
            }
            None => scenarios.push(scenario),
        }
    }
    Ok(scenarios)
}

/// What this part of the check explores.
fn pairs<'a>(results: &'a Results, asked: &Asked) -> Vec<(&'a Case, &'a Design)> {
    let pairs = campaign::pairs(&results.scenarios, &results.designs, asked.designs_named);
    campaign::shard(pairs, asked.shard)
}

/// Explores what was asked for, and keeps what is known when something fails; `ended` hears of each run.
fn explore(
    results: &mut Results,
    settings: &Settings,
    bounds: &Bounds,
    asked: &Asked,
    quiet: bool,
    ended: &dyn Fn(&Results, &Run) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (pairs, failed) = campaign::set_ups(pairs(results, asked));
    let progress = Progress::new(pairs.len(), quiet);
    let (mut runs, mut stopped, mut done) = (Vec::new(), None, Ok(()));
    for (scenario, design) in &pairs {
        stopped = bounds.reached();
        if stopped.is_some() {
            break;
        }
        progress.begin(&scenario.head().name, &design.name);
        let tick = &mut |p: &crate::engine::Progress| progress.tick(p);
        let run = || crate::check::case(scenario, design, settings, bounds, tick);
        let run = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
            let what = format!("a panic in {} under {design}", scenario.head().name);
            Err(CheckError::Internal(what))
        });
        done = run.map_err(Failure::from).and_then(|run| {
            progress.end(&run, &results.invariants);
            let told = ended(results, &run);
            runs.push(run);
            told
        });
        if done.is_err() {
            break;
        }
    }
    let skipped = pairs[runs.len()..]
        .iter()
        .map(|(scenario, design)| Skipped {
            scenario: scenario.head().name.to_string(),
            design: (*design).clone(),
            lookups: scenario.about() == About::Lookups,
        });
    results.skipped = skipped.collect();
    results.stopped = stopped;
    results.failed = failed;
    results.runs = runs;
    done
}

fn writable(directory: &Path) -> Result<(), Failure> {
    let shown = directory.display().to_string();
    if directory.exists() && !directory.is_dir() {
        let message = "traces cannot be saved here: expected a directory";
        return Err(InputError::whole(&shown, message).into());
    }
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
    let mut saved = Ok(());
    for run in &results.runs {
        for found in run
            .found
            .iter()
            .filter(|f| results.invariants.contains(&f.invariant))
        {
            let name = format!(
                "{}.{}.{}.{}.json",
                part(&run.scenario),
                part(&run.design.name),
                found.invariant.id(),
                found.place.map_or("end", |p| p.0)
            );
            let path = directory.join(name);
            // One that cannot be written is no reason to keep the others from it.
            let written = results::file(results, run, found)?.save(&path);
            saved = saved.and(written.map_err(|e| Failure::Outside(e.to_string())));
        }
    }
    saved
}

/// Part of a file's name: a long one is cut, and still another one than others that are.
fn part(name: &str) -> String {
    const LONGEST: usize = 80;
    if name.len() <= LONGEST {
        return name.to_string();
    }
    let begin: String = name.chars().take(LONGEST / 4).collect();
    format!("{begin}~{:016x}", xxh3_64(name.as_bytes()))
}
