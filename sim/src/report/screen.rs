//! For whom a report is laid out: how wide, in colour or not, and by what name this program was started.
//!
//! Where that comes from (the terminal, the environment, `--color`) is the command line's business.

use anstyle::{AnsiColor, Style};

use super::text::{columns, wrap};

/// What reports are laid out for.
#[derive(Clone, Debug)]
pub struct Screen {
    /// Columns: every line that can be broken fits.
    pub width: usize,
    /// Whether text may carry escape sequences. No meaning is told by colour alone.
    pub colour: bool,
    /// What to type to start this program.
    pub program: String,
}

/// What a piece of text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A broken promise, a verdict that differs, an error.
    Broken,
    /// The head of a table.
    Head,
    /// Who acts, by number: neighbours in a table are easier told apart.
    Actor(usize),
    /// What is there for those who look closer.
    Detail,
}

impl Screen {
    /// Columns at least: narrower terminals break lines themselves.
    pub const NARROWEST: usize = 72;
    /// Columns at most.
    pub const WIDEST: usize = 200;
    /// Columns of prose at most: longer lines are hard to read, however wide the terminal.
    pub const PROSE: usize = 100;
    /// Columns where nobody says how many there are.
    pub const USUAL: usize = 80;

    /// Without colour, in so many columns.
    pub fn plain(width: usize) -> Self {
        Screen {
            width: width.clamp(Self::NARROWEST, Self::WIDEST),
            colour: false,
            program: env!("CARGO_PKG_NAME").to_string(),
        }
    }

    /// A text in the colour of what it is, where there is colour.
    pub fn paint(&self, mark: Mark, text: &str) -> String {
        if !self.colour || text.is_empty() {
            return text.to_string();
        }
        // Red and bold, yellow and so on differ in brightness too.
        const ACTORS: [AnsiColor; 4] = [
            AnsiColor::Cyan,
            AnsiColor::Yellow,
            AnsiColor::Blue,
            AnsiColor::Magenta,
        ];
        let style = match mark {
            Mark::Broken => AnsiColor::Red.on_default().bold(),
            Mark::Head => Style::new().bold(),
            Mark::Actor(n) => ACTORS[n % ACTORS.len()].on_default(),
            Mark::Detail => Style::new().dimmed(),
        };
        format!("{style}{text}{style:#}")
    }

    /// A paragraph: wrapped, every line indented.
    pub fn paragraph(&self, text: &str, indent: usize) -> String {
        let margin = " ".repeat(indent);
        wrap(text, self.width.min(Self::PROSE) - indent)
            .into_iter()
            .map(|line| format!("{margin}{line}\n"))
            .collect()
    }

    /// `label  text` with the text wrapped beside the label, or below it where the label is too long.
    pub fn entry(&self, label: &str, width: usize, text: &str) -> String {
        let mut out = String::new();
        let mut label = format!("  {label}");
        let column = width + 4;
        if columns(&label) + 2 > column {
            out += &format!("{label}\n");
            label.clear();
        }
        for line in wrap(
            text,
            self.width.min(Self::PROSE).saturating_sub(column).max(20),
        ) {
            out += format!("{label:<column$}{line}").trim_end();
            out.push('\n');
            label.clear();
        }
        out
    }

    /// A command that can be pasted into a shell as it stands; it is never broken into lines.
    pub fn command(&self, verb: &str, options: &[(&str, &str)]) -> String {
        let mut words = vec![verb.to_string()];
        for (option, value) in options {
            // `--design -x` would be read as another option.
            if value.len() > 1 && value.starts_with('-') {
                words.push(format!("{option}={value}"));
            } else {
                words.extend([option.to_string(), value.to_string()]);
            }
        }
        self.typed(&words)
    }

    /// The same, word for word.
    pub fn typed(&self, words: &[String]) -> String {
        let mut out = quote(&self.program);
        for word in words {
            out += &format!(" {}", quote(word));
        }
        if words.iter().any(|word| word == "-") {
            out += "  # -: the same text on standard input";
        }
        out
    }
}

/// A word for a shell. Control characters are escaped: they would reach the terminal, and not survive a paste.
fn quote(word: &str) -> String {
    if !word.chars().any(char::is_control) {
        return shell_words::quote(word).into_owned();
    }
    let escaped: String = word
        .chars()
        .map(|c| match c {
            '\'' | '\\' => format!("\\{c}"),
            c if c.is_control() => {
                let mut bytes = [0; 4];
                let bytes = c.encode_utf8(&mut bytes).bytes();
                bytes.map(|b| format!("\\{b:03o}")).collect()
            }
            c => c.to_string(),
        })
        .collect();
    format!("$'{escaped}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_survive_a_shell() {
        let screen = Screen {
            program: "/my tools/sim".into(),
            ..Screen::plain(80)
        };
        for value in [
            "rfc,links=one",
            "my file's",
            "-dash",
            "-",
            "a\tb\u{1b}[31m\n'",
            "\u{85}é\\n",
            "$HOME `ls` \"!\"",
            "",
        ] {
            let command = screen.command("check", &[("--scenario", value)]);
            assert!(!command.contains(char::is_control), "{command}");
            let script = format!("set -- {command}\nprintf '|%s' \"$@\"");
            let output = std::process::Command::new("bash")
                .args(["-c", &script])
                .output()
                .expect("a shell");
            let words = String::from_utf8(output.stdout).expect("what was put in");
            let words = words.replacen("--scenario=", "--scenario|", 1);
            let expected = format!("|/my tools/sim|check|--scenario|{value}");
            assert_eq!(words, expected, "{command}");
        }
    }

    #[test]
    fn colour_is_an_addition() {
        let mut screen = Screen::plain(80);
        assert_eq!(screen.paint(Mark::Broken, "VIOLATED"), "VIOLATED");
        screen.colour = true;
        let marks = [Mark::Broken, Mark::Head, Mark::Actor(9), Mark::Detail];
        for mark in marks {
            let painted = screen.paint(mark, "VIOLATED");
            assert_ne!(painted, "VIOLATED");
            assert_eq!(
                anstream::adapter::strip_str(&painted).to_string(),
                "VIOLATED"
            );
        }
    }
}
