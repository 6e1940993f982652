//! From the tables of a scenario file to a [`World`]: every name is looked up and every limit checked.

use std::collections::BTreeMap;
use std::ops::Range;

use struct_ops_model::world::{
    Body, Called, CgroupDecl, MAX_CGROUPS, MAX_MAPS, MAX_MEMBERS, MAX_PROGS, MapDecl, Member,
    PAGE_SIZE, ProgDecl, ProgType, StructOpsType, Subsystem, World,
};
use struct_ops_model::{Design, Invariant, Linux};
use toml::Spanned;

use super::error::{InputError, close, in_words, unknown, unprintable};
use super::file::{
    CgroupTable, Expects, File, MapTable, Number, ProgramTable, Text, TypeTable, WordOrList,
};
use super::head::{Head, Keys};
use super::{Expect, Expectation, Kind, Scenario, plan, script};

/// Bytes of a trampoline where the file does not say.
const TRAMPOLINE: u16 = 171;
/// Most types of a scenario.
const MAX_TYPES: usize = 4;

/// The text that is being read, for messages.
pub(super) struct Source<'a> {
    pub(super) file: &'a str,
    pub(super) text: &'a str,
}

impl<'a> Source<'a> {
    pub(super) fn new(file: &'a str, text: &'a str) -> Self {
        Source { file, text }
    }
}

impl Source<'_> {
    pub(super) fn error<T>(
        &self,
        span: Range<usize>,
        message: impl Into<String>,
    ) -> Result<T, InputError> {
        Err(InputError::at(self.file, self.text, span, message))
    }

    /// The place of a part of a string's value: exact where the value stands in the file as it is.
    pub(super) fn inside(&self, text: &Text, part: Range<usize>) -> Range<usize> {
        let outer = text.span();
        let raw = self.text.get(outer.clone()).unwrap_or_default();
        // A line break right behind three quotes does not belong to the value.
        let quotes = [
            "\'\'\'\r\n",
            "\"\"\"\r\n",
            "\'\'\'\n",
            "\"\"\"\n",
            "\'\'\'",
            "\"\"\"",
            "\'",
            "\"",
        ];
        let opening = quotes.iter().find(|q| raw.starts_with(**q));
        let start = opening.map_or(0, |q| q.len());
        let verbatim = raw
            .get(start..)
            .is_some_and(|r| r.starts_with(text.get_ref().as_str()));
        if verbatim {
            outer.start + start + part.start..outer.start + start + part.end
        } else {
            outer
        }
    }

    pub(super) fn number(
        &self,
        number: Option<&Number>,
        what: &str,
        default: usize,
        range: Range<usize>,
    ) -> Result<usize, InputError> {
        let Some(number) = number else {
            return Ok(default);
        };
        match usize::try_from(*number.get_ref()) {
            Ok(n) if range.contains(&n) => Ok(n),
            _ => self.error(
                number.span(),
                format!(
                    "{what} is {}: expected {} to {}",
                    number.get_ref(),
                    range.start,
                    range.end - 1
                ),
            ),
        }
    }

    /// A name, and not taken.
    pub(super) fn name<'a>(
        &self,
        kind: &str,
        name: &Text,
        mut taken: impl Iterator<Item = &'a str>,
    ) -> Result<String, InputError> {
        let text = name.get_ref();
        if let Some(mistake) = super::name::mistake(kind, text) {
            return self.error(name.span(), mistake);
        }
        if taken.any(|t| t == text) {
            return self.error(name.span(), format!("{kind} `{text}` is there already"));
        }
        Ok(text.clone())
    }

    pub(super) fn sentence(&self, key: &str, text: &Text) -> Result<String, InputError> {
        let trimmed = text.get_ref().trim();
        if trimmed.is_empty() {
            return self.error(
                text.span(),
                format!("`{key}` is empty: expected a sentence"),
            );
        }
        if let Some((at, found)) = unprintable(text.get_ref()) {
            return self.error(
                self.inside(text, at..at + found.len_utf8()),
                format!(
                    "`{key}` has the character {}: expected text",
                    found.escape_unicode()
                ),
            );
        }
        Ok(trimmed.to_string())
    }

    /// No more than `limit` of a list; `span` is the place of one of it.
    pub(super) fn at_most<T>(
        &self,
        limit: usize,
        what: &str,
        list: &[T],
        span: impl Fn(&T) -> Range<usize>,
    ) -> Result<(), InputError> {
        match list.get(limit) {
            None => Ok(()),
            Some(first) => self.error(
                span(first),
                format!("{} {what}: at most {limit}", list.len()),
            ),
        }
    }
}

