//! A design as data: a few orthogonal choices, and the named presets.
//!
//! Nothing here acts. The procedures in `proc` ask a [`Design`] wherever the
//! proposals differ; the explorer knows none of them. Stands for the differences between
//! `kernel/bpf/bpf_struct_ops.c` of Linux 6.12, the bpf cookie RFC of July 2025, and the
//! repair that this project proposes.

use crate::place::Linux;
use crate::world::World;
use std::fmt;

/// One choice of a design: a key as users write it, its values, and what each value means.
macro_rules! choice {
    ($(#[$doc:meta])* $name:ident, $key:literal, { $($(#[$vdoc:meta])* $variant:ident = $text:literal : $meaning:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vdoc])* #[doc = $meaning] $variant),+ }

        impl $name {
            /// The key of this choice in a custom design (`key=value`).
            pub const KEY: &'static str = $key;
            /// Every value: its text and what it means.
            pub const VALUES: &'static [(&'static str, Self, &'static str)] =
                &[$(($text, Self::$variant, $meaning)),+];

            /// The value's text, as in a custom design.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            fn parse(text: &str) -> Result<Self, DesignError> {
                Self::VALUES.iter().find(|(t, _, _)| *t == text).map(|v| v.1).ok_or_else(|| {
                    DesignError::UnknownValue {
                        key: $key,
                        found: text.to_string(),
                        expected: Self::VALUES.iter().map(|v| v.0).collect(),
                    }
                })
            }
        }
    };
}

