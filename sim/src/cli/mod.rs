//! The command line: verbs, options and exit codes. What a verb does is in its own file.

mod args;
mod check;
mod cost;
mod one;
mod output;
mod reach;
mod show;
mod stress;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use clap::{CommandFactory, FromArgMatches};
use struct_ops_model::{Design, Invariant, Machine};

use crate::check::{CheckError, setup_error};
use crate::report::screen::{Mark, Screen};
use crate::scenario::{InputError, Scenario, unknown};
use args::{Args, Verb};

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    /// As expected.
    Expected = 0,
    /// A verdict differs from what the scenario expects.
    Different = 1,
    /// A bound was hit: nothing can be said.
    Incomplete = 2,
    /// Bad input.
    Input = 3,
    /// Something outside is missing: standard output, the signal handler.
    Outside = 69,
    /// A bug of ours.
    Bug = 70,
}

/// Why a verb could not do its work.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Input(#[from] InputError),
    #[error("{0}")]
    Outside(String),
    #[error("a bug of struct-ops-sim: {0}")]
    Bug(String),
}

impl From<CheckError> for Failure {
    fn from(error: CheckError) -> Self {
        match error {
            CheckError::Input(error) => Failure::Input(error),
            CheckError::Internal(text) => Failure::Bug(text),
        }
    }
}

/// Set by Ctrl-C.
static STOP: AtomicBool = AtomicBool::new(false);

/// Reads the arguments and does what they say.
pub fn main() -> ExitCode {
    let exit = std::panic::catch_unwind(|| match parse() {
        Ok(args) => run(args),
        Err(error) => {
            // What clap cannot print here, nobody would see anyway.
            let _ = error.print();
            if error.use_stderr() {
                Exit::Input
            } else {
                Exit::Expected
            }
        }
    });
    ExitCode::from(exit.unwrap_or_else(|_| {
        eprintln!(
            "a bug of struct-ops-sim: please report it with the command line and the scenario"
        );
        Exit::Bug
    }) as u8)
}

/// Help is as wide as results are.
fn parse() -> Result<Args, clap::Error> {
    let command = Args::command().term_width(output::screen().width.min(Screen::PROSE));
    Args::from_arg_matches(&command.try_get_matches()?)
}

fn run(args: Args) -> Exit {
    let colour = match args.color {
        clap::ColorChoice::Auto => anstream::ColorChoice::Auto,
        clap::ColorChoice::Always => anstream::ColorChoice::Always,
        clap::ColorChoice::Never => anstream::ColorChoice::Never,
    };
    colour.write_global();
    logging(args.verbose);
    let result = interruptible().and_then(|()| match args.verb.unwrap_or_default() {
        Verb::Check(check) => check::check(&check, args.format, args.quiet, args.verbose > 0),
        Verb::Run(run) => one::run(&run, args.format),
        Verb::Random(random) => one::random(&random, args.format),
        Verb::Stress(stress) => stress::stress(&stress, args.format),
        Verb::Replay { trace } => one::replay(&trace, args.format),
        Verb::Reach(reach) => reach::reach(&reach, args.format),
        Verb::Cost(cost) => cost::cost(&cost, args.format),
        Verb::List { kind } => show::list(kind.as_deref(), args.format),
        Verb::Explain { name } => show::explain(&name, args.format),
    });
    result.unwrap_or_else(|failure| {
        let error = output::stderr().paint(Mark::Broken, "error:");
        eprintln!("{error} {failure}");
        match failure {
            Failure::Input(_) => Exit::Input,
            Failure::Outside(_) => Exit::Outside,
            Failure::Bug(_) => Exit::Bug,
        }
    })
}

/// `RUST_LOG` says what is logged, or else the number of `-v`.
fn logging(verbose: u8) {
    let level = [
        "off",
        "struct_ops_sim=info",
        "struct_ops_sim=debug",
        "struct_ops_sim=trace",
    ][usize::from(verbose.min(3))];
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(output::stderr().colour)
        .init();
}

/// The first Ctrl-C ends the exploration, the second one the program.
fn interruptible() -> Result<(), Failure> {
    ctrlc::set_handler(|| {
        if STOP.swap(true, Relaxed) {
            std::process::exit(Exit::Incomplete as i32);
        }
    })
    .map_err(|e| Failure::Outside(format!("no handler for Ctrl-C: {e}")))
}

/// The designs named, or every preset.
fn designs(names: &[String]) -> Result<Vec<Design>, Failure> {
    if names.is_empty() {
        return Ok(Design::presets());
    }
    let mut designs: Vec<Design> = Vec::new();
    for name in names {
        let design =
            Design::parse(name).map_err(|e| InputError::whole("--design", e.to_string()))?;
        if !designs.contains(&design) {
            designs.push(design);
        }
    }
    Ok(designs)
}

/// The invariants named, or all.
fn invariants(ids: &[String]) -> Result<Vec<Invariant>, Failure> {
    if ids.is_empty() {
        return Ok(Invariant::ALL.to_vec());
    }
    let mut chosen = Vec::new();
    for id in ids {
        let all = || Invariant::ALL.iter().map(|i| i.id());
        let invariant = Invariant::from_id(id)
            .ok_or_else(|| InputError::whole("--invariant", unknown("invariant", id, all())))?;
        chosen.push(invariant);
    }
    chosen.sort();
    chosen.dedup();
    Ok(chosen)
}

/// The machine of a scenario under a design.
fn machine(scenario: &Scenario, design: &Design) -> Result<Machine, Failure> {
    Machine::new(scenario.world.clone(), design.clone())
        .map_err(|e| setup_error(scenario, design, &e).into())
}
