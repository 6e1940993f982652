//! `export`: one run as a file to send.

use struct_ops_model::design::About;
use struct_ops_model::{Action, Design, Invariant};

use super::args::{Export, To};
use super::output::print;
use super::{Exit, Failure, Job};
use crate::bounds::Bounds;
use crate::check::{Settings, check};
use crate::counterexample::Steps;
use crate::explore::Reductions;
use crate::report::mail;
use crate::scenario::{InputError, Scenario};
use crate::schedule::{self, Chooser};
use crate::trace::unmerged;
use crate::tracefile::{File, Replayed};
use crate::verdict::{Path, Verdict};
use crate::view::{self, Run, Shown, html, mermaid, timeline};
use crate::{input, shipped};

/// What was chosen: a run of the attach path, or a saved one of a lookup.
pub(super) enum Chosen {
    /// A scenario, a design and the steps.
    Attach(Box<Scenario>, Design, Vec<Action>),
    /// A lookup, carried out again.
    Lookup(Box<Replayed>),
}

/// Writes the file.
pub(super) fn export(job: &Job, args: &Export) -> Result<Exit, Failure> {
    let chosen = match chosen(args)? {
        Found::Chosen(chosen) => chosen,
        Found::Explore(scenario, design, invariant) => {
            let bounds = job.bounds(None, None);
            let actions = shortest(&scenario, &design, invariant, &bounds)?;
            Chosen::Attach(scenario, design, actions)
        }
    };
    let text = match &chosen {
        Chosen::Attach(scenario, design, actions) => {
            let run = Run::new(scenario, design, actions)?;
            attach(&run, args)?
        }
        Chosen::Lookup(replayed) => lookup(replayed, args)?,
    };
    match &args.output {
        None => print(&text)?,
        Some(path) => std::fs::write(path, text).map_err(|e| {
            InputError::whole(
                &path.display().to_string(),
                format!("cannot be written: {e}"),
            )
        })?,
    }
    Ok(Exit::Expected)
}

/// What was asked for: a run, or a search for one.
pub(super) enum Found {
    /// A run.
    Chosen(Chosen),
    /// A shortest one that breaks a promise is still to be found: this one, or the only one that breaks.
    Explore(Box<Scenario>, Design, Option<Invariant>),
}

/// Looks up what is named.
pub(super) fn chosen(args: &Export) -> Result<Found, Failure> {
    let design = |option: &str, name: &Option<String>| {
        let design = name.as_deref().map(Design::parse).transpose();
        design.map_err(|e| InputError::whole(option, e.to_string()))
    };
    let chosen = design("--design", &args.design)?;
    let beside = design("--beside", &args.beside)?;
    if beside.is_some() && args.to != To::Html {
        return Err(
            InputError::whole("--beside", "only a page shows two designs: `--to html`").into(),
        );
    }
    if args.changes && args.to != To::Mail {
        return Err(InputError::whole(
            "--changes",
            "the other forms tell them anyway: `--to mail`",
        )
        .into());
    }
    let named: Vec<Design> = chosen.iter().chain(&beside).cloned().collect();
    let lookups = args.what.ends_with(".json");
    let about = if lookups {
        &[About::AttachPath, About::Lookups][..]
    } else {
        &[About::AttachPath]
    };
    super::asked(&named, about)?;
    if args.what.ends_with(".json") {
        if args.invariant.is_some() || args.path.is_some() {
            let message =
                "a saved trace is one run: `--invariant` and `--path` choose one of a scenario";
            return Err(InputError::whole(&args.what, message).into());
        }
        let path = input::shown(&args.what);
        let file = File::parse(path, &input::text(&args.what, input::TRACE)?)?;
        let replayed = file.replay(path, chosen.as_ref())?;
        return Ok(Found::Chosen(saved(replayed)?));
    }
    let scenario = shipped::find(&args.what)?;
    let design = chosen.unwrap_or_else(Design::mainline);
    if let Some(id) = &args.invariant {
        let invariants = super::invariants(std::slice::from_ref(id))?;
        let invariant = Some(invariants[0]);
        return Ok(Found::Explore(Box::new(scenario), design, invariant));
    }
    let machine = unmerged(&super::machine(&scenario, &design)?);
    let Some(path) = &args.path else {
        return Ok(Found::Explore(Box::new(scenario), design, None));
    };
    let actions =
        view::actions(&machine, path).map_err(|e| InputError::whole("--path", e.to_string()))?;
    Ok(Found::Chosen(Chosen::Attach(
        Box::new(scenario),
        design,
        actions,
    )))
}

