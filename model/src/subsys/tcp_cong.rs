//! tcp congestion control: a list by name, linked through kdata itself, read under RCU; sockets.
//!
//! Stands for net/ipv4/tcp_cong.c and net/ipv4/bpf_tcp_ca.c. Not here: the built-in algorithms.

use crate::backend::{Backend, FuncOf, KdataOf, Step, event};
use crate::errno;
use crate::invariant::Invariant;
use crate::kernel::{Node, Seen, Stage};
use crate::lock::{Lock, LockClass};
use crate::pc::Pc;
use crate::place::Linux;
use crate::proc::call;
use crate::proc::refs::{bpf_struct_ops_get, bpf_struct_ops_put};
use crate::subsys::{Called, Facts, back, leave, registered, unregistered};
use crate::world::MAX_MAPS;

/// What is known of it.
pub(crate) const FACTS: Facts = Facts {
    name: "tcp_congestion_ops",
    about: "tcp congestion control: list by name, update(), sockets",
    members: &["init", "ssthresh", "cong_avoid"],
    only_these: false,
    init_member: 0,
    reg: Pc::TcpReg,
    unreg: Pc::TcpUnreg,
    update: Some(Pc::TcpUpdate),
    called: Called::ThroughSockets,
    entries: MAX_MAPS,
    refusals: &[(errno::EEXIST, Seen::TAKEN)],
    tasks_rcu: true,
    since: Linux::V6_12,
    known_bugs: &[],
};

/// `list_add_tail_rcu(&ca->list, &tcp_cong_list)`.
fn list_add_tail<'w, X: Backend<'w>>(x: &mut X, kdata: KdataOf<X>) -> Step {
    let prev = x.list_prev(Node::Head)?;
    let node = Node::Of(kdata);
    x.set_list_next(node, Node::Head)?;
    x.set_list_prev(node, prev)?;
    x.set_list_next(prev, node)?;
    x.set_list_prev(Node::Head, node)
}

/// `list_del_rcu(&ca->list)`: `next` stays for readers, `prev` is poisoned.
fn list_del<'w, X: Backend<'w>>(x: &mut X, kdata: KdataOf<X>) -> Step {
    let node = Node::Of(kdata);
    let (next, prev) = (x.list_next(node)?, x.list_prev(node)?);
    x.set_list_prev(next, prev)?;
    x.set_list_next(prev, next)?;
    x.set_list_prev(node, Node::Poison)
}

/// `tcp_ca_find()`: walks the list to the entry with that name.
fn tcp_ca_find<'w, X: Backend<'w>>(x: &mut X, name: u8) -> Step<Option<KdataOf<X>>> {
    let mut node = x.list_next(Node::Head)?;
    for _ in 0..=x.list_bound() {
        match node {
            Node::Head => return Ok(None),
            Node::Of(kdata) if name_of(x, kdata)? == name => return Ok(Some(kdata)),
            other => {
                x.witness(Invariant::NoDeadlock);
                node = x.list_next(other)?;
            }
        }
    }
    Err(x.broken(
        Invariant::NoDeadlock,
        format_args!("the list has no end: this CPU walks it for ever"),
    ))
}

fn name_of<'w, X: Backend<'w>>(x: &mut X, kdata: KdataOf<X>) -> Step<u8> {
    let decl = x.kdata_decl(kdata)?;
    Ok(x.world().maps[usize::from(decl)].key)
}

/// `tcp_validate_congestion_control()`.
pub(crate) fn validate<'w, X: Backend<'w>>(x: &mut X, kdata: KdataOf<X>) -> Step<bool> {
    let decl = x.kdata_decl(kdata)?;
    let world = x.world();
    let members = &world.types[world.maps[usize::from(decl)].ty].members;
    for (i, _) in members.iter().enumerate().filter(|m| m.1.required) {
        if x.func(kdata, i)? == FuncOf::<X>::default() {
            return Ok(false);
        }
    }
    Ok(true)
}

