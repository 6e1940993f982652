//! The kernels under test: a series of patches, or none, on the source of a base.

use crate::error::{At, Error, Result};
use clap::ValueEnum;
use serde::Serialize;
use std::fmt;
use std::path::{Path, PathBuf};
use struct_ops_model::Linux;

/// The Linux version that a series is for, as Debian packages its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Base {
    /// the machine's own suite has it
    #[value(name = "6.12")]
    V6_12,
    /// from trixie-backports; wants a newer pahole than Debian 12 has
    #[value(name = "7.3")]
    V7_3,
}

impl Base {
    /// Every one.
    pub const ALL: [Base; 2] = [Base::V6_12, Base::V7_3];

    pub fn name(self) -> &'static str {
        match self {
            Base::V6_12 => "6.12",
            Base::V7_3 => "7.3",
        }
    }

    /// Its version, as the model knows it.
    pub fn linux(self) -> Linux {
        match self {
            Base::V6_12 => Linux::V6_12,
            Base::V7_3 => Linux::V7_3,
        }
    }

    /// The base that a version belongs to, "6.12" or "6.12.117".
    pub fn of(version: &str) -> Option<Base> {
        Base::ALL.into_iter().find(|base| {
            let rest = version.strip_prefix(base.name());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    }

    /// Debian's package of the source.
    pub fn source_package(self) -> String {
        format!("linux-source-{}", self.name())
    }
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Series {
    /// the source as Debian ships it
    Stock,
    /// the cookie RFC, with its open problem
    Rfc,
    /// the same feature, trampolines owned by the link
    LinkOwned,
    /// the bugs of released kernels, each mended alone
    Fixes,
}

impl Series {
    pub fn name(self) -> &'static str {
        match self {
            Series::Stock => "stock",
            Series::Rfc => "rfc",
            Series::LinkOwned => "link-owned",
            Series::Fixes => "fixes",
        }
    }

    /// The model's design of it, whose verdicts are what is predicted of its kernels.
    pub fn design(self, base: Base) -> &'static str {
        match self {
            Series::Stock if base == Base::V7_3 => "association",
            Series::Stock => "mainline",
            Series::Rfc => "rfc",
            Series::LinkOwned => "link-owned",
            // what 0001 to 0003 do
            Series::Fixes => {
                "mainline,owner-errno=einval,same-map=nothing,grace=tasks,trace,rcu+tasks"
            }
        }
    }

    /// Whether its programs can read a cookie.
    pub fn has_cookie(self) -> bool {
        matches!(self, Series::Rfc | Series::LinkOwned)
    }

    /// The patches of a posting come with a cover letter; fixes stand alone.
    pub fn cover_letter(self) -> Option<PathBuf> {
        let letter = patches_root()
            .join(self.name())
            .join("0000-cover-letter.patch");
        matches!(self, Series::Rfc | Series::LinkOwned).then_some(letter)
    }

    pub fn has_base(self, base: Base) -> bool {
        base == Base::V6_12 || matches!(self, Series::Stock | Series::Fixes)
    }

    /// The patches in the order in which they apply: those of the series' folder,
    /// and those of the base's folder in it, together sorted by name.
    pub fn patches(self, base: Base) -> Result<Vec<PathBuf>> {
        if !self.has_base(base) {
            return Err(Error::Other(format!(
                "{self} is a series for {}, not for {base}",
                Base::V6_12
            )));
        }
        let mut patches = Vec::new();
        let dir = patches_root().join(self.name());
        for dir in [dir.clone(), dir.join(base.name())] {
            if !dir.exists() {
                continue;
            }
            for entry in dir.read_dir().at(&dir)? {
                let path = entry.at(&dir)?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                if name.ends_with(".patch") && !name.starts_with("0000-") {
                    patches.push(path);
                }
            }
        }
        patches.sort_by_key(|path| path.file_name().map(ToOwned::to_owned));
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
