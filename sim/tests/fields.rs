//! Each field of a state of which nobody has forgotten anything is changed by itself: it comes back from what is packed,
//! the page shows the difference, and so does a trace, unless it is one of those that are told in no trace.

use struct_ops_model::Pc;
use struct_ops_model::kernel::{
    Deferred, Func, Image, ImageKey, InList, Item, Kdata, KdataKey, Kernel, Ksym, KsymKey, Link,
    LinkKey, Map, MapKey, Node, Reg, ScxState, Stage, Subsys,
};
use struct_ops_model::pack::Packing;
use struct_ops_model::script::{
    MAX_DOMAINS, MAX_FLAGS, MAX_OBJECTS, MAX_OWN_LOCKS, Own, Script, Slot, SlotKey,
};
use struct_ops_model::table::Key;
use struct_ops_model::visit::{Visit, Visitor};
use struct_ops_model::world::{
    Body, CgroupDecl, CpuDecl, MAX_CGROUPS, MAX_MEMBERS, OpKind, Operation, Plan, ProgDecl,
    ProgType, StructOpsType, Subsystem, World,
};
use struct_ops_sim::report::describe::describe;
use struct_ops_sim::report::names::Names;
use struct_ops_sim::view::state::objects;

/// What a trace does not tell of, in the order of the walk: local variables, which the steps of a CPU tell; ghosts, which
/// only the checks read; and what follows from other fields that are told.
const UNTOLD: &str = "\
cpu: operations done | step | operation | returns to | call returns to | map | old map | link | kdata | old kdata | \
attachment | old attachment | page | place | argument | member | result | cookie | cookie to be read | \
run_ctx.bpf_cookie | program | holds references | has changed | has met | Tasks RCU reader | line | cgroup | \
position in the list | expected revision | items behind it | old item {} | old item {}: cookie | old item {}: bpf_cookie | \
the walk's run_ctx.bpf_cookie | the struct that the program has found | ring, plus 1
map: {member}: program | kvalue
kdata: declaration | list.prev | registered with cookie
link: link_idr has it
program: fds
socket: attached with cookie | fds
nothing follows
tcp_cong_list.prev
sched_ext: attached with cookie
registration: attached with cookie | link
own: torn down
cgroup: effective {}: cookie
ring: key
";

/// Changes one value of a walk, and notes whose it was.
struct Change {
    /// Values that are passed before it.
    left: Option<usize>,
    of: &'static str,
    field: &'static str,
    part: &'static str,
    /// The object and the field of the value that was changed.
    changed: Option<(&'static str, String)>,
}

impl Change {
    fn of(&mut self, object: &'static str) -> &mut Self {
        (self.of, self.field, self.part) = (object, "", "");
        self
    }

    /// Whether it is this value's turn.
    fn now(&mut self) -> bool {
        match self.left {
            Some(0) => {
                self.changed = Some((self.of, format!("{}{}", self.field, self.part)));
                self.left = None;
                true
            }
            left => {
                self.left = left.map(|n| n - 1);
                false
            }
        }
    }

    fn number(&mut self, value: &mut u8) {
        *value ^= u8::from(self.now());
    }

