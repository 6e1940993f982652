//! `[run]` and `[[cpu]]`: the set-up and what each CPU does.

use std::ops::Range;

use struct_ops_model::world::{
    CpuDecl, MAX_CPUS, MAX_LINKS, MAX_PROCS, OpKind, Operation, Plan, World,
};
use toml::Spanned;

use super::build::Source;
use super::error::InputError;
use super::file::{Choose, CpuTable, File, RunTable, Text, WordOrList};
use super::name;
use super::operation::{self, Known, MAX_LINK_NAMES};

/// Most operations of one CPU.
const MAX_OPERATIONS: usize = 100;
/// Most allocations that may fail.
const MAX_FAILURES: usize = 8;

pub(super) fn run(s: &Source<'_>, world: &mut World, tables: &File) -> Result<(), InputError> {
    let RunTable {
        processes,
        alloc_failures,
        max_links,
        cookies,
        setup,
    } = &tables.run;
    parent_forks(s, tables)?;
    world.procs = s.number(processes.as_ref(), "processes", 1, 1..MAX_PROCS + 1)? as u8;
    for (prog, table) in world.progs.iter_mut().zip(&tables.programs) {
        if table.process.is_some() {
            let procs = 0..usize::from(world.procs);
            prog.process = Some(s.number(table.process.as_ref(), "process", 0, procs)? as u8);
        }
    }
    world.alloc_failures = s.number(
        alloc_failures.as_ref(),
        "alloc-failures",
        0,
        0..MAX_FAILURES + 1,
    )? as u8;
    world.max_links = s.number(
        max_links.as_ref(),
        "max-links",
        3.min(MAX_LINKS),
        1..MAX_LINKS + 1,
    )? as u8;
    for cookie in cookies {
        let value = match u64::try_from(*cookie.get_ref()) {
            Ok(0) => {
                return s.error(
                    cookie.span(),
                    "cookie 0 stands for no cookie and is always there",
                );
            }
            Ok(value) if world.cookies.contains(&value) => {
                return s.error(cookie.span(), format!("cookie {value:#x} is there already"));
            }
            Ok(value) => value,
            Err(_) => {
                return s.error(
                    cookie.span(),
                    format!("cookie {}: expected 0 or more", cookie.get_ref()),
                );
            }
        };
        operation::cookie(world, value).or_else(|e| s.error(cookie.span(), e))?;
    }
    if tables.cpus.is_empty() {
        return s.error(
            0..0,
            format!("no [[cpu]]: a scenario needs 1 to {MAX_CPUS}"),
        );
    }
    s.at_most(
        MAX_OPERATIONS,
        "operations in `setup`",
        setup,
        Spanned::span,
    )?;
    collect_links(s, world, tables)?;
    let mut known = Known::default();
    for text in setup {
        let operation = read(s, world, &mut known, text)?;
        world.setup.push(operation);
    }
    cpus(s, world, tables)
}

/// Process 0 forks process 1, and nobody else does.
fn parent_forks(s: &Source<'_>, tables: &File) -> Result<(), InputError> {
    let is_fork = |text: &str| text.split_ascii_whitespace().next() == Some(OpKind::Fork.name());
    for table in &tables.cpus {
        let cpu = table.get_ref();
        let chosen = match cpu.choose.as_ref().map(|c| &c.get_ref().0) {
            Some(WordOrList::List(words)) => words.as_slice(),
            _ => &[],
        };
        let mut words = cpu.operations.iter().flatten().chain(chosen);
        let fork = words.find(|text| is_fork(text.get_ref()));
        let process = cpu.process.as_ref().map_or(0, |p| *p.get_ref());
        if let (Some(fork), 1..) = (fork, process) {
            let message = format!(
                "`fork` in process {process}: process 0 forks process 1, and there are no others"
            );
            return s.error(fork.span(), message);
        }
    }
    Ok(())
}

/// Names of links, in the order of the file: operations of one CPU may name links that another creates.
fn collect_links(s: &Source<'_>, world: &mut World, tables: &File) -> Result<(), InputError> {
    let fixed = tables
        .cpus
        .iter()
        .filter_map(|c| c.get_ref().operations.as_ref())
        .flatten();
    let mut named = Vec::new();
    for text in tables.run.setup.iter().chain(fixed) {
        let Some(at) = operation::creates(text.get_ref()) else {
            continue;
        };
        let name = &text.get_ref()[at.clone()];
        if let Some(mistake) = name::mistake("link", name) {
            return s.error(s.inside(text, at), mistake);
        }
        if world.links.iter().any(|l| l == name) {
            return s.error(
                s.inside(text, at),
                format!("link `{name}` is there already: each link has a name of its own"),
            );
        }
        world.links.push(name.to_string());
        named.push(s.inside(text, at));
    }
    s.at_most(MAX_LINK_NAMES, "names of links", &named, Range::clone)
}

