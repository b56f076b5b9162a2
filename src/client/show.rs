//! The screen: the one place that writes to standard output and standard error.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use jiff::Zoned;

use super::error::ClientError;
use super::look;
use super::report::Report;
use super::terminal::rows::{Layout, Span, Style, wrap};
use super::terminal::{self, Terminal};
use crate::wire::text::sanitise;

/// No more than one sound in this time. Ours: a room that says our nick all the time is no alarm.
const RING_EVERY: Duration = Duration::from_secs(1);

/// A width that no line reaches: where no terminal has to be obeyed.
const ENDLESS: usize = usize::MAX;

/// When colours are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ColorWhen {
    /// At a terminal, unless the environment has NO_COLOR.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How reports are written.
#[derive(Debug, Default)]
pub struct Screen {
    /// One JSON object per report, and nothing else on standard output.
    pub json: bool,
    /// Neither comings and goings nor notices.
    pub quiet: bool,
    /// A person sits at both ends: there is a prompt.
    pub interactive: bool,
    /// Standard output is for a file's octets: lines for people go to standard error.
    pub lines_to_stderr: bool,
    /// Colours are used.
    pub colour: bool,
    /// What we are called: who says it calls us.
    pub own_nick: String,
    /// The terminal, where lines are edited in it.
    pub terminal: Option<Terminal>,
    /// The cursor stands behind a prompt.
    pub(super) prompt_shown: bool,
    /// When there was a sound last.
    pub(super) rung_at: Option<Instant>,
}

impl Screen {
    /// Writes one report.
    pub fn show(&mut self, report: &Report) -> Result<(), ClientError> {
        let incidental = matches!(
            report,
            Report::Welcome { .. }
                | Report::Lost { .. }
                | Report::Reconnected { .. }
                | Report::Join { .. }
                | Report::Leave { .. }
                | Report::Nick { .. }
                | Report::Started { .. }
                | Report::Notice { .. }
                | Report::Bye { .. }
        );
        if self.json {
            return self.write_line(&report.to_json()).map_err(ClientError::output);
        }
        if self.quiet && incidental {
            return Ok(());
        }
        if self.lines_to_stderr {
            self.write_stderr(&report.to_string());
            return Ok(());
        }
        self.write_report(report).map_err(ClientError::output)?;
        self.ring(report).map_err(ClientError::output)
    }

    /// Tells something beside the result of an errand: people read it on standard error.
    pub fn note(&mut self, report: &Report) -> Result<(), ClientError> {
        if self.json {
            return self.show(report);
        }
        if !self.quiet {
            self.write_stderr(&report.to_string());
        }
        Ok(())
    }

    /// Writes a question whose answer comes as a typed line.
    pub fn ask_for_line(&mut self, question: &str) {
        let mut out = io::stderr().lock();
        // A question that cannot be shown is not worth ending for: the answer may come all the same.
        let _ = write!(out, "{question}").and_then(|()| out.flush());
    }

    /// Tells a failure: a line on standard error, and an object where programs listen.
    pub fn complain(&mut self, code: &str, message: &str) -> Result<(), ClientError> {
        self.complain_about(&Report::Error { code: code.into(), message: message.into(), name: None })
    }

    /// The same of an error.
    pub fn complain_of(&mut self, error: &ClientError) -> Result<(), ClientError> {
        let name = error.file_name().map(str::to_owned);
        self.complain_about(&Report::Error { code: error.code(), message: error.to_string(), name })
    }

    fn complain_about(&mut self, report: &Report) -> Result<(), ClientError> {
        if self.terminal.is_some() && io::stderr().is_terminal() {
            return self.write_report(report).map_err(ClientError::output);
        }
        self.write_stderr(&report.to_string());
        if self.json { self.write_line(&report.to_json()).map_err(ClientError::output) } else { Ok(()) }
    }

    /// Lines for a person alone, such as help.
    pub fn tell(&mut self, lines: impl IntoIterator<Item = String>) -> Result<(), ClientError> {
        if self.json {
            return Ok(());
        }
        let write = |line: String| self.write_spans(&[Span::new(Style::PLAIN, line)]);
        lines.into_iter().try_for_each(write).map_err(ClientError::output)
    }

    /// Writes a line of our own, without the time.
    pub fn write_own(&mut self, spans: &[Span]) -> Result<(), ClientError> {
        self.write_spans(spans).map_err(ClientError::output)
    }

    /// Writes what was typed, as it stood behind the prompt.
    pub fn write_typed(&mut self, prompt: &[Span], line: &str) -> Result<(), ClientError> {
        let time = Span::new(Style::DIM, format!("{} ", time()));
        let typed = Span::new(Style::PLAIN, sanitise(line));
        let spans: Vec<Span> = [time].into_iter().chain(prompt.iter().cloned()).chain([typed]).collect();
        self.write_own(&spans)
    }

