//! What the trampolines call, and the same work written by hand.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use struct_ops_sim::tramp::{RunCtx, Targets};

/// `bpf_stats_enabled_key`.
pub static STATS: AtomicBool = AtomicBool::new(false);
static RUNS: AtomicU64 = AtomicU64::new(0);
static NANOS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// `current->bpf_ctx`.
    static BPF_CTX: Cell<*mut RunCtx> = const { Cell::new(std::ptr::null_mut()) };
    /// `rcu_read_lock()` and `migrate_disable()` nest.
    static NESTING: Cell<u32> = const { Cell::new(0) };
    /// `prog->active`.
    static ACTIVE: Cell<u32> = const { Cell::new(0) };
}

fn set_run_ctx(run_ctx: *mut RunCtx) {
    // SAFETY: the trampoline passes its own run_ctx, which lives until it returns.
    unsafe { (*run_ctx).saved_run_ctx = BPF_CTX.replace(run_ctx) };
}

fn reset_run_ctx(run_ctx: *mut RunCtx) {
    // SAFETY: as above; enter has written it.
    BPF_CTX.set(unsafe { (*run_ctx).saved_run_ctx });
}

fn start_time() -> u64 {
    if STATS.load(Relaxed) {
        // SAFETY: every x86-64 processor has rdtsc.
        unsafe { std::arch::x86_64::_rdtsc() }
    } else {
        1
    }
}

fn update_prog_stats(start: u64) {
    if STATS.load(Relaxed) && start > 1 {
        // SAFETY: as above.
        let now = unsafe { std::arch::x86_64::_rdtsc() };
        RUNS.fetch_add(1, Relaxed);
        NANOS.fetch_add(now - start, Relaxed);
    }
}

struct_ops_sim::trampoline_target! {
    pub extern "C" fn enter(_prog: u64, run_ctx: *mut RunCtx) -> u64 {
        NESTING.set(NESTING.get() + 1);
        set_run_ctx(run_ctx);
        start_time()
    }

    pub extern "C" fn exit(_prog: u64, start: u64, run_ctx: *mut RunCtx) {
        reset_run_ctx(run_ctx);
        update_prog_stats(start);
        NESTING.set(NESTING.get() - 1);
    }

    pub extern "C" fn enter_sleepable(_prog: u64, run_ctx: *mut RunCtx) -> u64 {
        NESTING.set(NESTING.get() + 1);
        // readers of Tasks Trace RCU may have to be seen at once
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        set_run_ctx(run_ctx);
        start_time()
    }

    pub extern "C" fn exit_sleepable(_prog: u64, start: u64, run_ctx: *mut RunCtx) {
        reset_run_ctx(run_ctx);
        update_prog_stats(start);
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        NESTING.set(NESTING.get() - 1);
    }

    pub extern "C" fn enter_recur(_prog: u64, run_ctx: *mut RunCtx) -> u64 {
        NESTING.set(NESTING.get() + 1);
        set_run_ctx(run_ctx);
        ACTIVE.set(ACTIVE.get() + 1);
        if ACTIVE.get() != 1 { 0 } else { start_time() }
    }

    pub extern "C" fn exit_recur(_prog: u64, start: u64, run_ctx: *mut RunCtx) {
        reset_run_ctx(run_ctx);
        update_prog_stats(start);
        ACTIVE.set(ACTIVE.get() - 1);
        NESTING.set(NESTING.get() - 1);
    }

    /// The program: the smallest one that uses argument and cookie.
    pub extern "C" fn program(ctx: *const u64, _insnsi: u64) -> u64 {
        // SAFETY: enter has set the run context, which lives in the frame of the trampoline that calls; ctx[-1] is
        // the number of arguments.
        unsafe { *ctx.sub(1) + (*BPF_CTX.get()).bpf_cookie }
    }

    /// A tracing program.
    pub extern "C" fn tracer(_ctx: *const u64, _insnsi: u64) -> u64 {
        0
    }
}

/// What is called without a trampoline.
#[inline(never)]
pub extern "C" fn direct(argument: u64) -> u64 {
    argument.wrapping_add(1)
}

/// The work of a trampoline for one argument with a 64-bit cookie, in as few instructions as it takes.
///
/// Sound: rbx and rsp are restored, the frame holds all that the callees get pointers to, and they align the stack.
#[unsafe(naked)]
pub extern "C" fn by_hand(_argument: u64) -> u64 {
    std::arch::naked_asm!(
        "push rbx",
        "sub rsp, 40",
        "mov qword ptr [rsp + 16], 1", // ctx[-1]
        "mov [rsp + 24], rdi",         // ctx[0]
        "movabs rax, {cookie}",
        "mov [rsp], rax", // run_ctx.bpf_cookie
        "mov edi, 1",
        "mov rsi, rsp",
        "call {enter}",
        "mov rbx, rax",
        "test rax, rax",
        "je 2f",
        "lea rdi, [rsp + 24]",
        "call {program}",
        "mov [rsp + 32], rax",
        "2:",
        "mov edi, 1",
        "mov rsi, rbx",
        "mov rdx, rsp",
        "call {exit}",
        "mov rax, [rsp + 32]",
        "add rsp, 40",
        "pop rbx",
        "ret",
        cookie = const super::COOKIE as i64,
        enter = sym enter,
        program = sym program,
        exit = sym exit,
    )
}

/// Their addresses.
pub fn targets() -> Targets {
    Targets {
        enter: enter as *const () as u64,
        exit: exit as *const () as u64,
        enter_sleepable: enter_sleepable as *const () as u64,
        exit_sleepable: exit_sleepable as *const () as u64,
        enter_recur: enter_recur as *const () as u64,
        exit_recur: exit_recur as *const () as u64,
        ..Targets::default()
    }
}
