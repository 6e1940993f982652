//! `explain NAME`: a paragraph on everything that has this name, whatever `list` shows it as.

use std::fmt::Write;

use struct_ops_model::design::{Lookup, PRESETS};
use struct_ops_model::pc::{Mover, STEPS, StepInfo};
use struct_ops_model::place::{Function, Place};
use struct_ops_model::reach::context::{NO_HELPER, RunCtx, Slot, Way};
use struct_ops_model::reach::{Kind, Label};
use struct_ops_model::script::{Script, SlotKey};
use struct_ops_model::uapi::{
    Attribute, LINK_CREATE, LINK_CREATE_UNION, ReadBy, collisions, free_from,
};
use struct_ops_model::world::{Body, OpKind, Operand, Plan, Subsystem};
use struct_ops_model::{Design, Invariant, Linux};

use super::list;
use super::screen::Screen;
use super::text::plural;
use crate::scenario::{
    Case, Expect, Expectation, ReachScenario, STATEMENTS, Scenario, built_in_subsystem,
    shipped_subsystems,
};

/// What stands for [`Operand::Position`].
const POSITION: &str = "before, after, before=LINK or after=LINK, and preorder: where the link goes in the cgroup's list; \
    without any of them to its end. With by-id the LINK is found by its id, whoever has it open. revision=N: the list must have this revision, from 1, before any change, to 255";

/// What is known under a name, each meaning a paragraph; `None` if nothing is.
pub fn explain(screen: &Screen, name: &str, scenarios: &[Case]) -> Option<String> {
    let mut found = Vec::new();
    if let Some((_, text)) = PRESETS.iter().find(|p| p.0 == name)
        && let Ok(preset) = Design::parse(name)
    {
        found.push(design(screen, &preset, Some(text)));
    }
    let by_short = |i: &&Invariant| i.id() == name || i.short() == name;
    found.extend(
        Invariant::ALL
            .iter()
            .find(by_short)
            .map(|i| invariant(screen, *i)),
    );
    let scenario = scenarios.iter().find(|s| s.head().name == name);
    found.extend(scenario.map(|s| case(screen, s)));
    found.extend(Kind::parse(name).map(|kind| program(screen, kind)));
    found.extend(OpKind::from_name(name).map(|kind| {
        let syntax = kind.syntax();
        let mut rows = vec![("is", kind.info().stands_for), ("write", &syntax)];
        if kind.has(Operand::Position) {
            rows.push(("POSITION", POSITION));
        }
        let width = rows.iter().map(|row| row.0.len()).max().unwrap_or(0).max(6);
        let rows = rows.iter().map(|row| screen.entry(row.0, width, row.1));
        let mut about = format!("operation {name}\n\n{}", rows.collect::<String>());
        if kind == OpKind::LinkCreate {
            about += &link_create_attributes(screen);
        }
        about
    }));
    let choices = Design::choices();
    let named = choices.iter().find(|c| c.0 == name);
    found.extend(named.map(|(key, values)| choice(screen, key, values)));
    found.extend(value(screen, name));
    let step = STEPS.iter().find(|s| s.name == name);
    found.extend(step.map(|s| self::step(screen, s)));
    let label = Label::ALL.iter().find(|l| l.name() == name);
    found.extend(label.map(|label| {
        format!(
            "step {name}, where schedulers are looked up\n\n{}\n{}",
            screen.paragraph(label.why(), 2),
            place(screen, label.place(), &[Linux::V7_3])
        )
    }));
    let short = |kind: &str, text: &str| format!("{kind} {name}\n\n{}", screen.paragraph(text, 2));
    let subsystem = Subsystem::from_name(name);
    found.extend(subsystem.map(|s| {
        let mut about = short("subsystem", s.facts().about);
        if let Some(text) = built_in_subsystem(name) {
            about += &format!(
                "\n{}\n{}",
                screen.paragraph(
                    "The same in the language of a scenario's own subsystems, to be copied:",
                    2
                ),
                code(screen, text)
            );
        }
        about
    }));
    let shipped = shipped_subsystems();
    let shipped = shipped.iter().find(|s| s.0 == name);
    found.extend(shipped.map(|(name, text)| format!("subsystem {name}\n\n{}", code(screen, text))));
    let statement = |s: &&(&str, &str)| s.0.split(' ').next() == Some(name);
    let statement = STATEMENTS.iter().find(statement);
    found.extend(statement.map(|(syntax, does)| {
        format!(
            "statement {name}, in a subsystem of your own\n\n{}{}",
            screen.entry("write", 6, syntax),
            screen.entry("does", 6, does)
        )
    }));
    let key = SlotKey::NAMES.iter().find(|k| k.0 == name);
    found.extend(key.map(|k| short("key of a slot", k.2)));
    let body = Body::NAMES.iter().find(|n| n.0 == name);
    found.extend(body.map(|n| short("body", &format!("A program with this body {}.", n.2))));
    (!found.is_empty()).then(|| found.join("\n"))
}

