//! bpf_struct_ops_map_link_update() of kernel/bpf/bpf_struct_ops.c, entered through link_update_map().

use std::sync::Arc;

use struct_ops_model::design::{Build, KsymTime, Links, Owner, SameMap, Wait};
use struct_ops_model::kernel::MapState;
use struct_ops_model::{Pc, errno};

use super::link::bpf_link_put;
use super::object::{Kdata, Link, StMap};
use super::refs::{attachment_put, map_inc, map_put};
use super::syscall;
use super::task::{Step, Task};
use super::{attachment, prepare, subsys};

/// What the system call holds until its end.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// The new attachment, unless the link has it.
    pub attachment: Option<Arc<Kdata>>,
    /// The replaced one.
    pub old_attachment: Option<Arc<Kdata>>,
    /// F_REPLACE's old map.
    pub old: Option<Arc<StMap>>,
    /// The new map.
    pub map: Option<Arc<StMap>>,
}

/// BPF_LINK_UPDATE.
pub(crate) fn bpf_struct_ops_map_link_update(
    t: &Task,
    name: u8,
    new: u8,
    replace: Option<u8>,
) -> Step<i8> {
    let Some((link, map, old)) = syscall::begin_link_update(t, name, new, replace)? else {
        return Ok(errno::EBADF);
    };
    let mut held = Held {
        old,
        map: Some(map.clone()),
        ..Held::default()
    };
    link_update(t, &link, &map, &mut held)?;
    put_refs(t, held, Pc::LuPutRefs)?;
    bpf_link_put(t, &link)
}

fn link_update(t: &Task, link: &Link, map: &Arc<StMap>, held: &mut Held) -> Step {
    let design = &t.rt.design;
    t.begin(Pc::LuValid)?;
    let state = map.state();
    let ready =
        state == MapState::Ready || (design.links == Links::One && state == MapState::InUse);
    if !map.link || !ready {
        t.end_with(errno::EINVAL);
        return Ok(());
    }
    if !subsys::st_ops(t, map.decl)?.has_update() {
        t.end_with(errno::EOPNOTSUPP);
        return Ok(());
    }
    t.end();
    if design.owner == Owner::Link {
        t.begin(Pc::LuBuild)?;
        match attachment::build(t, map, cookie(t, link))? {
            Ok(attachment) => held.attachment = Some(attachment),
            Err(err) => {
                t.end_with(err);
                return Ok(());
            }
        }
        t.end();
    }
    let _update_mutex = t.rt.update_mutex.lock();
    t.point(Pc::LuLock)?;
    update_locked(t, link, map, held)?;
    t.point(Pc::LuUnlock)
}

/// The cookie belongs to the link and is kept over updates.
fn cookie(t: &Task, link: &Link) -> u64 {
    t.rt.decl.cookies[usize::from(link.cookie)]
}

