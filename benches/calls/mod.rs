//! The benchmark itself, for machines on which trampolines run.

mod round_robin;
mod targets;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion};
use struct_ops_sim::tramp::image::{Image, PAGE_SIZE, Pages};
use struct_ops_sim::tramp::{Flags, FuncModel, Jit, TrampLink, Trampoline};

use targets::{STATS, targets};

/// No cookie, and one of each size that x86 tells apart.
const COOKIES: [(&str, u64); 3] = [("none", 0), ("32 bits", 0x11), ("64 bits", COOKIE)];
const COOKIE: u64 = 0x1122_3344_5566_7788;

/// Calls per sample of the table.
const CALLS: u64 = 20_000;
/// Pairs of samples of a row of the table.
const SAMPLES: usize = 101;

/// A function pointer as the kernel's struct has it.
type Member = extern "C" fn(u64) -> u64;

/// A trampoline in an image of its own.
struct Made {
    pages: Pages,
    at: u64,
}

impl Made {
    fn new(model: &FuncModel, link: TrampLink, flags: Flags) -> Self {
        let targets = targets::targets();
        let links = [link];
        let trampoline = Trampoline {
            jit: Jit::V7_3,
            model,
            flags,
            links: &links,
            targets: &targets,
            func: Default::default(),
        };
        let mut pages = Pages::default();
        let code = pages
            .prepare_trampoline(&trampoline, || Image::alloc(PAGE_SIZE, targets.enter))
            .expect("an image near this program");
        pages.protect().expect("mprotect");
        Made {
            at: code.at(),
            pages,
        }
    }

    fn struct_ops(args: usize, link: TrampLink) -> Self {
        let model = FuncModel::new(&vec![8; args], 8).expect("at most six");
        Self::new(&model, link, Flags::struct_ops(&model))
    }

    /// The member's address, typed.
    fn member(&self) -> Member {
        assert!(self.pages.images().iter().all(Image::is_executable));
        // SAFETY: the image is executable, holds a trampoline for a function of at most one u64 that returns a u64,
        // and outlives every use: each `Made` lives until its benchmark is over.
        unsafe { std::mem::transmute(self.at as usize) }
    }
}

fn link(cookie: u64) -> TrampLink {
    TrampLink {
        prog: 1,
        bpf_func: targets::program as *const () as u64,
        cookie,
        ..TrampLink::default()
    }
}

/// Something that is called so many times.
struct Arm {
    name: String,
    run: Box<dyn Fn(u64)>,
}

impl Arm {
    fn new(name: impl Into<String>, run: impl Fn(u64) + 'static) -> Self {
        Arm {
            name: name.into(),
            run: Box::new(run),
        }
    }

    fn time(&self, calls: u64) -> Duration {
        let start = Instant::now();
        (self.run)(calls);
        start.elapsed()
    }
}

fn calls(member: Member) -> impl Fn(u64) {
    move |n| {
        let member = black_box(member);
        for i in 0..n {
            black_box(member(black_box(i)));
        }
    }
}

/// A trampoline, kept as long as the arm.
fn made(name: impl Into<String>, made: Made) -> Arm {
    let run = calls(made.member());
    Arm::new(name, move |n| {
        // the image belongs to the arm
        let _image = &made;
        run(n);
    })
}

/// With so many arguments.
fn with_args(args: usize) -> Arm {
    let made = Made::struct_ops(args, link(COOKIE));
    let at = made.at as usize;
    macro_rules! arity {
        ($($arg:ident)*) => {{
            // SAFETY: as in `Made::member`, with as many arguments as the trampoline's model has.
            let f: extern "C" fn($(arity!(@ $arg)),*) -> u64 = unsafe { std::mem::transmute(at) };
            Arm::new(format!("trampoline, {args} arguments"), move |n| {
                let _image = &made;
                let f = black_box(f);
                for i in 0..n {
                    let _ = i;
                    $(let $arg = black_box(i);)*
                    black_box(f($($arg),*));
                }
            })
        }};
        (@ $arg:ident) => { u64 };
    }
    match args {
        0 => arity!(),
        1 => arity!(a),
        2 => arity!(a b),
        3 => arity!(a b c),
        4 => arity!(a b c d),
        5 => arity!(a b c d e),
        _ => arity!(a b c d e f),
    }
}

/// A comparison: the second of each pair is what the first is measured against.
struct Row {
    arm: Arm,
    against: Arm,
}

