//! The attachment object of owner=link: kdata, pages and ksyms of one attachment, counted by its users.
//!
//! Stands for no Linux source but for the link-owned series: `struct bpf_struct_ops_attachment`, its build and its
//! deferred free.

use std::sync::Arc;

use struct_ops_model::design::{Free, Grace};
use struct_ops_model::{Pc, errno};

use super::event::Object;
use super::object::{Kdata, StMap};
use super::prepare::{self, Filling};
use super::rcu::GracePeriod;
use super::refs::{map_inc, map_put, prog_inc, prog_put};
use super::subsys;
use super::sync::atomic::Ordering::SeqCst;
use super::task::{Step, Task};

/// Builds an attachment of `map`, private until somebody publishes it: part of the open step. The errno if it
/// could not be built.
pub(crate) fn build(t: &Task, map: &Arc<StMap>, cookie: u64) -> Step<Result<Arc<Kdata>, i8>> {
    subsys::st_ops(t, map.decl)?;
    if !t.alloc() {
        return Ok(Err(errno::ENOMEM));
    }
    let members = t.rt.decl.type_of(map.decl).members.len();
    let attachment =
        t.rt.kdatas
            .insert(|id| Kdata::new(id, map.id, map.decl, members, true));
    t.object(Object::Attachment(attachment.id));
    map_inc(map);
    // References of its own: a plain map whose reg() failed puts the map's at once.
    for (_, prog) in prepare::with_program(t, map.decl) {
        prog_inc(t, prog);
    }
    let to = prepare::target(t, map, Some(&attachment))?;
    let mut filling = Filling::default();
    let err = prepare::members(t, &to, &mut filling, map.decl, cookie)?;
    if err != 0 {
        // Nobody has seen it: no grace period is needed.
        filling.give_up(t);
        release(t, &attachment)?;
        return Ok(Err(err));
    }
    prepare::protect(t, &to, filling)?;
    Ok(Ok(attachment))
}

/// `bpf_struct_ops_map_add_ksyms()`.
pub(crate) fn add_ksyms(t: &Task, kdata: &Kdata) {
    t.rt.text.lock().add_ksyms(&kdata.built.lock());
}

/// `bpf_struct_ops_map_del_ksyms()`.
pub(crate) fn del_ksyms(t: &Task, kdata: &Kdata) {
    t.rt.text.lock().del_ksyms(&kdata.built.lock());
}

/// The subsystem has refused it: its ksyms go with it, those that the map keeps go at once.
pub(crate) fn refused(t: &Task, map: &StMap, attachment: &Arc<Kdata>) -> Step {
    let ksyms = prepare::target(t, map, Some(attachment))?.ksyms;
    if ksyms.id != attachment.id {
        del_ksyms(t, &ksyms);
    }
    Ok(())
}

/// Frees an attachment: ksyms, pages, kdata, and its references on programs and map.
pub(crate) fn release(t: &Task, attachment: &Arc<Kdata>) -> Step {
    {
        let mut text = t.rt.text.lock();
        let mut built = attachment.built.lock();
        text.del_ksyms(&built);
        text.free_ksyms(&mut built);
        text.free_images(&mut built, &t.by());
        t.rt.kdatas.free(attachment);
    }
    for (_, prog) in prepare::with_program(t, attachment.decl) {
        prog_put(t, prog)?;
    }
    let map = t.map(attachment.map)?;
    map_put(t, &map)
}

/// The grace periods that the design waits for before an attachment goes.
fn grace(t: &Task, attachment: &Kdata) -> &'static [GracePeriod] {
    use GracePeriod::{RcuAndTasks, Tasks, Trace};
    match (t.rt.decl.sleepable(attachment.decl), t.rt.design.grace) {
        (true, Grace::TasksTraceTasks) => &[Tasks, Trace, RcuAndTasks],
        (true, Grace::TraceTasks) => &[Trace, RcuAndTasks],
        _ => &[RcuAndTasks],
    }
}

/// The deferred free, in a work item.
pub(crate) fn bpf_struct_ops_attachment_free(t: &Task, attachment: &Arc<Kdata>) -> Step {
    let step = |pc: Pc| {
        t.begin(pc)?;
        t.object(Object::Attachment(attachment.id));
        Ok(())
    };
    step(Pc::AttachmentFree)?;
    t.end();
    let periods = grace(t, attachment);
    for (i, period) in periods.iter().enumerate() {
        if i > 0 {
            step(Pc::AttachmentFreeGp)?;
            t.end();
        }
        t.reader.synchronize(*period);
    }
    step(Pc::AttachmentFreeEnd)?;
    release(t, attachment)?;
    t.end();
    Ok(())
}

/// wait=update-mutex: the grace periods, then the reference goes; `pc` is the step of each wait.
pub(crate) fn wait_under_update_mutex(t: &Task, attachment: &Arc<Kdata>, pc: Pc) -> Step<bool> {
    let periods = grace(t, attachment);
    let periods = if t.rt.design.free == Free::Deferred {
        periods
    } else {
        &periods[..1]
    };
    for (i, period) in periods.iter().enumerate() {
        t.reader.synchronize(*period);
        t.begin(pc)?;
        // What is the last reference is freed without another wait.
        let last = i + 1 == periods.len() && attachment.refs.load(SeqCst) == 1;
        if last {
            release(t, attachment)?;
        }
        t.end();
        if last {
            return Ok(true);
        }
    }
    Ok(false)
}
