//! References on maps, attachments and programs, and what the last one sets off.
//!
//! Stands for bpf_map_put() and bpf_prog_put() of kernel/bpf/syscall.c and for bpf_struct_ops_get() and
//! bpf_struct_ops_put() of kernel/bpf/bpf_struct_ops.c. No step by itself: part of the step in progress.

use crate::backend::{Backend, Counted, Freed, KdataOf, MapOf, Step, event};
use crate::design::{Count, Free, ProgOwner};
use crate::invariant::Invariant;
use crate::kernel::{Holds, Stage};
use crate::place::Linux;
use crate::proc::prepare;
use crate::world::MapDecl;

/// The declaration of a map.
pub(crate) fn decl_of<'w, X: Backend<'w>>(x: &mut X, map: MapOf<X>) -> Step<&'w MapDecl> {
    let decl = x.map_decl(map)?;
    Ok(&x.world().maps[usize::from(decl)])
}

/// `bpf_map_inc()`.
pub(crate) fn map_inc<'w, X: Backend<'w>>(x: &mut X, map: MapOf<X>) -> Step {
    x.get(Counted::Map(map))
}

/// `bpf_map_put()`: the last reference queues `bpf_map_free_deferred()`. On 7.4 it takes the ksyms away first.
pub(crate) fn map_put<'w, X: Backend<'w>>(x: &mut X, map: MapOf<X>) -> Step {
    if x.put(Counted::Map(map))? {
        if x.world().linux >= Linux::V7_4
            && let Some(kdata) = x.map_kdata(map)?
        {
            // bpf_struct_ops_map_free_pre_rcu()
            prepare::del_ksyms(x, kdata)?;
            event!(x, "ksyms out of kallsyms");
        }
        x.defer(Freed::Map(map), Stage::Queued)?;
        x.witness(Invariant::RefcountsBalance);
        event!(x, "last map reference: free is queued");
    }
    Ok(())
}

/// Drops the task's own map reference.
pub(crate) fn put_my_map<'w, X: Backend<'w>>(x: &mut X) -> Step {
    let map = x.my_map();
    x.hand_over(Holds::MAP);
    map_put(x, map)
}

/// Drops one reference of an attachment; the last one queues its free, or frees at once.
pub(crate) fn attachment_put<'w, X: Backend<'w>>(x: &mut X, attachment: KdataOf<X>) -> Step {
    if !x.put(Counted::Attachment(attachment))? {
        return Ok(());
    }
    x.witness(Invariant::RefcountsBalance);
    if x.design().free == Free::AtOnce {
        event!(x, "last reference: the attachment is freed at once");
        return attachment_release(x, attachment);
    }
    x.defer(Freed::Attachment(attachment), Stage::Queued)?;
    event!(x, "last attachment reference: free is queued");
    Ok(())
}

/// Frees an attachment: ksyms, pages, kdata, and its references on programs and map.
pub(crate) fn attachment_release<'w, X: Backend<'w>>(x: &mut X, attachment: KdataOf<X>) -> Step {
    let decl = x.kdata_decl(attachment)?;
    let map = x.kdata_map(attachment)?;
    x.under_text_mutex(|x| {
        prepare::del_ksyms(x, attachment)?;
        x.free_ksyms(attachment)?;
        prepare::free_images(x, attachment)?;
        x.free_kdata(attachment)
    })?;
    if x.design().progs == ProgOwner::Attachment {
        for prog in x.world().maps[usize::from(decl)].progs.iter().flatten() {
            prog_put(x, *prog)?;
        }
    }
    map_put(x, map)
}

/// `bpf_prog_put()`; a program of a sleepable member waits for Tasks Trace RCU, others for RCU.
pub(crate) fn prog_put<'w, X: Backend<'w>>(x: &mut X, prog: u8) -> Step {
    if x.put(Counted::Prog(prog))? {
        let sleeps = x.world().may_sleep(prog);
        let after = if sleeps { Stage::Trace } else { Stage::Rcu };
        x.defer(Freed::Prog(prog), after)?;
    }
    Ok(())
}

/// What a user of kdata counts: the attachment that owns it, or its map.
fn counted<'w, X: Backend<'w>>(x: &mut X, kdata: KdataOf<X>) -> Step<Counted<X::P>> {
    if x.is_attachment(kdata)? && x.design().count == Count::Attachment {
        return Ok(Counted::Attachment(kdata));
    }
    Ok(Counted::Map(x.kdata_map(kdata)?))
}

/// `bpf_struct_ops_get(kdata)`: `container_of`, then a reference unless the count is 0.
pub(crate) fn bpf_struct_ops_get<'w, X: Backend<'w>>(x: &mut X, kdata: KdataOf<X>) -> Step<bool> {
    let counted = counted(x, kdata)?;
    x.get_unless_zero(counted)
}

/// `bpf_struct_ops_put(kdata)`.
pub(crate) fn bpf_struct_ops_put<'w, X: Backend<'w>>(x: &mut X, kdata: KdataOf<X>) -> Step {
    match counted(x, kdata)? {
        Counted::Map(map) => map_put(x, map),
        _ => attachment_put(x, kdata),
    }
}
