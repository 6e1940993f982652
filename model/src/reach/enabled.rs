//! Which actions are possible: what loaders do next, which programs are called, what those that run may do, what is freed.

use super::context::{Hook, Recursion, Way};
use super::machine::Reach;
use super::state::{Action, Frame, Life, MapLife, ProgLife, STOPPED, Stage, State};
use super::world::Op;
use crate::design::Identity;

impl Reach {
    /// Appends the actions of a state, always in the same order.
    pub fn enabled(&self, s: &State, out: &mut Vec<Action>) {
        for (i, loader) in (0u8..).zip(&self.world.loaders) {
            let next = s.next[usize::from(i)];
            let before = loader
                .after
                .map(|other| usize::from(s.next[usize::from(other)]));
            let other = loader.after.map_or(0, |other| {
                self.world.loaders[usize::from(other)].first.len()
            });
            if next == STOPPED || before.is_some_and(|n| n < other) {
                continue;
            }
            if let Some(op) = loader.first.get(usize::from(next)) {
                if self.possible(s, *op) {
                    out.push(Action::Loader(i, *op));
                }
                continue;
            }
            for (bit, op) in loader.later.iter().enumerate() {
                if s.done[usize::from(i)] & (1 << bit) == 0 && self.possible(s, *op) {
                    out.push(Action::Loader(i, *op));
                }
            }
        }
        for cpu in 0..self.world.cpus {
            self.on_cpu(s, cpu, out);
        }
        for (i, sched) in (0u8..).zip(&s.scheds[..self.world.scheds.len()]) {
            if sched.life == Life::Dying && sched.gp == 0 {
                out.push(Action::SchedFree(i));
            }
            if sched.map == MapLife::Live && sched.refs == 0 {
                out.push(Action::MapClear(i));
            }
            if sched.map == MapLife::Dying && sched.map_gp == 0 {
                out.push(Action::MapFree(i));
            }
        }
        for (i, prog) in (0u8..).zip(&s.progs[..self.world.progs.len()]) {
            let runs = || {
                s.cpus
                    .iter()
                    .any(|c| c.frames[..usize::from(c.depth)].iter().any(|f| f.prog == i))
            };
            if prog.life == ProgLife::Loaded && prog.refs == 0 && !runs() {
                out.push(Action::ProgFree(i));
            }
        }
    }

    /// Whether a loader's operation has a meaning now. What would fail with -EBUSY is tried again later.
    fn possible(&self, s: &State, op: Op) -> bool {
        let sched = |i: u8| &s.scheds[usize::from(i)];
        match op {
            Op::Load(_) | Op::Store(..) => true,
            Op::MapCreate(i) => {
                // An id is given out again only when its map is gone.
                let id = self.world.scheds[usize::from(i)].map_id;
                let taken = |(j, other): (usize, &super::world::Sched)| {
                    other.map_id == id && !matches!(s.scheds[j].map, MapLife::None | MapLife::Freed)
                };
                sched(i).map == MapLife::None && !self.world.scheds.iter().enumerate().any(taken)
            }
            Op::MapUpdate(i) | Op::MapUpdateFails(i) => {
                sched(i).map == MapLife::Live && !sched(i).filled
            }
            Op::Associate(p, i) => {
                sched(i).map == MapLife::Live && s.progs[usize::from(p)].life != ProgLife::None
            }
            Op::Attach(a) => !s.attached[usize::from(a)],
            Op::LinkCreate(i) => {
                let several = self.world.subs && self.design.identity != Identity::None;
                sched(i).filled
                    && sched(i).map == MapLife::Live
                    && matches!(sched(i).life, Life::None | Life::Freed)
                    && (several || s.scheds.iter().all(|o| o.life != Life::Enabled))
            }
            // Both flush the calls in progress before the scheduler is marked dead.
            Op::LinkClose(i) => sched(i).link && !self.in_progress(s, i),
            Op::Error(i) => sched(i).life == Life::Enabled && !self.in_progress(s, i),
            Op::Detach(a) => s.attached[usize::from(a)],
            Op::MapClose(i) => sched(i).fd,
            Op::Exit(o) => self.of_object(o).any(|p| s.progs[usize::from(p)].fd),
        }
    }

    /// What the operation names is there: it is not carried out on nothing.
    pub fn has_object(&self, s: &State, op: Op) -> bool {
        let life = |p: u8| s.progs[usize::from(p)].life;
        match op {
            Op::Attach(a) => life(self.world.attachments[usize::from(a)].prog) == ProgLife::Loaded,
            Op::Store(object, _) => self.of_object(object).any(|p| life(p) != ProgLife::None),
            _ => true,
        }
    }

