//! From the steps of a trace to moves: who goes on, and where everybody else is held meanwhile.
//!
//! A trace changes from one CPU to another wherever it likes; a thread of a kernel can be held at the gates of `gates`
//! only. Where a trace leaves a CPU at a place without gate, that CPU is let go on to the next one, or is held back at the one
//! before: the order of the steps is then another one, and is taken only if the model says that it breaks the same promise.
//! Not here: how the moves are made (`vm/tests/scenario.c`).

use std::fmt;

use struct_ops_model::world::{MAX_CPUS, Plan, World};
use struct_ops_model::{Action, Invariant, Kernel, Machine, Pc, Report};
use struct_ops_sim::view::path::Walk;

use super::gates::{self, At as End, Context, Gate, Who};
use crate::series::Base;

/// Most orders of the steps that are tried.
const MOST_ORDERS: usize = 4_000;
/// Most steps that a CPU is let go beyond the trace.
const MOST_BEYOND: usize = 40;

/// Who moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// A CPU of the scenario: a thread.
    Cpu(u8),
    /// Deferred work.
    Work,
}

impl Actor {
    fn of(action: Action) -> Self {
        action.cpu().map_or(Actor::Work, Actor::Cpu)
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Actor::Cpu(cpu) => write!(f, "cpu{cpu}"),
            Actor::Work => f.write_str("work"),
        }
    }
}

/// How far somebody goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Its operation has returned.
    Returned,
    /// It waits for others, or its operation has returned.
    Blocked,
    /// It is held at a gate; so many of its calls there pass, and this allocation fails when it goes on.
    Held(Gate, u32, Option<u32>),
}

/// One of a kernel's moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// Who.
    pub actor: Actor,
    /// How far.
    pub until: Until,
}

impl Move {
    /// The line that the runner reads.
    pub fn line(&self) -> String {
        let actor = match self.actor {
            Actor::Cpu(cpu) => cpu.to_string(),
            Actor::Work => "work".into(),
        };
        match self.until {
            Until::Returned => format!("move {actor} return"),
            Until::Blocked => format!("move {actor} blocked"),
            Until::Held(gate, skip, fault) => {
                let returns = u32::from(gate.at == End::Return);
                let who = match gate.who {
                    Who::Thread => 0,
                    Who::Worker => 2,
                    Who::Kthread => 4,
                };
                let (arg, value) = gate.arg.unwrap_or((0, 0));
                format!(
                    "move {actor} gate {} {} {} {arg} {value} {}",
                    gate.symbol,
                    returns | who,
                    gate.skip + skip,
                    fault.unwrap_or(0)
                )
            }
        }
    }
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let actor = self.actor;
        match self.until {
            Until::Returned => write!(f, "{actor} goes on until its operation has returned"),
            Until::Blocked => write!(f, "{actor} goes on"),
            Until::Held(gate, skip, fault) => {
                let end = match gate.at {
                    End::Entry => "entry",
                    End::Return => "return",
                };
                write!(f, "{actor} is held at the {end} of {}", gate.symbol)?;
                if gate.skip + skip > 0 {
                    write!(f, ", call {}", gate.skip + skip + 1)?;
                }
                if let Some(fault) = fault {
                    write!(f, "; its allocation {fault} after that fails")?;
                }
                Ok(())
            }
        }
    }
}

/// What a kernel has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moves {
    /// One after the other; then nobody is held.
    pub moves: Vec<Move>,
    /// The world with the operations that the trace begins, and no others.
    pub world: World,
    /// Steps that come in another place than in the trace.
    pub moved: usize,
    /// What of it is not exactly the trace's.
    pub notes: Vec<String>,
}

/// A part of a run: some steps of one actor.
#[derive(Clone, Debug)]
struct Turn {
    actor: Actor,
    steps: Vec<Action>,
}

/// Where a run is.
#[derive(Clone)]
struct State {
    k: Kernel,
    /// The last step of each CPU.
    last: [Pc; MAX_CPUS],
    /// The function at whose entry each CPU was held last: it is inside, and its return can no longer be caught.
    inside: [Option<&'static str>; MAX_CPUS],
}

/// What became of a run that was tried.
struct Tried {
    moves: Vec<Move>,
    broke: bool,
}

/// Why a run was not carried out.
enum Failed {
    /// A step cannot be taken in this order.
    Impossible,
    /// The actor of this turn cannot be held where the turn ends.
    NotHeld(usize, String),
    /// An allocation of a step cannot be made to fail alone.
    NoFault(String),
    /// Deferred work of two objects.
    TwoWorkers,
}

struct Deriver<'a> {
    machine: &'a Machine,
    base: Base,
    invariant: Invariant,
}

