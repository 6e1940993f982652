//! A state as named objects with named fields, and what changed between two of them.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use struct_ops_model::Kernel;
use struct_ops_model::assoc::Assoc;
use struct_ops_model::kernel::{Deferred, Mask, MoreFds, Node, Stage};
use struct_ops_model::lock::LockClass;
use struct_ops_model::world::OpKind;

use super::names::Names;

/// An object and its fields, in the order in which they are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// What it is called; empty for what belongs to no object.
    pub name: String,
    /// Fields and values. `-`, `0` and `NULL` stand for nothing.
    pub fields: Vec<(String, String)>,
}

impl Object {
    pub(super) fn new(name: String) -> Self {
        Object {
            name,
            fields: Vec::new(),
        }
    }

    pub(super) fn with(mut self, field: impl Into<String>, value: impl ToString) -> Self {
        self.fields.push((field.into(), value.to_string()));
        self
    }
}

fn bits(mask: Mask, what: &str) -> String {
    let set: Vec<String> = (0..8)
        .filter(|i| mask & (1 << i) != 0)
        .map(|i| format!("{what}{i}"))
        .collect();
    if set.is_empty() {
        "-".into()
    } else {
        set.join("+")
    }
}

fn cpu(id: Option<u8>) -> String {
    id.map_or("-".into(), |c| format!("cpu{c}"))
}

fn deferred(free: &Deferred) -> String {
    let waits = [
        ("RCU", free.rcu),
        ("Tasks RCU", free.tasks),
        ("Tasks Trace RCU", free.trace),
    ];
    let waits: Vec<String> = waits
        .iter()
        .filter(|w| w.1 != 0)
        .map(|w| format!("{} of {}", w.0, bits(w.1, "cpu")))
        .collect();
    match (free.stage, waits.as_slice()) {
        (Stage::None, _) => "-".into(),
        (Stage::Queued, _) => "queued".into(),
        (stage, []) => format!("{}, over", stage.name()),
        (stage, waits) => format!("{}, waits for {}", stage.name(), waits.join(" and ")),
    }
}

fn list<T>(items: impl IntoIterator<Item = T>, name: impl Fn(T) -> String) -> String {
    let items: Vec<String> = items.into_iter().map(name).collect();
    if items.is_empty() {
        "-".into()
    } else {
        items.join(",")
    }
}

/// Every object of a state.
pub fn describe(names: &Names<'_>, k: &Kernel) -> Vec<Object> {
    let mut objects = Vec::new();
    maps(names, k, &mut objects);
    links(names, k, &mut objects);
    kdatas(names, k, &mut objects);
    for (key, image) in k.images.iter() {
        let code = image.code.iter().filter(|c| c.prog != 0);
        let code = list(code, |c| {
            format!(
                "{} cookie {}",
                names.prog(usize::from(c.prog) - 1),
                names.cookie(c.cookie)
            )
        });
        objects.push(
            Object::new(names.image(key))
                .with(
                    "mode",
                    if image.protected {
                        "read-only+exec"
                    } else {
                        "writable"
                    },
                )
                .with("fill", image.fill)
                .with("code", code),
        );
    }
    for (key, ksym) in k.ksyms.iter() {
        objects.push(
            Object::new(names.ksym(key))
                .with("func", names.func(ksym.func))
                .with("listed", if ksym.listed { "yes" } else { "-" }),
        );
    }
    for (i, prog) in k.progs.iter().enumerate().take(names.world().progs.len()) {
        let tied = match prog.assoc {
            Assoc::None => "-".into(),
            Assoc::Map(map) => names.map(k, map),
            Assoc::Poison => "POISON".into(),
        };
        let free = if prog.freed {
            "freed".into()
        } else {
            deferred(&prog.free)
        };
        objects.push(
            Object::new(names.prog(i))
                .with("refs", prog.refs)
                .with("free", free)
                .with("st_ops_assoc", tied)
                .with("callback", if prog.armed { "started" } else { "-" }),
        );
    }
    subsystems(names, k, &mut objects);
    processors(names, k, &mut objects);
    objects
}

/// Which processes have an fd, each as often as it has one.
fn fds(fds: u8, more: MoreFds) -> String {
    let procs = (0..more.0.len()).filter(|p| fds & 1 << p != 0);
    let each = procs.flat_map(|p| {
        let often = 1 + usize::from(more.0[p]);
        std::iter::repeat_n(format!("process{p}"), often)
    });
    let each: Vec<String> = each.collect();
    if each.is_empty() {
        "-".into()
    } else {
        each.join("+")
    }
}

