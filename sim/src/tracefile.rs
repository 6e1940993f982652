//! Trace files: a scenario, a design, the actions and what they broke, in one JSON file that needs nothing else.
//!
//! A saved counterexample is a regression test: [`File::replay`] carries the actions out again, and
//! [`Replayed::again`] says whether each promise that the file records is broken again. Not here: what is printed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use struct_ops_model::design::About;
use struct_ops_model::reach::{Found, Kind, Reach};
use struct_ops_model::{Design, Invariant};

use crate::counterexample::steps;
use crate::reach::{self, Help};
use crate::report::json::{SCHEMA, VERSION};
use crate::scenario::{
    Case, Head, InputError, ReachScenario, Scenario, in_words, printable, unknown, unknown_program,
};
use crate::shipped;
use crate::trace::{Broken, Trace};
use crate::verdict::Counterexample;
use crate::walk::{self, NotCarriedOut, NotEnabled, Walked};

/// The first version of the file format: it records neither what was broken nor who saved it.
const WITHOUT_PROMISE: u32 = 1;

/// Most characters of a word that is shown as it is saved.
pub(crate) const WORD: usize = 60;

/// A saved trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct File {
    /// The version of this schema.
    schema: u32,
    /// The version of struct-ops-sim that saved it; none in files of schema 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// What runs, if the trace is about the attach path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scenario: Option<Embedded>,
    /// Where schedulers are looked up, if the trace is about that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reach: Option<Subject>,
    /// The design under which it was found.
    design: String,
    /// The promises that it breaks; empty if it is kept because it breaks nothing, none in files of schema 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    breaks: Option<Vec<Promise>>,
    /// What its last step finds, if it is the run behind a cell of `reach`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    finds: Option<Finds>,
    /// One action per step.
    actions: Vec<String>,
}

/// A scenario file inside another file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct Embedded {
    /// Its name.
    name: String,
    /// Its text.
    toml: String,
}

impl Embedded {
    /// A scenario's name and text.
    pub fn new(name: &str, toml: &str) -> Self {
        Embedded {
            name: name.into(),
            toml: toml.into(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its text.
    pub fn toml(&self) -> &str {
        &self.toml
    }
}

/// Where schedulers were looked up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    untagged,
    expecting = "`reach`: expected `name` and `toml` of a scenario, or `program`, `help` and `shared` of a cell"
)]
pub enum Subject {
    /// In a scenario.
    Scenario {
        /// Its name.
        name: String,
        /// Its text.
        toml: String,
    },
    /// In the universe of a cell.
    Cell {
        /// The kind of program.
        program: String,
        /// The loader's help.
        help: String,
        /// One object file serves both schedulers.
        shared: bool,
    },
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct Promise {
    /// The invariant.
    pub invariant: String,
    /// The number of the step that broke it, from 1; none if only the final state shows it.
    pub step: Option<usize>,
    /// The step of the model that broke it, or at which a CPU is stuck.
    pub label: Option<String>,
}

impl Promise {
    /// What was broken, and the number of the step that it happened at.
    pub fn new(broken: Broken, step: Option<usize>) -> Self {
        Promise {
            invariant: broken.invariant.id().into(),
            step,
            label: broken.label().map(Into::into),
        }
    }

    /// Everything that a trace breaks, in the order of its steps.
    pub fn broken(trace: &Trace) -> Vec<Self> {
        let broken = trace.broken();
        broken
            .map(|(step, broken)| Promise::new(broken, step.map(|s| s.number)))
            .collect()
    }
}

/// What a program that asks for its scheduler finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Finds {
    /// Its own.
    Own,
    /// Nothing, although its scheduler is enabled.
    Nothing,
    /// The verifier or a system call refused what its loader wants.
    Refused,
}

impl Finds {
    /// What the last step of a trace found.
    pub fn at_the_end(trace: &Trace) -> Option<Self> {
        Some(match trace.steps.last()?.found? {
            Found::Own(_) => Finds::Own,
            Found::Nothing(_) => Finds::Nothing,
            Found::Refused(_) => Finds::Refused,
        })
    }

    /// The same in words.
    pub fn words(found: Option<Self>) -> &'static str {
        match found {
            Some(Finds::Own) => "its own scheduler is found",
            Some(Finds::Nothing) => "nothing is found",
            Some(Finds::Refused) => "something is refused",
            None => "nothing is said of what is found",
        }
    }
}

