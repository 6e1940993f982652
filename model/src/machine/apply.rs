//! What an action does: one step, or a transaction of steps that nobody can tell apart from one; and what it breaks.
//!
//! Not here: what a step does (in `proc` and `subsys`), and which steps commute ([`crate::mover`]).

use super::{Action, Machine};
use crate::assoc::Assoc;
use crate::backend::{Backend, event};
use crate::errno;
use crate::invariant::{self, Invariant};
use crate::kernel::{Cpu, CpuId, Kernel};
use crate::met;
use crate::mover;
use crate::operation::OpKind;
use crate::pc::{Mover, Pc};
use crate::proc::{assoc, attachment, map_free, syscall};
use crate::quarantine::collect_freed;
use crate::report::Report;
use crate::tables::Tables;

impl Machine {
    /// Applies an enabled action. `event` gets a sentence about each step.
    pub fn apply(
        &self,
        k: &mut Kernel,
        action: Action,
        report: &mut Report,
        event: Option<&mut String>,
    ) {
        self.apply_recorded(k, action, report, event, None);
    }

    /// Applies an enabled action and gives the steps that were merged into it, each an action of its own.
    pub fn expand(&self, k: &mut Kernel, action: Action) -> Vec<Action> {
        let mut steps = Vec::new();
        self.apply_recorded(k, action, &mut Report::default(), None, Some(&mut steps));
        steps
    }

    fn apply_recorded(
        &self,
        k: &mut Kernel,
        action: Action,
        report: &mut Report,
        mut event: Option<&mut String>,
        mut steps: Option<&mut Vec<Action>>,
    ) {
        let mut record = |action| {
            if let Some(steps) = steps.as_deref_mut() {
                steps.push(action);
            }
        };
        record(action);
        let pre = self.take(k, action, report, &mut event);
        if self.merge {
            if let Some(task) = self.task(action) {
                let next = match action {
                    Action::LinkWork(link, _) => Action::LinkWork(link, 0),
                    Action::Callback(prog) => Action::Callback(prog),
                    _ => Action::Step(task, 0),
                };
                self.transaction(k, (task, next), pre, report, &mut event, &mut record);
            }
            self.work(k, report, &mut event, &mut record);
        }
        if !k.dead && self.somebody_waits(k) {
            report.witness(Invariant::NoDeadlock);
        }
    }

    /// A transaction after Lipton: right movers, at most one step that others can observe, left movers.
    fn transaction(
        &self,
        k: &mut Kernel,
        (cpu, next): (CpuId, Action),
        mut pre: bool,
        report: &mut Report,
        event: &mut Option<&mut String>,
        record: &mut dyn FnMut(Action),
    ) {
        while let Some(info) = k.cpus[usize::from(cpu)].pc.info() {
            if k.dead
                || !report.violations.is_empty()
                || !self.can_move(k, cpu)
                || self.alternatives(k, cpu) > 1
            {
                return;
            }
            match (pre, mover::of(self, k, cpu, info.mover)) {
                (true, Mover::No | Mover::Left) => pre = false,
                (true, _) | (false, Mover::Both | Mover::Left) => {}
                (false, _) => return,
            }
            record(next);
            self.take(k, next, report, event);
        }
    }

    /// The worker acts at once where that hides nothing: a grace period that begins earlier waits for fewer
    /// readers, and a free is observed only by those who still hold a pointer to what goes.
    fn work(
        &self,
        k: &mut Kernel,
        report: &mut Report,
        event: &mut Option<&mut String>,
        record: &mut dyn FnMut(Action),
    ) {
        let mut actions = Vec::new();
        loop {
            actions.clear();
            self.enabled_work(k, &mut actions);
            let Some(action) = actions.iter().find(|a| !self.leaves_stale_keys(k, **a)) else {
                return;
            };
            record(*action);
            self.take(k, *action, report, event);
        }
    }

    /// The worker's next step would free something to which somebody holds a pointer.
    fn leaves_stale_keys(&self, k: &Kernel, action: Action) -> bool {
        let frees = match action {
            // Until then its map is there, and others find it.
            Action::ProgWork(_) => return true,
            Action::MapWork(_) | Action::AttachmentWork(_) => {
                matches!(
                    self.label(k, action),
                    Pc::MapFree | Pc::MapFreeGp | Pc::AttachmentFreeEnd
                )
            }
            _ => false,
        };
        if !frees {
            return false;
        }
        // As long as programs are tied to it, more may come, and another map that takes them makes them POISON.
        let leads = |map| k.progs.iter().any(|prog| prog.assoc == Assoc::Map(map));
        if matches!(action, Action::MapWork(map) if self.asks && leads(map)) {
            return true;
        }
        let mut after = *k;
        let mut report = Report::default();
        self.take(&mut after, action, &mut report, &mut None);
        report.fatal || after.in_quarantine() > k.in_quarantine()
    }

