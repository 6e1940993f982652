//! A member is called: function pointer, trampoline, program, and back.
//!
//! Stands for the code that arch_prepare_bpf_trampoline() of arch/x86/net/bpf_jit_comp.c emits, and for
//! __bpf_prog_enter() and its siblings of kernel/bpf/trampoline.c. The caller has put kdata and member
//! into its local variables (or the pointer itself) and is a reader of Tasks RCU until the call is over.

use crate::backend::{Backend, FuncOf, Gone, Step, event};
use crate::design::Identity;
use crate::errno;
use crate::invariant::Invariant;
use crate::kernel::{Code, Seen};
use crate::lock::Lock;
use crate::pc::Pc;
use crate::proc::assoc;
use crate::subsys;
use crate::world::{Body, OpKind};

pub(crate) fn step<'w, X: Backend<'w>>(x: &mut X) -> Step {
    match x.pc() {
        Pc::CallRead => {
            let kdata = x.cpu().kdata.expect("the caller has a kdata");
            let member = usize::from(x.cpu().member);
            let func = x.func(kdata, member)?;
            if func == FuncOf::<X>::default() {
                event!(x, "the member is NULL: not called");
                x.tasks_quiescent();
                x.cpu().err = errno::ENOENT;
                let back = x.cpu().call_ret;
                return x.goto(back);
            }
            x.check_whole(kdata)?;
            x.cpu().func = func;
            event!(x, "function pointer loaded");
            x.goto(Pc::CallEnter)
        }
        Pc::CallEnter => {
            let func = x.cpu().func;
            let code = x.enter_trampoline(func)?;
            if x.cpu().op != OpKind::TestRun {
                if x.named(func) {
                    x.witness(Invariant::KsymsMatchImages);
                } else {
                    x.violate(
                        Invariant::KsymsMatchImages,
                        format_args!("kallsyms does not know this trampoline"),
                    );
                }
            }
            check_prog(x, code.prog)?;
            if sleepable(x, code) {
                x.rcu_read_lock_trace();
            } else {
                x.rcu_read_lock();
            }
            x.set_run_ctx(code);
            x.cpu().prog = code.prog;
            let cookie = x.run_ctx_cookie();
            event!(x, "run_ctx.bpf_cookie = {cookie:#x}");
            x.goto(Pc::CallBody)
        }
        Pc::CallBody => {
            let func = x.cpu().func;
            let code = x.code_at(func)?;
            check_prog(x, code.prog)?;
            read_cookie(x);
            match x.world().progs[usize::from(code.prog - 1)].body {
                Body::ReadCookie => x.goto(Pc::CallExit),
                Body::Ask => x.goto(Pc::AssocGet),
                Body::Timer | Body::Wq | Body::WqSleep => {
                    assoc::arm(x, code.prog - 1)?;
                    x.goto(Pc::CallExit)
                }
                Body::Fail => {
                    x.saw(Seen::PROG_ERROR);
                    event!(x, "returns an error");
                    x.goto(Pc::CallExit)
                }
                Body::Sleep => {
                    x.tasks_quiescent();
                    event!(x, "sleeps");
                    x.goto(Pc::CallSleep)
                }
                Body::Switch => {
                    let sock = x.cpu().arg;
                    if x.cpu().op == OpKind::SockCall && x.holds_lock(Lock::Sock(sock)) {
                        subsys::tcp_cong::release(x, sock)?;
                    }
                    x.goto(Pc::CallExit)
                }
            }
        }
        Pc::CallSleep => {
            // Only the program's own instructions run here: a page that went away shows at the return.
            let prog = x.cpu().prog;
            check_prog(x, prog)?;
            event!(x, "wakes");
            x.tasks_enter();
            read_cookie(x);
            x.goto(Pc::CallExit)
        }
        Pc::CallExit => {
            let func = x.cpu().func;
            let code = x.code_at(func)?;
            if sleepable(x, code) {
                x.rcu_read_unlock_trace();
            } else {
                x.rcu_read_unlock();
            }
            x.goto(Pc::CallRet)
        }
        Pc::CallRet => {
            let func = x.cpu().func;
            x.code_at(func)?;
            x.leave_trampoline(func);
            x.tasks_quiescent();
            let cpu = x.cpu();
            cpu.run_ctx = 0;
            cpu.prog = 0;
            cpu.func = Default::default();
            let back = cpu.call_ret;
            x.goto(back)
        }
        _ => unreachable!("not a step of a call"),
    }
}

/// The caller has loaded a function pointer of kdata, registered with the cookie `expect`, and calls it; back to `ret`.
pub(crate) fn through_pointer<'w, X: Backend<'w>>(
    x: &mut X,
    func: FuncOf<X>,
    expect: u8,
    ret: Pc,
) -> Step {
    prepare(x, expect, ret);
    x.cpu().func = func;
    x.goto(Pc::CallEnter)
}

/// The caller calls a member of its kdata, registered with the cookie `expect`; back to `ret`.
pub(crate) fn through_kdata<'w, X: Backend<'w>>(x: &mut X, expect: u8, ret: Pc) -> Step {
    prepare(x, expect, ret);
    x.goto(Pc::CallRead)
}

fn prepare<'w, X: Backend<'w>>(x: &mut X, expect: u8, ret: Pc) {
    x.tasks_enter();
    let cpu = x.cpu();
    cpu.expect = expect;
    cpu.call_ret = ret;
}

fn sleepable<'w, X: Backend<'w>>(x: &X, code: Code) -> bool {
    x.world().may_sleep(code.prog - 1)
}

fn check_prog<'w, X: Backend<'w>>(x: &mut X, prog: u8) -> Step {
    if x.prog_freed(prog - 1) {
        return Err(x.gone(Gone::Prog));
    }
    Ok(())
}

/// The program calls `bpf_get_attach_cookie()`, or the helper that reads `saved_run_ctx`.
fn read_cookie<'w, X: Backend<'w>>(x: &mut X) {
    let cookie = match x.design().identity {
        Identity::Cookie => x.run_ctx_cookie(),
        // The caller of other types has no run context of its own.
        Identity::RunCtx if x.cpu().op == OpKind::CgroupCall => {
            let cookie = x.cpu().walk.bpf_cookie;
            x.world().cookies[usize::from(cookie)]
        }
        // Elsewhere programs cannot ask.
        _ => return,
    };
    let expect = usize::from(x.cpu().expect);
    let expect = x.world().cookies[expect];
    event!(x, "reads cookie {cookie:#x}");
    if cookie != 0 {
        x.witness(Invariant::CookieFidelity);
    }
    if cookie != expect {
        x.violate(
            Invariant::CookieFidelity,
            format_args!("WRONG COOKIE: it was called through the attachment with {expect:#x}"),
        );
    }
}
