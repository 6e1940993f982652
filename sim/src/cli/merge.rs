//! `merge`: what a whole check would have printed, from the results of its shards.

use super::args::Format;
use super::{Exit, Failure, results};
use crate::input;
use crate::merge::{Part, merge as join};
use crate::scenario::InputError;

/// Joins them and prints what the whole run would have printed.
pub(super) fn merge(files: &[String], format: Format, verbose: bool) -> Result<Exit, Failure> {
    let parts: Vec<Part> = files.iter().map(|f| read(f)).collect::<Result<_, _>>()?;
    let (asked, results) = join(&parts)?;
    results::show("merge", &results, asked, format, verbose, None)
}

/// Reads one of them.
pub(super) fn read(file: &str) -> Result<Part, InputError> {
    Part::parse(input::shown(file), &input::text(file, input::RESULTS)?)
}