/// The moves of a trace.
///
/// # Errors
/// The steps that cannot be gated, in words.
pub fn derive(
    machine: &Machine,
    actions: &[Action],
    invariant: Invariant,
    base: Base,
) -> Result<Moves, String> {
    let world = &machine.world;
    if world
        .cpus
        .iter()
        .any(|cpu| matches!(cpu.plan, Plan::Free { .. }))
    {
        return Err("the scenario's plans are free: a run of it is no plan of its own".into());
    }
    let mut turns: Vec<Turn> = Vec::new();
    for action in actions {
        let actor = Actor::of(*action);
        match turns.last_mut() {
            Some(turn) if turn.actor == actor => turn.steps.push(*action),
            _ => turns.push(Turn {
                actor,
                steps: vec![*action],
            }),
        }
    }
    let deriver = Deriver {
        machine,
        base,
        invariant,
    };
    let mut first = None;
    let mut best: Option<(usize, Vec<Move>)> = None;
    let mut waiting = vec![(0, turns)];
    let mut tried = 0;
    // the order with the fewest steps in other places comes first
    while let Some(at) = (0..waiting.len()).min_by_key(|at| waiting[*at].0) {
        let (moved, turns) = waiting.swap_remove(at);
        if best.is_some() || tried >= MOST_ORDERS {
            break;
        }
        tried += 1;
        match deriver.carry_out(&turns) {
            Ok(found) if found.broke => best = Some((moved, found.moves)),
            Ok(_) => {
                first.get_or_insert_with(|| {
                    format!(
                        "no order of the steps that can be gated breaks {}",
                        invariant.id()
                    )
                });
            }
            Err(Failed::Impossible) => {}
            Err(Failed::NoFault(why)) => {
                first.get_or_insert(why);
            }
            Err(Failed::TwoWorkers) => {
                first.get_or_insert("deferred work of two objects is not told apart".into());
            }
            Err(Failed::NotHeld(turn, why)) => {
                first.get_or_insert(why);
                for (more, turns) in [forward(&turns, turn), backward(&turns, turn)]
                    .into_iter()
                    .flatten()
                {
                    waiting.push((moved + more, turns));
                }
            }
        }
    }
    let Some((moved, moves)) = best else {
        return Err(first.unwrap_or_else(|| "the trace has no steps".into()));
    };
    let mut notes: Vec<String> = Vec::new();
    for (at, step) in moves.iter().enumerate() {
        if let Until::Held(
            Gate {
                note: Some(note), ..
            },
            ..,
        ) = step.until
            && at + 1 < moves.len()
            && !notes.iter().any(|known| known == note)
        {
            notes.push((*note).to_owned());
        }
    }
    Ok(Moves {
        world: deriver.begun(actions),
        moves,
        moved,
        notes,
    })
}

/// One more step in this turn: the actor's next one. None if the trace has no more of it that could be let go.
fn forward(turns: &[Turn], turn: usize) -> Option<(usize, Vec<Turn>)> {
    let mut turns = turns.to_vec();
    let actor = turns[turn].actor;
    let next = (turn + 1..turns.len()).find(|later| turns[*later].actor == actor);
    let step = match next {
        Some(next) => {
            let step = turns[next].steps.remove(0);
            if turns[next].steps.is_empty() {
                turns.remove(next);
            }
            step
        }
        None => match actor {
            Actor::Cpu(cpu) if turns[turn].steps.len() < MOST_BEYOND => Action::Step(cpu, 0),
            _ => return None,
        },
    };
    turns[turn].steps.push(step);
    Some((1, joined(turns)))
}

/// One step less in this turn: the actor takes it when it comes next.
fn backward(turns: &[Turn], turn: usize) -> Option<(usize, Vec<Turn>)> {
    let mut turns = turns.to_vec();
    let actor = turns[turn].actor;
    let next = (turn + 1..turns.len()).find(|later| turns[*later].actor == actor);
    let step = turns[turn].steps.pop()?;
    match next {
        Some(next) => turns[next].steps.insert(0, step),
        // what comes after the last step of others cannot be what they met
        None => return None,
    }
    if turns[turn].steps.is_empty() {
        turns.remove(turn);
    }
    Some((1, joined(turns)))
}

fn joined(turns: Vec<Turn>) -> Vec<Turn> {
    let mut joined: Vec<Turn> = Vec::new();
    for turn in turns {
        match joined.last_mut() {
            Some(last) if last.actor == turn.actor => last.steps.extend(turn.steps),
            _ => joined.push(turn),
        }
    }
    joined
}

