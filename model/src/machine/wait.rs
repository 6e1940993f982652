//! What keeps a CPU from its next step, or from its next system call: a lock, a grace period, a flag.
//!
//! A lock is free when the step that takes it begins: no step waits half way. Not here: who holds a lock
//! ([`crate::lock`]), and whose readers a grace period waits for (`tables`).

use super::Machine;
use crate::design::Twin;
use crate::kernel::{CgroupState, Cpu, CpuId, Deferred, Kernel, MapKey};
use crate::lock::{Lock, LockClass};
use crate::operation::{Arg, OpKind, Operation};
use crate::pc::Pc;
use crate::place::Linux;
use crate::proc::syscall;
use crate::request::Request;
use crate::script::{Mode, Statement};
use crate::table::Key;
use crate::world::Plan;

/// What a CPU waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// A lock, and the CPU that holds it.
    Lock(Lock, CpuId),
    /// Readers of a grace period.
    GracePeriod(Deferred),
    /// A flag of the scenario's own subsystem, by its index.
    Flag(u8),
    /// A ring, whose file this CPU uses.
    Ring(u8, CpuId),
}

impl Machine {
    /// Requests that block before their first step: for its lock, and an exit for the other threads of its process.
    pub(super) fn may_begin(&self, k: &Kernel, cpu: CpuId, request: &Request) -> bool {
        let first = syscall::first_step(&self.world, request.kind, request.member);
        let lock = self.lock_of(first, request.map, request.arg, 0);
        if lock.and_then(|l| holder(k, l)).is_some() {
            return false;
        }
        if request.kind == OpKind::Exit {
            let proc = self.world.cpus[usize::from(cpu)].proc;
            let mut cpus = self.world.cpus.iter().enumerate();
            return cpus.all(|(i, c)| c.proc != proc || k.cpus[i].pc == Pc::Idle);
        }
        if request.kind == OpKind::Run {
            let function = &self.world.script.functions[usize::from(request.arg)];
            return self.line_waits(k, function.first).is_none();
        }
        // A file that an exit is about to close is no file any more.
        let closes = match request.kind.info().arg {
            Arg::Sock => Pc::SockRelease,
            Arg::Ring => Pc::RingClose,
            _ => return true,
        };
        let closing = |c: &Cpu| c.pc == closes && c.arg == request.arg;
        !k.cpus.iter().any(closing)
    }

    /// Whether the CPU's next step can be taken now: its lock is free, its grace period over.
    pub fn can_move(&self, k: &Kernel, cpu: CpuId) -> bool {
        k.cpus[usize::from(cpu)].pc != Pc::Idle && self.waits_for(k, cpu).is_none()
    }

    /// What keeps the CPU from its next step.
    pub fn waits_for(&self, k: &Kernel, cpu: CpuId) -> Option<Wait> {
        if self.waiting.contains(k.cpus[usize::from(cpu)].pc) {
            return self.holds_up(k, cpu);
        }
        debug_assert_eq!(
            self.holds_up(k, cpu),
            None,
            "not known as a step that may wait"
        );
        None
    }

    /// The same, whether or not it is known that the step may have to wait.
    fn holds_up(&self, k: &Kernel, cpu: CpuId) -> Option<Wait> {
        let c = &k.cpus[usize::from(cpu)];
        if c.pc == Pc::Script {
            return self.line_waits(k, c.line);
        }
        if c.pc == Pc::CgRelease
            && let Some(wait) = self.waits_for_children(k, c)
        {
            return Some(wait);
        }
        if c.pc == Pc::RingExit
            && let Some(user) = user_of_ring(k, cpu)
        {
            return Some(Wait::Ring(c.ring - 1, user));
        }
        if let Some(lock) = self.lock_of(c.pc, c.map, c.arg, c.ring) {
            return holder(k, lock).map(|h| Wait::Lock(lock, h));
        }
        let waits = crate::proc::waits(c.pc) && !c.wait.elapsed();
        waits.then_some(Wait::GracePeriod(c.wait))
    }

    /// Whether a step may have to wait, as `holds_up` says of each: most steps never have to.
    pub(super) fn may_wait(&self, step: Pc) -> bool {
        let lock = self.lock_of(step, Some(Key::new(0)), 0, 1);
        let others = matches!(step, Pc::Script | Pc::CgRelease | Pc::RingExit);
        lock.is_some() || others || crate::proc::waits(step)
    }

    /// A cgroup is released after all that are below it, which hold its `cgrp->bpf.refcnt`.
    fn waits_for_children(&self, k: &Kernel, c: &Cpu) -> Option<Wait> {
        let cgroup = c.cgroup.checked_sub(1)?;
        let mut below = self.world.descendants(cgroup).skip(1);
        let child =
            below.find(|b| k.subsys.cgroups[usize::from(*b)].state != CgroupState::Released)?;
        let mut others = k.cpus.iter();
        let other = others.find(|o| o.pc == Pc::CgRelease && o.cgroup == child + 1);
        Some(Wait::GracePeriod(other.map_or(c.wait, |o| o.wait)))
    }

