//! A design as data: a few orthogonal choices, and the named presets.
//!
//! Nothing here acts. The procedures in `proc` ask a [`Design`] wherever the
//! proposals differ; the explorer knows none of them. Stands for the differences between
//! `kernel/bpf/bpf_struct_ops.c` of Linux 6.12, the bpf cookie RFC of July 2025, and the
//! repair that this project proposes.

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
        None = "none": "it cannot",
        Cookie = "cookie": "bpf_get_attach_cookie() reads what link_create was given",
        MapId = "map-id": "the struct_ops map's id",
        MapExtra = "map-extra": "a cookie given at map creation",
        ThisPointer = "this-pointer": "a pointer to kdata stored in the program at map_update",
        Association = "association": "BPF_PROG_ASSOC_STRUCT_OPS",
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
    }
);
choice!(
    /// What map_update returns when the module-owner member is not zero.
    OwnerCheck, "owner-errno", {
        Stale = "stale": "whatever the previous member left in err (Linux 6.12)",
        Einval = "einval": "-EINVAL",
    }
);

choice!(
    /// A deliberate mistake in the model, to prove that an invariant catches it. No design has one.
    Twin, "twin", {
        None = "none": "no mistake",
        WriteProtected = "write-protected": "pages are protected member by member, so the next member writes an executable page",
        ExtraPut = "extra-put": "link_create puts the map once too often",
        LostCallback = "lost-callback": "the grace period before bpf_struct_ops_map_free() never ends",
        ForeignUnreg = "foreign-unreg": "unreg() of a list takes the oldest entry, whosever it is",
    }
);

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

    /// Every preset, in the order of [`PRESETS`].
    pub fn presets() -> Vec<Self> {
        vec![
            Self::mainline(),
            Self::rfc(),
            Self::rfc_one_link(),
            Self::link_owned(),
        ]
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
        for choice in &choices {
            let (key, value) = choice.split_once('=').expect("kept because it has one");
            design.set(key, value)?;
        }
        design.name = text.to_string();
        design.check()?;
        Ok(design)
    }

    fn keys() -> Vec<&'static str> {
        Self::choices().iter().map(|c| c.0).collect()
    }

    /// Every choice with its values and their meanings: `(key, [(value, meaning)])`.
    pub fn choices() -> Vec<(&'static str, Vec<(&'static str, &'static str)>)> {
        macro_rules! all {
            ($($t:ident),+) => { vec![$(($t::KEY, $t::VALUES.iter().map(|v| (v.0, v.2)).collect())),+] };
        }
        all!(
            Build, Owner, KdataOwner, KsymOwner, KsymTime, Links, Identity, Validate, Free, Count,
            ProgOwner, Grace, Wait, SameMap, OwnerCheck, Twin
        )
    }

    /// This design's value for every key, in the order of [`Design::choices`].
    pub fn values(&self) -> Vec<(&'static str, &'static str)> {
        vec![
            (Build::KEY, self.build.as_str()),
            (Owner::KEY, self.owner.as_str()),
            (KdataOwner::KEY, self.kdata.as_str()),
            (KsymOwner::KEY, self.ksyms.as_str()),
            (KsymTime::KEY, self.kallsyms.as_str()),
            (Links::KEY, self.links.as_str()),
            (Identity::KEY, self.identity.as_str()),
            (Validate::KEY, self.validate.as_str()),
            (Free::KEY, self.free.as_str()),
            (Count::KEY, self.count.as_str()),
            (ProgOwner::KEY, self.progs.as_str()),
            (Grace::KEY, self.grace.as_str()),
            (Wait::KEY, self.wait.as_str()),
            (SameMap::KEY, self.same_map.as_str()),
            (OwnerCheck::KEY, self.owner_check.as_str()),
            (Twin::KEY, self.twin.as_str()),
        ]
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), DesignError> {
        match key {
            Build::KEY => self.build = Build::parse(value)?,
            Owner::KEY => {
                self.owner = Owner::parse(value)?;
                // What the attachment owns follows its images unless it is said otherwise.
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
            KdataOwner::KEY => {
                self.kdata = KdataOwner::parse(value)?;
                if self.kdata == KdataOwner::Map {
                    self.count = Count::Map;
                }
            }
            KsymOwner::KEY => self.ksyms = KsymOwner::parse(value)?,
            KsymTime::KEY => self.kallsyms = KsymTime::parse(value)?,
            Links::KEY => self.links = Links::parse(value)?,
            Identity::KEY => self.identity = Identity::parse(value)?,
            Validate::KEY => self.validate = Validate::parse(value)?,
            Free::KEY => self.free = Free::parse(value)?,
            Count::KEY => self.count = Count::parse(value)?,
            ProgOwner::KEY => self.progs = ProgOwner::parse(value)?,
            Grace::KEY => self.grace = Grace::parse(value)?,
            Wait::KEY => self.wait = Wait::parse(value)?,
            SameMap::KEY => self.same_map = SameMap::parse(value)?,
            OwnerCheck::KEY => self.owner_check = OwnerCheck::parse(value)?,
            Twin::KEY => self.twin = Twin::parse(value)?,
            _ => {
                return Err(DesignError::UnknownKey {
                    found: key.into(),
                    expected: Self::keys(),
                });
            }
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
        if !matches!(self.identity, Identity::None | Identity::Cookie) {
            return nonsense(
                "this identity needs lookups by schedulers, which the model does not have",
            );
        }
        Ok(())
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
    }
}
