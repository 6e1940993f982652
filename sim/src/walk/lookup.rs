//! The machine of lookups, one step at a time, and its steps in words.

use struct_ops_model::place::Site;
use struct_ops_model::reach::state::State;
use struct_ops_model::reach::{Action, Label, Reach, Report};
use struct_ops_model::{Design, Linux};

use super::{End, Walk};
use crate::reach::action;
use crate::report::describe::changes;
use crate::report::reach::describe;
use crate::scenario::ReachScenario;
use crate::trace::{Broken, Step};

/// The machine of a scenario under a design.
pub fn machine(scenario: &ReachScenario, design: &Design) -> Reach {
    Reach::new(scenario.world(design), design.clone())
}

/// Who acts: `user` for loaders, `cpu0`, or `work` for the worker.
pub fn actor(action: Action) -> String {
    match action {
        Action::Loader(..) => "user".into(),
        Action::Member(cpu, ..)
        | Action::Hook(cpu, _)
        | Action::Fire(cpu, _)
        | Action::Arm(cpu)
        | Action::Jump(cpu)
        | Action::Ask(cpu)
        | Action::AskTask(cpu, _)
        | Action::Use(cpu)
        | Action::Return(cpu) => format!("cpu{cpu}"),
        Action::SchedFree(_) | Action::MapClear(_) | Action::MapFree(_) | Action::ProgFree(_) => {
            "work".into()
        }
    }
}

impl Walk for Reach {
    type State = State;
    type Action = Action;
    type Shown = ();

    fn single(&self) -> Self {
        self.clone()
    }

    fn linux(&self) -> Linux {
        Linux::V7_3
    }

    fn start(&self) -> State {
        self.initial()
    }

    fn enabled(&self, s: &State) -> Vec<Action> {
        let mut enabled = Vec::new();
        Reach::enabled(self, s, &mut enabled);
        enabled
    }

    fn take(&self, s: &mut State, action: Action) {
        self.apply(s, action, &mut Report::default(), None);
    }

    fn shown(&self) {}

    fn tell(&self, (): &mut (), s: &mut State, number: usize, action: Action) -> Step {
        let label = self.label(s, action);
        let before = describe(&self.world, s);
        let (mut report, mut event) = (Report::default(), String::new());
        self.apply(s, action, &mut report, Some(&mut event));
        let place = Some((label.name(), label.site()));
        let broke = report.violations.into_iter();
        Step {
            number,
            actor: actor(action),
            action: action::write(action),
            label: label.name(),
            site: label.site(),
            why: label.why(),
            event,
            changes: changes(&before, &describe(&self.world, s)),
            broke: broke.map(|invariant| Broken { invariant, place }).collect(),
            exercised: report.witnessed.iter().collect(),
            found: report.found,
        }
    }

    /// A lookup is judged where it happens, and nobody waits for anybody.
    fn end(&self, _: &State) -> End {
        End::default()
    }

    fn alike(one: Action, other: Action) -> bool {
        one == other
    }

    fn hindered(&self, _: &State, action: Action) -> String {
        format!("`{}` cannot happen there", action::write(action))
    }

    fn write(action: Action) -> String {
        action::write(action)
    }

    fn read(text: &str) -> Result<Action, String> {
        action::read(text)
    }

    fn place(&self, label: &str) -> Result<(&'static str, Site), String> {
        let found = Label::ALL.iter().find(|l| l.name() == label);
        let found = found.ok_or_else(|| format!("`{label}` is no step of a lookup"))?;
        Ok((found.name(), found.site()))
    }
}
