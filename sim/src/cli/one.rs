//! `run`, `random` and `replay`: one sequence of steps at a time.

use std::sync::atomic::Ordering::Relaxed;

use struct_ops_model::Design;

use super::args::{Format, Random, Run};
use super::output::{json, print};
use super::{Exit, Failure, STOP};
use crate::report::json::Replay;
use crate::report::summary::quote;
use crate::report::trace as table;
use crate::scenario::{InputError, Scenario};
use crate::schedule::{self, Chooser};
use crate::trace::{Trace, trace};
use crate::{shipped, tracefile};

/// One schedule.
pub(super) fn run(args: &Run, format: Format) -> Result<Exit, Failure> {
    let scenario = shipped::find(&args.scenario)?;
    let design =
        Design::parse(&args.design).map_err(|e| InputError::whole("--design", e.to_string()))?;
    let machine = super::machine(&scenario, &design)?;
    let actions = schedule::run(&machine, &mut Chooser::new(args.seed));
    if let Some(file) = &args.save {
        tracefile::save(file, &scenario, &design, &actions)?;
    }
    let trace = trace(&machine, &actions)
        .map_err(|e| Failure::Bug(format!("step {} was not enabled", e.step)))?;
    show(&scenario, &design, args.seed, &trace, format)
}

/// A saved trace.
pub(super) fn replay(path: &str, format: Format) -> Result<Exit, Failure> {
    let replayed = tracefile::replay(path, &shipped::read(path)?)?;
    show(
        &replayed.scenario,
        &replayed.design,
        None,
        &replayed.trace,
        format,
    )
}

/// Random schedules until one breaks something, for each scenario and design.
pub(super) fn random(args: &Random, format: Format) -> Result<Exit, Failure> {
    let scenarios = super::check::scenarios(&args.scenario)?;
    let designs = super::designs(&args.design)?;
    for scenario in &scenarios {
        for design in designs.iter().filter(|d| scenario.runs_under(d)) {
            let machine = super::machine(scenario, design)?;
            let mut broken = false;
            for seed in args.seeds.clone() {
                if STOP.load(Relaxed) {
                    return Ok(Exit::Incomplete);
                }
                let actions = schedule::run(&machine, &mut Chooser::new(Some(seed)));
                let trace = trace(&machine, &actions).map_err(|e| {
                    Failure::Bug(format!("seed {seed}: step {} was not enabled", e.step))
                })?;
                let Some((_, violation)) = trace.broken().next() else {
                    continue;
                };
                broken = true;
                match format {
                    Format::Json => json(&Replay::new(
                        &scenario.name,
                        &design.name,
                        Some(seed),
                        &trace,
                    ))?,
                    Format::Text => print(&format!(
                        "{} under {design}: seed {seed} violates {} after {} steps\n  struct-ops-sim run {} --design {} --seed {seed}\n",
                        scenario.name,
                        violation.invariant.id(),
                        trace.steps.len(),
                        quote(scenario.argument()),
                        quote(&design.name),
                    ))?,
                }
                break;
            }
            if !broken && format == Format::Text {
                let (from, to) = (args.seeds.start, args.seeds.end);
                print(&format!(
                    "{} under {design}: nothing broken with seeds {from}..{to}\n",
                    scenario.name
                ))?;
            }
        }
    }
    Ok(Exit::Expected)
}

fn show(
    scenario: &Scenario,
    design: &Design,
    seed: Option<u64>,
    trace: &Trace,
    format: Format,
) -> Result<Exit, Failure> {
    if format == Format::Json {
        json(&Replay::new(&scenario.name, &design.name, seed, trace))?;
        return Ok(Exit::Expected);
    }
    let seed = seed.map_or(String::new(), |s| format!(", seed {s}"));
    let mut out = format!(
        "{} under {design}{seed}: {}\n\n",
        scenario.name, scenario.title
    );
    out += &table::table(trace);
    out.push('\n');
    let broken: Vec<_> = trace.broken().map(|b| b.1).collect();
    for violation in &broken {
        out += &table::broke(trace, *violation);
    }
    if broken.is_empty() {
        out += if trace.ended {
            "Nothing can happen any more, and nothing is broken.\n"
        } else {
            "Nothing is broken so far.\n"
        };
    }
    print(&out)?;
    Ok(Exit::Expected)
}
