//! `run` and `replay`: one sequence of steps.

use struct_ops_model::design::About;
use struct_ops_model::{Design, Invariant};

use super::args::{Format, Replay, Run};
use super::output::{document, print, screen};
use super::{Exit, Failure, export};
use crate::counterexample::Steps;
use crate::report::json::steps::{self as json, Sequence};
use crate::report::trace as table;
use crate::scenario::{Case, InputError, ReachScenario};
use crate::schedule::{self, Chooser};
use crate::trace::{self, Trace, trace};
use crate::tracefile::{Again, File, Finds, Promise, Replayed};
use crate::view::Played;
use crate::{input, reach, report, shipped, view};

/// One schedule.
pub(super) fn run(args: &Run, format: Format) -> Result<Exit, Failure> {
    let design =
        Design::parse(&args.design).map_err(|e| InputError::whole("--design", e.to_string()))?;
    let scenario = match shipped::find_case(&args.scenario)?.on(args.linux)? {
        Case::Attach(scenario) => *scenario,
        Case::Reach(scenario) => return run_lookup(&scenario, &design, args, format),
    };
    super::asked(std::slice::from_ref(&design), &[About::AttachPath])?;
    let machine = super::machine(&scenario, &design)?;
    let actions = match &args.path {
        Some(path) => view::actions(&trace::unmerged(&machine), path)
            .map_err(|e| InputError::whole("--path", e.to_string()))?,
        None => schedule::run(&machine, &mut Chooser::new(args.seed)),
    };
    let trace = trace(&machine, &actions)
        .map_err(|e| Failure::Bug(format!("step {} was not enabled", e.step)))?;
    let saved = || match &args.save {
        Some(file) => {
            let breaks = Promise::broken_by(&trace);
            File::new(&scenario, &design, &actions, breaks).save(file)
        }
        None => Ok(()),
    };
    // Whatever cannot be saved, what happened is told.
    let saved = saved().map_err(|e| Failure::Outside(e.to_string()));
    let exit = saved
        .as_ref()
        .map_or_else(Failure::exit, |()| Exit::Expected);
    if format == Format::Json {
        let body = json::Run {
            scenario: scenario.head.name.clone(),
            design: design.name.clone(),
            seed: args.seed,
            sequence: Sequence::from(&trace),
        };
        document("run", exit, body)?;
        return saved.map(|()| exit);
    }
    if format == Format::Mail {
        let run = view::Run::new(&scenario, &design, &actions)?;
        print(&run.mail(&super::mailer(), false))?;
        return Ok(Exit::Expected);
    }
    let seed = args.seed.map_or(String::new(), |s| format!(", seed {s}"));
    let title = format!(
        "{} under {design}{seed}: {}",
        scenario.head.name, scenario.head.title
    );
    print(&(screen().paragraph(&title, 0) + "\n" + &attach(&trace)))?;
    saved.map(|()| exit)
}

/// One schedule of a lookup scenario: nobody takes turns there, so its steps are named.
fn run_lookup(
    scenario: &ReachScenario,
    design: &Design,
    args: &Run,
    format: Format,
) -> Result<Exit, Failure> {
    super::asked(std::slice::from_ref(design), &[About::Lookups])?;
    let Some(path) = &args.path else {
        let message = "kind = \"reach\": `--path` names the steps, `explore` lets you choose them";
        return Err(InputError::whole(&scenario.head.file, message).into());
    };
    let machine = view::lookup::machine(scenario, design);
    let actions =
        view::actions(&machine, path).map_err(|e| InputError::whole("--path", e.to_string()))?;
    let run = view::lookup::Lookup::new(scenario, design, &actions)?;
    let saved = match &args.save {
        Some(file) => run.file().save(file),
        None => Ok(()),
    };
    let saved = saved.map_err(|e| Failure::Outside(e.to_string()));
    let exit = saved
        .as_ref()
        .map_or_else(Failure::exit, |()| Exit::Expected);
    match format {
        Format::Json => {
            let body = json::Run {
                scenario: scenario.head.name.clone(),
                design: design.name.clone(),
                seed: None,
                sequence: Sequence::of_lookup(&run.trace),
            };
            document("run", exit, body)?;
        }
        Format::Mail => print(&run.mail(&super::mailer(), false))?,
        _ => {
            let title = format!(
                "{} under {design}: {}",
                scenario.head.name, scenario.head.title
            );
            print(&(screen().paragraph(&title, 0) + "\n" + &lookup(&run.trace)))?;
        }
    }
    saved.map(|()| exit)
}

