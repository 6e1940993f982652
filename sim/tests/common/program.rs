//! The program itself, run as a user runs it.

use std::process::{Command, Stdio};

use serde_json::Value;

/// What it printed, and how it ended.
#[derive(Debug)]
pub struct Ran {
    pub exit: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs it in the folder of the crate.
pub fn ran(args: &[&str]) -> Ran {
    let output = Command::new(env!("CARGO_BIN_EXE_struct-ops-sim"))
        .args(args)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env_remove("COLUMNS")
        .env("RUST_LOG", "off")
        .stdin(Stdio::null())
        .output()
        .expect("the program starts");
    Ran {
        exit: output.status.code().expect("no signal"),
        stdout: String::from_utf8(output.stdout).expect("text"),
        stderr: String::from_utf8(output.stderr).expect("text"),
    }
}

/// One JSON value and nothing else.
#[allow(dead_code)]
pub fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}
