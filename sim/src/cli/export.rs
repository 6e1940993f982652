//! `export`: one run as a file to send.

use struct_ops_model::design::About;
use struct_ops_model::{Design, Invariant};

use super::args::{Export, To};
use super::output::print;
use super::{Exit, Failure, Job};
use crate::bounds::Bounds;
use crate::check::{self, Settings};
use crate::explore::Reductions;
use crate::report::mail;
use crate::scenario::{Case, InputError};
use crate::schedule::{self, Chooser};
use crate::tracefile::{File, Replayed};
use crate::verdict::{self, Verdict};
use crate::view::{self, Played, Shown, html, mermaid, timeline};
use crate::{input, shipped, walk};

/// What was chosen.
pub(super) enum Chosen {
    /// A scenario, a design and the steps.
    Run(Case, Design, Vec<usize>),
    /// A saved run of a lookup, carried out again.
    Saved(Box<Replayed>),
}

/// Writes the file.
pub(super) fn export(job: &Job, args: &Export) -> Result<Exit, Failure> {
    let chosen = match chosen(args)? {
        Found::Chosen(chosen) => chosen,
        Found::Explore(case, design, invariant) => {
            let bounds = job.bounds(None, None);
            shortest(case, design, invariant, &bounds)?
        }
    };
    let text = match &chosen {
        Chosen::Run(case, design, path) => {
            of_run(&*view::chosen(case, design, path, "--path")?, args)?
        }
        Chosen::Saved(replayed) => of_cell(replayed, args)?,
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
    Explore(Case, Design, Option<Invariant>),
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
    if args.what.ends_with(".json") {
        super::asked(&named, &[About::AttachPath, About::Lookups])?;
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
    let case = shipped::find_case(&args.what)?;
    super::asked(&named, &[case.about()])?;
    let design = chosen.unwrap_or_else(|| super::explore::usual(&case));
    if let Case::Attach(scenario) = &case {
        // A set-up that does not work is said before anything is explored.
        super::machine(scenario, &design)?;
    }
    let Some(path) = &args.path else {
        let invariant = args.invariant.as_slice();
        let invariant = super::invariants(invariant)?.first().copied();
        let invariant = invariant.filter(|_| args.invariant.is_some());
        return Ok(Found::Explore(case, design, invariant));
    };
    view::chosen(&case, &design, path, "--path")?;
    Ok(Found::Chosen(Chosen::Run(case, design, path.clone())))
}

/// A saved trace as far as it could be carried out again.
fn saved(replayed: Replayed) -> Result<Chosen, Failure> {
    let Some(case) = replayed.file.case_inside() else {
        return Ok(Chosen::Saved(Box::new(replayed)));
    };
    let case = case?;
    let path = walk::machine(&case, &replayed.design)?.path(&replayed.trace.actions());
    Ok(Chosen::Run(case, replayed.design, path))
}

/// A shortest run that breaks a promise: this one, or the only one that breaks; where nothing does, the run that
/// `run` shows.
fn shortest(
    case: Case,
    design: Design,
    invariant: Option<Invariant>,
    bounds: &Bounds,
) -> Result<Chosen, Failure> {
    let settings = Settings {
        threads: std::thread::available_parallelism().map_or(1, |n| n.get()),
        max_states: None,
        exact: false,
        reductions: Reductions::ALL,
    };
    let run = check::case(&case, &design, &settings, bounds, &mut |_| ())?;
    let name = case.head().name.to_string();
    let invariant = match invariant {
        Some(invariant) => invariant,
        None => match broken(&run).as_slice() {
            [one] => *one,
            [] => match case {
                Case::Attach(ref scenario) if run.bound.is_none() => {
                    let machine = walk::attach(scenario, &design)?;
                    let actions = schedule::run(&machine, &mut Chooser::new(None));
                    let path = walk::path::path(&machine, &actions);
                    return Ok(Chosen::Run(case, design, path));
                }
                _ => {
                    let seen = match run.bound {
                        None => "nothing breaks",
                        Some(_) => "nothing was found that breaks, and not everything was seen,",
                    };
                    let message = format!("{seen} under {design}: `--path` names a run");
                    return Err(InputError::whole(&name, message).into());
                }
            },
            several => {
                let ids: Vec<&str> = several.iter().map(|i| i.id()).collect();
                let message = format!(
                    "{} promises break under {design}: choose one with `--invariant`: {}",
                    ids.len(),
                    ids.join(", ")
                );
                return Err(InputError::whole(&name, message).into());
            }
        },
    };
    let Some(found) = run.shortest(invariant) else {
        let verdict = run.verdict(invariant).word();
        let message =
            format!("no run of {name} under {design} breaks it: the verdict is `{verdict}`");
        let option = format!("--invariant {}", invariant.id());
        return Err(InputError::whole(&option, message).into());
    };
    let path = walk::machine(&case, &design)?.path(&found.actions);
    Ok(Chosen::Run(case, design, path))
}

/// What a run of `check` breaks.
fn broken(run: &verdict::Run) -> Vec<Invariant> {
    let all = Invariant::ALL.iter().copied();
    all.filter(|i| run.verdict(*i) == Verdict::Violated)
        .collect()
}

fn beside(args: &Export) -> Result<Option<Design>, Failure> {
    let beside = args.beside.as_deref().map(Design::parse).transpose();
    Ok(beside.map_err(|e| InputError::whole("--beside", e.to_string()))?)
}

fn of_run(run: &dyn Played, args: &Export) -> Result<String, Failure> {
    let screen = super::mailer();
    Ok(match args.to {
        To::Svg => run.svg(),
        To::Mermaid => run.mermaid(),
        To::Mail => run.mail(&screen, args.changes),
        To::Html => {
            let shown = Shown::new(run, beside(args)?.as_ref(), &screen)?;
            let page = html::file(&run.title(), &shown.to_send());
            page.map_err(|e| Failure::Bug(e.to_string()))?
        }
    })
}

/// The run behind a cell of `reach`: nothing but its steps is known.
fn of_cell(replayed: &Replayed, args: &Export) -> Result<String, Failure> {
    let rows: Vec<_> = replayed.trace.steps.iter().map(Into::into).collect();
    let actors: Vec<String> = mail::actors(&rows).into_iter().map(String::from).collect();
    let title = format!("{} under {}", replayed.name, replayed.design);
    Ok(match args.to {
        To::Svg => timeline::file(&title, &rows, &[], &actors),
        To::Mermaid => mermaid::sequence(&title, &rows, &actors),
        To::Mail => mail_of(replayed, &args.what, args.changes, Vec::new()),
        To::Html => {
            let message = "the run behind a cell of `reach` has no scenario to be shown in a page; there is svg, \
                           mermaid and mail of it";
            return Err(InputError::whole(&args.what, message).into());
        }
    })
}

/// A saved trace as text for a mail, with what there is to say of what it records.
pub(super) fn mail_of(
    replayed: &Replayed,
    file: &str,
    changes: bool,
    recorded: Vec<String>,
) -> String {
    let design = &replayed.design.name;
    let command = super::mailer().typed(&["replay", file, "--design", design].map(String::from));
    let title = replayed
        .title
        .as_ref()
        .map_or(String::new(), |t| format!(": {t}"));
    let mut words = mail::Words::new(format!("{} under {design}{title}", replayed.name), &command);
    words.changes = changes;
    words.after = recorded;
    mail::of_run(&replayed.trace, words)
}
