//! Trace validation: is there an order of the model's steps that explains what was recorded?
//!
//! The search walks states of the model. From each it tries the next recorded step of every task that no other one
//! must precede; the step is taken in the model if it is enabled there and has the result that was recorded. A state
//! that was reached with the same steps done before is not tried again. The record is accepted when all of its steps
//! are done, or when the model meets the recorded fault. Not here: what is done about a rejected record (`shrink`).

use std::collections::{BTreeMap, HashSet};

use struct_ops_model::kernel::{CpuId, Kernel};
use struct_ops_model::pack::Packing;
use struct_ops_model::table::Key;
use struct_ops_model::world::OpKind;
use struct_ops_model::{
    Action, Design, Invariant, InvariantSet, Machine, Pc, Report, Request, Violation, World, errno,
};

use super::event::{Actor, Ask, Event, Object, Recorded};

/// Most states that a search visits.
const MOST_STATES: usize = 200_000;
/// Most files that a process has open.
const MOST_FILES: u8 = 16;

/// One recorded step and the model's step that explains it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Explained {
    /// Index of the event.
    pub event: usize,
    /// The model's step.
    pub action: Action,
}

/// Why a recorded step cannot be the model's next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Index of the event; `None` for the end of the record.
    pub event: Option<usize>,
    /// What the model would have allowed.
    pub why: String,
    /// Another step must come first: this one was not tried.
    pub blocked: bool,
}

/// What the search says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// An order that explains everything, and what the model says is broken by it.
    Accepted {
        /// The order.
        order: Vec<Explained>,
        /// What broke, in the order of the steps.
        broke: Vec<Violation>,
    },
    /// No order explains everything.
    Rejected {
        /// One of the longest beginnings that can be explained.
        order: Vec<Explained>,
        /// The next step of every task, and why it cannot follow.
        refused: Vec<Refused>,
    },
    /// A table of the model is too small for this run, or it has too many orders: nothing is said.
    Beyond(&'static str),
}

/// A machine of the model that takes recorded steps.
#[derive(Debug)]
pub struct Validator {
    machine: Machine,
    packing: Packing,
}

/// Where a search is.
#[derive(Clone)]
struct Place {
    k: Kernel,
    /// Steps done, per task.
    done: Vec<usize>,
    /// Objects of the runtime and their slots in the model.
    bound: BTreeMap<Object, usize>,
}

/// What a recorded step leads to.
enum Taken {
    On(Box<Place>, Vec<Violation>),
    /// The model met the fault.
    Fault(Vec<Violation>),
}

enum Refusal {
    Why(String),
    Overflow,
}

fn why<T>(text: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Why(text.into()))
}

impl Validator {
    /// For records of `world` under `design`.
    ///
    /// # Errors
    /// The set-up operation that failed.
    pub fn new(world: &World, design: &Design) -> Result<Self, String> {
        Ok(Validator {
            machine: Machine::new(world.clone(), design.clone())?,
            packing: Packing::new(world, false),
        })
    }

    /// The machine.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// What an order puts to the test.
    pub fn exercised(&self, order: &[Explained]) -> Vec<Invariant> {
        let mut k = self.machine.initial();
        let mut report = Report::default();
        let mut witnessed = InvariantSet::default();
        for explained in order {
            report.clear();
            self.machine
                .apply(&mut k, explained.action, &mut report, None);
            witnessed.extend(report.witnessed);
        }
        witnessed.iter().collect()
    }

