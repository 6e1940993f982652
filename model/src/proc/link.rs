//! Link system calls without an engine of their own: close, by id, info, and the end of the others; and what is the
//! same for links and maps: pin, unpin, BPF_OBJ_GET, dup().
//!
//! Stands for bpf_link_put(), bpf_link_release(), bpf_link_by_id(), bpf_link_new_fd(), bpf_link_get_info_by_fd() of
//! kernel/bpf/syscall.c, bpf_obj_pin_user() and bpf_any_get() of kernel/bpf/inode.c, and
//! bpf_struct_ops_map_link_fill_link_info() of kernel/bpf/bpf_struct_ops.c.

use crate::backend::{Backend, Counted, LinkOf, Step, event};
use crate::design::Twin;
use crate::errno;
use crate::invariant::Invariant;
use crate::kernel::Holds;
use crate::lock::{Lock, LockClass};
use crate::operation::OpKind;
use crate::pc::Pc;
use crate::place::Linux;
use crate::proc::refs::{attachment_put, map_inc, map_put, put_my_map};

pub(crate) fn step<'w, X: Backend<'w>>(x: &mut X) -> Step {
    match x.pc() {
        Pc::LinkRelease => {
            let link = x.my_link();
            x.close_link_fd(link)?;
            x.cpu().holds |= Holds::LINK;
            x.goto(Pc::LinkPut)
        }
        Pc::LinkPut => {
            let link = x.my_link();
            x.hand_over(Holds::LINK);
            if !x.put(Counted::Link(link))? {
                return x.goto(Pc::Finish);
            }
            x.witness(Invariant::RefcountsBalance);
            // An inode puts its link with bpf_link_put(), which leaves the rest to a work item: it may be called from
            // where nobody may sleep. All others use bpf_link_put_direct().
            if x.cpu().op == OpKind::LinkUnpin && x.queue_link(link)? {
                event!(x, "last link reference: bpf_link_put_deferred() is queued");
                return x.goto(Pc::Finish);
            }
            event!(x, "last link reference");
            x.goto(Pc::DeallocUnreg)
        }
        Pc::ObjPin => {
            if let Some(map) = x.cpu().map {
                x.set_map_pinned(map, true)?;
                map_inc(x, map)?;
            } else {
                let link = x.my_link();
                x.set_pinned(link, true)?;
                x.get(Counted::Link(link))?;
            }
            x.goto(Pc::Finish)
        }
        Pc::ObjUnpin => {
            if let Some(map) = x.cpu().map {
                x.set_map_pinned(map, false)?;
                x.cpu().holds |= Holds::MAP;
                return x.goto(Pc::MapPut);
            }
            let link = x.my_link();
            x.set_pinned(link, false)?;
            x.cpu().holds |= Holds::LINK;
            x.goto(Pc::LinkPut)
        }
        Pc::ObjGet => {
            if let Some(map) = x.cpu().map {
                map_inc(x, map)?;
                x.cpu().holds |= Holds::MAP;
                return x.goto(Pc::MapNewFd);
            }
            let link = x.my_link();
            x.get(Counted::Link(link))?;
            x.cpu().holds |= Holds::LINK;
            x.goto(Pc::LinkNewFd)
        }
        Pc::LinkById => {
            let link = x.cpu().link;
            let err = by_id(x, link)?;
            if err != 0 {
                return x.fail(err, Pc::Finish);
            }
            x.cpu().holds |= Holds::LINK;
            event!(x, "found");
            x.goto(Pc::LinkNewFd)
        }
        Pc::LinkNewFd => {
            let link = x.my_link();
            if !x.alloc() {
                return x.fail(errno::ENOMEM, Pc::LinkPut);
            }
            x.install_link_fd(link)?;
            x.hand_over(Holds::LINK);
            event!(x, "fd installed");
            x.goto(Pc::Finish)
        }
        Pc::Dup => {
            if let Some(map) = x.cpu().map {
                map_inc(x, map)?;
                x.install_map_fd(map)?;
            } else {
                let link = x.my_link();
                x.get(Counted::Link(link))?;
                x.install_link_fd(link)?;
            }
            x.goto(Pc::Finish)
        }
        Pc::LinkInfo => {
            let link = x.my_link();
            if x.world().linux >= Linux::V7_4 {
                return locked_info(x, link);
            }
            x.rcu_read_lock();
            x.get(Counted::Link(link))?;
            x.cpu().holds |= Holds::LINK;
            x.cpu().map = x.link_map(link)?;
            x.goto(Pc::LinkInfoRead)
        }
        Pc::LinkInfoRead => {
            if let Some(map) = x.cpu().map {
                let decl = x.map_decl(map)?;
                event!(x, "map_id of {}", x.world().maps[usize::from(decl)].name);
            } else {
                event!(x, "map_id 0");
            }
            x.rcu_read_unlock();
            x.goto(Pc::LinkPut)
        }
        Pc::LuPutRefs | Pc::LdPutRefs => {
            // What a link_update or link_detach still holds, the link last.
            if x.cpu().holds.contains(Holds::ATTACHMENT) {
                let attachment = x.cpu().attachment.expect("held");
                x.hand_over(Holds::ATTACHMENT);
                attachment_put(x, attachment)?;
                x.witness(Invariant::FailureAtomic);
            }
            put_old_attachment(x)?;
            if x.cpu().holds.contains(Holds::OLD) {
                let old = x.cpu().old.expect("held");
                x.hand_over(Holds::OLD);
                map_put(x, old)?;
            }
            if x.cpu().holds.contains(Holds::MAP) {
                put_my_map(x)?;
            }
            x.goto(Pc::LinkPut)
        }
        _ => unreachable!("not a step of a link system call"),
    }
}

