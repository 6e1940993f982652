//! The run from above to below, as a picture: one lane per CPU and one for the worker, a mark per step beside the kernel
//! function; locks are bars, read sides are shading, grace periods are brackets.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::state::{Kind, Object};
use super::svg::{cut, escape};
use crate::report::text::wrap;
use crate::report::trace::Row;

/// How a timeline is laid out.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Width of the picture.
    pub width: u32,
    /// Most lines of what happened; more are cut.
    pub lines: usize,
}

/// Beside a whiteboard.
pub const BESIDE: Shape = Shape {
    width: 400,
    lines: 2,
};
/// A picture of its own.
pub const ALONE: Shape = Shape {
    width: 900,
    lines: 4,
};

const TOP: u32 = 30;
const LANE: u32 = 34;
const NUMBER: u32 = 30;
/// Height of a line of text, and width of a character.
const LINE: u32 = 14;
const CHAR: f32 = 6.3;

/// A picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Width.
    pub width: u32,
    /// Height.
    pub height: u32,
    /// What is in it.
    pub svg: String,
}

/// Who acts: the CPUs, then the worker.
pub fn actors(cpus: usize) -> Vec<String> {
    (0..cpus)
        .map(|i| format!("cpu{i}"))
        .chain(["work".into()])
        .collect()
}

/// A symbol that tells actors apart without their colours.
fn mark(actor: usize, x: u32, y: u32, class: &str) -> String {
    let points = |points: &[(i32, i32)]| {
        let at = |p: &(i32, i32)| format!("{},{}", x as i32 + p.0, y as i32 + p.1);
        let points: Vec<String> = points.iter().map(at).collect();
        format!(
            "<polygon class=\"{class}\" points=\"{}\"/>",
            points.join(" ")
        )
    };
    match actor {
        0 => format!("<circle class=\"{class}\" cx=\"{x}\" cy=\"{y}\" r=\"6\"/>"),
        1 => points(&[(-6, -6), (6, -6), (6, 6), (-6, 6)]),
        2 => points(&[(0, -7), (7, 6), (-7, 6)]),
        3 => points(&[(0, -8), (8, 0), (0, 8), (-8, 0)]),
        _ => points(&[(-7, 0), (-3, -6), (3, -6), (7, 0), (3, 6), (-3, 6)]),
    }
}

/// A span of states during which something was so.
struct Span {
    lane: usize,
    what: String,
    from: usize,
    to: usize,
}

/// Spans of what `tell` says of each state, as pairs of a lane and a text.
fn spans(states: &[Vec<Object>], tell: impl Fn(&[Object]) -> Vec<(usize, String)>) -> Vec<Span> {
    let mut open: BTreeMap<(usize, String), usize> = BTreeMap::new();
    let mut spans = Vec::new();
    for (i, objects) in states.iter().enumerate() {
        let now = tell(objects);
        open.retain(|key, from| {
            let goes_on = now.contains(key);
            if !goes_on {
                let (lane, what) = key.clone();
                spans.push(Span {
                    lane,
                    what,
                    from: *from,
                    to: i,
                });
            }
            goes_on
        });
        for key in now {
            open.entry(key).or_insert(i);
        }
    }
    let last = states.len().saturating_sub(1);
    let open = open.into_iter().map(|((lane, what), from)| Span {
        lane,
        what,
        from,
        to: last,
    });
    spans.extend(open);
    spans.sort_by_key(|s| (s.from, s.lane));
    spans
}

fn cpu_of(value: &str) -> Option<usize> {
    value.strip_prefix("cpu")?.parse().ok()
}

/// The class that has an actor's colour.
fn colour(actor: &str) -> String {
    cpu_of(actor).map_or("worker".into(), |cpu| format!("actor{}", cpu % 4))
}

/// CPUs in a field.
fn cpus_of(value: &str) -> impl Iterator<Item = usize> {
    value.split(", ").filter_map(cpu_of)
}

fn locks(objects: &[Object]) -> Vec<(usize, String)> {
    let held = objects.iter().flat_map(|o| {
        let held: Vec<(usize, String)> = match o.kind {
            Kind::Lock => one(o, "holder", o.name.clone()),
            Kind::Map => one(o, "lock", format!("{}: st_map->lock", o.name)),
            Kind::Sock => one(o, "lock_sock", format!("lock_sock({})", o.name)),
            // Of the scenario's own subsystems: `lock NAME`, or `lock NAME: readers`.
            Kind::Subsys => {
                let fields = o.fields.iter();
                let locks = fields.filter_map(|f| Some((f.name.strip_prefix("lock ")?, f)));
                locks
                    .flat_map(|(name, f)| cpus_of(&f.value).map(|cpu| (cpu, name.to_string())))
                    .collect()
            }
            _ => Vec::new(),
        };
        held
    });
    held.collect()
}

