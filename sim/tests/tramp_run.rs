//! Trampolines that run: what the caller passes, the program receives; what the program returns, the caller gets.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]
// Calling generated code is unsafe by nature: each call says why it may be made.
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};

use struct_ops_sim::tramp::image::{Image, Pages};
use struct_ops_sim::tramp::{Flags, FuncModel, Jit, RunCtx, Targets, TrampLink, Trampoline};

thread_local! {
    /// `current->bpf_ctx`.
    static BPF_CTX: Cell<*mut RunCtx> = const { Cell::new(std::ptr::null_mut()) };
    static SEEN: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

struct_ops_sim::trampoline_target! {
    extern "C" fn enter(_prog: u64, run_ctx: *mut RunCtx) -> u64 {
        // SAFETY: the trampoline passes its own run_ctx, which lives until it returns.
        unsafe { (*run_ctx).saved_run_ctx = BPF_CTX.replace(run_ctx) };
        1
    }

    extern "C" fn exit(_prog: u64, _start: u64, run_ctx: *mut RunCtx) {
        // SAFETY: as in enter(), which has written it.
        BPF_CTX.set(unsafe { (*run_ctx).saved_run_ctx });
    }

    extern "C" fn program(ctx: *const u64, _insnsi: u64) -> u64 {
        // SAFETY: ctx[-1] is the number of argument registers that follow; enter() has set the run context.
        unsafe {
            let n = *ctx.sub(1) as usize;
            SEEN.set((0..n).map(|i| *ctx.add(i)).collect());
            (*BPF_CTX.get()).bpf_cookie
        }
    }
}

#[test]
fn smoke() {
    let model = FuncModel::new(&[8, 4], 8).unwrap();
    let targets = Targets {
        enter: enter as *const () as u64,
        exit: exit as *const () as u64,
        ..Targets::default()
    };
    let links = [TrampLink {
        prog: 7,
        bpf_func: program as *const () as u64,
        cookie: 0x1122_3344_5566_7788,
        ..TrampLink::default()
    }];
    let mut pages = Pages::default();
    let code = pages
        .prepare_trampoline(
            &Trampoline {
                jit: Jit::V7_3,
                model: &model,
                flags: Flags::struct_ops(&model),
                links: &links,
                targets: &targets,
                func: Default::default(),
            },
            || Image::alloc(4096, targets.enter),
        )
        .unwrap();
    println!("{code}");
    pages.protect().unwrap();
    let f: extern "C" fn(u64, u64) -> u64 = unsafe { std::mem::transmute(code.at() as usize) };
    assert_eq!(f(5, 6), 0x1122_3344_5566_7788);
    assert_eq!(SEEN.take(), [5, 6]);
}
