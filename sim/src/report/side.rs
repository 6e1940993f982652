//! A record and the model side by side, as a table: rows that `live::side` has put together.

use std::fmt::Write;

use super::screen::{Mark, Screen};
use super::text::wrap;
use crate::live::side::Row;

/// Columns of what was recorded, at most.
const RECORDED: usize = 44;

/// The rows as a table.
pub fn table(screen: &Screen, rows: &[Row]) -> String {
    let widest =
        |f: &dyn Fn(&Row) -> usize, most: usize| rows.iter().map(f).max().unwrap_or(0).min(most);
    let step = widest(&|r| r.step.len(), 24).max("step".len());
    let margin = format!("  {:<11} {:<5} {:<step$} ", "", "", "").len();
    // What is left, shared by what was recorded and the model, with a bar between.
    let room = screen.width.saturating_sub(margin + 3);
    let most = RECORDED.min(room / 2);
    let seen = widest(&|r| r.recorded.len(), most).max("recorded".len());
    let head = format!(
        "  {:<11} {:<5} {:<step$} {:<seen$} | the model",
        "stamps", "task", "step", "recorded"
    );
    let mut out = screen.paint(Mark::Head, &head) + "\n";
    let mut parted = false;
    for row in rows {
        if !row.explained && !parted {
            parted = true;
            out += &screen.paragraph(
                "---- from here on the model has no explanation; the next step of each task:",
                2,
            );
        }
        let stamps = if row.stamps.0 == row.stamps.1 {
            row.stamps.0.to_string()
        } else {
            format!("{}-{}", row.stamps.0, row.stamps.1)
        };
        let mut head = format!("  {stamps:<11} {:<5} {:<step$} ", row.actor, row.step);
        let recorded = wrap(&row.recorded, seen);
        let model = wrap(&row.model, room.saturating_sub(seen).max(1));
        for i in 0..recorded.len().max(model.len()) {
            let part = |parts: &[String]| parts.get(i).cloned().unwrap_or_default();
            let line = format!(
                "{head:<margin$}{:<seen$} | {}",
                part(&recorded),
                part(&model)
            );
            let _ = writeln!(out, "{}", line.trim_end());
            head.clear();
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::text::columns;

    #[test]
    fn both_sides_are_wrapped() {
        let row = |explained: bool| Row {
            stamps: (1, 1234),
            actor: "cpu0".into(),
            step: "AttachmentFreeEnd",
            recorded: "many words that were recorded ".repeat(3),
            model: "many more words that the model said ".repeat(5),
            explained,
        };
        for width in 72..=200 {
            let text = table(&Screen::plain(width), &[row(true), row(false), row(false)]);
            let widest = text.lines().map(columns).max();
            assert!(widest <= Some(width), "{text}");
            assert_eq!(text.matches("from here on").count(), 1);
            let words = |part: &str| text.matches(part).count();
            assert_eq!(words("AttachmentFreeEnd"), 3);
        }
    }
}
