//! A machine that is walked one step at a time, of the attach path or of lookups: what may happen, what a step does, and
//! how it is told and written. Everything that shows, saves, replays or compares runs knows machines by this alone.
//!
//! Not the machines: those are the model's. Not the engine's view of them, which knows neither names nor words: that is
//! `engine::System`.

mod attach;
mod lookup;
pub mod path;

use struct_ops_model::place::Site;
use struct_ops_model::{Design, Invariant, Linux};

use crate::scenario::{Case, InputError};
use crate::trace::{Broken, Step, Trace};

pub(crate) use attach::wait;
pub use attach::{machine as attach, unmerged};
pub use lookup::{actor, machine as lookup};
pub use path::{NoSuchChoice, Parted, follow, read_path, write_path};

/// A machine that is walked one step at a time.
pub trait Walk: Sized {
    /// A state.
    type State: Copy;
    /// A step.
    type Action: Copy + PartialEq;
    /// What the steps of a run have shown so far, if that is part of what the next one is told by.
    type Shown;

    /// The same, if it takes several steps as one.
    #[must_use]
    fn single(&self) -> Self;
    /// The kernel whose functions are named.
    fn linux(&self) -> Linux;
    /// The state before the first step.
    fn start(&self) -> Self::State;
    /// What may happen in a state.
    fn enabled(&self, state: &Self::State) -> Vec<Self::Action>;
    /// Takes a step.
    fn take(&self, state: &mut Self::State, action: Self::Action);
    /// What a run has shown before its first step.
    fn shown(&self) -> Self::Shown;
    /// Takes a step, and tells it.
    fn tell(
        &self,
        shown: &mut Self::Shown,
        state: &mut Self::State,
        number: usize,
        action: Self::Action,
    ) -> Step;
    /// What a state breaks and puts to the test in which nothing can happen any more, and who is stuck in it.
    fn end(&self, state: &Self::State) -> End;
    /// Whether two steps of different designs are the same move of a schedule.
    fn alike(one: Self::Action, other: Self::Action) -> bool;
    /// Why there is nothing like a step in a state.
    fn hindered(&self, state: &Self::State, action: Self::Action) -> String;
    /// The text of a step, as it stands in trace files.
    fn write(action: Self::Action) -> String;
    /// Reads what [`Walk::write`] wrote.
    ///
    /// # Errors
    /// What was found and what was expected.
    fn read(text: &str) -> Result<Self::Action, String>;
    /// The step of the model that has this name, and where it is carried out.
    ///
    /// # Errors
    /// That there is none.
    fn place(&self, label: &str) -> Result<(&'static str, Site), String>;

    /// The step itself if it may happen in a state, or else one that is the same move of a schedule: what an action means
    /// may have another name there (objects that are there and were not take slots).
    fn like(&self, state: &Self::State, action: Self::Action) -> Option<Self::Action> {
        let enabled = self.enabled(state);
        let same = enabled.iter().find(|a| **a == action);
        let like = same.or_else(|| enabled.iter().find(|a| Self::alike(**a, action)));
        like.copied()
    }
}

/// What there is to say of a state in which nothing can happen any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// What it breaks.
    pub broke: Vec<Broken>,
    /// What it puts to the test.
    pub exercised: Vec<Invariant>,
    /// Who can never move again, where, and what it waits for, in words.
    pub stuck: Vec<String>,
}

/// An action that could not be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotEnabled {
    /// Its number, from 1.
    pub step: usize,
    /// The action.
    pub found: String,
    /// What could be done instead.
    pub enabled: Vec<String>,
    /// The steps before it.
    pub before: Trace,
}

/// Carries out actions, one step each.
///
/// # Errors
/// The first action that is not enabled.
pub fn trace<W: Walk>(machine: &W, actions: &[W::Action]) -> Result<Trace, Box<NotEnabled>> {
    let machine = machine.single();
    let (mut state, mut shown) = (machine.start(), machine.shown());
    let mut refused = None;
    let mut trace = Trace {
        linux: machine.linux(),
        steps: Vec::new(),
        ended: false,
        end: Vec::new(),
        end_exercised: Vec::new(),
        stuck: Vec::new(),
    };
    for (i, action) in actions.iter().enumerate() {
        if !machine.enabled(&state).contains(action) {
            refused = Some((i + 1, *action));
            break;
        }
        let step = machine.tell(&mut shown, &mut state, i + 1, *action);
        tracing::trace!(
            number = step.number,
            action = step.action,
            step = step.label,
            event = step.event,
            "step"
        );
        trace.steps.push(step);
    }
    let enabled = machine.enabled(&state);
    trace.ended = enabled.is_empty();
    if trace.ended {
        let end = machine.end(&state);
        (trace.end, trace.end_exercised, trace.stuck) = (end.broke, end.exercised, end.stuck);
    }
    match refused {
        None => Ok(trace),
        Some((step, found)) => Err(Box::new(NotEnabled {
            step,
            found: W::write(found),
            enabled: enabled.into_iter().map(W::write).collect(),
            before: trace,
        })),
    }
}

