//! A run of the attach path as a page shows it. Not the steps themselves: those are the model's.

use struct_ops_model::kernel::CpuId;
use struct_ops_model::world::Plan;
use struct_ops_model::{Action, Design, Invariant, Kernel, Linux, Machine, Report};

use super::board::{Columns, Layout, Waiting};
use super::path::{self, Parted, Walk};
use super::shown::{About, Actor, Board, Choice, Played, Size};
use super::state::{self, Object};
use super::timeline;
use crate::check::setup_error;
use crate::report::json::steps::Step;
use crate::report::mail::{Words, of_trace};
use crate::report::names::Names;
use crate::report::trace::{Row, waits};
use crate::scenario::{InputError, Scenario};
use crate::trace::{Trace, trace, unmerged};
use crate::tracefile::{File, Promise};

/// A run: a scenario under a design, and the steps that were chosen.
#[derive(Clone, Debug)]
pub struct Run<'a> {
    /// The scenario.
    pub scenario: &'a Scenario,
    /// The design.
    pub design: &'a Design,
    /// The machine, one step at a time.
    machine: Machine,
    /// The steps.
    pub trace: Trace,
    /// The state after the set-up, and after each step.
    states: Vec<Kernel>,
}

/// The machine of a scenario under a design, one step at a time.
///
/// # Errors
/// The operation of the set-up that does not work.
pub fn machine(scenario: &Scenario, design: &Design) -> Result<Machine, InputError> {
    let machine = Machine::new(scenario.world.clone(), design.clone());
    let machine = machine.map_err(|e| setup_error(scenario, design, &e))?;
    Ok(unmerged(&machine))
}

impl<'a> Run<'a> {
    /// Carries out actions.
    ///
    /// # Errors
    /// A set-up that does not work, or an action that cannot be taken.
    pub fn new(
        scenario: &'a Scenario,
        design: &'a Design,
        actions: &[Action],
    ) -> Result<Self, InputError> {
        let machine = machine(scenario, design)?;
        let trace = trace(&machine, actions).map_err(|e| {
            let message = format!(
                "step {}: `{}` cannot be taken",
                e.step,
                crate::action::write(e.found)
            );
            InputError::whole(&scenario.head.file, message)
        })?;
        let states = path::states(&machine, actions);
        Ok(Run {
            scenario,
            design,
            machine,
            trace,
            states,
        })
    }

    /// The states: after the set-up, and after each step.
    pub fn states(&self) -> &[Kernel] {
        &self.states
    }

    /// How many CPUs there are.
    fn cpus(&self) -> usize {
        self.machine.world.cpus.len()
    }

    fn actions(&self) -> Vec<Action> {
        self.trace.steps.iter().map(|s| s.action).collect()
    }

    /// What each CPU waits for.
    fn waiting(&self, k: &Kernel) -> Vec<Option<Waiting>> {
        let cpus = 0..self.cpus() as CpuId;
        cpus.map(|cpu| waiting(&self.machine, k, cpu)).collect()
    }