    /// Looks for an order that explains the record.
    pub fn validate(&self, recorded: &Recorded) -> Verdict {
        let events = &recorded.events;
        let mut tasks: BTreeMap<Actor, Vec<usize>> = BTreeMap::new();
        for (i, event) in events.iter().enumerate() {
            tasks.entry(event.actor).or_default().push(i);
        }
        let tasks: Vec<Vec<usize>> = tasks.into_values().collect();
        let start = Place {
            k: self.machine.initial(),
            done: vec![0; tasks.len()],
            bound: bind_start(&self.machine.initial(), &recorded.start),
        };
        let mut seen = HashSet::new();
        seen.insert(self.key(&start));
        let mut path: Vec<(Place, Explained, Vec<Violation>)> = Vec::new();
        let mut frames = vec![(start.clone(), self.candidates(events, &tasks, &start))];
        let mut best: (Vec<Explained>, Place) = (Vec::new(), start);
        let order =
            |path: &[(Place, Explained, Vec<Violation>)]| path.iter().map(|p| p.1).collect();
        while let Some((place, candidates)) = frames.last_mut() {
            let Some((task, event)) = candidates.pop() else {
                frames.pop();
                path.pop();
                continue;
            };
            let place = place.clone();
            for action in self.actions(&place, &events[event]) {
                match self.take(&place, task, &events[event], action) {
                    Err(Refusal::Overflow) => {
                        return Verdict::Beyond("a table of the model is full");
                    }
                    Err(Refusal::Why(_)) => {}
                    Ok(Taken::Fault(violations)) => {
                        let mut order: Vec<Explained> = order(&path);
                        order.push(Explained { event, action });
                        let mut broke: Vec<Violation> =
                            path.iter().flat_map(|p| p.2.clone()).collect();
                        broke.extend(violations);
                        return Verdict::Accepted { order, broke };
                    }
                    Ok(Taken::On(next, violations)) => {
                        let next = *next;
                        if !seen.insert(self.key(&next)) {
                            continue;
                        }
                        if seen.len() > MOST_STATES {
                            return Verdict::Beyond("too many orders");
                        }
                        path.push((place.clone(), Explained { event, action }, violations));
                        if path.len() > best.0.len() {
                            best = (order(&path), next.clone());
                        }
                        let complete = next.done.iter().zip(&tasks).all(|(d, t)| *d == t.len());
                        if complete && let Ok(end) = self.end(&next, recorded) {
                            let mut broke: Vec<Violation> =
                                path.iter().flat_map(|p| p.2.clone()).collect();
                            broke.extend(end);
                            return Verdict::Accepted {
                                order: order(&path),
                                broke,
                            };
                        }
                        let candidates = self.candidates(events, &tasks, &next);
                        frames.push((next, candidates));
                        break;
                    }
                }
            }
        }
        let (order, place) = best;
        Verdict::Rejected {
            refused: self.refused(recorded, &tasks, &place),
            order,
        }
    }

    fn key(&self, place: &Place) -> Vec<u8> {
        let mut key = Vec::with_capacity(128);
        self.packing.pack(&place.k, &mut key);
        key.extend(place.done.iter().flat_map(|d| (*d as u16).to_le_bytes()));
        key.extend(place.bound.values().map(|slot| *slot as u8));
        key
    }

    /// The next steps that no other one must precede, the earliest last.
    fn candidates(
        &self,
        events: &[Event],
        tasks: &[Vec<usize>],
        at: &Place,
    ) -> Vec<(usize, usize)> {
        let next: Vec<(usize, usize)> = tasks
            .iter()
            .enumerate()
            .filter_map(|(task, list)| list.get(at.done[task]).map(|event| (task, *event)))
            .collect();
        let mut free: Vec<(usize, usize)> = next
            .iter()
            .copied()
            .filter(|(_, event)| {
                !next
                    .iter()
                    .any(|(_, other)| events[*other].precedes(&events[*event]))
            })
            .collect();
        free.sort_by_key(|(_, event)| std::cmp::Reverse((events[*event].last, *event)));
        free
    }

    /// The model's steps that a recorded one may be.
    fn actions(&self, at: &Place, event: &Event) -> Vec<Action> {
        let key = |object: Object| at.bound.get(&object).copied();
        match (event.actor, event.ask, event.object) {
            (Actor::Cpu(cpu), Some(ask), _) => match request(&at.bound, &ask) {
                Some(request) if request.kind == OpKind::Exit => (0..MOST_FILES)
                    .map(|choice| {
                        let mut request = request;
                        request.arg = choice;
                        Action::Begin(cpu, request)
                    })
                    .collect(),
                request => request.map(|r| Action::Begin(cpu, r)).into_iter().collect(),
            },
            (Actor::Cpu(cpu), None, _) if event.pc == Pc::ExitNext => {
                (0..MOST_FILES).map(|c| Action::Step(cpu, c)).collect()
            }
            (Actor::Cpu(cpu), None, _) => vec![Action::Step(cpu, event.choice)],
            (Actor::Worker, _, Some(object @ Object::Link(_))) => key(object)
                .map(|slot| vec![Action::LinkWork(Key::new(slot), event.choice)])
                .unwrap_or_default(),
            (Actor::Worker, _, Some(Object::Prog(prog))) => vec![Action::ProgWork(prog as u8)],
            (Actor::Worker, _, Some(object @ Object::Map(_))) => key(object)
                .map(|slot| vec![Action::MapWork(Key::new(slot))])
                .unwrap_or_default(),
            (Actor::Worker, _, Some(object)) => key(object)
                .map(|slot| vec![Action::AttachmentWork(Key::new(slot))])
                .unwrap_or_default(),
            (Actor::Worker, _, None) => Vec::new(),
        }
    }

