//! sched_ext: one scheduler; the ops struct is copied at enable.
//!
//! Stands for kernel/sched/ext.c. The type's member named `init` is called while enabling and may fail.
//! 6.12's bpf_scx_unreg() disables whatever is enabled; from 6.16 on it acts on its own scheduler. The lock stands
//! for scx_ops_enable_mutex and for kthread_flush_work(): nobody else is enabling or disabling.

use crate::backend::{Backend, FuncOf, Step, event};
use crate::errno;
use crate::invariant::Invariant;
use crate::kernel::{Scx, ScxState, Seen, Stage};
use crate::lock::{Lock, LockClass};
use crate::pc::Pc;
use crate::place::Linux;
use crate::proc::call;
use crate::report::Violation;
use crate::subsys::{Called, Facts, back, leave, registered, unregistered};
use crate::world::MAX_MEMBERS;

/// What is known of it.
pub(crate) const FACTS: Facts = Facts {
    name: "sched_ext_ops",
    about: "sched_ext: one scheduler, ops copied at enable; on 6.12 unreg disables whatever is enabled",
    members: &["enqueue", "dispatch", "init"],
    only_these: false,
    init_member: 0,
    reg: Pc::ScxEnable,
    unreg: Pc::ScxDisable,
    update: None,
    called: Called::From(&[Pc::ScxCall]),
    entries: 1,
    refusals: &[(errno::EBUSY, Seen::TAKEN), (errno::EIO, Seen::PROG_ERROR)],
    tasks_rcu: false,
    since: Linux::V6_12,
    known_bugs: &[(
        Linux::V6_12,
        Violation {
            invariant: Invariant::NoForeignUnreg,
            step: Pc::ScxDisable,
        },
        "bpf_scx_unreg() of Linux 6.12 disables whatever scheduler is enabled",
    )],
};

pub(crate) fn step<'w, X: Backend<'w>>(x: &mut X) -> Step {
    let enable_mutex = Lock::The(LockClass::ScxEnable);
    match x.pc() {
        Pc::ScxEnable => {
            x.lock(enable_mutex)?;
            if x.scx().state != ScxState::Disabled {
                x.unlock(enable_mutex)?;
                return leave(x, errno::EBUSY);
            }
            let kdata = x.cpu().kdata.expect("reg() gets a kdata");
            registered(x, kdata)?;
            let expect = x.registered_cookie(kdata)?;
            let decl = x.kdata_decl(kdata)?;
            let world = x.world();
            let ty = &world.types[world.maps[usize::from(decl)].ty];
            let mut ops = [FuncOf::<X>::default(); MAX_MEMBERS];
            for (member, func) in ops.iter_mut().enumerate().take(ty.members.len()) {
                *func = x.func(kdata, member)?;
            }
            x.set_scx(Scx {
                state: ScxState::Enabling,
                ops,
                kdata: Some(kdata),
                expect,
            });
            event!(x, "ops copied");
            let init = ty.members.iter().position(|m| m.name == "init");
            match init {
                Some(init) if ops[init] != FuncOf::<X>::default() => {
                    x.cpu().member = init as u8;
                    call::through_pointer(x, ops[init], expect, Pc::ScxInitDone)
                }
                _ => x.goto(Pc::ScxInitDone),
            }
        }
        Pc::ScxInitDone => {
            let scx = x.scx();
            let failed = x.cpu().seen.contains(Seen::PROG_ERROR);
            if failed {
                x.set_scx(Scx::default());
                if let Some(kdata) = scx.kdata {
                    unregistered(x, kdata)?;
                }
                event!(x, "ops.init() failed: disabled again");
            } else {
                x.set_scx(Scx {
                    state: ScxState::Enabled,
                    ..scx
                });
                event!(x, "scheduler enabled");
            }
            x.unlock(enable_mutex)?;
            leave(x, if failed { errno::EIO } else { 0 })
        }
        Pc::ScxDisable => {
            let kdata = x.cpu().kdata.expect("unreg() gets a kdata");
            x.lock(enable_mutex)?;
            let decl = x.kdata_decl(kdata)?;
            x.st_ops(decl)?;
            // From 6.16 on.
            let own_only = x.world().linux >= Linux::V7_3;
            let scx = x.scx();
            if scx.state != ScxState::Enabled || (own_only && scx.kdata != Some(kdata)) {
                event!(x, "not enabled: nothing to do");
                x.unlock(enable_mutex)?;
                return back(x);
            }
            if scx.kdata != Some(kdata) {
                let what = format_args!("ANOTHER scheduler is being disabled");
                x.violate(Invariant::NoForeignUnreg, what);
            }
            disable(x)
        }
        Pc::ScxError => {
            x.lock(enable_mutex)?;
            x.cpu().ret = Pc::Finish;
            if x.scx().state != ScxState::Enabled {
                x.unlock(enable_mutex)?;
                return x.fail(errno::ENOENT, Pc::Finish);
            }
            disable(x)
        }
        Pc::ScxDisabled => {
            x.wait_begin(Stage::None);
            let scx = x.scx();
            x.set_scx(Scx::default());
            if let Some(kdata) = scx.kdata {
                unregistered(x, kdata)?;
            }
            event!(x, "scheduler disabled");
            x.unlock(enable_mutex)?;
            back(x)
        }
        Pc::ScxCall => {
            x.rcu_read_lock();
            let scx = x.scx();
            let member = x.cpu().member;
            let func = scx
                .ops
                .get(usize::from(member))
                .copied()
                .unwrap_or_default();
            if scx.state != ScxState::Enabled || func == FuncOf::<X>::default() {
                x.cpu().err = errno::ENOENT;
                return x.goto(Pc::ScxCallDone);
            }
            event!(x, "calls member {member} through the copied ops");
            call::through_pointer(x, func, scx.expect, Pc::ScxCallDone)
        }
        Pc::ScxCallDone => {
            x.rcu_read_unlock();
            x.goto(Pc::Finish)
        }
        _ => unreachable!("not a step of sched_ext"),
    }
}

/// scx_ops_disable(): bypass, then wait until nobody runs the scheduler.
fn disable<'w, X: Backend<'w>>(x: &mut X) -> Step {
    let scx = x.scx();
    x.set_scx(Scx {
        state: ScxState::Disabling,
        ..scx
    });
    x.wait_begin(Stage::Rcu);
    event!(x, "disabling; waits for running calls");
    x.goto(Pc::ScxDisabled)
}
