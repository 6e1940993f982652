//! Locks and RCU in the explorer's tables: holders, which locks were taken while which were held, readers.

use super::Tables;
use crate::backend::{Backend, Locking, Step};
use crate::invariant::Invariant;
use crate::kernel::{CpuId, Deferred, Mask, Readers, Slots, Srcu, Stage};
use crate::lock::{Lock, LockClass, Nested};
use crate::pc::Pc;
use crate::script::Statement;

impl Tables<'_> {
    /// The readers of a domain of SRCU.
    fn srcu(&mut self, domain: Srcu) -> &mut Mask {
        match domain {
            Srcu::HidDevice => &mut self.k.subsys.hid.readers,
            Srcu::Own(own) => &mut self.k.subsys.own.readers[usize::from(own)],
        }
    }

    /// A grace period that begins now waits for these readers.
    pub(super) fn grace_period(&self, stage: Stage) -> Deferred {
        let mut begun = Deferred {
            stage,
            ..Deferred::default()
        };
        if matches!(stage, Stage::Rcu | Stage::RcuAndTasks) {
            begun.rcu = self.k.readers(|r| r.rcu > 0);
        }
        if stage == Stage::Srcu {
            let domains = self.k.subsys.own.readers.iter();
            let hid = self.k.subsys.hid.readers;
            begun.rcu = domains.fold(hid, |all, readers| all | readers);
        }
        if matches!(stage, Stage::Tasks | Stage::RcuAndTasks) {
            begun.tasks = self.k.readers(|r| r.tasks);
        }
        if stage == Stage::Trace {
            begun.trace = self.k.readers(|r| r.trace > 0);
        }
        begun
    }

    fn end_reader(
        &mut self,
        leave: impl Fn(&mut Readers) -> bool,
        clear: impl Fn(&mut Deferred, Mask),
    ) {
        if !leave(&mut self.cpu().readers) {
            return;
        }
        let mask = !(1 << self.cpu);
        for map in self.k.maps.values_mut() {
            clear(&mut map.free, mask);
        }
        for kdata in self.k.kdatas.values_mut() {
            clear(&mut kdata.free, mask);
        }
        for prog in &mut self.k.progs {
            clear(&mut prog.free, mask);
            prog.free_if_elapsed();
        }
        for cpu in &mut self.k.cpus {
            clear(&mut cpu.wait, mask);
        }
    }

    /// Where the holder of a lock is noted; `None` for locks that are released in the step that takes them.
    fn holder(&mut self, lock: Lock) -> Step<Option<&mut Option<CpuId>>> {
        Ok(match lock {
            Lock::Map(map) => Some(&mut self.map(map)?.lock),
            Lock::Sock(sock) => Some(&mut self.k.socks[usize::from(sock)].busy),
            Lock::Prog(_) => None,
            Lock::Ring(ring) => Some(&mut self.k.subsys.rings[usize::from(ring)].lock),
            Lock::Own(own) => Some(&mut self.k.subsys.own.locks[usize::from(own)]),
            Lock::The(class) => class.place().map(|place| &mut self.k.locks[place]),
        })
    }

    /// Notes which locks the CPU holds while it takes one of this class.
    fn note_nesting(&mut self, taken: LockClass) {
        let me = Some(self.cpu);
        let mut held = self.within;
        for (class, holder) in LockClass::ALL.iter().zip(&self.k.locks) {
            held |= u32::from(*holder == me) << *class as u32;
        }
        let map = self.k.maps.iter().any(|(_, m)| m.lock == me);
        let sock = self.k.socks.iter().any(|s| s.busy == me);
        let ring = self.k.subsys.rings.iter().any(|r| r.lock == me);
        held |= u32::from(map) << LockClass::StMap as u32
            | u32::from(sock) << LockClass::Sock as u32
            | u32::from(ring) << LockClass::Uring as u32;
        if !self.world.script.locks.is_empty() {
            let own = &self.k.subsys.own;
            // A work item has no bit: it runs none of their functions.
            let bit = 1u8.checked_shl(self.cpu.into()).unwrap_or(0);
            for (place, class) in LockClass::OWN.into_iter().enumerate() {
                let mine = own.locks[place] == me || own.shared[place] & bit != 0;
                held |= u32::from(mine) << class as u32;
            }
        }
        if held == 0 {
            return;
        }
        self.report.witness(Invariant::LockOrder);
        let step = self.pc;
        for class in LockClass::ALL {
            if held & 1 << *class as u32 != 0 {
                self.report.nest(Nested {
                    held: *class,
                    taken,
                    step,
                });
            }
        }
    }
}

