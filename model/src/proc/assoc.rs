//! Programs and the maps that they are tied to: who ties them, the getter, and the program that asks.
//!
//! Stands for prog_assoc_struct_ops() and bpf_prog_test_run_syscall(), for bpf_timer_cb() and bpf_wq_work() of
//! kernel/bpf/helpers.c, for bpf_prog_free_deferred() of kernel/bpf/core.c, and for the callers of what [`crate::assoc`]
//! has the rules of. In the state there is something of it only where a program asks ([`crate::world::World::asks`]).
//! Not here: the maps in which timers and work queues lie; a callback that was started runs once.

use crate::assoc::{Assoc, Tied};
use crate::backend::{Backend, Counted, FuncOf, KdataOf, MapOf, Step, event};
use crate::design::{AssocAgain, AssocClear, AssocGet, AssocRef, AssocTie, AssocUndo};
use crate::errno;
use crate::invariant::Invariant;
use crate::kernel::{Cpu, Dirty, Holds};
use crate::lock::Lock;
use crate::pc::Pc;
use crate::place::Linux;
use crate::proc::refs::{decl_of, map_inc, map_put, prog_put};
use crate::world::{Body, OpKind, World};

pub(crate) fn step<'w, X: Backend<'w>>(x: &mut X) -> Step {
    match x.pc() {
        Pc::ProgAssoc => {
            if !x.design().has_assoc_command(x.world().linux) {
                event!(x, "the kernel has no such command");
                return x.fail(errno::EINVAL, Pc::MapPut);
            }
            let (prog, map) = (x.cpu().arg, x.my_map());
            if !x.world().progs[usize::from(prog)].of.is_tied_by_command() {
                event!(x, "of a struct_ops program");
                return x.fail(errno::EINVAL, Pc::MapPut);
            }
            match change(x, prog, |assoc| assoc.command(map))? {
                Err(err) => {
                    event!(x, "it is tied to another map");
                    return x.fail(err, Pc::MapPut);
                }
                Ok(new) => {
                    let lookup = x.design().lookup;
                    let counted = new || lookup.assoc_again == AssocAgain::Counted;
                    if counted && lookup.assoc_ref == AssocRef::Command {
                        map_inc(x, map)?;
                    }
                    event!(x, "tied to the map{}", if new { "" } else { " already" });
                }
            }
            x.goto(Pc::MapPut)
        }
        Pc::ProgRun => {
            let prog = x.cpu().arg;
            run(x, prog)
        }
        Pc::TimerCb => {
            x.rcu_read_lock();
            x.goto(Pc::AssocGet)
        }
        Pc::WqWork => {
            x.tasks_enter();
            x.rcu_read_lock_trace();
            x.goto(Pc::AssocGet)
        }
        Pc::AssocGet => {
            let prog = x.cpu().prog - 1;
            let found = match in_force(x) {
                true => find(x, prog)?,
                false => None,
            };
            x.cpu().asked = found;
            if let Some(kdata) = found {
                judge(x, kdata);
            } else {
                event!(x, "finds no struct");
            }
            let sleeps = x.world().progs[usize::from(prog)].body == Body::WqSleep;
            if sleeps && x.cpu().runs_alone().is_some() {
                x.tasks_quiescent();
                event!(x, "sleeps");
            }
            x.goto(Pc::AssocUse)
        }
        Pc::AssocUse => {
            if let Some(kdata) = x.cpu().asked {
                let map = x.kdata_map(kdata)?;
                event!(x, "reads the struct");
                if x.cpu().holds.contains(Holds::ASKED) {
                    x.hand_over(Holds::ASKED);
                    map_put(x, map)?;
                }
                if x.design().lookup.assoc_get == AssocGet::Put {
                    event!(x, "puts the map");
                    map_put(x, map)?;
                }
                x.cpu().asked = None;
            }
            let (member, op) = (x.cpu().func != FuncOf::<X>::default(), x.cpu().op);
            x.goto(match op {
                _ if member => Pc::CallExit,
                // No operation of a process has started it.
                OpKind::None => Pc::CallbackDone,
                _ => Pc::ProgRunDone,
            })
        }
        Pc::ProgRunDone => {
            let prog = std::mem::take(&mut x.cpu().prog) - 1;
            if x.world().may_sleep(prog) {
                x.rcu_read_unlock_trace();
            } else {
                x.rcu_read_unlock();
            }
            prog_put(x, prog)?;
            match std::mem::replace(&mut x.cpu().call_ret, Pc::Idle) {
                Pc::Idle => x.goto(Pc::Finish),
                back => x.goto(back),
            }
        }
        Pc::CallbackDone => {
            let prog = x.cpu().prog - 1;
            if x.world().progs[usize::from(prog)].body == Body::Timer {
                x.rcu_read_unlock();
            } else {
                x.rcu_read_unlock_trace();
                x.tasks_quiescent();
            }
            prog_put(x, prog)?;
            // It returns to nobody.
            *x.cpu() = Cpu::default();
            Ok(())
        }
        _ => unreachable!("not a step of association"),
    }
}

