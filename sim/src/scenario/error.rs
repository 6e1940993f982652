//! What is wrong with a file that a user wrote, and where.
//!
//! What is shown fits on a screen and is text: a terminal that reads it does nothing else. Not the rules themselves:
//! those are beside the code that reads each table.

use std::fmt;
use std::ops::Range;

use unicode_width::UnicodeWidthChar;

/// Most characters of a message, of a name in it, and of a line of a file.
const MESSAGE: usize = 1200;
const FOUND: usize = 60;
const LINE: usize = 120;

/// A mistake in a file: where, what was found, what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputError {
    /// The file as the user named it.
    pub file: String,
    /// Line and column, counted from 1; `None` where the whole file is meant.
    pub place: Option<Place>,
    /// What was found, what was expected, what is close.
    pub message: String,
}

/// A place in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The whole line.
    pub text: String,
    /// How many characters are meant.
    pub width: usize,
}

impl Place {
    /// The place of a range of bytes; a range that does not fit is cut to the text.
    pub fn new(source: &str, span: Range<usize>) -> Self {
        let start = boundary(source, span.start);
        let end = boundary(source, span.end.max(start));
        let line_start = source[..start].rfind('\n').map_or(0, |i| i + 1);
        let line_end = source[start..]
            .find('\n')
            .map_or(source.len(), |i| start + i);
        let width = source[start..end.min(line_end).max(start)].chars().count();
        Place {
            line: source[..start].matches('\n').count() + 1,
            column: source[line_start..start].chars().count() + 1,
            text: source[line_start..line_end].trim_end().to_string(),
            width: width.max(1),
        }
    }
}

fn boundary(source: &str, at: usize) -> usize {
    (0..=at.min(source.len()))
        .rev()
        .find(|i| source.is_char_boundary(*i))
        .unwrap_or(0)
}

impl InputError {
    /// A mistake that concerns a file as a whole.
    pub fn whole(file: &str, message: impl Into<String>) -> Self {
        InputError {
            file: file.to_string(),
            place: None,
            message: printable(&message.into(), MESSAGE),
        }
    }

    /// A mistake at a range of bytes of `source`.
    pub fn at(file: &str, source: &str, span: Range<usize>, message: impl Into<String>) -> Self {
        InputError {
            file: file.to_string(),
            place: Some(Place::new(source, span)),
            message: printable(&message.into(), MESSAGE),
        }
    }
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = printable(&self.file, MESSAGE);
        let Some(place) = &self.place else {
            return write!(f, "{file}: {}", self.message);
        };
        let number = place.line.to_string();
        let margin = " ".repeat(number.len());
        writeln!(
            f,
            "{file}:{}:{}: {}",
            place.line, place.column, self.message
        )?;
        let (text, marks) = place.excerpt();
        writeln!(f, "  {number} | {text}")?;
        write!(f, "  {margin} | {marks}")
    }
}

impl std::error::Error for InputError {}

impl Place {
    /// The part of the line around the place, and the marks below it.
    fn excerpt(&self) -> (String, String) {
        let before = self.column - 1;
        let length = self.text.chars().count();
        // A long line is shown from a little before the place on.
        let start = match length > LINE {
            true => before.saturating_sub(LINE / 2),
            false => 0,
        };
        let (mut text, mut marks) = (String::new(), String::new());
        if start > 0 {
            text += "...";
            marks += "   ";
        }
        for (i, c) in self.text.chars().enumerate().skip(start).take(LINE) {
            let shown = match c {
                '\t' => "\t".to_string(),
                c => printable(&c.to_string(), 1),
            };
            let meant = (before..before + self.width).contains(&i);
            for shown in shown.chars() {
                let mark = match shown {
                    _ if meant => '^',
                    '\t' => '\t',
                    _ => ' ',
                };
                let columns = match shown {
                    '\t' => 1,
                    c => c.width().unwrap_or(0),
                };
                marks.extend(std::iter::repeat_n(mark, columns));
            }
            text += &shown;
        }
        if start + LINE < length {
            text += "...";
        }
        // What is meant may be the end of the line, or of the file.
        let marks = match marks.contains('^') {
            true => marks.trim_end().to_string(),
            false => marks + "^",
        };
        (text, marks)
    }
}