/// Under update_mutex: ENOLINK, EPERM, EINVAL in this order, then update().
fn update_locked(t: &Task, link: &Link, map: &Arc<StMap>, held: &mut Held) -> Step {
    let design = &t.rt.design;
    t.begin(Pc::LuCheck)?;
    let Some(attached) = link.map.load() else {
        t.end_with(errno::ENOLINK);
        return Ok(());
    };
    if held.old.as_ref().is_some_and(|old| old.id != attached) {
        t.end_with(errno::EPERM);
        return Ok(());
    }
    let old = t.map(attached)?;
    let types = |map: &StMap| t.rt.decl.maps[map.decl].ty;
    if types(&old) != types(map) || (old.id == map.id && design.same_map == SameMap::Refuse) {
        t.end_with(errno::EINVAL);
        return Ok(());
    }
    if design.links == Links::One
        && map.cmpxchg_state(MapState::Ready, MapState::InUse) != MapState::Ready
    {
        t.end_with(errno::EBUSY);
        return Ok(());
    }
    t.end();
    let late = design.build == Build::LinkCreate;
    let early_ksyms = late && design.kallsyms == KsymTime::BeforeReg;
    let mut err = 0;
    if late && design.owner == Owner::Map {
        err = prepare::bpf_struct_ops_prepare_attach(t, map, cookie(t, link))?;
    } else if early_ksyms {
        t.begin(Pc::LuKsymsEarly)?;
        attachment::add_ksyms(t, &prepare::target(t, map, held.attachment.as_ref())?.ksyms);
        t.end();
    }
    let replaced = link.attachment.load().map(|a| t.rt.kdatas.get(a));
    t.begin(Pc::LuUpdate)?;
    if err == 0 {
        let new_kdata = prepare::target(t, map, held.attachment.as_ref())?.kdata;
        let old_kdata = prepare::target(t, &old, replaced.as_ref())?.kdata;
        t.end();
        err = subsys::update(t, new_kdata.id, old_kdata.id, link)?;
    } else {
        t.end();
    }
    t.begin(Pc::LuUpdDone)?;
    if err != 0 {
        if late && design.owner == Owner::Map {
            prepare::free_at_once(t, map)?;
        } else if let Some(built) = held.attachment.as_ref().filter(|_| early_ksyms) {
            attachment::refused(t, map, built)?;
        }
        set_ready(t, map);
        t.end();
        return Ok(());
    }
    if design.owner == Owner::Map {
        swap_in_map(t, link, map, &old)?;
        t.end();
        return Ok(());
    }
    let built = held.attachment.take();
    if !early_ksyms {
        attachment::add_ksyms(t, &prepare::target(t, map, built.as_ref())?.ksyms);
    }
    link.attachment.store(built.map(|a| a.id));
    link.map.store(Some(map.id));
    held.old_attachment = replaced;
    t.end();
    if design.wait == Wait::UpdateMutex {
        wait(t, held, Pc::LuWait)?;
    }
    Ok(())
}

/// owner=map: new map reference, pointer swap, and (RFC) the old map's ksyms and pages go at once.
fn swap_in_map(t: &Task, link: &Link, map: &Arc<StMap>, old: &Arc<StMap>) -> Step {
    map_inc(map);
    let late = t.rt.design.build == Build::LinkCreate;
    let outlived = if late {
        let new_kdata = prepare::target(t, map, None)?.ksyms;
        let old_kdata = prepare::target(t, old, None)?.ksyms;
        let mut text = t.rt.text.lock();
        link.map.store(Some(map.id));
        text.add_ksyms(&new_kdata.built.lock());
        text.del_ksyms(&old_kdata.built.lock());
        prepare::take_back(t, &mut text, &old_kdata)
    } else {
        link.map.store(Some(map.id));
        (false, false)
    };
    prepare::ksyms_outlived(t, outlived.0, outlived.1);
    if old.id != map.id {
        set_ready(t, old);
    }
    map_put(t, old)
}

/// wait=update-mutex: the replaced attachment's grace periods, here.
pub(crate) fn wait(t: &Task, held: &mut Held, pc: Pc) -> Step {
    if let Some(replaced) = &held.old_attachment
        && attachment::wait_under_update_mutex(t, replaced, pc)?
    {
        held.old_attachment = None;
    }
    Ok(())
}

/// links=one: the map has no link any more.
pub(crate) fn set_ready(t: &Task, map: &StMap) {
    if t.rt.design.links == Links::One {
        map.cmpxchg_state(MapState::InUse, MapState::Ready);
    }
}

/// What a link_update or link_detach still holds; the link comes last.
pub(crate) fn put_refs(t: &Task, held: Held, pc: Pc) -> Step {
    t.begin(pc)?;
    for attachment in [held.attachment, held.old_attachment].into_iter().flatten() {
        attachment_put(t, &attachment)?;
    }
    for map in [held.old, held.map].into_iter().flatten() {
        map_put(t, &map)?;
    }
    t.end();
    Ok(())
}