/// What a file is about; the rest of it is not looked at, as far as it is TOML.
pub(super) fn kind(file: &str, text: &str) -> Result<Kind, InputError> {
    #[derive(serde::Deserialize)]
    #[serde(expecting = "a table")]
    struct Beginning {
        kind: Option<Text>,
    }
    let source = Source::new(file, text);
    let Beginning { kind } = toml::from_str(text).map_err(|e| toml_error(&source, &e))?;
    let Some(kind) = kind else {
        return Ok(Kind::Attach);
    };
    let found = Kind::NAMES.iter().find(|k| k.0 == kind.get_ref());
    let names = Kind::NAMES.map(|k| k.0);
    found.map(|k| k.1).map_or_else(
        || source.error(kind.span(), unknown("kind", kind.get_ref(), names)),
        Ok,
    )
}

/// The kernel that a file names, if it does.
pub(super) fn linux(s: &Source<'_>, version: Option<&Text>) -> Result<Option<Linux>, InputError> {
    let Some(version) = version else {
        return Ok(None);
    };
    let known = || Linux::ALL.iter().map(|l| l.version());
    match Linux::from_version(version.get_ref()) {
        Some(linux) => Ok(Some(linux)),
        None => s.error(version.span(), unknown("Linux", version.get_ref(), known())),
    }
}

/// The text of a file as if it named this kernel.
pub(super) fn named(text: &str, version: Option<&Text>, linux: Linux) -> String {
    let mut text = text.to_string();
    let named = format!("\"{}\"", linux.version());
    match version {
        Some(version) => text.replace_range(version.span(), &named),
        None => text.insert_str(0, &format!("linux = {named}\n")),
    }
    text
}

pub(super) fn scenario(
    name: &str,
    file: &str,
    text: &str,
    on: Option<Linux>,
) -> Result<Scenario, InputError> {
    let source = Source::new(file, text);
    let tables: File = toml::from_str(text).map_err(|e| toml_error(&source, &e))?;
    let named_linux = linux(&source, tables.linux.as_ref())?;
    let mut world = World {
        linux: on.or(named_linux).unwrap_or_default(),
        cookies: vec![0],
        ..World::default()
    };
    let around = script::Around {
        types: &tables.types,
        programs: &tables.programs,
    };
    script::read(&source, &mut world, &tables.subsystems, around)?;
    types(&source, &mut world, &tables.types)?;
    programs(&source, &mut world, &tables.programs)?;
    maps(&source, &mut world, &tables.maps)?;
    cgroups(&source, &mut world, &tables.cgroups)?;
    plan::run(&source, &mut world, &tables)?;
    let only = match (&tables.designs, &tables.designs_why) {
        (None, None) => None,
        (None, Some(why)) => return source.error(why.span(), "`designs-why` without `designs`"),
        (Some(designs), None) => {
            return source.error(
                designs.span(),
                "`designs` leaves designs out: say why in `designs-why`",
            );
        }
        (Some(designs), Some(why)) => {
            if designs.get_ref().is_empty() {
                return source.error(
                    designs.span(),
                    "`designs` is empty: expected at least one design",
                );
            }
            for design in designs.get_ref() {
                self::design(&source, design)?;
            }
            let names = designs
                .get_ref()
                .iter()
                .map(|d| d.get_ref().clone())
                .collect();
            Some((names, source.sentence("designs-why", why)?))
        }
    };
    let mut scenario = Scenario {
        head: Head::read(
            name,
            &source,
            on,
            &Keys {
                title: &tables.title,
                question: &tables.question,
                source: &tables.source,
                find: tables.find.as_ref(),
                fault: tables.fault.as_ref(),
                linux: tables.linux.as_ref(),
                extended: tables.extended,
            },
        )?,
        only,
        world,
    };
    for (name, expects) in &tables.expect {
        let design = design(&source, name)?;
        if !scenario.runs_under(&design) {
            return source.error(
                name.span(),
                format!("`designs` leaves `{design}` out: nothing can be expected of it"),
            );
        }
        let result = match &expects.get_ref().0 {
            WordOrList::Word(word) if word == Expect::SET_UP_FAILS => Expect::SetUpFails,
            WordOrList::Word(word) => {
                return source.error(
                    expects.span(),
                    format!(
                        "`{}`: expected a list of invariants, or \"{}\"",
                        word.escape_debug(),
                        Expect::SET_UP_FAILS
                    ),
                );
            }
            WordOrList::List(ids) => {
                Expect::Violated(expectation(&source, &design, ids, |i| !i.of_lookups())?)
            }
        };
        scenario.head.expect.push(Expectation {
            design: design.name,
            result,
        });
    }
    Ok(scenario)
}

