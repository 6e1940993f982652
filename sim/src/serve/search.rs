//! Explorations that a page has asked for: each in a thread of its own, with progress, and stopped when told.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use struct_ops_model::reach::Reach;
use struct_ops_model::{Design, Invariant, Machine};

use crate::bounds::{Bounds, Memory};
use crate::check::{self, Settings};
use crate::engine::{self, Options, Progress, StepReport, System};
use crate::explore::{Explored, Reductions};
use crate::reach;
use crate::report::text::count;
use crate::scenario::Case;
use crate::verdict::Run;
use crate::walk::{self, Walk, path, write_path};

/// A counterexample, as a page offers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Counterexample {
    /// The promise.
    pub invariant: String,
    /// How many steps lead to it.
    pub steps: usize,
    /// They.
    pub path: String,
}

/// How far an exploration is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct State {
    /// Distinct states so far.
    pub states: u64,
    /// Level that is being walked.
    pub depth: u32,
    /// It has ended.
    pub done: bool,
    /// What it has found.
    pub found: Vec<Counterexample>,
    /// What there is to say in the end.
    pub note: String,
}

/// An exploration that goes on or has ended.
#[derive(Debug)]
pub struct Search {
    state: Mutex<State>,
    stop: Arc<AtomicUsize>,
}

impl Search {
    /// Begins `explore` on a thread of its own: what it finds, and what there is to say.
    pub fn begin(explore: impl FnOnce(&Self) -> Found + Send + 'static) -> Arc<Self> {
        let search = Arc::new(Search {
            state: Mutex::default(),
            stop: Arc::default(),
        });
        let its = search.clone();
        let work = move || {
            let end = explore(&its);
            let mut state = its.lock();
            match end {
                Ok((found, note)) => (state.found, state.note) = (found, note),
                Err(why) => state.note = why,
            }
            state.done = true;
        };
        if let Err(why) = std::thread::Builder::new().spawn(work) {
            let mut state = search.lock();
            state.note = format!("no thread for it: {why}");
            state.done = true;
        }
        search
    }

    /// How far it is.
    pub fn state(&self) -> State {
        self.lock().clone()
    }

