//! bpf_struct_ops_map_update_elem() of kernel/bpf/bpf_struct_ops.c.
//!
//! Not here: flags, key and hole checks, which touch no state.

use std::sync::Arc;

use struct_ops_model::design::{Build, KsymTime, Owner, OwnerCheck, Validate};
use struct_ops_model::kernel::MapState;
use struct_ops_model::world::{OpKind, Subsystem};
use struct_ops_model::{Pc, errno};

use super::object::StMap;
use super::prepare::{self, Filling};
use super::refs::{attachment_put, map_inc, prog_inc, prog_put};
use super::sync::atomic::Ordering::SeqCst;
use super::task::{Step, Task};
use super::{attachment, map, subsys, syscall};

/// BPF_MAP_UPDATE_ELEM.
pub(crate) fn bpf_struct_ops_map_update_elem(t: &Task, decl: u8) -> Step<i8> {
    let found = syscall::begin_on_map(t, Pc::UpdTlinks, OpKind::MapUpdate, decl, |_| ())?;
    let Some((map, ())) = found else {
        return Ok(errno::EBADF);
    };
    let design = &t.rt.design;
    {
        let mut filled = map.lock.lock();
        t.point(Pc::UpdLock)?;
        update_locked(t, &map, &mut filled)?;
        t.point(Pc::UpdUnlock)?;
    }
    let named_later = design.build == Build::MapUpdate || !map.link;
    if t.err.get() == 0 && named_later && design.kallsyms == KsymTime::AfterReg {
        t.begin(Pc::UpdKsyms)?;
        if let Some(kdata) = map.kdata.load() {
            let kdata = t.kdata(kdata)?;
            attachment::add_ksyms(t, &kdata);
        }
        t.end();
    }
    map::put(t, &map)
}

/// Under `st_map->lock`.
fn update_locked(t: &Task, map: &Arc<StMap>, filled: &mut [bool]) -> Step {
    t.begin(Pc::UpdMembers)?;
    if map.state() != MapState::Init {
        t.end_with(errno::EBUSY);
        return Ok(());
    }
    if let Some(err) = members(t, map, filled)? {
        reset(t, map, filled)?;
        t.end_with(err);
        return Ok(());
    }
    t.end();
    t.begin(Pc::UpdPublish)?;
    if map.link {
        map.set_state(MapState::Ready);
        t.end();
        return Ok(());
    }
    let kdata = map.kdata.load().expect("filled with the members");
    t.end();
    if t.rt.design.kallsyms == KsymTime::BeforeReg {
        t.begin(Pc::UpdKsymsEarly)?;
        let early = t.kdata(kdata)?;
        attachment::add_ksyms(t, &early);
        t.end();
    }
    let err = subsys::reg(t, kdata, None)?;
    t.begin(Pc::UpdRegDone)?;
    if err != 0 {
        reset(t, map, filled)?;
    } else {
        if t.rt.design.owner == Owner::Map {
            map_inc(map);
        }
        map.set_state(MapState::InUse);
    }
    t.end();
    Ok(())
}

/// The walk over the members. `Some(err)` asks for the reset path; `err` may be 0 there (owner-errno=stale).
fn members(t: &Task, map: &Arc<StMap>, filled: &mut [bool]) -> Step<Option<i8>> {
    subsys::st_ops(t, map.decl)?;
    for (i, prog) in prepare::with_program(t, map.decl) {
        if t.rt.progs[prog].fds.load(SeqCst) & t.bit() == 0 {
            return Ok(Some(errno::EBADF));
        }
        if !t.alloc() {
            return Ok(Some(errno::ENOMEM));
        }
        prog_inc(t, prog);
        filled[i] = true;
    }
    let design = &t.rt.design;
    if t.rt.decl.maps[map.decl].owner_set {
        return Ok(Some(match design.owner_check {
            // tcp's init_member handled `name` and returned 1.
            OwnerCheck::Stale => {
                i8::from(t.rt.decl.type_of(map.decl).subsystem == Subsystem::TcpCong)
            }
            OwnerCheck::Einval => errno::EINVAL,
        }));
    }
    if design.build == Build::MapUpdate || !map.link {
        let err = generate(t, map)?;
        if err != 0 {
            return Ok(Some(err));
        }
    }
    // On the template whose present members point at the cfi_stubs.
    let valid = design.validate != Validate::MapUpdate || t.rt.decl.validates(map.decl);
    Ok((!valid).then_some(errno::EINVAL))
}

/// Trampolines without a cookie: in the map, or in the attachment of a plain map.
fn generate(t: &Task, map: &Arc<StMap>) -> Step<i8> {
    if t.rt.design.owner == Owner::Link {
        return Ok(match attachment::build(t, map, 0)? {
            Ok(attachment) => {
                map.kdata.store(Some(attachment.id));
                0
            }
            Err(err) => err,
        });
    }
    let to = prepare::target(t, map, None)?;
    let mut filling = Filling::default();
    let mut err = prepare::members(t, &to, &mut filling, map.decl, 0)?;
    if err == 0 {
        err = prepare::validate(t, map.decl, &to.kdata);
    }
    if err == 0 {
        prepare::protect(t, &to, filling)?;
    } else {
        filling.give_up(t);
    }
    Ok(err)
}

/// `reset_unlock`: ksyms, pages and program references go, both values are zeroed.
fn reset(t: &Task, map: &Arc<StMap>, filled: &mut [bool]) -> Step {
    let kdata = map.kdata.load();
    if t.rt.design.owner == Owner::Map {
        if let Some(kdata) = kdata {
            let kdata = t.kdata(kdata)?;
            let (listed, named) = {
                let mut text = t.rt.text.lock();
                let mut built = kdata.built.lock();
                let listed = text.free_ksyms(&mut built);
                (listed, text.free_images(&mut built, &t.by()))
            };
            prepare::ksyms_outlived(t, listed, named);
            kdata.func.iter().for_each(|f| f.store(0, SeqCst));
        }
    } else if !map.link
        && let Some(kdata) = kdata
    {
        map.kdata.store(None);
        let attachment = t.kdata(kdata)?;
        if t.rt.design.kallsyms == KsymTime::BeforeReg {
            attachment::refused(t, map, &attachment)?;
        }
        attachment_put(t, &attachment)?;
    }
    put_progs(t, map.decl, filled)
}

/// `bpf_struct_ops_map_put_progs()`.
pub(crate) fn put_progs(t: &Task, decl: usize, filled: &mut [bool]) -> Step {
    for (i, prog) in prepare::with_program(t, decl) {
        if std::mem::take(&mut filled[i]) {
            prog_put(t, prog)?;
        }
    }
    Ok(())
}