    /// Takes the model's step, if it is possible and has the recorded result.
    fn take(
        &self,
        at: &Place,
        task: usize,
        event: &Event,
        action: Action,
    ) -> Result<Taken, Refusal> {
        // First choice of an exit is checked with the Begin that it is part of.
        let mut actions = Vec::new();
        self.machine.enabled(&at.k, &mut actions);
        if !actions.contains(&action) {
            return why(self.not_enabled(&at.k, event, action));
        }
        let begins_nothing = matches!(action, Action::Begin(_, r) if r.kind == OpKind::None);
        let label = self.machine.label(&at.k, action);
        if label != event.pc && !begins_nothing {
            return why(format!("the model is at {}", label.name()));
        }
        let mut k = at.k;
        let mut report = Report::default();
        let mut said = String::new();
        self.machine.apply(&mut k, action, &mut report, None);
        if report.overflow {
            return Err(Refusal::Overflow);
        }
        if report.fatal {
            let meets = |f: &super::event::Fault| {
                report.violations.iter().any(|v| v.invariant == f.invariant)
            };
            if event.fault.as_ref().is_some_and(meets) {
                return Ok(Taken::Fault(report.violations));
            }
            let mut again = at.k;
            self.machine
                .apply(&mut again, action, &mut Report::default(), Some(&mut said));
            // The model frees a program as soon as it may; the runtime, later.
            if event.fault.is_none() && said.contains("the program is gone") {
                return Ok(Taken::Fault(report.violations));
            }
            return why(said);
        }
        if event.fault.is_some() {
            return why("the model meets no fault");
        }
        if event.pc == Pc::CallEnter {
            let unnamed = report
                .violations
                .iter()
                .any(|v| v.invariant == Invariant::KsymsMatchImages);
            if unnamed != event.unnamed {
                let not = if unnamed { "does not name" } else { "names" };
                return why(format!("kallsyms {not} the trampoline"));
            }
        }
        if let (Some(cpu), false) = (action.cpu(), begins_nothing) {
            self.same_result(at, &k, cpu, event)?;
        }
        let mut place = Place {
            bound: at.bound.clone(),
            done: at.done.clone(),
            k,
        };
        place.done[task] += 1;
        bind(&mut place, &at.k, event, action)?;
        Ok(Taken::On(Box::new(place), report.violations))
    }

    /// Whether the step left in the model what was seen.
    fn same_result(
        &self,
        at: &Place,
        k: &Kernel,
        cpu: CpuId,
        event: &Event,
    ) -> Result<(), Refusal> {
        let (before, after) = (&at.k.cpus[usize::from(cpu)], &k.cpus[usize::from(cpu)]);
        let err = if event.pc == Pc::Finish {
            Some(before.err)
        } else {
            (after.pc != Pc::Idle).then_some(after.err)
        };
        if let Some(err) = err.filter(|err| *err != event.err) {
            return why(format!("the result is {}", errno::name(err)));
        }
        let in_program = matches!(event.pc, Pc::CallEnter | Pc::CallBody | Pc::CallSleep);
        if let Some(cookie) = event.cookie.filter(|_| in_program) {
            let theirs = self.machine.world.cookies[usize::from(after.run_ctx)];
            if theirs != cookie {
                return why(format!("the cookie is {theirs:#x}"));
            }
        }
        Ok(())
    }

    /// Nothing can happen any more, and what is left is what was left.
    fn end(&self, at: &Place, recorded: &Recorded) -> Result<Vec<Violation>, String> {
        let mut actions = Vec::new();
        self.machine.enabled(&at.k, &mut actions);
        if let Some(action) = actions.first() {
            return Err(format!(
                "the model goes on with {}",
                self.machine.label(&at.k, *action).name()
            ));
        }
        let mut report = Report::default();
        self.machine.terminal(&at.k, &mut report);
        let leaks = report
            .violations
            .iter()
            .any(|v| matches!(v.invariant, Invariant::NoLeak | Invariant::EventualRelease));
        match (leaks, recorded.left.is_empty()) {
            (true, true) => Err("the model has something left".into()),
            (false, false) => Err("the model has nothing left".into()),
            _ => Ok(report.violations),
        }
    }

    fn not_enabled(&self, k: &Kernel, event: &Event, action: Action) -> String {
        match action {
            Action::Begin(cpu, _) if k.cpus[usize::from(cpu)].pc != Pc::Idle => {
                format!("the model is at {}", k.cpus[usize::from(cpu)].pc.name())
            }
            Action::Begin(cpu, _) => {
                let mut actions = Vec::new();
                self.machine.enabled(k, &mut actions);
                let begins = actions.iter().find_map(|a| match a {
                    Action::Begin(c, request) if *c == cpu => Some(request.kind.name()),
                    _ => None,
                });
                match begins {
                    Some(kind) => format!("the model begins {kind}, with other objects or results"),
                    None => "the model begins nothing here".into(),
                }
            }
            Action::Step(cpu, choice) => {
                let pc = k.cpus[usize::from(cpu)].pc;
                if pc != event.pc {
                    format!("the model is at {}", pc.name())
                } else if choice > 0 {
                    "no such allocation".into()
                } else {
                    format!("the model waits at {}", pc.name())
                }
            }
            _ => "the model waits for a grace period, or has no such work".into(),
        }
    }