fn maps(names: &Names<'_>, k: &Kernel, objects: &mut Vec<Object>) {
    for (key, map) in k.maps.iter() {
        let cookies = map
            .link_cookies
            .iter()
            .enumerate()
            .filter(|(_, c)| **c != 0);
        let object = Object::new(names.map(k, key))
            .with("state", map.state.name())
            .with("lock", cpu(map.lock))
            .with("refs", map.refs)
            .with("fds", fds(map.fds, map.more))
            .with(
                "cookies",
                list(cookies, |(i, c)| {
                    format!("{}={}", names.member(map.decl, i), names.cookie(*c))
                }),
            )
            .with("free", deferred(&map.free));
        objects.push(if map.pinned {
            object.with("pinned", "yes")
        } else {
            object
        });
    }
}

fn links(names: &Names<'_>, k: &Kernel, objects: &mut Vec<Object>) {
    for (key, link) in k.links.iter() {
        let object = Object::new(names.link(k, key))
            .with("map", link.map.map_or("NULL".into(), |m| names.map(k, m)))
            .with(
                "attachment",
                link.attachment.map_or("-".into(), |a| names.kdata(k, a)),
            )
            .with("cookie", names.cookie(link.cookie))
            .with("refs", link.refs)
            .with("fds", fds(link.fds, link.more))
            .with("pinned", if link.pinned { "yes" } else { "-" })
            .with(
                "cgroup",
                match link.cgroup {
                    0 => "-".to_string(),
                    cgroup => names.cgroup(cgroup),
                },
            );
        objects.push(if link.queued {
            object.with("bpf_link_put_deferred()", "queued")
        } else {
            object
        });
    }
}

fn kdatas(names: &Names<'_>, k: &Kernel, objects: &mut Vec<Object>) {
    for (key, kdata) in k.kdatas.iter() {
        let mut object = Object::new(names.kdata(k, key));
        if kdata.attachment {
            object = object
                .with("map", kdata.map.map_or("-".into(), |m| names.map(k, m)))
                .with("refs", kdata.refs);
        }
        for (member, func) in kdata.func.iter().enumerate() {
            object = object.with(names.member(kdata.decl, member), names.func(*func));
        }
        if names.world().has_hid_device() {
            object = object.with("ops->hdev", if kdata.hdev { "the device" } else { "-" });
        }
        objects.push(
            object
                .with(
                    "pages",
                    list(kdata.pages.iter().flatten(), |p| names.image(*p)),
                )
                .with(
                    "ksyms",
                    list(kdata.ksyms.iter().flatten(), |s| names.ksym(*s)),
                )
                .with("registrations", kdata.registered)
                .with("free", deferred(&kdata.free)),
        );
    }
}

/// The walk that a reader of the list would make; it ends where the list does not lead on.
fn tcp_list(names: &Names<'_>, k: &Kernel) -> String {
    let mut walk = Vec::new();
    let mut seen = Vec::new();
    let mut node = k.subsys.tcp_next;
    loop {
        match node {
            Node::Head => break,
            Node::Poison => {
                walk.push("poison".to_string());
                break;
            }
            Node::Of(key) if seen.contains(&key) => {
                walk.push(format!("{} again, for ever", names.kdata(k, key)));
                break;
            }
            Node::Of(key) => {
                walk.push(names.kdata(k, key));
                seen.push(key);
                match k.kdatas.get(key) {
                    Some(kdata) => node = kdata.next,
                    None => {
                        walk.push("freed memory".to_string());
                        break;
                    }
                }
            }
        }
    }
    if walk.is_empty() {
        "-".into()
    } else {
        walk.join(", ")
    }
}

