//! Runs a tool with its output in a log file and its progress on the terminal.

use crate::error::{At, Error, Result};
use indicatif::{ProgressBar, ProgressStyle};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Runs the command to its end; `what` is what the terminal shows meanwhile.
pub fn run(what: &str, command: &mut Command, log: &Path) -> Result<()> {
    if let Some(dir) = log.parent() {
        fs::create_dir_all(dir).at(dir)?;
    }
    let shown = format!("{command:?}");
    let mut out = File::create(log).at(log)?;
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} [{elapsed}] {wide_msg}") {
        bar.set_style(style);
    }
    bar.set_prefix(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(200));
    if bar.is_hidden() {
        eprintln!("{what}");
    }

    let (reader, writer) = std::io::pipe().at(log)?;
    let stderr = writer.try_clone().at(log)?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(stderr)
        .spawn()
        .map_err(|source| Error::Spawn {
            command: shown.clone(),
            source,
        })?;
    // the command keeps the writing ends open in this process
    command.stdout(Stdio::null()).stderr(Stdio::null());

    let mut tail: Vec<String> = Vec::new();
    for line in BufReader::new(reader).split(b'\n') {
        let line = line.at(log)?;
        out.write_all(&line)
            .and_then(|()| out.write_all(b"\n"))
            .at(log)?;
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        bar.set_message(line.clone());
        if tail.len() == 15 {
            tail.remove(0);
        }
        tail.push(line);
    }
    let status = child.wait().at(log)?;
    bar.finish_and_clear();
    if status.success() {
        return Ok(());
    }
    Err(Error::Command {
        command: shown,
        status: status.to_string(),
        tail: tail.join("\n"),
        log: log.to_owned(),
    })
}

/// Standard output of a short command.
pub fn output(command: &mut Command) -> Result<String> {
    let shown = format!("{command:?}");
    let out = command.output().map_err(|source| Error::Spawn {
        command: shown.clone(),
        source,
    })?;
    if !out.status.success() {
        return Err(Error::Other(format!(
            "`{shown}`: {}\n{}",
            out.status,
            String::from_utf8_lossy(&out.stderr)
        )));
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}
