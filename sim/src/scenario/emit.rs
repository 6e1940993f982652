//! The way back: a [`World`] as a scenario file that the parser reads as the same world.
//!
//! Not here: what the file asks and expects beyond what it is given.

use std::fmt::{self, Write};

use struct_ops_model::script::{Script, Slot, SlotKey};
use struct_ops_model::world::{
    Body, CpuDecl, OpKind, Operand, Operation, Plan, Position, ProgType,
};
use struct_ops_model::{Linux, World};

use super::PlanText;

/// What a scenario file says in words.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a> {
    /// A heading.
    pub title: &'a str,
    /// What the scenario asks.
    pub question: &'a str,
    /// Where the scenario comes from.
    pub source: &'a str,
}

/// The text of a scenario file.
pub fn emit(words: Words<'_>, world: &World) -> String {
    let mut out = String::new();
    write(&mut out, words, world).expect("a String takes everything");
    out
}

fn string(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn strings<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let texts: Vec<String> = texts.into_iter().map(string).collect();
    format!("[{}]", texts.join(", "))
}

/// Everything that subsystems may share stands in the first table.
fn subsystems(out: &mut String, script: &Script) -> fmt::Result {
    let text =
        |out: &mut String, name: &str, text: &str| writeln!(out, "{name} = {}", string(text));
    for (i, own) in script.subsystems.iter().enumerate() {
        writeln!(out, "\n[[subsystem]]")?;
        text(out, "name", &own.name)?;
        if i == 0 {
            let names = |names: &[String]| strings(names.iter().map(String::as_str));
            writeln!(out, "locks = {}", names(&script.locks))?;
            writeln!(out, "srcu = {}", names(&script.domains))?;
            writeln!(out, "objects = {}", names(&script.objects))?;
            writeln!(out, "members = {}", names(&script.members))?;
            let key = |slot: &Slot| SlotKey::NAMES.iter().find(|k| k.1 == slot.key);
            let slots = script.slots.iter().map(|s| {
                let key = key(s).expect("every key is listed").0;
                format!("{} = {}", string(&s.name), string(key))
            });
            writeln!(
                out,
                "slots = {{ {} }}",
                slots.collect::<Vec<_>>().join(", ")
            )?;
            let flags = script.flags.iter().enumerate();
            let flags =
                flags.map(|(i, f)| format!("{} = {}", string(f), script.set & (1 << i) != 0));
            writeln!(
                out,
                "flags = {{ {} }}",
                flags.collect::<Vec<_>>().join(", ")
            )?;
        }
        let functions = script.functions.iter().enumerate();
        let mine = functions.filter(|(_, f)| usize::from(f.subsystem) == i);
        let called = [Some(own.reg), Some(own.unreg), own.update, own.teardown];
        let (called, run): (Vec<_>, Vec<_>) =
            mine.partition(|(f, _)| called.contains(&Some(*f as u8)));
        for (_, function) in called {
            text(out, &function.name, &function.text)?;
        }
        if !run.is_empty() {
            writeln!(out, "[subsystem.run]")?;
        }
        for (_, function) in run {
            text(out, &string(&function.name), &function.text)?;
        }
    }
    Ok(())
}

fn write(out: &mut String, words: Words<'_>, world: &World) -> fmt::Result {
    writeln!(out, "title = {}", string(words.title))?;
    writeln!(out, "question = {}", string(words.question))?;
    writeln!(out, "source = {}", string(words.source))?;
    if world.linux != Linux::default() {
        writeln!(out, "linux = {}", string(world.linux.version()))?;
    }
    subsystems(out, &world.script)?;
    for ty in &world.types {
        writeln!(out, "\n[[type]]\nname = {}", string(&ty.name))?;
        writeln!(
            out,
            "subsystem = {}",
            string(ty.subsystem.name(&world.script))
        )?;
        if ty.module {
            writeln!(out, "module = true")?;
        }
        writeln!(out, "members = [")?;
        for member in &ty.members {
            let required = if member.required {
                ", required = true"
            } else {
                ""
            };
            let sleepable = if member.sleepable {
                ", sleepable = true"
            } else {
                ""
            };
            let name = string(&member.name);
            writeln!(
                out,
                "  {{ name = {name}{required}{sleepable}, size = {} }},",
                member.size
            )?;
        }
        writeln!(out, "]")?;
    }
    for prog in &world.progs {
        writeln!(out, "\n[[program]]\nname = {}", string(&prog.name))?;
        match prog.of {
            ProgType::StructOps { ty, member } => {
                let ty = &world.types[ty];
                writeln!(out, "type = {}", string(&ty.name))?;
                writeln!(out, "member = {}", string(&ty.members[member].name))?;
                let body = Body::NAMES
                    .iter()
                    .find(|b| b.1 == prog.body)
                    .expect("every body is listed");
                writeln!(out, "body = {}", string(body.0))?;
            }
            other => writeln!(out, "kind = {}", string(other.name()))?,
        }
        if let Some(process) = prog.process {
            writeln!(out, "process = {process}")?;
        }
    }
    for map in &world.maps {
        writeln!(out, "\n[[map]]\nname = {}", string(&map.name))?;
        writeln!(out, "type = {}", string(&world.types[map.ty].name))?;
        if !map.link {
            writeln!(out, "link = false")?;
        }
        writeln!(out, "key = {}", string(&world.keys[usize::from(map.key)]))?;
        let progs = map
            .progs
            .iter()
            .flatten()
            .map(|p| world.progs[usize::from(*p)].name.as_str());
        writeln!(out, "programs = {}", strings(progs))?;
        if map.owner_set {
            writeln!(out, "owner = true")?;
        }
    }
    for cgroup in &world.cgroups {
        writeln!(out, "\n[[cgroup]]\nname = {}", string(&cgroup.name))?;
        if let Some(parent) = cgroup.parent {
            let parent = &world.cgroups[usize::from(parent)].name;
            writeln!(out, "parent = {}", string(parent))?;
        }
    }
    writeln!(out, "\n[run]\nprocesses = {}", world.procs)?;
    writeln!(out, "alloc-failures = {}", world.alloc_failures)?;
    writeln!(out, "max-links = {}", world.max_links)?;
    // TOML's numbers end below 2^63; a cookie beyond, and all after it, stand where an operation names them.
    let cookies = world
        .cookies
        .iter()
        .skip(1)
        .take_while(|c| i64::try_from(**c).is_ok());
    let cookies: Vec<String> = cookies.map(|c| format!("{c:#x}")).collect();
    writeln!(out, "cookies = [{}]", cookies.join(", "))?;
    writeln!(out, "setup = {}", operations(world, &world.setup))?;
    for cpu in &world.cpus {
        writeln!(out, "\n[[cpu]]\nprocess = {}", cpu.proc)?;
        match &cpu.plan {
            Plan::Fixed(list) => writeln!(out, "do = {}", operations(world, list))?,
            Plan::Free { kinds, budget } => {
                writeln!(out, "choose = {}", strings(kinds.iter().map(|k| k.name())))?;
                writeln!(out, "times = {budget}")?;
            }
        }
    }
    Ok(())
}

