//! The machine: which actions are enabled, and what each does. One `match` arm per action.
//!
//! How the scheduler is found is in `lookup`; the facts on program types are in `context`.

use std::fmt::Write;

use super::context::{Hook, Recursion, RunCtx, Way};
use super::label::Label;
use super::lookup::Answer;
use super::state::{Action, Async, Frame, Life, MapLife, POISON, ProgLife, Stage, State};
use super::world::{Op, Source, World};
use crate::assoc::{Assoc, Tied};
use crate::design::{
    AssocAgain, AssocClear, AssocGet, AssocRef, AssocTie, AssocUndo, Design, Identity, SameKey,
    ThisClear, Twin,
};
use crate::invariant::{Invariant, InvariantSet};

/// A loader that has met an error that it must not ignore: it goes no further.
const STOPPED: u8 = u8::MAX;

/// What somebody learned; the table is made of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Found {
    /// A program asked and found its own scheduler: which.
    Own(u8),
    /// It found nothing although its scheduler is enabled: which.
    Nothing(u8),
    /// The verifier or a system call refused what the scheduler's loader wants: which.
    Refused(u8),
}

/// What one step did.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What it broke.
    pub violations: Vec<Invariant>,
    /// Put to the test.
    pub witnessed: InvariantSet,
    /// What was learned.
    pub found: Option<Found>,
    /// Memory that is gone was used: nothing that follows means anything.
    pub fatal: bool,
}

impl Report {
    fn violate(&mut self, invariant: Invariant) {
        if !self.violations.contains(&invariant) {
            self.violations.push(invariant);
        }
    }

    fn witness(&mut self, invariant: Invariant) {
        self.witnessed.insert(invariant);
    }
}

/// A design in a world.
#[derive(Clone, Debug)]
pub struct Reach {
    /// What there is.
    pub world: World,
    /// How a scheduler is found.
    pub design: Design,
}

/// A step in the making.
struct Step<'a> {
    reach: &'a Reach,
    s: &'a mut State,
    report: &'a mut Report,
    said: Option<&'a mut String>,
}

macro_rules! say {
    ($step:expr, $($arg:tt)+) => {
        if let Some(said) = $step.said.as_deref_mut() {
            if !said.is_empty() {
                said.push_str("; ");
            }
            let _ = write!(said, $($arg)+);
        }
    };
}

impl Reach {
    /// A design in a world.
    pub fn new(world: World, design: Design) -> Self {
        Reach { world, design }
    }

    /// Nothing is loaded.
    pub fn initial(&self) -> State {
        State::default()
    }

    /// The label of an action in a state.
    pub fn label(&self, s: &State, action: Action) -> Label {
        match action {
            Action::Loader(_, op) => match op {
                Op::Load(_) => Label::Load,
                Op::MapCreate(_) => Label::MapCreate,
                Op::MapUpdate(_) | Op::MapUpdateFails(_) => Label::MapUpdate,
                Op::Associate(..) => Label::Associate,
                Op::Store(..) => Label::Store,
                Op::Attach(_) => Label::Attach,
                Op::LinkCreate(_) => Label::LinkCreate,
                Op::LinkClose(_) => Label::LinkClose,
                Op::Error(_) => Label::Error,
                Op::Detach(_) => Label::Detach,
                Op::MapClose(_) => Label::MapClose,
                Op::Exit(_) => Label::Exit,
            },
            Action::Member(..) | Action::Hook(..) => Label::Enter,
            Action::Fire(_, sched) => match self.way(s.asyncs[usize::from(sched)].prog) {
                Way::Wq => Label::Wq,
                _ => Label::Timer,
            },
            Action::Arm(_) => Label::Arm,
            Action::Jump(_) => Label::Jump,
            Action::Ask(cpu) => {
                let cpu = &s.cpus[usize::from(cpu)];
                let asks = cpu
                    .depth
                    .checked_sub(1)
                    .map(|f| cpu.frames[usize::from(f)].prog);
                match asks.map(|prog| self.world.progs[usize::from(prog)].source) {
                    Some(Source::Root) => Label::AskRoot,
                    _ => Label::Ask,
                }
            }
            Action::AskTask(..) => Label::AskTask,
            Action::Use(_) => Label::Use,
            Action::Return(_) => Label::Return,
            Action::SchedFree(_) => Label::SchedFree,
            Action::MapClear(_) => Label::MapClear,
            Action::MapFree(_) => Label::MapFree,
            Action::ProgFree(_) => Label::ProgFree,
        }
    }

