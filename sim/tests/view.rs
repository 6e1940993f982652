//! What a page shows is the model's state: it is read back from the JSON that the page is given, and compared field by
//! field with the state itself, over random worlds, designs and runs.

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use serde_json::Value;
use struct_ops_model::kernel::{
    CpuId, Func, ImageKey, KdataKey, Kernel, KsymKey, LinkKey, MapKey, Node,
};
use struct_ops_model::lock::{Lock, LockClass};
use struct_ops_model::operation::Arg;
use struct_ops_model::table::{Key, Table};
use struct_ops_model::visit::{Flags, Visit, Visitor, Word};
use struct_ops_model::world::{OpKind, World};
use struct_ops_model::{Design, Machine, Pc, Wait, errno};
use struct_ops_sim::random;
use struct_ops_sim::report::names::Names;
use struct_ops_sim::report::screen::Screen;
use struct_ops_sim::scenario::{Scenario, Words, emit};
use struct_ops_sim::schedule::{self, Chooser};
use struct_ops_sim::view::state::{CGROUPS, Called, HID, OWN, RINGS, STUBS};
use struct_ops_sim::view::{Played, Run, board};
use struct_ops_sim::walk::{self, Walked as _};

/// An object of the page, of which what has been read is taken away: what is left in the end was not expected.
struct Shown<'a> {
    world: &'a World,
    called: Called<'a>,
    fields: BTreeMap<String, &'a Value>,
}

impl<'a> Shown<'a> {
    fn new(names: &'a Names<'a>, object: &'a Value) -> Self {
        let fields = object["fields"].as_array().unwrap();
        let name = |f: &'a Value| (f["name"].as_str().unwrap().to_string(), f);
        let shown = Shown {
            world: names.world(),
            called: Called::new(names),
            fields: fields.iter().map(name).collect(),
        };
        assert_eq!(shown.fields.len(), fields.len(), "{object}: a field twice");
        shown
    }

    fn read<T: Visit + Default>(&mut self) -> T {
        let mut value = T::default();
        value.visit(self);
        value
    }

    /// The value at which the walk is.
    fn take(&mut self) -> Option<&'a Value> {
        self.fields.remove(&self.called.name())
    }

    fn text(&mut self) -> Option<&'a str> {
        self.take().map(|f| f["value"].as_str().unwrap())
    }

    fn words(&mut self) -> impl Iterator<Item = &'a str> {
        let text = self.text();
        text.into_iter().flat_map(|t| t.split(", "))
    }

    fn plain(&mut self) -> u16 {
        self.text().map_or(0, |v| v.parse().unwrap())
    }

    fn yes(&mut self) -> bool {
        self.text().is_some_and(|v| v == "yes")
    }

    fn mask(&mut self, what: &str) -> u8 {
        let bit = |item: &str| 1 << item.strip_prefix(what).unwrap().parse::<u8>().unwrap();
        self.words().map(bit).sum()
    }

    fn key<T>(&mut self, kind: &str) -> Option<Key<T>> {
        let field = self.take()?;
        let to = field["to"].as_str().unwrap();
        let slot = to
            .strip_prefix(kind)
            .unwrap_or_else(|| panic!("{to} is no {kind}"));
        Some(Key::new(slot.parse().unwrap()))
    }

    /// What the value is, of which the page has the text, or nothing.
    fn value(&self) -> Option<&'a Value> {
        self.fields.get(&self.called.name()).map(|f| &f["value"])
    }
}

