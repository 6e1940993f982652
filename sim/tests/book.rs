//! The README and the book: every command in a `console` block is run, every `toml` block is parsed.
//!
//! A block is one `$ cargo run --release -- ARGUMENTS` and lines of its output, in order; `...` stands for any
//! lines. `<!-- exit: N -->` before a block notes an exit status other than 0. The terminal has 100 columns.
//!
//! `BOOK=overwrite cargo test --test book` writes what is printed now where only the line breaks differ, or where a
//! block shows the whole output.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use struct_ops_sim::scenario::Case;
use struct_ops_sim::verdict::Verdict;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace")
        .to_path_buf()
}

/// README.md and every page of the book.
fn pages() -> Vec<PathBuf> {
    let mut pages = vec![root().join("README.md")];
    let mut folders = vec![root().join("docs/src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the book") {
            let path = entry.expect("a page").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "md") {
                pages.push(path);
            }
        }
    }
    pages.sort();
    pages
}

/// A fenced block: where it begins, its text, and the exit status noted before it.
struct Block {
    page: PathBuf,
    place: String,
    text: String,
    exit: i32,
}

/// The blocks of one language.
fn blocks(page: &Path, language: &str) -> Vec<Block> {
    let text = fs::read_to_string(page).expect("a page");
    let name = page
        .strip_prefix(root())
        .expect("inside the workspace")
        .display()
        .to_string();
    let (mut found, mut open, mut exit) = (Vec::new(), None::<(bool, Block)>, 0);
    for (number, line) in text.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => {
                let block = Block {
                    page: page.to_path_buf(),
                    place: format!("{name}:{}", number + 1),
                    text: String::new(),
                    exit,
                };
                open = Some((info == language, block));
                exit = 0;
            }
            (Some(_), Some(_)) => {
                found.extend(
                    open.take()
                        .filter(|(wanted, _)| *wanted)
                        .map(|(_, block)| block),
                );
            }
            (Some((_, block)), None) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {
                let note = line
                    .strip_prefix("<!-- exit: ")
                    .and_then(|rest| rest.strip_suffix(" -->"));
                exit = note.map_or(exit, |n| n.parse().expect("an exit status"));
            }
        }
    }
    assert!(open.is_none(), "{name}: a block without end");
    found
}

/// Whether the lines come in this order; without `...` between them, one right after the other.
fn shown(expected: &[&str], output: &[&str]) -> Result<(), String> {
    let (mut at, mut skip) = (0, true);
    for line in expected {
        if *line == "..." {
            skip = true;
            continue;
        }
        let place = output[at..].iter().position(|o| o.trim_end() == *line);
        match place {
            Some(0) => at += 1,
            Some(n) if skip => at += n + 1,
            _ => {
                return Err(format!(
                    "`{line}` is not what comes after `{}`",
                    output[..at].last().unwrap_or(&"")
                ));
            }
        }
        skip = false;
    }
    Ok(())
}

/// What a block would show now: all of it, or the lines that have the words of each shown part.
fn now(expected: &[&str], output: &[&str]) -> Option<Vec<String>> {
    if !expected.contains(&"...") {
        return Some(output.iter().map(|l| l.trim_end().to_string()).collect());
    }
    let words: Vec<(usize, &str)> = output
        .iter()
        .enumerate()
        .flat_map(|(number, line)| line.split_whitespace().map(move |word| (number, word)))
        .collect();
    let (mut lines, mut at) = (Vec::new(), 0);
    for (i, part) in expected.split(|line| *line == "...").enumerate() {
        if i > 0 {
            lines.push("...".to_string());
        }
        let part: Vec<&str> = part.iter().flat_map(|l| l.split_whitespace()).collect();
        if part.is_empty() {
            continue;
        }
        let found = words[at..]
            .windows(part.len())
            .position(|window| window.iter().map(|w| w.1).eq(part.iter().copied()))?;
        let (first, last) = (words[at + found].0, words[at + found + part.len() - 1].0);
        lines.extend(
            output[first..=last]
                .iter()
                .map(|l| l.trim_end().to_string()),
        );
        at += found + part.len();
    }
    Some(lines)
}

/// Puts what a block would show now into its page.
fn overwrite(block: &Block, command: &str, expected: &[&str], output: &[&str]) -> bool {
    let Some(now) = now(expected, output) else {
        return false;
    };
    let page = fs::read_to_string(&block.page).expect("a page");
    let text = |lines: &str| format!("$ cargo run --release -- {command}\n{lines}\n```");
    let (old, new) = (text(&expected.join("\n")), text(&now.join("\n")));
    fs::write(&block.page, page.replacen(&old, &new, 1)).expect("the page again");
    true
}

#[test]
fn commands() {
    let overwriting = std::env::var("BOOK").is_ok_and(|v| v == "overwrite");
    let (mut count, mut wrong) = (0, Vec::new());
    for block in pages().iter().flat_map(|page| blocks(page, "console")) {
        let mut lines = block.text.lines();
        let Some(command) = lines
            .next()
            .and_then(|l| l.strip_prefix("$ cargo run --release -- "))
        else {
            continue;
        };
        let expected: Vec<&str> = lines.collect();
        let output = Command::new(env!("CARGO_BIN_EXE_struct-ops-sim"))
            .args(command.split_whitespace())
            .current_dir(root())
            .env("COLUMNS", "100")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .output()
            .expect("the binary starts");
        // What cargo starts when it is told to run the release.
        let stdout = String::from_utf8_lossy(&output.stdout).replace(
            env!("CARGO_BIN_EXE_struct-ops-sim"),
            "target/release/struct-ops-sim",
        );
        let stderr = String::from_utf8_lossy(&output.stderr);
        count += 1;
        if output.status.code() != Some(block.exit) {
            wrong.push(format!(
                "{}: {command}: {}, expected {}\n{stderr}",
                block.place, output.status, block.exit
            ));
            continue;
        }
        let output: Vec<&str> = stdout.lines().collect();
        if let Err(e) = shown(&expected, &output)
            && !(overwriting && overwrite(&block, command, &expected, &output))
        {
            wrong.push(format!("{}: {command}: {e}", block.place));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {count} commands:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(count > 20, "only {count} commands were found");
}

/// The words for verdicts that the book explains are those that there are.
#[test]
fn verdicts() {
    let page = fs::read_to_string(root().join("docs/src/invariants.md")).expect("a page");
    let rows = page
        .lines()
        .skip_while(|l| !l.starts_with("| word |"))
        .skip(2)
        .take_while(|l| l.starts_with('|'));
    let explained: Vec<String> = rows
        .map(|row| row.split('|').take(3).collect::<Vec<_>>().join("|"))
        .collect();
    let there_are = Verdict::ALL.map(|v| format!("| {} | `{}` ", v.word(), v.cell()));
    assert_eq!(explained, there_are);
}

#[test]
fn scenarios() {
    let page = root().join("docs/src/scenarios.md");
    let blocks = blocks(&page, "toml");
    assert!(!blocks.is_empty());
    for block in blocks {
        if let Err(e) = Case::parse("book", &block.place, &block.text) {
            panic!("{e}");
        }
    }
}
