//! The tables and keys of a scenario file, as TOML has them. What the values mean is in `build`.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use toml::Spanned;

/// A text with its place.
pub(super) type Text = Spanned<String>;
/// A number with its place.
pub(super) type Number = Spanned<i64>;

/// The whole file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", expecting = "a table")]
pub(super) struct File {
    #[serde(rename = "kind")]
    pub _kind: Option<String>,
    pub title: Text,
    pub question: Text,
    pub source: Text,
    pub find: Option<Text>,
    pub linux: Option<Text>,
    pub fault: Option<Text>,
    #[serde(default)]
    pub extended: bool,
    pub designs: Option<Spanned<Vec<Text>>>,
    pub designs_why: Option<Text>,
    #[serde(rename = "subsystem", default)]
    pub subsystems: Vec<Spanned<SubsystemTable>>,
    #[serde(rename = "type", default)]
    pub types: Vec<TypeTable>,
    #[serde(rename = "program", default)]
    pub programs: Vec<ProgramTable>,
    #[serde(rename = "map", default)]
    pub maps: Vec<MapTable>,
    #[serde(rename = "cgroup", default)]
    pub cgroups: Vec<CgroupTable>,
    #[serde(default)]
    pub run: RunTable,
    #[serde(rename = "cpu", default)]
    pub cpus: Vec<Spanned<CpuTable>>,
    #[serde(default)]
    pub expect: BTreeMap<Text, Spanned<Expects>>,
}

/// `[[subsystem]]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct SubsystemTable {
    pub name: Text,
    #[serde(default)]
    pub locks: Vec<Text>,
    #[serde(default)]
    pub slots: BTreeMap<Text, Text>,
    #[serde(default)]
    pub srcu: Vec<Text>,
    #[serde(default)]
    pub flags: BTreeMap<Text, bool>,
    #[serde(default)]
    pub objects: Vec<Text>,
    #[serde(default)]
    pub members: Vec<Text>,
    pub reg: Text,
    pub unreg: Text,
    pub update: Option<Text>,
    pub teardown: Option<Text>,
    #[serde(default)]
    pub run: BTreeMap<Text, Text>,
}

/// `[[type]]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct TypeTable {
    pub name: Text,
    pub subsystem: Text,
    #[serde(default)]
    pub module: bool,
    pub members: Spanned<Vec<MemberTable>>,
}

/// One of a type's `members`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct MemberTable {
    pub name: Text,
    #[serde(default)]
    pub required: bool,
    #[serde(default)]
    pub sleepable: bool,
    pub size: Option<Number>,
}

/// `[[program]]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct ProgramTable {
    pub name: Text,
    pub kind: Option<Text>,
    #[serde(rename = "type")]
    pub ty: Option<Text>,
    pub member: Option<Text>,
    pub body: Option<Text>,
    pub process: Option<Number>,
}

/// `[[map]]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct MapTable {
    pub name: Text,
    #[serde(rename = "type")]
    pub ty: Text,
    pub link: Option<bool>,
    pub key: Option<Text>,
    #[serde(default)]
    pub programs: Vec<Text>,
    #[serde(default)]
    pub owner: bool,
}

/// `[[cgroup]]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct CgroupTable {
    pub name: Text,
    pub parent: Option<Text>,
}

/// `[run]`
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", expecting = "a table")]
pub(super) struct RunTable {
    pub processes: Option<Number>,
    pub alloc_failures: Option<Number>,
    pub max_links: Option<Number>,
    #[serde(default)]
    pub cookies: Vec<Number>,
    #[serde(default)]
    pub setup: Vec<Text>,
}

/// `[[cpu]]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct CpuTable {
    pub process: Option<Number>,
    #[serde(rename = "do")]
    pub operations: Option<Vec<Text>>,
    pub choose: Option<Spanned<Choose>>,
    pub times: Option<Number>,
}

/// A word or a list of words.
pub(super) enum WordOrList {
    Word(String),
    List(Vec<Text>),
}

/// `choose`: `"any"` or a list of operations.
pub(super) struct Choose(pub WordOrList);

/// What `[expect]` says of a design: `"set-up fails"` or a list of invariants.
pub(super) struct Expects(pub WordOrList);

// Not `untagged`: that would buffer the values and lose their places.
struct Either(&'static str);

impl<'de> Visitor<'de> for Either {
    type Value = WordOrList;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E>(self, text: &str) -> Result<WordOrList, E> {
        Ok(WordOrList::Word(text.to_string()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<WordOrList, A::Error> {
        let mut words = Vec::new();
        while let Some(word) = list.next_element()? {
            words.push(word);
        }
        Ok(WordOrList::List(words))
    }
}

impl<'de> Deserialize<'de> for Choose {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let either = Either("\"any\" or a list of operations");
        deserializer.deserialize_any(either).map(Choose)
    }
}

impl<'de> Deserialize<'de> for Expects {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let either = Either("a list of invariants, or \"set-up fails\"");
        deserializer.deserialize_any(either).map(Expects)
    }
}
