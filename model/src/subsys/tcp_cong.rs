//! tcp congestion control: a list by name, linked through kdata itself, read under RCU; sockets.
//!
//! Stands for net/ipv4/tcp_cong.c and net/ipv4/bpf_tcp_ca.c. Not here: the built-in algorithms.

use crate::exec::{Exec, Gone, Step, Stop, errno, event};
use crate::invariant::Invariant;
use crate::kernel::{KdataKey, Node, Sock, seen};
use crate::pc::Pc;
use crate::subsys::{back, leave, registered, unregistered};
use crate::world::MAX_KDATAS;

fn next(x: &mut Exec<'_>, node: Node) -> Result<Node, Stop> {
    match node {
        Node::Head => Ok(x.k.subsys.tcp_next),
        Node::Of(key) => Ok(x.kdata(key)?.next),
        Node::Poison => Err(x.gone(Gone::ListNode)),
    }
}

fn set_next(x: &mut Exec<'_>, node: Node, to: Node) -> Step {
    match node {
        Node::Head => x.k.subsys.tcp_next = to,
        Node::Of(key) => x.kdata(key)?.next = to,
        Node::Poison => return Err(x.gone(Gone::ListNode)),
    }
    Ok(())
}

fn set_prev(x: &mut Exec<'_>, node: Node, to: Node) -> Step {
    match node {
        Node::Head => x.k.subsys.tcp_prev = to,
        Node::Of(key) => x.kdata(key)?.prev = to,
        Node::Poison => return Err(x.gone(Gone::ListNode)),
    }
    Ok(())
}

/// `list_add_tail_rcu(&ca->list, &tcp_cong_list)`.
fn list_add_tail(x: &mut Exec<'_>, key: KdataKey) -> Step {
    let prev = x.k.subsys.tcp_prev;
    let node = Node::Of(key);
    set_next(x, node, Node::Head)?;
    set_prev(x, node, prev)?;
    set_next(x, prev, node)?;
    set_prev(x, Node::Head, node)
}

/// `list_del_rcu(&ca->list)`: `next` stays for readers, `prev` is poisoned.
fn list_del(x: &mut Exec<'_>, key: KdataKey) -> Step {
    let (next, prev) = {
        let kdata = x.kdata(key)?;
        (kdata.next, kdata.prev)
    };
    set_prev(x, next, prev)?;
    set_next(x, prev, next)?;
    x.kdata(key)?.prev = Node::Poison;
    Ok(())
}

/// `tcp_ca_find()`: walks the list to the entry with that name.
fn find(x: &mut Exec<'_>, name: u8) -> Result<Option<KdataKey>, Stop> {
    let mut node = next(x, Node::Head)?;
    for _ in 0..=MAX_KDATAS {
        match node {
            Node::Head => return Ok(None),
            Node::Of(key) if x.world.maps[usize::from(x.kdata(key)?.decl)].key == name => {
                return Ok(Some(key));
            }
            other => {
                x.report.witness(Invariant::NoDeadlock);
                node = next(x, other)?;
            }
        }
    }
    Err(x.broken(
        Invariant::NoDeadlock,
        format_args!("the list has no end: this CPU walks it for ever"),
    ))
}

fn name_of(x: &mut Exec<'_>, key: KdataKey) -> Result<u8, Stop> {
    let decl = x.kdata(key)?.decl;
    Ok(x.world.maps[usize::from(decl)].key)
}

/// `tcp_validate_congestion_control()`.
pub(crate) fn validate(x: &mut Exec<'_>, key: KdataKey) -> Result<bool, Stop> {
    let kdata = *x.kdata(key)?;
    let ty = &x.world.types[x.world.maps[usize::from(kdata.decl)].ty];
    Ok(ty
        .members
        .iter()
        .zip(kdata.func)
        .all(|(m, f)| !m.required || f.image.is_some()))
}

