//! A person at a terminal: keys become lines, Tab completes, and a paste is one question.

use std::collections::BTreeSet;

use signal_hook::consts::SIGINT;

use super::{Console, Leaving};
use crate::chat::command;
use crate::client::error::ClientError;
use crate::client::event::{AHEAD_MAX, Pasted};
use crate::client::listing::{FileList, Roll};
use crate::client::look;
use crate::client::report::Report;
use crate::client::terminal::Input;
use crate::client::terminal::complete::{Completed, Known, complete};
use crate::client::terminal::editor::{Editor, Outcome};
use crate::client::terminal::history::History;
use crate::client::terminal::keys::Key;
use crate::client::terminal::rows::{Span, Style};
use crate::client::tokens::state_folder;
use crate::client::typed::Typed;
use crate::wire::message::ClientMessage;
use crate::wire::name::Nick;
use crate::wire::text::{pieces, sanitise};

/// So many lines of a paste are shown with the question about it. Ours: enough to know it again.
const PREVIEW_LINES_MAX: usize = 3;

/// So much of each. Ours: a row or two.
const PREVIEW_CHARS_MAX: usize = 60;

/// More choices are only counted. Ours: a screenful.
const CHOICES_MAX: usize = 100;

/// More members are only counted when we come in. Ours: two rows or three.
const NAMED_MAX: usize = 20;

/// What belongs to the line being typed.
#[derive(Debug, Default)]
pub(super) struct Typing {
    editor: Editor,
    /// Lines that were pasted, while the person is asked about them.
    pasted: Vec<String>,
    /// The key before was ^C.
    interrupted: bool,
    /// Who is here.
    members: BTreeSet<String>,
    /// What is on the shelf, once that is known.
    files: Option<BTreeSet<String>>,
    /// This line waits for the names of the shelf.
    completing: Option<String>,
    /// The list of members that is on its way is for us.
    quiet_roll: bool,
    /// So is the list of files.
    quiet_list: bool,
}

impl Typing {
    pub(super) fn new() -> Typing {
        let history = History::load(state_folder().map(|folder| folder.join("history")));
        Typing { editor: Editor::new(history), ..Typing::default() }
    }

    /// Somebody comes, goes, or puts a file on the shelf.
    pub(super) fn on_report(&mut self, report: &Report) {
        match report {
            Report::Join { nick } => _ = self.members.insert(nick.clone()),
            Report::Leave { nick } => _ = self.members.remove(nick),
            Report::Nick { old, new } => {
                self.members.remove(old);
                self.members.insert(new.clone());
            }
            Report::Shared { name, .. } => {
                self.files.iter_mut().for_each(|files| _ = files.insert(name.clone()));
            }
            _ => {}
        }
    }

    /// The person asks for the list that is on its way for us.
    pub(super) fn show_roll(&mut self) {
        self.quiet_roll = false;
    }

    /// The same of the files.
    pub(super) fn show_list(&mut self) {
        self.quiet_list = false;
    }
}