/// A promise that a file records, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Again {
    /// As recorded.
    pub recorded: Promise,
    /// Where it was broken again; none if it was not.
    pub found: Option<Promise>,
}

/// A trace file, carried out again.
#[derive(Clone, Debug)]
pub struct Replayed {
    /// The file.
    pub file: File,
    /// The scenario's name, or the kind of program.
    pub name: String,
    /// The scenario's title, if it is one.
    pub title: Option<String>,
    /// The design under which it was carried out again.
    pub design: Design,
    /// What it is about.
    pub about: About,
    /// What happened.
    pub trace: Trace,
    /// Why the actions after these steps could not be taken.
    pub parted: Option<String>,
}

impl Replayed {
    /// What became of each promise that the file records.
    pub fn again(&self) -> Vec<Again> {
        let broken = Promise::broken(&self.trace);
        let again = |recorded: &Promise| {
            let mut same = broken.iter().filter(|b| b.invariant == recorded.invariant);
            let exactly = same.clone().find(|b| *b == recorded);
            Again {
                recorded: recorded.clone(),
                found: exactly.or_else(|| same.next()).cloned(),
            }
        };
        self.file.breaks.iter().flatten().map(again).collect()
    }

    /// What the last step finds, if the file records that.
    pub fn finds(&self) -> Option<(Finds, Option<Finds>)> {
        // Nobody asks for a scheduler on the attach path.
        let finds = self.file.finds.filter(|_| self.about == About::Lookups)?;
        Some((finds, Finds::at_the_end(&self.trace)))
    }

    /// Whether it came out as recorded; `None` if nothing is recorded.
    pub fn as_recorded(&self) -> Option<bool> {
        let breaks = self.file.breaks.as_ref()?;
        let broken = if breaks.is_empty() && self.file.finds.is_none() {
            self.parted.is_none() && Promise::broken(&self.trace).is_empty()
        } else {
            self.again().iter().all(|a| a.found.is_some())
        };
        Some(broken && self.finds().is_none_or(|(was, is)| is == Some(was)))
    }
}

impl Subject {
    /// A scenario.
    pub fn scenario(name: &str, toml: &str) -> Self {
        Subject::Scenario {
            name: name.into(),
            toml: toml.into(),
        }
    }

    /// What to call it, its title, and what there is.
    fn world(
        &self,
        path: &str,
        design: &Design,
    ) -> Result<(String, Option<String>, reach::ModelWorld), InputError> {
        match self {
            Subject::Scenario { name, toml } => {
                let inner = format!("{path} (scenario {name})");
                let scenario = ReachScenario::parse(name, &inner, toml)?;
                let world = scenario.world(design);
                Ok((scenario.head.name, Some(scenario.head.title), world))
            }
            Subject::Cell {
                program,
                help,
                shared,
            } => {
                let kind = Kind::parse(program)
                    .ok_or_else(|| InputError::whole(path, unknown_program(program)))?;
                let helps = Help::of(design, kind);
                let words = || helps.iter().map(|h| h.word());
                let found = helps.iter().find(|h| h.word() == help);
                let found =
                    found.ok_or_else(|| InputError::whole(path, unknown("help", help, words())))?;
                let world = reach::universe(design, kind, *found, *shared);
                Ok((program.clone(), None, world))
            }
        }
    }
}

impl File {
    /// A trace of a scenario and the promises that it is kept for.
    pub fn new(
        about: About,
        head: &Head,
        design: &Design,
        actions: Vec<String>,
        breaks: Vec<Promise>,
    ) -> Self {
        let (name, toml) = (&head.name, &head.text);
        let (scenario, reach) = match about {
            About::Lookups => (None, Some(Subject::scenario(name, toml))),
            _ => (Some(Embedded::new(name, toml)), None),
        };
        File {
            schema: SCHEMA,
            version: Some(VERSION.into()),
            scenario,
            reach,
            design: design.name.clone(),
            breaks: Some(breaks),
            finds: None,
            actions,
        }
    }