    /// One step. Returns whether it was a right or both mover, so that one more may follow freely.
    fn take(
        &self,
        k: &mut Kernel,
        action: Action,
        report: &mut Report,
        event: &mut Option<&mut String>,
    ) -> bool {
        let label = self.work_label(k, action);
        let mut x = self.tables(k, self.task(action).unwrap_or(CpuId::MAX), report);
        x.event = event.as_deref_mut();
        let mut early = false;
        let result = match action {
            Action::Begin(_, mut request) => {
                if request.kind == OpKind::Exit {
                    x.choice = std::mem::take(&mut request.arg);
                }
                let begun = syscall::begin(&mut x, request);
                if request.kind == OpKind::None {
                    x.cpu().err = errno::EBADF;
                    x.returned(OpKind::None, false);
                    event!(x, "no such fd: -EBADF");
                    // What the contract says of a descriptor that is not open, before any step.
                    x.witness(Invariant::ErrnoContract);
                    let position = x.cpu().position;
                    *x.cpu() = Cpu {
                        position,
                        ..Cpu::default()
                    };
                    begun
                } else {
                    begun.and_then(|()| {
                        x.pc = x.cpu().pc;
                        met::note(&mut x);
                        crate::proc::step(&mut x)
                    })
                }
            }
            Action::LinkWork(link, _) if x.k.links.get(link).is_some_and(|l| l.queued) => {
                x.k.links[link].queued = false;
                crate::proc::begin_dealloc(&mut x, link).and_then(|()| {
                    x.pc = x.cpu().pc;
                    let listed = x.pc.info().map_or(Mover::No, |i| i.mover);
                    early = mover::of(self, x.k, x.cpu, listed) == Mover::Both;
                    crate::proc::step(&mut x)
                })
            }
            Action::Callback(prog) if x.cpu().pc == Pc::Idle => {
                crate::proc::begin_callback(&mut x, prog).and_then(|()| {
                    x.pc = x.cpu().pc;
                    crate::proc::step(&mut x)
                })
            }
            Action::Step(..) | Action::LinkWork(..) | Action::Callback(_) => {
                let cpu = x.cpu;
                x.pc = x.k.cpus[usize::from(cpu)].pc;
                x.choice = match action {
                    Action::Step(_, choice) | Action::LinkWork(_, choice) => choice,
                    _ => 0,
                };
                let mover =
                    x.pc.info()
                        .map_or(Mover::No, |i| mover::of(self, x.k, cpu, i.mover));
                early = matches!(mover, Mover::Right | Mover::Both);
                met::note(&mut x);
                crate::proc::step(&mut x)
            }
            Action::MapWork(map) => {
                x.pc = label;
                map_free::work(&mut x, map)
            }
            Action::AttachmentWork(attachment) => {
                x.pc = label;
                attachment::work(&mut x, attachment)
            }
            Action::ProgWork(prog) => {
                x.pc = label;
                assoc::free(&mut x, prog)
            }
        };
        self.judge(&mut x, result.is_err());
        early
    }

    /// The invariants that a state shows, each where the step has touched what it is about.
    fn judge(&self, x: &mut Tables<'_>, stopped: bool) {
        x.report.steps += 1;
        x.report.taken.insert(x.pc);
        collect_freed(x.k);
        if stopped {
            x.report.fatal = true;
            return;
        }
        let balance = |x: &Tables<'_>, progs| {
            invariant::counts_balance(x.k, &self.world, &self.design, progs)
        };
        debug_assert!(
            !x.counted || x.progs_counted || balance(x, true) == balance(x, false),
            "a count of a program, or who holds one, has changed, and its primitive does not say so: {:?}",
            x.pc
        );
        if x.counted && !balance(x, x.progs_counted) {
            let _ = x.broken(
                Invariant::RefcountsBalance,
                format_args!("a count differs from its holders"),
            );
            x.report.fatal = true;
            return;
        }
        if let Some(kdata) = x.doubled
            && invariant::first_to_have_two_links(x.k, kdata)
        {
            x.report.violate(Invariant::SingleLinkPerMap, x.pc);
        }
    }

    /// Judges a state in which nothing is enabled.
    pub fn terminal(&self, k: &Kernel, report: &mut Report) {
        if k.dead {
            return;
        }
        if k.cpus.iter().any(|c| c.pc != Pc::Idle) {
            let stuck = k
                .cpus
                .iter()
                .find(|c| c.pc != Pc::Idle)
                .map_or(Pc::Idle, |c| c.pc);
            report.violate(Invariant::NoDeadlock, stuck);
            return;
        }
        let cpus = 0..self.world.cpus.len() as CpuId;
        if let Some((pc, _)) = cpus.filter_map(|c| self.waits_to_begin(k, c)).next() {
            report.violate(Invariant::NoDeadlock, pc);
            return;
        }
        report.witness(Invariant::NoLeak);
        if !invariant::eventual_release(k, &self.world) {
            report.violate(Invariant::EventualRelease, Pc::Idle);
        } else if !invariant::no_leak(k, &self.world) {
            report.violate(Invariant::NoLeak, Pc::Idle);
        }
    }
}
