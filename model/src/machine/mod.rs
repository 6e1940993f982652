//! The machine: which actions are enabled, and what applying one does.
//!
//! [`Machine::enabled`] lists, [`Machine::apply`] takes one and says what happened. One action is one step
//! (or, with merging on, one step and those that nobody can tell apart from it). Not here: what a step does
//! (in `proc` and `subsys`) and how states are explored.

use crate::assoc::Assoc;
use crate::backend::{Backend, event};
use crate::design::{Design, Twin};
use crate::errno;
use crate::invariant::{self, Invariant};
use crate::kernel::{
    CgroupState, Cpu, CpuId, Deferred, KdataKey, Kernel, LinkKey, Map, MapKey, MapState, Node,
    Proc, Stage,
};
use crate::lock::{Lock, LockClass, LockOrder};
use crate::met;
use crate::mover;
use crate::operation::{Arg, OpKind, Operand, Operation, Which};
use crate::pc::{Mover, Pc, StepSet};
use crate::place::Linux;
use crate::proc::{assoc, attachment, map_free, syscall};
use crate::report::Report;
use crate::request::{self, CHILD, Descriptors};
use crate::script::{Mode, Statement};
use crate::tables::Tables;
use crate::visit::collect_freed;
use crate::world::{Plan, World};

pub use crate::request::Request;

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

