//! Subsystems that a scenario brings beside built-in ones: the text that `explain` prints put in the place of the built-in
//! one, in the same universe.
//!
//! A line of the text is a step where the built-in one has a step or a part of one, and it is told otherwise what calls
//! there are: the counts are near each other and not equal, so that what is compared is a transition. Verdicts are
//! compared by a test. A time is never asserted.

use std::time::{Duration, Instant};

use struct_ops_model::Design;
use struct_ops_model::world::{Plan, World};
use struct_ops_sim::engine::{Options, explore};
use struct_ops_sim::explore::{Explored, Reductions};
use struct_ops_sim::scenario::{Scenario, built_in_subsystem};

/// Explorations of each for the table; the fastest counts.
const REPEAT: usize = 5;

/// A subsystem, and a universe of it.
const UNIVERSES: [(&str, &str); 3] = [
    (
        "tcp_congestion_ops",
        include_str!("../sim/scenarios/universe-tcp-2cpu.toml"),
    ),
    (
        "bpf_testmod_ops",
        include_str!("../sim/scenarios/universe-always-2cpu.toml"),
    ),
    (
        "sched_ext_ops",
        include_str!("../sim/scenarios/universe-scx-2cpu.toml"),
    ),
];

/// Two operations on each CPU.
fn world(text: &str) -> World {
    let scenario = Scenario::parse("universe", "universe.toml", text).expect("a right file");
    let mut world = scenario.world;
    for cpu in &mut world.cpus {
        if let Plan::Free { budget, .. } = &mut cpu.plan {
            *budget = 2;
        }
    }
    world
}

/// The universe with the text in the place of the built-in subsystem.
fn brought(name: &str, universe: &str) -> String {
    let text = built_in_subsystem(name).expect("every built-in one is said");
    let own = universe.replace(&format!("\"{name}\""), &format!("\"my_{name}\""));
    let types = own.find("\n[[type]]").expect("it has a type");
    // What it breaks by itself is another matter.
    let end = own.find("\n[expect]").unwrap_or(own.len());
    format!("{}\n{text}{}", &own[..types], &own[types..end])
}

struct Run {
    states: u64,
    transitions: u64,
    elapsed: Duration,
}

impl Run {
    fn nanoseconds(&self) -> f64 {
        self.elapsed.as_nanos() as f64 / self.transitions as f64
    }
}

fn fastest(world: &World) -> Run {
    let run = |_| {
        let design = Design::mainline();
        let explored =
            Explored::new(world.clone(), design, Reductions::ALL).expect("the set-up works");
        let options = Options {
            threads: 1,
            ..Options::default()
        };
        let start = Instant::now();
        let o = explore(&explored, &options, &mut |_| ());
        Run {
            states: o.states,
            transitions: o.transitions,
            elapsed: start.elapsed(),
        }
    };
    let runs = (0..REPEAT).map(run);
    runs.min_by_key(|r| r.elapsed).expect("at least one")
}

fn main() {
    println!(
        "{:<20} {:<9} {:>9} {:>12} {:>8} {:>14} {:>10}",
        "subsystem", "", "states", "transitions", "seconds", "ns/transition", "x built-in"
    );
    for (name, universe) in UNIVERSES {
        let built_in = fastest(&world(universe));
        let brought = fastest(&world(&brought(name, universe)));
        for (what, run) in [("built-in", &built_in), ("brought", &brought)] {
            println!(
                "{name:<20} {what:<9} {:>9} {:>12} {:>8.2} {:>14.0} {:>10.2}",
                run.states,
                run.transitions,
                run.elapsed.as_secs_f64(),
                run.nanoseconds(),
                run.nanoseconds() / built_in.nanoseconds()
            );
        }
    }
}
