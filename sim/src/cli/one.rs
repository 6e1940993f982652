//! `run` and `replay`: one sequence of steps.

use struct_ops_model::{Design, Invariant};

use super::args::{Format, Replay, Run};
use super::output::{document, print, screen};
use super::{Exit, Failure, export};
use crate::report::json::steps::{self as json, Sequence};
use crate::report::trace as table;
use crate::scenario::{Case, Head, InputError};
use crate::schedule::{self, Chooser};
use crate::trace::Trace;
use crate::tracefile::{Again, File, Finds, Promise, Replayed};
use crate::view::Played;
use crate::{input, shipped, view};

/// One schedule, or the steps that a path names.
pub(super) fn run(args: &Run, format: Format) -> Result<Exit, Failure> {
    let design =
        Design::parse(&args.design).map_err(|e| InputError::whole("--design", e.to_string()))?;
    let case = shipped::find_case(&args.scenario)?.on(args.linux)?;
    super::asked(std::slice::from_ref(&design), &[case.about()])?;
    let run = match &args.path {
        Some(path) => view::chosen(&case, &design, path, "--path")?,
        None => scheduled(&case, &design, args.seed)?,
    };
    // Whatever cannot be saved, what happened is told.
    let saved = match &args.save {
        Some(file) => run.file().save(file),
        None => Ok(()),
    };
    let saved = saved.map_err(|e| Failure::Outside(e.to_string()));
    let exit = saved
        .as_ref()
        .map_or_else(Failure::exit, |()| Exit::Expected);
    let seed = args.seed.filter(|_| args.path.is_none());
    match format {
        Format::Json => {
            let body = json::Run {
                scenario: case.head().name.clone(),
                design: design.name.clone(),
                seed,
                sequence: Sequence::from(run.trace()),
            };
            document("run", exit, body)?;
        }
        Format::Mail => print(&run.mail(&super::mailer(), false))?,
        _ => {
            let seed = seed.map_or(String::new(), |s| format!(", seed {s}"));
            let Head { name, title, .. } = case.head();
            let title = format!("{name} under {design}{seed}: {title}");
            print(&(screen().paragraph(&title, 0) + "\n" + &told(run.trace())))?;
        }
    }
    saved.map(|()| exit)
}

/// One schedule: CPUs take turns, or a seed decides who moves.
fn scheduled<'a>(
    case: &'a Case,
    design: &'a Design,
    seed: Option<u64>,
) -> Result<Box<dyn Played + 'a>, Failure> {
    let Case::Attach(scenario) = case else {
        // Nobody takes turns there.
        let message = "kind = \"reach\": `--path` names the steps, `explore` lets you choose them";
        return Err(InputError::whole(&case.head().file, message).into());
    };
    let machine = super::machine(scenario, design)?;
    let actions = schedule::run(&machine, &mut Chooser::new(seed));
    Ok(Box::new(view::Run::new(scenario, design, &actions)?))
}

/// A saved trace.
pub(super) fn replay(args: &Replay, format: Format) -> Result<Exit, Failure> {
    let replayed = carried_out(args)?;
    if args.design.is_some() {
        super::asked(std::slice::from_ref(&replayed.design), &[replayed.about])?;
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
            sequence: Sequence::from(&replayed.trace),
        };
        return document("replay", exit, body);
    }
    if format == Format::Mail {
        print(&export::mail_of(
            &replayed,
            &args.trace,
            false,
            comparison(&replayed),
        ))?;
        return Ok(exit);
    }
    let title = match &replayed.title {
        Some(title) => format!(": {title}"),
        None => String::new(),
    };
    let title = format!("{} under {}{title}", replayed.name, replayed.design);
    let steps = told(&replayed.trace);
    let title = screen().paragraph(&title, 0);
    let recorded = comparison(&replayed);
    let recorded = recorded.iter().map(|line| screen().paragraph(line, 0));
    print(&format!(
        "{title}\n{steps}\n{}",
        recorded.collect::<String>()
    ))?;
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

/// Steps, and what they broke.
fn told(trace: &Trace) -> String {
    let mut out = table::table(screen(), trace) + "\n";
    let broken = trace.distinct();
    for broken in &broken {
        out += &table::broke(screen(), trace, *broken);
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

/// What the file records, and what became of it.
fn comparison(replayed: &Replayed) -> Vec<String> {
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
    lines
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
