//! A state as a list of objects with named fields: everything that the state holds, pointers as pointers.
//!
//! Not what a trace says of a step (`report::describe` leaves out what no reader of a table needs), and no picture
//! (`board` draws one from what is here). A test reads the state back from these objects: nothing is left out.

use serde::Serialize;
use struct_ops_model::assoc::Assoc;
use struct_ops_model::kernel::{
    Cgroup, Cpu, Deferred, Dirty, Func, Holds, ImageKey, ItemArray, Kdata, KdataKey, Kernel,
    KsymKey, LinkKey, MapKey, Mask, MoreFds, Node, OwnState, ScxState, Seen, Stage,
};
use struct_ops_model::lock::{Lock, LockClass};
use struct_ops_model::script::Script;
use struct_ops_model::table::{Key, Table};
use struct_ops_model::world::OpKind;
use struct_ops_model::{Pc, Wait, errno};

use crate::report::names::Names;

/// What an object is; the word begins its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A CPU and the local variables of the procedure in progress.
    Cpu,
    /// A lock of which there is one; those of maps and sockets are fields.
    Lock,
    /// A socket.
    Sock,
    /// A subsystem's data structure.
    Subsys,
    /// A program.
    Prog,
    /// A process.
    Proc,
    /// The module that owns types.
    Module,
    /// What is the model's own: bounds, and whether the state has a meaning.
    Model,
    /// A `bpf_struct_ops_link`.
    Link,
    /// A `bpf_struct_ops_map`.
    Map,
    /// A kdata: a map's own kvalue, or an attachment.
    Kdata,
    /// An image page.
    Page,
    /// A kallsyms entry.
    Ksym,
    /// A scheduler, of a lookup.
    Sched,
    /// An attachment of a program of another type than struct_ops, of a lookup.
    Hook,
    /// The timer or work queue of a scheduler, of a lookup.
    Timer,
    /// An object file and its global variables, of a lookup.
    File,
    /// Whoever loads and attaches, of a lookup.
    Loader,
}

impl Kind {
    /// The word that ids begin with.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Cpu => "cpu",
            Kind::Lock => "lock",
            Kind::Sock => "sock",
            Kind::Subsys => "subsys",
            Kind::Prog => "prog",
            Kind::Proc => "proc",
            Kind::Module => "module",
            Kind::Model => "model",
            Kind::Link => "link",
            Kind::Map => "map",
            Kind::Kdata => "kdata",
            Kind::Page => "page",
            Kind::Ksym => "ksym",
            Kind::Sched => "sched",
            Kind::Hook => "hook",
            Kind::Timer => "timer",
            Kind::File => "file",
            Kind::Loader => "loader",
        }
    }
}

/// Which object, and where it keeps its place: the id of a slot that is used again is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id {
    /// What it is.
    pub kind: Kind,
    /// Its slot, or its number.
    pub slot: usize,
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.kind.word(), self.slot)
    }
}

impl Serialize for Id {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<T> From<(Kind, Key<T>)> for Id {
    fn from((kind, key): (Kind, Key<T>)) -> Self {
        Id {
            kind,
            slot: key.slot(),
        }
    }
}

/// A field of an object. A field that is not there is 0, NULL, empty or no.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Field {
    /// Its name, as the kernel has it where the kernel has it.
    pub name: String,
    /// Its value, as a person reads it.
    pub value: String,
    /// What it points to, if it is a pointer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Id>,
    /// Which trampoline of a page, if it is a function pointer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<u8>,
    /// What it points to is gone.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
}

/// An object of a state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Object {
    /// Which one.
    pub id: Id,
    /// What it is.
    pub kind: Kind,
    /// What it is called.
    pub name: String,
    /// Its memory is gone; somebody still has a pointer to it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub gone: bool,
    /// Its fields.
    pub fields: Vec<Field>,
}

impl Object {
    /// One without fields.
    pub(super) fn new(kind: Kind, slot: usize, name: String) -> Self {
        Object {
            id: Id { kind, slot },
            kind,
            name,
            gone: false,
            fields: Vec::new(),
        }
    }

    /// The field of that name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|f| f.name == name)
    }

    /// The value of the field of that name; empty if it is nothing.
    pub fn value(&self, name: &str) -> &str {
        self.field(name).map_or("", |f| f.value.as_str())
    }
}

