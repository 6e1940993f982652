//! What there is: designs, invariants, scenarios, subsystems, operations, statements, steps.

use struct_ops_model::design::PRESETS;
use struct_ops_model::pc::STEPS;
use struct_ops_model::reach::Label;
use struct_ops_model::reach::context::Way;
use struct_ops_model::script::SlotKey;
use struct_ops_model::world::{Body, OpKind, Subsystem};
use struct_ops_model::{Design, Invariant, Linux};

use super::screen::{Mark, Screen};
use crate::reach::programs;
use crate::scenario::{Case, STATEMENTS, shipped_subsystems};

/// A heading and its entries: name and meaning.
#[derive(Debug, serde::Serialize)]
pub struct Section {
    /// What is listed.
    pub kind: &'static str,
    /// The entries.
    pub entries: Vec<(String, String)>,
}

impl Section {
    /// The names in it, without what stands beside them; of choices their values too.
    pub fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        for (name, text) in &self.entries {
            names.extend(name.split_whitespace().next().map(str::to_string));
            if self.kind == "choices" {
                names.extend(text.split(" | ").map(str::to_string));
            }
        }
        names
    }
}

/// Kinds of things that can be listed, in the order in which they are.
pub const KINDS: &[&str] = &[
    "designs",
    "choices",
    "invariants",
    "scenarios",
    "subsystems",
    "operations",
    "bodies",
    "statements",
    "keys",
    "programs",
    "steps",
];

/// One kind of things.
pub fn section(kind: &'static str, scenarios: &[Case]) -> Section {
    let pair = |a: &str, b: &str| (a.to_string(), b.to_string());
    let entries = match kind {
        "designs" => PRESETS.iter().map(|p| pair(p.0, p.1)).collect(),
        "choices" => Design::choices()
            .into_iter()
            .map(|(key, values)| {
                (
                    key.to_string(),
                    values.iter().map(|v| v.0).collect::<Vec<_>>().join(" | "),
                )
            })
            .collect(),
        "invariants" => Invariant::ALL
            .iter()
            .map(|i| pair(i.id(), i.sentence()))
            .collect(),
        "scenarios" => scenarios
            .iter()
            .map(|s| {
                let extended = if s.head().extended { " (extended)" } else { "" };
                pair(&s.head().name, &format!("{}{extended}", &s.head().question))
            })
            .collect(),
        "subsystems" => {
            let built_in = Subsystem::ALL.iter().map(|s| s.facts());
            let built_in = built_in.map(|f| pair(f.name, f.about));
            let shipped = shipped_subsystems().into_iter();
            built_in
                .chain(shipped.map(|(name, text)| pair(name, &what(text))))
                .collect()
        }
        "statements" => STATEMENTS.iter().map(|s| pair(s.0, s.1)).collect(),
        "keys" => SlotKey::NAMES.iter().map(|k| pair(k.0, k.2)).collect(),
        "operations" => OpKind::all()
            .map(|kind| pair(&kind.syntax(), kind.info().stands_for))
            .collect(),
        "programs" => programs()
            .iter()
            .map(|kind| {
                let facts = kind.facts();
                let way = Way::ALL
                    .iter()
                    .find(|w| w.1 == kind.way)
                    .map_or("", |w| w.2);
                let text = if kind.way == Way::Direct {
                    format!("{}; cookie: {}", facts.kind, facts.field.unwrap_or("none"))
                } else {
                    way.to_string()
                };
                pair(&kind.to_string(), &text)
            })
            .collect(),
        "bodies" => Body::NAMES.iter().map(|n| pair(n.0, n.2)).collect(),
        _ => STEPS
            .iter()
            .map(|s| (s.name, s.place.on(Linux::V6_12), s.why))
            .chain(Label::ALL.iter().map(|l| (l.name(), l.site(), l.why())))
            .map(|(name, site, why)| pair(name, &format!("{site}: {why}")))
            .collect(),
    };
    Section { kind, entries }
}

/// What the file of a shipped subsystem says of itself, in its first sentence.
fn what(text: &str) -> String {
    let comment = text.lines().take_while(|l| l.starts_with('#'));
    let comment: Vec<&str> = comment.map(|l| l.trim_start_matches('#').trim()).collect();
    let comment = comment.join(" ");
    let end = comment.find(". ").map_or(comment.len(), |end| end);
    comment[..end].to_string()
}

/// Sections as text.
pub fn text(screen: &Screen, sections: &[Section]) -> String {
    let mut out = String::new();
    for section in sections {
        if !out.is_empty() {
            out.push('\n');
        }
        out += &format!("{}\n", screen.paint(Mark::Head, section.kind));
        let width = section
            .entries
            .iter()
            .map(|e| e.0.len())
            .max()
            .unwrap_or(0)
            .min(26);
        for (name, text) in &section.entries {
            out += &screen.entry(name, width, text);
        }
    }
    out
}
