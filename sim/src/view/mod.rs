//! A run as a page shows it: the steps, the state after each of them, and what can be done next.
//!
//! All of it comes from the model; whoever shows it knows no rule. States are told as differences: the first one whole,
//! of each later one what the step has changed.
//!
//! - `state`: a state as objects, fields and pointers
//! - `board`: the picture of a state
//! - `draw`: its boxes and arrows
//! - `lookup`: runs of lookups, with their states and pictures
//! - `timeline`, `mermaid`: pictures of the whole run
//! - `html`: the run as one file that shows itself

pub mod board;
mod draw;
pub mod html;
pub mod lookup;
pub mod mermaid;
pub mod state;
pub mod svg;
pub mod timeline;

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use struct_ops_model::kernel::CpuId;
use struct_ops_model::world::Plan;
use struct_ops_model::{Action, Design, Invariant, Kernel, Machine, Report};

use crate::check::setup_error;
use crate::report::json::steps::Step;
use crate::report::mail::{Words, of_trace};
use crate::report::names::Names;
use crate::report::screen::Screen;
use crate::report::trace::{Row, waits};
use crate::scenario::{Case, InputError, Scenario, printable};
use crate::trace::{Trace, trace, unmerged};
use crate::tracefile::{File, Promise};

use board::{Columns, Layout, Waiting};
pub use draw::Shape;
use lookup::Lookup;
use state::{Id, Object};
use timeline::Picture;

/// Most steps of a path: every CPU's plan is finite, and no run of the model is nearly as long.
const LONGEST: usize = 2000;

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

/// The number of a step that cannot be taken, from 1, and how many could be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSuchChoice {
    /// From 1.
    pub step: usize,
    /// What was asked for.
    pub found: usize,
    /// How many choices there are.
    pub choices: usize,
}

impl std::fmt::Display for NoSuchChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let NoSuchChoice {
            step,
            found,
            choices,
        } = self;
        write!(
            f,
            "step {step}: there is no choice {found}, expected a number below {choices}"
        )
    }
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

/// A path in few characters, for addresses and commands: a digit or letter per choice, `_40_` beyond `z`.
pub fn write_path(path: &[usize]) -> String {
    let one = |choice: &usize| match u32::try_from(*choice)
        .ok()
        .and_then(|c| char::from_digit(c, 36))
    {
        Some(digit) => digit.to_string(),
        None => format!("_{choice}_"),
    };
    path.iter().map(one).collect()
}

/// Reads what [`write_path`] wrote.
///
/// # Errors
/// What was found and what was expected.
pub fn read_path(text: &str) -> Result<Vec<usize>, String> {
    let wrong = || {
        format!(
            "`{}`: expected a digit or a letter from a to z for each step, or _N_",
            printable(text, 60)
        )
    };
    let mut path = Vec::new();
    for (i, part) in text.split('_').enumerate() {
        if i % 2 == 1 {
            path.push(part.parse().map_err(|_| wrong())?);
        } else {
            let digits = part
                .chars()
                .map(|c| c.to_digit(36).filter(|_| !c.is_ascii_uppercase()));
            for digit in digits {
                path.push(digit.ok_or_else(wrong)? as usize);
            }
        }
    }
    // An underscore without its partner.
    if text.matches('_').count() % 2 == 1 {
        return Err(wrong());
    }
    if path.len() > LONGEST {
        return Err(format!("{} steps: expected at most {LONGEST}", path.len()));
    }
    Ok(path)
}

/// What may happen in a state.
fn enabled(machine: &Machine, k: &Kernel) -> Vec<Action> {
    let mut enabled = Vec::new();
    machine.enabled(k, &mut enabled);
    enabled
}

/// The actions that a path of choices stands for: each is a place among what is possible.
///
/// # Errors
/// The first choice that there is not.
pub fn actions(machine: &Machine, path: &[usize]) -> Result<Vec<Action>, NoSuchChoice> {
    let mut k = machine.initial();
    let mut actions = Vec::new();
    for (i, choice) in path.iter().enumerate() {
        let enabled = enabled(machine, &k);
        let action = *enabled.get(*choice).ok_or(NoSuchChoice {
            step: i + 1,
            found: *choice,
            choices: enabled.len(),
        })?;
        machine.apply(&mut k, action, &mut Report::default(), None);
        actions.push(action);
    }
    Ok(actions)
}

