//! bpf_testmod's types: one whose reg always succeeds, a singleton, one keyed by map id; and its module.
//!
//! Stands for tools/testing/selftests/bpf/bpf_testmod/bpf_testmod.c (the keyed one: 7.x). Beyond the
//! source, the always-succeeding type remembers what was registered, as hid_bpf's per-device list does, so
//! that its members can be called after reg() as well, and it has an update(), so that two links of one map
//! meet link_update (6.12's has none; -EOPNOTSUPP is explored on the other types). Members of all three are
//! called as `bpf_kfunc_st_ops_test_prologue()` calls the singleton's. 7.3 holds multi_st_ops_lock across a call of
//! the keyed one; the model has an RCU reader there, for which unreg() waits.

use crate::backend::{Backend, Counted, FuncOf, Gone, Step, event};
use crate::design::Twin;
use crate::errno;
use crate::invariant::Invariant;
use crate::kernel::{Holds, Reg, Seen, Stage};
use crate::lock::{Lock, LockClass};
use crate::pc::Pc;
use crate::place::Linux;
use crate::proc::call;
use crate::subsys::{Called, Facts, back, leave, registered, unregistered};
use crate::world::MAX_REGS;

/// What is known of `bpf_testmod_ops`.
pub(crate) const ALWAYS: Facts = Facts {
    name: "bpf_testmod_ops",
    about: "reg always succeeds and calls members",
    members: &["test_1", "test_2", "test_maybe_null"],
    only_these: false,
    init_member: 0,
    reg: Pc::AlwaysReg,
    unreg: Pc::AlwaysUnreg,
    update: Some(Pc::AlwaysUpdate),
    called: Called::From(&[Pc::AlwaysCall]),
    entries: MAX_REGS,
    refusals: &[],
    tasks_rcu: false,
    since: Linux::V6_12,
    known_bugs: &[],
};

/// What is known of `st_ops`.
pub(crate) const SINGLETON: Facts = Facts {
    name: "st_ops",
    about: "a singleton under a mutex",
    members: &["test_prologue", "test_epilogue", "test_pro_epilogue"],
    only_these: false,
    init_member: 0,
    reg: Pc::SingletonReg,
    unreg: Pc::SingletonUnreg,
    update: None,
    called: Called::From(&[Pc::SingletonCall]),
    entries: 1,
    refusals: &[(errno::EEXIST, Seen::TAKEN)],
    tasks_rcu: false,
    since: Linux::V6_12,
    known_bugs: &[],
};

/// What is known of `bpf_testmod_multi_st_ops`.
pub(crate) const KEYED: Facts = Facts {
    name: "bpf_testmod_multi_st_ops",
    about: "keyed by map id",
    members: &["test_1", "test_2", "test_3"],
    only_these: false,
    init_member: 0,
    reg: Pc::KeyedReg,
    unreg: Pc::KeyedUnreg,
    update: None,
    called: Called::From(&[Pc::KeyedCall]),
    entries: MAX_REGS,
    refusals: &[(errno::EEXIST, Seen::TAKEN)],
    tasks_rcu: false,
    since: Linux::V7_3,
    known_bugs: &[],
};

fn push<'w, X: Backend<'w>>(x: &mut X) -> Step {
    let kdata = x.cpu().kdata.expect("reg() gets a kdata");
    registered(x, kdata)?;
    let reg = Reg {
        kdata,
        expect: x.registered_cookie(kdata)?,
        link: x.cpu().link,
        slot: 0,
    };
    let place = x.push_registration(reg)?;
    event!(x, "registered as entry {place}");
    Ok(())
}

fn remove<'w, X: Backend<'w>>(x: &mut X) -> Step {
    let kdata = x.cpu().kdata.expect("unreg() gets a kdata");
    let link = x.cpu().link;
    let oldest = x.design().twin == Twin::ForeignUnreg;
    let place = x.find_registration(|r| oldest || (r.kdata == kdata && r.link == link));
    if let Some(place) = place {
        let reg = x.registration(place).expect("just found");
        x.remove_registration(place);
        if (reg.kdata, reg.link) != (kdata, link) {
            let what = format_args!("ANOTHER registration is being removed");
            x.violate(Invariant::NoForeignUnreg, what);
        }
        unregistered(x, reg.kdata)?;
        event!(x, "entry {place} removed");
    }
    Ok(())
}

