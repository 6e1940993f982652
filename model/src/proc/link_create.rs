//! bpf_struct_ops_link_create() of kernel/bpf/bpf_struct_ops.c.

use crate::backend::{Backend, MapOf, Step, event};
use crate::design::{Build, Links, Owner};
use crate::errno;
use crate::invariant::Invariant;
use crate::kernel::{Dirty, Holds, MapState};
use crate::lock::{Lock, LockClass};
use crate::pc::Pc;
use crate::proc::prepare::add_ksyms;
use crate::proc::refs::{attachment_put, decl_of, map_inc};
use crate::proc::{attachment, cgroup, prepare};
use crate::subsys;

pub(crate) fn step<'w, X: Backend<'w>>(x: &mut X) -> Step {
    match x.pc() {
        Pc::LcGet => {
            let map = x.my_map();
            map_inc(x, map)?;
            x.cpu().holds |= Holds::MAP;
            event!(x, "the map is held");
            x.goto(Pc::LcValid)
        }
        Pc::LcValid => {
            let map = x.my_map();
            if x.has_link(map) {
                x.witness(Invariant::SingleLinkPerMap);
            }
            if !valid_to_reg(x, map)? {
                return x.fail(errno::EINVAL, Pc::MapPut);
            }
            if !cgroup::attaches(x, map)? && cgroup::refuses_target(x) {
                event!(x, "the type attaches to no cgroup");
                return x.fail(errno::EINVAL, Pc::MapPut);
            }
            event!(x, "a link map, ready");
            x.goto(Pc::LcAlloc)
        }
        Pc::LcAlloc => {
            // kzalloc(), then bpf_link_prime(): fd, id and file.
            if !x.alloc() || !x.alloc() {
                return x.fail(errno::ENOMEM, Pc::MapPut);
            }
            let (name, cookie) = (x.cpu().arg, x.cpu().cookie);
            let link = x.new_link(name, cookie)?;
            x.cpu().link = Some(link);
            x.cpu().holds |= Holds::LINK;
            event!(x, "link allocated and primed");
            if x.design().owner == Owner::Link {
                return x.goto(Pc::LcBuild);
            }
            built(x)
        }
        Pc::LcBuild => {
            let (map, cookie) = (x.my_map(), x.cpu().cookie);
            let err = attachment::build(x, map, cookie)?;
            if err != 0 {
                return x.fail(err, Pc::LcCleanup);
            }
            built(x)
        }
        Pc::LcLock => {
            x.lock(Lock::The(LockClass::UpdateMutex))?;
            if x.design().links == Links::One {
                x.goto(Pc::LcGuard)
            } else {
                prepare_or_reg(x)
            }
        }
        Pc::LcGuard => {
            let map = x.my_map();
            if x.cmpxchg_map_state(map, MapState::Ready, MapState::InUse)? != MapState::Ready {
                return x.fail(errno::EBUSY, Pc::LcUnlock);
            }
            x.touch(Dirty::STATE);
            event!(x, "state INUSE");
            prepare_or_reg(x)
        }
        Pc::LcKsymsEarly => {
            let (map, attachment) = (x.my_map(), x.cpu().attachment);
            let ksyms = attachment::ksyms(x, map, attachment)?;
            add_ksyms(x, ksyms)?;
            x.goto(Pc::LcReg)
        }
        Pc::LcReg => {
            if x.cpu().err != 0 {
                // bpf_struct_ops_prepare_attach() has failed.
                return x.goto(Pc::LcRegDone);
            }
            let (map, attachment) = (x.my_map(), x.cpu().attachment);
            let kdata = attachment::published(x, map, attachment)?;
            x.cpu().kdata = Some(kdata);
            subsys::reg(x, Pc::LcRegDone)
        }
        Pc::LcRegDone => {
            let (map, attachment) = (x.my_map(), x.cpu().attachment);
            if x.cpu().err != 0 {
                take_back(x, map)?;
                return registered(x);
            }
            // The cgroup layer has done it under its own mutex, and may have undone it since.
            if !cgroup::attaches(x, map)? {
                let link = x.my_link();
                x.set_link(link, Some(map), attachment)?;
                x.hand_over(if attachment.is_some() {
                    Holds::ATTACHMENT
                } else {
                    Holds::MAP
                });
                event!(x, "link->map set");
            }
            if x.design().build == Build::LinkCreate && !x.ksyms_early() {
                let ksyms = attachment::ksyms(x, map, attachment)?;
                add_ksyms(x, ksyms)?;
            }
            registered(x)
        }
        Pc::LcUnlock => {
            x.unlock(Lock::The(LockClass::UpdateMutex))?;
            leave(x)
        }
        Pc::LcSettle => {
            let link = x.my_link();
            x.set_link_id(link, true)?;
            x.install_link_fd(link)?;
            x.hand_over(Holds::LINK);
            event!(x, "fd installed");
            let holds_map = x.cpu().holds.contains(Holds::MAP);
            x.goto(if holds_map { Pc::MapPut } else { Pc::Finish })
        }
        Pc::LcCleanup => {
            let link = x.my_link();
            if let Some(attachment) = x.cpu().attachment {
                x.hand_over(Holds::ATTACHMENT);
                attachment_put(x, attachment)?;
            }
            x.hand_over(Holds::LINK);
            x.free_link(link)?;
            x.witness(Invariant::FailureAtomic);
            x.goto(Pc::MapPut)
        }
        Pc::PrepMember | Pc::PrepSeal => prepare::step(x, Pc::LcReg),
        _ => unreachable!("not a step of link_create"),
    }
}

