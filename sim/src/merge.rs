//! Results of `check` read back, and those of all its shards joined.
//!
//! Whatever was changed in between is found: flags and scenarios must be the same, each shard must be there once, and
//! each counterexample is carried out again. Not here: what is printed.

use std::collections::BTreeMap;

use serde::Deserialize;
use struct_ops_model::Design;
use struct_ops_model::design::About;

use crate::campaign::{self, Shard};
use crate::counterexample::steps;
use crate::report::json::check::{Asked, Begin, Check, Line, Run};
use crate::report::json::{Incomplete, Origin, SCHEMA, TOOL, VERSION};
use crate::scenario::{Case, InputError, in_words};
use crate::verdict::{self, Results, Skipped};

/// Shards that are named where many are missing.
const SHOWN: usize = 8;

/// The result of one run of `check`, perhaps ended before its end.
#[derive(Clone, Debug)]
pub struct Part {
    file: String,
    begin: Begin,
    runs: Vec<Run>,
    stopped: Option<Incomplete>,
}

/// The results of the whole, and what was asked for.
///
/// # Errors
/// What does not belong together, what is missing, or what `check` has not printed.
pub fn merge(parts: &[Part]) -> Result<(Asked, Results), InputError> {
    let [first, others @ ..] = parts else {
        return Err(wrong("merge", "nothing to join"));
    };
    for other in others {
        same(first, other)?;
    }
    complete(parts)?;
    Ok((first.begin.asked.without_shard(), join(first, parts)?))
}

fn wrong(file: &str, message: impl Into<String>) -> InputError {
    InputError::whole(file, message)
}

impl Part {
    /// Reads a document or lines.
    ///
    /// # Errors
    /// What it is instead.
    pub fn parse(file: &str, text: &str) -> Result<Self, InputError> {
        #[derive(Deserialize)]
        struct Kind {
            line: Option<String>,
            #[serde(flatten)]
            origin: Origin,
        }
        let none = || {
            let what = "not a result of `check --format json` or `--format json-lines`";
            wrong(file, what)
        };
        let mut values = serde_json::Deserializer::from_str(text).into_iter::<serde_json::Value>();
        let first = match values.next() {
            Some(Ok(first)) => first,
            Some(Err(e)) if e.is_eof() => return Err(wrong(file, "the file ends too early")),
            _ => return Err(none()),
        };
        let kind = Kind::deserialize(&first).map_err(|_| none())?;
        ours(file, &kind.origin)?;
        let detail = |e: serde_json::Error| {
            let message = in_words(&e.to_string(), "an object");
            wrong(file, format!("not what `check` prints: {message}"))
        };
        if kind.line.is_none() {
            let check: Check = serde_json::from_value(first).map_err(detail)?;
            if values.next().is_some() {
                let message = "there is more behind the end of the document: one file, one result";
                return Err(wrong(file, message));
            }
            return Ok(Part {
                file: file.into(),
                begin: check.begin,
                runs: check.runs,
                stopped: check.end.stopped,
            });
        }
        let Line::Begin { begin, .. } = serde_json::from_value(first).map_err(detail)? else {
            return Err(wrong(
                file,
                "the first line is not the one that begins a result",
            ));
        };
        let (mut runs, mut ended, mut stopped) = (Vec::new(), false, None);
        for value in values {
            let line = match value {
                Ok(value) => serde_json::from_value(value).map_err(detail)?,
                // Whoever was killed while it wrote a line leaves the others.
                Err(e) if e.is_eof() => break,
                Err(e) => return Err(detail(e)),
            };
            match line {
                Line::Run { run } if !ended => runs.push(run),
                Line::End { end, .. } if !ended => {
                    ended = true;
                    stopped = end.stopped;
                }
                _ => {
                    let message =
                        "there is more behind the last line of a result: one file, one result";
                    return Err(wrong(file, message));
                }
            }
        }
        Ok(Part {
            file: file.into(),
            begin,
            runs,
            stopped,
        })
    }
}

/// Whether this program can understand it.
fn ours(file: &str, origin: &Origin) -> Result<(), InputError> {
    let Origin {
        schema,
        tool,
        version,
        verb,
    } = origin;
    let message = if tool != TOOL {
        format!("a document of `{tool}`: expected one of {TOOL}")
    } else if (*schema, version.as_str()) != (SCHEMA, VERSION) {
        format!(
            "written by {TOOL} {version}, schema {schema}, and this is {VERSION}, schema {SCHEMA}: merge with the version \
             that explored"
        )
    } else if !["check", "merge"].contains(&verb.as_str()) {
        format!("the result of `{verb}`: expected one of `check`")
    } else {
        return Ok(());
    };
    Err(wrong(file, message))
}

