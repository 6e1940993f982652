//! The explorer's backend: the vocabulary carried out on a [`Kernel`] of fixed-size tables, alone and at once.
//!
//! Here each rule that holds for all steps is checked in one place: what is freed is not used, counts do not fall below
//! 0, an executable page is not written. Not a step, and not the order of steps: those are in `proc`, `subsys` and
//! [`crate::machine`].

use std::fmt::Arguments;

use crate::assoc::Assoc;
use crate::backend::{Backend, Counted, Freed, Gone, HasPointers, OpenFile, Step, Stop, event};
use crate::contract;
use crate::design::{Design, Twin};
use crate::errno;
use crate::invariant::Invariant;
use crate::kernel::{
    Cgroup, Code, Cpu, CpuId, Deferred, Dirty, Func, Image, ImageKey, Item, ItemArray, Kdata,
    KdataKey, Kernel, Ksym, KsymKey, Link, LinkKey, Map, MapKey, MapState, Mask, MoreFds, Node,
    OwnState, Proc, Readers, Reg, Ring, Scx, Seen, Slots, Sock, Stage, Walk,
};
use crate::lock::{Lock, LockClass, Nested};
use crate::pc::Pc;
use crate::report::{Report, Returned};
use crate::request::{CHILD, Descriptors, Files};
use crate::script::Statement;
use crate::table::Full;
use crate::world::{MAX_KDATAS, MAX_MEMBERS, OpKind, Operand, World};

/// One more fd of a process.
fn one_more(fds: &mut Mask, more: &mut MoreFds, proc: u8) -> Result<(), Full> {
    let further = &mut more.0[usize::from(proc)];
    if *fds & 1 << proc == 0 {
        *fds |= 1 << proc;
    } else if *further < MoreFds::MOST {
        *further += 1;
    } else {
        return Err(Full);
    }
    Ok(())
}

/// One fd of a process less.
fn one_less(fds: &mut Mask, more: &mut MoreFds, proc: u8) {
    match &mut more.0[usize::from(proc)] {
        0 => *fds &= !(1 << proc),
        further => *further -= 1,
    }
}

/// The child gets the fds of its parent: how many.
fn inherit(fds: &mut Mask, more: &mut MoreFds, parent: usize) -> u8 {
    if *fds & 1 << parent == 0 {
        return 0;
    }
    *fds |= 1 << CHILD;
    more.0[CHILD] = more.0[parent];
    1 + more.0[CHILD]
}

/// A step in progress.
pub(crate) struct Tables<'a> {
    pub k: &'a mut Kernel,
    pub world: &'a World,
    pub design: &'a Design,
    /// The CPU that acts (the worker's number is beyond those of all tasks).
    pub cpu: CpuId,
    /// The step that is being carried out.
    pub pc: Pc,
    /// 0: every allocation succeeds. n: the n-th allocation of this step fails; at an exit, the n-th file is closed.
    pub choice: u8,
    pub allocs: u8,
    pub report: &'a mut Report,
    pub event: Option<&'a mut String>,
    /// Classes of the locks that this step has taken and that have no holder in the state, one bit each.
    pub within: u16,
    /// A reference count or its holders changed.
    pub counted: bool,
    /// A kdata that was registered once is registered twice.
    pub doubled: Option<KdataKey>,
}

impl HasPointers for Tables<'_> {
    type P = Slots;
}

