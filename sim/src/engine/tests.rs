//! The engine on toy systems whose numbers are known: by arithmetic, or from a search of a few
//! lines that stores everything.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::*;
use crate::bounds::{Bound, Bounds, Memory, Scarce};

/// Counters that only grow. Counting what is reachable is arithmetic, and the counters are
/// interchangeable, so symmetry must make multisets of them.
#[derive(Clone, Copy)]
struct Counters {
    limit: u8,
    symmetric: bool,
}

const COUNTERS: usize = 5;
const FIRST_FULL: Violation = Violation {
    invariant: 0,
    label: 0,
};
const UNEVEN: Violation = Violation {
    invariant: 1,
    label: 7,
};
const ALL_FULL: Violation = Violation {
    invariant: 2,
    label: 9,
};

impl System for Counters {
    type State = [u8; COUNTERS];
    type Action = usize;

    fn initial(&self) -> Self::State {
        [0; COUNTERS]
    }

    fn actions(&self, state: &Self::State, out: &mut Vec<usize>) {
        out.extend((0..COUNTERS).filter(|&i| state[i] < self.limit));
    }

    fn apply(&self, state: &mut Self::State, i: usize) -> StepReport {
        state[i] += 1;
        let full = state[i] == self.limit;
        let mut report = StepReport {
            steps: 1,
            witnessed: u64::from(full) << 3,
            fired: Some(state[i].into()),
            ..StepReport::default()
        };
        if full {
            report.violations.push(FIRST_FULL);
        }
        if state.iter().filter(|&&n| n == 2).count() == 3 && state.contains(&4) {
            report.violations.push(UNEVEN);
        }
        report
    }

    fn encode(&self, state: &Self::State, out: &mut Vec<u8>) {
        let mut state = *state;
        if self.symmetric {
            state.sort_unstable();
        }
        out.extend(state);
    }

    fn decode(&self, bytes: &[u8]) -> Self::State {
        bytes.try_into().unwrap()
    }

    fn terminal(&self, _: &Self::State) -> StepReport {
        let mut report = StepReport {
            witnessed: 1,
            ..StepReport::default()
        };
        report.violations.push(ALL_FULL);
        report
    }
}

/// A random graph: cycles, joins, dead ends, fatal steps, bounds that are hit.
struct Graph {
    states: u32,
}

