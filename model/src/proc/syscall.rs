//! How operations begin and processes end.
//!
//! Stands for the entry of the bpf(2) commands (fd to object) and for exit_files() of fs/file.c. An
//! operation whose fd is not open returns -EBADF and is not worth a step.

use crate::backend::{Backend, HasPointers, LinkOf, MapOf, OpenFile, Pointers, Step, event};
use crate::kernel::{Cpu, Slots, holds};
use crate::pc::Pc;
use crate::proc::refs::{map_inc, prog_put};
use crate::subsys;
use crate::world::{OpKind, Operation, World};

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
pub fn first_step(world: &World, kind: OpKind) -> Pc {
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

/// What the descriptors of a process stand for.
pub trait Files: HasPointers {
    /// The map of this declaration that the process has open.
    fn map_fd(&self, decl: u8) -> Option<MapOf<Self>>;
    /// The link of this name that the process has open.
    fn link_fd(&self, name: u8) -> Option<LinkOf<Self>>;
    /// The link of this name that is pinned in bpffs.
    fn pinned_link(&self, name: u8) -> Option<LinkOf<Self>>;
    /// The link is pinned.
    fn is_pinned(&self, link: LinkOf<Self>) -> bool;
    /// The process has the socket open.
    fn sock_fd(&self, sock: u8) -> bool;
    /// The process has the program open.
    fn prog_fd(&self, prog: u8) -> bool;
}

/// The request that an operation of a plan means now; `None` if its target does not exist.
pub fn resolve<F: Files>(files: &F, operation: Operation) -> Option<Request<F::P>> {
    let request = Request {
        kind: operation.kind(),
        ..Request::default()
    };
    Some(match operation {
        Operation::MapCreate { map } => Request {
            arg: map,
            ..request
        },
        Operation::MapUpdate { map }
        | Operation::MapDelete { map }
        | Operation::MapLookup { map }
        | Operation::MapClose { map } => Request {
            map: Some(files.map_fd(map)?),
            ..request
        },
        Operation::LinkCreate { map, cookie, link }
        | Operation::SysBpfLinkCreate { map, cookie, link } => Request {
            map: Some(files.map_fd(map)?),
            cookie,
            arg: link,
            ..request
        },
        Operation::LinkUpdate { link, map, replace } => Request {
            old: match replace {
                Some(old) => Some(files.map_fd(old)?),
                None => None,
            },
            link: Some(files.link_fd(link)?),
            map: Some(files.map_fd(map)?),
            ..request
        },
        Operation::LinkDetach { link }
        | Operation::LinkClose { link }
        | Operation::LinkInfo { link } => Request {
            link: Some(files.link_fd(link)?),
            ..request
        },
        Operation::LinkPin { link } => Request {
            link: Some(files.link_fd(link).filter(|l| !files.is_pinned(*l))?),
            ..request
        },
        Operation::LinkUnpin { link } => Request {
            link: Some(files.pinned_link(link)?),
            ..request
        },
        Operation::SockOpen { key } => Request {
            arg: key,
            ..request
        },
        Operation::SockCall { sock, .. } | Operation::SockClose { sock }
            if !files.sock_fd(sock) =>
        {
            return None;
        }
        Operation::SockCall { sock, member } => Request {
            arg: sock,
            member,
            ..request
        },
        Operation::SockClose { sock } => Request {
            arg: sock,
            ..request
        },
        Operation::Call { entry, member } => Request {
            arg: entry,
            member,
            ..request
        },
        Operation::TestRun { prog } if !files.prog_fd(prog) => return None,
        Operation::TestRun { prog } => Request {
            arg: prog,
            ..request
        },
        Operation::ScxError | Operation::Rmmod | Operation::Exit => request,
    })
}

/// Puts the request into the task's local variables, at its first step.
///
/// # Errors
/// As a step's: an object of the request is gone.
pub fn begin<'w, X: Backend<'w>>(x: &mut X, request: Request<X::P>) -> Step {
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
