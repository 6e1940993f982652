//! The arguments, as clap reads them.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ColorChoice, Parser, Subcommand, ValueEnum};

use struct_ops_model::Linux;

use crate::campaign::Shard;
use crate::number;
use crate::verdict::FailOn;

/// Explores what can go wrong when BPF struct_ops programs are attached, under several designs.
///
/// Without a verb: `check` over all shipped scenarios and all designs.
#[derive(Debug, Parser)]
#[command(
    name = "struct-ops-sim",
    version,
    args_conflicts_with_subcommands = false,
    after_help = "\
Exit codes: 0 as expected, 1 a verdict differs from what the scenario expects, 2 a bound was hit, \
3 bad input, 69 something outside is missing, 70 a bug of ours."
)]
pub(super) struct Args {
    #[command(subcommand)]
    pub verb: Option<Verb>,
    /// How results are printed.
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Says more on stderr, and times in the summary; twice or three times for more. RUST_LOG overrides it.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// When to colour; NO_COLOR and CLICOLOR_FORCE are heeded where nothing is said.
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t = ColorChoice::Auto, alias = "colour")]
    pub color: ColorChoice,
    /// No progress on stderr.
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    Text,
    /// For programs: one document. The book has its JSON Schema.
    Json,
    /// For programs that follow `check`: a line of JSON for each run as soon as it ends.
    JsonLines,
    /// For CI systems: what `check` and `merge` say, as JUnit XML.
    Junit,
    /// For mailing lists: runs in 72 columns, one column per CPU; `check`, `run` and `replay` print them.
    Mail,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Explore exhaustively and print verdicts; with one scenario and one design, print the traces too.
    Check(Check),
    /// Run one schedule and print it step by step.
    Run(Run),
    /// Run random operations and schedules, and shrink what breaks something; the seed is printed.
    ///
    /// Exit code 1 if link-owned breaks anything, or a scenario something that it does not expect.
    Random(Random),
    /// Run the attach path on real threads, and hold what they did against the model.
    ///
    /// Exit code 1 if the model cannot explain a round, or something is broken that is not expected: by the
    /// scenario, or, without one, by mainline and link-owned.
    Stress(Stress),
    /// Carry out a saved trace again, step by step.
    ///
    /// Exit code 1 if it does not break again what it was saved for.
    Replay(Replay),
    /// Two designs in the same scenarios: which verdicts differ, and for each difference the two runs aligned.
    Compare(Compare),
    /// Show the model in a browser: choose each step, see the state, find what breaks, send it.
    ///
    /// A web server for this machine alone (127.0.0.1) runs until it is interrupted; nothing is fetched from elsewhere.
    Explore(Explore),
    /// Write one run as a file to send: a page that shows itself, a picture, a diagram, or text for a mail.
    ///
    /// A scenario's run is a shortest one that breaks --invariant, or the one that --path says, or that in which CPUs
    /// take turns.
    Export(Export),
    /// Join the results of all shards of a check, or print one saved result in another format.
    ///
    /// Prints what the whole check would have printed, and ends with the same exit code.
    Merge {
        /// Files that `check --format json` or `--format json-lines` wrote, or - for standard input.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<String>,
    },
    /// The table of who can know its scheduler: kinds of programs and designs; with both chosen, the run behind a cell.
    Reach(Reach),
    /// Trampoline sizes, pages and memory per map and link, per design and struct_ops type.
    Cost(super::cost::Cost),
    /// List designs, invariants, scenarios, operations, steps.
    List {
        /// Only these.
        #[arg(value_parser = clap::builder::PossibleValuesParser::new(crate::report::list::KINDS.iter().copied()))]
        kind: Option<String>,
    },
    /// Explain what `list` shows: a design, a choice, a value, an invariant, a scenario, an operation, a step.
    Explain {
        /// Its name; a custom design, a scenario file and - (one on standard input) too. `history`: the FILE says what was
        /// seen of a scenario's operations from outside, and a run of the model is looked for that explains it.
        name: String,
        /// A history, as the kernel lab saves it; - for standard input.
        file: Option<String>,
    },
}

impl Default for Verb {
    fn default() -> Self {
        Verb::Check(Check::default())
    }
}

