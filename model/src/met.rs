//! What an operation meets, noted before each step that decides: the errno contract is judged by it.
//!
//! The steps have no part in it, and what is registered is read off kdata and links rather than where the subsystem
//! looks: a step that forgets to look, or finds what is not there, is judged by what was.

use crate::backend::Backend;
use crate::design::{Links, SameMap};
use crate::kernel::{Func, Kdata, KdataKey, Kernel, MapKey, Seen};
use crate::pc::Pc;
use crate::subsys::{given_again, hid_bpf};
use crate::tables::Tables;
use crate::world::{MapDecl, Subsystem, World};

/// The program is tied to another map than the operation's.
fn tied_to_another(x: &mut Tables<'_>, prog: u8) {
    let assoc = x.k.progs[usize::from(prog)].assoc;
    let other = x.cpu().map.is_some_and(|map| assoc.is_of_another(map));
    saw_if(x, other, Seen::OTHER_MAP);
}

/// Before the step at the CPU's program counter.
pub(crate) fn note(x: &mut Tables<'_>) {
    match x.pc {
        Pc::LcValid | Pc::LuValid | Pc::DelCmpxchg => state(x),
        Pc::UpdMembers => {
            state(x);
            let map = x.cpu().map.and_then(|m| x.k.maps.get(m));
            let decl = map.map(|m| usize::from(m.decl));
            let progs = decl.map_or(&[][..], |decl| &x.world.maps[decl].progs);
            for prog in progs.iter().flatten() {
                tied_to_another(x, *prog);
            }
        }
        Pc::ProgAssoc => {
            let prog = x.cpu().arg;
            tied_to_another(x, prog);
        }
        Pc::LcGuard => {
            state(x);
            guarded(x);
            let map = x.cpu().map.and_then(|m| x.k.maps.get(m));
            if let Some(kdata) = map.and_then(|m| m.kdata) {
                given_again(x, kdata, None);
            }
        }
        Pc::LuCheck | Pc::CgUpdate => {
            state(x);
            attached(x);
        }
        Pc::LuUpdate => {
            state(x);
            // A cgroup that goes detaches a link in between.
            if x.world.has_cgroup_types() {
                attached(x);
            }
        }
        Pc::MapCreate => {
            let ty = x.world.maps[usize::from(x.cpu().arg)].ty;
            let gone = x.world.types[ty].module && x.k.module.unloaded;
            saw_if(x, gone, Seen::NO_MODULE);
        }
        Pc::TcpReg | Pc::ScxEnable | Pc::SingletonReg | Pc::KeyedReg => {
            let Some(kdata) = x.cpu().kdata else { return };
            given_again(x, kdata, None);
            let taken = taken(x.k, x.world, kdata);
            saw_if(x, taken, Seen::TAKEN);
        }
        Pc::HidReg => {
            let Some(kdata) = x.cpu().kdata else { return };
            given_again(x, kdata, None);
            let marked = x.k.kdatas.get(kdata).is_some_and(|d| d.hdev);
            saw_if(x, marked, Seen::TAKEN);
        }
        Pc::HidRegLock => {
            let Some(kdata) = x.cpu().kdata.and_then(|d| x.k.kdatas.get(d)) else {
                return;
            };
            let fixup = hid_bpf::has_program(x.world, kdata.decl);
            let taken = fixup && x.k.subsys.hid.rdesc_ops.is_some();
            saw_if(x, taken, Seen::TAKEN);
        }
        Pc::IoReg => {
            let Some(kdata) = x.cpu().kdata.and_then(|d| x.k.kdatas.get(d)) else {
                return;
            };
            let key = x.world.maps[usize::from(kdata.decl)].key;
            let bit = 1 << x.proc();
            let mut rings = x.k.subsys.rings.iter();
            let none = rings.all(|r| r.fds & bit == 0 || r.key != key);
            saw_if(x, none, Seen::NO_RING);
        }
        Pc::IoInstall => {
            let (ring, Some(kdata)) = (x.cpu().ring, x.cpu().kdata) else {
                return;
            };
            given_again(x, kdata, None);
            let mut installed = x.k.subsys.regs.iter().flatten();
            let taken = installed.any(|r| r.slot + 1 == ring || r.kdata == kdata);
            saw_if(x, taken, Seen::TAKEN);
            let there =
                x.k.kdatas
                    .get(kdata)
                    .is_some_and(|d| d.func[0] != Func::default());
            saw_if(x, !there, Seen::NO_MEMBER);
        }
        Pc::ScxError => {
            let enabled = registered(x.k, x.world, Subsystem::SchedExt, &|_, _| true);
            saw_if(x, enabled, Seen::TAKEN);
        }
        Pc::TcpUpdate | Pc::AlwaysUpdate => {
            let (new, old) = (x.cpu().kdata, x.cpu().old_kdata);
            let replaceable = replaceable(x.k, x.world, new, old);
            saw_if(x, !replaceable, Seen::MISMATCH);
        }
        _ => {}
    }
}

