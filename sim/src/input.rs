//! Reads the files that a user names: from what has an end, of a bounded size.
//!
//! Not what is in them.

use std::fs::{File, FileType};
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::sync::OnceLock;

use crate::scenario::{InputError, STDIN};

/// Most bytes of a scenario: the longest that is shipped has a hundredth of that.
pub const SCENARIO: u64 = 1 << 20;
/// Most bytes of a trace: the longest has a hundredth of that.
pub const TRACE: u64 = 16 << 20;
/// Most bytes of a result of `check`: that of every shipped scenario has a fiftieth of that.
pub const RESULTS: u64 = 256 << 20;
/// Most bytes of BTF: that of a kernel with every module has a tenth of that.
pub const BTF: u64 = 256 << 20;

/// A text file of at most so many bytes, or `-` for standard input: UTF-8, with or without a byte order mark.
///
/// # Errors
/// What the system says, or why it is not read.
pub fn text(path: &str, most: u64) -> Result<String, InputError> {
    let bytes = match path {
        "-" => stdin(most)?,
        path => bytes(Path::new(path), most)?,
    };
    decode(shown(path), bytes)
}

/// What messages call a file that a user named.
pub fn shown(path: &str) -> &str {
    if path == "-" { STDIN } else { path }
}

/// Standard input, which can be read only once; whoever names it twice gets the same.
fn stdin(most: u64) -> Result<Vec<u8>, InputError> {
    static READ: OnceLock<Result<Vec<u8>, InputError>> = OnceLock::new();
    let read = || limited(STDIN, std::io::stdin(), most);
    READ.get_or_init(read).clone()
}

/// The text that bytes from `name` are.
///
/// # Errors
/// Where they are none.
pub fn decode(name: &str, bytes: Vec<u8>) -> Result<String, InputError> {
    let mut text = String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        let message = format!("not UTF-8 text: byte {at} is not part of a character");
        InputError::whole(name, message)
    })?;
    if text.starts_with('\u{feff}') {
        text.remove(0);
    }
    Ok(text)
}

/// A file of at most so many bytes.
///
/// # Errors
/// What the system says, or why it is not read.
pub fn bytes(path: &Path, most: u64) -> Result<Vec<u8>, InputError> {
    let name = &path.display().to_string();
    let error = |e: std::io::Error| InputError::whole(name, format!("cannot be read: {e}"));
    // Asked before it is opened: opening a named pipe waits until somebody writes into it.
    let found = std::fs::metadata(path).map_err(error)?;
    if let Some(what) = endless(path, found.file_type()) {
        let message = format!("{what}: expected a file");
        return Err(InputError::whole(name, message));
    }
    if found.len() > most {
        return Err(too_large(name, most));
    }
    limited(name, File::open(path).map_err(error)?, most)
}

/// What comes from a reader until it ends, if that is at most so many bytes.
///
/// # Errors
/// What the system says, or that there is more.
pub fn limited(name: &str, reader: impl Read, most: u64) -> Result<Vec<u8>, InputError> {
    let mut bytes = Vec::new();
    match reader.take(most + 1).read_to_end(&mut bytes) {
        Ok(read) if read as u64 > most => Err(too_large(name, most)),
        Ok(_) => Ok(bytes),
        Err(e) if e.kind() == ErrorKind::OutOfMemory => Err(InputError::whole(
            name,
            "there is not enough memory to read it",
        )),
        Err(e) => Err(InputError::whole(name, format!("cannot be read: {e}"))),
    }
}

fn too_large(name: &str, most: u64) -> InputError {
    let message = format!(
        "is larger than {} MiB: nothing that belongs here is",
        most >> 20
    );
    InputError::whole(name, message)
}

/// What is no file and need not have an end. A pipe of a shell, `<(...)`, has no place in the file system and is as
/// good as a file.
#[cfg(unix)]
fn endless(path: &Path, found: FileType) -> Option<&'static str> {
    use std::os::unix::fs::FileTypeExt;
    match found {
        f if f.is_dir() => Some("is a directory"),
        f if f.is_char_device() || f.is_block_device() => Some("is a device"),
        f if f.is_socket() => Some("is a socket"),
        f if f.is_fifo() && std::fs::canonicalize(path).is_ok() => Some("is a named pipe"),
        _ => None,
    }
}

#[cfg(not(unix))]
fn endless(_: &Path, found: FileType) -> Option<&'static str> {
    found.is_dir().then_some("is a directory")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(result: Result<Vec<u8>, InputError>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn what_has_no_end_is_refused() {
        let endless = limited("it", std::io::repeat(0), 2 << 20);
        assert!(message(endless).starts_with("it: is larger than 2 MiB"));
        assert_eq!(limited("it", &b"ab"[..], 2).unwrap(), b"ab");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn only_files_are_opened() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        let refused = |path: &str| message(bytes(Path::new(path), SCENARIO));
        assert!(refused(&path("")).contains("is a directory: expected a file"));
        assert!(refused("/dev/zero").contains("is a device"));
        assert!(refused(&path("none")).contains("cannot be read: No such file"));

        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, path("pipe"), fifo, mode, 0).unwrap();
        assert!(refused(&path("pipe")).contains("is a named pipe"));

        let sparse = File::create(path("sparse")).unwrap();
        sparse.set_len(SCENARIO + 1).unwrap();
        assert!(refused(&path("sparse")).contains("is larger than 1 MiB"));
    }

    #[test]
    fn a_byte_order_mark_is_no_text() {
        let decoded = decode("f", b"\xef\xbb\xbfa = 1".to_vec());
        assert_eq!(decoded.unwrap(), "a = 1");
        let error = decode("f", b"a\xff".to_vec()).unwrap_err();
        assert!(error.to_string().contains("byte 1 is not part"));
    }
}
