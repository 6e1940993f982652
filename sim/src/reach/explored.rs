//! The machine as a system that an engine can walk, and what was found on the way.

use struct_ops_model::Invariant;
use struct_ops_model::reach::{Action, Found, Label, Reach, Report, State};

use crate::bounds::Bounds;
use crate::engine::{self, Options, Progress, StepReport, System, Violation, Violations};
use crate::explore::{Fate, SharedFate};

/// What is worth a trace: an invariant that broke at a step, or something that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Broken, at which step.
    Broken(Invariant, Label),
    /// Found.
    Found(Found),
}

/// Codes of [`Found`] beside those of invariants.
const OWN: u8 = 64;
const NOTHING: u8 = 65;
const REFUSED: u8 = 66;

impl Event {
    fn code(self) -> Violation {
        let (invariant, label) = match self {
            Event::Broken(invariant, label) => (invariant as u8, label as u8),
            Event::Found(Found::Own(s)) => (OWN, s),
            Event::Found(Found::Nothing(s)) => (NOTHING, s),
            Event::Found(Found::Refused(s)) => (REFUSED, s),
        };
        Violation {
            invariant,
            label: u16::from(label),
        }
    }

    fn decode(code: Violation) -> Self {
        let sched = code.label as u8;
        match code.invariant {
            OWN => Event::Found(Found::Own(sched)),
            NOTHING => Event::Found(Found::Nothing(sched)),
            REFUSED => Event::Found(Found::Refused(sched)),
            i => Event::Broken(
                Invariant::ALL[usize::from(i)],
                Label::ALL[usize::from(code.label)],
            ),
        }
    }
}

/// The machine, and whether findings are events too.
#[derive(Debug)]
pub struct Explored {
    reach: Reach,
    finds: bool,
    /// One per loader and operation, those at any time after those in order.
    fates: Vec<Vec<SharedFate>>,
}

impl Explored {
    /// `finds`: what programs find is reported beside what breaks.
    pub fn new(reach: Reach, finds: bool) -> Self {
        let fates = reach.world.loaders.iter().map(|loader| {
            let count = loader.first.len() + loader.later.len();
            (0..count).map(|_| SharedFate::default()).collect()
        });
        Explored {
            fates: fates.collect(),
            reach,
            finds,
        }
    }

    /// What became of each loader's operations so far.
    pub fn fates(&self) -> Vec<Vec<Fate>> {
        let of = |fates: &Vec<SharedFate>| fates.iter().map(SharedFate::get).collect();
        self.fates.iter().map(of).collect()
    }

    /// Notes which operation of a loader begins; one whose object is not there does not begin.
    fn begins(&self, state: &State, action: Action) {
        let Action::Loader(loader, op) = action else {
            return;
        };
        let loader = usize::from(loader);
        let (plan, next) = (
            &self.reach.world.loaders[loader],
            usize::from(state.next[loader]),
        );
        let place = if next < plan.first.len() {
            Some(next)
        } else {
            let open = |bit: usize| state.done[loader] & (1 << bit) == 0;
            let later = (0..plan.later.len()).find(|bit| plan.later[*bit] == op && open(*bit));
            later.map(|bit| plan.first.len() + bit)
        };
        if let Some(place) = place {
            let met = match self.reach.has_object(state, op) {
                true => SharedFate::MET,
                false => SharedFate::MISSED,
            };
            self.fates[loader][place].set(SharedFate::BEGUN | met);
        }
    }
}

impl System for Explored {
    type State = State;
    type Action = Action;

    fn initial(&self) -> State {
        self.reach.initial()
    }

    fn actions(&self, state: &State, out: &mut Vec<Action>) {
        self.reach.enabled(state, out);
    }

    fn apply(&self, state: &mut State, action: Action) -> StepReport {
        let label = self.reach.label(state, action);
        let mut report = Report::default();
        self.begins(state, action);
        self.reach.apply(state, action, &mut report, None);
        let mut violations = Violations::default();
        for invariant in &report.violations {
            violations.push(Event::Broken(*invariant, label).code());
        }
        if let Some(found) = report.found.filter(|_| self.finds) {
            violations.push(Event::Found(found).code());
        }
        StepReport {
            violations,
            witnessed: report.witnessed.bits(),
            steps: 1,
            fatal: report.fatal,
            overflow: false,
            fired: Some(label as u16),
        }
    }

    fn encode(&self, state: &State, out: &mut Vec<u8>) {
        state.encode(out);
    }

    fn decode(&self, bytes: &[u8]) -> State {
        State::decode(bytes)
    }

    fn terminal(&self, _: &State) -> StepReport {
        StepReport::default()
    }
}

/// What an exploration met.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What the engine says of it; its violations have become `events`.
    pub explored: engine::Outcome<Action>,
    /// Each event with a shortest way to it, the shortest first.
    pub events: Vec<(Event, Vec<Action>)>,
}

/// Explores all that can happen.
///
/// # Errors
/// A trace that could not be told: a bug of ours.
pub fn explore(
    explored: &Explored,
    threads: usize,
    max_states: Option<u64>,
    bounds: &Bounds,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Outcome, String> {
    let options = Options {
        threads,
        max_states,
        bounds,
        ..Options::default()
    };
    let mut explored = engine::explore(explored, &options, progress);
    let mut events = Vec::new();
    for found in std::mem::take(&mut explored.violations) {
        let event = Event::decode(found.violation);
        let trace = found.trace.map_err(|e| format!("{event:?}: {e}"))?;
        events.push((event, trace));
    }
    events.sort_by_key(|(event, trace)| (trace.len(), event.code()));
    Ok(Outcome { explored, events })
}
