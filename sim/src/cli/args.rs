//! The arguments, as clap reads them.

use std::path::PathBuf;

use clap::{ColorChoice, Parser, Subcommand, ValueEnum};

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
    /// For programs: schema 1.
    Json,
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
    Replay {
        /// A file that `check --save-traces` or `run --save` wrote.
        trace: String,
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
    /// Explain a design, a choice, an invariant, a scenario, a step or an operation.
    Explain {
        /// Its name; a custom design too.
        name: String,
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
    /// A shipped scenario or a file. [default: every shipped one]
    #[arg(long, value_name = "FILE|NAME")]
    pub scenario: Vec<String>,
    /// The large universes too: minutes each, and gigabytes of memory for the largest.
    #[arg(long, conflicts_with = "scenario")]
    pub extended: bool,
    /// Look at these invariants only. [default: all]
    #[arg(long)]
    pub invariant: Vec<String>,
    /// Threads. [default: one per processor]
    #[arg(long)]
    pub threads: Option<std::num::NonZero<usize>>,
    /// Stop each exploration after so many states: exit code 2.
    #[arg(long)]
    pub max_states: Option<u64>,
    /// Tell states apart that differ only in names.
    #[arg(long)]
    pub no_symmetry: bool,
    /// Take every step by itself.
    #[arg(long)]
    pub no_merge: bool,
    /// Store whole states instead of fingerprints: more memory, no chance of a collision.
    #[arg(long)]
    pub exact: bool,
    /// Write every shortest trace into this directory, for `replay`.
    #[arg(long, value_name = "DIR")]
    pub save_traces: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Run {
    /// A shipped scenario or a file.
    pub scenario: String,
    /// A preset or a custom design.
    #[arg(long, default_value = "mainline")]
    pub design: String,
    /// Choose at random, with this seed. [default: CPUs take turns]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Write the schedule into a file, for `replay`.
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Random {
    /// Seeds A to B-1, each one world and schedule.
    #[arg(long, value_name = "A..B", default_value = "0..1000", value_parser = seeds)]
    pub seeds: std::ops::Range<u64>,
    /// A preset or a custom design. [default: every preset with an attach path of its own]
    #[arg(long)]
    pub design: Vec<String>,
    /// Only schedules of this scenario, shipped or a file. [default: random operations]
    #[arg(long, value_name = "FILE|NAME")]
    pub scenario: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Reach {
    /// A preset or a custom design. [default: every preset]
    #[arg(long)]
    pub design: Vec<String>,
    /// A kind of program, such as fentry or struct_ops+timer (`list programs`). [default: those of the table]
    #[arg(long)]
    pub program: Vec<String>,
    /// One object file serves both schedulers: each program is loaded once.
    #[arg(long)]
    pub shared: bool,
    /// Write the run behind a cell into a file, for `replay`; with one design and one program.
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Stress {
    /// A preset or a custom design.
    #[arg(long, default_value = "link-owned")]
    pub design: String,
    /// Threads; at most four share a world.
    #[arg(long, default_value = "4", value_parser = threads)]
    pub threads: std::num::NonZero<usize>,
    /// How long.
    #[arg(long, default_value_t = 5)]
    pub seconds: u64,
    /// Decides worlds and operations; not the order in which threads run.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// The operations of this scenario, shipped or a file. [default: random operations]
    #[arg(long, value_name = "FILE|NAME")]
    pub scenario: Option<String>,
}

fn threads(text: &str) -> Result<std::num::NonZero<usize>, String> {
    match text.parse() {
        Ok(n @ 1..=256) => Ok(std::num::NonZero::new(n).expect("not 0")),
        _ => Err("expected 1 to 256".into()),
    }
}

fn seeds(text: &str) -> Result<std::ops::Range<u64>, String> {
    let (from, to) = text
        .split_once("..")
        .ok_or("expected A..B, such as 0..1000")?;
    let number = |n: &str| n.parse::<u64>().map_err(|e| format!("`{n}`: {e}"));
    let range = number(from)?..number(to)?;
    if range.is_empty() {
        Err("an empty range: expected A..B with A below B".into())
    } else {
        Ok(range)
    }
}
