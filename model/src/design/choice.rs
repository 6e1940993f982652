//! Every choice that a design makes: its key, its values, what each of them means.
//!
//! Not here: what a preset chooses (`preset`), and which choices contradict each other (`sense`). Stands for the
//! differences between `kernel/bpf/bpf_struct_ops.c` of Linux 6.12, the bpf cookie RFC of July 2025, the repair that this
//! project proposes, and the ways in which a kfunc may find its scheduler.

use super::DesignError;

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

            pub(super) fn parse(text: &str) -> Result<Self, DesignError> {
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
