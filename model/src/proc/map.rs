//! Map system calls without an engine of their own: create, lookup, delete, close.
//!
//! Stands for map_create(), map_lookup_elem() and bpf_map_release() of kernel/bpf/syscall.c, and
//! bpf_struct_ops_map_alloc() and bpf_struct_ops_map_delete_elem() of kernel/bpf/bpf_struct_ops.c.

use crate::design::{KdataOwner, KsymOwner, Owner, Twin};
use crate::exec::{Exec, Step, errno, event};
use crate::kernel::{Kdata, Map, MapState, dirty, holds, seen};
use crate::pc::Pc;
use crate::subsys;
use crate::world::OpKind;

pub(crate) fn step(x: &mut Exec<'_>) -> Step {
    match x.pc {
        Pc::MapCreate => {
            let world = x.world;
            let decl = &world.maps[usize::from(x.c().arg)];
            if world.types[decl.ty].module {
                if x.k.module.unloaded {
                    x.saw(seen::NO_MODULE);
                    return x.fail(errno::EINVAL, Pc::Finish);
                }
                x.k.module.refs += 1;
                x.c().holds |= holds::MODULE;
            }
            x.goto(Pc::MapAlloc)
        }
        Pc::MapAlloc => {
            let world = x.world;
            let decl_index = x.c().arg;
            let decl = &world.maps[usize::from(decl_index)];
            if !x.alloc() {
                if x.c().holds & holds::MODULE != 0 {
                    x.hand_over(holds::MODULE);
                    x.k.module.refs -= 1;
                }
                return x.fail(errno::ENOMEM, Pc::Finish);
            }
            if x.c().holds & holds::MODULE != 0 {
                x.hand_over(holds::MODULE);
            }
            let fds = 1 << world.cpus[usize::from(x.cpu)].proc;
            x.counted = true;
            let map = Map {
                decl: decl_index,
                refs: 1,
                fds,
                ..Map::default()
            };
            let key = x.k.maps.insert(map).map_err(|f| x.full(f))?;
            let embedded = x.design.owner == Owner::Map
                || (decl.link
                    && (x.design.kdata == KdataOwner::Map || x.design.ksyms == KsymOwner::Map));
            if embedded {
                let kdata = Kdata {
                    map: Some(key),
                    decl: decl_index,
                    ..Kdata::default()
                };
                let kdata = x.k.kdatas.insert(kdata).map_err(|f| x.full(f))?;
                x.map(key)?.kdata = Some(kdata);
            }
            event!(x, "map {} created", decl.name);
            x.goto(Pc::Finish)
        }
        Pc::MapLookup => {
            let (_, map) = x.my_map()?;
            event!(x, "state {}", map.state.name());
            x.goto(Pc::MapPut)
        }
        Pc::MapRelease => {
            let key = x.c().map.expect("close has a map");
            let fds = 1 << x.world.cpus[usize::from(x.cpu)].proc;
            x.map(key)?.fds &= !fds;
            x.c().holds |= holds::MAP;
            x.goto(Pc::MapPut)
        }
        Pc::DelCmpxchg => {
            let (key, map) = x.my_map()?;
            if x.decl(&map).link {
                return x.fail(errno::EOPNOTSUPP, Pc::MapPut);
            }
            match map.state {
                MapState::InUse => {
                    x.map(key)?.state = MapState::ToBeFree;
                    x.touch(dirty::STATE);
                    x.counted = true;
                    x.c().kdata = map.kdata;
                    if x.design.owner == Owner::Map {
                        x.c().holds |= holds::REGISTERED;
                    } else {
                        x.c().attachment = map.kdata;
                        x.c().holds |= holds::ATTACHMENT;
                    }
                    event!(x, "state TOBEFREE");
                    subsys::unreg(x, Pc::DelUnregDone)
                }
                MapState::ToBeFree => x.fail(errno::EINPROGRESS, Pc::MapPut),
                MapState::Init | MapState::Ready => x.fail(errno::ENOENT, Pc::MapPut),
            }
        }
        Pc::DelUnregDone => {
            let (key, map) = x.my_map()?;
            if x.design.owner == Owner::Map {
                x.hand_over(holds::REGISTERED);
                x.map_put(key)?;
            } else {
                let attachment = map
                    .kdata
                    .expect("a registered plain map has its attachment");
                x.map(key)?.kdata = None;
                x.hand_over(holds::ATTACHMENT);
                x.attachment_put(attachment)?;
            }
            x.goto(Pc::MapPut)
        }
        Pc::MapPut => {
            x.put_my_map()?;
            if x.design.twin == Twin::ExtraPut && x.c().op == OpKind::LinkCreate {
                let map = x.c().map.expect("link_create has a map");
                x.map_put(map)?;
            }
            x.goto(Pc::Finish)
        }
        _ => unreachable!("not a step of a map system call"),
    }
}
