//! How operations begin and processes end.
//!
//! Stands for what the bpf(2) commands do before their own work, and for exit_files() and dup_fd() of fs/file.c. An operation whose
//! fd is not open returns -EBADF and is not worth a step.

use crate::backend::{Backend, OpenFile, Step, event};
use crate::errno;
use crate::kernel::{Cpu, Holds};
use crate::operation::{Entry, OpKind};
use crate::pc::Pc;
use crate::proc::refs::{map_inc, prog_put};
use crate::request::Request;
use crate::subsys;
use crate::world::World;

/// The first step of an operation; a call's depends on the member.
pub fn first_step(world: &World, kind: OpKind, member: u8) -> Pc {
    let first = kind.info().first;
    first.unwrap_or_else(|| subsys::call(world, member))
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
    cpu.cgroup = request.cgroup;
    cpu.list_position = request.list_position;
    cpu.revision = request.revision;
    x.count_operation();
    match request.kind.info().entry {
        Entry::Plain => {}
        Entry::Fdget => {
            let map = x.my_map();
            map_inc(x, map)?;
            x.cpu().holds |= Holds::MAP;
        }
        Entry::Program => {
            x.rcu_read_lock_trace();
            event!(x, "a syscall program runs under rcu_read_lock_trace()");
        }
        Entry::Exit => x.begin_exit(),
        Entry::Function => return subsys::script::enter(x, request.arg),
    }
    let first = first_step(x.world(), request.kind, request.member);
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
            Some(OpenFile::Ring(ring)) => {
                x.cpu().arg = ring;
                event!(x, "closes a ring");
                x.goto(Pc::RingClose)
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
        Pc::Fork => {
            if !x.dup_fd()? {
                event!(x, "the model has room for one child, which lives");
                return x.fail(errno::EAGAIN, Pc::Finish);
            }
            event!(x, "the child has every fd of its parent");
            x.goto(Pc::Finish)
        }
        Pc::ProgRelease => {
            let prog = std::mem::take(&mut x.cpu().arg);
            x.close_prog_fd(prog);
            prog_put(x, prog)?;
            x.goto(Pc::Finish)
        }
        Pc::Finish => {
            if x.cpu().op.info().entry == Entry::Program {
                x.rcu_read_unlock_trace();
            }
            x.returns()
        }
        _ => unreachable!("not a step of a system call's begin or end"),
    }
}
