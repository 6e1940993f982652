//! What this project says of Linux and of its own files: functions with `()` behind them, and paths.
//!
//! Read from text that people read: prose, scenarios, and comments and string literals of Rust code. What is
//! mentioned is compared with the lists in `sim/symbols/` and with the files of the workspace by
//! `sim/tests/mentions.rs`; `examples/kernel_symbols.rs` makes the lists.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use struct_ops_model::pc::STEPS;
use struct_ops_model::place::{Function, Linux, Place};
use struct_ops_model::reach::Label;
use struct_ops_model::reach::context::CONTEXTS;

/// A piece of text and where it is.
#[derive(Clone, Debug)]
pub struct Text {
    /// The file, below the root.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// The text, without line breaks.
    pub text: String,
    /// A comment of Rust code.
    pub comment: bool,
}

/// The root of the workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("a workspace")
        .to_path_buf()
}

/// Every file of the workspace, below the root, but for what cargo, git and the patches bring along.
pub fn files() -> Vec<String> {
    fn walk(dir: &Path, root: &Path, files: &mut Vec<String>) {
        for entry in fs::read_dir(dir).expect("a readable folder").flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() {
                if name != "target" && !name.starts_with('.') {
                    walk(&path, root, files);
                }
            } else if let Ok(below) = path.strip_prefix(root) {
                files.push(below.display().to_string());
            }
        }
    }
    let root = root();
    let mut files = Vec::new();
    walk(&root, &root, &mut files);
    files.sort();
    files
}

/// All text in which Linux or a file of ours may be mentioned.
pub fn texts() -> Vec<Text> {
    let mut texts = Vec::new();
    for file in files() {
        let read = || fs::read_to_string(root().join(&file)).expect("text");
        match file.rsplit_once('.').map(|f| f.1) {
            Some("rs") => rust(&file, &read(), &mut texts),
            Some("md" | "toml") => {
                let mut yaml = false;
                for (text, line) in read().lines().zip(1..) {
                    // What calls functions of a CI service is no prose.
                    yaml = text == "```yaml" || yaml && text != "```";
                    if !yaml {
                        texts.push(Text {
                            file: file.clone(),
                            line,
                            text: text.to_string(),
                            comment: false,
                        });
                    }
                }
            }
            _ => (),
        }
    }
    texts
}

/// Comments and string literals of Rust code, line by line.
fn rust(file: &str, code: &str, texts: &mut Vec<Text>) {
    let bytes = code.as_bytes();
    let at = |i: usize| bytes.get(i).copied().unwrap_or(0);
    let mut push = |from: usize, to: usize, comment: bool| {
        let line = bytes[..from].iter().filter(|b| **b == b'\n').count() + 1;
        for (text, line) in code[from..to].lines().zip(line..) {
            texts.push(Text {
                file: file.to_string(),
                line,
                text: text.to_string(),
                comment,
            });
        }
    };
    let mut i = 0;
    while i < bytes.len() {
        let from = i;
        match at(i) {
            b'/' if at(i + 1) == b'/' => {
                i += code[i..].find('\n').unwrap_or(code.len() - i);
                push(from, i, true);
            }
            b'"' => {
                let hashes = bytes[..i].iter().rev().take_while(|b| **b == b'#').count();
                let raw = i > hashes && at(i - hashes - 1) == b'r';
                let end = format!("\"{}", "#".repeat(if raw { hashes } else { 0 }));
                i += 1;
                while i < bytes.len() && !code.as_bytes()[i..].starts_with(end.as_bytes()) {
                    i += if at(i) == b'\\' && !raw { 2 } else { 1 };
                }
                i = (i + end.len()).min(bytes.len());
                push(from, i, false);
            }
            // A character that would look like the beginning of something else; lifetimes do not end in a quote.
            b'\'' if at(i + 1) == b'\\' => i += code[i + 2..].find('\'').map_or(1, |n| n + 3),
            b'\'' if at(i + 2) == b'\'' => i += 3,
            _ => i += 1,
        }
    }
}

