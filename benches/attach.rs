//! What attaching costs in the runtime: map_update, link_create, detach and release, under each design.
//!
//! Real trampolines are generated, written and protected; grace periods are waited for where the design waits. Every
//! row is a ratio to the row of mainline beside it. Not here: what a call costs, and the cost in a kernel, where
//! the page tables of all processors are flushed. Ends with a table; a time is never asserted.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion};
use struct_ops_model::world::{
    Body, MapDecl, Member, Operation, ProgDecl, ProgType, StructOpsType, Subsystem,
};
use struct_ops_model::{Design, World};
use struct_ops_sim::live::Task;
use struct_ops_sim::live::event::Actor;
use struct_ops_sim::live::runtime::{Machine, Settings};

/// Members of a type.
const MEMBERS: [usize; 4] = [3, 12, 34, 64];
/// Links on one map.
const LINKS: [usize; 4] = [1, 10, 100, 1000];
/// Operations per sample of the table.
const BATCH: usize = 40;
/// Samples of each row of the table.
const SAMPLES: usize = 15;

/// A type with so many members, as many maps as there are threads, programs shared by the maps.
fn world(members: usize, maps: usize) -> World {
    World {
        types: vec![StructOpsType {
            name: "ops".into(),
            subsystem: Subsystem::Always,
            members: (0..members)
                .map(|i| Member {
                    name: format!("member_{i}"),
                    sleepable: false,
                    required: false,
                    size: 171,
                })
                .collect(),
            module: false,
        }],
        progs: (0..members)
            .map(|i| ProgDecl {
                name: format!("prog_{i}"),
                of: ProgType::StructOps { ty: 0, member: i },
                body: Body::ReadCookie,
                process: None,
            })
            .collect(),
        maps: (0..maps)
            .map(|i| MapDecl {
                name: format!("m{i}"),
                ty: 0,
                link: true,
                key: i as u8,
                progs: (0..members).map(|i| Some(i as u8)).collect(),
                owner_set: false,
            })
            .collect(),
        cookies: vec![0, 0x1234_5678_9abc_def0],
        procs: 1,
        ..World::default()
    }
}

fn boot(members: usize, maps: usize, design: &Design) -> Machine {
    let settings = Settings {
        jit: true,
        jitter: false,
        alloc_failures: 0,
    };
    Machine::boot(world(members, maps), design.clone(), settings, 0)
}

fn task(machine: &Machine) -> Task<'_> {
    Task::new(machine.runtime(), Actor::Cpu(0), 0, 0)
}

fn create(map: u8) -> Operation {
    Operation::MapCreate { map }
}

fn update(map: u8) -> Operation {
    Operation::MapUpdate { map }
}

fn attach(map: u8) -> Operation {
    Operation::LinkCreate {
        target: None,
        position: None,
        revision: None,
        map,
        cookie: 1,
        link: map,
    }
}

fn do_it(task: &mut Task<'_>, operation: Operation) {
    assert_eq!(
        task.carry_out(black_box(operation)),
        Some(0),
        "{operation:?}"
    );
}

/// Times one operation in the middle of a life: create, update, attach, detach, close, gone.
#[derive(Clone, Copy, PartialEq)]
enum What {
    MapUpdate,
    LinkCreate,
    /// Both: what it takes from an empty map to an attached one.
    Attach,
    Detach,
    /// From the last close until everything is freed, grace periods and all.
    Release,
}

impl What {
    const ALL: [What; 5] = [
        What::MapUpdate,
        What::LinkCreate,
        What::Attach,
        What::Detach,
        What::Release,
    ];

    fn name(self) -> &'static str {
        match self {
            What::MapUpdate => "map_update",
            What::LinkCreate => "link_create",
            What::Attach => "both",
            What::Detach => "link_detach",
            What::Release => "release",
        }
    }
}

/// The time that `count` operations of this kind take.
fn lives(what: What, members: usize, design: &Design, count: u64) -> Duration {
    let machine = boot(members, 1, design);
    let mut task = task(&machine);
    let mut time = Duration::ZERO;
    for _ in 0..count {
        let mut timed = |this: What, act: &mut dyn FnMut()| {
            let start = Instant::now();
            act();
            let part = what == What::Attach && matches!(this, What::MapUpdate | What::LinkCreate);
            if this == what || part {
                time += start.elapsed();
            }
        };
        do_it(&mut task, create(0));
        timed(What::MapUpdate, &mut || do_it(&mut task, update(0)));
        timed(What::LinkCreate, &mut || do_it(&mut task, attach(0)));
        timed(What::Detach, &mut || {
            do_it(&mut task, Operation::LinkDetach { link: 0 });
        });
        timed(What::Release, &mut || {
            do_it(&mut task, Operation::LinkClose { link: 0 });
            do_it(&mut task, Operation::MapClose { map: 0 });
            machine.runtime().quiesce();
        });
        // Nobody holds a pointer: the memory goes back, as in a kernel without KASAN.
        machine.runtime().empty_quarantine();
    }
    time
}