/// Where a lock has its holder, of a CPU that waits for a lock: the object and the name of its field.
pub fn place_of(wait: &Wait, own: &[String]) -> Option<(Id, String)> {
    let (kind, slot, field) = match wait {
        Wait::Lock(Lock::Map(key), _) => (Kind::Map, key.slot(), "lock".into()),
        Wait::Lock(Lock::Sock(sock), _) => (Kind::Sock, usize::from(*sock), "lock_sock".into()),
        Wait::Lock(Lock::Ring(ring), _) => (Kind::Subsys, RINGS, uring_lock(*ring)),
        Wait::Lock(Lock::The(class), _) => (Kind::Lock, *class as usize, "holder".into()),
        Wait::Lock(Lock::Own(lock), _) => {
            let name = &own[usize::from(*lock)];
            (Kind::Subsys, OWN, format!("lock {name}"))
        }
        Wait::Lock(Lock::Prog(_), _) | Wait::GracePeriod(_) | Wait::Flag(_) | Wait::Ring(..) => {
            return None;
        }
    };
    Some((Id { kind, slot }, field))
}

/// Names of the bits of [`Holds`], lowest first.
pub const HOLDS: [&str; 8] = [
    "map",
    "old map",
    "link",
    "attachment",
    "old attachment",
    "registration",
    "module",
    "the map of the struct that the program has found",
];

/// Names of the bits of [`Dirty`], lowest first.
pub const DIRTY: [&str; 8] = [
    "state",
    "function pointers",
    "kallsyms",
    "registrations",
    "image pages",
    "what a program of others is tied to",
    "what a program is tied to",
    "ops->hdev",
];

/// Names of the bits of [`Seen`], lowest first.
pub const SEEN: [&str; 14] = [
    "INIT",
    "INUSE",
    "TOBEFREE",
    "READY",
    "no memory",
    "place taken",
    "link detached",
    "another map",
    "a program's error",
    "map has a link",
    "no replacement",
    "module gone",
    "no ring",
    "no member",
];

const _: () = assert!(Holds::ASKED.bits() == 1 << (HOLDS.len() - 1));
const _: () = assert!(Dirty::HDEV.bits() == 1 << (DIRTY.len() - 1));
const _: () = assert!(Seen::NO_MEMBER.bits() == 1 << (SEEN.len() - 1));

/// Names of the values of [`ScxState`] in their order.
pub const SCX: [&str; 4] = ["DISABLED", "ENABLING", "ENABLED", "DISABLING"];

/// The slot of the structure that the scenario's own subsystems keep.
pub const OWN: usize = 3;

/// The slot of the cgroups.
pub const CGROUPS: usize = 4;

/// The slot of the rings of io_uring.
pub const RINGS: usize = 5;

/// The slot of the HID device.
pub const HID: usize = 6;

/// The field of a ring's lock.
pub fn uring_lock(ring: u8) -> String {
    format!("lock uring_lock of ring {ring}")
}

/// An item of an effective array that has the type's stubs.
pub const STUBS: &str = "stubs";

/// The state that is being told, and how its objects are called.
struct Teller<'a> {
    names: &'a Names<'a>,
    k: &'a Kernel,
    objects: Vec<Object>,
}

/// Fields are added to an object under construction.
struct Fields<'a, 't> {
    teller: &'t Teller<'a>,
    object: Object,
}

impl Fields<'_, '_> {
    fn push(&mut self, name: &str, value: String, to: Option<Id>, at: Option<u8>, stale: bool) {
        self.object.fields.push(Field {
            name: name.into(),
            value,
            to,
            at,
            stale,
        });
    }

    fn text(&mut self, name: &str, value: impl ToString) {
        self.push(name, value.to_string(), None, None, false);
    }

    fn number(&mut self, name: &str, value: impl Into<i64>) {
        let value: i64 = value.into();
        if value != 0 {
            self.text(name, value);
        }
    }

    fn more_fds(&mut self, more: MoreFds) {
        for (proc, n) in more.0.into_iter().enumerate() {
            self.number(&format!("further fds of process {proc}"), n);
        }
    }

    fn flag(&mut self, name: &str, value: bool) {
        if value {
            self.text(name, "yes");
        }
    }

    fn cgroup(&mut self, name: &str, number: u8) {
        if number != 0 {
            self.text(name, self.teller.names.cgroup(number));
        }
    }