fn subsystems(names: &Names<'_>, k: &Kernel, objects: &mut Vec<Object>) {
    let kdata = |key: Option<_>| key.map_or("-".into(), |d| names.kdata(k, d));
    let mut all = Object::new(String::new()).with("tcp_cong_list", tcp_list(names, k));
    let script = &names.world().script;
    let rings = names.world().has_rings();
    for (i, reg) in k.subsys.regs.iter().enumerate().filter(|_| !rings) {
        let what = match script.slots.is_empty() {
            true => format!("registration {i}"),
            false => format!("entry {i}"),
        };
        let slot = reg.and_then(|r| script.slots.get(usize::from(r.slot)));
        let entry = kdata(reg.map(|r| r.kdata));
        let entry = slot.map_or(entry.clone(), |s| format!("{} {entry}", s.name));
        all = all.with(what, entry);
    }
    all = own(names, k, all);
    for (i, cgroup) in names.world().cgroups.iter().enumerate() {
        let bpf = &k.subsys.cgroups[i];
        let linked = list(bpf.list.iter().flatten(), |l| {
            let link = names.link(k, l.link);
            if l.preorder {
                format!("{link} preorder")
            } else {
                link
            }
        });
        let array = list(bpf.effective.iter().flatten(), |item| {
            let kdata = item.kdata.map_or("stubs".into(), |d| names.kdata(k, d));
            match item.bpf_cookie {
                0 => kdata,
                cookie => format!(
                    "{kdata} ({:#x})",
                    names.world().cookies[usize::from(cookie)]
                ),
            }
        });
        let mut object = Object::new(cgroup.name.clone())
            .with("state", bpf.state.name())
            .with("links", linked)
            .with("effective", array);
        if names.world().plays(OpKind::CgroupQuery) {
            object = object.with("array freed", bpf.dangling);
        }
        if names.world().asks_revision() {
            object = object.with("revision", u16::from(bpf.changes) + 1);
        }
        objects.push(object);
    }
    let scx = &k.subsys.scx;
    all = all
        .with("scx_ops.state", format!("{:?}", scx.state).to_uppercase())
        .with("scx_ops.source", kdata(scx.kdata));
    for (member, func) in scx.ops.iter().enumerate() {
        all = all.with(
            format!("scx_ops.{}", names.called(OpKind::Call, member)),
            names.func(*func),
        );
    }
    for class in LockClass::ALL {
        all = all.with(class.name(), cpu(k.holder(*class)));
    }
    objects.push(
        all.with("module.refs", k.module.refs)
            .with(
                "module",
                if k.module.unloaded {
                    "unloaded"
                } else {
                    "loaded"
                },
            )
            .with("alloc-failures left", k.alloc_failures),
    );
    for (i, ring) in (0u8..).zip(&k.subsys.rings).filter(|(_, r)| r.there) {
        let mut installed = k.subsys.regs.iter().flatten();
        let bpf_ops = installed.find(|reg| reg.slot == i);
        objects.push(
            Object::new(format!("ring{i}"))
                .with("fds", fds(ring.fds, MoreFds::default()))
                .with("bpf_ops", kdata(bpf_ops.map(|reg| reg.kdata)))
                .with("loop_step", names.func(ring.loop_step))
                .with("uring_lock", cpu(ring.lock)),
        );
    }
    if names.world().has_hid_device() {
        let hid = &k.subsys.hid;
        objects.push(
            Object::new("hdev->bpf".to_string())
                .with("rdesc_ops", kdata(hid.rdesc_ops.map(|reg| reg.kdata)))
                .with(
                    "device_data",
                    if hid.device_data { "allocated" } else { "-" },
                )
                .with("readers of srcu", cpus(hid.readers)),
        );
    }
    for (i, sock) in k.socks.iter().enumerate() {
        objects.push(
            Object::new(format!("socket{i}"))
                .with("icsk_ca_ops", kdata(sock.kdata))
                .with("lock", cpu(sock.busy)),
        );
    }
}

fn cpus(mask: u8) -> String {
    let cpus = (0..8).filter(|c| mask & (1 << c) != 0);
    let cpus: Vec<String> = cpus.map(|c| format!("cpu{c}")).collect();
    if cpus.is_empty() {
        "-".to_string()
    } else {
        cpus.join(" ")
    }
}

/// What the scenario's own subsystems keep besides entries.
fn own(names: &Names<'_>, k: &Kernel, mut all: Object) -> Object {
    let (script, own) = (&names.world().script, &k.subsys.own);
    for (i, lock) in script.locks.iter().enumerate() {
        all = all.with(lock.clone(), cpu(own.locks[i]));
        all = all.with(format!("readers of {lock}"), cpus(own.shared[i]));
    }
    for (i, domain) in script.domains.iter().enumerate() {
        all = all.with(format!("readers of {domain}"), cpus(own.readers[i]));
    }
    for (i, flag) in script.flags.iter().enumerate() {
        let set = own.flags & (1 << i) != 0;
        all = all.with(flag.clone(), if set { "set" } else { "-" });
    }
    for (i, object) in script.objects.iter().enumerate() {
        all = all.with(object.clone(), own.objects[i]);
    }
    if !script.slots.is_empty() {
        let refs = own.refs.iter().flatten().count();
        all = all.with("references held", refs);
    }
    all
}