/// `[expect]` of a file without set-up that is run under every design; `judged` says which invariants it can break.
pub(super) fn expectations(
    s: &Source<'_>,
    table: &BTreeMap<Text, Spanned<Expects>>,
    judged: impl Fn(Invariant) -> bool,
) -> Result<Vec<Expectation>, InputError> {
    let read = |(name, expects): (&Text, &Spanned<Expects>)| {
        let design = design(s, name)?;
        let WordOrList::List(ids) = &expects.get_ref().0 else {
            return s.error(expects.span(), "expected a list of invariants");
        };
        let violated = expectation(s, &design, ids, &judged)?;
        Ok(Expectation {
            design: design.name,
            result: Expect::Violated(violated),
        })
    };
    table.iter().map(read).collect()
}

/// What the TOML parser says, with what is close.
pub(super) fn toml_error(source: &Source<'_>, error: &toml::de::Error) -> InputError {
    let message = in_words(error.message(), "a table");
    // unknown key `found`, expected one of `a`, `b`
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let hint = match quoted.split_first() {
        Some((found, expected)) if message.starts_with("unknown key") => {
            close(found, expected.iter().copied())
        }
        _ => String::new(),
    };
    InputError::at(
        source.file,
        source.text,
        error.span().unwrap_or(0..0),
        format!("{message}{hint}"),
    )
}

/// Whether types of two subsystems may be in one scenario: an operation that calls a member must mean one of them, and a
/// table of registrations belongs to one. Whether types attach to cgroups is asked of all of them.
fn together(one: Subsystem, other: Subsystem) -> bool {
    use Called::{ByFunctions, ByTestRun, From, ThroughCgroups, ThroughSockets};
    match (one.facts().called, other.facts().called) {
        (ByFunctions, ByFunctions) => true,
        (ByFunctions | ThroughCgroups, _) | (_, ByFunctions | ThroughCgroups) => false,
        (From(_), From(_)) | (ThroughSockets, ThroughSockets) | (ByTestRun, ByTestRun) => false,
        _ => true,
    }
}