choice!(
    /// Where trampolines are generated.
    Build, "build", {
        MapUpdate = "map_update": "trampolines are generated in map_update, before any link exists",
        LinkCreate = "link_create": "trampolines are generated when a link is created or updated (plain maps: in map_update)",
    }
);
choice!(
    /// Who owns what is generated for an attachment, and so how long it lives.
    Owner, "owner", {
        Map = "map": "image pages belong to the map",
        Link = "link": "image pages belong to an attachment object of the link",
    }
);
choice!(
    /// Whose `kvalue` the subsystem gets.
    KdataOwner, "kdata", {
        Map = "map": "the subsystem gets the map's single kvalue",
        Link = "link": "each attachment has a kvalue of its own",
    }
);
choice!(
    /// Where the kallsyms entries of the trampolines are kept.
    KsymOwner, "ksyms", {
        Map = "map": "in the map's ksyms[]",
        Link = "link": "with the attachment",
    }
);
choice!(
    /// When kallsyms learns of a trampoline.
    KsymTime, "kallsyms", {
        AfterReg = "after-reg": "once reg() or update() has returned",
        BeforeReg = "before-reg": "before reg() or update() can make the trampoline reachable",
    }
);
choice!(
    /// How many links may be attached to one map.
    Links, "links", {
        Many = "many": "as many as the subsystem's reg() accepts",
        One = "one": "a link takes the map from READY to INUSE; a second one gets -EBUSY",
    }
);
choice!(
    /// How a program finds the instance for which it was called.
    Identity, "identity", {
        None = "none": "it cannot: a kfunc takes the only scheduler there may be, scx_root",
        Cookie = "cookie": "bpf_get_attach_cookie() reads what link_create was given",
        MapId = "map-id": "the struct_ops map's id is the scheduler's",
        MapExtra = "map-extra": "bpf_get_attach_cookie() reads the cookie given at map creation",
        ThisPointer = "this-pointer": "map_update stores a pointer to kdata in every struct_ops program",
        Argument = "argument": "the caller of a member hands it its attachment, and the member hands that to the kfunc",
        RunCtx = "run-ctx": "the caller of a member puts the link's cookie into its run context, where a helper finds it behind the trampoline's",
        Task = "task": "it need not: every kfunc takes a task and finds the scheduler of that task",
        Association = "association": "map_update ties struct_ops programs to their map, BPF_PROG_ASSOC_STRUCT_OPS others",
    }
);
choice!(
    /// Where a program finds the map's id.
    MapIdIn, "map-id-in", {
        Global = "global": "in a global variable, stored by the loader",
        Slot = "slot": "in the cookie slot of the struct_ops trampolines, put there by the kernel; elsewhere in a global variable",
    }
);
choice!(
    /// Who reads the cookie.
    CookieRead, "cookie-read", {
        Ctx = "ctx": "the program, with a helper that takes its ctx: code without a ctx is refused",
        Current = "current": "the kfunc, from current->bpf_ctx, whosever it is",
    }
);
choice!(
    /// What enabling a scheduler does when another one has the same cookie or map_extra.
    SameKey, "same-key", {
        Refuse = "refuse": "it fails with -EEXIST",
        First = "first": "it succeeds, and lookups find the first one",
    }
);
choice!(
    /// What becomes of the pointer in a struct_ops program when a second map takes the program.
    AssocShare, "assoc-share", {
        Poison = "poison": "POISON, for the rest of the program's life: lookups find nothing",
        KeepFirst = "keep-first": "it silently stays with the first map",
        Overwrite = "overwrite": "it silently moves to the second map",
        Refuse = "refuse": "it stays, and the second map_update fails with -EINVAL",
    }
);
choice!(
    /// What freeing a map does to POISON.
    AssocFree, "assoc-free", {
        KeepPoison = "keep-poison": "nothing",
        ClearPoison = "clear-poison": "it is cleared like a pointer to the map",
    }
);
choice!(
    /// Who holds the map for a program that BPF_PROG_ASSOC_STRUCT_OPS has tied to it.
    AssocRef, "assoc-ref", {
        Command = "command": "the command takes a reference, the freeing of the program drops it",
        Getter = "getter": "nobody: the getter takes a reference, and its caller drops it",
    }
);
choice!(
    /// What the getter does to the map's reference count, beside what assoc-ref=getter asks for.
    AssocGet, "assoc-get", {
        Plain = "plain": "nothing",
        Put = "put": "its caller drops a reference that the getter did not take",
    }
);
choice!(
    /// What tying a program to the map it is tied to already does.
    AssocAgain, "assoc-again", {
        Same = "same": "it returns 0 and changes nothing",
        Counted = "counted": "it takes another map reference",
    }
);
choice!(
    /// When map_update ties the struct_ops programs of a map to it.
    AssocTie, "assoc-tie", {
        AsTaken = "as-taken": "each as it is taken, before anything of what follows can fail",
        WhenReady = "when-ready": "all of them, once nothing can fail any more",
    }
);
choice!(
    /// How often a map_update that fails puts the programs that it has taken.
    AssocUndo, "assoc-undo", {
        Once = "once": "once",
        Twice = "twice": "twice",
    }
);
choice!(
    /// When the pointers to a map are cleared that is being freed.
    AssocClear, "assoc-clear", {
        BeforeGp = "before-gp": "before the grace period that precedes the free",
        AfterGp = "after-gp": "after it, when the memory goes",
    }
);
choice!(
    /// When the this-pointer is cleared.
    ThisClear, "this-clear", {
        MapFree = "map-free": "when the map is freed",
        Detach = "detach": "at link_detach already",
    }
);
choice!(
    /// What a kfunc does for a program that names no scheduler.
    Fallback, "fallback", {
        None = "none": "nothing",
        Root = "root": "it takes the root scheduler, unless that one takes sub-schedulers (Linux 7.x)",
    }
);
choice!(
    /// Where the subsystem's validate() runs.
    Validate, "validate", {
        MapUpdate = "map_update": "in map_update: a bad struct is refused there and the map stays INIT",
        LinkCreate = "link_create": "after the trampolines are generated, so for link maps at link_create",
    }
);
choice!(
    /// When image pages are freed.
    Free, "free", {
        WithMap = "with-map": "with the map, after its grace periods",
        AtOnce = "at-once": "at once, when an attach fails or the link has moved to another map",
        Deferred = "deferred": "after the attachment's last user and its grace periods",
    }
);
choice!(
    /// What `bpf_struct_ops_get()` and `bpf_struct_ops_put()` count.
    Count, "count", {
        Map = "map": "the map",
        Attachment = "attachment": "the attachment that owns the kdata",
    }
);
choice!(
    /// Who holds references on the programs of an attachment.
    ProgOwner, "progs", {
        Map = "map": "the map alone",
        Attachment = "attachment": "the map, and each attachment too",
    }
);
choice!(
    /// Which grace periods precede the freeing of images.
    Grace, "grace", {
        None = "none": "none: they go as soon as a worker comes to it",
        Rcu = "rcu": "RCU",
        Tasks = "tasks": "Tasks RCU",
        Trace = "trace": "Tasks Trace RCU",
        Srcu = "srcu": "SRCU, of each domain that the scenario's own subsystems have",
        TraceRcu = "trace,rcu": "Tasks Trace RCU, then RCU",
        TraceOnlyTasks = "trace,tasks": "Tasks Trace RCU, then Tasks RCU",
        RcuTasks = "rcu+tasks": "RCU and Tasks RCU at the same time",
        TraceTasks = "trace,rcu+tasks": "Tasks Trace RCU, then RCU and Tasks RCU",
        TasksTraceTasks = "tasks,trace,rcu+tasks": "Tasks RCU, Tasks Trace RCU, then RCU and Tasks RCU",
    }
);
choice!(
    /// Where the wait for grace periods takes place.
    Wait, "wait", {
        Worker = "worker": "in deferred work, with no lock held",
        UpdateMutex = "update-mutex": "in link_detach and link_update, under update_mutex",
    }
);
choice!(
    /// What link_update does when the new map is the one already attached.
    SameMap, "same-map", {
        Update = "update": "it calls the subsystem's update() with new and old kdata",
        Refuse = "refuse": "it refuses with -EINVAL",
        Nothing = "nothing": "it returns 0 and changes nothing",
    }
);
choice!(
    /// What map_update returns when the module-owner member is not zero.
    OwnerCheck, "owner-errno", {
        Stale = "stale": "whatever the previous member left in err, as in Linux",
        Einval = "einval": "-EINVAL",
    }
);

choice!(
    /// A deliberate mistake in the model, to prove that an invariant catches it. No design has one.
    Twin, "twin", {
        None = "none": "no mistake",
        WriteProtected = "write-protected": "pages are protected member by member, so the next member writes an executable page",
        ExtraPut = "extra-put": "link_create puts the map once too often",
        ByIdOfZero = "by-id-of-zero": "BPF_LINK_GET_FD_BY_ID takes a reference without asking whether the count is 0",
        LostCallback = "lost-callback": "the grace period before bpf_struct_ops_map_free() never ends",
        LockOrder = "lock-order": "who has called a singleton's member takes update_mutex before it lets go of st_ops_mutex",
        ForeignUnreg = "foreign-unreg": "unreg() of a list takes the oldest entry, whosever it is",
        ForgottenStruct = "forgotten-struct": "a subsystem that knows its structs by their address does not look whether it has this one",
        NoDeadCheck = "no-dead-check": "lookups do not ask whether the scheduler is dead",
        StaleEntry = "stale-entry": "a scheduler is freed without leaving the table of identities",
    }
);

