//! What every step works with: the state, the design, the report, and the few primitives through which
//! all steps read and change shared things, so that each rule is checked in one place.
//!
//! Not a step itself. Stands for kmalloc/kfree, the mutex and RCU primitives, and the accessors that the
//! kernel writes as plain loads and stores.

use crate::design::{Count, Design, Free, Identity, KsymTime, ProgOwner};
use crate::invariant::Invariant;
use crate::kernel::{
    Cpu, CpuId, Deferred, Func, Image, ImageKey, Kdata, KdataKey, Kernel, Ksym, KsymKey, Link,
    LinkKey, Map, MapKey, Mask, Readers, dirty, holds, seen,
};
use crate::pc::Pc;
use crate::table::Full;
use crate::world::{MapDecl, OpKind, Subsystem, World};

/// Appends to the event of the step, when somebody listens.
macro_rules! event {
    ($x:expr, $($arg:tt)+) => {
        if $x.event.is_some() { $x.say(format_args!($($arg)+)); }
    };
}
pub(crate) use event;

/// Negative errno values, as the kernel numbers them.
#[allow(missing_docs)]
pub mod errno {
    pub const EPERM: i8 = -1;
    pub const ENOENT: i8 = -2;
    pub const EIO: i8 = -5;
    pub const E2BIG: i8 = -7;
    pub const EBADF: i8 = -9;
    pub const EAGAIN: i8 = -11;
    pub const ENOMEM: i8 = -12;
    pub const EBUSY: i8 = -16;
    pub const EEXIST: i8 = -17;
    pub const EINVAL: i8 = -22;
    pub const ENOLINK: i8 = -67;
    pub const EOPNOTSUPP: i8 = -95;
    pub const EINPROGRESS: i8 = -115;

    /// Every errno that the model knows, by name.
    pub const NAMES: [(i8, &str); 13] = [
        (EPERM, "-EPERM"),
        (ENOENT, "-ENOENT"),
        (EIO, "-EIO"),
        (E2BIG, "-E2BIG"),
        (EBADF, "-EBADF"),
        (EAGAIN, "-EAGAIN"),
        (ENOMEM, "-ENOMEM"),
        (EBUSY, "-EBUSY"),
        (EEXIST, "-EEXIST"),
        (EINVAL, "-EINVAL"),
        (ENOLINK, "-ENOLINK"),
        (EOPNOTSUPP, "-EOPNOTSUPP"),
        (EINPROGRESS, "-EINPROGRESS"),
    ];

    /// The name of a result: `0`, `-EBUSY`, or the number.
    pub fn name(err: i8) -> String {
        let known = NAMES.iter().find(|n| n.0 == err);
        known.map_or_else(|| err.to_string(), |n| n.1.to_string())
    }
}

/// The step broke something and left no state to go on from.
#[derive(Debug)]
pub(crate) struct Stop;

/// What a step ends with.
pub(crate) type Step = Result<(), Stop>;

/// A broken invariant and the step that broke it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Violation {
    /// What was broken.
    pub invariant: Invariant,
    /// By which step; `Idle` for what only a final state shows.
    pub step: Pc,
}

/// What a transition broke and reached.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Broken invariants, in the order of discovery.
    pub violations: Vec<Violation>,
    /// Invariants whose `sometimes` event happened, one bit each.
    pub witnessed: u32,
    /// Steps carried out (more than one where steps were merged).
    pub steps: u32,
    /// Which steps they were: bit `pc as u32`.
    pub taken: u128,
    /// The state has no meaning any more.
    pub fatal: bool,
    /// A table of the model was too small: what follows from here is unknown.
    pub overflow: bool,
}

impl Report {
    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        self.violations.clear();
        self.witnessed = 0;
        self.steps = 0;
        self.taken = 0;
        self.fatal = false;
        self.overflow = false;
    }

    pub(crate) fn violate(&mut self, invariant: Invariant, step: Pc) {
        let violation = Violation { invariant, step };
        if !self.violations.contains(&violation) {
            self.violations.push(violation);
        }
    }

    pub(crate) fn witness(&mut self, invariant: Invariant) {
        self.witnessed |= 1 << invariant as u32;
    }
}

/// What was used after it was gone.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Gone {
    Image,
    Kdata,
    Prog,
    Map,
    Link,
    Ksym,
    ListNode,
    Module,
}