fn saw_if(x: &mut Tables<'_>, met: bool, what: Seen) {
    if met {
        x.saw(what);
    }
}

/// The state of the operation's map.
fn state(x: &mut Tables<'_>) {
    let map = x.cpu().map.and_then(|m| x.k.maps.get(m));
    if let Some(state) = map.map(|m| m.state) {
        x.saw(Seen::of(state));
    }
}

/// One link per map: the map that is asked for has one.
fn guarded(x: &mut Tables<'_>) {
    let one = x.design.links == Links::One;
    let has_link = x.cpu().map.is_some_and(|m| has_link(x.k, m));
    saw_if(x, one && has_link, Seen::HAS_LINK);
}

fn has_link(k: &Kernel, map: MapKey) -> bool {
    k.links.iter().any(|(_, l)| l.map == Some(map))
}

/// To what the link of a link_update is attached.
fn attached(x: &mut Tables<'_>) {
    let cpu = *x.cpu();
    let Some(link) = cpu.link.and_then(|l| x.k.links.get(l)) else {
        return;
    };
    let Some(attached) = link.map else {
        return x.saw(Seen::DETACHED);
    };
    if cpu.old.is_some_and(|expected| expected != attached) {
        return x.saw(Seen::OTHER_MAP);
    }
    let ty = |map: Option<MapKey>| {
        let map = map.and_then(|m| x.k.maps.get(m));
        map.map(|m| x.world.maps[usize::from(m.decl)].ty)
    };
    let refused = cpu.map == Some(attached) && x.design.same_map == SameMap::Refuse;
    if ty(Some(attached)) != ty(cpu.map) || refused {
        return x.saw(Seen::MISMATCH);
    }
    let nothing = cpu.map == Some(attached) && x.design.same_map == SameMap::Nothing;
    if x.pc == Pc::LuCheck && !nothing {
        guarded(x);
    }
}

/// Whether something of this kind is registered with the subsystem.
fn registered(
    k: &Kernel,
    world: &World,
    subsystem: Subsystem,
    kind: &dyn Fn(&Kdata, &MapDecl) -> bool,
) -> bool {
    k.kdatas.iter().any(|(_, kdata)| {
        let decl = &world.maps[usize::from(kdata.decl)];
        kdata.registered > 0 && world.types[decl.ty].subsystem == subsystem && kind(kdata, decl)
    })
}

/// Something is registered where the subsystem has room for one thing.
fn taken(k: &Kernel, world: &World, kdata: KdataKey) -> bool {
    let Some(mine) = k.kdatas.get(kdata) else {
        return false;
    };
    let my = &world.maps[usize::from(mine.decl)];
    let subsystem = world.types[my.ty].subsystem;
    registered(k, world, subsystem, &|other, decl| match subsystem {
        Subsystem::TcpCong => decl.key == my.key,
        Subsystem::KeyedByMap => other.map == mine.map,
        Subsystem::SchedExt | Subsystem::Singleton => true,
        _ => false,
    })
}

/// update() finds the old kdata registered, under the name that the new one has.
fn replaceable(k: &Kernel, world: &World, new: Option<KdataKey>, old: Option<KdataKey>) -> bool {
    let kdata = |key: Option<KdataKey>| key.and_then(|key| k.kdatas.get(key));
    let (Some(new), Some(old)) = (kdata(new), kdata(old)) else {
        return false;
    };
    let decl = |kdata: &Kdata| -> &MapDecl { &world.maps[usize::from(kdata.decl)] };
    let by_name = world.types[decl(new).ty].subsystem == Subsystem::TcpCong;
    old.registered > 0 && (!by_name || decl(new).key == decl(old).key)
}
