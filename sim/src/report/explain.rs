//! `explain NAME`: a paragraph on a design, a choice, an invariant, a scenario, a step or an operation.

use std::fmt::Write;

use struct_ops_model::design::{Lookup, PRESETS};
use struct_ops_model::pc::{Mover, STEPS};
use struct_ops_model::reach::context::{NO_HELPER, RunCtx, Slot, Way};
use struct_ops_model::reach::{Kind, Label};
use struct_ops_model::world::{OpKind, Plan, Subsystem};
use struct_ops_model::{Design, Invariant};

use super::text::{entry, paragraph, plural};
use crate::scenario::{Case, Expectation, ReachScenario, Scenario, syntax};

/// What is known under a name; `None` if nothing is.
pub fn explain(name: &str, scenarios: &[Case]) -> Option<String> {
    let choice = |key: &str| Design::choices().into_iter().find(|c| c.0 == key);
    if let Some((_, text)) = PRESETS.iter().find(|p| p.0 == name) {
        return Design::parse(name).ok().map(|d| design(&d, Some(text)));
    }
    if let Some(found) = Invariant::from_id(name)
        .or_else(|| Invariant::ALL.iter().copied().find(|i| i.short() == name))
    {
        return Some(invariant(found));
    }
    if let Some(found) = scenarios.iter().find(|s| s.name() == name) {
        return Some(match found {
            Case::Attach(s) => scenario(s),
            Case::Reach(s) => reach_scenario(s),
        });
    }
    if let Some(kind) = Kind::parse(name) {
        return Some(program(kind));
    }
    if let Some(label) = Label::ALL.iter().find(|l| l.name() == name) {
        return Some(format!(
            "step {name}, where schedulers are looked up\n\n{}\n{}",
            paragraph(label.why(), 2),
            entry("function", 9, label.function())
        ));
    }
    if let Some(found) = STEPS.iter().position(|s| s.name == name) {
        return Some(step(found));
    }
    if let Some((key, values)) = choice(name) {
        return Some(self::choice(key, &values));
    }
    if let Some(found) = OpKind::NAMES.iter().find(|n| n.1 == name) {
        return Some(format!(
            "operation {name}\n\n{}\n  {}\n",
            entry("is", 6, found.2).trim_end(),
            entry("write", 6, syntax(found.0)).trim()
        ));
    }
    if let Some(found) = Subsystem::NAMES.iter().find(|n| n.0 == name) {
        return Some(format!("subsystem {name}\n\n{}", paragraph(found.2, 2)));
    }
    None
}

/// Every name that [`explain`] knows, for hints.
pub fn known(scenarios: &[Case]) -> Vec<String> {
    let mut names: Vec<String> = PRESETS.iter().map(|p| p.0.to_string()).collect();
    names.extend(Invariant::ALL.iter().map(|i| i.id().to_string()));
    names.extend(scenarios.iter().map(|s| s.name().to_string()));
    names.extend(STEPS.iter().map(|s| s.name.to_string()));
    names.extend(Design::choices().iter().map(|c| c.0.to_string()));
    names.extend(Kind::names());
    names.extend(Label::ALL.iter().map(|l| l.name().to_string()));
    names.extend(OpKind::NAMES.iter().map(|n| n.1.to_string()));
    names.extend(Subsystem::NAMES.iter().map(|n| n.0.to_string()));
    names
}

/// A design with all its choices.
pub fn design(design: &Design, text: Option<&str>) -> String {
    let mut out = format!("design {design}\n\n");
    if let Some(text) = text {
        out += &paragraph(text, 2);
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
        out += &entry(&label(key, value), width, meaning.map_or("", |m| m.1));
    }
    let never: Vec<&str> = Invariant::ALL
        .iter()
        .filter(|i| !i.applies(design))
        .map(|i| i.id())
        .collect();
    if !never.is_empty() {
        out += &format!(
            "\n{}",
            paragraph(&format!("Does not promise: {}.", never.join(", ")), 2)
        );
    }
    out
}

fn invariant(invariant: Invariant) -> String {
    let mut out = format!("invariant {} ({})\n\n", invariant.id(), invariant.short());
    out += &paragraph(invariant.sentence(), 2);
    out.push('\n');
    if invariant.limits() != "-" {
        out += &entry("not meant", 12, invariant.limits());
    }
    out += &entry("exercised", 12, &format!("when {}", invariant.sometimes()));
    let silent: Vec<&str> = PRESETS
        .iter()
        .filter(|p| Design::parse(p.0).is_ok_and(|d| !invariant.applies(&d)))
        .map(|p| p.0)
        .collect();
    if !silent.is_empty() {
        out += &entry("not promised", 12, &format!("by {}", silent.join(", ")));
    }
    out
}