fn operations(world: &World, list: &[Operation]) -> String {
    let lines = list
        .iter()
        .map(|o| format!("\n  {},", string(&operation(world, *o))));
    let lines: String = lines.collect();
    if lines.is_empty() {
        "[]".into()
    } else {
        format!("[{lines}\n]")
    }
}

/// What each CPU is to do.
pub(super) fn plans(world: &World) -> Vec<PlanText> {
    let any: Vec<OpKind> = OpKind::any(world).collect();
    let of = |(i, cpu): (usize, &CpuDecl)| PlanText {
        actor: format!("cpu{i}"),
        ordered: match &cpu.plan {
            Plan::Fixed(list) => list.len(),
            Plan::Free { .. } => 0,
        },
        any: matches!(&cpu.plan, Plan::Free { kinds, .. } if *kinds == any),
        operations: match &cpu.plan {
            Plan::Fixed(list) => list.iter().map(|o| operation(world, *o)).collect(),
            Plan::Free { kinds, .. } => kinds.iter().map(|k| k.name().to_string()).collect(),
        },
    };
    world.cpus.iter().enumerate().map(of).collect()
}

/// Where a link goes in its cgroup's list, as the parser reads it.
pub fn position(world: &World, position: Position) -> String {
    let anchor = position.anchor.map(|a| world.links.get(usize::from(a)));
    let anchor = anchor.map_or(String::new(), |name| {
        format!("={}", name.map_or("?", String::as_str))
    });
    let mut words = Vec::new();
    if position.before {
        words.push(format!("before{anchor}"));
    }
    if position.after {
        words.push(format!("after{anchor}"));
    }
    if position.preorder {
        words.push("preorder".to_string());
    }
    if position.by_id {
        words.push("by-id".to_string());
    }
    words.join(" ")
}

/// An operation as the parser reads it.
pub fn operation(world: &World, operation: Operation) -> String {
    let mut text = operation.kind().name().to_string();
    for (operand, value) in operation.operands() {
        let Some(value) = value else { continue };
        let i = usize::from(value);
        text += " ";
        match operand {
            Operand::NewMap | Operand::Map(_) => text += &world.maps[i].name,
            Operand::Replace => text += &format!("replace={}", world.maps[i].name),
            Operand::Link(_) => text += &world.links[i],
            Operand::NewLink => text += &format!("as {}", world.links[i]),
            Operand::Cookie if world.cookies[i] == 0 => {
                text.pop();
            }
            Operand::Cookie => text += &format!("cookie={:#x}", world.cookies[i]),
            Operand::Key | Operand::NewRing => text += &world.keys[i],
            Operand::Socket | Operand::Ring | Operand::Entry => text += &value.to_string(),
            Operand::Member => {
                let called = world.called_by(operation.kind());
                text += called.map_or("?", |t| &t.members[i].name);
            }
            Operand::Program(_) => text += &world.progs[i].name,
            Operand::Function => text += &world.script.functions[i].name,
            Operand::Cgroup => text += &world.cgroups[i].name,
            Operand::Target => text += &format!("cgroup={}", world.cgroups[i].name),
            Operand::Position => text += &position(world, Position::from_number(value)),
            Operand::Revision => text += &format!("revision={value}"),
        }
    }
    text
}
