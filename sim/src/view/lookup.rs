//! A run of a lookup scenario as a page shows it: schedulers, their maps, programs, attachments, timers, and what runs.
//!
//! The same page as that of the attach path, with other objects on the whiteboard. Not the machine: that is
//! `struct_ops_model::reach`. A test reads the state back from the objects: nothing is left out.

use struct_ops_model::reach::state::{GARBAGE, Life, MapLife, POISON, ProgLife, STOPPED, State};
use struct_ops_model::reach::{Action, Reach, Report, World};
use struct_ops_model::{Design, design};

use super::board::Columns;
use super::draw::{GAP, HEAD, LINE, Line, MARGIN, Place, Shape, arrow, curve, filled, line, tag};
use super::shown::{Actor, Board, Choice, Played, Size};
use super::state::{Field, Id, Kind, Object};
use crate::scenario::{Head, InputError, PlanText, ReachScenario};
use crate::trace::Trace;
use crate::walk::{self, Parted, Walk, path, trace};

/// A run: a scenario under a design, and the steps that were chosen.
#[derive(Clone, Debug)]
pub struct Lookup<'a> {
    /// The scenario.
    pub scenario: &'a ReachScenario,
    /// The design.
    pub design: &'a Design,
    reach: Reach,
    actions: Vec<Action>,
    /// The steps.
    pub trace: Trace,
    states: Vec<State>,
}

/// Who acts: loaders, the CPUs, the worker.
fn actors(world: &World) -> Vec<String> {
    let cpus = (0..world.cpus).map(|cpu| format!("cpu{cpu}"));
    cpus.chain(["user".into(), "work".into()]).collect()
}

impl<'a> Lookup<'a> {
    /// Carries out actions.
    ///
    /// # Errors
    /// An action that cannot be taken.
    pub fn new(
        scenario: &'a ReachScenario,
        design: &'a Design,
        actions: &[Action],
    ) -> Result<Self, InputError> {
        let reach = walk::lookup(scenario, design);
        let trace = trace(&reach, actions).map_err(|e| {
            let message = format!("step {}: `{}` cannot be taken", e.step, e.found);
            InputError::whole(&scenario.head.file, message)
        })?;
        let states = path::states(&reach, actions);
        Ok(Lookup {
            scenario,
            design,
            reach,
            actions: actions.to_vec(),
            trace,
            states,
        })
    }

    /// The states: at the beginning, and after each step.
    pub fn states(&self) -> &[State] {
        &self.states
    }

    /// What an action would do, in words.
    fn preview(&self, s: &State, action: Action) -> String {
        let (mut s, mut said) = (*s, String::new());
        let reach = &self.reach;
        let what = reach.label(&s, action).why();
        reach.apply(&mut s, action, &mut Report::default(), Some(&mut said));
        if said.is_empty() { what.into() } else { said }
    }

    /// Who can do what in a state.
    fn actors(&self, s: &State) -> Vec<Actor> {
        let enabled = Walk::enabled(&self.reach, s);
        let plans = self.scenario.plans();
        let of = |name: String| {
            let mine = enabled.iter().enumerate();
            let mine = mine.filter(|(_, action)| walk::actor(**action) == name);
            let choices: Vec<Choice> = mine
                .map(|(index, action)| {
                    let label = self.reach.label(s, *action);
                    Choice {
                        index,
                        label: label.name().into(),
                        text: self.preview(s, *action),
                        site: label.site().to_string(),
                        what: label.why().into(),
                    }
                })
                .collect();
            let user = name == "user";
            let done = s.next.first().map_or(0, |n| usize::from(*n));
            Actor {
                // One loader does what it does in order; of several each has its list.
                plan: match plans.as_slice() {
                    _ if !user => Vec::new(),
                    [one] => one.operations.clone(),
                    several => several.iter().map(told).collect(),
                },
                fixed: plans.len() == 1 && plans[0].ordered == plans[0].operations.len(),
                done: if user { done } else { 0 },
                waits: match choices.is_empty() {
                    false => String::new(),
                    true if user => "nothing left to do, or not yet".into(),
                    true if name == "work" => waits(&objects(&self.reach.world, s)),
                    true => "nothing runs here, and nothing is called".into(),
                },
                choices,
                name,
            }
        };
        actors(&self.reach.world).into_iter().map(of).collect()
    }
}

