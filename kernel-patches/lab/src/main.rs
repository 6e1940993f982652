//! kernel-lab: builds, boots and tests the kernel patch series of this folder.
//!
//! It is not part of the simulator and needs more than Rust: see `install`. It
//! never loads anything into the machine's own kernel.

mod apt;
mod build;
mod check;
mod console;
mod cpio;
mod error;
mod image;
mod key;
mod plan;
mod replay;
mod run;
mod scenario;
mod series;
mod testrun;
mod tools;
mod vm;

use build::{Built, Flavour, Lab, Part, Patched};
use clap::{Args, Parser, Subcommand, ValueEnum};
use error::{Error, Result};
use series::{Base, Series};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use vm::{Accel, Limits, Machine, probe_accel};

#[derive(Parser)]
#[command(
    name = "kernel-lab",
    version,
    about = "Build, boot and test the kernel patch series"
)]
struct Cli {
    /// everything lands here and can be deleted [default: ~/.cache/struct-ops-lab]
    #[arg(long, global = true, value_name = "DIR")]
    cache: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// install what the lab needs (Debian, asks for root)
    Install,
    /// say what is missing, if anything
    Tools,
    /// fetch the source, patch, configure, build kernel and test programs
    Build(Several),
    /// run a shell command in the VM
    Boot {
        #[arg(long, value_enum, default_value = "link-owned")]
        series: Series,
        #[command(flatten)]
        kind: Kind,
        /// boot a ready-made Debian kernel of this version instead
        #[arg(long, value_name = "VERSION")]
        image: Option<String>,
        #[arg(last = true, required = true, value_name = "CMD")]
        command: Vec<String>,
    },
    /// run the test list in the VM: prediction and outcome side by side
    Test {
        #[command(flatten)]
        kernels: Several,
        /// test a ready-made Debian kernel of this version (stock only)
        #[arg(long, value_name = "VERSION")]
        image: Option<String>,
        #[arg(long, value_enum, default_value = "text")]
        format: Format,
        /// how often the list is run, each time on VMs of its own: as predicted is what is in nine of ten
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1_000))]
        runs: u16,
        /// show the console
        #[arg(long, short)]
        verbose: bool,
        /// only these tests
        #[arg(value_name = "TEST", value_parser = test_name)]
        only: Vec<String>,
    },
    /// run scenarios of the simulator on booted kernels, beside what the model says of them
    Scenario {
        #[command(flatten)]
        kernels: Several,
        /// run on a ready-made Debian kernel of this version (stock only)
        #[arg(long, value_name = "VERSION")]
        image: Option<String>,
        #[arg(long, value_enum, default_value = "text")]
        format: Format,
        /// rounds of each scenario: half of them by turns, half at the same time
        #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u16).range(1..=10_000))]
        rounds: u16,
        /// where the random choices begin
        #[arg(long, value_name = "N", default_value_t = 1)]
        seed: u64,
        /// how long the runtime in user space gets for each scenario; 0 leaves it out
        #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(0..=600))]
        stress: u64,
        /// only one line for each scenario, and what is unexpected
        #[arg(long)]
        brief: bool,
        /// show the console
        #[arg(long, short)]
        verbose: bool,
        /// shipped scenarios by name, others by path [default: all shipped ones that fit into a check]
        #[arg(value_name = "NAME|FILE")]
        scenarios: Vec<String>,
    },
    /// run operations at random on booted kernels, and hold what they did against the model
    Random {
        #[command(flatten)]
        kernels: Several,
        /// run on a ready-made Debian kernel of this version (stock only)
        #[arg(long, value_name = "VERSION")]
        image: Option<String>,
        #[arg(long, value_enum, default_value = "text")]
        format: Format,
        /// the seeds, from A to before B: each is a world of its own
        #[arg(long, value_name = "A..B", value_parser = seeds)]
        seeds: (u64, u64),
        /// rounds of each seed
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=10_000))]
        rounds: u16,
        /// save what was seen of each round that is not explained in a file of this folder, for `struct-ops-sim explain
        /// history`
        #[arg(long, value_name = "DIR")]
        save: Option<PathBuf>,
        /// show the console
        #[arg(long, short)]
        verbose: bool,
    },
    /// break a kernel, and the runner in it, on purpose: does the lab see what happened?
    Prove {
        #[arg(long, value_enum, default_value = "link-owned")]
        series: Series,
        #[command(flatten)]
        kind: Kind,
        #[arg(long, value_enum, default_value = "text")]
        format: Format,
        /// show the console
        #[arg(long, short)]
        verbose: bool,
    },
    /// force the interleaving of counterexamples on booted kernels
    Replay {
        /// the kernels; give it twice for two [default: for a file, the one that its trace's design stands for; for
        /// scenarios, stock and rfc]
        #[arg(long, value_enum)]
        series: Vec<Series>,
        #[command(flatten)]
        kind: Kind,
        /// run on a ready-made Debian kernel of this version (stock only): what can be played by turns
        #[arg(long, value_name = "VERSION")]
        image: Option<String>,
        #[arg(long, value_enum, default_value = "text")]
        format: Format,
        /// how often each is replayed
        #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1_000))]
        runs: u16,
        /// say which moves there would be, and boot nothing
        #[arg(long)]
        dry_run: bool,
        /// only one line for each trace
        #[arg(long)]
        brief: bool,
        /// show the console
        #[arg(long, short)]
        verbose: bool,
        /// `.json` files that `struct-ops-sim check --save-traces` has written, or scenarios as in `scenario`, of which
        /// every shortest counterexample is taken [default: all shipped ones with plans]
        #[arg(value_name = "TRACE|NAME|FILE")]
        traces: Vec<String>,
    },
    /// every patch applies and builds alone, checkpatch, uapi in step
    Check {
        /// all series if none is given
        #[arg(long, value_enum)]
        series: Option<Series>,
        /// all bases of the series if none is given
        #[arg(long, value_enum)]
        base: Option<Base>,
    },
}

