//! What processes have open, what programs are tied to, and the module, in the explorer's tables.

use super::Tables;
use crate::assoc::Assoc;
use crate::backend::{Backend, OpenFile, Processes, Step};
use crate::kernel::{Kernel, MapKey, Mask, MoreFds, Proc, Slots};
use crate::request::CHILD;

/// The child gets the fds of its parent: how many.
fn inherit(fds: &mut Mask, more: &mut MoreFds, parent: usize) -> u8 {
    if *fds & 1 << parent == 0 {
        return 0;
    }
    *fds |= 1 << CHILD;
    more.0[CHILD] = more.0[parent];
    1 + more.0[CHILD]
}

impl Tables<'_> {
    /// Links, sockets, rings and maps that the CPU's process has open.
    pub(crate) fn open_files(k: &Kernel, proc: u8) -> u8 {
        let bit = 1 << proc;
        let links = k.links.iter().filter(|(_, l)| l.fds & bit != 0).count();
        let socks = k
            .socks
            .iter()
            .filter(|s| s.kdata.is_some() && s.fds & bit != 0)
            .count();
        let rings = k.subsys.rings.iter().filter(|r| r.fds & bit != 0).count();
        let maps = k.maps.iter().filter(|(_, m)| m.fds & bit != 0).count();
        (links + socks + rings + maps) as u8
    }
}