/// A syscall program runs, or a hook's tracing program; a hook is where `call_ret` leads back to.
pub(crate) fn run<'w, X: Backend<'w>>(x: &mut X, prog: u8) -> Step {
    // What a hook calls, its trampoline holds, as the program's fd does.
    x.get(Counted::Prog(prog))?;
    if x.world().may_sleep(prog) {
        x.rcu_read_lock_trace();
        event!(x, "the program runs under rcu_read_lock_trace()");
    } else {
        x.rcu_read_lock();
        event!(x, "the program runs under rcu_read_lock()");
    }
    x.cpu().prog = prog + 1;
    x.goto(Pc::AssocGet)
}

/// A member starts the program's timer or work queue: `__bpf_async_set_callback()` holds the program.
pub(crate) fn arm<'w, X: Backend<'w>>(x: &mut X, prog: u8) -> Step {
    if x.set_armed(prog, true) {
        event!(x, "its callback is started already");
        return Ok(());
    }
    event!(x, "starts its callback");
    x.get(Counted::Prog(prog))
}

/// The callback of a program that was started begins, with the reference that its timer or work queue had.
pub(crate) fn begin_callback<'w, X: Backend<'w>>(x: &mut X, prog: u8) -> Step {
    x.set_armed(prog, false);
    x.cpu().prog = prog + 1;
    let first = first_of_callback(x.world(), prog);
    x.goto(first)
}

/// The first step of a program's callback.
pub(crate) fn first_of_callback(world: &World, prog: u8) -> Pc {
    match world.progs[usize::from(prog)].body {
        Body::Timer => Pc::TimerCb,
        _ => Pc::WqWork,
    }
}

/// Whether the kernel ties programs to maps, and somebody asks.
fn in_force<'w, X: Backend<'w>>(x: &X) -> bool {
    let world = x.world();
    x.design().ties_programs(world.linux) && world.asks()
}

/// The getter: the struct of the program's map.
///
/// Where a map has no struct of its own, but one in each attachment, the getter has an answer if there is one attachment.
fn find<'w, X: Backend<'w>>(x: &mut X, prog: u8) -> Step<Option<KdataOf<X>>> {
    let Some(map) = x.assoc(prog).map() else {
        return Ok(None);
    };
    if x.design().lookup.assoc_ref == AssocRef::Getter {
        if !x.get_unless_zero(Counted::Map(map))? {
            event!(x, "the map's count is 0");
            return Ok(None);
        }
        x.cpu().holds |= Holds::ASKED;
    }
    let found = match x.map_kdata(map)? {
        Some(kdata) => Some(kdata),
        None => x.only_attachment(map)?,
    };
    if found.is_none() && x.cpu().holds.contains(Holds::ASKED) {
        x.hand_over(Holds::ASKED);
        map_put(x, map)?;
    }
    Ok(found)
}

/// A member must not find another struct than that through which it was called.
fn judge<'w, X: Backend<'w>>(x: &mut X, found: KdataOf<X>) {
    let func = x.cpu().func;
    match x.generated_for(func) {
        // A program that is no member is called through none; a page that is gone is told elsewhere.
        None => event!(x, "finds the struct of its map"),
        Some(own) if own == found => {
            x.witness(Invariant::AssocFidelity);
            event!(x, "finds its own struct");
        }
        Some(_) => x.violate(
            Invariant::AssocFidelity,
            format_args!("WRONG STRUCT: it was called through another one"),
        ),
    }
}

/// What a program is tied to changes under its own mutex.
fn change<'w, X: Backend<'w>, T>(
    x: &mut X,
    prog: u8,
    change: impl FnOnce(&mut Assoc<MapOf<X>>) -> T,
) -> Step<T> {
    x.lock(Lock::Prog(prog))?;
    let result = x.change_assoc(prog, change);
    x.unlock(Lock::Prog(prog))?;
    Ok(result)
}