#[derive(Debug, Default, clap::Args)]
pub(super) struct Check {
    /// A preset, or a custom design: PRESET,KEY=VALUE... [default: every preset]
    #[arg(long)]
    pub design: Vec<String>,
    /// A shipped scenario, a file, or - for standard input. [default: every shipped one]
    #[arg(long, value_name = "FILE|NAME")]
    pub scenario: Vec<String>,
    /// On this kernel. [default: the one that the scenario names]
    #[arg(long, value_name = "VERSION", value_parser = linux)]
    pub linux: Option<Linux>,
    /// The large universes too: minutes each, and gigabytes of memory for the largest.
    #[arg(long, conflicts_with = "scenario")]
    pub extended: bool,
    /// Look at these invariants only. [default: all]
    #[arg(long, value_delimiter = ',')]
    pub invariant: Vec<String>,
    /// Of one scenario and one design, tell the shortest runs that break a promise at this step. [default: at any]
    #[arg(long, value_name = "STEP")]
    pub at: Option<String>,
    /// Threads; more than 64 find nothing to do. [default: one per processor]
    #[arg(long, value_name = "N", value_parser = whole(1..=8192))]
    pub threads: Option<u64>,
    /// Stop each exploration after so many states: exit code 2.
    #[arg(long, value_name = "N", value_parser = whole(1..=u64::MAX))]
    pub max_states: Option<u64>,
    #[command(flatten)]
    pub limits: Limits,
    /// Tell states apart that differ only in names.
    #[arg(long)]
    pub no_symmetry: bool,
    /// Take every step by itself.
    #[arg(long)]
    pub no_merge: bool,
    /// Store whole states instead of fingerprints: more memory, no chance of a collision.
    #[arg(long)]
    pub exact: bool,
    /// What exit code 1 stands for.
    #[arg(long, value_name = "WHAT", value_enum, default_value_t)]
    pub fail_on: FailOn,
    /// Explore part I of N of all scenarios and designs, for `merge`.
    #[arg(long, value_name = "I/N")]
    pub shard: Option<Shard>,
    /// Write every shortest trace into this directory, for `replay`.
    #[arg(long, value_name = "DIR")]
    pub save_traces: Option<PathBuf>,
}

/// What ends an exploration, or all of them, before everything was seen.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Limits {
    /// End after so long, such as 90, 90s, 15m, 1.5h or 1d, and say what is known so far: exit code 2.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub timeout: Option<Duration>,
    /// Stop an exploration before the process has more memory than that, such as 500M or 2G: exit code 2.
    /// [default: most of what is available]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub max_memory: Option<u64>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Run {
    /// A shipped scenario, a file, or - for standard input.
    pub scenario: String,
    /// A preset or a custom design.
    #[arg(long, default_value = "mainline")]
    pub design: String,
    /// On this kernel. [default: the one that the scenario names]
    #[arg(long, value_name = "VERSION", value_parser = linux)]
    pub linux: Option<Linux>,
    /// Choose at random, with this seed. [default: CPUs take turns]
    #[arg(long, value_name = "N", value_parser = whole(0..=u64::MAX))]
    pub seed: Option<u64>,
    /// Take these steps: for each a digit or letter, its place among what can be done. `export` and its page print it.
    #[arg(long, value_name = "CHOICES", value_parser = crate::walk::read_path, conflicts_with = "seed")]
    pub path: Option<Path>,
    /// Write the schedule into a file, for `replay`.
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
}

/// The choices of a run, one for each step.
type Path = Vec<usize>;

/// As what a run is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum To {
    /// A page of its own that needs no server and no network, stepping included.
    Html,
    /// A picture: a lane per CPU, a mark per step.
    Svg,
    /// A sequence diagram as Mermaid reads it.
    Mermaid,
    /// Text in 72 columns, one column per CPU.
    Mail,
}

#[derive(Debug, clap::Args)]
pub(super) struct Compare {
    /// The designs, presets or custom ones.
    #[arg(num_args = 2, required = true, value_names = ["DESIGN", "DESIGN"])]
    pub designs: Vec<String>,
    /// A shipped scenario, a file, or - for standard input. [default: every shipped one]
    #[arg(long, value_name = "FILE|NAME")]
    pub scenario: Vec<String>,
    /// Look at these invariants only. [default: all]
    #[arg(long, value_delimiter = ',')]
    pub invariant: Vec<String>,
    #[command(flatten)]
    pub limits: Limits,
}

