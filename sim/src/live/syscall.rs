//! How operations begin and processes end.
//!
//! Stands for the entry of the bpf(2) commands (fd to object) and for exit_files() of fs/file.c. From the
//! descriptor to what the first step does with its object nobody comes between: all of it is under `files`.

use std::sync::Arc;

use struct_ops_model::world::{OpKind, Operation, Subsystem};
use struct_ops_model::{Pc, errno};

use super::event::{Ask, Object};
use super::link::bpf_link_unpin;
use super::link::{bpf_link_get_info_by_fd, bpf_link_pin, bpf_link_put, bpf_link_release};
use super::link_create::bpf_struct_ops_link_create;
use super::link_detach::bpf_struct_ops_map_link_detach;
use super::link_update::bpf_struct_ops_map_link_update;
use super::map_update::bpf_struct_ops_map_update_elem;
use super::object::{Link, StMap};
use super::refs::{map_inc, prog_put};
use super::subsys::{dummy, hid_bpf, sched_ext, tcp_cong, testmod};
use super::sync::atomic::Ordering::SeqCst;
use super::task::{Step, Task};
use super::{enter, map};

impl Task {
    /// Carries out an operation: its result, or nothing if a fault has ended the run.
    pub fn carry_out(&self, operation: Operation) -> Option<i8> {
        let _current = enter::Current::new(self);
        self.err.set(0);
        let result = operate(self, operation);
        if result.is_err() {
            self.forget();
        }
        result.ok()
    }

    /// What the process has to close by name before it ends, because numbers alone do not say in which order the
    /// model would close it: open links and maps, if there are several and some have gone before.
    pub(crate) fn ambiguous(&self) -> Vec<Operation> {
        let open = |fds: u8| fds & self.bit() != 0;
        let links = self.rt.links.all();
        let maps = self.rt.maps.all();
        let links = links.iter().filter(|l| open(l.fds.load(SeqCst)));
        let maps = maps.iter().filter(|m| open(m.fds.load(SeqCst)));
        let mut close: Vec<Operation> = Vec::new();
        if self.rt.links.reused() && links.clone().count() > 1 {
            close.extend(links.map(|l| Operation::LinkClose { link: l.name }));
        }
        if self.rt.maps.reused() && maps.clone().count() > 1 {
            close.extend(maps.map(|m| Operation::MapClose { map: m.decl as u8 }));
        }
        close
    }

    /// exit_group(2).
    pub(crate) fn exit_group(&self) -> Option<()> {
        let _current = enter::Current::new(self);
        self.err.set(0);
        let result = exit_files(self);
        if result.is_err() {
            self.forget();
        }
        result.ok()
    }

    /// bpffs is unmounted and registered plain maps are unregistered: what outlives its process goes.
    pub(crate) fn remove_rest(&self) -> Option<()> {
        let _current = enter::Current::new(self);
        let result = remove_rest(self);
        if result.is_err() {
            self.forget();
        }
        result.ok()
    }
}

fn operate(t: &Task, operation: Operation) -> Step<i8> {
    match operation {
        Operation::MapCreate { map } => map::map_create(t, map),
        Operation::MapUpdate { map } => bpf_struct_ops_map_update_elem(t, map),
        Operation::MapDelete { map } => map::bpf_struct_ops_map_delete_elem(t, map),
        Operation::MapLookup { map } => map::map_lookup(t, map),
        Operation::MapClose { map } => map::bpf_map_release(t, map),
        Operation::LinkCreate { map, cookie, link } => {
            bpf_struct_ops_link_create(t, map, cookie, link, false)
        }
        Operation::SysBpfLinkCreate { map, cookie, link } => {
            bpf_struct_ops_link_create(t, map, cookie, link, true)
        }
        Operation::LinkUpdate { link, map, replace } => {
            bpf_struct_ops_map_link_update(t, link, map, replace)
        }
        Operation::LinkDetach { link } => bpf_struct_ops_map_link_detach(t, link),
        Operation::LinkClose { link } => bpf_link_release(t, link),
        Operation::LinkPin { link } => bpf_link_pin(t, link),
        Operation::LinkUnpin { link } => bpf_link_unpin(t, link),
        Operation::LinkInfo { link } => bpf_link_get_info_by_fd(t, link),
        Operation::SockOpen { key } => tcp_cong::tcp_set_congestion_control(t, key),
        Operation::SockCall { sock, member } => tcp_cong::sock_call(t, sock, member),
        Operation::SockClose { sock } => tcp_cong::sock_close(t, sock),
        Operation::Call { entry, member } => match t.rt.decl.types[0].subsystem {
            Subsystem::SchedExt | Subsystem::SchedExt612 => {
                sched_ext::scx_call_op(t, entry, member)
            }
            Subsystem::HidBpf => hid_bpf::hid_device_probe(t, entry, member),
            _ => testmod::bpf_kfunc_st_ops_test_prologue(t, entry, member),
        },
        Operation::TestRun { prog } => dummy::bpf_struct_ops_test_run(t, prog),
        Operation::ScxError => sched_ext::scx_ops_error(t),
        Operation::Rmmod => testmod::bpf_testmod_exit(t),
        // The end of a plan: the process ends when all its threads have come there.
        Operation::Exit => Ok(0),
    }
}