    fn way(&self, prog: u8) -> Way {
        self.world.progs[usize::from(prog)].kind.way
    }

    // ---- what may happen ------------------------------------------------------------------------------

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

    fn of_object(&self, object: u8) -> impl Iterator<Item = u8> {
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

    // ---- what happens ---------------------------------------------------------------------------------

    /// Takes one action.
    pub fn apply(
        &self,
        s: &mut State,
        action: Action,
        report: &mut Report,
        said: Option<&mut String>,
    ) {
        let before = *s;
        let balanced = self.has_pointer() && self.balanced(s);
        let mut step = Step {
            reach: self,
            s,
            report,
            said,
        };
        match action {
            Action::Loader(loader, op) => step.loader(loader, op),
            Action::Member(cpu, sched, prog) => {
                say!(
                    step,
                    "scheduler {} calls it",
                    self.world.scheds[usize::from(sched)].name
                );
                step.enter(cpu, prog, sched, self.slot(sched));
            }
            Action::Hook(cpu, a) => {
                let attachment = &self.world.attachments[usize::from(a)];
                say!(step, "the hook of {} is hit", attachment.name);
                step.enter(cpu, attachment.prog, attachment.sched, attachment.cookie);
            }
            Action::Fire(cpu, sched) => step.fire(cpu, sched),
            Action::Arm(cpu) => step.arm(cpu),
            Action::Jump(cpu) => {
                let frame = step.frame(cpu);
                let callee = self.world.progs[usize::from(frame.prog)].callee;
                frame.prog = callee.unwrap_or(frame.prog);
                let prog = frame.prog;
                say!(
                    step,
                    "{} goes on, in the same run context",
                    self.prog_name(prog)
                );
            }
            Action::Ask(cpu) => step.ask(cpu),
            Action::AskTask(cpu, task) => step.ask_task(cpu, task),
            Action::Use(cpu) => step.use_it(cpu),
            Action::Return(cpu) => {
                let c = &mut step.s.cpus[usize::from(cpu)];
                c.depth -= 1;
                let frame = std::mem::take(&mut c.frames[usize::from(c.depth)]);
                c.bpf_ctx = frame.saved;
                say!(step, "{} returns", self.prog_name(frame.prog));
                step.quiescent(cpu);
            }
            Action::SchedFree(i) => {
                step.s.scheds[usize::from(i)].life = Life::Freed;
                say!(
                    step,
                    "the memory of scheduler {} is freed",
                    self.sched_name(i)
                );
            }
            Action::MapClear(i) => {
                say!(step, "the map of {} is being freed", self.sched_name(i));
                step.s.scheds[usize::from(i)].map = MapLife::Dying;
                step.s.scheds[usize::from(i)].map_gp = step.readers();
                if self.design.lookup.assoc_clear == AssocClear::BeforeGp {
                    step.clear_pointers(i);
                }
            }
            Action::MapFree(i) => {
                say!(
                    step,
                    "the memory of the map of {} is freed",
                    self.sched_name(i)
                );
                if self.design.lookup.assoc_clear == AssocClear::AfterGp {
                    step.clear_pointers(i);
                }
                step.s.scheds[usize::from(i)].map = MapLife::Freed;
                if std::mem::take(&mut step.s.scheds[usize::from(i)].filled) {
                    for prog in &self.world.scheds[usize::from(i)].members {
                        step.put_prog(*prog);
                    }
                }
            }
            Action::ProgFree(i) => {
                say!(step, "{} is freed", self.prog_name(i));
                let assoc = std::mem::take(&mut step.s.progs[usize::from(i)].assoc);
                step.s.progs[usize::from(i)].life = ProgLife::Freed;
                if self.holds_map(i, assoc) {
                    step.put_map(assoc - 1);
                }
            }
        }
        self.judge(&before, balanced, s, report);
    }

    /// The rules of the pointers and the counts.
    fn judge(&self, before: &State, balanced: bool, s: &State, report: &mut Report) {
        if !self.has_pointer() {
            return;
        }
        let healed = before
            .progs
            .iter()
            .zip(&s.progs)
            .any(|(b, a)| b.assoc == POISON && a.assoc != POISON && a.life == ProgLife::Loaded);
        if healed || balanced && !self.balanced(s) {
            report.violate(Invariant::AssocRules);
        }
    }

    /// A program's pointer that holds its map.
    fn holds_map(&self, prog: u8, assoc: u8) -> bool {
        self.design.lookup.assoc_ref == AssocRef::Command
            && !self.is_struct_ops(prog)
            && !matches!(assoc, 0 | POISON)
    }

    /// Every count is the number of holders.
    fn balanced(&self, s: &State) -> bool {
        let getters = |i: u8| {
            let holding = |f: &&Frame| {
                f.stage == Stage::Holding
                    && self.takes_reference(f.prog)
                    && s.progs[usize::from(f.prog)].assoc == i + 1
            };
            s.cpus
                .iter()
                .flat_map(|c| &c.frames[..usize::from(c.depth)])
                .filter(holding)
                .count()
        };
        let maps = (0u8..).zip(&s.scheds).all(|(i, sched)| {
            let tied = (0u8..)
                .zip(&s.progs[..self.world.progs.len()])
                .filter(|(p, prog)| self.holds_map(*p, prog.assoc) && prog.assoc == i + 1)
                .count();
            sched.map != MapLife::Live
                || usize::from(sched.refs)
                    == usize::from(sched.fd) + usize::from(sched.link) + tied + getters(i)
        });
        let progs = (0u8..)
            .zip(&s.progs[..self.world.progs.len()])
            .all(|(p, prog)| {
                let maps = self
                    .world
                    .scheds
                    .iter()
                    .zip(&s.scheds)
                    .filter(|(decl, sched)| sched.filled && decl.members.contains(&p))
                    .count();
                let attached = self
                    .world
                    .attachments
                    .iter()
                    .zip(&s.attached)
                    .filter(|(a, on)| **on && a.prog == p)
                    .count();
                let armed = s.asyncs.iter().filter(|a| a.armed && a.prog == p).count();
                prog.life != ProgLife::Loaded
                    || usize::from(prog.refs) == usize::from(prog.fd) + maps + attached + armed
            });
        maps && progs
    }

    fn takes_reference(&self, prog: u8) -> bool {
        self.design.lookup.assoc_ref == AssocRef::Getter
            && !self.is_struct_ops(prog)
            && !self.takes_task(prog)
    }

    fn prog_name(&self, prog: u8) -> &str {
        &self.world.progs[usize::from(prog)].name
    }

    fn sched_name(&self, sched: u8) -> &str {
        &self.world.scheds[usize::from(sched)].name
    }
}

impl Step<'_> {
    fn sched(&mut self, i: u8) -> &mut super::state::Sched {
        &mut self.s.scheds[usize::from(i)]
    }

