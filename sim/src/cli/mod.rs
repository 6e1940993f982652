//! The command line: verbs, options and exit codes. What a verb does is in its own file.

mod args;
mod check;
mod compare;
mod cost;
mod explore;
mod export;
mod hints;
mod merge;
mod one;
mod output;
mod progress;
mod random;
mod reach;
mod results;
mod show;
mod stress;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::{Duration, Instant};

use clap::{CommandFactory, FromArgMatches};
use struct_ops_model::design::About;
use struct_ops_model::{Design, Invariant, Machine, Report};

use crate::bounds::{Bounds, Memory};
use crate::check::CheckError;
use crate::report::screen::{Mark, Screen};
use crate::scenario::{InputError, Scenario, printable, printable_lines, unknown};
use crate::schedule::{self, Chooser};
use crate::walk;
use args::{Args, Format, Verb};

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

impl Failure {
    /// How the program ends then.
    fn exit(&self) -> Exit {
        match self {
            Failure::Input(_) => Exit::Input,
            Failure::Outside(_) => Exit::Outside,
            Failure::Bug(_) => Exit::Bug,
        }
    }
}

impl From<CheckError> for Failure {
    fn from(error: CheckError) -> Self {
        match error {
            CheckError::Input(error) => Failure::Input(error),
            CheckError::Internal(text) => Failure::Bug(text),
        }
    }
}

/// The process: when it began, and the signal that it was sent.
struct Job {
    start: Instant,
    signal: Arc<AtomicUsize>,
}

impl Job {
    /// The bounds of what it does.
    fn bounds(&self, timeout: Option<Duration>, memory: Option<u64>) -> Bounds {
        let deadline = timeout.map(|t| self.start + t);
        Bounds::new(self.signal.clone(), deadline, Memory::new(memory))
    }
}

/// Reads the arguments and does what they say.
pub fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let exit = std::panic::catch_unwind(|| match parse(&words) {
        Ok(args) => run(args),
        Err(error) => match error.print() {
            _ if error.use_stderr() => Exit::Input,
            Ok(()) => Exit::Expected,
            Err(e) => {
                complain(&format!("standard output: {e}"));
                Exit::Outside
            }
        },
    });
    ExitCode::from(exit.unwrap_or_else(|_| {
        say("a bug of struct-ops-sim: please report it with the command line and the scenario");
        Exit::Bug
    }) as u8)
}

/// Most lines of an error.
const SCREENFUL: usize = 24;

/// Says something on stderr. Whoever has closed it, or was on a terminal that has gone, misses that alone.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Says what is wrong.
fn complain(text: &str) {
    let error = output::stderr().paint(Mark::Broken, "error:");
    say(&format!("{error} {}", printable_lines(text, SCREENFUL)));
}

/// Most characters of an argument in an error.
const WORD: usize = 200;

/// The grammar of the command line; help is as wide as results are.
pub fn grammar() -> clap::Command {
    let mut command = Args::command().term_width(output::width().min(Screen::PROSE));
    command.build();
    command
}

/// Reads arguments. What is wrong with them is said of what can be printed of them.
fn parse(words: &[OsString]) -> Result<Args, clap::Error> {
    let command = grammar();
    let error = match command.clone().try_get_matches_from(words) {
        Ok(matches) => return Args::from_arg_matches(&matches),
        Err(error) => error,
    };
    let shown: Vec<String> = words
        .iter()
        .map(|word| printable(&word.to_string_lossy(), WORD))
        .collect();
    let again = command.clone().try_get_matches_from(&shown);
    let mut error = again.err().unwrap_or(error);
    hints::hint(&mut error, &command, shown.get(1..).unwrap_or_default());
    Err(error)
}