/// How a kfunc finds the scheduler of the program that calls it: the choices behind [`Identity`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// Where a program finds the map's id.
    pub map_id_in: MapIdIn,
    /// Who reads the cookie.
    pub cookie_read: CookieRead,
    /// Two schedulers with one key.
    pub same_key: SameKey,
    /// One struct_ops program in two maps.
    pub assoc_share: AssocShare,
    /// POISON when a map is freed.
    pub assoc_free: AssocFree,
    /// Who holds the map for other programs.
    pub assoc_ref: AssocRef,
    /// The getter and references.
    pub assoc_get: AssocGet,
    /// The same association again.
    pub assoc_again: AssocAgain,
    /// When map_update ties programs.
    pub assoc_tie: AssocTie,
    /// A map_update that fails.
    pub assoc_undo: AssocUndo,
    /// Pointers to a map that goes.
    pub assoc_clear: AssocClear,
    /// When the this-pointer is cleared.
    pub this_clear: ThisClear,
    /// Programs that name no scheduler.
    pub fallback: Fallback,
}

/// Which executions ask for a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// Those of the attach path.
    AttachPath,
    /// Those of lookups.
    Lookups,
    /// All.
    Both,
}

impl About {
    /// Which executions ask for this choice with this value.
    pub fn of(key: &str, value: &str) -> Self {
        let is = |twin: Twin| key == Twin::KEY && value == twin.as_str();
        if key.starts_with("assoc-") {
            About::Both
        } else if Lookup::KEYS.contains(&key) || is(Twin::NoDeadCheck) || is(Twin::StaleEntry) {
            About::Lookups
        } else if key == Identity::KEY || is(Twin::None) {
            About::Both
        } else {
            About::AttachPath
        }
    }
}

impl Identity {
    /// The user gives a value, the same for all programs of a scheduler: a cookie.
    pub fn is_given(self) -> bool {
        matches!(
            self,
            Identity::Cookie | Identity::MapExtra | Identity::RunCtx
        )
    }
}

impl Lookup {
    /// The keys of the choices here.
    const KEYS: [&str; 13] = [
        MapIdIn::KEY,
        CookieRead::KEY,
        SameKey::KEY,
        AssocShare::KEY,
        AssocFree::KEY,
        AssocRef::KEY,
        AssocGet::KEY,
        AssocAgain::KEY,
        AssocTie::KEY,
        AssocUndo::KEY,
        AssocClear::KEY,
        ThisClear::KEY,
        Fallback::KEY,
    ];

    /// Whether the choice with this key makes a difference under an identity.
    pub fn matters(key: &str, identity: Identity) -> bool {
        if !Self::KEYS.contains(&key) {
            return true;
        }
        match identity {
            Identity::None | Identity::Task | Identity::Argument => false,
            Identity::Cookie | Identity::MapExtra => {
                [CookieRead::KEY, SameKey::KEY, Fallback::KEY].contains(&key)
            }
            Identity::RunCtx => [SameKey::KEY, Fallback::KEY].contains(&key),
            Identity::MapId => [MapIdIn::KEY, CookieRead::KEY, Fallback::KEY].contains(&key),
            Identity::ThisPointer => [
                AssocShare::KEY,
                AssocFree::KEY,
                AssocTie::KEY,
                AssocUndo::KEY,
                AssocClear::KEY,
                ThisClear::KEY,
                Fallback::KEY,
            ]
            .contains(&key),
            Identity::Association => key == Fallback::KEY || key.starts_with("assoc-"),
        }
    }

    /// What the proposal behind an identity chose.
    pub const fn of(identity: Identity) -> Self {
        let plain = Lookup {
            map_id_in: MapIdIn::Global,
            cookie_read: CookieRead::Ctx,
            same_key: SameKey::Refuse,
            assoc_share: AssocShare::Poison,
            assoc_free: AssocFree::KeepPoison,
            assoc_ref: AssocRef::Command,
            assoc_get: AssocGet::Plain,
            assoc_again: AssocAgain::Same,
            assoc_tie: AssocTie::AsTaken,
            assoc_undo: AssocUndo::Once,
            assoc_clear: AssocClear::BeforeGp,
            this_clear: ThisClear::MapFree,
            fallback: Fallback::None,
        };
        match identity {
            Identity::ThisPointer => Lookup {
                assoc_share: AssocShare::Refuse,
                ..plain
            },
            Identity::Association => Lookup {
                fallback: Fallback::Root,
                ..plain
            },
            _ => plain,
        }
    }
}

