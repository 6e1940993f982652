//! bpf_testmod's types: one whose reg always succeeds, a singleton, one keyed by map id; and its module.
//!
//! Stands for tools/testing/selftests/bpf/bpf_testmod/bpf_testmod.c (the keyed one: 7.x). As in the model, the
//! always-succeeding type remembers what was registered, so that its members can be called after reg() as well.

use struct_ops_model::world::{OpKind, Subsystem};
use struct_ops_model::{Invariant, Pc, errno};

use crate::live::call;
use crate::live::event::Ask;
use crate::live::object::Link;
use crate::live::rcu::GracePeriod;
use crate::live::runtime::Reg;
use crate::live::subsys::registered;
use crate::live::syscall::finish;
use crate::live::task::{Call, Step, Task};

fn push(t: &Task, regs: &mut Vec<Reg>, kdata: usize, link: Option<&Link>) -> Step {
    let kdata = t.kdata(kdata)?;
    regs.push(Reg {
        kdata: kdata.id,
        expect: registered(t, &kdata, link),
        link: link.map(|l| l.id),
    });
    Ok(())
}

fn remove(t: &Task, kdata: usize, link: Option<&Link>) {
    let link = link.map(|l| l.id);
    let mut regs = t.rt.regs.lock();
    if let Some(place) = regs.iter().position(|r| r.kdata == kdata && r.link == link) {
        regs.remove(place);
    }
}

pub(crate) fn bpf_dummy_reg(t: &Task, kdata: usize, link: Option<&Link>) -> Step<i8> {
    t.begin(Pc::AlwaysReg)?;
    push(t, &mut t.rt.regs.lock(), kdata, link)?;
    t.end();
    // test_1 and test_2 are called.
    for member in 0.. {
        t.begin(Pc::AlwaysRegNext)?;
        let data = t.kdata(kdata)?;
        let address = call::load(&data, member);
        if member >= 2 || address == 0 {
            break;
        }
        t.reader.tasks_enter();
        t.end();
        let call = Call {
            expect: data
                .expect
                .load(crate::live::sync::atomic::Ordering::SeqCst),
            ..Call::default()
        };
        call::through_pointer(t, address, call)?;
    }
    Ok(t.end_with(0))
}

pub(crate) fn bpf_dummy_unreg(t: &Task, kdata: usize, link: Option<&Link>) -> Step {
    t.begin(Pc::AlwaysUnreg)?;
    remove(t, kdata, link);
    t.end();
    Ok(())
}

/// `bpf_struct_ops.update`, which 6.12's bpf_testmod_ops does not have (see the model).
pub(crate) fn update(t: &Task, new: usize, old: usize, link: &Link) -> Step<i8> {
    t.begin(Pc::AlwaysUpdate)?;
    let mut regs = t.rt.regs.lock();
    let entry = regs
        .iter_mut()
        .find(|r| r.kdata == old && r.link == Some(link.id));
    let Some(entry) = entry else {
        return Ok(t.end_with(errno::EINVAL));
    };
    let kdata = t.kdata(new)?;
    registered(t, &kdata, Some(link));
    entry.kdata = new;
    Ok(t.end_with(0))
}

pub(crate) fn st_ops_reg(t: &Task, kdata: usize, link: Option<&Link>) -> Step<i8> {
    let _st_ops_mutex = t.rt.st_ops_mutex.lock();
    t.begin(Pc::SingletonReg)?;
    let mut regs = t.rt.regs.lock();
    if !regs.is_empty() {
        return Ok(t.end_with(errno::EEXIST));
    }
    push(t, &mut regs, kdata, link)?;
    Ok(t.end_with(0))
}

pub(crate) fn st_ops_unreg(t: &Task) -> Step {
    let _st_ops_mutex = t.rt.st_ops_mutex.lock();
    t.begin(Pc::SingletonUnreg)?;
    t.rt.regs.lock().clear();
    t.end();
    Ok(())
}

pub(crate) fn multi_st_ops_reg(t: &Task, kdata: usize, link: Option<&Link>) -> Step<i8> {
    t.begin(Pc::KeyedReg)?;
    let mut regs = t.rt.regs.lock();
    let id = t.kdata(kdata)?.map;
    for other in regs.iter() {
        if t.kdata(other.kdata)?.map == id {
            return Ok(t.end_with(errno::EEXIST));
        }
    }
    push(t, &mut regs, kdata, link)?;
    Ok(t.end_with(0))
}

pub(crate) fn multi_st_ops_unreg(t: &Task, kdata: usize, link: Option<&Link>) -> Step {
    t.begin(Pc::KeyedUnreg)?;
    remove(t, kdata, link);
    t.end();
    t.reader.synchronize(GracePeriod::Rcu);
    t.point(Pc::SyncRcu)
}

/// The subsystem calls a member of its n-th registration, as this kfunc calls the singleton's.
pub(crate) fn bpf_kfunc_st_ops_test_prologue(t: &Task, entry: u8, member: u8) -> Step<i8> {
    let (first, last) = match t.rt.decl.types[0].subsystem {
        Subsystem::Singleton => (Pc::SingletonCall, Pc::SingletonCallDone),
        Subsystem::KeyedByMap => (Pc::KeyedCall, Pc::KeyedCallDone),
        _ => (Pc::AlwaysCall, Pc::AlwaysCallDone),
    };
    let singleton = first == Pc::SingletonCall;
    // The singleton's calls hold its mutex, the others' rcu_read_lock(), unless the member may sleep.
    let mutex = singleton.then(|| t.rt.st_ops_mutex.lock());
    t.begin(first)?;
    t.ask(Ask {
        kind: OpKind::Call,
        arg: entry,
        member,
        ..Ask::default()
    });
    t.reader.rcu_read_lock();
    let reg = t.rt.regs.lock().get(usize::from(entry)).copied();
    let Some(reg) = reg else {
        t.reader.rcu_read_unlock();
        t.end_with(errno::ENOENT);
        return finish(t);
    };
    let kdata = t.kdata(reg.kdata)?;
    let ty = t.rt.decl.type_of(kdata.decl);
    let member = usize::from(member);
    let sleepable = ty.members.get(member).is_some_and(|m| m.sleepable);
    super::st_ops(t, kdata.decl)?;
    if ty.module {
        t.rt.module.lock().refs += 1;
    }
    t.reader.tasks_enter();
    let rcu = !singleton && !sleepable;
    if !rcu {
        t.reader.rcu_read_unlock();
    }
    t.end();
    let call = Call {
        expect: reg.expect,
        ..Call::default()
    };
    call::through_kdata(t, reg.kdata, member, call)?;
    t.begin(last)?;
    if rcu {
        t.reader.rcu_read_unlock();
    }
    if ty.module {
        t.rt.module.lock().refs -= 1;
    }
    t.end();
    drop(mutex);
    finish(t)
}

/// delete_module(2): refused while the module is in use.
pub(crate) fn bpf_testmod_exit(t: &Task) -> Step<i8> {
    t.begin(Pc::Rmmod)?;
    t.ask(Ask {
        kind: OpKind::Rmmod,
        ..Ask::default()
    });
    {
        let mut module = t.rt.module.lock();
        if module.refs > 0 {
            t.end_with(errno::EAGAIN);
        } else if !t.rt.regs.lock().is_empty() {
            let text = "USE AFTER FREE: the module's functions are gone";
            return Err(t.fault(Invariant::NoUseAfterFree, text, Vec::new()));
        } else {
            module.unloaded = true;
            t.end();
        }
    }
    finish(t)
}
