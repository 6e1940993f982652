//! What a shell and a terminal get: colour where it is asked for, no line that is too long, commands that can be
//! pasted, scenarios from standard input. What the commands say is in `tests/cmd`.

#![cfg(unix)]

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Output, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_struct-ops-sim");
const TWO_LINKS: &str = include_str!("scenarios/two-links.toml");

/// The program as nobody's environment changes it.
fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    for variable in ["COLUMNS", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
        command.env_remove(variable);
    }
    command.env("RUST_LOG", "off").stdin(Stdio::null());
    command
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

#[test]
fn colour_is_where_it_is_asked_for() {
    const CHECK: [&str; 6] = [
        "check",
        "-q",
        "--scenario",
        "two-links-tcp",
        "--design",
        "rfc",
    ];
    let run = |options: &[&str], variables: &[(&str, &str)]| {
        let mut command = program(PROGRAM);
        command
            .args(CHECK)
            .args(options)
            .envs(variables.iter().copied());
        stdout(&command.output().expect("the program starts"))
    };
    let plain = run(&[], &[]);
    assert!(!plain.contains('\u{1b}'), "a pipe is no terminal");
    let coloured = run(&["--color", "always"], &[]);
    assert!(coloured.contains('\u{1b}'));
    let stripped = anstream::adapter::strip_str(&coloured).to_string();
    assert_eq!(stripped, plain, "colour is an addition");
    assert_eq!(run(&[], &[("CLICOLOR_FORCE", "1")]), coloured);
    let never = run(&["--color", "never"], &[("CLICOLOR_FORCE", "1")]);
    assert_eq!(never, plain);
    let unwanted = run(&[], &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]);
    assert_eq!(unwanted, plain);
    let json = run(&["--color", "always", "--format", "json"], &[]);
    assert!(!json.contains('\u{1b}'), "programs read no colour");
}

#[test]
fn logs_and_errors_have_no_colour_in_a_pipe() {
    let check = [
        "check",
        "-vv",
        "--scenario",
        "two-links-tcp",
        "--design",
        "mainline",
    ];
    let output = program(PROGRAM).env_remove("RUST_LOG").args(check).output();
    let said = stderr(&output.expect("the program starts"));
    assert!(!said.is_empty() && !said.contains('\u{1b}'), "{said}");
    let output = program(PROGRAM).args(["run", "nothing"]).output();
    let said = stderr(&output.expect("the program starts"));
    assert!(said.starts_with("error: "), "{said}");
}

#[test]
fn columns_are_heeded_within_limits() {
    let longest = |columns: Option<&str>| {
        let mut command = program(PROGRAM);
        command.args(["run", "two-links-tcp", "--design", "link-owned"]);
        command.envs(columns.map(|c| ("COLUMNS", c)));
        let text = stdout(&command.output().expect("the program starts"));
        text.lines()
            .map(|l| l.chars().count())
            .max()
            .expect("lines")
    };
    let usual = longest(None);
    assert!((76..=80).contains(&usual), "a pipe has 80 columns: {usual}");
    assert!(longest(Some("72")) <= 72);
    assert_eq!(longest(Some("10")), longest(Some("72")));
    let wide = longest(Some("200"));
    assert!((100..=200).contains(&wide), "{wide}");
    assert_eq!(longest(Some("5000")), wide);
    assert_eq!(longest(Some("")), usual);
    assert_eq!(longest(Some("many")), usual);
}

/// Every command that a text tells to type: what begins with the name of the program, to the end of its line. Not
/// clap's "Usage:", which says what there is to choose from.
fn commands(text: &str, program: &str) -> Vec<String> {
    let of_line = |line: &str| line.find(program).map(|at| line[at..].to_string());
    let said = text.lines().filter(|line| !line.starts_with("Usage:"));
    said.filter_map(of_line).collect()
}

/// A folder with scenarios whose names need quotes; one expects what is not so.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text);
    let (head, _) = TWO_LINKS.split_once("[expect]").expect("expectations");
    write(
        "my scenario's $HOME.toml",
        &format!("{head}[expect]\nrfc = []\n"),
    )
    .expect("a file");
    write("-dash.toml", head).expect("a file");
    let old = include_str!("../scenarios/old-kernel.toml");
    write("lookups (1).toml", old).expect("a file");
    folder
}

