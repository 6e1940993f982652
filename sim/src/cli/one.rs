//! `run`, `random` and `replay`: one sequence of steps at a time.

use struct_ops_model::{Design, Invariant, Machine};

use super::args::{Format, Random, Run};
use super::output::{json, print, screen};
use super::{Exit, Failure, Job};
use crate::bounds::Bounds;
use crate::random::{self, Finding};
use crate::report::json::Replay;
use crate::report::text::plural;
use crate::report::trace as table;
use crate::scenario::{Expect, InputError, Scenario};
use crate::schedule::{self, Chooser};
use crate::trace::{Trace, trace};
use crate::{input, shipped, tracefile};

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
    let text = input::text(path)?;
    let path = input::shown(path);
    if let Some(replayed) = tracefile::replay_reach(path, &text)? {
        return show_reach(&replayed, format);
    }
    let replayed = tracefile::replay(path, &text)?;
    show(
        &replayed.scenario,
        &replayed.design,
        None,
        &replayed.trace,
        format,
    )
}

/// A saved trace of a lookup.
fn show_reach(replayed: &tracefile::ReachReplayed, format: Format) -> Result<Exit, Failure> {
    let tracefile::ReachReplayed {
        name,
        design,
        trace,
    } = replayed;
    if format == Format::Json {
        json(&Replay::of_lookup(name, &design.name, trace))?;
        return Ok(Exit::Expected);
    }
    let mut out = format!(
        "{name} under {design}\n\n{}\n",
        crate::report::reach::steps(screen(), trace)
    );
    let mut broken: Vec<Invariant> = trace.iter().flat_map(|s| s.broke.clone()).collect();
    broken.dedup();
    for invariant in &broken {
        out += &crate::report::reach::broke(screen(), trace, *invariant);
    }
    if broken.is_empty() {
        out += "Nothing is broken so far.\n";
    }
    print(&out)?;
    Ok(Exit::Expected)
}

/// Random worlds and schedules, or random schedules of the scenarios named; the first finding under each
/// design is told in full, those that break something else in one line.
///
/// Other presets are known to break something: only what `link-owned` breaks, or what a scenario does not
/// expect, is a difference.
pub(super) fn random(job: &Job, args: &Random, format: Format) -> Result<Exit, Failure> {
    // The others attach as mainline does.
    let designs = match args.design.as_slice() {
        [] => Design::attach_paths(),
        names => super::designs(names)?,
    };
    let bounds = job.bounds(args.timeout, None);
    let mut exits = Vec::new();
    if args.scenario.is_empty() {
        for design in &designs {
            let run = |seed| random::run(seed, design);
            exits.push(seeds(args, &bounds, None, design, &run, format)?);
        }
        return Ok(worst(&exits));
    }
    let (mut refused, mut tried) = (false, 0);
    let scenarios = super::check::scenarios(&args.scenario)?;
    for scenario in &scenarios {
        for design in designs.iter().filter(|d| scenario.runs_under(d)) {
            // A set-up that fails is told of this design alone.
            if let Err(failure) = super::machine(scenario, design) {
                if scenario.expected(design) != Some(&Expect::SetUpFails) {
                    eprintln!("error: {failure}");
                    refused = true;
                }
                continue;
            }
            tried += 1;
            let run = |seed| random::run_in(seed, &scenario.world, design);
            exits.push(seeds(args, &bounds, Some(scenario), design, &run, format)?);
        }
    }
    if tried == 0 && !refused {
        let names: Vec<&str> = designs.iter().map(|d| d.name.as_str()).collect();
        let message = format!(
            "nothing was tried: no scenario is run under {}",
            names.join(", ")
        );
        return Err(InputError::whole("--scenario", message).into());
    }
    if refused {
        exits.push(Exit::Input);
    }
    Ok(worst(&exits))
}

