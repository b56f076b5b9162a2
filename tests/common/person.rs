//! A person at a terminal: the client in a pseudo-terminal, what is typed there, and what the screen shows.

use std::ffi::OsStr;
use std::path::Path;

use super::pty::Terminal;

/// High enough that nothing scrolls away.
const ROWS: u16 = 200;

/// A client at a terminal without colours; killed when dropped.
pub(crate) struct Person(Terminal);

impl Person {
    /// Starts the client at a terminal of so many columns.
    pub(crate) fn start(folder: &Path, arguments: &[impl AsRef<OsStr>], columns: u16) -> Person {
        Self::start_with(folder, arguments, &[], columns)
    }

    /// The same with variables of the environment.
    pub(crate) fn start_with(
        folder: &Path,
        arguments: &[impl AsRef<OsStr>],
        variables: &[(&str, &str)],
        columns: u16,
    ) -> Person {
        let variables = [&[("NO_COLOR", "1"), ("TZ", "UTC")], variables].concat();
        let client = env!("CARGO_BIN_EXE_client");
        Person(Terminal::start_in(folder, columns, ROWS, client, arguments, &variables))
    }

    /// Types a line and Enter.
    pub(crate) fn type_line(&mut self, line: &str) {
        self.0.press(&format!("{line}\r"));
    }

    /// Waits until the screen, row by row, is such.
    pub(crate) fn see(&self, what: &str, is_such: impl Fn(&[String]) -> bool) {
        self.0.wait(what, is_such);
    }

    /// Waits until this text stands somewhere on the screen.
    pub(crate) fn see_text(&self, text: &str) {
        self.0.wait_for(text);
    }

    /// Waits for the end; gives the exit code and the screen.
    pub(crate) fn end(mut self) -> (Option<i32>, Vec<String>) {
        let status = self.0.end();
        (status.code(), self.0.rows())
    }
}
