//! What an operation's operands stand for at a given moment: those that a plan names, or all that there are.
//!
//! Stands for the way from a descriptor or a path to its object, which the entry of every bpf(2) command goes. Not here:
//! which operands an operation has (`operation`), and whether a request may begin now (`machine`).

use crate::backend::{HasPointers, LinkOf, MapOf, Pointers};
use crate::kernel::{Kernel, LinkKey, MapKey, ScxState, Slots};
use crate::operation::{Needs, OpKind, Operand, Operation, Which};
use crate::pc::Pc;
use crate::subsys::{self, scx_types};
use crate::world::World;

/// The process that `fork` starts.
pub(crate) const CHILD: usize = 1;

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
    /// The cgroup, plus 1. 0: none.
    pub cgroup: u8,
    /// Where in the cgroup's list: [`crate::operation::Position`] as a number.
    pub list_position: u8,
    /// The revision that the cgroup's list must have. 0: any.
    pub revision: u8,
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
            cgroup: 0,
            list_position: 0,
            revision: 0,
        }
    }
}

impl Request {
    /// The same, with another number.
    fn about(self, arg: u8) -> Self {
        Request { arg, ..self }
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
    /// The link of this name, whoever has it open, if anybody has.
    fn link_id(&self, name: u8) -> Option<LinkOf<Self>>;
    /// The map of this declaration that is pinned in bpffs.
    fn pinned_map(&self, decl: u8) -> Option<MapOf<Self>>;
    /// The map is pinned.
    fn map_is_pinned(&self, map: MapOf<Self>) -> bool;
    /// The map of this declaration, whoever has it open, if anybody has.
    fn map_id(&self, decl: u8) -> Option<MapOf<Self>>;
    /// The process has the socket open.
    fn sock_fd(&self, sock: u8) -> bool;
    /// The process has the ring open.
    fn ring_fd(&self, ring: u8) -> bool;
    /// The process has the program open.
    fn prog_fd(&self, prog: u8) -> bool;
}

/// The request that an operation of a plan means now; `None` if its target does not exist.
pub fn resolve<F: Files>(files: &F, operation: Operation) -> Option<Request<F::P>> {
    let mut request = Request {
        kind: operation.kind(),
        ..Request::default()
    };
    for (operand, value) in operation.operands() {
        let Some(value) = value else { continue };
        match operand {
            Operand::NewMap
            | Operand::NewLink
            | Operand::Key
            | Operand::NewRing
            | Operand::Entry
            | Operand::Function => request.arg = value,
            Operand::Map(Which::Open) => request.map = Some(files.map_fd(value)?),
            Operand::Map(Which::Unpinned) => {
                let map = files.map_fd(value).filter(|m| !files.map_is_pinned(*m));
                request.map = Some(map?);
            }
            Operand::Map(Which::Pinned) => request.map = Some(files.pinned_map(value)?),
            // Nobody has such an id: the system call says so.
            Operand::Map(Which::ById) => request.map = files.map_id(value),
            Operand::Link(Which::ById) => request.link = files.link_id(value),
            Operand::Replace => request.old = Some(files.map_fd(value)?),
            Operand::Link(Which::Open) => request.link = Some(files.link_fd(value)?),
            Operand::Link(Which::Unpinned) => {
                let link = files.link_fd(value).filter(|l| !files.is_pinned(*l));
                request.link = Some(link?);
            }
            Operand::Link(Which::Pinned) => request.link = Some(files.pinned_link(value)?),
            Operand::Cookie => request.cookie = value,
            Operand::Cgroup | Operand::Target => request.cgroup = value + 1,
            Operand::Position => request.list_position = value,
            Operand::Revision => request.revision = value,
            Operand::Member => request.member = value,
            Operand::Socket if files.sock_fd(value) => request.arg = value,
            Operand::Ring if files.ring_fd(value) => request.arg = value,
            Operand::Program(_) if files.prog_fd(value) => request.arg = value,
            Operand::Socket | Operand::Ring | Operand::Program(_) => return None,
        }
    }
    Some(request)
}

/// The descriptors of a process: what it has open in a state.
pub(crate) struct Descriptors<'a> {
    pub k: &'a Kernel,
    pub bit: u8,
}

impl HasPointers for Descriptors<'_> {
    type P = Slots;
}