/// The way back: the choices that actions are, up to the first one that cannot be taken.
pub fn path(machine: &Machine, actions: &[Action]) -> Vec<usize> {
    let mut k = machine.initial();
    let mut path = Vec::new();
    for action in actions {
        let Some(choice) = enabled(machine, &k).iter().position(|a| a == action) else {
            break;
        };
        machine.apply(&mut k, *action, &mut Report::default(), None);
        path.push(choice);
    }
    path
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
            InputError::whole(&scenario.file, message)
        })?;
        let mut k = machine.initial();
        let mut states = vec![k];
        for action in actions {
            machine.apply(&mut k, *action, &mut Report::default(), None);
            states.push(k);
        }
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

    /// The states as objects.
    pub fn objects(&self) -> Vec<Vec<Object>> {
        let names = Names::new(&self.machine.world);
        self.states
            .iter()
            .map(|k| state::objects(&names, k))
            .collect()
    }

    /// The steps as rows of a table.
    pub fn rows(&self) -> Vec<Row<'_>> {
        self.trace.steps.iter().map(Row::from).collect()
    }

    /// How many CPUs there are.
    pub fn cpus(&self) -> usize {
        self.machine.world.cpus.len()
    }

    /// What it is called.
    pub fn title(&self) -> String {
        title(&self.scenario.name, self.design, &self.broken())
    }

    /// What it breaks, each promise once.
    pub fn broken(&self) -> Vec<Invariant> {
        let mut broken = Vec::new();
        for (_, violation) in self.trace.broken() {
            if !broken.contains(&violation.invariant) {
                broken.push(violation.invariant);
            }
        }
        broken
    }

    /// The run as a picture of its own.
    pub fn svg(&self) -> String {
        timeline::file(
            &self.title(),
            &self.rows(),
            &self.objects(),
            &timeline::actors(self.cpus()),
        )
    }

    /// The run as a Mermaid sequence diagram.
    pub fn mermaid(&self) -> String {
        mermaid::sequence(&self.title(), &self.rows(), &timeline::actors(self.cpus()))
    }

    /// The command that shows the run again.
    pub fn command(&self, screen: &Screen) -> String {
        command(self.scenario.argument(), self.design, &self.path(), screen)
    }

    /// The run as text for a mail, with what each step changes if that is asked for.
    pub fn mail(&self, command: &str, changes: bool) -> String {
        let violations: Vec<_> = self.trace.broken().map(|b| b.1).collect();
        let mut words = Words::new(
            format!("{}: {}", self.title(), self.scenario.question),
            command,
        );
        words.changes = changes;
        of_trace(&self.trace, &violations, words)
    }

    /// The run as a file for `replay`.
    fn saved(&self) -> String {
        let actions: Vec<Action> = self.trace.steps.iter().map(|s| s.action).collect();
        let file = File::new(
            self.scenario,
            self.design,
            &actions,
            Promise::broken_by(&self.trace),
        );
        file.text()
    }

    /// The choices that lead here.
    pub fn path(&self) -> Vec<usize> {
        let actions: Vec<Action> = self.trace.steps.iter().map(|s| s.action).collect();
        path(&self.machine, &actions)
    }

    /// The run as a page shows it; commands are typed as `screen` says, boxes stand in these columns.
    pub fn view(&self, screen: &Screen, across: Columns) -> View {
        let objects = self.objects();
        let world = &self.machine.world;
        let layout = Layout::new(world, across);
        let Picture { width, height, svg } = timeline::timeline(
            timeline::BESIDE,
            &self.rows(),
            &objects,
            &timeline::actors(self.cpus()),
        );
        View {
            scenario: About {
                name: self.scenario.name.clone(),
                shipped: self.scenario.shipped,
                title: self.scenario.title.clone(),
                question: self.scenario.question.clone(),
                toml: self.scenario.text.clone(),
            },
            design: self.design.name.clone(),
            linux: self.trace.linux.version().into(),
            heading: self.title(),
            path: write_path(&self.path()),
            steps: self.trace.steps.iter().map(Step::from).collect(),
            violated: Promise::broken_by(&self.trace),
            promises: sentences(&self.broken()),
            ended: self.trace.ended,
            timeline: Drawing { width, height, svg },
            board: Size {
                width: across.width,
                height: layout.picture_height(objects.iter().map(Vec::as_slice)),
            },
            frames: {
                let drawn = self.states.iter().zip(&objects);
                let drawn = drawn.map(|(k, objects)| layout.draw(objects, &self.waiting(k)));
                let doing = self.states.iter().map(|k| self.actors(k)).collect();
                frames(&objects, drawn.collect(), doing)
            },
            trace: self.saved(),
            mermaid: self.mermaid(),
            mail: self.mail(&self.command(screen), false),
            command: self.command(screen),
            picture: self.svg(),
        }
    }

    /// What each CPU waits for.
    fn waiting(&self, k: &Kernel) -> Vec<Option<Waiting>> {
        let cpus = 0..self.cpus() as CpuId;
        cpus.map(|cpu| waiting(&self.machine, k, cpu)).collect()
    }

    /// Who can do what in a state.
    fn actors(&self, k: &Kernel) -> Vec<Actor> {
        let names = Names::new(&self.machine.world);
        let enabled = enabled(&self.machine, k);
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

/// What a run is called.
fn title(scenario: &str, design: &Design, broken: &[Invariant]) -> String {
    let ids: Vec<&str> = broken.iter().map(|i| i.id()).collect();
    let breaks = match ids.as_slice() {
        [] => String::new(),
        ids => format!(" breaks {}", ids.join(", ")),
    };
    format!("{scenario} under {design}{breaks}")
}

/// The command that shows a run again.
fn command(scenario: &str, design: &Design, path: &[usize], screen: &Screen) -> String {
    let path = write_path(path);
    let words = ["run", scenario, "--design", &design.name, "--path", &path];
    screen.typed(&words.map(String::from))
}

/// The sentences of promises.
fn sentences(broken: &[Invariant]) -> BTreeMap<String, String> {
    let sentence = |i: &Invariant| (i.id().to_string(), i.sentence().to_string());
    broken.iter().map(sentence).collect()
}

/// States as differences: their objects, what is drawn of them, and who can do what.
fn frames(states: &[Vec<Object>], drawn: Vec<Vec<Shape>>, doing: Vec<Vec<Actor>>) -> Vec<Frame> {
    let mut known: HashMap<Id, &Object> = HashMap::new();
    let mut before: BTreeMap<String, String> = BTreeMap::new();
    let mut frames = Vec::new();
    for ((objects, shapes), actors) in states.iter().zip(drawn).zip(doing) {
        let set = objects
            .iter()
            .filter(|o| known.get(&o.id) != Some(o))
            .cloned();
        let mut frame = Frame {
            set: set.collect(),
            actors,
            ..Frame::default()
        };
        let now: HashMap<Id, &Object> = objects.iter().map(|o| (o.id, o)).collect();
        frame.drop = known
            .keys()
            .filter(|id| !now.contains_key(id))
            .copied()
            .collect();
        frame.drop.sort();
        known = now;
        let shapes: BTreeMap<String, String> = shapes.into_iter().map(|s| (s.id, s.svg)).collect();
        let new = shapes
            .iter()
            .filter(|(id, svg)| before.get(*id) != Some(svg));
        frame.draw = new
            .map(|(id, svg)| Shape {
                id: id.clone(),
                svg: svg.clone(),
            })
            .collect();
        frame.erase = before
            .keys()
            .filter(|id| !shapes.contains_key(*id))
            .cloned()
            .collect();
        before = shapes;
        frames.push(frame);
    }
    frames
}

/// What a page shows: a run, and the same schedule under another design beside it.
#[derive(Clone, Debug, Serialize)]
pub struct Shown {
    /// The run.
    pub view: View,
    /// The other one.
    pub beside: Option<Beside>,
}

/// The same schedule under another design.
#[derive(Clone, Debug, Serialize)]
pub struct Beside {
    /// As far as it could be followed.
    pub view: View,
    /// Where it could not.
    pub parted: Option<Parted>,
}

/// Where a schedule cannot be followed under another design.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Parted {
    /// The step, from 1.
    pub step: usize,
    /// Why.
    pub why: String,
}

