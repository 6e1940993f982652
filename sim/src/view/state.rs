//! A state as a list of objects with named fields: everything that the state holds, pointers as pointers.
//!
//! Not what a trace says of a step (`report::describe` leaves out what no reader of a table needs), and no picture
//! (`board` draws one from what is here). A test reads the state back from these objects: nothing is left out.

use serde::Serialize;
use struct_ops_model::kernel::{
    Func, ImageKey, KdataKey, Kernel, KsymKey, LinkKey, MapKey, Node, Subsys,
};
use struct_ops_model::lock::{Lock, LockClass};
use struct_ops_model::operation::Arg;
use struct_ops_model::table::{Key, Table};
use struct_ops_model::visit::{Flags, Visit, Visitor, Word};
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

/// Where the walk through an object is: what its fields are called.
#[derive(Clone, Debug)]
pub struct Called<'a> {
    names: &'a Names<'a>,
    /// One of several in the object, to which the fields belong; empty if there is one.
    pub of: String,
    /// The declaration whose members the fields are about.
    pub decl: u8,
    /// As declared.
    field: &'static str,
    part: &'static str,
    /// Which value of the field.
    pub n: usize,
}

impl<'a> Called<'a> {
    /// At the beginning.
    pub fn new(names: &'a Names<'a>) -> Self {
        Called {
            names,
            of: String::new(),
            decl: 0,
            field: "",
            part: "",
            n: 0,
        }
    }

    /// The next value is that of a field, or another part of the same one.
    pub fn at(&mut self, called: &'static str) {
        match called.is_empty() || called.starts_with([':', ' ']) {
            true => self.part = called,
            false => (self.field, self.part) = (called, ""),
        }
    }

    /// The name of the value at which the walk is.
    pub fn name(&self) -> String {
        let script = &self.names.world().script;
        let nth = |list: &[String]| list.get(self.n).cloned().unwrap_or_default();
        let (mut of, mut name) = (self.of.as_str(), self.field.to_string());
        if let Some((before, rest)) = self.field.split_once('{')
            && let Some((word, after)) = rest.split_once('}')
        {
            let put = match word {
                "of" => std::mem::take(&mut of).to_string(),
                "member" => self.names.member(self.decl, self.n),
                "called" => self.names.called(OpKind::Call, self.n),
                "lock" => nth(&script.locks),
                "domain" => nth(&script.domains),
                "flag" => nth(&script.flags),
                "object" => nth(&script.objects),
                _ => self.n.to_string(),
            };
            name = format!("{before}{put}{after}");
        }
        let colon = if of.is_empty() { "" } else { ": " };
        format!("{of}{colon}{name}{}", self.part)
    }
}

/// The state that is being told, and how its objects are called.
struct Teller<'a> {
    names: &'a Names<'a>,
    k: &'a Kernel,
    objects: Vec<Object>,
}

/// Fields are added to an object under construction.
struct Fields<'a, 't> {
    teller: &'t Teller<'a>,
    called: Called<'a>,
    object: Object,
}

impl Fields<'_, '_> {
    /// The value at which the walk is.
    fn push(&mut self, value: String, to: Option<Id>, at: Option<u8>, stale: bool) {
        self.object.fields.push(Field {
            name: self.called.name(),
            value,
            to,
            at,
            stale,
        });
    }

    fn text(&mut self, value: impl ToString) {
        self.push(value.to_string(), None, None, false);
    }

    fn list<'n>(&mut self, items: impl IntoIterator<Item = &'n str>) {
        let items: Vec<&str> = items.into_iter().collect();
        if !items.is_empty() {
            self.text(items.join(", "));
        }
    }

    fn mask(&mut self, mask: u8, what: &str) {
        let set = (0..8).filter(|i| mask & (1 << i) != 0);
        let set: Vec<String> = set.map(|i| format!("{what}{i}")).collect();
        self.list(set.iter().map(String::as_str));
    }

    fn pointer<T: Copy + Default, const N: usize>(
        &mut self,
        key: Option<(Kind, Key<T>)>,
        table: &Table<T, N>,
        value: impl Fn(Key<T>) -> String,
    ) {
        if let Some((kind, key)) = key {
            let stale = !table.contains(key);
            self.push(value(key), Some((kind, key).into()), None, stale);
        }
    }
}

impl Visitor for Fields<'_, '_> {
    fn field(&mut self, called: &'static str) {
        self.called.at(called);
    }

    fn nth(&mut self, n: usize) {
        self.called.n = n;
    }