impl Files for Descriptors<'_> {
    fn map_fd(&self, decl: u8) -> Option<MapKey> {
        let mut maps = self.k.maps.iter();
        let map = maps.find(|(_, m)| m.decl == decl && m.fds & self.bit != 0);
        map.map(|m| m.0)
    }

    fn link_fd(&self, name: u8) -> Option<LinkKey> {
        let mut links = self.k.links.iter();
        let link = links.find(|(_, l)| l.name == name && l.fds & self.bit != 0);
        link.map(|l| l.0)
    }

    fn pinned_link(&self, name: u8) -> Option<LinkKey> {
        let mut links = self.k.links.iter();
        let link = links.find(|(_, l)| l.name == name && l.pinned);
        link.map(|l| l.0)
    }

    fn is_pinned(&self, link: LinkKey) -> bool {
        self.k.links.get(link).is_some_and(|l| l.pinned)
    }

    fn link_id(&self, name: u8) -> Option<LinkKey> {
        let mut links = self.k.links.iter();
        links.find(|(_, l)| l.name == name).map(|l| l.0)
    }

    fn pinned_map(&self, decl: u8) -> Option<MapKey> {
        let mut maps = self.k.maps.iter();
        maps.find(|(_, m)| m.decl == decl && m.pinned).map(|m| m.0)
    }

    fn map_is_pinned(&self, map: MapKey) -> bool {
        self.k.maps.get(map).is_some_and(|m| m.pinned)
    }

    fn map_id(&self, decl: u8) -> Option<MapKey> {
        let mut maps = self.k.maps.iter();
        maps.find(|(_, m)| m.decl == decl).map(|m| m.0)
    }

    fn sock_fd(&self, sock: u8) -> bool {
        let sock = self.k.socks.get(usize::from(sock));
        sock.is_some_and(|s| s.kdata.is_some() && s.fds & self.bit != 0)
    }

    fn ring_fd(&self, ring: u8) -> bool {
        let ring = self.k.subsys.rings.get(usize::from(ring));
        ring.is_some_and(|r| r.fds & self.bit != 0)
    }

    fn prog_fd(&self, prog: u8) -> bool {
        self.k.progs[usize::from(prog)].fds & self.bit != 0
    }
}