    /// Who can do what in a state.
    fn actors(&self, k: &Kernel) -> Vec<Actor> {
        let names = Names::new(&self.machine.world);
        let enabled = Walk::enabled(&self.machine, k);
        let linux = self.trace.linux;
        let plans = self.scenario.plans();
        let waiting = self.waiting(k);
        let actors = timeline::actors(self.cpus()).into_iter().enumerate();
        let actor = |(i, name): (usize, String)| {
            let cpu = (i < self.cpus()).then_some(i);
            let mine = enabled
                .iter()
                .enumerate()
                .filter(|(_, a)| a.cpu().map(usize::from) == cpu);
            let choice = |(index, action): (usize, &Action)| {
                let pc = self.machine.label(k, *action);
                let site = pc.place().on(linux).to_string();
                let what = pc.info().map_or("", |i| i.why).to_string();
                let text = match action {
                    Action::Begin(_, request) => names.request(k, request),
                    Action::Step(_, 0) if self.choices(&enabled, cpu) < 2 => site.clone(),
                    // What distinguishes them is what comes of them.
                    _ => self.preview(k, *action),
                };
                Choice {
                    index,
                    label: pc.name().into(),
                    text: if text.is_empty() { site.clone() } else { text },
                    site,
                    what,
                }
            };
            let choices: Vec<Choice> = mine.map(choice).collect();
            let position = cpu.map_or(0, |i| usize::from(k.cpus[i].position));
            Actor {
                name,
                plan: cpu
                    .and_then(|i| plans.get(i))
                    .map(|p| p.operations.clone())
                    .unwrap_or_default(),
                fixed: cpu
                    .is_some_and(|i| matches!(self.machine.world.cpus[i].plan, Plan::Fixed(_))),
                done: position,
                waits: if choices.is_empty() {
                    self.idle(k, cpu, &waiting)
                } else {
                    String::new()
                },
                choices,
            }
        };
        actors.map(actor).collect()
    }

    fn choices(&self, enabled: &[Action], cpu: Option<usize>) -> usize {
        let mine = enabled.iter().filter(|a| a.cpu().map(usize::from) == cpu);
        mine.count()
    }

    /// What an action would do, in words.
    fn preview(&self, k: &Kernel, action: Action) -> String {
        let (mut k, mut said) = (*k, String::new());
        self.machine
            .apply(&mut k, action, &mut Report::default(), Some(&mut said));
        said
    }

    /// Why there is nothing that an actor can do.
    fn idle(&self, k: &Kernel, cpu: Option<usize>, waiting: &[Option<Waiting>]) -> String {
        let Some(cpu) = cpu else {
            let deferred = self.deferred(k);
            return match deferred.is_empty() {
                true => "no deferred work".into(),
                false => format!("waits for {}", deferred.join("; ")),
            };
        };
        match &waiting[cpu] {
            Some(waiting) => format!("waits for {}", waiting.what),
            None if k.dead => "the state has no meaning any more".into(),
            None if k.procs[usize::from(self.machine.world.cpus[cpu].proc)].exiting => {
                "its process has exited".into()
            }
            None if k.cpus[cpu].pc == struct_ops_model::Pc::Idle => {
                "its operations are done".into()
            }
            None => "cannot move".into(),
        }
    }

    /// Deferred frees and the readers that they wait for.
    fn deferred(&self, k: &Kernel) -> Vec<String> {
        let names = Names::new(&self.machine.world);
        let objects = state::objects(&names, k);
        let waits = objects.iter().filter_map(|o| {
            let stage = o.field("free")?;
            let readers = o
                .fields
                .iter()
                .filter(|f| f.name.starts_with("free: readers"));
            let readers: Vec<&str> = readers.map(|f| f.value.as_str()).collect();
            (!readers.is_empty())
                .then(|| format!("{} of {} ({})", stage.value, o.name, readers.join(", ")))
        });
        waits.collect()
    }
}

