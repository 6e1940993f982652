//! What the reductions take for granted, tried: a step that is said to commute with the steps of others does.
//!
//! From states of random runs of every shipped scenario, and from all states of every two operations at once on the same
//! few maps and links, two steps of two CPUs are taken in both orders. A right mover may
//! come after the other step as well as before it, a left mover before it as well as after, with the same state at the
//! end. What a step *breaks* may show at another step then; the reductions' own tests compare verdicts.

use std::collections::HashSet;

use struct_ops_model::kernel::Kernel;
use struct_ops_model::operation::OpKind;
use struct_ops_model::pack::Packing;
use struct_ops_model::pc::Mover;
use struct_ops_model::{Action, Design, Machine, Pc, Report};
use struct_ops_sim::scenario::{Case, Scenario};
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

/// Adds what is wrong with the movers of a state; how many steps are movers there.
fn try_all(
    machine: &Machine,
    packing: &Packing,
    k: &Kernel,
    what: &str,
    found: &mut Vec<(Pc, Pc)>,
) -> usize {
    let mut movers = 0;
    for action in enabled(machine, k) {
        if let Action::Step(cpu, 0) = action
            && machine.mover(k, cpu) != Mover::No
        {
            movers += 1;
            let wrong = wrong(machine, packing, k, action);
            if let Some(pair) = wrong.filter(|w| !found.contains(w)) {
                let (name, with) = (pair.0.name(), pair.1.name());
                eprintln!(
                    "{what} under {}: {name} does not commute with {with}",
                    machine.design
                );
                found.push(pair);
            }
        }
    }
    movers
}

/// Every step that is declared a mover, in every state of the runs.
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
                movers += try_all(&machine, &packing, &k, &scenario.head.name, found);
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

/// What is done at once, two of these: around a link of one map, another map that is ready and a third one that is new.
const OPERATIONS: [&str; 15] = [
    "link_create m1 TARGET as NEW",
    "link_create m2 TARGET as NEW",
    "link_update l1 m1",
    "link_update l1 m2",
    "link_update l1 m2 replace=m1",
    "link_update l1 m2 replace=m3",
    "link_detach l1",
    "link_close l1",
    "link_pin l1",
    "link_info l1",
    "map_lookup m2",
    "map_update m3",
    "map_close m1",
    "map_close m2",
    "CALL",
];

/// Subsystem, kernel, where its links go, how a member is called.
const SUBSYSTEMS: [(&str, &str, &str, &str); 4] = [
    ("tcp_congestion_ops", "6.12", "", "sock_open m"),
    ("bpf_testmod_ops", "6.12", "", "call 0 member"),
    ("sched_ext_ops", "7.3", "", "call 0 member"),
    ("bpf_tcp_ops", "7.4", "cgroup=c", "cgroup_call c member"),
];

/// Both operations at once.
fn at_once(of: (&str, &str, &str, &str), first: &str, second: &str) -> Scenario {
    let (subsystem, linux, target, call) = of;
    let cgroup = if target.is_empty() {
        ""
    } else {
        "cgroup = [{ name = \"c\" }]"
    };
    let operation = |text: &str, new: &str| {
        let text = text.replace("CALL", call).replace("TARGET", target);
        text.replace("NEW", new)
    };
    let (first, second) = (operation(first, "l2"), operation(second, "l3"));
    let text = format!(
        r#"
title = "Two at once"
question = "Do they commute?"
source = "a test"
linux = "{linux}"
type = [{{ name = "t", subsystem = "{subsystem}", members = [{{ name = "member" }}] }}]
program = [{{ name = "p", type = "t", member = "member" }}]
map = [
    {{ name = "m1", type = "t", key = "m", programs = ["p"] }},
    {{ name = "m2", type = "t", key = "m", programs = ["p"] }},
    {{ name = "m3", type = "t", key = "m", programs = ["p"] }},
]
{cgroup}
run = {{ setup = [
    "map_create m1", "map_update m1", "map_create m2", "map_update m2", "map_create m3",
    "link_create m1 {target} as l1",
] }}
cpu = [{{ do = ["{first}"] }}, {{ do = ["{second}"] }}]
"#
    );
    let scenario = Scenario::parse("at-once", "at-once.toml", &text);
    scenario.unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// Every state until both operations have returned.
fn states(machine: &Machine) -> Vec<Kernel> {
    let mut seen = HashSet::from([machine.initial()]);
    let mut todo = vec![machine.initial()];
    while let Some(k) = todo.pop() {
        for action in enabled(machine, &k) {
            let exits = matches!(action, Action::Begin(_, request) if request.kind == OpKind::Exit);
            let next = after(machine, &k, action).filter(|_| !exits);
            todo.extend(next.filter(|next| seen.insert(*next)));
        }
    }
    seen.into_iter().collect()
}

#[test]
fn two_operations_at_once_commute_where_they_are_said_to() {
    for design in Design::attach_paths() {
        let (mut movers, mut found) = (0, Vec::new());
        for of in SUBSYSTEMS {
            for (i, first) in OPERATIONS.iter().enumerate() {
                for second in &OPERATIONS[i..] {
                    let scenario = at_once(of, first, second);
                    let machine = Machine::new(scenario.world, design.clone()).expect("a set-up");
                    let packing = Packing::new(&machine.world, true);
                    let what = format!("{first} and {second} of {}", of.0);
                    for k in states(&machine) {
                        movers += try_all(&machine, &packing, &k, &what, &mut found);
                    }
                }
            }
        }
        assert!(movers > 1000, "{design}: {movers} movers were tried");
        assert_eq!(found, [], "{design}");
    }
}
