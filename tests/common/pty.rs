//! A real program at a pseudo-terminal, and the screen that a person would see.
#![allow(dead_code, reason = "each story uses its part")]

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use pty_process::blocking::{Command, open};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use tempfile::TempDir;

/// How long anything may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// What whoever runs the tests may have set.
const UNSET: [&str; 7] =
    ["COLUMNS", "LINES", "NO_COLOR", "PACKETBOAT_NICK", "PACKETBOAT_SERVER", "RUST_LOG", "XDG_STATE_HOME"];

/// A program at a terminal of its own; killed when dropped.
pub(crate) struct Terminal {
    child: Child,
    /// The end that a person sits at.
    keyboard: Option<File>,
    shown: Arc<(Mutex<Shown>, Condvar)>,
    /// Where the program runs; its home, too.
    pub(crate) folder: PathBuf,
    /// The folder, where it is nobody else's.
    own_folder: Option<TempDir>,
}

/// What the program has written.
struct Shown {
    parser: vt100::Parser,
    bytes: Vec<u8>,
    /// The program has closed the terminal.
    ended: bool,
    /// The window is to be closed.
    hung_up: bool,
}

impl Terminal {
    /// A program at a terminal of so many columns and rows, in an empty folder, with these variables besides an ordinary
    /// environment.
    pub(crate) fn start(
        columns: u16,
        rows: u16,
        program: impl AsRef<Path>,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Terminal {
        let folder = TempDir::new().expect("a folder");
        let mut terminal = Self::start_in(folder.path(), columns, rows, program, arguments, variables);
        terminal.own_folder = Some(folder);
        terminal
    }

    /// The same in a folder of the caller's.
    pub(crate) fn start_in(
        folder: &Path,
        columns: u16,
        rows: u16,
        program: impl AsRef<Path>,
        arguments: &[impl AsRef<OsStr>],
        variables: &[(&str, &str)],
    ) -> Terminal {
        let (pty, pts) = open().expect("a pseudo-terminal");
        pty.resize(pty_process::Size::new(rows, columns)).expect("a size");
        let mut command = Command::new(program.as_ref()).args(arguments).current_dir(folder);
        for name in UNSET {
            command = command.env_remove(name);
        }
        command = command.env("TERM", "xterm").env("HOME", folder).envs(variables.iter().copied());
        let child = command.spawn(pts).expect("the program starts");
        let keyboard = File::from(OwnedFd::from(pty));
        let mut screen = keyboard.try_clone().expect("a descriptor");
        let parser = vt100::Parser::new(rows, columns, 0);
        let shown = Arc::new((
            Mutex::new(Shown { parser, bytes: Vec::new(), ended: false, hung_up: false }),
            Condvar::new(),
        ));
        let told = Arc::clone(&shown);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                // EIO is how a terminal ends whose other end is closed.
                let len = screen.read(&mut buffer).unwrap_or(0);
                let mut shown = told.0.lock();
                shown.parser.process(&buffer[..len]);
                shown.bytes.extend_from_slice(&buffer[..len]);
                shown.ended = len == 0;
                told.1.notify_all();
                if len == 0 || shown.hung_up {
                    return;
                }
            }
        });
        Terminal { child, keyboard: Some(keyboard), shown, folder: folder.to_owned(), own_folder: None }
    }

    fn keyboard(&self) -> &File {
        self.keyboard.as_ref().expect("not hung up")
    }

    /// Types this, in one go.
    pub(crate) fn press(&self, keys: &str) {
        self.keyboard().write_all(keys.as_bytes()).expect("a terminal takes it");
    }

    /// Waits until the rows of the screen are so, and gives them.
    pub(crate) fn wait(&self, what: &str, holds: impl Fn(&[String]) -> bool) -> Vec<String> {
        self.wait_for_shown(what, |shown| Some(rows_of(shown)).filter(|rows| holds(rows)))
    }

    /// Waits until this stands somewhere on the screen, within one row.
    pub(crate) fn wait_for(&self, text: &str) -> Vec<String> {
        self.wait(text, |rows| rows.iter().any(|row| row.contains(text)))
    }

    /// Waits until the last row with anything in it is this one.
    pub(crate) fn wait_for_last(&self, text: &str) -> Vec<String> {
        self.wait(text, |rows| rows.iter().rfind(|row| !row.is_empty()).is_some_and(|row| row == text))
    }

    /// Waits until this has been written, wherever it is now.
    pub(crate) fn wait_for_bytes(&self, bytes: &[u8]) {
        self.wait_for_shown(&format!("{bytes:?}"), |shown| {
            shown.bytes.windows(bytes.len()).any(|window| window == bytes).then_some(())
        });
    }

    fn wait_for_shown<T>(&self, what: &str, holds: impl Fn(&Shown) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut shown = self.shown.0.lock();
        loop {
            if let Some(found) = holds(&shown) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let screen = rows_of(&shown).join("\n");
            assert!(!left.is_zero() && !shown.ended, "in vain: {what}\n{screen}");
            self.shown.1.wait_for(&mut shown, left);
        }
    }

    /// The screen as it is now.
    pub(crate) fn screen(&self) -> vt100::Screen {
        self.shown.0.lock().parser.screen().clone()
    }

    /// Every octet that was written so far.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.shown.0.lock().bytes.clone()
    }

    /// The row and the column of the cursor.
    pub(crate) fn cursor(&self) -> (u16, u16) {
        self.shown.0.lock().parser.screen().cursor_position()
    }

    /// Another size of the window.
    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        self.shown.0.lock().parser.screen_mut().set_size(rows, columns);
        tcsetwinsize(self.keyboard(), size).expect("a terminal");
    }

    /// Whether the terminal reads lines and echoes them by itself, as a shell leaves it.
    pub(crate) fn is_cooked(&self) -> bool {
        let modes = tcgetattr(self.keyboard()).expect("a terminal").local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    /// The process.
    pub(crate) fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    /// Closes the window, while this is typed: what it makes the program write is the last that is read.
    pub(crate) fn hang_up(&mut self, keys: &str) {
        self.shown.0.lock().hung_up = true;
        self.press(keys);
        self.keyboard = None;
    }

    /// Waits for the end of the program and of what it writes.
    pub(crate) fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        let mut shown = self.shown.0.lock();
        while !shown.ended && !shown.hung_up {
            let is_late = self.shown.1.wait_until(&mut shown, deadline).timed_out();
            assert!(!is_late, "it does not end:\n{}", rows_of(&shown).join("\n"));
        }
        drop(shown);
        loop {
            // std has no wait with a time limit.
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end");
            thread::yield_now();
        }
    }

    /// The rows of the screen as they are now, but for the empty ones at its end.
    pub(crate) fn rows(&self) -> Vec<String> {
        let mut rows = rows_of(&self.shown.0.lock());
        rows.truncate(rows.iter().rposition(|row| !row.is_empty()).map_or(0, |at| at + 1));
        rows
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn rows_of(shown: &Shown) -> Vec<String> {
    let screen = shown.parser.screen();
    let (_, columns) = screen.size();
    screen.rows(0, columns).map(|row| row.trim_end().to_owned()).collect()
}
