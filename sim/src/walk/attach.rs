//! The machine of the attach path, one step at a time, and its steps in words.

use struct_ops_model::kernel::CpuId;
use struct_ops_model::lock::{LockClass, LockOrder, Nested};
use struct_ops_model::pc::STEPS;
use struct_ops_model::place::Site;
use struct_ops_model::script::Script;
use struct_ops_model::world::{OpKind, Operand, Plan, Which, World};
use struct_ops_model::{
    Action, Design, Invariant, Kernel, Linux, Machine, Report, Violation, Wait,
};

use super::{End, Walk};
use crate::action;
use crate::check::setup_error;
use crate::report::describe::{changes, describe};
use crate::report::names::Names;
use crate::report::trace::waits;
use crate::scenario::{InputError, Scenario, operation};
use crate::trace::{Broken, Step};

/// The machine of a scenario under a design, one step at a time.
///
/// # Errors
/// The operation of the set-up that does not work.
pub fn machine(scenario: &Scenario, design: &Design) -> Result<Machine, InputError> {
    let machine = Machine::new(scenario.world.clone(), design.clone());
    let machine = machine.map_err(|e| setup_error(scenario, design, &e))?;
    Ok(unmerged(&machine))
}

/// The machine that takes one step at a time.
pub fn unmerged(machine: &Machine) -> Machine {
    let mut machine = machine.clone();
    machine.merge = false;
    machine
}

/// The order of locks that a run has shown so far.
#[derive(Clone, Debug)]
pub struct Locks {
    order: LockOrder,
    /// Where each pair was shown first.
    shown: Vec<((LockClass, LockClass), usize)>,
}

impl Locks {
    /// Judges what a step took while it held something, and says what it contradicts.
    fn judge(&mut self, script: &Script, number: usize, report: &mut Report, said: &mut String) {
        for nested in report.nested() {
            let Nested { held, taken, step } = nested;
            self.order.add(nested);
            if !self.shown.iter().any(|s| s.0 == (held, taken)) {
                self.shown.push(((held, taken), number));
            } else {
                continue;
            }
            let Some(way) = self.order.way(taken, held) else {
                continue;
            };
            let before = |pair: &[LockClass]| {
                let shown = self.shown.iter().find(|s| s.0 == (pair[0], pair[1]));
                let place = shown.map_or("in the set-up".into(), |s| format!("in step {}", s.1));
                let [held, taken] = [pair[0], pair[1]].map(|class| class.name_in(script));
                format!("{taken} under {held} {place}")
            };
            let before: Vec<String> = way.windows(2).map(before).collect();
            if !said.is_empty() {
                said.push_str("; ");
            }
            *said += &format!(
                "takes {} under {}, and this run took {}",
                taken.name_in(script),
                held.name_in(script),
                before.join(", ")
            );
            let violation = Violation {
                invariant: Invariant::LockOrder,
                step,
            };
            if !report.violations.contains(&violation) {
                report.violations.push(violation);
            }
        }
    }
}

impl Walk for Machine {
    type State = Kernel;
    type Action = Action;
    type Shown = Locks;

    fn single(&self) -> Self {
        unmerged(self)
    }

    fn linux(&self) -> Linux {
        self.world.linux
    }

    fn start(&self) -> Kernel {
        self.initial()
    }

    fn enabled(&self, k: &Kernel) -> Vec<Action> {
        let mut enabled = Vec::new();
        Machine::enabled(self, k, &mut enabled);
        enabled
    }

    fn take(&self, k: &mut Kernel, action: Action) {
        self.apply(k, action, &mut Report::default(), None);
    }

    fn shown(&self) -> Locks {
        Locks {
            order: self.lock_order(),
            shown: Vec::new(),
        }
    }

    fn tell(&self, locks: &mut Locks, k: &mut Kernel, number: usize, action: Action) -> Step {
        let names = Names::new(&self.world);
        let pc = self.label(k, action);
        let before = describe(&names, k);
        let mut event = begins(self, &names, k, action);
        let (mut report, mut said) = (Report::default(), String::new());
        self.apply(k, action, &mut report, Some(&mut said));
        locks.judge(&self.world.script, number, &mut report, &mut said);
        if !said.is_empty() {
            event += if event.is_empty() { "" } else { ": " };
            event += &said;
        }
        Step {
            number,
            actor: actor(action),
            action: action::write(action),
            label: pc.name(),
            site: pc.place().on(self.world.linux),
            why: pc.info().map_or("", |i| i.why),
            event,
            changes: changes(&before, &describe(&names, k)),
            broke: broken(self, report.violations),
            exercised: report.witnessed.iter().collect(),
            found: None,
        }
    }