    fn items(&mut self, name: &str, array: &ItemArray) {
        for (i, item) in array.iter().enumerate() {
            let Some(item) = item else { continue };
            let name = format!("{name} {i}");
            match item.kdata {
                Some(kdata) => self.kdata(&name, Some(kdata)),
                None => self.text(&name, STUBS),
            }
            self.cookie(&format!("{name}: cookie"), item.expect);
            self.cookie(&format!("{name}: bpf_cookie"), item.bpf_cookie);
        }
    }

    fn list<'n>(&mut self, name: &str, items: impl IntoIterator<Item = &'n str>) {
        let items: Vec<&str> = items.into_iter().collect();
        if !items.is_empty() {
            self.text(name, items.join(", "));
        }
    }

    fn mask(&mut self, name: &str, mask: Mask, what: &str) {
        let set = (0..8).filter(|i| mask & (1 << i) != 0);
        let set: Vec<String> = set.map(|i| format!("{what}{i}")).collect();
        self.list(name, set.iter().map(String::as_str));
    }

    fn bits(&mut self, name: &str, mask: u16, words: &[&str]) {
        let set = words
            .iter()
            .enumerate()
            .filter(|(i, _)| mask & (1 << i) != 0);
        self.list(name, set.map(|(_, word)| *word));
    }

    fn cpu(&mut self, name: &str, cpu: Option<u8>) {
        if let Some(cpu) = cpu {
            self.text(name, format!("cpu{cpu}"));
        }
    }

    fn cookie(&mut self, name: &str, index: u8) {
        if index != 0 {
            self.text(name, self.teller.names.cookie(index));
        }
    }

    fn deferred(&mut self, name: &str, d: &Deferred) {
        if d.stage != Stage::None {
            self.text(name, d.stage.name());
        }
        // One mask for both: a task waits for one of them.
        let rcu = if d.stage == Stage::Srcu {
            "SRCU"
        } else {
            "RCU"
        };
        for (kind, mask) in [
            (rcu, d.rcu),
            ("Tasks RCU", d.tasks),
            ("Tasks Trace RCU", d.trace),
        ] {
            self.mask(&format!("{name}: readers of {kind}"), mask, "cpu");
        }
    }

    fn step(&mut self, name: &str, pc: Pc) {
        if pc != Pc::Idle {
            self.text(name, pc.name());
        }
    }

    fn pointer<T: Copy + Default, const N: usize>(
        &mut self,
        name: &str,
        key: Option<(Kind, Key<T>)>,
        table: &Table<T, N>,
        value: impl Fn(Key<T>) -> String,
    ) {
        if let Some((kind, key)) = key {
            let stale = !table.contains(key);
            self.push(name, value(key), Some((kind, key).into()), None, stale);
        }
    }

    fn map(&mut self, name: &str, key: Option<MapKey>) {
        let Teller { names, k, .. } = self.teller;
        let key = key.map(|key| (Kind::Map, key));
        self.pointer(name, key, &k.maps, |key| names.map(k, key));
    }

    fn kdata(&mut self, name: &str, key: Option<KdataKey>) {
        let Teller { names, k, .. } = self.teller;
        let key = key.map(|key| (Kind::Kdata, key));
        self.pointer(name, key, &k.kdatas, |key| names.kdata(k, key));
    }

    fn link(&mut self, name: &str, key: Option<LinkKey>) {
        let Teller { names, k, .. } = self.teller;
        let key = key.map(|key| (Kind::Link, key));
        self.pointer(name, key, &k.links, |key| names.link(k, key));
    }

    fn page(&mut self, name: &str, key: Option<ImageKey>) {
        let Teller { names, k, .. } = self.teller;
        let key = key.map(|key| (Kind::Page, key));
        self.pointer(name, key, &k.images, |key| names.image(key));
    }

    fn ksym(&mut self, name: &str, key: Option<KsymKey>) {
        let Teller { names, k, .. } = self.teller;
        let key = key.map(|key| (Kind::Ksym, key));
        self.pointer(name, key, &k.ksyms, |key| names.ksym(key));
    }

    fn func(&mut self, name: &str, func: Func) {
        let Some(page) = func.image else { return };
        let stale = !self.teller.k.images.contains(page);
        let value = self.teller.names.func(func);
        let to = Some((Kind::Page, page).into());
        self.push(name, value, to, Some(func.index), stale);
    }

    fn node(&mut self, name: &str, node: Node) {
        match node {
            Node::Poison => {}
            Node::Head => self.text(name, "list head"),
            Node::Of(key) => self.kdata(name, Some(key)),
        }
    }
}

