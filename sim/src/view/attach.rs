//! A run of the attach path as a page shows it. Not the steps themselves: those are the model's.

use struct_ops_model::kernel::CpuId;
use struct_ops_model::world::Plan;
use struct_ops_model::{Action, Design, Kernel, Machine, Report, design};

use super::board::{Columns, Layout, Waiting};
use super::shown::{Actor, Board, Choice, Played, Size};
use super::state::{self, Object};
use super::timeline;
use crate::report::names::Names;
use crate::report::trace::waits;
use crate::scenario::{Head, InputError, Scenario};
use crate::trace::Trace;
use crate::walk::{self, Parted, Walk, path, trace};

/// A run: a scenario under a design, and the steps that were chosen.
#[derive(Clone, Debug)]
pub struct Run<'a> {
    /// The scenario.
    pub scenario: &'a Scenario,
    /// The design.
    pub design: &'a Design,
    /// The machine, one step at a time.
    machine: Machine,
    actions: Vec<Action>,
    /// The steps.
    pub trace: Trace,
    /// The state after the set-up, and after each step.
    states: Vec<Kernel>,
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
        let machine = walk::attach(scenario, design)?;
        let trace = trace(&machine, actions).map_err(|e| {
            let message = format!("step {}: `{}` cannot be taken", e.step, e.found);
            InputError::whole(&scenario.head.file, message)
        })?;
        let states = path::states(&machine, actions);
        Ok(Run {
            scenario,
            design,
            machine,
            actions: actions.to_vec(),
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
    fn head(&self) -> &Head {
        &self.scenario.head
    }

    fn design(&self) -> &Design {
        self.design
    }

    fn subject(&self) -> design::About {
        design::About::AttachPath
    }

    fn trace(&self) -> &Trace {
        &self.trace
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
        path::path(&self.machine, &self.actions)
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
        let machine = walk::attach(self.scenario, design)?;
        let (followed, parted) = path::follow(&machine, &self.actions);
        let run = Run::new(self.scenario, design, &followed)?;
        Ok((Box::new(run), parted))
    }
}

/// What a CPU waits for, to go on or to begin its next operation.
fn waiting(machine: &Machine, k: &Kernel, cpu: CpuId) -> Option<Waiting> {
    let wait = walk::wait(machine, k, cpu)?;
    let script = &machine.world.script;
    Some(Waiting {
        what: waits(&wait, &script.locks, &script.flags),
        lock: state::place_of(&wait, &script.locks),
    })
}