impl Visitor for Shown<'_> {
    fn field(&mut self, called: &'static str) {
        self.called.at(called);
    }

    fn nth(&mut self, n: usize) {
        self.called.n = n;
    }

    fn bits(&mut self, value: &mut u16, _: u32) {
        *value = self.plain();
    }

    fn flag(&mut self, value: &mut bool) {
        *value = self.yes();
    }

    fn each_bit(&mut self, mask: &mut u8, count: usize) {
        for n in 0..count {
            self.nth(n);
            *mask |= u8::from(self.yes()) << n;
        }
    }

    fn flags<F: Flags>(&mut self, value: &mut F, _: u32) {
        let place = |item: &str| F::WORDS.iter().position(|w| *w == item).unwrap();
        *value = F::of_mask(self.words().map(|item| 1 << place(item)).sum());
    }

    fn flag_at<F: Flags>(&mut self, _: &mut F, _: u32) {}

    fn word<W: Word>(&mut self, value: &mut W) {
        let name = self.text().unwrap();
        *value = *W::ALL.iter().find(|w| w.name() == name).unwrap();
    }

    fn mode<W: Word>(&mut self, value: &mut W) {
        if self.value().is_some() {
            self.word(value);
        }
    }

    fn errno(&mut self, value: &mut i8) {
        if let Some(name) = self.text() {
            let mut all = i8::MIN..=i8::MAX;
            *value = all.find(|e| errno::name(*e) == name).unwrap();
        }
    }

    fn step(&mut self, value: &mut Pc) {
        if let Some(name) = self.text() {
            *value = *Pc::ALL.iter().find(|pc| pc.name() == name).unwrap();
        }
    }

    fn op(&mut self, value: &mut OpKind) {
        if let Some(name) = self.text() {
            *value = OpKind::from_name(name).unwrap();
        }
    }

    fn rare_op(&mut self, _: &mut OpKind) {}

    fn arg(&mut self, value: &mut u8, _: Arg) {
        *value = self.plain() as u8;
    }

    fn procs(&mut self, mask: &mut u8) {
        *mask = self.mask("process");
    }

    fn cpu(&mut self, value: &mut u8) {
        let cpu = self.text().map(|v| v.strip_prefix("cpu").unwrap());
        *value = cpu.map_or(0, |cpu| 1 + cpu.parse::<u8>().unwrap());
    }

    fn cpus(&mut self, mask: &mut u8) {
        *mask = self.mask("cpu");
    }

    fn cgroup(&mut self, value: &mut u8) {
        let place = |name: &str| self.world.cgroups.iter().position(|c| c.name == name);
        *value = self.text().map_or(0, |name| 1 + place(name).unwrap() as u8);
    }

    fn subsystems(&mut self, mask: &mut u8) {
        *mask = self.mask("subsystem");
    }

    fn cookie(&mut self, value: &mut u8) {
        let text = self.text().map(|v| v.strip_prefix("0x").unwrap());
        let place = |cookie: u64| self.world.cookies.iter().position(|c| *c == cookie);
        *value = text.map_or(0, |v| {
            place(u64::from_str_radix(v, 16).unwrap()).unwrap() as u8
        });
    }

    fn decl(&mut self, value: &mut u8) {
        let name = self.text().unwrap();
        *value = self.world.maps.iter().position(|m| m.name == name).unwrap() as u8;
        self.called.decl = *value;
    }

    fn prog(&mut self, value: &mut u8) {
        let place = |name: &str| self.world.progs.iter().position(|p| p.name == name);
        *value = self.text().map_or(0, |name| 1 + place(name).unwrap() as u8);
    }

    fn map(&mut self, key: &mut Option<MapKey>) {
        *key = self.key("map");
    }

    fn kdata(&mut self, key: &mut Option<KdataKey>) {
        *key = self.key("kdata");
    }

    fn link(&mut self, key: &mut Option<LinkKey>) {
        *key = self.key("link");
    }

    fn image(&mut self, key: &mut Option<ImageKey>) {
        *key = self.key("page");
    }

    fn ksym(&mut self, key: &mut Option<KsymKey>) {
        *key = self.key("ksym");
    }

    fn func(&mut self, func: &mut Func) {
        let shown = self.fields.get(&self.called.name());
        func.index = shown.map_or(0, |f| f["at"].as_u64().unwrap() as u8);
        self.image(&mut func.image);
    }

    fn node(&mut self, node: &mut Node) {
        *node = match self.value() {
            None => Node::Poison,
            Some(value) if value == "list head" => {
                self.take();
                Node::Head
            }
            Some(_) => Node::Of(self.key("kdata").unwrap()),
        }
    }

    fn there(&mut self, there: &mut bool) {
        *there = self.value().is_some();
    }

    fn kdata_or_stubs(&mut self, key: &mut Option<KdataKey>) {
        *key = match self.value() {
            Some(value) if value == STUBS => self.take().and(None),
            _ => self.key("kdata"),
        }
    }
}