    /// A counterexample, kept for the promise that it breaks.
    ///
    /// # Errors
    /// A bug of ours: that it cannot be carried out again.
    pub fn of_counterexample(
        case: &Case,
        design: &Design,
        found: &Counterexample,
    ) -> Result<Self, String> {
        let mut breaks = Promise::broken(&steps(case, design, found)?);
        let (id, label) = (found.invariant.id(), found.broken().label());
        breaks.retain(|p| p.invariant == id && p.label.as_deref() == label);
        let actions = found.actions.clone();
        Ok(File::new(
            case.about(),
            case.head(),
            design,
            actions,
            breaks,
        ))
    }

    /// The run behind a cell of `reach`.
    pub fn of_cell(cell: &reach::Cell, trace: &Trace) -> Self {
        File {
            schema: SCHEMA,
            version: Some(VERSION.into()),
            scenario: None,
            reach: Some(Subject::Cell {
                program: cell.kind.to_string(),
                help: cell.help.word().into(),
                shared: cell.shared,
            }),
            design: cell.design.name.clone(),
            breaks: Some(Promise::broken(trace)),
            finds: Finds::at_the_end(trace),
            actions: trace.actions(),
        }
    }

    /// The version of struct-ops-sim that saved it.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// The scenario inside, a shipped one if it is that; none behind a cell of `reach`.
    pub fn case_inside(&self) -> Option<Result<Case, InputError>> {
        let (name, toml) = match (&self.scenario, &self.reach) {
            (Some(Embedded { name, toml }), _) | (_, Some(Subject::Scenario { name, toml })) => {
                (name, toml)
            }
            _ => return None,
        };
        let shipped = shipped::names().contains(&name.as_str());
        let shipped = shipped
            .then(|| shipped::find_case(name))
            .and_then(Result::ok);
        Some(match shipped.filter(|case| &case.head().text == toml) {
            Some(case) => Ok(case),
            None => Case::parse(name, &format!("{name}.toml"), toml),
        })
    }

    /// The design under which it was found.
    pub fn design(&self) -> &str {
        &self.design
    }

    /// Writes it.
    ///
    /// # Errors
    /// What the system says.
    pub fn save(&self, path: &std::path::Path) -> Result<(), InputError> {
        let error = |e: &dyn std::fmt::Display| {
            InputError::whole(
                &path.display().to_string(),
                format!("cannot be written: {e}"),
            )
        };
        // What is cut short is of no use to anybody.
        std::fs::write(path, self.text()).map_err(|e| {
            if path.is_file() {
                let _ = std::fs::remove_file(path);
            }
            error(&e)
        })
    }

