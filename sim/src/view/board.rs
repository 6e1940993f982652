//! The whiteboard: a state drawn as boxes and arrows, each in a place of its own that it keeps from step to step.
//!
//! Drawn from [`Object`]s alone. Columns from left to right follow the pointers: links, maps, kdata, image pages, kallsyms.
//! A slot has its place in a column whatever else is there, so columns only grow, at their end. Every pointer between
//! objects is an arrow; pointers that CPUs have in local variables are tags with the CPU's name at what they point to.

use std::fmt::Write;

use struct_ops_model::World;
use struct_ops_model::world::{MAX_RINGS, MAX_SOCKS, OpKind, Operation, Plan, Subsystem};

use super::draw::{
    GAP, HEAD, LINE, Line, MARGIN, Place, Shape, arrow, beside, curve, down, filled, fitting,
    frame, line, tag,
};
use super::state::{CGROUPS, Field, HID, Id, Kind, OWN, Object, RINGS, uring_lock};
use super::svg::{cut, escape};

/// Where each kind of object is from left to right: where it begins, and how wide it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Columns {
    /// Width of the whiteboard.
    pub width: u32,
    lock: (u32, u32),
    rcu: (u32, u32),
    /// The list beside the sockets.
    list: (u32, u32),
    /// The first socket; the next one is beside it.
    sock: (u32, u32),
    prog: (u32, u32),
    link: (u32, u32),
    map: (u32, u32),
    kdata: (u32, u32),
    page: (u32, u32),
    ksym: (u32, u32),
}

/// A whiteboard by itself.
pub const ALONE: Columns = Columns {
    width: 920,
    lock: (8, 164),
    rcu: (178, 188),
    list: (372, 124),
    sock: (502, 106),
    prog: (726, 186),
    link: (8, 160),
    map: (204, 164),
    kdata: (398, 176),
    page: (612, 194),
    ksym: (850, 62),
};

/// A whiteboard beside another one: narrower, so that its letters are not smaller.
pub const BESIDE: Columns = Columns {
    width: 792,
    lock: (8, 158),
    rcu: (172, 138),
    list: (316, 104),
    sock: (426, 88),
    prog: (614, 170),
    link: (8, 126),
    map: (158, 138),
    kdata: (322, 168),
    page: (518, 190),
    ksym: (736, 50),
};

/// What a field of a CPU is called that makes it a reader, and of what.
const READ_SIDES: [(&str, &str); 3] = [
    ("rcu_read_lock", "RCU"),
    ("rcu_read_lock_trace", "Tasks Trace"),
    ("Tasks RCU reader", "Tasks"),
];
/// Lines for grace periods that have begun.
const GRACE_PERIODS: usize = 2;
/// Between boxes that are beside each other.
const BESIDE_EACH_OTHER: u32 = 6;

/// Where everything is.
#[derive(Clone, Debug)]
pub struct Layout<'a> {
    world: &'a World,
    across: Columns,
    members: u32,
    band: u32,
    columns: u32,
}

/// What a CPU waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// In words.
    pub what: String,
    /// Where the lock has its holder, if it is one: the object and its field.
    pub lock: Option<(Id, String)>,
}

/// Who holds a lock and who waits for it, in few characters; empty if nobody does.
fn holder(object: &Object, field: &str, waiting: &[Option<Waiting>]) -> String {
    let here = |w: &Option<Waiting>| {
        let lock = w.as_ref().and_then(|w| w.lock.as_ref());
        lock.is_some_and(|(id, name)| *id == object.id && name == field)
    };
    let waiters = waiting.iter().enumerate().filter(|(_, w)| here(w));
    let waiters: Vec<String> = waiters.map(|(cpu, _)| format!("cpu{cpu}")).collect();
    // Readers of a lock of the scenario's own keep a writer out.
    let held = match (
        object.value(field),
        object.value(&format!("{field}: readers")),
    ) {
        ("", "") => String::new(),
        ("", readers) => format!("▒ {}", readers.replace(", ", ",")),
        (holder, _) => format!("■ {holder}"),
    };
    match waiters.as_slice() {
        [] => held,
        waiters => format!("{held} ← {}", waiters.join(",")),
    }
}

