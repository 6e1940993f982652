//! From the steps of a trace to moves: who goes on, and where everybody else is held meanwhile.
//!
//! A trace changes from one CPU to another wherever it likes; a thread of a kernel can be held at the gates of `gates`
//! only. Where a trace leaves a CPU at a place without gate, another order of its steps is looked for (`search`), which is
//! taken only if the model says that it breaks the same promise at the same step. When nobody has anything left to do but to
//! exit, the moves are over: what is closed then, the kernel closes. Not here: how the moves are made
//! (`vm/tests/scenario.c`).

use std::fmt;

use struct_ops_model::kernel::Code;
use struct_ops_model::world::{MAX_CPUS, Plan, ProgType, World};
use struct_ops_model::{Action, Invariant, Kernel, Machine, Pc, Report};
use struct_ops_sim::walk::Walk;

use super::gates::{self, At as End, Context, Gate, Who};
use super::search::{self, Strict};
use crate::scenario::program::Foreseen;
use crate::series::Base;

/// Most steps of a call until the program reads its cookie.
const MOST_STEPS_TO_BODY: usize = 4;

/// What a trace breaks, and at which step; none: only the final state shows it.
pub type Broken = (Invariant, Option<Pc>);

/// Who moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// A CPU of the scenario: a thread.
    Cpu(u8),
    /// Deferred work.
    Work,
}