    fn bits(&mut self, value: &mut u16, _: u32) {
        if *value != 0 {
            self.text(*value);
        }
    }

    fn flag(&mut self, value: &mut bool) {
        if *value {
            self.text("yes");
        }
    }

    fn each_bit(&mut self, mask: &mut u8, count: usize) {
        for n in 0..count {
            self.nth(n);
            self.flag(&mut (*mask & (1 << n) != 0));
        }
    }

    fn flags<F: Flags>(&mut self, value: &mut F, _: u32) {
        let set = F::WORDS.iter().enumerate();
        let set = set.filter(|(i, _)| value.mask() & (1 << i) != 0);
        self.list(set.map(|(_, word)| *word));
    }

    fn flag_at<F: Flags>(&mut self, _: &mut F, _: u32) {}

    fn word<W: Word>(&mut self, value: &mut W) {
        self.text(value.name());
    }

    fn mode<W: Word>(&mut self, value: &mut W) {
        if *value != W::ALL[0] {
            self.word(value);
        }
    }

    fn errno(&mut self, value: &mut i8) {
        if *value != 0 {
            self.text(errno::name(*value));
        }
    }

    fn step(&mut self, value: &mut Pc) {
        if *value != Pc::Idle {
            self.text(value.name());
        }
    }

    fn op(&mut self, value: &mut OpKind) {
        if *value != OpKind::None {
            self.text(value.name());
        }
    }

    fn rare_op(&mut self, _: &mut OpKind) {}

    fn arg(&mut self, value: &mut u8, _: Arg) {
        self.bits(&mut u16::from(*value), 0);
    }

    fn procs(&mut self, mask: &mut u8) {
        self.mask(*mask, "process");
    }

    fn cpu(&mut self, value: &mut u8) {
        if let Some(cpu) = value.checked_sub(1) {
            self.text(format!("cpu{cpu}"));
        }
    }

    fn cpus(&mut self, mask: &mut u8) {
        self.mask(*mask, "cpu");
    }

    fn cgroup(&mut self, value: &mut u8) {
        if *value != 0 {
            self.text(self.teller.names.cgroup(*value));
        }
    }

    fn subsystems(&mut self, mask: &mut u8) {
        self.mask(*mask, "subsystem");
    }

    fn cookie(&mut self, value: &mut u8) {
        if *value != 0 {
            self.text(self.teller.names.cookie(*value));
        }
    }

    fn decl(&mut self, value: &mut u8) {
        self.called.decl = *value;
        self.text(self.teller.names.decl(*value));
    }

    fn prog(&mut self, value: &mut u8) {
        if let Some(prog) = value.checked_sub(1) {
            self.text(self.teller.names.prog(usize::from(prog)));
        }
    }

    fn map(&mut self, key: &mut Option<MapKey>) {
        let Teller { names, k, .. } = self.teller;
        let key = key.map(|key| (Kind::Map, key));
        self.pointer(key, &k.maps, |key| names.map(k, key));
    }

    fn kdata(&mut self, key: &mut Option<KdataKey>) {
        let Teller { names, k, .. } = self.teller;
        let key = key.map(|key| (Kind::Kdata, key));
        self.pointer(key, &k.kdatas, |key| names.kdata(k, key));
    }

    fn link(&mut self, key: &mut Option<LinkKey>) {
        let Teller { names, k, .. } = self.teller;
        let key = key.map(|key| (Kind::Link, key));
        self.pointer(key, &k.links, |key| names.link(k, key));
    }

    fn image(&mut self, key: &mut Option<ImageKey>) {
        let Teller { names, k, .. } = self.teller;
        let key = key.map(|key| (Kind::Page, key));
        self.pointer(key, &k.images, |key| names.image(key));
    }

    fn ksym(&mut self, key: &mut Option<KsymKey>) {
        let Teller { names, k, .. } = self.teller;
        let key = key.map(|key| (Kind::Ksym, key));
        self.pointer(key, &k.ksyms, |key| names.ksym(key));
    }

    fn func(&mut self, func: &mut Func) {
        let Some(page) = func.image else { return };
        let stale = !self.teller.k.images.contains(page);
        let value = self.teller.names.func(*func);
        let to = Some((Kind::Page, page).into());
        self.push(value, to, Some(func.index), stale);
    }

    fn node(&mut self, node: &mut Node) {
        match *node {
            Node::Poison => {}
            Node::Head => self.text("list head"),
            Node::Of(key) => self.kdata(&mut Some(key)),
        }
    }

