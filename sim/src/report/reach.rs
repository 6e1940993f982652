//! The table of who can know its scheduler, the run behind a cell, and a state of that machine in words.

use std::fmt::Write;

use struct_ops_model::Invariant;
use struct_ops_model::reach::state::{GARBAGE, Life, MapLife, POISON, ProgLife, State};
use struct_ops_model::reach::{Found, Label, World};

use super::describe::Object;
use super::screen::{Mark, Screen};
use super::trace as table;
use crate::reach::{Cell, Event, Help, Verdict};
use crate::trace::Trace;

/// What a cell shows.
pub fn word(cell: &Cell) -> &'static str {
    match cell.verdict {
        Verdict::Own => "self",
        Verdict::WithHelp => cell.help.word(),
        Verdict::None => "none",
        Verdict::Wrong => "WRONG",
        Verdict::Incomplete(_) => "?",
    }
}

/// A design or several that agree in every cell, and their cells in the order of the programs.
struct Column {
    names: Vec<String>,
    words: Vec<&'static str>,
}

impl Column {
    /// Its head, long names in two lines.
    fn head(&self) -> Vec<String> {
        let name = &self.names[0];
        let star = if self.names.len() > 1 { "*" } else { "" };
        let cut = name
            .rfind('-')
            .filter(|_| name.len() > 9 && !name.contains(['=', ',']));
        match cut {
            Some(at) => vec![
                name[..=at].to_string(),
                format!("{}{star}", &name[at + 1..]),
            ],
            None => vec![format!("{name}{star}")],
        }
    }
}

/// Programs as rows, designs as columns; neighbouring designs that agree in every cell share one.
pub fn table(screen: &Screen, cells: &[Cell]) -> String {
    let mut programs = Vec::new();
    let mut columns: Vec<Column> = Vec::new();
    for cell in cells {
        let program = cell.kind.to_string();
        if !programs.contains(&program) {
            programs.push(program);
        }
        match columns.last_mut() {
            Some(column) if column.names[0] == cell.design.name => column.words.push(word(cell)),
            _ => columns.push(Column {
                names: vec![cell.design.name.clone()],
                words: vec![word(cell)],
            }),
        }
    }
    columns.dedup_by(|next, column| {
        let same = next.words == column.words;
        if same {
            column.names.append(&mut next.names);
        }
        same
    });
    let label = programs.iter().map(String::len).max().unwrap_or(0);
    let mut out = String::new();
    let mut rest = columns.as_slice();
    while !rest.is_empty() {
        let mut used = label;
        let width = |c: &Column| {
            let heads = c.head().into_iter().map(|h| h.len());
            let words = c.words.iter().map(|w| w.len());
            heads.chain(words).max().unwrap_or(0)
        };
        let fit = rest.iter().take_while(|c| {
            used += 2 + width(c);
            used <= screen.width
        });
        let (part, after) = rest.split_at(fit.count().max(1));
        rest = after;
        let heads = part.iter().map(|c| c.head().len()).max().unwrap_or(1);
        for line in 0..heads {
            let mut head = " ".repeat(label);
            for column in part {
                // Heads of one line stand on the last one.
                let lines = column.head();
                let name = (line + lines.len())
                    .checked_sub(heads)
                    .map_or("", |n| lines[n].as_str());
                let _ = write!(head, "  {name:width$}", width = width(column));
            }
            let _ = writeln!(out, "{}", screen.paint(Mark::Head, head.trim_end()));
        }
        for (i, program) in programs.iter().enumerate() {
            let mut line = format!("{program:label$}");
            for column in part {
                let word = column.words[i];
                let pad = width(column) - word.len();
                let word = match word {
                    "WRONG" => screen.paint(Mark::Broken, word),
                    _ => word.to_string(),
                };
                let _ = write!(line, "  {word}{:pad$}", "");
            }
            let _ = writeln!(out, "{}", line.trim_end());
        }
        if !rest.is_empty() {
            out.push('\n');
        }
    }
    for column in columns.iter().filter(|c| c.names.len() > 1) {
        let names = column.names.join(", ");
        let text = format!("{}*: {names} agree in every row", column.names[0]);
        let _ = write!(out, "\n{}", screen.paragraph(&text, 0));
    }
    out
}

/// What the words of the table mean, those that occur.
pub fn legend(screen: &Screen, cells: &[Cell]) -> String {
    let mut out = String::new();
    let mut say = |word: &str, text: &str| out += &screen.entry(word, 6, text);
    let has = |verdict| cells.iter().any(|c| c.verdict == verdict);
    if has(Verdict::Own) {
        say(
            "self",
            "every such program finds its scheduler, whatever its loader does",
        );
    }
    for (help, word, meaning) in Help::ALL {
        if cells
            .iter()
            .any(|c| c.verdict == Verdict::WithHelp && c.help == help)
        {
            say(
                word,
                &format!("it does with this help of its loader: {meaning}"),
            );
        }
    }
    if has(Verdict::None) {
        say("none", "no help makes it so");
    }
    if has(Verdict::Wrong) {
        say(
            "WRONG",
            "the least help that makes it so lets it find another scheduler, or one that is gone",
        );
    }
    let bounds = cells.iter().filter_map(|c| match c.verdict {
        Verdict::Incomplete(bound) => Some(bound),
        _ => None,
    });
    if let Some(bound) = bounds.max_by_key(|b| b.ends_the_job()) {
        say("?", &format!("not everything was seen: {}", bound.reason()));
    }
    out
}