/// The CPU in a field, with what it has.
fn one(object: &Object, field: &str, what: String) -> Vec<(usize, String)> {
    cpu_of(object.value(field))
        .map(|cpu| (cpu, what))
        .into_iter()
        .collect()
}

fn readers(objects: &[Object]) -> Vec<(usize, String)> {
    let cpus = objects.iter().filter(|o| o.kind == Kind::Cpu);
    let kinds = ["rcu_read_lock", "rcu_read_lock_trace", "Tasks RCU reader"];
    let read = cpus.flat_map(|o| {
        let read = kinds.into_iter().filter(|k| o.field(k).is_some());
        read.map(|kind| (o.id.slot, kind.to_string()))
    });
    // SRCU domains of the scenario's own subsystems.
    let own = objects.iter().filter(|o| o.kind == Kind::Subsys);
    let own = own.flat_map(|o| &o.fields).filter_map(|f| {
        let domain = f.name.strip_prefix("readers of ")?;
        Some(cpus_of(&f.value).map(move |cpu| (cpu, format!("SRCU {domain}"))))
    });
    read.chain(own.flatten()).collect()
}

/// Grace periods that have begun: in the lane of the CPU that waits, or of the worker.
fn grace_periods(objects: &[Object], worker: usize) -> Vec<(usize, String)> {
    let waits = objects.iter().filter_map(|o| {
        let (lane, field) = match o.kind {
            Kind::Cpu => (o.id.slot, "waits"),
            _ => (worker, "free"),
        };
        let stage = o.value(field);
        let period = stage.starts_with("a grace period");
        period.then(|| (lane, format!("{}: {stage}", o.name)))
    });
    waits.collect()
}

