//! What a trampoline calls: enter, the program, exit; and the kfuncs that a program calls.
//!
//! Stands for `__bpf_prog_enter()` and its siblings of kernel/bpf/trampoline.c, and for `bpf_get_attach_cookie()`. What
//! the trampoline calls has the C ABI and finds the task that runs through a thread-local, as the kernel does through
//! `current`; there it takes the model's steps of the place that was reached. struct_ops programs use the variants
//! without recursion counter, tracing programs those with.

// A program gets at its run context, and everybody at `current`, through raw pointers, as in the kernel.
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::sync::OnceLock;
use std::time::Instant;

use struct_ops_model::Pc;

use super::object::Prog;
use super::sync::atomic::{AtomicU64, Ordering::Relaxed};
use super::sync::{thread, thread_local};
use super::task::Task;
pub(crate) use crate::tramp::RunCtx;

/// `struct bpf_prog_stats`.
#[derive(Debug)]
pub struct Stats {
    runs: AtomicU64,
    nanoseconds: AtomicU64,
    misses: AtomicU64,
}

impl Stats {
    pub(crate) fn new() -> Self {
        Stats {
            runs: AtomicU64::new(0),
            nanoseconds: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// Runs, nanoseconds in them, and runs refused by the recursion counter.
    pub(crate) fn get(&self) -> (u64, u64, u64) {
        (
            self.runs.load(Relaxed),
            self.nanoseconds.load(Relaxed),
            self.misses.load(Relaxed),
        )
    }
}

thread_local! {
    /// `current`.
    static CURRENT: Cell<*mut Task<'static>> = const { Cell::new(std::ptr::null_mut()) };
    /// `current->bpf_ctx`.
    static BPF_CTX: Cell<*mut RunCtx> = const { Cell::new(std::ptr::null_mut()) };
    /// `prog->active` of this CPU: programs with a recursion counter that are running.
    static ACTIVE: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// Makes the task `current` on this thread while `act` runs, which enters trampolines.
pub(crate) fn as_current(task: &mut Task<'_>, act: impl FnOnce()) {
    let task: *mut Task<'_> = task;
    let outer = CURRENT.with(|c| c.replace(task.cast()));
    act();
    CURRENT.with(|c| c.set(outer));
}

/// Something with the task that runs on this thread, if there is one.
fn with_current<T>(act: impl FnOnce(&mut Task<'_>) -> T) -> Option<T> {
    let task = CURRENT.with(Cell::get);
    // SAFETY: `as_current` keeps the pointer non-null only while it has the task borrowed mutably and does not use that
    // borrow itself; what runs then is a trampoline and, one after the other, the functions here, none of which calls
    // another one inside of `act`. The lifetime is never kept.
    unsafe { task.as_mut() }.map(act)
}

/// `bpf_set_run_ctx()`.
fn set_run_ctx(to: *mut RunCtx) -> *mut RunCtx {
    BPF_CTX.with(|c| c.replace(to))
}

// ---- enter and exit -----------------------------------------------------------------------------------

/// `bpf_stats_enabled_key`.
static STATS_ENABLED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// Returned by enter when statistics are off.
const NO_START_TIME: u64 = 1;

/// `sysctl kernel.bpf_stats_enabled`, for all runtimes.
pub fn set_stats(on: bool) {
    STATS_ENABLED.store(on, Relaxed);
}

/// `sched_clock()`.
fn sched_clock() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

/// `bpf_prog_start_time()`.
fn start_time() -> u64 {
    if STATS_ENABLED.load(Relaxed) {
        sched_clock().max(NO_START_TIME + 1)
    } else {
        NO_START_TIME
    }
}

/// `update_prog_stats()`.
fn update_stats(prog: u64, start: u64) {
    if STATS_ENABLED.load(Relaxed) && start > NO_START_TIME {
        let stats = &prog_of(prog).stats;
        stats.runs.fetch_add(1, Relaxed);
        stats
            .nanoseconds
            .fetch_add(sched_clock().saturating_sub(start), Relaxed);
    }
}

fn prog_of(prog: u64) -> &'static Prog {
    // SAFETY: trampolines are generated with the address of a `Prog` that its runtime keeps until it ends, and a
    // task that could be running one keeps the runtime. The 'static is never kept.
    unsafe { &*(prog as *const Prog) }
}

/// What all enter functions do: `run_ctx->saved_run_ctx = bpf_set_run_ctx(&run_ctx->run_ctx)`.
fn enter(run_ctx: *mut RunCtx) -> u64 {
    let saved = set_run_ctx(run_ctx);
    // SAFETY: the trampoline passes its own run context, on its stack, and calls exit before that goes.
    let cookie = unsafe {
        (*run_ctx).saved_run_ctx = saved;
        (*run_ctx).bpf_cookie
    };
    with_current(|task| {
        task.note(|e| e.cookie = Some(cookie));
        task.end();
    });
    start_time()
}

/// What all exit functions do first.
fn exit(prog: u64, start: u64, run_ctx: *mut RunCtx) {
    // SAFETY: as for `enter`.
    set_run_ctx(unsafe { (*run_ctx).saved_run_ctx });
    update_stats(prog, start);
}

/// `__bpf_prog_enter()`: the read side that it enters is part of the step in which the trampoline is entered.
pub(crate) extern "C" fn __bpf_prog_enter(_prog: u64, run_ctx: *mut RunCtx) -> u64 {
    enter(run_ctx)
}

/// `__bpf_prog_exit()`.
pub(crate) extern "C" fn __bpf_prog_exit(prog: u64, start: u64, run_ctx: *mut RunCtx) {
    exit(prog, start, run_ctx);
    with_current(|task| steps(task, |pc| pc == Pc::CallExit));
}

/// `__bpf_prog_enter_sleepable()`.
pub(crate) extern "C" fn __bpf_prog_enter_sleepable(prog: u64, run_ctx: *mut RunCtx) -> u64 {
    __bpf_prog_enter(prog, run_ctx)
}

/// `__bpf_prog_exit_sleepable()`.
pub(crate) extern "C" fn __bpf_prog_exit_sleepable(prog: u64, start: u64, run_ctx: *mut RunCtx) {
    __bpf_prog_exit(prog, start, run_ctx);
}

/// `this_cpu_inc_return(*(prog->active)) != 1`: it is running on this CPU already.
fn recursion(prog: u64) -> bool {
    let running = ACTIVE.with(|a| {
        let mut active = a.borrow_mut();
        let running = active.contains(&prog);
        active.push(prog);
        running
    });
    if running {
        prog_of(prog).stats.misses.fetch_add(1, Relaxed);
    }
    running
}

fn recursion_done() {
    ACTIVE.with(|a| a.borrow_mut().pop());
}

/// `__bpf_prog_enter_recur()`: 0 skips the program.
pub(crate) extern "C" fn __bpf_prog_enter_recur(prog: u64, run_ctx: *mut RunCtx) -> u64 {
    let start = __bpf_prog_enter(prog, run_ctx);
    if recursion(prog) { 0 } else { start }
}

/// `__bpf_prog_exit_recur()`.
pub(crate) extern "C" fn __bpf_prog_exit_recur(prog: u64, start: u64, run_ctx: *mut RunCtx) {
    recursion_done();
    __bpf_prog_exit(prog, start, run_ctx);
}

/// `__bpf_prog_enter_sleepable_recur()`.
pub(crate) extern "C" fn __bpf_prog_enter_sleepable_recur(prog: u64, run_ctx: *mut RunCtx) -> u64 {
    let start = __bpf_prog_enter_sleepable(prog, run_ctx);
    if recursion(prog) { 0 } else { start }
}

/// `__bpf_prog_exit_sleepable_recur()`.
pub(crate) extern "C" fn __bpf_prog_exit_sleepable_recur(
    prog: u64,
    start: u64,
    run_ctx: *mut RunCtx,
) {
    recursion_done();
    __bpf_prog_exit_sleepable(prog, start, run_ctx);
}

/// Takes the task's next steps as long as they are these, unless its run is over.
fn steps(task: &mut Task<'_>, these: impl Fn(Pc) -> bool) {
    while !task.stopped && these(task.cpu.pc) {
        task.stopped = task.step().is_err();
        if task.cpu.pc == Pc::CallSleep {
            kfunc_sleep();
        }
    }
}

// ---- kfuncs and helpers -------------------------------------------------------------------------------

/// `bpf_get_attach_cookie()`: what `current->bpf_ctx` holds; nothing outside of a program.
pub(crate) fn run_ctx_cookie() -> Option<u64> {
    let run_ctx = BPF_CTX.with(Cell::get);
    // SAFETY: `enter` sets it to the run context on its trampoline's stack and `exit` sets it back before that goes.
    unsafe { run_ctx.as_ref() }.map(|run_ctx| run_ctx.bpf_cookie)
}

/// A kfunc that sleeps: a voluntary switch.
fn kfunc_sleep() {
    thread::yield_now();
}

// ---- programs -----------------------------------------------------------------------------------------

/// `prog->bpf_func`, of every program: its body is the model's.
pub(crate) extern "C" fn bpf_func(_ctx: *const u64, _insnsi: u64) -> u64 {
    with_current(|task| {
        steps(task, |pc| {
            let body = [Pc::CallBody, Pc::CallSleep, Pc::AssocGet, Pc::AssocUse];
            body.contains(&pc)
        })
    });
    0
}

/// A trampoline without machine code: the same calls in the same order.
pub(crate) fn plain(prog: &Prog, cookie: u64, arg: u64) -> u64 {
    let mut run_ctx = RunCtx {
        bpf_cookie: cookie,
        saved_run_ctx: std::ptr::null_mut(),
    };
    let address = std::ptr::from_ref(prog) as u64;
    let ctx = [arg];
    type Enter = extern "C" fn(u64, *mut RunCtx) -> u64;
    type Exit = extern "C" fn(u64, u64, *mut RunCtx);
    let (enter, exit): (Enter, Exit) = if prog.sleepable {
        (__bpf_prog_enter_sleepable, __bpf_prog_exit_sleepable)
    } else {
        (__bpf_prog_enter, __bpf_prog_exit)
    };
    let start = enter(address, &mut run_ctx);
    let result = if start != 0 {
        bpf_func(ctx.as_ptr(), 0)
    } else {
        0
    };
    exit(address, start, &mut run_ctx);
    result
}