/// Which kernels of the series.
#[derive(Args)]
struct Kind {
    /// the Linux version
    #[arg(long, value_enum, default_value = "6.12")]
    base: Base,
    /// with KASAN, lockdep and RCU checks
    #[arg(long)]
    debug: bool,
    /// built by clang instead of gcc
    #[arg(long)]
    clang: bool,
    /// apply only the patch of this number (fixes)
    #[arg(long, value_name = "NUMBER")]
    alone: Option<u32>,
}

impl Kind {
    fn flavour(&self, series: Series) -> Flavour {
        Flavour {
            patched: Patched {
                base: self.base,
                series,
                // stock beside a patch alone is stock
                part: match self.alone {
                    Some(number) if series != Series::Stock => Part::Alone(number),
                    _ => Part::Whole,
                },
            },
            debug: self.debug,
            clang: self.clang,
        }
    }
}

#[derive(Args)]
struct Several {
    /// give it twice for two kernels, whose results are shown side by side
    #[arg(long, value_enum, default_value = "link-owned")]
    series: Vec<Series>,
    #[command(flatten)]
    kind: Kind,
}

impl Several {
    fn flavours(&self) -> impl Iterator<Item = Flavour> {
        self.series.iter().map(|&series| self.kind.flavour(series))
    }
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Format {
    Text,
    Json,
}

fn test_name(name: &str) -> std::result::Result<String, String> {
    if plan::TESTS.iter().any(|test| test.name == name) {
        return Ok(name.to_owned());
    }
    let names: Vec<_> = plan::TESTS.iter().map(|test| test.name).collect();
    Err(format!("no such test; there are: {}", names.join(", ")))
}

fn seeds(text: &str) -> std::result::Result<(u64, u64), String> {
    let range = text
        .split_once("..")
        .and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    match range {
        Some((from, to)) if from < to => Ok((from, to)),
        _ => Err("expected A..B, two numbers of which the second is greater".into()),
    }
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(err) => {
            eprintln!("kernel-lab: {err}");
            ExitCode::from(err.exit_code())
        }
    }
}

