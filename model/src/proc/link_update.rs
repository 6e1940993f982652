//! bpf_struct_ops_map_link_update() of kernel/bpf/bpf_struct_ops.c, entered through link_update_map().

use crate::design::{Build, Links, Owner, SameMap, Wait};
use crate::exec::{Exec, Step, errno, event};
use crate::kernel::{MapKey, MapState, dirty, holds, seen};
use crate::pc::Pc;
use crate::proc::{attachment, link_detach, prepare};
use crate::subsys;

pub(crate) fn step(x: &mut Exec<'_>) -> Step {
    match x.pc {
        Pc::LuGet => {
            let (link, _) = x.my_link()?;
            let (map, _) = x.my_map()?;
            x.link(link)?.refs += 1;
            x.map_inc(map)?;
            x.c().holds |= holds::LINK | holds::MAP;
            if let Some(old) = x.c().old {
                x.map_inc(old)?;
                x.c().holds |= holds::OLD;
            }
            x.goto(Pc::LuValid)
        }
        Pc::LuValid => {
            let (_, map) = x.my_map()?;
            let decl = x.decl(&map);
            let ready = map.state == MapState::Ready
                || (x.design.links == Links::One && map.state == MapState::InUse);
            if !decl.link || !ready {
                return x.fail(errno::EINVAL, Pc::LuPutRefs);
            }
            if !x.st_ops(map.decl)?.has_update() {
                return x.fail(errno::EOPNOTSUPP, Pc::LuPutRefs);
            }
            x.goto(if x.design.owner == Owner::Link {
                Pc::LuBuild
            } else {
                Pc::LuLock
            })
        }
        Pc::LuBuild => {
            let (key, _) = x.my_map()?;
            let (_, link) = x.my_link()?;
            let err = attachment::build(x, key, link.cookie)?;
            if err != 0 {
                return x.fail(err, Pc::LuPutRefs);
            }
            x.goto(Pc::LuLock)
        }
        Pc::LuLock => {
            x.k.update_mutex = Some(x.cpu);
            x.goto(Pc::LuCheck)
        }
        Pc::LuCheck => check(x),
        Pc::LuKsymsEarly => {
            let (key, _) = x.my_map()?;
            let built = x.c().attachment;
            let ksyms = attachment::ksyms(x, key, built)?;
            x.add_ksyms(ksyms)?;
            x.goto(Pc::LuUpdate)
        }
        Pc::LuUpdate => {
            if x.c().err != 0 {
                // prepare_attach() has failed.
                return x.goto(Pc::LuUpdDone);
            }
            let (key, _) = x.my_map()?;
            let (_, link) = x.my_link()?;
            let old_map = link.map.expect("checked under the mutex");
            let built = x.c().attachment;
            let new = attachment::published(x, key, built)?;
            let old = attachment::published(x, old_map, link.attachment)?;
            x.c().kdata = Some(new);
            x.c().old_kdata = Some(old);
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
            x.k.update_mutex = None;
            x.goto(Pc::LuPutRefs)
        }
        Pc::PrepMember | Pc::PrepSeal => prepare::step(x, Pc::LuUpdate),
        _ => unreachable!("not a step of link_update"),
    }
}

/// Under update_mutex: ENOLINK, EPERM, EINVAL in this order.
fn check(x: &mut Exec<'_>) -> Step {
    let (key, map) = x.my_map()?;
    let (_, link) = x.my_link()?;
    let Some(old) = link.map else {
        return x.fail(errno::ENOLINK, Pc::LuUnlock);
    };
    if x.c().old.is_some_and(|expected| expected != old) {
        x.saw(seen::OTHER_MAP);
        return x.fail(errno::EPERM, Pc::LuUnlock);
    }
    let old_decl = *x.map(old)?;
    if x.decl(&old_decl).ty != x.decl(&map).ty {
        x.saw(seen::MISMATCH);
        return x.fail(errno::EINVAL, Pc::LuUnlock);
    }
    if old == key && x.design.same_map == SameMap::Refuse {
        x.saw(seen::MISMATCH);
        return x.fail(errno::EINVAL, Pc::LuUnlock);
    }
    event!(x, "attached, to a map of the same type");
    if x.design.links == Links::One {
        if map.state != MapState::Ready {
            x.saw(seen::HAS_LINK);
            return x.fail(errno::EBUSY, Pc::LuUnlock);
        }
        x.map(key)?.state = MapState::InUse;
        x.touch(dirty::STATE);
        event!(x, "state INUSE");
    }
    if x.design.build == Build::LinkCreate && x.design.owner == Owner::Map {
        x.c().cookie = link.cookie;
        let world = x.world;
        return prepare::next_member(x, &world.maps[usize::from(map.decl)], 0);
    }
    x.goto(if x.ksyms_early() && x.design.build == Build::LinkCreate {
        Pc::LuKsymsEarly
    } else {
        Pc::LuUpdate
    })
}

/// After update(): the swap, or the way back.
fn done(x: &mut Exec<'_>) -> Step {
    let (key, _) = x.my_map()?;
    let (link_key, link) = x.my_link()?;
    let old = link.map.expect("checked under the mutex");
    let early = x.design.build == Build::MapUpdate;
    if x.c().err != 0 {
        if !early && x.design.owner == Owner::Map {
            prepare::free_at_once(x, key)?;
        } else if !early && x.ksyms_early() {
            let built = x.c().attachment;
            attachment::refused(x, key, built)?;
        }
        set_ready(x, key)?;
        return x.goto(Pc::LuUnlock);
    }
    if x.design.owner == Owner::Link {
        let built = x.c().attachment;
        let replaced = link.attachment;
        x.counted = true;
        {
            let link = x.link(link_key)?;
            link.map = Some(key);
            link.attachment = built;
        }
        x.hand_over(holds::ATTACHMENT);
        x.c().old_attachment = replaced;
        x.c().holds |= holds::OLD_ATTACHMENT;
        if !x.ksyms_early() {
            let ksyms = attachment::ksyms(x, key, built)?;
            x.add_ksyms(ksyms)?;
        }
        event!(x, "link->map swapped");
        if x.design.wait == Wait::UpdateMutex {
            link_detach::wait_begin(x, replaced.expect("an attached link has an attachment"))?;
            return x.goto(Pc::LuWait);
        }
        return x.goto(Pc::LuUnlock);
    }
    x.map_inc(key)?;
    x.link(link_key)?.map = Some(key);
    event!(x, "link->map swapped");
    if !early {
        let new_kdata = x.map(key)?.kdata.expect("embedded");
        let old_kdata = x.map(old)?.kdata.expect("embedded");
        x.add_ksyms(new_kdata)?;
        x.del_ksyms(old_kdata)?;
        prepare::free_at_once(x, old)?;
    }
    if old != key {
        set_ready(x, old)?;
    }
    x.map_put(old)?;
    x.goto(Pc::LuUnlock)
}

/// links=one: the map has no link any more.
pub(crate) fn set_ready(x: &mut Exec<'_>, map: MapKey) -> Step {
    if x.design.links == Links::One && x.map(map)?.state == MapState::InUse {
        x.map(map)?.state = MapState::Ready;
        x.undo(dirty::STATE);
        event!(x, "state READY");
    }
    Ok(())
}
