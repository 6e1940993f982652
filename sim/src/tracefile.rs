//! Trace files: a scenario, a design and the actions, in one JSON file that needs nothing else.

use std::path::Path;

use serde::{Deserialize, Serialize};
use struct_ops_model::reach::Kind;
use struct_ops_model::{Action, Design, Machine};

use crate::action;
use crate::check::setup_error;
use crate::reach::{self, Help};
use crate::scenario::{InputError, ReachScenario, Scenario, unknown, unknown_program};
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

/// A trace file of a lookup.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReachFile {
    schema: u32,
    reach: Subject,
    design: String,
    actions: Vec<String>,
}

/// Where schedulers were looked up.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, untagged)]
pub enum Subject {
    /// In a scenario.
    Scenario {
        /// Its name.
        name: String,
        /// Its text.
        toml: String,
    },
    /// In the universe of a cell.
    Cell {
        /// The kind of program.
        program: String,
        /// The loader's help.
        help: String,
        /// One object file serves both schedulers.
        shared: bool,
    },
}

impl Subject {
    /// A scenario.
    pub fn scenario(name: &str, toml: &str) -> Self {
        Subject::Scenario {
            name: name.into(),
            toml: toml.into(),
        }
    }

    /// A cell.
    pub fn cell(cell: &reach::Cell) -> Self {
        Subject::Cell {
            program: cell.kind.to_string(),
            help: cell.help.word().into(),
            shared: cell.shared,
        }
    }

    /// What to call it, and what there is.
    fn world(
        &self,
        path: &str,
        design: &Design,
    ) -> Result<(String, reach::ModelWorld), InputError> {
        match self {
            Subject::Scenario { name, toml } => {
                let inner = format!("{path} (scenario {name})");
                let scenario = ReachScenario::parse(name, &inner, toml)?;
                Ok((
                    format!("{name}: {}", scenario.title),
                    scenario.world(design),
                ))
            }
            Subject::Cell {
                program,
                help,
                shared,
            } => {
                let kind = Kind::parse(program)
                    .ok_or_else(|| InputError::whole(path, unknown_program(program)))?;
                let helps = Help::of(design, kind);
                let words = || helps.iter().map(|h| h.word());
                let found = helps.iter().find(|h| h.word() == help);
                let found =
                    found.ok_or_else(|| InputError::whole(path, unknown("help", help, words())))?;
                let world = reach::universe(design, kind, *found, *shared);
                Ok((program.clone(), world))
            }
        }
    }
}

/// A trace file of a lookup, carried out again.
#[derive(Debug)]
pub struct ReachReplayed {
    /// What it is about.
    pub name: String,
    /// The design.
    pub design: Design,
    /// What happened.
    pub trace: reach::Trace,
}

/// Writes a trace file of a lookup.
///
/// # Errors
/// What the system says.
pub fn save_reach(
    path: &Path,
    subject: Subject,
    design: &Design,
    actions: &[struct_ops_model::reach::Action],
) -> Result<(), InputError> {
    let file = ReachFile {
        schema: SCHEMA,
        reach: subject,
        design: design.name.clone(),
        actions: actions.iter().map(|a| reach::action::write(*a)).collect(),
    };
    write(path, &file)
}

/// Carries a trace file of a lookup out; `None` if it is of the other kind.
///
/// # Errors
/// Where the file is wrong, or which action could not be taken and which ones could.
pub fn replay_reach(path: &str, text: &str) -> Result<Option<ReachReplayed>, InputError> {
    let value: serde_json::Value =
        serde_json::from_str(text).map_err(|e| json_error(path, text, &e))?;
    if value.get("reach").is_none() {
        return Ok(None);
    }
    let file: ReachFile = serde_json::from_str(text).map_err(|e| json_error(path, text, &e))?;
    schema(path, file.schema)?;
    let design = Design::parse(&file.design).map_err(|e| InputError::whole(path, e.to_string()))?;
    let (name, world) = file.reach.world(path, &design)?;
    let mut actions = Vec::new();
    for (i, line) in file.actions.iter().enumerate() {
        let action = reach::action::read(line);
        actions.push(action.map_err(|e| InputError::whole(path, format!("step {}: {e}", i + 1)))?);
    }
    let machine = struct_ops_model::reach::Reach::new(world, design.clone());
    let trace = reach::replay(&machine, &actions).map_err(|(step, enabled)| {
        let enabled = enabled.into_iter().map(reach::action::write).collect();
        let found = reach::action::write(actions[step - 1]);
        InputError::whole(path, impossible(step, &found, enabled))
    })?;
    Ok(Some(ReachReplayed {
        name,
        design,
        trace,
    }))
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
    write(path, &file)
}

fn write(path: &Path, file: &impl Serialize) -> Result<(), InputError> {
    let error = |e: &dyn std::fmt::Display| {
        InputError::whole(
            &path.display().to_string(),
            format!("cannot be written: {e}"),
        )
    };
    let text = serde_json::to_string_pretty(file).map_err(|e| error(&e))?;
    std::fs::write(path, text + "\n").map_err(|e| error(&e))
}

/// Reads a trace file and carries it out.
///
/// # Errors
/// Where the file is wrong, or which action could not be taken and which ones could.
pub fn replay(path: &str, text: &str) -> Result<Replayed, InputError> {
    let file: File = serde_json::from_str(text).map_err(|e| json_error(path, text, &e))?;
    schema(path, file.schema)?;
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

fn schema(path: &str, found: u32) -> Result<(), InputError> {
    if found == SCHEMA {
        Ok(())
    } else {
        Err(InputError::whole(
            path,
            format!("schema {found}: expected {SCHEMA}"),
        ))
    }
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
    let enabled = error.enabled.iter().map(|a| action::write(*a)).collect();
    impossible(error.step, &action::write(error.found), enabled)
}

fn impossible(step: usize, found: &str, enabled: Vec<String>) -> String {
    if enabled.is_empty() {
        return format!("step {step}: `{found}`, but nothing can happen any more");
    }
    let mut enabled: Vec<String> = enabled.iter().map(|a| format!("`{a}`")).collect();
    let more = enabled.len().saturating_sub(8);
    enabled.truncate(8);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    format!(
        "step {step}: `{found}` is not enabled; enabled are {}{more}",
        enabled.join(", ")
    )
}
