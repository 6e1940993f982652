//! Histories: is there a run of the model that explains what was seen of calls from outside?
//!
//! A history holds, in the order of one clock, when each operation was invoked and when it returned, its result, and
//! what was observed: cookies that programs read meanwhile, how many trampolines kallsyms named afterwards. What an
//! operation did in between was not seen, nor what deferred work did: the search tries the model's steps in every
//! order that the invocations and results allow. Unlike the record of the runtime (`live::validate`), in which each
//! step was seen, a history can come from a kernel. Not here: where histories come from. What is saved of one is in
//! [`mod@file`], what it looks like beside a run in [`side`].

pub mod file;
pub mod side;

use std::collections::{BTreeSet, HashSet};

use struct_ops_model::kernel::{Func, ScxState};
use struct_ops_model::pack::Packing;
use struct_ops_model::world::{CpuDecl, OpKind, Operation, Plan};
use struct_ops_model::{
    Action, Design, Invariant, Kernel, Machine, Pc, Report, Violation, World, errno,
};

/// A program that ran while an operation was under way, on the same CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// Its index in the world.
    pub prog: u8,
    /// The cookie that it read; none if it could not ask.
    pub cookie: Option<u64>,
}

/// An operation, seen from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The CPU of the plan.
    pub cpu: u8,
    /// Its place in the CPU's plan.
    pub number: u8,
    /// What it returned; none if it did not.
    pub result: Option<i64>,
    /// Programs that ran meanwhile.
    pub reads: Vec<Read>,
    /// How many trampolines kallsyms named once it had returned, while nobody else moved.
    pub ksyms: Option<u32>,
}

/// One moment of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The call with this index begins.
    Invoke(usize),
    /// It returns.
    Return(usize),
}

impl Event {
    /// The call that it is of.
    pub fn call(self) -> usize {
        let (Event::Invoke(call) | Event::Return(call)) = self;
        call
    }
}

/// What was seen of a world's operations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The calls.
    pub calls: Vec<Call>,
    /// In the order of the clock.
    pub events: Vec<Event>,
    /// The kernel died after the last event, perhaps while the processes ended.
    pub crashed: bool,
    /// Nobody saw what the calls returned, nor whether they did: all that was seen is that they began.
    pub unseen: bool,
    /// From the start kallsyms lists ksyms that are freed.
    pub stale_ksyms: bool,
    /// The kernel may have died because it followed a list of kallsyms to what is freed.
    pub died_of_ksyms: bool,
}

/// What the search says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Explanation {
    /// A run of the model.
    Explained {
        /// The run.
        actions: Vec<Action>,
        /// The promises that every run breaks that explains it.
        broke: BTreeSet<Invariant>,
    },
    /// No run explains it.
    Unexplained {
        /// How many events the longest beginning has that a run explains.
        events: usize,
        /// What the model would have allowed instead of the next.
        allowed: Vec<String>,
        /// The run that explains that beginning.
        nearest: Vec<Action>,
    },
    /// Nothing is said, and why.
    Beyond(&'static str),
}

/// Explains histories of one world under one design.
#[derive(Debug)]
pub struct Explainer {
    machine: Machine,
    packing: Packing,
    /// Most states of one search.
    pub most_states: usize,
}

/// Where the search is.
#[derive(Clone)]
struct Place {
    k: Kernel,
    /// Events that are explained.
    next: usize,
    /// Calls that have returned in the model, one bit each CPU: their Return has not come yet.
    finished: u8,
    /// The count of kallsyms after the last Return, still to be met.
    ksyms: Option<u32>,
    /// kallsyms lists ksyms that are freed.
    stale_ksyms: bool,
}

/// What a search wants of the run beside that it explains the history.
#[derive(Clone, Copy, PartialEq)]
enum Wanted {
    Nothing,
    /// In the end kallsyms lists ksyms that are freed.
    StaleKsyms,
}

/// A ksym was freed that kallsyms lists. Where nobody is called, the promise is not broken in another way.
fn frees_listed(violation: &Violation) -> bool {
    violation.invariant == Invariant::KsymsMatchImages && violation.step != Pc::CallEnter
}

