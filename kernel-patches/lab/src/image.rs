//! Ready-made Debian kernels: unpacked from their package, no kernel is built. The
//! tests that need no test module run on them.
//!
//! Other suites than the machine's own are read with a private apt state below
//! the cache folder, from the archive that the machine already trusts: no root,
//! and nothing else is upgraded by it.

use crate::build::{Built, Lab};
use crate::error::{At, Error, Result};
use crate::run::{output, run};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Where newer kernels than the machine's own suite has are found.
const SUITES: [&str; 3] = ["trixie", "trixie-backports", "sid"];

/// The archive's packages change; lists that are older are read again.
const LISTS_LAST: Duration = Duration::from_secs(24 * 3600);

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

/// apt with its own state.
struct Apt {
    dir: PathBuf,
}

impl Apt {
    fn new(lab: &Lab) -> Result<Self> {
        let apt = Apt {
            dir: lab.cache.join("apt"),
        };
        let list = apt.dir.join("sources.list");
        let age = list.metadata().and_then(|data| data.modified()).ok();
        if age.is_some_and(|time| time.elapsed().is_ok_and(|age| age < LISTS_LAST)) {
            return Ok(apt);
        }
        for dir in ["lists/partial", "archives/partial"] {
            let dir = apt.dir.join(dir);
            fs::create_dir_all(&dir).at(&dir)?;
        }
        let (uri, key) = machine_archive().ok_or_else(|| {
            Error::Unavailable("no Debian archive in the machine's apt configuration".into())
        })?;
        let new = apt.dir.join("sources.list.new");
        let text: String = SUITES
            .iter()
            .map(|suite| format!("deb [signed-by={key}] {uri} {suite} main\n"))
            .collect();
        fs::write(&new, &text).at(&new)?;
        run(
            "read the package lists",
            apt.command("apt-get")
                .arg("-o")
                .arg(format!("Dir::Etc::SourceList={}", new.display()))
                .arg("update"),
            &lab.cache.join("log/apt"),
        )
        .map_err(|err| Error::Unavailable(err.to_string()))?;
        fs::rename(&new, &list).at(&list)?;
        Ok(apt)
    }

    fn names(&self, prefix: &str) -> Result<String> {
        output(self.command("apt-cache").args(["pkgnames", prefix]))
    }

    fn command(&self, tool: &str) -> Command {
        let mut command = Command::new(tool);
        for (option, value) in [
            ("Dir::Etc::SourceList", "sources.list"),
            ("Dir::State::Lists", "lists"),
            ("Dir::Cache", "."),
        ] {
            command
                .arg("-o")
                .arg(format!("{option}={}", self.dir.join(value).display()));
        }
        command.args([
            "-o",
            "Dir::Etc::SourceParts=-",
            "-o",
            "APT::Sandbox::User=",
            "-q",
        ]);
        command
    }
}

/// URI and key of the Debian archive that the machine uses.
fn machine_archive() -> Option<(String, String)> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(entries.flatten().map(|entry| entry.path()));
    }
    files
        .iter()
        .find_map(|file| archive(&fs::read_to_string(file).ok()?))
}

/// Both formats of apt's sources; the security archive has other suites.
fn archive(sources: &str) -> Option<(String, String)> {
    const KEY: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
    let is_archive = |uri: &str| uri.trim_end_matches('/').ends_with("/debian");
    for stanza in sources.split("\n\n") {
        let value = |name: &str| {
            stanza
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .map(|text| text.trim().to_owned())
        };
        if let Some(uri) = value("URIs:").filter(|uri| is_archive(uri)) {
            return Some((uri, value("Signed-By:").unwrap_or_else(|| KEY.to_owned())));
        }
    }
    sources
        .lines()
        .filter(|line| line.starts_with("deb "))
        .flat_map(str::split_whitespace)
        .find(|word| is_archive(word))
        .map(|uri| (uri.to_owned(), KEY.to_owned()))
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

    #[test]
    fn the_archive_in_both_formats() {
        let deb822 = "Types: deb\nURIs: http://example.org/debian-security\nSigned-By: /a\n\n\
            Types: deb\nURIs: http://example.org/debian\nSuites: bookworm\nSigned-By: /b\n";
        assert_eq!(
            archive(deb822),
            Some(("http://example.org/debian".into(), "/b".into()))
        );
        let (uri, key) =
            archive("# x\ndeb [arch=amd64] http://example.org/debian/ stable main\n").unwrap();
        assert_eq!(uri, "http://example.org/debian/");
        assert!(key.ends_with(".gpg"));
        assert_eq!(archive("deb http://example.org/ubuntu noble main\n"), None);
    }
}
