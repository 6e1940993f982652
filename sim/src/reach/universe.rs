//! The small universes behind the table: two schedulers, and one program of the kind in question for each.
//!
//! A loader here makes no mistake. What it does beyond the least is its [`Help`]; mistakes are scenario files.

use struct_ops_model::Design;
use struct_ops_model::design::{CookieRead, Identity, MapIdIn};
use struct_ops_model::reach::World;
use struct_ops_model::reach::context::{Hook, Kind, Way};
use struct_ops_model::reach::world::{Attachment, Loader, Op, Prog, Sched, Source};

/// What the loader does so that a program finds its scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Help {
    /// Nothing.
    None,
    /// Gives one cookie to every attachment of the scheduler.
    Cookie,
    /// The same, and the program that arms a callback leaves the value in its map entry.
    Stash,
    /// Stores the scheduler's id or cookie in a global variable.
    Global,
    /// Ties the program to the scheduler's map.
    Association,
}

impl Help {
    /// The word in tables and JSON, and what it means.
    pub const ALL: [(Help, &'static str, &'static str); 5] = [
        (Help::None, "none", "nothing beyond attaching the program"),
        (
            Help::Cookie,
            "cookie",
            "the same cookie at every attachment of the scheduler",
        ),
        (
            Help::Stash,
            "stash",
            "the value stashed in the map entry of the timer or work queue by the program that arms it",
        ),
        (
            Help::Global,
            "global",
            "the id or cookie stored in a global variable of the object file",
        ),
        (
            Help::Association,
            "assoc",
            "the program tied to the map with BPF_PROG_ASSOC_STRUCT_OPS",
        ),
    ];

    /// The word.
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|h| h.0 == self).map_or("", |h| h.1)
    }

    /// What it means.
    pub fn meaning(self) -> &'static str {
        Self::ALL.iter().find(|h| h.0 == self).map_or("", |h| h.2)
    }

    /// Every help that a design has for a kind of program, the least first.
    pub fn of(design: &Design, kind: Kind) -> Vec<Help> {
        let cookies = design.has_cookies();
        let ids = design.identity.is_given() || design.identity == Identity::MapId;
        let has = |help: &Help| match help {
            Help::None => true,
            Help::Cookie => cookies,
            Help::Stash => cookies && kind.way.is_callback(),
            Help::Global => ids,
            Help::Association => design.identity == Identity::Association,
        };
        Self::ALL.iter().map(|h| h.0).filter(has).collect()
    }

    /// Where the code that asks takes its identity from.
    fn source(self, design: &Design, kind: Kind) -> Source {
        let slot = design.lookup.map_id_in == MapIdIn::Slot && kind.facts().hook == Hook::Member;
        match self {
            _ if design.identity == Identity::Task => Source::Task,
            _ if design.identity == Identity::Argument => Source::Argument,
            _ if design.lookup.cookie_read == CookieRead::Current
                && !matches!(self, Help::Global | Help::Stash) =>
            {
                Source::Kernel
            }
            Help::None if slot => Source::Helper,
            Help::None | Help::Association => Source::Kernel,
            Help::Cookie => Source::Helper,
            Help::Stash => Source::Stash,
            Help::Global => Source::Global,
        }
    }
}

/// Names of schedulers and their object files.
const NAMES: [&str; 2] = ["A", "B"];

/// Two schedulers with a program of that kind each; `shared`: one object file serves both, so that each
/// program is loaded once and attached for either.
pub fn universe(design: &Design, kind: Kind, help: Help, shared: bool) -> World {
    let member = kind.facts().hook == Hook::Member;
    let source = help.source(design, kind);
    let copies: u8 = if shared { 1 } else { 2 };
    let mut world = World {
        cpus: 1,
        depth: 2,
        subs: true,
        ..World::default()
    };
    // The same number of programs per object file, one file after the other.
    let (mut ops, mut subjects, mut asking) = (Vec::new(), Vec::new(), Vec::new());
    for object in 0..copies {
        let suffix = if shared {
            ""
        } else {
            NAMES[usize::from(object)]
        };
        let mut add = |name: &str, kind: Kind, asks: bool, is_callee: bool| {
            world.progs.push(Prog {
                name: format!("{name}{suffix}"),
                kind,
                callee: None,
                is_callee,
                object,
                source,
                asks,
            });
            world.progs.len() as u8 - 1
        };
        if !member {
            let plain = Kind {
                way: Way::Direct,
                ..Kind::parse("struct_ops").expect("a row of the table")
            };
            ops.push(add("tick", plain, false, false));
        }
        let subject = add(if member { "tick" } else { "probe" }, kind, true, false);
        if member {
            ops.push(subject);
        }
        subjects.push(subject);
        let callee = kind
            .way
            .is_other_program()
            .then(|| add("callee", kind, true, true));
        world.progs[usize::from(subject)].callee = callee;
        asking.push(callee.unwrap_or(subject));
        world
            .objects
            .push(if shared { "AB" } else { suffix }.to_string());
    }
    // What only stands by asks nothing, so that it needs no helper.
    for prog in world.progs.iter_mut().filter(|p| !p.asks) {
        prog.source = Source::Kernel;
    }
    for (i, name) in (0u8..).zip(NAMES) {
        let object = if shared { 0 } else { i };
        let key = if help == Help::None {
            0
        } else {
            0x11 * (i + 1)
        };
        let map_id = i + 1;
        world.scheds.push(Sched {
            name: name.into(),
            key,
            map_id,
            members: vec![ops[usize::from(object)]],
        });
        if !member {
            world.attachments.push(Attachment {
                name: format!("probe{name}"),
                prog: subjects[usize::from(object)],
                sched: i,
                cookie: match (help, design.identity) {
                    (Help::Cookie | Help::Stash, Identity::MapId) => map_id,
                    (Help::Cookie | Help::Stash, _) => key,
                    _ => 0,
                },
            });
        }
    }
    let first = |i: u8, object: u8, load: bool| {
        let mut ops = Vec::new();
        ops.extend(load.then_some(Op::Load(object)));
        ops.extend([Op::MapCreate(i), Op::MapUpdate(i)]);
        if help == Help::Association && (!member || kind.way.is_other_program()) {
            ops.push(Op::Associate(asking[usize::from(object)], i));
        }
        if help == Help::Global {
            ops.push(Op::Store(object, i));
        }
        if !member {
            ops.push(Op::Attach(i));
        }
        ops.push(Op::LinkCreate(i));
        ops
    };
    let later = || {
        let mut ops = vec![Op::Error(0), Op::LinkClose(0)];
        if !member {
            ops.push(Op::Detach(0));
        }
        ops.push(Op::MapClose(0));
        ops
    };
    // A process that serves both does not exit before both are there.
    let exits = u8::from(shared);
    // Who goes first, and whose things go, makes no difference but in the names: A's do.
    let loader = |i: u8| Loader {
        first: first(i, if shared { 0 } else { i }, i == 0 || !shared),
        later: {
            let mut ops = if i == 0 { later() } else { Vec::new() };
            ops.extend((i == exits).then_some(Op::Exit(0)));
            ops
        },
        after: i.checked_sub(1),
    };
    world.loaders = vec![loader(0), loader(1)];
    world
}
