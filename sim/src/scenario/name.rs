//! The names that a file gives to what it declares: types, members, programs, maps, keys, links, schedulers, object
//! files, attachments. All of them follow one grammar, so that an operation can be taken apart at its spaces.

/// What a name is made of, for messages and the book.
pub const GRAMMAR: &str =
    "1 to 64 letters, digits, `_`, `-` and `.`, of which the first is no `-` or `.`";
/// Most characters of a name.
const LONGEST: usize = 64;
/// Words of the language in which operations are written.
pub const RESERVED: [&str; 1] = ["as"];

/// Why a text cannot be the name of a `kind` of thing.
pub fn mistake(kind: &str, text: &str) -> Option<String> {
    if RESERVED.contains(&text) {
        return Some(format!(
            "{kind} name `{text}`: a word of the language, as in `link_create m1 as l1`"
        ));
    }
    let inner = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let right = text.len() <= LONGEST && text.chars().all(inner);
    (!right || text.is_empty() || text.starts_with(['-', '.'])).then(|| {
        let found = super::printable(text, LONGEST);
        format!("{kind} name `{found}`: expected {GRAMMAR}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_words() {
        for right in ["a", "0", "_x", "m1", "sched_ext_ops-x", &"a".repeat(64)] {
            assert_eq!(mistake("map", right), None);
        }
        for wrong in [
            "",
            "-x",
            ".x",
            "a b",
            "a=b",
            "\u{e9}",
            "\u{1b}",
            &"a".repeat(65),
        ] {
            assert!(
                mistake("map", wrong).is_some_and(|m| m.contains(GRAMMAR)),
                "{wrong}"
            );
        }
        assert!(mistake("link", "as").is_some_and(|m| m.starts_with("link name `as`: a word")));
    }
}