/// One way to attach struct_ops programs: every choice made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Design {
    /// Preset name, or the custom design as the user wrote it.
    pub name: String,
    /// Where trampolines are generated.
    pub build: Build,
    /// Who owns image pages.
    pub owner: Owner,
    /// Whose kvalue the subsystem gets.
    pub kdata: KdataOwner,
    /// Where kallsyms entries are kept.
    pub ksyms: KsymOwner,
    /// When kallsyms learns of a trampoline.
    pub kallsyms: KsymTime,
    /// How many links one map may have.
    pub links: Links,
    /// How a program finds its instance.
    pub identity: Identity,
    /// How a kfunc finds the scheduler of the program that calls it.
    pub lookup: Lookup,
    /// Where validate() runs.
    pub validate: Validate,
    /// When image pages are freed.
    pub free: Free,
    /// What bpf_struct_ops_get/put count.
    pub count: Count,
    /// Who holds the programs of an attachment.
    pub progs: ProgOwner,
    /// Grace periods before images are freed.
    pub grace: Grace,
    /// Where grace periods are waited for.
    pub wait: Wait,
    /// link_update to the map already attached.
    pub same_map: SameMap,
    /// errno of the module-owner check.
    pub owner_check: OwnerCheck,
    /// A deliberate mistake.
    pub twin: Twin,
}

/// Every choice and its place in a [`Design`], one row each.
macro_rules! choices {
    ($do:ident) => {
        $do! {
            Build build;
            Owner owner;
            KdataOwner kdata;
            KsymOwner ksyms;
            KsymTime kallsyms;
            Links links;
            Identity identity;
            MapIdIn lookup.map_id_in;
            CookieRead lookup.cookie_read;
            SameKey lookup.same_key;
            AssocShare lookup.assoc_share;
            AssocFree lookup.assoc_free;
            AssocRef lookup.assoc_ref;
            AssocGet lookup.assoc_get;
            AssocAgain lookup.assoc_again;
            AssocTie lookup.assoc_tie;
            AssocUndo lookup.assoc_undo;
            AssocClear lookup.assoc_clear;
            ThisClear lookup.this_clear;
            Fallback lookup.fallback;
            Validate validate;
            Free free;
            Count count;
            ProgOwner progs;
            Grace grace;
            Wait wait;
            SameMap same_map;
            OwnerCheck owner_check;
            Twin twin;
        }
    };
}

/// What is wrong with a design that a user wrote.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DesignError {
    /// The part before the first comma is no preset.
    #[error("unknown design `{found}`: expected one of {}{}", .expected.join(", "), close(.found, .expected))]
    UnknownPreset {
        /// What was written.
        found: String,
        /// The presets.
        expected: Vec<&'static str>,
    },
    /// A part is not `key=value`.
    #[error("`{found}` is not a choice: expected KEY=VALUE, with KEY one of {}", .expected.join(", "))]
    NotAChoice {
        /// What was written.
        found: String,
        /// The keys.
        expected: Vec<&'static str>,
    },
    /// The key is unknown.
    #[error("unknown choice `{found}`: expected one of {}{}", .expected.join(", "), close(.found, .expected))]
    UnknownKey {
        /// What was written.
        found: String,
        /// The keys.
        expected: Vec<&'static str>,
    },
    /// The value is unknown.
    #[error("choice `{key}` cannot be `{found}`: expected one of {}{}", .expected.join(", "), close(.found, .expected))]
    UnknownValue {
        /// The choice.
        key: &'static str,
        /// What was written.
        found: String,
        /// Its values.
        expected: Vec<&'static str>,
    },
    /// A choice is made twice.
    #[error("`{key}` is chosen twice: {first} and {second}")]
    Twice {
        /// The choice.
        key: String,
        /// What was written first.
        first: String,
        /// What was written after it.
        second: String,
    },
    /// The choices contradict each other.
    #[error("the mix `{mix}` makes no sense: {why}")]
    Nonsense {
        /// The design as written.
        mix: String,
        /// The contradiction.
        why: &'static str,
    },
}

