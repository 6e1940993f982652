//! The run as a Mermaid sequence diagram: what a wiki or an issue tracker draws from text.

use std::fmt::Write;

use crate::report::trace::Row;

/// Text in a diagram: what Mermaid would read as its own is written as an entity.
fn plain(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '#' | ';' | '<' | '>' | '&' | '"' | '{' | '}' => {
                let _ = write!(out, "#{};", u32::from(c));
            }
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// The diagram.
pub fn sequence(title: &str, rows: &[Row<'_>], actors: &[String]) -> String {
    let mut out = format!(
        "---\ntitle: \"{}\"\n---\nsequenceDiagram\n",
        title.replace(['"', '\\', '\n'], "'")
    );
    let acting = |actor: &String| rows.iter().any(|r| r.actor == actor.as_str());
    for actor in actors.iter().filter(|a| acting(a)) {
        let _ = writeln!(out, "    participant {actor}");
    }
    for row in rows {
        let _ = writeln!(
            out,
            "    Note over {}: {}. {}<br/>{}",
            row.actor,
            row.number,
            plain(&row.site.to_string()),
            plain(row.event)
        );
        for id in &row.broke {
            let _ = writeln!(out, "    Note over {}: ✗ breaks {id}", row.actor);
        }
    }
    out
}
