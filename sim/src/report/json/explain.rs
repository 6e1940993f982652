//! What `list` and `explain` print.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::history::Explanation;
use crate::history::side::{Row, Told};
use crate::report::list;

/// What `list` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct List {
    /// One per kind of things.
    pub sections: Vec<Section>,
}

/// Things of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Section {
    /// The kind: `designs`, `invariants`, ...
    pub kind: String,
    /// The things.
    pub entries: Vec<Entry>,
}

/// One thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Entry {
    /// Its name, which `explain` knows.
    pub name: String,
    /// What it means.
    pub text: String,
}

impl From<&list::Section> for Section {
    fn from(section: &list::Section) -> Self {
        let entry = |(name, text): &(String, String)| Entry {
            name: name.clone(),
            text: text.clone(),
        };
        Section {
            kind: section.kind.into(),
            entries: section.entries.iter().map(entry).collect(),
        }
    }
}

/// What `explain` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Explain {
    /// What was asked for.
    pub name: String,
    /// What it means, as text for a terminal.
    pub text: String,
    /// What the model says of a history, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<History>,
}

/// What the model says of a history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct History {
    /// The scenario's name.
    pub scenario: String,
    /// The design.
    pub design: String,
    /// Whether some run explains it; `null` if the search reached a bound, which `beyond` names.
    pub explained: Option<bool>,
    /// Why nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beyond: Option<String>,
    /// The promises that every run breaks that explains it.
    pub breaks: Vec<String>,
    /// What the model would have allowed instead of what no run explains.
    pub allowed: Vec<String>,
    /// What was seen and what the run does meanwhile, in their order. A history that no run explains has lost the calls that
    /// have no part in that, and its last row is what no run explains.
    pub rows: Vec<Row>,
}

impl From<&Told> for History {
    fn from(told: &Told) -> Self {
        let (explained, beyond) = match &told.explanation {
            Explanation::Explained { .. } => (Some(true), None),
            Explanation::Unexplained { .. } => (Some(false), None),
            Explanation::Beyond(why) => (None, Some((*why).to_string())),
        };
        History {
            scenario: told.scenario.clone(),
            design: told.design.clone(),
            explained,
            beyond,
            breaks: told.broke().map(|i| i.id().to_string()).collect(),
            allowed: told.allowed().to_vec(),
            rows: told.rows.clone(),
        }
    }
}
