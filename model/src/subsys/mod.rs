//! The subsystems that take struct_ops: reg(), unreg(), update(), and how each calls its members.
//!
//! One file per subsystem, with its own data structure as it is. The attach path enters through
//! [`reg`], [`unreg`] and [`update`], which stand for the calls through `st_ops->reg` and its siblings.

pub(crate) mod dummy;
pub(crate) mod hid_bpf;
pub(crate) mod sched_ext;
pub(crate) mod tcp_cong;
pub(crate) mod testmod;

use crate::backend::{Backend, KdataOf, Step, event};
use crate::errno;
use crate::invariant::Invariant;
use crate::kernel::dirty;
use crate::pc::Pc;
use crate::world::{Subsystem, World};

/// The subsystem of a kdata that one of its functions is called for; it comes back at `ret`.
fn enter<'w, X: Backend<'w>>(x: &mut X, ret: Pc) -> Step<Subsystem> {
    x.cpu().ret = ret;
    let kdata = x.cpu().kdata.expect("subsystems get a kdata");
    let decl = x.kdata_decl(kdata)?;
    x.st_ops(decl)
}

/// `st_ops->reg(kdata, link)` with the task's kdata and link; comes back at `ret` with the result in `err`.
pub(crate) fn reg<'w, X: Backend<'w>>(x: &mut X, ret: Pc) -> Step {
    let first = match enter(x, ret)? {
        Subsystem::TcpCong => Pc::TcpReg,
        Subsystem::SchedExt | Subsystem::SchedExt612 => Pc::ScxEnable,
        Subsystem::Always => Pc::AlwaysReg,
        Subsystem::Singleton => Pc::SingletonReg,
        Subsystem::KeyedByMap => Pc::KeyedReg,
        Subsystem::HidBpf => Pc::HidReg,
        Subsystem::Dummy => Pc::DummyReg,
    };
    x.goto(first)
}

/// `st_ops->unreg(kdata, link)`; comes back at `ret`.
pub(crate) fn unreg<'w, X: Backend<'w>>(x: &mut X, ret: Pc) -> Step {
    let first = match enter(x, ret)? {
        Subsystem::TcpCong => Pc::TcpUnreg,
        Subsystem::SchedExt | Subsystem::SchedExt612 => Pc::ScxDisable,
        Subsystem::Always | Subsystem::Dummy => Pc::AlwaysUnreg,
        Subsystem::Singleton => Pc::SingletonUnreg,
        Subsystem::KeyedByMap => Pc::KeyedUnreg,
        Subsystem::HidBpf => Pc::HidUnreg,
    };
    x.goto(first)
}

/// `st_ops->update(kdata, old_kdata, link)`; comes back at `ret` with the result in `err`.
pub(crate) fn update<'w, X: Backend<'w>>(x: &mut X, ret: Pc) -> Step {
    let first = match enter(x, ret)? {
        Subsystem::TcpCong => Pc::TcpUpdate,
        _ => Pc::AlwaysUpdate,
    };
    x.goto(first)
}

/// The first step of a call of a member by the subsystem.
pub(crate) fn call(world: &World) -> Pc {
    match world.types.first().map(|t| t.subsystem) {
        _ if scx_types(world) => Pc::ScxCall,
        Some(Subsystem::HidBpf) => Pc::HidProbe,
        Some(Subsystem::Singleton) => Pc::SingletonCall,
        Some(Subsystem::KeyedByMap) => Pc::KeyedCall,
        _ => Pc::AlwaysCall,
    }
}

/// Whether the world's types are sched_ext's (its members are called through its own copy).
pub(crate) fn scx_types(world: &World) -> bool {
    world
        .types
        .iter()
        .any(|t| matches!(t.subsystem, Subsystem::SchedExt | Subsystem::SchedExt612))
}

/// A subsystem function without result returns to the attach path.
pub(crate) fn back<'w, X: Backend<'w>>(x: &mut X) -> Step {
    let ret = x.cpu().ret;
    x.goto(ret)
}

/// The subsystem function returns `err` to the attach path.
pub(crate) fn leave<'w, X: Backend<'w>>(x: &mut X, err: i8) -> Step {
    if err != 0 {
        event!(x, "{}", errno::name(err));
    }
    x.cpu().err = err;
    back(x)
}

/// Book-keeping of every successful registration: what the subsystem was given must be whole.
pub(crate) fn registered<'w, X: Backend<'w>>(x: &mut X, kdata: KdataOf<X>) -> Step {
    x.witness(Invariant::NoTornPublish);
    x.check_whole(kdata)?;
    let cookie = match x.cpu().link {
        Some(link) => x.link_cookie(link)?,
        None => 0,
    };
    x.note_registered(kdata, cookie)?;
    x.touch(dirty::REG);
    Ok(())
}

/// Book-keeping of the end of a registration of `kdata` that the task's unreg() was called for.
pub(crate) fn unregistered<'w, X: Backend<'w>>(x: &mut X, kdata: KdataOf<X>) -> Step {
    if x.cpu().kdata == Some(kdata) {
        x.witness(Invariant::NoForeignUnreg);
    }
    x.note_unregistered(kdata)?;
    x.undo(dirty::REG);
    Ok(())
}
