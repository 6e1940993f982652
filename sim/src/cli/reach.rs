//! `reach`: the table of who can know its scheduler, or the run behind one cell.

use struct_ops_model::design::About;
use struct_ops_model::reach::Kind;

use super::args::{Format, Reach};
use super::output::{document, print, screen};
use super::{Exit, Failure, Job};
use crate::reach::{Cell, Verdict, cells, programs};
use crate::report::json::reach as json;
use crate::report::reach as report;
use crate::report::text::{count, plural};
use crate::scenario::{InputError, unknown_program};
use crate::tracefile::File;

/// Explores every chosen cell.
pub(super) fn reach(job: &Job, args: &Reach, format: Format) -> Result<Exit, Failure> {
    let designs = super::designs(&args.design)?;
    super::asked(&designs, &[About::Lookups])?;
    let kinds = kinds(&args.program)?;
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let bounds = job.bounds(args.limits.timeout, args.limits.max_memory);
    let cells = cells(&designs, &kinds, args.shared, threads, &bounds).map_err(Failure::Bug)?;
    // Whatever cannot be saved, what was found is told.
    let mut saved = Ok(());
    if let Some(file) = &args.save {
        let [cell] = cells.as_slice() else {
            let message = format!(
                "one run is saved, and {} were explored: choose one --design and one --program",
                plural(cells.len(), "cell")
            );
            return Err(InputError::whole("--save", message).into());
        };
        let trace = report::trace(cell).map_err(Failure::Bug)?;
        let save = File::of_cell(cell, &trace).save(file);
        saved = save.map_err(|e| Failure::Outside(e.to_string()));
    }
    let incomplete = |c: &Cell| matches!(c.verdict, Verdict::Incomplete(_));
    let exit = match (&saved, cells.iter().any(incomplete)) {
        (Err(failure), _) => Failure::exit(failure),
        (_, true) => Exit::Incomplete,
        (_, false) => Exit::Expected,
    };
    match format {
        Format::Text if args.design.is_empty() || args.program.is_empty() => print(&table(&cells))?,
        Format::Text => {
            for (i, cell) in cells.iter().enumerate() {
                if i > 0 {
                    print("\n")?;
                }
                let trace = report::trace(cell).map_err(Failure::Bug)?;
                print(&report::run(screen(), cell, &trace))?;
            }
        }
        _ => {
            let body = json::Reach::new(&cells).map_err(Failure::Bug)?;
            document("reach", exit, body)?;
        }
    }
    saved.map(|()| exit)
}

pub(super) fn kinds(names: &[String]) -> Result<Vec<Kind>, Failure> {
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