impl Console<'_> {
    /// Who is here is worth knowing from the begin, for a person and for Tab.
    pub(super) fn ask_who_is_here(&mut self) {
        let Some(typing) = &mut self.typing else { return };
        if self.roll.is_none() {
            typing.quiet_roll = true;
            self.roll = Some(Roll::default());
            self.events.session.say(ClientMessage::Who);
        }
    }

    /// All members are known; tells whether the person has been told enough.
    pub(super) fn on_members(&mut self, nicks: &[String]) -> Result<bool, ClientError> {
        let Some(typing) = &mut self.typing else { return Ok(false) };
        let was_known = !std::mem::replace(&mut typing.members, nicks.iter().cloned().collect()).is_empty();
        if !std::mem::take(&mut typing.quiet_roll) {
            return Ok(false);
        }
        if nicks.len() > NAMED_MAX {
            self.notice(&format!("{} are here; /who names them", nicks.len()))?;
        }
        Ok(was_known || nicks.len() > NAMED_MAX)
    }

    /// The shelf is known; tells whether the person did not ask for it.
    pub(super) fn on_shelf(&mut self, names: impl Iterator<Item = String>) -> Result<bool, ClientError> {
        let Some(typing) = &mut self.typing else { return Ok(false) };
        typing.files = Some(names.collect());
        let is_quiet = std::mem::take(&mut typing.quiet_list);
        let waiting = typing.completing.take();
        if waiting.is_some_and(|line| line == typing.editor.line().0) {
            self.complete()?;
        }
        Ok(is_quiet)
    }

    pub(super) fn on_input(&mut self, input: Input) -> Result<(), ClientError> {
        match input {
            Input::Keys(keys) => keys.into_iter().try_for_each(|key| self.on_key(key))?,
            Input::Resized => self.screen.erase()?,
            Input::Continued => self.screen.resume()?,
            Input::End => self.leaving = Leaving::WhenIdle,
        }
        if self.leaving == Leaving::No { self.draw() } else { self.screen.erase() }
    }

    fn on_key(&mut self, key: Key) -> Result<(), ClientError> {
        let Some(typing) = &mut self.typing else { return Ok(()) };
        let was_interrupted = std::mem::take(&mut typing.interrupted);
        if self.leaving != Leaving::No {
            return if key == Key::Ctrl('c') { Err(ClientError::Signal(SIGINT)) } else { Ok(()) };
        }
        if !typing.pasted.is_empty() {
            return self.on_paste_answer(&key);
        }
        if key == Key::Ctrl('c') && !self.events.pasted.is_empty() {
            return self.tell_unsaid_paste();
        }
        match typing.editor.handle(key) {
            Outcome::Edited => Ok(()),
            Outcome::Line(line) => self.on_entered(line),
            Outcome::Complete => self.complete(),
            Outcome::Paste(text) => self.on_paste(&text),
            Outcome::Interrupt if was_interrupted => Err(ClientError::Signal(SIGINT)),
            Outcome::Interrupt => {
                typing.interrupted = true;
                self.hint("* ^C once more leaves; so do /quit and ^D")
            }
            // A server that may never come back is not waited for; what is unsaid is told.
            Outcome::End if !self.events.is_connected() && self.transfers.is_idle() => self.quit(),
            Outcome::End => {
                self.leaving = Leaving::WhenIdle;
                if self.transfers.is_idle() {
                    Ok(())
                } else {
                    self.hint("* leaving when all files are there; ^C leaves now")
                }
            }
            Outcome::Suspend => self.screen.suspend(),
            Outcome::Clear => self.screen.clear(),
            Outcome::TooLong => self.complain_of_length(),
        }
    }

    fn complain_of_length(&mut self) -> Result<(), ClientError> {
        self.screen.complain(
            "command",
            "too long for one line, not taken; say it in shorter pieces, or /put it as a file",
        )
    }

    fn hint(&mut self, text: &str) -> Result<(), ClientError> {
        self.screen.write_own(&[Span::new(Style::DIM, text)])
    }

    fn on_entered(&mut self, line: String) -> Result<(), ClientError> {
        if line.trim().is_empty() {
            return Ok(());
        }
        let (prompt, is_private) = (self.own_prompt(), self.is_private(&line));
        self.screen.write_typed(&prompt, &line)?;
        if let Some(typing) = &mut self.typing {
            typing.editor.remember(&line, is_private);
        }
        self.on_typed(Typed::Line(line))
    }

    /// Whether a line is for one person alone; one that is mistyped might have been.
    fn is_private(&self, line: &str) -> bool {
        let word = line.split(' ').next().unwrap_or_default().to_ascii_lowercase();
        match word.strip_prefix('/') {
            Some(rest) if !rest.starts_with('/') => {
                matches!(rest, "msg" | "r") || !command::names().any(|name| name == word)
            }
            _ => self.partner.is_some(),
        }
    }

    fn own_prompt(&self) -> Vec<Span> {
        let partner = self.partner.as_ref().map(|partner| partner.as_str());
        look::prompt(self.events.session.nick.as_str(), partner, !self.events.is_connected())
    }

    /// Shows the line being typed, or the question.
    pub(super) fn draw(&mut self) -> Result<(), ClientError> {
        let Some(typing) = &self.typing else { return Ok(()) };
        let (mut line, mut prompt) = (typing.editor.line(), self.own_prompt());
        if !typing.pasted.is_empty() {
            let whom = self.partner.as_ref().map_or("everyone", |partner| partner.as_str());
            let question = format!("say {} lines to {whom}? [y/n/j] ", typing.pasted.len());
            (line, prompt) = (("", 0), vec![Span::new(Style::CALL, question)]);
        } else if let Some((text, found)) = typing.editor.search() {
            let what = if found { "search" } else { "not found" };
            prompt = vec![Span::new(Style::DIM, format!("({what}: "))];
            prompt.push(Span::new(Style::BOLD, sanitise(text)));
            prompt.push(Span::new(Style::DIM, ") "));
        }
        self.screen.draw(&prompt, line)
    }

    fn on_paste(&mut self, text: &str) -> Result<(), ClientError> {
        let Some(typing) = &mut self.typing else { return Ok(()) };
        let lines = text.lines().map(|line| line.trim_end().replace('\t', "    "));
        let mut lines: Vec<String> = lines.filter(|line| !line.trim().is_empty()).collect();
        if lines.len() < 2 {
            return match typing.editor.insert(&lines.pop().unwrap_or_default()) {
                Outcome::TooLong => self.complain_of_length(),
                _ => Ok(()),
            };
        }
        if self.never_asks {
            typing.pasted = lines;
            return self.on_paste_answer(&Key::Char('y'));
        }
        let count = lines.len();
        let shown = if count == PREVIEW_LINES_MAX + 1 { count } else { count.min(PREVIEW_LINES_MAX) };
        let mut preview: Vec<String> = lines[..shown].iter().map(|line| cut(line)).collect();
        if count > shown {
            preview.push(format!("... {} more", count - shown));
        }
        typing.pasted = lines;
        let words = "y says each as a message, j makes one line of them, n forgets them";
        self.screen.write_own(&[Span::new(Style::CALL, format!("? {count} lines were pasted: {words}"))])?;
        preview.iter().try_for_each(|line| self.hint(&format!("  | {}", sanitise(line))))
    }

    fn on_paste_answer(&mut self, key: &Key) -> Result<(), ClientError> {
        let Some(typing) = &mut self.typing else { return Ok(()) };
        match key {
            Key::Char('y' | 'Y') => {
                let lines = std::mem::take(&mut typing.pasted);
                let is_long = lines.len() > AHEAD_MAX;
                // Whom it is for was in the question; who is talked to later is somebody else.
                let to = self.partner.as_ref();
                self.events.pasted.extend(lines.into_iter().map(|text| Pasted { to: to.cloned(), text }));
                if is_long {
                    self.hint("* as fast as the server takes them; ^C stops the rest")
                } else {
                    Ok(())
                }
            }
            Key::Char('j' | 'J') => {
                if typing.editor.insert(&typing.pasted.join(" ")) == Outcome::TooLong {
                    return self.complain_of_length();
                }
                typing.pasted.clear();
                Ok(())
            }
            Key::Char('n' | 'N') | Key::Enter | Key::Escape | Key::Ctrl('c' | 'd' | 'g') => {
                typing.pasted.clear();
                self.hint("* forgotten; nothing was said")
            }
            _ => Ok(()),
        }
    }

    /// Says a line of a paste. Never a command: nobody looks at every line of one.
    pub(super) fn on_pasted(&mut self, Pasted { to, text }: Pasted) -> Result<(), ClientError> {
        let prompt = look::prompt(self.events.session.nick.as_str(), to.as_ref().map(Nick::as_str), false);
        self.screen.write_typed(&prompt, &text)?;
        match to {
            Some(to) => self.whisper(&to, &text, false),
            None => {
                let pieces = pieces(&text).into_iter();
                pieces.for_each(|piece| self.events.session.say(ClientMessage::All(piece.into())));
                Ok(())
            }
        }
    }

    fn complete(&mut self) -> Result<(), ClientError> {
        let Some(typing) = &mut self.typing else { return Ok(()) };
        let own = self.events.session.nick.as_str();
        let nicks: Vec<String> = typing.members.iter().filter(|nick| *nick != own).cloned().collect();
        let files: Option<Vec<String>> = typing.files.as_ref().map(|files| files.iter().cloned().collect());
        match complete(&mut typing.editor, Known { nicks: &nicks, files: files.as_deref() }) {
            Completed::Done => Ok(()),
            Completed::Choices(mut words) => {
                let more = words.len().saturating_sub(CHOICES_MAX);
                words.truncate(CHOICES_MAX);
                if more > 0 {
                    words.push(format!("... and {more} more"));
                }
                self.screen.write_own(&look::choices(&words))
            }
            Completed::FilesWanted => {
                typing.completing = Some(typing.editor.line().0.to_owned());
                if self.file_list.is_none() {
                    typing.quiet_list = true;
                    self.file_list = Some(FileList::default());
                    self.events.session.say(ClientMessage::Files(None));
                }
                Ok(())
            }
        }
    }
}

fn cut(line: &str) -> String {
    match line.char_indices().nth(PREVIEW_CHARS_MAX) {
        Some((at, _)) => format!("{}...", &line[..at]),
        None => line.to_owned(),
    }
}