/// `; did you mean ...?` for the nearest candidate, or nothing.
pub fn close(found: &str, expected: &[&'static str]) -> String {
    expected
        .iter()
        .map(|c| (edit_distance(found, c), c))
        .min()
        .filter(|(d, c)| *d <= 1 + c.len() / 3)
        .map_or(String::new(), |(_, c)| format!("; did you mean `{c}`?"))
}

fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// Names and one-paragraph descriptions of the presets, in the order of the story.
pub const PRESETS: &[(&str, &str)] = &[
    (
        "mainline",
        "Linux as it is (6.12; 7.3 where nothing else is said). map_update generates the trampolines of a \
         map once, into pages of the map; link_create only registers the map's kdata. Programs have no cookie: \
         the immediate in the trampoline is 0.",
    ),
    (
        "rfc",
        "The cookie RFC of July 2025. link_create takes a cookie, so the trampolines of a link map are \
         generated there and at link_update (bpf_struct_ops_prepare_attach()), still into the map's own \
         kvalue, ksyms[] and image_pages[]. A failing attach and a link_update free pages at once.",
    ),
    (
        "rfc-one-link",
        "The RFC with the smallest guard that forbids a second link, the author's own idea: link_create and \
         link_update take the map from READY to INUSE, detach takes it back.",
    ),
    (
        "link-owned",
        "The repair. An attachment object owns kdata, images and ksyms of one link; bpf_struct_ops_get/put \
         count it; it is freed in deferred work after the grace periods that its members need. validate() \
         stays in map_update. link_update keeps the link's cookie and builds a new attachment.",
    ),
    (
        "map-id",
        "Asked for in the RFC's review: the id of the struct_ops map is the scheduler's id, and its loader stores \
         it in a global variable of its programs (bpf_struct_ops_id() is in 7.x). Attaches as mainline does.",
    ),
    (
        "map-extra",
        "Asked for in the RFC's review: the cookie is given at map creation, as map_extra, so that map_update \
         can go on generating trampolines. Programs of other types get theirs where they are attached. Attaches \
         as mainline does.",
    ),
    (
        "this-pointer",
        "The series of June 2025: map_update stores a pointer to the map's kdata in each of its struct_ops \
         programs, and a kfunc is handed its caller. Programs of other types have no pointer. Attaches as \
         mainline does.",
    ),
    (
        "association",
        "Linux 7.x: map_update ties struct_ops programs to their map, BPF_PROG_ASSOC_STRUCT_OPS any other \
         program to one, and bpf_prog_get_assoc_struct_ops() finds the map from a kfunc. A program of two maps \
         is poisoned. Attaches as mainline does.",
    ),
    (
        "argument",
        "What bpf-oom does and sched_ext could: every member has one more argument, the attachment for which it is \
         called, and hands it to the kfunc. The caller holds it for as long as the member runs. Programs of other \
         types and callbacks are handed none. Attaches as mainline does.",
    ),
    (
        "run-ctx",
        "What the cgroup layer of 7.4 could do with the slot that its arrays have: the caller builds a run context \
         with the link's cookie, the trampoline saves it as saved_run_ctx, and a helper reads it there, as \
         the one for return values does. Only for types whose caller is changed. Programs of other types get their cookie where \
         they are attached. Attaches as mainline does.",
    ),
    (
        "task",
        "The yardstick: a kfunc that takes a task, as most of sched_ext's do, and finds the scheduler through it \
         (p->scx.sched). That is its caller's scheduler wherever the task is, and says nothing about the caller \
         elsewhere. Attaches as mainline does.",
    ),
];

impl Design {
    /// Linux 6.12 as shipped.
    pub fn mainline() -> Self {
        Design {
            name: "mainline".into(),
            build: Build::MapUpdate,
            owner: Owner::Map,
            kdata: KdataOwner::Map,
            ksyms: KsymOwner::Map,
            kallsyms: KsymTime::AfterReg,
            links: Links::Many,
            identity: Identity::None,
            lookup: Lookup::of(Identity::None),
            validate: Validate::MapUpdate,
            free: Free::WithMap,
            count: Count::Map,
            progs: ProgOwner::Map,
            grace: Grace::RcuTasks,
            wait: Wait::Worker,
            same_map: SameMap::Update,
            owner_check: OwnerCheck::Stale,
            twin: Twin::None,
        }
    }

    /// The bpf cookie RFC of July 2025.
    pub fn rfc() -> Self {
        Design {
            name: "rfc".into(),
            build: Build::LinkCreate,
            identity: Identity::Cookie,
            lookup: Lookup::of(Identity::Cookie),
            validate: Validate::LinkCreate,
            free: Free::AtOnce,
            ..Self::mainline()
        }
    }

    /// The RFC with the smallest guard against a second link.
    pub fn rfc_one_link() -> Self {
        Design {
            name: "rfc-one-link".into(),
            links: Links::One,
            ..Self::rfc()
        }
    }

    /// The repair: everything per attachment.
    pub fn link_owned() -> Self {
        Design {
            name: "link-owned".into(),
            build: Build::LinkCreate,
            owner: Owner::Link,
            kdata: KdataOwner::Link,
            ksyms: KsymOwner::Link,
            kallsyms: KsymTime::BeforeReg,
            links: Links::Many,
            identity: Identity::Cookie,
            lookup: Lookup::of(Identity::Cookie),
            validate: Validate::MapUpdate,
            free: Free::Deferred,
            count: Count::Attachment,
            progs: ProgOwner::Attachment,
            grace: Grace::TasksTraceTasks,
            wait: Wait::Worker,
            same_map: SameMap::Update,
            owner_check: OwnerCheck::Einval,
            twin: Twin::None,
        }
    }

    /// Mainline's attach path with another way to find a scheduler.
    fn mainline_with(name: &str, identity: Identity) -> Self {
        Design {
            name: name.into(),
            identity,
            lookup: Lookup::of(identity),
            ..Self::mainline()
        }
    }

    /// Every preset, in the order of [`PRESETS`].
    pub fn presets() -> Vec<Self> {
        let mut presets = Self::attach_paths();
        presets.extend([
            Self::mainline_with("map-id", Identity::MapId),
            Self::mainline_with("map-extra", Identity::MapExtra),
            Self::mainline_with("this-pointer", Identity::ThisPointer),
            Self::mainline_with("association", Identity::Association),
            Self::mainline_with("argument", Identity::Argument),
            Self::mainline_with("run-ctx", Identity::RunCtx),
            Self::mainline_with("task", Identity::Task),
        ]);
        presets
    }

    /// The presets that have an attach path of their own.
    pub fn attach_paths() -> Vec<Self> {
        vec![
            Self::mainline(),
            Self::rfc(),
            Self::rfc_one_link(),
            Self::link_owned(),
        ]
    }

    /// map_update ties struct_ops programs to their map.
    pub fn ties_programs(&self, linux: Linux) -> bool {
        self.identity == Identity::ThisPointer || self.has_assoc_command(linux)
    }

    /// A run in this world shows how programs find what they belong to, and not only how they are attached.
    pub fn shows_identity(&self, world: &World) -> bool {
        let tied = self.ties_programs(world.linux) && world.asks();
        tied || self.identity == Identity::RunCtx && world.has_cgroup_types()
    }

    /// There is BPF_PROG_ASSOC_STRUCT_OPS.
    pub fn has_assoc_command(&self, linux: Linux) -> bool {
        self.identity == Identity::Association && linux >= Linux::V7_3
    }

    /// struct_ops programs may read a cookie: the user's, or the map's id.
    pub fn has_cookies(&self) -> bool {
        self.identity.is_given()
            || (self.identity == Identity::MapId && self.lookup.map_id_in == MapIdIn::Slot)
    }

    /// Differs from mainline only in how a program finds its scheduler.
    pub fn attaches_as_mainline(&self) -> bool {
        let mainline = Self::mainline();
        self.identity != mainline.identity
            && *self
                == Design {
                    name: self.name.clone(),
                    identity: self.identity,
                    lookup: self.lookup,
                    ..mainline
                }
    }

    /// Reads `PRESET[,KEY=VALUE]...`.
    ///
    /// # Errors
    /// Names what was found, what is expected and what is close; refuses mixes that contradict themselves.
    pub fn parse(text: &str) -> Result<Self, DesignError> {
        let mut parts = text.split(',').map(str::trim);
        let preset = parts.next().unwrap_or_default();
        let mut design = Self::presets()
            .into_iter()
            .find(|d| d.name == preset)
            .ok_or_else(|| DesignError::UnknownPreset {
                found: preset.to_string(),
                expected: PRESETS.iter().map(|p| p.0).collect(),
            })?;
        let mut pending: Option<String> = None;
        let mut choices = Vec::new();
        for part in parts {
            // The values of `grace` contain commas themselves.
            match (part.split_once('='), &mut pending) {
                (Some(_), _) => {
                    choices.extend(pending.take());
                    pending = Some(part.to_string());
                }
                (None, Some(p)) => {
                    p.push(',');
                    p.push_str(part);
                }
                (None, None) => {
                    return Err(DesignError::NotAChoice {
                        found: part.into(),
                        expected: Self::keys(),
                    });
                }
            }
        }
        choices.extend(pending);
        let mut chosen: Vec<(&str, &str)> = Vec::new();
        for choice in &choices {
            let (key, value) = choice.split_once('=').expect("kept because it has one");
            if let Some((_, first)) = chosen.iter().find(|c| c.0 == key) {
                return Err(DesignError::Twice {
                    key: key.into(),
                    first: (*first).into(),
                    second: value.into(),
                });
            }
            chosen.push((key, value));
        }
        // Whatever the order in which they are written, what is said overrides what only follows from another choice.
        let implies = |key: &str| {
            [Identity::KEY, Owner::KEY, KdataOwner::KEY]
                .iter()
                .position(|k| *k == key)
        };
        chosen.sort_by_key(|(key, _)| implies(key).unwrap_or(usize::MAX));
        for (key, value) in &chosen {
            design.set(key, value)?;
        }
        design.name = std::iter::once(preset)
            .chain(choices.iter().map(String::as_str))
            .collect::<Vec<_>>()
            .join(",");
        design.check()?;
        Ok(design)
    }

    /// The choices that stand behind the preset's name.
    pub fn written(&self) -> Vec<(&'static str, &'static str)> {
        let parts = self.name.split(',');
        let keys: Vec<&str> = parts
            .filter_map(|part| Some(part.split_once('=')?.0.trim()))
            .collect();
        let values = self.values().into_iter();
        values.filter(|(key, _)| keys.contains(key)).collect()
    }

    fn keys() -> Vec<&'static str> {
        Self::choices().iter().map(|c| c.0).collect()
    }

    /// Every choice with its values and their meanings: `(key, [(value, meaning)])`.
    pub fn choices() -> Vec<(&'static str, Vec<(&'static str, &'static str)>)> {
        macro_rules! all {
            ($($choice:ident $($place:ident).+;)+) => {
                vec![$(($choice::KEY, $choice::VALUES.iter().map(|v| (v.0, v.2)).collect())),+]
            };
        }
        choices!(all)
    }

    /// This design's value for every key, in the order of [`Design::choices`].
    pub fn values(&self) -> Vec<(&'static str, &'static str)> {
        macro_rules! all {
            ($($choice:ident $($place:ident).+;)+) => {
                vec![$(($choice::KEY, self.$($place).+.as_str())),+]
            };
        }
        choices!(all)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), DesignError> {
        macro_rules! all {
            ($($choice:ident $($place:ident).+;)+) => {
                match key {
                    $($choice::KEY => self.$($place).+ = $choice::parse(value)?,)+
                    _ => {
                        return Err(DesignError::UnknownKey {
                            found: key.into(),
                            expected: Self::keys(),
                        });
                    }
                }
            };
        }
        choices!(all);
        // What follows from a choice unless it is said otherwise.
        match key {
            Owner::KEY => {
                let link = self.owner == Owner::Link;
                self.kdata = if link {
                    KdataOwner::Link
                } else {
                    KdataOwner::Map
                };
                self.ksyms = if link {
                    KsymOwner::Link
                } else {
                    KsymOwner::Map
                };
                self.count = if link { Count::Attachment } else { Count::Map };
                self.free = if link { Free::Deferred } else { Free::AtOnce };
            }
            KdataOwner::KEY if self.kdata == KdataOwner::Map => self.count = Count::Map,
            Identity::KEY => self.lookup = Lookup::of(self.identity),
            _ => {}
        }
        Ok(())
    }

    /// Refuses mixes that contradict themselves.
    ///
    /// # Errors
    /// [`DesignError::Nonsense`] with the reason.
    pub fn check(&self) -> Result<(), DesignError> {
        let nonsense = |why| {
            Err(DesignError::Nonsense {
                mix: self.name.clone(),
                why,
            })
        };
        let early = self.build == Build::MapUpdate;
        if early && self.identity == Identity::Cookie {
            return nonsense(
                "the cookie is an immediate of the trampoline, and build=map_update generates it before any link \
                 has brought a cookie",
            );
        }
        if early && self.owner == Owner::Link {
            return nonsense(
                "owner=link needs a link to own the images, and build=map_update runs before there is one",
            );
        }
        if early && self.validate == Validate::LinkCreate {
            return nonsense(
                "validate=link_create follows the generation of trampolines, and build=map_update does that in map_update",
            );
        }
        if self.owner == Owner::Map {
            if self.kdata == KdataOwner::Link || self.ksyms == KsymOwner::Link {
                return nonsense(
                    "kdata=link and ksyms=link live in the attachment object, which owner=map does not have",
                );
            }
            if self.count == Count::Attachment {
                return nonsense(
                    "count=attachment needs the attachment object, which owner=map does not have",
                );
            }
            if self.progs == ProgOwner::Attachment {
                return nonsense(
                    "progs=attachment needs the attachment object, which owner=map does not have",
                );
            }
            if self.free == Free::Deferred {
                return nonsense(
                    "free=deferred waits for the last user of an attachment, and owner=map cannot tell which pages a user calls",
                );
            }
            if self.wait == Wait::UpdateMutex {
                return nonsense(
                    "wait=update-mutex says where an attachment's grace periods are waited for, and owner=map has no attachment",
                );
            }
        } else {
            if self.free == Free::WithMap {
                return nonsense(
                    "free=with-map keeps pages until the map goes, which is what owner=map means",
                );
            }
            if self.kdata == KdataOwner::Map && self.count == Count::Attachment {
                return nonsense(
                    "count=attachment finds the attachment by container_of(kdata), and kdata=map hands out the map's kvalue",
                );
            }
        }
        if early && self.free == Free::AtOnce {
            return nonsense(
                "free=at-once frees what an attach has generated, and build=map_update generates nothing there",
            );
        }
        self.check_lookup().map_or(Ok(()), nonsense)
    }

    /// Why the choices of [`Lookup`] contradict the identity, if they do.
    fn check_lookup(&self) -> Option<&'static str> {
        let (identity, lookup) = (self.identity, self.lookup);
        let slot = match identity {
            Identity::Cookie | Identity::MapExtra => true,
            Identity::MapId => lookup.map_id_in == MapIdIn::Slot,
            _ => false,
        };
        let pointer = matches!(identity, Identity::ThisPointer | Identity::Association);
        if lookup.map_id_in == MapIdIn::Slot && identity != Identity::MapId {
            return Some(
                "map-id-in=slot puts a map's id where cookies are, and only identity=map-id has the id",
            );
        }
        if lookup.cookie_read == CookieRead::Current && !slot {
            return Some(
                "cookie-read=current reads a cookie slot, and under this identity nothing of use is in it",
            );
        }
        if lookup.same_key != SameKey::Refuse && !identity.is_given() {
            return Some(
                "same-key asks what two equal cookies do, and under this identity users give none",
            );
        }
        if !pointer
            && (lookup.assoc_share != AssocShare::Poison
                || lookup.assoc_free != AssocFree::KeepPoison
                || lookup.assoc_tie != AssocTie::AsTaken
                || lookup.assoc_undo != AssocUndo::Once
                || lookup.assoc_clear != AssocClear::BeforeGp)
        {
            return Some(
                "assoc-... is about the pointer from a program to its map, which only identity=association and identity=this-pointer have",
            );
        }
        if identity != Identity::Association
            && (lookup.assoc_ref != AssocRef::Command
                || lookup.assoc_get != AssocGet::Plain
                || lookup.assoc_again != AssocAgain::Same)
        {
            return Some(
                "assoc-ref, assoc-get and assoc-again are about BPF_PROG_ASSOC_STRUCT_OPS, which only identity=association has",
            );
        }
        if lookup.assoc_free == AssocFree::ClearPoison && lookup.assoc_share != AssocShare::Poison {
            return Some(
                "assoc-free=clear-poison needs POISON, which only assoc-share=poison makes",
            );
        }
        if lookup.this_clear == ThisClear::Detach && identity != Identity::ThisPointer {
            return Some(
                "this-clear is about the this-pointer, which only identity=this-pointer has",
            );
        }
        if lookup.fallback == Fallback::Root
            && matches!(
                identity,
                Identity::None | Identity::Task | Identity::Argument
            )
        {
            return Some(
                "fallback=root is for programs that name no scheduler, and under this identity nobody names one",
            );
        }
        None
    }
}