/// A difference is one, whatever was not seen.
fn worst(exits: &[Exit]) -> Exit {
    let order = [Exit::Different, Exit::Input, Exit::Incomplete];
    let worst = order.into_iter().find(|e| exits.contains(e));
    worst.unwrap_or(Exit::Expected)
}

/// All seeds under one design, until a bound is reached.
fn seeds(
    args: &Random,
    bounds: &Bounds,
    scenario: Option<&Scenario>,
    design: &Design,
    run: &dyn Fn(u64) -> Option<Finding>,
    format: Format,
) -> Result<Exit, Failure> {
    let place = scenario.map_or(String::new(), |s| format!("{} ", s.name));
    let mut known: Vec<Invariant> = Vec::new();
    let (from, mut to, mut reached) = (args.seeds.start, args.seeds.end, None);
    let mut exit = Exit::Expected;
    for seed in args.seeds.clone() {
        reached = bounds.reached();
        if reached.is_some() {
            to = seed;
            break;
        }
        let Some(finding) = run(seed) else { continue };
        let invariant = finding.violation.invariant;
        if known.contains(&invariant) {
            continue;
        }
        let expected = match scenario.and_then(|s| s.expectation(&design.name)) {
            Some(violated) => violated.contains(&invariant),
            None => *design != Design::link_owned(),
        };
        if !expected {
            exit = Exit::Different;
        }
        found(&finding, scenario, known.is_empty(), format)?;
        known.push(invariant);
    }
    if known.is_empty() && from < to && format == Format::Text {
        print(&format!(
            "{place}under {design}: nothing broken with seeds {from}..{to}\n"
        ))?;
    }
    if let Some(bound) = reached.filter(|_| format == Format::Text) {
        print(&format!(
            "incomplete: {place}under {design}: {} before seed {to}\n",
            bound.reason()
        ))?;
    }
    Ok(match reached {
        Some(_) if exit == Exit::Expected => Exit::Incomplete,
        _ => exit,
    })
}

fn found(
    finding: &Finding,
    scenario: Option<&Scenario>,
    full: bool,
    format: Format,
) -> Result<(), Failure> {
    let Finding {
        seed,
        design,
        violation,
        ..
    } = finding;
    let name = scenario.map_or_else(|| finding.name(), |s| s.name.clone());
    let machine = Machine::new(finding.world.clone(), design.clone())
        .map_err(|e| Failure::Bug(e.to_string()))?;
    let trace = trace(&machine, &finding.actions)
        .map_err(|e| Failure::Bug(format!("seed {seed}: step {} was not enabled", e.step)))?;
    if format == Format::Json {
        return json(&Replay::new(&name, &design.name, Some(*seed), &trace));
    }
    let text = format!(
        "{name} under {design}: seed {seed} violates {} after {} (shrunk from {})",
        violation.invariant.id(),
        plural(trace.steps.len(), "step"),
        plural(finding.before.0, "step"),
    );
    let mut out = screen().paragraph(&text, 0);
    let seeds = format!("{seed}..{}", u128::from(*seed) + 1);
    let mut options = vec![("--seeds", seeds.as_str()), ("--design", &design.name)];
    options.extend(scenario.map(|s| ("--scenario", s.argument())));
    out += &format!("  {}\n", screen().command("random", &options));
    if full {
        out += &format!(
            "\n{}\n{}\n",
            table::table(screen(), &trace),
            table::broke(screen(), &trace, *violation)
        );
        if scenario.is_none() {
            out += &format!(
                "As a scenario file, for `check --scenario`:\n\n{}\n",
                finding.scenario()
            );
        }
    }
    print(&out)
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
    let title = format!("{} under {design}{seed}: {}", scenario.name, scenario.title);
    let mut out = screen().paragraph(&title, 0) + "\n";
    out += &table::table(screen(), trace);
    out.push('\n');
    let broken: Vec<_> = trace.broken().map(|b| b.1).collect();
    for violation in &broken {
        out += &table::broke(screen(), trace, *violation);
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
