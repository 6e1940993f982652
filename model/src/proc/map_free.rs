//! bpf_struct_ops_map_free(), in the work item that the last bpf_map_put() queued.

use crate::backend::{Backend, Counted, Freed, MapOf, Step, event};
use crate::invariant::Invariant;
use crate::kernel::Stage;
use crate::pc::Pc;
use crate::place::Linux;
use crate::proc::refs::decl_of;
use crate::proc::{assoc, grace, map_update, prepare};
use crate::world::MapDecl;

/// The step of the deferred free that comes when this is over.
pub(crate) fn work_pc(over: Stage) -> Pc {
    match over {
        Stage::Queued => Pc::MapFree,
        _ => Pc::MapFreeGp,
    }
}

/// The worker's steps.
pub(crate) fn work<'w, X: Backend<'w>>(x: &mut X, map: MapOf<X>) -> Step {
    let decl = decl_of(x, map)?;
    match x.pc() {
        Pc::MapFree => {
            if x.world().linux < Linux::V7_4 {
                put_module(x, decl)?;
            }
            if !assoc::untied_late(x) {
                assoc::untie_all(x, map)?;
            }
            if let Some(kdata) = x.map_kdata(map)? {
                prepare::del_ksyms(x, kdata)?;
            }
            // Linux: synchronize_rcu_mult(call_rcu, call_rcu_tasks); from 7.4 on call_rcu(), at the last bpf_map_put().
            let Some(first) = grace::first_of_map(x.design(), x.world(), decl) else {
                event!(x, "ksyms out of kallsyms");
                if x.world().linux >= Linux::V7_4 {
                    put_module(x, decl)?;
                }
                if assoc::untied_late(x) {
                    assoc::untie_all(x, map)?;
                }
                return free(x, map);
            };
            x.defer(Freed::Map(map), first)?;
            if x.world().linux < Linux::V7_4 {
                event!(x, "ksyms out of kallsyms");
            }
            event!(x, "{}", begins(first));
            Ok(())
        }
        Pc::MapFreeGp => {
            let over = x.deferred(Freed::Map(map))?;
            let (design, world) = (x.design(), x.world());
            if world.linux >= Linux::V7_4 && grace::first_of_map(design, world, decl) == Some(over)
            {
                put_module(x, decl)?;
            }
            if assoc::untied_late(x) {
                assoc::untie_all(x, map)?;
            }
            match grace::next_of_map(design, world, decl, over) {
                Some(next) => {
                    x.defer(Freed::Map(map), next)?;
                    event!(x, "{}", begins(next));
                    Ok(())
                }
                None => free(x, map),
            }
        }
        _ => unreachable!("not a step of map_free"),
    }
}

/// `module_put()`: 7.4 comes to it after the first grace period only.
fn put_module<'w, X: Backend<'w>>(x: &mut X, decl: &MapDecl) -> Step {
    if x.world().types[decl.ty].module {
        x.put(Counted::Module)?;
    }
    Ok(())
}

fn begins(stage: Stage) -> &'static str {
    match stage {
        Stage::RcuAndTasks => "RCU and Tasks RCU grace periods begin",
        Stage::Rcu => "an RCU grace period begins",
        Stage::Tasks => "a Tasks RCU grace period begins",
        Stage::Trace => "a Tasks Trace RCU grace period begins",
        _ => "SRCU grace periods begin",
    }
}

/// The map and what it owns go.
fn free<'w, X: Backend<'w>>(x: &mut X, map: MapOf<X>) -> Step {
    map_update::put_progs(x, map)?;
    if let Some(kdata) = x.map_kdata(map)? {
        x.under_text_mutex(|x| {
            x.free_ksyms(kdata)?;
            prepare::free_images(x, kdata)?;
            x.free_kdata(kdata)
        })?;
    }
    x.free_map(map)?;
    x.witness(Invariant::EventualRelease);
    event!(x, "map freed");
    Ok(())
}