    /// The text of the file.
    pub fn text(&self) -> String {
        serde_json::to_string_pretty(self).expect("strings and numbers") + "\n"
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// Where it is wrong.
    pub fn parse(path: &str, text: &str) -> Result<Self, InputError> {
        let schema = schema_of(path, text)?;
        if !(WITHOUT_PROMISE..=SCHEMA).contains(&schema) {
            let message = if schema > SCHEMA {
                format!(
                    "schema {schema}: struct-ops-sim {VERSION} reads schemas {WITHOUT_PROMISE} to {SCHEMA}. A newer one \
                     has saved this trace: use that one, or save the trace again with this one (`check --save-traces`)"
                )
            } else {
                format!("schema {schema}: expected {WITHOUT_PROMISE} or {SCHEMA}")
            };
            return Err(InputError::whole(path, message));
        }
        let mut file: File = json(path, text)?;
        if file.scenario.is_some() == file.reach.is_some() {
            let message = "expected one of `scenario` (the attach path) and `reach` (a lookup)";
            return Err(InputError::whole(path, message));
        }
        if schema > WITHOUT_PROMISE && (file.version.is_none() || file.breaks.is_none()) {
            let message = format!("schema {schema}: expected `version` and `breaks`");
            return Err(InputError::whole(path, message));
        }
        // Words that are shown without being looked up.
        let plain = |text: &mut String| *text = printable(text, WORD);
        file.version.iter_mut().for_each(plain);
        for promise in file.breaks.iter_mut().flatten() {
            promise.label.iter_mut().for_each(plain);
            let id = &promise.invariant;
            if Invariant::from_id(id).is_none() {
                let all = Invariant::ALL.iter().map(|i| i.id());
                return Err(InputError::whole(path, unknown("invariant", id, all)));
            }
        }
        Ok(file)
    }

    /// Carries it out again, under the saved design or another one.
    ///
    /// # Errors
    /// Where the file is wrong. An action that is not enabled is a mistake only where the file was saved by this
    /// version under this design; elsewhere the run takes another way from there.
    pub fn replay(self, path: &str, design: Option<&Design>) -> Result<Replayed, InputError> {
        let saved =
            Design::parse(&self.design).map_err(|e| InputError::whole(path, e.to_string()))?;
        let design = design.unwrap_or(&saved).clone();
        let may_part = design != saved || self.version.as_deref().is_some_and(|v| v != VERSION);
        let (name, title, about, machine) = self.machine(path, &design)?;
        let whole = |message: String| InputError::whole(path, message);
        let (trace, parted) = match machine.carry_out(&self.actions) {
            Ok(trace) => (trace, None),
            Err(NotCarriedOut::NoStep(step, why)) => {
                return Err(whole(format!("step {step}: {why}")));
            }
            Err(NotCarriedOut::NotEnabled(e)) if may_part => {
                (e.before.clone(), Some(impossible(&e)))
            }
            Err(NotCarriedOut::NotEnabled(e)) => return Err(whole(impossible(&e))),
        };
        Ok(Replayed {
            name,
            title,
            file: self,
            design,
            about,
            trace,
            parted,
        })
    }

    /// What to call its subject, the title, what it is about, and the machine.
    fn machine(&self, path: &str, design: &Design) -> Result<Inside, InputError> {
        if let Some(Embedded { name, toml }) = &self.scenario {
            let inner = format!("{path} (scenario {name})");
            let scenario = Scenario::parse(name, &inner, toml)?;
            let machine = walk::attach(&scenario, design)?;
            let Head { name, title, .. } = scenario.head;
            return Ok((name, Some(title), About::AttachPath, Box::new(machine)));
        }
        let subject = self.reach.as_ref().expect("one of the two: it was parsed");
        let (name, title, world) = subject.world(path, design)?;
        let machine = Reach::new(world, design.clone());
        Ok((name, title, About::Lookups, Box::new(machine)))
    }
}

/// What [`File::machine`] finds.
type Inside = (String, Option<String>, About, Box<dyn Walked>);

/// The version that a file of ours says it has. It is asked first: a file of another one is not wrong in its details.
///
/// # Errors
/// Where the text is wrong.
pub fn schema_of(path: &str, text: &str) -> Result<u32, InputError> {
    #[derive(Deserialize)]
    #[serde(expecting = "an object")]
    struct Version {
        schema: u32,
    }
    let at = text.len() - text.trim_start().len();
    if text[at..].starts_with('[') {
        let message = "found a list, expected an object";
        return Err(InputError::at(path, text, at..at + 1, message));
    }
    json(path, text).map(|Version { schema }| schema)
}

/// Reads JSON.
///
/// # Errors
/// Where it is wrong.
pub fn json<'a, T: Deserialize<'a>>(path: &str, text: &'a str) -> Result<T, InputError> {
    serde_json::from_str(text).map_err(|e| json_error(path, text, &e))
}

fn json_error(path: &str, text: &str, error: &serde_json::Error) -> InputError {
    let message = error.to_string();
    // The place comes last; before it there may be anything that the file has.
    let place = format!(" at line {} column {}", error.line(), error.column());
    let message = message.strip_suffix(&place).unwrap_or(&message);
    let message = match error.classify() {
        serde_json::error::Category::Eof => format!("the file ends too early: {message}"),
        _ if !text.trim_start().starts_with('{') => {
            "no saved trace: expected JSON, which begins with `{`".into()
        }
        _ => in_words(message, "an object"),
    };
    let line_start: usize = text
        .split_inclusive('\n')
        .take(error.line().saturating_sub(1))
        .map(str::len)
        .sum();
    let at = line_start + error.column().saturating_sub(1);
    InputError::at(path, text, at..at, message)
}

/// What was found and what was possible.
fn impossible(refused: &NotEnabled) -> String {
    let NotEnabled {
        step,
        found,
        enabled,
        ..
    } = refused;
    if enabled.is_empty() {
        return format!("step {step}: `{found}`, but nothing can happen any more");
    }
    let mut shown: Vec<String> = enabled.iter().map(|a| format!("`{a}`")).collect();
    let more = shown.len().saturating_sub(8);
    shown.truncate(8);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    format!(
        "step {step}: `{found}` is not enabled; enabled are {}{more}",
        shown.join(", ")
    )
}
