//! What a scenario file says of itself, whichever kind it is of: what it is called, what it asks, what it expects.
//!
//! Not here: what runs (`build` for the attach path, `reach` for lookups).

use struct_ops_model::{Design, Invariant, Linux};

use super::build::{Source, named};
use super::file::Text;
use super::{Expect, Expectation, InputError, STDIN, printable};

/// What a scenario file says of itself.
#[derive(Clone, Debug)]
pub struct Head {
    /// The file's stem.
    pub name: String,
    /// Where it was read from, for messages.
    pub file: String,
    /// Came with the program, and is found by its name.
    pub shipped: bool,
    /// The TOML text: a saved trace carries it.
    pub text: String,
    /// The kernel that was asked for in the place of the file's, if one was.
    pub on: Option<Linux>,
    /// A heading.
    pub title: String,
    /// What the scenario asks.
    pub question: String,
    /// Where the scenario comes from.
    pub source: String,
    /// The real bug that it pins, and which kernel has it.
    pub find: Option<String>,
    /// The mistake, of its subsystem or of something else than a design, that breaks promises whatever the design.
    pub fault: Option<String>,
    /// Too large for the run without arguments: explored when it is named, or with `--extended`.
    pub extended: bool,
    /// What is expected, per design.
    pub expect: Vec<Expectation>,
}

/// The keys of a file from which its head is read.
pub(super) struct Keys<'a> {
    pub title: &'a Text,
    pub question: &'a Text,
    pub source: &'a Text,
    pub find: Option<&'a Text>,
    pub fault: Option<&'a Text>,
    pub linux: Option<&'a Text>,
    pub extended: bool,
}

impl Head {
    /// Nothing is expected yet.
    pub(super) fn read(
        name: &str,
        s: &Source<'_>,
        on: Option<Linux>,
        keys: &Keys<'_>,
    ) -> Result<Self, InputError> {
        let optional = |key, text: Option<&Text>| text.map(|t| s.sentence(key, t)).transpose();
        Ok(Head {
            name: printable(name, 100),
            file: s.file.to_string(),
            shipped: false,
            text: on.map_or(s.text.into(), |on| named(s.text, keys.linux, on)),
            on,
            title: s.sentence("title", keys.title)?,
            question: s.sentence("question", keys.question)?,
            source: s.sentence("source", keys.source)?,
            find: optional("find", keys.find)?,
            fault: optional("fault", keys.fault)?,
            extended: keys.extended,
            expect: Vec::new(),
        })
    }

    /// What the file expects under a design, if it says.
    pub fn expected(&self, design: &Design) -> Option<&Expect> {
        self.expected_of(&design.name)
    }

    /// The invariants that are to be broken under a design.
    pub fn expectation(&self, design: &str) -> Option<&[Invariant]> {
        self.expected_of(design)?.violated()
    }

    fn expected_of(&self, design: &str) -> Option<&Expect> {
        let found = self.expect.iter().find(|e| e.design == design);
        found.map(|e| &e.result)
    }

    /// What to give to `--scenario`: the name of a shipped scenario, the path of another one, or `-`.
    pub fn argument(&self) -> &str {
        match self.file.as_str() {
            _ if self.shipped => &self.name,
            STDIN => "-",
            // What a shell's `<(...)` hands over is gone with the command.
            file if file.starts_with("/dev/fd/") || file.starts_with("/proc/self/fd/") => "-",
            file => file,
        }
    }
}
