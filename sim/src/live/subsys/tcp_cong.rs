//! tcp congestion control: a list by name, linked through kdata itself, read under RCU; sockets.
//!
//! Stands for net/ipv4/tcp_cong.c and net/ipv4/bpf_tcp_ca.c. Not here: the built-in algorithms.

use struct_ops_model::world::OpKind;
use struct_ops_model::{Invariant, Pc, errno};

use crate::live::event::{Ask, Object};
use crate::live::object::{HEAD, Link, POISON, node};
use crate::live::rcu::GracePeriod;
use crate::live::refs::{bpf_struct_ops_get, bpf_struct_ops_put};
use crate::live::runtime::Sock;
use crate::live::subsys::registered;
use crate::live::sync::atomic::Ordering::SeqCst;
use crate::live::sync::{MutexGuard, relax};
use crate::live::syscall::finish;
use crate::live::task::{Call, Step, Stop, Task};
use crate::live::{call, prepare};

fn poisoned(t: &Task) -> Stop {
    let text = "USE AFTER FREE: the list node is poisoned";
    t.fault(Invariant::NoUseAfterFree, text, Vec::new())
}

fn next(t: &Task, at: usize) -> Step<usize> {
    match at {
        POISON => Err(poisoned(t)),
        HEAD => Ok(t.rt.tcp_cong_list.next.load(SeqCst)),
        of => Ok(t.kdata(of - 2)?.next.load(SeqCst)),
    }
}

fn set_next(t: &Task, at: usize, to: usize) -> Step {
    match at {
        POISON => return Err(poisoned(t)),
        HEAD => t.rt.tcp_cong_list.next.store(to, SeqCst),
        of => t.kdata(of - 2)?.next.store(to, SeqCst),
    }
    Ok(())
}

fn set_prev(t: &Task, at: usize, to: usize) -> Step {
    match at {
        POISON => return Err(poisoned(t)),
        HEAD => t.rt.tcp_cong_list.prev.store(to, SeqCst),
        of => t.kdata(of - 2)?.prev.store(to, SeqCst),
    }
    Ok(())
}

/// `list_add_tail_rcu(&ca->list, &tcp_cong_list)`.
fn list_add_tail(t: &Task, kdata: usize) -> Step {
    let prev = t.rt.tcp_cong_list.prev.load(SeqCst);
    let node = node(kdata);
    set_next(t, node, HEAD)?;
    set_prev(t, node, prev)?;
    set_next(t, prev, node)?;
    set_prev(t, HEAD, node)
}

/// `list_del_rcu(&ca->list)`: `next` stays for readers, `prev` is poisoned.
fn list_del(t: &Task, kdata: usize) -> Step {
    let data = t.kdata(kdata)?;
    let (next, prev) = (data.next.load(SeqCst), data.prev.load(SeqCst));
    set_prev(t, next, prev)?;
    set_next(t, prev, next)?;
    data.prev.store(POISON, SeqCst);
    Ok(())
}

/// `tcp_ca_find()`: walks the list to the entry with that name.
fn find(t: &Task, name: u8) -> Step<Option<usize>> {
    let mut at = next(t, HEAD)?;
    for _ in 0..=t.rt.kdatas.live() + 1 {
        if at == HEAD {
            return Ok(None);
        }
        if at == POISON {
            return Err(poisoned(t));
        }
        if name_of(t, at - 2)? == name {
            return Ok(Some(at - 2));
        }
        at = next(t, at)?;
    }
    let text = "the list has no end: this task walks it for ever";
    Err(t.fault(Invariant::NoDeadlock, text, Vec::new()))
}

fn name_of(t: &Task, kdata: usize) -> Step<u8> {
    Ok(t.rt.decl.maps[t.kdata(kdata)?.decl].key)
}

pub(crate) fn tcp_register_congestion_control(
    t: &Task,
    kdata: usize,
    link: Option<&Link>,
) -> Step<i8> {
    let _tcp_cong_list_lock = t.rt.tcp_cong_list_lock.lock();
    t.begin(Pc::TcpReg)?;
    let data = t.kdata(kdata)?;
    let err = prepare::validate(t, data.decl, &data);
    if err != 0 {
        return Ok(t.end_with(err));
    }
    if find(t, name_of(t, kdata)?)?.is_some() {
        return Ok(t.end_with(errno::EEXIST));
    }
    registered(t, &data, link);
    list_add_tail(t, kdata)?;
    Ok(t.end_with(0))
}

pub(crate) fn tcp_unregister_congestion_control(t: &Task, kdata: usize) -> Step {
    {
        let _tcp_cong_list_lock = t.rt.tcp_cong_list_lock.lock();
        t.begin(Pc::TcpUnreg)?;
        list_del(t, kdata)?;
        t.end();
    }
    t.reader.synchronize(GracePeriod::Rcu);
    t.point(Pc::SyncRcu)
}