/// A saved trace as far as it could be carried out again.
fn saved(replayed: Replayed) -> Result<Chosen, Failure> {
    let Steps::Attach(trace) = &replayed.steps else {
        return Ok(Chosen::Lookup(Box::new(replayed)));
    };
    let actions = trace.steps.iter().map(|s| s.action).collect();
    let scenario = replayed.file.scenario_inside().expect("it was replayed")?;
    Ok(Chosen::Attach(
        Box::new(scenario),
        replayed.design.clone(),
        actions,
    ))
}

/// A shortest run that breaks a promise: this one, or the only one that breaks; where nothing does, the run that
/// `run` shows.
fn shortest(
    scenario: &Scenario,
    design: &Design,
    invariant: Option<Invariant>,
    bounds: &Bounds,
) -> Result<Vec<Action>, Failure> {
    let settings = Settings {
        threads: std::thread::available_parallelism().map_or(1, |n| n.get()),
        max_states: None,
        exact: false,
        reductions: Reductions::ALL,
    };
    let run = check(scenario, design, &settings, bounds, &mut |_| ())?;
    let broken = || {
        let all = Invariant::ALL.iter().copied();
        all.filter(|i| run.verdict(*i) == Verdict::Violated)
    };
    let invariant = match invariant {
        Some(invariant) => invariant,
        None => match broken().collect::<Vec<_>>().as_slice() {
            [] if run.bound.is_none() => {
                let machine = unmerged(&super::machine(scenario, design)?);
                return Ok(schedule::run(&machine, &mut Chooser::new(None)));
            }
            [] => {
                let message = format!(
                    "nothing was found that breaks under {design}, and not everything was seen; `--path` names a run"
                );
                return Err(InputError::whole(&scenario.name, message).into());
            }
            [one] => *one,
            several => {
                let ids: Vec<&str> = several.iter().map(|i| i.id()).collect();
                let message = format!(
                    "{} promises break under {design}: choose one with `--invariant`: {}",
                    ids.len(),
                    ids.join(", ")
                );
                return Err(InputError::whole(&scenario.name, message).into());
            }
        },
    };
    match run.shortest(invariant).map(|found| &found.path) {
        Some(Path::Attach(_, actions)) => Ok(actions.clone()),
        _ => {
            let verdict = run.verdict(invariant).word();
            let message = format!(
                "no run of {} under {design} breaks it: the verdict is `{verdict}`",
                scenario.name
            );
            Err(InputError::whole(&format!("--invariant {}", invariant.id()), message).into())
        }
    }
}

fn attach(run: &Run<'_>, args: &Export) -> Result<String, Failure> {
    let screen = super::mailer();
    Ok(match args.to {
        To::Svg => run.svg(),
        To::Mermaid => run.mermaid(),
        To::Mail => run.mail(&run.command(&screen), args.changes),
        To::Html => {
            let beside = args.beside.as_deref().map(Design::parse).transpose();
            let beside = beside.map_err(|e| InputError::whole("--beside", e.to_string()))?;
            let shown = Shown::new(run, beside.as_ref(), &screen)?.to_send();
            html::file(&run.title(), &shown).map_err(|e| Failure::Bug(e.to_string()))?
        }
    })
}

fn lookup(replayed: &Replayed, args: &Export) -> Result<String, Failure> {
    let Steps::Lookup(trace) = &replayed.steps else {
        unreachable!("a lookup was chosen");
    };
    let rows: Vec<_> = trace.iter().map(Into::into).collect();
    let actors: Vec<String> = mail::actors(&rows).into_iter().map(String::from).collect();
    let title = format!("{} under {}", replayed.name, replayed.design);
    Ok(match args.to {
        To::Svg => timeline::file(&title, &rows, &[], &actors),
        To::Mermaid => mermaid::sequence(&title, &rows, &actors),
        To::Mail => mail_of(replayed, &args.what, args.changes),
        To::Html => {
            let message =
                "a page shows the attach path; of a lookup there is svg, mermaid and mail";
            return Err(InputError::whole(&args.what, message).into());
        }
    })
}

/// A saved trace as text for a mail.
pub(super) fn mail_of(replayed: &Replayed, file: &str, changes: bool) -> String {
    let design = &replayed.design.name;
    let command = super::mailer().typed(&["replay", file, "--design", design].map(String::from));
    let title = replayed
        .title
        .as_ref()
        .map_or(String::new(), |t| format!(": {t}"));
    let mut words = mail::Words::new(format!("{} under {design}{title}", replayed.name), &command);
    words.changes = changes;
    match &replayed.steps {
        Steps::Attach(trace) => {
            let broken: Vec<_> = trace.broken().map(|b| b.1).collect();
            mail::of_trace(trace, &broken, words)
        }
        Steps::Lookup(trace) => {
            let mut broken: Vec<Invariant> = trace.iter().flat_map(|s| s.broke.clone()).collect();
            broken.dedup();
            mail::of_lookup(trace, &broken, words)
        }
    }
}