impl Played for Lookup<'_> {
    fn head(&self) -> &Head {
        &self.scenario.head
    }

    fn design(&self) -> &Design {
        self.design
    }

    fn subject(&self) -> design::About {
        design::About::Lookups
    }

    fn trace(&self) -> &Trace {
        &self.trace
    }

    fn objects(&self) -> Vec<Vec<Object>> {
        let states = self.states.iter();
        states.map(|s| objects(&self.reach.world, s)).collect()
    }

    fn lanes(&self) -> Vec<String> {
        actors(&self.reach.world)
    }

    fn path(&self) -> Vec<usize> {
        path::path(&self.reach, &self.actions)
    }

    fn board(&self, states: &[Vec<Object>], _: Columns) -> Board {
        let layout = Layout::new(&self.reach.world);
        Board {
            size: Size {
                width: WIDTH,
                height: layout.height,
            },
            drawn: states.iter().map(|objects| layout.draw(objects)).collect(),
        }
    }

    fn doing(&self) -> Vec<Vec<Actor>> {
        self.states.iter().map(|s| self.actors(s)).collect()
    }

    fn follow<'b>(
        &'b self,
        design: &'b Design,
    ) -> Result<(Box<dyn Played + 'b>, Option<Parted>), InputError> {
        let (followed, parted) = path::follow(&walk::lookup(self.scenario, design), &self.actions);
        let run = Lookup::new(self.scenario, design, &followed)?;
        Ok((Box::new(run), parted))
    }
}

/// A loader's list in one line.
fn told(plan: &PlanText) -> String {
    format!("{}: {}", plan.actor, plan.operations.join(", "))
}

/// What the worker waits for.
fn waits(objects: &[Object]) -> String {
    let waits = objects.iter().filter_map(|o| {
        let readers = o.value("free: readers of RCU");
        (!readers.is_empty()).then(|| format!("{} ({readers})", o.name))
    });
    let waits: Vec<String> = waits.collect();
    match waits.is_empty() {
        true => "no deferred work".into(),
        false => format!("waits for a grace period of RCU of {}", waits.join("; ")),
    }
}

/// Where a loader is that goes no further.
pub const NO_FURTHER: &str = "goes no further";

/// An object in the making.
struct Making(Object);

impl Making {
    fn new(kind: Kind, slot: usize, name: String) -> Self {
        Making(Object::new(kind, slot, name))
    }

    fn text(&mut self, name: &str, value: impl ToString) {
        self.pointer(name, value.to_string(), None, false);
    }

    fn pointer(&mut self, name: &str, value: String, to: Option<Id>, stale: bool) {
        self.0.fields.push(Field {
            name: name.into(),
            value,
            to,
            at: None,
            stale,
        });
    }

    fn number(&mut self, name: &str, value: u8) {
        if value != 0 {
            self.text(name, value);
        }
    }

    fn key(&mut self, name: &str, value: u8) {
        match value {
            0 => {}
            GARBAGE => self.text(name, "garbage"),
            value => self.text(name, format!("{value:#x}")),
        }
    }

    fn flag(&mut self, name: &str, value: bool) {
        if value {
            self.text(name, "yes");
        }
    }

    fn mask(&mut self, name: &str, mask: u8, what: &str) {
        let set = (0..8).filter(|i| mask & (1 << i) != 0);
        let set: Vec<String> = set.map(|i| format!("{what}{i}")).collect();
        if !set.is_empty() {
            self.text(name, set.join(", "));
        }
    }

    fn free(&mut self, dying: bool, readers: u8) {
        if dying {
            self.text("free", "a grace period of RCU");
        }
        self.mask("free: readers of RCU", readers, "cpu");
    }
}

