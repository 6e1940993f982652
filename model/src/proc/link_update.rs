//! bpf_struct_ops_map_link_update() of kernel/bpf/bpf_struct_ops.c, entered through link_update_map().

use crate::backend::{Backend, Counted, MapOf, Step, event};
use crate::design::{Build, Links, Owner, SameMap, Wait};
use crate::errno;
use crate::kernel::{Dirty, Holds, MapState};
use crate::lock::{Lock, LockClass};
use crate::pc::Pc;
use crate::proc::prepare::{add_ksyms, del_ksyms};
use crate::proc::refs::{decl_of, map_inc, map_put};
use crate::proc::{attachment, cgroup, link_create, link_detach, prepare};
use crate::subsys;

pub(crate) fn step<'w, X: Backend<'w>>(x: &mut X) -> Step {
    match x.pc() {
        Pc::LuGet => {
            let (link, map) = (x.my_link(), x.my_map());
            x.get(Counted::Link(link))?;
            map_inc(x, map)?;
            x.cpu().holds |= Holds::LINK | Holds::MAP;
            if let Some(old) = x.cpu().old {
                map_inc(x, old)?;
                x.cpu().holds |= Holds::OLD;
            }
            x.goto(Pc::LuValid)
        }
        Pc::LuValid => {
            let map = x.my_map();
            if !link_create::valid_to_reg(x, map)? {
                return x.fail(errno::EINVAL, Pc::LuPutRefs);
            }
            let decl = x.map_decl(map)?;
            let st_ops = x.st_ops(decl)?;
            if !st_ops.has_update(&x.world().script) {
                return x.fail(errno::EOPNOTSUPP, Pc::LuPutRefs);
            }
            if x.design().owner == Owner::Link {
                return x.goto(Pc::LuBuild);
            }
            built(x)
        }
        Pc::LuBuild => {
            let (link, map) = (x.my_link(), x.my_map());
            let cookie = x.link_cookie(link)?;
            let err = attachment::build(x, map, cookie)?;
            if err != 0 {
                return x.fail(err, Pc::LuPutRefs);
            }
            built(x)
        }
        Pc::LuLock => {
            x.lock(Lock::The(LockClass::UpdateMutex))?;
            x.goto(Pc::LuCheck)
        }
        Pc::LuCheck => check(x),
        Pc::LuKsymsEarly => {
            let (map, built) = (x.my_map(), x.cpu().attachment);
            let ksyms = attachment::ksyms(x, map, built)?;
            add_ksyms(x, ksyms)?;
            let holds_mutex = x.holds_lock(Lock::The(LockClass::UpdateMutex));
            let to_cgroup = cgroup::attaches(x, map)?;
            x.goto(match (holds_mutex, to_cgroup) {
                (true, _) => Pc::LuUpdate,
                (false, true) => Pc::CgUpdate,
                (false, false) => Pc::LuLock,
            })
        }
        Pc::LuUpdate => {
            if x.cpu().err != 0 {
                // bpf_struct_ops_prepare_attach() has failed.
                return x.goto(Pc::LuUpdDone);
            }
            let (link, map, built) = (x.my_link(), x.my_map(), x.cpu().attachment);
            let Some(old_map) = x.link_map(link)? else {
                // The mutex does not keep its cgroup from going.
                return x.fail(errno::ENOLINK, Pc::LuUpdDone);
            };
            let replaced = x.link_attachment(link)?;
            let new = attachment::published(x, map, built)?;
            let old = attachment::published(x, old_map, replaced)?;
            x.cpu().kdata = Some(new);
            x.cpu().old_kdata = Some(old);
            subsys::update(x, Pc::LuUpdDone)
        }
        Pc::LuUpdDone => done(x),
        Pc::LuWait => {
            if link_detach::waited(x)? {
                return x.goto(Pc::LuUnlock);
            }
            Ok(())
        }
        Pc::LuUnlock => {
            x.unlock(Lock::The(LockClass::UpdateMutex))?;
            x.goto(Pc::LuPutRefs)
        }
        Pc::PrepMember | Pc::PrepSeal => prepare::step(x, Pc::LuUpdate),
        _ => unreachable!("not a step of link_update"),
    }
}

/// Under update_mutex: ENOLINK, EPERM, EINVAL in this order.
fn check<'w, X: Backend<'w>>(x: &mut X) -> Step {
    let (link, map) = (x.my_link(), x.my_map());
    let Some(old) = x.link_map(link)? else {
        return refuse(x, errno::ENOLINK);
    };
    if x.cpu().old.is_some_and(|expected| expected != old) {
        return refuse(x, errno::EPERM);
    }
    let decl = decl_of(x, map)?;
    if decl_of(x, old)?.ty != decl.ty {
        return refuse(x, errno::EINVAL);
    }
    if old == map {
        match x.design().same_map {
            SameMap::Update => {}
            SameMap::Refuse => return refuse(x, errno::EINVAL),
            SameMap::Nothing => {
                event!(x, "attached to this map already: nothing to do");
                forget(x)?;
                return x.goto(Pc::LuUnlock);
            }
        }
    }
    event!(x, "attached, to a map of the same type");
    if x.design().links == Links::One {
        if x.cmpxchg_map_state(map, MapState::Ready, MapState::InUse)? != MapState::Ready {
            return refuse(x, errno::EBUSY);
        }
        x.touch(Dirty::STATE);
        event!(x, "state INUSE");
    }
    let late = x.design().build == Build::LinkCreate;
    if late && x.design().owner == Owner::Map {
        x.cpu().cookie = x.link_cookie(link)?;
        return prepare::next_member(x, decl, 0);
    }
    let to_cgroup = cgroup::attaches(x, map)?;
    x.goto(if to_cgroup && lists_early(x) {
        Pc::LuKsymsEarly
    } else {
        Pc::LuUpdate
    })
}

