//! Results go to standard output; a reader that goes away is no error. How wide they may be and whether they are
//! coloured is found out here, once.

use std::io::{ErrorKind, Write};
use std::sync::OnceLock;

use anstream::{AutoStream, ColorChoice};
use terminal_size::{Width, terminal_size_of};

use super::{Exit, Failure};
use crate::report::json::Document;
use crate::report::screen::Screen;

/// The width of standard output: `COLUMNS` has the first word, then the terminal.
pub(super) fn width() -> usize {
    let columns = std::env::var("COLUMNS");
    let columns = columns.ok().and_then(|c| c.parse::<u16>().ok());
    let terminal = || terminal_size_of(std::io::stdout()).map(|(Width(width), _)| width);
    let width = columns.filter(|c| *c > 0).or_else(terminal);
    Screen::plain(width.map_or(Screen::USUAL, usize::from)).width
}

/// What standard output is; asked for after `--color` is known.
pub(super) fn screen() -> &'static Screen {
    static SCREEN: OnceLock<Screen> = OnceLock::new();
    SCREEN.get_or_init(|| {
        let plain = Screen::plain(width());
        Screen {
            colour: AutoStream::choice(&std::io::stdout()) != ColorChoice::Never,
            program: program().unwrap_or(plain.program.clone()),
            ..plain
        }
    })
}

/// The name by which this program was started: whoever typed it can type it again, whether it is a path that cargo
/// chose or a word that the shell looked up.
fn program() -> Option<String> {
    let name = std::env::args_os().next()?.into_string().ok()?;
    Some(name).filter(|name| !name.is_empty())
}

/// What standard error is: as wide, and coloured if it is itself a terminal.
pub(super) fn stderr() -> Screen {
    Screen {
        colour: AutoStream::choice(&std::io::stderr()) != ColorChoice::Never,
        ..screen().clone()
    }
}

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

/// Prints the one document of a verb, and ends with the exit status that stands in it.
pub(super) fn document(
    verb: &str,
    exit: Exit,
    body: impl serde::Serialize,
) -> Result<Exit, Failure> {
    json(&Document::new(verb, exit as u8, body))?;
    Ok(exit)
}

/// Prints a value as one line of JSON.
pub(super) fn json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value).map_err(|e| Failure::Bug(e.to_string()))?;
    print(&(text + "\n"))
}