/// Where the attributes of BPF_LINK_CREATE lie, and what two of them in the same bytes mean.
fn link_create_attributes(screen: &Screen) -> String {
    let bytes = |range: std::ops::Range<usize>| format!("{}..{}", range.start, range.end);
    let reader = |attribute: &Attribute| match attribute.read_by {
        ReadBy::Linux(Linux::V6_12) => "Linux".to_string(),
        ReadBy::Linux(linux) => format!("Linux from {} on", linux.version()),
        ReadBy::Series(series) => format!("kernel-patches/{series}"),
        ReadBy::OtherLinks(links) => format!("for links to {links}"),
    };
    let text = format!(
        "Its attributes in union bpf_attr, by their bytes; the union of what each kind of link has is {}:",
        bytes(LINK_CREATE_UNION)
    );
    let mut out = format!("\n{}\n", screen.paragraph(&text, 2));
    for attribute in LINK_CREATE {
        let text = format!(
            "{} ({}): {}",
            attribute.name,
            reader(attribute),
            attribute.meaning
        );
        out += &screen.entry(&bytes(attribute.bytes()), 6, &text);
    }
    out.push('\n');
    for (ours, theirs) in collisions() {
        let text = format!(
            "COLLISION: {} of {} and {} of {}.",
            ours.name,
            reader(ours),
            theirs.name,
            reader(theirs)
        );
        out += &screen.paragraph(&text, 2);
    }
    let text = format!(
        "No kernel that is known here reads bytes {} for struct_ops, or refuses what is there: a cookie would be ignored by one that does not know it.",
        bytes(free_from()..LINK_CREATE_UNION.end)
    );
    out += &screen.paragraph(&text, 2);
    out
}

/// A subsystem in the language: what its file says of it, and the file.
fn code(screen: &Screen, text: &str) -> String {
    let at = text.find("\n[[").map_or(0, |at| at + 1);
    let (comment, code) = text.split_at(at);
    let comment = comment.lines().map(|l| l.trim_start_matches('#').trim());
    let comment = comment.collect::<Vec<_>>().join(" ");
    let about = screen.paragraph(comment.trim(), 2);
    format!("{about}\n{code}")
}

/// Names that [`explain`] knows, for hints: what `list` shows, and every kind of program.
pub fn known(scenarios: &[Case]) -> Vec<String> {
    let listed = list::KINDS
        .iter()
        .map(|kind| list::section(kind, scenarios));
    let mut names: Vec<String> = listed.flat_map(|section| section.names()).collect();
    names.extend(Kind::names());
    names
}

/// A design with all its choices.
pub fn design(screen: &Screen, design: &Design, text: Option<&str>) -> String {
    let mut out = format!("design {design}\n\n");
    if let Some(text) = text {
        out += &screen.paragraph(text, 2);
        out.push('\n');
    }
    let choices = Design::choices();
    let label = |key: &str, value: &str| format!("{key}={value}");
    let width = design
        .values()
        .iter()
        .filter(|(k, _)| Lookup::matters(k, design.identity))
        .map(|(k, v)| label(k, v).len())
        .max()
        .unwrap_or(0);
    let values = design.values();
    let values = values
        .into_iter()
        .filter(|(key, _)| Lookup::matters(key, design.identity));
    for (key, value) in values {
        let meaning = choices
            .iter()
            .find(|c| c.0 == key)
            .and_then(|c| c.1.iter().find(|v| v.0 == value));
        out += &screen.entry(&label(key, value), width, meaning.map_or("", |m| m.1));
    }
    let never: Vec<&str> = Invariant::ALL
        .iter()
        .filter(|i| !i.applies(design))
        .map(|i| i.id())
        .collect();
    if !never.is_empty() {
        out += &format!(
            "\n{}",
            screen.paragraph(&format!("Does not promise: {}.", never.join(", ")), 2)
        );
    }
    out
}

