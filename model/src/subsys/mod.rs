//! The subsystems that take struct_ops: reg(), unreg(), update(), and how each calls its members.
//!
//! One file per subsystem, with its own data structure as it is. The attach path enters through
//! [`reg`], [`unreg`] and [`update`], which stand for the calls through `st_ops->reg` and its siblings.

pub(crate) mod dummy;
pub(crate) mod hid_bpf;
pub(crate) mod sched_ext;
pub(crate) mod tcp_cong;
pub(crate) mod testmod;

use crate::exec::{Exec, Step};
use crate::invariant::Invariant;
use crate::kernel::{KdataKey, dirty};
use crate::pc::Pc;
use crate::world::Subsystem;

/// `st_ops->reg(kdata, link)` with the CPU's kdata and link; comes back at `ret` with the result in `err`.
pub(crate) fn reg(x: &mut Exec<'_>, ret: Pc) -> Step {
    x.c().ret = ret;
    let kdata = x.c().kdata.expect("reg() gets a kdata");
    let decl = x.kdata(kdata)?.decl;
    let entry = match x.st_ops(decl)? {
        Subsystem::TcpCong => Pc::TcpReg,
        Subsystem::SchedExt | Subsystem::SchedExt612 => Pc::ScxEnable,
        Subsystem::Always => Pc::AlwaysReg,
        Subsystem::Singleton => Pc::SingletonReg,
        Subsystem::KeyedByMap => Pc::KeyedReg,
        Subsystem::HidBpf => Pc::HidReg,
        Subsystem::Dummy => Pc::DummyReg,
    };
    x.goto(entry)
}

/// `st_ops->unreg(kdata, link)`; comes back at `ret`.
pub(crate) fn unreg(x: &mut Exec<'_>, ret: Pc) -> Step {
    x.c().ret = ret;
    let kdata = x.c().kdata.expect("unreg() gets a kdata");
    let decl = x.kdata(kdata)?.decl;
    let entry = match x.st_ops(decl)? {
        Subsystem::TcpCong => Pc::TcpUnreg,
        Subsystem::SchedExt | Subsystem::SchedExt612 => Pc::ScxDisable,
        Subsystem::Always | Subsystem::Dummy => Pc::AlwaysUnreg,
        Subsystem::Singleton => Pc::SingletonUnreg,
        Subsystem::KeyedByMap => Pc::KeyedUnreg,
        Subsystem::HidBpf => Pc::HidUnreg,
    };
    x.goto(entry)
}

/// `st_ops->update(kdata, old_kdata, link)`; comes back at `ret` with the result in `err`.
pub(crate) fn update(x: &mut Exec<'_>, ret: Pc) -> Step {
    x.c().ret = ret;
    let kdata = x.c().kdata.expect("update() gets a kdata");
    let decl = x.kdata(kdata)?.decl;
    let entry = match x.st_ops(decl)? {
        Subsystem::TcpCong => Pc::TcpUpdate,
        _ => Pc::AlwaysUpdate,
    };
    x.goto(entry)
}

/// A subsystem function without result returns to the attach path.
pub(crate) fn back(x: &mut Exec<'_>) -> Step {
    let ret = x.c().ret;
    x.goto(ret)
}

/// The subsystem function returns `err` to the attach path.
pub(crate) fn leave(x: &mut Exec<'_>, err: i8) -> Step {
    if err != 0 {
        crate::exec::event!(x, "{}", crate::exec::errno::name(err));
    }
    let ret = x.c().ret;
    x.c().err = err;
    x.goto(ret)
}

/// Book-keeping of every successful registration: what the subsystem was given must be whole.
pub(crate) fn registered(x: &mut Exec<'_>, key: KdataKey) -> Step {
    x.report.witness(Invariant::NoTornPublish);
    check_whole(x, key)?;
    let expect = match x.c().link {
        Some(link) => x.link(link)?.cookie,
        None => 0,
    };
    let kdata = x.kdata(key)?;
    kdata.registered += 1;
    kdata.expect = expect;
    x.touch(dirty::REG);
    Ok(())
}

/// Book-keeping of the end of a registration of `key` that the CPU's unreg() was called for.
pub(crate) fn unregistered(x: &mut Exec<'_>, key: KdataKey) -> Step {
    if x.c().kdata == Some(key) {
        x.report.witness(Invariant::NoForeignUnreg);
    }
    let kdata = x.kdata(key)?;
    kdata.registered = kdata.registered.saturating_sub(1);
    x.undo(dirty::REG);
    Ok(())
}

/// A kdata that somebody calls through must be built to the end.
pub(crate) fn check_whole(x: &mut Exec<'_>, key: KdataKey) -> Step {
    let kdata = *x.kdata(key)?;
    let mut cookie = None;
    for (member, func) in kdata.func.iter().enumerate() {
        let Some(page) = func.image else {
            if x.world.maps[usize::from(kdata.decl)].progs[member].is_some() {
                crate::exec::event!(x, "TORN: member {member} has no trampoline yet");
                x.violate(Invariant::NoTornPublish);
            }
            continue;
        };
        // A dangling pointer is no torn one: following it is judged where it is followed.
        let Some(image) = x.k.images.get(page) else {
            continue;
        };
        let code = image.code[usize::from(func.index)];
        if !image.protected {
            crate::exec::event!(x, "TORN: the page of member {member} is not executable yet");
            x.violate(Invariant::NoTornPublish);
        }
        if cookie.is_some_and(|c| c != code.cookie) {
            crate::exec::event!(x, "TORN: members carry the cookies of two attachments");
            x.violate(Invariant::NoTornPublish);
        }
        cookie = Some(code.cookie);
    }
    Ok(())
}