#[test]
fn printed_commands_can_be_pasted() {
    let folder = folder();
    let tools = folder.path().join("my tools");
    std::fs::create_dir(&tools).expect("a folder");
    let link = tools.join("pasted");
    std::os::unix::fs::symlink(PROGRAM, &link).expect("a link");
    let mine = "--scenario=my scenario's $HOME.toml";
    let told: &[(&[&str], i32)] = &[
        (
            &[
                "check",
                "-q",
                mine,
                "--design",
                "rfc",
                "--design",
                "rfc,links=one",
            ],
            1,
        ),
        (&["check", "-q", mine, "--design", "rfc"], 1),
        (
            &[
                "check",
                "-q",
                "--scenario=-dash.toml",
                "--design=rfc",
                "--design=mainline",
            ],
            0,
        ),
        (
            &[
                "check",
                "-q",
                "--scenario",
                "lookups (1).toml",
                "--design",
                "rfc",
            ],
            0,
        ),
        (
            &[
                "check",
                "-q",
                "--scenario",
                "two-links-keyed",
                "--design",
                "rfc",
            ],
            0,
        ),
        (&["random", "--seeds", "15..30", "--design", "rfc"], 0),
        (&["random", "--seeds", "0..20", mine, "--design", "rfc"], 1),
        (&["run", "--scenario", "my scenario's $HOME.toml"], 3),
        (&["run", "--scenario=two-links-tcp", "--design", "rfc"], 3),
        (&["check", "-q", "two-links-tcp", "--design", "rfc"], 3),
        (&["-q", "old-kernel", "--design", "rfc"], 3),
    ];
    let path = format!(
        "{}:{}",
        tools.display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let mut verbs = BTreeSet::new();
    // By its path, which has to be quoted, and by a name that the shell looks up.
    for (name, typed) in [
        (link.display().to_string(), format!("'{}'", link.display())),
        ("pasted".to_string(), "pasted".to_string()),
    ] {
        for (arguments, exit) in told {
            let shell = |script: &str| {
                let mut command = program("sh");
                command.args(["-c", script]);
                command.current_dir(folder.path()).env("PATH", &path);
                command
            };
            let output = shell(r#""$0" "$@""#)
                .arg(&name)
                .args(*arguments)
                .output()
                .expect("a shell");
            assert_eq!(
                output.status.code(),
                Some(*exit),
                "{arguments:?}: {}",
                stderr(&output)
            );
            let printed = commands(&(stdout(&output) + &stderr(&output)), &format!("{typed} "));
            assert!(!printed.is_empty(), "{arguments:?} tells no command");
            for command in printed {
                let again = shell(&command).output().expect("a shell");
                let text = stdout(&again);
                // The counterexample is told again, or what was meant is done.
                let done = matches!(again.status.code(), Some(0 | 1)) && text.contains("step  cpu");
                assert!(done, "{command}: {}{text}{}", again.status, stderr(&again));
                verbs.extend(
                    command[typed.len()..]
                        .split_whitespace()
                        .next()
                        .map(str::to_string),
                );
            }
        }
    }
    assert_eq!(
        verbs.into_iter().collect::<Vec<_>>(),
        ["check", "random", "run"]
    );
}

#[test]
fn scenarios_come_from_standard_input() {
    let run = |arguments: &[&str], text: &str| {
        let mut command = program(PROGRAM);
        command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let mut input = child.stdin.take().expect("a pipe");
        // A reader that has seen enough goes away.
        let _ = input.write_all(text.as_bytes());
        drop(input);
        child.wait_with_output().expect("an end")
    };
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("stdin.toml");
    std::fs::write(&file, TWO_LINKS).expect("a file");
    let file = file.to_str().expect("a path");
    for arguments in [
        &[
            "check",
            "-q",
            "--design=rfc",
            "--invariant=no-leak",
            "--scenario",
        ][..],
        &["random", "--seeds=0..3", "--design=rfc", "--scenario"],
        &["run", "--design", "rfc"],
        &["explain"],
    ] {
        let [there, here] = [file, "-"].map(|name| run(&[arguments, &[name]].concat(), TWO_LINKS));
        assert_eq!(here.status.code(), there.status.code(), "{}", stderr(&here));
        let command = |line: &&str| !line.contains("struct-ops-sim ");
        let [there, here] = [stdout(&there), stdout(&here)];
        let [there, here] = [&there, &here].map(|t| t.lines().filter(command).collect::<Vec<_>>());
        assert_eq!(here, there, "{arguments:?}");
        assert!(here.len() > 5);
    }
    let twice = run(
        &[
            "check",
            "-q",
            "--scenario=-",
            "--scenario",
            "-",
            "--design",
            "rfc",
        ],
        TWO_LINKS,
    );
    assert_eq!(twice.status.code(), Some(0), "{}", stderr(&twice));
    assert!(
        stdout(&twice).contains("--scenario - "),
        "{}",
        stdout(&twice)
    );
    let wrong = TWO_LINKS.replace("cookie=0x22", "cooky=0x22");
    let wrong = run(&["check", "--scenario", "-"], &wrong);
    assert_eq!(wrong.status.code(), Some(3));
    assert!(
        stderr(&wrong).starts_with("error: <stdin>:"),
        "{}",
        stderr(&wrong)
    );
    let wrong = run(&["replay", "-"], "{");
    assert_eq!(wrong.status.code(), Some(3));
    assert!(
        stderr(&wrong).starts_with("error: <stdin>:1:"),
        "{}",
        stderr(&wrong)
    );
}

/// A line that does not fit is a command, or it has one word that is longer than its column; a scenario file is not
/// broken into lines either.
#[test]
fn every_verb_fits_the_narrowest_terminal() {
    for arguments in [
        "--help",
        "check --help",
        "cost --help",
        "check -q --scenario update-to-same-map --design rfc",
        "check -q --scenario two-links-keyed --scenario old-kernel -v",
        "run module-unload",
        "random --seeds 15..30 --design rfc",
        "reach --program struct_ops,fentry,syscall",
        "reach --program struct_ops,fentry --design association",
        "list",
        "list steps",
        "explain link-owned",
        "explain two-links-sched-ext",
        "explain fentry",
        "cost --design mainline,build=link_create --design rfc",
        "cost --type sched_ext_ops --disassemble dispatch --cookie 0x1122334455667788",
    ] {
        let words = arguments.split_whitespace();
        let output = program(PROGRAM).args(words).env("COLUMNS", "72").output();
        let text = stdout(&output.expect("the program starts"));
        assert!(text.lines().count() > 3, "{arguments}: {text}");
        let (report, _) = text.split_once("As a scenario file").unwrap_or((&text, ""));
        for line in report.lines().filter(|line| !line.contains(PROGRAM)) {
            assert!(line.chars().count() <= 72, "{arguments}: {line}");
        }
    }
}