/// The picture of a run: its steps, and the states before, between and after them, if they are known.
pub fn timeline(
    shape: Shape,
    rows: &[Row<'_>],
    states: &[Vec<Object>],
    actors: &[String],
) -> Picture {
    let cpus = actors.iter().filter(|a| a.starts_with("cpu")).count();
    let place = |actor: &str| actors.iter().position(|a| a == actor).unwrap_or(cpus);
    let left = NUMBER + LANE * actors.len() as u32 + 10;
    let columns = ((shape.width - left - 8) as f32 / CHAR) as usize;
    // Where each state is: that of a step lies below its mark.
    let mut heights = vec![26];
    let mut texts = vec![(String::new(), Vec::new())];
    for row in rows {
        let mut event = wrap(row.event, columns);
        if event.len() > shape.lines {
            event.truncate(shape.lines);
            let last = event.last_mut().expect("a line at least");
            *last = cut(&format!("{last}……"), columns.min(last.chars().count() + 1));
        }
        for id in &row.broke {
            event.push(format!("✗ breaks {id}"));
        }
        heights.push(12 + LINE * (1 + event.len() as u32));
        texts.push((row.site.to_string(), event));
    }
    let mut tops = vec![TOP];
    for height in &heights {
        tops.push(tops[tops.len() - 1] + height);
    }
    let bottom = tops[tops.len() - 1];
    let lane = |actor: usize| NUMBER + LANE * actor as u32 + LANE / 2;
    let y = |state: usize| tops[state] + 13;
    let mut svg = String::new();
    for (i, (top, height)) in tops.iter().zip(&heights).enumerate() {
        let _ = write!(
            svg,
            "<rect class=\"row\" data-row=\"{i}\" y=\"{top}\" width=\"{}\" height=\"{height}\"/>",
            shape.width
        );
    }
    for (i, actor) in actors.iter().enumerate() {
        let x = lane(i);
        let class = colour(actor);
        let _ = write!(
            svg,
            "<text class=\"lane {class}\" x=\"{x}\" y=\"18\">{actor}</text>\
             <line class=\"lane\" x1=\"{x}\" y1=\"{TOP}\" x2=\"{x}\" y2=\"{bottom}\"/>"
        );
    }
    for span in spans(states, readers) {
        let (x, top, end) = (lane(span.lane), y(span.from), y(span.to));
        let height = end.saturating_sub(top).max(6);
        let _ = write!(
            svg,
            "<rect class=\"reader\" x=\"{}\" y=\"{top}\" width=\"24\" height=\"{height}\"><title>{}</title></rect>",
            x - 12,
            escape(&format!("cpu{} is a reader: {}", span.lane, span.what))
        );
    }
    for (i, span) in spans(states, locks).iter().enumerate() {
        let (x, top, end) = (lane(span.lane), y(span.from), y(span.to));
        let height = end.saturating_sub(top).max(6);
        let x = x - 14 - 5 * (i as u32 % 2);
        let _ = write!(
            svg,
            "<rect class=\"lock\" x=\"{x}\" y=\"{top}\" width=\"4\" height=\"{height}\"><title>{}</title></rect>",
            escape(&format!("cpu{} holds {}", span.lane, span.what))
        );
        if height > 90 {
            let _ = write!(
                svg,
                "<text class=\"along\" transform=\"translate({} {}) rotate(-90)\">{}</text>",
                x + 27 + 5 * (i as u32 % 2),
                top + 12,
                escape(&cut(&span.what, (height / 6) as usize))
            );
        }
    }
    for (i, span) in spans(states, |o| grace_periods(o, cpus)).iter().enumerate() {
        let (x, top, end) = (lane(span.lane), y(span.from), y(span.to));
        let height = end.saturating_sub(top).max(6);
        let x = x + 10 + 3 * (i as u32 % 2);
        let _ = write!(
            svg,
            "<path class=\"grace\" d=\"M{x} {top}h5v{height}h-5\"><title>{}</title></path>",
            escape(&format!("{} (from here to there)", span.what))
        );
    }
    for (i, (site, event)) in texts.iter().enumerate() {
        let (top, height) = (tops[i], heights[i]);
        let (label, text) = match i.checked_sub(1).and_then(|i| rows.get(i)) {
            None => ("The state after the set-up".to_string(), String::new()),
            Some(row) => {
                let (actor, class) = (place(row.actor), colour(row.actor));
                let broken = if row.broke.is_empty() { "" } else { " broken" };
                let mut text = format!(
                    "<text class=\"number\" x=\"{}\" y=\"{}\">{i}</text>",
                    NUMBER - 6,
                    y(i) + 4
                );
                text += &mark(
                    cpu_of(row.actor).unwrap_or(4),
                    lane(actor),
                    y(i),
                    &format!("mark {class}{broken}"),
                );
                let label = format!("Step {i}, {}, {}: {}", row.actor, row.site, row.event);
                (label, text)
            }
        };
        let _ = write!(
            svg,
            "<g class=\"step\" data-step=\"{i}\"><title>{}</title>\
             <rect class=\"hit\" x=\"0\" y=\"{top}\" width=\"{}\" height=\"{height}\"/>{text}",
            escape(&label),
            shape.width
        );
        let site = if i == 0 { "set-up" } else { site };
        let _ = write!(
            svg,
            "<text class=\"site\" x=\"{left}\" y=\"{}\">{}</text>",
            top + 17,
            escape(&cut(site, columns))
        );
        for (n, part) in event.iter().enumerate() {
            let class = if part.starts_with('✗') {
                "event broken"
            } else {
                "event"
            };
            let _ = write!(
                svg,
                "<text class=\"{class}\" x=\"{left}\" y=\"{}\">{}</text>",
                top + 17 + LINE * (n as u32 + 1),
                escape(part)
            );
        }
        svg += "</g>";
    }
    Picture {
        width: shape.width,
        height: bottom + 8,
        svg,
    }
}

/// What the signs stand for, below the picture.
pub const LEGEND: &str = "bar: a lock is held · shading: a read side · bracket: a grace period · + a function that a series of patches adds";

/// The picture as a file of its own, with its heading and what its signs mean.
pub fn file(title: &str, rows: &[Row<'_>], states: &[Vec<Object>], actors: &[String]) -> String {
    let picture = timeline(ALONE, rows, states, actors);
    let heading: Vec<String> = wrap(title, 110);
    let top = 16 + 18 * heading.len() as u32;
    let mut body = String::new();
    for (i, part) in heading.iter().enumerate() {
        let y = 22 + 18 * i;
        let _ = write!(
            body,
            "<text class=\"title\" x=\"10\" y=\"{y}\">{}</text>",
            escape(part)
        );
    }
    let _ = write!(
        body,
        "<g transform=\"translate(0 {top})\">{}</g>",
        picture.svg
    );
    let bottom = top + picture.height;
    let _ = write!(
        body,
        "<text class=\"legend\" x=\"10\" y=\"{}\">{LEGEND}</text>",
        bottom + 12
    );
    super::svg::standalone(picture.width, bottom + 24, title, &body)
}