impl fmt::Display for Design {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_makes_sense_and_reads_back() {
        for design in Design::presets() {
            assert_eq!(design.check(), Ok(()));
            assert_eq!(Design::parse(&design.name).as_ref(), Ok(&design));
            let spelled: Vec<String> = design
                .values()
                .iter()
                .map(|(k, v)| format!("{k}={v}"))
                .collect();
            let parsed = Design::parse(&format!("mainline,{}", spelled.join(","))).unwrap();
            assert_eq!(parsed.values(), design.values());
        }
    }

    #[test]
    fn mistakes_are_explained() {
        let text = |s: &str| Design::parse(s).unwrap_err().to_string();
        assert!(text("rcf").contains("did you mean `rfc`?"));
        assert!(text("rfc,link=one").contains("did you mean `links`?"));
        assert!(text("rfc,links=two").contains("expected one of many, one"));
        assert!(text("rfc,one").contains("KEY=VALUE"));
        assert!(text("mainline,identity=cookie").contains("makes no sense"));
        assert!(text("rfc,assoc-share=poison,assoc-free=clear-poison").contains("makes no sense"));
        assert!(text("mainline,cookie-read=current").contains("nothing of use"));
        assert!(text("rfc,links=one,links=many").contains("`links` is chosen twice: one and many"));
        assert!(text("rfc,links=one, links=one").contains("twice"));
    }

