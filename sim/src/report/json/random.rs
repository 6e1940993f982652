//! What `random` prints.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Incomplete;
use super::check::SetUp;
use super::steps::{Exercised, Sequence};

/// What `random` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Random {
    /// The seeds that were asked for.
    pub seeds: Seeds,
    /// One per scenario and design, or per design.
    pub runs: Vec<Run>,
    /// Scenarios that were not run under a design because it refuses their set-up.
    pub set_up_fails: Vec<SetUp>,
    /// Why not every seed was run; none if every one was.
    pub incomplete: Option<Incomplete>,
}

/// From one seed up to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Seeds {
    /// The first.
    pub from: u64,
    /// The one after the last.
    pub to: u64,
}

/// Seeds under one design.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// The scenario whose operations were run; none if those were random, too.
    pub scenario: Option<String>,
    /// The design.
    pub design: String,
    /// How many seeds were run.
    pub seeds: u64,
    /// With how many seeds each invariant was put to the test; those that never were are not in it.
    pub exercised: Exercised,
    /// The first run that breaks each invariant.
    pub findings: Vec<Finding>,
}

/// A run that breaks an invariant, made small.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// The invariant.
    pub invariant: String,
    /// It was expected: the scenario says so, other designs than link-owned are known to break something, or the
    /// subsystem breaks it by itself.
    pub expected: bool,
    /// How the subsystem breaks it by itself, under every design.
    pub known: Option<String>,
    /// The seed.
    pub seed: u64,
    /// Steps before the run was made small.
    pub steps_before: usize,
    /// Operations before the run was made small.
    pub operations_before: usize,
    /// What ran, as a scenario file.
    pub toml: String,
    /// What happened.
    #[serde(flatten)]
    pub sequence: Sequence,
}
