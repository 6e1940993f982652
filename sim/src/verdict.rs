//! What came out of exploring one scenario under one design, as plain data for reports.

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use struct_ops_model::place::Site;
use struct_ops_model::{Design, Invariant, StepSet};

pub use crate::bounds::Bound;
use crate::engine::Outcome;
use crate::explore::Fate;
use crate::scenario::{Case, Expect, PlanText};
use crate::trace::Broken;

/// What can be said of an invariant. `holds` is said only of what was asked, exercised and seen whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Its `sometimes` event happened, every state was seen, and none of them, and no step, breaks it.
    Holds,
    /// Something breaks it.
    Violated,
    /// Every state was seen, and what the promise is about happened in none: nothing can be said.
    #[serde(rename = "never exercised")]
    NeverExercised,
    /// No run could have broken it.
    #[serde(rename = "not asked")]
    NotAsked,
    /// The design promises nothing here.
    #[serde(rename = "not applicable")]
    NotApplicable,
    /// Not everything was seen, and what was seen does not break it.
    Incomplete,
}

impl Verdict {
    /// Every verdict.
    pub const ALL: [Verdict; 6] = [
        Verdict::Holds,
        Verdict::Violated,
        Verdict::NeverExercised,
        Verdict::NotAsked,
        Verdict::NotApplicable,
        Verdict::Incomplete,
    ];

    /// The word for it, the same in JSON, text and book.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Holds => "holds",
            Verdict::Violated => "violated",
            Verdict::NeverExercised => "never exercised",
            Verdict::NotAsked => "not asked",
            Verdict::NotApplicable => "not applicable",
            Verdict::Incomplete => "incomplete",
        }
    }

    /// The word as it stands in a cell of the matrix.
    pub fn cell(self) -> &'static str {
        match self {
            Verdict::Violated => "VIOLATED",
            Verdict::NotApplicable => "n/a",
            Verdict::NeverExercised => "never",
            other => other.word(),
        }
    }

    /// What the word means.
    pub fn meaning(self) -> &'static str {
        match self {
            Verdict::Holds => "what it is about happened, and nothing that can happen breaks it",
            Verdict::Violated => "a run breaks it",
            Verdict::NeverExercised => "what it is about never happened, so nothing can be said",
            Verdict::NotAsked => "no run could have broken it",
            Verdict::NotApplicable => "the design promises nothing here",
            Verdict::Incomplete => "not everything was seen",
        }
    }
}

/// What a scenario expects of an invariant under a design.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Expected {
    /// Something breaks it.
    Violated,
    /// Nothing does, whether it is exercised or not.
    #[serde(rename = "not violated")]
    NotViolated,
}

impl Expected {
    /// The word in JSON and in differences.
    pub fn word(self) -> &'static str {
        match self {
            Expected::Violated => "violated",
            Expected::NotViolated => "not violated",
        }
    }
}

/// What exit status 1 stands for.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum FailOn {
    /// A verdict is another one than the scenario expects.
    #[default]
    Difference,
    /// A promise is broken, whatever the scenario expects.
    Violation,
}

/// A distinct violation and a shortest way to it.
#[derive(Clone, Debug)]
pub struct Counterexample {
    /// What broke.
    pub invariant: Invariant,
    /// At which step, and where that is carried out; `None` in the final state.
    pub place: Option<(&'static str, Site)>,
    /// Transitions of the explored system, of which no fewer lead here.
    pub transitions: usize,
    /// How many steps these are.
    pub steps: usize,
    /// The way: the action of each step as it stands in trace files, merged ones taken apart.
    pub actions: Vec<String>,
}

impl Counterexample {
    /// What broke, and where.
    pub fn broken(&self) -> Broken {
        Broken {
            invariant: self.invariant,
            place: self.place,
        }
    }
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
    /// Steps taken.
    pub taken: StepSet,
    /// What became of the operations of each CPU or loader, in the order of [`Case::plans`].
    pub fates: Vec<Vec<Fate>>,
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
            taken: StepSet::default(),
            fates: Vec::new(),
            found: Vec::new(),
            bound: explored.incomplete,
        }
    }

    /// Whether this kind of run can break it.
    pub fn asks(&self, invariant: Invariant) -> bool {
        invariant.of_lookups() == self.lookups
    }

    /// How often its `sometimes` event happened.
    pub fn exercised(&self, invariant: Invariant) -> u64 {
        self.witnesses[invariant as usize]
    }

    /// The verdict on one invariant.
    pub fn verdict(&self, invariant: Invariant) -> Verdict {
        if !invariant.applies(&self.design) {
            Verdict::NotApplicable
        } else if !self.asks(invariant) {
            Verdict::NotAsked
        } else if self.shortest(invariant).is_some() {
            Verdict::Violated
        } else if self.bound.is_some() {
            Verdict::Incomplete
        } else if self.exercised(invariant) == 0 {
            Verdict::NeverExercised
        } else {
            Verdict::Holds
        }
    }

    /// What the scenario expects.
    pub fn expected(&self, invariant: Invariant) -> Option<Expected> {
        let judged = self.asks(invariant) && invariant.applies(&self.design);
        let expected = self.expected.as_ref().filter(|_| judged)?;
        Some(if expected.contains(&invariant) {
            Expected::Violated
        } else {
            Expected::NotViolated
        })
    }

    /// Whether the verdict is another one than expected. An incomplete run contradicts nothing it has not seen.
    pub fn differs(&self, invariant: Invariant) -> bool {
        let verdict = self.verdict(invariant);
        let found = if verdict == Verdict::Violated {
            Expected::Violated
        } else {
            Expected::NotViolated
        };
        verdict != Verdict::Incomplete && self.expected(invariant).is_some_and(|e| e != found)
    }

    /// The counterexample to an invariant that is told: the shortest one, of those at this step if one is named.
    pub fn told(&self, invariant: Invariant, at: Option<&str>) -> Option<&Counterexample> {
        let there = |c: &&Counterexample| at.is_none_or(|at| c.place.is_some_and(|p| p.0 == at));
        let found = self.found.iter().filter(|c| c.invariant == invariant);
        found.into_iter().find(there)
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
    pub skipped: Vec<Skipped>,
    /// What ended the job before them.
    pub stopped: Option<Bound>,
    /// Scenarios whose set-up does not work under a design.
    pub failed: Vec<SetUpFails>,
    /// The step at which promises are broken that are told, if it was named.
    pub at: Option<String>,
    /// These are the results of a shard: what did not happen here may have happened in another one.
    pub part: bool,
}