/// Whether all is as it should be.
fn run(cli: Cli) -> Result<bool> {
    let lab = Lab::new(cli.cache)?;
    match cli.verb {
        Verb::Install => tools::install().map(|()| true),
        Verb::Tools => tools::require_all().map(|()| true),
        Verb::Build(kernels) => {
            for flavour in kernels.flavours() {
                let built = lab.build(flavour)?;
                println!("Linux {}: {}", built.version, built.kernel.display());
            }
            Ok(true)
        }
        Verb::Boot {
            series,
            kind,
            image,
            command,
        } => {
            let (built, accel) = ready(&lab, kind.flavour(series), image.as_deref())?;
            let machine = machine(&lab, &built, accel, kind.debug);
            let ended = machine.run(&format!("{}\n", command.join(" ")), |line| {
                println!("{}", line.trim_end_matches('\r'));
            })?;
            for line in ended.console.splat() {
                eprintln!("kernel-lab: {line}");
            }
            if let Some(complaint) = ended.console.complaint() {
                return Err(Error::Other(format!("the kernel complained: {complaint}")));
            }
            match ended.status {
                Some(0) => Ok(true),
                Some(status) => Err(Error::Other(format!("the command's status is {status}"))),
                None => Err(Error::Other(ended.why)),
            }
        }
        Verb::Test {
            kernels: mut several,
            image,
            format,
            runs,
            verbose,
            only,
        } => {
            let debug = several.kind.debug;
            several.kind.base = base_of(several.kind.base, image.as_deref())?;
            let mut kernels = Vec::new();
            for flavour in several.flavours() {
                kernels.push((flavour, ready(&lab, flavour, image.as_deref())?));
            }
            let kernels: Vec<_> = kernels
                .iter()
                .map(|(flavour, (built, accel))| (*flavour, machine(&lab, built, *accel, debug)))
                .collect();
            // A debug kernel beside another one misses its own deadlines.
            let threads = match std::thread::available_parallelism() {
                Ok(cores) if !debug => cores.get(),
                _ => 1,
            };
            let mut reports = testrun::run_tests(&kernels, &only, verbose, threads)?;
            for _ in 1..runs {
                let again = testrun::run_tests(&kernels, &only, verbose, threads)?;
                testrun::add(&mut reports, again);
            }
            match format {
                Format::Text => print!("{}", testrun::text(&reports)),
                Format::Json => println!("{}", testrun::json(&reports)?),
            }
            Ok(reports.iter().all(testrun::Report::as_predicted))
        }
        Verb::Scenario {
            kernels: several,
            image,
            format,
            rounds,
            seed,
            stress,
            brief,
            verbose,
            scenarios,
        } => {
            let found = scenario::find(&scenarios)?;
            let effort = scenario::Effort {
                rounds: rounds.into(),
                seed,
                stress,
            };
            let mut kernels = Vec::new();
            for flavour in several.flavours() {
                let asked = Asked::new(&lab, flavour, image.as_deref())?;
                let machine = machine(&lab, &asked.built, asked.accel, flavour.debug);
                let Asked { target, design, .. } = &asked;
                kernels.push(scenario::report::Kernel {
                    rows: scenario::run(&machine, target, design, &found, effort, verbose)?,
                    title: asked.title,
                    version: asked.built.version.clone(),
                    accel: asked.accel.name(),
                });
            }
            match format {
                Format::Text => print!("{}", scenario::report::text(&kernels, brief)),
                Format::Json => println!("{}", scenario::report::json(&kernels)?),
            }
            let mut rows = kernels.iter().flat_map(|kernel| &kernel.rows);
            Ok(rows.all(scenario::Row::as_predicted))
        }
        Verb::Random {
            kernels: several,
            image,
            format,
            seeds,
            rounds,
            save,
            verbose,
        } => {
            let effort = scenario::random::Effort {
                seeds,
                rounds: rounds.into(),
            };
            let mut all = Vec::new();
            for flavour in several.flavours() {
                let asked = Asked::new(&lab, flavour, image.as_deref())?;
                let mut machine = machine(&lab, &asked.built, asked.accel, flavour.debug);
                // silence ends a VM that hangs; one that talks may go on
                machine.limits.total *= 10;
                let Asked { target, design, .. } = &asked;
                let keep = |outcome: &scenario::random::Outcome| match &save {
                    Some(directory) => outcome.save(&asked.title, directory),
                    None => Ok(()),
                };
                let outcome =
                    scenario::random::run(&machine, target, design, effort, verbose, &keep)?;
                if format == Format::Text {
                    print!("{}", scenario::random::text(&asked.title, &outcome));
                }
                all.push((asked.title, outcome));
            }
            if format == Format::Json {
                let kernels: Vec<_> = all
                    .iter()
                    .map(|(title, outcome)| scenario::random::json(title, outcome))
                    .collect();
                let all = serde_json::json!({ "schema": 1, "verb": "random", "kernels": kernels });
                println!("{all:#}");
            }
            Ok(all.iter().all(|(_, outcome)| outcome.as_predicted()))
        }
        Verb::Prove {
            series,
            kind,
            format,
            verbose,
        } => {
            let asked = Asked::new(&lab, kind.flavour(series), None)?;
            let machine = machine(&lab, &asked.built, asked.accel, kind.debug);
            let all = scenario::prove::run(&machine, &asked.target, &asked.design, verbose)?;
            let title = format!(
                "{} (Linux {}, {})",
                asked.title,
                asked.built.version,
                asked.accel.name()
            );
            match format {
                Format::Text => print!("{}", scenario::prove::text(&title, &all)),
                Format::Json => println!("{:#}", scenario::prove::json(&title, &all)),
            }
            Ok(all.iter().all(|one| one.right))
        }
        Verb::Replay {
            series,
            kind,
            image,
            format,
            runs,
            dry_run,
            brief,
            verbose,
            traces,
        } => {
            let (files, names): (Vec<String>, Vec<String>) =
                traces.into_iter().partition(|name| name.ends_with(".json"));
            let mut kernels: BTreeMap<Series, Vec<replay::Trace>> = BTreeMap::new();
            for file in &files {
                let trace = replay::Trace::read(file)?;
                let of = match series.as_slice() {
                    [] => vec![trace.series(kind.base)?],
                    series => series.to_vec(),
                };
                for series in of {
                    kernels.entry(series).or_default().push(trace.clone());
                }
            }
            if !names.is_empty() || files.is_empty() {
                let of = match series.as_slice() {
                    [] => vec![Series::Stock, Series::Rfc],
                    series => series.to_vec(),
                };
                let mut found = scenario::find(&names)?;
                if names.is_empty() {
                    found.retain(replay::has_plans);
                }
                for series in of {
                    let base = base_of(kind.base, image.as_deref())?;
                    let design = design_of(series, base)?;
                    let traces = kernels.entry(series).or_default();
                    for scenario in found.iter().filter(|found| found.runs_under(&design)) {
                        match replay::Trace::shortest(scenario, &design)? {
                            Ok(all) => traces.extend(all),
                            Err(why) => eprintln!("{}: {why}", scenario.head.name),
                        }
                    }
                }
            }
            let mut all = Vec::new();
            for (series, traces) in kernels {
                let asked = Asked::new(&lab, kind.flavour(series), image.as_deref())?;
                let machine = machine(&lab, &asked.built, asked.accel, kind.debug);
                let (mut outcomes, mut made) = (Vec::new(), replay::Made::new());
                for trace in &traces {
                    let outcome = match dry_run {
                        true => replay::plan(&asked.target, trace)?,
                        false => {
                            let (runs, made) = (runs.into(), &mut made);
                            replay::replay(&machine, &asked.target, trace, runs, made, verbose)?
                        }
                    };
                    eprintln!("{}: {}", trace.name, outcome.verdict.word());
                    outcomes.push(outcome);
                }
                if format == Format::Text {
                    print!("{}", replay::report::text(&asked.title, &outcomes, brief));
                }
                all.push((asked.title, outcomes));
            }
            if format == Format::Json {
                let kernels: Vec<_> = all
                    .iter()
                    .map(|(title, outcomes)| replay::report::json(title, outcomes))
                    .collect();
                let all = serde_json::json!({ "schema": 1, "verb": "replay", "kernels": kernels });
                println!("{all:#}");
            }
            let mut outcomes = all.iter().flat_map(|(_, outcomes)| outcomes);
            Ok(dry_run || outcomes.all(|outcome| outcome.verdict.is_as_predicted()))
        }
        Verb::Check { series, base } => {
            let every = [
                (Series::Rfc, Base::V6_12),
                (Series::LinkOwned, Base::V6_12),
                (Series::Fixes, Base::V6_12),
                (Series::Fixes, Base::V7_3),
            ];
            let chosen: Vec<_> = every
                .into_iter()
                .filter(|(of, on)| {
                    series.is_none_or(|series| series == *of) && base.is_none_or(|base| base == *on)
                })
                .collect();
            if chosen.is_empty() {
                return Err(Error::Other(
                    "no patches of this series for this base".into(),
                ));
            }
            let mut clean = true;
            for (series, base) in chosen {
                let findings = check::check(&lab, series, base)?;
                for finding in &findings {
                    println!("{base} {series}: {}: {}", finding.patch, finding.what);
                }
                println!("{base} {series}: {} findings", findings.len());
                clean &= findings.is_empty();
            }
            Ok(clean)
        }
    }
}

