//! Where a thread of a booted kernel can be held before a step of the model: the one table from steps to gates.
//!
//! A row is of a step, not of a scenario. Most rows name the step's own kernel function; where one function carries
//! out several steps, what it calls between two of them stands for the border. Who is in a read side section must not
//! sleep; the lab's programs and its subsystem have places of their own there. What has no row cannot be held: under a
//! spinlock, in a trampoline, or where nothing is called between two steps. Not here: which border a trace needs
//! (`derive`), and how a task is held (`vm/module/lab_ops.c`).

use struct_ops_model::Pc;
use struct_ops_model::world::Subsystem;

use crate::series::Base;

/// At which end of a function somebody is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// Before its first instruction.
    Entry,
    /// When it has returned to its caller.
    Return,
}

/// Who comes to the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The thread whose operation it is.
    Thread,
    /// A worker of a workqueue.
    Worker,
    /// A kernel thread that works for the operation, which waits for it.
    Kthread,
    /// Whoever comes to a place of the lab's own.
    Anybody,
}

/// A place where somebody can be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate {
    /// The kernel's function.
    pub symbol: &'static str,
    /// Its entry or its return.
    pub at: At,
    /// Who is held.
    pub who: Who,
    /// Only calls with this argument, from 1, of this value.
    pub arg: Option<(u32, u64)>,
    /// Calls that pass beside those that the steps stand for.
    pub skip: u32,
    /// Where it is held before, so that calls from elsewhere do not count.
    pub via: Option<&'static str>,
    /// In what it differs from the border between the two steps.
    pub note: Option<&'static str>,
    /// The function's result is 0 when it goes on: what it has allocated is lost.
    pub zero: bool,
}

const fn at(symbol: &'static str, at: At) -> Gate {
    Gate {
        symbol,
        at,
        who: Who::Thread,
        arg: None,
        skip: 0,
        via: None,
        note: None,
        zero: false,
    }
}

/// Before the first instruction of a function, by the thread itself.
pub const fn entry(symbol: &'static str) -> Gate {
    at(symbol, At::Entry)
}

const fn after(symbol: &'static str) -> Gate {
    at(symbol, At::Return)
}

const fn of(who: Who, gate: Gate) -> Gate {
    Gate { who, ..gate }
}

/// A place of the lab's own: `enum lab_place` of `vm/module/lab_ops.h`.
const fn place(name: &'static str, place: u64) -> Gate {
    Gate {
        arg: Some((1, place)),
        ..of(Who::Anybody, entry(name))
    }
}

/// `reg()`, `unreg()` and `update()` of the type that plays a subsystem.
struct Members {
    reg: &'static str,
    unreg: &'static str,
    update: Option<&'static str>,
}

fn members(subsystem: Subsystem) -> Option<Members> {
    let (reg, unreg, update) = match subsystem {
        Subsystem::TcpCong => (
            "bpf_tcp_ca_reg",
            "bpf_tcp_ca_unreg",
            Some("bpf_tcp_ca_update"),
        ),
        Subsystem::Always => ("lab_ops_reg", "lab_ops_unreg", Some("lab_ops_update")),
        Subsystem::Singleton => ("st_ops_reg", "st_ops_unreg", None),
        Subsystem::HidBpf => ("hid_bpf_reg", "hid_bpf_unreg", None),
        Subsystem::SchedExt => ("bpf_scx_reg", "bpf_scx_unreg", None),
        _ => return None,
    };
    Some(Members { reg, unreg, update })
}

/// The function of a subsystem in which whoever takes this step next is.
pub fn within(next: Pc) -> Option<&'static str> {
    Some(match next {
        Pc::TcpReg => "bpf_tcp_ca_reg",
        Pc::TcpUnreg => "bpf_tcp_ca_unreg",
        Pc::TcpUpdate => "bpf_tcp_ca_update",
        Pc::HidRegLock | Pc::HidRegData | Pc::HidRegSynced | Pc::HidRegUndo => "hid_bpf_reg",
        Pc::HidUnregLock | Pc::HidUnregSynced => "hid_bpf_unreg",
        _ => return None,
    })
}

/// What the lab knows of an operation that somebody is held in.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// The kernel.
    pub base: Base,
    /// Who has the members.
    pub subsystem: Subsystem,
    /// The operation's map is made for links.
    pub link: bool,
    /// The program that runs, if it is one that does not sleep.
    pub prog: Option<u8>,
}