fn invariant(screen: &Screen, invariant: Invariant) -> String {
    let mut out = format!("invariant {} ({})\n\n", invariant.id(), invariant.short());
    out += &screen.paragraph(invariant.sentence(), 2);
    out.push('\n');
    if invariant.limits() != "-" {
        out += &screen.entry("not meant", 12, invariant.limits());
    }
    out += &screen.entry("exercised", 12, &format!("when {}", invariant.sometimes()));
    let silent: Vec<&str> = PRESETS
        .iter()
        .filter(|p| Design::parse(p.0).is_ok_and(|d| !invariant.applies(&d)))
        .map(|p| p.0)
        .collect();
    if !silent.is_empty() {
        out += &screen.entry("not promised", 12, &format!("by {}", silent.join(", ")));
    }
    out
}

/// What a scenario asks, of whom, and what it expects.
pub fn case(screen: &Screen, case: &Case) -> String {
    match case {
        Case::Attach(s) => scenario(screen, s),
        Case::Reach(s) => reach_scenario(screen, s),
    }
}

fn scenario(screen: &Screen, s: &Scenario) -> String {
    let title = format!("scenario {}: {}", s.head.name, s.head.title);
    let mut out = screen.paragraph(&title, 0) + "\n";
    out += &screen.paragraph(&s.head.question, 2);
    out.push('\n');
    out += &screen.entry("from", 11, &s.head.source);
    if let Some(find) = &s.head.find {
        out += &screen.entry("find", 11, find);
    }
    if let Some(fault) = &s.head.fault {
        out += &screen.entry("fault", 11, fault);
    }
    if let Some((designs, why)) = &s.only {
        out += &screen.entry("only under", 11, &format!("{}: {why}", designs.join(", ")));
    }
    let types: Vec<String> = s
        .world
        .types
        .iter()
        .map(|t| format!("{} ({})", t.name, t.subsystem.name(&s.world.script)))
        .collect();
    out += &screen.entry("types", 11, &types.join(", "));
    let maps: Vec<&str> = s.world.maps.iter().map(|m| m.name.as_str()).collect();
    out += &screen.entry("maps", 11, &maps.join(", "));
    for (i, cpu) in s.world.cpus.iter().enumerate() {
        let does = match &cpu.plan {
            Plan::Fixed(operations) => plural(operations.len(), "operation"),
            Plan::Free { kinds, budget } => {
                let kinds: Vec<&str> = kinds.iter().map(|k| k.name()).collect();
                format!("any {budget} of {}", kinds.join(", "))
            }
        };
        out += &screen.entry(&format!("cpu{i}"), 11, &does);
    }
    if s.world.alloc_failures > 0 {
        let text = format!(
            "up to {} may fail",
            plural(usize::from(s.world.alloc_failures), "allocation")
        );
        out += &screen.entry("failures", 11, &text);
    }
    out += &kept(screen, &s.world.script);
    out += &expected(screen, &s.head.expect);
    for function in &s.world.script.functions {
        let own = &s.world.script.subsystems[usize::from(function.subsystem)];
        out += &format!("\n  {} of {}\n", function.name, own.name);
        for line in function.text.lines().filter(|l| !l.trim().is_empty()) {
            out += &format!("    {}\n", line.trim_end());
        }
    }
    out
}