/// Every object of a state.
pub fn objects(world: &World, s: &State) -> Vec<Object> {
    let mut all = Vec::new();
    let id = |kind, slot| Some(Id { kind, slot });
    let sched = |n: u8| usize::from(n) - 1;
    let map = |m: &mut Making, name: &str, n: u8| match n {
        0 => {}
        POISON => m.text(name, "POISON"),
        n => {
            let slot = sched(n);
            let gone = matches!(s.scheds[slot].map, MapLife::None | MapLife::Freed);
            let value = format!("map of {}", world.scheds[slot].name);
            m.pointer(name, value, id(Kind::Map, slot), gone);
        }
    };
    let to_sched = |m: &mut Making, name: &str, slot: usize| {
        let gone = matches!(s.scheds[slot].life, Life::None | Life::Freed);
        let value = world.scheds[slot].name.clone();
        m.pointer(name, value, id(Kind::Sched, slot), gone);
    };
    let to_prog = |m: &mut Making, name: &str, prog: u8| {
        let slot = usize::from(prog);
        let gone = s.progs[slot].life != ProgLife::Loaded;
        m.pointer(
            name,
            world.progs[slot].name.clone(),
            id(Kind::Prog, slot),
            gone,
        );
    };
    for (i, c) in s.cpus.iter().enumerate().take(usize::from(world.cpus)) {
        let mut m = Making::new(Kind::Cpu, i, format!("cpu{i}"));
        if let Some(frame) = c.bpf_ctx.checked_sub(1) {
            m.text("current->bpf_ctx", format!("run_ctx of [{frame}]"));
        }
        for (n, f) in c.frames.iter().enumerate().take(usize::from(c.depth)) {
            to_prog(&mut m, &format!("[{n}] program"), f.prog);
            m.text(
                &format!("[{n}] for"),
                &world.scheds[usize::from(f.sched)].name,
            );
            m.key(&format!("[{n}] cookie"), f.cookie);
            m.flag(&format!("[{n}] callback"), f.callback);
            m.text(&format!("[{n}] stage"), f.stage.name());
            if f.held != 0 {
                to_sched(&mut m, &format!("[{n}] scheduler"), sched(f.held));
            }
            map(&mut m, &format!("[{n}] map"), f.map);
            if let Some(frame) = f.saved.checked_sub(1) {
                m.text(&format!("[{n}] saved"), format!("run_ctx of [{frame}]"));
            }
        }
        all.push(m.0);
    }
    for (i, loader) in world.loaders.iter().enumerate() {
        let mut m = Making::new(Kind::Loader, i, format!("loader {i}"));
        match s.next[i] {
            0 => {}
            STOPPED => m.text("done", NO_FURTHER),
            n => m.text("done", format!("{n} of {}", loader.first.len())),
        }
        m.mask("done of the rest", s.done[i], "");
        all.push(m.0);
    }
    for (i, name) in world.objects.iter().enumerate() {
        let mut m = Making::new(Kind::File, i, format!("{name} (object file)"));
        m.key("global variable", s.globals[i]);
        all.push(m.0);
    }
    for (i, decl) in world.attachments.iter().enumerate() {
        let mut m = Making::new(Kind::Hook, i, decl.name.clone());
        if s.attached[i] {
            to_prog(&mut m, "attached", decl.prog);
        }
        all.push(m.0);
    }
    for (i, decl) in world.progs.iter().enumerate() {
        let p = &s.progs[i];
        let mut m = Making::new(Kind::Prog, i, decl.name.clone());
        m.text("is", p.life.name());
        m.number("refs", p.refs);
        m.flag("fd", p.fd);
        map(&mut m, "st_ops_assoc", p.assoc);
        m.0.gone = p.life == ProgLife::Freed;
        all.push(m.0);
    }
    for (i, decl) in world.scheds.iter().enumerate() {
        let it = &s.scheds[i];
        let mut m = Making::new(Kind::Map, i, format!("map of {}", decl.name));
        m.text("is", it.map.name());
        m.number("refs", it.refs);
        m.flag("fd", it.fd);
        m.flag("has programs", it.filled);
        if it.link {
            to_sched(&mut m, "link", i);
        }
        m.free(it.map == MapLife::Dying, it.map_gp);
        m.0.gone = it.map == MapLife::Freed;
        all.push(m.0);
        let mut m = Making::new(Kind::Sched, i, decl.name.clone());
        m.text("is", it.life.name());
        m.key("key", it.key);
        m.flag("in the table", it.listed);
        m.free(it.life == Life::Dying, it.gp);
        m.0.gone = it.life == Life::Freed;
        all.push(m.0);
        let element = &s.asyncs[i];
        let mut m = Making::new(Kind::Timer, i, format!("timer of {}", decl.name));
        if element.armed {
            to_prog(&mut m, "armed with", element.prog);
        } else if element.prog != 0 {
            m.text(
                "last armed with",
                &world.progs[usize::from(element.prog)].name,
            );
        }
        m.key("stash", element.stash);
        all.push(m.0);
    }
    let mut m = Making::new(Kind::Subsys, 0, "scx_root".into());
    if s.root != 0 {
        to_sched(&mut m, "scx_root", sched(s.root));
    }
    all.push(m.0);
    all
}

/// Width of the whiteboard.
const WIDTH: u32 = 920;
/// Columns from left to right: where each begins, and how wide it is.
const LOADERS: (u32, u32) = (MARGIN, 214);
const PROGS: (u32, u32) = (250, 190);
const MAPS: (u32, u32) = (482, 166);
const SCHEDS: (u32, u32) = (690, 192);

/// Where everything is: a place in a column for each object, whatever the state.
struct Layout<'a> {
    world: &'a World,
    places: Vec<(Id, Place)>,
    height: u32,
}