pub(crate) fn step<'w, X: Backend<'w>>(x: &mut X) -> Step {
    // bpf_testmod_ops has no lock; here its table has one, for as long as a look and a change belong together.
    let table_lock = Lock::The(LockClass::MultiStOps);
    let st_ops_mutex = Lock::The(LockClass::StOps);
    match x.pc() {
        Pc::AlwaysReg => {
            x.lock(table_lock)?;
            push(x)?;
            x.unlock(table_lock)?;
            x.cpu().member = 0;
            x.goto(Pc::AlwaysRegNext)
        }
        Pc::AlwaysRegNext => {
            // bpf_dummy_reg() calls test_1 and test_2.
            let kdata = x.cpu().kdata.expect("reg() gets a kdata");
            let member = usize::from(x.cpu().member);
            if member >= 2 {
                return leave(x, 0);
            }
            let func = x.func(kdata, member)?;
            if func == FuncOf::<X>::default() {
                return leave(x, 0);
            }
            x.cpu().member += 1;
            event!(x, "reg() calls member {member}");
            let expect = x.registered_cookie(kdata)?;
            call::through_pointer(x, func, expect, Pc::AlwaysRegNext)
        }
        Pc::AlwaysUnreg => {
            x.lock(table_lock)?;
            remove(x)?;
            x.unlock(table_lock)?;
            back(x)
        }
        Pc::AlwaysUpdate => {
            x.lock(table_lock)?;
            let new = x.cpu().kdata.expect("update() gets a kdata");
            let old = x.cpu().old_kdata.expect("update() gets the old kdata");
            let link = x.cpu().link;
            let place = x.find_registration(|r| r.kdata == old && r.link == link);
            let Some(place) = place else {
                x.unlock(table_lock)?;
                return leave(x, errno::EINVAL);
            };
            registered(x, new)?;
            unregistered(x, old)?;
            let reg = x.registration(place).expect("just found");
            x.set_registration(place, Reg { kdata: new, ..reg });
            event!(x, "entry {place} now has the new kdata");
            x.unlock(table_lock)?;
            leave(x, 0)
        }
        Pc::SingletonReg => {
            x.lock(st_ops_mutex)?;
            let taken = x.registration(0).is_some();
            if !taken {
                push(x)?;
            }
            x.unlock(st_ops_mutex)?;
            leave(x, if taken { errno::EEXIST } else { 0 })
        }
        Pc::SingletonUnreg => {
            x.lock(st_ops_mutex)?;
            let kdata = x.cpu().kdata;
            let reg = x.registration(0);
            if reg.map(|r| r.kdata) != kdata {
                let what = format_args!("ANOTHER registration is being removed");
                x.violate(Invariant::NoForeignUnreg, what);
            }
            if let Some(reg) = reg {
                x.remove_registration(0);
                unregistered(x, reg.kdata)?;
            }
            x.unlock(st_ops_mutex)?;
            back(x)
        }
        Pc::KeyedReg => {
            x.lock(table_lock)?;
            let kdata = x.cpu().kdata.expect("reg() gets a kdata");
            let id = x.kdata_map(kdata)?;
            let mut taken = false;
            for place in 0.. {
                let Some(other) = x.registration(place) else {
                    break;
                };
                if x.kdata_map(other.kdata)? == id {
                    taken = true;
                    break;
                }
            }
            if !taken {
                push(x)?;
            }
            x.unlock(table_lock)?;
            leave(x, if taken { errno::EEXIST } else { 0 })
        }
        Pc::KeyedUnreg => {
            x.lock(table_lock)?;
            remove(x)?;
            x.unlock(table_lock)?;
            x.wait_begin(Stage::Rcu);
            x.goto(Pc::SyncRcu)
        }
        Pc::AlwaysCall | Pc::SingletonCall | Pc::KeyedCall => {
            let world = x.world();
            let singleton = x.pc() == Pc::SingletonCall;
            // The singleton's calls hold its mutex, the others' rcu_read_lock(); where the member may sleep, for the
            // look at the table only.
            if singleton {
                x.lock(st_ops_mutex)?;
            } else {
                x.rcu_read_lock();
            }
            let entry = usize::from(x.cpu().arg);
            let Some(reg) = x.registration(entry) else {
                if singleton {
                    x.unlock(st_ops_mutex)?;
                } else {
                    x.rcu_read_unlock();
                }
                return x.fail(errno::ENOENT, Pc::Finish);
            };
            let decl = x.kdata_decl(reg.kdata)?;
            x.st_ops(decl)?;
            let ty = &world.types[world.maps[usize::from(decl)].ty];
            let member = usize::from(x.cpu().member);
            if ty.module {
                x.get(Counted::Module)?;
                x.cpu().holds |= Holds::MODULE;
            }
            x.cpu().kdata = Some(reg.kdata);
            event!(x, "entry {entry} calls member {member}");
            let done = match x.pc() {
                Pc::SingletonCall => Pc::SingletonCallDone,
                Pc::KeyedCall => Pc::KeyedCallDone,
                _ => Pc::AlwaysCallDone,
            };
            call::through_kdata(x, reg.expect, done)?;
            if !singleton && ty.members.get(member).is_some_and(|m| m.sleepable) {
                x.rcu_read_unlock();
            }
            Ok(())
        }
        Pc::AlwaysCallDone | Pc::SingletonCallDone | Pc::KeyedCallDone => {
            if x.pc() == Pc::SingletonCallDone && x.design().twin == Twin::LockOrder {
                // link_create takes them the other way round.
                x.lock(Lock::The(LockClass::UpdateMutex))?;
                x.unlock(Lock::The(LockClass::UpdateMutex))?;
            }
            if x.cpu().readers.rcu > 0 {
                x.rcu_read_unlock();
            }
            if x.cpu().holds.contains(Holds::MODULE) {
                x.hand_over(Holds::MODULE);
                x.put(Counted::Module)?;
            }
            if x.holds_lock(st_ops_mutex) {
                x.unlock(st_ops_mutex)?;
            }
            x.goto(Pc::Finish)
        }
        Pc::Rmmod => {
            if !x.unload_module() {
                return x.fail(errno::EAGAIN, Pc::Finish);
            }
            if x.registration(0).is_some() {
                return Err(x.gone(Gone::Module));
            }
            event!(x, "module unloaded");
            x.goto(Pc::Finish)
        }
        _ => unreachable!("not a step of bpf_testmod"),
    }
}
