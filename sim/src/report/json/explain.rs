//! What `list` and `explain` print.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
}
