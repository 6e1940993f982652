//! What a trampoline calls: enter, the program, exit; and the kfuncs that a program calls.
//!
//! Stands for `__bpf_prog_enter()` and its siblings of kernel/bpf/trampoline.c, for `bpf_get_attach_cookie()`, and for
//! programs of each body. All have the C ABI and find the task that runs through a thread-local, as the kernel does
//! through `current`. struct_ops programs use the variants without recursion counter, tracing programs those with.

// A program gets at its run context, and everybody at `current`, through raw pointers, as in the kernel.
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::sync::OnceLock;
use std::time::Instant;

use struct_ops_model::design::Identity;
use struct_ops_model::world::Body;
use struct_ops_model::{Invariant, Pc};

use super::object::Prog;
use super::subsys::tcp_cong;
use super::sync::atomic::{AtomicU64, Ordering::Relaxed};
use super::sync::{thread, thread_local};
use super::task::{Step, Task};
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
    static CURRENT: Cell<*const Task> = const { Cell::new(std::ptr::null()) };
    /// `current->bpf_ctx`.
    static BPF_CTX: Cell<*mut RunCtx> = const { Cell::new(std::ptr::null_mut()) };
    /// `prog->active` of this CPU: programs with a recursion counter that are running.
    static ACTIVE: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// While it lives, the task is `current` on this thread.
#[derive(Debug)]
pub(crate) struct Current<'a>(std::marker::PhantomData<&'a Task>);

impl<'a> Current<'a> {
    pub(crate) fn new(task: &'a Task) -> Self {
        CURRENT.with(|c| c.set(task));
        Current(std::marker::PhantomData)
    }
}

impl Drop for Current<'_> {
    fn drop(&mut self) {
        CURRENT.with(|c| c.set(std::ptr::null()));
    }
}

/// The task that runs on this thread.
fn current() -> Option<&'static Task> {
    let task = CURRENT.with(Cell::get);
    // SAFETY: `Current` keeps the pointer non-null only while it borrows the task, and the functions here, the only
    // users, run inside that borrow: they are called by trampolines that `call::member` jumps into. The 'static is
    // never kept.
    unsafe { task.as_ref() }
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
    if let Some(task) = current() {
        // The caller's, which protected the jump.
        task.reader.rcu_read_unlock();
        task.note(|e| e.cookie = Some(cookie));
        task.end();
    }
    start_time()
}

/// What all exit functions do first.
fn exit(prog: u64, start: u64, run_ctx: *mut RunCtx) {
    // SAFETY: as for `enter`.
    set_run_ctx(unsafe { (*run_ctx).saved_run_ctx });
    update_stats(prog, start);
}

/// `__bpf_prog_enter()`.
pub(crate) extern "C" fn __bpf_prog_enter(_prog: u64, run_ctx: *mut RunCtx) -> u64 {
    if let Some(task) = current() {
        task.reader.rcu_read_lock();
    }
    enter(run_ctx)
}

/// `__bpf_prog_exit()`.
pub(crate) extern "C" fn __bpf_prog_exit(prog: u64, start: u64, run_ctx: *mut RunCtx) {
    exit(prog, start, run_ctx);
    if let Some(task) = current() {
        left(task, |task| task.reader.rcu_read_unlock());
    }
}

/// `__bpf_prog_enter_sleepable()`.
pub(crate) extern "C" fn __bpf_prog_enter_sleepable(_prog: u64, run_ctx: *mut RunCtx) -> u64 {
    if let Some(task) = current() {
        task.reader.rcu_read_lock_trace();
    }
    enter(run_ctx)
}