impl<'a> Layout<'a> {
    /// The places of a world's objects.
    pub fn new(world: &'a World, across: Columns) -> Self {
        let members = world.types.iter().map(|t| t.members.len()).max();
        let mut layout = Layout {
            world,
            across,
            members: members.unwrap_or(1) as u32,
            band: 0,
            columns: 0,
        };
        layout.band = MARGIN + layout.cpu_height() + GAP;
        let script = &world.script;
        let band = [
            world.progs.len() as u32 + u32::from(world.procs) + 2,
            layout.locks().len() as u32,
            layout.members + 2,
            (script.locks.len() + script.flags.len() + script.objects.len() + 2) as u32,
            READ_SIDES.len() as u32 + script.domains.len() as u32 + GRACE_PERIODS as u32,
        ];
        let lines = band.into_iter().max().unwrap_or(1);
        layout.columns = layout.band + HEAD + lines * LINE + 8 + GAP + 8;
        layout
    }

    fn cpu_height(&self) -> u32 {
        HEAD + 3 * LINE + 6
    }

    /// Locks that the world's subsystems use, by their numbers; one that is held nevertheless is shown, too.
    fn locks(&self) -> Vec<usize> {
        use struct_ops_model::lock::LockClass as Class;
        let has = |f: &dyn Fn(Subsystem) -> bool| self.world.types.iter().any(|t| f(t.subsystem));
        let mut locks = vec![Class::UpdateMutex as usize];
        if has(&|s| s == Subsystem::Singleton) {
            locks.push(Class::StOps as usize);
        }
        if has(&|s| s == Subsystem::HidBpf) {
            locks.extend([Class::ProgList as usize, Class::Device as usize]);
        }
        if has(&|s| s == Subsystem::IoUring) {
            locks.push(Class::IoBpfCtrl as usize);
        }
        if has(&|s| s == Subsystem::SchedExt) {
            locks.push(Class::ScxEnable as usize);
        }
        locks
    }

    /// The subsystems' structures that the world's types use.
    fn subsystems(&self) -> Vec<usize> {
        let mut used: Vec<usize> = self
            .world
            .types
            .iter()
            .flat_map(|t| structures(t.subsystem).iter().copied())
            .collect();
        used.sort_unstable();
        used.dedup();
        used
    }

    /// How many sockets can be opened: one at least is shown.
    fn sockets(&self) -> u32 {
        let opens = |o: &&Operation| matches!(o, Operation::SockOpen { .. });
        let opened: usize = self
            .world
            .cpus
            .iter()
            .map(|cpu| match &cpu.plan {
                Plan::Fixed(operations) => operations.iter().filter(opens).count(),
                Plan::Free { kinds, .. } if kinds.contains(&OpKind::SockOpen) => MAX_SOCKS,
                Plan::Free { .. } => 0,
            })
            .sum();
        let before = self.world.setup.iter().filter(opens).count();
        (opened + before).clamp(1, MAX_SOCKS) as u32
    }

    /// From one socket to the next.
    fn socket(&self) -> u32 {
        self.across.sock.1 + BESIDE_EACH_OTHER
    }

    fn height(&self, kind: Kind) -> u32 {
        match kind {
            Kind::Link => HEAD + 3 * LINE + 6,
            Kind::Map => HEAD + (3 + self.members) * LINE + 6,
            Kind::Kdata => HEAD + (4 + self.members) * LINE + 6,
            Kind::Page => HEAD + (1 + self.members) * LINE + 6,
            Kind::Ksym => LINE + 6,
            _ => self.columns - self.band - GAP - 8,
        }
    }