// ---- begin and end ------------------------------------------------------------------------------------

/// The system call returns.
pub(crate) fn finish(t: &Task) -> Step<i8> {
    t.begin(Pc::Finish)?;
    Ok(returned(t))
}

/// The open step is the return.
pub(crate) fn returned(t: &Task) -> i8 {
    let err = t.err.get();
    t.end();
    t.err.set(0);
    err
}

/// The descriptor is not open.
fn not_open<T>(t: &Task) -> Step<Option<T>> {
    t.ask(Ask::default());
    t.end_with(errno::EBADF);
    t.err.set(0);
    Ok(None)
}

fn find_map(t: &Task, decl: u8) -> Option<Arc<StMap>> {
    t.rt.maps
        .find(|m| m.decl == usize::from(decl) && m.fds.load(SeqCst) & t.bit() != 0)
}

fn find_link(t: &Task, name: u8) -> Option<Arc<Link>> {
    t.rt.links
        .find(|l| l.name == name && l.fds.load(SeqCst) & t.bit() != 0)
}

/// Begins an operation on a map with its first step.
pub(crate) fn begin_on_map<R>(
    t: &Task,
    pc: Pc,
    kind: OpKind,
    decl: u8,
    first: impl FnOnce(&Arc<StMap>) -> R,
) -> Step<Option<(Arc<StMap>, R)>> {
    t.begin(pc)?;
    let _files = t.rt.files.lock();
    let Some(map) = find_map(t, decl) else {
        return not_open(t);
    };
    // fdget(): the file, and with it the map, stays until the system call is over.
    if kind != OpKind::MapClose {
        map_inc(&map);
    }
    t.ask(Ask {
        kind,
        map: Some(map.id),
        ..Ask::default()
    });
    let result = first(&map);
    t.end();
    Ok(Some((map, result)))
}

/// Begins an operation on a link with its first step.
pub(crate) fn begin_on_link<R>(
    t: &Task,
    pc: Pc,
    kind: OpKind,
    name: u8,
    first: impl FnOnce(&Arc<Link>) -> R,
) -> Step<Option<(Arc<Link>, R)>> {
    t.begin(pc)?;
    let _files = t.rt.files.lock();
    let pinned = |link: &Link| link.pinned.load(SeqCst);
    let found = match kind {
        OpKind::LinkPin => find_link(t, name).filter(|l| !pinned(l)),
        OpKind::LinkUnpin => t.rt.links.find(|l| l.name == name && pinned(l)),
        _ => find_link(t, name),
    };
    let Some(link) = found else {
        return not_open(t);
    };
    t.ask(Ask {
        kind,
        link: Some(link.id),
        ..Ask::default()
    });
    let result = first(&link);
    t.end();
    Ok(Some((link, result)))
}

/// `bpf_map_get()` of link_create: a reference through the fd.
pub(crate) fn begin_link_create(
    t: &Task,
    kind: OpKind,
    decl: u8,
    (cookie, name): (u8, u8),
) -> Step<Option<Arc<StMap>>> {
    t.begin(Pc::LcGet)?;
    let _files = t.rt.files.lock();
    let Some(map) = find_map(t, decl) else {
        return not_open(t);
    };
    map_inc(&map);
    t.ask(Ask {
        kind,
        map: Some(map.id),
        cookie,
        arg: name,
        ..Ask::default()
    });
    t.end();
    Ok(Some(map))
}