/// The actions that follow a schedule under a machine of another design: the same one acts at each step.
///
/// What an action means may have another name there (objects that one design has and another one has not take slots);
/// an operation is the same if it is one of the same CPU and kind.
pub fn follow(machine: &Machine, actions: &[Action]) -> (Vec<Action>, Option<Parted>) {
    let mut k = machine.initial();
    let mut followed = Vec::new();
    for (i, action) in actions.iter().enumerate() {
        let enabled = enabled(machine, &k);
        let same = enabled.iter().find(|a| *a == action);
        let like = same.or_else(|| enabled.iter().find(|a| alike(**a, *action)));
        let Some(like) = like.copied() else {
            let who = action
                .cpu()
                .map_or("the worker".into(), |cpu| format!("cpu{cpu}"));
            let waiting = action.cpu().and_then(|cpu| waiting(machine, &k, cpu));
            let why = match waiting {
                Some(waiting) => format!("{who} waits for {}", waiting.what),
                None => format!("{who} has nothing to do there"),
            };
            return (followed, Some(Parted { step: i + 1, why }));
        };
        machine.apply(&mut k, like, &mut Report::default(), None);
        followed.push(like);
    }
    (followed, None)
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

/// Whether two actions of different designs are the same move of a schedule.
fn alike(one: Action, other: Action) -> bool {
    match (one, other) {
        (Action::Begin(cpu, request), Action::Begin(its, of)) => {
            cpu == its
                && request.kind == of.kind
                && request.arg == of.arg
                && request.member == of.member
        }
        (Action::Step(cpu, choice), Action::Step(its, of)) => cpu == its && choice == of,
        (
            Action::MapWork(_) | Action::AttachmentWork(_),
            Action::MapWork(_) | Action::AttachmentWork(_),
        ) => true,
        _ => false,
    }
}

impl Shown {
    /// The same for a page without a program behind it, where nothing can be chosen: what others wait for stays. A page
    /// draws shapes, not objects; what is sent of two designs is the first one's run.
    pub fn to_send(mut self) -> Self {
        if let Some(Beside { view, .. }) = &mut self.beside {
            // One list tells the steps of both.
            self.view.timeline.svg.clear();
            for unused in [
                &mut view.timeline.svg,
                &mut view.trace,
                &mut view.mermaid,
                &mut view.mail,
                &mut view.picture,
                &mut view.scenario.toml,
            ] {
                unused.clear();
            }
        }
        let frames = self.view.frames.iter_mut();
        let frames = frames.chain(self.beside.iter_mut().flat_map(|b| &mut b.view.frames));
        for actor in frames.flat_map(|frame| {
            frame.set.clear();
            frame.drop.clear();
            &mut frame.actors
        }) {
            actor.waits = match actor.choices.as_mut_slice() {
                [] => continue,
                [one] => std::mem::take(&mut one.text),
                [first, others @ ..] => {
                    format!("{}, or one of {} more", first.text, others.len())
                }
            };
            actor.choices.clear();
        }
        self
    }

    /// Whatever the scenario is about: the steps of a path, and the same schedule under another design.
    ///
    /// # Errors
    /// A set-up that does not work, or a choice that there is not.
    pub fn of(
        case: &Case,
        design: &Design,
        path: &[usize],
        beside: Option<&Design>,
        screen: &Screen,
    ) -> Result<Self, InputError> {
        let no = |e: NoSuchChoice| InputError::whole("path", e.to_string());
        match case {
            Case::Attach(scenario) => {
                let actions = actions(&machine(scenario, design)?, path).map_err(no)?;
                Shown::new(&Run::new(scenario, design, &actions)?, beside, screen)
            }
            Case::Reach(scenario) => {
                let actions = lookup::actions(&lookup::machine(scenario, design), path);
                let run = Lookup::new(scenario, design, &actions.map_err(no)?)?;
                Shown::of_lookup(&run, beside, screen)
            }
        }
    }

    /// A run of a lookup, and the same schedule under another design.
    ///
    /// # Errors
    /// An action that cannot be taken: a bug of ours.
    pub fn of_lookup(
        run: &Lookup<'_>,
        beside: Option<&Design>,
        screen: &Screen,
    ) -> Result<Self, InputError> {
        let beside = beside.map(|design| {
            let other = lookup::machine(run.scenario, design);
            let actions: Vec<_> = run.trace.iter().map(|s| s.action).collect();
            let (followed, parted) = lookup::follow(&other, &actions);
            let view = Lookup::new(run.scenario, design, &followed)?.view(screen);
            Ok(Beside { view, parted })
        });
        Ok(Shown {
            view: run.view(screen),
            beside: beside.transpose()?,
        })
    }

    /// A run, and the same schedule under another design.
    ///
    /// # Errors
    /// A set-up that does not work.
    pub fn new(
        run: &Run<'_>,
        beside: Option<&Design>,
        screen: &Screen,
    ) -> Result<Self, InputError> {
        let beside = beside.map(|design| {
            let machine = machine(run.scenario, design)?;
            let actions: Vec<Action> = run.trace.steps.iter().map(|s| s.action).collect();
            let (followed, parted) = follow(&machine, &actions);
            let view = Run::new(run.scenario, design, &followed)?.view(screen, board::BESIDE);
            Ok(Beside { view, parted })
        });
        let beside = beside.transpose()?;
        let across = match beside {
            None => board::ALONE,
            Some(_) => board::BESIDE,
        };
        Ok(Shown {
            view: run.view(screen, across),
            beside,
        })
    }
}

/// One run.
#[derive(Clone, Debug, Serialize)]
pub struct View {
    /// The scenario.
    pub scenario: About,
    /// The design.
    pub design: String,
    /// The kernel whose functions are named.
    pub linux: String,
    /// What the run is called.
    pub heading: String,
    /// The choices that lead here, as [`write_path`] writes them.
    pub path: String,
    /// The command that shows the run again.
    pub command: String,
    /// The steps.
    pub steps: Vec<Step>,
    /// What was broken, in the order of the steps.
    pub violated: Vec<Promise>,
    /// The sentences of the promises that were broken.
    pub promises: BTreeMap<String, String>,
    /// Nothing can happen any more.
    pub ended: bool,
    /// The run as a picture: one lane per actor.
    pub timeline: Drawing,
    /// How large pictures of states are.
    pub board: Size,
    /// The state after the set-up, and what each step has changed.
    pub frames: Vec<Frame>,
    /// The run as a file for `replay`.
    pub trace: String,
    /// The run as a Mermaid sequence diagram.
    pub mermaid: String,
    /// The run as text for a mail.
    pub mail: String,
    /// The run as an SVG file.
    pub picture: String,
}

/// What a scenario says of itself.
#[derive(Clone, Debug, Serialize)]
pub struct About {
    /// Its name.
    pub name: String,
    /// It came with the program.
    pub shipped: bool,
    /// Its heading.
    pub title: String,
    /// What it asks.
    pub question: String,
    /// Its text.
    pub toml: String,
}

/// A picture.
#[derive(Clone, Debug, Serialize)]
pub struct Drawing {
    /// Width.
    pub width: u32,
    /// Height.
    pub height: u32,
    /// What is in it.
    pub svg: String,
}

/// A size.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Size {
    /// Width.
    pub width: u32,
    /// Height.
    pub height: u32,
}

/// What is different from the state before.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Frame {
    /// Objects that are new or have changed.
    pub set: Vec<Object>,
    /// Objects that are no more.
    pub drop: Vec<Id>,
    /// Shapes that are new or have changed.
    pub draw: Vec<Shape>,
    /// Shapes that are no more.
    pub erase: Vec<String>,
    /// Who can do what now.
    pub actors: Vec<Actor>,
}

/// A CPU, or the worker.
#[derive(Clone, Debug, Serialize)]
pub struct Actor {
    /// `cpu0`, or `work`.
    pub name: String,
    /// Its operations, or the kinds of operation that it may choose from.
    pub plan: Vec<String>,
    /// The operations come in this order.
    pub fixed: bool,
    /// How many operations it has begun.
    pub done: usize,
    /// What it can do.
    pub choices: Vec<Choice>,
    /// Why it can do nothing; empty if it can.
    pub waits: String,
}

/// An action that can be taken.
#[derive(Clone, Debug, Serialize)]
pub struct Choice {
    /// Its place among all that can be done.
    pub index: usize,
    /// The step of the model.
    pub label: String,
    /// What it is called.
    pub text: String,
    /// Where it would be carried out.
    pub site: String,
    /// What the step does.
    pub what: String,
}
