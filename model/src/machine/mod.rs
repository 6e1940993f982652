//! A design in a world: the state machine, and how its first state comes about.
//!
//! One action is one step (or, with merging on, one step and those that nobody can tell apart from it).
//! [`Machine::enabled`] lists what may come next, [`Machine::apply`] takes one and says what happened. Not here: what a
//! step does (in `proc` and `subsys`) and how states are explored.

mod apply;
mod enabled;
mod wait;

use crate::design::Design;
use crate::errno;
use crate::kernel::{CpuId, Deferred, KdataKey, Kernel, LinkKey, MapKey, Node, Proc, Stage};
use crate::lock::LockOrder;
use crate::mover;
use crate::operation::{OpKind, Operation};
use crate::pc::{Mover, Pc, StepSet};
use crate::proc::{assoc, attachment, map_free, syscall};
use crate::report::Report;
use crate::request::CHILD;
use crate::tables::Tables;
use crate::world::World;

pub use crate::request::Request;
pub use wait::Wait;

/// One transition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A CPU enters the kernel.
    Begin(CpuId, Request),
    /// A CPU takes its next step; a choice above 0 lets that allocation of the step fail.
    Step(CpuId, u8),
    /// The worker frees a map.
    MapWork(MapKey),
    /// The worker frees an attachment.
    AttachmentWork(KdataKey),
    /// A worker takes its next step in freeing a link; a choice above 0 lets that allocation of the step fail.
    LinkWork(LinkKey, u8),
    /// A softirq or a worker takes its next step in the callback of a program.
    Callback(u8),
    /// The worker frees a program that is tied to a map.
    ProgWork(u8),
}

impl Action {
    /// The CPU that acts; `None` for the worker.
    pub fn cpu(self) -> Option<CpuId> {
        match self {
            Action::Begin(cpu, _) | Action::Step(cpu, _) => Some(cpu),
            _ => None,
        }
    }
}

/// A world's set-up does not work under a design.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("set-up operation {}: {why}", .operation + 1)]
pub struct SetUpError {
    /// Index into [`World::setup`].
    pub operation: usize,
    /// What it returned or broke.
    pub why: String,
}

impl From<SetUpError> for String {
    fn from(error: SetUpError) -> String {
        error.to_string()
    }
}

/// A design in a world: the state machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// What does not change.
    pub world: World,
    /// How programs are attached.
    pub design: Design,
    /// Merge steps that nobody else can observe.
    pub merge: bool,
    /// Somebody looks for links by their id.
    by_id: bool,
    /// Some program asks what it is tied to.
    asks: bool,
    /// Programs are closed in the middle of a run, or tied to maps that others can ask for.
    programs_change: bool,
    /// The task of work items that free links.
    kworker: Option<CpuId>,
    /// Steps that may have to wait.
    waiting: StepSet,
    initial: Kernel,
    set_up: SetUp,
}

/// What the set-up has shown.
#[derive(Clone, Copy, Debug, Default)]
struct SetUp {
    /// The steps that it took.
    taken: StepSet,
    order: LockOrder,
}

impl SetUp {
    fn note(&mut self, report: &Report) {
        self.taken.extend(&report.taken);
        report.nested().for_each(|n| self.order.add(n));
    }
}

impl Machine {
    /// Builds the machine and runs the world's set-up, operation by operation.
    ///
    /// # Errors
    /// The first set-up operation that did not return 0 or broke an invariant.
    pub fn new(world: World, design: Design) -> Result<Self, SetUpError> {
        let mut k = Kernel {
            alloc_failures: 0,
            ..Kernel::default()
        };
        k.subsys.tcp_next = Node::Head;
        k.subsys.tcp_prev = Node::Head;
        k.subsys.own.flags = world.script.set;
        if world.forks() {
            // Not there yet: what nobody has forked has nothing to do and nothing open.
            k.procs[CHILD] = Proc {
                exiting: true,
                exited: true,
            };
        }
        for (prog, decl) in k.progs.iter_mut().zip(&world.progs) {
            prog.fds = world.loaded_by(decl);
            prog.refs = prog.fds.count_ones() as u8;
        }
        let kworker = world.kworker();
        let asks = world.asks();
        let programs_change = asks || world.plays(OpKind::ProgClose);
        let by_id = world.finds_links_by_id();
        let mut machine = Machine {
            world,
            design,
            merge: false,
            by_id,
            asks,
            programs_change,
            kworker,
            waiting: StepSet::default(),
            initial: k,
            set_up: SetUp::default(),
        };
        for step in Pc::ALL {
            if machine.may_wait(*step) {
                machine.waiting.insert(*step);
            }
        }
        let mut set_up = SetUp::default();
        for (i, operation) in machine.world.setup.clone().iter().enumerate() {
            machine
                .alone(&mut k, *operation, &mut set_up)
                .map_err(|why| SetUpError { operation: i, why })?;
        }
        machine.set_up = set_up;
        k.cpus[0].position = 0;
        k.alloc_failures = machine.world.alloc_failures;
        machine.initial = k;
        Ok(machine)
    }

    /// Whether somebody looks for links by their id.
    pub(crate) fn finds_links_by_id(&self) -> bool {
        self.by_id
    }