/// A scenario whose set-up does not work under a design: nothing was asked there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetUpFails {
    /// Name of the scenario.
    pub scenario: String,
    /// The design.
    pub design: Design,
    /// Which operation failed, and how.
    pub why: String,
    /// What the scenario expects, if it says.
    pub expected: Option<Expect>,
}

impl SetUpFails {
    /// The word for it, as a scenario writes it too.
    pub const WORD: &str = Expect::SET_UP_FAILS;
}

/// Something of a scenario that did not happen in any run, so that no verdict speaks of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vacuous {
    /// It was run under none of the designs that were chosen; why, if the file says.
    NotRun(Option<String>),
    /// No operation of it had an object: nothing happened.
    Nothing,
    /// None of the promises that were chosen could be broken in it, or is one of the designs that were chosen.
    NotAsked,
    /// An operation of a CPU or loader never began.
    NeverBegan(Place),
    /// An operation never had its object: it always returned -EBADF, or -ENOENT where it calls an entry of a table.
    NeverMet(Place),
}

/// An operation of a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// As in [`crate::scenario::PlanText::actor`].
    pub actor: String,
    /// From 1, in the order of the file.
    pub position: usize,
    /// As the file writes it.
    pub operation: String,
}

impl Place {
    fn new(plan: &PlanText, index: usize, operation: &str) -> Self {
        Place {
            actor: plan.actor.clone(),
            position: index + 1,
            operation: if plan.any {
                "any".into()
            } else {
                operation.into()
            },
        }
    }
}

/// A scenario that was not explored under a design, although it was meant to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Name of the scenario.
    pub scenario: String,
    /// The design.
    pub design: Design,
    /// As in [`Run::lookups`].
    pub lookups: bool,
}

impl Results {
    /// The verdict over all scenarios.
    pub fn overall(&self, design: &Design, invariant: Invariant) -> Verdict {
        if !invariant.applies(design) {
            return Verdict::NotApplicable;
        }
        let runs = self.of(design).filter(|r| self.counts(r));
        let verdicts: Vec<Verdict> = runs.map(|r| r.verdict(invariant)).collect();
        let skipped = self
            .skipped
            .iter()
            .any(|s| s.design == *design && s.lookups == invariant.of_lookups());
        if verdicts.contains(&Verdict::Violated) {
            Verdict::Violated
        } else if skipped || verdicts.contains(&Verdict::Incomplete) {
            Verdict::Incomplete
        } else {
            let rest = [Verdict::Holds, Verdict::NeverExercised];
            let found = rest.into_iter().find(|v| verdicts.contains(v));
            found.unwrap_or(Verdict::NotAsked)
        }
    }

    /// How often the invariant's `sometimes` event happened, over all scenarios.
    pub fn exercised(&self, design: &Design, invariant: Invariant) -> u64 {
        let runs = self.of(design).filter(|r| self.counts(r));
        runs.map(|r| r.exercised(invariant)).sum()
    }

