//! Another order of a trace's steps, in which whoever leaves the CPU to others stands at a gate.
//!
//! Breadth-first over turns: in a turn one actor goes on to some place where it can be held. Each actor takes the steps
//! that it takes in the trace, in their order, and goes on by itself when it has no more of them; nobody begins an
//! operation that the trace does not begin. Not here: which moves an order comes to (`derive`).

use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use struct_ops_model::world::MAX_CPUS;
use struct_ops_model::{Action, Pc, Report};

use super::derive::{Actor, Deriver, State};

/// Most states in which a turn ends.
const MOST_STATES: usize = 30_000;
/// Most steps that somebody is let go beyond those of the trace.
const MOST_BEYOND: usize = 40;
/// Most orders that break the promise and cannot be made moves of.
const MOST_ORDERS: usize = 200;

/// Which orders are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strict {
    /// Those in which the kernel lives until the promise is broken, at the trace's step.
    Lives,
    /// Those that break it at the trace's step.
    Dies,
    /// Those that break it, at whatever step.
    Elsewhere,
}

/// Where a turn ended.
struct Node {
    at: State,
    /// How many of its own steps each actor has taken.
    taken: [usize; MAX_CPUS + 1],
    /// Whose turn it was, and what he did in it.
    turn: Option<(Actor, Vec<Action>)>,
    before: usize,
}

/// Looks for an order that breaks what the trace breaks, those with the fewest turns first, until one is accepted.
pub fn orders<T>(
    deriver: &Deriver<'_>,
    trace: &[Action],
    strict: Strict,
    mut accept: impl FnMut(&[Action]) -> Option<T>,
) -> Option<T> {
    let place = |actor: Actor| match actor {
        Actor::Cpu(cpu) => usize::from(cpu),
        Actor::Work => MAX_CPUS,
    };
    let mut own: [Vec<Action>; MAX_CPUS + 1] = Default::default();
    let mut actors: Vec<Actor> = Vec::new();
    for action in trace {
        let actor = Actor::of(*action);
        own[place(actor)].push(*action);
        if !actors.contains(&actor) {
            actors.push(actor);
        }
    }
    let mut nodes = vec![Node {
        at: deriver.start(),
        taken: [0; MAX_CPUS + 1],
        turn: None,
        before: 0,
    }];
    let mut known: HashSet<u64> = HashSet::new();
    let mut waiting = VecDeque::from([0]);
    let mut report = Report::default();
    let mut refused = 0;
    while let Some(from) = waiting.pop_front() {
        for actor in &actors {
            if nodes[from]
                .turn
                .as_ref()
                .is_some_and(|(last, _)| last == actor)
            {
                continue;
            }
            let mine = place(*actor);
            let (mut at, mut taken) = (nodes[from].at.clone(), nodes[from].taken);
            let mut steps: Vec<Action> = Vec::new();
            loop {
                let next = match (own[mine].get(taken[mine]), actor) {
                    (Some(action), _) => *action,
                    (None, Actor::Cpu(cpu))
                        if at.k.cpus[mine].pc != Pc::Idle
                            && taken[mine] < own[mine].len() + MOST_BEYOND =>
                    {
                        Action::Step(*cpu, 0)
                    }
                    (None, _) => break,
                };
                if deriver.take(&mut at, next, &mut report).is_none() {
                    break;
                }
                taken[mine] += 1;
                steps.push(next);
                let over = report.fatal || at.k.dead;
                let mut broke = deriver.breaks(&report, strict).is_some();
                if !broke && Deriver::ends(&report) && (strict == Strict::Lives || over) {
                    break;
                }
                let idle = (0..MAX_CPUS).all(|cpu| at.k.cpus[cpu].pc == Pc::Idle);
                let all = || own.iter().zip(taken).all(|(own, taken)| taken >= own.len());
                broke |= !over && idle && all() && deriver.breaks_in_the_end(&at, strict);
                if broke {
                    let mut order = steps.clone();
                    let mut before = from;
                    while let Some((_, steps)) = &nodes[before].turn {
                        order.splice(0..0, steps.iter().copied());
                        before = nodes[before].before;
                    }
                    if let Some(found) = accept(&order) {
                        return Some(found);
                    }
                    refused += 1;
                }
                if broke || over || refused >= MOST_ORDERS {
                    break;
                }
                let after = own[mine].get(taken[mine]).copied();
                let Ok(until) = deriver.until(&at, *actor, after, &[]) else {
                    continue;
                };
                let mut here = at.clone();
                here.held(*actor, until);
                let mut hasher = DefaultHasher::new();
                (&here, taken, mine).hash(&mut hasher);
                if nodes.len() < MOST_STATES && known.insert(hasher.finish()) {
                    waiting.push_back(nodes.len());
                    nodes.push(Node {
                        at: here,
                        taken,
                        turn: Some((*actor, steps.clone())),
                        before: from,
                    });
                }
            }
            if refused >= MOST_ORDERS {
                return None;
            }
        }
    }
    None
}