    fn prog(&mut self, i: u8) -> &mut super::state::Prog {
        &mut self.s.progs[usize::from(i)]
    }

    fn frame(&mut self, cpu: u8) -> &mut Frame {
        let c = &mut self.s.cpus[usize::from(cpu)];
        &mut c.frames[usize::from(c.depth) - 1]
    }

    fn put_map(&mut self, i: u8) {
        let sched = self.sched(i);
        sched.refs = sched.refs.saturating_sub(1);
    }

    fn put_prog(&mut self, i: u8) {
        let prog = self.prog(i);
        prog.refs = prog.refs.saturating_sub(1);
    }

    /// CPUs in an RCU read-side section now: bit per CPU.
    fn readers(&self) -> u8 {
        let reads = |f: &Frame| {
            let prog = &self.reach.world.progs[usize::from(f.prog)];
            let trace = if f.callback {
                prog.kind.way == Way::Wq
            } else {
                prog.kind.facts().sleepable
            };
            !trace || f.stage == Stage::Holding
        };
        let cpus = (0u8..).zip(&self.s.cpus);
        cpus.filter(|(_, c)| c.frames[..usize::from(c.depth)].iter().any(reads))
            .fold(0, |mask, (i, _)| mask | 1 << i)
    }

    /// Grace periods no longer wait for a CPU that has left its read-side section.
    fn quiescent(&mut self, cpu: u8) {
        if self.readers() & (1 << cpu) == 0 {
            for sched in &mut self.s.scheds {
                sched.gp &= !(1 << cpu);
                sched.map_gp &= !(1 << cpu);
            }
        }
    }

    // ---- loaders --------------------------------------------------------------------------------------