impl Tables<'_> {
    /// Notes that an operation of the CPU's plan returns; what closes the files of a process is of no plan.
    pub(crate) fn returned(&mut self, op: OpKind, met: bool) {
        let cpu = usize::from(self.cpu);
        let proc = usize::from(self.world.cpus[cpu].proc);
        if op != OpKind::Exit && !self.k.procs[proc].exiting {
            self.report.returned = Some(Returned {
                cpu: self.cpu,
                position: self.k.cpus[cpu].position,
                met,
            });
        }
    }

    #[inline]
    fn map(&mut self, key: MapKey) -> Step<&mut Map> {
        if !self.k.maps.contains(key) {
            return Err(self.gone(Gone::Map));
        }
        Ok(&mut self.k.maps[key])
    }

    #[inline]
    fn kdata(&mut self, key: KdataKey) -> Step<&mut Kdata> {
        if !self.k.kdatas.contains(key) {
            return Err(self.gone(Gone::Kdata));
        }
        Ok(&mut self.k.kdatas[key])
    }

    #[inline]
    fn link(&mut self, key: LinkKey) -> Step<&mut Link> {
        if !self.k.links.contains(key) {
            return Err(self.gone(Gone::Link));
        }
        Ok(&mut self.k.links[key])
    }

    #[inline]
    fn image(&mut self, key: ImageKey) -> Step<&mut Image> {
        if !self.k.images.contains(key) {
            return Err(self.gone(Gone::Image));
        }
        Ok(&mut self.k.images[key])
    }

    #[inline]
    fn ksym(&mut self, key: KsymKey) -> Step<&mut Ksym> {
        if !self.k.ksyms.contains(key) {
            return Err(self.gone(Gone::Ksym));
        }
        Ok(&mut self.k.ksyms[key])
    }

    fn page(func: Func) -> ImageKey {
        func.image.expect("a pointer that was called")
    }

    /// This CPU's process, in a set of processes.
    fn proc_bit(&self) -> Mask {
        1 << self.proc()
    }

    /// A bound of the model is reached: what follows is unknown.
    fn full(&mut self, _: Full) -> Stop {
        event!(self, "a table of the model is full");
        self.report.overflow = true;
        self.k.dead = true;
        Stop
    }

    /// The count, if its object is there.
    fn refs(&mut self, what: Counted<Slots>) -> Step<&mut u8> {
        self.counted = true;
        Ok(match what {
            Counted::Map(map) => &mut self.map(map)?.refs,
            Counted::Attachment(kdata) => &mut self.kdata(kdata)?.refs,
            Counted::Link(link) => &mut self.link(link)?.refs,
            Counted::Prog(prog) => &mut self.k.progs[usize::from(prog)].refs,
            Counted::Module => &mut self.k.module.refs,
        })
    }

    fn free(&mut self, what: Freed<Slots>) -> Step<&mut Deferred> {
        Ok(match what {
            Freed::Map(map) => &mut self.map(map)?.free,
            Freed::Attachment(kdata) => &mut self.kdata(kdata)?.free,
            Freed::Prog(prog) => &mut self.k.progs[usize::from(prog)].free,
        })
    }

    /// A grace period that begins now waits for these readers.
    fn grace_period(&self, stage: Stage) -> Deferred {
        let mut begun = Deferred {
            stage,
            ..Deferred::default()
        };
        if matches!(stage, Stage::Rcu | Stage::RcuAndTasks) {
            begun.rcu = self.k.readers(|r| r.rcu > 0);
        }
        if stage == Stage::Srcu {
            let domains = self.k.subsys.own.readers.iter();
            begun.rcu = domains.fold(0, |all, readers| all | readers);
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
            Lock::The(class) => class.place().map(|place| &mut self.k.locks[place]),
        })
    }

    /// Notes which locks the CPU holds while it takes one of this class.
    fn note_nesting(&mut self, taken: LockClass) {
        let me = Some(self.cpu);
        let mut held = self.within;
        for (class, holder) in LockClass::ALL.iter().zip(&self.k.locks) {
            held |= u16::from(*holder == me) << *class as u16;
        }
        let map = self.k.maps.iter().any(|(_, m)| m.lock == me);
        let sock = self.k.socks.iter().any(|s| s.busy == me);
        let ring = self.k.subsys.rings.iter().any(|r| r.lock == me);
        held |= u16::from(map) << LockClass::StMap as u16
            | u16::from(sock) << LockClass::Sock as u16
            | u16::from(ring) << LockClass::Uring as u16;
        if held == 0 {
            return;
        }
        self.report.witness(Invariant::LockOrder);
        let step = self.pc;
        for class in LockClass::ALL {
            if held & 1 << *class as u16 != 0 {
                self.report.nest(Nested {
                    held: *class,
                    taken,
                    step,
                });
            }
        }
    }

    /// Somebody may load function pointers from this kdata: a registration or a user has it.
    fn in_use(&self, key: KdataKey) -> bool {
        self.k.kdatas.get(key).is_some_and(|d| d.registered > 0)
            || self.k.socks.iter().any(|s| s.kdata == Some(key))
    }

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