pub(crate) fn tcp_update_congestion_control(
    t: &Task,
    new: usize,
    old: usize,
    link: &Link,
) -> Step<i8> {
    {
        let _tcp_cong_list_lock = t.rt.tcp_cong_list_lock.lock();
        t.begin(Pc::TcpUpdate)?;
        let (new_name, old_name) = (name_of(t, new)?, name_of(t, old)?);
        if find(t, old_name)? != Some(old) || new_name != old_name {
            return Ok(t.end_with(errno::EINVAL));
        }
        let data = t.kdata(new)?;
        registered(t, &data, Some(link));
        list_add_tail(t, new)?;
        list_del(t, old)?;
        t.end();
    }
    t.reader.synchronize(GracePeriod::Rcu);
    t.point(Pc::SyncRcu)?;
    Ok(0)
}

// ---- sockets ------------------------------------------------------------------------------------------

/// setsockopt(TCP_CONGESTION).
pub(crate) fn tcp_set_congestion_control(t: &Task, name: u8) -> Step<i8> {
    t.begin(Pc::SockFind)?;
    t.ask(Ask {
        kind: OpKind::SockOpen,
        arg: name,
        ..Ask::default()
    });
    t.reader.rcu_read_lock();
    let Some(kdata) = find(t, name)? else {
        t.reader.rcu_read_unlock();
        t.end_with(errno::ENOENT);
        return finish(t);
    };
    t.end();
    t.begin(Pc::SockGet)?;
    let mut socks = t.rt.socks.lock();
    if bpf_struct_ops_get(t, kdata)? {
        let sock = Sock {
            kdata: Some(kdata),
            expect: t.kdata(kdata)?.expect.load(SeqCst),
            busy: None,
            fds: t.bit(),
        };
        let place = socks
            .iter()
            .position(|s| s.kdata.is_none())
            .unwrap_or(socks.len());
        if place == socks.len() {
            socks.push(sock);
        } else {
            socks[place] = sock;
        }
        t.object(Object::Sock(place));
        t.reader.rcu_read_unlock();
        t.end();
    } else {
        t.reader.rcu_read_unlock();
        t.end_with(errno::EBUSY);
    }
    drop(socks);
    finish(t)
}

/// lock_sock() on an open socket of the process.
fn locked(t: &Task, place: usize) -> Step<Option<MutexGuard<'_, Vec<Sock>>>> {
    let mut tries = 0;
    loop {
        let socks = t.rt.socks.lock();
        let open = socks
            .get(place)
            .filter(|s| s.kdata.is_some() && s.fds & t.bit() != 0);
        match open {
            None => return Ok(None),
            Some(sock) if sock.busy.is_none() => return Ok(Some(socks)),
            Some(_) => {}
        }
        drop(socks);
        if t.rt.dead.load(SeqCst) {
            return Err(Stop);
        }
        relax(&mut tries);
    }
}

/// The stack calls a member through a socket: it holds its algorithm, no RCU needed.
pub(crate) fn sock_call(t: &Task, place: u8, member: u8) -> Step<i8> {
    let sock = usize::from(place);
    t.begin(Pc::SockCall)?;
    let Some(mut socks) = locked(t, sock)? else {
        return Ok(not_open(t));
    };
    t.ask(Ask {
        kind: OpKind::SockCall,
        arg: place,
        member,
        ..Ask::default()
    });
    socks[sock].busy = Some(t.actor);
    let (kdata, expect) = (socks[sock].kdata, socks[sock].expect);
    t.reader.tasks_enter();
    t.end();
    drop(socks);
    let call = Call {
        expect,
        sock: Some(sock),
        ..Call::default()
    };
    let kdata = kdata.expect("an open socket has an algorithm");
    call::through_kdata(t, kdata, usize::from(member), call)?;
    t.begin(Pc::SockCallDone)?;
    {
        let mut socks = t.rt.socks.lock();
        // The program may have closed it, and somebody opened another one in its place.
        if socks[sock].busy == Some(t.actor) {
            socks[sock].busy = None;
        }
    }
    t.end();
    finish(t)
}

/// The socket is not open: the look is part of the open step.
fn not_open(t: &Task) -> i8 {
    t.ask(Ask::default());
    t.end_with(errno::EBADF)
}

/// close(2) on a socket.
pub(crate) fn sock_close(t: &Task, place: u8) -> Step<i8> {
    t.begin(Pc::SockRelease)?;
    let Some(mut socks) = locked(t, usize::from(place))? else {
        return Ok(not_open(t));
    };
    t.ask(Ask {
        kind: OpKind::SockClose,
        arg: place,
        ..Ask::default()
    });
    let_go(t, &mut socks[usize::from(place)])?;
    t.end();
    drop(socks);
    finish(t)
}

/// A socket that its process had open when it ended.
pub(crate) fn sock_close_at_exit(t: &Task, place: usize) -> Step {
    t.begin(Pc::SockRelease)?;
    let_go(t, &mut t.rt.socks.lock()[place])?;
    t.end();
    finish(t).map(drop)
}

/// tcp_cleanup_congestion_control(): the socket lets go of its algorithm.
fn let_go(t: &Task, sock: &mut Sock) -> Step {
    let kdata = std::mem::take(sock).kdata;
    bpf_struct_ops_put(t, kdata.expect("an open socket has an algorithm"))
}

/// A program moves the socket that it runs for to another algorithm: part of the open step.
pub(crate) fn release(t: &Task, place: usize) -> Step {
    let mut socks = t.rt.socks.lock();
    if socks[place].busy == Some(t.actor) {
        let_go(t, &mut socks[place])?;
    }
    Ok(())
}