impl Actor {
    /// Who takes a step.
    pub fn of(action: Action) -> Self {
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
    /// Somebody is held inside of a read side section.
    pub fn may_spin(&self) -> bool {
        matches!(self.until, Until::Held(gate, ..) if gate.who == Who::Anybody)
    }

    fn is_of_work(&self) -> bool {
        self.actor == Actor::Work
    }

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
                let (symbol, who) = match gate.who {
                    Who::Thread => (gate.symbol, 0),
                    Who::Worker => (gate.symbol, 2),
                    Who::Kthread => (gate.symbol, 4),
                    Who::Anybody => ("-", 8),
                };
                let zero = u32::from(gate.zero) << 4;
                let (arg, value) = gate.arg.unwrap_or((0, 0));
                format!(
                    "move {actor} gate {symbol} {} {} {arg} {value} {}",
                    returns | who | zero,
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
                match gate.who {
                    Who::Anybody => write!(f, "{actor} is held in {}", gate.symbol)?,
                    _ => write!(f, "{actor} is held at the {end} of {}", gate.symbol)?,
                }
                if gate.skip + skip > 0 {
                    write!(f, ", call {}", gate.skip + skip + 1)?;
                }
                if gate.zero {
                    f.write_str("; its result is 0")?;
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
    /// What a program reads then, and should not.
    pub foreseen: Option<Foreseen>,
}

/// What moves need of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: one operation follows the other.
    Turns,
    /// Somebody is held inside of the kernel.
    Gates,
}

impl Moves {
    /// As the runner reads them.
    pub fn lines(&self) -> String {
        let lines: Vec<String> = self.moves.iter().map(Move::line).collect();
        lines.join("\n")
    }

    /// What they need.
    pub fn needs(&self) -> Needs {
        let held = |step: &Move| matches!(step.until, Until::Held(..));
        match self
            .moves
            .iter()
            .skip_while(|step| step.is_of_work())
            .any(held)
        {
            true => Needs::Gates,
            false => Needs::Turns,
        }
    }

    /// Deferred work is not held, and comes when it comes.
    pub fn let_work_come(&mut self) {
        let before = self.moves.len();
        self.moves.retain(|step| !step.is_of_work());
        if self.moves.len() < before {
            self.notes
                .push("deferred work comes by itself, and is not held".into());
        }
    }
}

/// A part of a run: some steps of one actor.
#[derive(Clone, Debug)]
pub struct Turn {
    /// Who.
    pub actor: Actor,
    /// What.
    pub steps: Vec<Action>,
}

/// Steps as turns.
pub fn turns(actions: &[Action]) -> Vec<Turn> {
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
    turns
}

/// Where a run is.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct State {
    /// The model's state.
    pub k: Kernel,
    /// The last step of each CPU.
    last: [Pc; MAX_CPUS],
    /// The functions in which each CPU was held, the last one first: it is inside, and their returns can no longer be
    /// caught.
    inside: [[Option<&'static str>; NESTED]; MAX_CPUS],
    /// The last step of deferred work.
    worked: Pc,
}

impl State {
    /// Somebody has left his place to others: he is held there.
    pub fn held(&mut self, actor: Actor, until: Until) {
        let (Actor::Cpu(cpu), Until::Held(gate, ..)) = (actor, until) else {
            return;
        };
        match gate.at {
            End::Entry => {
                if let Some(function) = gates::within(self.k.cpus[usize::from(cpu)].pc) {
                    self.enter(cpu, function);
                }
                self.enter(cpu, gate.symbol);
            }
            End::Return => {
                let inside = &mut self.inside[usize::from(cpu)];
                let left = inside.iter_mut().filter(|s| **s == Some(gate.symbol));
                left.for_each(|symbol| *symbol = None);
            }
        }
    }

    /// Whoever is held in a function cannot be caught at its return.
    fn enter(&mut self, cpu: u8, symbol: &'static str) {
        let inside = &mut self.inside[usize::from(cpu)];
        if !inside.contains(&Some(symbol)) {
            inside.rotate_right(1);
            inside[0] = Some(symbol);
        }
    }
}

/// How many functions are remembered in which a CPU is.
const NESTED: usize = 4;

/// What became of a run that was tried.
struct Tried {
    moves: Vec<Move>,
    /// The steps that were taken.
    taken: Vec<Action>,
    broke: bool,
    /// At which step, if not in the end.
    at: Option<Pc>,
    /// Something else was broken before that ends the kernel.
    died: bool,
}

/// Why a run was not carried out.
#[derive(Debug)]
pub enum Failed {
    /// A step cannot be taken in this order.
    Impossible,
    /// The actor of a turn cannot be held where the turn ends.
    NotHeld(String),
    /// An allocation of a step cannot be made to fail alone.
    NoFault(String),
    /// Deferred work of two objects.
    TwoWorkers,
}

impl Failed {
    fn why(self) -> Option<String> {
        match self {
            Failed::Impossible => None,
            Failed::NotHeld(why) | Failed::NoFault(why) => Some(why),
            Failed::TwoWorkers => Some("deferred work of two objects is not told apart".into()),
        }
    }
}

/// A trace, and where its steps can be held.
pub struct Deriver<'a> {
    /// The model.
    pub machine: &'a Machine,
    base: Base,
    broken: Broken,
    /// What happens when nobody has anything left to do but to exit.
    pub tail: &'a [Action],
}

/// The moves of a trace.
///
/// # Errors
/// The steps that cannot be gated, in words.
pub fn derive(
    machine: &Machine,
    actions: &[Action],
    broken: Broken,
    base: Base,
) -> Result<Moves, String> {
    let (actions, tail) = actions.split_at(teardown(&machine.world, actions));
    let deriver = Deriver {
        machine,
        base,
        broken,
        tail,
    };
    let mut first = None;
    let mut found = None;
    match deriver.carry_out(&turns(actions), Strict::Dies) {
        Ok(tried) if tried.broke && !tried.died => found = Some(tried),
        Ok(tried) if tried.broke => {
            // the kernel would die before: rather an order in which it does not
            found = deriver.other(actions, Strict::Lives).or(Some(tried));
        }
        Ok(_) => first = Some("the model does not break it again".to_owned()),
        Err(failed) => {
            first = failed.why();
            found = deriver
                .other(actions, Strict::Lives)
                .or_else(|| deriver.other(actions, Strict::Dies))
                .or_else(|| deriver.other(actions, Strict::Elsewhere));
        }
    }
    let Some(Tried {
        moves, taken, at, ..
    }) = found
    else {
        return Err(first.unwrap_or_else(|| "a step cannot be taken".into()));
    };
    let mut notes: Vec<String> = Vec::new();
    if let (Some(wanted), Some(step)) = (broken.1, at)
        && wanted != step
    {
        notes.push(format!(
            "it is broken at {}, not at {}",
            step.name(),
            wanted.name()
        ));
    }
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
        moved: elsewhere(actions, &taken),
        notes,
        foreseen: deriver.foreseen(&taken),
    })
}

