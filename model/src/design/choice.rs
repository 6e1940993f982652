//! Every choice that a design makes, a row each: its field, what mainline chooses, its key and its values.
//!
//! Not here: what other presets choose (`preset`), and which choices contradict each other (`sense`). Stands for the
//! differences between `kernel/bpf/bpf_struct_ops.c` of Linux 6.12, the bpf cookie RFC of July 2025, the repair that this
//! project proposes, and the ways in which a kfunc may find its scheduler.

use super::error::DesignError;

/// A choice as users see it: its key, and each value with what it means.
pub type Choice = (&'static str, Vec<(&'static str, &'static str)>);

/// A struct of choices: per row a field, the enum of its values and which one mainline has, the key as users write it,
/// and each value as users write it and what it means. Whatever else the struct has comes first.
macro_rules! choices {
    (
        $(#[$of_doc:meta])* $of:ident { $($(#[$and_doc:meta])* $and:ident: $and_ty:ty = $and_is:expr,)* }
        $($(#[$doc:meta])* $field:ident: $name:ident = $mainline:ident, $key:literal {
            $($(#[$vdoc:meta])* $variant:ident = $text:literal : $meaning:literal),+ $(,)?
        })+
    ) => {
        $(
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
        )+

        $(#[$of_doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $of {
            $($(#[$and_doc])* pub $and: $and_ty,)*
            $($(#[$doc])* pub $field: $name,)+
        }

        impl $of {
            /// What Linux 6.12 as shipped chooses.
            pub fn mainline() -> Self {
                $of { $($and: $and_is,)* $($field: $name::$mainline),+ }
            }

            /// Its rows with their values and what these mean.
            pub(super) fn rows() -> Vec<Choice> {
                vec![$(($key, $name::VALUES.iter().map(|v| (v.0, v.2)).collect())),+]
            }

            /// The value of each row.
            pub(super) fn chosen(&self) -> Vec<(&'static str, &'static str)> {
                vec![$(($key, self.$field.as_str())),+]
            }

            /// Chooses; `false` if no row has the key.
            pub(super) fn choose(&mut self, key: &str, value: &str) -> Result<bool, DesignError> {
                match key {
                    $($key => self.$field = $name::parse(value)?,)+
                    _ => return Ok(false),
                }
                Ok(true)
            }
        }
    };
}

choices! {
    /// One way to attach struct_ops programs: every choice made.
    Design {
        /// Preset name, or the custom design as the user wrote it.
        name: String = "mainline".into(),
        /// How a kfunc finds the scheduler of the program that calls it.
        lookup: Lookup = Lookup::mainline(),
    }
    /// Where trampolines are generated.
    build: Build = MapUpdate, "build" {
        MapUpdate = "map_update": "trampolines are generated in map_update, before any link exists",
        LinkCreate = "link_create": "trampolines are generated when a link is created or updated (plain maps: in map_update)",
    }
    /// Who owns what is generated for an attachment, and so how long it lives.
    owner: Owner = Map, "owner" {
        Map = "map": "image pages belong to the map",
        Link = "link": "image pages belong to an attachment object of the link",
    }
    /// Whose `kvalue` the subsystem gets.
    kdata: KdataOwner = Map, "kdata" {
        Map = "map": "the subsystem gets the map's single kvalue",
        Link = "link": "each attachment has a kvalue of its own",
    }
    /// Where the kallsyms entries of the trampolines are kept.
    ksyms: KsymOwner = Map, "ksyms" {
        Map = "map": "in the map's ksyms[]",
        Link = "link": "with the attachment",
    }
    /// When kallsyms learns of a trampoline.
    kallsyms: KsymTime = AfterReg, "kallsyms" {
        AfterReg = "after-reg": "once reg() or update() has returned",
        BeforeReg = "before-reg": "before reg() or update() can make the trampoline reachable",
    }
    /// How many links may be attached to one map.
    links: Links = Many, "links" {
        Many = "many": "as many as the subsystem's reg() accepts",
        One = "one": "a link takes the map from READY to INUSE; a second one gets -EBUSY",
    }
    /// How a program finds the instance for which it was called.
    identity: Identity = None, "identity" {
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
    /// Where the subsystem's validate() runs.
    validate: Validate = MapUpdate, "validate" {
        MapUpdate = "map_update": "in map_update: a bad struct is refused there and the map stays INIT",
        LinkCreate = "link_create": "after the trampolines are generated, so for link maps at link_create",
    }
    /// When image pages are freed.
    free: Free = WithMap, "free" {
        WithMap = "with-map": "with the map, after its grace periods",
        AtOnce = "at-once": "at once, when an attach fails or the link has moved to another map",
        Deferred = "deferred": "after the attachment's last user and its grace periods",
    }
    /// What `bpf_struct_ops_get()` and `bpf_struct_ops_put()` count.
    count: Count = Map, "count" {
        Map = "map": "the map",
        Attachment = "attachment": "the attachment that owns the kdata",
    }
    /// Who holds references on the programs of an attachment.
    progs: ProgOwner = Map, "progs" {
        Map = "map": "the map alone",
        Attachment = "attachment": "the map, and each attachment too",
    }
    /// Which grace periods precede the freeing of images.
    grace: Grace = RcuTasks, "grace" {
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
    /// Where the wait for grace periods takes place.
    wait: Wait = Worker, "wait" {
        Worker = "worker": "in deferred work, with no lock held",
        UpdateMutex = "update-mutex": "in link_detach and link_update, under update_mutex",
    }
    /// What link_update does when the new map is the one already attached.
    same_map: SameMap = Update, "same-map" {
        Update = "update": "it calls the subsystem's update() with new and old kdata",
        Refuse = "refuse": "it refuses with -EINVAL",
        Nothing = "nothing": "it returns 0 and changes nothing",
    }
    /// What map_update returns when the module-owner member is not zero.
    owner_check: OwnerCheck = Stale, "owner-errno" {
        Stale = "stale": "whatever the previous member left in err, as in Linux",
        Einval = "einval": "-EINVAL",
    }
    /// A deliberate mistake in the model, to prove that an invariant catches it. No design has one.
    twin: Twin = None, "twin" {
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
}

choices! {
    /// How a kfunc finds the scheduler of the program that calls it: the choices behind [`Identity`].
    #[derive(Copy)]
    Lookup {}
    /// Where a program finds the map's id.
    map_id_in: MapIdIn = Global, "map-id-in" {
        Global = "global": "in a global variable, stored by the loader",
        Slot = "slot": "in the cookie slot of the struct_ops trampolines, put there by the kernel; elsewhere in a global variable",
    }
    /// Who reads the cookie.
    cookie_read: CookieRead = Ctx, "cookie-read" {
        Ctx = "ctx": "the program, with a helper that takes its ctx: code without a ctx is refused",
        Current = "current": "the kfunc, from current->bpf_ctx, whosever it is",
    }
    /// What enabling a scheduler does when another one has the same cookie or map_extra.
    same_key: SameKey = Refuse, "same-key" {
        Refuse = "refuse": "it fails with -EEXIST",
        First = "first": "it succeeds, and lookups find the first one",
    }
    /// What becomes of the pointer in a struct_ops program when a second map takes the program.
    assoc_share: AssocShare = Poison, "assoc-share" {
        Poison = "poison": "POISON, for the rest of the program's life: lookups find nothing",
        KeepFirst = "keep-first": "it silently stays with the first map",
        Overwrite = "overwrite": "it silently moves to the second map",
        Refuse = "refuse": "it stays, and the second map_update fails with -EINVAL",
    }
    /// What freeing a map does to POISON.
    assoc_free: AssocFree = KeepPoison, "assoc-free" {
        KeepPoison = "keep-poison": "nothing",
        ClearPoison = "clear-poison": "it is cleared like a pointer to the map",
    }
    /// Who holds the map for a program that BPF_PROG_ASSOC_STRUCT_OPS has tied to it.
    assoc_ref: AssocRef = Command, "assoc-ref" {
        Command = "command": "the command takes a reference, the freeing of the program drops it",
        Getter = "getter": "nobody: the getter takes a reference, and its caller drops it",
    }
    /// What the getter does to the map's reference count, beside what assoc-ref=getter asks for.
    assoc_get: AssocGet = Plain, "assoc-get" {
        Plain = "plain": "nothing",
        Put = "put": "its caller drops a reference that the getter did not take",
    }
    /// What tying a program to the map it is tied to already does.
    assoc_again: AssocAgain = Same, "assoc-again" {
        Same = "same": "it returns 0 and changes nothing",
        Counted = "counted": "it takes another map reference",
    }
    /// When map_update ties the struct_ops programs of a map to it.
    assoc_tie: AssocTie = AsTaken, "assoc-tie" {
        AsTaken = "as-taken": "each as it is taken, before anything of what follows can fail",
        WhenReady = "when-ready": "all of them, once nothing can fail any more",
    }
    /// How often a map_update that fails puts the programs that it has taken.
    assoc_undo: AssocUndo = Once, "assoc-undo" {
        Once = "once": "once",
        Twice = "twice": "twice",
    }
    /// When the pointers to a map are cleared that is being freed.
    assoc_clear: AssocClear = BeforeGp, "assoc-clear" {
        BeforeGp = "before-gp": "before the grace period that precedes the free",
        AfterGp = "after-gp": "after it, when the memory goes",
    }
    /// When the this-pointer is cleared.
    this_clear: ThisClear = MapFree, "this-clear" {
        MapFree = "map-free": "when the map is freed",
        Detach = "detach": "at link_detach already",
    }
    /// What a kfunc does for a program that names no scheduler.
    fallback: Fallback = None, "fallback" {
        None = "none": "nothing",
        Root = "root": "it takes the root scheduler, unless that one takes sub-schedulers (Linux 7.x)",
    }
}
