//! The README and the book: every command in a `console` block is run, every `toml` block is parsed, and what is said
//! about a printed run is held against it.
//!
//! A block is `$ COMMAND` and lines of its output, in order, once or several times; `...` stands for any lines, also at the end. It is
//! run if `cargo run --release --` occurs in it, by a shell, in a folder that has what the repository has; what a
//! command writes there, later ones of the page find. `<!-- exit: N -->` before a block notes an exit status of its
//! last command other than 0. The terminal has 100 columns.
//!
//! Prose names no step or CPU by its number: those change with the search. What is **`bold and code`** after a block
//! quotes it, and has to occur in it, in this order.
//!
//! `BOOK=overwrite cargo test --test book` writes what is printed now where only the line breaks differ, or where a
//! command is shown with its whole output.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use struct_ops_model::{Design, Invariant};
use struct_ops_sim::bounds::UNBOUNDED;
use struct_ops_sim::check::Settings;
use struct_ops_sim::explore::Reductions;
use struct_ops_sim::scenario::Case;
use struct_ops_sim::verdict::Verdict;
use struct_ops_sim::{check, shipped};

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
    match output[at..].iter().find(|line| !line.trim().is_empty()) {
        Some(more) if !skip => Err(format!("`{more}` comes after it: `...` is missing")),
        _ => Ok(()),
    }
}

/// What a command would show now: all of it, or the lines that have the words of each shown part.
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

/// Puts what a command would show now into its page.
fn overwrite(page: &Path, command: &str, expected: &[&str], output: &[&str]) -> bool {
    let Some(now) = now(expected, output) else {
        return false;
    };
    let text = fs::read_to_string(page).expect("a page");
    let shown = |lines: &str| format!("$ {command}\n{lines}\n");
    let (old, new) = (shown(&expected.join("\n")), shown(&now.join("\n")));
    fs::write(page, text.replacen(&old, &new, 1)).expect("the page again");
    true
}

/// The commands of a block, each with the lines below it; none if the program is not among them.
fn typed(text: &str) -> Vec<(&str, Vec<&str>)> {
    let mut typed: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in text.lines() {
        match (line.strip_prefix("$ "), typed.last_mut()) {
            (Some(command), _) => typed.push((command, Vec::new())),
            (None, Some((_, lines))) => lines.push(line),
            (None, None) => {}
        }
    }
    if !text.contains(CARGO) {
        typed.clear();
    }
    typed
}

const CARGO: &str = "cargo run --release --";
const PROGRAM: &str = env!("CARGO_BIN_EXE_struct-ops-sim");

/// A folder in which everything of the repository is found, and where commands may write.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for entry in fs::read_dir(root()).expect("the repository") {
        let entry = entry.expect("a file");
        let link = folder.path().join(entry.file_name());
        std::os::unix::fs::symlink(entry.path(), link).expect("a link");
    }
    folder
}

fn run(command: &str, folder: &Path) -> Output {
    Command::new("sh")
        .args(["-c", &command.replace(CARGO, PROGRAM)])
        .current_dir(folder)
        .env("COLUMNS", "100")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .expect("a shell")
}

