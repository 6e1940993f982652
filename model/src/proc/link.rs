//! Link system calls without an engine of their own: close, pin, unpin, info, and the end of the others.
//!
//! Stands for bpf_link_put(), bpf_link_release(), bpf_link_get_info_by_fd() of kernel/bpf/syscall.c and
//! bpf_struct_ops_map_link_fill_link_info() of kernel/bpf/bpf_struct_ops.c.

use crate::exec::{Exec, Step, event};
use crate::invariant::Invariant;
use crate::kernel::holds;
use crate::pc::Pc;

pub(crate) fn step(x: &mut Exec<'_>) -> Step {
    match x.pc {
        Pc::LinkRelease => {
            let (key, _) = x.my_link()?;
            let fds = 1 << x.world.cpus[usize::from(x.cpu)].proc;
            x.link(key)?.fds &= !fds;
            x.c().holds |= holds::LINK;
            x.counted = true;
            x.goto(Pc::LinkPut)
        }
        Pc::LinkPut => {
            let (key, link) = x.my_link()?;
            x.counted = true;
            x.hand_over(holds::LINK);
            x.link(key)?.refs -= 1;
            if link.refs > 1 {
                return x.goto(Pc::Finish);
            }
            x.report.witness(Invariant::RefcountsBalance);
            event!(x, "last link reference");
            x.goto(Pc::DeallocUnreg)
        }
        Pc::LinkPin => {
            let (key, _) = x.my_link()?;
            let link = x.link(key)?;
            link.pinned = true;
            link.refs += 1;
            x.counted = true;
            x.goto(Pc::Finish)
        }
        Pc::LinkUnpin => {
            let (key, _) = x.my_link()?;
            x.link(key)?.pinned = false;
            x.c().holds |= holds::LINK;
            x.counted = true;
            x.goto(Pc::LinkPut)
        }
        Pc::LinkInfo => {
            let (key, link) = x.my_link()?;
            x.rcu_read_lock();
            x.link(key)?.refs += 1;
            x.counted = true;
            x.c().holds |= holds::LINK;
            x.c().map = link.map;
            x.goto(Pc::LinkInfoRead)
        }
        Pc::LinkInfoRead => {
            if let Some(map) = x.c().map {
                let id = x.map(map)?.decl;
                event!(x, "map_id of {}", x.world.maps[usize::from(id)].name);
            } else {
                event!(x, "map_id 0");
            }
            x.rcu_read_unlock();
            x.goto(Pc::LinkPut)
        }
        Pc::LuPutRefs | Pc::LdPutRefs => {
            // What a link_update or link_detach still holds, the link last.
            if x.c().holds & holds::ATTACHMENT != 0 {
                let attachment = x.c().attachment.expect("held");
                x.hand_over(holds::ATTACHMENT);
                x.attachment_put(attachment)?;
                x.report.witness(Invariant::FailureAtomic);
            }
            if x.c().holds & holds::OLD_ATTACHMENT != 0 {
                let attachment = x.c().old_attachment.expect("held");
                x.hand_over(holds::OLD_ATTACHMENT);
                x.attachment_put(attachment)?;
            }
            if x.c().holds & holds::OLD != 0 {
                let old = x.c().old.expect("held");
                x.hand_over(holds::OLD);
                x.map_put(old)?;
            }
            if x.c().holds & holds::MAP != 0 {
                x.put_my_map()?;
            }
            x.goto(Pc::LinkPut)
        }
        _ => unreachable!("not a step of a link system call"),
    }
}