/// A step in progress.
pub(crate) struct Exec<'a> {
    pub k: &'a mut Kernel,
    pub world: &'a World,
    pub design: &'a Design,
    /// The CPU that acts (the worker's number is beyond the CPUs).
    pub cpu: CpuId,
    /// The step that is being carried out.
    pub pc: Pc,
    /// 0: every allocation succeeds. n: the n-th allocation of this step fails.
    pub choice: u8,
    pub allocs: u8,
    pub report: &'a mut Report,
    pub event: Option<&'a mut String>,
    /// A reference count or its holders changed.
    pub counted: bool,
}

impl Exec<'_> {
    #[inline]
    pub fn c(&mut self) -> &mut Cpu {
        &mut self.k.cpus[usize::from(self.cpu)]
    }

    pub fn say(&mut self, text: std::fmt::Arguments<'_>) {
        if let Some(event) = self.event.as_deref_mut() {
            if !event.is_empty() {
                event.push_str("; ");
            }
            event.push_str(&text.to_string());
        }
    }

    #[inline]
    pub fn goto(&mut self, pc: Pc) -> Step {
        self.c().pc = pc;
        Ok(())
    }

    /// Sets the result and goes on at `pc`.
    pub fn fail(&mut self, err: i8, pc: Pc) -> Step {
        event!(self, "{}", errno::name(err));
        self.c().err = err;
        self.goto(pc)
    }

    #[inline]
    pub fn saw(&mut self, what: u16) {
        self.c().seen |= what;
    }

    pub fn violate(&mut self, invariant: Invariant) {
        if invariant.applies(self.design) {
            self.report.violate(invariant, self.pc);
        }
    }

    /// A violation after which the state means nothing.
    pub fn broken(&mut self, invariant: Invariant, text: std::fmt::Arguments<'_>) -> Stop {
        if self.event.is_some() {
            self.say(text);
        }
        self.report.violate(invariant, self.pc);
        self.k.dead = true;
        Stop
    }

    pub fn gone(&mut self, what: Gone) -> Stop {
        let text = match what {
            Gone::Image => "USE AFTER FREE: the image page is gone",
            Gone::Kdata => "USE AFTER FREE: the kdata is gone",
            Gone::Prog => "USE AFTER FREE: the program is gone",
            Gone::Map => "USE AFTER FREE: the map is gone",
            Gone::Link => "USE AFTER FREE: the link is gone",
            Gone::Ksym => "USE AFTER FREE: the ksym is gone",
            Gone::ListNode => "USE AFTER FREE: the list node is poisoned",
            Gone::Module => "USE AFTER FREE: the module's functions are gone",
        };
        self.broken(Invariant::NoUseAfterFree, format_args!("{text}"))
    }

    pub fn full(&mut self, _: Full) -> Stop {
        event!(self, "a table of the model is full");
        self.report.overflow = true;
        self.k.dead = true;
        Stop
    }

    pub fn map(&mut self, key: MapKey) -> Result<&mut Map, Stop> {
        if self.k.maps.get(key).is_none() {
            return Err(self.gone(Gone::Map));
        }
        Ok(self.k.maps.get_mut(key).expect("just found"))
    }

    pub fn kdata(&mut self, key: KdataKey) -> Result<&mut Kdata, Stop> {
        if self.k.kdatas.get(key).is_none() {
            return Err(self.gone(Gone::Kdata));
        }
        Ok(self.k.kdatas.get_mut(key).expect("just found"))
    }

    pub fn link(&mut self, key: LinkKey) -> Result<&mut Link, Stop> {
        if self.k.links.get(key).is_none() {
            return Err(self.gone(Gone::Link));
        }
        Ok(self.k.links.get_mut(key).expect("just found"))
    }

    pub fn image(&mut self, key: ImageKey) -> Result<&mut Image, Stop> {
        if self.k.images.get(key).is_none() {
            return Err(self.gone(Gone::Image));
        }
        Ok(self.k.images.get_mut(key).expect("just found"))
    }

    pub fn ksym(&mut self, key: KsymKey) -> Result<&mut Ksym, Stop> {
        if self.k.ksyms.get(key).is_none() {
            return Err(self.gone(Gone::Ksym));
        }
        Ok(self.k.ksyms.get_mut(key).expect("just found"))
    }

    /// The map that this CPU works on.
    pub fn my_map(&mut self) -> Result<(MapKey, Map), Stop> {
        let key = self.c().map.expect("the procedure has a map");
        Ok((key, *self.map(key)?))
    }

    /// The link that this CPU works on.
    pub fn my_link(&mut self) -> Result<(LinkKey, Link), Stop> {
        let key = self.c().link.expect("the procedure has a link");
        Ok((key, *self.link(key)?))
    }

    pub fn decl(&self, map: &Map) -> &MapDecl {
        &self.world.maps[usize::from(map.decl)]
    }

    /// `st_ops` of a map's type: functions that live in the type's module.
    pub fn st_ops(&mut self, decl: u8) -> Result<Subsystem, Stop> {
        let ty = &self.world.types[self.world.maps[usize::from(decl)].ty];
        if ty.module && self.k.module.unloaded {
            return Err(self.gone(Gone::Module));
        }
        Ok(ty.subsystem)
    }

    /// One allocation. `false` where this step was told to fail here.
    pub fn alloc(&mut self) -> bool {
        self.allocs += 1;
        if self.allocs == self.choice {
            self.k.alloc_failures -= 1;
            self.saw(seen::NOMEM);
            event!(self, "allocation fails");
            return false;
        }
        true
    }

    // ---- references -------------------------------------------------------------------------------

    /// `bpf_map_inc()`.
    pub fn map_inc(&mut self, key: MapKey) -> Step {
        self.counted = true;
        let map = self.map(key)?;
        map.refs += 1;
        Ok(())
    }

    /// `bpf_map_put()`: the last reference queues `bpf_map_free_deferred()`.
    pub fn map_put(&mut self, key: MapKey) -> Step {
        self.counted = true;
        let map = self.map(key)?;
        if map.refs == 0 {
            return Err(self.broken(
                Invariant::RefcountsBalance,
                format_args!("map refcount below 0"),
            ));
        }
        map.refs -= 1;
        if map.refs == 0 {
            map.free.stage = 1;
            self.report.witness(Invariant::RefcountsBalance);
            event!(self, "last map reference: free is queued");
        }
        Ok(())
    }

    /// Drops one reference of an attachment; the last one queues its free, or frees at once.
    pub fn attachment_put(&mut self, key: KdataKey) -> Step {
        self.counted = true;
        let kdata = self.kdata(key)?;
        if kdata.refs == 0 {
            return Err(self.broken(
                Invariant::RefcountsBalance,
                format_args!("attachment refcount below 0"),
            ));
        }
        kdata.refs -= 1;
        if kdata.refs > 0 {
            return Ok(());
        }
        self.report.witness(Invariant::RefcountsBalance);
        if self.design.free == Free::AtOnce {
            event!(self, "last reference: the attachment is freed at once");
            return self.attachment_release(key);
        }
        self.kdata(key)?.free.stage = 1;
        event!(self, "last attachment reference: free is queued");
        Ok(())
    }

    /// Frees an attachment: ksyms, pages, kdata, and its references on programs and map.
    pub fn attachment_release(&mut self, key: KdataKey) -> Step {
        let kdata = *self.kdata(key)?;
        self.del_ksyms(key)?;
        self.free_ksyms(key)?;
        self.free_images(key)?;
        self.k.kdatas.remove(key);
        if self.design.progs == ProgOwner::Attachment {
            let world = self.world;
            for prog in world.maps[usize::from(kdata.decl)].progs.iter().flatten() {
                self.prog_put(*prog)?;
            }
        }
        self.map_put(kdata.map.expect("an attachment has a map"))
    }

    /// `bpf_prog_put()`; a program of a sleepable member waits for Tasks Trace RCU first, others for RCU.
    pub fn prog_put(&mut self, prog: u8) -> Step {
        self.counted = true;
        let world = self.world;
        let decl = &world.progs[usize::from(prog)];
        let sleepable = world.types[decl.ty].members[decl.member].sleepable;
        let rcu = self.k.readers(|r| r.rcu > 0);
        let trace = self.k.readers(|r| r.trace > 0);
        let p = &mut self.k.progs[usize::from(prog)];
        if p.refs == 0 {
            return Err(self.broken(
                Invariant::RefcountsBalance,
                format_args!("program refcount below 0"),
            ));
        }
        p.refs -= 1;
        if p.refs == 0 {
            p.free = if sleepable {
                Deferred {
                    stage: 2,
                    trace,
                    ..Deferred::default()
                }
            } else {
                Deferred {
                    stage: 2,
                    rcu,
                    ..Deferred::default()
                }
            };
            p.free_if_elapsed();
        }
        Ok(())
    }

    /// `bpf_struct_ops_get(kdata)`: `container_of`, then a reference unless the count is 0.
    pub fn struct_ops_get(&mut self, key: KdataKey) -> Result<bool, Stop> {
        self.counted = true;
        let counted = self.design.count == Count::Attachment;
        let kdata = self.kdata(key)?;
        if kdata.attachment && counted {
            if kdata.refs == 0 {
                return Ok(false);
            }
            kdata.refs += 1;
            return Ok(true);
        }
        let map = kdata.map.expect("kdata has a map");
        let map = self.map(map)?;
        if map.refs == 0 {
            return Ok(false);
        }
        map.refs += 1;
        Ok(true)
    }

    /// `bpf_struct_ops_put(kdata)`.
    pub fn struct_ops_put(&mut self, key: KdataKey) -> Step {
        let kdata = *self.kdata(key)?;
        if kdata.attachment && self.design.count == Count::Attachment {
            return self.attachment_put(key);
        }
        self.map_put(kdata.map.expect("kdata has a map"))
    }

    // ---- RCU --------------------------------------------------------------------------------------

    pub fn rcu_read_lock(&mut self) {
        self.c().readers.rcu += 1;
    }

    pub fn rcu_read_unlock(&mut self) {
        self.end_reader(
            |r| {
                r.rcu -= 1;
                r.rcu == 0
            },
            |d, m| d.rcu &= m,
        );
    }

    pub fn rcu_read_lock_trace(&mut self) {
        self.c().readers.trace += 1;
    }

    pub fn rcu_read_unlock_trace(&mut self) {
        self.end_reader(
            |r| {
                r.trace -= 1;
                r.trace == 0
            },
            |d, m| d.trace &= m,
        );
    }

    /// A voluntary context switch: a quiescent state of Tasks RCU.
    pub fn tasks_quiescent(&mut self) {
        self.end_reader(
            |r| {
                r.tasks = false;
                true
            },
            |d, m| d.tasks &= m,
        );
    }

    fn end_reader(
        &mut self,
        leave: impl Fn(&mut Readers) -> bool,
        clear: impl Fn(&mut Deferred, Mask),
    ) {
        if !leave(&mut self.c().readers) {
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

    /// `synchronize_rcu()` begins on this CPU.
    pub fn synchronize_rcu_begin(&mut self) {
        let rcu = self.k.readers(|r| r.rcu > 0);
        self.c().wait = Deferred {
            stage: 1,
            rcu,
            ..Deferred::default()
        };
    }

    // ---- what others can see -----------------------------------------------------------------------

    /// Somebody may load function pointers from this kdata: a registration or a user has it.
    pub fn in_use(&self, key: KdataKey) -> bool {
        self.k.kdatas.get(key).is_some_and(|d| d.registered > 0)
            || self.k.socks.iter().any(|s| s.kdata == Some(key))
    }

    /// Marks a change that others can see; taken back by [`Exec::undo`].
    pub fn touch(&mut self, what: u8) {
        if let Some(cpu) = self.k.cpus.get_mut(usize::from(self.cpu)) {
            cpu.dirty |= what;
        }
    }

    /// The change was taken back.
    pub fn undo(&mut self, what: u8) {
        if let Some(cpu) = self.k.cpus.get_mut(usize::from(self.cpu)) {
            cpu.dirty &= !what;
        }
    }

    // ---- ksyms and images --------------------------------------------------------------------------

    /// `bpf_struct_ops_map_add_ksyms()`: up to the first NULL.
    pub fn add_ksyms(&mut self, key: KdataKey) -> Step {
        for ksym in self.kdata(key)?.ksyms {
            let Some(ksym) = ksym else { break };
            self.ksym(ksym)?.listed = true;
        }
        self.touch(dirty::KSYM);
        event!(self, "ksyms added to kallsyms");
        Ok(())
    }

    /// `bpf_struct_ops_map_del_ksyms()`.
    pub fn del_ksyms(&mut self, key: KdataKey) -> Step {
        for ksym in self.kdata(key)?.ksyms {
            let Some(ksym) = ksym else { break };
            self.ksym(ksym)?.listed = false;
        }
        self.undo(dirty::KSYM);
        Ok(())
    }

    /// `bpf_struct_ops_map_free_ksyms()`: kfree() does not look whether kallsyms still has the entry.
    pub fn free_ksyms(&mut self, key: KdataKey) -> Step {
        let ksyms = std::mem::take(&mut self.kdata(key)?.ksyms);
        for ksym in ksyms {
            let Some(ksym) = ksym else { break };
            if self.ksym(ksym)?.listed {
                event!(self, "a ksym is freed that kallsyms still lists");
                self.violate(Invariant::KsymsMatchImages);
            }
            self.k.ksyms.remove(ksym);
        }
        Ok(())
    }

    /// `bpf_struct_ops_map_free_image()`.
    pub fn free_images(&mut self, key: KdataKey) -> Step {
        if self.in_use(key) && self.kdata(key)?.pages.iter().any(Option::is_some) {
            self.touch(dirty::IMAGE);
        }
        let pages = std::mem::take(&mut self.kdata(key)?.pages);
        let mut any = false;
        for page in pages.into_iter().flatten() {
            self.image(page)?;
            if self
                .k
                .ksyms
                .iter()
                .any(|(_, s)| s.listed && s.func.image == Some(page))
            {
                event!(self, "kallsyms still names a trampoline in the page");
                self.violate(Invariant::KsymsMatchImages);
            }
            self.k.images.remove(page);
            any = true;
        }
        if any {
            self.report.witness(Invariant::NoUseAfterFree);
            event!(self, "image pages freed");
        }
        Ok(())
    }

    /// The pages become read-only and executable.
    pub fn protect(&mut self, key: KdataKey) -> Step {
        for page in self.kdata(key)?.pages.into_iter().flatten() {
            self.image(page)?.protected = true;
            self.report.witness(Invariant::TextImmutable);
        }
        Ok(())
    }

    /// A function pointer becomes visible through `key`.
    pub fn set_func(&mut self, key: KdataKey, member: usize, func: Func) -> Step {
        if self.in_use(key) && self.kdata(key)?.func[member] != func {
            self.touch(dirty::FUNC);
        }
        self.kdata(key)?.func[member] = func;
        Ok(())
    }

    /// kallsyms has the trampoline.
    pub fn named(&self, func: Func) -> bool {
        self.k.ksyms.iter().any(|(_, s)| s.listed && s.func == func)
    }

    /// Programs can ask for their cookie.
    pub fn has_cookies(&self) -> bool {
        self.design.identity == Identity::Cookie
    }

    /// kallsyms learns of trampolines before they are reachable.
    pub fn ksyms_early(&self) -> bool {
        self.design.kallsyms == KsymTime::BeforeReg
    }

    // ---- end of an operation -------------------------------------------------------------------------

    /// The system call returns: the contract is judged and the CPU forgets.
    pub fn finish(&mut self) -> Step {
        let cpu = *self.c();
        debug_assert_eq!(cpu.holds, 0, "{:?} ends holding references", cpu.op);
        event!(self, "returns {}", errno::name(cpu.err));
        if cpu.err != 0 {
            self.report.witness(Invariant::ErrnoContract);
            if cpu.dirty != 0 {
                self.violate(Invariant::FailureAtomic);
            }
        }
        if !crate::contract::allows(self.world, self.design, self.k, &cpu) {
            self.violate(Invariant::ErrnoContract);
            event!(
                self,
                "the contract allows {}",
                crate::contract::allowed(self.world, self.design, self.k, &cpu)
            );
        }
        let next = Cpu {
            position: cpu.position,
            readers: cpu.readers,
            ..Cpu::default()
        };
        *self.c() = if cpu.op == OpKind::Exit {
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

    /// Gives up the reference that `flag` stands for without dropping it: somebody else owns it now.
    pub fn hand_over(&mut self, flag: u8) {
        debug_assert!(self.c().holds & flag != 0);
        self.c().holds &= !flag;
    }

    /// Drops the CPU's own map reference.
    pub fn put_my_map(&mut self) -> Step {
        let map = self.c().map.expect("holds a map");
        self.hand_over(holds::MAP);
        self.map_put(map)
    }
}
