//! Ready-made Debian kernels: unpacked from their package, no kernel is built. The
//! tests that need no test module run on them.

use crate::apt::{Apt, SUITES};
use crate::build::{Built, Lab};
use crate::error::{At, Error, Result};
use crate::run::run;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The newest cloud kernel of a version ("7.3") that the archive has.
pub fn fetch(lab: &Lab, version: &str) -> Result<Built> {
    if version.is_empty() || !version.chars().all(|c| c.is_ascii_digit() || c == '.') {
        return Err(Error::Other(format!(
            "--image {version}: expected a version like 6.12 or 7.3"
        )));
    }
    let apt = Apt::new(lab)?;
    let image = newest(&apt.names("linux-image-")?, version).ok_or_else(|| {
        Error::Unavailable(format!(
            "no linux-image-{version}*-cloud-amd64 in {}",
            SUITES.join(", ")
        ))
    })?;
    // newer packages have the kernel itself in one of its own
    let binary = image.replacen("linux-image-", "linux-binary-", 1);
    let package = if apt.names(&binary)?.lines().any(|name| name == binary) {
        binary
    } else {
        image
    };
    let dir = lab.cache.join("image").join(&package);
    let stamp = dir.join("lab.stamp");
    if !stamp.exists() {
        fs::create_dir_all(&dir).at(&dir)?;
        run(
            &format!("download {package}"),
            apt.command("apt-get")
                .args(["download", &package])
                .current_dir(&dir),
            &lab.cache.join("log/image"),
        )
        .map_err(|err| Error::Unavailable(err.to_string()))?;
        run(
            &format!("unpack {package}"),
            Command::new("sh")
                .args(["-ec", "dpkg-deb -x *.deb . && rm *.deb"])
                .current_dir(&dir),
            &lab.cache.join("log/image"),
        )?;
        fs::write(&stamp, &package).at(&stamp)?;
    }
    let kernel =
        find_kernel(&dir)?.ok_or_else(|| Error::Other(format!("{package} has no vmlinuz")))?;
    lab.build_for_image(&package, kernel)
}

/// vmlinuz*, wherever the package puts it.
fn find_kernel(dir: &Path) -> Result<Option<PathBuf>> {
    for entry in dir.read_dir().at(dir)? {
        let path = entry.at(dir)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_file() && name.starts_with("vmlinuz") {
            return Ok(Some(path));
        }
        if path.is_dir()
            && !path.is_symlink()
            && let Some(found) = find_kernel(&path)?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Among "linux-image-7.3.4+deb13-cloud-amd64" and the like, the highest.
fn newest(names: &str, version: &str) -> Option<String> {
    let key = |name: &str| -> Vec<u64> {
        name.split(|c: char| !c.is_ascii_digit())
            .filter_map(|n| n.parse().ok())
            .collect()
    };
    names
        .lines()
        .filter(|name| {
            name.strip_prefix("linux-image-")
                .and_then(|rest| rest.strip_prefix(version))
                .is_some_and(|rest| {
                    !rest.starts_with(|c: char| c.is_ascii_digit())
                        && rest.ends_with("-cloud-amd64")
                })
        })
        .max_by_key(|name| key(name))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_the_version() {
        let names = "linux-image-7.3.4+deb13-cloud-amd64\nlinux-image-7.3.12+deb13-cloud-amd64\n\
            linux-image-7.30.1-cloud-amd64\nlinux-image-7.3.99-amd64\nlinux-image-7.3.99-cloud-amd64-dbg\n";
        assert_eq!(
            newest(names, "7.3").as_deref(),
            Some("linux-image-7.3.12+deb13-cloud-amd64")
        );
        assert_eq!(newest(names, "6.12"), None);
    }
}