/// Whether a name may contain this.
fn in_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Every `name()` in a text.
pub fn functions(text: &str) -> Vec<&str> {
    text.match_indices("()")
        .map(|(end, _)| {
            let start = text[..end].rfind(|c| !in_name(c)).map_or(0, |i| {
                i + text[i..].chars().next().map_or(1, char::len_utf8)
            });
            &text[start..end]
        })
        .filter(|name| name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_'))
        .collect()
}

/// Every path in a text that ends in one of these, without the dot.
pub fn paths<'a>(text: &'a str, endings: &[&str]) -> Vec<&'a str> {
    text.split(|c: char| !in_name(c) && !"/.-".contains(c))
        .map(|word| word.trim_end_matches(['.', '-']).trim_start_matches("./"))
        .filter(|word| {
            word.rsplit_once('.')
                .is_some_and(|(stem, ending)| !stem.is_empty() && endings.contains(&ending))
        })
        .collect()
}

/// Folders of the kernel's source in which what we name may be.
pub const FOLDERS: &[&str] = &[
    "arch/x86",
    "block",
    "drivers/base",
    "drivers/hid",
    "fs",
    "include",
    "init",
    "io_uring",
    "kernel",
    "lib",
    "mm",
    "net",
    "security",
    "tools/lib/bpf",
    "tools/sched_ext",
    "tools/testing/selftests/bpf",
];

/// Paths in the kernel's source that a text mentions.
pub fn kernel_files(text: &str) -> Vec<&str> {
    let in_kernel = |path: &&str| FOLDERS.iter().any(|f| path.starts_with(&format!("{f}/")));
    paths(text, &["c", "h"])
        .into_iter()
        .filter(in_kernel)
        .collect()
}

/// Every `name() in file`, `name() of file` and the like in a text.
pub fn functions_in(text: &str) -> Vec<(&str, &str)> {
    let of = |file| {
        let before = &text[..text.find(file)?];
        let before = before.trim_end_matches(['`', ' ']);
        let name = [" in", " of"]
            .iter()
            .find_map(|word| before.strip_suffix(word))?;
        let name = name.trim_end_matches('`');
        functions(name)
            .last()
            .filter(|_| name.ends_with("()"))
            .map(|name| (*name, file))
    };
    kernel_files(text).into_iter().filter_map(of).collect()
}

/// The functions that steps of both machines name, each with the kernel that it is claimed for.
pub fn claimed() -> Vec<(Linux, Function)> {
    let steps = STEPS.iter().map(|s| s.place);
    let places = steps.chain(Label::ALL.iter().map(|l| l.place()));
    let mut claimed = Vec::new();
    for place in places {
        if let Place::Linux(functions) = place {
            let of = |linux: Linux| functions[linux as usize].map(|f| (linux, f));
            claimed.extend(Linux::ALL.into_iter().filter_map(of));
        }
    }
    claimed
}

/// The functions that a series of patches is said to add.
pub fn added() -> Vec<(&'static str, Function)> {
    let of = |place: Place| match place {
        Place::Series(series, function) => Some((series, function)),
        _ => None,
    };
    let steps = STEPS.iter().map(|s| s.place);
    let places = steps.chain(Label::ALL.iter().map(|l| l.place()));
    places.filter_map(of).collect()
}

/// Every name and every path that the lists have to answer for.
pub fn wanted() -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut names, mut files) = (BTreeSet::new(), BTreeSet::new());
    for (_, function) in claimed() {
        names.insert(function.name.to_string());
        files.insert(function.file.to_string());
    }
    names.extend(CONTEXTS.iter().map(|c| c.enter.to_string()));
    for text in texts() {
        names.extend(functions(&text.text).into_iter().map(str::to_string));
        files.extend(kernel_files(&text.text).into_iter().map(str::to_string));
    }
    (names, files)
}