    /// Whoever writes a choice that nothing asks for under his identity is told so.
    #[test]
    fn a_choice_that_does_not_matter_is_refused() {
        let mut refused = 0;
        for preset in Design::presets() {
            let made = preset.values();
            for (key, values) in Design::choices() {
                let others = values.iter().filter(|v| !made.contains(&(key, v.0)));
                for (value, _) in others.filter(|_| !Lookup::matters(key, preset.identity)) {
                    let mix = format!("{preset},{key}={value}");
                    let nonsense = matches!(Design::parse(&mix), Err(DesignError::Nonsense { .. }));
                    assert!(nonsense, "{mix}");
                    refused += 1;
                }
            }
        }
        assert!(refused > 50, "{refused}");
    }

    #[test]
    fn what_follows_from_a_choice_is_chosen() {
        let said = |mix: &str, key: &str| {
            let values = Design::parse(mix).unwrap().values();
            values.into_iter().find(|v| v.0 == key).unwrap().1
        };
        for (mix, key, value) in [
            ("rfc,owner=link", "kdata", "link"),
            ("rfc,owner=link", "ksyms", "link"),
            ("rfc,owner=link", "count", "attachment"),
            ("rfc,owner=link", "free", "deferred"),
            ("link-owned,owner=map,progs=map", "kdata", "map"),
            ("link-owned,owner=map,progs=map", "ksyms", "map"),
            ("link-owned,owner=map,progs=map", "count", "map"),
            ("link-owned,owner=map,progs=map", "free", "at-once"),
            ("link-owned,kdata=map", "count", "map"),
            ("link-owned,kdata=link", "count", "attachment"),
            ("link-owned,ksyms=map", "count", "attachment"),
            ("rfc,identity=association", "fallback", "root"),
            ("rfc,identity=association,fallback=none", "fallback", "none"),
        ] {
            assert_eq!(said(mix, key), value, "{key} of {mix}");
        }
    }