/// A table with these objects, and slots that are gone but still pointed to.
fn table<T: Copy + Default, const N: usize>(live: &[(usize, T)], gone: &[usize]) -> Table<T, N> {
    let mut table = Table::default();
    let top = live.iter().map(|l| l.0).chain(gone.iter().copied()).max();
    for slot in 0..top.map_or(0, |top| top + 1) {
        let found = live.iter().find(|l| l.0 == slot);
        let key = table.insert(found.map_or(T::default(), |l| l.1)).unwrap();
        assert_eq!(key.slot(), slot);
    }
    for slot in 0..top.map_or(0, |top| top + 1) {
        if !live.iter().any(|l| l.0 == slot) {
            table.remove(Key::new(slot));
            if !gone.contains(&slot) {
                table.release(Key::new(slot));
            }
        }
    }
    table
}

/// The state that the objects of a page tell.
fn read(names: &Names<'_>, objects: &BTreeMap<String, Value>) -> Kernel {
    let world = names.world();
    let mut k = Kernel::default();
    let (mut maps, mut links, mut kdatas, mut pages, mut ksyms) =
        (vec![], vec![], vec![], vec![], vec![]);
    let mut gone: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (id, object) in objects {
        let kind = object["kind"].as_str().unwrap();
        let slot: usize = id.strip_prefix(kind).unwrap().parse().unwrap();
        if object.get("gone").is_some() {
            gone.entry(kind).or_default().push(slot);
            continue;
        }
        let mut o = Shown::new(names, object);
        match kind {
            "map" => maps.push((slot, o.read())),
            "link" => links.push((slot, o.read())),
            "kdata" => kdatas.push((slot, o.read())),
            "page" => pages.push((slot, o.read())),
            "ksym" => ksyms.push((slot, o.read())),
            "cpu" => k.cpus[slot] = o.read(),
            "lock" => {
                o.field("holder");
                o.holder(&mut k.locks[slot]);
            }
            "sock" => k.socks[slot] = o.read(),
            "prog" => k.progs[slot] = o.read(),
            "proc" => k.procs[slot] = o.read(),
            "module" => k.module = o.read(),
            "model" => {
                o.field("allocations that may fail");
                k.alloc_failures = o.plain() as u8;
                o.field("nothing follows");
                o.flag(&mut k.dead);
            }
            "subsys" if slot == 0 => {
                o.field("next");
                o.node(&mut k.subsys.tcp_next);
                o.field("prev");
                o.node(&mut k.subsys.tcp_prev);
            }
            "subsys" if slot == 1 => {
                o.field("{}");
                o.regs(&mut k.subsys.regs);
            }
            "subsys" if slot == OWN => k.subsys.own = o.read(),
            "subsys" if slot == CGROUPS => {
                for (decl, cgroup) in world.cgroups.iter().zip(&mut k.subsys.cgroups) {
                    o.called.of = decl.name.clone();
                    *cgroup = o.read();
                }
            }
            "subsys" if slot == HID => k.subsys.hid = o.read(),
            "subsys" if slot == RINGS => {
                for (i, ring) in k.subsys.rings.iter_mut().enumerate() {
                    o.called.of = format!("ring {i}");
                    *ring = o.read();
                }
            }
            "subsys" => k.subsys.scx = o.read(),
            other => panic!("{other}: what is that?"),
        }
        assert!(
            o.fields.is_empty(),
            "{id} shows more than there is: {:?}",
            o.fields
        );
    }
    let gone = |kind: &str| gone.get(kind).cloned().unwrap_or_default();
    k.maps = table(&maps, &gone("map"));
    k.links = table(&links, &gone("link"));
    k.kdatas = table(&kdatas, &gone("kdata"));
    k.images = table(&pages, &gone("page"));
    k.ksyms = table(&ksyms, &gone("ksym"));
    k
}

