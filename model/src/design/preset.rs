//! The designs that have a name.

use super::choice::*;
use super::{Design, Lookup};

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

impl Lookup {
    /// What the proposal behind an identity chose.
    pub fn of(identity: Identity) -> Self {
        let plain = Lookup::mainline();
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

impl Design {
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
            identity: Identity::Cookie,
            lookup: Lookup::of(Identity::Cookie),
            free: Free::Deferred,
            count: Count::Attachment,
            progs: ProgOwner::Attachment,
            grace: Grace::TasksTraceTasks,
            owner_check: OwnerCheck::Einval,
            ..Self::mainline()
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
}
