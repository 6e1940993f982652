//! Which actions may come next: system calls that a plan or the end of a process begins, steps of those in progress,
//! deferred work.
//!
//! Not here: what keeps a step from being taken (`wait`), and what an operand stands for ([`crate::request`]).

use super::{Action, Machine};
use crate::kernel::{Cpu, CpuId, Kernel, Map, MapKey, MapState, Stage};
use crate::operation::{OpKind, Operand, Operation, Which};
use crate::pc::Pc;
use crate::report::Report;
use crate::request::{self, Descriptors, Request};
use crate::tables::Tables;
use crate::world::Plan;

impl Machine {
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
    pub(super) fn enabled_task_work(&self, k: &Kernel, out: &mut Vec<Action>) {
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

    pub(super) fn enabled_work(&self, k: &Kernel, out: &mut Vec<Action>) {
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

    /// In how many ways the CPU's next step can go: which allocation fails, which fd is closed next.
    pub(super) fn alternatives(&self, k: &Kernel, cpu: CpuId) -> u8 {
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
}

/// The next step of what the task of work items is at.
fn next_of(worker: &Cpu, choice: u8) -> Action {
    match worker.runs_alone() {
        Some(prog) => Action::Callback(prog),
        None => Action::LinkWork(worker.link.expect("of a link"), choice),
    }
}
