//! A design as data: a few orthogonal choices, and the named presets.
//!
//! Nothing here acts. The procedures in `proc` ask a [`Design`] wherever the proposals differ; the explorer knows none
//! of them.

mod choice;
mod error;
mod parse;
mod preset;
mod sense;

use crate::place::Linux;
use crate::world::World;

pub use choice::*;
pub use error::{DesignError, close};
pub use preset::PRESETS;

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
        } else if Lookup::has(key) || is(Twin::NoDeadCheck) || is(Twin::StaleEntry) {
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
    /// Whether the choice with this key is one of these.
    fn has(key: &str) -> bool {
        Self::rows().iter().any(|row| row.0 == key)
    }

    /// Whether the choice with this key makes a difference under an identity.
    pub fn matters(key: &str, identity: Identity) -> bool {
        if !Self::has(key) {
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
}

impl Design {
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

    /// Every choice with its values and their meanings: `(key, [(value, meaning)])`.
    pub fn choices() -> Vec<Choice> {
        with_details(Self::rows(), Lookup::rows(), |row| row.0)
    }

    /// This design's value for every key, in the order of [`Design::choices`].
    pub fn values(&self) -> Vec<(&'static str, &'static str)> {
        with_details(self.chosen(), self.lookup.chosen(), |row| row.0)
    }
}

/// The rows of a design with those of its [`Lookup`] behind [`Identity`], whose details they are.
fn with_details<T>(mut own: Vec<T>, details: Vec<T>, key: impl Fn(&T) -> &'static str) -> Vec<T> {
    let identity = own.iter().position(|row| key(row) == Identity::KEY);
    let behind = identity.map_or(own.len(), |place| place + 1);
    own.splice(behind..behind, details);
    own
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

    /// What owns images by the map has no attachment: each choice about one makes no sense by itself.
    #[test]
    fn an_attachment_is_asked_of_designs_that_have_one() {
        for choice in [
            "kdata=link",
            "ksyms=link",
            "count=attachment",
            "progs=attachment",
            "free=deferred",
            "wait=update-mutex",
        ] {
            let mix = format!("mainline,{choice}");
            let error = Design::parse(&mix).unwrap_err();
            assert!(
                matches!(error, DesignError::Nonsense { .. }),
                "{mix}: {error}"
            );
            assert!(error.to_string().contains(choice), "{mix}: {error}");
        }
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