/// From which step on nobody does anything but what follows from the end of the processes.
fn teardown(world: &World, actions: &[Action]) -> usize {
    let mut begun = [0; MAX_CPUS];
    let mut exits = [false; MAX_CPUS];
    let mut from = None;
    for (at, action) in actions.iter().enumerate() {
        if let Action::Begin(cpu, _) = *action {
            let cpu = usize::from(cpu);
            begun[cpu] += 1;
            if let Plan::Fixed(plan) = &world.cpus[cpu].plan {
                exits[cpu] |= begun[cpu] > plan.len();
            }
        }
        match action.cpu() {
            Some(cpu) if exits[usize::from(cpu)] => from = from.or(Some(at)),
            Some(_) => from = None,
            None => {}
        }
    }
    from.unwrap_or(actions.len())
}

/// How many steps of a run come in another place than in a trace, or are not in it.
fn elsewhere(trace: &[Action], taken: &[Action]) -> usize {
    // each step by its actor and its number among his: names of objects differ from order to order
    let named = |actions: &[Action]| {
        let mut counts = [0; MAX_CPUS + 1];
        let name = |action: &Action| {
            let actor = action.cpu().map_or(MAX_CPUS, usize::from);
            counts[actor] += 1;
            (actor, counts[actor])
        };
        actions.iter().map(name).collect::<Vec<(usize, usize)>>()
    };
    let (trace, taken) = (named(trace), named(taken));
    // the longest part of both that is in the same order
    let mut best = vec![0; trace.len() + 1];
    for step in &taken {
        let mut corner = 0;
        for (at, other) in trace.iter().enumerate() {
            let above = best[at + 1];
            best[at + 1] = if step == other {
                corner + 1
            } else {
                above.max(best[at])
            };
            corner = above;
        }
    }
    taken.len() - best[trace.len()]
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
        let plain = |prog: &u8| match world.progs[usize::from(*prog)].of {
            ProgType::StructOps { ty, member } => !world.types[ty].members[member].sleepable,
            ProgType::Syscall | ProgType::Tracing => false,
        };
        let prog = at.k.cpus[usize::from(cpu)].prog.checked_sub(1);
        Context {
            base: self.base,
            subsystem: world.types[decl.map_or(0, |decl| decl.ty)].subsystem,
            link: decl.is_none_or(|decl| decl.link),
            prog: prog.filter(plain),
        }
    }

    /// The gate at which an actor stands now.
    fn gate(&self, at: &State, actor: Actor) -> Option<Gate> {
        match actor {
            Actor::Cpu(cpu) => {
                let place = usize::from(cpu);
                let gate =
                    gates::before(at.last[place], at.k.cpus[place].pc, self.context(at, cpu))?;
                let missed =
                    gate.at == End::Return && at.inside[place].contains(&Some(gate.symbol));
                (!missed).then_some(gate)
            }
            Actor::Work if at.worked == Pc::MapFree => {
                gates::before(Pc::Idle, Pc::MapFreeGp, self.context(at, 0))
            }
            Actor::Work => None,
        }
    }

    fn passed(&self, at: &State, actor: Actor, gate: Gate) -> Passed {
        let (last, next) = match actor {
            Actor::Cpu(cpu) => (at.last[usize::from(cpu)], at.k.cpus[usize::from(cpu)].pc),
            Actor::Work => (Pc::Idle, Pc::Idle),
        };
        Passed { gate, last, next }
    }

    /// Before the first step.
    pub fn start(&self) -> State {
        State {
            k: self.machine.initial(),
            last: [Pc::Idle; MAX_CPUS],
            inside: [[None; NESTED]; MAX_CPUS],
            worked: Pc::Idle,
        }
    }

    /// Takes a step, or the one of this actor that is possible in its place.
    pub fn take(&self, at: &mut State, action: Action, report: &mut Report) -> Option<Action> {
        let action = self.machine.like(&at.k, action)?;
        let pc = self.machine.label(&at.k, action);
        report.clear();
        self.machine.apply(&mut at.k, action, report, None);
        match action.cpu() {
            Some(cpu) => {
                let cpu = usize::from(cpu);
                at.last[cpu] = pc;
                if at.k.cpus[cpu].pc == Pc::Idle {
                    at.inside[cpu] = [None; NESTED];
                }
            }
            None => at.worked = pc,
        }
        Some(action)
    }

    /// The step that breaks what the trace breaks, where it does.
    pub fn breaks(&self, report: &Report, strict: Strict) -> Option<Pc> {
        let (invariant, step) = self.broken;
        let of = report.violations.iter().find(|violation| {
            let there = Some(violation.step) == step || strict == Strict::Elsewhere;
            violation.invariant == invariant && there
        });
        of.map(|violation| violation.step)
    }

    /// Whether a kernel dies of a step, or goes on with what is gone.
    pub fn ends(report: &Report) -> bool {
        let deadly = [Invariant::NoUseAfterFree, Invariant::NoDeadlock];
        let mut broken = report.violations.iter();
        report.fatal || broken.any(|violation| deadly.contains(&violation.invariant))
    }

    /// Whether the trace's promise is broken when nobody has anything left to do but to exit.
    pub fn breaks_in_the_end(&self, at: &State, strict: Strict) -> bool {
        let mut at = at.clone();
        let mut report = Report::default();
        let mut tail = self.tail.iter();
        let mut enabled = Vec::new();
        loop {
            let next = tail
                .next()
                .and_then(|action| self.machine.like(&at.k, *action));
            enabled.clear();
            self.machine.enabled(&at.k, &mut enabled);
            let Some(action) = next.or_else(|| enabled.first().copied()) else {
                break;
            };
            if self.take(&mut at, action, &mut report).is_none() || report.fatal {
                return self.breaks(&report, strict).is_some();
            }
            if self.breaks(&report, strict).is_some() {
                return true;
            }
        }
        report.clear();
        self.machine.terminal(&at.k, &mut report);
        self.broken.1.is_none()
            && report
                .violations
                .iter()
                .any(|violation| violation.invariant == self.broken.0)
    }

    /// An order of the trace's steps in which every change is at a gate, the one with the fewest changes.
    fn other(&self, actions: &[Action], strict: Strict) -> Option<Tried> {
        search::orders(self, actions, strict, |steps| {
            let tried = self.carry_out(&turns(steps), strict).ok()?;
            tried.broke.then_some(tried)
        })
    }

    /// The cookie that the program reads whose call ends a run, if it should read another one.
    fn foreseen(&self, taken: &[Action]) -> Option<Foreseen> {
        let mut at = self.start();
        let mut report = Report::default();
        for action in taken {
            self.take(&mut at, *action, &mut report)?;
        }
        let cpu = taken.last()?.cpu()?;
        let begun = |action: &&Action| matches!(action, Action::Begin(of, _) if *of == cpu);
        let number = taken.iter().filter(begun).count().checked_sub(1)?;
        for _ in 0..MOST_STEPS_TO_BODY {
            let state = &at.k.cpus[usize::from(cpu)];
            let called = match state.pc {
                // what stands in the trampoline: the model's call may end here, where a kernel's goes on
                Pc::CallEnter => {
                    let image = state.func.image.and_then(|image| at.k.images.get(image));
                    image.map(|image| image.code[usize::from(state.func.index)])
                }
                // the step that ends the run may be the one in which it reads
                pc if pc == Pc::CallBody || at.last[usize::from(cpu)] == Pc::CallBody => {
                    Some(Code {
                        prog: state.prog,
                        cookie: state.run_ctx,
                    })
                }
                _ => None,
            };
            if let Some(code) = called
                && let Some(prog) = code.prog.checked_sub(1)
            {
                let cookies = &self.machine.world.cookies;
                let cookie = cookies[usize::from(code.cookie)];
                let right = cookies[usize::from(state.expect)];
                return (cookie != right).then_some(Foreseen {
                    cpu: cpu.into(),
                    number,
                    prog,
                    cookie,
                    right,
                });
            }
            if state.pc == Pc::Idle {
                return None;
            }
            self.take(&mut at, Action::Step(cpu, 0), &mut report)?;
            if report.fatal {
                return None;
            }
        }
        None
    }

    /// Carries the turns out in the model, and says at which gates they change.
    fn carry_out(&self, turns: &[Turn], strict: Strict) -> Result<Tried, Failed> {
        let mut at = self.start();
        let mut tried = Tried {
            moves: Vec::new(),
            taken: Vec::new(),
            broke: false,
            at: None,
            died: false,
        };
        let moves = &mut tried.moves;
        let mut report = Report::default();
        let count = turns.len();
        for (number, turn) in turns.iter().enumerate() {
            let actor = turn.actor;
            // calls of each gate's function that this turn has made so far, since the last move
            let mut passed: Vec<Passed> = Vec::new();
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
                    && let Some(gate) = self.gate(&at, actor)
                {
                    passed.push(self.passed(&at, actor, gate));
                }
                let taken = self.take(&mut at, *step, &mut report);
                tried.taken.push(taken.ok_or(Failed::Impossible)?);
                tried.at = self.breaks(&report, strict);
                tried.broke = tried.at.is_some();
                tried.died |= !tried.broke && Self::ends(&report);
                if tried.broke || report.fatal || at.k.dead {
                    break;
                }
            }
            let over = tried.broke || report.fatal || at.k.dead;
            if over || (number + 1 == count && self.tail.is_empty()) {
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
            let until = self.until(&at, actor, next, &passed)?;
            if actor == Actor::Work && until == Until::Returned {
                moves.push(Move {
                    actor,
                    until: Until::Held(gates::MAP_IS_FREED, 0, None),
                });
            }
            at.held(actor, until);
            moves.extend(via(actor, until));
            moves.push(Move { actor, until });
        }
        let steps = turns.iter().flat_map(|turn| &turn.steps);
        let work: Vec<&Action> = steps.filter(|step| step.cpu().is_none()).collect();
        if work.windows(2).any(|pair| pair[0] != pair[1]) {
            return Err(Failed::TwoWorkers);
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
        tried.broke = tried.broke || (!tried.died && self.breaks_in_the_end(&at, strict));
        Ok(tried)
    }

    /// How far somebody goes that stands where others come in.
    pub fn until(
        &self,
        at: &State,
        actor: Actor,
        next: Option<Action>,
        passed: &[Passed],
    ) -> Result<Until, Failed> {
        let Actor::Cpu(cpu) = actor else {
            return match self.gate(at, actor) {
                _ if at.worked == Pc::MapFreeGp => Ok(Until::Returned),
                Some(gate) => Ok(Until::Held(gate, 0, None)),
                None => Err(Failed::NotHeld(format!(
                    "deferred work cannot be held after {}",
                    at.worked.name()
                ))),
            };
        };
        let pc = at.k.cpus[usize::from(cpu)].pc;
        if pc == Pc::Idle {
            return Ok(Until::Returned);
        }
        if let Some(Action::Step(_, choice)) = next
            && choice > 0
        {
            return Ok(self.fault(at, cpu, choice, passed)?.until);
        }
        if let Some(gate) = self.gate(at, actor) {
            let here = self.passed(at, actor, gate);
            return Ok(Until::Held(gate, skipped(here, passed), None));
        }
        if self.machine.waits_for(&at.k, cpu).is_some() {
            return Ok(Until::Blocked);
        }
        let site = pc.place().on(self.machine.world.linux);
        Err(Failed::NotHeld(format!(
            "cpu{cpu} cannot be held before {} in {site}",
            pc.name()
        )))
    }

    /// The move that lets an allocation of a CPU's next step fail.
    fn fault(&self, at: &State, cpu: u8, choice: u8, passed: &[Passed]) -> Result<Move, Failed> {
        let place = usize::from(cpu);
        let pc = at.k.cpus[place].pc;
        let first = at.last[place] != pc;
        let map = at.k.cpus[place].map.and_then(|map| at.k.maps.get(map));
        let programs = map.map_or(0, |map| {
            let progs = &self.machine.world.maps[usize::from(map.decl)].progs;
            progs.iter().flatten().count()
        });
        let context = self.context(at, cpu);
        let Some(failure) = gates::failure(pc, choice, first, programs, context) else {
            return Err(Failed::NoFault(format!(
                "allocation {choice} of {} cannot be made to fail alone",
                pc.name()
            )));
        };
        let gate = failure.gate;
        let mut skip = failure.skip + skipped(self.passed(at, Actor::Cpu(cpu), gate), passed);
        if failure.of_members {
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
            until: Until::Held(gate, skip, failure.nth),
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
pub struct Passed {
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
    use crate::replay::Trace;
    use struct_ops_model::Design;

    /// The moves of every shortest counterexample of a scenario.
    fn all(scenario: &str, design: &Design) -> Vec<(Broken, Result<Moves, String>)> {
        let scenario = struct_ops_sim::shipped::find(scenario).unwrap();
        let traces = Trace::shortest(&scenario, design).unwrap().unwrap();
        let machine = Machine::new(scenario.world.clone(), design.clone()).unwrap();
        let moves = |trace: &Trace| {
            let broken = (trace.invariant, trace.step);
            let moves = derive(&machine, &trace.actions, broken, Base::V6_12);
            (broken, moves)
        };
        traces.iter().map(moves).collect()
    }

    fn of(all: &[(Broken, Result<Moves, String>)], broken: Broken) -> &Moves {
        let found = all.iter().find(|one| one.0 == broken).unwrap();
        found.1.as_ref().unwrap()
    }

    #[test]
    fn a_link_create_is_held_while_another_cpu_calls() {
        let all = all("two-links-always", &Design::rfc());
        let moves = of(&all, (Invariant::CookieFidelity, Some(Pc::CallBody)));
        let lines = moves.lines();
        assert!(lines.contains("move 0 gate "), "{lines}");
        assert!(lines.ends_with("move 1 blocked"), "{lines}");
        assert_eq!(moves.needs(), Needs::Gates);
        // what the trace does not begin is not carried out
        let Plan::Fixed(plan) = &moves.world.cpus[1].plan else {
            panic!("a fixed plan");
        };
        assert_eq!(plan.len(), 1);
        let foreseen = moves.foreseen.unwrap();
        assert_eq!((foreseen.cpu, foreseen.number), (1, 0));
        assert!(foreseen.cookie != foreseen.right, "{foreseen:?}");
    }

    #[test]
    fn a_cookie_is_foreseen_where_the_models_call_ends() {
        // the page is not protected yet: in the model the call faults
        let all = all("attach-detach-attach", &Design::rfc());
        let moves = of(&all, (Invariant::NoTornPublish, Some(Pc::CallEnter)));
        let foreseen = moves.foreseen.unwrap();
        assert_eq!((foreseen.cookie, foreseen.right), (0x22, 0x11));
    }

    #[test]
    fn an_allocation_fails_where_its_thread_is_held() {
        let failing = all("hid-failing-reg", &Design::mainline());
        let moves = of(&failing, (Invariant::NoUseAfterFree, Some(Pc::HidFixup)));
        let fails = "move 0 gate __kmalloc_noprof 0 0 1 64 1";
        assert!(moves.lines().contains(fails), "{}", moves.lines());
        // the page of a link's first trampoline: no allocation that could be made to fail, its result is 0
        let hid = all("two-links-hid", &Design::rfc());
        let moves = of(&hid, (Invariant::NoLeak, None));
        let fails = "gate arch_alloc_bpf_trampoline 17 0 0 0 0";
        assert!(moves.lines().contains(fails), "{}", moves.lines());
    }

    #[test]
    fn who_is_in_a_trampoline_is_held_in_its_program() {
        let all = all("two-links-tcp", &Design::rfc());
        let moves = of(&all, (Invariant::NoUseAfterFree, Some(Pc::CallBody)));
        let lines = moves.lines();
        assert!(lines.contains("move 1 gate - 8 0 1 0 0"), "{lines}");
        assert!(moves.moved > 0);
        // after the program's last instruction there is no such place: it is broken somewhere else
        let moves = of(&all, (Invariant::NoUseAfterFree, Some(Pc::CallRet)));
        let notes = moves.notes.join("\n");
        assert!(notes.contains(", not at CallRet"), "{notes}");
    }

    #[test]
    fn what_follows_from_the_end_of_the_processes_is_no_move() {
        let all = all("attach-detach-attach", &Design::rfc());
        let moves = of(&all, (Invariant::NoLeak, None));
        let lines = moves.lines();
        let returns = |line: &str| line.ends_with(" return") || line.starts_with("move work ");
        assert!(lines.lines().all(returns), "{lines}");
        assert_eq!(moves.needs(), Needs::Turns);
        let mut moves = moves.clone();
        moves.let_work_come();
        assert!(!moves.lines().contains("work"), "{}", moves.lines());
    }

    #[test]
    fn what_cannot_be_gated_names_the_step() {
        // this kernel's subsystem has no row
        let all = all("two-links-keyed", &Design::rfc());
        let why: Vec<&String> = all.iter().filter_map(|one| one.1.as_ref().err()).collect();
        assert!(
            why.iter().any(|why| why.contains("cannot be held before")),
            "{why:?}"
        );
    }

    #[test]
    fn steps_in_other_places_are_counted() {
        let step = |cpu| Action::Step(cpu, 0);
        let trace = [step(0), step(0), step(1), step(1)];
        assert_eq!(elsewhere(&trace, &trace), 0);
        assert_eq!(elsewhere(&trace, &[step(0), step(1), step(0), step(1)]), 1);
        assert_eq!(
            elsewhere(&trace, &[step(0), step(0), step(0), step(1), step(1)]),
            1
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
        prog: None,
    };
}
