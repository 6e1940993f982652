//! bpf_struct_ops_map_link_detach() and bpf_struct_ops_map_link_dealloc() of kernel/bpf/bpf_struct_ops.c.

use crate::design::{Free, Owner, Wait};
use crate::exec::{Exec, Step, Stop, event};
use crate::kernel::{KdataKey, holds};
use crate::pc::Pc;
use crate::proc::{attachment, link_update};
use crate::subsys;

pub(crate) fn step(x: &mut Exec<'_>) -> Step {
    match x.pc {
        Pc::LdGet => {
            let (link, _) = x.my_link()?;
            x.link(link)?.refs += 1;
            x.counted = true;
            x.c().holds |= holds::LINK;
            x.goto(Pc::LdLock)
        }
        Pc::LdLock => {
            x.k.update_mutex = Some(x.cpu);
            x.goto(Pc::LdCheck)
        }
        Pc::LdCheck => {
            let (_, link) = x.my_link()?;
            let Some(map) = link.map else {
                event!(x, "detached already");
                return x.goto(Pc::LdUnlock);
            };
            event!(x, "attached: calls unreg()");
            let kdata = attachment::published(x, map, link.attachment)?;
            x.c().kdata = Some(kdata);
            subsys::unreg(x, Pc::LdUnregDone)
        }
        Pc::LdUnregDone => {
            let attachment = let_go(x)?;
            event!(x, "link->map = NULL");
            match attachment {
                Some(attachment) if x.design.wait == Wait::UpdateMutex => {
                    wait_begin(x, attachment)?;
                    x.goto(Pc::LdWait)
                }
                _ => x.goto(Pc::LdUnlock),
            }
        }
        Pc::LdWait => {
            if waited(x)? {
                return x.goto(Pc::LdUnlock);
            }
            Ok(())
        }
        Pc::LdUnlock => {
            x.k.update_mutex = None;
            x.goto(Pc::LdPutRefs)
        }
        Pc::DeallocUnreg => {
            let (_, link) = x.my_link()?;
            let Some(map) = link.map else {
                return x.goto(Pc::DeallocFree);
            };
            let kdata = attachment::published(x, map, link.attachment)?;
            x.c().kdata = Some(kdata);
            subsys::unreg(x, Pc::DeallocFree)
        }
        Pc::DeallocFree => {
            let (key, link) = x.my_link()?;
            if link.map.is_some() {
                let_go(x)?;
            }
            x.k.links.remove(key);
            x.counted = true;
            if x.c().holds & holds::OLD_ATTACHMENT != 0 {
                let attachment = x.c().old_attachment.expect("held");
                x.hand_over(holds::OLD_ATTACHMENT);
                x.attachment_put(attachment)?;
            }
            event!(x, "link freed");
            x.goto(Pc::Finish)
        }
        _ => unreachable!("not a step of link_detach or link_dealloc"),
    }
}

/// The link is not attached any more: the map is put, or its attachment now hangs on this CPU.
fn let_go(x: &mut Exec<'_>) -> Result<Option<KdataKey>, Stop> {
    let (key, link) = x.my_link()?;
    let map = link.map.expect("attached");
    x.counted = true;
    x.link(key)?.map = None;
    link_update::set_ready(x, map)?;
    if x.design.owner == Owner::Map {
        x.map_put(map)?;
        return Ok(None);
    }
    let attachment = x.link(key)?.attachment.take();
    x.c().old_attachment = attachment;
    x.c().holds |= holds::OLD_ATTACHMENT;
    Ok(attachment)
}

/// wait=update-mutex: the grace periods of `attachment` begin on this CPU.
pub(crate) fn wait_begin(x: &mut Exec<'_>, attachment: KdataKey) -> Step {
    let begun = attachment::grace_begin(x, attachment)?;
    x.c().wait = begun;
    event!(x, "waits for a grace period under update_mutex");
    Ok(())
}

/// wait=update-mutex: one grace period is over; `true` after the last one. What remains to be done for
/// the attachment is to put it: if that was the last reference, it is freed without another wait.
pub(crate) fn waited(x: &mut Exec<'_>) -> Result<bool, Stop> {
    let stage = x.c().wait.stage;
    if stage < 4 && x.design.free == Free::Deferred {
        let next = attachment::grace_period(x, stage + 1);
        x.c().wait = next;
        return Ok(false);
    }
    x.c().wait = Default::default();
    let attachment = x.c().old_attachment.expect("let go of it before");
    if x.kdata(attachment)?.refs == 1 {
        x.hand_over(holds::OLD_ATTACHMENT);
        x.c().old_attachment = None;
        x.counted = true;
        x.attachment_release(attachment)?;
    }
    Ok(true)
}