#[test]
fn commands() {
    let overwriting = std::env::var("BOOK").is_ok_and(|v| v == "overwrite");
    let (mut count, mut wrong) = (0, Vec::new());
    for page in pages() {
        let folder = folder();
        for block in blocks(&page, "console") {
            let typed = typed(&block.text);
            for (i, (command, expected)) in typed.iter().enumerate() {
                let output = run(command, folder.path());
                // What cargo starts when it is told to run the release.
                let stdout = String::from_utf8_lossy(&output.stdout)
                    .replace(PROGRAM, "target/release/struct-ops-sim");
                let exit = if i + 1 == typed.len() { block.exit } else { 0 };
                let lines: Vec<&str> = stdout.lines().collect();
                count += 1;
                if output.status.code() != Some(exit) {
                    let stderr = String::from_utf8_lossy(&output.stderr);
                    wrong.push(format!(
                        "{}: {command}: {}, expected {exit}\n{stderr}",
                        block.place, output.status
                    ));
                } else if let Err(e) = shown(expected, &lines)
                    && !(overwriting && overwrite(&page, command, expected, &lines))
                {
                    wrong.push(format!("{}: {command}: {e}", block.place));
                }
            }
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

/// A page without its fenced blocks, in parts: each with the block that was run before it.
fn prose(page: &str) -> Vec<(String, String)> {
    let mut parts = vec![(String::new(), String::new())];
    let mut fence: Option<String> = None;
    for line in page.lines() {
        match (&mut fence, line.starts_with("```")) {
            (None, true) => fence = Some(String::new()),
            (Some(text), true) => {
                if !typed(text).is_empty() {
                    parts.push((std::mem::take(text), String::new()));
                }
                fence = None;
            }
            (Some(text), false) => *text += &format!("{line}\n"),
            (None, false) => parts.last_mut().expect("one").1 += &format!("{line}\n"),
        }
    }
    parts
}

/// Steps and CPUs by number: they are found by what they are instead.
fn numbered(text: &str) -> Vec<String> {
    const NUMBERS: [&str; 20] = [
        "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "first",
        "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth",
    ];
    let plain = |word: &str| {
        word.trim_matches(|c: char| !c.is_alphanumeric())
            .to_lowercase()
    };
    let words: Vec<String> = text.split_whitespace().map(plain).collect();
    let number = |word: &str| word.starts_with(|c: char| c.is_ascii_digit());
    let step = |word: &str| word == "step" || word == "steps";
    let mut found = Vec::new();
    for pair in words.windows(2) {
        let (a, b) = (pair[0].as_str(), pair[1].as_str());
        let named = step(a) && (number(b) || NUMBERS[..10].contains(&b));
        let counted = step(b) && (a == "last" || NUMBERS[10..].contains(&a));
        let cpu = a == "cpu" && number(b);
        if named || counted || cpu {
            found.push(format!("{a} {b}"));
        }
    }
    let cpu = |word: &&String| word.strip_prefix("cpu").is_some_and(number);
    found.extend(words.iter().filter(cpu).cloned());
    found
}

#[test]
fn prose_points_at_what_is_shown() {
    let (mut quotes, mut wrong) = (0, Vec::new());
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page");
        let name = page
            .strip_prefix(root())
            .expect("inside")
            .display()
            .to_string();
        for (block, prose) in prose(&text) {
            let numbered = numbered(&prose);
            if !numbered.is_empty() {
                wrong.push(format!("{name}: {}", numbered.join(", ")));
            }
            if block.is_empty() {
                continue;
            }
            let block = block.split_whitespace().collect::<Vec<_>>().join(" ");
            let mut rest = block.as_str();
            for quote in prose.split("**`").skip(1) {
                let Some((quote, _)) = quote.split_once("`**") else {
                    continue;
                };
                let quote = quote.split_whitespace().collect::<Vec<_>>().join(" ");
                quotes += 1;
                match rest.split_once(&quote) {
                    Some((_, after)) => rest = after,
                    None => wrong.push(format!("{name}: `{quote}` is not shown, or not there")),
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(quotes > 5, "only {quotes} quotes were found");
    let numbered =
        numbered("Step 3, the\nsecond step, steps five to six, `cpu1`, CPU 0; cpus and two steps");
    assert_eq!(numbered.len(), 5, "{numbered:?}");
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

/// "`DESIGN` in `SCENARIO`" in the section of an invariant says that the one breaks it in the other. "No preset breaks
/// it" is what scenarios expect.
#[test]
fn what_breaks_a_promise() {
    let page = fs::read_to_string(root().join("docs/src/invariants.md")).expect("a page");
    let settings = Settings {
        threads: 2,
        max_states: None,
        exact: false,
        reductions: Reductions::ALL,
    };
    let cases = shipped::all().expect("shipped scenarios");
    let mut silent: Vec<Invariant> = Invariant::ALL.to_vec();
    for section in page.split("\n## ").skip(1) {
        let (id, text) = section.split_once('\n').expect("a text");
        let invariant = Invariant::from_id(id).expect("an invariant");
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let parts: Vec<&str> = text.split("` in `").collect();
        for pair in parts.windows(2) {
            let (_, design) = pair[0].rsplit_once('`').expect("a design");
            let (name, _) = pair[1].split_once('`').expect("a scenario");
            let design = Design::parse(design).unwrap_or_else(|e| panic!("{id}: {e}"));
            let case = shipped::find_case(name).unwrap_or_else(|e| panic!("{id}: {e}"));
            let run = check::case(&case, &design, &settings, &UNBOUNDED, &mut |_| ());
            let found = run.expect("a run").shortest(invariant).is_some();
            assert!(found, "{id} is not broken by {design} in {name}");
            silent.retain(|i| *i != invariant);
        }
        let breaks = |case: &Case| {
            let mut presets = case
                .head()
                .expect
                .iter()
                .filter(|e| !e.design.contains(','));
            presets.any(|e| e.result.violated().is_some_and(|v| v.contains(&invariant)))
        };
        let broken = cases.iter().any(breaks);
        assert_eq!(text.contains("No preset breaks it"), !broken, "{id}");
    }
    assert!(
        silent.is_empty(),
        "the book does not say what breaks {silent:?}"
    );
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

/// What `<!-- seen: FILE... -->` before a block says: each line of the block is part of a line of one of these files,
/// which were printed where kernels were booted.
fn seen(page: &str, text: &str, file: &dyn Fn(&str) -> String) -> Result<usize, String> {
    let mut blocks = 0;
    for part in text.split("<!-- seen: ").skip(1) {
        let (files, after) = part.split_once(" -->\n```text\n").ok_or("no block")?;
        let (block, _) = after.split_once("```").ok_or("a block without end")?;
        let printed: Vec<String> = files.split(' ').map(file).collect();
        for line in block.lines() {
            if !printed
                .iter()
                .any(|text| text.lines().any(|l| l.contains(line)))
            {
                return Err(format!("{page}: `{line}` is not in {files}"));
            }
        }
        blocks += 1;
    }
    Ok(blocks)
}

#[test]
fn what_a_kernel_said_was_said() {
    let file = |name: &str| fs::read_to_string(root().join(name)).expect(name);
    let mut blocks = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page");
        let found = seen(&page.display().to_string(), &text, &file);
        blocks += found.unwrap_or_else(|e| panic!("{e}"));
    }
    assert!(blocks >= 2, "{blocks}");
    // What nobody has printed is noticed.
    let invented = "<!-- seen: a -->\n```text\nOops: one\nOops: two\n```\n";
    let printed = |_: &str| "1 x crash: Oops: one".to_string();
    assert!(seen("page", invented, &printed).is_err());
    assert!(seen("page", &invented.replace("Oops: two\n", ""), &printed).is_ok());
}
