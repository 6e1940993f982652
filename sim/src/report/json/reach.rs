//! What `reach` prints.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Incomplete;
use super::steps::Sequence;
use crate::reach;

/// What `reach` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reach {
    /// One per design and kind of program.
    pub cells: Vec<Cell>,
}

/// Whether programs of one kind can know their scheduler under one design.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cell {
    /// The design.
    pub design: String,
    /// The kind of program.
    pub program: String,
    /// One object file serves both schedulers.
    pub shared: bool,
    /// The verdict.
    pub verdict: Verdict,
    /// Why not everything was seen; none if everything was.
    pub incomplete: Option<Incomplete>,
    /// The help of the loader under which the trace happens; none if it does not help.
    pub help: Option<String>,
    /// States explored for this cell, all helps together.
    pub states: u64,
    /// A shortest run that shows the verdict.
    #[serde(flatten)]
    pub sequence: Sequence,
}

/// What can be said of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Every such program finds its own scheduler, without help.
    #[serde(rename = "self")]
    Own,
    /// It does if its loader helps.
    WithHelp,
    /// No help makes it so.
    None,
    /// The least help that makes it find its own scheduler at times lets it find another or a dead one.
    Wrong,
    /// Not everything was seen.
    Incomplete,
}

impl From<reach::Verdict> for Verdict {
    fn from(verdict: reach::Verdict) -> Self {
        match verdict {
            reach::Verdict::Own => Verdict::Own,
            reach::Verdict::WithHelp => Verdict::WithHelp,
            reach::Verdict::None => Verdict::None,
            reach::Verdict::Wrong => Verdict::Wrong,
            reach::Verdict::Incomplete(_) => Verdict::Incomplete,
        }
    }
}

impl Reach {
    /// Every cell with its run.
    ///
    /// # Errors
    /// A trace that cannot be carried out again: a bug of ours.
    pub fn new(cells: &[reach::Cell]) -> Result<Self, String> {
        let entry = |cell: &reach::Cell| {
            let trace = crate::report::reach::trace(cell)?;
            Ok(Cell {
                design: cell.design.name.clone(),
                program: cell.kind.to_string(),
                shared: cell.shared,
                verdict: cell.verdict.into(),
                incomplete: match cell.verdict {
                    reach::Verdict::Incomplete(bound) => Some(bound.into()),
                    _ => None,
                },
                help: (cell.help != reach::Help::None).then(|| cell.help.word().into()),
                states: cell.states,
                sequence: Sequence::from(&trace),
            })
        };
        Ok(Reach {
            cells: cells.iter().map(entry).collect::<Result<_, String>>()?,
        })
    }
}
