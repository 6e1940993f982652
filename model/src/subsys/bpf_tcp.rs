//! bpf_tcp_ops: what a socket's cgroup has attached is called along with the socket.
//!
//! Stands for net/ipv4/bpf_tcp_ops.c and for bpf_tcp_ops_call() of include/net/tcp.h, of bpf-next for 7.4. There is no
//! reg(), unreg() or update(): the cgroup layer does their work (`proc::cgroup`), and where a design enters through
//! `st_ops->reg` it enters there. No member may sleep (`bpf_tcp_ops_check_member()`). What a member returns is handed to
//! the next one; that is not here.

use crate::backend::{Backend, Step};
use crate::invariant::Invariant;
use crate::pc::Pc;
use crate::place::Linux;
use crate::proc::cgroup;
use crate::report::Violation;
use crate::subsys::{Called, Facts};
use crate::world::MAX_LINKS;

const STALE_ITEM: &str =
    "replace_effective_prog() of bpf-next takes another item of an array that has stubs before it";

/// What is known of it.
pub(crate) const FACTS: Facts = Facts {
    name: "bpf_tcp_ops",
    about: "attached to cgroups; their sockets call it under RCU",
    members: &["timeout_init", "connect", "rto"],
    only_these: false,
    init_member: 0,
    reg: Pc::CgAttach,
    unreg: Pc::CgDetach,
    update: Some(Pc::CgUpdate),
    called: Called::ThroughCgroups,
    entries: MAX_LINKS,
    // What the cgroup layer refuses is in `contract`.
    refusals: &[],
    tasks_rcu: false,
    since: Linux::V7_4,
    known_bugs: &[
        (
            Linux::V7_4,
            Violation {
                invariant: Invariant::ErrnoContract,
                step: Pc::CgAttach,
            },
            "LINK_CREATE of bpf-next attaches to a cgroup that has been released while it waited",
        ),
        (
            Linux::V7_4,
            Violation {
                invariant: Invariant::NoUseAfterFree,
                step: Pc::CallRead,
            },
            STALE_ITEM,
        ),
        (
            Linux::V7_4,
            Violation {
                invariant: Invariant::NoUseAfterFree,
                step: Pc::CallEnter,
            },
            STALE_ITEM,
        ),
    ],
};

pub(crate) fn step<'w, X: Backend<'w>>(x: &mut X) -> Step {
    cgroup::step(x)
}