/// A kernel to boot, and how.
fn ready(lab: &Lab, flavour: Flavour, image: Option<&str>) -> Result<(Built, Accel)> {
    tools::require_boot()?;
    let built = match image {
        None => lab.build(flavour)?,
        Some(version) if flavour.patched.series == Series::Stock && !flavour.debug => {
            image::fetch(lab, version)?
        }
        Some(_) => {
            return Err(Error::Other(
                "--image is a kernel as Debian ships it: expected --series stock, and no --debug"
                    .into(),
            ));
        }
    };
    let accel = probe_accel(&lab.cache, &built)?;
    Ok((built, accel))
}

/// A kernel that a scenario is asked of.
struct Asked {
    title: String,
    built: Built,
    accel: Accel,
    target: scenario::program::Target,
    design: struct_ops_model::Design,
}

impl Asked {
    fn new(lab: &Lab, flavour: Flavour, image: Option<&str>) -> Result<Self> {
        let series = flavour.patched.series;
        let base = base_of(flavour.patched.base, image)?;
        let design = design_of(series, base)?;
        let (built, accel) = ready(lab, flavour, image)?;
        Ok(Asked {
            title: image.map_or_else(|| flavour.title(), |version| format!("image-{version}")),
            target: scenario::program::Target {
                base,
                cookie: series.has_cookie(),
                modules: built.modules,
            },
            built,
            accel,
            design,
        })
    }
}

/// The base of a kernel that is built, or ready-made.
fn base_of(built: Base, image: Option<&str>) -> Result<Base> {
    let Some(version) = image else {
        return Ok(built);
    };
    Base::of(version)
        .ok_or_else(|| Error::Input(format!("--image {version}: the model knows 6.12 and 7.3")))
}

fn design_of(series: Series, base: Base) -> Result<struct_ops_model::Design> {
    struct_ops_model::Design::parse(series.design(base)).map_err(|err| Error::Bug(err.to_string()))
}

fn machine<'a>(lab: &'a Lab, built: &'a Built, accel: Accel, debug: bool) -> Machine<'a> {
    Machine {
        cache: &lab.cache,
        built,
        accel,
        processors: vm::PROCESSORS,
        limits: Limits::new(debug),
    }
}
