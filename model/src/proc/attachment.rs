//! The attachment object of owner=link: kdata, pages and ksyms of one attachment, counted by its users.
//!
//! Stands for no Linux source but for the link-owned series: `struct bpf_struct_ops_attachment`, its
//! build and its deferred free.

use crate::backend::{Backend, Counted, Freed, KdataOf, MapOf, Step, event};
use crate::design::{Design, ProgOwner};
use crate::errno;
use crate::invariant::Invariant;
use crate::kernel::{Dirty, Holds, Stage};
use crate::pc::Pc;
use crate::proc::refs::{attachment_release, map_inc};
use crate::proc::{grace, prepare};

/// Builds an attachment of `map`, private until somebody publishes it. On success the task holds it.
pub(crate) fn build<'w, X: Backend<'w>>(x: &mut X, map: MapOf<X>, cookie: u8) -> Step<i8> {
    let decl_index = x.map_decl(map)?;
    let decl = &x.world().maps[usize::from(decl_index)];
    x.st_ops(decl_index)?;
    if !x.alloc() {
        return Ok(errno::ENOMEM);
    }
    let attachment = x.new_kdata(map, decl_index, true)?;
    map_inc(x, map)?;
    // References of its own: a plain map whose reg() failed puts the map's at once.
    if x.design().progs == ProgOwner::Attachment {
        for prog in decl.progs.iter().flatten() {
            x.get(Counted::Prog(*prog))?;
        }
    }
    x.cpu().attachment = Some(attachment);
    x.cpu().holds |= Holds::ATTACHMENT;
    let to = prepare::target(x, map, Some(attachment))?;
    let err = prepare::members(x, to, decl, cookie)?;
    if err != 0 {
        // Nobody has seen it: no grace period is needed.
        x.hand_over(Holds::ATTACHMENT);
        x.cpu().attachment = None;
        attachment_release(x, attachment)?;
        return Ok(err);
    }
    x.protect(attachment)?;
    event!(x, "attachment built");
    Ok(0)
}

/// What the subsystem gets for this attachment.
pub(crate) fn published<'w, X: Backend<'w>>(
    x: &mut X,
    map: MapOf<X>,
    attachment: Option<KdataOf<X>>,
) -> Step<KdataOf<X>> {
    Ok(prepare::target(x, map, attachment)?.kdata)
}

/// Where the ksyms of this attachment are.
pub(crate) fn ksyms<'w, X: Backend<'w>>(
    x: &mut X,
    map: MapOf<X>,
    attachment: Option<KdataOf<X>>,
) -> Step<KdataOf<X>> {
    Ok(prepare::target(x, map, attachment)?.ksyms)
}

/// The subsystem has refused it: its ksyms go with it, for a caller may have found it in the meantime; those that
/// the map keeps go at once.
pub(crate) fn refused<'w, X: Backend<'w>>(
    x: &mut X,
    map: MapOf<X>,
    attachment: Option<KdataOf<X>>,
) -> Step {
    let ksyms = ksyms(x, map, attachment)?;
    if Some(ksyms) == attachment {
        x.undo(Dirty::KSYM);
        return Ok(());
    }
    prepare::del_ksyms(x, ksyms)
}

/// The first grace period that the design waits for, if it waits for any.
pub(crate) fn first_stage<'w, X: Backend<'w>>(
    x: &mut X,
    attachment: KdataOf<X>,
) -> Step<Option<Stage>> {
    let decl = x.kdata_decl(attachment)?;
    let world = x.world();
    let sleepable = world.sleepable(&world.maps[usize::from(decl)]);
    Ok(grace::first(x.design(), sleepable))
}

/// The step of the deferred free that comes when this is over.
pub(crate) fn work_pc(design: &Design, over: Stage) -> Pc {
    match over {
        Stage::Queued => Pc::AttachmentFree,
        over if grace::next(design, over).is_some() => Pc::AttachmentFreeGp,
        _ => Pc::AttachmentFreeEnd,
    }
}

/// The deferred free; the worker's steps.
pub(crate) fn work<'w, X: Backend<'w>>(x: &mut X, attachment: KdataOf<X>) -> Step {
    match x.pc() {
        Pc::AttachmentFree => {
            let Some(first) = first_stage(x, attachment)? else {
                return end(x, attachment);
            };
            x.defer(Freed::Attachment(attachment), first)?;
            event!(x, "grace period begins");
            Ok(())
        }
        Pc::AttachmentFreeGp => {
            let over = x.deferred(Freed::Attachment(attachment))?;
            let next = grace::next(x.design(), over);
            let next = next.expect("the last grace period ends in another step");
            x.defer(Freed::Attachment(attachment), next)?;
            event!(x, "next grace period begins");
            Ok(())
        }
        Pc::AttachmentFreeEnd => end(x, attachment),
        _ => unreachable!("not a step of the attachment's free"),
    }
}

/// Nobody can use it any more.
fn end<'w, X: Backend<'w>>(x: &mut X, attachment: KdataOf<X>) -> Step {
    x.witness(Invariant::EventualRelease);
    attachment_release(x, attachment)?;
    event!(x, "attachment freed");
    Ok(())
}
