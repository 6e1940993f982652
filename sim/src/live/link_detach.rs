//! bpf_struct_ops_map_link_detach() and bpf_struct_ops_map_link_dealloc() of kernel/bpf/bpf_struct_ops.c.

use std::sync::Arc;

use struct_ops_model::design::{Owner, Wait};
use struct_ops_model::world::OpKind;
use struct_ops_model::{Pc, errno};

use super::link::bpf_link_put;
use super::link_update::{Held, put_refs, set_ready, wait};
use super::object::{Kdata, Link};
use super::refs::{attachment_put, map_put};
use super::sync::atomic::Ordering::SeqCst;
use super::task::{Step, Task};
use super::{prepare, subsys, syscall};

/// BPF_LINK_DETACH.
pub(crate) fn bpf_struct_ops_map_link_detach(t: &Task, name: u8) -> Step<i8> {
    let found = syscall::begin_on_link(t, Pc::LdGet, OpKind::LinkDetach, name, |link| {
        link.refs.fetch_add(1, SeqCst);
    })?;
    let Some((link, ())) = found else {
        return Ok(errno::EBADF);
    };
    let mut held = Held::default();
    {
        let _update_mutex = t.rt.update_mutex.lock();
        t.point(Pc::LdLock)?;
        detach_locked(t, &link, &mut held)?;
        t.point(Pc::LdUnlock)?;
    }
    put_refs(t, held, Pc::LdPutRefs)?;
    bpf_link_put(t, &link)
}

fn detach_locked(t: &Task, link: &Link, held: &mut Held) -> Step {
    t.begin(Pc::LdCheck)?;
    let Some(map) = link.map.load() else {
        t.end();
        return Ok(());
    };
    let kdata = published(t, link, map)?;
    t.end();
    subsys::unreg(t, kdata, Some(link))?;
    t.begin(Pc::LdUnregDone)?;
    held.old_attachment = let_go(t, link, map)?;
    t.end();
    if t.rt.design.wait == Wait::UpdateMutex {
        wait(t, held, Pc::LdWait)?;
    }
    Ok(())
}

/// What the subsystem got through this link.
fn published(t: &Task, link: &Link, map: usize) -> Step<usize> {
    let map = t.map(map)?;
    let attachment = link.attachment.load().map(|a| t.rt.kdatas.get(a));
    Ok(prepare::target(t, &map, attachment.as_ref())?.kdata.id)
}

/// The link is not attached any more: the map is put, or its attachment is now the caller's.
fn let_go(t: &Task, link: &Link, map: usize) -> Step<Option<Arc<Kdata>>> {
    let map = t.map(map)?;
    link.map.store(None);
    set_ready(t, &map);
    if t.rt.design.owner == Owner::Map {
        map_put(t, &map)?;
        return Ok(None);
    }
    let attachment = link.attachment.load().map(|a| t.rt.kdatas.get(a));
    link.attachment.store(None);
    Ok(attachment)
}

/// The last reference is gone: unregisters if still attached, without update_mutex.
pub(crate) fn bpf_struct_ops_map_link_dealloc(t: &Task, link: &Link) -> Step {
    t.begin(Pc::DeallocUnreg)?;
    let map = link.map.load();
    let kdata = map.map(|map| published(t, link, map)).transpose()?;
    t.end();
    if let Some(kdata) = kdata {
        subsys::unreg(t, kdata, Some(link))?;
    }
    t.begin(Pc::DeallocFree)?;
    let attachment = match map {
        Some(map) => let_go(t, link, map)?,
        None => None,
    };
    t.rt.links.free(link);
    if let Some(attachment) = attachment {
        attachment_put(t, &attachment)?;
    }
    t.end();
    Ok(())
}