/// Every object of a state, and those that are gone but still pointed to.
pub fn objects(names: &Names<'_>, k: &Kernel) -> Vec<Object> {
    let mut teller = Teller {
        names,
        k,
        objects: Vec::new(),
    };
    teller.cpus();
    teller.globals();
    teller.tables();
    teller.gone();
    teller.objects
}

impl<'a> Teller<'a> {
    fn add(
        &mut self,
        kind: Kind,
        slot: usize,
        name: String,
        fill: impl FnOnce(&mut Fields<'a, '_>),
    ) {
        let mut fields = Fields {
            teller: self,
            object: Object::new(kind, slot, name),
        };
        fill(&mut fields);
        let object = fields.object;
        self.objects.push(object);
    }

    fn cpus(&mut self) {
        for i in 0..self.names.world().tasks() {
            let c = self.k.cpus[i];
            self.add(Kind::Cpu, i, format!("cpu{i}"), |f| cpu(f, &c));
        }
    }

    fn globals(&mut self) {
        let (k, world) = (self.k, self.names.world());
        let locks = LockClass::ALL.iter().enumerate();
        // Those that are held within one step only are never seen held.
        for (i, class) in locks.take(k.locks.len()) {
            self.add(Kind::Lock, i, class.name().into(), |f| {
                f.cpu("holder", k.holder(*class))
            });
        }
        for (i, sock) in k.socks.iter().enumerate() {
            self.add(Kind::Sock, i, format!("socket {i}"), |f| {
                f.kdata("icsk_ca_ops", sock.kdata);
                f.cookie("attached with cookie", sock.expect);
                f.cpu("lock_sock", sock.busy);
                f.mask("fds", sock.fds, "process");
            });
        }
        let s = &k.subsys;
        self.add(Kind::Subsys, 0, "tcp_cong_list".into(), |f| {
            f.node("next", s.tcp_next);
            f.node("prev", s.tcp_prev);
        });
        self.add(Kind::Subsys, 1, "registrations".into(), |f| {
            for (i, reg) in s.regs.iter().enumerate() {
                let Some(reg) = reg else { continue };
                f.kdata(&format!("{i}"), Some(reg.kdata));
                f.link(&format!("{i}: link"), reg.link);
                f.number(&format!("{i}: slot"), reg.slot);
                f.cookie(&format!("{i}: attached with cookie"), reg.expect);
            }
        });
        if world.has_hid_device() {
            self.add(Kind::Subsys, HID, "hdev->bpf".into(), |f| {
                let rdesc_ops = s.hid.rdesc_ops;
                f.kdata("rdesc_ops", rdesc_ops.map(|reg| reg.kdata));
                f.link("rdesc_ops: link", rdesc_ops.and_then(|reg| reg.link));
                f.cookie(
                    "rdesc_ops: attached with cookie",
                    rdesc_ops.map_or(0, |reg| reg.expect),
                );
                f.flag("device_data", s.hid.device_data);
                f.mask("readers of srcu", s.hid.readers, "cpu");
            });
        }
        self.add(Kind::Subsys, 2, "sched_ext".into(), |f| {
            if s.scx.state != ScxState::Disabled {
                f.text("state", SCX[s.scx.state as usize]);
            }
            for (i, func) in s.scx.ops.iter().enumerate() {
                f.func(
                    &format!("ops.{}", f.teller.names.called(OpKind::Call, i)),
                    *func,
                );
            }
            f.kdata("copied from", s.scx.kdata);
            f.cookie("attached with cookie", s.scx.expect);
        });
        let script = &world.script;
        if !script.subsystems.is_empty() {
            self.add(Kind::Subsys, OWN, "of the scenario".into(), |f| {
                own(f, script, &s.own)
            });
        }
        if !world.cgroups.is_empty() {
            self.add(Kind::Subsys, CGROUPS, "cgroups".into(), |f| {
                for (decl, cgroup) in world.cgroups.iter().zip(&s.cgroups) {
                    cgroup_fields(f, &decl.name, cgroup);
                }
            });
        }
        if world.has_rings() {
            self.add(Kind::Subsys, RINGS, "rings".into(), |f| {
                for (i, ring) in (0u8..).zip(&s.rings).filter(|(_, ring)| ring.there) {
                    f.flag(&format!("ring {i}"), true);
                    f.mask(&format!("ring {i}: fds"), ring.fds, "process");
                    f.number(&format!("ring {i}: key"), ring.key);
                    f.func(&format!("ring {i}: loop_step"), ring.loop_step);
                    f.cpu(&uring_lock(i), ring.lock);
                }
            });
        }
        for (i, prog) in k.progs.iter().enumerate().take(world.progs.len()) {
            self.add(Kind::Prog, i, self.names.prog(i), |f| {
                f.number("refs", prog.refs);
                f.mask("fds", prog.fds, "process");
                f.flag("freed", prog.freed);
                f.deferred("free", &prog.free);
                f.map("st_ops_assoc", prog.assoc.map());
                f.flag("st_ops_assoc is POISON", prog.assoc == Assoc::Poison);
                f.flag("its callback is started", prog.armed);
            });
        }
        for (i, proc) in k.procs.iter().enumerate().take(usize::from(world.procs)) {
            self.add(Kind::Proc, i, format!("process{i}"), |f| {
                f.flag("exiting", proc.exiting);
                f.flag("gone", proc.exited);
            });
        }
        self.add(Kind::Module, 0, "module".into(), |f| {
            f.number("refs", k.module.refs);
            f.flag("unloaded", k.module.unloaded);
        });
        self.add(Kind::Model, 0, "model".into(), |f| {
            f.number("allocations that may fail", k.alloc_failures);
            f.flag("nothing follows", k.dead);
        });
    }