impl Deriver<'_> {
    /// The plans up to the last operation that the trace begins.
    fn begun(&self, actions: &[Action]) -> World {
        let mut world = self.machine.world.clone();
        for (number, cpu) in world.cpus.iter_mut().enumerate() {
            let begins = |action: &&Action| matches!(action, Action::Begin(of, _) if usize::from(*of) == number);
            let begun = actions.iter().filter(begins).count();
            if let Plan::Fixed(operations) = &mut cpu.plan {
                operations.truncate(begun);
            }
        }
        world
    }

    fn context(&self, at: &State, cpu: u8) -> Context {
        let world = &self.machine.world;
        let map = at.k.cpus[usize::from(cpu)].map;
        let map = map.and_then(|map| at.k.maps.get(map));
        let decl = map.map(|map| &world.maps[usize::from(map.decl)]);
        Context {
            base: self.base,
            subsystem: world.types[decl.map_or(0, |decl| decl.ty)].subsystem,
            link: decl.is_none_or(|decl| decl.link),
        }
    }

    /// The gate at which an actor stands now.
    fn gate(&self, at: &State, actor: Actor, next: Option<Pc>) -> Option<Gate> {
        match actor {
            Actor::Cpu(cpu) => {
                let place = usize::from(cpu);
                let gate =
                    gates::before(at.last[place], at.k.cpus[place].pc, self.context(at, cpu))?;
                let missed = gate.at == End::Return && at.inside[place] == Some(gate.symbol);
                (!missed).then_some(gate)
            }
            Actor::Work => gates::before(Pc::Idle, next?, self.context(at, 0)),
        }
    }

    fn passed(&self, at: &State, actor: Actor, gate: Gate) -> Passed {
        let (last, next) = match actor {
            Actor::Cpu(cpu) => (at.last[usize::from(cpu)], at.k.cpus[usize::from(cpu)].pc),
            Actor::Work => (Pc::Idle, Pc::Idle),
        };
        Passed { gate, last, next }
    }

    /// Takes a step, or the one of this actor that is possible in its place.
    fn take(&self, at: &mut State, action: Action, report: &mut Report) -> Option<Pc> {
        let action = self.machine.like(&at.k, action)?;
        let pc = self.machine.label(&at.k, action);
        self.machine.apply(&mut at.k, action, report, None);
        if let Some(cpu) = action.cpu() {
            at.last[usize::from(cpu)] = pc;
        }
        Some(pc)
    }

    /// Carries the turns out in the model, and says at which gates they change.
    fn carry_out(&self, turns: &[Turn]) -> Result<Tried, Failed> {
        let mut at = State {
            k: self.machine.initial(),
            last: [Pc::Idle; MAX_CPUS],
            inside: [None; MAX_CPUS],
        };
        let mut moves: Vec<Move> = Vec::new();
        let work: Vec<Action> = turns
            .iter()
            .filter(|turn| turn.actor == Actor::Work)
            .flat_map(|turn| turn.steps.iter().copied())
            .collect();
        if work.windows(2).any(|pair| pair[0] != pair[1]) {
            return Err(Failed::TwoWorkers);
        }
        let mut broke = false;
        let mut report = Report::default();
        let count = turns.len();
        for (number, turn) in turns.iter().enumerate() {
            let actor = turn.actor;
            // calls of each gate's function that this turn has made so far, since the last move
            let mut passed: Vec<Passed> = Vec::new();
            let mut done = Pc::Idle;
            for (place, step) in turn.steps.iter().enumerate() {
                if let (Action::Step(cpu, choice), true) = (*step, place > 0)
                    && choice > 0
                {
                    let fault = self.fault(&at, cpu, choice, &passed)?;
                    moves.extend(via(actor, fault.until));
                    moves.push(fault);
                    passed.clear();
                }
                if matches!(step, Action::Begin(..)) && place > 0 {
                    moves.push(Move {
                        actor,
                        until: Until::Returned,
                    });
                    passed.clear();
                }
                if let Actor::Cpu(_) = actor
                    && place > 0
                    && let Some(gate) = self.gate(&at, actor, None)
                {
                    passed.push(self.passed(&at, actor, gate));
                }
                report.clear();
                done = self
                    .take(&mut at, *step, &mut report)
                    .ok_or(Failed::Impossible)?;
                broke |= self.breaks(&report);
                if report.fatal || at.k.dead {
                    break;
                }
            }
            if broke || at.k.dead || number + 1 == count {
                if actor == Actor::Work {
                    moves.push(Move {
                        actor,
                        until: Until::Held(gates::MAP_IS_FREED, 0, None),
                    });
                    moves.push(Move {
                        actor,
                        until: Until::Returned,
                    });
                } else {
                    moves.push(Move {
                        actor,
                        until: Until::Blocked,
                    });
                }
                break;
            }
            let next = turns[number + 1..]
                .iter()
                .find(|later| later.actor == actor)
                .map(|later| later.steps[0]);
            let until = match actor {
                Actor::Work if done == Pc::MapFreeGp => {
                    moves.push(Move {
                        actor,
                        until: Until::Held(gates::MAP_IS_FREED, 0, None),
                    });
                    Until::Returned
                }
                Actor::Work => match self.gate(&at, actor, Some(Pc::MapFreeGp)) {
                    Some(gate) if done == Pc::MapFree => Until::Held(gate, 0, None),
                    _ => {
                        return Err(Failed::NotHeld(
                            number,
                            format!("deferred work cannot be held after {}", done.name()),
                        ));
                    }
                },
                Actor::Cpu(cpu) => self.until(&at, number, cpu, next, &passed)?,
            };
            if let (Actor::Cpu(cpu), Until::Held(gate, ..)) = (actor, until) {
                at.inside[usize::from(cpu)] = (gate.at == End::Entry).then_some(gate.symbol);
            }
            moves.extend(via(actor, until));
            moves.push(Move { actor, until });
        }
        if !broke {
            let mut enabled = Vec::new();
            self.machine.enabled(&at.k, &mut enabled);
            if enabled.is_empty() && !at.k.dead {
                report.clear();
                self.machine.terminal(&at.k, &mut report);
                broke = self.breaks(&report);
            }
        }
        // deferred work comes by itself, and must not come earlier than the trace has it
        if !work.is_empty() || at.k.maps.iter().any(|(_, map)| map.free.elapsed()) {
            let context = self.context(&at, 0);
            if let Some(gate) = gates::before(Pc::Idle, Pc::MapFree, context) {
                moves.insert(
                    0,
                    Move {
                        actor: Actor::Work,
                        until: Until::Held(gate, 0, None),
                    },
                );
            }
        }
        Ok(Tried { moves, broke })
    }

    fn breaks(&self, report: &Report) -> bool {
        report
            .violations
            .iter()
            .any(|violation| violation.invariant == self.invariant)
    }

    /// How far a CPU goes that stands where others come in.
    fn until(
        &self,
        at: &State,
        number: usize,
        cpu: u8,
        next: Option<Action>,
        passed: &[Passed],
    ) -> Result<Until, Failed> {
        let pc = at.k.cpus[usize::from(cpu)].pc;
        if pc == Pc::Idle {
            return Ok(Until::Returned);
        }
        if let Some(Action::Step(_, choice)) = next
            && choice > 0
        {
            return Ok(self.fault(at, cpu, choice, passed)?.until);
        }
        if let Some(gate) = self.gate(at, Actor::Cpu(cpu), None) {
            let here = self.passed(at, Actor::Cpu(cpu), gate);
            return Ok(Until::Held(gate, skipped(here, passed), None));
        }
        if self.machine.waits_for(&at.k, cpu).is_some() {
            return Ok(Until::Blocked);
        }
        let site = pc.place().on(self.machine.world.linux);
        Err(Failed::NotHeld(
            number,
            format!("cpu{cpu} cannot be held before {} in {site}", pc.name()),
        ))
    }

    /// The move that lets an allocation of a CPU's next step fail.
    fn fault(&self, at: &State, cpu: u8, choice: u8, passed: &[Passed]) -> Result<Move, Failed> {
        let place = usize::from(cpu);
        let pc = at.k.cpus[place].pc;
        let first = at.last[place] != pc;
        let Some((gate, nth)) = gates::before_failure(pc, choice, first) else {
            return Err(Failed::NoFault(format!(
                "allocation {choice} of {} cannot be made to fail alone",
                pc.name()
            )));
        };
        let mut skip = skipped(self.passed(at, Actor::Cpu(cpu), gate), passed);
        if gate.at == End::Return {
            // the members before this one, whose entries are what was counted
            let entries = passed
                .iter()
                .filter(|other| other.gate.symbol == gate.symbol);
            let Some(before) = (entries.count() as u32).checked_sub(1) else {
                return Err(Failed::NoFault(format!(
                    "allocation {choice} of {} comes too soon after a gate",
                    pc.name()
                )));
            };
            skip = before;
        }
        Ok(Move {
            actor: Actor::Cpu(cpu),
            until: Until::Held(gate, skip, Some(nth)),
        })
    }
}