/// Where somebody who has taken `last` and is about to take `next` can be held.
pub fn before(last: Pc, next: Pc, context: Context) -> Option<Gate> {
    use At::{Entry, Return};
    let Members { reg, unreg, update } = members(context.subsystem)?;
    let prepares = |pc| matches!(pc, Pc::PrepMember | Pc::PrepSeal);
    let old = context.base == Base::V6_12;
    let of_update = |end| update.map(|update| at(update, end));
    Some(match (last, next) {
        // link_create
        (_, Pc::LcValid) => after("bpf_map_get"),
        (_, Pc::LcAlloc) => entry("bpf_link_init"),
        (_, Pc::LcLock) => after("bpf_link_prime"),
        (_, Pc::LcReg) => entry(reg),
        (last, Pc::LcRegDone | Pc::LuUpdDone) if prepares(last) => {
            after("bpf_struct_ops_prepare_attach")
        }
        (_, Pc::LcRegDone | Pc::UpdRegDone) => after(reg),
        (_, Pc::LcSettle) => entry("bpf_link_settle"),
        (_, Pc::LcCleanup) => entry("bpf_link_cleanup"),
        (Pc::LcCleanup | Pc::MapRelease, Pc::MapPut) => entry("bpf_map_put"),
        // what the RFC builds with each link
        (_, Pc::PrepMember) => entry("bpf_struct_ops_prepare_trampoline"),
        (_, Pc::PrepSeal) if context.subsystem == Subsystem::TcpCong => {
            entry("bpf_tcp_ca_validate")
        }
        (_, Pc::PrepSeal) => entry("arch_protect_bpf_trampoline"),
        // map_update
        (_, Pc::UpdPublish) if !context.link => entry(reg),
        (_, Pc::UpdPublish) => after("arch_protect_bpf_trampoline"),
        (_, Pc::UpdKsyms) => entry("bpf_image_ksym_add"),
        (_, Pc::DelUnregDone | Pc::LdUnregDone | Pc::DeallocFree) => after(unreg),
        // link_update, link_detach, the last reference
        (_, Pc::LuValid) => entry("bpf_struct_ops_map_link_update"),
        (_, Pc::LuUpdate) => return of_update(Entry),
        (_, Pc::LuUpdDone) => return of_update(Return),
        (_, Pc::LuPutRefs) => after("bpf_struct_ops_map_link_update"),
        (_, Pc::LdLock) => entry("bpf_struct_ops_map_link_detach"),
        (_, Pc::LdPutRefs) => after("bpf_struct_ops_map_link_detach"),
        (Pc::LinkRelease, Pc::LinkPut) => entry("bpf_link_release"),
        (_, Pc::DeallocUnreg) => entry("bpf_struct_ops_map_link_dealloc"),
        // subsystems
        (_, Pc::TcpReg) => entry("tcp_register_congestion_control"),
        (_, Pc::TcpUnreg) => entry("tcp_unregister_congestion_control"),
        (_, Pc::TcpUpdate) => entry("tcp_update_congestion_control"),
        (_, Pc::SyncRcu) => Gate {
            note: Some("its grace period begins when it goes on, not before"),
            ..entry("synchronize_rcu")
        },
        (_, Pc::AlwaysReg | Pc::SingletonReg | Pc::HidReg) => entry(reg),
        (_, Pc::AlwaysUnreg | Pc::SingletonUnreg | Pc::HidUnreg) => entry(unreg),
        (_, Pc::AlwaysUpdate) => return of_update(Entry),
        (_, Pc::ScxEnable) if old => of(Who::Kthread, entry("scx_ops_enable_workfn")),
        (_, Pc::ScxEnable) => of(Who::Kthread, entry("scx_root_enable_workfn")),
        (_, Pc::ScxDisable) if old => of(Who::Kthread, entry("scx_ops_disable_workfn")),
        (_, Pc::ScxDisable) => of(Who::Kthread, entry("scx_disable_workfn")),
        (_, Pc::HidRegData) => entry("hid_bpf_allocate_event_data"),
        (_, Pc::HidReconnect) => entry("hid_bpf_reconnect"),
        // its buffer is of the size that a descriptor may have
        (Pc::HidProbe | Pc::HidReconnect, Pc::HidFixup) if old => Gate {
            arg: Some((3, 4096)),
            ..entry("__kmalloc_cache_noprof")
        },
        (_, Pc::HidRegSynced | Pc::HidUnregSynced) => after("synchronize_srcu"),
        // a call
        (_, Pc::CallRead) if context.subsystem == Subsystem::Always => place(
            "lab_ops' caller, which reads the function pointer next",
            0x200,
        ),
        (Pc::CallRead, Pc::CallEnter) if context.subsystem == Subsystem::Always => place(
            "lab_ops' caller, which has read the function pointer",
            0x201,
        ),
        (Pc::CallEnter, Pc::CallBody) => place("the program", context.prog?.into()),
        (Pc::CallBody, Pc::CallExit) => place(
            "the program's last instruction",
            u64::from(context.prog?) | 0x100,
        ),
        (last, Pc::CallSleep) if last != Pc::CallSleep => entry("lab_ops_wait"),
        (Pc::CallSleep, Pc::CallSleep | Pc::CallExit) => after("lab_ops_wait"),
        // deferred work
        (_, Pc::MapFree) => of(Who::Worker, entry("bpf_struct_ops_map_free")),
        (_, Pc::MapFreeGp) => of(Who::Worker, entry("__wait_rcu_gp")),
        _ => return None,
    })
}

