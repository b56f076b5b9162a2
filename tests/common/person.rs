//! A person at a terminal: the client in a pseudo-terminal, what is typed there, and what the screen shows.

use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::Child;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use pty_process::Size;
use pty_process::blocking::{Command, Pty, open};

use super::PATIENCE;

/// High enough that nothing scrolls away.
const ROWS: u16 = 200;

/// A client at a terminal; killed when dropped.
pub(crate) struct Person {
    child: Child,
    pty: Arc<Pty>,
    screen: Arc<Screen>,
}

struct Screen {
    parser: Mutex<Shown>,
    changed: Condvar,
}

struct Shown {
    parser: vt100::Parser,
    has_ended: bool,
}

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
        let (pty, pts) = open().expect("a pseudo-terminal");
        pty.resize(Size::new(ROWS, columns)).expect("its size");
        let mut command = Command::new(env!("CARGO_BIN_EXE_client")).args(arguments).current_dir(folder);
        for unset in ["PACKETBOAT_SERVER", "PACKETBOAT_NICK", "RUST_LOG", "COLUMNS", "LINES"] {
            command = command.env_remove(unset);
        }
        command = command.env("TERM", "xterm").env("NO_COLOR", "1").env("HOME", folder).env("TZ", "UTC");
        let child = command.envs(variables.iter().copied()).spawn(pts).expect("the client starts");
        let (pty, parser) = (Arc::new(pty), vt100::Parser::new(ROWS, columns, 0));
        let shown = Mutex::new(Shown { parser, has_ended: false });
        let screen = Arc::new(Screen { parser: shown, changed: Condvar::new() });
        let (source, sink) = (Arc::clone(&pty), Arc::clone(&screen));
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                // The terminal's other end is closed: an error on Linux.
                let len = (&*source).read(&mut buffer).unwrap_or(0);
                let mut shown = sink.parser.lock();
                shown.parser.process(&buffer[..len]);
                shown.has_ended = len == 0;
                sink.changed.notify_all();
                if len == 0 {
                    return;
                }
            }
        });
        Person { child, pty, screen }
    }

    /// Types a line and Enter.
    pub(crate) fn type_line(&mut self, line: &str) {
        (&*self.pty).write_all(format!("{line}\r").as_bytes()).expect("typed");
    }

    /// Waits until the screen, row by row, is such.
    pub(crate) fn see(&self, what: &str, is_such: impl Fn(&[String]) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut shown = self.screen.parser.lock();
        while !is_such(&rows(&shown.parser)) {
            let text = shown.parser.screen().contents();
            assert!(!shown.has_ended, "the client ended before {what}:\n{text}");
            let is_late = self.screen.changed.wait_until(&mut shown, deadline).timed_out();
            assert!(!is_late, "in vain: {what}:\n{text}");
        }
    }

    /// Waits until this text stands somewhere on the screen.
    pub(crate) fn see_text(&self, text: &str) {
        self.see(text, |rows| rows.iter().any(|row| row.contains(text)));
    }

    /// Waits for the end; gives the exit code and the screen.
    pub(crate) fn end(mut self) -> (Option<i32>, Vec<String>) {
        let deadline = Instant::now() + PATIENCE;
        let mut shown = self.screen.parser.lock();
        while !shown.has_ended {
            let is_late = self.screen.changed.wait_until(&mut shown, deadline).timed_out();
            assert!(!is_late, "it does not end:\n{}", shown.parser.screen().contents());
        }
        (self.child.wait().expect("a child").code(), rows(&shown.parser))
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The rows that are not empty at the end, without what is blank at their ends.
fn rows(parser: &vt100::Parser) -> Vec<String> {
    let contents = parser.screen().contents();
    contents.lines().map(|row| row.trim_end().to_owned()).collect()
}
