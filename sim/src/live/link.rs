//! Link system calls without an engine of their own: close, pin, unpin, info, and the put.
//!
//! Stands for bpf_link_put(), bpf_link_release(), bpf_link_get_info_by_fd() of kernel/bpf/syscall.c and
//! bpf_struct_ops_map_link_fill_link_info() of kernel/bpf/bpf_struct_ops.c.

use std::sync::Arc;

use struct_ops_model::world::OpKind;
use struct_ops_model::{Pc, errno};

use super::link_detach::bpf_struct_ops_map_link_dealloc;
use super::object::Link;
use super::sync::atomic::Ordering::SeqCst;
use super::syscall::{self, finish};
use super::task::{Step, Task};

/// close(2) on the link's fd.
pub(crate) fn bpf_link_release(t: &Task, name: u8) -> Step<i8> {
    let found = syscall::begin_on_link(t, Pc::LinkRelease, OpKind::LinkClose, name, |link| {
        link.fds.fetch_and(!t.bit(), SeqCst);
    })?;
    let Some((link, ())) = found else {
        return Ok(errno::EBADF);
    };
    bpf_link_put(t, &link)
}

/// The last reference deallocates.
pub(crate) fn bpf_link_put(t: &Task, link: &Arc<Link>) -> Step<i8> {
    t.begin(Pc::LinkPut)?;
    let last = link.refs.fetch_sub(1, SeqCst) == 1;
    t.end();
    if last {
        bpf_struct_ops_map_link_dealloc(t, link)?;
    }
    finish(t)
}

/// BPF_OBJ_PIN.
pub(crate) fn bpf_link_pin(t: &Task, name: u8) -> Step<i8> {
    let found = syscall::begin_on_link(t, Pc::LinkPin, OpKind::LinkPin, name, |link| {
        link.pinned.store(true, SeqCst);
        link.refs.fetch_add(1, SeqCst);
    })?;
    if found.is_none() {
        return Ok(errno::EBADF);
    }
    finish(t)
}

/// unlink(2) of the pin.
pub(crate) fn bpf_link_unpin(t: &Task, name: u8) -> Step<i8> {
    let found = syscall::begin_on_link(t, Pc::LinkUnpin, OpKind::LinkUnpin, name, |link| {
        link.pinned.store(false, SeqCst);
    })?;
    let Some((link, ())) = found else {
        return Ok(errno::EBADF);
    };
    bpf_link_put(t, &link)
}

/// BPF_OBJ_GET_INFO_BY_FD.
pub(crate) fn bpf_link_get_info_by_fd(t: &Task, name: u8) -> Step<i8> {
    t.reader.rcu_read_lock();
    let found = syscall::begin_on_link(t, Pc::LinkInfo, OpKind::LinkInfo, name, |link| {
        link.refs.fetch_add(1, SeqCst);
        link.map.load()
    });
    let Some((link, map)) = found.inspect_err(|_| t.reader.rcu_read_unlock())? else {
        t.reader.rcu_read_unlock();
        return Ok(errno::EBADF);
    };
    t.begin(Pc::LinkInfoRead)?;
    if let Some(map) = map {
        t.map(map)?;
    }
    t.reader.rcu_read_unlock();
    t.end();
    bpf_link_put(t, &link)
}
