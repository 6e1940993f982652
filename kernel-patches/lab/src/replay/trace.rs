//! A counterexample that shall be replayed: from a file, or found anew in a scenario.

use struct_ops_model::pc::STEPS;
use struct_ops_model::{Action, Design, Invariant, Machine, Pc};
use struct_ops_sim::scenario::{Case, InputError, Scenario};
use struct_ops_sim::trace::Broken;
use struct_ops_sim::tracefile::File;
use struct_ops_sim::walk;

use crate::error::{At, Error, Result};
use crate::scenario::explore;
use crate::series::{Base, Series};

/// A counterexample.
#[derive(Clone, Debug)]
pub struct Trace {
    /// What to call it where it is alone: the file, or what is broken in which scenario.
    pub name: String,
    /// Its scenario.
    pub scenario: Scenario,
    /// The design under which it was found.
    pub design: Design,
    /// What it breaks.
    pub invariant: Invariant,
    /// The step that breaks it; none if only the final state shows it.
    pub step: Option<Pc>,
    /// All that happens.
    pub actions: Vec<Action>,
}

/// The step at which a promise was broken.
fn step_of(broken: Broken) -> Option<Pc> {
    let label = broken.label()?;
    STEPS.iter().find(|s| s.name == label).map(|s| s.pc)
}

/// Actions that a trace has told.
fn actions(told: &[String]) -> Result<Vec<Action>> {
    walk::actions::<Machine>(told).map_err(|(step, why)| Error::Bug(format!("step {step}: {why}")))
}

fn input(error: InputError) -> Error {
    Error::Input(error.to_string())
}

impl Trace {
    /// Reads a file that `check --save-traces` or the explorer has written.
    ///
    /// # Errors
    /// What is wrong with it, or that it is about lookups or breaks nothing.
    pub fn read(path: &str) -> Result<Self> {
        let text = std::fs::read_to_string(path).at(path)?;
        let file = File::parse(path, &text).map_err(input)?;
        let case = file.case_inside().transpose().map_err(input)?;
        let Some(Case::Attach(scenario)) = case else {
            return Err(Error::Input(format!(
                "{path}: a trace of a lookup: expected one of the attach path"
            )));
        };
        let replayed = file.replay(path, None).map_err(input)?;
        if let Some(why) = &replayed.parted {
            return Err(Error::Input(format!("{path}: {why}")));
        }
        let again = replayed.again().into_iter().find_map(|again| again.found);
        let recorded = again.and_then(|promise| Invariant::from_id(&promise.invariant));
        let mut broken = replayed.trace.broken();
        let broken = broken
            .find(|(_, broken)| recorded.is_none_or(|invariant| invariant == broken.invariant));
        let (step, broken) = broken
            .ok_or_else(|| Error::Input(format!("{path}: expected a run that breaks a promise")))?;
        Ok(Trace {
            name: path.to_owned(),
            invariant: broken.invariant,
            step: step.and_then(|_| step_of(broken)),
            actions: actions(&replayed.trace.actions())?,
            scenario: *scenario,
            design: replayed.design,
        })
    }

    /// The shortest counterexamples of a scenario under a design, one for each step that breaks a promise.
    ///
    /// Why there are none is that the set-up does not work under it.
    ///
    /// # Errors
    /// A bug of ours.
    pub fn shortest(
        scenario: &Scenario,
        design: &Design,
    ) -> Result<std::result::Result<Vec<Self>, String>> {
        // one thread: which one of several shortest runs it is, is the same each time
        let run = match explore(scenario, design, 1)? {
            Ok(run) => run,
            Err(why) => return Ok(Err(why)),
        };
        if let Some(bound) = run.bound {
            let what = "ended its exploration: there may be other counterexamples";
            eprintln!(
                "{} under {design}: {} {what}",
                scenario.head.name,
                bound.word()
            );
        }
        let one = |found: struct_ops_sim::verdict::Counterexample| {
            let mut trace = Trace {
                name: String::new(),
                scenario: scenario.clone(),
                design: design.clone(),
                invariant: found.invariant,
                step: step_of(found.broken()),
                actions: actions(&found.actions)?,
            };
            trace.name = format!("{} {}", scenario.head.name, trace.what());
            Ok(trace)
        };
        run.found
            .into_iter()
            .map(one)
            .collect::<Result<_>>()
            .map(Ok)
    }

    /// What it breaks, and where.
    pub fn what(&self) -> String {
        let place = match self.step {
            Some(step) => format!("at {}", step.name()),
            None => "at the end".into(),
        };
        format!("{} {place}", self.invariant.id())
    }

    /// The series whose kernels are what the design stands for.
    ///
    /// # Errors
    /// That there is none.
    pub fn series(&self, base: Base) -> Result<Series> {
        let all = [Series::Stock, Series::Rfc, Series::LinkOwned, Series::Fixes];
        let of = |series: &Series| {
            Design::parse(series.design(base)).is_ok_and(|design| design.name == self.design.name)
        };
        all.into_iter().find(of).ok_or_else(|| {
            Error::Input(format!(
                "{}: no series of patches on {} is design {}: say with --series on which kernel",
                self.name,
                base.name(),
                self.design.name
            ))
        })
    }
}
