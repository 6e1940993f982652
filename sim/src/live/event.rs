//! What the runtime records: every step with its label, its place in the global order and what it saw.
//!
//! A step has two stamps of one counter: its effect lies between them. Steps of one task never overlap, steps of two
//! tasks may; where the effect is under a lock, both stamps are taken inside and are one. Not here: what the model
//! says to it (`validate`).

use std::fmt;

use struct_ops_model::kernel::CpuId;
use struct_ops_model::world::OpKind;
use struct_ops_model::{Invariant, Pc, World, errno};

/// Who acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Actor {
    /// A thread of the world.
    Cpu(CpuId),
    /// The thread of work items.
    Worker,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Actor::Cpu(cpu) => write!(f, "cpu{cpu}"),
            Actor::Worker => f.write_str("work"),
        }
    }
}

/// An object of the runtime, by its number: numbers are never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Object {
    /// A map.
    Map(usize),
    /// A link.
    Link(usize),
    /// An attachment.
    Attachment(usize),
    /// A socket.
    Sock(usize),
    /// A program.
    Prog(usize),
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Object::Map(n) => write!(f, "map {n}"),
            Object::Link(n) => write!(f, "link {n}"),
            Object::Attachment(n) => write!(f, "attachment {n}"),
            Object::Sock(n) => write!(f, "socket {n}"),
            Object::Prog(n) => write!(f, "program {n}"),
        }
    }
}

/// An operation and the objects that its descriptors stood for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Ask {
    /// What; `None` if a descriptor was not open.
    pub kind: OpKind,
    /// Target (or new) map.
    pub map: Option<usize>,
    /// F_REPLACE's old map.
    pub old: Option<usize>,
    /// Target link.
    pub link: Option<usize>,
    /// Cookie (index).
    pub cookie: u8,
    /// Declaration, link name, socket, entry, key or program.
    pub arg: u8,
    /// Member to call.
    pub member: u8,
}

/// Something that only a broken kernel does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fault {
    /// What is broken by it.
    pub invariant: Invariant,
    /// What was found.
    pub text: String,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Event {
    /// Stamp before the effect.
    pub first: u64,
    /// Stamp after it.
    pub last: u64,
    /// Who.
    pub actor: Actor,
    /// Which step.
    pub pc: Pc,
    /// The operation that begins with this step.
    pub ask: Option<Ask>,
    /// 0, or which allocation of the step failed.
    pub choice: u8,
    /// Made, closed or worked on by the step.
    pub object: Option<Object>,
    /// Result of the operation so far.
    pub err: i8,
    /// The cookie that the trampoline set up, or the program read.
    pub cookie: Option<u64>,
    /// The step entered a trampoline that kallsyms does not name.
    pub unnamed: bool,
    /// Nothing follows after this.
    pub fault: Option<Fault>,
}

impl Event {
    /// Whether this step must come before the other one in every order.
    pub fn precedes(&self, other: &Event) -> bool {
        self.last < other.first
    }

    /// What was seen, in a few words.
    pub fn seen(&self) -> String {
        let mut words = Vec::new();
        if let Some(ask) = self.ask {
            words.push(ask_text(&ask));
        }
        if let Some(object) = self.object {
            words.push(object.to_string());
        }
        if self.choice > 0 {
            words.push(format!("allocation {} fails", self.choice));
        }
        if let Some(cookie) = self.cookie {
            words.push(format!("cookie {cookie:#x}"));
        }
        if self.unnamed {
            words.push("not in kallsyms".into());
        }
        if self.err != 0 {
            words.push(errno::name(self.err));
        }
        if let Some(fault) = &self.fault {
            words.push(fault.text.clone());
        }
        words.join(", ")
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.actor, self.pc.name())?;
        let seen = self.seen();
        if seen.is_empty() {
            Ok(())
        } else {
            write!(f, ": {seen}")
        }
    }
}

fn ask_text(ask: &Ask) -> String {
    let mut text = match ask.kind {
        OpKind::None => "a descriptor that is not open".to_string(),
        kind => kind.name().to_string(),
    };
    for (name, object) in [("map", ask.map), ("old", ask.old), ("link", ask.link)] {
        if let Some(n) = object {
            text += &format!(" {name}={n}");
        }
    }
    for (name, number) in [
        ("cookie", ask.cookie),
        ("arg", ask.arg),
        ("member", ask.member),
    ] {
        if number != 0 {
            text += &format!(" {name}={number}");
        }
    }
    text
}

/// What a run of a world left behind.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// What ran: every plan is fixed.
    pub world: World,
    /// Events of each actor, in its own order.
    pub events: Vec<Event>,
    /// What was open when recording began: kind and number.
    pub start: Vec<Object>,
    /// What the runtime itself found broken.
    pub findings: Vec<Finding>,
    /// What is still there when everything is closed.
    pub left: Vec<String>,
}

impl Recorded {
    /// The events in the order of their first stamps.
    pub fn sorted(mut self) -> Self {
        self.events.sort_by_key(|e| (e.first, e.last));
        self
    }

    /// A fault ended the run.
    pub fn faulted(&self) -> bool {
        self.events.iter().any(|e| e.fault.is_some())
    }
}

/// Something broken that the runtime saw by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub invariant: Invariant,
    /// At which step.
    pub step: Pc,
    /// By whom it was seen.
    pub actor: Actor,
    /// What was seen.
    pub text: String,
    /// What had happened to the object before.
    pub history: Vec<String>,
}
