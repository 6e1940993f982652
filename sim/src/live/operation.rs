//! How operations begin on a task, and how a process ends.
//!
//! Stands for the entry of the bpf(2) commands (fd to object) and of exit_files(). From the descriptor to what the
//! first step does with its object nobody comes between: all of it is under `files`. Not here: what an operation does,
//! which is the model's, and who calls what (`round`).

use struct_ops_model::backend::{HasPointers, OpenFile, Step, Stop};
use struct_ops_model::kernel::MapState;
use struct_ops_model::proc::{self, Files};
use struct_ops_model::world::{OpKind, Operand, Operation};
use struct_ops_model::{Request, errno};

use super::event::Ask;
use super::object::{Link, Place, Places, StMap};
use super::runtime::Runtime;
use super::sync::atomic::Ordering::SeqCst;
use super::sync::relax;
use super::task::Task;

impl Task<'_> {
    /// Carries out an operation: its result, or nothing if a fault has ended the run.
    pub fn carry_out(&mut self, operation: Operation) -> Option<i8> {
        // The end of a plan: the process ends when all its threads have come there.
        if operation.kind() == OpKind::Exit {
            return Some(0);
        }
        let done = self.operate(operation);
        self.done(done)
    }

    /// exit_group(2).
    pub(crate) fn exit_group(&mut self) -> Option<i8> {
        let done = self.request(Request {
            kind: OpKind::Exit,
            ..Request::default()
        });
        self.done(done)
    }

    /// bpffs is unmounted and registered plain maps are unregistered: what outlives its process goes.
    pub(crate) fn remove_rest(&mut self) -> Option<i8> {
        let done = self.remove();
        self.done(done)
    }

    fn done(&mut self, done: Step) -> Option<i8> {
        if done.is_err() {
            self.give_up();
        }
        done.ok().map(|()| self.result)
    }

    fn operate(&mut self, operation: Operation) -> Step {
        let kind = operation.kind();
        let member = match operation {
            Operation::Call { member, .. } => member,
            _ => 0,
        };
        self.begin(proc::first_step(&self.rt.world, kind, member))?;
        let rt = self.rt;
        let files = kind.names_files().then(|| rt.files.lock());
        let Some(request) = self.resolve(operation)? else {
            self.ask(Ask::default());
            self.result = errno::EBADF;
            self.cpu.err = errno::EBADF;
            self.end();
            self.cpu.err = 0;
            return Ok(());
        };
        self.start(request)?;
        drop(files);
        self.run()
    }

    /// The objects that the operation's descriptors stand for now. A socket is locked with it, once it is free.
    fn resolve(&mut self, operation: Operation) -> Step<Option<Request<Places>>> {
        let mut tries = 0;
        loop {
            let request = proc::resolve(self, operation);
            let sock = match request {
                Some(r) if r.kind.has(Operand::Socket) => r.arg,
                other => return Ok(other),
            };
            if self.rt.take_open_sock(sock, self.actor, self.bit()) {
                return Ok(request);
            }
            if self.rt.dead.load(SeqCst) {
                return Err(Stop);
            }
            relax(&mut tries);
        }
    }

    /// A request whose objects are known without a descriptor.
    fn request(&mut self, request: Request<Places>) -> Step {
        let first = proc::first_step(&self.rt.world, request.kind, request.member);
        self.begin(first)?;
        self.start(request)?;
        self.run()
    }

    /// The first step, which is open already.
    fn start(&mut self, request: Request<Places>) -> Step {
        self.ask(Ask {
            kind: request.kind,
            map: request.map.map(Place::number),
            old: request.old.map(Place::number),
            link: request.link.map(Place::number),
            cookie: request.cookie,
            arg: request.arg,
            member: request.member,
        });
        self.result = 0;
        self.cpu.err = 0;
        proc::begin(self, request)?;
        self.first = true;
        let taken = self.take();
        self.first = false;
        taken?;
        self.end();
        Ok(())
    }

    fn remove(&mut self) -> Step {
        for (link, object) in self.rt.links.all() {
            if object.pinned.load(SeqCst) {
                self.request(Request {
                    kind: OpKind::LinkUnpin,
                    link: Some(link),
                    ..Request::default()
                })?;
            }
        }
        for (map, object) in self.rt.maps.all() {
            if object.pinned.load(SeqCst) {
                self.request(Request {
                    kind: OpKind::MapUnpin,
                    map: Some(map),
                    ..Request::default()
                })?;
            }
        }
        for (map, object) in self.rt.maps.all() {
            let link = self.rt.world.maps[usize::from(object.decl)].link;
            if object.state() == MapState::InUse && !link {
                self.request(Request {
                    kind: OpKind::MapDelete,
                    map: Some(map),
                    ..Request::default()
                })?;
            }
        }
        Ok(())
    }

    /// What the process has to close by name before it ends, because numbers alone do not say in which order the
    /// model would close it: open links and maps, if there are several and some have gone before.
    pub(crate) fn ambiguous(&self) -> Vec<Operation> {
        let open = |fds: u8| fds & self.bit() != 0;
        let (links, maps) = (self.rt.links.all(), self.rt.maps.all());
        let links = links.iter().filter(|l| open(l.1.fds.load(SeqCst)));
        let maps = maps.iter().filter(|m| open(m.1.fds.load(SeqCst)));
        let mut close: Vec<Operation> = Vec::new();
        if self.rt.links.reused() && links.clone().count() > 1 {
            close.extend(links.map(|l| Operation::LinkClose { link: l.1.name }));
        }
        if self.rt.maps.reused() && maps.clone().count() > 1 {
            close.extend(maps.map(|m| Operation::MapClose { map: m.1.decl }));
        }
        close
    }
}