fn processors(names: &Names<'_>, k: &Kernel, objects: &mut Vec<Object>) {
    for (i, c) in k.cpus.iter().enumerate().take(names.world().tasks()) {
        objects.push(
            Object::new(format!("cpu{i}"))
                .with("rcu_read_lock", c.readers.rcu)
                .with("rcu_read_lock_trace", c.readers.trace)
                .with("waits", deferred(&c.wait))
                .with(
                    "walks",
                    match (c.walk.cgroup, c.walk.replaced) {
                        (0, _) => "-".to_string(),
                        (cgroup, false) => format!("the array of {}", names.cgroup(cgroup)),
                        (cgroup, true) => format!("an old array of {}", names.cgroup(cgroup)),
                    },
                ),
        );
    }
    for (i, process) in k
        .procs
        .iter()
        .enumerate()
        .take(usize::from(names.world().procs))
    {
        let state = if process.exited {
            "gone"
        } else if process.exiting {
            "exiting"
        } else {
            "runs"
        };
        objects.push(Object::new(format!("process{i}")).with("state", state));
    }
}

fn nothing(value: &str) -> bool {
    matches!(value, "-" | "0" | "NULL" | "0x0")
}

/// What is different between two states.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum Change {
    /// There is an object that was not there before.
    Made {
        /// Its name.
        object: String,
        /// Its fields, without those that are nothing: `-`, `0`, `NULL`.
        fields: Vec<Field>,
    },
    /// A field has another value.
    Set {
        /// Whose; empty for what belongs to no object.
        object: String,
        /// Which.
        field: String,
        /// The value before.
        from: String,
        /// The value now.
        to: String,
    },
    /// An object is gone.
    Gone {
        /// Its name.
        object: String,
    },
}

/// A field and its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Field {
    /// Its name.
    pub field: String,
    /// Its value.
    pub value: String,
}

/// As traces show it: `m1.state INIT -> READY`, `+l1 (map m1, refs 1)`, `-page0`.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Made { object, fields } => {
                let fields = fields.iter().map(|f| format!("{} {}", f.field, f.value));
                let fields: Vec<String> = fields.collect();
                write!(f, "+{object} ({})", fields.join(", "))
            }
            Change::Set {
                object,
                field,
                from,
                to,
            } => {
                let dot = if object.is_empty() { "" } else { "." };
                write!(f, "{object}{dot}{field} {from} -> {to}")
            }
            Change::Gone { object } => write!(f, "-{object}"),
        }
    }
}

/// What is different, in the order of the objects; what is gone comes last.
pub fn changes(before: &[Object], after: &[Object]) -> Vec<Change> {
    let mut changes = Vec::new();
    for new in after {
        let Some(old) = before.iter().find(|o| o.name == new.name) else {
            let fields = new.fields.iter().filter(|f| !nothing(&f.1));
            let field = |(field, value): &(String, String)| Field {
                field: field.clone(),
                value: value.clone(),
            };
            changes.push(Change::Made {
                object: new.name.clone(),
                fields: fields.map(field).collect(),
            });
            continue;
        };
        for ((field, value), (_, was)) in new.fields.iter().zip(&old.fields) {
            if value != was {
                changes.push(Change::Set {
                    object: new.name.clone(),
                    field: field.clone(),
                    from: was.clone(),
                    to: value.clone(),
                });
            }
        }
    }
    let gone = before
        .iter()
        .filter(|o| !after.iter().any(|n| n.name == o.name));
    changes.extend(gone.map(|old| Change::Gone {
        object: old.name.clone(),
    }));
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_is_told() {
        let object = |refs: u8| {
            Object::new("m1".into())
                .with("state", "INIT")
                .with("refs", refs)
                .with("lock", "-")
        };
        let mutex = |who: &str| Object::new(String::new()).with("update_mutex", who);
        let page = Object::new("page0".into()).with("fill", 171);
        let changes = |before: &[Object], after: &[Object]| -> Vec<String> {
            let changes = changes(before, after);
            changes.iter().map(Change::to_string).collect()
        };
        assert_eq!(changes(&[object(1)], &[object(1)]), [""; 0]);
        assert_eq!(changes(&[object(1)], &[object(2)]), ["m1.refs 1 -> 2"]);
        assert_eq!(changes(&[], &[object(1)]), ["+m1 (state INIT, refs 1)"]);
        assert_eq!(
            changes(&[page, mutex("-")], &[mutex("cpu0")]),
            ["update_mutex - -> cpu0", "-page0"]
        );
    }
}