/// `__bpf_prog_exit_sleepable()`.
pub(crate) extern "C" fn __bpf_prog_exit_sleepable(prog: u64, start: u64, run_ctx: *mut RunCtx) {
    exit(prog, start, run_ctx);
    if let Some(task) = current() {
        left(task, |task| task.reader.rcu_read_unlock_trace());
    }
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

/// The step in which the read side ends: the page that exit returns to must be there.
fn left(task: &Task, unlock: impl FnOnce(&Task)) {
    if task.stopped.get() || task.begin(Pc::CallExit).is_err() {
        task.stopped.set(true);
        return unlock(task);
    }
    if super::call::code_is_there(task).is_err() {
        task.stopped.set(true);
        return unlock(task);
    }
    unlock(task);
    task.end();
}

// ---- kfuncs and helpers -------------------------------------------------------------------------------

/// `bpf_get_attach_cookie()`: what `current->bpf_ctx` holds.
extern "C" fn bpf_get_attach_cookie(_ctx: *const u64) -> u64 {
    let run_ctx = BPF_CTX.with(Cell::get);
    // SAFETY: only programs call this, and while one runs bpf_ctx is the run context on its trampoline's stack.
    unsafe { (*run_ctx).bpf_cookie }
}

/// A kfunc that sleeps: a voluntary switch.
extern "C" fn kfunc_sleep() {
    thread::yield_now();
}

/// `bpf_setsockopt(TCP_CONGESTION)`: the socket in whose algorithm the program runs takes another one.
fn bpf_setsockopt(task: &Task) -> Step {
    match task.call.get().sock {
        Some(sock) => tcp_cong::release(task, sock),
        None => Ok(()),
    }
}

// ---- programs -----------------------------------------------------------------------------------------

/// The address of a program's code: `prog->bpf_func`.
pub(crate) fn bpf_func(body: Body) -> extern "C" fn(*const u64, u64) -> u64 {
    match body {
        Body::ReadCookie => prog_read_cookie,
        Body::Sleep => prog_sleep,
        Body::Switch => prog_switch,
        Body::Fail => prog_fail,
    }
}

extern "C" fn prog_read_cookie(ctx: *const u64, _insnsi: u64) -> u64 {
    run(|task| {
        body_begins(task, ctx)?;
        task.end();
        Ok(0)
    })
}

extern "C" fn prog_fail(ctx: *const u64, _insnsi: u64) -> u64 {
    run(|task| {
        body_begins(task, ctx)?;
        task.end();
        Ok(u64::MAX)
    })
}

extern "C" fn prog_switch(ctx: *const u64, _insnsi: u64) -> u64 {
    run(|task| {
        body_begins(task, ctx)?;
        bpf_setsockopt(task)?;
        task.end();
        Ok(0)
    })
}

extern "C" fn prog_sleep(ctx: *const u64, _insnsi: u64) -> u64 {
    run(|task| {
        body_begins(task, ctx)?;
        task.reader.tasks_quiescent();
        task.end();
        kfunc_sleep();
        let begun = task.begin(Pc::CallSleep);
        task.reader.tasks_enter();
        begun?;
        super::call::prog_is_there(task)?;
        read_cookie(task, ctx);
        task.end();
        Ok(0)
    })
}

/// Runs a program's body unless the run is over.
fn run(body: impl FnOnce(&Task) -> Step<u64>) -> u64 {
    match current() {
        Some(task) if !task.stopped.get() => body(task).unwrap_or_else(|_| {
            task.forget();
            task.stopped.set(true);
            0
        }),
        _ => 0,
    }
}

/// The step in which the program reads its cookie, left open.
fn body_begins(task: &Task, ctx: *const u64) -> Step {
    task.begin(Pc::CallBody)?;
    super::call::code_is_there(task)?;
    super::call::prog_is_there(task)?;
    read_cookie(task, ctx);
    Ok(())
}

fn read_cookie(task: &Task, ctx: *const u64) {
    if task.rt.design.identity != Identity::Cookie {
        return;
    }
    let cookie = bpf_get_attach_cookie(ctx);
    let expect = task.call.get().expect;
    task.note(|e| e.cookie = Some(cookie));
    if cookie != expect {
        let text =
            format!("reads cookie {cookie:#x}; called through the attachment with {expect:#x}");
        let history = super::call::history(task);
        task.finding(Invariant::CookieFidelity, text, history);
    }
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
        bpf_func(prog.body)(ctx.as_ptr(), 0)
    } else {
        0
    };
    exit(address, start, &mut run_ctx);
    result
}
