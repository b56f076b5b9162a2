//! The screen: the one place that writes to standard output and standard error.

use std::io::{self, Write};

use super::error::ClientError;
use super::report::Report;

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
    /// The cursor stands behind a prompt.
    pub(super) prompt_shown: bool,
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
        self.write_line(&report.to_string()).map_err(ClientError::output)
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
        self.write_stderr(&report.to_string());
        if self.json { self.write_line(&report.to_json()).map_err(ClientError::output) } else { Ok(()) }
    }

    /// Lines for a person alone, such as help.
    pub fn tell(&mut self, lines: impl IntoIterator<Item = String>) -> Result<(), ClientError> {
        if self.json {
            return Ok(());
        }
        lines.into_iter().try_for_each(|line| self.write_line(&line)).map_err(ClientError::output)
    }

    /// Shows the prompt where it is not shown yet.
    pub fn prompt(&mut self, prompt: &str) -> Result<(), ClientError> {
        if !self.interactive || std::mem::replace(&mut self.prompt_shown, true) {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        write!(out, "{prompt}").and_then(|()| out.flush()).map_err(ClientError::output)
    }

    /// The person pressed Enter: the prompt's line is done.
    pub fn on_typed(&mut self) {
        self.prompt_shown = false;
    }

    /// Leaves the prompt's line, at the end.
    pub fn finish(&mut self) {
        if std::mem::take(&mut self.prompt_shown) {
            self.write_stderr("");
        }
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

    fn erase_prompt(&mut self, mut out: impl Write) -> io::Result<()> {
        if std::mem::take(&mut self.prompt_shown) { write!(out, "\r\x1b[K") } else { Ok(()) }
    }

    fn write_line(&mut self, line: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        self.erase_prompt(&mut out)?;
        writeln!(out, "{line}")
    }

    /// Standard error may be closed or full: there is nobody left to tell that.
    fn write_stderr(&mut self, line: &str) {
        let mut out = io::stderr().lock();
        let _ = self.erase_prompt(&mut out).and_then(|()| writeln!(out, "{line}"));
    }
}