/// Where a worker that has freed a map can be held: the last but one of the four vectors that it frees, after the pages.
pub const MAP_IS_FREED: Gate = Gate {
    skip: 2,
    ..of(Who::Worker, entry("bpf_map_area_free"))
};

/// How an allocation of a step is made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Where its thread is held before.
    pub gate: Gate,
    /// Which of its allocations after that fails; none: the gate itself sees to it.
    pub nth: Option<u32>,
    /// Calls at the gate that pass, of those that the step makes itself.
    pub skip: u32,
    /// It is one of a walk over the members: those before it have called, too.
    pub of_members: bool,
}

/// How the allocation `choice` of the step that a thread takes next is made to fail; `first`: it is the first one of its
/// kind. `members` is how many programs the map has.
pub fn failure(
    next: Pc,
    choice: u8,
    first: bool,
    members: usize,
    context: Context,
) -> Option<Failure> {
    let failure = |gate, nth| Failure {
        gate,
        nth: Some(nth),
        skip: 0,
        of_members: false,
    };
    Some(match (next, choice) {
        // once it knows the size: while a probe asks for the fixup the device has no reports, and nothing is allocated
        (Pc::HidRegData, 1) => failure(
            Gate {
                arg: Some((1, 64)),
                via: Some("hid_bpf_allocate_event_data"),
                ..entry("__kmalloc_noprof")
            },
            1,
        ),
        // a link for each program that it takes
        (Pc::UpdMembers, nth) if context.link && usize::from(nth) <= members => Failure {
            skip: u32::from(nth) - 1,
            ..failure(after("bpf_prog_get"), 1)
        },
        // the table of links comes before the first ksym
        (Pc::PrepMember, 1) if first => failure(entry("bpf_struct_ops_prepare_attach"), 2),
        (Pc::PrepMember, 1) => Failure {
            of_members: true,
            ..failure(after("bpf_struct_ops_prepare_trampoline"), 1)
        },
        // it comes out of a pack that is there: no allocation that could be made to fail
        (Pc::PrepMember, 2) => Failure {
            nth: None,
            ..failure(
                Gate {
                    zero: true,
                    ..after("arch_alloc_bpf_trampoline")
                },
                1,
            )
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allocation_fails_by_its_number_or_by_its_result() {
        let context = Context {
            base: Base::V6_12,
            subsystem: Subsystem::TcpCong,
            link: true,
            prog: None,
        };
        let second = failure(Pc::UpdMembers, 2, true, 2, context).unwrap();
        assert_eq!((second.gate.symbol, second.skip), ("bpf_prog_get", 1));
        // the third one is of what a link map builds elsewhere
        assert_eq!(failure(Pc::UpdMembers, 3, true, 2, context), None);
        let page = failure(Pc::PrepMember, 2, true, 2, context).unwrap();
        assert!(page.gate.zero && page.nth.is_none());
    }

    #[test]
    fn a_row_is_of_the_steps_own_kernel() {
        let tcp = Context {
            base: Base::V6_12,
            subsystem: Subsystem::TcpCong,
            link: true,
            prog: None,
        };
        let gate = before(Pc::PrepSeal, Pc::TcpReg, tcp).unwrap();
        assert_eq!(
            (gate.symbol, gate.at),
            ("tcp_register_congestion_control", At::Entry)
        );
        let undone = before(Pc::PrepMember, Pc::LcRegDone, tcp).unwrap();
        assert_eq!(
            (undone.symbol, undone.at),
            ("bpf_struct_ops_prepare_attach", At::Return)
        );
        // tcp calls a member under RCU, and nothing between reading the pointer and the call
        assert_eq!(before(Pc::CallRead, Pc::CallEnter, tcp), None);
        let runs = Context {
            prog: Some(3),
            ..tcp
        };
        let gate = before(Pc::CallBody, Pc::CallExit, runs).unwrap();
        assert_eq!((gate.who, gate.arg), (Who::Anybody, Some((1, 0x103))));
        let scx = |base| {
            let context = Context {
                base,
                subsystem: Subsystem::SchedExt,
                link: true,
                prog: None,
            };
            before(Pc::LcReg, Pc::ScxEnable, context).unwrap()
        };
        assert_eq!(scx(Base::V6_12).symbol, "scx_ops_enable_workfn");
        assert_eq!(scx(Base::V7_3).symbol, "scx_root_enable_workfn");
        assert_eq!(scx(Base::V7_3).who, Who::Kthread);
    }
}
