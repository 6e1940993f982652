//! bpf_struct_ops_link_create() of kernel/bpf/bpf_struct_ops.c.

use std::sync::Arc;

use struct_ops_model::design::{Build, KsymTime, Links, Owner};
use struct_ops_model::kernel::MapState;
use struct_ops_model::world::OpKind;
use struct_ops_model::{Pc, errno};

use super::event::Object;
use super::object::{Kdata, Link, StMap};
use super::refs::{attachment_put, map_put};
use super::sync::atomic::Ordering::SeqCst;
use super::syscall;
use super::task::{Step, Task};
use super::{attachment, prepare, subsys};

/// BPF_LINK_CREATE, from user space or (`in_program`) from a syscall program under rcu_read_lock_trace().
pub(crate) fn bpf_struct_ops_link_create(
    t: &Task,
    decl: u8,
    cookie: u8,
    name: u8,
    in_program: bool,
) -> Step<i8> {
    let kind = if in_program {
        t.reader.rcu_read_lock_trace();
        OpKind::SysBpfLinkCreate
    } else {
        OpKind::LinkCreate
    };
    let ask = (cookie, name);
    let result = match syscall::begin_link_create(t, kind, decl, ask)? {
        Some(map) => link_create(t, &map, cookie, name).map(|()| 0),
        None => Ok(errno::EBADF),
    }?;
    if result != 0 {
        if in_program {
            t.reader.rcu_read_unlock_trace();
        }
        return Ok(result);
    }
    t.begin(Pc::Finish)?;
    if in_program {
        t.reader.rcu_read_unlock_trace();
    }
    Ok(syscall::returned(t))
}

fn link_create(t: &Task, map: &Arc<StMap>, cookie: u8, name: u8) -> Step {
    let design = &t.rt.design;
    t.begin(Pc::LcValid)?;
    let state = map.state();
    let ready =
        state == MapState::Ready || (design.links == Links::One && state == MapState::InUse);
    if !map.link || !ready {
        t.end_with(errno::EINVAL);
        return map_put_step(t, map);
    }
    t.end();
    // kzalloc(), then bpf_link_prime(): fd, id and file.
    t.begin(Pc::LcAlloc)?;
    if !t.alloc() || !t.alloc() {
        t.end_with(errno::ENOMEM);
        return map_put_step(t, map);
    }
    let link = t.rt.links.insert(|id| Link::new(id, name, cookie));
    t.object(Object::Link(link.id));
    t.end();
    let mut built = None;
    if design.owner == Owner::Link {
        t.begin(Pc::LcBuild)?;
        match attachment::build(t, map, t.rt.decl.cookies[usize::from(cookie)])? {
            Ok(attachment) => built = Some(attachment),
            Err(err) => {
                t.end_with(err);
                return cleanup(t, map, &link, None);
            }
        }
        t.end();
    }
    {
        let _update_mutex = t.rt.update_mutex.lock();
        t.point(Pc::LcLock)?;
        attach_locked(t, map, &link, built.as_ref())?;
        t.point(Pc::LcUnlock)?;
    }
    if t.err.get() != 0 {
        return cleanup(t, map, &link, built);
    }
    // bpf_link_settle()
    t.begin(Pc::LcSettle)?;
    {
        let _files = t.rt.files.lock();
        link.fds.fetch_or(t.bit(), SeqCst);
        t.end();
    }
    // An attachment has its own map reference; without one the link has taken ours.
    if built.is_some() {
        map_put_step(t, map)?;
    }
    Ok(())
}

/// Under update_mutex.
fn attach_locked(t: &Task, map: &Arc<StMap>, link: &Link, built: Option<&Arc<Kdata>>) -> Step {
    let design = &t.rt.design;
    if design.links == Links::One {
        t.begin(Pc::LcGuard)?;
        if map.cmpxchg_state(MapState::Ready, MapState::InUse) != MapState::Ready {
            t.end_with(errno::EBUSY);
            return Ok(());
        }
        t.end();
    }
    let late = design.build == Build::LinkCreate;
    let early_ksyms = late && design.kallsyms == KsymTime::BeforeReg;
    let mut err = 0;
    if late && design.owner == Owner::Map {
        let cookie = t.rt.decl.cookies[usize::from(link.cookie)];
        err = prepare::bpf_struct_ops_prepare_attach(t, map, cookie)?;
    } else if early_ksyms {
        t.begin(Pc::LcKsymsEarly)?;
        attachment::add_ksyms(t, &prepare::target(t, map, built)?.ksyms);
        t.end();
    }
    t.begin(Pc::LcReg)?;
    if err == 0 {
        let kdata = prepare::target(t, map, built)?.kdata;
        subsys::st_ops(t, map.decl)?;
        t.end();
        err = subsys::reg(t, kdata.id, Some(link))?;
    } else {
        t.end();
    }
    t.begin(Pc::LcRegDone)?;
    if err != 0 {
        take_back(t, map, built)?;
        t.end();
        return Ok(());
    }
    link.map.store(Some(map.id));
    if let Some(attachment) = built {
        link.attachment.store(Some(attachment.id));
    }
    if late && !early_ksyms {
        attachment::add_ksyms(t, &prepare::target(t, map, built)?.ksyms);
    }
    t.end();
    Ok(())
}

/// After a failing prepare or reg(): what was generated goes, as the design says.
fn take_back(t: &Task, map: &Arc<StMap>, built: Option<&Arc<Kdata>>) -> Step {
    let design = &t.rt.design;
    if design.build == Build::LinkCreate {
        if design.owner == Owner::Map {
            prepare::free_at_once(t, map)?;
        } else if let Some(built) = built.filter(|_| design.kallsyms == KsymTime::BeforeReg) {
            attachment::refused(t, map, built)?;
        }
    }
    if design.links == Links::One {
        map.set_state(MapState::Ready);
    }
    Ok(())
}

/// bpf_link_cleanup(): the primed link goes.
fn cleanup(t: &Task, map: &Arc<StMap>, link: &Link, built: Option<Arc<Kdata>>) -> Step {
    t.begin(Pc::LcCleanup)?;
    if let Some(attachment) = built {
        attachment_put(t, &attachment)?;
    }
    t.rt.links.free(link);
    t.end();
    map_put_step(t, map)
}

fn map_put_step(t: &Task, map: &Arc<StMap>) -> Step {
    t.begin(Pc::MapPut)?;
    map_put(t, map)?;
    t.end();
    Ok(())
}
