//! bpf_struct_ops_map_update_elem() of kernel/bpf/bpf_struct_ops.c.
//!
//! Not here: flags, key and hole checks, which touch no state.

use crate::backend::{Backend, Counted, MapOf, Step, event};
use crate::design::{Build, Owner, OwnerCheck, Validate};
use crate::errno;
use crate::invariant::Invariant;
use crate::kernel::{Dirty, Holds, MapState};
use crate::lock::Lock;
use crate::pc::Pc;
use crate::proc::prepare::{add_ksyms, free_images};
use crate::proc::refs::{attachment_put, decl_of, map_inc, prog_put};
use crate::proc::{assoc, attachment, prepare};
use crate::subsys;
use crate::world::Subsystem;

pub(crate) fn step<'w, X: Backend<'w>>(x: &mut X) -> Step {
    match x.pc() {
        Pc::UpdTlinks => {
            if !x.alloc() {
                return x.fail(errno::ENOMEM, Pc::MapPut);
            }
            x.goto(Pc::UpdLock)
        }
        Pc::UpdLock => {
            let map = x.my_map();
            x.lock(Lock::Map(map))?;
            x.goto(Pc::UpdMembers)
        }
        Pc::UpdMembers => {
            let map = x.my_map();
            if x.map_state(map)? != MapState::Init {
                return x.fail(errno::EBUSY, Pc::UpdUnlock);
            }
            if let Some(err) = members(x, map)? {
                reset(x, map)?;
                return x.fail(err, Pc::UpdUnlock);
            }
            event!(x, "programs in links[] and uvalue");
            x.goto(Pc::UpdPublish)
        }
        Pc::UpdPublish => {
            let map = x.my_map();
            if decl_of(x, map)?.link {
                assoc::when_ready(x, map)?;
                x.set_map_state(map, MapState::Ready)?;
                x.touch(Dirty::STATE);
                event!(x, "state READY");
                return x.goto(Pc::UpdUnlock);
            }
            x.cpu().kdata = x.map_kdata(map)?;
            if x.ksyms_early() {
                x.goto(Pc::UpdKsymsEarly)
            } else {
                subsys::reg(x, Pc::UpdRegDone)
            }
        }
        Pc::UpdKsymsEarly => {
            let kdata = x.cpu().kdata.expect("UpdPublish set it");
            add_ksyms(x, kdata)?;
            subsys::reg(x, Pc::UpdRegDone)
        }
        Pc::UpdRegDone => {
            let map = x.my_map();
            if x.cpu().err != 0 {
                reset(x, map)?;
                return x.goto(Pc::UpdUnlock);
            }
            // An attachment's reference, held since it was built, is the registration's from here on.
            if x.design().owner == Owner::Map {
                map_inc(x, map)?;
            }
            assoc::when_ready(x, map)?;
            x.set_map_state(map, MapState::InUse)?;
            x.touch(Dirty::STATE);
            event!(x, "state INUSE");
            x.goto(Pc::UpdUnlock)
        }
        Pc::UpdUnlock => {
            let map = x.my_map();
            let named_later = x.design().build == Build::MapUpdate || !decl_of(x, map)?.link;
            let now = x.cpu().err == 0 && named_later && !x.ksyms_early();
            x.unlock(Lock::Map(map))?;
            x.goto(if now { Pc::UpdKsyms } else { Pc::MapPut })
        }
        Pc::UpdKsyms => {
            let map = x.my_map();
            if let Some(kdata) = x.map_kdata(map)? {
                add_ksyms(x, kdata)?;
            }
            x.goto(Pc::MapPut)
        }
        _ => unreachable!("not a step of map_update"),
    }
}