    fn place(&self, id: Id) -> Place {
        let across = &self.across;
        let (x, width) = match id.kind {
            Kind::Link => across.link,
            Kind::Map => across.map,
            Kind::Kdata => across.kdata,
            Kind::Page => across.page,
            Kind::Ksym => across.ksym,
            Kind::Cpu => {
                let count = self.world.tasks().max(1) as u32;
                let width = ((across.width - 2 * MARGIN - (count - 1) * 10) / count).min(460);
                let x = MARGIN + id.slot as u32 * (width + 10);
                return Place {
                    x,
                    y: MARGIN,
                    width,
                    height: self.cpu_height(),
                };
            }
            // The band: from left to right, who calls and what they use.
            Kind::Lock => across.lock,
            Kind::Subsys => {
                let shown = self.subsystems();
                let place = shown.iter().position(|s| *s == id.slot).unwrap_or(0) as u32;
                let (x, width) = across.list;
                // Sockets take the rest, where there are some.
                let rest = across.prog.0 - x;
                let each = rest / shown.len().max(1) as u32 - BESIDE_EACH_OTHER;
                // What a scenario brings has names of its own, which may be long.
                let more = if shown.len() == 2 && shown.contains(&OWN) {
                    rest / 8
                } else {
                    0
                };
                match (id.slot, place) {
                    (0, _) if shown == [0] => {
                        let unused = MAX_SOCKS as u32 - self.sockets();
                        (x, width + unused * self.socket())
                    }
                    (OWN, place) => (x + place * (each + BESIDE_EACH_OTHER) - more, each + more),
                    (_, place) => (x + place * (each + BESIDE_EACH_OTHER), each - more),
                }
            }
            Kind::Sock => {
                let unused = MAX_SOCKS as u32 - self.sockets();
                let (x, width) = across.sock;
                (x + (id.slot as u32 + unused) * self.socket(), width)
            }
            Kind::Prog | Kind::Proc | Kind::Module | Kind::Model => across.prog,
            // `lookup` draws them.
            Kind::Sched | Kind::Hook | Kind::Timer | Kind::File | Kind::Loader => (0, 0),
        };
        let height = self.height(id.kind);
        let y = match id.kind {
            Kind::Link | Kind::Map | Kind::Kdata | Kind::Page => {
                self.columns + id.slot as u32 * (height + GAP)
            }
            Kind::Ksym => self.columns + id.slot as u32 * (height + 6),
            _ => self.band,
        };
        Place {
            x,
            y,
            width,
            height,
        }
    }

    /// Whether an object has a place of its own in the picture.
    fn drawn(&self, object: &Object) -> bool {
        match object.kind {
            Kind::Subsys => {
                self.subsystems().contains(&object.id.slot) || !object.fields.is_empty()
            }
            Kind::Sock => {
                let used = (object.id.slot as u32) < self.sockets();
                self.subsystems().contains(&0) && (used || !object.fields.is_empty())
            }
            Kind::Lock | Kind::Prog | Kind::Proc | Kind::Module | Kind::Model => false,
            _ => true,
        }
    }

