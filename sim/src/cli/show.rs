//! `list` and `explain`.

use struct_ops_model::Design;

use super::args::Format;
use super::output::{document, print, screen};
use super::{Exit, Failure};
use crate::history::side::Told;
use crate::history::{Explanation, History, file};
use crate::report::json::explain as json;
use crate::report::screen::Screen;
use crate::report::{explain, history as report, list};
use crate::scenario::{InputError, Scenario, close};
use crate::{check, input, shipped};

/// The name under which a history is explained.
const HISTORY: &str = "history";

/// What there is.
pub(super) fn list(kind: Option<&str>, format: Format) -> Result<Exit, Failure> {
    let scenarios = shipped::all().map_err(|e| Failure::Bug(e.to_string()))?;
    let kinds = list::KINDS
        .iter()
        .filter(|k| kind.is_none_or(|kind| kind == **k));
    // Steps are many: they are listed when asked for.
    let kinds = kinds.filter(|k| kind.is_some() || **k != "steps");
    let sections: Vec<list::Section> = kinds.map(|k| list::section(k, &scenarios)).collect();
    match format {
        Format::Text => print(&list::text(screen(), &sections))?,
        _ => {
            let sections = sections.iter().map(json::Section::from).collect();
            return document("list", Exit::Expected, json::List { sections });
        }
    }
    Ok(Exit::Expected)
}

/// A paragraph on one of them.
pub(super) fn explained(name: &str, screen: &Screen) -> Result<String, Failure> {
    let scenarios = shipped::all().map_err(|e| Failure::Bug(e.to_string()))?;
    Ok(match explain::explain(screen, name, &scenarios) {
        Some(text) => text,
        None if name.contains(',') => {
            let design =
                Design::parse(name).map_err(|e| InputError::whole("explain", e.to_string()))?;
            explain::design(screen, &design, None)
        }
        // A scenario of the user's own.
        None if name == "-" || std::path::Path::new(name).exists() => {
            explain::case(screen, &shipped::find_case(name)?)
        }
        None => {
            let known = explain::known(&scenarios);
            let hint = close(name, known.iter().map(String::as_str));
            let message = format!(
                "nothing is called `{name}`{hint} (`list` shows what there is, `list steps` the steps)"
            );
            return Err(InputError::whole("explain", message).into());
        }
    })
}

/// Prints it.
pub(super) fn explain(name: &str, format: Format) -> Result<Exit, Failure> {
    let plain = Screen::plain(Screen::USUAL);
    let screen = match format {
        Format::Text => screen(),
        _ => &plain,
    };
    let text = explained(name, screen)?;
    match format {
        Format::Text => print(&text)?,
        _ => {
            let name = name.to_string();
            return document(
                "explain",
                Exit::Expected,
                json::Explain {
                    name,
                    text,
                    history: None,
                },
            );
        }
    }
    Ok(Exit::Expected)
}

/// What is in a history file, if that is what is to be explained.
pub(super) fn history(name: &str, path: &str) -> Result<(Scenario, Design, History), Failure> {
    if name != HISTORY {
        let message = format!(
            "`{name}` is explained without a file; `explain {HISTORY} FILE` explains a history"
        );
        return Err(InputError::whole("explain", message).into());
    }
    let text = input::text(path, input::TRACE)?;
    let path = input::shown(path);
    Ok(file::File::parse(path, &text)?.history(path)?)
}

/// Looks for a run that explains a history, and prints it, or the nearest one.
pub(super) fn explain_history(name: &str, path: &str, format: Format) -> Result<Exit, Failure> {
    let (scenario, design, seen) = history(name, path)?;
    let told = Told::new(&scenario, &design, &seen)
        .map_err(|e| check::setup_error(&scenario, &design, &e))?;
    let exit = match &told.explanation {
        Explanation::Explained { .. } => Exit::Expected,
        Explanation::Unexplained { .. } => Exit::Different,
        Explanation::Beyond(_) => Exit::Incomplete,
    };
    match format {
        Format::Text => print(&report::text(screen(), &told))?,
        _ => {
            let plain = Screen::plain(Screen::USUAL);
            let body = json::Explain {
                name: input::shown(path).to_string(),
                text: report::text(&plain, &told),
                history: Some(json::History::from(&told)),
            };
            return document("explain", exit, body);
        }
    }
    Ok(exit)
}