impl Files for Task<'_> {
    fn map_fd(&self, decl: u8) -> Option<Place<StMap>> {
        let bit = self.bit();
        let maps = &self.rt.maps;
        maps.find(|m| m.decl == decl && m.fds.load(SeqCst) & bit != 0)
    }

    fn link_fd(&self, name: u8) -> Option<Place<Link>> {
        let bit = self.bit();
        let links = &self.rt.links;
        links.find(|l| l.name == name && l.fds.load(SeqCst) & bit != 0)
    }

    fn pinned_link(&self, name: u8) -> Option<Place<Link>> {
        let links = &self.rt.links;
        links.find(|l| l.name == name && l.pinned.load(SeqCst))
    }

    fn is_pinned(&self, link: Place<Link>) -> bool {
        self.rt.links.get(link).pinned.load(SeqCst)
    }

    fn link_id(&self, name: u8) -> Option<Place<Link>> {
        self.rt.links.find(|l| l.name == name)
    }

    fn pinned_map(&self, decl: u8) -> Option<Place<StMap>> {
        let maps = &self.rt.maps;
        maps.find(|m| m.decl == decl && m.pinned.load(SeqCst))
    }

    fn map_is_pinned(&self, map: Place<StMap>) -> bool {
        self.rt.maps.get(map).pinned.load(SeqCst)
    }

    fn map_id(&self, decl: u8) -> Option<Place<StMap>> {
        self.rt.maps.find(|m| m.decl == decl)
    }

    fn sock_fd(&self, sock: u8) -> bool {
        let socks = self.rt.socks.lock();
        let sock = socks.get(usize::from(sock));
        sock.is_some_and(|s| s.kdata.is_some() && s.fds & self.bit() != 0)
    }

    fn ring_fd(&self, _: u8) -> bool {
        false
    }

    fn prog_fd(&self, prog: u8) -> bool {
        self.rt.progs[usize::from(prog)].fds.load(SeqCst) & self.bit() != 0
    }
}

impl Runtime {
    /// The first file, programs last, that a process has open.
    pub(crate) fn open_file(&self, bit: u8) -> Option<OpenFile<<Task<'static> as HasPointers>::P>> {
        let open = |fds: u8| fds & bit != 0;
        if let Some(link) = self.links.find(|l| open(l.fds.load(SeqCst))) {
            return Some(OpenFile::Link(link));
        }
        let sock = self
            .socks
            .lock()
            .iter()
            .position(|s| s.kdata.is_some() && open(s.fds));
        if let Some(sock) = sock {
            return Some(OpenFile::Sock(sock as u8));
        }
        if let Some(map) = self.maps.find(|m| open(m.fds.load(SeqCst))) {
            return Some(OpenFile::Map(map));
        }
        let prog = self.progs.iter().position(|p| open(p.fds.load(SeqCst)));
        prog.map(|prog| OpenFile::Prog(prog as u8))
    }
}
