//! What can go wrong in the lab, and what to do about it.

use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "missing: {}\n`kernel-lab install` installs them on Debian; elsewhere install: {}",
        tools.join(", "),
        packages.join(" ")
    )]
    MissingTools {
        tools: Vec<String>,
        packages: Vec<String>,
    },
    #[error("{0}")]
    Unavailable(String),
    #[error("`{command}` failed with {status}; its last lines:\n{tail}\nall of it: {}", log.display())]
    Command {
        command: String,
        status: String,
        tail: String,
        log: PathBuf,
    },
    #[error("cannot run `{command}`: {source}")]
    Spawn { command: String, source: io::Error },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    /// What the user gave is wrong: a scenario, a trace.
    #[error("{0}")]
    Input(String),
    #[error("a bug of kernel-lab: {0}")]
    Bug(String),
    #[error("{0}")]
    Other(String),
}

impl Error {
    /// 3: bad input. 69: something outside is missing. 70: a bug of ours. 1: what was asked for failed.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::MissingTools { .. } | Error::Unavailable(_) => 69,
            Error::Input(_) => 3,
            Error::Bug(_) => 70,
            _ => 1,
        }
    }
}

pub type Result<T> = std::result::Result<T, Error>;

/// Adds the path to an I/O error.
pub trait At<T> {
    fn at(self, path: impl Into<PathBuf>) -> Result<T>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, path: impl Into<PathBuf>) -> Result<T> {
        self.map_err(|source| Error::Io {
            path: path.into(),
            source,
        })
    }
}