type Update = (Arc<Link>, Arc<StMap>, Option<Arc<StMap>>);

/// References on the link, the new map and F_REPLACE's old map.
pub(crate) fn begin_link_update(
    t: &Task,
    name: u8,
    new: u8,
    replace: Option<u8>,
) -> Step<Option<Update>> {
    t.begin(Pc::LuGet)?;
    let _files = t.rt.files.lock();
    let old = replace.map(|decl| find_map(t, decl));
    let (Some(link), Some(map)) = (find_link(t, name), find_map(t, new)) else {
        return not_open(t);
    };
    let old = match old {
        Some(None) => return not_open(t),
        Some(old) => old,
        None => None,
    };
    link.refs.fetch_add(1, SeqCst);
    map_inc(&map);
    if let Some(old) = &old {
        map_inc(old);
    }
    t.ask(Ask {
        kind: OpKind::LinkUpdate,
        map: Some(map.id),
        old: old.as_ref().map(|o| o.id),
        link: Some(link.id),
        ..Ask::default()
    });
    t.end();
    Ok(Some((link, map, old)))
}

// ---- the end of a process -----------------------------------------------------------------------------

/// exit_files(): closes every open fd; programs last.
fn exit_files(t: &Task) -> Step {
    let mut first = true;
    let mut closes = |object: Option<Object>| {
        t.begin(Pc::ExitNext)?;
        if std::mem::take(&mut first) {
            t.ask(Ask {
                kind: OpKind::Exit,
                ..Ask::default()
            });
        }
        t.note(|e| e.object = object);
        t.end();
        Ok(())
    };
    let open = |fds: u8| fds & t.bit() != 0;
    for link in t.rt.links.all() {
        if open(link.fds.load(SeqCst)) {
            closes(Some(Object::Link(link.id)))?;
            t.begin(Pc::LinkRelease)?;
            link.fds.fetch_and(!t.bit(), SeqCst);
            t.end();
            bpf_link_put(t, &link)?;
        }
    }
    let socks: Vec<usize> = {
        let socks = t.rt.socks.lock();
        let mine = socks.iter().enumerate();
        mine.filter(|(_, s)| s.kdata.is_some() && open(s.fds))
            .map(|s| s.0)
            .collect()
    };
    for sock in socks {
        closes(Some(Object::Sock(sock)))?;
        tcp_cong::sock_close_at_exit(t, sock)?;
    }
    for map in t.rt.maps.all() {
        if open(map.fds.load(SeqCst)) {
            closes(Some(Object::Map(map.id)))?;
            t.begin(Pc::MapRelease)?;
            map.fds.fetch_and(!t.bit(), SeqCst);
            t.end();
            map::put(t, &map)?;
        }
    }
    for prog in &t.rt.progs {
        if open(prog.fds.load(SeqCst)) {
            closes(Some(Object::Prog(prog.id)))?;
            t.begin(Pc::ProgRelease)?;
            prog.fds.fetch_and(!t.bit(), SeqCst);
            prog_put(t, prog.id)?;
            t.end();
            finish(t)?;
        }
    }
    closes(None)
}

/// Pins go, then registered plain maps.
fn remove_rest(t: &Task) -> Step {
    for link in t.rt.links.all() {
        if link.pinned.load(SeqCst) {
            t.err.set(0);
            t.begin(Pc::LinkUnpin)?;
            link.pinned.store(false, SeqCst);
            t.ask(Ask {
                kind: OpKind::LinkUnpin,
                link: Some(link.id),
                ..Ask::default()
            });
            t.end();
            bpf_link_put(t, &link)?;
        }
    }
    for map in t.rt.maps.all() {
        let registered = map.state() == struct_ops_model::kernel::MapState::InUse;
        if registered && !map.link {
            t.err.set(0);
            map::map_delete_by_id(t, &map)?;
        }
    }
    Ok(())
}