/// Somebody whom no plan has to call has a function pointer that leads nowhere. The stack follows a socket's whenever
/// something is acknowledged, if only the end of the connection when the process ends; the core follows those of an enabled
/// scheduler whenever a task wakes.
fn is_doomed(k: &Kernel) -> bool {
    let dangle = |funcs: &[Func]| {
        let mut pages = funcs.iter().filter_map(|func| func.image);
        pages.any(|page| k.images.get(page).is_none())
    };
    let used = k.socks.iter().filter_map(|sock| sock.kdata);
    let mut kdatas = used.map(|key| k.kdatas.get(key));
    let scx = &k.subsys.scx;
    kdatas.any(|kdata| kdata.is_none_or(|kdata| dangle(&kdata.func)))
        || scx.state == ScxState::Enabled && dangle(&scx.ops)
}

/// What one search found.
enum Found {
    Run(Vec<Action>, Vec<Violation>),
    None {
        events: usize,
        allowed: Vec<String>,
        nearest: Vec<Action>,
    },
    Beyond(&'static str),
}

/// What came of one step.
enum Taken {
    On(Box<Place>, Vec<Violation>),
    Fault(Vec<Violation>),
    Refused(String),
    Overflow,
}

impl Explainer {
    /// For histories of `world`, whose plans are fixed, under `design`.
    ///
    /// # Errors
    /// The set-up operation that failed.
    pub fn new(world: &World, design: &Design) -> Result<Self, struct_ops_model::SetUpError> {
        Ok(Explainer {
            machine: Machine::new(world.clone(), design.clone())?,
            packing: Packing::new(world, false),
            most_states: 100_000,
        })
    }

    /// Looks for a run that breaks nothing, then for any, and then for one without each of the promises that it breaks.
    /// A fault is preferred to kallsyms as the cause of a death.
    pub fn explain(&self, history: &History) -> Explanation {
        if history.died_of_ksyms {
            let fault = History {
                died_of_ksyms: false,
                ..history.clone()
            };
            match self.explain_one(&fault) {
                Explanation::Unexplained { .. } => {}
                said => return said,
            }
        }
        self.explain_one(history)
    }

    fn explain_one(&self, history: &History) -> Explanation {
        let (actions, broke) = match self.search(history, u32::MAX, Wanted::Nothing) {
            Found::Run(actions, _) => {
                return Explanation::Explained {
                    actions,
                    broke: BTreeSet::new(),
                };
            }
            Found::Beyond(why) => return Explanation::Beyond(why),
            Found::None { .. } => match self.search(history, 0, Wanted::Nothing) {
                Found::Run(actions, broke) => (actions, broke),
                Found::Beyond(why) => return Explanation::Beyond(why),
                Found::None {
                    events,
                    allowed,
                    nearest,
                } => {
                    return Explanation::Unexplained {
                        events,
                        allowed,
                        nearest,
                    };
                }
            },
        };
        let all: BTreeSet<Invariant> = broke.iter().map(|violation| violation.invariant).collect();
        let needed = |forbidden: u32| {
            let found = self.search(history, forbidden, Wanted::Nothing);
            matches!(found, Found::None { .. })
        };
        let all = all.into_iter();
        Explanation::Explained {
            actions,
            broke: all.filter(|invariant| needed(bit(*invariant))).collect(),
        }
    }

    /// Whether some run explains it that leaves kallsyms with ksyms that are freed; `None` if the search did not end.
    pub fn may_leave_stale_ksyms(&self, history: &History) -> Option<bool> {
        match self.search(history, 0, Wanted::StaleKsyms) {
            Found::Run(..) => Some(true),
            Found::None { .. } => Some(false),
            Found::Beyond(_) => None,
        }
    }

