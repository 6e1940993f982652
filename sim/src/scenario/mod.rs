//! Scenario files: one question each, what runs, and what should come of it.
//!
//! [`Scenario::parse`] reads TOML into a [`World`] and the verdicts that the file expects. Nothing is
//! explored here, and no file is opened: `shipped` finds files.

mod build;
mod emit;
mod error;
mod file;
pub mod name;
mod operation;
mod plan;
mod reach;
mod script;
#[cfg(test)]
mod tests;

use struct_ops_model::{Design, Invariant, Linux, World};

pub use emit::{Words, emit, operation, position};
pub use error::{
    InputError, Place, close, in_words, printable, printable_lines, unknown, unprintable,
};
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

fn expected<'a>(expect: &'a [Expectation], design: &str) -> Option<&'a Expect> {
    let found = expect.iter().find(|e| e.design == design);
    found.map(|e| &e.result)
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
        let case = Case::read(self.name(), self.file(), self.text(), linux)?;
        Ok(if self.shipped() { case.ship() } else { case })
    }

    fn read(name: &str, file: &str, text: &str, on: Option<Linux>) -> Result<Self, InputError> {
        Ok(match build::kind(file, text)? {
            Kind::Attach => Case::Attach(Box::new(build::scenario(name, file, text, on)?)),
            Kind::Reach => Case::Reach(Box::new(ReachScenario::read(name, file, text, on)?)),
        })
    }

    /// The kernel that was asked for in the place of the file's, if one was.
    pub fn asked_linux(&self) -> Option<Linux> {
        match self {
            Case::Attach(s) => s.on,
            Case::Reach(s) => s.on,
        }
    }

    /// The name.
    pub fn name(&self) -> &str {
        match self {
            Case::Attach(s) => &s.name,
            Case::Reach(s) => &s.name,
        }
    }

    /// The heading.
    pub fn title(&self) -> &str {
        match self {
            Case::Attach(s) => &s.title,
            Case::Reach(s) => &s.title,
        }
    }

    /// What it asks.
    pub fn question(&self) -> &str {
        match self {
            Case::Attach(s) => &s.question,
            Case::Reach(s) => &s.question,
        }
    }

    /// Too large for a run without `--extended`.
    pub fn extended(&self) -> bool {
        match self {
            Case::Attach(s) => s.extended,
            Case::Reach(_) => false,
        }
    }

    /// What breaks in it is a mistake of its subsystem, and says nothing of a design.
    pub fn fault(&self) -> bool {
        match self {
            Case::Attach(s) => s.fault.is_some(),
            Case::Reach(s) => s.fault.is_some(),
        }
    }

    /// Where it was read from.
    pub fn file(&self) -> &str {
        match self {
            Case::Attach(s) => &s.file,
            Case::Reach(s) => &s.file,
        }
    }

    /// The text of the file.
    pub fn text(&self) -> &str {
        match self {
            Case::Attach(s) => &s.text,
            Case::Reach(s) => &s.text,
        }
    }

    /// It came with the program.
    pub fn shipped(&self) -> bool {
        match self {
            Case::Attach(s) => s.shipped,
            Case::Reach(s) => s.shipped,
        }
    }

    /// The same as one that came with the program.
    #[must_use]
    pub fn ship(mut self) -> Self {
        match &mut self {
            Case::Attach(s) => s.shipped = true,
            Case::Reach(s) => s.shipped = true,
        }
        self
    }

    /// What to give to `--scenario`: the name of a shipped scenario, the path of another one, or `-`.
    pub fn argument(&self) -> &str {
        match self {
            Case::Attach(s) => s.argument(),
            Case::Reach(s) => s.argument(),
        }
    }

    /// What each CPU or loader is to do.
    pub fn plans(&self) -> Vec<PlanText> {
        match self {
            Case::Attach(s) => s.plans(),
            Case::Reach(s) => s.plans(),
        }
    }

    /// What the file expects under a design, if it says.
    pub fn expected(&self, design: &Design) -> Option<&Expect> {
        match self {
            Case::Attach(s) => s.expected(design),
            Case::Reach(s) => expected(&s.expect, &design.name),
        }
    }

    /// Why it has no meaning under the designs under which it is not run, if there are such.
    pub fn only(&self) -> Option<String> {
        match self {
            Case::Attach(s) => {
                let (designs, why) = s.only.as_ref()?;
                Some(format!("`designs` is {}: {why}", designs.join(", ")))
            }
            Case::Reach(s) if s.expect.is_empty() => None,
            Case::Reach(s) => {
                let designs: Vec<&str> = s.expect.iter().map(|e| e.design.as_str()).collect();
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
                by_name || s.expect.is_empty() || expected(&s.expect, &design.name).is_some()
            }
        }
    }
}

/// What messages call standard input.
pub const STDIN: &str = "<stdin>";

fn argument<'a>(shipped: bool, name: &'a str, file: &'a str) -> &'a str {
    match file {
        _ if shipped => name,
        STDIN => "-",
        // What a shell's `<(...)` hands over is gone with the command.
        file if file.starts_with("/dev/fd/") || file.starts_with("/proc/self/fd/") => "-",
        file => file,
    }
}

/// A scenario file, understood.
#[derive(Clone, Debug)]
pub struct Scenario {
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
    /// The mistake of its subsystem that breaks promises, whatever the design.
    pub fault: Option<String>,
    /// Too large for the run without arguments: explored when it is named, or with `--extended`.
    pub extended: bool,
    /// The only designs under which it is run, and why.
    pub only: Option<(Vec<String>, String)>,
    /// What runs.
    pub world: World,
    /// What is expected, per design.
    pub expect: Vec<Expectation>,
}

impl Scenario {
    /// Reads the text of a scenario file.
    ///
    /// # Errors
    /// Says where the first mistake is, what was found, what is expected and what is close.
    pub fn parse(name: &str, file: &str, text: &str) -> Result<Self, InputError> {
        build::scenario(name, file, text, None)
    }

    /// What the file expects under a design, if it says.
    pub fn expected(&self, design: &Design) -> Option<&Expect> {
        expected(&self.expect, &design.name)
    }

    /// The invariants that are to be broken under a design.
    pub fn expectation(&self, design: &str) -> Option<&[Invariant]> {
        expected(&self.expect, design)?.violated()
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

    /// What to give to `--scenario`: the name of a shipped scenario, the path of another one, or `-`.
    pub fn argument(&self) -> &str {
        argument(self.shipped, &self.name, &self.file)
    }
}
