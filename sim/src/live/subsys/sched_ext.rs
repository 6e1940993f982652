//! sched_ext: one scheduler; the ops struct is copied at enable.
//!
//! Stands for kernel/sched/ext.c. The type's member named `init` is called while enabling and may fail. 6.12's
//! bpf_scx_unreg() disables whatever is enabled; from 6.16 on it acts on its own scheduler.

use struct_ops_model::kernel::ScxState;
use struct_ops_model::world::{OpKind, Subsystem};
use struct_ops_model::{Pc, errno};

use crate::live::call;
use crate::live::event::Ask;
use crate::live::object::Link;
use crate::live::rcu::GracePeriod;
use crate::live::runtime::Scx;
use crate::live::subsys::{registered, st_ops};
use crate::live::sync::{MutexGuard, atomic::Ordering::SeqCst, relax};
use crate::live::syscall::finish;
use crate::live::task::{Call, Step, Stop, Task};

/// scx_ops_enable_mutex and kthread_flush_work(): nobody else is enabling or disabling.
fn settled(t: &Task) -> Step<MutexGuard<'_, Scx>> {
    let mut tries = 0;
    loop {
        let scx = t.rt.scx.lock();
        if !matches!(scx.state, ScxState::Enabling | ScxState::Disabling) {
            return Ok(scx);
        }
        drop(scx);
        if t.rt.dead.load(SeqCst) {
            return Err(Stop);
        }
        relax(&mut tries);
    }
}

pub(crate) fn scx_ops_enable(t: &Task, kdata: usize, link: Option<&Link>) -> Step<i8> {
    let mut scx = settled(t)?;
    t.begin(Pc::ScxEnable)?;
    if scx.state != ScxState::Disabled {
        return Ok(t.end_with(errno::EBUSY));
    }
    let kdata = t.kdata(kdata)?;
    let expect = registered(t, &kdata, link);
    *scx = Scx {
        state: ScxState::Enabling,
        ops: kdata.func.iter().map(|f| f.load(SeqCst)).collect(),
        kdata: Some(kdata.id),
        expect,
    };
    let members = &t.rt.decl.type_of(kdata.decl).members;
    let init = members
        .iter()
        .position(|m| m.name == "init")
        .map_or(0, |init| scx.ops[init]);
    if init != 0 {
        t.reader.tasks_enter();
    }
    t.end();
    drop(scx);
    let call = Call {
        expect,
        ..Call::default()
    };
    let failed = init != 0 && call::through_pointer(t, init, call)? != 0;
    t.begin(Pc::ScxInitDone)?;
    let mut scx = t.rt.scx.lock();
    if failed {
        *scx = Scx::default();
        return Ok(t.end_with(errno::EIO));
    }
    scx.state = ScxState::Enabled;
    Ok(t.end_with(0))
}

pub(crate) fn scx_ops_disable(t: &Task, kdata: usize) -> Step {
    {
        let mut scx = settled(t)?;
        t.begin(Pc::ScxDisable)?;
        let own_only = st_ops(t, t.kdata(kdata)?.decl)? == Subsystem::SchedExt;
        if scx.state != ScxState::Enabled || (own_only && scx.kdata != Some(kdata)) {
            t.end();
            return Ok(());
        }
        scx.state = ScxState::Disabling;
        t.end();
    }
    disabled(t)
}

/// Bypass is on; waits until nobody runs the scheduler.
fn disabled(t: &Task) -> Step {
    t.reader.synchronize(GracePeriod::Rcu);
    let mut scx = t.rt.scx.lock();
    t.begin(Pc::ScxDisabled)?;
    *scx = Scx::default();
    t.end();
    Ok(())
}

/// scx_bpf_error(), sysrq-S: the scheduler goes, its link stays.
pub(crate) fn scx_ops_error(t: &Task) -> Step<i8> {
    {
        let mut scx = settled(t)?;
        t.begin(Pc::ScxError)?;
        t.ask(Ask {
            kind: OpKind::ScxError,
            ..Ask::default()
        });
        if scx.state != ScxState::Enabled {
            t.end_with(errno::ENOENT);
            drop(scx);
            return finish(t);
        }
        scx.state = ScxState::Disabling;
        t.end();
    }
    disabled(t)?;
    finish(t)
}

/// A member is called through the copied ops, with preemption off.
pub(crate) fn scx_call_op(t: &Task, entry: u8, member: u8) -> Step<i8> {
    t.begin(Pc::ScxCall)?;
    t.ask(Ask {
        kind: OpKind::Call,
        arg: entry,
        member,
        ..Ask::default()
    });
    t.reader.rcu_read_lock();
    let (address, expect) = {
        let scx = t.rt.scx.lock();
        let address = match scx.state {
            ScxState::Enabled => scx.ops.get(usize::from(member)).copied().unwrap_or(0),
            _ => 0,
        };
        (address, scx.expect)
    };
    if address == 0 {
        t.end_with(errno::ENOENT);
    } else {
        t.reader.tasks_enter();
        t.end();
        let call = Call {
            expect,
            ..Call::default()
        };
        call::through_pointer(t, address, call)?;
    }
    t.begin(Pc::ScxCallDone)?;
    t.reader.rcu_read_unlock();
    t.end();
    finish(t)
}
