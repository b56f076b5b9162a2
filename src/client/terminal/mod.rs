//! The terminal of a person: raw input, and a line being typed below everything else that is written.
//!
//! The line that is typed belongs to the rows at the end of what is shown. Whoever writes goes through here: the rows are
//! erased, the text is written above, the rows are drawn again, in one write. There is one terminal for a process, so this
//! state is global; the panic hook and the logger reach it too.

pub mod complete;
pub mod editor;
pub mod history;
pub mod keys;
pub mod rows;

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::sync::{Once, OnceLock};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Signal, kill_current_process_group};
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
};
use signal_hook::consts::{SIGCONT, SIGWINCH};
use signal_hook::iterator::Signals;

use self::keys::{ESCAPE_WAIT, Key, Keys, PASTE_LEN_MAX, unmarked_paste};
use self::rows::{Layout, Span, Style, wrap};

/// Reads of the keyboard not yet looked at. Ours: few, the terminal itself waits.
const AHEAD_MAX: usize = 16;

/// More of a paste that is not marked follows within this. Ours: its rest would answer the question about it, so a slow
/// line and a busy machine have time enough, and a person hardly sees it.
const UNMARKED_WAIT: Duration = Duration::from_millis(300);

/// How far the second row of a line is indented. Ours: behind the time, so that no text can stand there.
pub const INDENT: usize = 6;

/// The width of a terminal that does not tell.
const COLUMNS_DEFAULT: usize = 80;

/// The height of one that does not.
const ROWS_DEFAULT: usize = 24;

/// What a terminal is asked for beyond its usual: to mark what is pasted.
const ENTER: &str = "\x1b[?2004h";
const LEAVE: &str = "\x1b[?2004l";

/// How the terminal was before.
static COOKED: OnceLock<Termios> = OnceLock::new();

static FACE: Mutex<Face> =
    Mutex::new(Face { is_open: false, area: None, drawn_columns: COLUMNS_DEFAULT, was_suspended: false });

/// What is on the screen and ours.
struct Face {
    is_open: bool,
    /// The line being typed, where it is shown.
    area: Option<Layout>,
    /// How wide the screen was then.
    drawn_columns: usize,
    /// We have stopped ourselves, and have not heard yet that we go on.
    was_suspended: bool,
}

/// What a person does at the terminal.
#[derive(Debug, PartialEq, Eq)]
pub enum Input {
    /// Keys were pressed.
    Keys(Vec<Key>),
    /// The window has another size.
    Resized,
    /// We go on after a stop: somebody else may have had the terminal.
    Continued,
    /// The terminal is gone.
    End,
}

/// The terminal, in raw mode. Dropped, it is as it was before; so it is after a panic.
#[derive(Debug)]
pub struct Terminal(());

/// Whether this terminal can move a cursor.
pub fn can_edit() -> bool {
    std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb")
}

impl Terminal {
    /// Takes the terminal at standard input and output.
    pub fn open() -> io::Result<Terminal> {
        let cooked = tcgetattr(io::stdin())?;
        let _ = COOKED.set(cooked);
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                restore();
                before(panic);
            }));
        });
        set_raw()?;
        FACE.lock().is_open = true;
        write(ENTER)?;
        Ok(Terminal(()))
    }

    /// Writes lines above the line being typed. `text` holds nothing that moves the cursor but its line ends.
    pub fn print(&self, text: &str) -> io::Result<()> {
        FACE.lock().print(text)
    }

    /// Shows the line being typed.
    pub fn draw(&self, layout: Layout) -> io::Result<()> {
        let mut face = FACE.lock();
        if face.area.as_ref() == Some(&layout) {
            return Ok(());
        }
        let out = face.erase() + &face.draw(layout);
        write(&out)
    }

    /// Takes the line being typed off the screen.
    pub fn erase(&self) -> io::Result<()> {
        let out = FACE.lock().erase();
        write(&out)
    }

    /// An empty screen.
    pub fn clear(&self) -> io::Result<()> {
        FACE.lock().area = None;
        write("\x1b[H\x1b[2J")
    }

    /// A sound, or whatever the person has chosen instead.
    pub fn ring(&self) -> io::Result<()> {
        write("\x07")
    }

    /// Stops this job, as ^Z does elsewhere, and goes on when the shell says so.
    pub fn suspend(&self) -> io::Result<()> {
        self.erase()?;
        restore();
        // All of it, as the terminal would: `cargo run` waits for us.
        kill_current_process_group(Signal::TSTP)?;
        // Perhaps nothing has stopped: there may be no shell that could go on with us.
        self.take_again()?;
        FACE.lock().was_suspended = true;
        Ok(())
    }

    /// Goes on after a stop, whoever has asked for it: the terminal may have been somebody else's meanwhile.
    pub fn resume(&self) -> io::Result<()> {
        // After our own stop all is as it should be.
        if std::mem::take(&mut FACE.lock().was_suspended) { Ok(()) } else { self.take_again() }
    }

    fn take_again(&self) -> io::Result<()> {
        set_raw()?;
        let mut face = FACE.lock();
        (face.is_open, face.area) = (true, None);
        write(ENTER)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let out = FACE.lock().erase();
        // Whoever sees nothing more misses nothing.
        let _ = write(&out);
        restore();
    }
}

