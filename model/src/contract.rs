//! The errno contract: what each operation may return, given what it met.
//!
//! Written from the behaviour of Linux (op x state table of 6.12, 6.18 and 7.3), not from the procedures: it
//! knows neither their order nor their locks. What an operation met is noted in [`crate::kernel::Seen`], by `met`.

use crate::design::{AssocShare, Design, Links};
use crate::errno::{
    E2BIG, EAGAIN, EBADF, EBUSY, EINPROGRESS, EINVAL, ENOENT, ENOLINK, ENOMEM, EOPNOTSUPP, EPERM,
    ESTALE, NAMES,
};
use crate::kernel::{CgroupState, Cpu, Kernel, MapState, Seen};
use crate::operation::Position;
use crate::place::Linux;
use crate::world::{MAX_TRAMP_IMAGE_PAGES, MapDecl, OpKind, Subsystem, World};

/// Whether the result in `cpu.err` is one that the contract allows.
pub fn allows(world: &World, design: &Design, k: &Kernel, cpu: &Cpu) -> bool {
    let map = cpu.map.and_then(|m| k.maps.get(m));
    let decl = map.map(|m| &world.maps[usize::from(m.decl)]);
    let met = |what: Seen| cpu.seen.intersects(what);
    if cpu.err == ENOMEM {
        return met(Seen::NOMEM);
    }
    match cpu.op {
        OpKind::MapUpdate => decl.is_none_or(|decl| map_update(world, design, k, decl, cpu)),
        OpKind::MapDelete => decl.is_none_or(|decl| match cpu.err {
            EOPNOTSUPP => decl.link,
            0 => !decl.link && met(Seen::of(MapState::InUse)),
            ENOENT => !decl.link && met(Seen::of(MapState::Init)),
            EINPROGRESS => !decl.link && met(Seen::of(MapState::ToBeFree)),
            _ => false,
        }),
        OpKind::LinkCreate | OpKind::SysBpfLinkCreate => {
            decl.is_none_or(|decl| link_create(world, design, k, decl, cpu))
        }
        OpKind::LinkUpdate => decl.is_none_or(|decl| link_update(world, design, decl, cpu)),
        OpKind::MapCreate => {
            let decl = &world.maps[usize::from(cpu.arg)];
            let plain = world.attaches_to_cgroups(decl) && !decl.link;
            match cpu.err {
                0 => !plain && !met(Seen::NO_MODULE),
                EOPNOTSUPP => plain,
                EINVAL => met(Seen::NO_MODULE),
                _ => false,
            }
        }
        OpKind::CgroupCall | OpKind::CgroupQuery => match cpu.err {
            0 => true,
            ENOENT => target(k, cpu) != Some(CgroupState::Online),
            _ => false,
        },
        OpKind::CgroupRmdir => match cpu.err {
            0 => target(k, cpu) == Some(CgroupState::Released),
            ENOENT => target(k, cpu) != Some(CgroupState::Online),
            EBUSY => {
                let cgroup = cpu.cgroup.checked_sub(1);
                cgroup.is_some_and(|c| world.descendants(c).count() > 1)
            }
            _ => false,
        },
        OpKind::SockOpen => matches!(cpu.err, 0 | ENOENT | EBUSY),
        OpKind::ScxError => match cpu.err {
            0 => met(Seen::TAKEN),
            ENOENT => !met(Seen::TAKEN),
            _ => false,
        },
        OpKind::SockCall | OpKind::Call => matches!(cpu.err, 0 | ENOENT),
        OpKind::ProgAssoc => {
            let program = world.progs[usize::from(cpu.arg)].of;
            let command = design.has_assoc_command(world.linux) && program.is_tied_by_command();
            match cpu.err {
                0 => command && !met(Seen::OTHER_MAP),
                EBUSY => command && met(Seen::OTHER_MAP),
                EINVAL => !command,
                _ => false,
            }
        }
        OpKind::RingSetup => matches!(cpu.err, 0 | EBUSY),
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

/// States in which a link map may be attached.
fn ready(design: &Design) -> Seen {
    let ready = Seen::of(MapState::Ready);
    match design.links {
        Links::One => ready | Seen::of(MapState::InUse),
        Links::Many => ready,
    }
}

/// What the cgroup is that the operation names.
fn target(k: &Kernel, cpu: &Cpu) -> Option<CgroupState> {
    let target = cpu.cgroup.checked_sub(1)?;
    Some(k.subsys.cgroups[usize::from(target)].state)
}

fn map_update(world: &World, design: &Design, k: &Kernel, decl: &MapDecl, cpu: &Cpu) -> bool {
    let met = |what: Seen| cpu.seen.intersects(what);
    let subsystem = world.types[decl.ty].subsystem;
    let valid = world.validates(decl) && !decl.owner_set;
    let shared = design.lookup.assoc_share == AssocShare::Refuse && met(Seen::OTHER_MAP);
    let mut progs = decl.progs.iter().flatten();
    let closed = |p: &u8| k.progs[usize::from(*p)].fds.count_ones() < u32::from(world.procs);
    let refusal = subsystem.facts().init_member;
    if refusal != 0 {
        return cpu.err == refusal && met(Seen::INIT);
    }
    match cpu.err {
        0 => {
            met(Seen::INIT) && valid && !shared && (decl.link || !must_refuse(subsystem, cpu.seen))
        }
        EBUSY if met(Seen::STATES - Seen::INIT) => true,
        EINVAL if !valid || shared => true,
        // An image page takes one member at least.
        E2BIG => progs.count() > MAX_TRAMP_IMAGE_PAGES,
        // An fd that is closed stays closed.
        EBADF if progs.any(closed) => true,
        err => {
            let asked = !decl.link && met(Seen::INIT) && valid;
            asked && refused_by_reg(world, subsystem, err, cpu.seen)
        }
    }
}

fn link_create(world: &World, design: &Design, k: &Kernel, decl: &MapDecl, cpu: &Cpu) -> bool {
    let met = |what: Seen| cpu.seen.intersects(what);
    let subsystem = world.types[decl.ty].subsystem;
    let to_cgroup = world.attaches_to_cgroups(decl);
    let anchor = Position::from_number(cpu.list_position).anchor;
    let asked = cpu.cgroup != 0 || anchor.is_some() || cpu.revision != 0;
    let no_target = !to_cgroup && world.linux >= Linux::V7_4 && asked;
    let has_link = design.links == Links::One && met(Seen::HAS_LINK);
    match cpu.err {
        0 => {
            decl.link
                && met(ready(design))
                && world.validates(decl)
                && !no_target
                && (!to_cgroup || cpu.cgroup != 0)
                && !has_link
                && !must_refuse(subsystem, cpu.seen)
        }
        EINVAL if !decl.link || met(Seen::STATES - ready(design)) || no_target => true,
        EBUSY if has_link => true,
        // Neither is asked then.
        _ if !decl.link || !met(ready(design)) || no_target => false,
        err if to_cgroup => refused_by_cgroup(k, cpu, err),
        err => refused_by_reg(world, subsystem, err, cpu.seen),
    }
}

fn link_update(world: &World, design: &Design, decl: &MapDecl, cpu: &Cpu) -> bool {
    let met = |what: Seen| cpu.seen.intersects(what);
    let has_update = world.types[decl.ty].subsystem.has_update(&world.script);
    let has_link = design.links == Links::One && met(Seen::HAS_LINK);
    match cpu.err {
        0 => {
            let refused = Seen::DETACHED | Seen::OTHER_MAP | Seen::MISMATCH;
            let attaches = decl.link && met(ready(design)) && world.validates(decl);
            attaches && has_update && !met(refused) && !has_link
        }
        EINVAL if !decl.link || met(Seen::STATES - ready(design)) || met(Seen::MISMATCH) => true,
        EOPNOTSUPP if !has_update => true,
        ENOLINK if met(Seen::DETACHED) => true,
        EPERM if met(Seen::OTHER_MAP) => true,
        EBUSY if has_link => true,
        err => refused_by_update(world, decl, err),
    }
}

/// What the cgroup layer answers instead of a reg(): to a target, an anchor or a revision that is not what it should be.
fn refused_by_cgroup(k: &Kernel, cpu: &Cpu, err: i8) -> bool {
    let position = Position::from_number(cpu.list_position);
    let state = target(k, cpu);
    match err {
        EBADF => state.is_none() || (position.anchor.is_some() && !position.by_id),
        EAGAIN => position.anchor.is_some() && position.by_id,
        ESTALE => cpu.revision != 0,
        ENOENT => state != Some(CgroupState::Online) || position.anchor.is_some(),
        EINVAL => position != Position::default(),
        _ => false,
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

/// Whether what the operation has met leaves a reg() of the kernel no other way than to refuse.
fn must_refuse(subsystem: Subsystem, met: Seen) -> bool {
    let mut refusals = subsystem.facts().refusals.iter();
    refusals.any(|(_, why)| why.is_empty() || met.intersects(*why))
}

/// What the subsystem's reg() may answer.
fn refused_by_reg(world: &World, subsystem: Subsystem, err: i8, met: Seen) -> bool {
    if let Subsystem::Own(own) = subsystem {
        let reg = world.script.subsystems[usize::from(own)].reg;
        return world.script.errnos(reg).any(|e| e == err);
    }
    let mut refusals = subsystem.facts().refusals.iter();
    refusals.any(|(refusal, why)| *refusal == err && (why.is_empty() || met.intersects(*why)))
}