    /// A run that breaks none of the promises in `forbidden`, one bit each.
    fn search(&self, history: &History, forbidden: u32, wanted: Wanted) -> Found {
        let start = self.start(history);
        let mut seen = HashSet::new();
        seen.insert(self.key(&start));
        let mut deepest = (start.next, BTreeSet::new());
        let mut nearest = Vec::new();
        let mut faults = false;
        let actions = self.actions(history, &start);
        let mut frames = vec![(start, actions, Vec::new())];
        let mut path: Vec<Action> = Vec::new();
        loop {
            let Some((place, actions, broke)) = frames.last_mut() else {
                return if faults {
                    Found::Beyond("the model meets a fault, and the kernel goes on")
                } else {
                    Found::None {
                        events: deepest.0,
                        allowed: deepest.1.into_iter().collect(),
                        nearest,
                    }
                };
            };
            let over = place.next == history.events.len() && place.ksyms.is_none();
            let goes_on = !history.crashed || history.died_of_ksyms && place.stale_ksyms;
            if over && goes_on && (wanted == Wanted::Nothing || place.stale_ksyms) {
                return Found::Run(path, broke.clone());
            }
            let died = history.crashed && place.next == history.events.len();
            if died && is_doomed(&place.k) && forbidden & bit(Invariant::NoUseAfterFree) == 0 {
                let fault = Violation {
                    invariant: Invariant::NoUseAfterFree,
                    step: Pc::CallEnter,
                };
                let broke = broke.iter().copied().chain([fault]).collect();
                return Found::Run(path, broke);
            }
            let Some(action) = actions.pop() else {
                frames.pop();
                path.pop();
                continue;
            };
            let at = place.next;
            match self.take(history, place, action) {
                Taken::Overflow => return Found::Beyond("a table of the model is full"),
                Taken::Refused(why) => {
                    if at > deepest.0 {
                        deepest = (at, BTreeSet::new());
                    }
                    if at == deepest.0 {
                        deepest.1.insert(why);
                    }
                }
                Taken::Fault(violations) => {
                    let allowed = violations.iter().all(|v| bit(v.invariant) & forbidden == 0);
                    if allowed && history.crashed && at == history.events.len() {
                        let broke = broke.iter().chain(&violations).copied().collect();
                        path.push(action);
                        return Found::Run(path, broke);
                    }
                    faults |= allowed && !history.crashed;
                }
                Taken::On(mut next, violations) => {
                    let stale = violations.iter().any(frees_listed);
                    if violations.iter().any(|v| bit(v.invariant) & forbidden != 0) {
                        continue;
                    }
                    next.stale_ksyms |= stale;
                    let next = self.forward(history, *next);
                    if !seen.insert(self.key(&next)) {
                        continue;
                    }
                    if seen.len() > self.most_states {
                        return Found::Beyond("too many runs");
                    }
                    let further = next.next > deepest.0;
                    if further {
                        deepest = (next.next, BTreeSet::new());
                    }
                    let broke = broke.iter().chain(&violations).copied().collect();
                    let actions = self.actions(history, &next);
                    path.push(action);
                    if next.next == deepest.0 && (nearest.is_empty() || further) {
                        nearest.clone_from(&path);
                    }
                    frames.push((next, actions, broke));
                }
            }
        }
    }

    /// How many events the set-up, and then each action of a run, explains.
    pub fn follow(&self, history: &History, actions: &[Action]) -> Vec<usize> {
        let mut place = self.start(history);
        let mut explained = vec![place.next];
        for action in actions {
            if let Taken::On(next, violations) = self.take(history, &place, *action) {
                place = self.forward(history, *next);
                place.stale_ksyms |= violations.iter().any(frees_listed);
            }
            explained.push(place.next);
        }
        explained
    }

    /// The machine that takes the steps.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    fn start(&self, history: &History) -> Place {
        let start = Place {
            k: self.machine.initial(),
            next: 0,
            finished: 0,
            ksyms: None,
            stale_ksyms: history.stale_ksyms,
        };
        self.forward(history, start)
    }

    fn key(&self, place: &Place) -> Vec<u8> {
        let mut key = Vec::with_capacity(128);
        self.packing.pack(&place.k, &mut key);
        key.extend((place.next as u32).to_le_bytes());
        key.push(place.finished);
        key.push(u8::from(place.stale_ksyms));
        key.push(place.ksyms.map_or(u8::MAX, |n| n as u8));
        key
    }

