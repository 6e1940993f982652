//! What the lab runs besides Rust, and the Debian packages that have it.

use crate::error::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A program in the PATH, or a file below /usr, and its Debian package.
const BUILD: &[(&str, &str)] = &[
    ("apt-get", "apt"),
    ("dpkg-deb", "dpkg"),
    ("tar", "tar"),
    ("xz", "xz-utils"),
    ("zstd", "zstd"),
    ("patch", "patch"),
    ("rsync", "rsync"),
    ("make", "make"),
    ("gcc", "gcc"),
    ("ld", "binutils"),
    ("bc", "bc"),
    ("flex", "flex"),
    ("bison", "bison"),
    ("perl", "perl"),
    ("python3", "python3"),
    ("ccache", "ccache"),
    ("pahole", "pahole"),
    ("clang-19", "clang-19"),
    ("/usr/include/libelf.h", "libelf-dev"),
    ("/usr/include/zlib.h", "zlib1g-dev"),
    ("/usr/include/openssl/ssl.h", "libssl-dev"),
];

const BOOT: &[(&str, &str)] = &[
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("/bin/busybox", "busybox-static"),
];

/// What `check` does more with, if it is there.
const CHECK: &[(&str, &str)] = &[("sparse", "sparse"), ("codespell", "codespell")];

/// Only `install` needs the whole list of packages.
pub fn packages() -> Vec<&'static str> {
    let mut packages: Vec<_> = BUILD
        .iter()
        .chain(BOOT)
        .chain(CHECK)
        .map(|(_, package)| *package)
        .collect();
    packages.dedup();
    packages
}

pub fn require_all() -> Result<()> {
    let all: Vec<_> = BUILD.iter().chain(BOOT).copied().collect();
    require(&all)
}

pub fn require_build() -> Result<()> {
    require(BUILD)
}

pub fn require_boot() -> Result<()> {
    require(BOOT)
}

/// The tools that `check` can do without, and has to.
pub fn missing_for_check() -> Vec<&'static str> {
    CHECK
        .iter()
        .map(|(tool, _)| *tool)
        .filter(|tool| find(tool).is_none())
        .collect()
}

fn require(list: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<_> = list
        .iter()
        .filter(|(tool, _)| find(tool).is_none())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::MissingTools {
        tools: missing.iter().map(|(tool, _)| tool.to_string()).collect(),
        packages: missing
            .iter()
            .map(|(_, package)| package.to_string())
            .collect(),
    })
}

fn find(tool: &str) -> Option<PathBuf> {
    if tool.starts_with('/') {
        return Path::new(tool).exists().then(|| tool.into());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|dir| dir.join(tool))
        .find(|file| file.is_file())
}

/// First line of `tool --version`: part of the key of what the tool builds.
pub fn version(tool: &str) -> String {
    Command::new(tool)
        .arg("--version")
        .output()
        .ok()
        .and_then(|out| {
            String::from_utf8_lossy(&out.stdout)
                .lines()
                .next()
                .map(str::to_owned)
        })
        .unwrap_or_default()
}

/// Installs every package of the list: the one step that wants root.
pub fn install() -> Result<()> {
    // one archive of several may be out of reach: what counts is what can be installed
    if let Err(err) = apt_get(&["update"]) {
        eprintln!("kernel-lab: {err}");
    }
    let mut args = vec!["install", "-y", "--no-install-recommends"];
    args.extend(packages());
    apt_get(&args)
}

fn apt_get(args: &[&str]) -> Result<()> {
    let root = Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|out| String::from_utf8_lossy(&out.stdout).trim() == "0");
    let mut command = Command::new(if root { "env" } else { "sudo" });
    if !root {
        command.arg("env");
    }
    let status = command
        .args(["DEBIAN_FRONTEND=noninteractive", "apt-get"])
        .args(args)
        .status()
        .map_err(|source| Error::Spawn {
            command: "apt-get".into(),
            source,
        })?;
    if !status.success() {
        return Err(Error::Unavailable(format!("apt-get {}: {status}", args[0])));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_is_named_with_its_package() {
        let err = require(&[("sh", "dash"), ("no-such-tool", "some-package")]).unwrap_err();
        assert_eq!(err.exit_code(), 69);
        let text = err.to_string();
        assert!(text.contains("no-such-tool") && text.contains("some-package"));
        assert!(!text.contains("dash"));
    }
}
