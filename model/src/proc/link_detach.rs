//! bpf_struct_ops_map_link_detach() and bpf_struct_ops_map_link_dealloc() of kernel/bpf/bpf_struct_ops.c.

use crate::backend::{Backend, Counted, KdataOf, LinkOf, Step, event};
use crate::design::{Free, Owner, Wait};
use crate::kernel::{Cpu, Holds, Stage};
use crate::lock::{Lock, LockClass};
use crate::operation::OpKind;
use crate::pc::Pc;
use crate::proc::link::put_old_attachment;
use crate::proc::refs::{attachment_release, map_put};
use crate::proc::{attachment, grace, link_update};
use crate::subsys;

pub(crate) fn step<'w, X: Backend<'w>>(x: &mut X) -> Step {
    match x.pc() {
        Pc::LdGet => {
            let link = x.my_link();
            x.get(Counted::Link(link))?;
            x.cpu().holds |= Holds::LINK;
            if x.world().has_cgroup_types() {
                x.cpu().ret = Pc::LdPutRefs;
                return x.goto(Pc::CgDetach);
            }
            x.goto(Pc::LdLock)
        }
        Pc::LdLock => {
            x.lock(Lock::The(LockClass::UpdateMutex))?;
            x.goto(Pc::LdCheck)
        }
        Pc::LdCheck => {
            let link = x.my_link();
            let Some(map) = x.link_map(link)? else {
                event!(x, "detached already");
                return x.goto(Pc::LdUnlock);
            };
            event!(x, "attached: calls unreg()");
            let attachment = x.link_attachment(link)?;
            let kdata = attachment::published(x, map, attachment)?;
            x.cpu().kdata = Some(kdata);
            subsys::unreg(x, Pc::LdUnregDone)
        }
        Pc::LdUnregDone => {
            let attachment = let_go(x)?;
            event!(x, "link->map = NULL");
            match attachment {
                Some(attachment) if x.design().wait == Wait::UpdateMutex => {
                    let waits = wait_begin(x, attachment)?;
                    x.goto(if waits { Pc::LdWait } else { Pc::LdUnlock })
                }
                _ => x.goto(Pc::LdUnlock),
            }
        }
        Pc::LdWait => {
            if waited(x)? {
                return x.goto(Pc::LdUnlock);
            }
            Ok(())
        }
        Pc::LdUnlock => {
            x.unlock(Lock::The(LockClass::UpdateMutex))?;
            x.goto(Pc::LdPutRefs)
        }
        Pc::DeallocUnreg => {
            let link = x.my_link();
            // bpf_link_free_id()
            x.set_link_id(link, false)?;
            if x.world().has_cgroup_types() {
                x.cpu().ret = Pc::DeallocFree;
                return x.goto(Pc::CgDetach);
            }
            let Some(map) = x.link_map(link)? else {
                return x.goto(Pc::DeallocFree);
            };
            let attachment = x.link_attachment(link)?;
            let kdata = attachment::published(x, map, attachment)?;
            x.cpu().kdata = Some(kdata);
            subsys::unreg(x, Pc::DeallocFree)
        }
        Pc::DeallocFree => {
            let link = x.my_link();
            if x.link_map(link)?.is_some() {
                let_go(x)?;
            }
            x.free_link(link)?;
            put_old_attachment(x)?;
            event!(x, "link freed");
            if x.cpu().op == OpKind::None {
                // A work item returns to nobody.
                *x.cpu() = Cpu::default();
                return Ok(());
            }
            x.goto(Pc::Finish)
        }
        _ => unreachable!("not a step of link_detach or link_dealloc"),
    }
}

/// bpf_link_put_deferred(): a worker takes over a link that has lost its last reference.
pub(crate) fn dealloc<'w, X: Backend<'w>>(x: &mut X, link: LinkOf<X>) -> Step {
    let cpu = x.cpu();
    cpu.op = OpKind::None;
    cpu.link = Some(link);
    x.goto(Pc::DeallocUnreg)
}

/// The link is not attached any more: the map is put, or its attachment now hangs on this task.
pub(crate) fn let_go<'w, X: Backend<'w>>(x: &mut X) -> Step<Option<KdataOf<X>>> {
    let link = x.my_link();
    let map = x.link_map(link)?.expect("attached");
    let attachment = x.link_attachment(link)?;
    x.set_link(link, None, None)?;
    link_update::set_ready(x, map)?;
    if x.design().owner == Owner::Map {
        map_put(x, map)?;
        return Ok(None);
    }
    x.cpu().old_attachment = attachment;
    x.cpu().holds |= Holds::OLD_ATTACHMENT;
    Ok(attachment)
}

/// wait=update-mutex: the task begins to wait for the grace periods of `attachment`.
/// Whether there is any.
pub(crate) fn wait_begin<'w, X: Backend<'w>>(x: &mut X, attachment: KdataOf<X>) -> Step<bool> {
    let Some(first) = attachment::first_stage(x, attachment)? else {
        return Ok(false);
    };
    x.wait_begin(first);
    event!(x, "waits for a grace period under update_mutex");
    Ok(true)
}

/// wait=update-mutex: one grace period is over; `true` after the last one. What remains to be done for
/// the attachment is to put it: if that was the last reference, it is freed without another wait.
pub(crate) fn waited<'w, X: Backend<'w>>(x: &mut X) -> Step<bool> {
    let over = x.waited();
    let next = grace::next(x.design(), over);
    if let Some(next) = next.filter(|_| x.design().free == Free::Deferred) {
        x.wait_begin(next);
        return Ok(false);
    }
    x.wait_begin(Stage::None);
    let attachment = x.cpu().old_attachment.expect("let go of it before");
    if x.is_last(Counted::Attachment(attachment))? {
        x.hand_over(Holds::OLD_ATTACHMENT);
        x.cpu().old_attachment = None;
        attachment_release(x, attachment)?;
    }
    Ok(true)
}