pub(crate) fn step<'w, X: Backend<'w>>(x: &mut X) -> Step {
    let list_lock = Lock::The(LockClass::TcpCongList);
    match x.pc() {
        Pc::TcpReg => {
            x.lock(list_lock)?;
            let kdata = x.cpu().kdata.expect("reg() gets a kdata");
            let err = tcp_register_congestion_control(x, kdata)?;
            x.unlock(list_lock)?;
            leave(x, err)
        }
        Pc::TcpUnreg => {
            let kdata = x.cpu().kdata.expect("unreg() gets a kdata");
            x.lock(list_lock)?;
            list_del(x, kdata)?;
            unregistered(x, kdata)?;
            x.unlock(list_lock)?;
            x.wait_begin(Stage::Rcu);
            event!(x, "removed from tcp_cong_list; synchronize_rcu()");
            x.goto(Pc::SyncRcu)
        }
        Pc::SyncRcu => {
            x.wait_begin(Stage::None);
            back(x)
        }
        Pc::TcpUpdate => {
            x.lock(list_lock)?;
            let err = tcp_update_congestion_control(x)?;
            x.unlock(list_lock)?;
            if err != 0 {
                return leave(x, err);
            }
            x.wait_begin(Stage::Rcu);
            event!(
                x,
                "new kdata added to tcp_cong_list, old one removed; synchronize_rcu()"
            );
            x.goto(Pc::SyncRcu)
        }
        Pc::SockFind => {
            x.rcu_read_lock();
            let name = x.cpu().arg;
            let Some(kdata) = tcp_ca_find(x, name)? else {
                x.rcu_read_unlock();
                return x.fail(errno::ENOENT, Pc::Finish);
            };
            x.cpu().kdata = Some(kdata);
            event!(x, "found under RCU");
            x.goto(Pc::SockGet)
        }
        Pc::SockGet => {
            let kdata = x.cpu().kdata.expect("found");
            if bpf_struct_ops_get(x, kdata)? {
                let expect = x.registered_cookie(kdata)?;
                let sock = x.new_sock(kdata, expect)?;
                event!(x, "socket {sock} takes a reference");
            } else {
                x.cpu().err = errno::EBUSY;
                event!(x, "the count is 0: -EBUSY");
            }
            x.rcu_read_unlock();
            x.goto(Pc::Finish)
        }
        Pc::SockCall => {
            let sock = x.cpu().arg;
            x.lock(Lock::Sock(sock))?;
            let (kdata, expect) = x.sock(sock).expect("an open socket has an algorithm");
            x.cpu().kdata = Some(kdata);
            let member = x.cpu().member;
            event!(x, "socket {sock} calls member {member}");
            call::through_kdata(x, expect, Pc::SockCallDone)
        }
        Pc::SockCallDone => {
            let sock = x.cpu().arg;
            // The program may have closed it, and somebody opened another one in its place.
            if x.holds_lock(Lock::Sock(sock)) {
                x.unlock(Lock::Sock(sock))?;
            }
            x.goto(Pc::Finish)
        }
        Pc::SockRelease => {
            let sock = x.cpu().arg;
            x.lock(Lock::Sock(sock))?;
            if x.close_sock_fd(sock) {
                event!(x, "another process has the socket open");
                x.unlock(Lock::Sock(sock))?;
            } else {
                release(x, sock)?;
            }
            x.goto(Pc::Finish)
        }
        _ => unreachable!("not a step of tcp_cong"),
    }
}

/// The name must be free. The result is 0 or an errno.
fn tcp_register_congestion_control<'w, X: Backend<'w>>(x: &mut X, kdata: KdataOf<X>) -> Step<i8> {
    if !validate(x, kdata)? {
        return Ok(errno::EINVAL);
    }
    let name = name_of(x, kdata)?;
    if tcp_ca_find(x, name)?.is_some() {
        return Ok(errno::EEXIST);
    }
    registered(x, kdata)?;
    list_add_tail(x, kdata)?;
    event!(x, "added to tcp_cong_list");
    Ok(0)
}

/// The entry of that name must be the old kdata. The result is 0 or an errno.
fn tcp_update_congestion_control<'w, X: Backend<'w>>(x: &mut X) -> Step<i8> {
    let new = x.cpu().kdata.expect("update() gets a kdata");
    let old = x.cpu().old_kdata.expect("update() gets the old kdata");
    let (new_name, old_name) = (name_of(x, new)?, name_of(x, old)?);
    if tcp_ca_find(x, old_name)? != Some(old) || new_name != old_name {
        return Ok(errno::EINVAL);
    }
    registered(x, new)?;
    list_add_tail(x, new)?;
    list_del(x, old)?;
    unregistered(x, old)?;
    Ok(0)
}

/// `tcp_cleanup_congestion_control()`, under `lock_sock()`: the socket lets go of its algorithm, and is gone.
pub(crate) fn release<'w, X: Backend<'w>>(x: &mut X, sock: u8) -> Step {
    let (kdata, _) = x.sock(sock).expect("an open socket has an algorithm");
    x.close_sock(sock);
    event!(x, "socket {sock} puts its reference");
    bpf_struct_ops_put(x, kdata)
}