fn types(s: &Source<'_>, world: &mut World, tables: &[TypeTable]) -> Result<(), InputError> {
    s.at_most(MAX_TYPES, "types", tables, |t| t.name.span())?;
    for table in tables {
        let name = s.name(
            "type",
            &table.name,
            world.types.iter().map(|t| t.name.as_str()),
        )?;
        let found = table.subsystem.get_ref();
        let own = &world.script.subsystems;
        let place = own.iter().position(|o| o.name == *found);
        let own_one = place.map(|p| Subsystem::Own(p as u8));
        let Some(subsystem) = own_one.or_else(|| Subsystem::from_name(found)) else {
            if let Some((name, version)) = found.split_once('-')
                && Subsystem::from_name(name).is_some()
                && Linux::from_version(version).is_some()
            {
                return s.error(
                    table.subsystem.span(),
                    format!(
                        "subsystem `{found}`: write `{name}` here, and `linux = \"{version}\"` at the top of the file"
                    ),
                );
            }
            let own = own.iter().map(|o| o.name.as_str());
            let built_in = Subsystem::ALL.iter().map(|s| s.facts().name);
            let shipped = script::shipped().into_iter().map(|f| f.0);
            let names = own.chain(built_in).chain(shipped);
            return s.error(table.subsystem.span(), unknown("subsystem", found, names));
        };
        let since = subsystem.facts().since;
        if world.linux < since {
            return s.error(
                table.subsystem.span(),
                format!(
                    "Linux {} has no {found}: write `linux = \"{}\"` at the top of the file",
                    world.linux.version(),
                    since.version()
                ),
            );
        }
        let strange =
            |t: &&StructOpsType| t.subsystem != subsystem && !together(t.subsystem, subsystem);
        if let Some(first) = world.types.iter().find(strange) {
            return s.error(
                table.subsystem.span(),
                format!(
                    "the types of a scenario are of one subsystem, of some that it brings, or of built-in ones whose members \
                     are called in different ways (not for a cgroup), and `{}` is of {}",
                    first.name,
                    first.subsystem.name(&world.script)
                ),
            );
        }
        if table.members.get_ref().is_empty() {
            return s.error(
                table.members.span(),
                "a type without members: expected at least one",
            );
        }
        let mut members: Vec<Member> = Vec::new();
        let list = table.members.get_ref();
        s.at_most(MAX_MEMBERS, "members of a type", list, |m| m.name.span())?;
        for member in list {
            let name = s.name(
                "member",
                &member.name,
                members.iter().map(|m| m.name.as_str()),
            )?;
            let size = s.number(
                member.size.as_ref(),
                "size",
                usize::from(TRAMPOLINE),
                1..usize::from(PAGE_SIZE) + 1,
            )? as u16;
            if member.sleepable && subsystem.facts().called == Called::ThroughCgroups {
                return s.error(
                    member.name.span(),
                    format!(
                        "member `{name}` is sleepable, and {found} loads no program that may sleep: its walk is under RCU"
                    ),
                );
            }
            members.push(Member {
                name,
                sleepable: member.sleepable,
                required: member.required,
                size,
            });
        }
        if let Some(first) = world.types.iter().find(|t| t.subsystem == subsystem)
            && !first
                .members
                .iter()
                .map(|m| &m.name)
                .eq(members.iter().map(|m| &m.name))
        {
            let names: Vec<&str> = first.members.iter().map(|m| m.name.as_str()).collect();
            return s.error(
                table.members.span(),
                format!(
                    "types of one subsystem have the same members, and `{}` has {}",
                    first.name,
                    names.join(", ")
                ),
            );
        }
        let facts = subsystem.facts();
        let mut known = facts.members.iter();
        let in_order = members.iter().all(|m| known.any(|k| *k == m.name));
        if facts.only_these && (members.is_empty() || !in_order) {
            let (which, names) = match facts.members {
                [one] => ("the one member ", format!("`{one}`")),
                more => (
                    "some of the members ",
                    format!("`{}`, in this order", more.join("`, `")),
                ),
            };
            return s.error(
                table.members.span(),
                format!(
                    "expected {which}{names}: {} is modelled with no other",
                    facts.name
                ),
            );
        }
        world.types.push(StructOpsType {
            name,
            subsystem,
            members,
            module: table.module,
        });
    }
    if world.types.is_empty() {
        return s.error(0..0, "no [[type]]: a scenario needs a struct_ops type");
    }
    Ok(())
}

