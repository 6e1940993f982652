//! The procedures: one file per kernel function or family, one `match` arm per step, each written once over the
//! vocabulary of [`crate::backend`].
//!
//! What drives them is somebody else's: the explorer's [`crate::Machine`], or the tasks of a runtime. For those this is
//! the entry: [`resolve`] and [`begin`] an operation, then take [`step`] by [`step`] until the program counter is
//! [`Pc::Idle`]; [`work`] is what a worker does.

pub(crate) mod assoc;
pub(crate) mod attachment;
pub(crate) mod call;
pub(crate) mod cgroup;
pub(crate) mod grace;
pub(crate) mod link;
pub(crate) mod link_create;
pub(crate) mod link_detach;
pub(crate) mod link_update;
pub(crate) mod map;
pub(crate) mod map_free;
pub(crate) mod map_update;
pub(crate) mod prepare;
pub(crate) mod refs;
pub(crate) mod syscall;

pub use crate::request::{Files, resolve};
pub use syscall::{begin, first_step};

use crate::backend::{Backend, Freed, LinkOf, Pointers, Step};
use crate::design::Design;
use crate::kernel::Stage;
use crate::operation::OpKind;
use crate::pc::{Pc, Procedure};
use crate::subsys;

/// A work item that frees a link begins; its steps are taken with [`step`] until the program counter is [`Pc::Idle`].
///
/// # Errors
/// As [`step`].
pub fn begin_dealloc<'w, X: Backend<'w>>(x: &mut X, link: LinkOf<X>) -> Step {
    link_detach::dealloc(x, link)
}

/// The callback of a program begins, as [`begin_dealloc`].
///
/// # Errors
/// As [`step`].
pub fn begin_callback<'w, X: Backend<'w>>(x: &mut X, prog: u8) -> Step {
    assoc::begin_callback(x, prog)
}

/// The step at the task's program counter, whichever backend carries it out.
///
/// # Errors
/// [`crate::backend::Stop`] if the step broke something after which nothing has a meaning.
pub fn step<'w, X: Backend<'w>>(x: &mut X) -> Step {
    let Some(info) = x.pc().info() else {
        return Ok(());
    };
    match info.procedure {
        Procedure::Syscall => syscall::step(x),
        Procedure::Map => map::step(x),
        Procedure::Link => link::step(x),
        Procedure::MapUpdate => map_update::step(x),
        Procedure::LinkCreate => link_create::step(x),
        Procedure::LinkUpdate => link_update::step(x),
        Procedure::LinkDetach => link_detach::step(x),
        Procedure::Prepare if x.cpu().op == OpKind::LinkUpdate => link_update::step(x),
        Procedure::Prepare => link_create::step(x),
        Procedure::Call => call::step(x),
        Procedure::Cgroup => cgroup::step(x),
        Procedure::Assoc => assoc::step(x),
        Procedure::Of(subsystem) => subsys::step(x, subsystem),
        Procedure::Worker => unreachable!("steps of the worker"),
    }
}

/// Whether this step begins only when the grace period is over that the task has asked for.
pub fn waits(pc: Pc) -> bool {
    matches!(
        pc,
        Pc::SyncRcu
            | Pc::ScriptWaited
            | Pc::ScxDisabled
            | Pc::HidRegSynced
            | Pc::HidUnregSynced
            | Pc::LdWait
            | Pc::LuWait
            | Pc::CgRelease
    )
}

/// Whether this step may call kmalloc(): others need not be tried to learn that they do not.
pub fn allocates(pc: Pc) -> bool {
    matches!(
        pc,
        Pc::MapAlloc
            | Pc::UpdTlinks
            | Pc::UpdMembers
            | Pc::LcAlloc
            | Pc::LcBuild
            | Pc::LuBuild
            | Pc::PrepMember
            | Pc::HidRegData
            | Pc::TestRun
            | Pc::LinkNewFd
            | Pc::MapNewFd
            | Pc::Script
            | Pc::CgAttach
            | Pc::CgDetach
    )
}

/// The step of a deferred free that comes when this is over.
pub fn work_pc<P: Pointers>(design: &Design, what: Freed<P>, over: Stage) -> Pc {
    match what {
        Freed::Map(_) => map_free::work_pc(over),
        Freed::Attachment(_) => attachment::work_pc(design, over),
        Freed::Prog(_) => Pc::ProgFree,
    }
}

/// A step of a deferred free: of the worker, at [`work_pc`].
///
/// # Errors
/// As [`step`].
pub fn work<'w, X: Backend<'w>>(x: &mut X, what: Freed<X::P>) -> Step {
    match what {
        Freed::Map(map) => map_free::work(x, map),
        Freed::Attachment(attachment) => attachment::work(x, attachment),
        Freed::Prog(prog) => assoc::free(x, prog),
    }
}