/// The move to the function from which on the calls at a gate count.
fn via(actor: Actor, until: Until) -> Option<Move> {
    let Until::Held(gate, ..) = until else {
        return None;
    };
    let until = Until::Held(gates::entry(gate.via?), 0, None);
    Some(Move { actor, until })
}

/// A gate that a turn has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Passed {
    gate: Gate,
    last: Pc,
    next: Pc,
}

/// How many calls at a gate a turn has made before. Two different steps in a row at one gate are one call.
fn skipped(here: Passed, passed: &[Passed]) -> u32 {
    let same =
        |other: &Passed| other.gate.symbol == here.gate.symbol && other.gate.at == here.gate.at;
    let of_this_call = |at: usize| {
        let after = passed.get(at + 1).unwrap_or(&here);
        same(after) && passed[at].next == after.last && passed[at].next != after.next
    };
    let count = (0..passed.len()).filter(|at| same(&passed[*at]) && !of_this_call(*at));
    count.count() as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use struct_ops_model::Design;
    use struct_ops_sim::bounds::{Bounds, Memory};
    use struct_ops_sim::check::{Settings, check};
    use struct_ops_sim::explore::Reductions;
    use struct_ops_sim::verdict::Path;

    /// The moves of every shortest counterexample of a scenario.
    fn all(scenario: &str, design: Design) -> Vec<(Invariant, Result<Moves, String>)> {
        let scenario = struct_ops_sim::shipped::find(scenario).unwrap();
        let settings = Settings {
            threads: 1,
            max_states: None,
            exact: false,
            reductions: Reductions::ALL,
        };
        let bounds = Bounds::new(std::sync::Arc::default(), None, Memory::new(None));
        let run = check(&scenario, &design, &settings, &bounds, &mut |_| ()).unwrap();
        let machine = Machine::new(scenario.world.clone(), design).unwrap();
        let moves = |found: &struct_ops_sim::verdict::Counterexample| match &found.path {
            Path::Attach(violation, actions) => {
                let invariant = violation.invariant;
                (invariant, derive(&machine, actions, invariant, Base::V6_12))
            }
            Path::Reach(_) => unreachable!("a scenario of the attach path"),
        };
        run.found.iter().map(moves).collect()
    }

    #[test]
    fn a_link_create_is_held_while_another_cpu_calls() {
        let all = all("two-links-always", Design::rfc());
        let of = |invariant| all.iter().find(|one| one.0 == invariant).unwrap();
        let moves = of(Invariant::CookieFidelity).1.as_ref().unwrap();
        let lines: Vec<String> = moves.moves.iter().map(Move::line).collect();
        assert!(
            lines.iter().any(|line| line.starts_with("move 0 gate ")),
            "{lines:?}"
        );
        assert_eq!(lines.last().unwrap(), "move 1 blocked");
        // what the trace does not begin is not carried out
        let Plan::Fixed(plan) = &moves.world.cpus[1].plan else {
            panic!("a fixed plan");
        };
        assert_eq!(plan.len(), 1);
    }

    #[test]
    fn an_allocation_fails_where_its_thread_is_held() {
        let all = all("hid-failing-reg", Design::mainline());
        let moves = all.iter().filter_map(|(invariant, moves)| {
            (*invariant == Invariant::NoUseAfterFree).then_some(moves.as_ref())
        });
        let lines: Vec<String> = moves
            .flatten()
            .flat_map(|moves| moves.moves.iter().map(Move::line))
            .collect();
        let fails = "move 0 gate __kmalloc_noprof 0 0 1 64 1".to_owned();
        assert!(lines.contains(&fails), "{lines:?}");
    }

    #[test]
    fn what_cannot_be_gated_names_the_step() {
        let all = all("two-links-tcp", Design::rfc());
        let why: Vec<&String> = all.iter().filter_map(|one| one.1.as_ref().err()).collect();
        assert!(
            why.iter().any(|why| why.contains("cannot be held before")),
            "{why:?}"
        );
    }

    #[test]
    fn two_steps_at_one_gate_are_one_call() {
        let gate = gates::before(Pc::LcLock, Pc::LcReg, TCP).unwrap();
        let passed = |last, next| Passed { gate, last, next };
        let reg = passed(Pc::LcLock, Pc::LcReg);
        assert_eq!(skipped(passed(Pc::LcReg, Pc::AlwaysReg), &[reg]), 0);
        assert_eq!(skipped(passed(Pc::LcReg, Pc::LcReg), &[reg, reg]), 2);
    }

    const TCP: Context = Context {
        base: Base::V6_12,
        subsystem: struct_ops_model::world::Subsystem::TcpCong,
        link: true,
    };
}
