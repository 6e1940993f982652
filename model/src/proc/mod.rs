//! The procedures: one file per kernel function or family, one `match` arm per step, each written once over the
//! vocabulary of [`crate::backend`].
//!
//! What drives them is somebody else's: the explorer's [`crate::Machine`], or the tasks of a runtime. For those this is
//! the entry: [`resolve`] and [`begin`] an operation, then take [`step`] by [`step`] until the program counter is
//! [`Pc::Idle`]; [`work`] is what a worker does.

pub(crate) mod attachment;
pub(crate) mod call;
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

pub use syscall::{Files, begin, first_step, resolve};

use crate::backend::{Backend, Freed, Pointers, Step};
use crate::kernel::Stage;
use crate::pc::Pc;
use crate::subsys::{dummy, hid_bpf, sched_ext, tcp_cong, testmod};
use crate::world::OpKind;

/// The step at the task's program counter, whichever backend carries it out.
///
/// # Errors
/// [`crate::backend::Stop`] if the step broke something after which nothing has a meaning.
pub fn step<'w, X: Backend<'w>>(x: &mut X) -> Step {
    match x.pc() {
        Pc::Idle => Ok(()),
        Pc::Finish | Pc::ExitNext | Pc::ProgRelease => syscall::step(x),
        Pc::MapPut
        | Pc::MapCreate
        | Pc::MapAlloc
        | Pc::MapLookup
        | Pc::MapRelease
        | Pc::DelCmpxchg
        | Pc::DelUnregDone => map::step(x),
        Pc::LuPutRefs
        | Pc::LdPutRefs
        | Pc::LinkPut
        | Pc::LinkRelease
        | Pc::LinkPin
        | Pc::LinkUnpin
        | Pc::LinkInfo
        | Pc::LinkInfoRead => link::step(x),
        Pc::UpdTlinks
        | Pc::UpdLock
        | Pc::UpdMembers
        | Pc::UpdPublish
        | Pc::UpdKsymsEarly
        | Pc::UpdRegDone
        | Pc::UpdUnlock
        | Pc::UpdKsyms => map_update::step(x),
        Pc::LcGet
        | Pc::LcValid
        | Pc::LcAlloc
        | Pc::LcBuild
        | Pc::LcLock
        | Pc::LcGuard
        | Pc::LcKsymsEarly
        | Pc::LcReg
        | Pc::LcRegDone
        | Pc::LcUnlock
        | Pc::LcSettle
        | Pc::LcCleanup => link_create::step(x),
        Pc::PrepMember | Pc::PrepSeal => {
            if x.cpu().op == OpKind::LinkUpdate {
                link_update::step(x)
            } else {
                link_create::step(x)
            }
        }
        Pc::LuGet
        | Pc::LuValid
        | Pc::LuBuild
        | Pc::LuLock
        | Pc::LuCheck
        | Pc::LuKsymsEarly
        | Pc::LuUpdate
        | Pc::LuUpdDone
        | Pc::LuWait
        | Pc::LuUnlock => link_update::step(x),
        Pc::LdGet
        | Pc::LdLock
        | Pc::LdCheck
        | Pc::LdUnregDone
        | Pc::LdWait
        | Pc::LdUnlock
        | Pc::DeallocUnreg
        | Pc::DeallocFree => link_detach::step(x),
        Pc::CallRead
        | Pc::CallEnter
        | Pc::CallBody
        | Pc::CallSleep
        | Pc::CallExit
        | Pc::CallRet => call::step(x),
        Pc::TcpReg
        | Pc::TcpUnreg
        | Pc::TcpUpdate
        | Pc::SyncRcu
        | Pc::SockFind
        | Pc::SockGet
        | Pc::SockCall
        | Pc::SockCallDone
        | Pc::SockRelease => tcp_cong::step(x),
        Pc::ScxEnable
        | Pc::ScxInitDone
        | Pc::ScxDisable
        | Pc::ScxDisabled
        | Pc::ScxError
        | Pc::ScxCall
        | Pc::ScxCallDone => sched_ext::step(x),
        Pc::AlwaysReg
        | Pc::AlwaysRegNext
        | Pc::AlwaysUnreg
        | Pc::AlwaysUpdate
        | Pc::SingletonReg
        | Pc::SingletonUnreg
        | Pc::KeyedReg
        | Pc::KeyedUnreg
        | Pc::AlwaysCall
        | Pc::AlwaysCallDone
        | Pc::SingletonCall
        | Pc::SingletonCallDone
        | Pc::KeyedCall
        | Pc::KeyedCallDone
        | Pc::Rmmod => testmod::step(x),
        Pc::HidReg
        | Pc::HidRegData
        | Pc::HidUnreg
        | Pc::HidReconnect
        | Pc::HidReconnectDone
        | Pc::HidProbe
        | Pc::HidProbeDone => hid_bpf::step(x),
        Pc::DummyReg | Pc::TestRun | Pc::TestRunDone => dummy::step(x),
        Pc::MapFree
        | Pc::MapFreeGp
        | Pc::AttachmentFree
        | Pc::AttachmentFreeGp
        | Pc::AttachmentFreeEnd => unreachable!("steps of the worker"),
    }
}

/// Whether this step begins only when the grace period is over that the task has asked for.
pub fn waits(pc: Pc) -> bool {
    matches!(pc, Pc::SyncRcu | Pc::ScxDisabled | Pc::LdWait | Pc::LuWait)
}

/// The step of a deferred free that comes when this is over.
pub fn work_pc<P: Pointers>(what: Freed<P>, over: Stage) -> Pc {
    match what {
        Freed::Map(_) => map_free::work_pc(over),
        Freed::Attachment(_) => attachment::work_pc(over),
        // Its memory goes without a step.
        Freed::Prog(_) => Pc::Idle,
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
        Freed::Prog(_) => Ok(()),
    }
}
