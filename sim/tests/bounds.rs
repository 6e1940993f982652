//! What ends a job early: exit status 2, and nothing that was known is lost.
//!
//! `--timeout`, `--max-memory` and `--max-states` are in the transcripts of `cmd`; here is what comes from outside.

#![cfg(target_os = "linux")]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// One exploration that is soon done, and one that is not.
const ARGUMENTS: [&str; 8] = [
    "check",
    "--scenario=two-links-tcp",
    "--scenario=universe-tcp-3cpu-x3",
    "--design=rfc",
    "--invariant=cookie-fidelity",
    "--threads=2",
    "--format=json",
    "--save-traces",
];

fn start(command: &mut Command, directory: &tempfile::TempDir) -> Child {
    command
        .args(ARGUMENTS)
        .arg(directory.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts")
}

fn name(signal: Signal) -> &'static str {
    [
        (Signal::INT, "INT"),
        (Signal::TERM, "TERM"),
        (Signal::HUP, "HUP"),
    ]
    .into_iter()
    .find_map(|(s, name)| (s == signal).then_some(name))
    .expect("one of these")
}

/// A mask of signals in the status of a process.
fn mask(process: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let mask = text.lines().find_map(|l| l.strip_prefix(name));
    u64::from_str_radix(mask.expect("a mask").trim(), 16).expect("a number")
}

/// Waits until the process catches a signal.
fn catches(child: &Child, signal: Signal) {
    let caught = || mask(&child.id().to_string(), "SigCgt:") >> (signal.as_raw() - 1) & 1 == 1;
    while !caught() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// Waits for the end; the exit status, and what was printed.
fn end(mut child: Child) -> (Option<i32>, serde_json::Value) {
    let mut text = String::new();
    let mut stdout = child.stdout.take().expect("piped");
    stdout.read_to_string(&mut text).expect("text");
    let status = child.wait().expect("it ends");
    let json = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    (status.code(), json)
}

/// The first exploration is told and saved, whatever came of the second one.
fn told(directory: &tempfile::TempDir, json: &serde_json::Value) {
    let first = &json["runs"][0];
    assert_eq!(first["scenario"], "two-links-tcp", "{json}");
    assert_eq!(first["verdicts"][0]["verdict"], "violated", "{json}");
    let saved = std::fs::read_dir(directory).expect("a directory").count();
    assert!(saved > 0, "no trace is saved");
}

#[test]
fn a_signal_loses_nothing() {
    let mut signals = vec![Signal::INT, Signal::TERM, Signal::HUP];
    // What the tests were started with ignored, as nohup(1) does, the program ignores, too.
    signals.retain(|signal| mask("self", "SigIgn:") >> (signal.as_raw() - 1) & 1 == 0);
    for signal in signals {
        let directory = tempfile::tempdir().expect("a directory");
        let mut child = start(
            &mut Command::new(env!("CARGO_BIN_EXE_struct-ops-sim")),
            &directory,
        );
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        let mut lines = stderr.lines().map_while(Result::ok);
        // The first one is done, so the handlers are there.
        assert!(lines.any(|line| line.contains("two-links-tcp under rfc")));
        kill_process(Pid::from_child(&child), signal).expect("it is there");
        // Whatever else it says has a reader.
        lines.for_each(drop);
        let (status, json) = end(child);
        assert_eq!(status, Some(2), "{signal:?}");
        assert_eq!(json["exit"], 2);
        told(&directory, &json);
        let bounds = [&json["runs"][1]["incomplete"], &json["stopped"]];
        let name = format!("SIG{}", name(signal));
        assert!(bounds.iter().any(|b| b["bound"] == name), "{json}");
    }
}

/// Whichever verb is ended, it prints one document that says so.
#[test]
fn a_signal_leaves_one_document() {
    let random = ["random", "--seeds=0..1000000000", "--design=link-owned"];
    let stress = ["stress", "--seconds=1000", "--threads=2"];
    let universe = [
        "check",
        "--scenario=universe-tcp-3cpu-x3",
        "--design=rfc",
        "--quiet",
    ];
    let verbs: [&[&str]; 3] = [&random, &stress, &universe];
    for verb in verbs {
        if verb[0] == "stress" && cfg!(not(target_arch = "x86_64")) {
            continue;
        }
        let child = Command::new(env!("CARGO_BIN_EXE_struct-ops-sim"))
            .args(verb)
            .arg("--format=json")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary starts");
        catches(&child, Signal::TERM);
        kill_process(Pid::from_child(&child), Signal::TERM).expect("it is there");
        let (status, json) = end(child);
        assert_eq!((status, &json["exit"]), (Some(2), &2.into()), "{json}");
        assert_eq!(json["verb"], verb[0]);
        let said = [
            &json["incomplete"],
            &json["stopped"],
            &json["runs"][0]["incomplete"],
        ];
        assert!(said.iter().any(|b| b["bound"] == "SIGTERM"), "{json}");
    }
}

#[test]
fn an_address_space_that_is_used_up_loses_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let program = env!("CARGO_BIN_EXE_struct-ops-sim");
    let mut shell = Command::new("sh");
    shell.args([
        "-c",
        "ulimit -v 90000 && exec \"$0\" \"$@\" --quiet",
        program,
    ]);
    let (status, json) = end(start(&mut shell, &directory));
    assert_eq!(status, Some(2));
    told(&directory, &json);
    let second = &json["runs"][1];
    assert_eq!(second["verdicts"][0]["verdict"], "incomplete", "{json}");
    assert_eq!(second["incomplete"]["bound"], "max-memory", "{json}");
}

/// A directory that takes nothing more is told, after what is known.
#[test]
fn a_full_disk_loses_nothing_but_what_it_was_to_keep() {
    // The signal of a file that may not grow is ignored, or not.
    for signal in ["trap '' XFSZ;", ""] {
        let directory = tempfile::tempdir().expect("a directory");
        let program = env!("CARGO_BIN_EXE_struct-ops-sim");
        let mut shell = Command::new("sh");
        let script = format!("{signal} ulimit -f 0; exec \"$0\" \"$@\" --max-states=1000 --quiet");
        shell.args(["-c", script.as_str(), program]);
        let mut child = start(&mut shell, &directory);
        let mut stderr = String::new();
        let mut said = child.stderr.take().expect("piped");
        let reader = std::thread::spawn(move || said.read_to_string(&mut stderr).map(|_| stderr));
        let (status, json) = end(child);
        assert_eq!((status, &json["exit"]), (Some(69), &69.into()));
        assert_eq!(json["runs"][0]["scenario"], "two-links-tcp", "{json}");
        let stderr = reader.join().expect("no panic").expect("text");
        assert!(stderr.contains("cannot be written"), "{stderr}");
    }
}