    fn loader(&mut self, loader: u8, op: Op) {
        let reach = self.reach;
        let lists = &reach.world.loaders[usize::from(loader)];
        let next = &mut self.s.next[usize::from(loader)];
        if usize::from(*next) < lists.first.len() {
            *next += 1;
        } else if let Some(bit) = lists
            .later
            .iter()
            .enumerate()
            .position(|(bit, o)| *o == op && self.s.done[usize::from(loader)] & (1 << bit) == 0)
        {
            self.s.done[usize::from(loader)] |= 1 << bit;
        }
        if let Err((why, sched)) = self.operate(op) {
            say!(self, "{why}: the loader goes no further");
            self.s.next[usize::from(loader)] = STOPPED;
            self.report.found = Some(Found::Refused(sched));
        }
    }

    /// Carries out an operation; an error that the loader must heed, and for which scheduler it worked.
    fn operate(&mut self, op: Op) -> Result<(), (&'static str, u8)> {
        let reach = self.reach;
        let (identity, old_kernel) = (reach.design.identity, reach.world.old_kernel());
        match op {
            Op::Load(object) => self.load(object),
            Op::MapCreate(i) => {
                say!(
                    self,
                    "map_create for {}: id {}",
                    reach.sched_name(i),
                    reach.world.scheds[usize::from(i)].map_id
                );
                if identity == Identity::MapExtra {
                    if old_kernel {
                        return Err(("map_extra of a struct_ops map: -EINVAL", i));
                    }
                    say!(self, "map_extra {:#x}", reach.key(i));
                }
                let sched = self.sched(i);
                (sched.map, sched.refs, sched.fd) = (MapLife::Live, 1, true);
            }
            Op::MapUpdate(i) => return self.map_update(i, false),
            Op::MapUpdateFails(i) => return self.map_update(i, true),
            Op::Associate(prog, i) => return self.associate(prog, i),
            Op::Store(object, i) => {
                let key = reach.key(i);
                say!(
                    self,
                    "global variable of {}: {key:#x}",
                    reach.world.objects[usize::from(object)]
                );
                self.s.globals[usize::from(object)] = key;
            }
            Op::Attach(a) => {
                let attachment = &reach.world.attachments[usize::from(a)];
                if self.prog(attachment.prog).life == ProgLife::Loaded {
                    let field = reach.world.progs[usize::from(attachment.prog)]
                        .kind
                        .facts()
                        .field;
                    say!(
                        self,
                        "{} is attached for {}",
                        attachment.name,
                        reach.sched_name(attachment.sched)
                    );
                    if let Some(field) = field {
                        say!(self, "{field} = {:#x}", attachment.cookie);
                    }
                    self.s.attached[usize::from(a)] = true;
                    self.prog(attachment.prog).refs += 1;
                } else {
                    say!(
                        self,
                        "{} is not loaded: nothing to attach",
                        reach.prog_name(attachment.prog)
                    );
                }
            }
            Op::LinkCreate(i) => return self.link_create(i),
            Op::LinkClose(i) => self.link_close(i),
            Op::Error(i) => {
                say!(
                    self,
                    "scheduler {} fails and is disabled; its link stays",
                    reach.sched_name(i)
                );
                self.sched(i).life = Life::Dead;
                self.new_root(i);
            }
            Op::Detach(a) => {
                let attachment = &reach.world.attachments[usize::from(a)];
                say!(self, "{} is detached", attachment.name);
                self.s.attached[usize::from(a)] = false;
                self.put_prog(attachment.prog);
            }
            Op::MapClose(i) => {
                say!(
                    self,
                    "the last fd of the map of {} is closed",
                    reach.sched_name(i)
                );
                self.sched(i).fd = false;
                self.put_map(i);
            }
            Op::Exit(object) => {
                say!(
                    self,
                    "the fds of {}'s programs and maps are closed",
                    reach.world.objects[usize::from(object)]
                );
                for prog in reach.of_object(object) {
                    if std::mem::take(&mut self.prog(prog).fd) {
                        self.put_prog(prog);
                    }
                    for i in 0..self.s.asyncs.len() {
                        if self.s.asyncs[i].armed && self.s.asyncs[i].prog == prog {
                            // What a callback that runs has read stays what it is.
                            self.s.asyncs[i].armed = false;
                            self.put_prog(prog);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn load(&mut self, object: u8) {
        let reach = self.reach;
        for i in reach.of_object(object) {
            let name = reach.prog_name(i);
            match reach.verify(i) {
                Ok(()) => {
                    let prog = self.prog(i);
                    (prog.life, prog.refs, prog.fd) = (ProgLife::Loaded, 1, true);
                }
                Err(why) => {
                    say!(
                        self,
                        "{name} ({}) is refused: \"{why}\"",
                        reach.world.progs[usize::from(i)].kind.facts().kind
                    );
                    let owner = reach.owner(i);
                    self.prog(i).life = ProgLife::Refused;
                    self.report.found = Some(Found::Refused(owner));
                }
            }
        }
        if self.report.found.is_none() {
            say!(
                self,
                "object {} is loaded",
                reach.world.objects[usize::from(object)]
            );
        }
    }

    fn map_update(&mut self, i: u8, fails: bool) -> Result<(), (&'static str, u8)> {
        let reach = self.reach;
        let members = &reach.world.scheds[usize::from(i)].members;
        say!(
            self,
            "the map of {} takes its programs",
            reach.sched_name(i)
        );
        if members
            .iter()
            .any(|p| self.s.progs[usize::from(*p)].life != ProgLife::Loaded)
        {
            return Err(("a program of it is not loaded", i));
        }
        let mut taken = 0;
        let as_taken = reach.design.lookup.assoc_tie == AssocTie::AsTaken;
        let mut failure = fails.then_some("the subsystem refuses the struct: map_update fails");
        for prog in members {
            self.prog(*prog).refs += 1;
            taken += 1;
            if self.refuses(*prog, i) {
                failure = Some("a program that another map has: -EINVAL");
                break;
            }
            if as_taken {
                self.tie(*prog, i);
            }
        }
        let Some(why) = failure else {
            if !as_taken {
                for prog in members {
                    self.tie(*prog, i);
                }
            }
            self.sched(i).filled = true;
            return Ok(());
        };
        for prog in &members[..taken] {
            if as_taken {
                self.clear_pointer(*prog, i);
            }
            self.put_prog(*prog);
            if reach.design.lookup.assoc_undo == AssocUndo::Twice {
                self.put_prog(*prog);
            }
        }
        if fails {
            say!(self, "{why}");
            return Ok(());
        }
        Err((why, i))
    }

    /// Whether map_update may not take a program because another map has it.
    fn refuses(&mut self, prog: u8, i: u8) -> bool {
        let reach = self.reach;
        let mut pointer = self.prog(prog).pointer();
        if !reach.has_pointer() || !pointer.is_of_another(i) {
            return false;
        }
        self.report.witness(Invariant::AssocRules);
        pointer.tie(i, &reach.design.lookup) == Tied::Refused
    }

    /// map_update ties a struct_ops program to its map.
    fn tie(&mut self, prog: u8, i: u8) {
        let reach = self.reach;
        if !reach.has_pointer() {
            return;
        }
        let mut pointer = self.prog(prog).pointer();
        let tied = pointer.tie(i, &reach.design.lookup);
        self.prog(prog).point(pointer);
        let name = reach.prog_name(prog);
        match tied {
            Tied::Tied => {}
            Tied::Poisoned => say!(self, "{name} is tied to another map already: POISON"),
            Tied::Kept => say!(self, "{name} stays tied to another map"),
            Tied::Moved => say!(self, "{name} is no longer tied to another map"),
            Tied::Refused => unreachable!("the program was not taken"),
        }
    }

    fn clear_pointer(&mut self, prog: u8, i: u8) {
        let lookup = self.reach.design.lookup;
        let mut pointer = self.prog(prog).pointer();
        pointer.untie(i, &lookup);
        self.prog(prog).point(pointer);
    }

    /// The map knows its struct_ops programs, and no others.
    fn clear_pointers(&mut self, i: u8) {
        for prog in &self.reach.world.scheds[usize::from(i)].members {
            self.clear_pointer(*prog, i);
        }
    }

    /// BPF_PROG_ASSOC_STRUCT_OPS.
    fn associate(&mut self, prog: u8, i: u8) -> Result<(), (&'static str, u8)> {
        let reach = self.reach;
        let (name, sched) = (reach.prog_name(prog), reach.sched_name(i));
        if reach.design.identity != Identity::Association {
            say!(self, "{name} cannot be tied to a map under this design");
            return Ok(());
        }
        if reach.world.old_kernel() {
            return Err(("BPF_PROG_ASSOC_STRUCT_OPS: -EINVAL", i));
        }
        if self.s.progs[usize::from(prog)].life != ProgLife::Loaded {
            say!(self, "{name} is not loaded: nothing to tie");
            return Ok(());
        }
        if reach.is_struct_ops(prog) && reach.way(prog) != Way::Freplace {
            return Err((
                "BPF_PROG_ASSOC_STRUCT_OPS of a struct_ops program: -EINVAL",
                i,
            ));
        }
        let counts = reach.design.lookup.assoc_ref == AssocRef::Command;
        let mut pointer = self.prog(prog).pointer();
        if pointer != Assoc::None {
            self.report.witness(Invariant::AssocRules);
        }
        let Ok(new) = pointer.command(i) else {
            return Err(("the program is tied to another map: -EBUSY", i));
        };
        self.prog(prog).point(pointer);
        let again = reach.design.lookup.assoc_again == AssocAgain::Counted;
        self.sched(i).refs += u8::from(counts && (new || again));
        match new {
            true => say!(self, "{name} is tied to the map of {sched}"),
            false => say!(self, "{name} is tied to the map of {sched} already: 0"),
        }
        Ok(())
    }

    fn link_create(&mut self, i: u8) -> Result<(), (&'static str, u8)> {
        let reach = self.reach;
        let name = reach.sched_name(i);
        let mut key = reach.key(i);
        match reach.design.identity {
            Identity::Cookie | Identity::RunCtx if reach.world.old_kernel() => {
                say!(self, "link_create ignores the cookie {key:#x} and succeeds");
                key = 0;
            }
            Identity::MapId if reach.world.old_kernel() => {
                return Err(("the subsystem cannot learn the map's id", i));
            }
            _ => {}
        }
        let taken = self
            .s
            .scheds
            .iter()
            .any(|o| o.listed && key != 0 && o.key == key && o.life != Life::Freed);
        if taken && reach.design.lookup.same_key == SameKey::Refuse {
            return Err(("another scheduler has this cookie: -EEXIST", i));
        }
        say!(self, "scheduler {name} is enabled");
        if key != 0 {
            say!(self, "known by {key:#x}");
        }
        let sched = self.sched(i);
        (sched.life, sched.key, sched.listed, sched.link) = (Life::Enabled, key, key != 0, true);
        sched.refs += 1;
        if self.s.root == 0 {
            self.s.root = i + 1;
        }
        Ok(())
    }

    fn link_close(&mut self, i: u8) {
        let reach = self.reach;
        say!(
            self,
            "the link of {} is closed, the scheduler disabled and put",
            reach.sched_name(i)
        );
        let readers = self.readers();
        let sched = self.sched(i);
        (sched.life, sched.gp, sched.link) = (Life::Dying, readers, false);
        sched.listed &= reach.design.twin == Twin::StaleEntry;
        self.put_map(i);
        self.new_root(i);
        if reach.design.lookup.this_clear == ThisClear::Detach {
            self.clear_pointers(i);
        }
    }

    /// The root scheduler goes; the next one that is enabled takes its place.
    fn new_root(&mut self, i: u8) {
        if self.s.root == i + 1 {
            let next = self.s.scheds.iter().position(|s| s.life == Life::Enabled);
            self.s.root = next.map_or(0, |n| n as u8 + 1);
        }
    }

    // ---- programs -------------------------------------------------------------------------------------

    fn enter(&mut self, cpu: u8, prog: u8, sched: u8, cookie: u8) {
        let reach = self.reach;
        let facts = reach.world.progs[usize::from(prog)].kind.facts();
        let over = reach.innermost(self.s, cpu);
        if self.prog(prog).life == ProgLife::Freed {
            self.report.violate(Invariant::NoFreedScheduler);
            self.report.fatal = true;
            say!(self, "FREED: {} is gone", reach.prog_name(prog));
        }
        let c = &mut self.s.cpus[usize::from(cpu)];
        let saved = c.bpf_ctx;
        c.frames[usize::from(c.depth)] = Frame {
            prog,
            sched,
            cookie,
            saved,
            ..Frame::default()
        };
        c.depth += 1;
        if facts.run_ctx != RunCtx::Inherited {
            c.bpf_ctx = c.depth;
        }
        let on_behalf = reach.sched_name(sched);
        say!(
            self,
            "{} ({}) runs on behalf of {on_behalf}",
            reach.prog_name(prog),
            facts.enter
        );
        if let Some(over) = over {
            say!(
                self,
                "inside {}, which runs on behalf of {}",
                reach.prog_name(over.prog),
                reach.sched_name(over.sched)
            );
        }
        match facts.run_ctx {
            RunCtx::Cookie
                if reach.design.identity == Identity::RunCtx && facts.hook == Hook::Member =>
            {
                say!(self, "run_ctx.saved_run_ctx->bpf_cookie = {cookie:#x}")
            }
            RunCtx::Cookie => say!(self, "run_ctx.bpf_cookie = {cookie:#x}"),
            RunCtx::Other => say!(self, "its run context has no cookie"),
            RunCtx::Inherited => say!(self, "current->bpf_ctx stays as it was"),
        }
    }

    fn fire(&mut self, cpu: u8, sched: u8) {
        let reach = self.reach;
        let prog = self.s.asyncs[usize::from(sched)].prog;
        let over = reach.innermost(self.s, cpu);
        say!(
            self,
            "the callback of {} runs on behalf of {}, with map, key and value",
            reach.prog_name(prog),
            reach.sched_name(sched)
        );
        if let Some(over) = over {
            say!(
                self,
                "over {}, which runs on behalf of {}",
                reach.prog_name(over.prog),
                reach.sched_name(over.sched)
            );
        }
        let c = &mut self.s.cpus[usize::from(cpu)];
        c.frames[usize::from(c.depth)] = Frame {
            prog,
            sched,
            callback: true,
            saved: c.bpf_ctx,
            ..Frame::default()
        };
        c.depth += 1;
    }

    fn arm(&mut self, cpu: u8) {
        let reach = self.reach;
        let frame = self.frame(cpu);
        frame.stage = Stage::Asked;
        let (prog, sched, cookie) = (frame.prog, frame.sched, frame.cookie);
        let stash = match reach.world.progs[usize::from(prog)].source {
            Source::Stash => cookie,
            _ => 0,
        };
        say!(
            self,
            "{} arms its {}",
            reach.prog_name(prog),
            if reach.way(prog) == Way::Wq {
                "bpf_wq"
            } else {
                "bpf_timer"
            }
        );
        if stash != 0 {
            say!(self, "and leaves {stash:#x} in the map value");
        }
        self.s.asyncs[usize::from(sched)] = Async {
            armed: true,
            prog,
            stash,
        };
        self.prog(prog).refs += 1;
    }

    fn ask(&mut self, cpu: u8) {
        let reach = self.reach;
        let frame = *self.frame(cpu);
        self.asked(&frame);
        let pointed = self.pointed(frame.prog).filter(|_| reach.has_pointer());
        self.count_getter(&frame);
        // The pointer may be followed later only while its map is there.
        let live = |map: &u8| self.s.scheds[usize::from(*map)].map != MapLife::Freed;
        if let Some(map) = pointed.filter(live).filter(|_| reach.world.split) {
            say!(
                self,
                "{} is handed the map of {}",
                reach.prog_name(frame.prog),
                reach.sched_name(map)
            );
            let frame = self.frame(cpu);
            (frame.stage, frame.map) = (Stage::Holding, map + 1);
            return;
        }
        let answer = reach.lookup(self.s, cpu, &frame);
        self.answered(cpu, &frame, answer);
    }

    fn ask_task(&mut self, cpu: u8, task: u8) {
        let reach = self.reach;
        let frame = *self.frame(cpu);
        self.asked(&frame);
        say!(
            self,
            "{} hands over a task that scheduler {} has when it is enabled",
            reach.prog_name(frame.prog),
            reach.sched_name(task)
        );
        let answer = reach.by_task(self.s, task);
        self.answered(cpu, &frame, answer);
    }

    fn answered(&mut self, cpu: u8, frame: &Frame, answer: Answer) {
        let held = self.answer(frame, answer);
        let split = self.reach.world.split && held != 0;
        let frame = self.frame(cpu);
        (frame.stage, frame.held) = if split {
            (Stage::Holding, held)
        } else {
            (Stage::Asked, 0)
        };
        if !split {
            self.put_getter(cpu);
        }
    }

    /// Judges what a program has found; 1 + the scheduler, or 0.
    fn answer(&mut self, frame: &Frame, answer: Answer) -> u8 {
        let reach = self.reach;
        let own = frame.sched;
        let name = reach.prog_name(frame.prog);
        match answer {
            Answer::Sched(found) => {
                say!(self, "{name} finds scheduler {}", reach.sched_name(found));
                if found == own {
                    self.report.witness(Invariant::CookieReachability);
                } else {
                    say!(
                        self,
                        "ANOTHER ONE: it runs on behalf of {}",
                        reach.sched_name(own)
                    );
                    self.report.violate(Invariant::NoOtherScheduler);
                }
                match self.s.scheds[usize::from(found)].life {
                    Life::Enabled if found == own => self.report.found = Some(Found::Own(own)),
                    Life::Enabled => {}
                    _ => {
                        say!(self, "DEAD: it is disabled");
                        self.report.violate(Invariant::NoDeadScheduler);
                    }
                }
                found + 1
            }
            Answer::Nothing(why) => {
                say!(self, "{name} finds nothing: {why}");
                if self.s.scheds[usize::from(own)].life == Life::Enabled {
                    say!(self, "NOT REACHED: {} is enabled", reach.sched_name(own));
                    self.report.violate(Invariant::CookieReachability);
                    self.report.found = Some(Found::Nothing(own));
                }
                0
            }
            Answer::Gone(what, whose) => {
                say!(
                    self,
                    "{name} reads {what} of {}: FREED",
                    reach.sched_name(whose)
                );
                self.report.violate(Invariant::NoFreedScheduler);
                self.report.fatal = true;
                0
            }
        }
    }

    /// What this question puts to the test.
    fn asked(&mut self, frame: &Frame) {
        let scheds = &self.s.scheds;
        let others = (0u8..)
            .zip(scheds)
            .any(|(i, s)| i != frame.sched && s.life == Life::Enabled);
        let dead = scheds
            .iter()
            .any(|s| matches!(s.life, Life::Dead | Life::Dying | Life::Freed));
        let freed = scheds
            .iter()
            .any(|s| s.life == Life::Freed || s.map == MapLife::Freed);
        let pointer = self.s.progs[usize::from(frame.prog)].assoc != 0;
        for (met, invariant) in [
            (others, Invariant::NoOtherScheduler),
            (dead, Invariant::NoDeadScheduler),
            (freed, Invariant::NoFreedScheduler),
            (pointer, Invariant::AssocRules),
        ] {
            if met {
                self.report.witness(invariant);
            }
        }
    }

    /// The map to which the pointer of the asking program leads.
    fn pointed(&self, prog: u8) -> Option<u8> {
        self.s.progs[usize::from(prog)].pointer().map()
    }

    fn count_getter(&mut self, frame: &Frame) {
        let Some(map) = self.pointed(frame.prog) else {
            return;
        };
        if self.reach.takes_reference(frame.prog) {
            self.sched(map).refs += 1;
        }
        if self.reach.design.lookup.assoc_get == AssocGet::Put {
            say!(self, "its caller puts the map");
            self.put_map(map);
        }
    }

    /// The caller of the getter drops what the getter took.
    fn put_getter(&mut self, cpu: u8) {
        let prog = self.frame(cpu).prog;
        if let Some(map) = self
            .pointed(prog)
            .filter(|_| self.reach.takes_reference(prog))
        {
            self.put_map(map);
        }
    }

    fn use_it(&mut self, cpu: u8) {
        let reach = self.reach;
        let frame = *self.frame(cpu);
        if let Some(map) = frame.map.checked_sub(1) {
            say!(
                self,
                "the kfunc reads ops->priv in the map of {}",
                reach.sched_name(map)
            );
            let answer = reach.by_map(self.s, map);
            self.answer(&frame, answer);
        } else if let Some(found) = frame.held.checked_sub(1) {
            say!(self, "the kfunc uses scheduler {}", reach.sched_name(found));
            if self.s.scheds[usize::from(found)].life == Life::Freed {
                say!(self, "FREED: its memory is gone");
                self.report.violate(Invariant::NoFreedScheduler);
                self.report.fatal = true;
            }
        }
        let frame = self.frame(cpu);
        (frame.stage, frame.held, frame.map) = (Stage::Asked, 0, 0);
        self.put_getter(cpu);
        self.quiescent(cpu);
    }
}

impl Reach {
    /// The scheduler for whose sake a program is loaded.
    fn owner(&self, prog: u8) -> u8 {
        let main = (0u8..)
            .zip(&self.world.progs)
            .find(|(_, p)| p.callee == Some(prog));
        let main = main.map_or(prog, |(i, _)| i);
        let attached = self
            .world
            .attachments
            .iter()
            .find(|a| a.prog == main)
            .map(|a| a.sched);
        let member = self
            .world
            .scheds
            .iter()
            .position(|s| s.members.contains(&main));
        attached.or(member.map(|m| m as u8)).unwrap_or_default()
    }

    /// What runs innermost on a CPU.
    fn innermost(&self, s: &State, cpu: u8) -> Option<Frame> {
        let c = &s.cpus[usize::from(cpu)];
        c.depth.checked_sub(1).map(|d| c.frames[usize::from(d)])
    }
}
