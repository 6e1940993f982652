//! The explorer's backend: the vocabulary carried out on a [`Kernel`] of fixed-size tables, alone and at once.
//!
//! Here each rule that holds for all steps is checked in one place: what is freed is not used, counts do not fall below
//! 0, an executable page is not written. Not a step, and not the order of steps: those are in `proc`, `subsys` and
//! [`crate::machine`].

mod locking;
mod memory;
mod objects;
mod processes;
mod structures;
mod trampolines;

use std::fmt::Arguments;

use crate::backend::{Backend, Gone, HasPointers, Step, Stop, event};
use crate::contract;
use crate::design::Design;
use crate::errno;
use crate::invariant::Invariant;
use crate::kernel::{
    Cpu, CpuId, Dirty, Image, ImageKey, Kdata, KdataKey, Kernel, Ksym, KsymKey, Link, LinkKey, Map,
    MapKey, Mask, Slots,
};
use crate::pc::Pc;
use crate::report::{Report, Returned};
use crate::table::Full;
use crate::world::{OpKind, Operand, World};

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
    pub within: u32,
    /// A reference count or its holders changed.
    pub counted: bool,
    /// The same of programs.
    pub progs_counted: bool,
    /// A kdata that was registered once is registered twice.
    pub doubled: Option<KdataKey>,
}

impl HasPointers for Tables<'_> {
    type P = Slots;
}

impl<'a> Tables<'a> {
    /// A step of `cpu` that has done nothing yet.
    pub(crate) fn new(
        world: &'a World,
        design: &'a Design,
        k: &'a mut Kernel,
        cpu: CpuId,
        report: &'a mut Report,
    ) -> Self {
        Tables {
            k,
            world,
            design,
            cpu,
            pc: Pc::Idle,
            choice: 0,
            allocs: 0,
            report,
            event: None,
            within: 0,
            counted: false,
            progs_counted: false,
            doubled: None,
        }
    }
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

    // ---- a scenario's own subsystems ---------------------------------------------------------------

    fn task(&self) -> u8 {
        self.cpu
    }

    fn table_full(&mut self) -> Stop {
        self.full(Full)
    }
}

/// Primitives by themselves, for tests of them.
#[cfg(test)]
pub(crate) mod alone {
    use super::*;

    /// What primitives do on a CPU in a world and a state.
    pub(crate) fn on<R>(
        world: &World,
        k: &mut Kernel,
        cpu: CpuId,
        work: impl FnOnce(&mut Tables<'_>) -> R,
    ) -> R {
        let (design, mut report) = (Design::mainline(), Report::default());
        work(&mut Tables::new(world, &design, k, cpu, &mut report))
    }
}