/// What the attachment needs is there: on to the attach.
fn built<'w, X: Backend<'w>>(x: &mut X) -> Step {
    let map = x.my_map();
    let to_cgroup = cgroup::attaches(x, map)?;
    x.goto(if to_cgroup { Pc::CgTarget } else { Pc::LcLock })
}

/// reg() has returned: update_mutex is released, if it is held.
fn registered<'w, X: Backend<'w>>(x: &mut X) -> Step {
    if x.holds_lock(Lock::The(LockClass::UpdateMutex)) {
        return x.goto(Pc::LcUnlock);
    }
    leave(x)
}

fn leave<'w, X: Backend<'w>>(x: &mut X) -> Step {
    let failed = x.cpu().err != 0;
    x.goto(if failed { Pc::LcCleanup } else { Pc::LcSettle })
}

/// `bpf_struct_ops_valid_to_reg()`.
pub(crate) fn valid_to_reg<'w, X: Backend<'w>>(x: &mut X, map: MapOf<X>) -> Step<bool> {
    let state = x.map_state(map)?;
    let ready =
        state == MapState::Ready || (x.design().links == Links::One && state == MapState::InUse);
    Ok(decl_of(x, map)?.link && ready)
}

/// Under update_mutex: generate now (the RFC), or go on to reg().
fn prepare_or_reg<'w, X: Backend<'w>>(x: &mut X) -> Step {
    let late = x.design().build == Build::LinkCreate;
    if late && x.design().owner == Owner::Map {
        let map = x.my_map();
        let decl = decl_of(x, map)?;
        return prepare::next_member(x, decl, 0);
    }
    x.goto(if x.ksyms_early() && late {
        Pc::LcKsymsEarly
    } else {
        Pc::LcReg
    })
}

/// After a failing prepare or reg(): what was generated goes, as the design says.
fn take_back<'w, X: Backend<'w>>(x: &mut X, map: MapOf<X>) -> Step {
    if x.design().build == Build::LinkCreate {
        if x.design().owner == Owner::Map {
            prepare::free_at_once(x, map)?;
        } else if x.ksyms_early()
            && let Some(attachment) = x.cpu().attachment
        {
            attachment::refused(x, map, Some(attachment))?;
        }
    }
    if x.design().links == Links::One {
        x.set_map_state(map, MapState::Ready)?;
        x.undo(Dirty::STATE);
        event!(x, "state READY");
    }
    Ok(())
}