/// The walk over the members. `Some(err)` asks for the reset path; `err` may be 0 there (owner-errno=stale).
fn members<'w, X: Backend<'w>>(x: &mut X, map: MapOf<X>) -> Step<Option<i8>> {
    let world = x.world();
    let decl_index = x.map_decl(map)?;
    let decl = &world.maps[usize::from(decl_index)];
    let refusal = x.st_ops(decl_index)?.facts().init_member;
    if refusal != 0 {
        // It is asked of each member first of all.
        event!(x, "init_member() refuses");
        return Ok(Some(refusal));
    }
    for (i, prog) in decl.progs.iter().enumerate() {
        let Some(prog) = prog else { continue };
        if !x.has_prog_fd(*prog) {
            return Ok(Some(errno::EBADF));
        }
        if !x.alloc() {
            return Ok(Some(errno::ENOMEM));
        }
        x.get(Counted::Prog(*prog))?;
        x.set_filled(map, i, true)?;
        if !assoc::as_taken(x, map, *prog)? {
            return Ok(Some(errno::EINVAL));
        }
    }
    let design = x.design();
    if decl.owner_set {
        // The member is the last of its struct: err is what init_member left for the one before.
        event!(x, "the module-owner member is not 0");
        return Ok(Some(match design.owner_check {
            // tcp's init_member handled `name` and returned 1.
            OwnerCheck::Stale => i8::from(world.types[decl.ty].subsystem == Subsystem::TcpCong),
            OwnerCheck::Einval => errno::EINVAL,
        }));
    }
    if design.build == Build::MapUpdate || !decl.link {
        let err = generate(x, map, decl_index)?;
        if err != 0 {
            return Ok(Some(err));
        }
        event!(x, "trampolines generated");
    }
    // On the template whose present members point at the cfi_stubs.
    if design.validate == Validate::MapUpdate && !world.validates(decl) {
        event!(x, "validate() refuses");
        return Ok(Some(errno::EINVAL));
    }
    Ok(None)
}

/// Trampolines without a cookie: in the map, or in the attachment of a plain map. The result is 0 or an errno.
fn generate<'w, X: Backend<'w>>(x: &mut X, map: MapOf<X>, decl_index: u8) -> Step<i8> {
    if x.design().owner == Owner::Link {
        let err = attachment::build(x, map, 0)?;
        if err == 0 {
            let built = x.cpu().attachment.take();
            x.hand_over(Holds::ATTACHMENT);
            x.set_map_kdata(map, built)?;
        }
        return Ok(err);
    }
    let decl = &x.world().maps[usize::from(decl_index)];
    let to = prepare::target(x, map, None)?;
    let err = prepare::members(x, to, decl, 0)?;
    if err != 0 {
        return Ok(err);
    }
    let err = prepare::validate(x, decl_index, to.kdata)?;
    if err != 0 {
        event!(x, "validate() refuses");
        return Ok(err);
    }
    x.protect(to.images)?;
    Ok(0)
}

/// `reset_unlock`: ksyms, pages and program references go, both values are zeroed.
fn reset<'w, X: Backend<'w>>(x: &mut X, map: MapOf<X>) -> Step {
    let kdata = x.map_kdata(map)?;
    if x.design().owner == Owner::Map {
        if let Some(kdata) = kdata {
            x.under_text_mutex(|x| {
                x.free_ksyms(kdata)?;
                free_images(x, kdata)
            })?;
            x.clear_funcs(kdata)?;
            x.undo(Dirty::HDEV);
        }
    } else if !decl_of(x, map)?.link
        && let Some(kdata) = kdata
    {
        x.set_map_kdata(map, None)?;
        if x.ksyms_early() {
            attachment::refused(x, map, Some(kdata))?;
        }
        attachment_put(x, kdata)?;
    }
    assoc::undo(x, map)?;
    put_progs(x, map)?;
    event!(x, "reset: the map is empty again");
    x.witness(Invariant::FailureAtomic);
    Ok(())
}

/// `bpf_struct_ops_map_put_progs()`.
pub(crate) fn put_progs<'w, X: Backend<'w>>(x: &mut X, map: MapOf<X>) -> Step {
    for (i, prog) in decl_of(x, map)?.progs.iter().enumerate() {
        if let Some(prog) = prog
            && x.filled(map, i)?
        {
            prog_put(x, *prog)?;
            x.set_filled(map, i, false)?;
        }
    }
    Ok(())
}
