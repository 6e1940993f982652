//! Scenario files: one question each, what runs, and what should come of it.
//!
//! [`Scenario::parse`] reads TOML into a [`World`] and the verdicts that the file expects. Nothing is
//! explored here, and no file is opened: `shipped` finds files.

mod build;
mod emit;
mod error;
mod file;
mod head;
pub mod name;
mod operation;
mod plan;
mod reach;
mod script;
#[cfg(test)]
mod tests;

use struct_ops_model::design::About;
use struct_ops_model::{Design, Invariant, Linux, World};

pub use emit::{Words, emit, operation, position};
pub use error::{
    InputError, Place, close, in_words, printable, printable_lines, unknown, unprintable,
};
pub use head::Head;
pub use reach::{ReachScenario, unknown_program};
pub use script::{
    STATEMENTS, alone as shipped_subsystem, built_in as built_in_subsystem,
    shipped as shipped_subsystems,
};

/// What a scenario expects under one design.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// The design as the file names it.
    pub design: String,
    /// What should come of it.
    pub result: Expect,
}

/// What should come of a scenario under a design.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// These invariants are broken, in the order of [`Invariant::ALL`], and no others.
    Violated(Vec<Invariant>),
    /// The set-up does not work: the design refuses one of its operations.
    SetUpFails,
}

impl Expect {
    /// How a file writes [`Expect::SetUpFails`].
    pub const SET_UP_FAILS: &str = "set-up fails";

    /// The invariants that are to be broken, unless nothing is to run.
    pub fn violated(&self) -> Option<&[Invariant]> {
        match self {
            Expect::Violated(invariants) => Some(invariants),
            Expect::SetUpFails => None,
        }
    }
}

/// What one CPU or loader is to do, as a file writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanText {
    /// `cpu0`, `loader 1`.
    pub actor: String,
    /// The operations, or the kinds of operation to choose from.
    pub operations: Vec<String>,
    /// How many of them come in order, before all others.
    pub ordered: usize,
    /// It may choose any operation that has a meaning.
    pub any: bool,
}

/// The word before the first space.
fn first_word(text: &str) -> &str {
    text.split(' ').next().unwrap_or_default()
}

/// What a scenario file is about, as its `kind` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The attach path. Also without a `kind`.
    Attach,
    /// Schedulers and the programs that look for them.
    Reach,
}

impl Kind {
    const NAMES: [(&str, Kind); 2] = [("attach", Kind::Attach), ("reach", Kind::Reach)];
}

/// A scenario file of either kind.
#[derive(Clone, Debug)]
pub enum Case {
    /// About the attach path.
    Attach(Box<Scenario>),
    /// About schedulers and the programs that look for them.
    Reach(Box<ReachScenario>),
}

impl Case {
    /// Reads the text of a scenario file; its `kind` says which one it is.
    ///
    /// # Errors
    /// Says where the first mistake is, what was found, what is expected and what is close.
    pub fn parse(name: &str, file: &str, text: &str) -> Result<Self, InputError> {
        Case::read(name, file, text, None)
    }

    /// The same scenario on another kernel than its file names, if one is given: as if the file named that one.
    ///
    /// # Errors
    /// That kernel does not have all of what the scenario is about.
    pub fn on(self, linux: Option<Linux>) -> Result<Self, InputError> {
        if linux.is_none() {
            return Ok(self);
        }
        let Head {
            name,
            file,
            text,
            shipped,
            ..
        } = self.head();
        let case = Case::read(name, file, text, linux)?;
        Ok(if *shipped { case.ship() } else { case })
    }

    fn read(name: &str, file: &str, text: &str, on: Option<Linux>) -> Result<Self, InputError> {
        Ok(match build::kind(file, text)? {
            Kind::Attach => Case::Attach(Box::new(build::scenario(name, file, text, on)?)),
            Kind::Reach => Case::Reach(Box::new(ReachScenario::read(name, file, text, on)?)),
        })
    }

    /// What the file says of itself.
    pub fn head(&self) -> &Head {
        match self {
            Case::Attach(s) => &s.head,
            Case::Reach(s) => &s.head,
        }
    }

    /// What it is about, and which choices of a design its runs ask for.
    pub fn about(&self) -> About {
        match self {
            Case::Attach(_) => About::AttachPath,
            Case::Reach(_) => About::Lookups,
        }
    }

    /// Whether one of its runs could break the invariant.
    pub fn asks(&self, invariant: Invariant) -> bool {
        invariant.of_lookups() == (self.about() == About::Lookups)
    }

    /// The same as one that came with the program.
    #[must_use]
    pub fn ship(mut self) -> Self {
        match &mut self {
            Case::Attach(s) => s.head.shipped = true,
            Case::Reach(s) => s.head.shipped = true,
        }
        self
    }

    /// What each CPU or loader is to do.
    pub fn plans(&self) -> Vec<PlanText> {
        match self {
            Case::Attach(s) => s.plans(),
            Case::Reach(s) => s.plans(),
        }
    }

    /// Why it has no meaning under the designs under which it is not run, if there are such.
    pub fn only(&self) -> Option<String> {
        match self {
            Case::Attach(s) => {
                let (designs, why) = s.only.as_ref()?;
                Some(format!("`designs` is {}: {why}", designs.join(", ")))
            }
            Case::Reach(s) if s.head.expect.is_empty() => None,
            Case::Reach(s) => {
                let designs: Vec<&str> = s.head.expect.iter().map(|e| e.design.as_str()).collect();
                Some(format!("[expect] speaks of {}", designs.join(", ")))
            }
        }
    }

    /// Whether it has a meaning under a design. A design that attaches as mainline does is not explored again
    /// unless somebody asks for it by name; nor is a lookup scenario under a design of which it expects nothing.
    pub fn runs_under(&self, design: &Design, by_name: bool) -> bool {
        match self {
            Case::Attach(s) => {
                let own = design.shows_identity(&s.world) || !design.attaches_as_mainline();
                s.runs_under(design) && (by_name || own)
            }
            Case::Reach(s) => {
                by_name || s.head.expect.is_empty() || s.head.expected(design).is_some()
            }
        }
    }
}

/// What messages call standard input.
pub const STDIN: &str = "<stdin>";

/// A scenario file, understood.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What the file says of itself.
    pub head: Head,
    /// The only designs under which it is run, and why.
    pub only: Option<(Vec<String>, String)>,
    /// What runs.
    pub world: World,
}

impl Scenario {
    /// Reads the text of a scenario file.
    ///
    /// # Errors
    /// Says where the first mistake is, what was found, what is expected and what is close.
    pub fn parse(name: &str, file: &str, text: &str) -> Result<Self, InputError> {
        build::scenario(name, file, text, None)
    }

    /// What each CPU is to do.
    pub fn plans(&self) -> Vec<PlanText> {
        emit::plans(&self.world)
    }

    /// The set-up's operation with this index, as a file writes it.
    pub fn setup_operation(&self, index: usize) -> String {
        emit::operation(&self.world, self.world.setup[index])
    }

    /// Whether the scenario has a meaning under the design: mixes are judged by the preset they start from.
    pub fn runs_under(&self, design: &Design) -> bool {
        let preset = design.name.split(',').next().unwrap_or_default();
        self.only
            .as_ref()
            .is_none_or(|(only, _)| only.iter().any(|d| *d == design.name || d == preset))
    }
}