    fn tables(&mut self) {
        let (k, names) = (self.k, self.names);
        for (key, link) in k.links.iter() {
            self.add(Kind::Link, key.slot(), names.link(k, key), |f| {
                f.number("name", link.name);
                f.cookie("cookie", link.cookie);
                f.map("map", link.map);
                f.kdata("attachment", link.attachment);
                f.number("refs", link.refs);
                f.mask("fds", link.fds, "process");
                f.more_fds(link.more);
                f.flag("pinned", link.pinned);
                f.flag("bpf_link_put_deferred() is queued", link.queued);
                f.flag("link_idr has it", link.id);
                f.cgroup("cgroup", link.cgroup);
            });
        }
        for (key, map) in k.maps.iter() {
            self.add(Kind::Map, key.slot(), names.map(k, key), |f| {
                f.text("declaration", names.decl(map.decl));
                f.text("state", map.state.name());
                f.cpu("lock", map.lock);
                f.number("refs", map.refs);
                f.mask("fds", map.fds, "process");
                f.more_fds(map.more);
                f.flag("pinned", map.pinned);
                f.kdata("kvalue", map.kdata);
                for (i, cookie) in map.link_cookies.iter().enumerate() {
                    let member = f.teller.names.member(map.decl, i);
                    f.flag(&format!("{member}: program"), map.filled & (1 << i) != 0);
                    f.cookie(&format!("{member}: cookie"), *cookie);
                }
                f.deferred("free", &map.free);
            });
        }
        for (key, kdata) in k.kdatas.iter() {
            self.add(Kind::Kdata, key.slot(), names.kdata(k, key), |f| {
                kdata_fields(f, kdata)
            });
        }
        for (key, page) in k.images.iter() {
            self.add(Kind::Page, key.slot(), names.image(key), |f| {
                f.flag("executable", page.protected);
                f.number("bytes", page.fill);
                for (i, code) in page.code.iter().enumerate().filter(|c| c.1.prog != 0) {
                    f.text(&format!("[{i}]"), names.prog(usize::from(code.prog) - 1));
                    f.cookie(&format!("[{i}]: cookie"), code.cookie);
                }
            });
        }
        for (key, ksym) in k.ksyms.iter() {
            self.add(Kind::Ksym, key.slot(), names.ksym(key), |f| {
                f.func("func", ksym.func);
                f.flag("listed", ksym.listed);
            });
        }
    }

    /// What somebody points to although it is gone.
    fn gone(&mut self) {
        let stale = self.objects.iter().flat_map(|o| &o.fields);
        let stale = stale.filter(|f| f.stale).filter_map(|f| f.to);
        let mut gone: Vec<Id> = stale.collect();
        gone.sort();
        gone.dedup();
        for id in gone {
            let slot = id.slot;
            let name = match id.kind {
                Kind::Map => self.names.map(self.k, Key::new(slot)),
                Kind::Link => self.names.link(self.k, Key::new(slot)),
                Kind::Kdata => self.names.kdata(self.k, Key::new(slot)),
                _ => id.to_string(),
            };
            self.objects.push(Object {
                gone: true,
                ..Object::new(id.kind, slot, name)
            });
        }
    }
}

