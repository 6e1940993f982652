//! Boxes and arrows of a whiteboard: text in a frame, and curves from one frame to another.
//!
//! Not what they stand for, and not where they are: `board` and `lookup` know that.

use std::fmt::Write;

use serde::Serialize;

use super::svg::{cut, escape};

pub(super) const MARGIN: u32 = 8;
/// Height of a line of text.
pub(super) const LINE: u32 = 16;
/// Height of a box's head.
pub(super) const HEAD: u32 = 22;
/// Characters that fit into a width.
pub(super) fn fitting(width: u32) -> usize {
    ((width - 12) * 10 / 73) as usize
}
/// Between boxes of a column.
pub(super) const GAP: u32 = 18;

/// A piece of the picture: an object, an arrow or a tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shape {
    /// The object's id, `OBJECT.FIELD` of an arrow, `CPU@OBJECT` of a tag.
    pub id: String,
    /// SVG.
    pub svg: String,
}

/// A place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) x: u32,
    pub(super) y: u32,
    pub(super) width: u32,
    pub(super) height: u32,
}

/// A line of text in a box.
pub(super) struct Line {
    pub(super) text: String,
    pub(super) class: &'static str,
}

pub(super) fn line(text: impl Into<String>, class: &'static str) -> Line {
    Line {
        text: text.into(),
        class,
    }
}

/// A box with lines of text in it; one whose memory is gone is crossed out.
pub(super) fn filled(
    place: Place,
    class: &str,
    title: &str,
    lines: &[Line],
    crossed: bool,
) -> String {
    let mut svg = frame(place, class, title);
    for (i, line) in lines.iter().enumerate().filter(|(_, l)| !l.text.is_empty()) {
        let y = place.y + HEAD + (i as u32 + 1) * LINE - 2;
        let most = fitting(place.width);
        let full = if line.text.chars().count() > most {
            format!("<title>{}</title>", escape(&line.text))
        } else {
            String::new()
        };
        let _ = write!(
            svg,
            "<text class=\"{}\" x=\"{}\" y=\"{y}\">{}{full}</text>",
            line.class,
            place.x + 8,
            escape(&cut(&line.text, most)),
        );
    }
    if crossed {
        let Place {
            x,
            y,
            width,
            height,
        } = place;
        let _ = write!(
            svg,
            "<path class=\"cross\" d=\"M{x} {y}l{width} {height}m0 -{height}l-{width} {height}\"/>"
        );
    }
    svg
}

/// A box with nothing but its title in it.
pub(super) fn frame(place: Place, class: &str, title: &str) -> String {
    let Place {
        x,
        y,
        width,
        height,
    } = place;
    let most = fitting(width);
    format!(
        "<g class=\"{class}\"><rect class=\"body\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"5\"/>\
         <text class=\"head\" x=\"{}\" y=\"{}\">{}</text></g>",
        x + 8,
        y + 16,
        escape(&cut(title, most))
    )
}

/// A curve from the bottom of one box to the top of another below it.
pub(super) fn down(from: Place, to: Place, number: u32) -> String {
    let (x1, y1) = (from.x + from.width / 2, from.y + from.height);
    let (x2, y2) = (to.x + 24 + 26 * number, to.y - 3);
    let bend = (y2.abs_diff(y1) / 2).max(16);
    format!(
        "M{x1} {y1}C{x1} {} {x2} {} {x2} {y2}",
        y1 + bend,
        i64::from(y2) - i64::from(bend)
    )
}

/// A curve from a place above a box to a height at its left side.
pub(super) fn beside(x: u32, y: u32, to: Place, end: u32) -> String {
    let turn = to.x.saturating_sub(24);
    format!(
        "M{x} {y}C{x} {} {turn} {} {turn} {}S{turn} {end} {} {end}",
        y + 16,
        y + 12,
        (y + end) / 2,
        to.x - 3
    )
}

/// A curve from a height at one box to a height at another.
pub(super) fn curve(from: Place, start: u32, to: Place, end: u32) -> String {
    let (x1, x2, bend) = if from.x + from.width <= to.x {
        (from.x + from.width, to.x - 3, 1)
    } else if to.x + to.width <= from.x {
        (from.x, to.x + to.width + 3, -1)
    } else {
        // One above the other: around the right side.
        let x = from.x + from.width;
        return format!(
            "M{x} {start}C{} {start} {} {end} {} {end}",
            x + 34,
            to.x + to.width + 34,
            to.x + to.width + 3
        );
    };
    let reach = (x1.abs_diff(x2) / 2).max(24) as i64 * bend;
    format!(
        "M{x1} {start}C{} {start} {} {end} {x2} {end}",
        i64::from(x1) + reach,
        i64::from(x2) - reach
    )
}

/// A pointer as an arrow along a path; `class` is its colour, `what` is told where the cursor is.
pub(super) fn arrow(id: String, class: &str, stale: bool, path: &str, what: &str) -> Shape {
    let (is_stale, gone, tip) = match stale {
        true => (" stale", " (gone)", "stale"),
        false => ("", "", class),
    };
    Shape {
        id,
        svg: format!(
            "<path class=\"arrow {class}{is_stale}\" d=\"{path}\" marker-end=\"url(#{tip}-tip)\"><title>{}</title></path>",
            escape(&format!("{what}{gone}"))
        ),
    }
}

/// A CPU's name at what it has a pointer to.
pub(super) fn tag(
    id: String,
    cpu: u32,
    name: &str,
    stale: bool,
    (x, y): (u32, u32),
    what: &str,
) -> Shape {
    let (is_stale, cross) = if stale { (" stale", "✗") } else { ("", "") };
    Shape {
        id,
        svg: format!(
            "<g class=\"tag actor{}{is_stale}\"><rect x=\"{x}\" y=\"{y}\" width=\"40\" height=\"15\" rx=\"7\"/>\
             <text x=\"{}\" y=\"{}\">{}</text><title>{}</title></g>",
            cpu % 4,
            x + 20,
            y + 11,
            escape(&format!("{name}{cross}")),
            escape(what)
        ),
    }
}
