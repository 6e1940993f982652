//! bpf_struct_ops_map_free(), in the work item that the last bpf_map_put() queued.

use crate::design::Twin;
use crate::exec::{Exec, Step, event};
use crate::invariant::Invariant;
use crate::kernel::{MapKey, Mask};
use crate::pc::Pc;
use crate::proc::{attachment, map_update};

pub(crate) fn work(x: &mut Exec<'_>, key: MapKey) -> Step {
    let map = *x.map(key)?;
    match x.pc {
        Pc::MapFree => {
            if x.world.types[x.decl(&map).ty].module {
                x.k.module.refs -= 1;
            }
            if let Some(kdata) = map.kdata {
                x.del_ksyms(kdata)?;
            }
            // synchronize_rcu_mult(call_rcu, call_rcu_tasks)
            let mut begun = attachment::grace_period(x, 4);
            if x.design.twin == Twin::LostCallback {
                begun.rcu = Mask::MAX;
            }
            x.map(key)?.free = begun;
            event!(
                x,
                "ksyms out of kallsyms; RCU and Tasks RCU grace periods begin"
            );
            Ok(())
        }
        Pc::MapFreeGp => {
            map_update::put_progs(x, key)?;
            if let Some(kdata) = map.kdata {
                x.free_ksyms(kdata)?;
                x.free_images(kdata)?;
                x.k.kdatas.remove(kdata);
            }
            x.k.maps.remove(key);
            x.report.witness(Invariant::EventualRelease);
            event!(x, "map freed");
            Ok(())
        }
        _ => unreachable!("not a step of map_free"),
    }
}