impl<'w> Backend<'w> for Tables<'w> {
    #[inline]
    fn world(&self) -> &'w World {
        self.world
    }

    #[inline]
    fn design(&self) -> &'w Design {
        self.design
    }

    #[inline]
    fn pc(&self) -> Pc {
        self.pc
    }

    #[inline]
    fn cpu(&mut self) -> &mut Cpu {
        &mut self.k.cpus[usize::from(self.cpu)]
    }

    #[inline]
    fn proc(&self) -> u8 {
        // A work item is of no process, and asks for nothing of one.
        let decl = self.world.cpus.get(usize::from(self.cpu));
        decl.map_or(0, |decl| decl.proc)
    }

    fn touch(&mut self, what: Dirty) {
        if let Some(cpu) = self.k.cpus.get_mut(usize::from(self.cpu)) {
            cpu.dirty |= what;
        }
    }

    fn undo(&mut self, what: Dirty) {
        if let Some(cpu) = self.k.cpus.get_mut(usize::from(self.cpu)) {
            cpu.dirty.remove(what);
        }
    }

    // ---- what is told ------------------------------------------------------------------------------

    #[inline]
    fn listening(&self) -> bool {
        self.event.is_some()
    }

    fn say(&mut self, text: Arguments<'_>) {
        if let Some(event) = self.event.as_deref_mut() {
            if !event.is_empty() {
                event.push_str("; ");
            }
            event.push_str(&text.to_string());
        }
    }

    #[inline]
    fn witness(&mut self, invariant: Invariant) {
        self.report.witness(invariant);
    }

    fn violate(&mut self, invariant: Invariant, text: Arguments<'_>) {
        self.say(text);
        if invariant.applies(self.design) {
            self.report.violate(invariant, self.pc);
        }
    }

    fn broken(&mut self, invariant: Invariant, text: Arguments<'_>) -> Stop {
        self.say(text);
        self.report.violate(invariant, self.pc);
        self.k.dead = true;
        Stop
    }

    fn returns(&mut self) -> Step {
        let cpu = *self.cpu();
        debug_assert!(cpu.holds.is_empty(), "{:?} ends holding references", cpu.op);
        // A call of an entry that is not in the subsystem's table has nobody to call.
        let nobody = cpu.op == OpKind::Call && cpu.err == errno::ENOENT;
        // A target that is no cgroup is -EBADF as well, and the map was there.
        let no_cgroup = cpu.op.has(Operand::Target);
        self.returned(cpu.op, (cpu.err != errno::EBADF || no_cgroup) && !nobody);
        event!(self, "returns {}", errno::name(cpu.err));
        if cpu.err != 0 {
            self.report.witness(Invariant::ErrnoContract);
            if !cpu.dirty.is_empty() && Invariant::FailureAtomic.applies(self.design) {
                self.report.violate(Invariant::FailureAtomic, self.pc);
            }
        }
        if !contract::allows(self.world, self.design, self.k, &cpu) {
            let allowed = contract::allowed(self.world, self.design, self.k, &cpu);
            self.violate(
                Invariant::ErrnoContract,
                format_args!("the contract allows {allowed}"),
            );
        }
        let next = Cpu {
            position: cpu.position,
            readers: cpu.readers,
            ..Cpu::default()
        };
        *self.cpu() = if cpu.op == OpKind::Exit {
            Cpu {
                op: OpKind::Exit,
                pc: Pc::ExitNext,
                ..next
            }
        } else {
            next
        };
        Ok(())
    }

    fn check_whole(&mut self, key: KdataKey) -> Step {
        let kdata = *self.kdata(key)?;
        let progs = &self.world.maps[usize::from(kdata.decl)].progs;
        let mut cookie = None;
        for (member, func) in kdata.func.iter().enumerate() {
            let Some(page) = func.image else {
                if progs.get(member).copied().flatten().is_some() {
                    self.violate(
                        Invariant::NoTornPublish,
                        format_args!("TORN: member {member} has no trampoline yet"),
                    );
                }
                continue;
            };
            // A dangling pointer is no torn one: following it is judged where it is followed.
            let Some(image) = self.k.images.get(page) else {
                continue;
            };
            let code = image.code[usize::from(func.index)];
            if !image.protected {
                self.violate(
                    Invariant::NoTornPublish,
                    format_args!("TORN: the page of member {member} is not executable yet"),
                );
            }
            if cookie.is_some_and(|c| c != code.cookie) {
                self.violate(
                    Invariant::NoTornPublish,
                    format_args!("TORN: members carry the cookies of two attachments"),
                );
            }
            cookie = Some(code.cookie);
        }
        Ok(())
    }

    // ---- memory ------------------------------------------------------------------------------------

    fn alloc(&mut self) -> bool {
        debug_assert!(
            crate::proc::allocates(self.pc),
            "{:?} is not listed as a step that allocates",
            self.pc
        );
        self.allocs += 1;
        if self.allocs == self.choice {
            self.k.alloc_failures -= 1;
            self.saw(Seen::NOMEM);
            event!(self, "allocation fails");
            return false;
        }
        true
    }

    fn new_map(&mut self, decl: u8) -> Step<MapKey> {
        self.counted = true;
        let map = Map {
            decl,
            refs: 1,
            ..Map::default()
        };
        self.k.maps.insert(map).map_err(|f| self.full(f))
    }

    fn new_kdata(&mut self, map: MapKey, decl: u8, attachment: bool) -> Step<KdataKey> {
        self.counted = true;
        let kdata = Kdata {
            map: Some(map),
            decl,
            attachment,
            refs: u8::from(attachment),
            ..Kdata::default()
        };
        self.k.kdatas.insert(kdata).map_err(|f| self.full(f))
    }

    fn new_link(&mut self, name: u8, cookie: u8) -> Step<LinkKey> {
        self.counted = true;
        let link = Link {
            name,
            cookie,
            refs: 1,
            ..Link::default()
        };
        self.k.links.insert(link).map_err(|f| self.full(f))
    }

    fn free_map(&mut self, map: MapKey) -> Step {
        self.map(map)?;
        self.k.maps.remove(map);
        Ok(())
    }

    fn free_kdata(&mut self, kdata: KdataKey) -> Step {
        self.kdata(kdata)?;
        self.k.kdatas.remove(kdata);
        Ok(())
    }

    fn free_link(&mut self, link: LinkKey) -> Step {
        self.counted = true;
        self.link(link)?;
        self.k.links.remove(link);
        Ok(())
    }

    // ---- locks -------------------------------------------------------------------------------------

    fn lock(&mut self, lock: Lock) -> Step {
        let cpu = self.cpu;
        self.note_nesting(lock.class());
        if let Some(holder) = self.holder(lock)? {
            debug_assert_eq!(*holder, None, "{lock:?} is taken, and {cpu} did not wait");
            *holder = Some(cpu);
        } else {
            self.within |= 1 << lock.class() as u16;
        }
        Ok(())
    }

    fn unlock(&mut self, lock: Lock) -> Step {
        if let Some(holder) = self.holder(lock)? {
            *holder = None;
        } else {
            self.within &= !(1 << lock.class() as u16);
        }
        Ok(())
    }

    fn holds_lock(&mut self, lock: Lock) -> bool {
        let cpu = self.cpu;
        matches!(self.holder(lock), Ok(Some(holder)) if *holder == Some(cpu))
    }

    // ---- references and deferred work --------------------------------------------------------------

    fn get(&mut self, what: Counted<Slots>) -> Step {
        *self.refs(what)? += 1;
        Ok(())
    }

    fn get_unless_zero(&mut self, what: Counted<Slots>) -> Step<bool> {
        let refs = self.refs(what)?;
        let there = *refs > 0;
        *refs += u8::from(there);
        Ok(there)
    }

    fn put(&mut self, what: Counted<Slots>) -> Step<bool> {
        let refs = self.refs(what)?;
        if *refs == 0 {
            return Err(self.broken(
                Invariant::RefcountsBalance,
                format_args!("{} refcount below 0", what.name()),
            ));
        }
        *refs -= 1;
        Ok(*refs == 0)
    }

    fn is_last(&mut self, what: Counted<Slots>) -> Step<bool> {
        let counted = self.counted;
        let last = *self.refs(what)? == 1;
        self.counted = counted;
        Ok(last)
    }

    fn defer(&mut self, what: Freed<Slots>, after: Stage) -> Step {
        let mut begun = self.grace_period(after);
        if self.design.twin == Twin::LostCallback
            && matches!(what, Freed::Map(_))
            && after == Stage::RcuAndTasks
        {
            begun.rcu = Mask::MAX;
        }
        *self.free(what)? = begun;
        if let Freed::Prog(prog) = what {
            self.k.progs[usize::from(prog)].free_if_elapsed();
        }
        Ok(())
    }

    fn queue_link(&mut self, link: LinkKey) -> Step<bool> {
        let worker = self.world.kworker().is_some();
        self.link(link)?.queued = worker;
        Ok(worker)
    }

    fn deferred(&mut self, what: Freed<Slots>) -> Step<Stage> {
        Ok(self.free(what)?.stage)
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

    // ---- maps --------------------------------------------------------------------------------------

    fn map_decl(&mut self, map: MapKey) -> Step<u8> {
        Ok(self.map(map)?.decl)
    }

    fn map_state(&mut self, map: MapKey) -> Step<MapState> {
        Ok(self.map(map)?.state)
    }

    fn set_map_state(&mut self, map: MapKey, to: MapState) -> Step {
        self.counted |= to != MapState::Ready;
        self.map(map)?.state = to;
        Ok(())
    }

    fn cmpxchg_map_state(&mut self, map: MapKey, from: MapState, to: MapState) -> Step<MapState> {
        self.counted |= to == MapState::ToBeFree;
        let state = &mut self.map(map)?.state;
        let was = *state;
        if was == from {
            *state = to;
        }
        Ok(was)
    }

    fn map_kdata(&mut self, map: MapKey) -> Step<Option<KdataKey>> {
        Ok(self.map(map)?.kdata)
    }

    fn set_map_kdata(&mut self, map: MapKey, to: Option<KdataKey>) -> Step {
        self.counted = true;
        self.map(map)?.kdata = to;
        Ok(())
    }

    fn filled(&mut self, map: MapKey, member: usize) -> Step<bool> {
        Ok(self.map(map)?.filled & (1 << member) != 0)
    }

    fn set_filled(&mut self, map: MapKey, member: usize, to: bool) -> Step {
        self.counted = true;
        let filled = &mut self.map(map)?.filled;
        *filled = *filled & !(1 << member) | u8::from(to) << member;
        Ok(())
    }

    fn set_link_cookie(&mut self, map: MapKey, member: usize, cookie: u8) -> Step {
        self.map(map)?.link_cookies[member] = cookie;
        Ok(())
    }

    fn install_map_fd(&mut self, map: MapKey) -> Step {
        self.counted = true;
        let proc = self.proc();
        let map = self.map(map)?;
        let room = one_more(&mut map.fds, &mut map.more, proc);
        room.map_err(|f| self.full(f))
    }

    fn close_map_fd(&mut self, map: MapKey) -> Step {
        self.counted = true;
        let proc = self.proc();
        let map = self.map(map)?;
        one_less(&mut map.fds, &mut map.more, proc);
        Ok(())
    }

    fn set_map_pinned(&mut self, map: MapKey, to: bool) -> Step {
        self.counted = true;
        self.map(map)?.pinned = to;
        Ok(())
    }

    fn has_link(&mut self, map: MapKey) -> bool {
        self.k.links.iter().any(|(_, l)| l.map == Some(map))
    }

    // ---- kdata -------------------------------------------------------------------------------------

    fn kdata_map(&mut self, kdata: KdataKey) -> Step<MapKey> {
        Ok(self.kdata(kdata)?.map.expect("kdata has a map"))
    }

    fn kdata_decl(&mut self, kdata: KdataKey) -> Step<u8> {
        Ok(self.kdata(kdata)?.decl)
    }

    fn is_attachment(&mut self, kdata: KdataKey) -> Step<bool> {
        Ok(self.kdata(kdata)?.attachment)
    }

    fn func(&mut self, kdata: KdataKey, member: usize) -> Step<Func> {
        Ok(self.kdata(kdata)?.func[member])
    }

    fn set_func(&mut self, kdata: KdataKey, member: usize, to: Func) -> Step {
        if self.in_use(kdata) && self.kdata(kdata)?.func[member] != to {
            self.touch(Dirty::FUNC);
        }
        self.kdata(kdata)?.func[member] = to;
        Ok(())
    }

    fn clear_funcs(&mut self, kdata: KdataKey) -> Step {
        self.kdata(kdata)?.func = Default::default();
        Ok(())
    }

    fn has_one_of_its_map(&mut self, kdata: KdataKey, slot: Option<u8>) -> bool {
        let map = |kdata: KdataKey| self.k.kdatas.get(kdata).and_then(|d| d.map);
        let regs = self.k.subsys.regs.iter().flatten();
        let mut regs = regs.filter(|r| slot.is_none_or(|slot| r.slot == slot));
        map(kdata).is_some_and(|of| regs.any(|r| map(r.kdata) == Some(of)))
    }

    fn only_attachment(&mut self, map: MapKey) -> Step<Option<KdataKey>> {
        self.map(map)?;
        let kdatas = self.k.kdatas.iter();
        let mut attachments =
            kdatas.filter(|(_, d)| d.attachment && d.map == Some(map) && d.refs > 0);
        let first = attachments.next().map(|(key, _)| key);
        Ok(first.filter(|_| attachments.next().is_none()))
    }

    fn generated_for(&mut self, func: Func) -> Option<KdataKey> {
        let page = func.image?;
        let mut kdatas = self.k.kdatas.iter();
        kdatas
            .find(|(_, d)| d.pages.contains(&Some(page)))
            .map(|(key, _)| key)
    }

    fn note_registered(&mut self, key: KdataKey, cookie: u8) -> Step {
        let kdata = self.kdata(key)?;
        kdata.registered += 1;
        kdata.expect = cookie;
        if kdata.registered == 2 {
            self.doubled = Some(key);
        }
        Ok(())
    }

    fn note_unregistered(&mut self, kdata: KdataKey) -> Step {
        let kdata = self.kdata(kdata)?;
        kdata.registered = kdata.registered.saturating_sub(1);
        Ok(())
    }

    fn registered_cookie(&mut self, kdata: KdataKey) -> Step<u8> {
        Ok(self.kdata(kdata)?.expect)
    }

    // ---- links -------------------------------------------------------------------------------------

    fn link_cookie(&mut self, link: LinkKey) -> Step<u8> {
        Ok(self.link(link)?.cookie)
    }

    fn link_map(&mut self, link: LinkKey) -> Step<Option<MapKey>> {
        Ok(self.link(link)?.map)
    }

    fn link_attachment(&mut self, link: LinkKey) -> Step<Option<KdataKey>> {
        Ok(self.link(link)?.attachment)
    }

    fn set_link(
        &mut self,
        link: LinkKey,
        map: Option<MapKey>,
        attachment: Option<KdataKey>,
    ) -> Step {
        self.counted = true;
        let link = self.link(link)?;
        link.map = map;
        link.attachment = attachment;
        Ok(())
    }

    fn install_link_fd(&mut self, link: LinkKey) -> Step {
        self.counted = true;
        let proc = self.proc();
        let link = self.link(link)?;
        let room = one_more(&mut link.fds, &mut link.more, proc);
        room.map_err(|f| self.full(f))
    }

    fn close_link_fd(&mut self, link: LinkKey) -> Step {
        self.counted = true;
        let proc = self.proc();
        let link = self.link(link)?;
        one_less(&mut link.fds, &mut link.more, proc);
        Ok(())
    }

    fn set_link_id(&mut self, link: LinkKey, to: bool) -> Step {
        // What nobody asks for would only make states larger.
        if self.world.plays(OpKind::LinkGetFdById) {
            self.link(link)?.id = to;
        }
        Ok(())
    }

    fn link_has_id(&mut self, link: LinkKey) -> Step<bool> {
        Ok(self.link(link)?.id)
    }

    fn set_pinned(&mut self, link: LinkKey, to: bool) -> Step {
        self.counted = true;
        self.link(link)?.pinned = to;
        Ok(())
    }

    fn link_cgroup(&mut self, link: LinkKey) -> Step<Option<u8>> {
        Ok(self.link(link)?.cgroup.checked_sub(1))
    }

    fn set_link_cgroup(&mut self, link: LinkKey, to: Option<u8>) -> Step {
        self.link(link)?.cgroup = to.map_or(0, |c| c + 1);
        Ok(())
    }

    fn open_link(&mut self, name: u8) -> Option<LinkKey> {
        let bit = self.proc_bit();
        Descriptors { k: self.k, bit }.link_fd(name)
    }

    // ---- trampolines -------------------------------------------------------------------------------

    fn under_text_mutex<T>(&mut self, act: impl FnOnce(&mut Self) -> Step<T>) -> Step<T> {
        act(self)
    }

    fn new_ksym(&mut self, owner: KdataKey, place: usize) -> Step {
        let ksym = self.k.ksyms.insert(Ksym::default());
        let ksym = ksym.map_err(|f| self.full(f))?;
        self.kdata(owner)?.ksyms[place] = Some(ksym);
        Ok(())
    }

    fn name_ksym(&mut self, owner: KdataKey, place: usize, func: Func) -> Step {
        let ksym = self.kdata(owner)?.ksyms[place].expect("just allocated");
        self.ksym(ksym)?.func = func;
        Ok(())
    }

    fn add_ksyms(&mut self, owner: KdataKey) -> Step {
        for ksym in self.kdata(owner)?.ksyms {
            let Some(ksym) = ksym else { break };
            self.ksym(ksym)?.listed = true;
        }
        Ok(())
    }

    fn del_ksyms(&mut self, owner: KdataKey) -> Step {
        for ksym in self.kdata(owner)?.ksyms {
            let Some(ksym) = ksym else { break };
            self.ksym(ksym)?.listed = false;
        }
        Ok(())
    }

    fn free_ksyms(&mut self, owner: KdataKey) -> Step {
        let ksyms = std::mem::take(&mut self.kdata(owner)?.ksyms);
        for ksym in ksyms {
            let Some(ksym) = ksym else { break };
            if self.ksym(ksym)?.listed {
                self.violate(
                    Invariant::KsymsMatchImages,
                    format_args!("a ksym is freed that kallsyms still lists"),
                );
            }
            self.k.ksyms.remove(ksym);
        }
        Ok(())
    }

    fn page_fill(&mut self, page: ImageKey) -> Step<u16> {
        Ok(self.image(page)?.fill)
    }

    fn has_page_slot(&mut self, owner: KdataKey) -> Step<bool> {
        Ok(self.kdata(owner)?.pages.iter().any(Option::is_none))
    }

    fn new_page(&mut self, owner: KdataKey) -> Step<Option<ImageKey>> {
        let free = self.kdata(owner)?.pages.iter().position(Option::is_none);
        let Some(free) = free else { return Ok(None) };
        let image = self.k.images.insert(Image::default());
        let image = image.map_err(|f| self.full(f))?;
        self.kdata(owner)?.pages[free] = Some(image);
        Ok(Some(image))
    }

    fn write_trampoline(&mut self, page: ImageKey, size: u16, code: Code) -> Step<Func> {
        let twin = self.design.twin;
        let image = self.image(page)?;
        if image.protected {
            return Err(self.broken(
                Invariant::TextImmutable,
                format_args!("an executable page is written"),
            ));
        }
        let Some(index) = image.code.iter().position(|c| c.prog == 0) else {
            return Err(self.full(Full));
        };
        image.fill += size;
        image.code[index] = code;
        image.protected = twin == Twin::WriteProtected;
        Ok(Func {
            image: Some(page),
            index: index as u8,
        })
    }

    fn protect(&mut self, owner: KdataKey) -> Step {
        for page in self.kdata(owner)?.pages.into_iter().flatten() {
            self.image(page)?.protected = true;
            self.report.witness(Invariant::TextImmutable);
        }
        Ok(())
    }

    fn free_images(&mut self, owner: KdataKey) -> Step<bool> {
        if self.in_use(owner) && self.kdata(owner)?.pages.iter().any(Option::is_some) {
            self.touch(Dirty::IMAGE);
        }
        let pages = std::mem::take(&mut self.kdata(owner)?.pages);
        let mut any = false;
        for page in pages.into_iter().flatten() {
            self.image(page)?;
            let names_it = |s: &Ksym| s.listed && s.func.image == Some(page);
            if self.k.ksyms.iter().any(|(_, s)| names_it(s)) {
                self.violate(
                    Invariant::KsymsMatchImages,
                    format_args!("kallsyms still names a trampoline in the page"),
                );
            }
            self.k.images.remove(page);
            any = true;
        }
        Ok(any)
    }

    fn new_test_page(&mut self, code: Code) -> Step<(ImageKey, Func)> {
        let mut places = [Code::default(); MAX_MEMBERS];
        places[0] = code;
        let image = self.k.images.insert(Image {
            protected: true,
            fill: 0,
            code: places,
        });
        let image = image.map_err(|f| self.full(f))?;
        let func = Func {
            image: Some(image),
            index: 0,
        };
        Ok((image, func))
    }

    fn free_test_page(&mut self, page: ImageKey) -> Step {
        self.image(page)?;
        self.k.images.remove(page);
        Ok(())
    }

    // ---- the call of a member ----------------------------------------------------------------------

    fn enter_trampoline(&mut self, func: Func) -> Step<Code> {
        let code = self.code_at(func)?;
        if !self.image(Self::page(func))?.protected {
            return Err(self.broken(
                Invariant::NoTornPublish,
                format_args!("the page is not executable: the call faults"),
            ));
        }
        Ok(code)
    }

    fn code_at(&mut self, func: Func) -> Step<Code> {
        Ok(self.image(Self::page(func))?.code[usize::from(func.index)])
    }

    fn leave_trampoline(&mut self, _: Func) {}

    fn named(&mut self, func: Func) -> bool {
        self.k.ksyms.iter().any(|(_, s)| s.listed && s.func == func)
    }

    fn set_run_ctx(&mut self, code: Code) {
        self.cpu().run_ctx = code.cookie;
    }

    fn run_ctx_cookie(&mut self) -> u64 {
        let cookie = self.cpu().run_ctx;
        self.world.cookies[usize::from(cookie)]
    }

    // ---- programs, processes and the module ----------------------------------------------------------

    fn has_prog_fd(&mut self, prog: u8) -> bool {
        self.k.progs[usize::from(prog)].fds & self.proc_bit() != 0
    }

    fn close_prog_fd(&mut self, prog: u8) {
        self.counted = true;
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

    // ---- what subsystems keep -------------------------------------------------------------------------

    fn list_next(&mut self, node: Node) -> Step<Node> {
        match node {
            Node::Head => Ok(self.k.subsys.tcp_next),
            Node::Of(key) => Ok(self.kdata(key)?.next),
            Node::Poison => Err(self.gone(Gone::ListNode)),
        }
    }

    fn set_list_next(&mut self, node: Node, to: Node) -> Step {
        match node {
            Node::Head => self.k.subsys.tcp_next = to,
            Node::Of(key) => self.kdata(key)?.next = to,
            Node::Poison => return Err(self.gone(Gone::ListNode)),
        }
        Ok(())
    }

    fn list_prev(&mut self, node: Node) -> Step<Node> {
        match node {
            Node::Head => Ok(self.k.subsys.tcp_prev),
            Node::Of(key) => Ok(self.kdata(key)?.prev),
            Node::Poison => Err(self.gone(Gone::ListNode)),
        }
    }

    fn set_list_prev(&mut self, node: Node, to: Node) -> Step {
        match node {
            Node::Head => self.k.subsys.tcp_prev = to,
            Node::Of(key) => self.kdata(key)?.prev = to,
            Node::Poison => return Err(self.gone(Gone::ListNode)),
        }
        Ok(())
    }

    fn list_bound(&self) -> usize {
        MAX_KDATAS
    }

    fn new_sock(&mut self, kdata: KdataKey, cookie: u8) -> Step<u8> {
        self.counted = true;
        let Some(place) = self.k.socks.iter().position(|s| s.kdata.is_none()) else {
            return Err(self.full(Full));
        };
        self.k.socks[place] = Sock {
            kdata: Some(kdata),
            expect: cookie,
            busy: None,
            fds: self.proc_bit(),
        };
        Ok(place as u8)
    }

    fn sock(&mut self, sock: u8) -> Option<(KdataKey, u8)> {
        let sock = self.k.socks[usize::from(sock)];
        Some((sock.kdata?, sock.expect))
    }

    fn close_sock_fd(&mut self, sock: u8) -> bool {
        let bit = self.proc_bit();
        let fds = &mut self.k.socks[usize::from(sock)].fds;
        *fds &= !bit;
        *fds != 0
    }

    fn close_sock(&mut self, sock: u8) {
        self.counted = true;
        self.k.socks[usize::from(sock)] = Sock::default();
    }

    fn registration(&mut self, place: usize) -> Option<Reg> {
        self.k.subsys.regs.get(place).copied().flatten()
    }

    fn push_registration(&mut self, reg: Reg) -> Step<usize> {
        let regs = &mut self.k.subsys.regs;
        let Some(place) = regs.iter().position(Option::is_none) else {
            return Err(self.full(Full));
        };
        regs[place] = Some(reg);
        Ok(place)
    }

    fn set_registration(&mut self, place: usize, reg: Reg) {
        self.k.subsys.regs[place] = Some(reg);
    }

    fn remove_registration(&mut self, place: usize) {
        let regs = &mut self.k.subsys.regs;
        regs[place] = None;
        regs[place..].rotate_left(1);
    }

    fn scx(&mut self) -> Scx {
        self.k.subsys.scx
    }

    fn set_scx(&mut self, scx: Scx) {
        self.k.subsys.scx = scx;
    }

    fn ring(&mut self, ring: u8) -> Ring {
        let rings = &self.k.subsys.rings;
        rings.get(usize::from(ring)).copied().unwrap_or_default()
    }

    fn set_ring(&mut self, ring: u8, to: Ring) {
        self.k.subsys.rings[usize::from(ring)] = to;
    }

    // ---- cgroups --------------------------------------------------------------------------------------

    fn cgroup(&mut self, cgroup: u8) -> Cgroup {
        self.k.subsys.cgroups[usize::from(cgroup)]
    }

    fn set_cgroup(&mut self, cgroup: u8, to: Cgroup) {
        self.k.subsys.cgroups[usize::from(cgroup)] = to;
    }

    fn activate(&mut self, cgroup: u8, array: ItemArray) {
        let effective = &mut self.k.subsys.cgroups[usize::from(cgroup)].effective;
        let old = std::mem::replace(effective, array);
        for cpu in &mut self.k.cpus {
            let walk = &mut cpu.walk;
            if walk.cgroup == cgroup + 1 && !walk.replaced {
                walk.replaced = true;
                walk.array = old;
                // What is behind the walk is nobody's business any more.
                walk.array[..usize::from(walk.next)].fill(None);
            }
        }
    }

    fn walk_begin(&mut self, cgroup: u8) {
        self.cpu().walk = Walk {
            cgroup: cgroup + 1,
            ..Walk::default()
        };
    }

    fn walk_next(&mut self) -> Option<Item> {
        let walk = self.cpu().walk;
        let cgroup = usize::from(walk.cgroup.checked_sub(1).expect("a walk is in progress"));
        let array = match walk.replaced {
            true => walk.array,
            false => self.k.subsys.cgroups[cgroup].effective,
        };
        let item = array.get(usize::from(walk.next)).copied().flatten();
        let walk = &mut self.cpu().walk;
        if item.is_some() {
            walk.array[usize::from(walk.next)] = None;
            walk.next += 1;
        } else {
            *walk = Walk::default();
        }
        item
    }

    // ---- a scenario's own subsystems -------------------------------------------------------------------

    fn task(&self) -> u8 {
        self.cpu
    }

    fn table_full(&mut self) -> Stop {
        self.full(Full)
    }

    fn own(&mut self) -> OwnState {
        self.k.subsys.own
    }

    fn set_own(&mut self, own: OwnState) {
        self.counted |= self.k.subsys.own.refs != own.refs;
        self.k.subsys.own = own;
    }

    fn srcu_read_unlock(&mut self, domain: u8) {
        let mask = !(1 << self.cpu);
        self.k.subsys.own.readers[usize::from(domain)] &= mask;
        let in_none = self.k.subsys.own.readers.iter().all(|r| r & !mask == 0);
        let maps = self.k.maps.values_mut().map(|m| &mut m.free);
        let attachments = self.k.kdatas.values_mut().map(|d| &mut d.free);
        for free in maps.chain(attachments) {
            // A free waits for all domains.
            if in_none && free.stage == Stage::Srcu {
                free.rcu &= mask;
            }
        }
        for cpu in &mut self.k.cpus {
            let waits = cpu.pc == Pc::ScriptWaited && cpu.wait.stage == Stage::Srcu;
            let line = waits.then(|| &self.world.script.lines[usize::from(cpu.line)]);
            if line
                .is_some_and(|l| l.statements.last() == Some(&Statement::SynchronizeSrcu(domain)))
            {
                cpu.wait.rcu &= mask;
            }
        }
    }

    fn srcu_wait_begin(&mut self, domain: u8) {
        self.cpu().wait = Deferred {
            stage: Stage::Srcu,
            rcu: self.k.subsys.own.readers[usize::from(domain)],
            ..Deferred::default()
        };
    }
}