/// kallsyms learns of the new attachment's trampolines before update(): where no cgroup is in it, before the mutex, and so
/// before anybody has looked whether the link can be updated at all.
fn lists_early<'w, X: Backend<'w>>(x: &X) -> bool {
    x.ksyms_early() && x.design().build == Build::LinkCreate && x.design().owner == Owner::Link
}

/// Under update_mutex: the link cannot be updated.
fn refuse<'w, X: Backend<'w>>(x: &mut X, err: i8) -> Step {
    forget(x)?;
    x.fail(err, Pc::LuUnlock)
}

/// Nobody has seen the new attachment, if there is one, but kallsyms may list it.
fn forget<'w, X: Backend<'w>>(x: &mut X) -> Step {
    let map = x.my_map();
    if lists_early(x) && !cgroup::attaches(x, map)? {
        let built = x.cpu().attachment;
        attachment::refused(x, map, built)?;
    }
    Ok(())
}

/// After update(): the swap, or the way back.
fn done<'w, X: Backend<'w>>(x: &mut X) -> Step {
    let (link, map) = (x.my_link(), x.my_map());
    let early = x.design().build == Build::MapUpdate;
    if x.cpu().err != 0 {
        if !early && x.design().owner == Owner::Map {
            prepare::free_at_once(x, map)?;
        } else if !early && x.ksyms_early() {
            let built = x.cpu().attachment;
            attachment::refused(x, map, built)?;
        }
        set_ready(x, map)?;
        return x.goto(Pc::LuUnlock);
    }
    if cgroup::attaches(x, map)? {
        return done_by_cgroup(x, map);
    }
    let old = x.link_map(link)?.expect("checked under the mutex");
    if x.design().owner == Owner::Link {
        let built = x.cpu().attachment;
        let replaced = x.link_attachment(link)?;
        x.set_link(link, Some(map), built)?;
        x.hand_over(Holds::ATTACHMENT);
        x.cpu().old_attachment = replaced;
        x.cpu().holds |= Holds::OLD_ATTACHMENT;
        if old != map {
            set_ready(x, old)?;
        }
        if !x.ksyms_early() {
            let ksyms = attachment::ksyms(x, map, built)?;
            add_ksyms(x, ksyms)?;
        }
        event!(x, "link->map swapped");
        if x.design().wait == Wait::UpdateMutex {
            let replaced = replaced.expect("an attached link has an attachment");
            if link_detach::wait_begin(x, replaced)? {
                return x.goto(Pc::LuWait);
            }
        }
        return x.goto(Pc::LuUnlock);
    }
    map_inc(x, map)?;
    x.set_link(link, Some(map), None)?;
    event!(x, "link->map swapped");
    if !early {
        let new_kdata = x.map_kdata(map)?.expect("embedded");
        let old_kdata = x.map_kdata(old)?.expect("embedded");
        add_ksyms(x, new_kdata)?;
        del_ksyms(x, old_kdata)?;
        prepare::free_at_once(x, old)?;
    }
    if old != map {
        set_ready(x, old)?;
    }
    map_put(x, old)?;
    x.goto(Pc::LuUnlock)
}

/// The cgroup layer has swapped the map, and the task holds the old one: what the design does after update().
fn done_by_cgroup<'w, X: Backend<'w>>(x: &mut X, map: MapOf<X>) -> Step {
    let early = x.design().build == Build::MapUpdate;
    let old_kdata = x.cpu().old_kdata.expect("LuUpdate set it");
    let old = x.kdata_map(old_kdata)?;
    if x.design().owner == Owner::Link {
        if !x.ksyms_early() {
            let built = x.cpu().attachment;
            let ksyms = attachment::ksyms(x, map, built)?;
            add_ksyms(x, ksyms)?;
        }
    } else if !early {
        let new_kdata = x.map_kdata(map)?.expect("embedded");
        add_ksyms(x, new_kdata)?;
        del_ksyms(x, old_kdata)?;
        prepare::free_at_once(x, old)?;
    }
    if old != map {
        set_ready(x, old)?;
    }
    x.goto(Pc::LuUnlock)
}

/// What the new attachment needs is there: on to the update.
fn built<'w, X: Backend<'w>>(x: &mut X) -> Step {
    let map = x.my_map();
    if cgroup::attaches(x, map)? {
        return cgroup::enter_update(x);
    }
    x.goto(if lists_early(x) {
        Pc::LuKsymsEarly
    } else {
        Pc::LuLock
    })
}

/// links=one: the map has no link any more.
pub(crate) fn set_ready<'w, X: Backend<'w>>(x: &mut X, map: MapOf<X>) -> Step {
    if x.design().links == Links::One
        && x.cmpxchg_map_state(map, MapState::InUse, MapState::Ready)? == MapState::InUse
    {
        x.undo(Dirty::STATE);
        event!(x, "state READY");
    }
    Ok(())
}