/// Every state of a run, as a page that adds up the differences has it.
fn shown(view: &Value) -> Vec<(BTreeMap<String, Value>, BTreeMap<String, String>)> {
    let (mut objects, mut shapes) = (BTreeMap::new(), BTreeMap::new());
    let mut states = Vec::new();
    for frame in view["frames"].as_array().unwrap() {
        for object in frame["set"].as_array().unwrap() {
            let id = object["id"].as_str().unwrap().to_string();
            let before = objects.insert(id, object.clone());
            assert_ne!(before.as_ref(), Some(object), "nothing has changed");
        }
        for id in frame["drop"].as_array().unwrap() {
            assert!(objects.remove(id.as_str().unwrap()).is_some(), "{id}");
        }
        for shape in frame["draw"].as_array().unwrap() {
            let text = |key: &str| shape[key].as_str().unwrap().to_string();
            shapes.insert(text("id"), text("svg"));
        }
        for id in frame["erase"].as_array().unwrap() {
            assert!(shapes.remove(id.as_str().unwrap()).is_some(), "{id}");
        }
        states.push((objects.clone(), shapes.clone()));
    }
    states
}

/// Compares a run with what is shown of it.
fn agrees(run: &Run<'_>) {
    let names = Names::new(&run.scenario.world);
    let view = serde_json::to_value(run.view(&Screen::plain(80), board::ALONE)).unwrap();
    let shown = shown(&view);
    let machine = walk::attach(run.scenario, run.design).unwrap();
    assert_eq!(shown.len(), run.states().len());
    for (i, (k, (objects, shapes))) in run.states().iter().zip(&shown).enumerate() {
        let read = read(&names, objects);
        // In parts, so that a difference can be read.
        assert_eq!(read.cpus, k.cpus, "step {i}");
        assert_eq!(read.maps, k.maps, "step {i}");
        assert_eq!(read.links, k.links, "step {i}");
        assert_eq!(read.kdatas, k.kdatas, "step {i}");
        assert_eq!(read.subsys, k.subsys, "step {i}");
        assert_eq!(read, *k, "step {i}");
        drawn(objects, shapes);
        waited_for(&machine, k, objects, shapes);
    }
    let path = view["path"].as_str().unwrap();
    let path = walk::read_path(path).unwrap();
    assert_eq!(machine.chosen(&path), Ok(run.trace.actions()));
}

/// The picture shows every pointer to something that is gone, and every function pointer.
fn drawn(objects: &BTreeMap<String, Value>, shapes: &BTreeMap<String, String>) {
    for (id, object) in objects {
        for field in object["fields"].as_array().unwrap() {
            let Some(to) = field["to"].as_str() else {
                continue;
            };
            let stale = field["stale"] == true;
            assert_eq!(
                stale,
                objects.get(to).is_none_or(|o| o["gone"] == true),
                "{id} {field}"
            );
            let name = field["name"].as_str().unwrap();
            let shape = match object["kind"] == "cpu" {
                true => {
                    let tag = format!("{id}@{to}");
                    shapes
                        .iter()
                        .find(|(id, _)| id.starts_with(&tag))
                        .map(|s| s.1)
                }
                false => shapes.get(&format!("{id}.{name}")),
            };
            if stale || field.get("at").is_some() || object["kind"] == "cpu" {
                let svg = shape.unwrap_or_else(|| panic!("{id} {name} is not drawn"));
                assert_eq!(svg.contains("stale"), stale, "{svg}");
            }
        }
    }
}

