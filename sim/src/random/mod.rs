//! The random engine: operations and schedules by quickcheck, both shrunk.
//!
//! A seed stands for a small world and a schedule of it. What breaks an invariant is made smaller in both
//! dimensions, in a fixed order of candidates: the same seed under the same design finds the same. It proves
//! nothing where it finds nothing; that is the work of the exhaustive engine, which can be given the world
//! that was found as a scenario file.

mod prune;
mod schedule;
mod universe;

use quickcheck::{Arbitrary, Gen};
use struct_ops_model::world::StructOpsType;
use struct_ops_model::{Action, Design, Invariant, Linux, Machine, Violation, World};

use crate::scenario::{Words, emit};
use schedule::{Guide, Outcome, Taken};

/// The size that [`Gen`] is given; the bounds of worlds and schedules are their own.
const SIZE: usize = 100;

/// A violation, made small.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where it comes from.
    pub seed: u64,
    /// Under which design.
    pub design: Design,
    /// What broke, at which step.
    pub violation: Violation,
    /// What ran.
    pub world: World,
    /// One action per step.
    pub actions: Vec<Action>,
    /// Steps and operations before shrinking.
    pub before: (usize, usize),
}

/// Whether a finding was to be expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// The scenario expects it; or, without one, the design is not the one of which nothing is known.
    Expected,
    /// The subsystem does it by itself, under every design: how.
    Subsystem(&'static str),
    /// Nobody expects it.
    New,
}

impl Finding {
    /// What the command line and the tests make of it. `expected` is what a scenario expects of the design.
    pub fn judge(&self, expected: Option<&[Invariant]>) -> Judgement {
        let mut types = self.world.types.iter();
        let known = |t: &StructOpsType| {
            let mut bugs = t.subsystem.facts().known_bugs.iter();
            let found = |(until, bug, _): &&(Linux, Violation, &str)| {
                *bug == self.violation && self.world.linux <= *until
            };
            bugs.find(found).map(|bug| bug.2)
        };
        if let Some(expected) = expected {
            return match expected.contains(&self.violation.invariant) {
                true => Judgement::Expected,
                false => Judgement::New,
            };
        }
        match types.find_map(known) {
            Some(how) => Judgement::Subsystem(how),
            None if self.design == Design::link_owned() => Judgement::New,
            None => Judgement::Expected,
        }
    }

    /// The world as a scenario file.
    pub fn scenario(&self) -> String {
        let (seed, design, invariant) = (self.seed, &self.design, self.violation.invariant);
        emit(
            Words {
                title: &format!("{} under {design}", invariant.id()),
                question: &format!(
                    "What breaks {} here, and under which designs?",
                    invariant.id()
                ),
                source: &format!("Found by random schedules, seed {seed}, under {design}."),
            },
            &self.world,
        )
    }

    /// A name for the scenario.
    pub fn name(&self) -> String {
        format!("random-{}", self.seed)
    }
}

/// How many operations a world's fixed plans have.
pub fn operations(world: &World) -> usize {
    let plans = world.cpus.iter().map(|c| match &c.plan {
        struct_ops_model::world::Plan::Fixed(operations) => operations.len(),
        struct_ops_model::world::Plan::Free { budget, .. } => usize::from(*budget),
    });
    world.setup.len() + plans.sum::<usize>()
}

/// The world and the schedule of a seed.
fn case(seed: u64) -> (World, Vec<u8>) {
    let mut g = Gen::from_size_and_seed(SIZE, seed);
    let world = universe::world(&mut g);
    (world, schedule::choices(&mut g))
}

/// The world that a seed stands for.
pub fn world(seed: u64) -> World {
    case(seed).0
}

/// What a seed came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ran {
    /// What was put to the test before anything shrank.
    pub exercised: Vec<Invariant>,
    /// What broke, if something did.
    pub finding: Option<Finding>,
}

/// Runs the world and the schedule of a seed.
pub fn run(seed: u64, design: &Design) -> Ran {
    let (world, choices) = case(seed);
    search(seed, world, choices, design, true)
}

/// Runs the schedule of a seed in a given world, which stays as it is: only the schedule shrinks.
pub fn run_in(seed: u64, world: &World, design: &Design) -> Ran {
    let mut g = Gen::from_size_and_seed(SIZE, seed);
    search(
        seed,
        world.clone(),
        schedule::choices(&mut g),
        design,
        false,
    )
}

/// Runs a case without shrinking it: what broke, if something did.
pub fn violation(seed: u64, design: &Design) -> Option<Violation> {
    let (world, choices) = case(seed);
    let machine = Machine::new(world, design.clone()).ok()?;
    broken(&machine, &schedule::run(&machine, Guide::Choices(&choices)))
}