/// Reads arguments, the program's name first, and looks up what they name, but does nothing else.
///
/// # Errors
/// What a user is told.
pub fn look_up(words: &[OsString]) -> Result<(), String> {
    let args = match parse(words) {
        Ok(args) => args,
        // Help is no error.
        Err(error) if !error.use_stderr() => return Ok(()),
        Err(error) => return Err(error.render().to_string()),
    };
    let design = |name: &String| designs(std::slice::from_ref(name)).map(drop);
    let looked_up = match &args.verb.unwrap_or_default() {
        Verb::Check(check) => designs(&check.design)
            .and_then(|_| invariants(&check.invariant))
            .and_then(|_| check::named(&check.scenario)),
        Verb::Run(run) => {
            design(&run.design).and_then(|()| check::named(std::slice::from_ref(&run.scenario)))
        }
        Verb::Random(random) => {
            designs(&random.design).and_then(|_| check::named(&random.scenario))
        }
        Verb::Stress(stress) => {
            design(&stress.design).and_then(|()| check::named(stress.scenario.as_slice()))
        }
        Verb::Replay(replay) => one::carried_out(replay).map(drop).map_err(Failure::from),
        Verb::Compare(compare) => designs_of("DESIGN", &compare.designs)
            .and_then(|_| invariants(&compare.invariant))
            .and_then(|_| check::named(&compare.scenario)),
        Verb::Explore(explore) => explore::begin(explore).map(drop),
        Verb::Export(export) => export::chosen(export).map(drop),
        Verb::Merge { files } => files
            .iter()
            .try_for_each(|file| merge::read(file).map(drop))
            .map_err(Failure::from),
        Verb::Reach(reach) => designs(&reach.design)
            .and_then(|_| reach::kinds(&reach.program))
            .map(drop),
        Verb::Cost(cost) => designs(&cost.design)
            .and_then(|_| cost::kernels(cost))
            .map(drop),
        Verb::List { .. } => Ok(()),
        Verb::Explain { name, file } => match file {
            Some(file) => show::history(name, file).map(drop),
            None => show::explained(name, &Screen::plain(0)).map(drop),
        },
    };
    looked_up.map_err(|failure| failure.to_string())
}

fn run(args: Args) -> Exit {
    let start = Instant::now();
    let colour = match args.color {
        clap::ColorChoice::Auto => anstream::ColorChoice::Auto,
        clap::ColorChoice::Always => anstream::ColorChoice::Always,
        clap::ColorChoice::Never => anstream::ColorChoice::Never,
    };
    colour.write_global();
    logging(args.verbose);
    let verb = args.verb.unwrap_or_default();
    let ready = prints(&verb, args.format).and_then(|()| signals());
    let job = ready.map(|signal| Job { start, signal });
    let result = job.and_then(|job| match verb {
        Verb::Check(check) => check::check(&job, &check, args.format, args.quiet, args.verbose > 0),
        Verb::Run(run) => one::run(&run, args.format),
        Verb::Random(random) => random::random(&job, &random, args.format),
        Verb::Stress(stress) => stress::stress(&job, &stress, args.format),
        Verb::Replay(replay) => one::replay(&replay, args.format),
        Verb::Compare(compare) => compare::compare(&job, &compare, args.format, args.quiet),
        Verb::Explore(explore) => explore::explore(&job, &explore),
        Verb::Export(export) => export::export(&job, &export),
        Verb::Merge { files } => merge::merge(&files, args.format, args.verbose > 0),
        Verb::Reach(reach) => reach::reach(&job, &reach, args.format),
        Verb::Cost(cost) => cost::cost(&cost, args.format),
        Verb::List { kind } => show::list(kind.as_deref(), args.format),
        Verb::Explain { name, file } => match file {
            Some(file) => show::explain_history(&name, &file, args.format),
            None => show::explain(&name, args.format),
        },
    });
    result.unwrap_or_else(|failure| {
        complain(&failure.to_string());
        failure.exit()
    })
}

/// Whether a verb prints a format.
fn prints(verb: &Verb, format: Format) -> Result<(), Failure> {
    let (name, verbs) = match (format, verb) {
        (Format::JsonLines, Verb::Check(_)) => return Ok(()),
        (Format::Junit, Verb::Check(_) | Verb::Merge { .. }) => return Ok(()),
        (Format::Mail, Verb::Check(_) | Verb::Run(_) | Verb::Replay(_)) => return Ok(()),
        (Format::Json, Verb::Export(_) | Verb::Explore(_)) => ("json", "other verbs print it"),
        (Format::Text | Format::Json, _) => return Ok(()),
        (Format::JsonLines, _) => ("json-lines", "`check` prints it"),
        (Format::Junit, _) => ("junit", "`check` and `merge` print it"),
        (Format::Mail, _) => ("mail", "`check`, `run` and `replay` print it"),
    };
    let this = match verb {
        Verb::Export(_) => "`export` writes what `--to` says",
        Verb::Explore(_) => "`explore` shows a page",
        Verb::Merge { .. } => "this one prints text, json and junit",
        _ => "this one prints text and json",
    };
    let message = format!("only {verbs}; {this}");
    Err(InputError::whole(&format!("--format {name}"), message).into())
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
        // It would say so on stderr, of all places.
        .log_internal_errors(false)
        .with_ansi(output::stderr().colour)
        .init();
}

