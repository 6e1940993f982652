//! The machine as stateright sees it, for the test that compares counts and the benchmark that compares speed.

use stateright::{Model, Property};
use struct_ops_model::{Action, Kernel, Machine, Report};

/// The same machine, and the same state.
pub struct Theirs(pub Machine);

impl Model for Theirs {
    type State = Kernel;
    type Action = Action;

    fn init_states(&self) -> Vec<Kernel> {
        vec![self.0.initial()]
    }

    fn actions(&self, state: &Kernel, actions: &mut Vec<Action>) {
        self.0.enabled(state, actions);
    }

    fn next_state(&self, last: &Kernel, action: Action) -> Option<Kernel> {
        let mut next = *last;
        let mut report = Report::default();
        self.0.apply(&mut next, action, &mut report, None);
        // A bound of the model: our engine drops the successor too.
        (!report.overflow).then_some(next)
    }

    /// The search stops when nothing is left to discover: this is never discovered.
    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property::always("everything is seen", |_, _| true)]
    }
}
