//! What `compare` prints: two designs, scenario by scenario, and the runs behind each difference.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Incomplete;
use super::steps::Step;
use crate::verdict::Verdict;

/// Two designs side by side.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Compare {
    /// The designs, in the order in which they were named.
    pub designs: [String; 2],
    /// Choices that they make differently.
    pub choices: Vec<Choice>,
    /// The scenarios that were explored under both.
    pub scenarios: Vec<Scenario>,
}

/// A choice that two designs make differently.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Choice {
    /// Its key (`explain KEY`).
    pub key: String,
    /// Its values.
    pub values: [String; 2],
}

/// A scenario under both designs.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Scenario {
    /// Its name.
    pub scenario: String,
    /// What was found of each promise.
    pub verdicts: Vec<Verdicts>,
    /// For each promise that one of them breaks and the other one does not, the runs.
    pub differences: Vec<Difference>,
    /// Why not everything was seen, under either design.
    pub incomplete: [Option<Incomplete>; 2],
}

/// A promise under both designs.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Verdicts {
    /// The invariant.
    pub invariant: String,
    /// The verdicts.
    pub verdicts: [Verdict; 2],
}

/// A promise that one design breaks and the other one does not.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    /// The invariant.
    pub invariant: String,
    /// The design that breaks it.
    pub broken_by: String,
    /// A shortest run that breaks it.
    pub run: Vec<Step>,
    /// The same schedule under the other design, as far as it can be followed.
    pub beside: Vec<Step>,
    /// Why it cannot be followed any further, if it cannot.
    pub parted: Option<String>,
}