    /// The height of a picture of all these states.
    pub fn picture_height<'o>(&self, states: impl Iterator<Item = &'o [Object]>) -> u32 {
        let bottom = |o: &Object| {
            let place = self.place(o.id);
            place.y + place.height + MARGIN
        };
        let bottoms =
            states.flat_map(|objects| objects.iter().filter(|o| self.drawn(o)).map(bottom));
        bottoms.max().unwrap_or(0).max(self.columns + 120)
    }

    /// A state; `waiting` says for each CPU what it waits for.
    pub fn draw(&self, objects: &[Object], waiting: &[Option<Waiting>]) -> Vec<Shape> {
        let mut shapes = Vec::new();
        self.together(objects, &mut shapes, waiting);
        self.rcu(objects, &mut shapes);
        for object in objects.iter().filter(|o| self.drawn(o)) {
            let lines = self.lines(object, waiting);
            shapes.push(Shape {
                id: object.id.to_string(),
                svg: self.boxed(object, &lines),
            });
        }
        for object in objects {
            if object.kind == Kind::Cpu {
                self.tags(object, &mut shapes);
            } else {
                self.arrows(object, &mut shapes);
            }
        }
        shapes
    }

    /// Boxes for what is small and of which there are several: locks, programs, processes.
    fn together(&self, objects: &[Object], shapes: &mut Vec<Shape>, waiting: &[Option<Waiting>]) {
        let of = |kind: Kind| objects.iter().filter(move |o| o.kind == kind);
        let mut locks = Vec::new();
        let used = self.locks();
        for lock in of(Kind::Lock).filter(|o| used.contains(&o.id.slot) || !o.fields.is_empty()) {
            let text = match holder(lock, "holder", waiting).as_str() {
                "" => format!("free  {}", lock.name),
                held => format!("{held}  {}", lock.name),
            };
            let class = if lock.fields.is_empty() {
                "dim"
            } else {
                "held"
            };
            locks.push((lock.id, line(text, class)));
        }
        self.group("locks", Kind::Lock, &locks, shapes);
        let mut rest = Vec::new();
        for prog in of(Kind::Prog) {
            let (text, class) = match (prog.value("freed"), prog.value("free")) {
                ("yes", _) => (format!("{}  ✗ freed", prog.name), "dim"),
                (_, "") => (
                    format!("{} refs {}", prog.name, or_zero(prog.value("refs"))),
                    "",
                ),
                (_, free) => (format!("{}  {}", prog.name, short(free)), "wait"),
            };
            rest.push((prog.id, line(text, class)));
        }
        for proc in of(Kind::Proc) {
            let state = match (proc.value("gone"), proc.value("exiting")) {
                ("yes", _) => "has exited",
                (_, "yes") => "exits",
                _ => "runs",
            };
            rest.push((proc.id, line(format!("{} {state}", proc.name), "")));
        }
        for module in of(Kind::Module) {
            let state = match module.value("unloaded") {
                "" => format!("refs {}", or_zero(module.value("refs"))),
                _ => "unloaded".into(),
            };
            rest.push((module.id, line(format!("module {state}"), "dim")));
        }
        for model in of(Kind::Model) {
            let text = match model.value("allocations that may fail") {
                "" => String::new(),
                left => format!("{left} kmalloc may fail"),
            };
            rest.push((model.id, line(text, "dim")));
        }
        self.group("programs", Kind::Prog, &rest, shapes);
    }

    /// Readers of RCU and its kin, and grace periods with the readers that they wait for.
    fn rcu(&self, objects: &[Object], shapes: &mut Vec<Shape>) {
        let mut lines = Vec::new();
        let mut side = |id: Id, name: &str, readers: &str| {
            lines.push(match readers {
                "" => (id, line(format!("none  {name}"), "dim")),
                readers => (id, line(format!("▒ {readers}  {name}"), "held")),
            });
        };
        let cpu0 = Id {
            kind: Kind::Cpu,
            slot: 0,
        };
        for (field, name) in READ_SIDES {
            let cpus = objects.iter().filter(|o| o.kind == Kind::Cpu);
            let readers = cpus.filter(|o| o.field(field).is_some());
            let readers: Vec<&str> = readers.map(|o| o.name.as_str()).collect();
            side(cpu0, name, &readers.join(","));
        }
        for own in objects.iter().filter(|o| o.kind == Kind::Subsys) {
            for domain in &self.world.script.domains {
                if own.id.slot == OWN {
                    let readers = own.value(&format!("readers of {domain}"));
                    side(own.id, &format!("SRCU {domain}"), readers);
                }
            }
            if own.id.slot == HID {
                side(own.id, "SRCU of the device", own.value("readers of srcu"));
            }
        }
        let periods = objects.iter().filter_map(|o| {
            let name = if o.kind == Kind::Cpu { "waits" } else { "free" };
            let stage = o.value(name);
            if !stage.starts_with("a grace period") {
                return None;
            }
            let stage = short(stage);
            let readers = match readers(o, name) {
                readers if readers.is_empty() => "over".into(),
                readers => format!("← {readers}"),
            };
            Some((
                o.id,
                line(format!("] {stage}, {} {readers}", o.name), "wait"),
            ))
        });
        let periods: Vec<_> = periods.collect();
        // Those that have no line of their own are named where the cursor is.
        if periods.len() > GRACE_PERIODS {
            let texts: Vec<&str> = periods.iter().map(|p| p.1.text.as_str()).collect();
            let more = format!("{} grace periods: {}", periods.len(), texts.join("; "));
            lines.push((periods[0].0, line(more, "wait")));
        }
        lines.extend(periods.into_iter().take(GRACE_PERIODS));
        let (x, width) = self.across.rcu;
        let place = Place {
            x,
            width,
            ..self.place(Id {
                kind: Kind::Lock,
                slot: 0,
            })
        };
        self.listed("RCU", "rcu", place, &lines, shapes);
    }

    fn group(&self, title: &str, kind: Kind, lines: &[(Id, Line)], shapes: &mut Vec<Shape>) {
        let place = self.place(Id { kind, slot: 0 });
        self.listed(title, kind.word(), place, lines, shapes);
    }

    /// A box of lines, each about an object.
    fn listed(
        &self,
        title: &str,
        word: &str,
        place: Place,
        lines: &[(Id, Line)],
        shapes: &mut Vec<Shape>,
    ) {
        let mut svg = frame(place, &format!("box {word}"), title);
        for (i, (id, line)) in lines.iter().enumerate() {
            let y = place.y + HEAD + (i as u32 + 1) * LINE - 2;
            let most = fitting(place.width);
            let _ = write!(
                svg,
                "<text class=\"{}\" data-id=\"{id}\" x=\"{}\" y=\"{y}\">{}<title>{}</title></text>",
                line.class,
                place.x + 8,
                escape(&cut(&line.text, most)),
                escape(&line.text)
            );
        }
        shapes.push(Shape {
            id: format!("{word}s"),
            svg,
        });
    }

    fn lines(&self, object: &Object, waiting: &[Option<Waiting>]) -> Vec<Line> {
        if object.gone {
            return vec![line("freed", "gone-word")];
        }
        let value = |name: &str| object.value(name).to_string();
        let counted = || format!("refs {}{}", or_zero(object.value("refs")), fds(object));
        let free = || match object.value("free") {
            "" => line("", ""),
            stage => line(
                match readers(object, "free").as_str() {
                    "" => format!("free after {}", short(stage)),
                    readers => format!("free after {}: {readers}", short(stage)),
                },
                "wait",
            ),
        };
        match object.kind {
            Kind::Cpu => self.cpu_lines(object, waiting),
            Kind::Link => {
                let pinned = if value("pinned").is_empty() {
                    ""
                } else {
                    "  pinned"
                };
                let cookie = match object.value("cookie") {
                    "" => "no cookie".into(),
                    cookie => format!("cookie {cookie}"),
                };
                let map = match object.value("map") {
                    "" => "map NULL".into(),
                    map => format!("map {map}"),
                };
                vec![
                    line(cookie, "cookie"),
                    line(map, "dim"),
                    line(counted() + pinned, "dim"),
                ]
            }
            Kind::Map => {
                let pinned = if value("pinned").is_empty() {
                    ""
                } else {
                    "  pinned"
                };
                let mut lines = vec![
                    line(value("state") + pinned, "strong"),
                    line(counted(), "dim"),
                ];
                for member in self.members_of(object) {
                    let filled = object.field(&format!("{member}: program")).is_some();
                    let cookie = object.value(&format!("{member}: cookie"));
                    let mark = if filled { "●" } else { "○" };
                    let name = self.fitted(object, &format!("{mark} {member}"), cookie.len() + 1);
                    lines.push(line(format!("{name} {cookie}"), "cookie"));
                }
                // Nobody locks a map that is being freed.
                lines.push(match holder(object, "lock", waiting) {
                    held if held.is_empty() => free(),
                    held => line(format!("lock {held}"), "held"),
                });
                lines
            }
            Kind::Kdata => {
                let mut lines = Vec::new();
                for member in self.members_of(object) {
                    let func = match object.value(&member) {
                        "" => "NULL",
                        func => func,
                    };
                    let name = self.fitted(object, &member, func.len() + 3);
                    lines.push(line(format!("{name} = {func}"), "code"));
                }
                let cookie = match object.value("registered with cookie") {
                    "" => String::new(),
                    cookie => format!(" ({cookie})"),
                };
                lines.push(line(
                    match object.value("registrations") {
                        "" => "not registered".into(),
                        "1" => format!("registered{cookie}"),
                        n => format!("registered {n} times{cookie}"),
                    },
                    "",
                ));
                let next = object.value("list.next");
                lines.push(line(
                    if next.is_empty() {
                        String::new()
                    } else {
                        format!("list.next {next}")
                    },
                    "dim",
                ));
                if !object.value("attachment").is_empty() {
                    lines.push(line(counted(), "dim"));
                }
                lines.push(free());
                lines
            }
            Kind::Page => {
                let bytes = or_zero(object.value("bytes")).to_string();
                let mut lines = vec![match object.value("executable") {
                    "" => line(format!("rw- writable  {bytes} B"), "warn"),
                    _ => line(format!("r-x executable  {bytes} B"), "dim"),
                }];
                for i in 0..self.members {
                    let prog = object.value(&format!("[{i}]"));
                    let cookie = match object.value(&format!("[{i}]: cookie")) {
                        "" => String::new(),
                        cookie => format!(" ⟵ {cookie}"),
                    };
                    if !prog.is_empty() {
                        lines.push(line(format!("[{i}] {prog}{cookie}"), "code"));
                    }
                }
                lines
            }
            Kind::Ksym => vec![],
            Kind::Sock => {
                let lock = holder(object, "lock_sock", waiting);
                let cookie = match object.value("attached with cookie") {
                    "" => String::new(),
                    cookie => format!("via {cookie}"),
                };
                match object.value("icsk_ca_ops") {
                    "" => vec![line("not open", "dim")],
                    ops => vec![
                        line(ops, "code"),
                        line(cookie, "cookie"),
                        line(lock, "held"),
                    ],
                }
            }
            Kind::Subsys if object.id.slot == OWN => self.own_lines(object, waiting),
            Kind::Subsys if object.id.slot == RINGS => ring_lines(object, waiting),
            _ => {
                let lines = rows_of(object).into_iter();
                let lines = lines.map(|row| {
                    line(
                        row.iter().map(|f| told(f)).collect::<Vec<_>>().join("  "),
                        "code",
                    )
                });
                let mut lines: Vec<Line> = lines.collect();
                if lines.is_empty() {
                    lines.push(line("empty", "dim"));
                }
                lines
            }
        }
    }

    /// As much of a name as leaves room for so many characters behind it.
    fn fitted(&self, object: &Object, name: &str, behind: usize) -> String {
        let most = fitting(self.place(object.id).width).saturating_sub(behind);
        cut(name, most.max(4))
    }

    /// What the scenario's own subsystems keep, each in a line of its own whatever it is.
    fn own_lines(&self, object: &Object, waiting: &[Option<Waiting>]) -> Vec<Line> {
        let script = &self.world.script;
        let mut lines = Vec::new();
        for lock in &script.locks {
            lines.push(match holder(object, &format!("lock {lock}"), waiting) {
                held if held.is_empty() => line(format!("free  {lock}"), "dim"),
                held => line(format!("{held}  {lock}"), "held"),
            });
        }
        for flag in &script.flags {
            lines.push(match object.value(&format!("flag {flag}")) {
                "" => line(format!("not {flag}"), "dim"),
                _ => line(flag.clone(), ""),
            });
        }
        for kept in &script.objects {
            let count = or_zero(object.value(&format!("objects {kept}"))).to_string();
            lines.push(line(format!("{count} × {kept}"), ""));
        }
        let told = object.fields.iter().filter(|f| {
            let name = &f.name;
            name.starts_with("reference") || name.starts_with("torn down")
        });
        lines.extend(told.map(|f| line(format!("{} {}", f.name, f.value), "code")));
        lines
    }

    fn cpu_lines(&self, object: &Object, waiting: &[Option<Waiting>]) -> Vec<Line> {
        let waiting = waiting.get(object.id.slot).and_then(Option::as_ref);
        let told = |fields: &[(&str, &str)]| {
            let told = fields.iter().filter_map(|(name, word)| {
                let field = object.field(name)?;
                Some(match word.is_empty() {
                    true => (*name).to_string(),
                    false => format!("{word} {}", field.value),
                })
            });
            told.collect::<Vec<_>>().join("  ")
        };
        vec![
            match object.value("step") {
                "" => line("in user space", "dim"),
                step => line(format!("next: {}", self.site(step)), "code"),
            },
            match waiting {
                Some(waiting) => line(format!("waits: {}", waiting.what), "wait"),
                None => line(
                    told(&[("function pointer", "called"), ("result", "result")]),
                    "",
                ),
            },
            line(
                told(&[
                    ("run_ctx.bpf_cookie", "bpf_cookie"),
                    ("rcu_read_lock", ""),
                    ("rcu_read_lock_trace", ""),
                ]),
                "",
            ),
        ]
    }

    /// Where a step is carried out.
    fn site(&self, step: &str) -> String {
        let info = struct_ops_model::pc::STEPS.iter().find(|s| s.name == step);
        info.map_or_else(|| step.into(), |s| s.place.on(self.world.linux).to_string())
    }

    fn members_of(&self, object: &Object) -> Vec<String> {
        let decl = object.value("declaration");
        let decl = self.world.maps.iter().find(|m| m.name == decl);
        let members = decl.map(|d| &self.world.types[d.ty].members);
        members
            .into_iter()
            .flatten()
            .map(|m| m.name.clone())
            .collect()
    }

    fn boxed(&self, object: &Object, lines: &[Line]) -> String {
        let place = self.place(object.id);
        let actor = match object.kind {
            Kind::Cpu => format!(" actor{}", object.id.slot % 4),
            _ => String::new(),
        };
        let gone = match object.kind {
            _ if object.gone => " gone",
            Kind::Ksym if object.value("listed").is_empty() => " unlisted",
            _ => "",
        };
        let class = format!("box {}{actor}{gone}", object.kind.word());
        let title = match object.kind {
            Kind::Cpu => match object.value("operation") {
                "" => object.name.clone(),
                operation => format!("{}  {operation}", object.name),
            },
            Kind::Link => format!("link {}", object.name),
            Kind::Map => format!("map {}", object.name),
            _ => object.name.clone(),
        };
        filled(place, &class, &title, lines, object.gone)
    }

    /// The height at which a field's arrow leaves its object.
    fn port(&self, object: &Object, field: &Field) -> u32 {
        let place = self.place(object.id);
        let row = |n: u32| place.y + HEAD + n * LINE + LINE / 2 - 1;
        match object.kind {
            Kind::Kdata => {
                let members = self.members_of(object);
                match members.iter().position(|m| *m == field.name) {
                    Some(i) => row(i as u32),
                    None if field.name.starts_with("list") => row(self.members + 1),
                    None => place.y + HEAD / 2,
                }
            }
            Kind::Link => row(if field.name == "map" { 1 } else { 0 }),
            Kind::Subsys if object.id.slot == OWN => {
                let script = &self.world.script;
                let fixed = script.locks.len() + script.flags.len() + script.objects.len();
                let kept = object.fields.iter();
                let mut kept = kept.filter(|f| f.name.starts_with("reference"));
                let place = kept.position(|f| f.name == field.name).unwrap_or(0);
                row((fixed + place) as u32)
            }
            // "ring 1: loop_step"
            Kind::Subsys if object.id.slot == RINGS => {
                let ring = field.name.trim_start_matches(|c: char| !c.is_ascii_digit());
                row(u32::from(ring.starts_with('1')))
            }
            Kind::Subsys => {
                let rows = rows_of(object);
                let has = |row: &Vec<&Field>| row.iter().any(|f| f.name == field.name);
                row(rows.iter().position(has).unwrap_or(0) as u32)
            }
            Kind::Ksym => place.y + place.height / 2,
            _ => row(0),
        }
    }

    fn arrows(&self, object: &Object, shapes: &mut Vec<Shape>) {
        for field in &object.fields {
            let Some(to) = field.to else { continue };
            // Told by text: which ksyms and pages an object owns, the way back in the list, a kvalue's own map.
            let minor = field.name.starts_with("image_pages")
                || field.name.ends_with(": ksym")
                || field.name.ends_with("prev")
                || (object.kind == Kind::Kdata && field.name == "map");
            if minor && !field.stale {
                continue;
            }
            let from = self.place(object.id);
            let target = self.place(to);
            let start = self.port(object, field);
            let end = match field.at {
                Some(at) => target.y + HEAD + (1 + u32::from(at)) * LINE + LINE / 2 - 1,
                None => target.y + HEAD / 2,
            };
            let list = field.name == "next" || field.name.starts_with("list");
            let class = match object.kind {
                Kind::Ksym => "name",
                Kind::Kdata if list => "list",
                Kind::Subsys | Kind::Sock => "use",
                Kind::Kdata => "func",
                _ => "ref",
            };
            let path = match field.at {
                // From above, to the head of a box.
                None if from.y + from.height < target.y => {
                    down(from, target, object.id.slot as u32)
                }
                // From above, to a line of a box: from its left side, past what stands beside the first box.
                Some(at) if object.kind == Kind::Subsys => {
                    let x = (from.x + from.width - 16).min(target.x + target.width / 2);
                    beside(x - 12 * u32::from(at), from.y + from.height, target, end)
                }
                _ => curve(from, start, target, end),
            };
            let id = format!("{}.{}", object.id, field.name);
            let what = format!("{} {} → {}", object.name, field.name, field.value);
            shapes.push(arrow(id, class, field.stale, &path, &what));
        }
    }

    /// What a CPU has pointers to.
    fn tags(&self, cpu: &Object, shapes: &mut Vec<Shape>) {
        let mut at: Vec<(Id, Option<u8>, Vec<&str>, bool)> = Vec::new();
        for field in &cpu.fields {
            let Some(to) = field.to else { continue };
            match at.iter_mut().find(|a| a.0 == to && a.1 == field.at) {
                Some(tag) => tag.2.push(&field.name),
                None => at.push((to, field.at, vec![&field.name], field.stale)),
            }
        }
        let number = cpu.id.slot as u32;
        for (to, code, names, stale) in at {
            let place = self.place(to);
            let y = match code {
                Some(code) => place.y + HEAD + (1 + u32::from(code)) * LINE,
                None => place.y - 9,
            };
            let right = place.x + place.width;
            let x = match code {
                // Beside the trampoline, where there is room for one; others stand before it.
                Some(code) => {
                    let row = format!("@{to}[{code}]");
                    let there = shapes.iter().filter(|s| s.id.ends_with(&row));
                    right + 3 - 42 * there.count() as u32
                }
                // A fourth one has no room beside the others over what is narrow and far left.
                None => right.saturating_sub(38 + 42 * number),
            };
            let gone = if stale { ", which is gone" } else { "" };
            let what = format!(
                "{} has a pointer to {to}{gone}: {}",
                cpu.name,
                names.join(", ")
            );
            let place = code.map_or(String::new(), |code| format!("[{code}]"));
            let id = format!("{}@{to}{place}", cpu.id);
            shapes.push(tag(id, number, &cpu.name, stale, (x, y), &what));
        }
    }
}

