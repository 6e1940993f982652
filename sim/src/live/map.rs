//! Map system calls without an engine of their own: create, lookup, delete, close.
//!
//! Stands for map_create(), map_lookup_elem() and bpf_map_release() of kernel/bpf/syscall.c, and
//! bpf_struct_ops_map_alloc() and bpf_struct_ops_map_delete_elem() of kernel/bpf/bpf_struct_ops.c.

use std::sync::Arc;

use struct_ops_model::design::{KdataOwner, KsymOwner, Owner};
use struct_ops_model::kernel::MapState;
use struct_ops_model::world::OpKind;
use struct_ops_model::{Pc, errno};

use super::event::{Ask, Object};
use super::object::{Kdata, StMap};
use super::refs::{attachment_put, map_put};
use super::subsys;
use super::sync::atomic::Ordering::SeqCst;
use super::syscall::{self, finish};
use super::task::{Step, Task};

/// BPF_MAP_CREATE.
pub(crate) fn map_create(t: &Task, decl: u8) -> Step<i8> {
    let module = t.rt.decl.type_of(usize::from(decl)).module;
    t.begin(Pc::MapCreate)?;
    t.ask(Ask {
        kind: OpKind::MapCreate,
        arg: decl,
        ..Ask::default()
    });
    if module {
        let mut owner = t.rt.module.lock();
        if owner.unloaded {
            drop(owner);
            t.end_with(errno::EINVAL);
            return finish(t);
        }
        owner.refs += 1;
    }
    t.end();
    bpf_struct_ops_map_alloc(t, usize::from(decl))?;
    finish(t)
}

fn bpf_struct_ops_map_alloc(t: &Task, decl: usize) -> Step {
    t.begin(Pc::MapAlloc)?;
    let ty = t.rt.decl.type_of(decl);
    if !t.alloc() {
        if ty.module {
            t.rt.module.lock().refs -= 1;
        }
        t.end_with(errno::ENOMEM);
        return Ok(());
    }
    let _files = t.rt.files.lock();
    let link = t.rt.decl.maps[decl].link;
    let members = ty.members.len();
    let map =
        t.rt.maps
            .insert(|id| StMap::new(id, decl, link, members, t.bit()));
    let design = &t.rt.design;
    let embedded = design.owner == Owner::Map
        || (link && (design.kdata == KdataOwner::Map || design.ksyms == KsymOwner::Map));
    if embedded {
        let kdata =
            t.rt.kdatas
                .insert(|id| Kdata::new(id, map.id, decl, members, false));
        map.kdata.store(Some(kdata.id));
    }
    t.object(Object::Map(map.id));
    t.end();
    Ok(())
}

/// BPF_MAP_LOOKUP_ELEM: state and uvalue are copied.
pub(crate) fn map_lookup(t: &Task, decl: u8) -> Step<i8> {
    let Some(map) = syscall::begin_on_map(t, Pc::MapLookup, OpKind::MapLookup, decl, |_| ())?
    else {
        return Ok(errno::EBADF);
    };
    put(t, &map.0)
}

/// close(2) on the map's fd.
pub(crate) fn bpf_map_release(t: &Task, decl: u8) -> Step<i8> {
    let found = syscall::begin_on_map(t, Pc::MapRelease, OpKind::MapClose, decl, |map| {
        map.fds.fetch_and(!t.bit(), SeqCst);
    })?;
    let Some((map, ())) = found else {
        return Ok(errno::EBADF);
    };
    put(t, &map)
}

/// BPF_MAP_DELETE_ELEM.
pub(crate) fn bpf_struct_ops_map_delete_elem(t: &Task, decl: u8) -> Step<i8> {
    let found = syscall::begin_on_map(t, Pc::DelCmpxchg, OpKind::MapDelete, decl, |map| {
        cmpxchg(t, map)
    })?;
    let Some((map, err)) = found else {
        return Ok(errno::EBADF);
    };
    after_cmpxchg(t, &map, err)
}

/// `bpftool struct_ops unregister`: a registered plain map, found by its id.
pub(crate) fn map_delete_by_id(t: &Task, map: &Arc<StMap>) -> Step<i8> {
    t.begin(Pc::DelCmpxchg)?;
    map.refs.fetch_add(1, SeqCst);
    let err = cmpxchg(t, map);
    t.ask(Ask {
        kind: OpKind::MapDelete,
        map: Some(map.id),
        ..Ask::default()
    });
    t.end();
    after_cmpxchg(t, map, err)
}

/// cmpxchg(state, INUSE, TOBEFREE): the winner unregisters.
fn cmpxchg(t: &Task, map: &StMap) -> i8 {
    let err = if map.link {
        errno::EOPNOTSUPP
    } else {
        match map.cmpxchg_state(MapState::InUse, MapState::ToBeFree) {
            MapState::InUse => 0,
            MapState::ToBeFree => errno::EINPROGRESS,
            MapState::Init | MapState::Ready => errno::ENOENT,
        }
    };
    t.err.set(err);
    err
}

fn after_cmpxchg(t: &Task, map: &Arc<StMap>, err: i8) -> Step<i8> {
    if err == 0 {
        let kdata = map
            .kdata
            .load()
            .expect("a registered plain map has a kdata");
        subsys::unreg(t, kdata, None)?;
        t.begin(Pc::DelUnregDone)?;
        if t.rt.design.owner == Owner::Map {
            map_put(t, map)?;
        } else {
            map.kdata.store(None);
            let attachment = t.kdata(kdata)?;
            attachment_put(t, &attachment)?;
        }
        t.end();
    }
    put(t, map)
}

/// `bpf_map_put()` as a step of its own, then the return.
pub(crate) fn put(t: &Task, map: &Arc<StMap>) -> Step<i8> {
    t.begin(Pc::MapPut)?;
    map_put(t, map)?;
    t.end();
    finish(t)
}