    fn end(&self, k: &Kernel) -> End {
        let mut report = Report::default();
        self.terminal(k, &mut report);
        let script = &self.world.script;
        let stuck = (0..self.world.tasks() as CpuId).filter_map(|cpu| {
            let (pc, wait) = self.waits_to_begin(k, cpu).or_else(|| {
                let wait = self.waits_for(k, cpu)?;
                Some((k.cpus[usize::from(cpu)].pc, wait))
            })?;
            let site = pc.place().on(self.world.linux);
            let what = waits(&wait, &script.locks, &script.flags);
            Some(format!("cpu{cpu} waits in {site} for {what}"))
        });
        End {
            stuck: stuck.collect(),
            broke: broken(self, report.violations),
            exercised: report.witnessed.iter().collect(),
        }
    }

    /// An operation is the same if it is one of the same CPU and kind.
    fn alike(one: Action, other: Action) -> bool {
        match (one, other) {
            (Action::Begin(cpu, request), Action::Begin(its, of)) => {
                cpu == its
                    && request.kind == of.kind
                    && request.arg == of.arg
                    && request.member == of.member
            }
            (Action::Step(cpu, choice), Action::Step(its, of)) => cpu == its && choice == of,
            (one, other) => one.cpu().is_none() && other.cpu().is_none(),
        }
    }

    fn hindered(&self, k: &Kernel, action: Action) -> String {
        let cpu = action.cpu();
        let who = cpu.map_or("the worker".into(), |cpu| format!("cpu{cpu}"));
        let script = &self.world.script;
        match cpu.and_then(|cpu| wait(self, k, cpu)) {
            Some(wait) => format!(
                "{who} waits for {}",
                waits(&wait, &script.locks, &script.flags)
            ),
            None => format!("{who} has nothing to do there"),
        }
    }

    fn write(action: Action) -> String {
        action::write(action)
    }

    fn read(text: &str) -> Result<Action, String> {
        action::read(text)
    }

    fn place(&self, label: &str) -> Result<(&'static str, Site), String> {
        let found = STEPS.iter().find(|s| s.name == label);
        let found = found.ok_or_else(|| format!("`{label}` is no step"))?;
        Ok((found.name, found.place.on(self.world.linux)))
    }
}

/// `cpu0`, or `work` for the worker.
fn actor(action: Action) -> String {
    let cpu = action.cpu();
    cpu.map_or("work".to_string(), |cpu| format!("cpu{cpu}"))
}

/// Violations with the places that they happened at.
fn broken(machine: &Machine, violations: Vec<Violation>) -> Vec<Broken> {
    let linux = machine.world.linux;
    violations
        .into_iter()
        .map(|violation| Broken::of(violation, linux))
        .collect()
}

/// The operation that an action begins, in words; nothing of another one.
fn begins(machine: &Machine, names: &Names<'_>, k: &Kernel, action: Action) -> String {
    let Action::Begin(cpu, request) = action else {
        return String::new();
    };
    let by_id = [Operand::Link(Which::ById), Operand::Map(Which::ById)];
    let by_id = by_id.into_iter().any(|o| request.kind.has(o));
    // What nobody has is called as the plan calls it.
    let nothing =
        request.kind == OpKind::None || by_id && request.link.is_none() && request.map.is_none();
    match planned(&machine.world, k, cpu).filter(|_| nothing) {
        Some(operation) => operation,
        None => names.request(k, &request),
    }
}

/// The next operation of a CPU's plan, as a scenario file has it.
fn planned(world: &World, k: &Kernel, cpu: CpuId) -> Option<String> {
    let cpu = usize::from(cpu);
    match &world.cpus.get(cpu)?.plan {
        Plan::Fixed(plan) => {
            let next = plan.get(usize::from(k.cpus[cpu].position))?;
            Some(operation(world, *next))
        }
        Plan::Free { .. } => None,
    }
}

/// What a CPU waits for, to go on or to begin its next operation.
pub(crate) fn wait(machine: &Machine, k: &Kernel, cpu: CpuId) -> Option<Wait> {
    let begin = || machine.waits_to_begin(k, cpu).map(|w| w.1);
    let wait = machine.waits_for(k, cpu).or_else(begin);
    wait.or_else(|| machine.lock_to_begin(k, cpu))
}