fn rows() -> Vec<Row> {
    let direct = || {
        Arm::new("direct call", |n| {
            for i in 0..n {
                black_box(targets::direct(black_box(i)));
            }
        })
    };
    let indirect = || Arm::new("indirect call", calls(targets::direct));
    let trampoline = |name: &str, cookie| {
        made(
            format!("trampoline, cookie: {name}"),
            Made::struct_ops(1, link(cookie)),
        )
    };
    let mut rows = vec![
        Row {
            arm: indirect(),
            against: direct(),
        },
        Row {
            arm: trampoline("none", 0),
            against: indirect(),
        },
        Row {
            arm: trampoline("64 bits", COOKIE),
            against: Arm::new("the same by hand", calls(targets::by_hand)),
        },
    ];
    for (name, cookie) in COOKIES.into_iter().skip(1) {
        rows.push(Row {
            arm: trampoline(name, cookie),
            against: trampoline("none", 0),
        });
    }
    for args in 1..=6 {
        rows.push(Row {
            arm: with_args(args),
            against: with_args(0),
        });
    }
    let sleepable = TrampLink {
        sleepable: true,
        ..link(COOKIE)
    };
    rows.push(Row {
        arm: made("trampoline, sleepable", Made::struct_ops(1, sleepable)),
        against: trampoline("64 bits", COOKIE),
    });
    let recur = TrampLink {
        recur: true,
        ..link(COOKIE)
    };
    rows.push(Row {
        arm: made("trampoline, recursion counted", Made::struct_ops(1, recur)),
        against: trampoline("64 bits", COOKIE),
    });
    let counted = calls(Box::leak(Box::new(Made::struct_ops(1, link(COOKIE)))).member());
    rows.push(Row {
        arm: Arm::new("trampoline, statistics on", move |n| {
            STATS.store(true, std::sync::atomic::Ordering::Relaxed);
            counted(n);
            STATS.store(false, std::sync::atomic::Ordering::Relaxed);
        }),
        against: trampoline("64 bits", COOKIE),
    });
    rows.push(Row {
        arm: nested(),
        against: trampoline("64 bits", COOKIE),
    });
    rows
}

/// fentry on a struct_ops program: the program's entry calls a second trampoline.
fn nested() -> Arm {
    let model = FuncModel::new(&[8], 8).expect("one argument");
    let fentry = TrampLink {
        recur: true,
        bpf_func: targets::tracer as *const () as u64,
        ..link(0x22)
    };
    let fentry = Made::new(&model, fentry, Flags::RESTORE_REGS);
    let mut entry = Image::alloc(PAGE_SIZE, targets().enter).expect("an image");
    let mut asm = iced_x86::code_asm::CodeAssembler::new(64).expect("64 bits");
    asm.call(fentry.at).expect("in reach");
    asm.jmp(targets::program as *const () as u64)
        .expect("in reach");
    entry
        .write(0, &asm.assemble(entry.addr()).expect("in reach"))
        .expect("writable");
    entry.protect().expect("mprotect");
    let outer = Made::struct_ops(
        1,
        TrampLink {
            bpf_func: entry.addr(),
            ..link(COOKIE)
        },
    );
    let run = calls(outer.member());
    Arm::new("trampoline, fentry on its program", move |n| {
        let _images = (&fentry, &entry, &outer);
        run(n);
    })
}

/// Pairs of samples, one after the other, so that what else the machine does hits both.
fn ratios(row: &Row) -> (f64, Vec<f64>) {
    (row.arm.run)(CALLS);
    (row.against.run)(CALLS);
    let mut nanos = Vec::with_capacity(SAMPLES);
    let mut ratios = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        let (arm, against) = (row.arm.time(CALLS), row.against.time(CALLS));
        nanos.push(arm.as_secs_f64() * 1e9 / CALLS as f64);
        ratios.push(arm.as_secs_f64() / against.as_secs_f64());
    }
    nanos.sort_by(f64::total_cmp);
    ratios.sort_by(f64::total_cmp);
    (nanos[SAMPLES / 2], ratios)
}

fn table(rows: &[Row]) {
    println!("\nRatios: median of {SAMPLES} pairs of {CALLS} calls, with its 95% interval");
    println!(
        "{:<36} {:>7}  {:<32} {:>6}  interval",
        "what", "ns", "against", "ratio"
    );
    // ranks of a median's confidence interval: n/2 -+ 0.98 * sqrt(n)
    let half = (0.98 * (SAMPLES as f64).sqrt()).ceil() as usize;
    for row in rows {
        let (nanos, ratios) = ratios(row);
        println!(
            "{:<36} {nanos:>7.1}  {:<32} {:>6.3}  {:.3} .. {:.3}",
            row.arm.name,
            row.against.name,
            ratios[SAMPLES / 2],
            ratios[SAMPLES / 2 - half],
            ratios[SAMPLES / 2 + half],
        );
    }
}

pub(crate) fn main() {
    let mut rows = rows();
    rows.extend(round_robin::rows());

    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600))
        .configure_from_args();
    let mut group = criterion.benchmark_group("call");
    let mut seen = std::collections::HashSet::new();
    for arm in rows.iter().flat_map(|row| [&row.arm, &row.against]) {
        if seen.insert(arm.name.clone()) {
            group.bench_function(BenchmarkId::from_parameter(&arm.name), |b| {
                b.iter_custom(|n| arm.time(n));
            });
        }
    }
    group.finish();
    criterion.final_summary();
    // `cargo test --benches` runs each once and wants no table
    if !std::env::args().any(|arg| arg == "--test" || arg == "--list") {
        table(&rows);
    }
}
