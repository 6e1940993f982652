//! What is wrong with a design that a user wrote, in a sentence that says what is expected and what is close.

/// What is wrong with a design that a user wrote.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DesignError {
    /// The part before the first comma is no preset.
    #[error("unknown design `{found}`: expected one of {}{}", .expected.join(", "), close(.found, .expected))]
    UnknownPreset {
        /// What was written.
        found: String,
        /// The presets.
        expected: Vec<&'static str>,
    },
    /// A part is not `key=value`.
    #[error("`{found}` is not a choice: expected KEY=VALUE, with KEY one of {}", .expected.join(", "))]
    NotAChoice {
        /// What was written.
        found: String,
        /// The keys.
        expected: Vec<&'static str>,
    },
    /// The key is unknown.
    #[error("unknown choice `{found}`: expected one of {}{}", .expected.join(", "), close(.found, .expected))]
    UnknownKey {
        /// What was written.
        found: String,
        /// The keys.
        expected: Vec<&'static str>,
    },
    /// The value is unknown.
    #[error("choice `{key}` cannot be `{found}`: expected one of {}{}", .expected.join(", "), close(.found, .expected))]
    UnknownValue {
        /// The choice.
        key: &'static str,
        /// What was written.
        found: String,
        /// Its values.
        expected: Vec<&'static str>,
    },
    /// A choice is made twice.
    #[error("`{key}` is chosen twice: {first} and {second}")]
    Twice {
        /// The choice.
        key: String,
        /// What was written first.
        first: String,
        /// What was written after it.
        second: String,
    },
    /// The choices contradict each other.
    #[error("the mix `{mix}` makes no sense: {why}")]
    Nonsense {
        /// The design as written.
        mix: String,
        /// The contradiction.
        why: &'static str,
    },
}

/// `; did you mean ...?` for the nearest candidate, or nothing.
pub fn close(found: &str, expected: &[&'static str]) -> String {
    expected
        .iter()
        .map(|c| (edit_distance(found, c), c))
        .min()
        .filter(|(d, c)| *d <= 1 + c.len() / 3)
        .map_or(String::new(), |(_, c)| format!("; did you mean `{c}`?"))
}

fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