    fn key<T>(&mut self, key: &mut Option<Key<T>>) {
        if self.now() {
            *key = Some(Key::new(1 - key.map_or(1, Key::slot)));
        }
    }
}

impl Visitor for Change {
    fn field(&mut self, called: &'static str) {
        match called.starts_with([':', ' ']) || called.is_empty() {
            true => self.part = called,
            false => (self.field, self.part) = (called, ""),
        }
    }
    fn bits(&mut self, value: &mut u16, _: u32) {
        *value ^= u16::from(self.now());
    }
    fn map(&mut self, key: &mut Option<MapKey>) {
        self.key(key);
    }
    fn kdata(&mut self, key: &mut Option<KdataKey>) {
        self.key(key);
    }
    fn link(&mut self, key: &mut Option<LinkKey>) {
        self.key(key);
    }
    fn image(&mut self, key: &mut Option<ImageKey>) {
        self.key(key);
    }
    fn ksym(&mut self, key: &mut Option<KsymKey>) {
        self.key(key);
    }
    fn cpu(&mut self, value: &mut u8) {
        self.number(value);
    }
    fn cpus(&mut self, mask: &mut u8) {
        self.number(mask);
    }
    fn cookie(&mut self, value: &mut u8) {
        self.number(value);
    }
    fn decl(&mut self, value: &mut u8) {
        self.number(value);
    }
    fn prog(&mut self, value: &mut u8) {
        if self.now() {
            *value = if *value == 1 { 2 } else { 1 };
        }
    }
}

/// Passes one of everything.
fn pass(v: &mut Change, k: &mut Kernel) {
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
    } = k;
    fn first<T: Visit + Copy + Default, const N: usize>(
        v: &mut Change,
        table: &mut struct_ops_model::table::Table<T, N>,
    ) {
        table.values_mut().next().unwrap().visit(v);
    }
    cpus[0].visit(v.of("cpu"));
    first(v.of("map"), maps);
    first(v.of("kdata"), kdatas);
    first(v.of("link"), links);
    first(v.of("page"), images);
    first(v.of("ksym"), ksyms);
    progs[0].visit(v.of("program"));
    socks[0].visit(v.of("socket"));
    procs[0].visit(v.of("process"));
    module.visit(v.of("module"));
    v.of("lock").holder(&mut locks[0]);
    Change::number(v.of("allocations that may fail"), alloc_failures);
    v.of("nothing follows").flag(dead);
    let Subsys {
        tcp_next,
        tcp_prev,
        scx,
        regs,
        own,
        cgroups,
        hid,
        rings,
    } = subsys;
    v.of("tcp_cong_list.next").node(tcp_next);
    v.of("tcp_cong_list.prev").node(tcp_prev);
    scx.visit(v.of("sched_ext"));
    v.of("registration").regs(&mut regs[..1]);
    own.visit(v.of("own"));
    cgroups[0].visit(v.of("cgroup"));
    rings[0].visit(v.of("ring"));
    hid.visit(v.of("hid device"));
}

/// A world whose states have all that states of some world have.
fn world() -> World {
    let named = |what: &str, count: usize| (0..count).map(|i| format!("{what}{i}")).collect();
    let plan = Plan::Free {
        kinds: vec![OpKind::LinkGetFdById, OpKind::CgroupQuery],
        budget: 1,
    };
    World {
        types: [Subsystem::IoUring, Subsystem::HidBpf]
            .map(|subsystem| StructOpsType {
                name: "st".into(),
                subsystem,
                members: Vec::new(),
                module: false,
            })
            .into(),
        progs: vec![ProgDecl {
            name: "p".into(),
            of: ProgType::StructOps { ty: 0, member: 0 },
            body: Body::Ask,
            process: None,
        }],
        links: named("l", 2),
        cookies: vec![0, 0x11],
        procs: 1,
        cpus: vec![CpuDecl { proc: 0, plan }],
        script: Script {
            subsystems: vec![Own {
                name: "own".into(),
                reg: 0,
                unreg: 0,
                update: None,
                teardown: None,
            }],
            locks: named("lock", MAX_OWN_LOCKS),
            slots: vec![Slot {
                name: "slot".into(),
                key: SlotKey::One,
                registers: true,
                asked: false,
            }],
            domains: named("domain", MAX_DOMAINS),
            flags: named("flag", MAX_FLAGS),
            objects: named("object", MAX_OBJECTS),
            ..Script::default()
        },
        cgroups: (0..MAX_CGROUPS)
            .map(|i| CgroupDecl {
                name: format!("cgroup{i}"),
                parent: None,
            })
            .collect(),
        setup: vec![Operation::LinkCreate {
            map: 0,
            target: Some(0),
            position: None,
            revision: Some(1),
            cookie: 0,
            link: 0,
        }],
        ..World::default()
    }
}