impl Locking for Tables<'_> {
    // ---- locks -------------------------------------------------------------------------------------

    fn lock(&mut self, lock: Lock) -> Step {
        let cpu = self.cpu;
        self.note_nesting(lock.class());
        if let Some(holder) = self.holder(lock)? {
            debug_assert_eq!(*holder, None, "{lock:?} is taken, and {cpu} did not wait");
            *holder = Some(cpu);
        } else {
            self.within |= 1 << lock.class() as u32;
        }
        Ok(())
    }

    fn unlock(&mut self, lock: Lock) -> Step {
        if let Some(holder) = self.holder(lock)? {
            *holder = None;
        } else {
            self.within &= !(1 << lock.class() as u32);
        }
        Ok(())
    }

    fn lock_shared(&mut self, own: u8) {
        self.note_nesting(Lock::<Slots>::Own(own).class());
        let me = 1 << self.cpu;
        self.k.subsys.own.shared[usize::from(own)] |= me;
    }

    fn holds_lock(&mut self, lock: Lock) -> bool {
        let cpu = self.cpu;
        matches!(self.holder(lock), Ok(Some(holder)) if *holder == Some(cpu))
    }

    // ---- RCU ---------------------------------------------------------------------------------------

    fn rcu_read_lock(&mut self) {
        self.cpu().readers.rcu += 1;
    }

    fn rcu_read_unlock(&mut self) {
        self.end_reader(
            |r| {
                r.rcu -= 1;
                r.rcu == 0
            },
            |d, m| {
                if d.stage != Stage::Srcu {
                    d.rcu &= m;
                }
            },
        );
    }

    fn rcu_read_lock_trace(&mut self) {
        self.cpu().readers.trace += 1;
    }

    fn rcu_read_unlock_trace(&mut self) {
        self.end_reader(
            |r| {
                r.trace -= 1;
                r.trace == 0
            },
            |d, m| d.trace &= m,
        );
    }

    fn tasks_enter(&mut self) {
        self.cpu().readers.tasks = true;
    }

    fn tasks_quiescent(&mut self) {
        self.end_reader(
            |r| {
                r.tasks = false;
                true
            },
            |d, m| d.tasks &= m,
        );
    }

    fn wait_begin(&mut self, stage: Stage) {
        let begun = self.grace_period(stage);
        self.cpu().wait = begun;
    }

    fn waited(&mut self) -> Stage {
        self.cpu().wait.stage
    }

    fn srcu_read_lock(&mut self, domain: Srcu) {
        let me = 1 << self.cpu;
        *self.srcu(domain) |= me;
    }

    fn srcu_read_unlock(&mut self, domain: Srcu) {
        let mask = !(1 << self.cpu);
        *self.srcu(domain) &= mask;
        let (own, hid) = (&self.k.subsys.own.readers, self.k.subsys.hid.readers);
        let in_none = own.iter().chain([&hid]).all(|r| r & !mask == 0);
        let maps = self.k.maps.values_mut().map(|m| &mut m.free);
        let attachments = self.k.kdatas.values_mut().map(|d| &mut d.free);
        for free in maps.chain(attachments) {
            // A free waits for all domains.
            if in_none && free.stage == Stage::Srcu {
                free.rcu &= mask;
            }
        }
        for cpu in &mut self.k.cpus {
            let waits_for = match cpu.pc {
                Pc::HidRegSynced | Pc::HidUnregSynced => Some(Srcu::HidDevice),
                Pc::ScriptWaited if cpu.wait.stage == Stage::Srcu => {
                    let line = &self.world.script.lines[usize::from(cpu.line)];
                    match line.statements.last() {
                        Some(Statement::SynchronizeSrcu(own)) => Some(Srcu::Own(*own)),
                        _ => None,
                    }
                }
                _ => None,
            };
            if waits_for == Some(domain) {
                cpu.wait.rcu &= mask;
            }
        }
    }

    fn srcu_wait_begin(&mut self, domain: Srcu) {
        let readers = *self.srcu(domain);
        self.cpu().wait = Deferred {
            stage: Stage::Srcu,
            rcu: readers,
            ..Deferred::default()
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Kernel, Map};
    use crate::tables::alone::on;
    use crate::world::World;

    /// The readers that the free of the only map still waits for.
    fn waited_for(k: &Kernel) -> u8 {
        k.maps.iter().map(|(_, m)| m.free.rcu).sum()
    }

    #[test]
    fn a_free_waits_for_the_readers_of_every_domain() {
        let world = World::default();
        let mut k = Kernel::default();
        let domains = [Srcu::HidDevice, Srcu::Own(0), Srcu::Own(1)];
        for (cpu, domain) in (0..).zip(domains) {
            on(&world, &mut k, cpu, |x| x.srcu_read_lock(domain));
        }
        // The last of them is in two.
        on(&world, &mut k, 2, |x| x.srcu_read_lock(Srcu::HidDevice));
        let free = on(&world, &mut k, 3, |x| x.grace_period(Stage::Srcu));
        assert_eq!((free.rcu, free.tasks, free.trace), (0b111, 0, 0));
        let map = Map {
            free,
            ..Map::default()
        };
        k.maps.insert(map).unwrap();
        let mut leaves = |cpu, domain| {
            on(&world, &mut k, cpu, |x| x.srcu_read_unlock(domain));
            waited_for(&k)
        };
        assert_eq!(leaves(2, Srcu::HidDevice), 0b111);
        assert_eq!(leaves(0, Srcu::HidDevice), 0b110);
        assert_eq!(leaves(2, Srcu::Own(1)), 0b010);
        assert_eq!(leaves(1, Srcu::Own(0)), 0);
    }

    #[test]
    fn a_grace_period_waits_for_readers_of_its_kind() {
        let world = World::default();
        let mut k = Kernel::default();
        k.cpus[0].readers.rcu = 1;
        k.cpus[1].readers.tasks = true;
        k.cpus[2].readers.trace = 2;
        let waits = |k: &mut Kernel, stage| {
            let begun = on(&world, k, 3, |x| x.grace_period(stage));
            assert_eq!(begun.stage, stage);
            [begun.rcu, begun.tasks, begun.trace]
        };
        for (stage, expected) in [
            (Stage::None, [0, 0, 0]),
            (Stage::Queued, [0, 0, 0]),
            (Stage::Rcu, [1, 0, 0]),
            (Stage::Tasks, [0, 2, 0]),
            (Stage::Trace, [0, 0, 4]),
            (Stage::RcuAndTasks, [1, 2, 0]),
            (Stage::Srcu, [0, 0, 0]),
        ] {
            assert_eq!(waits(&mut k, stage), expected, "{stage:?}");
        }
    }
}
