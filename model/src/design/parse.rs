//! A design as users write it: a preset, and choices that differ from it.
//!
//! Not here: which mixes make sense (`sense`).

use std::fmt;

use super::choice::*;
use super::error::DesignError;
use super::{Design, Lookup, PRESETS};

impl Design {
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

    fn set(&mut self, key: &str, value: &str) -> Result<(), DesignError> {
        if !self.choose(key, value)? && !self.lookup.choose(key, value)? {
            return Err(DesignError::UnknownKey {
                found: key.into(),
                expected: Self::keys(),
            });
        }
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
}

impl fmt::Display for Design {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