fn mix(a: u32, b: u32) -> u32 {
    let x = (u64::from(a) << 32 | u64::from(b)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ x >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (x >> 32) as u32
}

impl System for Graph {
    type State = u32;
    type Action = u32;

    fn initial(&self) -> u32 {
        0
    }

    fn actions(&self, state: &u32, out: &mut Vec<u32>) {
        out.extend(0..mix(*state, 99) % 6);
        if *state == 0 {
            out.extend(6..12);
        }
    }

    fn apply(&self, state: &mut u32, action: u32) -> StepReport {
        let dice = mix(*state, action + 100);
        *state = mix(*state, action) % self.states;
        let mut report = StepReport {
            fatal: dice.is_multiple_of(17),
            overflow: dice.is_multiple_of(23),
            witnessed: u64::from(dice & 0x8001),
            fired: Some((dice % 40) as u16),
            ..StepReport::default()
        };
        if dice.is_multiple_of(301) {
            let invariant = (dice % 5) as u8;
            report.violations.push(Violation {
                invariant,
                label: (dice % 7) as u16,
            });
            report.violations.push(Violation {
                invariant: 5,
                label: 0,
            });
        }
        report
    }

    fn encode(&self, state: &u32, out: &mut Vec<u8>) {
        out.extend(&state.to_le_bytes()[..if *state < 1 << 16 { 2 } else { 4 }]);
    }

    fn decode(&self, bytes: &[u8]) -> u32 {
        bytes
            .iter()
            .rev()
            .fold(0, |state, &byte| state << 8 | u32::from(byte))
    }

    fn terminal(&self, state: &u32) -> StepReport {
        let mut report = StepReport::default();
        report.violations.push(Violation {
            invariant: 6,
            label: (*state % 3) as u16,
        });
        report
    }
}

fn run<S: System>(system: &S, options: Options) -> Outcome<S::Action> {
    explore(system, &options, &mut |_| {})
}

/// Everything of an outcome but time and memory.
fn facts<A: std::fmt::Debug>(o: &Outcome<A>) -> String {
    format!(
        "{:?}",
        (
            (o.states, o.transitions, o.terminals, o.depth, o.incomplete),
            (&o.witnesses, &o.coverage, &o.violations)
        )
    )
}

/// Replays every trace: it must be as long as it says and end with its violation.
fn check_traces<S: System>(system: &S, outcome: &Outcome<S::Action>) {
    for found in &outcome.violations {
        let trace = found.trace.as_ref().unwrap();
        assert_eq!(trace.len(), found.depth as usize);
        let mut state = system.initial();
        let mut last = StepReport::default();
        for &action in trace {
            let mut enabled = Vec::new();
            system.actions(&state, &mut enabled);
            assert!(enabled.contains(&action) && !last.fatal && !last.overflow);
            last = system.apply(&mut state, action);
        }
        if found.end == End::Terminal {
            last = system.terminal(&state);
        }
        assert!(last.violations.contains(&found.violation), "{found:?}");
    }
}

#[test]
fn counts_what_arithmetic_counts() {
    let outcome = run(
        &Counters {
            limit: 6,
            symmetric: false,
        },
        Options::default(),
    );
    assert_eq!(outcome.states, 7_u64.pow(5));
    assert_eq!(outcome.transitions, 5 * 6 * 7_u64.pow(4));
    assert_eq!((outcome.terminals, outcome.depth), (1, 30));
    assert_eq!(outcome.witnesses[0], 1);
    assert_eq!(outcome.witnesses[3], 5 * 7_u64.pow(4));
    assert_eq!(
        outcome.coverage,
        [vec![0], vec![5 * 7_u64.pow(4); 6]].concat()
    );
    assert_eq!(outcome.incomplete, None);
    assert!(
        outcome.bytes_per_state <= 24.0,
        "{}",
        outcome.bytes_per_state
    );
}

#[test]
fn symmetry_keeps_the_violations_and_their_depth() {
    let plain = Counters {
        limit: 6,
        symmetric: false,
    };
    let reduced = Counters {
        limit: 6,
        symmetric: true,
    };
    let (all, few) = (
        run(&plain, Options::default()),
        run(&reduced, Options::default()),
    );
    assert_eq!(few.states, 462); // 11 over 5
    let depths = |outcome: &Outcome<usize>| -> HashMap<Violation, u32> {
        outcome
            .violations
            .iter()
            .map(|found| (found.violation, found.depth))
            .collect()
    };
    let expected = HashMap::from([(FIRST_FULL, 6), (UNEVEN, 10), (ALL_FULL, 30)]);
    assert_eq!(depths(&all), expected);
    assert_eq!(depths(&few), expected);
    check_traces(&plain, &all);
    check_traces(&plain, &few);
}

#[test]
fn agrees_with_a_search_of_a_few_lines() {
    let graph = Graph { states: 300_000 };
    let mut seen = HashSet::from([(0, false)]);
    let mut queue = VecDeque::from([(0, 0)]);
    let mut depths: HashMap<Violation, u32> = HashMap::new();
    let (mut transitions, mut terminals, mut farthest) = (0, 0, 0);
    while let Some((state, depth)) = queue.pop_front() {
        let mut actions = Vec::new();
        graph.actions(&state, &mut actions);
        if actions.is_empty() {
            terminals += 1;
            for &violation in graph.terminal(&state).violations.iter() {
                let shortest = depths.entry(violation).or_insert(depth);
                *shortest = depth.min(*shortest);
            }
        }
        for action in actions {
            transitions += 1;
            let mut next = state;
            let report = graph.apply(&mut next, action);
            for &violation in report.violations.iter() {
                let shortest = depths.entry(violation).or_insert(depth + 1);
                *shortest = (depth + 1).min(*shortest);
            }
            if !report.overflow && seen.insert((next, report.fatal)) {
                farthest = depth + 1;
                if !report.fatal {
                    queue.push_back((next, depth + 1));
                }
            }
        }
    }
    let outcome = run(
        &graph,
        Options {
            threads: 2,
            ..Options::default()
        },
    );
    assert!(outcome.states > 100_000, "{}", outcome.states);
    assert_eq!(outcome.states, seen.len() as u64);
    assert_eq!(
        (outcome.transitions, outcome.terminals, outcome.depth),
        (transitions, terminals, farthest)
    );
    let found: HashMap<_, _> = outcome
        .violations
        .iter()
        .map(|f| (f.violation, f.depth))
        .collect();
    assert_eq!(found, depths);
    assert_eq!(outcome.incomplete, Some(Bound::ModelTable));
    check_traces(&graph, &outcome);
}

#[test]
fn the_same_at_any_number_of_threads() {
    let graph = Graph { states: 100_000 };
    for max_states in [None, Some(20_000)] {
        let one = facts(&run(
            &graph,
            Options {
                max_states,
                ..Options::default()
            },
        ));
        for threads in [2, 3, 8] {
            let many = run(
                &graph,
                Options {
                    threads,
                    max_states,
                    ..Options::default()
                },
            );
            assert_eq!(facts(&many), one, "{threads} threads");
        }
    }
}

/// A hash with 12 good bits.
struct Weak;

impl Fingerprint for Weak {
    fn hash(bytes: &[u8]) -> u64 {
        Xxh3::hash(bytes) & 0xffe0_0000_0000_0001
    }
}

#[test]
fn a_weak_hash_loses_states_and_exact_mode_tells() {
    let graph = Graph { states: 50_000 };
    let exact = Options {
        threads: 2,
        exact: true,
        ..Options::default()
    };
    let good = run(
        &graph,
        Options {
            exact: false,
            ..exact
        },
    );
    let weak = explore_with::<_, Weak>(
        &graph,
        &Options {
            exact: false,
            ..exact
        },
        &mut |_| {},
    );
    assert!(weak.states <= 1 << 12 && weak.states < good.states / 4);
    // In exact mode even a weak hash gives the counts, the violations and traces that are right.
    let full = explore_with::<_, Weak>(&graph, &exact, &mut |_| {});
    assert_eq!(
        (full.states, full.transitions),
        (good.states, good.transitions)
    );
    assert_eq!((full.depth, full.witnesses), (good.depth, good.witnesses));
    assert_eq!(full.coverage, good.coverage);
    assert_eq!(full.violations.len(), good.violations.len());
    check_traces(&graph, &full);
    // With the good hash both modes agree to the last action.
    assert_eq!(facts(&run(&graph, exact)), facts(&good));
}

/// A good hash that puts every state elsewhere.
struct Reversed;

impl Fingerprint for Reversed {
    fn hash(bytes: &[u8]) -> u64 {
        Xxh3::hash(bytes).reverse_bits()
    }
}

#[test]
fn among_equally_short_runs_the_first_in_the_order_of_actions() {
    let graph = Graph { states: 50_000 };
    let outcome = run(&graph, Options::default());
    assert!(outcome.violations.len() > 1);
    let reversed = explore_with::<_, Reversed>(&graph, &Options::default(), &mut |_| {});
    assert_eq!(facts(&reversed), facts(&outcome));

    // A search of a few lines that keeps the order: the first run to each state.
    let mut runs: HashMap<u32, Vec<u32>> = HashMap::from([(graph.initial(), Vec::new())]);
    let mut queue = VecDeque::from([graph.initial()]);
    let mut first: HashMap<Violation, Vec<u32>> = HashMap::new();
    while let Some(state) = queue.pop_front() {
        let mut actions = Vec::new();
        graph.actions(&state, &mut actions);
        for action in actions {
            let mut next = state;
            let report = graph.apply(&mut next, action);
            let mut run = runs[&state].clone();
            run.push(action);
            for &violation in report.violations.iter() {
                first.entry(violation).or_insert_with(|| run.clone());
            }
            if !report.overflow && !report.fatal && !runs.contains_key(&next) {
                runs.insert(next, run);
                queue.push_back(next);
            }
        }
    }
    for found in outcome
        .violations
        .iter()
        .filter(|found| found.end == End::Action)
    {
        assert_eq!(found.trace.as_ref(), Ok(&first[&found.violation]));
    }
}

#[test]
fn bounds_stop_the_search_and_say_so() {
    let counters = Counters {
        limit: 20,
        symmetric: false,
    };
    let bounded = run(
        &counters,
        Options {
            max_states: Some(50_000),
            ..Options::default()
        },
    );
    assert_eq!(bounded.incomplete, Some(Bound::MaxStates));
    assert!(
        (50_000..60_000).contains(&bounded.states),
        "{}",
        bounded.states
    );
    check_traces(&counters, &bounded);
    // A bound that is just large enough is no bound.
    let graph = Graph { states: 5_000 };
    let all = run(&graph, Options::default());
    let fits = run(
        &graph,
        Options {
            max_states: Some(all.states + 1),
            ..Options::default()
        },
    );
    assert_eq!(fits.incomplete, all.incomplete);

    let signal = Arc::new(AtomicUsize::new(15));
    let bounds = Bounds::new(signal.clone(), None, Memory::endless());
    let stopped = run(
        &counters,
        Options {
            bounds: &bounds,
            ..Options::default()
        },
    );
    assert_eq!(
        (stopped.incomplete, stopped.states),
        (Some(Bound::Signal(15)), 1)
    );
    signal.store(0, Ordering::Relaxed);
    let options = Options {
        threads: 2,
        bounds: &bounds,
        ..Options::default()
    };
    let counters = Counters {
        limit: 30,
        symmetric: false,
    };
    let mut calls = 0;
    let stopped = explore(&counters, &options, &mut |progress| {
        calls += 1;
        assert!(progress.states > 0 && progress.depth > 0);
        signal.store(2, Ordering::Relaxed);
    });
    assert_eq!((stopped.incomplete, calls), (Some(Bound::Signal(2)), 1));

    let over = Bounds::new(signal.clone(), Some(Instant::now()), Memory::endless());
    signal.store(0, Ordering::Relaxed);
    let options = Options {
        bounds: &over,
        ..Options::default()
    };
    assert_eq!(run(&counters, options).incomplete, Some(Bound::Timeout));
}

/// What was found is kept, and told, when memory runs short; at any number of threads.
#[test]
fn memory_that_runs_short_stops_the_search() {
    let counters = Counters {
        limit: 60,
        symmetric: false,
    };
    for (exact, threads) in [(false, 1), (false, 3), (true, 1)] {
        let bounds = Bounds::new(Arc::default(), None, Memory::new(Some(1)));
        let bounded = run(
            &counters,
            Options {
                threads,
                exact,
                bounds: &bounds,
                ..Options::default()
            },
        );
        let scarce = Some(Bound::MaxMemory(Scarce::Given));
        assert_eq!(bounded.incomplete, scarce);
        check_traces(&counters, &bounded);
    }
}

/// More threads than find something to do are as good as those that do.
#[test]
fn any_number_of_threads_will_do() {
    let graph = Graph { states: 5_000 };
    let one = run(&graph, Options::default());
    let many = Options {
        threads: usize::MAX,
        ..Options::default()
    };
    assert_eq!(run(&graph, many).states, one.states);
}

/// Panics in the middle of the search.
struct Broken;

impl System for Broken {
    type State = u32;
    type Action = u32;

    fn initial(&self) -> u32 {
        0
    }

    fn actions(&self, _: &u32, out: &mut Vec<u32>) {
        out.extend(0..3);
    }

    fn apply(&self, state: &mut u32, action: u32) -> StepReport {
        *state = mix(*state, action);
        assert_ne!(mix(*state, 0) % 5_000, 0, "the system broke");
        StepReport::default()
    }

    fn encode(&self, state: &u32, out: &mut Vec<u8>) {
        out.extend(state.to_le_bytes());
    }

    fn decode(&self, bytes: &[u8]) -> u32 {
        u32::from_le_bytes(bytes.try_into().unwrap())
    }

    fn terminal(&self, _: &u32) -> StepReport {
        StepReport::default()
    }
}

#[test]
#[should_panic(expected = "the system broke")]
fn a_panic_of_the_system_comes_out_and_nobody_hangs() {
    run(
        &Broken,
        Options {
            threads: 3,
            ..Options::default()
        },
    );
}

#[test]
fn violations_are_a_set() {
    let mut violations = Violations::default();
    violations.push(UNEVEN);
    violations.push(FIRST_FULL);
    violations.push(UNEVEN);
    assert_eq!(*violations, [UNEVEN, FIRST_FULL]);
}