    fn there(&mut self, _: &mut bool) {}

    fn kdata_or_stubs(&mut self, key: &mut Option<KdataKey>) {
        match key {
            Some(_) => self.kdata(key),
            None => self.text(STUBS),
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
    teller.there();
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
            called: Called::new(self.names),
            object: Object::new(kind, slot, name),
        };
        fill(&mut fields);
        let object = fields.object;
        self.objects.push(object);
    }

    /// One whose fields are declared.
    fn tell<T: Visit + Copy>(&mut self, kind: Kind, slot: usize, name: String, value: &T) {
        self.add(kind, slot, name, |f| { *value }.visit(f));
    }

    /// What is there.
    fn there(&mut self) {
        let Kernel {
            maps,
            kdatas,
            links,
            images,
            ksyms,
            progs,
            socks,
            subsys,
            module,
            locks,
            cpus,
            procs,
            alloc_failures,
            dead,
        } = self.k;
        let (names, world) = (self.names, self.names.world());
        for (i, cpu) in cpus.iter().enumerate().take(world.tasks()) {
            self.tell(Kind::Cpu, i, format!("cpu{i}"), cpu);
        }
        // Those that are held within one step only are never seen held.
        for (i, (class, holder)) in LockClass::ALL.iter().zip(locks).enumerate() {
            self.add(Kind::Lock, i, class.name().into(), |f| {
                f.field("holder");
                f.holder(&mut { *holder });
            });
        }
        for (i, sock) in socks.iter().enumerate() {
            self.tell(Kind::Sock, i, format!("socket {i}"), sock);
        }
        self.subsystems(subsys);
        for (i, prog) in progs.iter().enumerate().take(world.progs.len()) {
            self.tell(Kind::Prog, i, names.prog(i), prog);
        }
        for (i, proc) in procs.iter().enumerate().take(usize::from(world.procs)) {
            self.tell(Kind::Proc, i, format!("process{i}"), proc);
        }
        self.tell(Kind::Module, 0, "module".into(), module);
        self.add(Kind::Model, 0, "model".into(), |f| {
            f.field("allocations that may fail");
            f.refs(&mut { *alloc_failures });
            f.field("nothing follows");
            f.flag(&mut { *dead });
        });
        for (key, link) in links.iter() {
            self.tell(Kind::Link, key.slot(), names.link(self.k, key), link);
        }
        for (key, map) in maps.iter() {
            self.tell(Kind::Map, key.slot(), names.map(self.k, key), map);
        }
        for (key, kdata) in kdatas.iter() {
            self.tell(Kind::Kdata, key.slot(), names.kdata(self.k, key), kdata);
        }
        for (key, page) in images.iter() {
            self.tell(Kind::Page, key.slot(), names.image(key), page);
        }
        for (key, ksym) in ksyms.iter() {
            self.tell(Kind::Ksym, key.slot(), names.ksym(key), ksym);
        }
    }

    fn subsystems(&mut self, subsys: &Subsys) {
        let Subsys {
            mut tcp_next,
            mut tcp_prev,
            scx,
            mut regs,
            own,
            cgroups,
            hid,
            rings,
        } = *subsys;
        let world = self.names.world();
        self.add(Kind::Subsys, 0, "tcp_cong_list".into(), |f| {
            f.field("next");
            f.node(&mut tcp_next);
            f.field("prev");
            f.node(&mut tcp_prev);
        });
        self.add(Kind::Subsys, 1, "registrations".into(), |f| {
            f.field("{}");
            f.regs(&mut regs);
        });
        if world.has_hid_device() {
            self.tell(Kind::Subsys, HID, "hdev->bpf".into(), &hid);
        }
        self.tell(Kind::Subsys, 2, "sched_ext".into(), &scx);
        if !world.script.subsystems.is_empty() {
            self.tell(Kind::Subsys, OWN, "of the scenario".into(), &own);
        }
        if !world.cgroups.is_empty() {
            self.add(Kind::Subsys, CGROUPS, "cgroups".into(), |f| {
                for (decl, mut cgroup) in world.cgroups.iter().zip(cgroups) {
                    f.called.of = decl.name.clone();
                    cgroup.visit(f);
                }
            });
        }
        if world.has_rings() {
            self.add(Kind::Subsys, RINGS, "rings".into(), |f| {
                for (i, mut ring) in rings.into_iter().enumerate() {
                    f.called.of = format!("ring {i}");
                    ring.visit(f);
                }
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
