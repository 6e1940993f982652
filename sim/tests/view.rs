//! What a page shows is the model's state: it is read back from the JSON that the page is given, and compared field by
//! field with the state itself, over random worlds, designs and runs.

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use serde_json::Value;
use struct_ops_model::assoc::Assoc;
use struct_ops_model::kernel::{
    CgroupState, Code, Cpu, CpuId, Deferred, Dirty, Func, Holds, Image, InList, Item, ItemArray,
    Kdata, Kernel, Ksym, Link, Map, MapState, MoreFds, Node, Reg, ScxState, Seen, Stage,
};
use struct_ops_model::lock::{Lock, LockClass};
use struct_ops_model::table::{Key, Table};
use struct_ops_model::world::{OpKind, World};
use struct_ops_model::{Design, Machine, Pc, Wait, errno};
use struct_ops_sim::random;
use struct_ops_sim::report::screen::Screen;
use struct_ops_sim::scenario::{Scenario, Words, emit};
use struct_ops_sim::schedule::{self, Chooser};
use struct_ops_sim::view::state::{
    CGROUPS, DIRTY, HID, HOLDS, OWN, RINGS, SCX, SEEN, STUBS, uring_lock,
};
use struct_ops_sim::view::{self, Played, Run, board};

/// An object of the page, and what has been read of it.
struct Shown<'a> {
    world: &'a World,
    fields: BTreeMap<String, &'a Value>,
}

impl<'a> Shown<'a> {
    fn new(world: &'a World, object: &'a Value) -> Self {
        let fields = object["fields"].as_array().unwrap();
        let name = |f: &'a Value| (f["name"].as_str().unwrap().to_string(), f);
        let shown = Shown {
            world,
            fields: fields.iter().map(name).collect(),
        };
        assert_eq!(shown.fields.len(), fields.len(), "{object}: a field twice");
        shown
    }

