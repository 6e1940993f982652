//! Explorations that a page has asked for: each in a thread of its own, with progress, and stopped when told.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use struct_ops_model::{Action, Design, Invariant, Kernel, Report};

use crate::bounds::{Bounds, Memory};
use crate::check::{Settings, check};
use crate::engine::{self, Options, Progress, StepReport, System};
use crate::explore::{Explored, Reductions};
use crate::report::text::count;
use crate::scenario::Scenario;
use crate::verdict::{Path, Run};
use crate::view;

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
    /// Begins to look for shortest counterexamples to every promise, or, after some steps, for the nearest violation.
    pub fn begin(scenario: Scenario, design: Design, after: Option<Vec<Action>>) -> Arc<Self> {
        let search = Arc::new(Search {
            state: Mutex::default(),
            stop: Arc::default(),
        });
        let its = search.clone();
        let work = move || {
            let end = match after {
                None => its.shortest(&scenario, &design),
                Some(actions) => its.nearest(&scenario, &design, &actions),
            };
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

    fn shortest(
        &self,
        scenario: &Scenario,
        design: &Design,
    ) -> Result<(Vec<Counterexample>, String), String> {
        let settings = Settings {
            threads: threads(),
            max_states: None,
            exact: false,
            reductions: Reductions::ALL,
        };
        let run = check(scenario, design, &settings, &self.bounds(), &mut |p| {
            self.tick(p)
        });
        let run = run.map_err(|e| e.to_string())?;
        let machine = view::machine(scenario, design).map_err(|e| e.to_string())?;
        let mut found = Vec::new();
        for invariant in Invariant::ALL {
            let shortest = run
                .shortest(*invariant)
                .filter(|_| invariant.applies(design));
            if let Some(Path::Attach(_, actions)) = shortest.map(|s| &s.path) {
                found.push(Counterexample {
                    invariant: invariant.id().into(),
                    steps: actions.len(),
                    path: view::write_path(&view::path(&machine, actions)),
                });
            }
        }
        let note = note(&run, found.is_empty());
        Ok((found, note))
    }

    fn nearest(
        &self,
        scenario: &Scenario,
        design: &Design,
        before: &[Action],
    ) -> Result<(Vec<Counterexample>, String), String> {
        let explored = Explored::new(scenario.world.clone(), design.clone(), Reductions::ALL);
        let from = From::new(explored.map_err(|e| e.to_string())?, before, &self.stop);
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
        let mut k = from.state;
        let steps = actions
            .iter()
            .flat_map(|a| from.explored.machine.expand(&mut k, *a));
        let actions: Vec<Action> = before.iter().copied().chain(steps).collect();
        let machine = view::machine(scenario, design).map_err(|e| e.to_string())?;
        let invariant = Invariant::ALL[usize::from(violation.invariant)];
        let found = Counterexample {
            invariant: invariant.id().into(),
            steps: actions.len(),
            path: view::write_path(&view::path(&machine, &actions)),
        };
        Ok((vec![found], format!("the nearest one: {}", invariant.id())))
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

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

/// What can follow a state, explored until something breaks.
struct From<'a> {
    explored: Explored,
    state: Kernel,
    stop: &'a AtomicUsize,
    /// Something broke.
    seen: AtomicBool,
}

impl<'a> From<'a> {
    fn new(explored: Explored, actions: &[Action], stop: &'a AtomicUsize) -> Self {
        let one = crate::trace::unmerged(&explored.machine);
        let mut state = one.initial();
        for action in actions {
            one.apply(&mut state, *action, &mut Report::default(), None);
        }
        From {
            explored,
            state,
            stop,
            seen: AtomicBool::new(false),
        }
    }

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

impl System for From<'_> {
    type State = Kernel;
    type Action = Action;

    fn initial(&self) -> Kernel {
        self.state
    }

    fn actions(&self, state: &Kernel, out: &mut Vec<Action>) {
        self.explored.actions(state, out);
    }

    fn apply(&self, state: &mut Kernel, action: Action) -> StepReport {
        self.judged(self.explored.apply(state, action))
    }

    fn encode(&self, state: &Kernel, out: &mut Vec<u8>) {
        self.explored.encode(state, out);
    }

    fn decode(&self, bytes: &[u8]) -> Kernel {
        self.explored.decode(bytes)
    }

    fn terminal(&self, state: &Kernel) -> StepReport {
        self.judged(self.explored.terminal(state))
    }
}