#[derive(Debug, clap::Args)]
pub(super) struct Explore {
    /// A shipped scenario, a file, or - for standard input. [default: two-links-tcp under rfc]
    pub scenario: Option<String>,
    /// A preset or a custom design. [default: mainline]
    #[arg(long)]
    pub design: Option<String>,
    /// The same schedule under this design beside it.
    #[arg(long, value_name = "DESIGN")]
    pub beside: Option<String>,
    /// Begin after these steps, as `run --path` takes them.
    #[arg(long, value_name = "CHOICES", value_parser = crate::walk::read_path)]
    pub path: Option<Path>,
    /// The port. [default: 7617, or a free one]
    #[arg(long, value_name = "PORT", value_parser = port)]
    pub port: Option<u16>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Export {
    /// A saved trace (a file that ends in .json), or a scenario: shipped, a file, or - for standard input.
    #[arg(value_name = "TRACE|SCENARIO")]
    pub what: String,
    /// A preset or a custom design. [default: the one in the trace, or mainline]
    #[arg(long)]
    pub design: Option<String>,
    /// A shortest run of the scenario that breaks this; everything that can happen is explored. [default: the promise that
    /// breaks, if it is one alone; where none breaks, the run that `run` shows]
    #[arg(long, conflicts_with = "path")]
    pub invariant: Option<String>,
    /// These steps of the scenario, as `run --path` takes them.
    #[arg(long, value_name = "CHOICES", value_parser = crate::walk::read_path)]
    pub path: Option<Path>,
    /// As what.
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = To::Html)]
    pub to: To,
    /// The same schedule under this design beside it; html only.
    #[arg(long, value_name = "DESIGN")]
    pub beside: Option<String>,
    /// What each step changes, too; mail only.
    #[arg(long)]
    pub changes: bool,
    /// Into this file. [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Replay {
    /// A file that `check --save-traces`, `run --save` or `reach --save` wrote, or - for standard input.
    pub trace: String,
    /// Under this design, a preset or a custom one. [default: the one in the file]
    #[arg(long)]
    pub design: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Random {
    /// Seeds A to B-1, each one world and schedule.
    #[arg(long, value_name = "A..B", default_value = "0..1000", value_parser = seeds)]
    pub seeds: std::ops::Range<u64>,
    /// A preset or a custom design. [default: every preset with an attach path of its own]
    #[arg(long)]
    pub design: Vec<String>,
    /// Only schedules of this scenario, shipped, a file, or -. [default: random operations]
    #[arg(long, value_name = "FILE|NAME")]
    pub scenario: Vec<String>,
    /// On this kernel. [default: the one that the scenario names]
    #[arg(long, value_name = "VERSION", value_parser = linux, requires = "scenario")]
    pub linux: Option<Linux>,
    /// End after so long, such as 90, 90s, 15m, 1.5h or 1d: exit code 2.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub timeout: Option<Duration>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Reach {
    /// A preset or a custom design. [default: every preset]
    #[arg(long)]
    pub design: Vec<String>,
    /// A kind of program, such as fentry or struct_ops+timer (`list programs`). [default: those of the table]
    #[arg(long, value_delimiter = ',')]
    pub program: Vec<String>,
    /// One object file serves both schedulers: each program is loaded once.
    #[arg(long)]
    pub shared: bool,
    /// Write the run behind a cell into a file, for `replay`; with one design and one program.
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
    #[command(flatten)]
    pub limits: Limits,
}

#[derive(Debug, clap::Args)]
pub(super) struct Stress {
    /// A preset or a custom design.
    #[arg(long, default_value = "link-owned")]
    pub design: String,
    /// Threads; at most four share a world.
    #[arg(long, value_name = "N", default_value = "4", value_parser = whole(1..=256))]
    pub threads: u64,
    /// How long.
    #[arg(long, value_name = "N", default_value = "5", value_parser = whole(1..=LONGEST))]
    pub seconds: u64,
    /// Decides worlds and operations; not the order in which threads run.
    #[arg(long, value_name = "N", default_value = "0", value_parser = whole(0..=u64::MAX))]
    pub seed: u64,
    /// The operations of this scenario, shipped, a file, or -. [default: random operations]
    #[arg(long, value_name = "FILE|NAME")]
    pub scenario: Option<String>,
    /// On this kernel. [default: the one that the scenario names]
    #[arg(long, value_name = "VERSION", value_parser = linux, requires = "scenario")]
    pub linux: Option<Linux>,
}

/// Most seconds of anything: beyond, clocks may not count.
const LONGEST: u64 = 1_000_000_000;

