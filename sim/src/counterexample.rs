//! A counterexample of either kind of scenario, carried out again.

use struct_ops_model::reach::Reach;
use struct_ops_model::{Design, Machine};

use crate::check::why_not;
use crate::reach;
use crate::scenario::Case;
use crate::trace::{Trace, trace};
use crate::verdict::{Counterexample, Path};

/// Steps of either kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Steps {
    /// On the attach path.
    Attach(Trace),
    /// Where schedulers are looked up.
    Lookup(reach::Trace),
}

/// The steps of a counterexample.
///
/// # Errors
/// Why it is none of this scenario under this design.
pub fn steps(case: &Case, design: &Design, found: &Counterexample) -> Result<Steps, String> {
    let impossible = |step| format!("step {step} of a trace cannot be taken");
    let (steps, breaks) = match (case, &found.path) {
        (Case::Attach(scenario), Path::Attach(violation, actions)) => {
            let machine = Machine::new(scenario.world.clone(), design.clone());
            let machine = machine.map_err(|e| why_not(scenario, &e))?;
            let trace = trace(&machine, actions).map_err(|e| impossible(e.step))?;
            let breaks = trace.broken().any(|(_, v)| v == *violation);
            (Steps::Attach(trace), breaks)
        }
        (Case::Reach(scenario), Path::Reach(actions)) => {
            let machine = Reach::new(scenario.world(design), design.clone());
            let trace = reach::replay(&machine, actions).map_err(|(step, _)| impossible(step))?;
            let breaks = trace.iter().any(|s| s.broke.contains(&found.invariant));
            (Steps::Lookup(trace), breaks)
        }
        _ => return Err("a trace of another kind of scenario".into()),
    };
    match breaks {
        true => Ok(steps),
        false => Err(format!("a trace does not break {}", found.invariant.id())),
    }
}