fn scenario(s: &Scenario) -> String {
    let mut out = format!("scenario {}: {}\n\n", s.name, s.title);
    out += &paragraph(&s.question, 2);
    out.push('\n');
    out += &entry("from", 11, &s.source);
    if let Some(find) = &s.find {
        out += &entry("find", 11, find);
    }
    if let Some((designs, why)) = &s.only {
        out += &entry("only under", 11, &format!("{}: {why}", designs.join(", ")));
    }
    let types: Vec<String> = s
        .world
        .types
        .iter()
        .map(|t| format!("{} ({})", t.name, t.subsystem.name()))
        .collect();
    out += &entry("types", 11, &types.join(", "));
    let maps: Vec<&str> = s.world.maps.iter().map(|m| m.name.as_str()).collect();
    out += &entry("maps", 11, &maps.join(", "));
    for (i, cpu) in s.world.cpus.iter().enumerate() {
        let does = match &cpu.plan {
            Plan::Fixed(operations) => plural(operations.len(), "operation"),
            Plan::Free { kinds, budget } => {
                let kinds: Vec<&str> = kinds.iter().map(|k| k.name()).collect();
                format!("any {budget} of {}", kinds.join(", "))
            }
        };
        out += &entry(&format!("cpu{i}"), 11, &does);
    }
    if s.world.alloc_failures > 0 {
        let text = format!(
            "up to {} may fail",
            plural(usize::from(s.world.alloc_failures), "allocation")
        );
        out += &entry("failures", 11, &text);
    }
    out += &expected(&s.expect);
    out
}

/// What is known of a kind of program, and what its verdict in `reach` is made of.
fn program(kind: Kind) -> String {
    let facts = kind.facts();
    let mut out = format!("program {kind}\n\n");
    let way = Way::ALL
        .iter()
        .find(|w| w.1 == kind.way)
        .map_or("", |w| w.2);
    out += &entry("asks", 9, way);
    out += &entry("type", 9, facts.kind);
    out += &entry(
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
    out += &entry("context", 9, run_ctx);
    let slot = match facts.slot {
        Slot::RunCtx => "in the run context".into(),
        Slot::Link => "in the link, by instruction pointer".into(),
        Slot::Event => "in the perf event".into(),
        Slot::Nowhere => format!("nowhere: \"{NO_HELPER}\""),
    };
    let given = facts
        .field
        .map_or(String::new(), |f| format!("; given through {f}"));
    out += &entry("cookie", 9, &format!("{slot}{given}"));
    out += &entry(
        "kfuncs",
        9,
        if facts.kfuncs {
            "sched_ext has some for this type"
        } else {
            "sched_ext has none for this type yet; the verdict is about what they could know"
        },
    );
    out += &entry("source", 9, facts.source);
    out.push('\n');
    out += &paragraph(VERDICT, 2);
    out
}

/// How a cell of `reach` comes about.
const VERDICT: &str = "Verdicts of `reach` are explored, not written down. Two schedulers with one such program \
    each are loaded by loaders that make no mistake; anything that they leave open may happen in any order. The \
    loader's helps are tried one after the other, the least first. `self`: without help every lookup finds the own \
    scheduler while that is enabled, and never another or a dead one. A help's name: the same with this help. \
    `wrong`: the first help under which the own scheduler is found at all also lets another or a dead one be found. \
    `none`: neither. What loaders may do wrong is in the scenarios of kind reach.";

fn reach_scenario(s: &ReachScenario) -> String {
    let mut out = format!("scenario {}: {}\n\n", s.name, s.title);
    out += &paragraph(&s.question, 2);
    out.push('\n');
    out += &entry("from", 11, &s.source);
    if let Some(find) = &s.find {
        out += &entry("find", 11, find);
    }
    out += &entry(
        "about",
        11,
        "schedulers that programs look for (kind = \"reach\")",
    );
    out += &expected(&s.expect);
    out
}

fn expected(expect: &[Expectation]) -> String {
    if expect.is_empty() {
        return String::new();
    }
    let mut out = "\n  expected\n".to_string();
    for expectation in expect {
        let ids: Vec<&str> = expectation.violated.iter().map(|i| i.id()).collect();
        let text = if ids.is_empty() {
            "every promise holds".into()
        } else {
            format!("breaks {}", ids.join(", "))
        };
        out += &entry(&expectation.design, 11, &text);
    }
    out
}

fn step(index: usize) -> String {
    let info = &STEPS[index];
    let mut out = format!("step {}\n\n", info.name);
    out += &paragraph(info.why, 2);
    out.push('\n');
    out += &entry("function", 9, info.function);
    out += &entry("file", 9, info.file);
    out += &entry(
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

fn choice(key: &str, values: &[(&str, &str)]) -> String {
    let mut out = format!("choice {key}, written {key}=VALUE after a preset: rfc,{key}=...\n\n");
    let width = values.iter().map(|v| v.0.len()).max().unwrap_or(0);
    for (value, meaning) in values {
        out += &entry(value, width, meaning);
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
    out += &paragraph(&used, 2);
    out
}
