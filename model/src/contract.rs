//! The errno contract: what each operation may return, given what it met.
//!
//! Written from the behaviour of Linux (op x state table of 6.12, 6.18 and 7.3), not from the procedures: it
//! knows neither their order nor their locks. What an operation met is noted in [`crate::kernel::seen`].

use crate::design::{Design, Links, SameMap};
use crate::errno::{
    E2BIG, EAGAIN, EBADF, EBUSY, EINPROGRESS, EINVAL, ENOENT, ENOLINK, ENOMEM, EOPNOTSUPP, EPERM,
    NAMES,
};
use crate::kernel::{CgroupState, Cpu, Kernel, MapState, seen};
use crate::operation::Position;
use crate::place::Linux;
use crate::world::{MapDecl, OpKind, Subsystem, World};

const fn state(s: MapState) -> u16 {
    1 << s as u16
}

/// Whether the result in `cpu.err` is one that the contract allows.
pub fn allows(world: &World, design: &Design, k: &Kernel, cpu: &Cpu) -> bool {
    let map = cpu.map.and_then(|m| k.maps.get(m));
    let decl = map.map(|m| &world.maps[usize::from(m.decl)]);
    let met = |what: u16| cpu.seen & what != 0;
    if cpu.err == ENOMEM {
        return met(seen::NOMEM);
    }
    match cpu.op {
        OpKind::MapUpdate => {
            let Some(decl) = decl else { return true };
            map_update(world, decl, cpu.err, cpu.seen)
        }
        OpKind::MapDelete => {
            let Some(decl) = decl else { return true };
            match cpu.err {
                EOPNOTSUPP => decl.link,
                0 => !decl.link && met(state(MapState::InUse)),
                ENOENT => !decl.link && met(state(MapState::Init)),
                EINPROGRESS => !decl.link && met(state(MapState::ToBeFree)),
                _ => false,
            }
        }
        OpKind::LinkCreate | OpKind::SysBpfLinkCreate => {
            let Some(decl) = decl else { return true };
            let subsystem = world.types[decl.ty].subsystem;
            let ready = state(MapState::Ready)
                | if design.links == Links::One {
                    state(MapState::InUse)
                } else {
                    0
                };
            match cpu.err {
                0 => decl.link && met(ready) && world.validates(decl),
                EINVAL if !decl.link || met(!ready & STATES) => true,
                EBUSY if design.links == Links::One && met(seen::HAS_LINK) => true,
                err if world.attaches_to_cgroups(decl) => refused_by_cgroup(k, cpu, err),
                EINVAL if world.linux >= Linux::V7_4 && cpu.cgroup != 0 => true,
                err => refused_by_reg(world, subsystem, err, cpu.seen),
            }
        }
        OpKind::LinkUpdate => {
            let Some(decl) = decl else { return true };
            let ready = state(MapState::Ready)
                | if design.links == Links::One {
                    state(MapState::InUse)
                } else {
                    0
                };
            match cpu.err {
                0 => {
                    let refused = seen::DETACHED | seen::OTHER_MAP | seen::MISMATCH;
                    decl.link && met(ready) && !met(refused)
                }
                EINVAL => {
                    !decl.link
                        || met(!ready & STATES)
                        || met(seen::MISMATCH)
                        || design.same_map == SameMap::Refuse
                }
                EOPNOTSUPP => !world.types[decl.ty].subsystem.has_update(&world.script),
                ENOLINK => met(seen::DETACHED),
                EPERM => met(seen::OTHER_MAP),
                EBUSY if design.links == Links::One && met(seen::HAS_LINK) => true,
                err => refused_by_update(world, decl, err),
            }
        }
        OpKind::MapCreate => {
            let decl = &world.maps[usize::from(cpu.arg)];
            let plain = world.attaches_to_cgroups(decl) && !decl.link;
            match cpu.err {
                0 => !plain,
                EOPNOTSUPP => plain,
                EINVAL => met(seen::NO_MODULE),
                _ => false,
            }
        }
        OpKind::CgroupCall => matches!(cpu.err, 0 | ENOENT),
        OpKind::CgroupRmdir => matches!(cpu.err, 0 | ENOENT | EBUSY),
        OpKind::SockOpen => matches!(cpu.err, 0 | ENOENT | EBUSY),
        OpKind::SockCall | OpKind::Call | OpKind::ScxError => matches!(cpu.err, 0 | ENOENT),
        OpKind::Rmmod | OpKind::Fork => matches!(cpu.err, 0 | EAGAIN),
        OpKind::LinkGetFdById => matches!(cpu.err, 0 | ENOENT | EAGAIN),
        OpKind::MapGetFdById => matches!(cpu.err, 0 | ENOENT),
        // Whatever its functions return.
        OpKind::Run => true,
        _ => cpu.err == 0,
    }
}

/// The results that the contract allows where `cpu` has another one, for people.
pub fn allowed(world: &World, design: &Design, k: &Kernel, cpu: &Cpu) -> String {
    let results = std::iter::once((0, "0")).chain(NAMES.iter().copied());
    let allowed: Vec<&str> = results
        .filter(|(err, _)| allows(world, design, k, &Cpu { err: *err, ..*cpu }))
        .map(|(_, name)| name)
        .collect();
    allowed.join(", ")
}

/// What the cgroup layer answers instead of a reg(): to a target or an anchor that is not what it should be.
fn refused_by_cgroup(k: &Kernel, cpu: &Cpu, err: i8) -> bool {
    let position = Position::from_number(cpu.list_position);
    let target = cpu.cgroup.checked_sub(1);
    let state = target.map(|c| k.subsys.cgroups[usize::from(c)].state);
    match err {
        EBADF => state.is_none() || position.anchor.is_some(),
        ENOENT => state != Some(CgroupState::Online) || position.anchor.is_some(),
        EINVAL => position != Position::default(),
        _ => false,
    }
}

const STATES: u16 = 15;

fn map_update(world: &World, decl: &MapDecl, err: i8, met: u16) -> bool {
    let subsystem = world.types[decl.ty].subsystem;
    let valid = world.validates(decl) && !decl.owner_set;
    match err {
        0 => met & seen::INIT != 0 && valid,
        EBUSY if met & (STATES & !seen::INIT) != 0 => true,
        EINVAL if !valid => true,
        // A ninth image page: all members of one struct did not fit.
        E2BIG => true,
        crate::errno::EBADF => true,
        err => !decl.link && refused_by_reg(world, subsystem, err, met),
    }
}

/// What an update() of the scenario's own may answer.
fn refused_by_update(world: &World, decl: &MapDecl, err: i8) -> bool {
    let Subsystem::Own(own) = world.types[decl.ty].subsystem else {
        return false;
    };
    let update = world.script.subsystems[usize::from(own)].update;
    update.is_some_and(|f| world.script.errnos(f).any(|e| e == err))
}

/// What the subsystem's reg() may answer.
fn refused_by_reg(world: &World, subsystem: Subsystem, err: i8, met: u16) -> bool {
    if let Subsystem::Own(own) = subsystem {
        let reg = world.script.subsystems[usize::from(own)].reg;
        return world.script.errnos(reg).any(|e| e == err);
    }
    let mut refusals = subsystem.facts().refusals.iter();
    refusals.any(|(refusal, why)| *refusal == err && (*why == 0 || met & why != 0))
}