    fn refused(&self, recorded: &Recorded, tasks: &[Vec<usize>], at: &Place) -> Vec<Refused> {
        let events = &recorded.events;
        let next: Vec<(usize, usize)> = tasks
            .iter()
            .enumerate()
            .filter_map(|(task, list)| list.get(at.done[task]).map(|event| (task, *event)))
            .collect();
        if next.is_empty() {
            let why = self.end(at, recorded).err().unwrap_or_default();
            return vec![Refused {
                event: None,
                why,
                blocked: false,
            }];
        }
        let refused = next.iter().map(|(task, event)| {
            let before = next
                .iter()
                .find(|(_, other)| events[*other].precedes(&events[*event]));
            let why = match before {
                Some((_, other)) => format!("comes after {}", events[*other]),
                None => {
                    let why = |action| match self.take(at, *task, &events[*event], action) {
                        Err(Refusal::Why(why)) => why,
                        _ => "possible here, but what follows is not".to_string(),
                    };
                    let first = self
                        .actions(at, &events[*event])
                        .into_iter()
                        .map(why)
                        .next();
                    first.unwrap_or_else(|| "the model does not know its objects".into())
                }
            };
            Refused {
                event: Some(*event),
                why,
                blocked: before.is_some(),
            }
        });
        refused.collect()
    }
}

/// The request that an operation means in the model.
fn request(bound: &BTreeMap<Object, usize>, ask: &Ask) -> Option<Request> {
    fn key<T>(bound: &BTreeMap<Object, usize>, object: Option<Object>) -> Option<Option<Key<T>>> {
        match object {
            None => Some(None),
            Some(object) => bound.get(&object).map(|slot| Some(Key::new(*slot))),
        }
    }
    Some(Request {
        kind: ask.kind,
        map: key(bound, ask.map.map(Object::Map))?,
        old: key(bound, ask.old.map(Object::Map))?,
        link: key(bound, ask.link.map(Object::Link))?,
        cookie: ask.cookie,
        arg: ask.arg,
        member: ask.member,
        ..Request::default()
    })
}

/// What the set-up made, in both in the same order.
fn bind_start(k: &Kernel, start: &[Object]) -> BTreeMap<Object, usize> {
    let mut maps = k.maps.iter().map(|m| m.0.slot());
    let mut links = k.links.iter().map(|l| l.0.slot());
    let mut attachments = k
        .kdatas
        .iter()
        .filter(|d| d.1.attachment)
        .map(|d| d.0.slot());
    let bound = start.iter().filter_map(|object| {
        let slot = match object {
            Object::Map(_) => maps.next(),
            Object::Link(_) => links.next(),
            Object::Attachment(_) => attachments.next(),
            Object::Sock(_) | Object::Prog(_) => None,
        };
        slot.map(|slot| (*object, slot))
    });
    bound.collect()
}

/// Remembers what a step made, and checks what it closed.
fn bind(place: &mut Place, before: &Kernel, event: &Event, action: Action) -> Result<(), Refusal> {
    let Some(cpu) = action.cpu() else {
        return Ok(());
    };
    let c = place.k.cpus[usize::from(cpu)];
    if event.pc == Pc::ExitNext {
        let slot = |object| place.bound.get(&object).copied();
        let same = match event.object {
            Some(Object::Link(n)) => {
                c.pc == Pc::LinkRelease && c.link.map(Key::slot) == slot(Object::Link(n))
            }
            Some(Object::Map(n)) => {
                c.pc == Pc::MapRelease && c.map.map(Key::slot) == slot(Object::Map(n))
            }
            Some(Object::Sock(n)) => c.pc == Pc::SockRelease && usize::from(c.arg) == n,
            Some(Object::Prog(n)) => c.pc == Pc::ProgRelease && usize::from(c.arg) == n,
            Some(Object::Attachment(_)) => false,
            None => c.pc == Pc::Idle,
        };
        return if same {
            Ok(())
        } else {
            why("the model closes something else")
        };
    }
    let Some(object) = event.object else {
        return Ok(());
    };
    let slot = match object {
        Object::Map(_) => {
            let made = place.k.maps.iter().find(|m| before.maps.get(m.0).is_none());
            made.map(|m| m.0.slot())
        }
        Object::Link(_) => c.link.map(Key::slot),
        Object::Attachment(_) => {
            let made = place
                .k
                .kdatas
                .iter()
                .find(|d| before.kdatas.get(d.0).is_none());
            // One that could not be built is gone again.
            made.map(|d| d.0.slot())
        }
        Object::Sock(_) | Object::Prog(_) => None,
    };
    if let Some(slot) = slot {
        place.bound.insert(object, slot);
    }
    Ok(())
}
