//! What the reductions take for granted, tried: a step that is said to commute with the steps of others does.
//!
//! From states of random runs of every shipped scenario, two steps of two CPUs are taken in both orders. A right mover may
//! come after the other step as well as before it, a left mover before it as well as after, with the same state at the
//! end. What a step *breaks* may show at another step then; the reductions' own tests compare verdicts.

use struct_ops_model::kernel::Kernel;
use struct_ops_model::pack::Packing;
use struct_ops_model::pc::Mover;
use struct_ops_model::{Action, Design, Machine, Pc, Report};
use struct_ops_sim::scenario::Case;
use struct_ops_sim::shipped;

/// Runs per scenario and design, each to its end.
const RUNS: u64 = 150;

/// The state after an action; `None` if it has no meaning any more.
fn after(machine: &Machine, k: &Kernel, action: Action) -> Option<Kernel> {
    let (mut next, mut report) = (*k, Report::default());
    machine.apply(&mut next, action, &mut report, None);
    (!report.fatal && !report.overflow && report.violations.is_empty()).then_some(next)
}

fn enabled(machine: &Machine, k: &Kernel) -> Vec<Action> {
    let mut actions = Vec::new();
    machine.enabled(k, &mut actions);
    actions
}

/// Two actions in this order, if the second one is possible after the first.
fn both(machine: &Machine, k: &Kernel, first: Action, second: Action) -> Option<Kernel> {
    let between = after(machine, k, first)?;
    let possible = enabled(machine, &between).contains(&second);
    possible.then(|| after(machine, &between, second))?
}

/// What is wrong with the mover of a CPU's next step in this state, if anything.
fn wrong(machine: &Machine, packing: &Packing, k: &Kernel, mine: Action) -> Option<(Pc, Pc)> {
    let Action::Step(cpu, 0) = mine else {
        return None;
    };
    let mover = machine.mover(k, cpu);
    let packed = |k: &Kernel| {
        let mut bytes = Vec::new();
        packing.pack(k, &mut bytes);
        bytes
    };
    let label = |action| machine.label(k, action);
    let others = enabled(machine, k);
    let others = others.into_iter().filter(|a| a.cpu() != Some(cpu));
    for other in others {
        // Where an allocation fails, nothing is merged.
        if matches!(other, Action::Step(_, choice) if choice > 0) {
            continue;
        }
        // Two left movers are never both due: each is taken at once with the step before it, and those come in any order.
        let left = |mover| matches!(mover, Mover::Left | Mover::Both);
        if left(mover) && matches!(other, Action::Step(cpu, _) if left(machine.mover(k, cpu))) {
            continue;
        }
        let first = both(machine, k, mine, other);
        let second = both(machine, k, other, mine);
        let same = match (&first, &second) {
            (Some(a), Some(b)) => packed(a) == packed(b),
            // Where the one order is impossible or breaks something, nothing is said here.
            _ => true,
        };
        if !same {
            return Some((label(mine), label(other)));
        }
    }
    None
}

/// Every step that is declared a mover, in every state of the runs, and those that are not.
fn tried(design: &Design, found: &mut Vec<(Pc, Pc)>) -> usize {
    let mut movers = 0;
    let cases = shipped::all().expect("shipped scenarios are right");
    for case in &cases {
        let Case::Attach(scenario) = case else {
            continue;
        };
        let Ok(machine) = Machine::new(scenario.world.clone(), design.clone()) else {
            continue;
        };
        // Names are compared away: two allocations may come in either order.
        let packing = Packing::new(&machine.world, true);
        for seed in 0..RUNS {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut k = machine.initial();
            for _ in 0..200 {
                let actions = enabled(&machine, &k);
                if actions.is_empty() {
                    break;
                }
                for action in &actions {
                    if let Action::Step(cpu, 0) = action
                        && machine.mover(&k, *cpu) != Mover::No
                    {
                        movers += 1;
                        let wrong = wrong(&machine, &packing, &k, *action);
                        if let Some(pair) = wrong.filter(|w| !found.contains(w)) {
                            eprintln!(
                                "{} under {design}: {} does not commute with {}",
                                scenario.name,
                                pair.0.name(),
                                pair.1.name()
                            );
                            found.push(pair);
                        }
                    }
                }
                let action = actions[rng.usize(..actions.len())];
                match after(&machine, &k, action) {
                    Some(next) => k = next,
                    None => break,
                }
            }
        }
    }
    movers
}

#[test]
fn a_step_that_is_said_to_commute_does() {
    for design in Design::attach_paths() {
        let mut found = Vec::new();
        let movers = tried(&design, &mut found);
        assert!(movers > 1000, "{design}: {movers} movers were tried");
        assert_eq!(found, [], "{design}");
    }
}