/// 7.4: `link->map` is read under the mutex that guards it, update_mutex or cgroup_mutex.
fn locked_info<'w, X: Backend<'w>>(x: &mut X, link: LinkOf<X>) -> Step {
    let class = match x.world().has_cgroup_types() {
        true => LockClass::Cgroup,
        false => LockClass::UpdateMutex,
    };
    x.lock(Lock::The(class))?;
    x.get(Counted::Link(link))?;
    x.cpu().holds |= Holds::LINK;
    if let Some(map) = x.link_map(link)? {
        let decl = x.map_decl(map)?;
        event!(x, "map_id of {}", x.world().maps[usize::from(decl)].name);
    } else {
        event!(x, "map_id 0");
    }
    x.unlock(Lock::The(class))?;
    x.goto(Pc::LinkPut)
}

/// Puts the attachment that the link has let go of, if the task still holds it.
pub(crate) fn put_old_attachment<'w, X: Backend<'w>>(x: &mut X) -> Step {
    if x.cpu().holds.contains(Holds::OLD_ATTACHMENT) {
        let attachment = x.cpu().old_attachment.expect("held");
        x.hand_over(Holds::OLD_ATTACHMENT);
        attachment_put(x, attachment)?;
    }
    Ok(())
}

/// `bpf_link_by_id()`: 0, and the caller has a reference, or an errno.
pub(crate) fn by_id<'w, X: Backend<'w>>(x: &mut X, link: Option<LinkOf<X>>) -> Step<i8> {
    let Some(link) = link else {
        return Ok(errno::ENOENT);
    };
    if !x.link_has_id(link)? {
        // Primed and not settled yet: its creator has the only reference. Or gone from link_idr.
        let primed = x.is_last(Counted::Link(link))?;
        return Ok(if primed { errno::EAGAIN } else { errno::ENOENT });
    }
    if x.design().twin == Twin::ByIdOfZero {
        x.get(Counted::Link(link))?;
    } else if !x.get_unless_zero(Counted::Link(link))? {
        event!(x, "the count is 0");
        return Ok(errno::ENOENT);
    }
    Ok(0)
}