    /// Whether mainline's verdict is the design's: it attaches as mainline does and was run, if at all, only where its
    /// programs are tied to maps, and broke nothing there that mainline keeps.
    pub fn as_mainline(&self, design: &Design, invariant: Invariant) -> bool {
        let mainline = Design::mainline();
        let runs = |of| self.of(of).filter(|r| !r.lookups).count();
        let breaks = |of| self.overall(of, invariant) == Verdict::Violated;
        design.attaches_as_mainline()
            && *design != mainline
            && self.designs.contains(&mainline)
            && runs(design) < runs(&mainline)
            && invariant.applies(&mainline)
            && invariant.applies(design)
            && (breaks(&mainline) || !breaks(design))
            && !invariant.of_lookups()
    }

    /// Scenarios that say nothing of a design, because their subsystem makes a mistake, beside others that do.
    pub fn faulty(&self) -> impl Iterator<Item = &Case> {
        let others = self.scenarios.iter().any(|s| s.head().fault.is_none());
        self.scenarios
            .iter()
            .filter(move |s| others && s.head().fault.is_some())
    }

    /// Whether a run counts in the verdict over all scenarios.
    fn counts(&self, run: &Run) -> bool {
        !self.faulty().any(|s| s.head().name == run.scenario)
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
        let found = self.runs.iter();
        let found = found.filter(|r| r.design == *design && self.counts(r));
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

    /// Runs and invariants for which the exit status is 1.
    pub fn failures(&self, fail_on: FailOn) -> Vec<(&Run, Invariant)> {
        if fail_on == FailOn::Difference {
            return self.differences();
        }
        let pairs = self
            .runs
            .iter()
            .flat_map(|r| self.invariants.iter().map(move |i| (r, *i)));
        pairs
            .filter(|(r, i)| r.verdict(*i) == Verdict::Violated)
            .collect()
    }

    /// What was not run, did not happen or met nothing, per scenario; nothing of scenarios that were not seen whole.
    pub fn vacuous(&self) -> Vec<(&str, Vacuous)> {
        let speaks = |v: Verdict| !matches!(v, Verdict::NotAsked | Verdict::NotApplicable);
        let mut out = Vec::new();
        if self.part {
            return out;
        }
        for case in &self.scenarios {
            let name = case.head().name.as_str();
            let runs = || self.runs.iter().filter(|r| r.scenario == name);
            let skipped = self.skipped.iter().any(|s| s.scenario == name);
            let failed = self.failed.iter().any(|s| s.scenario == name);
            if skipped || runs().any(|r| r.bound.is_some()) {
                continue;
            }
            if runs().next().is_none() {
                if !failed {
                    out.push((name, Vacuous::NotRun(case.only())));
                }
                continue;
            }
            let from = out.len();
            let mut happened = false;
            for (actor, plan) in case.plans().iter().enumerate() {
                let fate = |operation: usize| {
                    let fates = runs().filter_map(|r| r.fates.get(actor)?.get(operation));
                    fates.fold(Fate::default(), |all, fate| all.or(*fate))
                };
                let began = (0..plan.operations.len()).any(|o| fate(o).begun);
                for (i, operation) in plan.operations.iter().enumerate() {
                    let (fate, place) = (fate(i), Place::new(plan, i, operation));
                    happened |= fate.begun && (fate.met || !fate.missed);
                    if fate.missed && !fate.met {
                        out.push((name, Vacuous::NeverMet(place)));
                    } else if !(fate.begun || plan.any && began) {
                        out.push((name, Vacuous::NeverBegan(place)));
                        // What comes after it in order cannot have begun either, and `any` is one choice.
                        if i < plan.ordered || plan.any {
                            break;
                        }
                    }
                }
            }
            if !happened {
                out.truncate(from);
                out.push((name, Vacuous::Nothing));
            } else if !runs().any(|r| self.invariants.iter().any(|i| speaks(r.verdict(*i)))) {
                out.push((name, Vacuous::NotAsked));
            }
        }
        out
    }

    /// Runs of scenarios that expect their set-up to fail under the design.
    pub fn working_set_ups(&self) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(|run| {
            let mut cases = self.scenarios.iter();
            let case = cases.find(|c| c.head().name == run.scenario);
            case.and_then(|c| c.head().expected(&run.design)) == Some(&Expect::SetUpFails)
        })
    }

    /// Set-ups that fail where the file expects verdicts.
    pub fn failing_set_ups(&self) -> impl Iterator<Item = &SetUpFails> {
        let differs = |f: &&SetUpFails| matches!(f.expected, Some(Expect::Violated(_)));
        self.failed.iter().filter(differs)
    }

    /// Whether anything is not as a scenario expects it.
    pub fn differs(&self) -> bool {
        !self.differences().is_empty() || self.set_ups_differ()
    }

    /// Whether a set-up works where the scenario expects it to fail, or fails where verdicts are expected.
    pub fn set_ups_differ(&self) -> bool {
        self.failing_set_ups().next().is_some() || self.working_set_ups().next().is_some()
    }

    /// Whether a bound hides something.
    pub fn incomplete(&self) -> bool {
        !self.skipped.is_empty() || self.runs.iter().any(|r| r.bound.is_some())
    }
}
