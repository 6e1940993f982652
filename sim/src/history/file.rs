//! History files: a scenario, a design, and what was seen of its operations from outside, in one JSON file that needs
//! nothing else.
//!
//! The kernel lab saves the rounds that no run of the model explains; `explain history FILE` looks for a run again. Not
//! here: the search (`history`), and what is printed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use struct_ops_model::Design;
use struct_ops_model::world::{Plan, World};

use crate::history::{Call, Event, History, Read};
use crate::report::json::VERSION;
use crate::scenario::{InputError, Scenario, printable, unknown};
use crate::tracefile::{Embedded, WORD, json, schema_of};

/// The version of the file format.
pub const SCHEMA: u32 = 1;

/// A saved history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct File {
    /// The version of this schema.
    schema: u32,
    /// The version of struct-ops-sim that saved it.
    version: String,
    /// Whose operations were seen; every plan is fixed.
    scenario: Embedded,
    /// The design that whoever was watched stands for.
    design: String,
    /// What was seen, in the order of one clock.
    moments: Vec<Moment>,
    /// The kernel died after the last moment.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    died: bool,
    /// Nobody saw what the operations returned, nor whether they did.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unseen: bool,
    /// From the start kallsyms lists entries that are freed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    stale_ksyms: bool,
    /// The kernel may have died because it followed a list of kallsyms to what is freed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    died_of_ksyms: bool,
}

/// One moment of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct Moment {
    /// The CPU of the scenario.
    cpu: u8,
    /// The operation's place in the CPU's plan, from 0.
    operation: u8,
    /// Which moment it is.
    what: What,
    /// What it returned: 0, or a negative errno.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    result: Option<i64>,
    /// Programs that ran on its CPU meanwhile.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    programs: Vec<Ran>,
    /// How many trampolines kallsyms listed afterwards, while nobody else moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ksyms: Option<u32>,
}

/// Which moment of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// It begins.
    Begins,
    /// It has returned.
    Returns,
}

/// A program that ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct Ran {
    /// Its name.
    name: String,
    /// The cookie that it read; none if it could not ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cookie: Option<u64>,
}

impl File {
    /// What was seen of `scenario` where `design` is at work.
    pub fn new(scenario: &Scenario, design: &Design, history: &History) -> Self {
        let moment = |event: &Event| {
            let call = &history.calls[event.call()];
            let begins = Moment {
                cpu: call.cpu,
                operation: call.number,
                what: What::Begins,
                result: None,
                programs: Vec::new(),
                ksyms: None,
            };
            let ran = |read: &Read| Ran {
                name: scenario.world.progs[usize::from(read.prog)].name.clone(),
                cookie: read.cookie,
            };
            match event {
                Event::Invoke(_) => begins,
                Event::Return(_) => Moment {
                    what: What::Returns,
                    result: call.result,
                    programs: call.reads.iter().map(ran).collect(),
                    ksyms: call.ksyms,
                    ..begins
                },
            }
        };
        File {
            schema: SCHEMA,
            version: VERSION.into(),
            scenario: Embedded::new(&scenario.head.name, &scenario.head.text),
            design: design.name.clone(),
            moments: history.events.iter().map(moment).collect(),
            died: history.crashed,
            unseen: history.unseen,
            stale_ksyms: history.stale_ksyms,
            died_of_ksyms: history.died_of_ksyms,
        }
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
        if schema != SCHEMA {
            let message = format!(
                "schema {schema}: struct-ops-sim {VERSION} reads histories of schema {SCHEMA}"
            );
            return Err(InputError::whole(path, message));
        }
        let mut file: File = json(path, text)?;
        file.version = printable(&file.version, WORD);
        Ok(file)
    }

