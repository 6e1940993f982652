//! What one `check` explores: pairs of scenario and design, and the part of them that a shard takes.
//!
//! Nothing is explored here.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use struct_ops_model::{Design, Machine};
use xxhash_rust::xxh3::xxh3_64;

use crate::scenario::Case;
use crate::verdict::SetUpFails;

/// Most shards.
pub const MAX_SHARDS: u32 = 10_000;

/// One of several runs that share the pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Unchecked")]
pub struct Shard {
    /// From 1.
    pub index: u32,
    /// How many there are.
    pub of: u32,
}

/// A shard as it stands in a file.
#[derive(Deserialize, JsonSchema)]
struct Unchecked {
    index: u32,
    of: u32,
}

impl TryFrom<Unchecked> for Shard {
    type Error = String;

    fn try_from(Unchecked { index, of }: Unchecked) -> Result<Self, String> {
        if !(1..=MAX_SHARDS).contains(&of) {
            Err(format!("{of} shards: expected 1 to {MAX_SHARDS}"))
        } else if !(1..=of).contains(&index) {
            Err(format!(
                "shards are counted from 1: expected 1/{of} to {of}/{of}"
            ))
        } else {
            Ok(Shard { index, of })
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/');
        let numbers = numbers.and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        let (index, of) = numbers.ok_or("expected I/N, such as 1/3: the first of three shards")?;
        Shard::try_from(Unchecked { index, of })
    }
}

/// The pairs of a check, scenarios first, then designs. `named`: the designs were asked for by name.
pub fn pairs<'a>(
    scenarios: &'a [Case],
    designs: &'a [Design],
    named: bool,
) -> Vec<(&'a Case, &'a Design)> {
    let of = |scenario: &'a Case| {
        let designs = designs.iter();
        designs
            .filter(move |d| scenario.runs_under(d, named))
            .map(move |d| (scenario, d))
    };
    scenarios.iter().flat_map(of).collect()
}

/// The pairs of one shard, in the same order. They are dealt out in the order of a hash of their names: equally many to
/// each shard, and the designs of a large scenario to different ones.
pub fn shard<'a>(
    pairs: Vec<(&'a Case, &'a Design)>,
    shard: Option<Shard>,
) -> Vec<(&'a Case, &'a Design)> {
    let Some(Shard { index, of }) = shard else {
        return pairs;
    };
    let hash = |i: &usize| {
        let (scenario, design) = pairs[*i];
        (
            xxh3_64(format!("{}\n{design}", scenario.head().name).as_bytes()),
            *i,
        )
    };
    let mut order: Vec<usize> = (0..pairs.len()).collect();
    order.sort_by_key(hash);
    let dealt = order.iter().skip(index as usize - 1);
    let mut mine: Vec<usize> = dealt.step_by(of as usize).copied().collect();
    mine.sort_unstable();
    mine.into_iter().map(|i| pairs[i]).collect()
}

/// Those whose set-up works, and the others: a set-up that fails is a result of its pair alone.
pub fn set_ups<'a>(
    pairs: Vec<(&'a Case, &'a Design)>,
) -> (Vec<(&'a Case, &'a Design)>, Vec<SetUpFails>) {
    let (mut work, mut fail) = (Vec::new(), Vec::new());
    for (scenario, design) in pairs {
        match set_up(scenario, design) {
            Ok(()) => work.push((scenario, design)),
            Err(why) => fail.push(SetUpFails {
                scenario: scenario.head().name.to_string(),
                design: design.clone(),
                why,
                expected: scenario.head().expected(design).cloned(),
            }),
        }
    }
    (work, fail)
}

/// Which operation of the set-up fails under the design, and how.
fn set_up(scenario: &Case, design: &Design) -> Result<(), String> {
    let Case::Attach(scenario) = scenario else {
        return Ok(());
    };
    match Machine::new(scenario.world.clone(), design.clone()) {
        Ok(_) => Ok(()),
        Err(error) => Err(crate::check::why_not(scenario, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shipped;

    #[test]
    fn shards_share_all_pairs() {
        let scenarios = shipped::all().expect("shipped scenarios are right");
        let designs = Design::presets();
        let all = pairs(&scenarios, &designs, false);
        let name =
            |(scenario, design): &(&Case, &Design)| format!("{} {design}", scenario.head().name);
        for of in [1, 2, 3, 7, 1000] {
            let shards: Vec<_> = (1..=of)
                .map(|index| shard(all.clone(), Some(Shard { index, of })))
                .collect();
            let sizes = || shards.iter().map(Vec::len);
            assert!(sizes().max().unwrap() - sizes().min().unwrap() <= 1);
            let mut together: Vec<String> = shards.iter().flatten().map(name).collect();
            let mut expected: Vec<String> = all.iter().map(name).collect();
            together.sort();
            expected.sort();
            assert_eq!(together, expected);
        }
    }

    #[test]
    fn shards_are_read() {
        assert_eq!("2/3".parse(), Ok(Shard { index: 2, of: 3 }));
        for (text, message) in [
            ("0/3", "expected 1/3 to 3/3"),
            ("4/3", "expected 1/3 to 3/3"),
            ("1/0", "expected 1 to 10000"),
            ("1/10001", "expected 1 to 10000"),
            ("3", "expected I/N"),
            ("1/x", "expected I/N"),
            ("1/99999999999", "expected I/N"),
        ] {
            let found = text.parse::<Shard>().unwrap_err();
            assert!(found.contains(message), "{text}: {found}");
        }
    }
}