impl Processes for Tables<'_> {
    // ---- programs, processes and the module --------------------------------------------------------

    fn has_prog_fd(&mut self, prog: u8) -> bool {
        self.k.progs[usize::from(prog)].fds & self.proc_bit() != 0
    }

    fn close_prog_fd(&mut self, prog: u8) {
        self.counted = true;
        self.progs_counted = true;
        let bit = self.proc_bit();
        self.k.progs[usize::from(prog)].fds &= !bit;
    }

    fn prog_freed(&mut self, prog: u8) -> bool {
        self.k.progs[usize::from(prog)].freed
    }

    fn assoc(&mut self, prog: u8) -> Assoc<MapKey> {
        self.k.progs[usize::from(prog)].assoc
    }

    fn change_assoc<T>(&mut self, prog: u8, change: impl FnOnce(&mut Assoc<MapKey>) -> T) -> T {
        self.counted = true;
        change(&mut self.k.progs[usize::from(prog)].assoc)
    }

    fn set_armed(&mut self, prog: u8, to: bool) -> bool {
        self.counted = true;
        self.progs_counted = true;
        std::mem::replace(&mut self.k.progs[usize::from(prog)].armed, to)
    }

    fn free_prog(&mut self, prog: u8) {
        self.k.progs[usize::from(prog)].free_if_elapsed();
    }

    fn count_operation(&mut self) {
        // What removes the rest once a process is gone belongs to no plan.
        if !self.k.procs[usize::from(self.proc())].exiting {
            self.cpu().position += 1;
        }
    }

    fn begin_exit(&mut self) {
        let proc = self.proc();
        self.k.procs[usize::from(proc)].exiting = true;
        // How far the threads' plans had come means nothing any more.
        for (cpu, decl) in self.k.cpus.iter_mut().zip(&self.world.cpus) {
            if decl.proc == proc {
                cpu.position = 0;
            }
        }
    }

    fn open_file(&mut self) -> Option<OpenFile<Slots>> {
        let bit = self.proc_bit();
        let links = self.k.links.iter().filter(|(_, l)| l.fds & bit != 0);
        let links = links.map(|(key, _)| OpenFile::Link(key));
        let socks = (0u8..).zip(&self.k.socks);
        let socks = socks.filter(|(_, s)| s.kdata.is_some() && s.fds & bit != 0);
        let socks = socks.map(|(place, _)| OpenFile::Sock(place));
        let maps = self.k.maps.iter().filter(|(_, m)| m.fds & bit != 0);
        let maps = maps.map(|(key, _)| OpenFile::Map(key));
        let rings = (0u8..).zip(&self.k.subsys.rings);
        let rings = rings.filter(|(_, r)| r.fds & bit != 0);
        let rings = rings.map(|(place, _)| OpenFile::Ring(place));
        let mut files = links.chain(socks).chain(rings).chain(maps);
        let file = files.nth(usize::from(self.choice));
        file.or_else(|| {
            let prog = (0..self.world.progs.len()).find(|i| self.k.progs[*i].fds & bit != 0);
            prog.map(|prog| OpenFile::Prog(prog as u8))
        })
    }

    fn process_is_gone(&mut self) {
        self.k.procs[usize::from(self.proc())].exited = true;
    }

    fn dup_fd(&mut self) -> Step<bool> {
        let child = &mut self.k.procs[CHILD];
        if !child.exited {
            return Ok(false);
        }
        *child = Proc::default();
        self.counted = true;
        self.progs_counted = true;
        let (parent, bit) = (usize::from(self.proc()), 1 << CHILD);
        for map in self.k.maps.values_mut() {
            map.refs += inherit(&mut map.fds, &mut map.more, parent);
        }
        for link in self.k.links.values_mut() {
            link.refs += inherit(&mut link.fds, &mut link.more, parent);
        }
        for prog in &mut self.k.progs {
            if prog.fds & 1 << parent != 0 {
                prog.fds |= bit;
                prog.refs += 1;
            }
        }
        for sock in &mut self.k.socks {
            if sock.fds & 1 << parent != 0 {
                sock.fds |= bit;
            }
        }
        for ring in &mut self.k.subsys.rings {
            if ring.fds & 1 << parent != 0 {
                ring.fds |= bit;
            }
        }
        Ok(true)
    }

    fn try_module_get(&mut self) -> bool {
        let module = &mut self.k.module;
        module.refs += u8::from(!module.unloaded);
        !module.unloaded
    }

    fn module_unloaded(&mut self) -> bool {
        self.k.module.unloaded
    }

    fn unload_module(&mut self) -> bool {
        let module = &mut self.k.module;
        module.unloaded |= module.refs == 0;
        module.refs == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Kernel, Link, Map, Prog};
    use crate::tables::alone::on;
    use crate::world::{CpuDecl, Plan, World};

    #[test]
    fn a_child_has_what_its_parent_has() {
        let world = World {
            cpus: vec![CpuDecl {
                proc: 0,
                plan: Plan::Fixed(Vec::new()),
            }],
            ..World::default()
        };
        // What only a pin holds is nobody's.
        let (ours, others) = (1, 0);
        let mut k = Kernel::default();
        k.procs[CHILD].exited = true;
        let map = |fds| Map {
            fds,
            refs: 1,
            ..Map::default()
        };
        let maps = [ours, others].map(|fds| k.maps.insert(map(fds)).unwrap());
        let link = |fds| Link {
            fds,
            refs: 1,
            ..Link::default()
        };
        let links = [ours, others].map(|fds| k.links.insert(link(fds)).unwrap());
        for (prog, fds) in [ours, others].into_iter().enumerate() {
            k.progs[prog] = Prog {
                fds,
                refs: 1,
                ..Prog::default()
            };
        }
        (k.socks[0].fds, k.socks[1].fds) = (ours, others);
        (k.subsys.rings[0].fds, k.subsys.rings[1].fds) = (ours, others);
        let forked = on(&world, &mut k, 0, |x| x.dup_fd().unwrap_or(false));
        assert!(forked && !k.procs[CHILD].exited);
        let both = ours | 1 << CHILD;
        assert_eq!(
            maps.map(|m| (k.maps[m].fds, k.maps[m].refs)),
            [(both, 2), (others, 1)]
        );
        assert_eq!(
            links.map(|l| (k.links[l].fds, k.links[l].refs)),
            [(both, 2), (others, 1)]
        );
        assert_eq!(
            [0, 1].map(|p| (k.progs[p].fds, k.progs[p].refs)),
            [(both, 2), (others, 1)]
        );
        assert_eq!([k.socks[0].fds, k.socks[1].fds], [both, others]);
        assert_eq!(
            [k.subsys.rings[0].fds, k.subsys.rings[1].fds],
            [both, others]
        );
        // There is one child at a time.
        assert!(!on(&world, &mut k, 0, |x| x.dup_fd().unwrap_or(true)));
    }
}
