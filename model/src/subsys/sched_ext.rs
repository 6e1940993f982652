//! sched_ext: one scheduler; the ops struct is copied at enable.
//!
//! Stands for kernel/sched/ext.c. The type's member named `init` is called while enabling and may fail.
//! 6.12's bpf_scx_unreg() disables whatever is enabled; from 6.16 on it acts on its own scheduler.

use crate::exec::{Exec, Step, errno, event};
use crate::invariant::Invariant;
use crate::kernel::{Scx, ScxState, seen};
use crate::pc::Pc;
use crate::subsys::{back, leave, registered, unregistered};
use crate::world::Subsystem;

pub(crate) fn step(x: &mut Exec<'_>) -> Step {
    match x.pc {
        Pc::ScxEnable => {
            if x.k.subsys.scx.state != ScxState::Disabled {
                x.saw(seen::TAKEN);
                return leave(x, errno::EBUSY);
            }
            let key = x.c().kdata.expect("reg() gets a kdata");
            registered(x, key)?;
            let kdata = *x.kdata(key)?;
            x.k.subsys.scx = Scx {
                state: ScxState::Enabling,
                ops: kdata.func,
                kdata: Some(key),
                expect: kdata.expect,
            };
            event!(x, "ops copied");
            let ty = &x.world.types[x.world.maps[usize::from(kdata.decl)].ty];
            let init = ty
                .members
                .iter()
                .position(|m| m.name == "init")
                .filter(|i| kdata.func[*i].image.is_some());
            let Some(init) = init else {
                return x.goto(Pc::ScxInitDone);
            };
            let cpu = x.c();
            cpu.member = init as u8;
            cpu.func = kdata.func[init];
            cpu.expect = kdata.expect;
            cpu.call_ret = Pc::ScxInitDone;
            cpu.readers.tasks = true;
            x.goto(Pc::CallEnter)
        }
        Pc::ScxInitDone => {
            let scx = x.k.subsys.scx;
            if x.c().seen & seen::PROG_ERROR != 0 {
                x.k.subsys.scx = Scx::default();
                if let Some(kdata) = scx.kdata {
                    unregistered(x, kdata)?;
                }
                event!(x, "ops.init() failed: disabled again");
                return leave(x, errno::EIO);
            }
            x.k.subsys.scx.state = ScxState::Enabled;
            event!(x, "scheduler enabled");
            leave(x, 0)
        }
        Pc::ScxDisable => {
            let key = x.c().kdata.expect("unreg() gets a kdata");
            let decl = x.kdata(key)?.decl;
            let own_only = x.st_ops(decl)? == Subsystem::SchedExt;
            let scx = x.k.subsys.scx;
            if scx.state != ScxState::Enabled || (own_only && scx.kdata != Some(key)) {
                event!(x, "not enabled: nothing to do");
                return back(x);
            }
            if scx.kdata != Some(key) {
                event!(x, "ANOTHER scheduler is being disabled");
                x.violate(Invariant::NoForeignUnreg);
            }
            disable(x)
        }
        Pc::ScxError => {
            x.c().ret = Pc::Finish;
            if x.k.subsys.scx.state != ScxState::Enabled {
                return x.fail(errno::ENOENT, Pc::Finish);
            }
            disable(x)
        }
        Pc::ScxDisabled => {
            x.c().wait = Default::default();
            let scx = std::mem::take(&mut x.k.subsys.scx);
            if let Some(kdata) = scx.kdata {
                unregistered(x, kdata)?;
            }
            event!(x, "scheduler disabled");
            back(x)
        }
        Pc::ScxCall => {
            x.rcu_read_lock();
            let scx = x.k.subsys.scx;
            let member = x.c().member;
            let func = scx.ops[usize::from(member)];
            if scx.state != ScxState::Enabled || func.image.is_none() {
                x.c().err = errno::ENOENT;
                return x.goto(Pc::ScxCallDone);
            }
            let cpu = x.c();
            cpu.func = func;
            cpu.expect = scx.expect;
            cpu.call_ret = Pc::ScxCallDone;
            cpu.readers.tasks = true;
            event!(x, "calls member {member} through the copied ops");
            x.goto(Pc::CallEnter)
        }
        Pc::ScxCallDone => {
            x.rcu_read_unlock();
            x.goto(Pc::Finish)
        }
        _ => unreachable!("not a step of sched_ext"),
    }
}

/// scx_ops_disable(): bypass, then wait until nobody runs the scheduler.
fn disable(x: &mut Exec<'_>) -> Step {
    x.k.subsys.scx.state = ScxState::Disabling;
    x.synchronize_rcu_begin();
    event!(x, "disabling; waits for running calls");
    x.goto(Pc::ScxDisabled)
}

/// Another CPU is enabling or disabling: scx_ops_enable_mutex and kthread_flush_work().
pub(crate) fn busy(state: ScxState) -> bool {
    matches!(state, ScxState::Enabling | ScxState::Disabling)
}
