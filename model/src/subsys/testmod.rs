//! bpf_testmod's types: one whose reg always succeeds, a singleton, one keyed by map id; and its module.
//!
//! Stands for tools/testing/selftests/bpf/bpf_testmod/bpf_testmod.c (the keyed one: 7.x). Beyond the
//! source, the always-succeeding type remembers what was registered, as hid_bpf's per-device list does, so
//! that its members can be called after reg() as well, and it has an update(), so that two links of one map
//! meet link_update (6.12's has none; -EOPNOTSUPP is explored on the other types). Members of all three are
//! called as `bpf_kfunc_st_ops_test_prologue()` calls the singleton's. 7.3 holds
//! multi_st_ops_lock across a call of the keyed one; the model has an RCU reader there, for which unreg() waits.

use crate::design::Twin;
use crate::exec::{Exec, Gone, Step, errno, event};
use crate::invariant::Invariant;
use crate::kernel::{Kernel, Reg, holds, seen};
use crate::pc::Pc;
use crate::subsys::{back, leave, registered, unregistered};
use crate::table::Full;
use crate::world::{Subsystem, World};

fn push(x: &mut Exec<'_>) -> Step {
    let kdata = x.c().kdata.expect("reg() gets a kdata");
    registered(x, kdata)?;
    let expect = x.kdata(kdata)?.expect;
    let link = x.c().link;
    let Some(place) = x.k.subsys.regs.iter().position(|r| r.kdata.is_none()) else {
        return Err(x.full(Full));
    };
    x.k.subsys.regs[place] = Reg {
        kdata: Some(kdata),
        expect,
        link,
    };
    event!(x, "registered as entry {place}");
    Ok(())
}

fn remove(x: &mut Exec<'_>) -> Step {
    let (kdata, link) = (x.c().kdata, x.c().link);
    let oldest = x.design.twin == Twin::ForeignUnreg;
    let regs = &mut x.k.subsys.regs;
    if let Some(place) = regs
        .iter()
        .position(|r| oldest || (r.kdata == kdata && r.link == link))
    {
        let reg = std::mem::take(&mut regs[place]);
        regs[place..].rotate_left(1);
        if (reg.kdata, reg.link) != (kdata, link) {
            x.violate(Invariant::NoForeignUnreg);
        }
        if let Some(kdata) = reg.kdata {
            unregistered(x, kdata)?;
        }
        event!(x, "entry {place} removed");
    }
    Ok(())
}

/// The first step of a call through a registration: its label says which type's kfunc it is.
pub(crate) fn call(k: &Kernel, world: &World, entry: u8) -> Pc {
    let reg = k.subsys.regs.get(usize::from(entry));
    let kdata = reg.and_then(|r| r.kdata).and_then(|key| k.kdatas.get(key));
    let ty = kdata.map_or(0, |d| world.maps[usize::from(d.decl)].ty);
    match world.types[ty].subsystem {
        Subsystem::Singleton => Pc::SingletonCall,
        Subsystem::KeyedByMap => Pc::KeyedCall,
        _ => Pc::AlwaysCall,
    }
}