/// Two of everything; and what is asked only if something else is so is asked.
fn state() -> Kernel {
    let mut k = Kernel::default();
    let (kdata, link) = (Key::new(0), Key::new(0));
    let func = Func {
        image: Some(Key::new(0)),
        index: 0,
    };
    let mut free = Deferred::default();
    (free.stage, free.rcu) = (Stage::Rcu, 2);
    let item = Item {
        kdata: Some(kdata),
        ..Item::default()
    };
    for n in 0..2 {
        let mut map = Map::default();
        (map.decl, map.fds, map.free) = (n, 3, free);
        k.maps.insert(map).unwrap();
        let mut d = Kdata::default();
        (d.map, d.decl) = (Some(Key::new(n.into())), n);
        (d.attachment, d.func, d.free) = (true, [func; MAX_MEMBERS], free);
        (d.next, d.prev) = (Node::Of(kdata), Node::Of(kdata));
        d.pages[0] = func.image;
        k.kdatas.insert(d).unwrap();
        let mut l = Link::default();
        (l.name, l.fds) = (n, 3);
        k.links.insert(l).unwrap();
        let mut page = Image::default();
        page.code.iter_mut().for_each(|code| code.prog = 1);
        k.images.insert(page).unwrap();
        let listed = false;
        k.ksyms.insert(Ksym { func, listed }).unwrap();
    }
    let c = &mut k.cpus[0];
    (c.pc, c.func, c.wait) = (Pc::Script, func, free);
    (c.walk.cgroup, c.walk.replaced) = (2, true);
    c.walk.array[0] = Some(item);
    (k.progs[0].fds, k.progs[0].free) = (3, free);
    k.socks[0].kdata = Some(kdata);
    let s = &mut k.subsys;
    (s.tcp_next, s.tcp_prev) = (Node::Of(kdata), Node::Of(kdata));
    (s.scx.state, s.scx.ops) = (ScxState::Enabled, [func; MAX_MEMBERS]);
    s.regs[0] = Some(Reg {
        kdata,
        expect: 0,
        link: None,
        slot: 0,
    });
    let preorder = false;
    s.cgroups[0].list[0] = Some(InList { link, preorder });
    s.cgroups[0].effective[0] = Some(item);
    (s.rings[0].there, s.rings[0].loop_step) = (true, func);
    k
}

#[test]
fn every_field_is_packed_shown_and_told_or_known_to_be_told_nowhere() {
    let world = world();
    let names = Names::new(&world);
    let packing = Packing::new(&world, false);
    let packed = |k: &Kernel| {
        let mut bytes = Vec::new();
        packing.pack(k, &mut bytes);
        bytes
    };
    let before = state();
    assert!(packing.unpack(&packed(&before)) == before);
    let (shown, told) = (objects(&names, &before), describe(&names, &before));
    let mut untold: Vec<(&str, String)> = Vec::new();
    let mut text = String::new();
    for n in 0.. {
        let mut change = Change {
            left: Some(n),
            of: "",
            field: "",
            part: "",
            changed: None,
        };
        let mut k = before;
        pass(&mut change, &mut k);
        let Some((of, field)) = change.changed else {
            assert!(n > 150, "{n} values");
            break;
        };
        // Where a field says that others are not there, those are lost, but not the field.
        let bytes = packed(&k);
        assert!(bytes != packed(&before), "{of}, {field}: not packed");
        assert!(packed(&packing.unpack(&bytes)) == bytes, "{of}, {field}");
        assert!(objects(&names, &k) != shown, "{of}, {field}: not shown");
        let pair = (of, field.trim_start_matches(": ").to_string());
        if describe(&names, &k) == told && !untold.contains(&pair) {
            text += match untold.last() {
                Some(last) if last.0 == of => " | ",
                _ => "\n",
            };
            text += &match (untold.iter().any(|u| u.0 == of), &*pair.1) {
                (true, field) => field.to_string(),
                (false, "") => of.to_string(),
                (false, field) => format!("{of}: {field}"),
            };
            untold.push(pair);
        }
    }
    assert_eq!(text.trim_start(), UNTOLD.trim_end());
}