    /// The scenario, the design and the history.
    ///
    /// # Errors
    /// Where they do not fit together.
    pub fn history(&self, path: &str) -> Result<(Scenario, Design, History), InputError> {
        let design =
            Design::parse(&self.design).map_err(|e| InputError::whole(path, e.to_string()))?;
        let (name, toml) = (self.scenario.name(), self.scenario.toml());
        let scenario = Scenario::parse(name, &format!("{path} (scenario {name})"), toml)?;
        let mut history = History {
            crashed: self.died,
            unseen: self.unseen,
            stale_ksyms: self.stale_ksyms,
            died_of_ksyms: self.died_of_ksyms,
            ..History::default()
        };
        if !self.died && (self.unseen || self.died_of_ksyms) {
            let message = "`unseen` and `died_of_ksyms` are of a kernel that died: expected `died`";
            return Err(InputError::whole(path, message));
        }
        // The operation that each CPU is in, and how many it has begun.
        let mut open = vec![None; scenario.world.cpus.len()];
        let mut begun = vec![0; scenario.world.cpus.len()];
        for (i, moment) in self.moments.iter().enumerate() {
            self.add(&scenario.world, moment, &mut history, &mut open, &mut begun)
                .map_err(|why| InputError::whole(path, format!("moment {}: {why}", i + 1)))?;
        }
        Ok((scenario, design, history))
    }

    fn add(
        &self,
        world: &World,
        moment: &Moment,
        history: &mut History,
        open: &mut [Option<usize>],
        begun: &mut [usize],
    ) -> Result<(), String> {
        let (cpu, number) = (usize::from(moment.cpu), usize::from(moment.operation));
        let Some(decl) = world.cpus.get(cpu) else {
            let cpus = crate::report::text::plural(world.cpus.len(), "CPU");
            return Err(format!("cpu {cpu}: the scenario has {cpus}"));
        };
        let Plan::Fixed(operations) = &decl.plan else {
            return Err(format!("cpu {cpu} has a free plan: expected a fixed one"));
        };
        if number >= operations.len() {
            let all = crate::report::text::plural(operations.len(), "operation");
            return Err(format!("operation {number}: cpu {cpu} has {all}"));
        }
        match moment.what {
            What::Begins => {
                if moment.result.is_some() || moment.ksyms.is_some() || !moment.programs.is_empty()
                {
                    return Err("an operation that begins has no result, programs or ksyms".into());
                }
                if number != begun[cpu] {
                    return Err(format!(
                        "operation {number} of cpu {cpu} begins: expected operation {}",
                        begun[cpu]
                    ));
                }
                // Where nobody saw what returned, one follows the other.
                if open[cpu].is_some() && !self.unseen {
                    return Err(format!(
                        "operation {number} of cpu {cpu} begins before operation {} has returned",
                        number - 1
                    ));
                }
                begun[cpu] += 1;
                open[cpu] = Some(history.calls.len());
                history.events.push(Event::Invoke(history.calls.len()));
                history.calls.push(Call {
                    cpu: moment.cpu,
                    number: moment.operation,
                    result: None,
                    reads: Vec::new(),
                    ksyms: None,
                });
            }
            What::Returns => {
                let mine = open[cpu].filter(|call| history.calls[*call].number == moment.operation);
                let Some(call) = mine.filter(|_| !self.unseen) else {
                    return Err(format!(
                        "operation {number} of cpu {cpu} returns, and is not under way"
                    ));
                };
                if moment.result.is_none() {
                    return Err("an operation that returns has a `result`".into());
                }
                open[cpu] = None;
                let mut reads = Vec::new();
                for ran in &moment.programs {
                    let prog = world.progs.iter().position(|p| p.name == ran.name);
                    let names = || world.progs.iter().map(|p| p.name.as_str());
                    let prog = prog.ok_or_else(|| unknown("program", &ran.name, names()))?;
                    reads.push(Read {
                        prog: prog as u8,
                        cookie: ran.cookie,
                    });
                }
                history.events.push(Event::Return(call));
                let call = &mut history.calls[call];
                call.result = moment.result;
                call.reads = reads;
                call.ksyms = moment.ksyms;
            }
        }
        Ok(())
    }
}
