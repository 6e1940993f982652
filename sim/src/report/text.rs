//! Plain text: wrapping, counts, plurals. Knows nothing of the subject.

/// Columns of everything but traces.
pub const WIDTH: usize = 80;

/// Breaks a text at spaces into lines of at most `width` characters, where its words allow it.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is always one line");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(word.to_string());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

/// A paragraph: wrapped at [`WIDTH`], every line indented.
pub fn paragraph(text: &str, indent: usize) -> String {
    let margin = " ".repeat(indent);
    wrap(text, WIDTH - indent)
        .into_iter()
        .map(|line| format!("{margin}{line}\n"))
        .collect()
}

/// `label  text` with the text wrapped beside the label.
pub fn entry(label: &str, width: usize, text: &str) -> String {
    let mut out = String::new();
    let mut label = format!("  {label}");
    let column = width + 4;
    if label.chars().count() + 2 > column {
        out += &format!("{label}\n");
        label.clear();
    }
    for line in wrap(text, WIDTH.saturating_sub(column).max(20)) {
        out += format!("{label:<column$}{line}").trim_end();
        out.push('\n');
        label.clear();
    }
    out
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
    }
}