fn cpus(s: &Source<'_>, world: &mut World, tables: &File) -> Result<(), InputError> {
    s.at_most(MAX_CPUS, "CPUs", &tables.cpus, Spanned::span)?;
    if let Some(last) = tables.cpus.get(MAX_CPUS - 1)
        && world.has_callbacks()
    {
        return s.error(
            last.span(),
            format!(
                "{MAX_CPUS} CPUs and a program with a callback: the callback runs on a CPU of its own, so expected at \
                 most {} others",
                MAX_CPUS - 1
            ),
        );
    }
    for (number, table) in tables.cpus.iter().enumerate() {
        let CpuTable {
            process,
            operations,
            choose,
            times,
        } = table.get_ref();
        let proc = s.number(process.as_ref(), "process", 0, 0..usize::from(world.procs))? as u8;
        let plan = match (operations, choose, times) {
            (None, None, _) => {
                return s.error(
                    table.span(),
                    "a CPU with nothing to do: expected `do = [...]` or `choose = ...`",
                );
            }
            (Some(_), Some(choose), _) => {
                return s.error(choose.span(), "`choose` beside `do`: a CPU has one of them");
            }
            (Some(_), None, Some(times)) => {
                return s.error(times.span(), "`times` belongs to `choose`");
            }
            (None, Some(choose), None) => {
                return s.error(
                    choose.span(),
                    "`choose` without `times`: how many operations?",
                );
            }
            (Some(operations), None, None) => {
                s.at_most(
                    MAX_OPERATIONS,
                    "operations of one CPU",
                    operations,
                    Spanned::span,
                )?;
                let mut known = Known {
                    links: created_elsewhere(tables, number),
                };
                let operations = operations
                    .iter()
                    .map(|text| read(s, world, &mut known, text));
                Plan::Fixed(operations.collect::<Result<_, _>>()?)
            }
            (None, Some(choose), Some(times)) => Plan::Free {
                kinds: kinds(s, world, choose)?,
                budget: s.number(Some(times), "times", 1, 1..MAX_OPERATIONS + 1)? as u8,
            },
        };
        world.cpus.push(CpuDecl { proc, plan });
    }
    for proc in 0..world.procs {
        if !world.cpus.iter().any(|c| c.proc == proc) {
            let span = tables.run.processes.as_ref().map_or(0..0, Spanned::span);
            return s.error(
                span,
                format!("no CPU runs process {proc}: a process ends when its CPUs are done"),
            );
        }
    }
    Ok(())
}

/// The links that the set-up or another CPU creates.
fn created_elsewhere(tables: &File, number: usize) -> Vec<String> {
    let others = tables.cpus.iter().enumerate().filter(|(i, _)| *i != number);
    let operations = others
        .filter_map(|(_, c)| c.get_ref().operations.as_ref())
        .flatten();
    let texts = tables.run.setup.iter().chain(operations);
    texts
        .filter_map(|t| Some(t.get_ref()[operation::creates(t.get_ref())?].to_string()))
        .collect()
}

fn read(
    s: &Source<'_>,
    world: &mut World,
    known: &mut Known,
    text: &Text,
) -> Result<Operation, InputError> {
    operation::parse(world, known, text.get_ref())
        .or_else(|(part, e)| s.error(s.inside(text, part), e))
}

fn kinds(
    s: &Source<'_>,
    world: &World,
    choose: &Spanned<Choose>,
) -> Result<Vec<OpKind>, InputError> {
    match &choose.get_ref().0 {
        WordOrList::Word(text) if text == "any" => Ok(OpKind::any(world).collect()),
        WordOrList::Word(text) => s.error(
            choose.span(),
            format!(
                "`choose` is `{}`: expected \"any\" or a list of operations",
                text.escape_debug()
            ),
        ),
        WordOrList::List(words) if words.is_empty() => s.error(
            choose.span(),
            "`choose` is empty: expected operations, or \"any\"",
        ),
        WordOrList::List(words) => {
            let mut kinds = Vec::new();
            for word in words {
                let kind = operation::kind(word.get_ref()).or_else(|e| s.error(word.span(), e))?;
                let name = kind.name();
                if kind == OpKind::Exit {
                    return s.error(
                        word.span(),
                        "`exit` is not to be chosen: a process exits when its CPUs are done",
                    );
                }
                if let Some(why) = kind.info().needs.missing(world) {
                    return s.error(word.span(), format!("`{name}` has no meaning here: {why}"));
                }
                if kinds.contains(&kind) {
                    return s.error(word.span(), format!("`{name}` is there twice"));
                }
                kinds.push(kind);
            }
            Ok(kinds)
        }
    }
}