fn type_of(s: &Source<'_>, world: &World, name: &Text) -> Result<usize, InputError> {
    match world.types.iter().position(|t| t.name == *name.get_ref()) {
        Some(ty) => Ok(ty),
        None => s.error(
            name.span(),
            unknown(
                "type",
                name.get_ref(),
                world.types.iter().map(|t| t.name.as_str()),
            ),
        ),
    }
}

fn programs(s: &Source<'_>, world: &mut World, tables: &[ProgramTable]) -> Result<(), InputError> {
    s.at_most(MAX_PROGS, "programs", tables, |t| t.name.span())?;
    for table in tables {
        let name = s.name(
            "program",
            &table.name,
            world.progs.iter().map(|p| p.name.as_str()),
        )?;
        let (of, body) = match &table.kind {
            None => member_program(s, world, table)?,
            Some(kind) => program_alone(s, table, kind)?,
        };
        world.progs.push(ProgDecl {
            name,
            of,
            body,
            process: None,
        });
    }
    Ok(())
}

/// A program that is no member: all it does is to ask.
fn program_alone(
    s: &Source<'_>,
    table: &ProgramTable,
    kind: &Text,
) -> Result<(ProgType, Body), InputError> {
    let kinds = ProgType::ALONE;
    let Some(of) = kinds.into_iter().find(|of| of.name() == kind.get_ref()) else {
        let names = kinds.into_iter().map(ProgType::name);
        return s.error(kind.span(), unknown("kind", kind.get_ref(), names));
    };
    let fields = [
        ("type", &table.ty),
        ("member", &table.member),
        ("body", &table.body),
    ];
    for (key, text) in fields {
        if let Some(text) = text {
            return s.error(
                text.span(),
                format!(
                    "a {} program has no `{key}`: it is no member, and asks for its struct",
                    of.name()
                ),
            );
        }
    }
    Ok((of, Body::Ask))
}

/// A program of a member.
fn member_program(
    s: &Source<'_>,
    world: &World,
    table: &ProgramTable,
) -> Result<(ProgType, Body), InputError> {
    let needed = |key: &str| {
        let text = "a program has a `type` and a `member`, or a `kind`";
        s.error(table.name.span(), format!("`{key}` is missing: {text}"))
    };
    let Some(ty) = &table.ty else {
        return needed("type");
    };
    let Some(name) = &table.member else {
        return needed("member");
    };
    let ty = type_of(s, world, ty)?;
    let decl = &world.types[ty];
    let Some(member) = decl.members.iter().position(|m| m.name == *name.get_ref()) else {
        let kind = format!("member of type {}", decl.name);
        let names = decl.members.iter().map(|m| m.name.as_str());
        return s.error(name.span(), unknown(&kind, name.get_ref(), names));
    };
    let body = match &table.body {
        None => Body::ReadCookie,
        Some(text) => {
            let Some(body) = Body::NAMES
                .iter()
                .find(|b| b.0 == text.get_ref())
                .map(|b| b.1)
            else {
                return s.error(
                    text.span(),
                    unknown("body", text.get_ref(), Body::NAMES.iter().map(|b| b.0)),
                );
            };
            if body == Body::Sleep && !decl.members[member].sleepable {
                let member = &decl.members[member].name;
                return s.error(
                    text.span(),
                    format!(
                        "a program of `{member}` cannot sleep: the member is not `sleepable = true`"
                    ),
                );
            }
            if body == Body::Switch && decl.subsystem.facts().called != Called::ThroughSockets {
                return s.error(
                    text.span(),
                    "body `switch` needs a socket: only tcp_congestion_ops has sockets",
                );
            }
            body
        }
    };
    Ok((ProgType::StructOps { ty, member }, body))
}

