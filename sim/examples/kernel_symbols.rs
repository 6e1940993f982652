//! Where the functions and files that this project names are in a kernel's source: `kernel_symbols SOURCE`.
//!
//! Makes the lists of `sim/symbols/`. A name is listed where the source defines it: as a function, a system call, a
//! BPF helper, a macro, or a member that points to a function. Definitions are found by their form: the source is
//! neither preprocessed nor compiled, so every configuration counts.

#[path = "../tests/common/mentions.rs"]
#[allow(dead_code)]
mod mentions;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs, io};

/// How a name is defined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Function,
    Syscall,
    Helper,
    Macro,
    Member,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Function => "function",
            Kind::Syscall => "syscall",
            Kind::Helper => "helper",
            Kind::Macro => "macro",
            Kind::Member => "member",
        }
    }
}

fn main() -> ExitCode {
    let Some(source) = env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: kernel_symbols SOURCE > sim/symbols/VERSION.txt");
        return ExitCode::from(3);
    };
    match list(&source) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}: {error}", source.display());
            ExitCode::from(3)
        }
    }
}

fn list(source: &Path) -> io::Result<String> {
    let (names, files) = mentions::wanted();
    let mut found: BTreeMap<(Kind, String), BTreeSet<String>> = BTreeMap::new();
    let mut paths = Vec::new();
    for folder in mentions::FOLDERS {
        sources(&source.join(folder), &mut paths)?;
    }
    paths.sort();
    for path in &paths {
        let text = String::from_utf8_lossy(&fs::read(path)?).into_owned();
        let file = path.strip_prefix(source).unwrap_or(path).display();
        for (kind, name) in definitions(&text, &names) {
            let places = found.entry((kind, name.to_string())).or_default();
            places.insert(file.to_string());
        }
    }
    let mut out = format!(
        "# Linux {}: where the functions and files are that this project names.\n\
         # Made by `cargo run -p struct-ops-sim --example kernel_symbols -- SOURCE`; not to be edited.\n",
        version(source)?
    );
    for file in &files {
        if source.join(file).is_file() {
            out += &format!("file {file}\n");
        }
    }
    for ((kind, name), places) in &found {
        // Of a common name, such as `init`, it is enough that it exists.
        let most = if *kind == Kind::Function && places.len() <= 4 {
            4
        } else {
            1
        };
        for place in places.iter().take(most) {
            out += &format!("{} {name} {place}\n", kind.word());
        }
    }
    Ok(out)
}

/// `VERSION.PATCHLEVEL.SUBLEVEL`, as the source's Makefile has it.
fn version(source: &Path) -> io::Result<String> {
    let makefile = fs::read_to_string(source.join("Makefile"))?;
    let value = |key: &str| {
        let mut lines = makefile.lines();
        let value = lines.find_map(|l| l.strip_prefix(key)?.trim().strip_prefix('='));
        value.unwrap_or("?").trim().to_string()
    };
    Ok([value("VERSION"), value("PATCHLEVEL"), value("SUBLEVEL")].join("."))
}

fn sources(folder: &Path, paths: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sources(&path, paths)?;
        } else if path.extension().is_some_and(|e| e == "c" || e == "h") {
            paths.push(path);
        }
    }
    Ok(())
}

/// The wanted names that a file defines.
fn definitions<'a>(text: &'a str, wanted: &BTreeSet<String>) -> Vec<(Kind, &'a str)> {
    let in_name = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut i = 0;
    while i < bytes.len() {
        if !in_name(bytes[i]) {
            i += 1;
            continue;
        }
        let start = i;
        while i < bytes.len() && in_name(bytes[i]) {
            i += 1;
        }
        let name = &text[start..i];
        if wanted.contains(name)
            && let Some(kind) = defined(text, start, i)
        {
            found.push((kind, name));
        }
    }
    found
}

/// How the name at `start..end` is defined there, if it is.
fn defined(text: &str, start: usize, end: usize) -> Option<Kind> {
    let line = text[..start].rfind('\n').map_or(0, |n| n + 1);
    let (before, after) = (&text[line..start], &text[end..]);
    if before.ends_with("(*") && after.starts_with(")(") {
        return Some(Kind::Member);
    }
    if let Some(directive) = before.strip_prefix('#') {
        let macros = directive.trim() == "define" && after.starts_with('(');
        return macros.then_some(Kind::Macro);
    }
    if let Some(wrapper) = before.strip_suffix('(') {
        let digits = wrapper.trim_end_matches(|c: char| c.is_ascii_digit());
        return match digits {
            "SYSCALL_DEFINE" => Some(Kind::Syscall),
            "BPF_CALL_" => Some(Kind::Helper),
            _ => None,
        };
    }
    // The documentation of helpers, from which their declarations are made.
    let documented = before.strip_prefix(" * ");
    if documented.is_some_and(|b| !b.starts_with([' ', '\t', '*']) && b.ends_with([' ', '*']))
        && after.starts_with('(')
        && text.contains("__BPF_FUNC_MAPPER")
    {
        return Some(Kind::Helper);
    }
    let declares =
        before.is_empty() || before.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let level = |t: &str| t.matches('(').count() == t.matches(')').count();
    if !declares || !level(before) || before.contains(['=', ';', '"']) || !after.starts_with('(') {
        return None;
    }
    // After the arguments there may be attributes, then comes the body.
    let mut depth = 0;
    for c in after.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            '{' if depth == 0 => return Some(Kind::Function),
            ';' | '=' | ',' | '}' if depth == 0 => return None,
            _ => (),
        }
    }
    None
}
