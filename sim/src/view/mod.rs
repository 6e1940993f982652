//! A run as a page shows it: the steps, the state after each of them, and what can be done next.
//!
//! All of it comes from the model; whoever shows it knows no rule. States are told as differences: the first one whole,
//! of each later one what the step has changed.
//!
//! - `path`: a run as the choices that it is made of
//! - `attach`, `lookup`: runs of the attach path and of lookups
//! - `shown`: what is shown and sent of either
//! - `state`: a state of the attach path as objects, fields and pointers
//! - `board`: the picture of such a state
//! - `draw`: boxes and arrows
//! - `timeline`, `mermaid`: pictures of the whole run
//! - `html`: the run as one file that shows itself

mod attach;
pub mod board;
mod draw;
pub mod html;
pub mod lookup;
pub mod mermaid;
pub mod path;
mod shown;
pub mod state;
pub mod svg;
pub mod timeline;

use struct_ops_model::Design;

use crate::counterexample::Steps;
use crate::scenario::{Case, InputError};

pub use attach::{Run, machine};
pub use draw::Shape;
pub use lookup::Lookup;
pub use path::{NoSuchChoice, Parted, actions, follow, read_path, write_path};
pub use shown::{About, Actor, Beside, Board, Choice, Drawing, Frame, Played, Shown, Size, View};

/// The run of a scenario that makes these choices, whatever the scenario is about; `from` is where they were given.
///
/// # Errors
/// A set-up that does not work, or a choice that there is not.
pub fn chosen<'a>(
    case: &'a Case,
    design: &'a Design,
    path: &[usize],
    from: &str,
) -> Result<Box<dyn Played + 'a>, InputError> {
    let no = |e: NoSuchChoice| InputError::whole(from, e.to_string());
    Ok(match case {
        Case::Attach(scenario) => {
            let actions = actions(&machine(scenario, design)?, path).map_err(no)?;
            Box::new(Run::new(scenario, design, &actions)?)
        }
        Case::Reach(scenario) => {
            let actions = actions(&lookup::machine(scenario, design), path).map_err(no)?;
            Box::new(Lookup::new(scenario, design, &actions)?)
        }
    })
}

/// The run that these steps are.
///
/// # Errors
/// A set-up that does not work, or steps of another kind of scenario.
pub fn again<'a>(
    case: &'a Case,
    design: &'a Design,
    steps: &Steps,
) -> Result<Box<dyn Played + 'a>, InputError> {
    Ok(match (case, steps) {
        (Case::Attach(scenario), Steps::Attach(trace)) => {
            let actions: Vec<_> = trace.steps.iter().map(|s| s.action).collect();
            Box::new(Run::new(scenario, design, &actions)?)
        }
        (Case::Reach(scenario), Steps::Lookup(trace)) => {
            let actions: Vec<_> = trace.iter().map(|s| s.action).collect();
            Box::new(Lookup::new(scenario, design, &actions)?)
        }
        _ => {
            let message = "a run of another kind of scenario";
            return Err(InputError::whole(&case.head().name, message));
        }
    })
}
