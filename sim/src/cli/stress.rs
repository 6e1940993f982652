//! `stress`: real threads, and what the model says to what they did.

use std::time::Duration;
use std::{io, thread};

use parking_lot::RwLock;
use struct_ops_model::design::About;
use struct_ops_model::world::MAX_CPUS;
use struct_ops_model::{Design, Invariant, Machine};

use super::args::{Format, Stress};
use super::output::{document, print, screen};
use super::{Exit, Failure, Job};
use crate::bounds::Bounds;
use crate::live::round::RoundError;
use crate::live::side;
use crate::live::stress::{Broken, Example, Options, Outcome, stress as run};
use crate::report::json::steps::counted;
use crate::report::json::{Incomplete, stress as json};
use crate::report::side::table;
use crate::report::text::{count, plural};
use crate::scenario::{InputError, Scenario};
use crate::shipped;

/// How long no thread of a round may move before it is taken for a deadlock.
const PATIENCE: Duration = Duration::from_secs(60);
/// Rows of an example, up to the step that shows it.
const ROWS: usize = 40;

/// Runs rounds, prints what came of them.
pub(super) fn stress(job: &Job, args: &Stress, format: Format) -> Result<Exit, Failure> {
    let design =
        Design::parse(&args.design).map_err(|e| InputError::whole("--design", e.to_string()))?;
    super::asked(std::slice::from_ref(&design), &[About::AttachPath])?;
    let find = |name| shipped::find_on(name, args.linux);
    let scenario = args.scenario.as_deref().map(find).transpose()?;
    if let Some(scenario) = &scenario {
        super::machine(scenario, &design)?;
        if !scenario.runs_under(&design) {
            let message = format!("the scenario is not run under design `{design}`");
            return Err(InputError::whole(&scenario.head.file, message).into());
        }
    }
    let bounds = job.bounds(None, None);
    startable(args.threads as usize, &bounds)?;
    let options = Options {
        design,
        threads: args.threads as usize,
        time: Duration::from_secs(args.seconds),
        seed: args.seed,
        scenario: scenario.as_ref(),
        machine: true,
        patience: PATIENCE,
    };
    let hung = |places: String| {
        super::say(&format!(
            "error: nothing has moved for {} s: {places}. The runtime is deadlocked, or the machine is far overloaded",
            PATIENCE.as_secs()
        ));
        std::process::exit(Exit::Bug as i32);
    };
    let outcome =
        run(&options, &|| bounds.reached().is_some(), &hung).map_err(|error| match error {
            RoundError::Unavailable(why) => Failure::Outside(why.to_string()),
            RoundError::OwnSubsystem(_)
            | RoundError::ExplorerOnly(_)
            | RoundError::Cgroups
            | RoundError::Rings
            | RoundError::Callbacks => {
                let file = options
                    .scenario
                    .map_or("--scenario", |s| s.head.file.as_str());
                InputError::whole(file, error.to_string()).into()
            }
            RoundError::NotAsked(why) => InputError::whole("--design", why.to_string()).into(),
            RoundError::SetUp { .. } => Failure::Bug(error.to_string()),
        })?;
    let unexpected = unexpected(&options, &outcome);
    let interrupted = bounds.reached();
    let exit = if outcome.rejected > 0 || !unexpected.is_empty() {
        Exit::Different
    } else if interrupted.is_some() || outcome.accepted == 0 {
        Exit::Incomplete
    } else {
        Exit::Expected
    };
    if format == Format::Text {
        print(&text(&options, &outcome, &unexpected))?;
        return Ok(exit);
    }
    let unjudged = || Incomplete {
        bound: "seconds".into(),
        reason: "--seconds was over before a round could be judged".into(),
    };
    let incomplete = interrupted.map(Incomplete::from);
    let incomplete = incomplete.or_else(|| (outcome.accepted == 0).then(unjudged));
    let body = as_json(&options, &outcome, &unexpected, incomplete);
    document("stress", exit, body)
}

/// Whether the system gives as many threads as a stress has at once: a round cannot do with fewer.
fn startable(threads: usize, bounds: &Bounds) -> Result<(), Failure> {
    // Each group of those that share a world has a thread that starts them, and a worker.
    let all = threads + 2 * threads.div_ceil(MAX_CPUS);
    if bounds.memory.threads(all) < all {
        let message = format!("there is not enough memory for {all} threads: try fewer --threads");
        return Err(Failure::Outside(message));
    }
    // They wait until all of them are there, or one is not.
    let gate = RwLock::new(());
    let started = thread::scope(|scope| {
        let closed = gate.write();
        let wait = || drop(gate.read());
        let start = |_| thread::Builder::new().spawn_scoped(scope, wait).map(drop);
        let started: io::Result<()> = (0..all).try_for_each(start);
        drop(closed);
        started
    });
    let message = |e| format!("{all} threads cannot be started: {e}; try fewer --threads");
    started.map_err(|e| Failure::Outside(message(e)))
}

/// What was broken although nothing of the kind was expected: what the scenario does not expect, or, without one,
/// anything under mainline and link-owned.
fn unexpected(options: &Options<'_>, outcome: &Outcome) -> Vec<Invariant> {
    let design = &options.design;
    let expected = options
        .scenario
        .and_then(|s: &Scenario| s.head.expectation(&design.name));
    let promised = [Design::mainline(), Design::link_owned()].contains(design);
    let broken = outcome.broken.keys().copied();
    broken
        .filter(|i| match expected {
            Some(expected) => !expected.contains(i),
            None => promised,
        })
        .collect()
}