    /// Shows the prompt where it is not shown yet.
    pub fn prompt(&mut self, prompt: &str) -> Result<(), ClientError> {
        if !self.interactive || std::mem::replace(&mut self.prompt_shown, true) {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        write!(out, "{prompt}").and_then(|()| out.flush()).map_err(ClientError::output)
    }

    /// Shows the line being typed, and the cursor before this octet of it.
    pub fn draw(&mut self, prompt: &[Span], (line, cursor): (&str, usize)) -> Result<(), ClientError> {
        self.with_terminal(|terminal, colour| {
            let (columns, rows) = terminal::size();
            // Half of the screen is for the others.
            terminal.draw(Layout::new(prompt, line, cursor, columns, rows / 2, colour))
        })
    }

    /// Takes it off the screen.
    pub fn erase(&mut self) -> Result<(), ClientError> {
        self.with_terminal(|terminal, _| terminal.erase())
    }

    /// Makes the screen empty.
    pub fn clear(&mut self) -> Result<(), ClientError> {
        self.with_terminal(|terminal, _| terminal.clear())
    }

    /// Stops this job until the shell goes on with it.
    pub fn suspend(&mut self) -> Result<(), ClientError> {
        self.with_terminal(|terminal, _| terminal.suspend())
    }

    /// Takes the terminal again after somebody else may have had it.
    pub fn resume(&mut self) -> Result<(), ClientError> {
        self.with_terminal(|terminal, _| terminal.resume())
    }

    fn with_terminal(&self, act: impl FnOnce(&Terminal, bool) -> io::Result<()>) -> Result<(), ClientError> {
        self.terminal
            .as_ref()
            .map_or(Ok(()), |terminal| act(terminal, self.colour))
            .map_err(ClientError::output)
    }

    /// The person pressed Enter: the prompt's line is done.
    pub fn on_typed(&mut self) {
        self.prompt_shown = false;
    }

    /// Leaves the prompt's line, at the end.
    pub fn finish(&mut self) {
        self.terminal = None;
        // It takes nothing but a line end.
        let _ = self.leave_prompt(io::stderr().lock());
    }

    /// Writes octets to standard output as they are.
    pub fn copy(&mut self, mut from: impl io::Read) -> Result<(), ClientError> {
        let mut out = io::stdout().lock();
        io::copy(&mut from, &mut out).and_then(|_| out.flush()).map_err(ClientError::output)
    }

    /// Asks a person something and reads one line; `None` at the end of the input.
    pub fn ask(&mut self, question: &str) -> Result<Option<String>, ClientError> {
        self.ask_for_line(question);
        let mut answer = String::new();
        match io::stdin().read_line(&mut answer) {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some(answer.trim().to_owned())),
            Err(source) => Err(ClientError::System { what: "read the answer".into(), source }),
        }
    }

    /// Whoever writes below a prompt leaves it as it is: nothing but line ends goes to a plain terminal.
    fn leave_prompt(&mut self, mut out: impl Write) -> io::Result<()> {
        if std::mem::take(&mut self.prompt_shown) { writeln!(out) } else { Ok(()) }
    }

    fn write_report(&mut self, report: &Report) -> io::Result<()> {
        if self.terminal.is_none() && !self.colour {
            return self.write_line(&report.to_string());
        }
        let time = self.terminal.as_ref().map(|_| time());
        let lines = look::lines(report, &self.own_nick, time.as_deref());
        lines.iter().try_for_each(|line| self.write_spans(line))
    }

    fn write_spans(&mut self, spans: &[Span]) -> io::Result<()> {
        let columns = self.terminal.as_ref().map_or(ENDLESS, |_| terminal::size().0);
        let rows = wrap(spans, columns, terminal::INDENT, self.colour).join("\n");
        self.write_line(&rows)
    }

    fn ring(&mut self, report: &Report) -> io::Result<()> {
        let rung = self.rung_at.is_some_and(|at| at.elapsed() < RING_EVERY);
        match &self.terminal {
            Some(terminal) if !rung && !self.quiet && look::calls(report, &self.own_nick) => {
                self.rung_at = Some(Instant::now());
                terminal.ring()
            }
            _ => Ok(()),
        }
    }

    fn write_line(&mut self, line: &str) -> io::Result<()> {
        if let Some(terminal) = &self.terminal {
            return terminal.print(line);
        }
        let mut out = io::stdout().lock();
        self.leave_prompt(&mut out)?;
        writeln!(out, "{line}")
    }

    /// Standard error may be closed or full: there is nobody left to tell that.
    fn write_stderr(&mut self, line: &str) {
        let mut out = io::stderr().lock();
        let _ = self.leave_prompt(&mut out).and_then(|()| writeln!(out, "{line}"));
    }
}

/// The time of the day here.
fn time() -> String {
    Zoned::now().strftime("%H:%M").to_string()
}

/// Logs to standard error, each event on one line; at a terminal above the line being typed.
pub fn log_to_stderr(level: log::LevelFilter) {
    let at_terminal = io::stderr().is_terminal();
    let mut builder = env_logger::Builder::new();
    builder.filter_module("packetboat", level).parse_default_env().format(move |out, record| {
        let words = sanitise(&record.args().to_string());
        match record.level() {
            // People look at it, and know what day it is.
            log::Level::Error | log::Level::Warn if at_terminal => writeln!(out, "{} ! {words}", time()),
            level => writeln!(out, "[{} {level:<5} {}] {words}", out.timestamp(), record.target()),
        }
    });
    if at_terminal {
        builder.target(env_logger::Target::Pipe(Box::new(LogLines)));
    }
    builder.init();
}

/// Where whole lines of the log go that share the terminal with the line being typed.
struct LogLines;

impl Write for LogLines {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(lines);
        if !terminal::print_above(text.trim_end()) {
            io::stderr().lock().write_all(lines)?;
        }
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