/// What a process gets that writes beyond the limit of a file's size (`ulimit -f`).
#[cfg(unix)]
const SIGXFSZ: i32 = 25;

/// The first signal that asks the process to end ends the exploration, the second one the process. Where the number of
/// the first one will be found.
fn signals() -> Result<Arc<AtomicUsize>, Failure> {
    use signal_hook::{consts, flag};
    let signal = Arc::new(AtomicUsize::new(0));
    let again = Arc::new(AtomicBool::new(false));
    let mut signals = vec![consts::SIGINT, consts::SIGTERM];
    #[cfg(unix)]
    signals.push(consts::SIGHUP);
    // A file that may not grow is an error of the write, as a full disk is.
    #[cfg(unix)]
    flag::register(SIGXFSZ, Arc::default())
        .map_err(|e| Failure::Outside(format!("no handler for signals: {e}")))?;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    signals.retain(|s| !ignored(&status, *s));
    for number in signals {
        // In this order: a signal that comes between is not lost, and the second one finds the flag that the first one
        // has set.
        flag::register_usize(number, signal.clone(), number as usize)
            .and_then(|_| {
                flag::register_conditional_shutdown(number, Exit::Incomplete as i32, again.clone())
            })
            .and_then(|_| flag::register(number, again.clone()))
            .map_err(|e| Failure::Outside(format!("no handler for signals: {e}")))?;
    }
    Ok(signal)
}

/// Whether the process was started with a signal ignored, as nohup(1) does. `status` is /proc/self/status.
fn ignored(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|l| l.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|m| u64::from_str_radix(m.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// Refuses a choice for which none of these executions asks.
fn asked(designs: &[Design], executions: &[About]) -> Result<(), Failure> {
    for design in designs {
        for (key, value) in design.written() {
            let about = match About::of(key, value) {
                About::Both => continue,
                about if executions.contains(&about) => continue,
                About::AttachPath => "the attach path",
                About::Lookups => "lookups",
            };
            let message = format!(
                "nothing here asks for {key}={value} of design `{design}`: it is about {about}"
            );
            return Err(InputError::whole("--design", message).into());
        }
    }
    Ok(())
}

/// The designs named, or every preset.
fn designs(names: &[String]) -> Result<Vec<Design>, Failure> {
    designs_of("--design", names)
}

/// The designs named by an argument, or all.
fn designs_of(argument: &str, names: &[String]) -> Result<Vec<Design>, Failure> {
    if names.is_empty() {
        return Ok(Design::presets());
    }
    let mut designs: Vec<Design> = Vec::new();
    for name in names {
        let design = Design::parse(name).map_err(|e| {
            let several = name.split(',').all(|part| Design::parse(part).is_ok());
            let hint = if several && name.contains(',') {
                format!(
                    "; several designs are --design {}",
                    name.replace(',', " --design ")
                )
            } else {
                String::new()
            };
            InputError::whole(argument, format!("{e}{hint}"))
        })?;
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

/// What a mail is laid out for: whoever reads it has this program under its own name.
fn mailer() -> Screen {
    Screen::plain(crate::report::mail::WIDTH)
}

/// The machine of a scenario under a design.
fn machine(scenario: &Scenario, design: &Design) -> Result<Machine, Failure> {
    let machine = walk::attach(scenario, design)?;
    something_happens(scenario, &machine)?;
    Ok(machine)
}

/// Refuses a scenario of which some runs were tried, and no operation had an object in any of them.
fn something_happens(scenario: &Scenario, machine: &Machine) -> Result<(), InputError> {
    const RUNS: u64 = 20;
    for seed in 0..RUNS {
        let (mut k, mut report) = (machine.initial(), Report::default());
        for action in schedule::run(machine, &mut Chooser::new(Some(seed))) {
            report.clear();
            machine.apply(&mut k, action, &mut report, None);
            // A run ends where something is broken: perhaps before the first operation has returned.
            let broken = !report.violations.is_empty();
            if broken || report.returned.is_some_and(|returned| returned.met) {
                return Ok(());
            }
        }
    }
    let message = format!("no operation had an object in {RUNS} runs: nothing was asked");
    Err(InputError::whole(&scenario.head.file, message))
}