/// The numbers of the structures that a subsystem keeps, as [`super::state`] counts them.
fn structures(subsystem: Subsystem) -> &'static [usize] {
    match subsystem {
        Subsystem::TcpCong => &[0],
        Subsystem::SchedExt => &[2],
        Subsystem::Own(_) => &[1, OWN],
        Subsystem::BpfTcp => &[CGROUPS],
        Subsystem::IoUring => &[1, RINGS],
        Subsystem::HidBpf => &[1, HID],
        _ => &[1],
    }
}

/// A line for each ring: who has it open, and who is inside.
fn ring_lines(object: &Object, waiting: &[Option<Waiting>]) -> Vec<Line> {
    let rings = (0..MAX_RINGS as u8).map(|i| {
        let ring = format!("ring {i}");
        let held = holder(object, &uring_lock(i), waiting);
        match (object.field(&ring), object.value(&format!("{ring}: fds"))) {
            (None, _) => line(format!("no {ring}"), "dim"),
            (_, "") => line(format!("{ring}  no fd  {held}"), "held"),
            (_, fds) => line(format!("{ring}  {fds}  {held}"), "held"),
        }
    });
    rings.collect()
}

/// The fields of a subsystem's structure, those that belong together in one line.
fn rows_of(object: &Object) -> Vec<Vec<&Field>> {
    let mut rows: Vec<Vec<&Field>> = Vec::new();
    // A reader of the list walks it forward.
    for field in object.fields.iter().filter(|f| f.name != "prev") {
        let more = field.name.contains(": ") || field.name == "attached with cookie";
        match rows.last_mut() {
            Some(row) if more => row.push(field),
            _ => rows.push(vec![field]),
        }
    }
    rows
}

