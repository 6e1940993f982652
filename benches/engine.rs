//! The exhaustive engine beside stateright's breadth-first search: the same machine, the same scenario, one run.
//!
//! Both walk the same states with the same steps, so what differs is the engine. Not here: verdicts and
//! counts, which tests compare. Ends with a table; a time is never asserted.

#[path = "../sim/tests/common/theirs.rs"]
mod theirs;

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, SamplingMode};
use stateright::{Checker, Model};
use struct_ops_model::world::{Plan, World};
use struct_ops_model::{Design, Machine};
use struct_ops_sim::engine::{Options, explore};
use struct_ops_sim::explore::{Explored, Reductions};
use struct_ops_sim::scenario::Scenario;
use theirs::Theirs;

const NAME: &str = "universe-tcp-2cpu, 2 operations each, mainline";
/// Explorations of each arm for the table; the fastest counts.
const REPEAT: usize = 7;

fn world() -> World {
    let text = include_str!("../sim/scenarios/universe-tcp-2cpu.toml");
    let mut world = Scenario::parse("universe-tcp-2cpu", "universe-tcp-2cpu.toml", text)
        .expect("shipped")
        .world;
    for cpu in &mut world.cpus {
        if let Plan::Free { budget, .. } = &mut cpu.plan {
            *budget = 2;
        }
    }
    world
}

/// One way to explore.
#[derive(Clone, Copy)]
struct Arm {
    engine: &'static str,
    reductions: Option<Reductions>,
    threads: usize,
}

#[rustfmt::skip]
const ARMS: [Arm; 6] = [
    Arm { engine: "stateright bfs", reductions: None, threads: 1 },
    Arm { engine: "stateright bfs", reductions: None, threads: 2 },
    Arm { engine: "exhaustive", reductions: Some(Reductions::NONE), threads: 1 },
    Arm { engine: "exhaustive", reductions: Some(Reductions::NONE), threads: 2 },
    Arm { engine: "exhaustive", reductions: Some(Reductions::ALL), threads: 1 },
    Arm { engine: "exhaustive", reductions: Some(Reductions::ALL), threads: 2 },
];

impl Arm {
    fn reductions(&self) -> &'static str {
        match self.reductions {
            Some(r) if r == Reductions::ALL => "all",
            _ => "none",
        }
    }
}

#[derive(Clone, Copy)]
struct Run {
    states: u64,
    transitions: u64,
    /// stateright does not say.
    bytes_per_state: Option<f64>,
    elapsed: Duration,
}

fn run(world: &World, arm: Arm) -> Run {
    let design = Design::mainline();
    match arm.reductions {
        None => {
            let machine = Machine::new(world.clone(), design).expect("the set-up works");
            let start = Instant::now();
            let o = Theirs(machine)
                .checker()
                .threads(arm.threads)
                .spawn_bfs()
                .join();
            Run {
                states: o.unique_state_count() as u64,
                transitions: o.state_count() as u64 - 1,
                bytes_per_state: None,
                elapsed: start.elapsed(),
            }
        }
        Some(reductions) => {
            let explored =
                Explored::new(world.clone(), design, reductions).expect("the set-up works");
            let options = Options {
                threads: arm.threads,
                ..Options::default()
            };
            let start = Instant::now();
            let o = explore(&explored, &options, &mut |_| ());
            Run {
                states: o.states,
                transitions: o.transitions,
                bytes_per_state: Some(o.bytes_per_state),
                elapsed: start.elapsed(),
            }
        }
    }
}

fn table(world: &World) {
    let fastest = |arm| {
        (0..REPEAT)
            .map(|_| run(world, arm))
            .min_by_key(|r| r.elapsed)
            .expect("at least one")
    };
    let runs = ARMS.map(fastest);
    println!("\n{NAME}; the fastest of {REPEAT}");
    println!(
        "{:<15} {:>7} {:>10} {:>11} {:>11} {:>8} {:>13} {:>11} {:>20}",
        "engine",
        "threads",
        "reductions",
        "states",
        "transitions",
        "seconds",
        "transitions/s",
        "bytes/state",
        "x stateright (time)"
    );
    for (arm, r) in ARMS.iter().zip(&runs) {
        let seconds = r.elapsed.as_secs_f64();
        let beside = ARMS
            .iter()
            .position(|a| a.reductions.is_none() && a.threads == arm.threads);
        let beside = runs[beside.expect("stateright runs with as many threads")]
            .elapsed
            .as_secs_f64();
        println!(
            "{:<15} {:>7} {:>10} {:>11} {:>11} {:>8.2} {:>13.0} {:>11} {:>20.2}",
            arm.engine,
            arm.threads,
            arm.reductions(),
            r.states,
            r.transitions,
            seconds,
            r.transitions as f64 / seconds,
            r.bytes_per_state.map_or("-".into(), |b| format!("{b:.1}")),
            beside / seconds,
        );
    }
}

fn main() {
    let world = world();
    let mut criterion = Criterion::default().configure_from_args();
    // `cargo test` and `--test` run every arm once and measure nothing.
    let measures =
        std::env::args().any(|a| a == "--bench") && !std::env::args().any(|a| a == "--test");
    let mut group = criterion.benchmark_group("engine");
    group
        .sample_size(10)
        .sampling_mode(SamplingMode::Flat)
        .warm_up_time(Duration::from_millis(1));
    for arm in ARMS {
        let name = format!("{}, {} reductions", arm.engine, arm.reductions());
        group.bench_with_input(BenchmarkId::new(name, arm.threads), &arm, |b, arm| {
            b.iter(|| run(&world, *arm))
        });
    }
    group.finish();
    criterion.final_summary();
    if measures {
        table(&world);
    }
}