    /// Events that only allow more to happen are taken as soon as they come.
    fn forward(&self, history: &History, mut place: Place) -> Place {
        loop {
            if let Some(ksyms) = place.ksyms {
                let listed = place.k.ksyms.iter().filter(|(_, ksym)| ksym.listed);
                if listed.count() != ksyms as usize {
                    return place;
                }
                place.ksyms = None;
            }
            match history.events.get(place.next) {
                Some(Event::Invoke(_)) => place.next += 1,
                Some(Event::Return(call)) => {
                    let call = &history.calls[*call];
                    if place.finished & (1 << call.cpu) == 0 {
                        return place;
                    }
                    place.finished &= !(1 << call.cpu);
                    place.ksyms = call.ksyms;
                    place.next += 1;
                }
                None => return place,
            }
        }
    }

    /// The CPU's process ends: what it does is of no plan.
    fn exits(&self, k: &Kernel, cpu: u8) -> bool {
        let proc = self.machine.world.cpus[usize::from(cpu)].proc;
        k.procs[usize::from(proc)].exiting
    }

    /// Every operation of the CPU's process has been seen to return.
    fn is_through(&self, history: &History, at: &Place, cpu: u8) -> bool {
        let cpus = &self.machine.world.cpus;
        let process = |cpu: u8| cpus[usize::from(cpu)].proc;
        let rest = &history.events[at.next..];
        let is_theirs = |event: &Event| match event {
            Event::Invoke(call) | Event::Return(call) => {
                process(history.calls[*call].cpu) == process(cpu)
            }
        };
        let done = |(other, decl): (usize, &CpuDecl)| match &decl.plan {
            Plan::Fixed(operations) => {
                decl.proc != process(cpu)
                    || usize::from(at.k.cpus[other].position) >= operations.len()
            }
            Plan::Free { .. } => false,
        };
        cpus.iter().enumerate().all(done) && !rest.iter().any(is_theirs)
    }

    /// The call that a CPU has begun, or that it may begin now.
    fn call<'a>(
        &self,
        history: &'a History,
        at: &Place,
        cpu: u8,
        number: usize,
    ) -> Option<&'a Call> {
        let invoked = history.events[..at.next]
            .iter()
            .filter_map(|event| match event {
                Event::Invoke(call) => Some(&history.calls[*call]),
                Event::Return(_) => None,
            });
        let mut invoked = invoked;
        invoked.find(|call| call.cpu == cpu && usize::from(call.number) == number)
    }

    /// The model's steps that may come next, the one to try first last: deferred work goes first where nothing
    /// depends on it.
    fn actions(&self, history: &History, at: &Place) -> Vec<Action> {
        let mut all = Vec::new();
        self.machine.enabled(&at.k, &mut all);
        all.retain(|action| match action {
            Action::Begin(cpu, _) if self.exits(&at.k, *cpu) => history.crashed,
            Action::Begin(cpu, request) => {
                let position = usize::from(at.k.cpus[usize::from(*cpu)].position);
                let planned = match &self.machine.world.cpus[usize::from(*cpu)].plan {
                    Plan::Fixed(operations) => operations.get(position),
                    Plan::Free { .. } => None,
                };
                // The end of a process is of no plan: it comes when its threads are through, and the kernel may die in it.
                if request.kind == OpKind::Exit && planned != Some(&Operation::Exit {}) {
                    return match at.next == history.events.len() {
                        true => history.crashed,
                        false => self.is_through(history, at, *cpu),
                    };
                }
                self.call(history, at, *cpu, position).is_some()
            }
            _ => true,
        });
        all.reverse();
        all.sort_by_key(|action| action.cpu().is_none());
        all
    }

    fn take(&self, history: &History, at: &Place, action: Action) -> Taken {
        let mut k = at.k;
        let mut report = Report::default();
        self.machine.apply(&mut k, action, &mut report, None);
        if report.overflow {
            return Taken::Overflow;
        }
        let violations: Vec<Violation> = report
            .violations
            .iter()
            .copied()
            .filter(|v| v.invariant.applies(&self.machine.design))
            .collect();
        if report.fatal || k.dead {
            return Taken::Fault(violations);
        }
        let mut place = Place { k, ..at.clone() };
        let Some(cpu) = action.cpu() else {
            return Taken::On(Box::new(place), violations);
        };
        if self.exits(&at.k, cpu) {
            return Taken::On(Box::new(place), violations);
        }
        let (before, after) = (&at.k.cpus[usize::from(cpu)], &k.cpus[usize::from(cpu)]);
        let position = match action {
            Action::Begin(..) => usize::from(before.position),
            _ => usize::from(before.position).wrapping_sub(1),
        };
        let Some(call) = self.call(history, at, cpu, position) else {
            // Closes what an exit left open.
            return Taken::On(Box::new(place), violations);
        };
        if matches!(action, Action::Step(..))
            && matches!(before.pc, Pc::CallBody | Pc::CallSleep)
            && before.prog > 0
        {
            let prog = before.prog - 1;
            let cookie = self.machine.world.cookies[usize::from(before.run_ctx)];
            let mut of_prog = call
                .reads
                .iter()
                .filter(|read| read.prog == prog)
                .peekable();
            let differs = |read: &Read| read.cookie.is_some_and(|theirs| theirs != cookie);
            if of_prog.peek().is_some() && of_prog.all(differs) {
                let name = &self.machine.world.progs[usize::from(prog)].name;
                return Taken::Refused(format!("{name} reads {cookie:#x}"));
            }
        }
        if let Some(returned) = report.returned {
            let err = match action {
                Action::Begin(..) => errno::EBADF,
                _ => before.err,
            };
            debug_assert_eq!(returned.cpu, cpu);
            match call.result {
                Some(result) if result == i64::from(err) => place.finished |= 1 << cpu,
                Some(_) => {
                    return Taken::Refused(format!(
                        "{} returns {}",
                        self.name(call),
                        errno::name(err)
                    ));
                }
                None if history.unseen => {}
                None if history.crashed || after.pc == Pc::Idle => {
                    return Taken::Refused(format!("{} returns", self.name(call)));
                }
                None => {}
            }
        }
        Taken::On(Box::new(place), violations)
    }

    fn name(&self, call: &Call) -> &'static str {
        match &self.machine.world.cpus[usize::from(call.cpu)].plan {
            Plan::Fixed(operations) => operations
                .get(usize::from(call.number))
                .map_or("", |operation| operation.kind().name()),
            Plan::Free { .. } => "",
        }
    }
}

