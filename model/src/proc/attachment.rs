//! The attachment object of owner=link: kdata, pages and ksyms of one attachment, counted by its users.
//!
//! Stands for no Linux source but for the link-owned series: `struct bpf_struct_ops_attachment`, its
//! build and its deferred free.

use crate::design::{Grace, ProgOwner};
use crate::exec::{Exec, Step, Stop, errno, event};
use crate::invariant::Invariant;
use crate::kernel::{Deferred, Kdata, KdataKey, MapKey, dirty, holds};
use crate::pc::Pc;
use crate::proc::prepare;

/// Allocations of a build: the object, a ksym per member, pages.
pub(crate) fn allocs(world: &crate::world::World, decl: &crate::world::MapDecl) -> u8 {
    1 + prepare::struct_allocs(world, decl)
}

/// Builds an attachment of `map`, private until somebody publishes it. On success the CPU holds it.
pub(crate) fn build(x: &mut Exec<'_>, map: MapKey, cookie: u8) -> Result<i8, Stop> {
    let decl_index = x.map(map)?.decl;
    let world = x.world;
    let decl = &world.maps[usize::from(decl_index)];
    x.st_ops(decl_index)?;
    if !x.alloc() {
        return Ok(errno::ENOMEM);
    }
    let object = Kdata {
        map: Some(map),
        decl: decl_index,
        attachment: true,
        refs: 1,
        ..Kdata::default()
    };
    let key = x.k.kdatas.insert(object).map_err(|f| x.full(f))?;
    x.map_inc(map)?;
    // References of its own: a plain map whose reg() failed puts the map's at once.
    if x.design.progs == ProgOwner::Attachment {
        for prog in decl.progs.iter().flatten() {
            x.k.progs[usize::from(*prog)].refs += 1;
        }
    }
    x.c().attachment = Some(key);
    x.c().holds |= holds::ATTACHMENT;
    let to = prepare::target(x, map, Some(key))?;
    let err = prepare::members(x, to, decl, cookie)?;
    if err != 0 {
        // Nobody has seen it: no grace period is needed.
        x.hand_over(holds::ATTACHMENT);
        x.c().attachment = None;
        x.attachment_release(key)?;
        return Ok(err);
    }
    x.protect(key)?;
    event!(x, "attachment built");
    Ok(0)
}

/// What the subsystem gets for this attachment.
pub(crate) fn published(
    x: &mut Exec<'_>,
    map: MapKey,
    attachment: Option<KdataKey>,
) -> Result<KdataKey, Stop> {
    Ok(prepare::target(x, map, attachment)?.kdata)
}

/// Where the ksyms of this attachment are.
pub(crate) fn ksyms(
    x: &mut Exec<'_>,
    map: MapKey,
    attachment: Option<KdataKey>,
) -> Result<KdataKey, Stop> {
    Ok(prepare::target(x, map, attachment)?.ksyms)
}

/// The subsystem has refused it: its ksyms go with it, for a caller may have found it in the meantime; those that
/// the map keeps go at once.
pub(crate) fn refused(x: &mut Exec<'_>, map: MapKey, attachment: Option<KdataKey>) -> Step {
    let ksyms = ksyms(x, map, attachment)?;
    if Some(ksyms) == attachment {
        x.undo(dirty::KSYM);
        return Ok(());
    }
    x.del_ksyms(ksyms)
}

/// First stage of the grace periods that the design waits for: 2 Tasks, 3 Tasks Trace, 4 RCU and Tasks.
fn first_stage(x: &mut Exec<'_>, key: KdataKey) -> Result<u8, Stop> {
    let decl = x.kdata(key)?.decl;
    let sleepable = x.world.sleepable(&x.world.maps[usize::from(decl)]);
    Ok(match (sleepable, x.design.grace) {
        (true, Grace::TasksTraceTasks) => 2,
        (true, Grace::TraceTasks) => 3,
        _ => 4,
    })
}

/// The readers that a stage waits for, as they are now.
pub(crate) fn grace_period(x: &Exec<'_>, stage: u8) -> Deferred {
    let rcu = x.k.readers(|r| r.rcu > 0);
    let tasks = x.k.readers(|r| r.tasks);
    let trace = x.k.readers(|r| r.trace > 0);
    match stage {
        2 => Deferred {
            stage,
            tasks,
            ..Deferred::default()
        },
        3 => Deferred {
            stage,
            trace,
            ..Deferred::default()
        },
        _ => Deferred {
            stage,
            rcu,
            tasks,
            ..Deferred::default()
        },
    }
}

/// Begins the design's first grace period for an attachment.
pub(crate) fn grace_begin(x: &mut Exec<'_>, key: KdataKey) -> Result<Deferred, Stop> {
    let stage = first_stage(x, key)?;
    Ok(grace_period(x, stage))
}

/// The deferred free; the worker's steps.
pub(crate) fn work(x: &mut Exec<'_>, key: KdataKey) -> Step {
    match x.pc {
        Pc::AttachmentFree => {
            let begun = grace_begin(x, key)?;
            x.kdata(key)?.free = begun;
            event!(x, "grace period begins");
            Ok(())
        }
        Pc::AttachmentFreeGp => {
            let stage = x.kdata(key)?.free.stage + 1;
            let begun = grace_period(x, stage);
            x.kdata(key)?.free = begun;
            event!(x, "next grace period begins");
            Ok(())
        }
        Pc::AttachmentFreeEnd => {
            x.report.witness(Invariant::EventualRelease);
            x.attachment_release(key)?;
            event!(x, "attachment freed");
            Ok(())
        }
        _ => unreachable!("not a step of the attachment's free"),
    }
}