fn maps(s: &Source<'_>, world: &mut World, tables: &[MapTable]) -> Result<(), InputError> {
    s.at_most(MAX_MAPS, "maps", tables, |t| t.name.span())?;
    for table in tables {
        let name = s.name(
            "map",
            &table.name,
            world.maps.iter().map(|m| m.name.as_str()),
        )?;
        let ty = type_of(s, world, &table.ty)?;
        let mut progs = vec![None; world.types[ty].members.len()];
        for text in &table.programs {
            let Some(index) = world.progs.iter().position(|p| p.name == *text.get_ref()) else {
                return s.error(
                    text.span(),
                    unknown(
                        "program",
                        text.get_ref(),
                        world.progs.iter().map(|p| p.name.as_str()),
                    ),
                );
            };
            let prog = &world.progs[index];
            let ProgType::StructOps { ty: its, member } = prog.of else {
                return s.error(
                    text.span(),
                    format!(
                        "program `{}` is a {} program: no map takes it",
                        prog.name,
                        prog.of.name()
                    ),
                );
            };
            if its != ty {
                return s.error(
                    text.span(),
                    format!(
                        "program `{}` is of type {}, the map of type {}",
                        prog.name, world.types[its].name, world.types[ty].name
                    ),
                );
            }
            if let Some(other) = progs[member] {
                return s.error(
                    text.span(),
                    format!(
                        "programs `{}` and `{}` are both for member {}",
                        world.progs[usize::from(other)].name,
                        prog.name,
                        world.types[ty].members[member].name
                    ),
                );
            }
            progs[member] = Some(index as u8);
        }
        let key = table.key.as_ref().unwrap_or(&table.name);
        let key = s.name("key", key, std::iter::empty())?;
        let key = world
            .keys
            .iter()
            .position(|k| *k == key)
            .unwrap_or_else(|| {
                world.keys.push(key);
                world.keys.len() - 1
            });
        let link = table.link.unwrap_or(true);
        world.maps.push(MapDecl {
            name,
            ty,
            link,
            key: key as u8,
            progs,
            owner_set: table.owner,
        });
    }
    Ok(())
}

fn cgroups(s: &Source<'_>, world: &mut World, tables: &[CgroupTable]) -> Result<(), InputError> {
    s.at_most(MAX_CGROUPS, "cgroups", tables, |t| t.name.span())?;
    for table in tables {
        let names = || world.cgroups.iter().map(|c| c.name.as_str());
        let name = s.name("cgroup", &table.name, names())?;
        let parent = match &table.parent {
            None => None,
            Some(parent) => match names().position(|n| n == parent.get_ref()) {
                Some(place) => Some(place as u8),
                None => {
                    let mut message = unknown("cgroup", parent.get_ref(), names());
                    if tables.iter().any(|t| t.name.get_ref() == parent.get_ref()) {
                        message = format!(
                            "cgroup `{}` comes later: a parent stands before its children",
                            parent.get_ref()
                        );
                    }
                    return s.error(parent.span(), message);
                }
            },
        };
        world.cgroups.push(CgroupDecl { name, parent });
    }
    Ok(())
}

fn design(s: &Source<'_>, name: &Text) -> Result<Design, InputError> {
    Design::parse(name.get_ref()).or_else(|e| s.error(name.span(), e.to_string()))
}

fn expectation(
    s: &Source<'_>,
    design: &Design,
    ids: &[Text],
    judged: impl Fn(Invariant) -> bool,
) -> Result<Vec<Invariant>, InputError> {
    let mut violated = Vec::new();
    for id in ids {
        let Some(invariant) = Invariant::from_id(id.get_ref()) else {
            return s.error(
                id.span(),
                unknown(
                    "invariant",
                    id.get_ref(),
                    Invariant::ALL.iter().map(|i| i.id()),
                ),
            );
        };
        if !invariant.applies(design) {
            return s.error(
                id.span(),
                format!("`{}` does not apply to `{design}`", invariant.id()),
            );
        }
        if !judged(invariant) {
            return s.error(
                id.span(),
                format!(
                    "`{}` is not judged by this kind of scenario",
                    invariant.id()
                ),
            );
        }
        if violated.contains(&invariant) {
            return s.error(id.span(), format!("`{}` is there twice", invariant.id()));
        }
        violated.push(invariant);
    }
    violated.sort();
    Ok(violated)
}
