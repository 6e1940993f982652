//! A sequence of actions, carried out again: what each step did, changed and broke.
//!
//! Not a table for people: `report::trace` prints it.

use struct_ops_model::kernel::CpuId;
use struct_ops_model::lock::{LockClass, LockOrder, Nested};
use struct_ops_model::place::Site;
use struct_ops_model::script::Script;
use struct_ops_model::world::{OpKind, Operand, Plan, Which, World};
use struct_ops_model::{Action, Invariant, Kernel, Linux, Machine, Pc, Report, Violation, Wait};

use crate::report::describe::{Change, changes, describe};
use crate::report::names::Names;
use crate::scenario::operation;

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// From 1.
    pub number: usize,
    /// `None` for the worker.
    pub cpu: Option<CpuId>,
    /// What was done.
    pub action: Action,
    /// The step's label.
    pub pc: Pc,
    /// Where it was carried out.
    pub site: Site,
    /// What happened, in words.
    pub event: String,
    /// What is different now.
    pub changes: Vec<Change>,
    /// What it broke.
    pub broke: Vec<Violation>,
    /// What it put to the test.
    pub exercised: Vec<Invariant>,
}

impl Step {
    /// `cpu0`, or `work` for the worker.
    pub fn actor(&self) -> String {
        self.cpu
            .map_or("work".to_string(), |cpu| format!("cpu{cpu}"))
    }
}

/// A sequence of steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The steps.
    pub steps: Vec<Step>,
    /// What the final state breaks, if nothing can happen any more.
    pub end: Vec<Violation>,
    /// What the final state put to the test.
    pub end_exercised: Vec<Invariant>,
    /// Nothing can happen any more.
    pub ended: bool,
    /// The kernel whose functions are named.
    pub linux: Linux,
    /// CPUs that nothing can move any more: where they are, and what each waits for.
    pub stuck: Vec<(CpuId, Pc, Wait)>,
    /// Names of the locks of the scenario's own subsystems.
    pub own_locks: Vec<String>,
    /// Names of their flags.
    pub own_flags: Vec<String>,
}

impl Trace {
    /// Everything that was broken, in the order of the steps.
    pub fn broken(&self) -> impl Iterator<Item = (Option<&Step>, Violation)> {
        let steps = self
            .steps
            .iter()
            .flat_map(|s| s.broke.iter().map(move |v| (Some(s), *v)));
        steps.chain(self.end.iter().map(|v| (None, *v)))
    }

    /// The step that broke this; `None` for what only the final state shows.
    pub fn step_of(&self, violation: Violation) -> Option<&Step> {
        self.steps.iter().find(|s| s.broke.contains(&violation))
    }
}

/// An action that could not be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotEnabled {
    /// Its number, from 1.
    pub step: usize,
    /// The action.
    pub found: Action,
    /// What could be done instead.
    pub enabled: Vec<Action>,
}

/// The machine that takes one step at a time.
pub fn unmerged(machine: &Machine) -> Machine {
    let mut machine = machine.clone();
    machine.merge = false;
    machine
}

/// Carries out actions, one step each.
///
/// # Errors
/// The first action that is not enabled.
pub fn trace(machine: &Machine, actions: &[Action]) -> Result<Trace, Box<NotEnabled>> {
    let machine = unmerged(machine);
    let names = Names::new(&machine.world);
    let mut k = machine.initial();
    let mut trace = Trace {
        linux: machine.world.linux,
        steps: Vec::new(),
        end: Vec::new(),
        end_exercised: Vec::new(),
        ended: false,
        stuck: Vec::new(),
        own_locks: machine.world.script.locks.clone(),
        own_flags: machine.world.script.flags.clone(),
    };
    let mut locks = Locks {
        script: &machine.world.script,
        order: machine.lock_order(),
        shown: Vec::new(),
    };
    let mut enabled = Vec::new();
    for (i, action) in actions.iter().enumerate() {
        enabled.clear();
        machine.enabled(&k, &mut enabled);
        if !enabled.contains(action) {
            return Err(Box::new(NotEnabled {
                step: i + 1,
                found: *action,
                enabled,
            }));
        }
        trace
            .steps
            .push(step(&machine, &names, &mut k, i + 1, *action, &mut locks));
    }
    enabled.clear();
    machine.enabled(&k, &mut enabled);
    trace.ended = enabled.is_empty();
    if trace.ended {
        let mut report = Report::default();
        machine.terminal(&k, &mut report);
        trace.end = report.violations;
        trace.end_exercised = report.witnessed.iter().collect();
        trace.stuck = (0..machine.world.tasks() as CpuId)
            .filter_map(|cpu| {
                if let Some((pc, wait)) = machine.waits_to_begin(&k, cpu) {
                    return Some((cpu, pc, wait));
                }
                let wait = machine.waits_for(&k, cpu)?;
                Some((cpu, k.cpus[usize::from(cpu)].pc, wait))
            })
            .collect();
    }
    Ok(trace)
}

/// The order of locks that a run has shown so far.
struct Locks<'a> {
    script: &'a Script,
    order: LockOrder,
    /// Where each pair was shown first.
    shown: Vec<((LockClass, LockClass), usize)>,
}

impl Locks<'_> {
    /// Judges what a step took while it held something, and says what it contradicts.
    fn judge(&mut self, number: usize, report: &mut Report, said: &mut String) {
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
                let [held, taken] = [pair[0], pair[1]].map(|class| class.name_in(self.script));
                format!("{taken} under {held} {place}")
            };
            let before: Vec<String> = way.windows(2).map(before).collect();
            if !said.is_empty() {
                said.push_str("; ");
            }
            *said += &format!(
                "takes {} under {}, and this run took {}",
                taken.name_in(self.script),
                held.name_in(self.script),
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

fn step(
    machine: &Machine,
    names: &Names<'_>,
    k: &mut Kernel,
    number: usize,
    action: Action,
    locks: &mut Locks,
) -> Step {
    let pc = machine.label(k, action);
    let before = describe(names, k);
    let mut event = String::new();
    if let Action::Begin(cpu, request) = action {
        let by_id = [Operand::Link(Which::ById), Operand::Map(Which::ById)];
        let by_id = by_id.into_iter().any(|o| request.kind.has(o));
        // What nobody has is called as the plan calls it.
        let nothing = request.kind == OpKind::None
            || by_id && request.link.is_none() && request.map.is_none();
        event = match planned(&machine.world, k, cpu).filter(|_| nothing) {
            Some(operation) => operation,
            None => names.request(k, &request),
        };
    }
    let mut said = String::new();
    let mut report = Report::default();
    machine.apply(k, action, &mut report, Some(&mut said));
    locks.judge(number, &mut report, &mut said);
    if !said.is_empty() {
        event += if event.is_empty() { "" } else { ": " };
        event += &said;
    }
    let changes = changes(&before, &describe(names, k));
    tracing::trace!(
        number,
        action = crate::action::write(action),
        step = pc.name(),
        event,
        "step"
    );
    Step {
        number,
        cpu: action.cpu(),
        action,
        pc,
        site: pc.place().on(machine.world.linux),
        event,
        changes,
        broke: report.violations,
        exercised: report.witnessed.iter().collect(),
    }
}