/// The time of one more link_create, and its detach, where so many links are attached to one map.
fn one_more(links: usize, design: &Design, count: u64) -> Duration {
    let machine = boot(12, 1, design);
    let mut task = task(&machine);
    do_it(&mut task, create(0));
    do_it(&mut task, update(0));
    for _ in 1..links {
        do_it(
            &mut task,
            Operation::LinkCreate {
                target: None,
                position: None,
                revision: None,
                map: 0,
                cookie: 1,
                link: 1,
            },
        );
    }
    let mut time = Duration::ZERO;
    for _ in 0..count {
        let start = Instant::now();
        do_it(&mut task, attach(0));
        time += start.elapsed();
        do_it(&mut task, Operation::LinkClose { link: 0 });
        machine.runtime().quiesce();
        machine.runtime().empty_quarantine();
    }
    time
}

/// The time that so many threads take for `count` lives each: create, update, attach, close, every thread with a map
/// of its own.
fn at_once(threads: usize, design: &Design, count: u64) -> Duration {
    let mut time = Duration::ZERO;
    let mut left = count;
    while left > 0 {
        // What is freed stays in quarantine until the machine goes: not too much of it.
        let part = left.min(500);
        time += lives_at_once(threads, design, part);
        left -= part;
    }
    time
}

fn lives_at_once(threads: usize, design: &Design, count: u64) -> Duration {
    let machine = boot(12, threads, design);
    let barrier = Barrier::new(threads);
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads as u8)
            .map(|map| {
                let (machine, barrier) = (&machine, &barrier);
                scope.spawn(move || {
                    let mut task = task(machine);
                    barrier.wait();
                    let start = Instant::now();
                    for _ in 0..count {
                        do_it(&mut task, create(map));
                        do_it(&mut task, update(map));
                        do_it(&mut task, attach(map));
                        do_it(&mut task, Operation::LinkClose { link: map });
                        do_it(&mut task, Operation::MapClose { map });
                    }
                    start.elapsed()
                })
            })
            .collect();
        let times = running.into_iter().map(|r| r.join().expect("no panic"));
        times.max().expect("at least one thread")
    })
}

/// Designs that allow several links on one map.
fn many_links() -> [Design; 2] {
    [Design::mainline(), Design::link_owned()]
}

/// Median, and the quartiles around it, in nanoseconds per operation.
fn measure(one: &dyn Fn() -> Duration, operations: usize) -> [f64; 3] {
    one();
    let mut samples: Vec<f64> = (0..SAMPLES)
        .map(|_| one().as_nanos() as f64 / operations as f64)
        .collect();
    samples.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| samples[SAMPLES * quarter / 4])
}

fn row(what: &str, size: &str, design: &Design, [low, median, high]: [f64; 3], beside: f64) {
    println!(
        "{what:<13} {size:<16} {:<11} {:>9.1} {:>21} {:>8.2}",
        design.name,
        median / 1000.0,
        format!("{:.1} .. {:.1}", low / 1000.0, high / 1000.0),
        median / beside,
    );
}

fn table() {
    println!(
        "\n{:<13} {:<16} {:<11} {:>9} {:>21} {:>8}",
        "what", "with", "design", "us each", "quartiles", "ratio"
    );
    let designs = [Design::mainline(), Design::rfc(), Design::link_owned()];
    for what in What::ALL {
        for members in MEMBERS {
            let mut beside = None;
            for design in &designs {
                let m = measure(&|| lives(what, members, design, BATCH as u64), BATCH);
                let beside = *beside.get_or_insert(m[1]);
                row(
                    what.name(),
                    &format!("{members} members"),
                    design,
                    m,
                    beside,
                );
            }
        }
    }
    for links in LINKS {
        let mut beside = None;
        for design in &many_links() {
            let m = measure(&|| one_more(links, design, BATCH as u64), BATCH);
            let beside = *beside.get_or_insert(m[1]);
            row("link_create", &format!("{links} links"), design, m, beside);
        }
    }
    for design in &designs {
        let mut alone = None;
        for threads in [1, 2] {
            let m = measure(&|| at_once(threads, design, BATCH as u64), BATCH);
            let alone = *alone.get_or_insert(m[1]);
            row(
                "whole life",
                &format!("{threads} threads"),
                design,
                m,
                alone,
            );
        }
    }
    println!("ratio: to mainline with the same size; whole life: to one thread alone");
}

fn main() {
    if !cfg!(all(target_arch = "x86_64", unix)) {
        println!("skipped: trampolines are not available on this processor");
        return;
    }
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    let measures =
        std::env::args().any(|a| a == "--bench") && !std::env::args().any(|a| a == "--test");
    let designs = [Design::mainline(), Design::rfc(), Design::link_owned()];
    for what in What::ALL {
        let mut group = criterion.benchmark_group(what.name());
        for members in MEMBERS {
            for design in &designs {
                let id = BenchmarkId::new(design.name.clone(), members);
                group.bench_function(id, |b| {
                    b.iter_custom(|n| lives(what, members, design, n));
                });
            }
        }
        group.finish();
    }
    let mut group = criterion.benchmark_group("link_create with links attached");
    for links in LINKS {
        for design in &many_links() {
            let id = BenchmarkId::new(design.name.clone(), links);
            group.bench_function(id, |b| b.iter_custom(|n| one_more(links, design, n)));
        }
    }
    group.finish();
    let mut group = criterion.benchmark_group("threads attaching at once");
    for threads in [1, 2] {
        for design in &designs {
            let id = BenchmarkId::new(design.name.clone(), threads);
            group.bench_function(id, |b| b.iter_custom(|n| at_once(threads, design, n)));
        }
    }
    group.finish();
    criterion.final_summary();
    if measures {
        table();
    }
}
