//! What is said of Linux is so: functions and files that steps, prose and comments name are in the lists of
//! `symbols/`, which were made from the source of each kernel, or in the patches; and files of ours exist.

#[path = "common/mentions.rs"]
#[allow(dead_code)]
mod mentions;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use mentions::{Text, files, functions, functions_in, kernel_files, paths, root, texts};
use struct_ops_model::Linux;
use struct_ops_model::reach::context::CONTEXTS;

/// The list of one kernel.
#[derive(Default)]
struct Symbols {
    /// Files that the source has.
    files: BTreeSet<String>,
    /// Functions, by name and file.
    functions: BTreeSet<(String, String)>,
    /// Names of any kind.
    names: BTreeSet<String>,
}

/// The list of a kernel. That of 7.4, of which there is no whole source, adds to that of 7.3.
fn symbols(linux: Linux) -> Symbols {
    let mut symbols = listed(linux);
    if linux == Linux::V7_4 {
        let before = listed(Linux::V7_3);
        symbols.files.extend(before.files);
        symbols.functions.extend(before.functions);
        symbols.names.extend(before.names);
    }
    symbols
}

/// What the file of a kernel has.
fn listed(linux: Linux) -> Symbols {
    let path = root().join(format!("sim/symbols/{}.txt", linux.version()));
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let title = format!("# Linux {}.", linux.version());
    assert!(
        text.starts_with(&title),
        "{}: not `{title}...`",
        path.display()
    );
    let mut symbols = Symbols::default();
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        match *line.split(' ').collect::<Vec<_>>() {
            ["file", file] => {
                symbols.files.insert(file.into());
            }
            [kind, name, file] => {
                symbols.names.insert(name.into());
                if kind == "function" {
                    symbols.functions.insert((name.into(), file.into()));
                }
            }
            _ => panic!("{}: `{line}`", path.display()),
        }
    }
    symbols
}

/// What the patches of each series make of the source, by series: lines that they add, and with a blank in front
/// those around them.
fn patches() -> BTreeMap<String, String> {
    let mut series: BTreeMap<String, String> = BTreeMap::new();
    for file in files().iter().filter(|f| f.ends_with(".patch")) {
        let folder = file.rsplit('/').nth(1).expect("a series has a folder");
        let text = fs::read_to_string(root().join(file)).expect("a patch");
        let series = series.entry(folder.into()).or_default();
        for line in text.lines().filter(|l| l.starts_with(['+', ' '])) {
            *series += line.strip_prefix('+').unwrap_or(line);
            series.push('\n');
        }
    }
    series
}

/// Whether these lines of C define a function.
fn defines(lines: &str, name: &str) -> bool {
    let call = format!("{name}(");
    lines.match_indices(&call).any(|(at, _)| {
        let line = lines[..at].rfind('\n').map_or(0, |n| n + 1);
        let before = &lines[line..at];
        let alone = !before.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        let declares = !before.starts_with([' ', '\t', '*', '/']) && !before.contains(['(', '=']);
        let body = lines[at..]
            .find(['{', ';'])
            .map(|n| lines.as_bytes()[at + n]);
        alone && declares && body == Some(b'{')
    })
}

#[test]
fn every_function_that_a_step_names_is_in_the_kernel_that_it_is_claimed_for() {
    for (linux, function) in mentions::claimed() {
        let entry = (function.name.to_string(), function.file.to_string());
        assert!(
            symbols(linux).functions.contains(&entry),
            "Linux {} has no {}() in {}",
            linux.version(),
            function.name,
            function.file
        );
    }
}

/// What 7.3 has is in the list that was made from its source.
#[test]
fn the_list_of_7_4_has_what_7_3_has_not() {
    let (old, new) = (listed(Linux::V7_3), listed(Linux::V7_4));
    let twice: Vec<_> = old.functions.intersection(&new.functions).collect();
    assert!(twice.is_empty(), "{twice:?}");
    let twice: Vec<_> = old.files.intersection(&new.files).collect();
    assert!(twice.is_empty(), "{twice:?}");
    assert!(!new.functions.is_empty());
}

#[test]
fn every_function_that_a_series_is_said_to_add_is_defined_in_its_patches() {
    let patches = patches();
    for (series, function) in mentions::added() {
        let lines = patches
            .get(series)
            .unwrap_or_else(|| panic!("no series {series}"));
        assert!(defines(lines, function.name), "{series}: {}", function.name);
        for linux in Linux::ALL {
            let known = symbols(linux).names;
            assert!(
                !known.contains(function.name),
                "{} is in Linux already",
                function.name
            );
        }
    }
}

#[test]
fn programs_are_entered_by_functions_of_linux_6_12() {
    let known = symbols(Linux::V6_12).names;
    for context in CONTEXTS {
        assert!(
            known.contains(context.enter),
            "{}: {}",
            context.name,
            context.enter
        );
    }
}

