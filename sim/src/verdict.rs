//! What came out of exploring one scenario under one design, as plain data for reports.

use struct_ops_model::{Action, Design, Invariant, Violation};

use crate::engine::{Incomplete, Outcome};
use crate::scenario::Case;

/// What can be said of an invariant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No state and no step breaks it.
    Holds,
    /// Something breaks it.
    Violated,
    /// The design promises nothing here.
    NotApplicable,
    /// Not everything was seen, and what was seen does not break it.
    Incomplete,
}

impl Verdict {
    /// The word in JSON, and in the matrix where there is room.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Holds => "holds",
            Verdict::Violated => "violated",
            Verdict::NotApplicable => "n/a",
            Verdict::Incomplete => "incomplete",
        }
    }
}

/// Why not every state was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// `--max-states`.
    MaxStates,
    /// Ctrl-C.
    Interrupted,
    /// A fixed-size table of the model was full.
    ModelTable,
}

impl Bound {
    /// The reason in words.
    pub fn reason(self) -> &'static str {
        match self {
            Bound::MaxStates => "--max-states was reached",
            Bound::Interrupted => "interrupted",
            Bound::ModelTable => {
                "a table of the model was full: the scenario creates too much at once"
            }
        }
    }
}

/// A distinct violation and a shortest way to it.
#[derive(Clone, Debug)]
pub struct Counterexample {
    /// What broke.
    pub invariant: Invariant,
    /// At which step, and the kernel function it stands for; `None` in the final state.
    pub place: Option<(&'static str, &'static str)>,
    /// Transitions of the explored system, of which no fewer lead here.
    pub transitions: usize,
    /// How many steps these are.
    pub steps: usize,
    /// The way.
    pub path: Path,
}

/// The way to a violation.
#[derive(Clone, Debug)]
pub enum Path {
    /// On the attach path: one action per step, merged ones taken apart.
    Attach(Violation, Vec<Action>),
    /// Where schedulers are looked up.
    Reach(Vec<struct_ops_model::reach::Action>),
}

/// One scenario under one design.
#[derive(Clone, Debug)]
pub struct Run {
    /// Name of the scenario.
    pub scenario: String,
    /// The design.
    pub design: Design,
    /// It is about schedulers that are looked up, not about the attach path.
    pub lookups: bool,
    /// What the scenario expects to be broken, if it says.
    pub expected: Option<Vec<Invariant>>,
    /// Distinct states.
    pub states: u64,
    /// Transitions, those to known states included.
    pub transitions: u64,
    /// Distance of the farthest state.
    pub depth: u32,
    /// How long it took.
    pub seconds: f64,
    /// Memory per stored state.
    pub bytes_per_state: f64,
    /// How often each invariant's `sometimes` event happened, in the order of [`Invariant::ALL`].
    pub witnesses: Vec<u64>,
    /// Steps taken, bit `pc as u32`.
    pub taken: u128,
    /// Distinct violations, those with the fewest transitions first.
    pub found: Vec<Counterexample>,
    /// Why not everything was seen.
    pub bound: Option<Bound>,
}

impl Run {
    /// What an exploration of a scenario came to; nothing found yet.
    pub fn new<A>(
        scenario: &str,
        design: &Design,
        expected: Option<&[Invariant]>,
        explored: &Outcome<A>,
    ) -> Self {
        Run {
            scenario: scenario.to_string(),
            design: design.clone(),
            lookups: false,
            expected: expected.map(<[Invariant]>::to_vec),
            states: explored.states,
            transitions: explored.transitions,
            depth: explored.depth,
            seconds: explored.seconds,
            bytes_per_state: explored.bytes_per_state,
            witnesses: explored.witnesses[..Invariant::ALL.len()].to_vec(),
            taken: 0,
            found: Vec::new(),
            bound: explored.incomplete.map(|why| match why {
                Incomplete::MaxStates => Bound::MaxStates,
                Incomplete::Stopped => Bound::Interrupted,
                Incomplete::Overflow => Bound::ModelTable,
            }),
        }
    }

    /// Whether the design promises something here, and this kind of run could break it.
    fn judges(&self, invariant: Invariant) -> bool {
        invariant.of_lookups() == self.lookups && invariant.applies(&self.design)
    }

    /// The verdict on one invariant.
    pub fn verdict(&self, invariant: Invariant) -> Verdict {
        if !self.judges(invariant) {
            Verdict::NotApplicable
        } else if self.shortest(invariant).is_some() {
            Verdict::Violated
        } else if self.bound.is_some() {
            Verdict::Incomplete
        } else {
            Verdict::Holds
        }
    }

    /// The verdict that the scenario expects.
    pub fn expected(&self, invariant: Invariant) -> Option<Verdict> {
        let expected = self.expected.as_ref().filter(|_| self.judges(invariant))?;
        Some(if expected.contains(&invariant) {
            Verdict::Violated
        } else {
            Verdict::Holds
        })
    }

    /// Whether the verdict is another one than expected. An incomplete run contradicts nothing it has not seen.
    pub fn differs(&self, invariant: Invariant) -> bool {
        let verdict = self.verdict(invariant);
        verdict != Verdict::Incomplete && self.expected(invariant).is_some_and(|e| e != verdict)
    }

    /// The shortest counterexample to an invariant.
    pub fn shortest(&self, invariant: Invariant) -> Option<&Counterexample> {
        self.found.iter().find(|c| c.invariant == invariant)
    }
}

/// What `check` did, and what it was asked to look at.
#[derive(Clone, Debug)]
pub struct Results {
    /// The scenarios, in the order in which they were explored.
    pub scenarios: Vec<Case>,
    /// The designs.
    pub designs: Vec<Design>,
    /// The invariants that were asked for.
    pub invariants: Vec<Invariant>,
    /// One per scenario and design, until something stopped it.
    pub runs: Vec<Run>,
    /// Scenarios and designs that there was no time for.
    pub skipped: usize,
}

impl Results {
    /// The verdict over all scenarios; `None` if the design was never run in one of the invariant's kind.
    pub fn overall(&self, design: &Design, invariant: Invariant) -> Option<Verdict> {
        let runs = self
            .of(design)
            .filter(|r| r.lookups == invariant.of_lookups());
        let verdicts: Vec<Verdict> = runs.map(|r| r.verdict(invariant)).collect();
        let order = [
            Verdict::Violated,
            Verdict::Incomplete,
            Verdict::Holds,
            Verdict::NotApplicable,
        ];
        order.into_iter().find(|v| verdicts.contains(v))
    }

    /// The runs of one design.
    pub fn of<'a>(&'a self, design: &'a Design) -> impl Iterator<Item = &'a Run> {
        self.runs.iter().filter(move |r| r.design == *design)
    }

    /// The run with the shortest counterexample over all scenarios.
    pub fn shortest(
        &self,
        design: &Design,
        invariant: Invariant,
    ) -> Option<(&Run, &Counterexample)> {
        let found = self.runs.iter().filter(|r| r.design == *design);
        let found = found.filter_map(|r| Some((r, r.shortest(invariant)?)));
        found.min_by_key(|(_, c)| c.steps)
    }

    /// Runs and invariants whose verdict is not the expected one.
    pub fn differences(&self) -> Vec<(&Run, Invariant)> {
        let pairs = self
            .runs
            .iter()
            .flat_map(|r| self.invariants.iter().map(move |i| (r, *i)));
        pairs.filter(|(r, i)| r.differs(*i)).collect()
    }

    /// Whether a bound hides something.
    pub fn incomplete(&self) -> bool {
        self.skipped > 0 || self.runs.iter().any(|r| r.bound.is_some())
    }
}