impl Played for Run<'_> {
    fn about(&self) -> About {
        let scenario = self.scenario;
        About {
            name: scenario.head.name.clone(),
            shipped: scenario.head.shipped,
            title: scenario.head.title.clone(),
            question: scenario.head.question.clone(),
            toml: scenario.head.text.clone(),
        }
    }

    fn argument(&self) -> &str {
        self.scenario.head.argument()
    }

    fn design(&self) -> &Design {
        self.design
    }

    fn linux(&self) -> Linux {
        self.trace.linux
    }

    fn rows(&self) -> Vec<Row<'_>> {
        self.trace.steps.iter().map(Row::from).collect()
    }

    fn steps(&self) -> Vec<Step> {
        self.trace.steps.iter().map(Step::from).collect()
    }

    fn broken(&self) -> Vec<Invariant> {
        let mut broken = Vec::new();
        for (_, violation) in self.trace.broken() {
            if !broken.contains(&violation.invariant) {
                broken.push(violation.invariant);
            }
        }
        broken
    }

    fn violated(&self) -> Vec<Promise> {
        Promise::broken_by(&self.trace)
    }

    fn ended(&self) -> bool {
        self.trace.ended
    }

    fn objects(&self) -> Vec<Vec<Object>> {
        let names = Names::new(&self.machine.world);
        let states = self.states.iter();
        states.map(|k| state::objects(&names, k)).collect()
    }

    fn lanes(&self) -> Vec<String> {
        timeline::actors(self.cpus())
    }

    fn path(&self) -> Vec<usize> {
        path::path(&self.machine, &self.actions())
    }

    fn file(&self) -> File {
        File::new(self.scenario, self.design, &self.actions(), self.violated())
    }

    fn written(&self, words: Words<'_>) -> String {
        let violations: Vec<_> = self.trace.broken().map(|b| b.1).collect();
        of_trace(&self.trace, &violations, words)
    }

    fn board(&self, states: &[Vec<Object>], across: Columns) -> Board {
        let layout = Layout::new(&self.machine.world, across);
        let drawn = self.states.iter().zip(states);
        Board {
            size: Size {
                width: across.width,
                height: layout.picture_height(states.iter().map(Vec::as_slice)),
            },
            drawn: drawn
                .map(|(k, objects)| layout.draw(objects, &self.waiting(k)))
                .collect(),
        }
    }

    fn doing(&self) -> Vec<Vec<Actor>> {
        self.states.iter().map(|k| self.actors(k)).collect()
    }

    fn follow<'b>(
        &'b self,
        design: &'b Design,
    ) -> Result<(Box<dyn Played + 'b>, Option<Parted>), InputError> {
        let machine = machine(self.scenario, design)?;
        let (followed, parted) = path::follow(&machine, &self.actions());
        let run = Run::new(self.scenario, design, &followed)?;
        Ok((Box::new(run), parted))
    }
}

/// Why a CPU has nothing like an action to do in a state.
pub(super) fn hindered(machine: &Machine, k: &Kernel, action: Action) -> String {
    let cpu = action.cpu();
    let who = cpu.map_or("the worker".into(), |cpu| format!("cpu{cpu}"));
    match cpu.and_then(|cpu| waiting(machine, k, cpu)) {
        Some(waiting) => format!("{who} waits for {}", waiting.what),
        None => format!("{who} has nothing to do there"),
    }
}

/// What a CPU waits for, to go on or to begin its next operation.
fn waiting(machine: &Machine, k: &Kernel, cpu: CpuId) -> Option<Waiting> {
    let begin = || machine.waits_to_begin(k, cpu).map(|w| w.1);
    let wait = machine.waits_for(k, cpu).or_else(begin);
    let wait = wait.or_else(|| machine.lock_to_begin(k, cpu))?;
    let script = &machine.world.script;
    Some(Waiting {
        what: waits(&wait, &script.locks, &script.flags),
        lock: state::place_of(&wait, &script.locks),
    })
}

/// Whether two actions of different designs are the same move of a schedule: an operation is the same if it is one of
/// the same CPU and kind.
pub(super) fn alike(one: Action, other: Action) -> bool {
    match (one, other) {
        (Action::Begin(cpu, request), Action::Begin(its, of)) => {
            cpu == its
                && request.kind == of.kind
                && request.arg == of.arg
                && request.member == of.member
        }
        (Action::Step(cpu, choice), Action::Step(its, of)) => cpu == its && choice == of,
        (
            Action::MapWork(_)
            | Action::AttachmentWork(_)
            | Action::LinkWork(..)
            | Action::Callback(_)
            | Action::ProgWork(_),
            Action::MapWork(_)
            | Action::AttachmentWork(_)
            | Action::LinkWork(..)
            | Action::Callback(_)
            | Action::ProgWork(_),
        ) => true,
        _ => false,
    }
}