/// A parser of whole numbers, decimal or 0x..., in a range.
pub(super) fn whole(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<u64, String> + Clone + Send + Sync {
    move |text| {
        number::whole(text)
            .filter(|n| range.contains(n))
            .ok_or_else(|| expected(&range))
    }
}

fn expected(range: &RangeInclusive<u64>) -> String {
    let end = match *range.end() {
        u64::MAX => "2^64-1".into(),
        end => end.to_string(),
    };
    format!("expected a whole number from {} to {end}", range.start())
}

/// A port to listen on.
fn port(text: &str) -> Result<u16, String> {
    let port = whole(1..=u64::from(u16::MAX))(text)?;
    u16::try_from(port).map_err(|e| e.to_string())
}

/// A kernel, by the version that its release is called.
fn linux(text: &str) -> Result<Linux, String> {
    let versions = Linux::ALL.map(Linux::version).join(", ");
    Linux::from_version(text).ok_or(format!("expected one of {versions}"))
}

/// A number with or without a fraction.
fn fraction(text: &str) -> Option<f64> {
    let plain = text.chars().all(|c| c.is_ascii_digit() || c == '.');
    text.parse().ok().filter(|_| plain)
}

/// A duration as timeout(1) takes it: a number, and s, m, h or d.
fn duration(text: &str) -> Result<Duration, String> {
    let units = [("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86400.0)];
    let (number, unit) = units
        .iter()
        .find_map(|u| Some((text.strip_suffix(u.0)?, u.1)))
        .unwrap_or((text, 1.0));
    let seconds = fraction(number).map(|n| n * unit);
    match seconds.filter(|s| *s > 0.0 && *s <= LONGEST as f64) {
        Some(seconds) => Ok(Duration::from_secs_f64(seconds)),
        None => Err("expected a number above 0, with s, m, h or d after it or nothing".into()),
    }
}

/// An amount of memory: a number, and K, M, G or T, with or without iB or B after it.
fn size(text: &str) -> Result<u64, String> {
    let number = text.strip_suffix('B').unwrap_or(text);
    let number = number.strip_suffix('i').unwrap_or(number);
    let units = [("K", 10), ("M", 20), ("G", 30), ("T", 40)];
    let (number, shift) = units
        .iter()
        .find_map(|u| Some((number.strip_suffix(u.0)?, u.1)))
        .unwrap_or((number, 0));
    let bytes = fraction(number).map(|n| n * (1u64 << shift) as f64);
    match bytes.filter(|b| *b >= 1.0 && *b < (1u64 << 60) as f64) {
        Some(bytes) => Ok(bytes as u64),
        None => Err("expected bytes, or a number and K, M, G or T, such as 500M".into()),
    }
}

fn seeds(text: &str) -> Result<std::ops::Range<u64>, String> {
    let (from, to) = text
        .split_once("..")
        .ok_or("expected A..B, such as 0..1000")?;
    let number = |n: &str| whole(0..=u64::MAX)(n).map_err(|e| format!("`{n}`: {e}"));
    let range = number(from)?..number(to)?;
    if range.is_empty() {
        Err("an empty range: expected A..B with A below B".into())
    } else {
        Ok(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_a_range() {
        let small = whole(1..=64);
        assert_eq!(small("64"), Ok(64));
        assert_eq!(small("0x10"), Ok(16));
        for wrong in [
            "", "0", "65", "+5", "-5", " 5", "5.0", "0x", "0x+5", "five", "1e1",
        ] {
            let message = small(wrong).unwrap_err();
            assert_eq!(message, "expected a whole number from 1 to 64", "{wrong}");
        }
        assert_eq!(whole(0..=u64::MAX)("18446744073709551615"), Ok(u64::MAX));
        assert!(whole(0..=u64::MAX)("18446744073709551616").is_err());
    }

    #[test]
    fn durations_and_sizes_have_units() {
        let seconds = |text| duration(text).map(|d| d.as_secs_f64());
        assert_eq!(seconds("90"), Ok(90.0));
        assert_eq!(seconds("1.5h"), Ok(5400.0));
        assert_eq!(seconds(".5s"), Ok(0.5));
        for wrong in [
            "",
            "0",
            "s",
            "-1",
            "nan",
            "inf",
            "1e3",
            "5 m",
            "1w",
            "1000000000m",
        ] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert_eq!(size("1"), Ok(1));
        assert_eq!(size("1.5K"), Ok(1536));
        assert_eq!(size("2GiB"), Ok(2 << 30));
        assert_eq!(size("64MB"), Ok(64 << 20));
        for wrong in ["", "0", "M", "-1M", "1X", "1e3", "9999999T", "1 G"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    quickcheck::quickcheck! {
        fn parsers_never_panic(text: String) -> bool {
            let number = whole(0..=9)(&text);
            let _ = (duration(&text), size(&text), seeds(&text));
            number.is_err() || number::whole(&text).is_some()
        }
    }
}
