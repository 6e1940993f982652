//! A run as the choices it is made of: each step is a place among all that could be done there.
//!
//! Of the attach path and of lookups alike; what a step does, the machine knows.

use super::Walk;
use crate::scenario::printable;

/// Most steps of a path: every CPU's plan is finite, and no run of the model is nearly as long.
const LONGEST: usize = 2000;

/// The number of a step that cannot be taken, from 1, and how many could be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSuchChoice {
    /// From 1.
    pub step: usize,
    /// What was asked for.
    pub found: usize,
    /// How many choices there are.
    pub choices: usize,
}

impl std::fmt::Display for NoSuchChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let NoSuchChoice {
            step,
            found,
            choices,
        } = self;
        match choices {
            0 => write!(
                f,
                "step {step}: there is no choice {found}, nothing can happen any more"
            ),
            1 => write!(f, "step {step}: there is no choice {found}, expected 0"),
            _ => write!(
                f,
                "step {step}: there is no choice {found}, expected a number below {choices}"
            ),
        }
    }
}

/// A path in few characters, for addresses and commands: a digit or letter per choice, `_40_` beyond `z`.
pub fn write_path(path: &[usize]) -> String {
    let one = |choice: &usize| match u32::try_from(*choice)
        .ok()
        .and_then(|c| char::from_digit(c, 36))
    {
        Some(digit) => digit.to_string(),
        None => format!("_{choice}_"),
    };
    path.iter().map(one).collect()
}

/// Reads what [`write_path`] wrote.
///
/// # Errors
/// What was found and what was expected.
pub fn read_path(text: &str) -> Result<Vec<usize>, String> {
    let wrong = || {
        format!(
            "`{}`: expected a digit or a letter from a to z for each step, or _N_",
            printable(text, 60)
        )
    };
    let mut path = Vec::new();
    for (i, part) in text.split('_').enumerate() {
        if i % 2 == 1 {
            path.push(part.parse().map_err(|_| wrong())?);
        } else {
            let digits = part
                .chars()
                .map(|c| c.to_digit(36).filter(|_| !c.is_ascii_uppercase()));
            for digit in digits {
                path.push(digit.ok_or_else(wrong)? as usize);
            }
        }
    }
    // An underscore without its partner.
    if text.matches('_').count() % 2 == 1 {
        return Err(wrong());
    }
    if path.len() > LONGEST {
        return Err(format!("{} steps: expected at most {LONGEST}", path.len()));
    }
    Ok(path)
}

/// The actions that a path of choices stands for.
///
/// # Errors
/// The first choice that there is not.
pub fn actions<W: Walk>(machine: &W, path: &[usize]) -> Result<Vec<W::Action>, NoSuchChoice> {
    let mut state = machine.start();
    let mut actions = Vec::new();
    for (i, choice) in path.iter().enumerate() {
        let enabled = machine.enabled(&state);
        let action = *enabled.get(*choice).ok_or(NoSuchChoice {
            step: i + 1,
            found: *choice,
            choices: enabled.len(),
        })?;
        machine.take(&mut state, action);
        actions.push(action);
    }
    Ok(actions)
}

/// The way back: the choices that actions are, up to the first one that cannot be taken.
pub fn path<W: Walk>(machine: &W, actions: &[W::Action]) -> Vec<usize> {
    let mut state = machine.start();
    let mut path = Vec::new();
    for action in actions {
        let enabled = machine.enabled(&state);
        let Some(choice) = enabled.iter().position(|a| a == action) else {
            break;
        };
        machine.take(&mut state, *action);
        path.push(choice);
    }
    path
}

/// The state before the first of actions that can be taken, and after each of them.
pub fn states<W: Walk>(machine: &W, actions: &[W::Action]) -> Vec<W::State> {
    let mut state = machine.start();
    let mut states = vec![state];
    for action in actions {
        machine.take(&mut state, *action);
        states.push(state);
    }
    states
}

/// Where a schedule cannot be followed under another design.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Parted {
    /// The step, from 1.
    pub step: usize,
    /// Why.
    pub why: String,
}

/// The actions that follow a schedule under a machine of another design: the same one acts at each step.
pub fn follow<W: Walk>(machine: &W, actions: &[W::Action]) -> (Vec<W::Action>, Option<Parted>) {
    let mut state = machine.start();
    let mut followed = Vec::new();
    for (i, action) in actions.iter().enumerate() {
        let Some(like) = machine.like(&state, *action) else {
            let why = machine.hindered(&state, *action);
            return (followed, Some(Parted { step: i + 1, why }));
        };
        machine.take(&mut state, like);
        followed.push(like);
    }
    (followed, None)
}
