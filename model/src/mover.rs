//! What a step commutes with in a given state: the reduction's knowledge, beyond the table in [`crate::pc`].
//!
//! A step may be merged with its neighbours where no other CPU can tell the difference. Each case says why.
//! The tests compare every verdict with the unmerged exploration: a wrong case here would lose violations.

use crate::design::{Build, KsymOwner, KsymTime, Links, Owner, Twin};
use crate::kernel::{Cpu, CpuId, Holds, Kernel, MapState};
use crate::machine::Machine;
use crate::operation::Entry;
use crate::pc::{Mover, Pc};
use crate::script::Statement;

/// The mover of the CPU's next step.
pub(crate) fn of(machine: &Machine, k: &Kernel, cpu: CpuId, listed: Mover) -> Mover {
    let c: &Cpu = &k.cpus[usize::from(cpu)];
    let design = &machine.design;
    let map = || c.map.and_then(|m| k.maps.get(m));
    let link = || c.link.and_then(|l| k.links.get(l));
    let both = |yes: bool| if yes { Mover::Both } else { listed };
    let cgroups = || machine.world.has_cgroup_types();
    let left = |yes: bool| if yes { Mover::Left } else { listed };
    match c.pc {
        // Its reader ends with it.
        Pc::Finish if c.op.info().entry == Entry::Program => Mover::Left,
        // A put that is not the last one only lowers a count, and nothing tests for a number above 0.
        Pc::MapPut => left(map().is_some_and(|m| m.refs > 1)),
        Pc::LinkPut => left(link().is_some_and(|l| l.refs > 1)),
        Pc::LuPutRefs | Pc::LdPutRefs => left(puts_are_not_last(k, c)),
        // It takes a lock before it releases one.
        Pc::SingletonCallDone if design.twin == Twin::LockOrder => Mover::No,
        // The last reference on the module lets it go.
        Pc::AlwaysCallDone | Pc::SingletonCallDone | Pc::KeyedCallDone
            if c.holds.contains(Holds::MODULE) && k.module.refs == 1 =>
        {
            Mover::No
        }
        // READY is terminal for link maps, unless a link takes it to INUSE.
        Pc::LcValid | Pc::LuValid => both(
            design.links == Links::Many
                && map().is_some_and(|m| {
                    m.state == MapState::Ready && machine.world.maps[usize::from(m.decl)].link
                }),
        ),
        // Under update_mutex, and a dealloc cannot run while this CPU holds the link.
        Pc::LuCheck | Pc::LdCheck => both(design.links == Links::Many && !cgroups()),
        // The lock is held, and while the state is INIT nobody looks; no state ever returns to INIT. A state that is
        // another one stays, unless a link takes it from READY to INUSE and back.
        // Where a program is tied to the map, or may be closed, others see it.
        Pc::UpdMembers if machine.programs_change() => Mover::No,
        Pc::UpdMembers => {
            both(design.links == Links::Many || map().is_some_and(|m| m.state == MapState::Init))
        }
        // The attachment is private.
        Pc::LcKsymsEarly | Pc::LuKsymsEarly => both(design.ksyms == KsymOwner::Link),
        // The link is not settled yet: nobody finds it.
        Pc::LcRegDone => both(
            c.err == 0
                && (design.build == Build::MapUpdate
                    || (design.owner == Owner::Link && design.kallsyms == KsymTime::BeforeReg)),
        ),
        Pc::Script => script(machine, c),
        // What is over stays over.
        Pc::SyncRcu | Pc::ScriptWaited => Mover::Both,
        // The last reference is gone: nobody finds the link.
        // The cgroup in whose list it is may detach it.
        Pc::DeallocUnreg | Pc::LuUpdate if cgroups() => Mover::No,
        Pc::DeallocUnreg if design.twin == Twin::ByIdOfZero => Mover::No,
        Pc::DeallocUnreg => Mover::Both,
        // Whoever looks for its id is told to try again.
        Pc::LcAlloc if machine.finds_links_by_id() => Mover::No,
        Pc::DeallocFree => left(
            link().is_some_and(|l| match (l.map, l.attachment) {
                (None, _) => true,
                (Some(_), Some(a)) => k.kdatas.get(a).is_some_and(|a| a.refs > 1),
                (Some(m), None) => k.maps.get(m).is_some_and(|m| m.refs > 1),
            }) && design.links == Links::Many,
        ),
        _ => listed,
    }
}

/// A line of a scenario's own subsystem: one that releases only, takes one lock, or concerns nobody but its CPU.
fn script(machine: &Machine, c: &Cpu) -> Mover {
    let line = &machine.world.script.lines[usize::from(c.line)];
    let local = |s: &Statement| matches!(s, Statement::Return(_) | Statement::Goto(_));
    let releases = |s: &Statement| matches!(s, Statement::Unlock(..) | Statement::Leave(_));
    match line.statements.as_slice() {
        [Statement::Lock(..)] => Mover::Right,
        statements if statements.iter().all(local) => Mover::Both,
        statements if statements.iter().all(|s| local(s) || releases(s)) => Mover::Left,
        _ => Mover::No,
    }
}

fn puts_are_not_last(k: &Kernel, c: &Cpu) -> bool {
    let held = |flag| c.holds.contains(flag);
    let attachment = |key: Option<crate::kernel::KdataKey>| {
        key.and_then(|a| k.kdatas.get(a))
            .is_some_and(|a| a.refs > 1)
    };
    let map = |key: Option<crate::kernel::MapKey>| {
        key.and_then(|m| k.maps.get(m)).is_some_and(|m| m.refs > 2)
    };
    (!held(Holds::ATTACHMENT) || attachment(c.attachment))
        && (!held(Holds::OLD_ATTACHMENT) || attachment(c.old_attachment))
        && (!held(Holds::OLD) || map(c.old))
        && (!held(Holds::MAP) || map(c.map))
}
