//! Keys of what is built: a hash of all that goes in. A stamp file beside the
//! output holds the key, so output of another key is never taken for current.

use crate::error::{At, Result};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Default)]
pub struct Key(Sha256);

impl Key {
    /// Names keep "ab" + "c" and "a" + "bc" apart.
    pub fn text(mut self, name: &str, value: &str) -> Self {
        self.0.update(name.len().to_le_bytes());
        self.0.update(name);
        self.0.update(value.len().to_le_bytes());
        self.0.update(value);
        self
    }

    pub fn file(self, path: &Path) -> Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let content = fs::read(path).at(path)?;
        Ok(self.text(&name, &String::from_utf8_lossy(&content)))
    }

    /// All files below a directory, in the order of their names.
    pub fn dir(mut self, dir: &Path) -> Result<Self> {
        let mut paths: Vec<PathBuf> = Vec::new();
        for entry in dir.read_dir().at(dir)? {
            paths.push(entry.at(dir)?.path());
        }
        paths.sort();
        for path in paths {
            self = if path.is_dir() {
                self.dir(&path)?
            } else {
                self.file(&path)?
            };
        }
        Ok(self)
    }

    pub fn finish(self) -> String {
        self.0
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

/// Whether the output behind the stamp was built with this key.
pub fn is_current(stamp: &Path, key: &str) -> bool {
    fs::read_to_string(stamp).is_ok_and(|found| found == key)
}

pub fn set_current(stamp: &Path, key: &str) -> Result<()> {
    fs::write(stamp, key).at(stamp)
}

/// Builds the output behind the stamp unless this key has built it. While it is being changed it has no stamp, so an
/// interrupted build is not taken for the one before it.
pub fn once(stamp: &Path, key: &str, build: impl FnOnce() -> Result<()>) -> Result<()> {
    if is_current(stamp, key) {
        return Ok(());
    }
    if stamp.exists() {
        fs::remove_file(stamp).at(stamp)?;
    }
    build()?;
    set_current(stamp, key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borders_between_parts_count() {
        let ab = Key::default().text("x", "ab").text("y", "c").finish();
        let bc = Key::default().text("x", "a").text("y", "bc").finish();
        assert_ne!(ab, bc);
        assert_eq!(ab, Key::default().text("x", "ab").text("y", "c").finish());
    }

    #[test]
    fn a_stamp_is_current_for_its_key_only() {
        let stamp = std::env::temp_dir().join(format!("kernel-lab-stamp-{}", std::process::id()));
        assert!(!is_current(&stamp, "a"));
        set_current(&stamp, "a").unwrap();
        assert!(is_current(&stamp, "a") && !is_current(&stamp, "b"));
        fs::remove_file(&stamp).unwrap();
    }

    #[test]
    fn what_an_interrupted_build_has_left_is_nobodys() {
        let stamp = std::env::temp_dir().join(format!("kernel-lab-once-{}", std::process::id()));
        once(&stamp, "a", || Ok(())).unwrap();
        let interrupted = || Err(crate::error::Error::Other("interrupted".into()));
        once(&stamp, "a", interrupted).expect("built already");
        once(&stamp, "b", interrupted).unwrap_err();
        assert!(!is_current(&stamp, "a") && !is_current(&stamp, "b"));
        once(&stamp, "a", || Ok(())).unwrap();
        assert!(is_current(&stamp, "a"));
        fs::remove_file(&stamp).unwrap();
    }
}