impl Descriptors<'_> {
    /// Every request of one kind that has a target now.
    pub fn requests(&self, world: &World, kind: OpKind, push: &mut dyn FnMut(Request)) {
        let info = kind.info();
        let now = match info.needs {
            Needs::Scheduler => self.k.subsys.scx.state == ScxState::Enabled,
            Needs::Module => !self.k.module.unloaded,
            Needs::Child => self.k.procs[CHILD].exited,
            _ => !matches!(kind, OpKind::None | OpKind::Exit),
        };
        if !now || !info.operands.iter().all(|o| self.room(world, *o)) {
            return;
        }
        let request = Request {
            kind,
            ..Request::default()
        };
        self.each(world, info.operands, request, push);
    }

    /// Whether there may be one more of what such an operand creates.
    fn room(&self, world: &World, operand: Operand) -> bool {
        let coming = |pcs: &[Pc]| self.k.cpus.iter().filter(|c| pcs.contains(&c.pc)).count();
        match operand {
            Operand::NewLink => {
                let links = self.k.links.len() + coming(&[Pc::LcGet, Pc::LcValid, Pc::LcAlloc]);
                links < usize::from(world.max_links)
            }
            Operand::Key => {
                let free = self.k.socks.iter().filter(|s| s.kdata.is_none());
                free.count() > coming(&[Pc::SockGet])
            }
            Operand::NewRing => {
                let free = self.k.subsys.rings.iter().filter(|r| !r.there);
                free.count() > coming(&[Pc::RingSetup])
            }
            _ => true,
        }
    }

    /// `request` with all that these operands can stand for.
    fn each(
        &self,
        world: &World,
        operands: &[Operand],
        request: Request,
        push: &mut dyn FnMut(Request),
    ) {
        let Some((operand, rest)) = operands.split_first() else {
            return push(request);
        };
        let mut with = |request| self.each(world, rest, request, push);
        let mut numbers = |n: usize, good: &dyn Fn(u8) -> bool| {
            for arg in (0..n as u8).filter(|arg| good(*arg)) {
                with(request.about(arg));
            }
        };
        match operand {
            Operand::NewMap => {
                let exists = |decl| self.k.maps.iter().any(|(_, m)| m.decl == decl);
                numbers(world.maps.len(), &|decl| !exists(decl));
            }
            Operand::Key => numbers(world.keys.len(), &|_| true),
            Operand::NewRing => numbers(world.keys.len(), &|key| {
                let mut rings = self.k.subsys.rings.iter();
                rings.all(|r| r.fds & self.bit == 0 || r.key != key)
            }),
            Operand::Ring => numbers(self.k.subsys.rings.len(), &|ring| self.ring_fd(ring)),
            Operand::Entry if world.has_rings() => {
                numbers(self.k.subsys.rings.len(), &|ring| self.ring_fd(ring));
            }
            Operand::Socket => numbers(self.k.socks.len(), &|sock| self.sock_fd(sock)),
            Operand::Program(runs) => numbers(world.progs.len(), &|prog| {
                runs.is(world.progs[usize::from(prog)].of) && self.prog_fd(prog)
            }),
            Operand::Function => {
                let functions = world.script.functions.len();
                numbers(functions, &|f| world.script.runnable().any(|r| r == f));
            }
            Operand::Entry => {
                let entries = if scx_types(world) {
                    usize::from(self.k.subsys.scx.state == ScxState::Enabled)
                } else {
                    // A probe finds rdesc_ops before the struct is in the list.
                    let rdesc_ops = self.k.subsys.hid.rdesc_ops.is_some();
                    let listed = self.k.subsys.regs.iter().flatten().count();
                    listed.max(usize::from(rdesc_ops))
                };
                numbers(entries, &|_| true);
            }
            Operand::Member => {
                let called = world.called_by(request.kind);
                for member in 0..called.map_or(0, |t| t.members.len()) as u8 {
                    // Of that the device has one.
                    let probe = subsys::call(world, member) == Pc::HidProbe;
                    if !probe || request.arg == 0 {
                        with(Request { member, ..request });
                    }
                }
            }
            Operand::Cookie => {
                // Cookie 0 is none: it is chosen where there is no other one.
                let cookies = world.cookies.len() as u8;
                for cookie in 1.min(cookies - 1)..cookies {
                    with(Request { cookie, ..request });
                }
            }
            // To the end of the list, whatever has happened to it: a plan that says more is fixed.
            Operand::NewLink | Operand::Position | Operand::Revision => with(request),
            Operand::Target if world.cgroups.is_empty() => with(request),
            Operand::Target | Operand::Cgroup => {
                for cgroup in 1..=world.cgroups.len() as u8 {
                    with(Request { cgroup, ..request });
                }
            }
            Operand::Map(which) => {
                for (key, map) in self.k.maps.iter() {
                    if which.is(map.fds & self.bit != 0, map.pinned) {
                        with(Request {
                            map: Some(key),
                            ..request
                        });
                    }
                }
            }
            Operand::Replace => {
                with(request);
                for (key, map) in self.k.maps.iter() {
                    if map.fds & self.bit != 0 {
                        with(Request {
                            old: Some(key),
                            ..request
                        });
                    }
                }
            }
            Operand::Link(which) => {
                for (key, link) in self.k.links.iter() {
                    if which.is(link.fds & self.bit != 0, link.pinned) {
                        with(Request {
                            link: Some(key),
                            ..request
                        });
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Kdata, Link, Map};

    #[test]
    fn who_is_asked_for_by_name_is_found() {
        let mut k = Kernel::default();
        let mut map = |decl, fds, pinned| {
            let plain = Map::default();
            let map = Map {
                decl,
                fds,
                pinned,
                ..plain
            };
            k.maps.insert(map).unwrap()
        };
        // One of another process, one of ours, and one that only a pin holds.
        let maps = [map(0, 2, false), map(1, 1, false), map(2, 0, true)];
        let mut link = |name, fds, pinned| {
            let plain = Link::default();
            let link = Link {
                name,
                fds,
                pinned,
                ..plain
            };
            k.links.insert(link).unwrap()
        };
        let links = [link(0, 2, false), link(1, 1, false), link(2, 0, true)];
        // Sockets: ours, another process's, and one that was closed.
        for (sock, (fds, there)) in [(1, true), (2, true), (1, false)].into_iter().enumerate() {
            if let Some(place) = k.socks.get_mut(sock) {
                place.fds = fds;
                place.kdata = there.then(|| k.kdatas.insert(Kdata::default()).unwrap());
            }
        }
        (k.subsys.rings[0].fds, k.progs[0].fds, k.progs[1].fds) = (1, 1, 2);
        let ours = Descriptors { k: &k, bit: 1 };
        let socks: Vec<bool> = (0..k.socks.len() as u8).map(|s| ours.sock_fd(s)).collect();
        assert_eq!(socks[..2], [true, false]);
        assert!(!socks[2..].contains(&true));
        assert_eq!([0, 1].map(|ring| ours.ring_fd(ring)), [true, false]);
        assert_eq!(
            [0, 1, 2].map(|prog| ours.prog_fd(prog)),
            [true, false, false]
        );
        let found = |find: &dyn Fn(u8) -> Option<usize>| [0, 1, 2, 3].map(find);
        let slot = |key: Option<MapKey>| key.map(|k| k.slot());
        assert_eq!(maps.map(|m| m.slot()), [0, 1, 2]);
        assert_eq!(
            found(&|d| slot(ours.map_fd(d))),
            [None, Some(1), None, None]
        );
        assert_eq!(
            found(&|d| slot(ours.pinned_map(d))),
            [None, None, Some(2), None]
        );
        assert_eq!(
            found(&|d| slot(ours.map_id(d))),
            [Some(0), Some(1), Some(2), None]
        );
        assert_eq!(maps.map(|m| ours.map_is_pinned(m)), [false, false, true]);
        let slot = |key: Option<LinkKey>| key.map(|k| k.slot());
        assert_eq!(links.map(|l| l.slot()), [0, 1, 2]);
        assert_eq!(
            found(&|n| slot(ours.link_fd(n))),
            [None, Some(1), None, None]
        );
        assert_eq!(
            found(&|n| slot(ours.pinned_link(n))),
            [None, None, Some(2), None]
        );
        assert_eq!(
            found(&|n| slot(ours.link_id(n))),
            [Some(0), Some(1), Some(2), None]
        );
        assert_eq!(links.map(|l| ours.is_pinned(l)), [false, false, true]);
    }
}