impl<'a> Layout<'a> {
    fn new(world: &'a World) -> Self {
        let mut places = Vec::new();
        let count = u32::from(world.cpus).max(1);
        let width = (WIDTH - 2 * MARGIN - (count - 1) * 10) / count;
        let lines = 1 + 2 * u32::from(world.depth);
        let height = HEAD + lines * LINE + 6;
        for cpu in 0..u32::from(world.cpus) {
            let slot = cpu as usize;
            let x = MARGIN + cpu * (width + 10);
            let kind = Kind::Cpu;
            let y = MARGIN;
            places.push((
                Id { kind, slot },
                Place {
                    x,
                    y,
                    width,
                    height,
                },
            ));
        }
        let top = MARGIN + height + GAP + 6;
        let mut bottom = top;
        let mut column = |(x, width): (u32, u32), kinds: &[(Kind, usize, u32)], gap: u32| {
            let mut y = top;
            for (kind, count, lines) in kinds {
                for slot in 0..*count {
                    let height = HEAD + lines * LINE + 6;
                    places.push((
                        Id { kind: *kind, slot },
                        Place {
                            x,
                            y,
                            width,
                            height,
                        },
                    ));
                    y += height + gap;
                }
            }
            bottom = bottom.max(y);
        };
        let scheds = world.scheds.len();
        column(
            LOADERS,
            &[
                (Kind::Loader, world.loaders.len(), 1),
                (Kind::File, world.objects.len(), 1),
                (Kind::Hook, world.attachments.len(), 2),
            ],
            10,
        );
        column(PROGS, &[(Kind::Prog, world.progs.len(), 2)], GAP);
        column(MAPS, &[(Kind::Map, scheds, 3)], GAP);
        column(
            SCHEDS,
            &[
                (Kind::Subsys, 1, 0),
                (Kind::Sched, scheds, 3),
                (Kind::Timer, scheds, 1),
            ],
            GAP,
        );
        Layout {
            world,
            places,
            height: bottom,
        }
    }

    fn place(&self, id: Id) -> Option<Place> {
        self.places.iter().find(|p| p.0 == id).map(|p| p.1)
    }

    fn lines(&self, object: &Object) -> Vec<Line> {
        let value = |name: &str| object.value(name);
        let of = |name: &str, word: &str| match value(name) {
            "" => String::new(),
            value => format!("{word} {value}"),
        };
        let join = |parts: &[String]| {
            let parts = parts.iter().filter(|p| !p.is_empty());
            parts.cloned().collect::<Vec<_>>().join("  ")
        };
        let there = matches!(value("is"), "loaded" | "live" | "being freed");
        let fd = match value("fd") {
            "" if there => "no fd",
            "" => "",
            _ => "fd",
        }
        .to_string();
        let is = |class| line(value("is"), class);
        let free = match (value("free"), value("free: readers of RCU")) {
            ("", _) => line("", ""),
            (_, "") => line("grace period over", "wait"),
            (_, readers) => line(format!("grace period ← {readers}"), "wait"),
        };
        match object.kind {
            Kind::Cpu => {
                let mut lines = vec![line(
                    match value("current->bpf_ctx") {
                        "" => "current->bpf_ctx = NULL".into(),
                        context => format!("current->bpf_ctx = {context}"),
                    },
                    "dim",
                )];
                for n in 0..usize::from(self.world.depth) {
                    let f = |name: &str| object.value(&format!("[{n}] {name}"));
                    if f("program").is_empty() {
                        continue;
                    }
                    let callback = if f("callback").is_empty() {
                        ""
                    } else {
                        " (callback)"
                    };
                    lines.push(line(
                        format!("[{n}] {}{callback} for {}", f("program"), f("for")),
                        "code",
                    ));
                    let cookie = match f("cookie") {
                        "" => String::new(),
                        cookie => format!("cookie {cookie}"),
                    };
                    let has = match (f("scheduler"), f("map")) {
                        ("", "") => String::new(),
                        ("", map) => format!("→ {map}"),
                        (sched, _) => format!("→ scheduler {sched}"),
                    };
                    lines.push(line(join(&[f("stage").into(), has, cookie]), ""));
                }
                lines
            }
            Kind::Loader => {
                let class = if value("done") == NO_FURTHER {
                    "warn"
                } else {
                    "dim"
                };
                let rest = of("done of the rest", "and");
                let done = match value("done") {
                    "" => "has done nothing".into(),
                    NO_FURTHER => NO_FURTHER.into(),
                    done => format!("has done {done}"),
                };
                vec![line(join(&[done, rest]), class)]
            }
            Kind::File => vec![match value("global variable") {
                "" => line("global variable 0", "dim"),
                key => line(format!("global variable {key}"), "cookie"),
            }],
            Kind::Hook => {
                let decl = &self.world.attachments[object.id.slot];
                let sched = &self.world.scheds[usize::from(decl.sched)].name;
                let cookie = match decl.cookie {
                    0 => String::new(),
                    cookie => format!("cookie {cookie:#x}"),
                };
                let (state, class) = match value("attached") {
                    "" => ("not attached", "dim"),
                    _ => ("attached", ""),
                };
                vec![
                    line(format!("{state} for {sched}"), class),
                    line(cookie, "cookie"),
                ]
            }
            Kind::Prog => {
                let class = match value("is") {
                    "refused" => "warn",
                    "loaded" => "strong",
                    _ => "dim",
                };
                let refs = of("refs", "refs");
                let tied = match value("st_ops_assoc") {
                    "" => String::new(),
                    map => format!("→ {map}"),
                };
                vec![
                    line(join(&[value("is").into(), refs, fd]), class),
                    line(tied, "code"),
                ]
            }
            Kind::Map => {
                let has = if value("has programs").is_empty() {
                    ""
                } else {
                    "has its programs"
                };
                vec![
                    line(
                        join(&[value("is").into(), of("refs", "refs"), fd]),
                        "strong",
                    ),
                    line(has, "dim"),
                    free,
                ]
            }
            Kind::Sched => {
                let listed = if value("in the table").is_empty() {
                    ""
                } else {
                    "in the table"
                };
                let class = if value("is") == "enabled" {
                    "strong"
                } else {
                    "dim"
                };
                let key = join(&[of("key", "key"), listed.into()]);
                vec![is(class), line(key, "cookie"), free]
            }
            Kind::Timer => {
                let armed = match value("armed with") {
                    "" => "not armed".into(),
                    prog => format!("armed with {prog}"),
                };
                vec![line(join(&[armed, of("stash", "stash")]), "dim")]
            }
            _ => Vec::new(),
        }
    }

