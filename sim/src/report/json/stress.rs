//! What `stress` prints.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Incomplete;
use super::steps::Exercised;

/// What `stress` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Stress {
    /// The design.
    pub design: String,
    /// The scenario whose operations were run; none if they were random.
    pub scenario: Option<String>,
    /// What decided worlds and operations.
    pub seed: u64,
    /// Threads.
    pub threads: usize,
    /// Rounds that were run.
    pub rounds: u64,
    /// Operations in them.
    pub operations: u64,
    /// Steps recorded in them.
    pub steps: u64,
    /// Rounds that the model explains.
    pub explained: u64,
    /// Rounds that it does not explain.
    pub rejected: u64,
    /// Rounds of which nothing is said, by the reason.
    pub not_judged: BTreeMap<String, u64>,
    /// In how many explained rounds each invariant was put to the test; those that never were are not in it.
    pub exercised: Exercised,
    /// What was broken.
    pub broken: Vec<Broken>,
    /// The first round that the model does not explain, made small.
    pub rejection: Option<Vec<Row>>,
    /// Why it ended before its time, or can say nothing; none if it did not and can.
    pub incomplete: Option<Incomplete>,
}

/// An invariant that was broken in explained rounds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Broken {
    /// The invariant.
    pub invariant: String,
    /// Rounds in which the runtime saw it.
    pub rounds_seen: u64,
    /// Rounds in which the model says so of the recorded steps.
    pub rounds_model: u64,
    /// It was expected.
    pub expected: bool,
    /// The shortest round in which the runtime saw it.
    pub example: Option<Example>,
}

/// What the runtime saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Example {
    /// The step of the model at which it was seen.
    pub step: String,
    /// The thread.
    pub task: String,
    /// What was seen.
    pub text: String,
    /// What had become of the memory before.
    pub history: Vec<String>,
}

/// One recorded step beside the model's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Row {
    /// Stamps before and after the effect.
    pub stamps: (u64, u64),
    /// The thread.
    pub task: String,
    /// The step of the model.
    pub step: String,
    /// What was recorded.
    pub recorded: String,
    /// What the model did, or would have allowed.
    pub model: String,
    /// The model explains this row.
    pub explained: bool,
}