/// What a CPU waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// A lock, and the CPU that holds it.
    Lock(Lock, CpuId),
    /// Readers of a grace period.
    GracePeriod(Deferred),
    /// A lock of the scenario's own subsystem, by its index, and a CPU that holds it.
    OwnLock(u8, CpuId),
    /// A flag of the scenario's own subsystem, by its index.
    Flag(u8),
    /// A ring, whose file this CPU uses.
    Ring(u8, CpuId),
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
        let mut machine = Machine {
            world,
            design,
            merge: false,
            by_id: false,
            asks,
            programs_change,
            kworker,
            initial: k,
            set_up: SetUp::default(),
        };
        let mut set_up = SetUp::default();
        for (i, operation) in machine.world.setup.clone().iter().enumerate() {
            machine
                .alone(&mut k, *operation, &mut set_up)
                .map_err(|why| SetUpError { operation: i, why })?;
        }
        machine.set_up = set_up;
        machine.by_id = machine.world.plays(OpKind::LinkGetFdById);
        machine.programs_change = machine.world.asks() || machine.world.plays(OpKind::ProgClose);
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

    /// Like [`Machine::run_alone`], for a request; gives the operation's result.
    ///
    /// # Errors
    /// Says what was broken, or that the operation cannot move on.
    pub fn run_request(&self, k: &mut Kernel, request: Request) -> Result<i8, String> {
        self.request(k, request, &mut SetUp::default())
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

    // ---- what is enabled --------------------------------------------------------------------------

    /// Every action that may come next, in a fixed order.
    pub fn enabled(&self, k: &Kernel, out: &mut Vec<Action>) {
        if k.dead {
            return;
        }
        for (i, decl) in self.world.cpus.iter().enumerate() {
            let cpu = i as CpuId;
            if k.cpus[i].pc != Pc::Idle {
                if self.can_move(k, cpu) {
                    for choice in 0..self.alternatives(k, cpu) {
                        out.push(Action::Step(cpu, choice));
                    }
                }
            } else if !k.procs[usize::from(decl.proc)].exiting {
                self.enabled_begin(k, cpu, out);
            }
        }
        self.enabled_work(k, out);
        self.enabled_task_work(k, out);
        self.enabled_teardown(k, out);
    }

    /// One at a time: what the worker is at, or else each link and each callback that is queued.
    fn enabled_task_work(&self, k: &Kernel, out: &mut Vec<Action>) {
        let Some(worker) = self.kworker.filter(|_| !k.dead) else {
            return;
        };
        let c = &k.cpus[usize::from(worker)];
        if c.pc == Pc::Idle {
            let queued = k.links.iter().filter(|(_, l)| l.queued);
            out.extend(queued.map(|(key, _)| Action::LinkWork(key, 0)));
            let armed = (0u8..).zip(&k.progs).filter(|(_, prog)| prog.armed);
            out.extend(armed.map(|(prog, _)| Action::Callback(prog)));
        } else if self.can_move(k, worker) {
            let choices = 0..self.alternatives(k, worker);
            out.extend(choices.map(|choice| next_of(c, choice)));
        }
    }

    /// The task that acts, that of work items among them; `None` for the worker of other deferred work.
    pub fn task(&self, action: Action) -> Option<CpuId> {
        match action {
            Action::LinkWork(..) | Action::Callback(_) => self.kworker,
            action => action.cpu(),
        }
    }

    fn enabled_work(&self, k: &Kernel, out: &mut Vec<Action>) {
        if k.dead {
            return;
        }
        for (key, map) in k.maps.iter() {
            if map.free.stage != Stage::None && map.free.elapsed() {
                out.push(Action::MapWork(key));
            }
        }
        for (key, kdata) in k.kdatas.iter() {
            if kdata.free.stage != Stage::None && kdata.free.elapsed() {
                out.push(Action::AttachmentWork(key));
            }
        }
        if self.asks {
            let working = (0u8..).zip(&k.progs).filter(|(_, prog)| prog.has_work());
            out.extend(working.map(|(i, _)| Action::ProgWork(i)));
        }
    }

    /// Processes exit once their threads are done; then what outlives them is removed.
    fn enabled_teardown(&self, k: &Kernel, out: &mut Vec<Action>) {
        let mut all_exited = true;
        for proc in 0..self.world.procs {
            all_exited &= k.procs[usize::from(proc)].exited;
            if k.procs[usize::from(proc)].exiting {
                continue;
            }
            let mut threads =
                (0..self.world.cpus.len()).filter(|c| self.world.cpus[*c].proc == proc);
            let first = threads.clone().next();
            let idle = threads.clone().all(|c| k.cpus[c].pc == Pc::Idle);
            if idle
                && threads.all(|c| self.done(k, c as CpuId))
                && let Some(first) = first
            {
                let request = Request {
                    kind: OpKind::Exit,
                    ..Request::default()
                };
                self.push_begin(k, first as CpuId, request, out);
            }
        }
        if all_exited && k.cpus.iter().all(|c| c.pc == Pc::Idle) {
            // bpffs is unmounted: the remaining pins go, in any order.
            for (link, _) in k.links.iter().filter(|(_, l)| l.pinned) {
                let request = Request {
                    kind: OpKind::LinkUnpin,
                    link: Some(link),
                    ..Request::default()
                };
                out.push(Action::Begin(0, request));
            }
            for (map, _) in k.maps.iter().filter(|(_, m)| m.pinned) {
                let request = Request {
                    kind: OpKind::MapUnpin,
                    map: Some(map),
                    ..Request::default()
                };
                out.push(Action::Begin(0, request));
            }
            // A registered plain map outlives its fds: `bpftool struct_ops unregister` finds it by its id.
            for (map, m) in k.maps.iter() {
                if m.state == MapState::InUse && !self.world.maps[usize::from(m.decl)].link {
                    let request = Request {
                        kind: OpKind::MapDelete,
                        map: Some(map),
                        ..Request::default()
                    };
                    out.push(Action::Begin(0, request));
                }
            }
            for (i, own) in self.world.script.subsystems.iter().enumerate() {
                if let Some(teardown) = own.teardown
                    && k.subsys.own.torn_down & (1 << i) == 0
                {
                    let request = Request {
                        kind: OpKind::Run,
                        arg: teardown,
                        ..Request::default()
                    };
                    out.push(Action::Begin(0, request));
                }
            }
        }
    }

    /// The thread has carried out its plan, or nothing is left that it could do.
    fn done(&self, k: &Kernel, cpu: CpuId) -> bool {
        let position = k.cpus[usize::from(cpu)].position;
        match &self.world.cpus[usize::from(cpu)].plan {
            Plan::Fixed(operations) => usize::from(position) >= operations.len(),
            Plan::Free { kinds, budget } => {
                let any = |kind: &OpKind| {
                    let mut any = false;
                    self.requests(k, cpu, *kind, &mut |_| any = true);
                    any
                };
                position >= *budget || !kinds.iter().any(any)
            }
        }
    }

    fn enabled_begin(&self, k: &Kernel, cpu: CpuId, out: &mut Vec<Action>) {
        let state = &k.cpus[usize::from(cpu)];
        match &self.world.cpus[usize::from(cpu)].plan {
            Plan::Fixed(operations) => {
                let Some(operation) = operations.get(usize::from(state.position)) else {
                    return;
                };
                let mut meant = false;
                self.meanings(k, cpu, *operation, &mut |request| {
                    meant = true;
                    if self.may_begin(k, cpu, &request) {
                        self.push_begin(k, cpu, request, out);
                    }
                });
                if !meant {
                    // An operation without target returns -EBADF at once: the plan goes on.
                    out.push(Action::Begin(cpu, Request::default()));
                }
            }
            Plan::Free { kinds, budget } => {
                if state.position < *budget {
                    for kind in kinds {
                        self.requests(k, cpu, *kind, &mut |request| {
                            if self.may_begin(k, cpu, &request) {
                                self.push_begin(k, cpu, request, out);
                            }
                        });
                    }
                }
            }
        }
    }

    /// A request, or, of an exit, one for each file that it may close first: its `arg` is the choice of its first step.
    fn push_begin(&self, k: &Kernel, cpu: CpuId, request: Request, out: &mut Vec<Action>) {
        let choices = match request.kind {
            OpKind::Exit => self.files_to_close(k, cpu),
            _ => return out.push(Action::Begin(cpu, request)),
        };
        for choice in 0..choices {
            let mut request = request;
            request.arg = choice;
            out.push(Action::Begin(cpu, request));
        }
    }

    /// In how many ways an exit can go on: one if nothing is open.
    fn files_to_close(&self, k: &Kernel, cpu: CpuId) -> u8 {
        Tables::open_files(k, self.world.cpus[usize::from(cpu)].proc).max(1)
    }

    /// Requests that block before their first step: for its lock, and an exit for the other threads of its process.
    fn may_begin(&self, k: &Kernel, cpu: CpuId, request: &Request) -> bool {
        let first = syscall::first_step(&self.world, request.kind);
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

    /// The first of the requests that an operation of a fixed plan may mean now; `None` if its target does not exist.
    pub fn resolve(&self, k: &Kernel, cpu: CpuId, operation: Operation) -> Option<Request> {
        request::resolve(&self.descriptors(k, cpu), operation)
    }

    /// Every request that an operation of a fixed plan may mean now: one, or none if its target does not exist, or one
    /// for each map that it can be carried out on where a declaration was created several times. Which of those comes first
    /// depends on the numbers of slots, which symmetry exchanges: an exploration has to take all.
    fn meanings(
        &self,
        k: &Kernel,
        cpu: CpuId,
        operation: Operation,
        push: &mut dyn FnMut(Request),
    ) {
        let Some(first) = self.resolve(k, cpu, operation) else {
            return;
        };
        let bit = 1 << self.world.cpus[usize::from(cpu)].proc;
        let alike = |map: Option<MapKey>, which: Which| {
            let decl = map.and_then(|key| k.maps.get(key)).map(|m| m.decl);
            let meant = move |m: &Map| Some(m.decl) == decl && which.is(m.fds & bit != 0, m.pinned);
            let maps = k.maps.iter().filter(move |(_, m)| meant(m));
            let none = map.is_none().then_some(None);
            maps.map(|(key, _)| Some(key)).chain(none)
        };
        let mut operands = first.kind.info().operands.iter();
        let which = operands.find_map(|operand| match operand {
            Operand::Map(which) => Some(*which),
            _ => None,
        });
        for map in alike(first.map, which.unwrap_or(Which::Open)) {
            for old in alike(first.old, Which::Open) {
                push(Request { map, old, ..first });
            }
        }
    }

    /// Every request of one kind that has a target now.
    fn requests(&self, k: &Kernel, cpu: CpuId, kind: OpKind, push: &mut dyn FnMut(Request)) {
        self.descriptors(k, cpu).requests(&self.world, kind, push);
    }

    /// What the CPU's process has open.
    fn descriptors<'a>(&self, k: &'a Kernel, cpu: CpuId) -> Descriptors<'a> {
        let bit = 1 << self.world.cpus[usize::from(cpu)].proc;
        Descriptors { k, bit }
    }

    /// Whether the CPU's next step can be taken now: its lock is free, its grace period over.
    pub fn can_move(&self, k: &Kernel, cpu: CpuId) -> bool {
        k.cpus[usize::from(cpu)].pc != Pc::Idle && self.waits_for(k, cpu).is_none()
    }

    /// What the CPU's next step commutes with, as the reductions take it to.
    pub fn mover(&self, k: &Kernel, cpu: CpuId) -> Mover {
        let listed = k.cpus[usize::from(cpu)]
            .pc
            .info()
            .map_or(Mover::No, |i| i.mover);
        mover::of(self, k, cpu, listed)
    }

    /// What keeps the CPU from its next step.
    pub fn waits_for(&self, k: &Kernel, cpu: CpuId) -> Option<Wait> {
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
            Pc::HidReg | Pc::HidUnreg => the(LockClass::ProgList),
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
                holder.map(|holder| Wait::OwnLock(lock, holder))
            }
            Statement::Wait(flag) => {
                let set = own.flags & (1 << flag) != 0;
                (!set).then_some(Wait::Flag(flag))
            }
            _ => None,
        }
    }

    /// In how many ways the CPU's next step can go: which allocation fails, which fd is closed next.
    fn alternatives(&self, k: &Kernel, cpu: CpuId) -> u8 {
        if k.cpus[usize::from(cpu)].pc == Pc::ExitNext {
            return self.files_to_close(k, cpu);
        }
        1 + self.failing_allocs(k, cpu)
    }

    /// How many allocations the CPU's next step makes, if one of them may still fail.
    fn failing_allocs(&self, k: &Kernel, cpu: CpuId) -> u8 {
        let c = &k.cpus[usize::from(cpu)];
        if k.alloc_failures == 0 || !crate::proc::allocates(c.pc) {
            return 0;
        }
        // To try a step costs a copy of the state, and few lines allocate.
        if c.pc == Pc::Script && !self.world.script.lines[usize::from(c.line)].allocates() {
            return 0;
        }
        let (mut copy, mut report) = (*k, Report::default());
        let mut x = self.tables(&mut copy, cpu, &mut report);
        x.pc = x.k.cpus[usize::from(cpu)].pc;
        // A step that breaks something has made its allocations before.
        let _ = crate::proc::step(&mut x);
        x.allocs
    }

    /// The backend of a step of `cpu`.
    fn tables<'a>(&'a self, k: &'a mut Kernel, cpu: CpuId, report: &'a mut Report) -> Tables<'a> {
        Tables {
            k,
            world: &self.world,
            design: &self.design,
            cpu,
            pc: Pc::Idle,
            choice: 0,
            allocs: 0,
            report,
            event: None,
            within: 0,
            counted: false,
            doubled: None,
        }
    }

    // ---- what an action does ------------------------------------------------------------------------

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
        if x.counted && !invariant::refcounts_balance(x.k, &self.world, &self.design) {
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
        let first = syscall::first_step(&self.world, request.kind);
        let lock = self.lock_of(first, request.map, request.arg, 0)?;
        holder(k, lock).map(|holder| Wait::Lock(lock, holder))
    }

    /// Whether some CPU waits for a lock or a grace period.
    pub fn somebody_waits(&self, k: &Kernel) -> bool {
        (0..self.world.tasks()).any(|c| k.cpus[c].pc != Pc::Idle && !self.can_move(k, c as CpuId))
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
}

/// The next step of what the task of work items is at.
fn next_of(worker: &Cpu, choice: u8) -> Action {
    match worker.runs_alone() {
        Some(prog) => Action::Callback(prog),
        None => Action::LinkWork(worker.link.expect("of a link"), choice),
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
        Lock::The(class) => k.holder(class),
    }
}