/// The programs of a map are tied to it as they are taken, unless the design waits until nothing can fail.
pub(crate) fn as_taken<'w, X: Backend<'w>>(x: &mut X, map: MapOf<X>, prog: u8) -> Step<bool> {
    if !in_force(x) {
        return Ok(true);
    }
    if x.design().lookup.assoc_tie == AssocTie::WhenReady {
        // What it would do is known by then: a program that must not be taken is refused here.
        let mut assoc = x.assoc(prog);
        let lookup = x.design().lookup;
        return Ok(assoc.tie(map, &lookup) != Tied::Refused);
    }
    tie(x, map, prog)
}

/// Nothing can fail any more.
pub(crate) fn when_ready<'w, X: Backend<'w>>(x: &mut X, map: MapOf<X>) -> Step {
    if !in_force(x) || x.design().lookup.assoc_tie == AssocTie::AsTaken {
        return Ok(());
    }
    for prog in decl_of(x, map)?.progs.iter().flatten() {
        tie(x, map, *prog)?;
    }
    Ok(())
}

/// `bpf_prog_assoc_struct_ops()` of a struct_ops program, whose result map_update drops: `false` if the design refuses.
fn tie<'w, X: Backend<'w>>(x: &mut X, map: MapOf<X>, prog: u8) -> Step<bool> {
    let lookup = x.design().lookup;
    let (before, tied, after) = change(x, prog, |assoc| {
        let before = *assoc;
        (before, assoc.tie(map, &lookup), *assoc)
    })?;
    let name = &x.world().progs[usize::from(prog)].name;
    match tied {
        Tied::Tied => event!(x, "{name} is tied to the map"),
        Tied::Poisoned => event!(x, "{name} is tied to another map already: POISON"),
        Tied::Kept => event!(x, "{name} stays tied to another map"),
        Tied::Moved => event!(x, "{name} is no longer tied to another map"),
        Tied::Refused => event!(x, "{name} is tied to another map already"),
    }
    if after != before {
        // What others have had no failure takes back.
        let own = before == Assoc::None;
        x.touch(if own { Dirty::TIED } else { Dirty::ASSOC });
    }
    Ok(tied != Tied::Refused)
}

/// `bpf_prog_disassoc_struct_ops()` of the programs that the map has.
pub(crate) fn untie_all<'w, X: Backend<'w>>(x: &mut X, map: MapOf<X>) -> Step {
    if !in_force(x) {
        return Ok(());
    }
    let lookup = x.design().lookup;
    for (i, prog) in decl_of(x, map)?.progs.iter().enumerate() {
        if let Some(prog) = prog
            && x.filled(map, i)?
        {
            let changed = change(x, *prog, |assoc| {
                let before = *assoc;
                assoc.untie(map, &lookup);
                *assoc != before
            })?;
            if changed {
                x.undo(Dirty::TIED);
                event!(x, "a program is no longer tied to the map");
            }
        }
    }
    Ok(())
}

/// map_update fails: the programs that it has taken are given back.
pub(crate) fn undo<'w, X: Backend<'w>>(x: &mut X, map: MapOf<X>) -> Step {
    if !in_force(x) {
        return Ok(());
    }
    if x.design().lookup.assoc_tie == AssocTie::AsTaken {
        untie_all(x, map)?;
    }
    if x.design().lookup.assoc_undo == AssocUndo::Twice {
        for (i, prog) in decl_of(x, map)?.progs.iter().enumerate() {
            if let Some(prog) = prog
                && x.filled(map, i)?
            {
                prog_put(x, *prog)?;
            }
        }
    }
    Ok(())
}

/// Whether the programs of a map that is freed are untied after its first grace period; 7.3 unties them before it.
pub(crate) fn untied_late<'w, X: Backend<'w>>(x: &X) -> bool {
    x.world().linux >= Linux::V7_4 || x.design().lookup.assoc_clear == AssocClear::AfterGp
}

/// The work item that frees a program: it lets go of the map that it is tied to.
pub(crate) fn free<'w, X: Backend<'w>>(x: &mut X, prog: u8) -> Step {
    let assoc = change(x, prog, std::mem::take)?;
    x.free_prog(prog);
    event!(x, "program freed");
    let counted = x.world().progs[usize::from(prog)].of.is_tied_by_command()
        && x.design().lookup.assoc_ref == AssocRef::Command;
    match assoc.map() {
        Some(map) if counted => map_put(x, map),
        _ => Ok(()),
    }
}