/// The beginning that no run explains, without the calls that have no part in that: without such a call the same moment
/// remains unexplained, and the model would allow the same instead of it.
///
/// # Errors
/// The set-up operation that failed.
pub fn shrink(
    world: &World,
    design: &Design,
    history: &History,
) -> Result<(World, History), struct_ops_model::SetUpError> {
    let unexplained = |world: &World, history: &History| {
        let explanation = Explainer::new(world, design).map(|e| e.explain(history));
        explanation.map(|explanation| match explanation {
            Explanation::Unexplained {
                events, allowed, ..
            } => Some((events, allowed)),
            _ => None,
        })
    };
    let (mut world, mut history) = (world.clone(), history.clone());
    let Some((events, allowed)) = unexplained(&world, &history)? else {
        return Ok((world, history));
    };
    if events < history.events.len() {
        history.events.truncate(events + 1);
        history.crashed = false;
    }
    let begun = |history: &History, call: usize| history.events.contains(&Event::Invoke(call));
    for call in (0..history.calls.len()).rev() {
        if !begun(&history, call) {
            (world, history) = without(&world, &history, call);
        }
    }
    let rest = history.events.len() - events;
    for call in (0..history.calls.len()).rev() {
        if history
            .events
            .last()
            .is_some_and(|last| last.call() == call)
        {
            continue;
        }
        let (fewer, shorter) = without(&world, &history, call);
        // A set-up is the same whatever the plans are.
        if let Some((events, instead)) = unexplained(&fewer, &shorter)?
            && shorter.events.len() - events == rest
            && instead == allowed
        {
            (world, history) = (fewer, shorter);
        }
    }
    Ok((world, history))
}

