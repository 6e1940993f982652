//! Scenario files of `kind = "reach"`: schedulers, the programs that run on their behalf, and what their loaders do,
//! mistakes included.
//!
//! The other kind, about the attach path, is read by `build`. Nothing is explored here.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;
use struct_ops_model::design::{CookieRead, Identity, MapIdIn};
use struct_ops_model::reach::World;
use struct_ops_model::reach::context::{CONTEXTS, Hook, Kind, Slot, Way};
use struct_ops_model::reach::state::{MAX_CPUS, MAX_DEPTH};
use struct_ops_model::reach::world::{
    Attachment, Loader, MAX_ATTACHMENTS, MAX_PROGS, MAX_SCHEDS, Op, Prog, Sched, Source as From,
};
use struct_ops_model::{Design, Invariant, Linux};
use toml::Spanned;

use super::build::{Source, expectations, linux, toml_error};
use super::error::{InputError, close, unknown};
use super::file::{Expects, Number, Text};
use super::head::{Head, Keys};
use super::{PlanText, first_word};

/// Most things that a loader does in order.
const MAX_OPERATIONS: usize = 100;
/// Most things that a loader does at any time.
const MAX_LATER: usize = 8;

/// The whole file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", expecting = "a table")]
struct File {
    #[serde(rename = "kind")]
    _kind: String,
    title: Text,
    question: Text,
    source: Text,
    find: Option<Text>,
    fault: Option<Text>,
    linux: Option<Text>,
    #[serde(rename = "scheduler", default)]
    schedulers: Vec<SchedulerTable>,
    #[serde(rename = "program", default)]
    programs: Vec<ProgramTable>,
    #[serde(rename = "attachment", default)]
    attachments: Vec<AttachmentTable>,
    #[serde(default)]
    run: RunTable,
    #[serde(rename = "loader", default)]
    loaders: Vec<Spanned<LoaderTable>>,
    #[serde(default)]
    expect: BTreeMap<Text, Spanned<Expects>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", expecting = "a table")]
struct SchedulerTable {
    name: Text,
    cookie: Option<Number>,
    map_id: Option<Number>,
    programs: Vec<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
struct ProgramTable {
    name: Text,
    kind: Text,
    object: Text,
    source: Option<Text>,
    reaches: Option<Text>,
    #[serde(default)]
    silent: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
struct AttachmentTable {
    name: Text,
    program: Text,
    #[serde(rename = "for")]
    scheduler: Text,
    cookie: Option<Number>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", expecting = "a table")]
struct RunTable {
    cpus: Option<Number>,
    depth: Option<Number>,
    #[serde(default)]
    split: bool,
    old_kernel: Option<Spanned<bool>>,
    sub_schedulers: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
struct LoaderTable {
    #[serde(rename = "do")]
    first: Vec<Text>,
    #[serde(default)]
    then: Vec<Text>,
    #[serde(default)]
    after: Option<Number>,
}

/// A scenario file of this kind, understood.
#[derive(Clone, Debug)]
pub struct ReachScenario {
    /// What the file says of itself.
    pub head: Head,
    /// What there is, but for where programs take their identity from.
    world: World,
    /// What the file says of that; `None` is what the design gives.
    sources: Vec<Option<From>>,
}

impl ReachScenario {
    /// Reads the text of a scenario file.
    ///
    /// # Errors
    /// Says where the first mistake is, what was found, what is expected and what is close.
    pub fn parse(name: &str, file: &str, text: &str) -> Result<Self, InputError> {
        ReachScenario::read(name, file, text, None)
    }

    pub(super) fn read(
        name: &str,
        file: &str,
        text: &str,
        on: Option<Linux>,
    ) -> Result<Self, InputError> {
        let s = Source::new(file, text);
        let tables: File = toml::from_str(text).map_err(|e| toml_error(&s, &e))?;
        let mut world = World::default();
        if let Some(linux) = on.or(linux(&s, tables.linux.as_ref())?) {
            world.linux = linux;
        }
        let sources = programs(&s, &mut world, &tables.programs)?;
        schedulers(&s, &mut world, &tables.schedulers)?;
        attachments(&s, &mut world, &tables.attachments)?;
        run(&s, &mut world, &tables.run)?;
        loaders(&s, &mut world, &tables.loaders)?;
        let head = Head::read(
            name,
            &s,
            on,
            &Keys {
                title: &tables.title,
                question: &tables.question,
                source: &tables.source,
                find: tables.find.as_ref(),
                fault: tables.fault.as_ref(),
                linux: tables.linux.as_ref(),
                extended: false,
            },
        )?;
        Ok(ReachScenario {
            head: Head {
                expect: expectations(&s, &tables.expect, Invariant::of_lookups)?,
                ..head
            },
            world,
            sources,
        })
    }

