//! A counterexample of either kind of scenario, carried out again.

use struct_ops_model::Design;

use crate::scenario::Case;
use crate::trace::Trace;
use crate::verdict::Counterexample;
use crate::walk::{self, NotCarriedOut};

/// The steps of a counterexample.
///
/// # Errors
/// Why it is none of this scenario under this design.
pub fn steps(case: &Case, design: &Design, found: &Counterexample) -> Result<Trace, String> {
    let machine = walk::machine(case, design).map_err(|e| e.to_string())?;
    let trace = machine.carry_out(&found.actions).map_err(|e| match e {
        NotCarriedOut::NoStep(step, why) => format!("step {step} of a trace: {why}"),
        NotCarriedOut::NotEnabled(e) => format!("step {} of a trace cannot be taken", e.step),
    })?;
    let breaks = trace.broken().any(|(_, broken)| broken == found.broken());
    match breaks {
        true => Ok(trace),
        false => Err(format!("a trace does not break {}", found.invariant.id())),
    }
}