/// The first thing that is broken and that the design promises.
fn broken(machine: &Machine, outcome: &Outcome) -> Option<Violation> {
    outcome
        .violations
        .iter()
        .copied()
        .find(|v| v.invariant.applies(&machine.design))
}

fn search(seed: u64, world: World, choices: Vec<u8>, design: &Design, worlds: bool) -> Ran {
    // A set-up that the design refuses leaves nothing to run.
    let Ok(machine) = Machine::new(world, design.clone()) else {
        return Ran::default();
    };
    let outcome = schedule::run(&machine, Guide::Choices(&choices));
    Ran {
        exercised: outcome.witnessed.iter().collect(),
        finding: broken(&machine, &outcome).map(|violation| {
            let case = Case { machine, outcome };
            small(seed, case, violation.invariant, worlds)
        }),
    }
}

/// The finding that a run shrinks to.
fn small(seed: u64, case: Case, invariant: Invariant, worlds: bool) -> Finding {
    let design = case.machine.design.clone();
    let (machine, outcome) = (&case.machine, &case.outcome);
    let before = (outcome.actions.len(), operations(&machine.world));
    tracing::debug!(
        seed,
        design = design.name,
        invariant = invariant.id(),
        steps = before.0,
        "broken"
    );
    let case = shrink(case, invariant, worlds);
    let violation = case
        .outcome
        .violations
        .iter()
        .copied()
        .find(|v| v.invariant == invariant);
    Finding {
        seed,
        design,
        violation: violation.expect("shrinking keeps the violation"),
        world: case.machine.world,
        actions: case.outcome.actions,
        before,
    }
}

/// A machine and a run of it.
#[derive(Clone)]
struct Case {
    machine: Machine,
    outcome: Outcome,
}

/// Takes the first smaller case that breaks the same invariant, until there is none.
fn shrink(mut case: Case, invariant: Invariant, worlds: bool) -> Case {
    loop {
        case = shrink_schedule(case, invariant);
        let Some(smaller) = worlds.then(|| smaller_world(&case, invariant)).flatten() else {
            return case;
        };
        case = smaller;
    }
}

fn smaller_world(case: &Case, invariant: Invariant) -> Option<Case> {
    prune::smaller(&case.machine.world)
        .into_iter()
        .find_map(|smaller| {
            let machine = Machine::new(smaller.world, case.machine.design.clone()).ok()?;
            let order = order(&case.outcome.taken, smaller.without);
            let outcome = schedule::run(&machine, Guide::Order(order));
            outcome
                .breaks(invariant)
                .then_some(Case { machine, outcome })
        })
}

/// The order of a run without the steps of an operation that is left out.
fn order(taken: &[Taken], without: Option<(usize, Option<usize>)>) -> Vec<Taken> {
    let mut order = taken.to_vec();
    let Some((cpu, position)) = without else {
        return order;
    };
    let gone = |t: &Taken| {
        t.cpu.map(usize::from) == Some(cpu) && position.is_none_or(|p| p == usize::from(t.position))
    };
    order.retain(|t| !gone(t));
    if position.is_none() {
        // The CPUs after the one that has gone move up.
        for t in &mut order {
            t.cpu = t.cpu.map(|c| c - u8::from(usize::from(c) > cpu));
        }
    }
    order
}

/// Fewer choices that are not 0, then a shorter run; the candidates are those of quickcheck for lists.
fn shrink_schedule(mut case: Case, invariant: Invariant) -> Case {
    let measure = |o: &Outcome| {
        (
            o.choices.iter().filter(|c| **c != 0).count(),
            o.actions.len(),
        )
    };
    'smaller: loop {
        let choices = case.outcome.choices.clone();
        for candidate in zeroed(&choices).chain(choices.shrink().take(2 * choices.len())) {
            let outcome = schedule::run(&case.machine, Guide::Choices(&candidate));
            if outcome.breaks(invariant) && measure(&outcome) < measure(&case.outcome) {
                case.outcome = outcome;
                continue 'smaller;
            }
        }
        return case;
    }
}

/// The choices with a stretch of them set to 0, long stretches first.
fn zeroed(choices: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let lengths =
        std::iter::successors(Some(choices.len()), |n| Some(n / 2)).take_while(|n| *n > 0);
    lengths.flat_map(move |length| {
        (0..choices.len()).step_by(length).filter_map(move |from| {
            let stretch = from..choices.len().min(from + length);
            if choices[stretch.clone()].iter().all(|c| *c == 0) {
                return None;
            }
            let mut candidate = choices.to_vec();
            candidate[stretch].fill(0);
            Some(candidate)
        })
    })
}