/// Both without one call.
fn without(world: &World, history: &History, call: usize) -> (World, History) {
    let (mut world, mut history) = (world.clone(), history.clone());
    let gone = history.calls.remove(call);
    if let Plan::Fixed(operations) = &mut world.cpus[usize::from(gone.cpu)].plan {
        operations.remove(usize::from(gone.number));
    }
    let mine = history.calls.iter_mut().filter(|c| c.cpu == gone.cpu);
    for later in mine.filter(|c| c.number > gone.number) {
        later.number -= 1;
    }
    history.events.retain(|event| event.call() != call);
    for event in &mut history.events {
        let (Event::Invoke(of) | Event::Return(of)) = event;
        *of -= usize::from(*of > call);
    }
    (world, history)
}

fn bit(invariant: Invariant) -> u32 {
    1 << invariant as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shipped;

    /// A run of the model, one action at random after the other, as it looks from outside.
    fn history(machine: &Machine, seed: u64) -> History {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut history = History::default();
        let mut k = machine.initial();
        let mut open = [usize::MAX; 8];
        loop {
            let mut actions = Vec::new();
            machine.enabled(&k, &mut actions);
            actions.retain(|a| !matches!(a, Action::Begin(_, r) if r.kind == OpKind::Exit));
            if actions.is_empty() {
                return history;
            }
            let action = actions[rng.usize(..actions.len())];
            let before = k;
            let mut report = Report::default();
            if let (Action::Begin(cpu, _), true) = (action, true) {
                let number = before.cpus[usize::from(cpu)].position;
                open[usize::from(cpu)] = history.calls.len();
                history.events.push(Event::Invoke(history.calls.len()));
                history.calls.push(Call {
                    cpu,
                    number,
                    result: None,
                    reads: vec![],
                    ksyms: None,
                });
            }
            machine.apply(&mut k, action, &mut report, None);
            if report.fatal {
                history.crashed = true;
                return history;
            }
            if let Some(cpu) = action.cpu() {
                let was = &before.cpus[usize::from(cpu)];
                let call = open[usize::from(cpu)];
                if matches!(was.pc, Pc::CallBody) && was.prog > 0 {
                    let cookie = Some(machine.world.cookies[usize::from(was.run_ctx)]);
                    history.calls[call].reads.push(Read {
                        prog: was.prog - 1,
                        cookie,
                    });
                }
                if report.returned.is_some() {
                    let err = if was.pc == Pc::Finish {
                        was.err
                    } else {
                        errno::EBADF
                    };
                    history.calls[call].result = Some(err.into());
                    history.events.push(Event::Return(call));
                }
            }
        }
    }

    #[test]
    fn every_run_of_the_model_explains_itself() {
        for (name, design) in [
            ("two-links-tcp", Design::rfc()),
            ("two-links-always", Design::link_owned()),
        ] {
            let world = shipped::find(name).unwrap().world;
            let explainer = Explainer::new(&world, &design).unwrap();
            for seed in 0..40 {
                let history = history(&explainer.machine, seed);
                let found = explainer.explain(&history);
                assert!(
                    matches!(found, Explanation::Explained { .. }),
                    "{name} {seed}: {found:?} of {history:?}"
                );
            }
        }
    }

    fn sequential(world: &World, design: &Design, read: u64, result: i64) -> Explanation {
        let call = |cpu, number, result, reads| Call {
            cpu,
            number,
            result: Some(result),
            reads,
            ksyms: None,
        };
        let history = History {
            calls: vec![
                call(0, 0, result, vec![]),
                call(
                    1,
                    0,
                    0,
                    vec![Read {
                        prog: 0,
                        cookie: Some(read),
                    }],
                ),
            ],
            events: vec![
                Event::Invoke(0),
                Event::Return(0),
                Event::Invoke(1),
                Event::Return(1),
            ],
            ..History::default()
        };
        Explainer::new(world, design).unwrap().explain(&history)
    }

    #[test]
    fn a_kernel_may_die_of_what_no_plan_calls() {
        // The set-up has a link, and a socket or an enabled scheduler. A second link is refused: rfc has freed what that
        // will call.
        dies_of_a_refused_attach("two-links-tcp", errno::EEXIST);
        dies_of_a_refused_attach("two-links-sched-ext", errno::EBUSY);
    }

    fn dies_of_a_refused_attach(scenario: &str, err: i8) {
        let mut world = shipped::find(scenario).unwrap().world;
        let second = Operation::LinkCreate {
            map: 0,
            target: None,
            position: None,
            revision: None,
            cookie: 0,
            link: 1,
        };
        world.cpus.truncate(1);
        world.cpus[0].plan = Plan::Fixed(vec![second]);
        let history = History {
            calls: vec![Call {
                cpu: 0,
                number: 0,
                result: Some(err.into()),
                reads: vec![],
                ksyms: None,
            }],
            events: vec![Event::Invoke(0), Event::Return(0)],
            crashed: true,
            ..History::default()
        };
        let explain = |design| Explainer::new(&world, &design).unwrap().explain(&history);
        let Explanation::Explained { broke, .. } = explain(Design::rfc()) else {
            panic!("rfc frees what is called");
        };
        assert!(broke.contains(&Invariant::NoUseAfterFree), "{broke:?}");
        let owned = explain(Design::link_owned());
        assert!(
            matches!(owned, Explanation::Unexplained { .. }),
            "{owned:?}"
        );
    }

    #[test]
    fn a_wrong_cookie_or_result_has_no_explanation() {
        let world = shipped::find("two-links-always").unwrap().world;
        let owned = Design::link_owned();
        assert!(matches!(
            sequential(&world, &owned, 0x11, 0),
            Explanation::Explained { broke, .. } if broke.is_empty()
        ));
        let Explanation::Unexplained {
            events, allowed, ..
        } = sequential(&world, &owned, 0x22, 0)
        else {
            panic!("the second link's cookie through the first");
        };
        assert_eq!(events, 3);
        assert!(
            allowed.iter().any(|text| text.contains("reads 0x11")),
            "{allowed:?}"
        );
        let Explanation::Unexplained {
            events, allowed, ..
        } = sequential(&world, &owned, 0x11, -16)
        else {
            panic!("-EBUSY");
        };
        assert_eq!(
            (events, allowed.as_slice()),
            (1, &["link_create returns 0".to_string()][..])
        );
        // under the RFC that is how it goes wrong, and nothing less explains it
        let Explanation::Explained { broke, .. } = sequential(&world, &Design::rfc(), 0x22, 0)
        else {
            panic!("the RFC's open problem");
        };
        assert!(broke.contains(&Invariant::CookieFidelity), "{broke:?}");
    }

    #[test]
    fn kallsyms_is_counted() {
        let world = shipped::find("two-links-always").unwrap().world;
        let counted = |ksyms| {
            let history = History {
                calls: vec![Call {
                    cpu: 0,
                    number: 0,
                    result: Some(0),
                    reads: vec![],
                    ksyms: Some(ksyms),
                }],
                events: vec![Event::Invoke(0), Event::Return(0)],
                ..History::default()
            };
            let explainer = Explainer::new(&world, &Design::link_owned()).unwrap();
            matches!(explainer.explain(&history), Explanation::Explained { .. })
        };
        assert!(counted(4) && !counted(2));
    }

    /// Two maps of one name, ready, and one CPU.
    fn world(subsystem: &str, member: &str, plan: &[&str]) -> World {
        let text = format!(
            "title = \"t\"\nquestion = \"q?\"\nsource = \"s\"\n\
             [[type]]\nname = \"ops\"\nsubsystem = \"{subsystem}\"\nmembers = [{{ name = \"{member}\" }}]\n\
             [[program]]\nname = \"p1\"\ntype = \"ops\"\nmember = \"{member}\"\n\
             [[program]]\nname = \"p2\"\ntype = \"ops\"\nmember = \"{member}\"\n\
             [[map]]\nname = \"m1\"\ntype = \"ops\"\nkey = \"key\"\nprograms = [\"p1\"]\n\
             [[map]]\nname = \"m2\"\ntype = \"ops\"\nkey = \"key\"\nprograms = [\"p2\"]\n\
             [run]\nsetup = [\"map_create m1\", \"map_update m1\", \"map_create m2\", \"map_update m2\"]\n\
             [[cpu]]\ndo = {plan:?}\n"
        );
        crate::scenario::Scenario::parse("history", "history.toml", &text)
            .unwrap()
            .world
    }

    /// One operation after the other, with these results and counts of kallsyms.
    fn in_turn(world: &World, design: &Design, seen: &[(i64, Option<u32>)]) -> Explanation {
        let mut history = History::default();
        for (number, (result, ksyms)) in seen.iter().enumerate() {
            history.events.push(Event::Invoke(number));
            history.events.push(Event::Return(number));
            history.calls.push(Call {
                cpu: 0,
                number: number as u8,
                result: Some(*result),
                reads: vec![],
                ksyms: *ksyms,
            });
        }
        Explainer::new(world, design).unwrap().explain(&history)
    }

    fn is_explained(explanation: &Explanation) -> bool {
        matches!(explanation, Explanation::Explained { broke, .. } if broke.is_empty())
    }

    /// As 6.12 does it (`kernel-lab test unpin-returns-first`).
    #[test]
    fn unlink_returns_before_the_link_of_the_pin_is_gone() {
        let make = "link_create m1 as l1";
        let again = "link_create m2 as l2";
        let pinned = world(
            "tcp_congestion_ops",
            "ssthresh",
            &[make, "link_pin l1", "link_close l1", "link_unpin l1", again],
        );
        let results = |last| [0, 0, 0, 0, last].map(|result| (result, None));
        for last in [0, -17] {
            let said = in_turn(&pinned, &Design::mainline(), &results(last));
            assert!(is_explained(&said), "{last}: {said:?}");
        }
        // close(2) does not return before
        let closed = world(
            "tcp_congestion_ops",
            "ssthresh",
            &[make, "link_close l1", again],
        );
        let results = |last| [0, 0, last].map(|result| (result, None));
        let said = |last| in_turn(&closed, &Design::mainline(), &results(last));
        assert!(is_explained(&said(0)), "{:?}", said(0));
        assert!(!is_explained(&said(-17)));
    }

    /// As the kernel with the link-owned series does it (`kernel-lab test refused-update`).
    #[test]
    fn kallsyms_lists_what_a_refused_link_update_has_built() {
        let world = world(
            "bpf_testmod_ops",
            "test_1",
            &["link_create m1 as l1", "link_update l1 m2 replace=m2"],
        );
        let seen = |now| {
            in_turn(
                &world,
                &Design::link_owned(),
                &[(0, Some(1)), (-1, Some(now))],
            )
        };
        // until its grace periods are over
        assert!(is_explained(&seen(2)), "{:?}", seen(2));
        assert!(is_explained(&seen(1)), "{:?}", seen(1));
        assert!(!is_explained(&seen(3)));
    }

    #[test]
    fn calls_without_a_part_in_it_are_left_out() {
        let plan = [
            "map_lookup m1",
            "link_create m1 as l1",
            "link_info l1",
            "link_create m2 as l2",
        ];
        let world = world("tcp_congestion_ops", "ssthresh", &plan);
        let design = Design::mainline();
        let mut history = History::default();
        for (number, result) in [0, 0, 0, 0].into_iter().enumerate() {
            history.events.push(Event::Invoke(number));
            history.events.push(Event::Return(number));
            history.calls.push(Call {
                cpu: 0,
                number: number as u8,
                result: Some(result),
                reads: vec![],
                ksyms: None,
            });
        }
        let (world, history) = shrink(&world, &design, &history).unwrap();
        let Plan::Fixed(left) = &world.cpus[0].plan else {
            panic!("fixed plans stay fixed");
        };
        let names: Vec<&str> = left.iter().map(|o| o.kind().name()).collect();
        // without the first link the second one would be right
        assert_eq!(names, ["link_create", "link_create"]);
        let said = Explainer::new(&world, &design).unwrap().explain(&history);
        let Explanation::Unexplained {
            events,
            allowed,
            nearest,
        } = said
        else {
            panic!("{said:?}");
        };
        assert_eq!(
            (events, allowed.as_slice()),
            (3, &["link_create returns -EEXIST".to_string()][..])
        );
        let explainer = Explainer::new(&world, &design).unwrap();
        assert_eq!(explainer.follow(&history, &nearest).last(), Some(&3));
    }
}