fn text(options: &Options<'_>, outcome: &Outcome, unexpected: &[Invariant]) -> String {
    let place = options
        .scenario
        .map_or(String::new(), |s| format!(" of {}", s.head.name));
    let text = format!(
        "stress under {}, seed {}: {}{place} on {}",
        options.design,
        options.seed,
        plural(outcome.rounds as usize, "round"),
        plural(options.threads, "thread"),
    );
    let mut out = screen().paragraph(&text, 0);
    out += &format!(
        "{} and {} recorded\n",
        plural(outcome.operations as usize, "operation"),
        plural(outcome.events as usize, "step"),
    );
    out += &format!(
        "the model explains {}, rejects {}\n",
        count(outcome.accepted),
        count(outcome.rejected)
    );
    for (why, rounds) in &outcome.beyond {
        let rounds = plural(*rounds as usize, "round");
        out += &screen().paragraph(&format!("of {rounds} nothing is said: {why}"), 0);
    }
    if outcome.broken.is_empty() && outcome.accepted > 0 {
        let rounds = plural(outcome.accepted as usize, "round");
        out += &format!("nothing broke in the {rounds} that it explains\n");
    }
    if !outcome.broken.is_empty() {
        out += &format!(
            "\n  {:<20} {:>12} {:>14}\n",
            "broken", "rounds seen", "by the model"
        );
        for (invariant, Broken { seen, model, .. }) in &outcome.broken {
            let note = if unexpected.contains(invariant) {
                "  NOT EXPECTED"
            } else {
                ""
            };
            // The runtime judges what shows; counts and contracts are judged by the model alone.
            out += &format!(
                "  {:<20} {:>12} {:>14}{note}\n",
                invariant.id(),
                count(*seen),
                count(*model)
            );
        }
    }
    if let Some(example) = telling(outcome, unexpected) {
        out += &example_text(options, example);
    }
    if let Some(rejection) = &outcome.rejection {
        let machine = Machine::new(rejection.recorded.world.clone(), options.design.clone());
        out += "\nThe first round that the model does not explain, shrunk:\n\n";
        if let Ok(machine) = machine {
            let rows = side::rows(&machine, &rejection.recorded, &rejection.verdict);
            out += &table(screen(), &rows);
        }
    }
    out
}

/// The example to tell in full: of what was not expected, or else of the worst.
fn telling<'a>(outcome: &'a Outcome, unexpected: &[Invariant]) -> Option<&'a Example> {
    let worst = [Invariant::NoUseAfterFree, Invariant::CookieFidelity];
    let order = unexpected.iter().chain(&worst).chain(Invariant::ALL);
    order
        .filter_map(|i| outcome.broken.get(i))
        .find_map(|b| b.example.as_ref())
}

fn example_text(options: &Options<'_>, example: &Example) -> String {
    let finding = &example.finding;
    let text = format!(
        "{} at {} on {}: {}",
        finding.invariant.id(),
        finding.step.name(),
        finding.actor,
        finding.text
    );
    let mut out = "\n".to_string() + &screen().paragraph(&text, 0);
    for line in &finding.history {
        out += &screen().paragraph(&format!("the page was {line}"), 4);
    }
    if let Ok(machine) = Machine::new(example.recorded.world.clone(), options.design.clone()) {
        let rows = side::rows(&machine, &example.recorded, &example.verdict);
        let broken = format!("BREAKS {}", finding.invariant.id());
        let end = rows.iter().position(|r| r.model.contains(&broken));
        let end = end.map_or(rows.len(), |i| i + 1);
        let start = end.saturating_sub(ROWS);
        if start > 0 {
            out += &format!("\n  after {}:", plural(start, "step"));
        }
        out += &format!("\n{}", table(screen(), &rows[start..end]));
    }
    out
}

fn as_json(
    options: &Options<'_>,
    outcome: &Outcome,
    unexpected: &[Invariant],
    incomplete: Option<Incomplete>,
) -> json::Stress {
    let broken = |(invariant, broken): (&Invariant, &Broken)| json::Broken {
        invariant: invariant.id().into(),
        rounds_seen: broken.seen,
        rounds_model: broken.model,
        expected: !unexpected.contains(invariant),
        example: broken.example.as_ref().map(|e| json::Example {
            step: e.finding.step.name().into(),
            task: e.finding.actor.to_string(),
            text: e.finding.text.clone(),
            history: e.finding.history.clone(),
        }),
    };
    let row = |row: side::Row| json::Row {
        stamps: row.stamps,
        task: row.actor,
        step: row.step.into(),
        recorded: row.recorded,
        model: row.model,
        explained: row.explained,
    };
    let rejection = outcome.rejection.as_ref().and_then(|r| {
        let machine = Machine::new(r.recorded.world.clone(), options.design.clone()).ok()?;
        let rows = side::rows(&machine, &r.recorded, &r.verdict);
        Some(rows.into_iter().map(row).collect())
    });
    let not_judged = outcome.beyond.iter();
    json::Stress {
        design: options.design.name.clone(),
        scenario: options.scenario.map(|s| s.head.name.clone()),
        seed: options.seed,
        threads: options.threads,
        rounds: outcome.rounds,
        operations: outcome.operations,
        steps: outcome.events,
        explained: outcome.accepted,
        rejected: outcome.rejected,
        not_judged: not_judged.map(|(why, n)| (why.to_string(), *n)).collect(),
        exercised: counted(&outcome.exercised),
        broken: outcome.broken.iter().map(broken).collect(),
        rejection,
        incomplete,
    }
}