    #[test]
    fn a_design_knows_what_was_written_and_what_mainline_shares_with_it() {
        for preset in Design::presets() {
            assert_eq!(preset.written(), []);
            assert_eq!(preset.lookup, Lookup::of(preset.identity), "{preset}");
            let named = PRESETS.iter().any(|p| p.0 == preset.name);
            assert!(named, "{preset}");
            let own_path = Design::attach_paths().contains(&preset);
            assert_eq!(preset.attaches_as_mainline(), !own_path, "{preset}");
        }
        let mix = Design::parse("task, links=one").unwrap();
        assert_eq!(mix.written(), [("links", "one")]);
        assert!(!mix.attaches_as_mainline());
    }

    #[test]
    fn each_execution_is_asked_about_its_own_choices() {
        for (key, value, about) in [
            ("links", "one", About::AttachPath),
            ("twin", "extra-put", About::AttachPath),
            ("twin", "no-dead-check", About::Lookups),
            ("twin", "stale-entry", About::Lookups),
            ("fallback", "root", About::Lookups),
            ("twin", "none", About::Both),
            ("identity", "task", About::Both),
        ] {
            assert_eq!(About::of(key, value), about, "{key}={value}");
        }
    }

    /// What a mix says holds, in whichever order it says it.
    #[test]
    fn the_order_of_choices_means_nothing() {
        let spelled: Vec<String> = Design::parse("link-owned,ksyms=map,progs=map")
            .unwrap()
            .values()
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        for turn in 0..spelled.len() {
            let mut mix = spelled.clone();
            mix.rotate_left(turn);
            let parsed = Design::parse(&format!("mainline, {}", mix.join(", "))).unwrap();
            for (key, value) in parsed.values() {
                assert!(
                    mix.contains(&format!("{key}={value}")),
                    "{parsed}: {key}={value}"
                );
            }
            assert_eq!(parsed.name, format!("mainline,{}", mix.join(",")));
        }
    }
}