/// A machine of either kind, whose steps are text.
pub trait Walked {
    /// Whether each of these is a step.
    ///
    /// # Errors
    /// The number of the first one that is none, from 1, and what was expected.
    fn read(&self, steps: &[String]) -> Result<(), (usize, String)>;
    /// The step of the model that has this name, and where it is carried out.
    ///
    /// # Errors
    /// That there is none.
    fn place(&self, label: &str) -> Result<(&'static str, Site), String>;
    /// The steps that a path of choices stands for.
    ///
    /// # Errors
    /// The first choice that there is not.
    fn chosen(&self, path: &[usize]) -> Result<Vec<String>, NoSuchChoice>;
    /// The choices that steps are, up to the first one that cannot be taken.
    fn path(&self, steps: &[String]) -> Vec<usize>;
    /// The steps that follow those of another design, as far as they can be followed: the same one acts at each step.
    ///
    /// # Errors
    /// What is no step.
    fn follow(&self, steps: &[String]) -> Result<(Trace, Option<Parted>), String>;
    /// Carries out steps.
    ///
    /// # Errors
    /// The first one that is none, or that cannot be taken.
    fn carry_out(&self, steps: &[String]) -> Result<Trace, NotCarriedOut>;
}

/// Why steps could not be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotCarriedOut {
    /// Which one is no step, from 1, and what was expected.
    NoStep(usize, String),
    /// Which one cannot be taken.
    NotEnabled(Box<NotEnabled>),
}

impl<W: Walk> Walked for W {
    fn read(&self, steps: &[String]) -> Result<(), (usize, String)> {
        actions::<W>(steps).map(|_| ())
    }

    fn place(&self, label: &str) -> Result<(&'static str, Site), String> {
        Walk::place(self, label)
    }

    fn chosen(&self, path: &[usize]) -> Result<Vec<String>, NoSuchChoice> {
        let actions = path::actions(self, path)?;
        Ok(actions.into_iter().map(W::write).collect())
    }

    fn path(&self, steps: &[String]) -> Vec<usize> {
        let actions: Vec<_> = steps.iter().map_while(|s| W::read(s).ok()).collect();
        path::path(self, &actions)
    }

    fn follow(&self, steps: &[String]) -> Result<(Trace, Option<Parted>), String> {
        let actions = actions::<W>(steps).map_err(|(i, why)| format!("step {i}: {why}"))?;
        let (followed, parted) = path::follow(self, &actions);
        let trace =
            trace(self, &followed).map_err(|e| format!("step {} was not enabled", e.step))?;
        Ok((trace, parted))
    }

    fn carry_out(&self, steps: &[String]) -> Result<Trace, NotCarriedOut> {
        let actions = actions::<W>(steps).map_err(|(i, why)| NotCarriedOut::NoStep(i, why))?;
        trace(self, &actions).map_err(NotCarriedOut::NotEnabled)
    }
}

/// Steps that were text.
///
/// # Errors
/// The number of the first one that is none, from 1, and what was expected.
pub fn actions<W: Walk>(steps: &[String]) -> Result<Vec<W::Action>, (usize, String)> {
    let numbered = steps.iter().enumerate();
    let read = |(i, step): (usize, &String)| W::read(step).map_err(|why| (i + 1, why));
    numbered.map(read).collect()
}

/// The machine of a scenario of either kind.
///
/// # Errors
/// The operation of the set-up that does not work.
pub fn machine(case: &Case, design: &Design) -> Result<Box<dyn Walked>, InputError> {
    Ok(match case {
        Case::Attach(scenario) => Box::new(attach(scenario, design)?),
        Case::Reach(scenario) => Box::new(lookup(scenario, design)),
    })
}
