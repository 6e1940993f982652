//! `reach`: the table of who can know its scheduler, or the run behind one cell.

use std::sync::atomic::Ordering::Relaxed;

use struct_ops_model::reach::Kind;

use super::args::{Format, Reach};
use super::output::{json, print, screen};
use super::{Exit, Failure, STOP};
use crate::reach::{Cell, cells, programs};
use crate::report::reach as report;
use crate::report::text::{count, plural};
use crate::scenario::{InputError, unknown_program};
use crate::tracefile::{self, Subject};

/// Explores every chosen cell.
pub(super) fn reach(args: &Reach, format: Format) -> Result<Exit, Failure> {
    let designs = super::designs(&args.design)?;
    let kinds = kinds(&args.program)?;
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let cells = match cells(&designs, &kinds, args.shared, threads, &STOP) {
        Err(_) if STOP.load(Relaxed) => return Ok(Exit::Incomplete),
        cells => cells.map_err(Failure::Bug)?,
    };
    if let Some(file) = &args.save {
        let [cell] = cells.as_slice() else {
            let message = format!(
                "one run is saved, and {} were explored: choose one --design and one --program",
                plural(cells.len(), "cell")
            );
            return Err(InputError::whole("--save", message).into());
        };
        tracefile::save_reach(file, Subject::cell(cell), &cell.design, &cell.trace)?;
    }
    match format {
        Format::Json => json(&crate::report::json::Reach::new(&cells).map_err(Failure::Bug)?)?,
        Format::Text if args.design.is_empty() || args.program.is_empty() => print(&table(&cells))?,
        Format::Text => {
            for cell in &cells {
                let trace = report::trace(cell).map_err(Failure::Bug)?;
                print(&report::run(screen(), cell, &trace))?;
            }
        }
    }
    Ok(Exit::Expected)
}

fn kinds(names: &[String]) -> Result<Vec<Kind>, Failure> {
    if names.is_empty() {
        return Ok(programs());
    }
    let kind = |name: &String| {
        let error = || InputError::whole("--program", unknown_program(name)).into();
        Kind::parse(name).ok_or_else(error)
    };
    names.iter().map(kind).collect()
}

fn table(cells: &[Cell]) -> String {
    let states = cells.iter().map(|c| c.states).sum();
    let note = format!(
        "over {} states in {}; `reach --design D --program P` prints the run behind a cell",
        count(states),
        plural(cells.len(), "cell"),
    );
    format!(
        "{}\n{}\n{}",
        report::table(screen(), cells),
        report::legend(screen(), cells),
        screen().paragraph(&note, 0),
    )
}
