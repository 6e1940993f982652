//! bpf_struct_ops_map_free(), in the work item that the last bpf_map_put() queued.

use std::sync::Arc;

use struct_ops_model::Pc;

use super::event::Object;
use super::object::StMap;
use super::rcu::GracePeriod;
use super::task::{Step, Task};
use super::{attachment, map_update, prepare};

pub(crate) fn bpf_struct_ops_map_free(t: &Task, map: &Arc<StMap>) -> Step {
    t.begin(Pc::MapFree)?;
    t.object(Object::Map(map.id));
    if t.rt.decl.type_of(map.decl).module {
        t.rt.module.lock().refs -= 1;
    }
    let kdata = map.kdata.load().map(|id| t.kdata(id)).transpose()?;
    if let Some(kdata) = &kdata {
        attachment::del_ksyms(t, kdata);
    }
    t.end();
    // synchronize_rcu_mult(call_rcu, call_rcu_tasks)
    t.reader.synchronize(GracePeriod::RcuAndTasks);
    t.begin(Pc::MapFreeGp)?;
    t.object(Object::Map(map.id));
    let outlived = kdata.as_ref().map(|kdata| {
        let mut text = t.rt.text.lock();
        let mut built = kdata.built.lock();
        let listed = text.free_ksyms(&mut built);
        let named = text.free_images(&mut built, &t.by());
        t.rt.kdatas.free(kdata);
        (listed, named)
    });
    if let Some((listed, named)) = outlived {
        prepare::ksyms_outlived(t, listed, named);
    }
    map_update::put_progs(t, map.decl, &mut map.lock.lock())?;
    t.rt.maps.free(map);
    t.end();
    Ok(())
}
