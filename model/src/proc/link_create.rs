//! bpf_struct_ops_link_create() of kernel/bpf/bpf_struct_ops.c.

use crate::design::{Build, Links, Owner};
use crate::exec::{Exec, Step, Stop, errno, event};
use crate::invariant::Invariant;
use crate::kernel::{Link, MapKey, MapState, dirty, holds, seen};
use crate::pc::Pc;
use crate::proc::{attachment, prepare};
use crate::subsys;

/// The map has an attached link.
fn has_link(x: &Exec<'_>, map: MapKey) -> bool {
    x.k.links.iter().any(|(_, l)| l.map == Some(map))
}

pub(crate) fn step(x: &mut Exec<'_>) -> Step {
    match x.pc {
        Pc::LcGet => {
            let (key, _) = x.my_map()?;
            x.map_inc(key)?;
            x.c().holds |= holds::MAP;
            event!(x, "the map is held");
            x.goto(Pc::LcValid)
        }
        Pc::LcValid => {
            let (key, map) = x.my_map()?;
            if has_link(x, key) {
                x.report.witness(Invariant::SingleLinkPerMap);
            }
            let ready = map.state == MapState::Ready
                || (x.design.links == Links::One && map.state == MapState::InUse);
            if !x.decl(&map).link || !ready {
                return x.fail(errno::EINVAL, Pc::MapPut);
            }
            event!(x, "a link map, ready");
            x.goto(Pc::LcAlloc)
        }
        Pc::LcAlloc => {
            // kzalloc(), then bpf_link_prime(): fd, id and file.
            if !x.alloc() || !x.alloc() {
                return x.fail(errno::ENOMEM, Pc::MapPut);
            }
            let cookie = x.c().cookie;
            let name = x.c().arg;
            let link = Link {
                name,
                cookie,
                refs: 1,
                ..Link::default()
            };
            let link = x.k.links.insert(link).map_err(|f| x.full(f))?;
            x.counted = true;
            x.c().link = Some(link);
            x.c().holds |= holds::LINK;
            event!(x, "link allocated and primed");
            x.goto(if x.design.owner == Owner::Link {
                Pc::LcBuild
            } else {
                Pc::LcLock
            })
        }
        Pc::LcBuild => {
            let (key, _) = x.my_map()?;
            let cookie = x.c().cookie;
            let err = attachment::build(x, key, cookie)?;
            if err != 0 {
                return x.fail(err, Pc::LcCleanup);
            }
            x.goto(Pc::LcLock)
        }
        Pc::LcLock => {
            x.k.update_mutex = Some(x.cpu);
            if x.design.links == Links::One {
                x.goto(Pc::LcGuard)
            } else {
                prepare_or_reg(x)
            }
        }
        Pc::LcGuard => {
            let (key, map) = x.my_map()?;
            if map.state != MapState::Ready {
                x.saw(seen::HAS_LINK);
                return x.fail(errno::EBUSY, Pc::LcUnlock);
            }
            x.map(key)?.state = MapState::InUse;
            x.touch(dirty::STATE);
            event!(x, "state INUSE");
            prepare_or_reg(x)
        }
        Pc::LcKsymsEarly => {
            let (key, _) = x.my_map()?;
            let attachment = x.c().attachment;
            let ksyms = attachment::ksyms(x, key, attachment)?;
            x.add_ksyms(ksyms)?;
            x.goto(Pc::LcReg)
        }
        Pc::LcReg => {
            if x.c().err != 0 {
                // prepare_attach() has failed.
                return x.goto(Pc::LcRegDone);
            }
            let (key, _) = x.my_map()?;
            let attachment = x.c().attachment;
            let kdata = attachment::published(x, key, attachment)?;
            x.c().kdata = Some(kdata);
            subsys::reg(x, Pc::LcRegDone)
        }
        Pc::LcRegDone => {
            let (key, _) = x.my_map()?;
            let attachment = x.c().attachment;
            if x.c().err != 0 {
                take_back(x, key)?;
                return x.goto(Pc::LcUnlock);
            }
            let (link, _) = x.my_link()?;
            x.counted = true;
            x.link(link)?.map = Some(key);
            if attachment.is_some() {
                x.link(link)?.attachment = attachment;
                x.hand_over(holds::ATTACHMENT);
            } else {
                x.hand_over(holds::MAP);
            }
            if x.design.build == Build::LinkCreate && !x.ksyms_early() {
                let ksyms = attachment::ksyms(x, key, attachment)?;
                x.add_ksyms(ksyms)?;
            }
            event!(x, "link->map set");
            x.goto(Pc::LcUnlock)
        }
        Pc::LcUnlock => {
            x.k.update_mutex = None;
            let failed = x.c().err != 0;
            x.goto(if failed { Pc::LcCleanup } else { Pc::LcSettle })
        }
        Pc::LcSettle => {
            let (link, _) = x.my_link()?;
            let fds = 1 << x.world.cpus[usize::from(x.cpu)].proc;
            x.link(link)?.fds |= fds;
            x.hand_over(holds::LINK);
            x.counted = true;
            event!(x, "fd installed");
            let holds_map = x.c().holds & holds::MAP != 0;
            x.goto(if holds_map { Pc::MapPut } else { Pc::Finish })
        }
        Pc::LcCleanup => {
            let (link, _) = x.my_link()?;
            x.counted = true;
            if let Some(attachment) = x.c().attachment {
                x.hand_over(holds::ATTACHMENT);
                x.attachment_put(attachment)?;
            }
            x.hand_over(holds::LINK);
            x.k.links.remove(link);
            x.report.witness(Invariant::FailureAtomic);
            x.goto(Pc::MapPut)
        }
        Pc::PrepMember | Pc::PrepSeal => prepare::step(x, Pc::LcReg),
        _ => unreachable!("not a step of link_create"),
    }
}

/// Under update_mutex: generate now (the RFC), or go on to reg().
fn prepare_or_reg(x: &mut Exec<'_>) -> Step {
    let (_, map) = x.my_map()?;
    if x.design.build == Build::LinkCreate && x.design.owner == Owner::Map {
        let world = x.world;
        return prepare::next_member(x, &world.maps[usize::from(map.decl)], 0);
    }
    x.goto(if x.ksyms_early() && x.design.build == Build::LinkCreate {
        Pc::LcKsymsEarly
    } else {
        Pc::LcReg
    })
}

/// After a failing prepare or reg(): what was generated goes, as the design says.
fn take_back(x: &mut Exec<'_>, key: MapKey) -> Result<(), Stop> {
    if x.design.build == Build::LinkCreate {
        if x.design.owner == Owner::Map {
            prepare::free_at_once(x, key)?;
        } else if x.ksyms_early()
            && let Some(attachment) = x.c().attachment
        {
            attachment::refused(x, key, Some(attachment))?;
        }
    }
    if x.design.links == Links::One {
        x.map(key)?.state = MapState::Ready;
        x.undo(dirty::STATE);
        event!(x, "state READY");
    }
    Ok(())
}
