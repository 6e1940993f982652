//! Trace files: a scenario, a design and the actions, in one JSON file that needs nothing else.

use std::path::Path;

use serde::{Deserialize, Serialize};
use struct_ops_model::{Action, Design, Machine};

use crate::action;
use crate::check::setup_error;
use crate::scenario::{InputError, Scenario};
use crate::trace::{NotEnabled, Trace, trace};

/// The version of the file format.
const SCHEMA: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    schema: u32,
    scenario: Embedded,
    design: String,
    actions: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Embedded {
    name: String,
    toml: String,
}

/// A trace file, understood and carried out again.
#[derive(Debug)]
pub struct Replayed {
    /// The scenario inside.
    pub scenario: Scenario,
    /// The design.
    pub design: Design,
    /// What happened.
    pub trace: Trace,
}

/// Writes a trace file.
///
/// # Errors
/// What the system says.
pub fn save(
    path: &Path,
    scenario: &Scenario,
    design: &Design,
    actions: &[Action],
) -> Result<(), InputError> {
    let file = File {
        schema: SCHEMA,
        scenario: Embedded {
            name: scenario.name.clone(),
            toml: scenario.text.clone(),
        },
        design: design.name.clone(),
        actions: actions.iter().map(|a| action::write(*a)).collect(),
    };
    let error = |e: &dyn std::fmt::Display| {
        InputError::whole(
            &path.display().to_string(),
            format!("cannot be written: {e}"),
        )
    };
    let text = serde_json::to_string_pretty(&file).map_err(|e| error(&e))?;
    std::fs::write(path, text + "\n").map_err(|e| error(&e))
}

/// Reads a trace file and carries it out.
///
/// # Errors
/// Where the file is wrong, or which action could not be taken and which ones could.
pub fn replay(path: &str, text: &str) -> Result<Replayed, InputError> {
    let file: File = serde_json::from_str(text).map_err(|e| json_error(path, text, &e))?;
    if file.schema != SCHEMA {
        return Err(InputError::whole(
            path,
            format!("schema {}: expected {SCHEMA}", file.schema),
        ));
    }
    let inner = format!("{path} (scenario {})", file.scenario.name);
    let scenario = Scenario::parse(&file.scenario.name, &inner, &file.scenario.toml)?;
    let design = Design::parse(&file.design).map_err(|e| InputError::whole(path, e.to_string()))?;
    let mut actions = Vec::new();
    for (i, line) in file.actions.iter().enumerate() {
        actions.push(
            action::read(line)
                .map_err(|e| InputError::whole(path, format!("step {}: {e}", i + 1)))?,
        );
    }
    let machine = Machine::new(scenario.world.clone(), design.clone())
        .map_err(|e| setup_error(&scenario, &design, &e))?;
    let trace = trace(&machine, &actions).map_err(|e| InputError::whole(path, not_enabled(&e)))?;
    Ok(Replayed {
        scenario,
        design,
        trace,
    })
}

fn json_error(path: &str, text: &str, error: &serde_json::Error) -> InputError {
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or_default();
    let message = match error.classify() {
        serde_json::error::Category::Eof => format!("the file ends too early: {message}"),
        _ => message.to_string(),
    };
    let line_start: usize = text
        .split_inclusive('\n')
        .take(error.line().saturating_sub(1))
        .map(str::len)
        .sum();
    let at = line_start + error.column().saturating_sub(1);
    InputError::at(path, text, at..at, message)
}

/// What was found and what was possible.
fn not_enabled(error: &NotEnabled) -> String {
    let found = action::write(error.found);
    if error.enabled.is_empty() {
        return format!(
            "step {}: `{found}`, but nothing can happen any more",
            error.step
        );
    }
    let mut enabled: Vec<String> = error
        .enabled
        .iter()
        .map(|a| format!("`{}`", action::write(*a)))
        .collect();
    let more = enabled.len().saturating_sub(8);
    enabled.truncate(8);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    format!(
        "step {}: `{found}` is not enabled; enabled are {}{more}",
        error.step,
        enabled.join(", ")
    )
}