    /// Whether others may see when map_update takes a program.
    pub(crate) fn programs_change(&self) -> bool {
        self.programs_change
    }

    /// The steps that the set-up took.
    pub fn set_up(&self) -> StepSet {
        self.set_up.taken
    }

    /// The order of locks that the set-up has shown: every run begins with it.
    pub fn lock_order(&self) -> LockOrder {
        self.set_up.order
    }

    /// The state after the set-up.
    pub fn initial(&self) -> Kernel {
        self.initial
    }

    /// Runs one operation on CPU 0 to its end, then all deferred work: nobody else moves.
    ///
    /// # Errors
    /// Says what the operation returned if not 0, or what it broke.
    pub fn run_alone(&self, k: &mut Kernel, operation: Operation) -> Result<(), String> {
        self.alone(k, operation, &mut SetUp::default())
    }

    fn alone(&self, k: &mut Kernel, operation: Operation, shown: &mut SetUp) -> Result<(), String> {
        let request = self
            .resolve(k, 0, operation)
            .ok_or("its target does not exist")?;
        let err = self.request(k, request, shown)?;
        if err == 0 {
            Ok(())
        } else {
            Err(format!("it returned {}", errno::name(err)))
        }
    }

    fn request(&self, k: &mut Kernel, request: Request, shown: &mut SetUp) -> Result<i8, String> {
        if !self.may_begin(k, 0, &request) {
            return Err("it never returns".into());
        }
        let mut report = Report::default();
        let mut next = Some(Action::Begin(0, request));
        let mut result = 0;
        while let Some(action) = next {
            if k.cpus[0].pc == Pc::Finish {
                result = k.cpus[0].err;
            }
            report.clear();
            self.apply(k, action, &mut report, None);
            shown.note(&report);
            if let Some(v) = report.violations.first().filter(|_| report.fatal) {
                return Err(format!(
                    "it breaks {} at {}",
                    v.invariant.id(),
                    v.step.name()
                ));
            }
            let mut work = Vec::new();
            self.enabled_work(k, &mut work);
            self.enabled_task_work(k, &mut work);
            next = if k.cpus[0].pc != Pc::Idle && self.can_move(k, 0) {
                Some(Action::Step(0, 0))
            } else {
                work.first().copied()
            };
        }
        if k.cpus[0].pc == Pc::Idle {
            Ok(result)
        } else {
            Err("it never returns".into())
        }
    }

    /// The task that acts, that of work items among them; `None` for the worker of other deferred work.
    pub fn task(&self, action: Action) -> Option<CpuId> {
        match action {
            Action::LinkWork(..) | Action::Callback(_) => self.kworker,
            action => action.cpu(),
        }
    }

    /// What the CPU's next step commutes with, as the reductions take it to.
    pub fn mover(&self, k: &Kernel, cpu: CpuId) -> Mover {
        let listed = k.cpus[usize::from(cpu)]
            .pc
            .info()
            .map_or(Mover::No, |i| i.mover);
        mover::of(self, k, cpu, listed)
    }

    /// The name of a step about to be taken by `action`, for tables.
    pub fn label(&self, k: &Kernel, action: Action) -> Pc {
        match action {
            Action::Begin(cpu, request) => {
                let (mut copy, mut report) = (*k, Report::default());
                let mut x = self.tables(&mut copy, cpu, &mut report);
                match syscall::begin(&mut x, request) {
                    Ok(()) => copy.cpus[usize::from(cpu)].pc,
                    Err(_) => Pc::Idle,
                }
            }
            Action::Step(cpu, _) => k.cpus[usize::from(cpu)].pc,
            _ => self.work_label(k, action),
        }
    }

    /// The worker's step; `Idle` for actions of CPUs.
    fn work_label(&self, k: &Kernel, action: Action) -> Pc {
        let stage = |free: Option<&Deferred>| free.map_or(Stage::None, |f| f.stage);
        match action {
            Action::MapWork(map) => map_free::work_pc(stage(k.maps.get(map).map(|m| &m.free))),
            Action::AttachmentWork(attachment) => attachment::work_pc(
                &self.design,
                stage(k.kdatas.get(attachment).map(|d| &d.free)),
            ),
            Action::ProgWork(_) => Pc::ProgFree,
            Action::LinkWork(link, _) => {
                let queued = k.links.get(link).is_some_and(|l| l.queued);
                match self.kworker.filter(|_| !queued) {
                    Some(worker) => k.cpus[usize::from(worker)].pc,
                    None => Pc::DeallocUnreg,
                }
            }
            Action::Callback(prog) => {
                let at = self.kworker.map(|worker| k.cpus[usize::from(worker)].pc);
                at.filter(|pc| *pc != Pc::Idle)
                    .unwrap_or_else(|| assoc::first_of_callback(&self.world, prog))
            }
            _ => Pc::Idle,
        }
    }

    /// The backend of a step of `cpu`.
    fn tables<'a>(&'a self, k: &'a mut Kernel, cpu: CpuId, report: &'a mut Report) -> Tables<'a> {
        Tables::new(&self.world, &self.design, k, cpu, report)
    }
}