    /// Takes a field: what is left in the end was not expected.
    fn take(&mut self, name: &str) -> Option<&'a Value> {
        self.fields.remove(name)
    }

    fn text(&mut self, name: &str) -> Option<&'a str> {
        self.take(name).map(|f| f["value"].as_str().unwrap())
    }

    fn number<T: TryFrom<i64>>(&mut self, name: &str) -> T
    where
        T::Error: std::fmt::Debug,
    {
        let value: i64 = self.text(name).map_or(0, |v| v.parse().unwrap());
        value.try_into().unwrap()
    }

    fn flag(&mut self, name: &str) -> bool {
        self.text(name).is_some_and(|v| v == "yes")
    }

    fn key<T>(&mut self, name: &str, kind: &str) -> Option<Key<T>> {
        let field = self.take(name)?;
        let to = field["to"].as_str().unwrap();
        let slot = to
            .strip_prefix(kind)
            .unwrap_or_else(|| panic!("{to} is no {kind}"));
        Some(Key::new(slot.parse().unwrap()))
    }

    fn func(&mut self, name: &str) -> Func {
        let at = self
            .fields
            .get(name)
            .map_or(0, |f| f["at"].as_u64().unwrap() as u8);
        Func {
            image: self.key(name, "page"),
            index: at,
        }
    }

    fn node(&mut self, name: &str) -> Node {
        match self.fields.get(name) {
            None => Node::Poison,
            Some(f) if f["value"] == "list head" => {
                self.take(name);
                Node::Head
            }
            Some(_) => Node::Of(self.key(name, "kdata").unwrap()),
        }
    }

    fn cpu(&mut self, name: &str) -> Option<u8> {
        self.text(name)
            .map(|v| v.strip_prefix("cpu").unwrap().parse().unwrap())
    }

    fn mask(&mut self, name: &str, what: &str) -> u8 {
        let text = self.text(name);
        let items = text.into_iter().flat_map(|t| t.split(", "));
        let bit = |item: &str| 1 << item.strip_prefix(what).unwrap().parse::<u8>().unwrap();
        items.map(bit).sum()
    }

    fn bits(&mut self, name: &str, words: &[&str]) -> u16 {
        let text = self.text(name);
        let items = text.into_iter().flat_map(|t| t.split(", "));
        items
            .map(|item| 1 << words.iter().position(|w| *w == item).unwrap())
            .sum()
    }

    fn cookie(&mut self, name: &str) -> u8 {
        let Some(text) = self.text(name) else {
            return 0;
        };
        let value = u64::from_str_radix(text.strip_prefix("0x").unwrap(), 16).unwrap();
        let cookies = self.world.cookies.iter();
        cookies.clone().position(|c| *c == value).unwrap() as u8
    }

    fn deferred(&mut self, name: &str) -> Deferred {
        let stage = self.text(name).map_or(Stage::None, |name| {
            let found = Stage::ALL.into_iter().find(|s| s.name() == name);
            found.unwrap()
        });
        let rcu = if stage == Stage::Srcu { "SRCU" } else { "RCU" };
        Deferred {
            stage,
            rcu: self.mask(&format!("{name}: readers of {rcu}"), "cpu"),
            tasks: self.mask(&format!("{name}: readers of Tasks RCU"), "cpu"),
            trace: self.mask(&format!("{name}: readers of Tasks Trace RCU"), "cpu"),
        }
    }

    fn step(&mut self, name: &str) -> Pc {
        let name = self.text(name);
        name.map_or(Pc::Idle, |name| {
            *Pc::ALL.iter().find(|pc| pc.name() == name).unwrap()
        })
    }

    fn decl(&mut self) -> u8 {
        let name = self.text("declaration").unwrap();
        self.world.maps.iter().position(|m| m.name == name).unwrap() as u8
    }

    fn members(&self, decl: u8) -> Vec<String> {
        let ty = self.world.maps[usize::from(decl)].ty;
        self.world.types[ty]
            .members
            .iter()
            .map(|m| m.name.clone())
            .collect()
    }

    fn prog(&mut self, name: &str) -> u8 {
        let name = self.text(name);
        name.map_or(0, |n| {
            1 + self.world.progs.iter().position(|p| p.name == n).unwrap() as u8
        })
    }

    fn more_fds(&mut self) -> MoreFds {
        let mut more = MoreFds::default();
        for (proc, n) in more.0.iter_mut().enumerate() {
            *n = self.number(&format!("further fds of process {proc}"));
        }
        more
    }

    fn cgroup(&mut self, name: &str) -> u8 {
        let name = self.text(name);
        name.map_or(0, |name| {
            let mut cgroups = self.world.cgroups.iter();
            1 + cgroups.position(|c| c.name == name).unwrap() as u8
        })
    }

    fn items(&mut self, name: &str) -> ItemArray {
        std::array::from_fn(|i| {
            let name = format!("{name} {i}");
            let field = self.fields.get(&name)?;
            let kdata = match field["value"] == STUBS {
                true => {
                    self.take(&name);
                    None
                }
                false => self.key(&name, "kdata"),
            };
            Some(Item {
                kdata,
                expect: self.cookie(&format!("{name}: cookie")),
                bpf_cookie: self.cookie(&format!("{name}: bpf_cookie")),
            })
        })
    }

    fn link(&mut self) -> Link {
        Link {
            name: self.number("name"),
            cookie: self.cookie("cookie"),
            map: self.key("map", "map"),
            attachment: self.key("attachment", "kdata"),
            refs: self.number("refs"),
            fds: self.mask("fds", "process"),
            more: self.more_fds(),
            pinned: self.flag("pinned"),
            id: self.flag("link_idr has it"),
            queued: self.flag("bpf_link_put_deferred() is queued"),
            cgroup: self.cgroup("cgroup"),
        }
    }

    fn map(&mut self) -> Map {
        let decl = self.decl();
        let state = self.text("state").unwrap();
        let mut map = Map {
            decl,
            state: MapState::ALL
                .into_iter()
                .find(|s| s.name() == state)
                .unwrap(),
            lock: self.cpu("lock"),
            refs: self.number("refs"),
            fds: self.mask("fds", "process"),
            more: self.more_fds(),
            pinned: self.flag("pinned"),
            kdata: self.key("kvalue", "kdata"),
            free: self.deferred("free"),
            ..Map::default()
        };
        for (i, member) in self.members(decl).iter().enumerate() {
            map.filled |= u8::from(self.flag(&format!("{member}: program"))) << i;
            map.link_cookies[i] = self.cookie(&format!("{member}: cookie"));
        }
        map
    }

    fn kdata(&mut self) -> Kdata {
        let decl = self.decl();
        let mut kdata = Kdata {
            decl,
            attachment: self.flag("attachment"),
            map: self.key("map", "map"),
            refs: self.number("refs"),
            next: self.node("list.next"),
            prev: self.node("list.prev"),
            hdev: self.flag("ops->hdev"),
            expect: self.cookie("registered with cookie"),
            registered: self.number("registrations"),
            free: self.deferred("free"),
            ..Kdata::default()
        };
        for (i, member) in self.members(decl).iter().enumerate() {
            kdata.func[i] = self.func(member);
            kdata.ksyms[i] = self.key(&format!("{member}: ksym"), "ksym");
        }
        for (i, page) in kdata.pages.iter_mut().enumerate() {
            *page = self.key(&format!("image_pages[{i}]"), "page");
        }
        kdata
    }

    fn page(&mut self) -> Image {
        let mut image = Image {
            protected: self.flag("executable"),
            fill: self.number("bytes"),
            ..Image::default()
        };
        for (i, code) in image.code.iter_mut().enumerate() {
            *code = Code {
                prog: self.prog(&format!("[{i}]")),
                cookie: self.cookie(&format!("[{i}]: cookie")),
            };
        }
        image
    }

    fn ksym(&mut self) -> Ksym {
        Ksym {
            func: self.func("func"),
            listed: self.flag("listed"),
        }
    }

    fn processor(&mut self) -> Cpu {
        let mut c = Cpu {
            op: OpKind::None,
            pc: self.step("step"),
            line: self.number("line"),
            ret: self.step("returns to"),
            call_ret: self.step("call returns to"),
            map: self.key("map", "map"),
            old: self.key("old map", "map"),
            link: self.key("link", "link"),
            kdata: self.key("kdata", "kdata"),
            old_kdata: self.key("old kdata", "kdata"),
            attachment: self.key("attachment", "kdata"),
            old_attachment: self.key("old attachment", "kdata"),
            image: self.key("page", "page"),
            func: self.func("function pointer"),
            arg: self.number("argument"),
            member: self.number("member"),
            cookie: self.cookie("cookie"),
            expect: self.cookie("cookie to be read"),
            run_ctx: self.cookie("run_ctx.bpf_cookie"),
            prog: self.prog("program"),
            holds: Holds::from_bits_retain(self.bits("holds references", &HOLDS) as u8),
            dirty: Dirty::from_bits_retain(self.bits("has changed", &DIRTY) as u8),
            seen: Seen::from_bits_retain(self.bits("has met", &SEEN)),
            wait: self.deferred("waits"),
            position: self.number("operations done"),
            ..Cpu::default()
        };
        if let Some(name) = self.text("operation") {
            c.op = OpKind::from_name(name).unwrap();
        }
        if let Some(name) = self.text("result") {
            c.err = (i8::MIN..=i8::MAX)
                .find(|e| errno::name(*e) == name)
                .unwrap();
        }
        c.cgroup = self.cgroup("cgroup");
        c.list_position = self.number("position in the list");
        c.walk.cgroup = self.cgroup("walks the array of");
        c.walk.next = self.number("items behind it");
        c.walk.replaced = self.flag("the array has been replaced");
        c.walk.array = self.items("old item");
        c.asked = self.key("the struct that the program has found", "kdata");
        c.walk.bpf_cookie = self.cookie("the walk's run_ctx.bpf_cookie");
        c.ring = self.number("ring, plus 1");
        c.readers.rcu = self.number("rcu_read_lock");
        c.readers.trace = self.number("rcu_read_lock_trace");
        c.readers.tasks = self.flag("Tasks RCU reader");
        c
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
fn read(world: &World, objects: &BTreeMap<String, Value>) -> Kernel {
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
        let mut o = Shown::new(world, object);
        match kind {
            "map" => maps.push((slot, o.map())),
            "link" => links.push((slot, o.link())),
            "kdata" => kdatas.push((slot, o.kdata())),
            "page" => pages.push((slot, o.page())),
            "ksym" => ksyms.push((slot, o.ksym())),
            "cpu" => k.cpus[slot] = o.processor(),
            "lock" => k.locks[slot] = o.cpu("holder"),
            "sock" => {
                k.socks[slot].kdata = o.key("icsk_ca_ops", "kdata");
                k.socks[slot].expect = o.cookie("attached with cookie");
                k.socks[slot].busy = o.cpu("lock_sock");
                k.socks[slot].fds = o.mask("fds", "process");
            }
            "prog" => {
                k.progs[slot].refs = o.number("refs");
                k.progs[slot].fds = o.mask("fds", "process");
                k.progs[slot].freed = o.flag("freed");
                k.progs[slot].free = o.deferred("free");
                k.progs[slot].armed = o.flag("its callback is started");
                k.progs[slot].assoc = match (
                    o.key("st_ops_assoc", "map"),
                    o.flag("st_ops_assoc is POISON"),
                ) {
                    (Some(map), _) => Assoc::Map(map),
                    (None, true) => Assoc::Poison,
                    (None, false) => Assoc::None,
                };
            }
            "proc" => {
                k.procs[slot].exiting = o.flag("exiting");
                k.procs[slot].exited = o.flag("gone");
            }
            "module" => {
                k.module.refs = o.number("refs");
                k.module.unloaded = o.flag("unloaded");
            }
            "model" => {
                k.alloc_failures = o.number("allocations that may fail");
                k.dead = o.flag("nothing follows");
            }
            "subsys" if slot == 0 => {
                k.subsys.tcp_next = o.node("next");
                k.subsys.tcp_prev = o.node("prev");
            }
            "subsys" if slot == 1 => {
                for (i, place) in k.subsys.regs.iter_mut().enumerate() {
                    let Some(kdata) = o.key(&i.to_string(), "kdata") else {
                        continue;
                    };
                    *place = Some(Reg {
                        kdata,
                        slot: o.number(&format!("{i}: slot")),
                        expect: o.cookie(&format!("{i}: attached with cookie")),
                        link: o.key(&format!("{i}: link"), "link"),
                    });
                }
            }
            "subsys" if slot == OWN => {
                let (script, own) = (&world.script, &mut k.subsys.own);
                for (i, lock) in script.locks.iter().enumerate() {
                    own.locks[i] = o.cpu(&format!("lock {lock}"));
                    own.shared[i] = o.mask(&format!("lock {lock}: readers"), "cpu");
                }
                for (i, domain) in script.domains.iter().enumerate() {
                    own.readers[i] = o.mask(&format!("readers of {domain}"), "cpu");
                }
                for (i, flag) in script.flags.iter().enumerate() {
                    own.flags |= u8::from(o.flag(&format!("flag {flag}"))) << i;
                }
                for (i, object) in script.objects.iter().enumerate() {
                    own.objects[i] = o.number(&format!("objects {object}"));
                }
                for (i, kdata) in own.refs.iter_mut().enumerate() {
                    *kdata = o.key(&format!("reference {i}"), "kdata");
                }
                own.torn_down = o.mask("torn down", "subsystem");
            }
            "subsys" if slot == CGROUPS => {
                for (decl, cgroup) in world.cgroups.iter().zip(&mut k.subsys.cgroups) {
                    let name = &decl.name;
                    let state = o.text(name).unwrap();
                    let states = CgroupState::ALL;
                    cgroup.state = states.into_iter().find(|s| s.name() == state).unwrap();
                    for (i, place) in cgroup.list.iter_mut().enumerate() {
                        let Some(link) = o.key(&format!("{name}: link {i}"), "link") else {
                            continue;
                        };
                        let preorder = o.flag(&format!("{name}: link {i}: preorder"));
                        *place = Some(InList { link, preorder });
                    }
                    cgroup.effective = o.items(&format!("{name}: effective"));
                }
            }
            "subsys" if slot == HID => {
                let hid = &mut k.subsys.hid;
                if let Some(kdata) = o.key("rdesc_ops", "kdata") {
                    hid.rdesc_ops = Some(Reg {
                        kdata,
                        expect: o.cookie("rdesc_ops: attached with cookie"),
                        link: o.key("rdesc_ops: link", "link"),
                        slot: 0,
                    });
                }
                hid.device_data = o.flag("device_data");
                hid.readers = o.mask("readers of srcu", "cpu");
            }
            "subsys" if slot == RINGS => {
                for (i, ring) in (0u8..).zip(&mut k.subsys.rings) {
                    ring.there = o.flag(&format!("ring {i}"));
                    ring.fds = o.mask(&format!("ring {i}: fds"), "process");
                    ring.key = o.number(&format!("ring {i}: key"));
                    ring.loop_step = o.func(&format!("ring {i}: loop_step"));
                    ring.lock = o.cpu(&uring_lock(i));
                }
            }
            "subsys" => {
                let scx = &mut k.subsys.scx;
                let names = [
                    ScxState::Disabled,
                    ScxState::Enabling,
                    ScxState::Enabled,
                    ScxState::Disabling,
                ];
                if let Some(state) = o.text("state") {
                    scx.state = names[SCX.iter().position(|s| *s == state).unwrap()];
                }
                let called = world.called_by(struct_ops_model::world::OpKind::Call);
                let members = called.map_or(&[][..], |t| &t.members);
                for (i, member) in members.iter().enumerate() {
                    scx.ops[i] = o.func(&format!("ops.{}", member.name));
                }
                scx.kdata = o.key("copied from", "kdata");
                scx.expect = o.cookie("attached with cookie");
            }
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
    let world = &run.scenario.world;
    let view = serde_json::to_value(run.view(&Screen::plain(80), board::ALONE)).unwrap();
    let shown = shown(&view);
    let machine = view::machine(run.scenario, run.design).unwrap();
    assert_eq!(shown.len(), run.states().len());
    for (i, (k, (objects, shapes))) in run.states().iter().zip(&shown).enumerate() {
        let read = read(world, objects);
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
    let path = view::read_path(path).unwrap();
    let actions: Vec<_> = run.trace.steps.iter().map(|s| s.action).collect();
    assert_eq!(view::actions(&machine, &path), Ok(actions));
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
        let machine = view::machine(&scenario, design).unwrap();
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
            let Ok(machine) = view::machine(&scenario, design) else {
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
        assert_eq!(view::read_path(&view::write_path(&path)), Ok(path));
    }
    assert_eq!(view::write_path(&[0, 35, 36, 2]), "0z_36_2");
    for wrong in ["-", "A", "_", "_x_", "0_1", "0.1", "é"] {
        assert!(view::read_path(wrong).is_err(), "{wrong}");
    }
    assert!(view::read_path(&"0".repeat(100_000)).is_err());
}