/// What the scenario's own subsystems keep, as their tables declare it.
fn kept(screen: &Screen, script: &Script) -> String {
    let slots = script.slots.iter().map(|slot| {
        let key = SlotKey::NAMES.iter().find(|k| k.1 == slot.key);
        format!("{} ({})", slot.name, key.map_or("", |k| k.0))
    });
    let flags = script.flags.iter().enumerate();
    let flags = flags.map(|(i, flag)| match script.set & 1 << i {
        0 => flag.clone(),
        _ => format!("{flag} (set)"),
    });
    let rows: [(&str, Vec<String>); 5] = [
        ("locks", script.locks.clone()),
        ("slots", slots.collect()),
        ("srcu", script.domains.clone()),
        ("flags", flags.collect()),
        ("objects", script.objects.clone()),
    ];
    let rows = rows.into_iter().filter(|(_, names)| !names.is_empty());
    rows.map(|(what, names)| screen.entry(what, 11, &names.join(", ")))
        .collect()
}

/// What is known of a kind of program, and what its verdict in `reach` is made of.
fn program(screen: &Screen, kind: Kind) -> String {
    let facts = kind.facts();
    let mut out = format!("program {kind}\n\n");
    let way = Way::ALL
        .iter()
        .find(|w| w.1 == kind.way)
        .map_or("", |w| w.2);
    out += &screen.entry("asks", 9, way);
    out += &screen.entry("type", 9, facts.kind);
    out += &screen.entry(
        "entered",
        9,
        &format!(
            "by {}(){}",
            facts.enter,
            if facts.sleepable { ", may sleep" } else { "" }
        ),
    );
    let run_ctx = match facts.run_ctx {
        RunCtx::Cookie => "current->bpf_ctx is its own run context, which begins with the cookie",
        RunCtx::Other => {
            "current->bpf_ctx is its own run context, which has something else in that place"
        }
        RunCtx::Inherited => "current->bpf_ctx stays what it was: somebody else's, or NULL",
    };
    out += &screen.entry("context", 9, run_ctx);
    let slot = match facts.slot {
        Slot::RunCtx => "in the run context".into(),
        Slot::Link => "in the link, by instruction pointer".into(),
        Slot::Event => "in the perf event".into(),
        Slot::Nowhere => format!("nowhere: \"{NO_HELPER}\""),
    };
    let given = facts
        .field
        .map_or(String::new(), |f| format!("; given through {f}"));
    out += &screen.entry("cookie", 9, &format!("{slot}{given}"));
    out += &screen.entry(
        "kfuncs",
        9,
        if facts.kfuncs {
            "sched_ext has some for this type"
        } else {
            "sched_ext has none for this type yet; the verdict is about what they could know"
        },
    );
    out += &screen.entry("source", 9, facts.source);
    out.push('\n');
    out += &screen.paragraph(VERDICT, 2);
    out
}

/// How a cell of `reach` comes about.
const VERDICT: &str = "Verdicts of `reach` are explored, not written down. Two schedulers with one such program \
    each are loaded by loaders that make no mistake; anything that they leave open may happen in any order. The \
    loader's helps are tried one after the other, the least first. `self`: without help every lookup finds the own \
    scheduler while that is enabled, and never another or a dead one. A help's name: the same with this help. \
    `wrong`: the first help under which the own scheduler is found at all also lets another or a dead one be found. \
    `none`: neither. What loaders may do wrong is in the scenarios of kind reach.";

fn reach_scenario(screen: &Screen, s: &ReachScenario) -> String {
    let title = format!("scenario {}: {}", s.head.name, s.head.title);
    let mut out = screen.paragraph(&title, 0) + "\n";
    out += &screen.paragraph(&s.head.question, 2);
    out.push('\n');
    out += &screen.entry("from", 11, &s.head.source);
    if let Some(find) = &s.head.find {
        out += &screen.entry("find", 11, find);
    }
    if let Some(fault) = &s.head.fault {
        out += &screen.entry("fault", 11, fault);
    }
    out += &screen.entry(
        "about",
        11,
        "schedulers that programs look for (kind = \"reach\")",
    );
    out += &expected(screen, &s.head.expect);
    out
}