pub(crate) fn step(x: &mut Exec<'_>) -> Step {
    match x.pc {
        Pc::AlwaysReg => {
            push(x)?;
            x.c().member = 0;
            x.goto(Pc::AlwaysRegNext)
        }
        Pc::AlwaysRegNext => {
            // bpf_dummy_reg() calls test_1 and test_2.
            let kdata = x.c().kdata.expect("reg() gets a kdata");
            let data = *x.kdata(kdata)?;
            let member = usize::from(x.c().member);
            if member >= 2 || data.func[member].image.is_none() {
                return leave(x, 0);
            }
            let cpu = x.c();
            cpu.func = data.func[member];
            cpu.expect = data.expect;
            cpu.member += 1;
            cpu.call_ret = Pc::AlwaysRegNext;
            cpu.readers.tasks = true;
            event!(x, "reg() calls member {member}");
            x.goto(Pc::CallEnter)
        }
        Pc::AlwaysUnreg => {
            remove(x)?;
            back(x)
        }
        Pc::AlwaysUpdate => {
            let (new, old, link) = (x.c().kdata, x.c().old_kdata, x.c().link);
            let Some(place) =
                x.k.subsys
                    .regs
                    .iter()
                    .position(|r| r.kdata == old && r.link == link)
            else {
                x.saw(seen::MISMATCH);
                return leave(x, errno::EINVAL);
            };
            registered(x, new.expect("update() gets a kdata"))?;
            unregistered(x, old.expect("update() gets the old kdata"))?;
            x.k.subsys.regs[place].kdata = new;
            event!(x, "entry {place} now has the new kdata");
            leave(x, 0)
        }
        Pc::SingletonReg => {
            if x.k.subsys.regs[0].kdata.is_some() {
                x.saw(seen::TAKEN);
                return leave(x, errno::EEXIST);
            }
            push(x)?;
            leave(x, 0)
        }
        Pc::SingletonUnreg => {
            let reg = std::mem::take(&mut x.k.subsys.regs[0]);
            if reg.kdata != x.c().kdata {
                x.violate(Invariant::NoForeignUnreg);
            }
            if let Some(kdata) = reg.kdata {
                unregistered(x, kdata)?;
            }
            back(x)
        }
        Pc::KeyedReg => {
            let kdata = x.c().kdata.expect("reg() gets a kdata");
            let id = x.kdata(kdata)?.map;
            let regs = x.k.subsys.regs;
            for other in regs.iter().filter_map(|r| r.kdata) {
                if x.kdata(other)?.map == id {
                    x.saw(seen::TAKEN);
                    return leave(x, errno::EEXIST);
                }
            }
            push(x)?;
            leave(x, 0)
        }
        Pc::KeyedUnreg => {
            remove(x)?;
            x.synchronize_rcu_begin();
            x.goto(Pc::SyncRcu)
        }
        Pc::AlwaysCall | Pc::SingletonCall | Pc::KeyedCall => {
            let entry = usize::from(x.c().arg);
            let reg = x.k.subsys.regs[entry];
            let Some(kdata) = reg.kdata else {
                return x.fail(errno::ENOENT, Pc::Finish);
            };
            let decl = x.kdata(kdata)?.decl;
            let subsystem = x.st_ops(decl)?;
            let ty = &x.world.types[x.world.maps[usize::from(decl)].ty];
            let member = usize::from(x.c().member);
            if subsystem == Subsystem::Singleton {
                x.k.subsys.call_lock = Some(x.cpu);
            } else if !ty.members.get(member).is_some_and(|m| m.sleepable) {
                x.rcu_read_lock();
            }
            if ty.module {
                x.k.module.refs += 1;
                x.c().holds |= holds::MODULE;
            }
            let done = match x.pc {
                Pc::SingletonCall => Pc::SingletonCallDone,
                Pc::KeyedCall => Pc::KeyedCallDone,
                _ => Pc::AlwaysCallDone,
            };
            let cpu = x.c();
            cpu.kdata = Some(kdata);
            cpu.expect = reg.expect;
            cpu.call_ret = done;
            cpu.readers.tasks = true;
            event!(x, "entry {entry} calls member {member}");
            x.goto(Pc::CallRead)
        }
        Pc::AlwaysCallDone | Pc::SingletonCallDone | Pc::KeyedCallDone => {
            if x.c().readers.rcu > 0 {
                x.rcu_read_unlock();
            }
            if x.k.subsys.call_lock == Some(x.cpu) {
                x.k.subsys.call_lock = None;
            }
            if x.c().holds & holds::MODULE != 0 {
                x.hand_over(holds::MODULE);
                x.k.module.refs -= 1;
            }
            x.goto(Pc::Finish)
        }
        Pc::Rmmod => {
            if x.k.module.refs > 0 {
                return x.fail(errno::EAGAIN, Pc::Finish);
            }
            if x.k.subsys.regs.iter().any(|r| r.kdata.is_some()) {
                return Err(x.gone(Gone::Module));
            }
            x.k.module.unloaded = true;
            event!(x, "module unloaded");
            x.goto(Pc::Finish)
        }
        _ => unreachable!("not a step of bpf_testmod"),
    }
}
