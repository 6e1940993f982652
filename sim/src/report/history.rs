//! A history beside a run of the model, for people.

use super::screen::{Mark, Screen};
use super::text::{plural, wrap};
use crate::history::Explanation;
use crate::history::side::{Row, Told};

/// Columns for what was seen, at most.
const SEEN: usize = 44;

/// What the model says of a history: whether a run explains it, and the run, or the nearest one.
pub fn text(screen: &Screen, told: &Told) -> String {
    let what = match &told.explanation {
        Explanation::Explained { .. } => "a run of the model explains it".to_string(),
        Explanation::Unexplained { .. } => "no run of the model explains it".to_string(),
        Explanation::Beyond(why) => format!("nothing is said: {why}"),
    };
    let mut out = screen.paragraph(
        &format!("{} under {}: {what}", told.scenario, told.design),
        0,
    );
    let (all, left) = told.calls;
    match &told.explanation {
        Explanation::Beyond(_) => return out,
        Explanation::Explained { .. } => {
            let broke: Vec<&str> = told.broke().map(|i| i.id()).collect();
            let broke = match broke.as_slice() {
                [] => "It breaks nothing.".to_string(),
                broke => format!("Every run that does breaks {}.", broke.join(", ")),
            };
            out += &screen.paragraph(&broke, 0);
        }
        Explanation::Unexplained { .. } => {
            let part = match all - left {
                0 => format!(
                    "All of its {} have a part in that.",
                    plural(all, "operation")
                ),
                _ => format!(
                    "{left} of its {} have a part in that.",
                    plural(all, "operation")
                ),
            };
            out += &screen.paragraph(
                &format!("{part} Beside them the nearest run; the last row is where they part."),
                0,
            );
        }
    }
    out.push('\n');
    out + &table(screen, &told.rows)
}

fn table(screen: &Screen, rows: &[Row]) -> String {
    let seen = |row: &Row| row.seen.as_ref().map_or(0, |seen| seen.chars().count());
    let left = rows.iter().map(seen).max().unwrap_or(0);
    let left = left.clamp("seen".len(), SEEN.min(screen.width / 2));
    let right = screen.width - left - 2;
    let head = format!("{:left$}  the model", "seen");
    let mut out = screen.paint(Mark::Head, &head) + "\n";
    for row in rows {
        let column = |text: &Option<String>, width| {
            text.as_ref()
                .map_or_else(Vec::new, |text| wrap(text, width))
        };
        let (seen, model) = (column(&row.seen, left), column(&row.model, right));
        for line in 0..seen.len().max(model.len()) {
            let part = |lines: &[String]| lines.get(line).cloned().unwrap_or_default();
            let (seen, model) = (part(&seen), part(&model));
            out += format!("{seen:left$}  {model}").trim_end();
            out.push('\n');
        }
    }
    out
}