impl Face {
    /// What takes the line being typed off the screen.
    fn erase(&mut self) -> String {
        let Some(area) = self.area.take() else { return String::new() };
        let columns = tcgetwinsize(io::stdout()).map_or(self.drawn_columns, |size| size.ws_col.into());
        // In a window that has become narrower the terminal has wrapped our rows.
        let above = if columns < self.drawn_columns { area.rows_above(columns) } else { area.cursor_row };
        let up = if above == 0 { String::new() } else { format!("\x1b[{above}A") };
        format!("\r{up}\x1b[J")
    }

    fn draw(&mut self, area: Layout) -> String {
        let mut out = area.rows.join("\n");
        let up = area.rows.len() - 1 - area.cursor_row;
        if up > 0 {
            out += &format!("\x1b[{up}A");
        }
        out.push('\r');
        if area.cursor_column > 0 {
            out += &format!("\x1b[{}C", area.cursor_column);
        }
        self.drawn_columns = tcgetwinsize(io::stdout()).map_or(COLUMNS_DEFAULT, |size| size.ws_col.into());
        self.area = Some(area);
        out
    }

    fn print(&mut self, text: &str) -> io::Result<()> {
        let area = self.area.clone();
        let mut out = self.erase() + text + "\n";
        if let Some(area) = area {
            out += &self.draw(area);
        }
        write(&out)
    }
}

/// Writes a line above the line being typed, where there is one; else gives `false`. For the logger.
pub fn print_above(line: &str) -> bool {
    let rows = wrap(&[Span::new(Style::PLAIN, line)], size().0, INDENT, false).join("\n");
    let mut face = FACE.lock();
    face.is_open && face.print(&rows).is_ok()
}

/// Columns and rows of the screen, now. The last column stays free: one terminal differs from the next in what it does
/// there.
pub fn size() -> (usize, usize) {
    let size = tcgetwinsize(io::stdout()).ok();
    let known = |number: u16, default| if number == 0 { default } else { usize::from(number) };
    let columns = size.map_or(COLUMNS_DEFAULT, |size| known(size.ws_col, COLUMNS_DEFAULT));
    (columns.saturating_sub(1).max(2), size.map_or(ROWS_DEFAULT, |size| known(size.ws_row, ROWS_DEFAULT)))
}

/// Leaves the terminal as it was before, whatever else goes wrong.
pub fn restore() {
    // The lock may be held by the thread that panics.
    let was_open = FACE.try_lock_for(ESCAPE_WAIT).is_none_or(|mut face| std::mem::take(&mut face.is_open));
    if let Some(cooked) = COOKED.get()
        && was_open
    {
        // Nobody is left to tell when it fails.
        let _ = write(LEAVE);
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, cooked);
    }
}

fn set_raw() -> io::Result<()> {
    let Some(cooked) = COOKED.get() else { return Ok(()) };
    let mut raw = cooked.clone();
    // Output stays as it is: a line end of the logger or of a panic is still one.
    raw.input_modes -=
        InputModes::BRKINT | InputModes::ICRNL | InputModes::INPCK | InputModes::ISTRIP | InputModes::IXON;
    raw.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::IEXTEN | LocalModes::ISIG;
    raw.special_codes[SpecialCodeIndex::VMIN] = 1;
    raw.special_codes[SpecialCodeIndex::VTIME] = 0;
    Ok(tcsetattr(io::stdin(), OptionalActions::Now, &raw)?)
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Starts the threads, named `keyboard` and `window`. They end with the terminal, or with the process.
/// Where `guesses_pastes`, several lines that come at once are one paste.
pub fn start(guesses_pastes: bool) -> io::Result<Receiver<Input>> {
    let (tell, inputs) = crossbeam_channel::bounded(AHEAD_MAX);
    let tell_size = tell.clone();
    let mut hooked = Signals::new([SIGWINCH, SIGCONT])?;
    thread::Builder::new().name("window".into()).spawn(move || {
        for signal in hooked.forever() {
            let input = if signal == SIGWINCH { Input::Resized } else { Input::Continued };
            if tell_size.send(input).is_err() {
                return;
            }
        }
    })?;
    thread::Builder::new().name("keyboard".into()).spawn(move || read_keys(&tell, guesses_pastes))?;
    Ok(inputs)
}

fn read_keys(tell: &Sender<Input>, guesses_pastes: bool) {
    let mut stdin = io::stdin().lock();
    let mut keys = Keys::default();
    let mut buffer = [0; 8 * 1024];
    // What has come of a paste that the terminal does not mark.
    let mut unmarked = Vec::new();
    loop {
        let input = match stdin.read(&mut buffer) {
            Ok(0) => Input::End,
            Ok(len) => {
                let mut pressed = keys.feed(&buffer[..len]);
                if keys.waits().is_some_and(|wait| !more_comes(&stdin, wait)) {
                    pressed.extend(keys.give_up());
                }
                unmarked.append(&mut pressed);
                if guesses_pastes && let Some(text) = unmarked_paste(&unmarked) {
                    if text.len() < PASTE_LEN_MAX && more_comes(&stdin, UNMARKED_WAIT) {
                        continue;
                    }
                    unmarked = vec![Key::Paste(text)];
                }
                Input::Keys(std::mem::take(&mut unmarked))
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                log::warn!("the terminal cannot be read: {error}");
                Input::End
            }
        };
        let end = input == Input::End;
        if tell.send(input).is_err() || end {
            return;
        }
    }
}

fn more_comes(stdin: &impl AsFd, wait: Duration) -> bool {
    let wait = rustix::time::Timespec::try_from(wait).ok();
    poll(&mut [PollFd::new(stdin, PollFlags::IN)], wait.as_ref()).is_ok_and(|ready| ready > 0)
}