/// What `found` says of each text, with the place of the text.
fn wrong(found: impl Fn(&Text) -> Vec<String>) -> Vec<String> {
    let of = |text: &Text| {
        let place = format!("{}:{}", text.file, text.line);
        let found = found(text).into_iter();
        found
            .map(|what| format!("{place}: {what}"))
            .collect::<Vec<_>>()
    };
    texts().iter().flat_map(of).collect()
}

#[test]
fn every_function_that_text_names_exists() {
    let known: BTreeSet<String> = Linux::ALL.iter().flat_map(|l| symbols(*l).names).collect();
    let all = |ending: &str| {
        let files = files().into_iter().filter(|f| f.ends_with(ending));
        let read = |f: String| fs::read_to_string(root().join(f)).expect("text");
        files.map(read).collect::<String>()
    };
    let (rust, c) = (all(".rs"), all(".c"));
    let patches: String = patches().into_values().collect();
    let in_c = |name: &str| known.contains(name) || defines(&patches, name) || defines(&c, name);
    let in_rust = |name: &str| {
        [format!("fn {name}("), format!("fn {name}<")]
            .iter()
            .any(|f| rust.contains(f))
    };
    let unknown = wrong(|text| {
        let names = functions(&text.text).into_iter();
        // Prose and messages are about the kernel; comments may be about our own code.
        let unknown = names.filter(|n| !(in_c(n) || text.comment && in_rust(n)));
        unknown.map(|n| format!("{n}()")).collect()
    });
    assert!(
        unknown.is_empty(),
        "in no list of sim/symbols, which `examples/kernel_symbols.rs` makes anew, and in no patch:\n{}",
        unknown.join("\n")
    );
}

#[test]
fn every_kernel_file_that_text_names_exists() {
    let known: BTreeSet<String> = Linux::ALL.iter().flat_map(|l| symbols(*l).files).collect();
    let unknown = wrong(|text| {
        let files = kernel_files(&text.text).into_iter();
        files
            .filter(|f| !known.contains(*f))
            .map(str::to_string)
            .collect()
    });
    assert!(
        unknown.is_empty(),
        "in no list of sim/symbols, which `examples/kernel_symbols.rs` makes anew:\n{}",
        unknown.join("\n")
    );
}

#[test]
fn every_function_is_in_the_file_in_which_text_has_it() {
    let known: Vec<Symbols> = Linux::ALL.iter().map(|l| symbols(*l)).collect();
    let has = |name: &str, file: &str| {
        let entry = (name.to_string(), file.to_string());
        known.iter().any(|s| s.functions.contains(&entry))
    };
    // Of many places of a common name the lists have one: their other names are theirs alone.
    let listed = |name: &str| {
        known
            .iter()
            .any(|s| s.functions.iter().any(|f| f.0 == name))
    };
    let wrong = wrong(|text| {
        let pairs = functions_in(&text.text).into_iter();
        let wrong = pairs.filter(|(name, file)| listed(name) && !has(name, file));
        wrong
            .map(|(name, file)| format!("{name}() is not in {file}"))
            .collect()
    });
    assert!(wrong.is_empty(), "another file:\n{}", wrong.join("\n"));
}

#[test]
fn every_file_of_ours_that_text_names_exists() {
    let files = files();
    let exists = |path: &str| {
        files
            .iter()
            .any(|f| f == path || f.ends_with(&format!("/{path}")))
    };
    let unknown = wrong(|text| {
        let mentioned = paths(&text.text, &["rs", "md", "trycmd"]).into_iter();
        mentioned
            .filter(|p| !exists(p.trim_start_matches("../")))
            .map(str::to_string)
            .collect()
    });
    assert!(unknown.is_empty(), "no such file:\n{}", unknown.join("\n"));
}

#[test]
fn what_does_not_exist_is_found() {
    let text = [
        "no_such",
        "_function",
        "() of kernel/bpf/",
        "no_such",
        ".c in no_such",
        ".rs",
    ]
    .concat();
    assert_eq!(functions(&text), [["no_such", "_function"].concat()]);
    assert_eq!(kernel_files(&text), [["kernel/bpf/no_such", ".c"].concat()]);
    let [name, file] = [functions(&text)[0], kernel_files(&text)[0]];
    assert_eq!(functions_in(&text), [(name, file)]);
    assert_eq!(paths(&text, &["rs"]), [["no_such", ".rs"].concat()]);
    assert!(defines("static int\nf(int a)\n{\n", "f") && !defines("static int f(int a);\n{", "f"));
    assert!(!defines("\tf(a) {", "f") && !defines("int gf(int a)\n{\n", "f"));
}