/// Every lock that is held is drawn with its holder, and with each CPU that waits for it; readers and grace periods are
/// drawn with whom they wait for.
fn waited_for(
    machine: &Machine,
    k: &Kernel,
    objects: &BTreeMap<String, Value>,
    shapes: &BTreeMap<String, String>,
) {
    let class = |class: LockClass| ("locks".to_string(), class.name().to_string());
    for cpu in 0..machine.world.cpus.len() as CpuId {
        let (shape, holder, name) = match machine.waits_for(k, cpu) {
            Some(Wait::Lock(lock, holder)) => {
                let (shape, name) = match lock {
                    Lock::Map(key) => (format!("map{}", key.slot()), String::new()),
                    Lock::Sock(sock) => (format!("sock{sock}"), String::new()),
                    Lock::Ring(ring) => (format!("subsys{RINGS}"), format!("ring {ring}")),
                    Lock::The(the) => class(the),
                    Lock::Own(own) => {
                        let name = machine.world.script.locks[usize::from(own)].clone();
                        (format!("subsys{OWN}"), name)
                    }
                    Lock::Prog(prog) => unreachable!("program {prog}: no step ends with its mutex"),
                };
                (shape, holder, name)
            }
            Some(Wait::GracePeriod(_)) => {
                let rcu = &shapes["rcus"];
                assert!(rcu.contains(&format!(", cpu{cpu} ← cpu")), "{rcu}");
                continue;
            }
            _ => continue,
        };
        WAITERS.fetch_add(1, Relaxed);
        let svg = &shapes[&shape];
        let line = svg.split("<text").find(|line| {
            let who = line.contains(&format!("cpu{holder} ← "));
            who && line.contains(&format!("cpu{cpu}")) && line.contains(&name)
        });
        assert!(line.is_some(), "cpu{cpu} waits for cpu{holder}: {svg}");
    }
    for (id, object) in objects {
        let value = |name: &str| {
            let fields = object["fields"].as_array().unwrap();
            let field = fields.iter().find(|f| f["name"] == name)?;
            field["value"].as_str()
        };
        let named = object["name"].as_str().unwrap();
        let holds = |shape: &str, who: &str| {
            assert!(shapes[shape].contains(&format!("■ {who}")), "{id} {shape}");
        };
        match object["kind"].as_str().unwrap() {
            "lock" => value("holder").into_iter().for_each(|h| holds("locks", h)),
            "map" => value("lock").into_iter().for_each(|h| holds(id, h)),
            "sock" => value("lock_sock").into_iter().for_each(|h| holds(id, h)),
            "cpu" if value("rcu_read_lock").is_some() => {
                assert!(shapes["rcus"].contains(named), "{id}");
            }
            _ => {}
        }
        let period = value("free").is_some_and(|stage| stage.starts_with("a grace period"));
        assert!(!period || shapes["rcus"].contains(named), "{id}");
    }
}

/// How many CPUs waited for a lock in all runs of this test.
static WAITERS: AtomicUsize = AtomicUsize::new(0);

fn scenario(name: &str, world: &World) -> Scenario {
    let words = Words {
        title: "Random",
        question: "What is shown?",
        source: "-",
    };
    Scenario::parse(name, name, &emit(words, world)).unwrap()
}

#[test]
fn random_runs_are_shown_as_they_are() {
    for seed in 0..48 {
        let scenario = scenario("random", &random::world(seed));
        let designs = Design::attach_paths();
        let design = &designs[seed as usize % designs.len()];
        let machine = walk::attach(&scenario, design).unwrap();
        let actions = schedule::run(&machine, &mut Chooser::new(Some(seed)));
        agrees(&Run::new(&scenario, design, &actions).unwrap());
    }
}

#[test]
fn runs_of_every_scenario_are_shown_as_they_are() {
    for (i, scenario) in common::all().into_iter().enumerate() {
        // Two of them for each scenario: all of them together have every design a dozen times.
        let designs = Design::attach_paths();
        for design in [&designs[i % 4], &designs[(i + 1) % 4]] {
            if !scenario.runs_under(design) {
                continue;
            }
            let Ok(machine) = walk::attach(&scenario, design) else {
                continue;
            };
            for seed in 1..4 {
                let actions = schedule::run(&machine, &mut Chooser::new(Some(seed)));
                agrees(&Run::new(&scenario, design, &actions).unwrap());
            }
        }
    }
    let waiters = WAITERS.load(Relaxed);
    assert!(waiters > 100, "{waiters}: nobody waits for a lock");
}

#[test]
fn paths_read_back() {
    for path in [vec![], vec![0, 1, 35], vec![36, 0, 40], vec![1, 1000]] {
        assert_eq!(walk::read_path(&walk::write_path(&path)), Ok(path));
    }
    assert_eq!(walk::write_path(&[0, 35, 36, 2]), "0z_36_2");
    for wrong in ["-", "A", "_", "_x_", "0_1", "0.1", "é"] {
        assert!(walk::read_path(wrong).is_err(), "{wrong}");
    }
    assert!(walk::read_path(&"0".repeat(100_000)).is_err());
}
