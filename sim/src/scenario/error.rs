//! What is wrong with a file that a user wrote, and where.
//!
//! Not the rules themselves: those are beside the code that reads each table.

use std::fmt;
use std::ops::Range;

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
            message: message.into(),
        }
    }

    /// A mistake at a range of bytes of `source`.
    pub fn at(file: &str, source: &str, span: Range<usize>, message: impl Into<String>) -> Self {
        InputError {
            file: file.to_string(),
            place: Some(Place::new(source, span)),
            message: message.into(),
        }
    }
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(place) = &self.place else {
            return write!(f, "{}: {}", self.file, self.message);
        };
        let number = place.line.to_string();
        let margin = " ".repeat(number.len());
        let indent: String = place
            .text
            .chars()
            .take(place.column - 1)
            .map(|c| if c == '\t' { c } else { ' ' })
            .collect();
        writeln!(
            f,
            "{}:{}:{}: {}",
            self.file, place.line, place.column, self.message
        )?;
        writeln!(f, "  {number} | {}", place.text)?;
        write!(f, "  {margin} | {indent}{}", "^".repeat(place.width))
    }
}

impl std::error::Error for InputError {}

/// `; did you mean ...?` for the nearest candidate, or nothing.
pub fn close<'a>(found: &str, expected: impl IntoIterator<Item = &'a str>) -> String {
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
    match expected.as_slice() {
        [] => format!("unknown {kind} `{found}`: there is none"),
        [one] => format!("unknown {kind} `{found}`: the only one is {one}"),
        all => format!(
            "unknown {kind} `{found}`: expected one of {}{}",
            all.join(", "),
            close(found, all.iter().copied())
        ),
    }
}