/// A field in few words.
fn told(field: &Field) -> String {
    match field.name.rsplit(": ").next() {
        Some("attached with cookie") => format!("({})", field.value),
        Some("slot") => String::new(),
        Some("link") => format!("via {}", field.value),
        _ => format!("{} {}", field.name, field.value),
    }
}

fn or_zero(value: &str) -> &str {
    if value.is_empty() { "0" } else { value }
}

fn fds(object: &Object) -> String {
    let fds = object.value("fds");
    if fds.is_empty() {
        return "  no fd".into();
    }
    let of = |process: &str| {
        let number = process.trim_start_matches("process");
        match object.value(&format!("further fds of process {number}")) {
            "" => format!("p{number}"),
            more => format!("p{number}+{more}"),
        }
    };
    let fds: Vec<String> = fds.split(", ").map(of).collect();
    format!("  fd of {}", fds.join(","))
}

/// A grace period in few characters.
fn short(stage: &str) -> String {
    stage
        .replace("a grace period of ", "")
        .replace("queued work", "a worker")
        .replace(" and ", "+")
        .replace("Tasks Trace RCU", "Trace")
        .replace("Tasks RCU", "Tasks")
}

/// Readers that a deferred free waits for.
fn readers(object: &Object, name: &str) -> String {
    let prefix = format!("{name}: ");
    let fields = object.fields.iter().filter(|f| f.name.starts_with(&prefix));
    let mut cpus: Vec<&str> = fields.flat_map(|f| f.value.split(", ")).collect();
    cpus.sort_unstable();
    cpus.dedup();
    cpus.join(",")
}
