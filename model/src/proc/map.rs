//! Map system calls without an engine of their own: create, lookup, delete, close, by id.
//!
//! Stands for map_create(), map_lookup_elem(), bpf_map_get_fd_by_id() and bpf_map_release() of kernel/bpf/syscall.c, and
//! bpf_struct_ops_map_alloc() and bpf_struct_ops_map_delete_elem() of kernel/bpf/bpf_struct_ops.c.

use crate::backend::{Backend, Counted, Step, event};
use crate::design::{KdataOwner, KsymOwner, Owner, Twin};
use crate::errno;
use crate::kernel::{Dirty, Holds, MapState};
use crate::pc::Pc;
use crate::proc::refs::{attachment_put, decl_of, map_put, put_my_map};
use crate::subsys;
use crate::world::OpKind;

pub(crate) fn step<'w, X: Backend<'w>>(x: &mut X) -> Step {
    match x.pc() {
        Pc::MapCreate => {
            let world = x.world();
            let decl = &world.maps[usize::from(x.cpu().arg)];
            if world.attaches_to_cgroups(decl) && !decl.link {
                return x.fail(errno::EOPNOTSUPP, Pc::Finish);
            }
            if world.types[decl.ty].module {
                if !x.try_module_get() {
                    return x.fail(errno::EINVAL, Pc::Finish);
                }
                x.cpu().holds |= Holds::MODULE;
            }
            x.goto(Pc::MapAlloc)
        }
        Pc::MapAlloc => {
            let decl_index = x.cpu().arg;
            let decl = &x.world().maps[usize::from(decl_index)];
            let module = x.cpu().holds.contains(Holds::MODULE);
            if module {
                x.hand_over(Holds::MODULE);
            }
            if !x.alloc() {
                if module {
                    x.put(Counted::Module)?;
                }
                return x.fail(errno::ENOMEM, Pc::Finish);
            }
            let map = x.new_map(decl_index)?;
            let design = x.design();
            let embedded = design.owner == Owner::Map
                || (decl.link
                    && (design.kdata == KdataOwner::Map || design.ksyms == KsymOwner::Map));
            if embedded {
                let kdata = x.new_kdata(map, decl_index, false)?;
                x.set_map_kdata(map, Some(kdata))?;
            }
            x.install_map_fd(map)?;
            event!(x, "map {} created", decl.name);
            x.goto(Pc::Finish)
        }
        Pc::MapLookup => {
            let map = x.my_map();
            let state = x.map_state(map)?;
            event!(x, "state {}", state.name());
            x.goto(Pc::MapPut)
        }
        Pc::MapRelease => {
            let map = x.my_map();
            x.close_map_fd(map)?;
            x.cpu().holds |= Holds::MAP;
            x.goto(Pc::MapPut)
        }
        Pc::MapById => {
            let Some(map) = x.cpu().map else {
                return x.fail(errno::ENOENT, Pc::Finish);
            };
            if !x.get_unless_zero(Counted::Map(map))? {
                event!(x, "the count is 0");
                return x.fail(errno::ENOENT, Pc::Finish);
            }
            x.cpu().holds |= Holds::MAP;
            event!(x, "found");
            x.goto(Pc::MapNewFd)
        }
        Pc::MapNewFd => {
            let map = x.my_map();
            if !x.alloc() {
                return x.fail(errno::ENOMEM, Pc::MapPut);
            }
            x.install_map_fd(map)?;
            x.hand_over(Holds::MAP);
            event!(x, "fd installed");
            x.goto(Pc::Finish)
        }
        Pc::DelCmpxchg => {
            let map = x.my_map();
            if decl_of(x, map)?.link {
                return x.fail(errno::EOPNOTSUPP, Pc::MapPut);
            }
            match x.cmpxchg_map_state(map, MapState::InUse, MapState::ToBeFree)? {
                MapState::InUse => {
                    x.touch(Dirty::STATE);
                    let kdata = x.map_kdata(map)?;
                    x.cpu().kdata = kdata;
                    if x.design().owner == Owner::Map {
                        x.cpu().holds |= Holds::REGISTERED;
                    } else {
                        x.cpu().attachment = kdata;
                        x.cpu().holds |= Holds::ATTACHMENT;
                    }
                    event!(x, "state TOBEFREE");
                    subsys::unreg(x, Pc::DelUnregDone)
                }
                MapState::ToBeFree => x.fail(errno::EINPROGRESS, Pc::MapPut),
                MapState::Init | MapState::Ready => x.fail(errno::ENOENT, Pc::MapPut),
            }
        }
        Pc::DelUnregDone => {
            let map = x.my_map();
            if x.design().owner == Owner::Map {
                x.hand_over(Holds::REGISTERED);
                map_put(x, map)?;
            } else {
                let attachment = x.map_kdata(map)?;
                let attachment = attachment.expect("a registered plain map has its attachment");
                x.set_map_kdata(map, None)?;
                x.hand_over(Holds::ATTACHMENT);
                attachment_put(x, attachment)?;
            }
            x.goto(Pc::MapPut)
        }
        Pc::MapPut => {
            put_my_map(x)?;
            if x.design().twin == Twin::ExtraPut && x.cpu().op == OpKind::LinkCreate {
                let map = x.my_map();
                map_put(x, map)?;
            }
            x.goto(Pc::Finish)
        }
        _ => unreachable!("not a step of a map system call"),
    }
}