    /// A member of the scheduler's struct runs.
    fn in_progress(&self, s: &State, i: u8) -> bool {
        let frames = s
            .cpus
            .iter()
            .flat_map(|c| &c.frames[..usize::from(c.depth)]);
        let mut members = frames.filter(|f| f.sched == i && !f.callback);
        members.any(|f| self.world.progs[usize::from(f.prog)].kind.facts().hook == Hook::Member)
    }

    pub(super) fn of_object(&self, object: u8) -> impl Iterator<Item = u8> {
        (0u8..)
            .zip(&self.world.progs)
            .filter(move |(_, p)| p.object == object)
            .map(|(i, _)| i)
    }

    fn on_cpu(&self, s: &State, cpu: u8, out: &mut Vec<Action>) {
        let c = &s.cpus[usize::from(cpu)];
        let top = c.depth.checked_sub(1).map(|d| &c.frames[usize::from(d)]);
        if let Some(frame) = top {
            let prog = &self.world.progs[usize::from(frame.prog)];
            if frame.stage == Stage::Running {
                let callee = prog
                    .callee
                    .filter(|c| s.progs[usize::from(*c)].life == ProgLife::Loaded);
                if prog.kind.way.is_callback() && !frame.callback {
                    let uref = s.progs[usize::from(frame.prog)].fd;
                    if uref && !s.asyncs[usize::from(frame.sched)].armed {
                        out.push(Action::Arm(cpu));
                    }
                } else if prog.kind.way.is_other_program() && !prog.is_callee {
                    if callee.is_some() {
                        out.push(Action::Jump(cpu));
                    }
                } else if prog.asks && self.takes_task(frame.prog) {
                    // A member is called for a task of its scheduler; others come upon any.
                    let tasks = 0..self.world.scheds.len() as u8;
                    let own = self.is_struct_ops(frame.prog) && !frame.callback;
                    let tasks = tasks.filter(|task| !own || *task == frame.sched);
                    out.extend(tasks.map(|task| Action::AskTask(cpu, task)));
                } else if prog.asks {
                    out.push(Action::Ask(cpu));
                }
            }
            out.push(match frame.stage {
                Stage::Holding => Action::Use(cpu),
                _ => Action::Return(cpu),
            });
        }
        if c.depth >= self.world.depth {
            return;
        }
        for (i, sched) in (0u8..).zip(&self.world.scheds) {
            if s.scheds[usize::from(i)].life != Life::Enabled {
                continue;
            }
            for prog in &sched.members {
                if self.may_enter(s, cpu, *prog) {
                    out.push(Action::Member(cpu, i, *prog));
                }
            }
        }
        for (i, attachment) in (0u8..).zip(&self.world.attachments) {
            if s.attached[usize::from(i)] && self.may_enter(s, cpu, attachment.prog) {
                out.push(Action::Hook(cpu, i));
            }
        }
        for (i, element) in (0u8..).zip(&s.asyncs) {
            // A kworker is a task of its own; a timer's softirq comes over whatever runs, but not over itself.
            let busy = s.cpus.iter().any(|c| {
                c.frames[..usize::from(c.depth)]
                    .iter()
                    .any(|f| f.callback && f.sched == i)
            });
            let task = self
                .world
                .progs
                .get(usize::from(element.prog))
                .is_some_and(|p| p.kind.way == Way::Wq);
            if element.armed && !busy && (c.depth == 0 || !task) {
                out.push(Action::Fire(cpu, i));
            }
        }
    }

    /// Whether the program's hook may be hit on this CPU now, and recursion does not keep it from running.
    fn may_enter(&self, s: &State, cpu: u8, prog: u8) -> bool {
        let facts = self.world.progs[usize::from(prog)].kind.facts();
        let c = &s.cpus[usize::from(cpu)];
        let frames = &c.frames[..usize::from(c.depth)];
        let entered = |f: &Frame| self.world.progs[usize::from(f.prog)].kind.facts().recursion;
        (facts.hook != Hook::Task || c.depth == 0)
            && match facts.recursion {
                Recursion::Free => true,
                Recursion::Program => frames.iter().all(|f| f.prog != prog || f.callback),
                Recursion::Cpu => frames
                    .iter()
                    .all(|f| entered(f) != Recursion::Cpu || f.callback),
            }
    }
}