pub(crate) fn step(x: &mut Exec<'_>) -> Step {
    match x.pc {
        Pc::TcpReg => {
            let kdata = x.c().kdata.expect("reg() gets a kdata");
            if !validate(x, kdata)? {
                return leave(x, errno::EINVAL);
            }
            let name = name_of(x, kdata)?;
            if find(x, name)?.is_some() {
                x.saw(seen::TAKEN);
                return leave(x, errno::EEXIST);
            }
            list_add_tail(x, kdata)?;
            registered(x, kdata)?;
            event!(x, "added to tcp_cong_list");
            leave(x, 0)
        }
        Pc::TcpUnreg => {
            let kdata = x.c().kdata.expect("unreg() gets a kdata");
            list_del(x, kdata)?;
            unregistered(x, kdata)?;
            x.synchronize_rcu_begin();
            event!(x, "removed from tcp_cong_list; synchronize_rcu()");
            x.goto(Pc::SyncRcu)
        }
        Pc::SyncRcu => {
            x.c().wait = Default::default();
            back(x)
        }
        Pc::TcpUpdate => {
            let new = x.c().kdata.expect("update() gets a kdata");
            let old = x.c().old_kdata.expect("update() gets the old kdata");
            let (new_name, old_name) = (name_of(x, new)?, name_of(x, old)?);
            if find(x, old_name)? != Some(old) || new_name != old_name {
                x.saw(seen::MISMATCH);
                return leave(x, errno::EINVAL);
            }
            list_add_tail(x, new)?;
            list_del(x, old)?;
            registered(x, new)?;
            unregistered(x, old)?;
            x.synchronize_rcu_begin();
            event!(
                x,
                "new kdata added to tcp_cong_list, old one removed; synchronize_rcu()"
            );
            x.goto(Pc::SyncRcu)
        }
        Pc::SockFind => {
            x.rcu_read_lock();
            let name = x.c().arg;
            let found = find(x, name)?;
            let Some(kdata) = found else {
                x.rcu_read_unlock();
                return x.fail(errno::ENOENT, Pc::Finish);
            };
            x.c().kdata = Some(kdata);
            event!(x, "found under RCU");
            x.goto(Pc::SockGet)
        }
        Pc::SockGet => {
            let kdata = x.c().kdata.expect("found");
            let got = x.struct_ops_get(kdata)?;
            if got {
                let expect = x.kdata(kdata)?.expect;
                let proc = x.world.cpus[usize::from(x.cpu)].proc;
                let Some(place) = x.k.socks.iter().position(|s| s.kdata.is_none()) else {
                    return Err(x.full(crate::table::Full));
                };
                x.k.socks[place] = Sock {
                    kdata: Some(kdata),
                    expect,
                    busy: None,
                    fds: 1 << proc,
                };
                event!(x, "socket {place} takes a reference");
            } else {
                x.c().err = errno::EBUSY;
                event!(x, "the count is 0: -EBUSY");
            }
            x.rcu_read_unlock();
            x.goto(Pc::Finish)
        }
        Pc::SockCall => {
            let place = usize::from(x.c().arg);
            let sock = &mut x.k.socks[place];
            sock.busy = Some(x.cpu);
            let (kdata, expect) = (sock.kdata, sock.expect);
            let cpu = x.c();
            cpu.kdata = kdata;
            cpu.expect = expect;
            cpu.readers.tasks = true;
            cpu.call_ret = Pc::SockCallDone;
            let member = cpu.member;
            event!(x, "socket {place} calls member {member}");
            x.goto(Pc::CallRead)
        }
        Pc::SockCallDone => {
            let place = usize::from(x.c().arg);
            if x.k.socks[place].busy == Some(x.cpu) {
                x.k.socks[place].busy = None;
            }
            x.goto(Pc::Finish)
        }
        Pc::SockRelease => {
            let place = usize::from(x.c().arg);
            release(x, place)?;
            x.goto(Pc::Finish)
        }
        _ => unreachable!("not a step of tcp_cong"),
    }
}

/// `tcp_cleanup_congestion_control()`: the socket lets go of its algorithm.
pub(crate) fn release(x: &mut Exec<'_>, place: usize) -> Step {
    let kdata = x.k.socks[place]
        .kdata
        .expect("an open socket has an algorithm");
    x.k.socks[place] = Sock::default();
    event!(x, "socket {place} puts its reference");
    x.struct_ops_put(kdata)
}
