//! The subsystems that take struct_ops: reg(), unreg(), update(), and how each calls its members.
//!
//! One file per subsystem, with its own data structure and its own lock. The attach path enters through [`reg`],
//! [`unreg`] and [`update`], which stand for the calls through `st_ops->reg` and its siblings.

pub(crate) mod dummy;
pub(crate) mod hid_bpf;
pub(crate) mod sched_ext;
pub(crate) mod tcp_cong;
pub(crate) mod testmod;

use struct_ops_model::Invariant;
use struct_ops_model::world::Subsystem;

use super::object::{Kdata, Link};
use super::sync::atomic::Ordering::SeqCst;
use super::task::{Step, Task};

/// `st_ops` of a map's type: functions that live in the type's module.
pub(crate) fn st_ops(t: &Task, decl: usize) -> Step<Subsystem> {
    let ty = t.rt.decl.type_of(decl);
    if ty.module && t.rt.module.lock().unloaded {
        let text = "USE AFTER FREE: the module's functions are gone";
        return Err(t.fault(Invariant::NoUseAfterFree, text, Vec::new()));
    }
    Ok(ty.subsystem)
}

/// `st_ops->reg(kdata, link)`: 0 or an errno.
pub(crate) fn reg(t: &Task, kdata: usize, link: Option<&Link>) -> Step<i8> {
    match subsystem(t, kdata) {
        Subsystem::TcpCong => tcp_cong::tcp_register_congestion_control(t, kdata, link),
        Subsystem::SchedExt | Subsystem::SchedExt612 => sched_ext::scx_ops_enable(t, kdata, link),
        Subsystem::Always => testmod::bpf_dummy_reg(t, kdata, link),
        Subsystem::Singleton => testmod::st_ops_reg(t, kdata, link),
        Subsystem::KeyedByMap => testmod::multi_st_ops_reg(t, kdata, link),
        Subsystem::HidBpf => hid_bpf::hid_bpf_reg(t, kdata, link),
        Subsystem::Dummy => dummy::bpf_dummy_reg(t),
    }
}

/// `st_ops->unreg(kdata, link)`.
pub(crate) fn unreg(t: &Task, kdata: usize, link: Option<&Link>) -> Step {
    match subsystem(t, kdata) {
        Subsystem::TcpCong => tcp_cong::tcp_unregister_congestion_control(t, kdata),
        Subsystem::SchedExt | Subsystem::SchedExt612 => sched_ext::scx_ops_disable(t, kdata),
        Subsystem::Always | Subsystem::Dummy => testmod::bpf_dummy_unreg(t, kdata, link),
        Subsystem::Singleton => testmod::st_ops_unreg(t),
        Subsystem::KeyedByMap => testmod::multi_st_ops_unreg(t, kdata, link),
        Subsystem::HidBpf => hid_bpf::hid_bpf_unreg(t, kdata),
    }
}

/// `st_ops->update(kdata, old_kdata, link)`: 0 or an errno.
pub(crate) fn update(t: &Task, new: usize, old: usize, link: &Link) -> Step<i8> {
    match subsystem(t, new) {
        Subsystem::TcpCong => tcp_cong::tcp_update_congestion_control(t, new, old, link),
        _ => testmod::update(t, new, old, link),
    }
}

fn subsystem(t: &Task, kdata: usize) -> Subsystem {
    t.rt.decl.type_of(t.rt.kdatas.get(kdata).decl).subsystem
}

/// Notes with which cookie kdata is registered: what its programs should read from now on.
fn registered(t: &Task, kdata: &Kdata, link: Option<&Link>) -> u64 {
    let cookie = link.map_or(0, |l| t.rt.decl.cookies[usize::from(l.cookie)]);
    kdata.expect.store(cookie, SeqCst);
    cookie
}
