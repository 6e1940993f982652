//! `--format json`: the documents that verbs print, as types. Not what is in them: each verb knows.
//!
//! A contract: an addition keeps [`SCHEMA`], any other change raises it. The JSON Schemas in `docs/src/schema/` are made
//! from these types by [`schemas`].

pub mod check;
pub mod compare;
pub mod cost;
pub mod explain;
pub mod random;
pub mod reach;
pub mod steps;
pub mod stress;

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde::{Deserialize, Serialize};

use crate::bounds::Bound;

/// The version of every document and of saved traces.
pub const SCHEMA: u32 = 2;

/// Who prints: documents of another program are none of ours.
pub const TOOL: &str = env!("CARGO_PKG_NAME");

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What every document says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Origin {
    /// The version of this schema. Additions keep it: ignore what you do not know.
    pub schema: u32,
    /// The program: `struct-ops-sim`.
    pub tool: String,
    /// The program's version.
    pub version: String,
    /// The verb whose result this is.
    pub verb: String,
}

impl Origin {
    /// A document of this program and version.
    pub fn new(verb: &str) -> Self {
        Origin {
            schema: SCHEMA,
            tool: TOOL.into(),
            version: VERSION.into(),
            verb: verb.into(),
        }
    }
}

/// One document: all that a run of the program prints on standard output.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Document<T> {
    /// What it is.
    #[serde(flatten)]
    pub origin: Origin,
    /// The exit status: 0 as expected, 1 a verdict differs from what is expected, 2 a bound was hit, 3 a scenario cannot
    /// be run as it is. With any other status there is a message on standard error, and a document only if something is
    /// known in spite of it.
    pub exit: u8,
    /// What the verb has found.
    #[serde(flatten)]
    pub body: T,
}

impl<T> Document<T> {
    /// The document of a verb.
    pub fn new(verb: &str, exit: u8, body: T) -> Self {
        Document {
            origin: Origin::new(verb),
            exit,
            body,
        }
    }
}

/// Why not everything was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Incomplete {
    /// The bound: an option's name (`max-states`, `max-memory`, `timeout`, `seconds`), a signal's (`SIGTERM`), or
    /// `model-table`, which the scenario is too large for.
    pub bound: String,
    /// The same in words.
    pub reason: String,
}

impl From<Bound> for Incomplete {
    fn from(bound: Bound) -> Self {
        Incomplete {
            bound: bound.word().into(),
            reason: bound.reason(),
        }
    }
}

impl Incomplete {
    /// The bound that this was made from.
    ///
    /// # Errors
    /// That there is none.
    pub fn read(&self) -> Result<Bound, String> {
        let found =
            Bound::all().find(|b| (b.word(), b.reason()) == (&self.bound, self.reason.clone()));
        found.ok_or_else(|| format!("`{}` ({}) is no bound", self.bound, self.reason))
    }
}

/// The JSON Schema of each kind of document, by its name: the verb that prints it, or what else it is.
pub fn schemas() -> Vec<(&'static str, Schema)> {
    vec![
        ("check", document::<check::Check>("check")),
        ("merge", document::<check::Check>("merge")),
        (
            "check-lines",
            schema::<check::Line>("one line of `check --format json-lines`"),
        ),
        ("compare", document::<compare::Compare>("compare")),
        ("run", document::<steps::Run>("run")),
        ("replay", document::<steps::Replay>("replay")),
        ("random", document::<random::Random>("random")),
        ("reach", document::<reach::Reach>("reach")),
        ("cost", document::<cost::Cost>("cost")),
        ("stress", document::<stress::Stress>("stress")),
        ("list", document::<explain::List>("list")),
        ("explain", document::<explain::Explain>("explain")),
        ("trace", schema::<crate::tracefile::File>("a saved trace")),
        (
            "history",
            schema::<crate::history::file::File>("a saved history"),
        ),
    ]
}

fn document<T: JsonSchema>(verb: &str) -> Schema {
    let mut schema = schema::<Document<T>>(&format!("what `{verb} --format json` prints"));
    let fixed = |name: &str, value: serde_json::Value| (format!("/properties/{name}"), value);
    for (place, value) in [
        fixed("schema", SCHEMA.into()),
        fixed("tool", TOOL.into()),
        fixed("verb", verb.into()),
    ] {
        let property = schema.pointer_mut(&place).and_then(|p| p.as_object_mut());
        property
            .expect("an origin has it")
            .insert("const".into(), value);
    }
    schema
}

fn schema<T: JsonSchema>(what: &str) -> Schema {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let mut schema = SchemaGenerator::new(settings).into_root_schema_for::<T>();
    schema.insert("title".into(), format!("{TOOL}: {what}").into());
    schema
}