fn expected(screen: &Screen, expect: &[Expectation]) -> String {
    if expect.is_empty() {
        return String::new();
    }
    let mut out = "\n  expected\n".to_string();
    for expectation in expect {
        let ids = expectation.result.violated();
        let ids = ids.map(|ids| ids.iter().map(|i| i.id()).collect::<Vec<_>>());
        let text = match ids.as_deref() {
            None => Expect::SET_UP_FAILS.into(),
            Some([]) => "breaks no promise".into(),
            Some(ids) => format!("breaks {}", ids.join(", ")),
        };
        out += &screen.entry(&expectation.design, 11, &text);
    }
    out
}

/// Where a step is carried out on each of these kernels.
fn place(screen: &Screen, place: Place, kernels: &[Linux]) -> String {
    let here = |f: &Function| format!("{}() in {}", f.name, f.file);
    match place {
        Place::Linux(functions) => {
            let of = |linux: Linux| functions[linux as usize];
            let first = of(kernels[0]);
            if let Some(function) = first
                && kernels.len() > 1
                && kernels.iter().all(|l| of(*l) == first)
            {
                return screen.entry("function", 9, &here(&function));
            }
            let line = |linux: &Linux| {
                let text = of(*linux).as_ref().map_or("none".into(), here);
                screen.entry(&format!("in {}", linux.version()), 9, &text)
            };
            kernels.iter().map(line).collect()
        }
        Place::Series(series, function) => {
            let text = format!("{}, which kernel-patches/{series} adds", here(&function));
            screen.entry("function", 9, &text)
        }
        Place::Code(code) => {
            let text = format!("none: {} is {}", code.mark(), code.meaning());
            screen.entry("function", 9, &text)
        }
    }
}

fn step(screen: &Screen, info: &StepInfo) -> String {
    let mut out = format!("step {}\n\n", info.name);
    out += &screen.paragraph(info.why, 2);
    out.push('\n');
    out += &place(screen, info.place, &Linux::ALL);
    out += &screen.entry(
        "commutes",
        9,
        match info.mover {
            Mover::Both => {
                "with every step of other CPUs, both ways: it touches only what is private"
            }
            Mover::Right => {
                "to the right: it acquires, and what others do after it they could as well do before"
            }
            Mover::Left => {
                "to the left: it releases, and what others do before it they could as well do after"
            }
            Mover::No => "with nothing: others may observe it",
        },
    );
    out
}

fn choice(screen: &Screen, key: &str, values: &[(&str, &str)]) -> String {
    let title = format!("choice {key}, written {key}=VALUE after a preset: rfc,{key}=...");
    let mut out = screen.paragraph(&title, 0) + "\n";
    let width = values.iter().map(|v| v.0.len()).max().unwrap_or(0);
    for (value, meaning) in values {
        out += &screen.entry(value, width, meaning);
    }
    let mut used = String::new();
    for preset in Design::presets() {
        let value = preset
            .values()
            .into_iter()
            .find(|v| v.0 == key)
            .map_or("", |v| v.1);
        let _ = write!(
            used,
            "{}{preset}: {value}",
            if used.is_empty() { "" } else { ", " }
        );
    }
    out.push('\n');
    out += &screen.paragraph(&used, 2);
    out
}

/// A value, of every choice that has it: `map`, or of one, as it is written after a preset: `owner=map`.
fn value(screen: &Screen, name: &str) -> Option<String> {
    let mut meant = Vec::new();
    for (key, values) in Design::choices() {
        let label = |value: &str| format!("{key}={value}");
        let values = values.into_iter().map(|v| (label(v.0), v));
        meant.extend(
            values
                .filter(|(label, (value, _))| *value == name || label == name)
                .map(|(label, (value, meaning))| (label, key, value, meaning)),
        );
    }
    let width = meant.iter().map(|m| m.0.len()).max()?;
    let mut out = format!("value {name}\n\n");
    for (label, key, value, meaning) in meant {
        let chosen = |d: &Design| d.values().contains(&(key, value));
        let designs = Design::presets().into_iter().filter(chosen);
        let designs: Vec<String> = designs.map(|d| d.name).collect();
        let by = match designs.as_slice() {
            [] => "chosen by no preset".to_string(),
            names => format!("chosen by {}", names.join(", ")),
        };
        out += &screen.entry(&label, width, &format!("{meaning} ({by})"));
    }
    Some(out)
}
