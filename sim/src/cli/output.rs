//! Results go to standard output; a reader that goes away is no error.

use std::io::{ErrorKind, Write};

use super::Failure;

/// Prints text as it is.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::Outside(format!("standard output: {e}")))
        }
        _ => Ok(()),
    }
}

/// Prints a value as JSON.
pub(super) fn json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value).map_err(|e| Failure::Bug(e.to_string()))?;
    print(&(text + "\n"))
}
