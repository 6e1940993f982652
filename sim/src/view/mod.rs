//! A run as a page shows it: the steps, the state after each of them, and what can be done next.
//!
//! All of it comes from the model; whoever shows it knows no rule. States are told as differences: the first one whole,
//! of each later one what the step has changed.
//!
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
mod shown;
pub mod state;
pub mod svg;
pub mod timeline;

use struct_ops_model::Design;

use crate::scenario::{Case, InputError};
use crate::trace::Trace;
use crate::walk::{self, NoSuchChoice, path};

pub use attach::Run;
pub use draw::Shape;
pub use lookup::Lookup;
pub use shown::{Actor, Beside, Board, Card, Choice, Drawing, Frame, Played, Shown, Size, View};

/// The run of a scenario that makes these choices, whatever the scenario is about; `from` is where they were given.
///
/// # Errors
/// A set-up that does not work, or a choice that there is not.
pub fn chosen<'a>(
    case: &'a Case,
    design: &'a Design,
    choices: &[usize],
    from: &str,
) -> Result<Box<dyn Played + 'a>, InputError> {
    let no = |e: NoSuchChoice| InputError::whole(from, e.to_string());
    Ok(match case {
        Case::Attach(scenario) => {
            let actions = path::actions(&walk::attach(scenario, design)?, choices).map_err(no)?;
            Box::new(Run::new(scenario, design, &actions)?)
        }
        Case::Reach(scenario) => {
            let actions = path::actions(&walk::lookup(scenario, design), choices).map_err(no)?;
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
    trace: &Trace,
) -> Result<Box<dyn Played + 'a>, InputError> {
    let choices = walk::machine(case, design)?.path(&trace.actions());
    chosen(case, design, &choices, &case.head().name)
}
