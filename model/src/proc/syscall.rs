//! How operations begin and processes end.
//!
//! Stands for the entry of the bpf(2) commands (fd to object) and for exit_files() of kernel/exit.c. An
//! operation whose fd is not open returns -EBADF and is not worth a step.

use crate::backend::{Backend, OpenFile, Pointers, Step, event};
use crate::kernel::{Cpu, Slots, holds};
use crate::pc::Pc;
use crate::proc::refs::{map_inc, prog_put};
use crate::subsys;
use crate::world::{OpKind, World};

/// An operation with its targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Request<P: Pointers = Slots> {
    /// What to do.
    pub kind: OpKind,
    /// Target (or new) map.
    pub map: Option<P::Map>,
    /// F_REPLACE's expected old map.
    pub old: Option<P::Map>,
    /// Target link.
    pub link: Option<P::Link>,
    /// Cookie (index).
    pub cookie: u8,
    /// Declaration, link name, socket, entry, key or program.
    pub arg: u8,
    /// Member to call.
    pub member: u8,
}

impl<P: Pointers> Default for Request<P> {
    fn default() -> Self {
        Request {
            kind: OpKind::None,
            map: None,
            old: None,
            link: None,
            cookie: 0,
            arg: 0,
            member: 0,
        }
    }
}

/// The first step of an operation.
pub(crate) fn first_step(world: &World, kind: OpKind) -> Pc {
    match kind {
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
        OpKind::Call => subsys::call(world),
        OpKind::TestRun => Pc::TestRun,
        OpKind::ScxError => Pc::ScxError,
        OpKind::Rmmod => Pc::Rmmod,
        OpKind::Exit => Pc::ExitNext,
    }
}

/// Puts the request into the task's local variables, at its first step.
pub(crate) fn begin<'w, X: Backend<'w>>(x: &mut X, request: Request<X::P>) -> Step {
    let cpu = x.cpu();
    cpu.op = request.kind;
    cpu.map = request.map;
    cpu.old = request.old;
    cpu.link = request.link;
    cpu.cookie = request.cookie;
    cpu.arg = request.arg;
    cpu.member = request.member;
    x.count_operation();
    if matches!(
        request.kind,
        OpKind::MapUpdate | OpKind::MapDelete | OpKind::MapLookup
    ) {
        // fdget(): the file, and with it the map, stays until the system call is over.
        let map = x.my_map();
        map_inc(x, map)?;
        x.cpu().holds |= holds::MAP;
    }
    if request.kind == OpKind::SysBpfLinkCreate {
        x.rcu_read_lock_trace();
        event!(x, "a syscall program runs under rcu_read_lock_trace()");
    }
    if request.kind == OpKind::Exit {
        x.begin_exit();
    }
    let first = first_step(x.world(), request.kind);
    x.goto(first)
}

pub(crate) fn step<'w, X: Backend<'w>>(x: &mut X) -> Step {
    match x.pc() {
        // exit_files(): closes an open fd, or the process is gone.
        Pc::ExitNext => match x.open_file() {
            Some(OpenFile::Link(link)) => {
                x.cpu().link = Some(link);
                event!(x, "closes a link");
                x.goto(Pc::LinkRelease)
            }
            Some(OpenFile::Sock(sock)) => {
                x.cpu().arg = sock;
                event!(x, "closes a socket");
                x.goto(Pc::SockRelease)
            }
            Some(OpenFile::Map(map)) => {
                x.cpu().map = Some(map);
                event!(x, "closes a map");
                x.goto(Pc::MapRelease)
            }
            Some(OpenFile::Prog(prog)) => {
                x.cpu().arg = prog;
                event!(x, "closes a program");
                x.goto(Pc::ProgRelease)
            }
            None => {
                x.process_is_gone();
                event!(x, "process {} is gone", x.proc());
                let Cpu {
                    position, readers, ..
                } = *x.cpu();
                *x.cpu() = Cpu {
                    position,
                    readers,
                    ..Cpu::default()
                };
                Ok(())
            }
        },
        Pc::ProgRelease => {
            let prog = std::mem::take(&mut x.cpu().arg);
            x.close_prog_fd(prog);
            prog_put(x, prog)?;
            x.goto(Pc::Finish)
        }
        Pc::Finish => {
            if x.cpu().op == OpKind::SysBpfLinkCreate {
                x.rcu_read_unlock_trace();
            }
            x.returns()
        }
        _ => unreachable!("not a step of a system call's begin or end"),
    }
}
