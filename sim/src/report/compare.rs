//! Two runs of one schedule under two designs, side by side: where they do the same, and where they part.

use std::fmt::Write;

use super::screen::{Mark, Screen};
use super::text::{columns, wrap};
use super::trace::Row;

/// What stands in the place of what is the same under both designs.
const SAME: &str = "=";

/// One side of a step: where it is carried out, what happens, what changes if that is asked for, and what breaks.
fn side(row: Option<&Row<'_>>, width: usize, changes: bool) -> Vec<String> {
    let Some(row) = row else {
        return Vec::new();
    };
    let mut lines = vec![row.site.to_string()];
    let parts = wrap(row.event, width.saturating_sub(2).max(1));
    lines.extend(parts.iter().map(|part| format!("  {part}")));
    for change in row.changes.iter().filter(|_| changes) {
        let parts = wrap(&change.to_string(), width.saturating_sub(4).max(1));
        let bullet = |(i, part): (usize, &String)| {
            let bullet = if i == 0 { "* " } else { "  " };
            format!("  {bullet}{part}")
        };
        lines.extend(parts.iter().enumerate().map(bullet));
    }
    lines.extend(row.broke.iter().map(|id| format!("  !! {id}")));
    lines
}

/// Whether a step is told in the same words under both designs.
fn alike(one: &Row<'_>, other: &Row<'_>) -> bool {
    (one.site, one.event, &one.broke) == (other.site, other.event, &other.broke)
}

/// The runs aligned: step by step, with the second one where it differs from the first.
pub fn aligned(
    screen: &Screen,
    names: [&str; 2],
    one: &[Row<'_>],
    other: &[Row<'_>],
    parted: Option<&str>,
) -> String {
    let margin = "step  cpu0  ".len();
    let width = (screen.width - margin - 3) / 2;
    let mut out = String::new();
    let mut line = |head: &str, left: &str, right: &str, mark: Option<Mark>| {
        let pad = width.saturating_sub(columns(left));
        let text = format!("{left}{:pad$} | {right}", "");
        let text = text.trim_end();
        let text = mark.map_or(text.to_string(), |mark| screen.paint(mark, text));
        let _ = writeln!(out, "{}", format!("{head:<margin$}{text}").trim_end());
    };
    line("step  cpu", names[0], names[1], Some(Mark::Head));
    for (i, row) in one.iter().enumerate() {
        let twin = other.get(i);
        // Where the words are the same, what is different is what changes.
        let changes = twin.is_some_and(|t| alike(row, t) && row.changes != t.changes);
        let left = side(Some(row), width, changes);
        let right = match twin {
            Some(twin) if alike(row, twin) && !changes => vec![SAME.to_string()],
            twin => side(twin, width, changes),
        };
        let mut head = format!("{:>4}  {}", row.number, row.actor);
        for n in 0..left.len().max(right.len()) {
            let part = |lines: &[String]| lines.get(n).cloned().unwrap_or_default();
            let (left, right) = (part(&left), part(&right));
            let broken = left.contains("!! ") || right.contains("!! ");
            line(&head, &left, &right, broken.then_some(Mark::Broken));
            head.clear();
        }
        if i == other.len()
            && let Some(why) = parted
        {
            for part in wrap(&format!("parts: {why}"), width) {
                line("", "", &part, None);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use struct_ops_model::place::{Code, Site};

    use super::*;
    use crate::report::describe::Change;

    #[test]
    fn what_is_the_same_is_said_once() {
        let stored = ["0x33", "0x44"].map(|now| {
            [Change::Set {
                object: "map A".into(),
                field: "ops->priv".into(),
                from: "NULL".into(),
                to: now.into(),
            }]
        });
        let row = |number, event, broke: bool| Row {
            number,
            actor: "cpu0",
            site: Site::Code(Code::Program),
            event,
            changes: &[],
            broke: if broke {
                vec!["cookie-fidelity"]
            } else {
                vec![]
            },
        };
        let one = [
            row(1, "reads", false),
            row(2, "reads 0x22", true),
            Row {
                changes: &stored[0],
                ..row(3, "stores", false)
            },
            row(4, "ends", false),
        ];
        let other = [
            row(1, "reads", false),
            row(2, "reads 0x11", false),
            Row {
                changes: &stored[1],
                ..row(3, "stores", false)
            },
        ];
        for width in [72, 100, 200] {
            let text = aligned(
                &Screen::plain(width),
                ["a", "b"],
                &one,
                &other,
                Some("cpu0 waits"),
            );
            assert_eq!(text.matches(SAME).count(), 1, "{text}");
            for word in [
                "reads 0x22",
                "reads 0x11",
                "0x33",
                "0x44",
                "!! cookie-fidelity",
                "parts: cpu0 waits",
            ] {
                assert_eq!(text.matches(word).count(), 1, "{text}");
            }
            assert!(text.lines().all(|l| columns(l) <= width), "{text}");
        }
    }
}
