//! References: maps, attachments, programs, and what the last one sets off.
//!
//! Stands for bpf_map_inc(), bpf_map_put() and bpf_prog_put() of kernel/bpf/syscall.c and for bpf_struct_ops_get()
//! and bpf_struct_ops_put() of kernel/bpf/bpf_struct_ops.c. No step by itself: part of the step that is open.

use std::sync::Arc;

use struct_ops_model::Invariant;
use struct_ops_model::design::{Count, Free};

use super::attachment;
use super::object::{Kdata, StMap};
use super::runtime::Work;
use super::sync::atomic::{AtomicI64, Ordering::SeqCst};
use super::task::{Step, Task};

/// `bpf_map_inc()`.
pub(crate) fn map_inc(map: &StMap) {
    map.refs.fetch_add(1, SeqCst);
}

/// `atomic64_inc_not_zero()`.
fn inc_not_zero(refs: &AtomicI64) -> bool {
    refs.fetch_update(SeqCst, SeqCst, |n| (n > 0).then_some(n + 1))
        .is_ok()
}

/// Drops one; whether it was the last.
fn dec_and_test(t: &Task, refs: &AtomicI64, text: &'static str) -> Step<bool> {
    match refs.fetch_sub(1, SeqCst) {
        1 => Ok(true),
        n if n > 1 => Ok(false),
        _ => Err(t.fault(Invariant::RefcountsBalance, text, Vec::new())),
    }
}

/// `bpf_map_put()`: the last reference queues `bpf_map_free_deferred()`.
pub(crate) fn map_put(t: &Task, map: &Arc<StMap>) -> Step {
    if dec_and_test(t, &map.refs, "map refcount below 0")? {
        t.rt.queue(Work::MapFree(map.clone()));
    }
    Ok(())
}

/// Drops one reference of an attachment; the last one queues its free, or frees at once.
pub(crate) fn attachment_put(t: &Task, attachment: &Arc<Kdata>) -> Step {
    if !dec_and_test(t, &attachment.refs, "attachment refcount below 0")? {
        return Ok(());
    }
    if t.rt.design.free == Free::AtOnce {
        return attachment::release(t, attachment);
    }
    t.rt.queue(Work::AttachmentFree(attachment.clone()));
    Ok(())
}

/// `bpf_prog_inc()`.
pub(crate) fn prog_inc(t: &Task, prog: usize) {
    t.rt.progs[prog].refs.fetch_add(1, SeqCst);
}

/// `bpf_prog_put()`.
pub(crate) fn prog_put(t: &Task, prog: usize) -> Step {
    let prog = &t.rt.progs[prog];
    if dec_and_test(t, &prog.refs, "program refcount below 0")? {
        t.rt.queue(Work::ProgFree(prog.clone()));
    }
    Ok(())
}

/// `bpf_struct_ops_get(kdata)`: `container_of`, then a reference unless the count is 0.
pub(crate) fn bpf_struct_ops_get(t: &Task, kdata: usize) -> Step<bool> {
    let kdata = t.kdata(kdata)?;
    if kdata.attachment && t.rt.design.count == Count::Attachment {
        return Ok(inc_not_zero(&kdata.refs));
    }
    Ok(inc_not_zero(&t.map(kdata.map)?.refs))
}

/// `bpf_struct_ops_put(kdata)`.
pub(crate) fn bpf_struct_ops_put(t: &Task, kdata: usize) -> Step {
    let kdata = t.kdata(kdata)?;
    if kdata.attachment && t.rt.design.count == Count::Attachment {
        return attachment_put(t, &kdata);
    }
    let map = t.map(kdata.map)?;
    map_put(t, &map)
}