/// What a terminal would not print but obey, or what would make it print in another order.
fn is_command(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// The first character of a text, with its place in bytes, that is not there to be read. Line breaks and tabs are.
pub fn unprintable(text: &str) -> Option<(usize, char)> {
    text.char_indices()
        .find(|(_, c)| is_command(*c) && !matches!(c, '\n' | '\r' | '\t'))
}

/// A text in one line, of at most so many characters, for a terminal: `\u{1b}` where it would be obeyed.
pub fn printable(text: &str, most: usize) -> String {
    let mut out = String::new();
    for c in text.chars().take(most) {
        if is_command(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    match text.chars().count().saturating_sub(most) {
        0 => out,
        more => format!("{out}... ({more} more characters)"),
    }
}

/// The same for a text of several lines.
pub fn printable_lines(text: &str, most: usize) -> String {
    let mut lines: Vec<String> = text
        .lines()
        .take(most)
        .map(|line| printable(&line.replace('\t', "    "), MESSAGE))
        .collect();
    match text.lines().count().saturating_sub(most) {
        0 => {}
        more => lines.push(format!("... ({more} more lines)")),
    }
    lines.join("\n")
}

/// What a parser says of a type, a key or a length, in words that a file is made of instead of those of Rust.
/// `table` is what the file calls a table.
pub fn in_words(message: &str, table: &str) -> String {
    let message = message.trim().replace('\n', "; ");
    let begin = |prefix: &str| message.strip_prefix(prefix);
    if let Some(key) = begin("missing field ") {
        return format!("missing key {key}");
    }
    if let Some(rest) = begin("duplicate field ") {
        return format!("duplicate key {rest}");
    }
    if let Some(rest) = begin("unknown field ") {
        return format!("unknown key {rest}");
    }
    if let Some(rest) = begin("unknown variant ") {
        return format!("unknown word {rest}");
    }
    let found = begin("invalid type: ").or_else(|| begin("invalid value: "));
    let length = begin("invalid length ").map(|_| "sequence");
    let expected = message.rsplit_once(", expected ");
    let (Some(found), Some((_, expected))) = (length.or(found), expected) else {
        return message;
    };
    let found = found.strip_suffix(expected).unwrap_or(found);
    let found = found.strip_suffix(", expected ").unwrap_or(found);
    format!(
        "found {}, expected {}",
        thing(found, table),
        thing(expected, table)
    )
}

/// Whether this is a word of the text, and not a part of one.
fn has(text: &str, word: &str) -> bool {
    text.split(' ').any(|w| w == word)
}

/// A type as a file has it.
fn thing<'a>(name: &'a str, table: &'a str) -> &'a str {
    match name {
        "map" | "a map" => table,
        "sequence" | "a sequence" => "a list",
        "unit value" | "null" | "unit" | "Option value" => "nothing",
        "i8" | "i16" | "i32" | "i64" | "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number",
        "f32" | "f64" => "a number",
        // A string of the file can say anything.
        text if text.starts_with("string ") => text,
        number if number.starts_with("integer ") => number.split(" as ").next().unwrap_or(number),
        // What Rust calls it by the name of a type, or by the place in one.
        of_rust if has(of_rust, "variant") => "a word",
        of_rust if of_rust.starts_with("field i") => "a key",
        of_rust if has(of_rust, "struct") || has(of_rust, "enum") => table,
        of_rust if has(of_rust, "tuple") => "a list",
        other => other,
    }
}

/// `; did you mean ...?` for the nearest candidate, or nothing.
pub fn close<'a>(found: &str, expected: impl IntoIterator<Item = &'a str>) -> String {
    if found.chars().count() > FOUND {
        return String::new();
    }
    expected
        .into_iter()
        .map(|c| (strsim::damerau_levenshtein(found, c), c))
        .min()
        .filter(|(d, c)| *d <= 1 + c.chars().count() / 3)
        .map_or(String::new(), |(_, c)| format!("; did you mean `{c}`?"))
}

/// `unknown KIND `FOUND`: expected one of ...; did you mean ...?`
pub fn unknown<'a>(kind: &str, found: &str, expected: impl IntoIterator<Item = &'a str>) -> String {
    let expected: Vec<&str> = expected.into_iter().collect();
    let shown = printable(found, FOUND);
    match expected.as_slice() {
        [] => format!("unknown {kind} `{shown}`: there is none"),
        [one] => format!("unknown {kind} `{shown}`: the only one is {one}"),
        all => format!(
            "unknown {kind} `{shown}`: expected one of {}{}",
            all.join(", "),
            close(found, all.iter().copied())
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(error: &InputError) -> Vec<String> {
        error.to_string().lines().map(String::from).collect()
    }

    #[test]
    fn the_place_is_marked_below_what_is_shown() {
        let error = InputError::at("f", "a = \u{1b}\u{4e2d}bad", 8..11, "no");
        let shown = [
            "f:1:7: no",
            "  1 | a = \\u{1b}\u{4e2d}bad",
            "    |             ^^^",
        ];
        assert_eq!(lines(&error), shown);
        let error = InputError::at("f", "\ta\tbad", 3..6, "no");
        assert_eq!(lines(&error)[2], "    | \t \t^^^");
        let error = InputError::at("f", "end", 3..3, "no");
        assert_eq!(lines(&error)[2], "    |    ^");
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let text = format!("{}bad{}", "x".repeat(5000), "y".repeat(5000));
        let error = InputError::at("f", &text, 5000..5003, "no");
        let lines = lines(&error);
        assert!(lines[1].starts_with("  1 | ...xxx") && lines[1].ends_with("yyy..."));
        assert_eq!(lines[1].find("bad"), lines[2].find("^^^"));
        let whole = InputError::at("f", &text, 0..text.len(), "no").to_string();
        assert!(whole.len() < 500, "{whole}");
    }

    #[test]
    fn messages_are_short_and_plain() {
        let error = InputError::whole("a\u{7}b", format!("\u{1b}[2J{}", "x".repeat(1 << 20)));
        let shown = error.to_string();
        assert!(shown.starts_with("a\\u{7}b: \\u{1b}[2Jxxx"), "{shown}");
        assert!(shown.ends_with("... (1047380 more characters)"), "{shown}");
        assert_eq!(unprintable("a\tb\nc"), None);
        assert_eq!(unprintable("ab\u{202e}"), Some((2, '\u{202e}')));
        let many = "line\n".repeat(100);
        let shown = printable_lines(&many, 3);
        assert_eq!(shown, "line\nline\nline\n... (97 more lines)");
    }

    #[test]
    fn types_have_the_names_that_files_give_them() {
        for (said, meant) in [
            (
                "invalid type: string \"5\", expected i64",
                "found string \"5\", expected a whole number",
            ),
            (
                "invalid type: map, expected a string",
                "found a table, expected a string",
            ),
            (
                "invalid length 0, expected a table with a name",
                "found a list, expected a table with a name",
            ),
            (
                "invalid value: integer `-1`, expected u32",
                "found integer `-1`, expected a whole number",
            ),
            (
                "invalid type: null, expected variant identifier",
                "found nothing, expected a word",
            ),
            (
                "invalid type: string \"enum E\", expected f64",
                "found string \"enum E\", expected a number",
            ),
            (
                "invalid value: integer `9`, expected variant index 0 <= i < 3",
                "found integer `9`, expected a word",
            ),
            (
                "invalid type: enum, expected a tuple of size 2",
                "found a table, expected a list",
            ),
            ("missing field `title`", "missing key `title`"),
            (
                "unknown field `a`, expected `b`",
                "unknown key `a`, expected `b`",
            ),
            (
                "key with no value, expected `=`",
                "key with no value, expected `=`",
            ),
        ] {
            assert_eq!(in_words(said, "a table"), meant);
        }
    }

    quickcheck::quickcheck! {
        fn nothing_is_obeyed_and_everything_fits(file: String, text: String, from: usize, to: usize) -> bool {
            let length = text.len() + 2;
            let (from, to) = (from % length, to % length);
            let shown = InputError::at(&file, &text, from..to, text.as_str()).to_string();
            let obeyed = |c: char| is_command(c) && !matches!(c, '\n' | '\t');
            !shown.chars().any(obeyed) && shown.lines().count() == 3
        }
    }
}
