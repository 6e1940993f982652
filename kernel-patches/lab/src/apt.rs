//! apt with other suites than the machine's own: a private state below the cache
//! folder, from the archive that the machine already trusts. It needs no root, and
//! nothing of the machine is upgraded by it.

use crate::build::Lab;
use crate::error::{At, Error, Result};
use crate::run::{output, run};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Where newer kernels and sources than the machine's own suite has are found.
pub const SUITES: [&str; 3] = ["trixie", "trixie-backports", "sid"];

/// The archive's packages change; lists that are older are read again.
const LISTS_LAST: Duration = Duration::from_secs(24 * 3600);

/// apt with its own state.
pub struct Apt {
    dir: PathBuf,
}

impl Apt {
    pub fn new(lab: &Lab) -> Result<Self> {
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

    pub fn names(&self, prefix: &str) -> Result<String> {
        output(self.command("apt-cache").args(["pkgnames", prefix]))
    }

    pub fn command(&self, tool: &str) -> Command {
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

#[cfg(test)]
mod tests {
    use super::*;

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