    /// Ends it; what is known so far is told.
    pub fn stop(&self) {
        self.stop
            .store(signal_hook::consts::SIGINT as usize, Relaxed);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tick(&self, progress: &Progress) {
        let mut state = self.lock();
        (state.states, state.depth) = (progress.states, progress.depth);
    }

    fn bounds(&self) -> Bounds {
        Bounds::new(self.stop.clone(), None, Memory::new(None))
    }

    /// Shortest counterexamples to every promise.
    pub fn whole(&self, case: &Case, design: &Design) -> Found {
        let (bounds, settings) = (self.bounds(), settings());
        let machine = walk::machine(case, design).map_err(|e| e.to_string())?;
        let run = check::case(case, design, &settings, &bounds, &mut |p| self.tick(p));
        let run = run.map_err(|e| e.to_string())?;
        let found = Invariant::ALL.iter().filter(|i| i.applies(design));
        let found = found.filter_map(|i| run.shortest(*i));
        let found: Vec<Counterexample> = found
            .map(|c| Counterexample {
                invariant: c.invariant.id().into(),
                steps: c.actions.len(),
                path: write_path(&machine.path(&c.actions)),
            })
            .collect();
        let note = note(&run, found.is_empty());
        Ok((found, note))
    }

    /// The nearest violation after some steps.
    pub fn nearest(&self, case: &Case, design: &Design, before: &[String]) -> Found {
        let wrong = |(step, why): (usize, String)| format!("step {step}: {why}");
        match case {
            Case::Attach(scenario) => {
                let explored =
                    Explored::new(scenario.world.clone(), design.clone(), Reductions::ALL)
                        .map_err(|e| e.to_string())?;
                let one = walk::unmerged(&explored.machine);
                let before = walk::actions::<Machine>(before).map_err(wrong)?;
                self.after(
                    explored,
                    after(&one, &before),
                    |explored, mut k, actions| {
                        let steps = actions
                            .iter()
                            .flat_map(|a| explored.machine.expand(&mut k, *a));
                        path::path(
                            &one,
                            &before.iter().copied().chain(steps).collect::<Vec<_>>(),
                        )
                    },
                )
            }
            Case::Reach(scenario) => {
                let one = walk::lookup(scenario, design);
                let explored = reach::Explored::new(one.clone(), false);
                let before = walk::actions::<Reach>(before).map_err(wrong)?;
                self.after(explored, after(&one, &before), |_, _, actions| {
                    path::path(&one, &[before.as_slice(), actions].concat())
                })
            }
        }
    }

    /// What can follow a state, explored until something breaks; `choices` makes of that the whole path.
    fn after<S: System>(
        &self,
        explored: S,
        state: S::State,
        choices: impl Fn(&S, S::State, &[S::Action]) -> Vec<usize>,
    ) -> Found {
        let from = After {
            explored,
            state,
            stop: &self.stop,
            seen: AtomicBool::new(false),
        };
        let bounds = self.bounds();
        let options = Options {
            threads: threads(),
            bounds: &bounds,
            ..Options::default()
        };
        let outcome = engine::explore(&from, &options, &mut |p| self.tick(p));
        let states = count(outcome.states);
        let mut violations = outcome.violations;
        violations.sort_by_key(|v| v.depth);
        let Some((violation, actions)) = violations
            .into_iter()
            .find_map(|v| Some((v.violation, v.trace.ok()?)))
        else {
            let note = match from.seen.load(Relaxed) || outcome.incomplete.is_some() {
                true => format!("stopped after {states} states"),
                false => format!("nothing that can follow breaks anything: {states} states"),
            };
            return Ok((Vec::new(), note));
        };
        let invariant = Invariant::ALL[usize::from(violation.invariant)];
        let path = choices(&from.explored, state, &actions);
        let found = Counterexample {
            invariant: invariant.id().into(),
            steps: path.len(),
            path: write_path(&path),
        };
        Ok((vec![found], format!("the nearest one: {}", invariant.id())))
    }
}

/// What an exploration finds and what there is to say, or why there is none.
type Found = Result<(Vec<Counterexample>, String), String>;

fn settings() -> Settings {
    Settings {
        threads: threads(),
        max_states: None,
        exact: false,
        reductions: Reductions::ALL,
    }
}

/// What an exploration of everything came to.
fn note(run: &Run, nothing: bool) -> String {
    let states = count(run.states);
    match (&run.bound, nothing) {
        (Some(bound), _) => format!("{states} states, not all: {}", bound.reason()),
        (None, true) => format!("nothing is broken in any of {states} states"),
        (None, false) => format!("{states} states, all"),
    }
}

/// The state after some steps.
fn after<W: Walk>(machine: &W, steps: &[W::Action]) -> W::State {
    let mut state = machine.start();
    for action in steps {
        machine.take(&mut state, *action);
    }
    state
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

/// What can follow a state, explored until something breaks.
struct After<'a, S: System> {
    explored: S,
    state: S::State,
    stop: &'a AtomicUsize,
    /// Something broke.
    seen: AtomicBool,
}

impl<S: System> After<'_, S> {
    /// The round in which something breaks is the last one.
    fn judged(&self, report: StepReport) -> StepReport {
        if !report.violations.is_empty() {
            self.seen.store(true, Relaxed);
            self.stop
                .store(signal_hook::consts::SIGINT as usize, Relaxed);
        }
        report
    }
}

impl<S: System> System for After<'_, S> {
    type State = S::State;
    type Action = S::Action;

    fn initial(&self) -> S::State {
        self.state
    }

    fn actions(&self, state: &S::State, out: &mut Vec<S::Action>) {
        self.explored.actions(state, out);
    }

    fn apply(&self, state: &mut S::State, action: S::Action) -> StepReport {
        self.judged(self.explored.apply(state, action))
    }

    fn encode(&self, state: &S::State, out: &mut Vec<u8>) {
        self.explored.encode(state, out);
    }

    fn decode(&self, bytes: &[u8]) -> S::State {
        self.explored.decode(bytes)
    }

    fn terminal(&self, state: &S::State) -> StepReport {
        self.judged(self.explored.terminal(state))
    }
}