    /// The lock that a step takes which begins when that lock is free: of the CPU's map, of the socket or ring `arg`, or
    /// of the ring that the procedure is about.
    #[inline]
    fn lock_of(&self, pc: Pc, map: Option<MapKey>, arg: u8, ring: u8) -> Option<Lock> {
        let the = |class| Some(Lock::The(class));
        match pc {
            Pc::UpdLock => map.map(Lock::Map),
            Pc::LcLock | Pc::LuLock | Pc::LdLock => the(LockClass::UpdateMutex),
            Pc::SingletonReg | Pc::SingletonUnreg | Pc::SingletonCall => the(LockClass::StOps),
            Pc::HidRegLock | Pc::HidUnregLock => the(LockClass::ProgList),
            Pc::HidReconnect | Pc::HidProbe => the(LockClass::Device),
            Pc::ScxEnable | Pc::ScxDisable | Pc::ScxError => the(LockClass::ScxEnable),
            Pc::SockCall | Pc::SockRelease => Some(Lock::Sock(arg)),
            Pc::IoRegLock | Pc::IoUnreg | Pc::RingExitLock => the(LockClass::IoBpfCtrl),
            Pc::RingEnter => Some(Lock::Ring(arg)),
            Pc::IoInstall | Pc::IoEject | Pc::RingExit | Pc::RingEject => {
                ring.checked_sub(1).map(Lock::Ring)
            }
            Pc::SingletonCallDone if self.design.twin == Twin::LockOrder => {
                the(LockClass::UpdateMutex)
            }
            Pc::LinkInfo if self.world.linux >= Linux::V7_4 && !self.world.has_cgroup_types() => {
                the(LockClass::UpdateMutex)
            }
            _ => None,
        }
    }

    /// What keeps a CPU from a line of the scenario's own.
    fn line_waits(&self, k: &Kernel, line: u8) -> Option<Wait> {
        let own = &k.subsys.own;
        let line = &self.world.script.lines[usize::from(line)];
        match *line.statements.first()? {
            Statement::Lock(lock, mode) => {
                let place = usize::from(lock);
                let readers = match mode {
                    Mode::Exclusive => own.shared[place],
                    Mode::Shared => 0,
                };
                let reader = (readers != 0).then(|| readers.trailing_zeros() as CpuId);
                let holder = own.locks[place].or(reader);
                holder.map(|holder| Wait::Lock(Lock::Own(lock), holder))
            }
            Statement::Wait(flag) => {
                let set = own.flags & (1 << flag) != 0;
                (!set).then_some(Wait::Flag(flag))
            }
            _ => None,
        }
    }

    /// The first step of a function that a CPU is to run next, and what keeps it from that.
    pub fn waits_to_begin(&self, k: &Kernel, cpu: CpuId) -> Option<(Pc, Wait)> {
        let c = &k.cpus[usize::from(cpu)];
        let decl = self.world.cpus.get(usize::from(cpu))?;
        if c.pc != Pc::Idle || k.procs[usize::from(decl.proc)].exiting {
            return None;
        }
        let function = match &decl.plan {
            Plan::Fixed(operations) => match operations.get(usize::from(c.position))? {
                Operation::Run { function } => Some(*function),
                _ => None,
            },
            Plan::Free { kinds, budget } => {
                let runs = c.position < *budget && kinds.contains(&OpKind::Run);
                runs.then(|| self.world.script.runnable().next()).flatten()
            }
        };
        let first = self.world.script.functions[usize::from(function?)].first;
        Some((Pc::Script, self.line_waits(k, first)?))
    }

    /// The lock for which the next operation of a fixed plan waits before it begins: that of its first step.
    pub fn lock_to_begin(&self, k: &Kernel, cpu: CpuId) -> Option<Wait> {
        let c = &k.cpus[usize::from(cpu)];
        let decl = &self.world.cpus[usize::from(cpu)];
        let Plan::Fixed(operations) = &decl.plan else {
            return None;
        };
        if c.pc != Pc::Idle || k.procs[usize::from(decl.proc)].exiting {
            return None;
        }
        let operation = *operations.get(usize::from(c.position))?;
        let request = self.resolve(k, cpu, operation)?;
        let first = syscall::first_step(&self.world, request.kind, request.member);
        let lock = self.lock_of(first, request.map, request.arg, 0)?;
        holder(k, lock).map(|holder| Wait::Lock(lock, holder))
    }

    /// Whether some CPU waits for a lock or a grace period.
    pub fn somebody_waits(&self, k: &Kernel) -> bool {
        // Whoever is not there is idle.
        (0..k.cpus.len() as CpuId).any(|c| self.waits_for(k, c).is_some())
    }
}

/// Another CPU that uses the file of this one's ring. unreg() has none: it has found the ring through `ops->priv`.
fn user_of_ring(k: &Kernel, cpu: CpuId) -> Option<CpuId> {
    let ring = k.cpus[usize::from(cpu)].ring;
    let mut others = (0..).zip(&k.cpus).filter(|(i, _)| *i != cpu);
    let user = others.find(|(_, c)| c.ring == ring && c.pc != Pc::IoEject);
    user.map(|(i, _)| i)
}

/// Who holds a lock.
fn holder(k: &Kernel, lock: Lock) -> Option<CpuId> {
    match lock {
        Lock::Map(map) => k.maps.get(map).and_then(|m| m.lock),
        Lock::Sock(sock) => k.socks.get(usize::from(sock)).and_then(|s| s.busy),
        Lock::Prog(_) => None,
        Lock::Ring(ring) => k.subsys.rings.get(usize::from(ring)).and_then(|r| r.lock),
        Lock::Own(own) => k.subsys.own.locks.get(usize::from(own)).and_then(|l| *l),
        Lock::The(class) => k.holder(class),
    }
}
