//! bpf_struct_ops_map_update_elem() of kernel/bpf/bpf_struct_ops.c.
//!
//! Not here: flags, key and hole checks, which touch no state.

use crate::design::{Build, Owner, OwnerCheck};
use crate::exec::{Exec, Step, Stop, errno, event};
use crate::invariant::Invariant;
use crate::kernel::{Map, MapKey, MapState, dirty, holds};
use crate::pc::Pc;
use crate::proc::{attachment, prepare};
use crate::subsys;
use crate::world::{MapDecl, Subsystem};

/// Allocations of UpdMembers: a bpf_tramp_link per member, and what generating takes.
pub(crate) fn allocs(
    world: &crate::world::World,
    design: &crate::design::Design,
    decl: &MapDecl,
) -> u8 {
    let links = decl.progs.iter().flatten().count() as u8;
    if design.build == Build::MapUpdate || !decl.link {
        let object = u8::from(design.owner == Owner::Link);
        links + object + prepare::struct_allocs(world, decl)
    } else {
        links
    }
}

pub(crate) fn step(x: &mut Exec<'_>) -> Step {
    match x.pc {
        Pc::UpdTlinks => {
            if !x.alloc() {
                return x.fail(errno::ENOMEM, Pc::MapPut);
            }
            x.goto(Pc::UpdLock)
        }
        Pc::UpdLock => {
            let (key, _) = x.my_map()?;
            let cpu = x.cpu;
            x.map(key)?.lock = Some(cpu);
            x.goto(Pc::UpdMembers)
        }
        Pc::UpdMembers => {
            let (key, map) = x.my_map()?;
            if map.state != MapState::Init {
                return x.fail(errno::EBUSY, Pc::UpdUnlock);
            }
            let err = members(x, key, &map)?;
            if let Some(err) = err {
                reset(x, key)?;
                return x.fail(err, Pc::UpdUnlock);
            }
            event!(x, "programs in links[] and uvalue");
            x.goto(Pc::UpdPublish)
        }
        Pc::UpdPublish => {
            let (key, map) = x.my_map()?;
            if x.decl(&map).link {
                x.map(key)?.state = MapState::Ready;
                x.touch(dirty::STATE);
                event!(x, "state READY");
                return x.goto(Pc::UpdUnlock);
            }
            x.c().kdata = map.kdata;
            if x.ksyms_early() {
                x.goto(Pc::UpdKsymsEarly)
            } else {
                subsys::reg(x, Pc::UpdRegDone)
            }
        }
        Pc::UpdKsymsEarly => {
            let kdata = x.c().kdata.expect("UpdPublish set it");
            x.add_ksyms(kdata)?;
            subsys::reg(x, Pc::UpdRegDone)
        }
        Pc::UpdRegDone => {
            let (key, map) = x.my_map()?;
            if x.c().err != 0 {
                reset(x, key)?;
                return x.goto(Pc::UpdUnlock);
            }
            if x.design.owner == Owner::Map {
                x.map_inc(key)?;
            } else {
                // The attachment's reference, held since it was built, is now the registration's.
                x.counted = true;
                debug_assert!(map.kdata.is_some());
            }
            x.map(key)?.state = MapState::InUse;
            x.touch(dirty::STATE);
            event!(x, "state INUSE");
            x.goto(Pc::UpdUnlock)
        }
        Pc::UpdUnlock => {
            let (key, map) = x.my_map()?;
            x.map(key)?.lock = None;
            let named_later = x.design.build == Build::MapUpdate || !x.decl(&map).link;
            let now = x.c().err == 0 && named_later && !x.ksyms_early();
            x.goto(if now { Pc::UpdKsyms } else { Pc::MapPut })
        }
        Pc::UpdKsyms => {
            let (_, map) = x.my_map()?;
            if let Some(kdata) = map.kdata {
                x.add_ksyms(kdata)?;
            }
            x.goto(Pc::MapPut)
        }
        _ => unreachable!("not a step of map_update"),
    }
}

