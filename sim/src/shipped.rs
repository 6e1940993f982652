//! Finds scenario files: those inside the binary by name, others by path, and `-` for standard input.

use std::path::Path;

use include_dir::{Dir, include_dir};

use struct_ops_model::Linux;

use crate::input;
use crate::scenario::{Case, InputError, STDIN, Scenario, close};

static SCENARIOS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/scenarios");

/// Names and texts of the shipped scenarios, by name.
fn files() -> Vec<(&'static str, &'static str)> {
    let mut files: Vec<_> = SCENARIOS
        .files()
        .filter(|f| f.path().extension().is_some_and(|e| e == "toml"))
        .filter_map(|f| Some((f.path().file_stem()?.to_str()?, f.contents_utf8()?)))
        .collect();
    files.sort();
    files
}

/// Names of the shipped scenarios.
pub fn names() -> Vec<&'static str> {
    files().into_iter().map(|f| f.0).collect()
}

/// Every shipped scenario, those about the attach path first.
///
/// # Errors
/// The first mistake in a file: not a user's, but theirs to see.
pub fn all() -> Result<Vec<Case>, InputError> {
    let mut cases = files()
        .into_iter()
        .map(|(name, text)| parse(name, text))
        .collect::<Result<Vec<Case>, _>>()?;
    cases.sort_by_key(|case| matches!(case, Case::Reach(_)));
    Ok(cases)
}

fn parse(name: &str, text: &str) -> Result<Case, InputError> {
    Ok(Case::parse(name, &format!("{name}.toml"), text)?.ship())
}

/// A scenario about the attach path, by the name of a shipped one or by the path of a file; `-` for standard input.
///
/// # Errors
/// The mistake in the file, that there is none, or that it is of the other kind.
pub fn find(what: &str) -> Result<Scenario, InputError> {
    find_on(what, None)
}

/// [`find`], on another kernel than the file names, if one is given.
///
/// # Errors
/// As [`find`], or that kernel does not have all of what the scenario is about.
pub fn find_on(what: &str, linux: Option<Linux>) -> Result<Scenario, InputError> {
    match find_case(what)?.on(linux)? {
        Case::Attach(scenario) => Ok(*scenario),
        Case::Reach(scenario) => {
            let message =
                "kind = \"reach\": of scenarios, this verb knows those of the attach path alone";
            Err(InputError::whole(&scenario.head.file, message))
        }
    }
}

/// A scenario of either kind, by the name of a shipped one or by the path of a file; `-` for standard input.
///
/// # Errors
/// The mistake in the file, or that there is none.
pub fn find_case(what: &str) -> Result<Case, InputError> {
    if let Some((name, text)) = files().into_iter().find(|f| f.0 == what) {
        return parse(name, text);
    }
    if what == "-" {
        return Case::parse("stdin", STDIN, &input::text(what, input::SCENARIO)?);
    }
    let path = Path::new(what);
    if !path.exists() && !what.contains('/') && path.extension().is_none() {
        let hint = close(what, names());
        let message = format!(
            "no shipped scenario of this name, and no such file{hint} (`list scenarios` shows them)"
        );
        return Err(InputError::whole(what, message));
    }
    let text = input::text(what, input::SCENARIO)?;
    let name = path
        .file_stem()
        .map_or(what.into(), |s| s.to_string_lossy());
    Case::parse(&name, what, &text)
}
