//! How operations begin and processes end.
//!
//! Stands for the entry of the bpf(2) commands (fd to object) and for exit_files() of fs/file.c. An
//! operation whose fd is not open returns -EBADF and is not worth a step.

use crate::exec::{Exec, Step, event};
use crate::kernel::{Cpu, Kernel, holds};
use crate::pc::Pc;
use crate::step::Request;
use crate::subsys::testmod;
use crate::world::{OpKind, Subsystem};

/// Puts the request into the CPU and carries out its first step.
pub(crate) fn begin(x: &mut Exec<'_>, request: Request) -> Step {
    let cpu = x.c();
    cpu.op = request.kind;
    cpu.map = request.map;
    cpu.old = request.old;
    cpu.link = request.link;
    cpu.cookie = request.cookie;
    cpu.arg = request.arg;
    cpu.member = request.member;
    let proc = usize::from(x.world.cpus[usize::from(x.cpu)].proc);
    // What removes the rest once a process is gone belongs to no plan.
    if !x.k.procs[proc].exiting {
        x.c().position += 1;
    }
    let first = match request.kind {
        OpKind::None => Pc::Finish,
        OpKind::MapCreate => Pc::MapCreate,
        OpKind::MapUpdate => Pc::UpdTlinks,
        OpKind::MapDelete => Pc::DelCmpxchg,
        OpKind::MapLookup => Pc::MapLookup,
        OpKind::MapClose => Pc::MapRelease,
        OpKind::LinkCreate | OpKind::SysBpfLinkCreate => Pc::LcGet,
        OpKind::LinkUpdate => Pc::LuGet,
        OpKind::LinkDetach => Pc::LdGet,
        OpKind::LinkClose => Pc::LinkRelease,
        OpKind::LinkPin => Pc::LinkPin,
        OpKind::LinkUnpin => Pc::LinkUnpin,
        OpKind::LinkInfo => Pc::LinkInfo,
        OpKind::SockOpen => Pc::SockFind,
        OpKind::SockCall => Pc::SockCall,
        OpKind::SockClose => Pc::SockRelease,
        OpKind::Call => {
            if crate::step::scx_types(x.world) {
                Pc::ScxCall
            } else if x.world.types[0].subsystem == Subsystem::HidBpf {
                Pc::HidProbe
            } else {
                testmod::call(x.k, x.world, request.arg)
            }
        }
        OpKind::TestRun => Pc::TestRun,
        OpKind::ScxError => Pc::ScxError,
        OpKind::Rmmod => Pc::Rmmod,
        OpKind::Exit => Pc::ExitNext,
    };
    if matches!(
        request.kind,
        OpKind::MapUpdate | OpKind::MapDelete | OpKind::MapLookup
    ) {
        // fdget(): the file, and with it the map, stays until the system call is over.
        let map = x.c().map.expect("requests name a map");
        x.map_inc(map)?;
        x.c().holds |= holds::MAP;
    }
    if request.kind == OpKind::SysBpfLinkCreate {
        x.rcu_read_lock_trace();
        event!(x, "a syscall program runs under rcu_read_lock_trace()");
    }
    if request.kind == OpKind::Exit {
        x.k.procs[proc].exiting = true;
        // How far the threads' plans had come means nothing any more.
        for (cpu, decl) in x.k.cpus.iter_mut().zip(&x.world.cpus) {
            if usize::from(decl.proc) == proc {
                cpu.position = 0;
            }
        }
    }
    x.goto(first)
}

/// Links, sockets and maps that the process has open.
pub(crate) fn open_files(k: &Kernel, proc: u8) -> u8 {
    let bit = 1 << proc;
    let links = k.links.iter().filter(|(_, l)| l.fds & bit != 0).count();
    let socks = k
        .socks
        .iter()
        .filter(|s| s.kdata.is_some() && s.fds & bit != 0)
        .count();
    let maps = k.maps.iter().filter(|(_, m)| m.fds & bit != 0).count();
    (links + socks + maps) as u8
}

/// exit_files(): closes an open fd, whichever the choice says, or the process is gone.
pub(crate) fn exit_next(x: &mut Exec<'_>) -> Step {
    let proc = x.world.cpus[usize::from(x.cpu)].proc;
    let bit = 1 << proc;
    let mut nth = usize::from(x.choice);
    let links: Vec<_> =
        x.k.links
            .iter()
            .filter(|(_, l)| l.fds & bit != 0)
            .map(|l| l.0)
            .collect();
    if let Some(link) = links.get(nth) {
        x.c().link = Some(*link);
        event!(x, "closes a link");
        return x.goto(Pc::LinkRelease);
    }
    nth -= links.len();
    let mut socks = (0..x.k.socks.len()).filter(|s| {
        let sock = &x.k.socks[*s];
        sock.kdata.is_some() && sock.fds & bit != 0
    });
    let open = socks.clone().count();
    if let Some(sock) = socks.nth(nth) {
        x.c().arg = sock as u8;
        event!(x, "closes a socket");
        return x.goto(Pc::SockRelease);
    }
    nth -= open;
    let map =
        x.k.maps
            .iter()
            .filter(|(_, m)| m.fds & bit != 0)
            .nth(nth)
            .map(|m| m.0);
    if let Some(map) = map {
        x.c().map = Some(map);
        event!(x, "closes a map");
        return x.goto(Pc::MapRelease);
    }
    let prog = (0..x.world.progs.len()).find(|i| x.k.progs[*i].fds & bit != 0);
    if let Some(prog) = prog {
        x.c().arg = prog as u8;
        event!(x, "closes a program");
        return x.goto(Pc::ProgRelease);
    }
    x.k.procs[usize::from(proc)].exited = true;
    event!(x, "process {proc} is gone");
    let Cpu {
        position, readers, ..
    } = *x.c();
    *x.c() = Cpu {
        position,
        readers,
        ..Cpu::default()
    };
    Ok(())
}

/// close() of a program's fd.
pub(crate) fn prog_release(x: &mut Exec<'_>) -> Step {
    let prog = x.c().arg;
    let bit = 1 << x.world.cpus[usize::from(x.cpu)].proc;
    x.k.progs[usize::from(prog)].fds &= !bit;
    x.c().arg = 0;
    x.prog_put(prog)?;
    x.goto(Pc::Finish)
}

/// The system call returns.
pub(crate) fn finish(x: &mut Exec<'_>) -> Step {
    if x.c().op == OpKind::SysBpfLinkCreate {
        x.rcu_read_unlock_trace();
    }
    x.finish()
}