    /// What there is under a design.
    pub fn world(&self, design: &Design) -> World {
        let mut world = self.world.clone();
        for (prog, source) in world.progs.iter_mut().zip(&self.sources) {
            prog.source = source.unwrap_or_else(|| usual(design, prog.kind));
            if !prog.asks {
                prog.source = From::Kernel;
            }
        }
        world
    }

    /// What each loader is to do.
    pub fn plans(&self) -> Vec<PlanText> {
        let of = |(i, loader): (usize, &Loader)| PlanText {
            actor: format!("loader {i}"),
            operations: loader
                .first
                .iter()
                .chain(&loader.later)
                .map(|op| written(&self.world, *op))
                .collect(),
            ordered: loader.first.len(),
            any: false,
        };
        self.world.loaders.iter().enumerate().map(of).collect()
    }
}

/// Where a program of a kind takes its identity from, where the file does not say.
fn usual(design: &Design, kind: Kind) -> From {
    let (lookup, member) = (design.lookup, kind.facts().hook == Hook::Member);
    match design.identity {
        Identity::None | Identity::ThisPointer | Identity::Association => From::Kernel,
        Identity::Argument => From::Argument,
        Identity::Task => From::Task,
        _ if lookup.cookie_read == CookieRead::Current => From::Kernel,
        Identity::MapId if lookup.map_id_in == MapIdIn::Global || !member => From::Global,
        _ if kind.way.is_callback() && kind.facts().slot != Slot::Nowhere => From::Stash,
        _ if kind.facts().slot != Slot::Nowhere => From::Helper,
        _ => From::Global,
    }
}

/// What to say of a kind of program that does not exist; all of them with all ways would be a page.
pub fn unknown_program(found: &str) -> String {
    let contexts: Vec<&str> = CONTEXTS.iter().map(|c| c.name).collect();
    let ways: Vec<&str> = Way::ALL
        .iter()
        .map(|w| w.0)
        .filter(|w| !w.is_empty())
        .collect();
    let names = Kind::names();
    format!(
        "unknown program `{found}`: expected one of {}, and one of {} after it or nothing{}",
        contexts.join(", "),
        ways.join(", "),
        close(found, names.iter().map(String::as_str))
    )
}

/// The index of a name.
fn find(s: &Source<'_>, kind: &str, name: &Text, names: &[String]) -> Result<u8, InputError> {
    let known = names.iter().map(String::as_str);
    match names.iter().position(|n| n == name.get_ref()) {
        Some(i) => Ok(i as u8),
        None => s.error(name.span(), unknown(kind, name.get_ref(), known)),
    }
}

fn programs(
    s: &Source<'_>,
    world: &mut World,
    tables: &[ProgramTable],
) -> Result<Vec<Option<From>>, InputError> {
    let mut sources = Vec::new();
    s.at_most(MAX_PROGS, "programs", tables, |t| t.name.span())?;
    let mut objects = Vec::new();
    for table in tables {
        let name = s.name(
            "program",
            &table.name,
            world.progs.iter().map(|p| p.name.as_str()),
        )?;
        let Some(kind) = Kind::parse(table.kind.get_ref()) else {
            return s.error(table.kind.span(), unknown_program(table.kind.get_ref()));
        };
        let object = s.name("object", &table.object, std::iter::empty())?;
        let object = world
            .objects
            .iter()
            .position(|o| *o == object)
            .unwrap_or_else(|| {
                world.objects.push(object);
                objects.push(table.object.span());
                world.objects.len() - 1
            });
        let source = match &table.source {
            None => None,
            Some(text) => match From::ALL.iter().find(|f| f.0 == text.get_ref()) {
                Some(found) => Some(found.1),
                None => {
                    return s.error(
                        text.span(),
                        unknown("source", text.get_ref(), From::ALL.map(|f| f.0)),
                    );
                }
            },
        };
        sources.push(source);
        world.progs.push(Prog {
            name,
            kind,
            callee: None,
            is_callee: false,
            object: object as u8,
            source: From::Kernel,
            asks: !table.silent,
        });
    }
    s.at_most(MAX_SCHEDS, "object files", &objects, Range::clone)?;
    let names: Vec<String> = world.progs.iter().map(|p| p.name.clone()).collect();
    for (i, table) in tables.iter().enumerate() {
        if let Some(reaches) = &table.reaches {
            let callee = find(s, "program", reaches, &names)?;
            if !world.progs[i].kind.way.is_other_program() {
                return s.error(
                    reaches.span(),
                    "only programs of a kind with +tailcall or +freplace reach another one",
                );
            }
            world.progs[i].callee = Some(callee);
            world.progs[usize::from(callee)].is_callee = true;
        }
    }
    Ok(sources)
}

fn byte(
    s: &Source<'_>,
    number: Option<&Number>,
    what: &str,
    default: u8,
) -> Result<u8, InputError> {
    // 255 stands for what is no cookie.
    Ok(s.number(number, what, usize::from(default), 0..255)? as u8)
}

fn schedulers(
    s: &Source<'_>,
    world: &mut World,
    tables: &[SchedulerTable],
) -> Result<(), InputError> {
    let progs: Vec<String> = world.progs.iter().map(|p| p.name.clone()).collect();
    s.at_most(MAX_SCHEDS, "schedulers", tables, |t| t.name.span())?;
    for table in tables {
        let name = s.name(
            "scheduler",
            &table.name,
            world.scheds.iter().map(|p| p.name.as_str()),
        )?;
        let number = world.scheds.len() as u8 + 1;
        let mut members = Vec::new();
        for program in &table.programs {
            let member = find(s, "program", program, &progs)?;
            let prog = &world.progs[usize::from(member)];
            if prog.kind.facts().hook != Hook::Member {
                return s.error(
                    program.span(),
                    format!(
                        "`{}` is a {} program: expected struct_ops",
                        prog.name, prog.kind
                    ),
                );
            }
            members.push(member);
        }
        world.scheds.push(Sched {
            name,
            key: byte(s, table.cookie.as_ref(), "`cookie`", 0x11 * number)?,
            map_id: byte(s, table.map_id.as_ref(), "`map-id`", number)?,
            members,
        });
    }
    if world.scheds.is_empty() {
        return s.error(0..0, "no scheduler: expected at least one [[scheduler]]");
    }
    Ok(())
}

fn attachments(
    s: &Source<'_>,
    world: &mut World,
    tables: &[AttachmentTable],
) -> Result<(), InputError> {
    let progs: Vec<String> = world.progs.iter().map(|p| p.name.clone()).collect();
    let scheds: Vec<String> = world.scheds.iter().map(|p| p.name.clone()).collect();
    s.at_most(MAX_ATTACHMENTS, "attachments", tables, |t| t.name.span())?;
    for table in tables {
        let name = s.name(
            "attachment",
            &table.name,
            world.attachments.iter().map(|p| p.name.as_str()),
        )?;
        let prog = find(s, "program", &table.program, &progs)?;
        if world.progs[usize::from(prog)].kind.facts().hook == Hook::Member {
            let message =
                "a struct_ops program is attached with its scheduler: expected another kind";
            return s.error(table.program.span(), message);
        }
        let sched = find(s, "scheduler", &table.scheduler, &scheds)?;
        let usual = world.scheds[usize::from(sched)].key;
        world.attachments.push(Attachment {
            name,
            prog,
            sched,
            cookie: byte(s, table.cookie.as_ref(), "`cookie`", usual)?,
        });
    }
    Ok(())
}

fn run(s: &Source<'_>, world: &mut World, table: &RunTable) -> Result<(), InputError> {
    world.cpus = s.number(table.cpus.as_ref(), "`cpus`", 1, 1..MAX_CPUS + 1)? as u8;
    world.depth = s.number(table.depth.as_ref(), "`depth`", 1, 1..MAX_DEPTH + 1)? as u8;
    world.split = table.split;
    if let Some(old) = &table.old_kernel {
        return s.error(
            old.span(),
            "`old-kernel` is no more: write `linux = \"6.12\"` at the top of the file",
        );
    }
    world.subs = table.sub_schedulers.unwrap_or(true);
    Ok(())
}

fn loaders(
    s: &Source<'_>,
    world: &mut World,
    tables: &[Spanned<LoaderTable>],
) -> Result<(), InputError> {
    s.at_most(MAX_SCHEDS, "loaders", tables, Spanned::span)?;
    for table in tables {
        let start = table.span();
        let table = table.get_ref();
        if table.first.is_empty() {
            return s.error(
                start,
                "a [[loader]] does nothing: expected operations in `do`",
            );
        }
        s.at_most(
            MAX_OPERATIONS,
            "operations in `do`",
            &table.first,
            Spanned::span,
        )?;
        s.at_most(
            MAX_LATER,
            "operations in `then`",
            &table.then,
            Spanned::span,
        )?;
        let read = |list: &[Text]| {
            list.iter()
                .map(|text| operation(s, world, text))
                .collect::<Result<Vec<Op>, _>>()
        };
        let loader = Loader {
            first: read(&table.first)?,
            later: read(&table.then)?,
            after: match &table.after {
                None => None,
                Some(n) => Some(earlier(s, n, world.loaders.len())?),
            },
        };
        world.loaders.push(loader);
    }
    if world.loaders.is_empty() {
        return s.error(
            0..0,
            "no [[loader]]: nothing is loaded, so nothing can happen",
        );
    }
    Ok(())
}

/// The number of a loader that goes before the one with number `own`: those before it in the file, so that no two wait
/// for each other.
fn earlier(s: &Source<'_>, number: &Number, own: usize) -> Result<u8, InputError> {
    if own == 0 {
        return s.error(
            number.span(),
            "the first loader comes after none: expected no `after`",
        );
    }
    Ok(s.number(Some(number), "`after`", 0, 0..own)? as u8)
}

/// The names that an operation's operand may have.
fn names<'a>(world: &'a World, operand: &str) -> Vec<&'a str> {
    match operand {
        "OBJECT" => world.objects.iter().map(String::as_str).collect(),
        "SCHEDULER" => world.scheds.iter().map(|x| x.name.as_str()).collect(),
        "PROGRAM" => world.progs.iter().map(|x| x.name.as_str()).collect(),
        _ => world.attachments.iter().map(|x| x.name.as_str()).collect(),
    }
}

/// An operation as a file writes it.
fn written(world: &World, op: Op) -> String {
    let (verb, numbers) = crate::reach::action::operation(op);
    let mut words = vec![verb];
    for (syntax, _) in Op::SYNTAX.iter().filter(|o| first_word(o.0) == verb) {
        let operands = syntax.split_whitespace().skip(1).zip(&numbers);
        words.extend(operands.map(|(operand, n)| names(world, operand)[usize::from(*n)]));
    }
    words.join(" ")
}

/// An operation: a verb and its names.
fn operation(s: &Source<'_>, world: &World, text: &Text) -> Result<Op, InputError> {
    let mut offset = 0;
    let words: Vec<(&str, std::ops::Range<usize>)> = text
        .get_ref()
        .split_whitespace()
        .map(|word| {
            let at = text.get_ref()[offset..]
                .find(word)
                .map_or(offset, |i| offset + i);
            offset = at + word.len();
            (word, s.inside(text, at..offset))
        })
        .collect();
    let Some((verb, verb_at)) = words.first() else {
        return s.error(text.span(), "an empty operation");
    };
    let Some((syntax, _)) = Op::SYNTAX.iter().find(|o| first_word(o.0) == *verb) else {
        let known = Op::SYNTAX.map(|o| first_word(o.0));
        return s.error(verb_at.clone(), unknown("operation", verb, known));
    };
    let kinds: Vec<&str> = syntax.split_whitespace().skip(1).collect();
    if words.len() - 1 != kinds.len() {
        return s.error(text.span(), format!("expected `{syntax}`"));
    }
    let mut names = Vec::new();
    for ((word, at), kind) in words[1..].iter().zip(&kinds) {
        let known = self::names(world, kind);
        match known.iter().position(|k| k == word) {
            Some(i) => names.push(i as u8),
            None => return s.error(at.clone(), unknown(&kind.to_lowercase(), word, known)),
        }
    }
    let name = |i: usize| names[i];
    Ok(match *verb {
        "load" => Op::Load(name(0)),
        "map_create" => Op::MapCreate(name(0)),
        "map_update" => Op::MapUpdate(name(0)),
        "map_update_fails" => Op::MapUpdateFails(name(0)),
        "assoc" => Op::Associate(name(0), name(1)),
        "store" => Op::Store(name(0), name(1)),
        "attach" => Op::Attach(name(0)),
        "link_create" => Op::LinkCreate(name(0)),
        "link_close" => Op::LinkClose(name(0)),
        "scx_error" => Op::Error(name(0)),
        "detach" => Op::Detach(name(0)),
        "map_close" => Op::MapClose(name(0)),
        _ => Op::Exit(name(0)),
    })
}
