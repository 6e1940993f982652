//! A member is called: function pointer, trampoline, program, and back.
//!
//! Stands for the code that arch_prepare_bpf_trampoline() of arch/x86/net/bpf_jit_comp.c emits, and for
//! __bpf_prog_enter() and its siblings of kernel/bpf/trampoline.c. The caller has put kdata and member
//! into its CPU (or the pointer itself) and is a reader of Tasks RCU until the call is over.

use crate::exec::{Exec, Gone, Step, Stop, errno, event};
use crate::invariant::Invariant;
use crate::kernel::{Code, seen};
use crate::pc::Pc;
use crate::subsys;
use crate::world::{Body, OpKind};

pub(crate) fn step(x: &mut Exec<'_>) -> Step {
    match x.pc {
        Pc::CallRead => {
            let key = x.c().kdata.expect("the caller has a kdata");
            let member = usize::from(x.c().member);
            let func = x.kdata(key)?.func[member];
            if func.image.is_none() {
                event!(x, "the member is NULL: not called");
                x.tasks_quiescent();
                x.c().err = errno::ENOENT;
                let back = x.c().call_ret;
                return x.goto(back);
            }
            subsys::check_whole(x, key)?;
            x.c().func = func;
            event!(x, "function pointer loaded");
            x.goto(Pc::CallEnter)
        }
        Pc::CallEnter => {
            let code = code(x)?;
            let func = x.c().func;
            let page = func.image.expect("a pointer that was called");
            if !x.image(page)?.protected {
                return Err(x.broken(
                    Invariant::NoTornPublish,
                    format_args!("the page is not executable: the call faults"),
                ));
            }
            if x.c().op != OpKind::TestRun {
                if x.named(func) {
                    x.report.witness(Invariant::KsymsMatchImages);
                } else {
                    event!(x, "kallsyms does not know this trampoline");
                    x.violate(Invariant::KsymsMatchImages);
                }
            }
            check_prog(x, code.prog)?;
            if sleepable(x, code) {
                x.rcu_read_lock_trace();
            } else {
                x.rcu_read_lock();
            }
            x.c().run_ctx = code.cookie;
            x.c().prog = code.prog;
            event!(
                x,
                "run_ctx.bpf_cookie = {:#x}",
                x.world.cookies[usize::from(code.cookie)]
            );
            x.goto(Pc::CallBody)
        }
        Pc::CallBody => {
            let code = code(x)?;
            check_prog(x, code.prog)?;
            read_cookie(x);
            match x.world.progs[usize::from(code.prog - 1)].body {
                Body::ReadCookie => x.goto(Pc::CallExit),
                Body::Fail => {
                    x.saw(seen::PROG_ERROR);
                    event!(x, "returns an error");
                    x.goto(Pc::CallExit)
                }
                Body::Sleep => {
                    x.tasks_quiescent();
                    event!(x, "sleeps");
                    x.goto(Pc::CallSleep)
                }
                Body::Switch => {
                    let place = usize::from(x.c().arg);
                    if x.c().op == OpKind::SockCall && x.k.socks[place].busy == Some(x.cpu) {
                        subsys::tcp_cong::release(x, place)?;
                    }
                    x.goto(Pc::CallExit)
                }
            }
        }
        Pc::CallSleep => {
            // Only the program's own instructions run here: a page that went away shows at the return.
            let prog = x.c().prog;
            check_prog(x, prog)?;
            event!(x, "wakes");
            x.c().readers.tasks = true;
            read_cookie(x);
            x.goto(Pc::CallExit)
        }
        Pc::CallExit => {
            let code = code(x)?;
            if sleepable(x, code) {
                x.rcu_read_unlock_trace();
            } else {
                x.rcu_read_unlock();
            }
            x.goto(Pc::CallRet)
        }
        Pc::CallRet => {
            code(x)?;
            x.tasks_quiescent();
            let cpu = x.c();
            cpu.run_ctx = 0;
            cpu.prog = 0;
            cpu.func = Default::default();
            let back = cpu.call_ret;
            x.goto(back)
        }
        _ => unreachable!("not a step of a call"),
    }
}

/// The instructions under the CPU's instruction pointer.
fn code(x: &mut Exec<'_>) -> Result<Code, Stop> {
    let func = x.c().func;
    let page = func.image.expect("a pointer that was called");
    let code = x.image(page)?.code[usize::from(func.index)];
    Ok(code)
}

fn sleepable(x: &Exec<'_>, code: Code) -> bool {
    let prog = &x.world.progs[usize::from(code.prog - 1)];
    x.world.types[prog.ty].members[prog.member].sleepable
}

fn check_prog(x: &mut Exec<'_>, prog: u8) -> Step {
    if x.k.progs[usize::from(prog - 1)].freed {
        return Err(x.gone(Gone::Prog));
    }
    Ok(())
}

/// `bpf_get_attach_cookie()`: reads `run_ctx.bpf_cookie`.
fn read_cookie(x: &mut Exec<'_>) {
    if !x.has_cookies() {
        return;
    }
    let (cookie, expect) = (x.c().run_ctx, x.c().expect);
    let value = |i: u8| x.world.cookies[usize::from(i)];
    let (cookie, expect) = (value(cookie), value(expect));
    event!(x, "reads cookie {cookie:#x}");
    if cookie != 0 {
        x.report.witness(Invariant::CookieFidelity);
    }
    if cookie != expect {
        event!(
            x,
            "WRONG COOKIE: it was called through the attachment with {expect:#x}"
        );
        x.violate(Invariant::CookieFidelity);
    }
}
