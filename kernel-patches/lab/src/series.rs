//! The kernels under test: a series of patches, or none, on the same source.

use crate::error::{At, Result};
use clap::ValueEnum;
use serde::Serialize;
use std::fmt;
use std::path::{Path, PathBuf};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Series {
    /// the source as Debian ships it
    Stock,
    /// the cookie RFC, with its open problem
    Rfc,
    /// the same feature, trampolines owned by the link
    LinkOwned,
}

impl Series {
    pub fn name(self) -> &'static str {
        match self {
            Series::Stock => "stock",
            Series::Rfc => "rfc",
            Series::LinkOwned => "link-owned",
        }
    }

    pub fn cover_letter(self) -> PathBuf {
        patches_root()
            .join(self.name())
            .join("0000-cover-letter.patch")
    }

    /// The patches in the order in which they apply.
    pub fn patches(self) -> Result<Vec<PathBuf>> {
        if self == Series::Stock {
            return Ok(Vec::new());
        }
        let dir = patches_root().join(self.name());
        let mut patches = Vec::new();
        for entry in dir.read_dir().at(&dir)? {
            let path = entry.at(&dir)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.ends_with(".patch") && !name.starts_with("0000-") {
                patches.push(path);
            }
        }
        patches.sort();
        Ok(patches)
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// `kernel-patches/`: the lab is built where its sources are.
pub fn patches_root() -> PathBuf {
    lab_root()
        .parent()
        .map(Path::to_path_buf)
        .unwrap_or_default()
}

/// `kernel-patches/lab/`
pub fn lab_root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
