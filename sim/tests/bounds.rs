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
    let first = &json["results"][0];
    assert_eq!(first["scenario"], "two-links-tcp", "{json}");
    assert_eq!(first["verdict"], "violated", "{json}");
    let saved = std::fs::read_dir(directory).expect("a directory").count();
    assert!(saved > 0, "no trace is saved");
}

#[test]
fn a_signal_loses_nothing() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
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
        told(&directory, &json);
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
    assert_eq!(json["results"][1]["verdict"], "incomplete", "{json}");
}
