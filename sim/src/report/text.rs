//! Plain text: wrapping, counts, plurals. Knows nothing of the subject.

/// Columns that a text takes on a terminal.
pub fn columns(text: &str) -> usize {
    unicode_width::UnicodeWidthStr::width(text)
}

/// Breaks a text at spaces into lines of at most `width` columns. A list without spaces that is longer than a line
/// is broken after its commas; a name is never broken, so that it can be found and copied.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let pieces = match columns(word) > width {
            true => word.split_inclusive(',').collect(),
            false => vec![word],
        };
        for (i, piece) in pieces.into_iter().enumerate() {
            let line = lines.last_mut().expect("there is always one line");
            let space = if i == 0 && !line.is_empty() { " " } else { "" };
            if !line.is_empty() && columns(line) + space.len() + columns(piece) > width {
                lines.push(piece.to_string());
            } else {
                line.push_str(space);
                line.push_str(piece);
            }
        }
    }
    lines
}

/// A count with its thousands apart: `1,234,567`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// At most five characters: `999`, `12k`, `3.4M`.
pub fn short_count(n: u64) -> String {
    match n {
        0..=9_999 => n.to_string(),
        10_000..=999_999 => format!("{}k", n / 1_000),
        1_000_000..=9_999_999 => format!("{}.{}M", n / 1_000_000, n / 100_000 % 10),
        10_000_000..=999_999_999 => format!("{}M", n / 1_000_000),
        _ => format!("{}G", n / 1_000_000_000),
    }
}

/// `1 step`, `2 steps`.
pub fn plural(n: usize, what: &str) -> String {
    format!(
        "{} {what}{}",
        count(n as u64),
        if n == 1 { "" } else { "s" }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_lines() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(
            [0, 9_999, 10_000, 1_250_000, 20_000_000, 3_000_000_000].map(short_count),
            ["0", "9999", "10k", "1.2M", "20M", "3G"]
        );
        assert_eq!(plural(1, "step"), "1 step");
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("", 7), [""]);
        assert_eq!(wrap("unbreakable", 3), ["unbreakable"]);
        assert_eq!(wrap("is a=1,b=2,c=3 now", 7), ["is a=1,", "b=2,c=3", "now"]);
        assert_eq!(wrap("is a=1,b=2", 7), ["is", "a=1,b=2"]);
        assert_eq!(wrap("中文 中文", 8), ["中文", "中文"]);
    }
}