/// The run behind a cell: what it shows, the steps, and how it ends.
pub fn run(screen: &Screen, cell: &Cell, trace: &Trace) -> String {
    let shared = if cell.shared {
        ", one object file for two schedulers"
    } else {
        ""
    };
    let mut out = format!(
        "{} under {}{shared}: {}",
        cell.kind,
        cell.design,
        cell.verdict.word()
    );
    if cell.help != Help::None {
        out += &format!(", {}", cell.help.word());
    }
    out += "\n\n";
    let facts = cell.kind.facts();
    let mut say = |label: &str, text: &str| out += &screen.entry(label, 8, text);
    say(
        "program",
        &format!("{}; entered by {}()", facts.kind, facts.enter),
    );
    say("cookie", facts.field.unwrap_or("none can be given"));
    say("source", facts.source);
    if !facts.kfuncs {
        say("today", "sched_ext has no kfuncs for this type yet");
    }
    say("loader", cell.help.meaning());
    out.push('\n');
    out += &table::table(screen, trace);
    out.push('\n');
    let end = match (cell.verdict, cell.end) {
        (Verdict::Own | Verdict::WithHelp, _) => "It finds its own scheduler, and in every other run that was explored it finds its own or nothing that it could miss.".into(),
        (Verdict::Incomplete(bound), _) => format!("Not everything was seen: {}.", bound.reason()),
        (_, Some(Event::Broken(invariant, _))) => format!("This breaks {}: {}", invariant.id(), invariant.sentence()),
        (_, Some(Event::Found(Found::Refused(_)))) => match trace.steps.last() {
            Some(step) if step.label == Label::Load.name() => "The verifier refuses the program, so it never asks.".into(),
            _ => "The loader is told, and goes no further.".into(),
        },
        _ => format!("This breaks {}: {}", Invariant::CookieReachability.id(), Invariant::CookieReachability.sentence()),
    };
    out += &screen.paragraph(&end, 0);
    out
}

/// The trace of a cell; it was explored, so it can be carried out.
///
/// # Errors
/// A bug of ours: which step was not enabled.
pub fn trace(cell: &Cell) -> Result<Trace, String> {
    crate::walk::trace(&cell.reach(), &cell.trace)
        .map_err(|e| format!("step {} of a trace cannot be taken again", e.step))
}

/// Nothing, or a number as it is written.
fn number(n: u8) -> String {
    match n {
        0 => "-".into(),
        GARBAGE => "garbage".into(),
        n => format!("{n:#x}"),
    }
}

/// A state as named objects.
pub fn describe(world: &World, s: &State) -> Vec<Object> {
    let mut objects = Vec::new();
    let map = |n: u8| match n {
        0 => "NULL".into(),
        POISON => "POISON".into(),
        n => format!("map {}", world.scheds[usize::from(n) - 1].name),
    };
    for (decl, sched) in world.scheds.iter().zip(&s.scheds) {
        if sched.life != Life::None {
            objects.push(
                Object::new(format!("scheduler {}", decl.name))
                    .with("is", format!("{:?}", sched.life).to_lowercase())
                    .with("key", number(sched.key)),
            );
        }
        if sched.map != MapLife::None {
            let life = format!("{:?}", sched.map).to_lowercase();
            objects.push(
                Object::new(format!("map {}", decl.name))
                    .with("is", life)
                    .with("refs", sched.refs),
            );
        }
    }
    for (decl, prog) in world.progs.iter().zip(&s.progs) {
        if matches!(prog.life, ProgLife::Loaded | ProgLife::Freed) {
            let life = format!("{:?}", prog.life).to_lowercase();
            objects.push(
                Object::new(decl.name.clone())
                    .with("is", life)
                    .with("refs", prog.refs)
                    .with("map", map(prog.assoc)),
            );
        }
    }
    for (decl, element) in world.scheds.iter().zip(&s.asyncs) {
        if element.armed {
            objects.push(
                Object::new(format!("element of {}", decl.name))
                    .with("stash", number(element.stash)),
            );
        }
    }
    for (cpu, c) in s.cpus.iter().enumerate().take(usize::from(world.cpus)) {
        let context = match c.bpf_ctx.checked_sub(1).map(|f| &c.frames[usize::from(f)]) {
            None => "NULL".into(),
            Some(frame) => format!("run_ctx of {}", world.progs[usize::from(frame.prog)].name),
        };
        objects.push(Object::new(format!("cpu{cpu}")).with("current->bpf_ctx", context));
    }
    objects
}