    fn draw(&self, objects: &[Object]) -> Vec<Shape> {
        let mut shapes = Vec::new();
        for object in objects {
            let Some(place) = self.place(object.id) else {
                continue;
            };
            let kind = object.kind.word();
            let class = match object.kind {
                Kind::Cpu => format!("box cpu actor{}", object.id.slot % 4),
                _ if object.gone => format!("box {kind} gone"),
                _ if object.value("is") == "not there yet" => format!("box {kind} unlisted"),
                _ => format!("box {kind}"),
            };
            let title = match object.kind {
                Kind::Sched => format!("scheduler {}", object.name),
                _ => object.name.clone(),
            };
            let lines = self.lines(object);
            shapes.push(Shape {
                id: object.id.to_string(),
                svg: filled(place, &class, &title, &lines, object.gone),
            });
        }
        for object in objects {
            let Some(from) = self.place(object.id) else {
                continue;
            };
            let mut tagged: Vec<(Id, Vec<&str>, bool)> = Vec::new();
            for field in &object.fields {
                let Some((to, target)) = field.to.and_then(|to| Some((to, self.place(to)?))) else {
                    continue;
                };
                if object.kind == Kind::Cpu {
                    match tagged.iter_mut().find(|t| t.0 == to) {
                        Some(tag) => tag.1.push(&field.name),
                        None => tagged.push((to, vec![&field.name], field.stale)),
                    }
                    continue;
                }
                let class = match object.kind {
                    Kind::Prog => "func",
                    Kind::Hook | Kind::Timer => "use",
                    _ => "ref",
                };
                let path = curve(from, from.y + HEAD / 2, target, target.y + HEAD / 2);
                let what = format!("{} {} → {}", object.name, field.name, field.value);
                let id = format!("{}.{}", object.id, field.name);
                shapes.push(arrow(id, class, field.stale, &path, &what));
            }
            let cpu = object.id.slot as u32;
            for (to, names, stale) in tagged {
                let Some(target) = self.place(to) else {
                    continue;
                };
                let gone = if stale { ", which is gone" } else { "" };
                let what = format!(
                    "{} has a pointer to {to}{gone}: {}",
                    object.name,
                    names.join(", ")
                );
                let at = (target.x + target.width - 38 - 42 * cpu, target.y - 9);
                let id = format!("{}@{to}", object.id);
                shapes.push(tag(id, cpu, &object.name, stale, at, &what));
            }
        }
        shapes
    }
}
