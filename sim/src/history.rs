//! Histories: is there a run of the model that explains what was seen of calls from outside?
//!
//! A history holds, in the order of one clock, when each operation was invoked and when it returned, its result, and
//! what was observed: cookies that programs read meanwhile, how many trampolines kallsyms named afterwards. What an
//! operation did in between was not seen, nor what deferred work did: the search tries the model's steps in every
//! order that the invocations and results allow. Unlike the record of the runtime (`live::validate`), in which each
//! step was seen, a history can come from a kernel. Not here: where histories come from.

use std::collections::{BTreeSet, HashSet};

use struct_ops_model::pack::Packing;
use struct_ops_model::world::{OpKind, Operation, Plan};
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
        /// Every run that explains it frees ksyms that kallsyms goes on to list.
        stale_ksyms: bool,
    },
    /// No run explains it.
    Unexplained {
        /// How many events the longest beginning has that a run explains.
        events: usize,
        /// What the model would have allowed instead of the next.
        allowed: Vec<String>,
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

/// Beside the promises that a search forbids, one bit each: no ksym is freed that kallsyms lists.
const NO_STALE_KSYMS: u32 = 1 << 31;

/// A ksym was freed that kallsyms lists. Where nobody is called, the promise is not broken in another way.
fn frees_listed(violation: &Violation) -> bool {
    violation.invariant == Invariant::KsymsMatchImages && violation.step != Pc::CallEnter
}

/// What one search found.
enum Found {
    Run(Vec<Action>, Vec<Violation>),
    None { events: usize, allowed: Vec<String> },
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
        let (actions, broke) = match self.search(history, u32::MAX) {
            Found::Run(actions, _) => {
                return Explanation::Explained {
                    actions,
                    broke: BTreeSet::new(),
                    stale_ksyms: false,
                };
            }
            Found::Beyond(why) => return Explanation::Beyond(why),
            Found::None { .. } => match self.search(history, 0) {
                Found::Run(actions, broke) => (actions, broke),
                Found::Beyond(why) => return Explanation::Beyond(why),
                Found::None { events, allowed } => {
                    return Explanation::Unexplained { events, allowed };
                }
            },
        };
        let all: BTreeSet<Invariant> = broke.iter().map(|violation| violation.invariant).collect();
        let needed = |forbidden: u32| matches!(self.search(history, forbidden), Found::None { .. });
        let stale_ksyms = broke.iter().any(frees_listed) && needed(NO_STALE_KSYMS);
        let all = all.into_iter();
        Explanation::Explained {
            actions,
            broke: all.filter(|invariant| needed(bit(*invariant))).collect(),
            stale_ksyms,
        }
    }

    /// A run that breaks none of the promises in `forbidden`, one bit each.
    fn search(&self, history: &History, forbidden: u32) -> Found {
        let start = Place {
            k: self.machine.initial(),
            next: 0,
            finished: 0,
            ksyms: None,
            stale_ksyms: history.stale_ksyms,
        };
        let start = self.forward(history, start);
        let mut seen = HashSet::new();
        seen.insert(self.key(&start));
        let mut deepest = (start.next, BTreeSet::new());
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
                    }
                };
            };
            let over = place.next == history.events.len() && place.ksyms.is_none();
            if over && (!history.crashed || history.died_of_ksyms && place.stale_ksyms) {
                return Found::Run(path, broke.clone());
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
                    if violations.iter().any(|v| bit(v.invariant) & forbidden != 0)
                        || stale && forbidden & NO_STALE_KSYMS != 0
                    {
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
                    if next.next > deepest.0 {
                        deepest = (next.next, BTreeSet::new());
                    }
                    let broke = broke.iter().chain(&violations).copied().collect();
                    let actions = self.actions(history, &next);
                    path.push(action);
                    frames.push((next, actions, broke));
                }
            }
        }
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
                // The end of a process is of no plan: what follows it was not looked at, but the kernel may die in it.
                if request.kind == OpKind::Exit && planned != Some(&Operation::Exit {}) {
                    return history.crashed && at.next == history.events.len();
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
    fn a_wrong_cookie_or_result_has_no_explanation() {
        let world = shipped::find("two-links-always").unwrap().world;
        let owned = Design::link_owned();
        assert!(matches!(
            sequential(&world, &owned, 0x11, 0),
            Explanation::Explained { broke, .. } if broke.is_empty()
        ));
        let Explanation::Unexplained { events, allowed } = sequential(&world, &owned, 0x22, 0)
        else {
            panic!("the second link's cookie through the first");
        };
        assert_eq!(events, 3);
        assert!(
            allowed.iter().any(|text| text.contains("reads 0x11")),
            "{allowed:?}"
        );
        let Explanation::Unexplained { events, allowed } = sequential(&world, &owned, 0x11, -16)
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
}