/// A saved trace.
pub(super) fn replay(args: &Replay, format: Format) -> Result<Exit, Failure> {
    let replayed = carried_out(args)?;
    if args.design.is_some() {
        let about = match replayed.steps {
            Steps::Attach(_) => About::AttachPath,
            Steps::Lookup(_) => About::Lookups,
        };
        super::asked(std::slice::from_ref(&replayed.design), &[about])?;
    }
    let exit = match replayed.as_recorded() {
        Some(false) => Exit::Different,
        _ => Exit::Expected,
    };
    if format == Format::Json {
        let Replayed { file, .. } = &replayed;
        let body = json::Replay {
            scenario: replayed.name.clone(),
            design: replayed.design.name.clone(),
            recorded: json::Recorded {
                version: file.version().map(Into::into),
                design: file.design().into(),
            },
            as_recorded: replayed.as_recorded(),
            again: replayed.again(),
            parted: replayed.parted.clone(),
            sequence: Sequence::from(&replayed.steps),
        };
        return document("replay", exit, body);
    }
    if format == Format::Mail {
        print(&export::mail_of(&replayed, &args.trace, false))?;
        return Ok(exit);
    }
    let title = match &replayed.title {
        Some(title) => format!(": {title}"),
        None => String::new(),
    };
    let title = format!("{} under {}{title}", replayed.name, replayed.design);
    let steps = match &replayed.steps {
        Steps::Attach(trace) => attach(trace),
        Steps::Lookup(trace) => lookup(trace),
    };
    let title = screen().paragraph(&title, 0);
    print(&format!("{title}\n{steps}\n{}", comparison(&replayed)))?;
    Ok(exit)
}

/// A saved trace, carried out again.
pub(super) fn carried_out(args: &Replay) -> Result<Replayed, InputError> {
    let path = input::shown(&args.trace);
    let design = args.design.as_deref().map(Design::parse).transpose();
    let design = design.map_err(|e| InputError::whole("--design", e.to_string()))?;
    let file = File::parse(path, &input::text(&args.trace, input::TRACE)?)?;
    file.replay(path, design.as_ref())
}

/// Steps of the attach path, and what they broke.
fn attach(trace: &Trace) -> String {
    let mut out = table::table(screen(), trace) + "\n";
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
    out
}

/// Steps of a lookup, and what they broke.
fn lookup(trace: &reach::Trace) -> String {
    let mut out = report::reach::steps(screen(), trace) + "\n";
    let mut broken: Vec<Invariant> = trace.iter().flat_map(|s| s.broke.clone()).collect();
    broken.dedup();
    for invariant in &broken {
        out += &report::reach::broke(screen(), trace, *invariant);
    }
    if broken.is_empty() {
        out += "Nothing is broken so far.\n";
    }
    out
}

/// What the file records, and what became of it.
fn comparison(replayed: &Replayed) -> String {
    let Replayed { file, design, .. } = replayed;
    let mut lines = Vec::new();
    if let Some(parted) = &replayed.parted {
        let version = file.version().unwrap_or("another version");
        lines.push(format!(
            "PARTED from what was saved (under {}, struct-ops-sim {version}) at {parted}.",
            file.design()
        ));
    }
    for Again { recorded, found } in replayed.again() {
        let id = &recorded.invariant;
        lines.push(match &found {
            Some(found) if *found == recorded => {
                format!("As recorded: it breaks {id} {}.", place(found))
            }
            Some(found) => format!(
                "It breaks {id} again, {} instead of {}.",
                place(found),
                place(&recorded)
            ),
            None => {
                let promised = Invariant::from_id(id).is_some_and(|i| i.applies(design));
                let why = match promised {
                    true => "Another run may; `check` looks at all",
                    false => "This design promises nothing here",
                };
                format!(
                    "NOT AS RECORDED: {id} was broken {}, and is not broken by this run. {why}.",
                    place(&recorded)
                )
            }
        });
    }
    if let Some((was, is)) = replayed.finds() {
        lines.push(match is == Some(was) {
            true => format!("As recorded: in the end {}.", Finds::words(is)),
            false => format!(
                "NOT AS RECORDED: in the end {}; recorded was that {}.",
                Finds::words(is),
                Finds::words(Some(was))
            ),
        });
    }
    if lines.is_empty() {
        lines.push(
            match replayed.as_recorded() {
                Some(true) => "As recorded: it breaks nothing.",
                Some(false) => "NOT AS RECORDED: it was saved as a run that breaks nothing.",
                None => {
                    "The file is of schema 1 and records no promise: there is nothing to compare. Saved again, by \
                     `check --save-traces` or `run --save`, it records what it breaks."
                }
            }
            .into(),
        );
    }
    let paragraphs = lines.iter().map(|line| screen().paragraph(line, 0));
    paragraphs.collect()
}

/// Where something was broken.
fn place(promise: &Promise) -> String {
    let label = promise.label.as_deref();
    match (promise.step, label) {
        (Some(step), Some(label)) => format!("at step {step} ({label})"),
        (Some(step), None) => format!("at step {step}"),
        (None, Some(label)) => format!("in the final state (at {label})"),
        (None, None) => "in the final state".into(),
    }
}
