//! Link system calls without an engine of their own: close, pin, unpin, info, and the end of the others.
//!
//! Stands for bpf_link_put(), bpf_link_release(), bpf_link_get_info_by_fd() of kernel/bpf/syscall.c and
//! bpf_struct_ops_map_link_fill_link_info() of kernel/bpf/bpf_struct_ops.c.

use crate::backend::{Backend, Counted, Step, event};
use crate::invariant::Invariant;
use crate::kernel::holds;
use crate::pc::Pc;
use crate::proc::refs::{attachment_put, map_put, put_my_map};

pub(crate) fn step<'w, X: Backend<'w>>(x: &mut X) -> Step {
    match x.pc() {
        Pc::LinkRelease => {
            let link = x.my_link();
            x.close_link_fd(link)?;
            x.cpu().holds |= holds::LINK;
            x.goto(Pc::LinkPut)
        }
        Pc::LinkPut => {
            let link = x.my_link();
            x.hand_over(holds::LINK);
            if !x.put(Counted::Link(link))? {
                return x.goto(Pc::Finish);
            }
            x.witness(Invariant::RefcountsBalance);
            event!(x, "last link reference");
            x.goto(Pc::DeallocUnreg)
        }
        Pc::LinkPin => {
            let link = x.my_link();
            x.set_pinned(link, true)?;
            x.get(Counted::Link(link))?;
            x.goto(Pc::Finish)
        }
        Pc::LinkUnpin => {
            let link = x.my_link();
            x.set_pinned(link, false)?;
            x.cpu().holds |= holds::LINK;
            x.goto(Pc::LinkPut)
        }
        Pc::LinkInfo => {
            let link = x.my_link();
            x.rcu_read_lock();
            x.get(Counted::Link(link))?;
            x.cpu().holds |= holds::LINK;
            x.cpu().map = x.link_map(link)?;
            x.goto(Pc::LinkInfoRead)
        }
        Pc::LinkInfoRead => {
            if let Some(map) = x.cpu().map {
                let decl = x.map_decl(map)?;
                event!(x, "map_id of {}", x.world().maps[usize::from(decl)].name);
            } else {
                event!(x, "map_id 0");
            }
            x.rcu_read_unlock();
            x.goto(Pc::LinkPut)
        }
        Pc::LuPutRefs | Pc::LdPutRefs => {
            // What a link_update or link_detach still holds, the link last.
            if x.cpu().holds & holds::ATTACHMENT != 0 {
                let attachment = x.cpu().attachment.expect("held");
                x.hand_over(holds::ATTACHMENT);
                attachment_put(x, attachment)?;
                x.witness(Invariant::FailureAtomic);
            }
            put_old_attachment(x)?;
            if x.cpu().holds & holds::OLD != 0 {
                let old = x.cpu().old.expect("held");
                x.hand_over(holds::OLD);
                map_put(x, old)?;
            }
            if x.cpu().holds & holds::MAP != 0 {
                put_my_map(x)?;
            }
            x.goto(Pc::LinkPut)
        }
        _ => unreachable!("not a step of a link system call"),
    }
}

/// Puts the attachment that the link has let go of, if the task still holds it.
pub(crate) fn put_old_attachment<'w, X: Backend<'w>>(x: &mut X) -> Step {
    if x.cpu().holds & holds::OLD_ATTACHMENT != 0 {
        let attachment = x.cpu().old_attachment.expect("held");
        x.hand_over(holds::OLD_ATTACHMENT);
        attachment_put(x, attachment)?;
    }
    Ok(())
}