/// The walk over the members. `Some(err)` asks for the reset path; `err` may be 0 there (owner-errno=stale).
fn members(x: &mut Exec<'_>, key: MapKey, map: &Map) -> Result<Option<i8>, Stop> {
    let world = x.world;
    let decl = &world.maps[usize::from(map.decl)];
    x.st_ops(map.decl)?;
    for (i, prog) in decl.progs.iter().enumerate() {
        let Some(prog) = prog else { continue };
        let proc = world.cpus[usize::from(x.cpu)].proc;
        if x.k.progs[usize::from(*prog)].fds & (1 << proc) == 0 {
            return Ok(Some(errno::EBADF));
        }
        if !x.alloc() {
            return Ok(Some(errno::ENOMEM));
        }
        x.counted = true;
        x.k.progs[usize::from(*prog)].refs += 1;
        x.map(key)?.filled |= 1 << i;
    }
    if decl.owner_set {
        // The member is the last of its struct: err is what init_member left for the one before.
        event!(x, "the module-owner member is not 0");
        return Ok(Some(match x.design.owner_check {
            // tcp's init_member handled `name` and returned 1.
            OwnerCheck::Stale => i8::from(world.types[decl.ty].subsystem == Subsystem::TcpCong),
            OwnerCheck::Einval => errno::EINVAL,
        }));
    }
    if x.design.build == Build::MapUpdate || !decl.link {
        if x.design.owner == Owner::Link {
            let err = attachment::build(x, key, 0)?;
            if err != 0 {
                return Ok(Some(err));
            }
            let built = x.c().attachment.take();
            x.hand_over(holds::ATTACHMENT);
            x.map(key)?.kdata = built;
        } else {
            let to = prepare::target(x, key, None)?;
            let err = prepare::members(x, to, decl, 0)?;
            if err != 0 {
                return Ok(Some(err));
            }
            let err = prepare::validate(x, map.decl, to.kdata)?;
            if err != 0 {
                event!(x, "validate() refuses");
                return Ok(Some(err));
            }
            x.protect(to.images)?;
        }
        event!(x, "trampolines generated");
    }
    // On the template whose present members point at the cfi_stubs.
    if x.design.validate == crate::design::Validate::MapUpdate && !x.world.validates(decl) {
        event!(x, "validate() refuses");
        return Ok(Some(errno::EINVAL));
    }
    Ok(None)
}

/// `reset_unlock`: ksyms, pages and program references go, both values are zeroed.
fn reset(x: &mut Exec<'_>, key: MapKey) -> Step {
    if x.design.owner == Owner::Map {
        if let Some(kdata) = x.map(key)?.kdata {
            x.free_ksyms(kdata)?;
            x.free_images(kdata)?;
            let kdata = x.kdata(kdata)?;
            kdata.func = Default::default();
        }
    } else if !x.world.maps[usize::from(x.map(key)?.decl)].link
        && let Some(kdata) = x.map(key)?.kdata.take()
    {
        if x.ksyms_early() {
            attachment::refused(x, key, Some(kdata))?;
        }
        x.attachment_put(kdata)?;
    }
    put_progs(x, key)?;
    event!(x, "reset: the map is empty again");
    x.report.witness(Invariant::FailureAtomic);
    Ok(())
}

/// `bpf_struct_ops_map_put_progs()`.
pub(crate) fn put_progs(x: &mut Exec<'_>, key: MapKey) -> Step {
    let map = *x.map(key)?;
    let world = x.world;
    for (i, prog) in world.maps[usize::from(map.decl)].progs.iter().enumerate() {
        if let Some(prog) = prog
            && map.filled & (1 << i) != 0
        {
            x.prog_put(*prog)?;
        }
    }
    x.map(key)?.filled = 0;
    Ok(())
}