/// Whether two parts were asked for the same.
fn same(first: &Part, other: &Part) -> Result<(), InputError> {
    let differs = |what: &str, here: String, there: String| {
        let message = format!(
            "not of the same check as {}: {what} {here} here, {there} there",
            first.file
        );
        Err(wrong(&other.file, message))
    };
    let json = |asked: &Asked| serde_json::to_value(asked.without_shard()).unwrap_or_default();
    let (here, there) = (json(&other.begin.asked), json(&first.begin.asked));
    if let (Some(here), Some(there)) = (here.as_object(), there.as_object()) {
        for (key, value) in here {
            if there.get(key) != Some(value) {
                let there = there.get(key).map_or("nothing".into(), ToString::to_string);
                return differs(&format!("`{key}` is"), value.to_string(), there);
            }
        }
    }
    let names = |part: &Part| {
        let names = part.begin.scenarios.iter().map(|s| s.name.as_str());
        names.collect::<Vec<_>>().join(", ")
    };
    if names(first) != names(other) {
        return differs("the scenarios are", names(other), names(first));
    }
    let scenarios = first.begin.scenarios.iter().zip(&other.begin.scenarios);
    for (there, here) in scenarios {
        if here.toml != there.toml || here.shipped != there.shipped {
            let what = format!("scenario {} is", here.name);
            return differs(&what, "one".into(), "another one".into());
        }
    }
    Ok(())
}

/// Whether every shard is there, and each once.
fn complete(parts: &[Part]) -> Result<(), InputError> {
    let [first, rest @ ..] = parts else {
        return Ok(());
    };
    let shard = |part: &Part| part.begin.asked.shard;
    let Some(Shard { of, .. }) = shard(first) else {
        return match rest {
            [] => Ok(()),
            [other, ..] => Err(wrong(
                &first.file,
                format!(
                    "this is no shard but a whole check, and {} is given too",
                    other.file
                ),
            )),
        };
    };
    let mut files: BTreeMap<u32, &str> = BTreeMap::new();
    for part in parts {
        let Some(shard) = shard(part) else {
            let message = format!(
                "this is no shard but a whole check, and {} is given too",
                first.file
            );
            return Err(wrong(&part.file, message));
        };
        if shard.of != of {
            let message = format!("this is shard {shard}, and {} is one of {of}", first.file);
            return Err(wrong(&part.file, message));
        }
        if let Some(other) = files.insert(shard.index, &part.file) {
            let message = format!("this is shard {shard}, and so is {other}");
            return Err(wrong(&part.file, message));
        }
    }
    let missing = (1..=of).filter(|index| !files.contains_key(index));
    let missing: Vec<String> = missing
        .map(|index| Shard { index, of }.to_string())
        .collect();
    let message = match missing.as_slice() {
        [] => return Ok(()),
        [one] => format!("shard {one} is missing"),
        all if all.len() <= SHOWN => format!("shards {} are missing", all.join(", ")),
        all => format!(
            "shards {} and {} more are missing",
            all[..SHOWN].join(", "),
            all.len() - SHOWN
        ),
    };
    Err(wrong("merge", message))
}

/// The results of the whole.
fn join(first: &Part, parts: &[Part]) -> Result<Results, InputError> {
    let begin = &first.begin;
    let in_file = |file: &str| {
        let file = file.to_string();
        move |e: String| wrong(&file, format!("not what `check` prints: {e}"))
    };
    let mut results = begin.results().map_err(in_file(&first.file))?;
    let pairs = campaign::pairs(
        &results.scenarios,
        &results.designs,
        begin.asked.designs_named,
    );
    let all = pairs.clone();
    let (pairs, failed) = campaign::set_ups(pairs);
    let mut found: Vec<Option<verdict::Run>> = vec![None; pairs.len()];
    for part in parts {
        let mine = campaign::shard(all.clone(), part.begin.asked.shard);
        for run in &part.runs {
            let is = |(scenario, design): &(&Case, &Design)| {
                scenario.head().name == run.scenario && design.name == run.design
            };
            let place = pairs.iter().position(is).filter(|_| mine.iter().any(is));
            let what = format!("{} under {}", run.scenario, run.design);
            let Some(place) = place else {
                let message = format!("{what} was not this run's to explore");
                return Err(wrong(&part.file, message));
            };
            let run = run.read(&results.scenarios).map_err(in_file(&part.file))?;
            let (scenario, design) = pairs[place];
            for counterexample in &run.found {
                steps(scenario, design, counterexample).map_err(in_file(&part.file))?;
            }
            if found[place].replace(run).is_some() {
                return Err(wrong(&part.file, format!("{what} is in it twice")));
            }
        }
    }
    let skipped = pairs.iter().zip(&found).filter(|(_, run)| run.is_none());
    let skipped = skipped.map(|((scenario, design), _)| Skipped {
        scenario: scenario.head().name.to_string(),
        design: (*design).clone(),
        lookups: scenario.about() == About::Lookups,
    });
    results.skipped = skipped.collect();
    results.failed = failed;
    for part in parts {
        let stopped = part.stopped.as_ref().map(Incomplete::read).transpose();
        let stopped = stopped.map_err(in_file(&part.file))?;
        results.stopped = results.stopped.or(stopped);
    }
    results.runs = found.into_iter().flatten().collect();
    Ok(results)
}