/// What the scenario's own subsystems keep besides their entries.
fn own(f: &mut Fields<'_, '_>, script: &Script, own: &OwnState) {
    for (i, lock) in script.locks.iter().enumerate() {
        f.cpu(&format!("lock {lock}"), own.locks[i]);
        f.mask(&format!("lock {lock}: readers"), own.shared[i], "cpu");
    }
    for (i, domain) in script.domains.iter().enumerate() {
        f.mask(&format!("readers of {domain}"), own.readers[i], "cpu");
    }
    for (i, flag) in script.flags.iter().enumerate() {
        f.flag(&format!("flag {flag}"), own.flags & (1 << i) != 0);
    }
    for (i, object) in script.objects.iter().enumerate() {
        f.number(&format!("objects {object}"), own.objects[i]);
    }
    for (i, kdata) in own.refs.iter().enumerate() {
        f.kdata(&format!("reference {i}"), *kdata);
    }
    f.mask("torn down", own.torn_down, "subsystem");
}

fn cpu(f: &mut Fields<'_, '_>, c: &Cpu) {
    f.number("operations done", c.position);
    if c.op != OpKind::None {
        f.text("operation", c.op.name());
    }
    f.step("step", c.pc);
    f.number("line", c.line);
    f.step("returns to", c.ret);
    f.step("call returns to", c.call_ret);
    f.map("map", c.map);
    f.map("old map", c.old);
    f.link("link", c.link);
    f.kdata("kdata", c.kdata);
    f.kdata("old kdata", c.old_kdata);
    f.kdata("attachment", c.attachment);
    f.kdata("old attachment", c.old_attachment);
    f.kdata("the struct that the program has found", c.asked);
    f.page("page", c.image);
    f.func("function pointer", c.func);
    f.number("argument", c.arg);
    f.number("member", c.member);
    if c.err != 0 {
        f.text("result", errno::name(c.err));
    }
    f.cookie("cookie", c.cookie);
    f.cookie("cookie to be read", c.expect);
    f.cookie("run_ctx.bpf_cookie", c.run_ctx);
    if let Some(prog) = c.prog.checked_sub(1) {
        f.text("program", f.teller.names.prog(usize::from(prog)));
    }
    f.bits("holds references", c.holds.bits().into(), &HOLDS);
    f.bits("has changed", c.dirty.bits().into(), &DIRTY);
    f.bits("has met", c.seen.bits(), &SEEN);
    f.number("rcu_read_lock", c.readers.rcu);
    f.number("rcu_read_lock_trace", c.readers.trace);
    f.flag("Tasks RCU reader", c.readers.tasks);
    f.deferred("waits", &c.wait);
    f.cgroup("cgroup", c.cgroup);
    f.number("position in the list", c.list_position);
    f.cgroup("walks the array of", c.walk.cgroup);
    f.number("items behind it", c.walk.next);
    f.flag("the array has been replaced", c.walk.replaced);
    f.items("old item", &c.walk.array);
    f.cookie("the walk's run_ctx.bpf_cookie", c.walk.bpf_cookie);
    f.number("ring, plus 1", c.ring);
}

fn cgroup_fields(f: &mut Fields<'_, '_>, name: &str, cgroup: &Cgroup) {
    f.text(name, cgroup.state.name());
    for (i, in_list) in cgroup.list.iter().enumerate() {
        let Some(in_list) = in_list else { continue };
        f.link(&format!("{name}: link {i}"), Some(in_list.link));
        f.flag(&format!("{name}: link {i}: preorder"), in_list.preorder);
    }
    f.items(&format!("{name}: effective"), &cgroup.effective);
}

fn kdata_fields(f: &mut Fields<'_, '_>, kdata: &Kdata) {
    let names = f.teller.names;
    f.text("declaration", names.decl(kdata.decl));
    f.flag("attachment", kdata.attachment);
    f.map("map", kdata.map);
    f.number("refs", kdata.refs);
    for (i, func) in kdata.func.iter().enumerate() {
        let member = names.member(kdata.decl, i);
        f.func(&member, *func);
        f.ksym(&format!("{member}: ksym"), kdata.ksyms[i]);
    }
    for (i, page) in kdata.pages.iter().enumerate() {
        f.page(&format!("image_pages[{i}]"), *page);
    }
    f.node("list.next", kdata.next);
    f.node("list.prev", kdata.prev);
    f.flag("ops->hdev", kdata.hdev);
    f.cookie("registered with cookie", kdata.expect);
    f.number("registrations", kdata.registered);
    f.deferred("free", &kdata.free);
}
