//! The line being typed: keys in, a line out. Pure: it neither reads nor shows anything.

use unicode_segmentation::{GraphemeCursor, UnicodeSegmentation};

use super::history::History;
use super::keys::Key;

/// The longest line. Ours: dozens of messages.
const LINE_LEN_MAX: usize = 64 * 1024;

/// What a key has led to, beyond another look of the line.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing else.
    Edited,
    /// Enter: this line is done.
    Line(String),
    /// Tab: what stands before the cursor is to be completed.
    Complete,
    /// Lines were pasted.
    Paste(String),
    /// ^C; the line has been cleared.
    Interrupt,
    /// ^D on an empty line.
    End,
    /// ^Z.
    Suspend,
    /// ^L: the screen shall be clear.
    Clear,
    /// The line would be too long; it is as before.
    TooLong,
}

/// The line, the place in it, and the lines before it.
#[derive(Debug, Default)]
pub struct Editor {
    line: String,
    /// Where the next character goes, in octets.
    cursor: usize,
    history: History,
    /// Which line of the history is shown, and what was typed before.
    browsing: Option<(usize, String)>,
    search: Option<Search>,
    /// What was cut last.
    cut: String,
}

/// A search through the history, back from its end.
#[derive(Debug)]
struct Search {
    text: String,
    /// The line found last.
    at: Option<usize>,
    /// What was typed before.
    before: String,
}

impl Editor {
    /// An empty line, after those.
    pub fn new(history: History) -> Editor {
        Editor { history, ..Editor::default() }
    }

    /// The line, and where the cursor stands in it, in octets.
    pub fn line(&self) -> (&str, usize) {
        (&self.line, self.cursor)
    }

    /// What is being searched, and whether it was found.
    pub fn search(&self) -> Option<(&str, bool)> {
        self.search
            .as_ref()
            .map(|search| (search.text.as_str(), search.at.is_some() || search.text.is_empty()))
    }

    /// Remembers a line that was typed.
    pub fn remember(&mut self, line: &str, is_private: bool) {
        self.history.push(line, is_private);
    }

    /// Puts `text` in place of the octets from `from` to the cursor. What makes the line too long is not taken.
    pub fn replace(&mut self, from: usize, text: &str) -> Outcome {
        if self.line.len() + text.len() > LINE_LEN_MAX {
            return Outcome::TooLong;
        }
        self.line.replace_range(from..self.cursor, text);
        self.cursor = from + text.len();
        Outcome::Edited
    }

    /// Types this at the cursor, if the line does not become too long.
    pub fn insert(&mut self, text: &str) -> Outcome {
        self.replace(self.cursor, text)
    }

    /// Takes one key.
    pub fn handle(&mut self, key: Key) -> Outcome {
        if self.search.is_some() {
            match self.handle_search(key) {
                Ok(outcome) => return outcome,
                Err(key) => return self.handle(key),
            }
        }
        match key {
            Key::Char(c) => return self.insert(c.encode_utf8(&mut [0; 4])),
            Key::Paste(text) => return self.paste(&text),
            Key::Enter => {
                self.browsing = None;
                self.cursor = 0;
                return Outcome::Line(std::mem::take(&mut self.line));
            }
            Key::Tab => return Outcome::Complete,
            Key::Ctrl('c') => {
                self.set("");
                self.browsing = None;
                return Outcome::Interrupt;
            }
            Key::Ctrl('d') if self.line.is_empty() => return Outcome::End,
            Key::Ctrl('z') => return Outcome::Suspend,
            Key::Ctrl('l') => return Outcome::Clear,
            Key::Ctrl('r') => {
                let before = self.line.clone();
                self.search = Some(Search { text: String::new(), at: None, before });
            }
            Key::Left | Key::Ctrl('b') => self.cursor = self.left(),
            Key::Right | Key::Ctrl('f') => self.cursor = self.right(),
            Key::Home | Key::Ctrl('a') => self.cursor = 0,
            Key::End | Key::Ctrl('e') => self.cursor = self.line.len(),
            Key::WordLeft | Key::Alt('b') => self.cursor = self.word_left(),
            Key::WordRight | Key::Alt('f') => self.cursor = self.word_right(),
            Key::Up | Key::Ctrl('p') => self.older(),
            Key::Down | Key::Ctrl('n') => self.newer(),
            Key::Backspace => drop(self.remove(self.left(), self.cursor)),
            Key::Delete | Key::Ctrl('d') => drop(self.remove(self.cursor, self.right())),
            Key::AltBackspace => self.cut(self.word_left(), self.cursor),
            Key::Ctrl('w') => self.cut(self.blank_left(), self.cursor),
            Key::Alt('d') => self.cut(self.cursor, self.word_right()),
            Key::Ctrl('k') => self.cut(self.cursor, self.line.len()),
            Key::Ctrl('u') => self.cut(0, self.cursor),
            Key::Ctrl('y') => {
                let text = self.cut.clone();
                return self.insert(&text);
            }
            Key::Escape | Key::Ctrl(_) | Key::Alt(_) => {}
        }
        Outcome::Edited
    }

    /// One line is typed like any other; more are for the caller to ask about.
    fn paste(&mut self, text: &str) -> Outcome {
        let text = text.trim_end_matches('\n');
        if text.contains('\n') {
            return Outcome::Paste(text.to_owned());
        }
        self.insert(&text.replace('\t', " "))
    }

    /// A key while the history is searched; gives back one that ends the search and means something else.
    fn handle_search(&mut self, key: Key) -> Result<Outcome, Key> {
        let Some(search) = &mut self.search else { return Err(key) };
        match key {
            Key::Char(c) => {
                search.text.push(c);
                self.find(false);
            }
            Key::Backspace => {
                search.text.pop();
                search.at = None;
                self.find(false);
            }
            Key::Ctrl('r') => self.find(true),
            Key::Ctrl('c' | 'g') | Key::Escape => {
                let before = std::mem::take(&mut search.before);
                self.search = None;
                self.set(&before);
            }
            other => {
                self.search = None;
                return Err(other);
            }
        }
        Ok(Outcome::Edited)
    }

    /// Finds the next older line with the text searched; the same line again unless it must be another one.
    fn find(&mut self, other: bool) {
        let Some(search) = &mut self.search else { return };
        if search.text.is_empty() {
            return;
        }
        let lines = self.history.lines();
        let end = search.at.map_or(lines.len(), |at| if other { at } else { at + 1 });
        let text = search.text.to_lowercase();
        let found = lines[..end].iter().rposition(|line| line.to_lowercase().contains(&text));
        match found {
            Some(at) => {
                search.at = Some(at);
                let line = lines[at].clone();
                self.set(&line);
            }
            // The line found last stays; what nothing is found for is marked.
            None if !other => search.at = None,
            None => {}
        }
    }

    fn older(&mut self) {
        let (at, typed) = match self.browsing.take() {
            Some((at, typed)) => (at, typed),
            None => (self.history.lines().len(), self.line.clone()),
        };
        let at = at.saturating_sub(1);
        if let Some(line) = self.history.lines().get(at).cloned() {
            self.set(&line);
            self.browsing = Some((at, typed));
        }
    }

    fn newer(&mut self) {
        let Some((at, typed)) = self.browsing.take() else { return };
        match self.history.lines().get(at + 1).cloned() {
            Some(line) => {
                self.set(&line);
                self.browsing = Some((at + 1, typed));
            }
            None => self.set(&typed),
        }
    }

    fn set(&mut self, line: &str) {
        self.line = line.to_owned();
        self.cursor = self.line.len();
    }

    fn remove(&mut self, from: usize, to: usize) -> String {
        self.cursor = from;
        self.line.drain(from..to).collect()
    }

    fn cut(&mut self, from: usize, to: usize) {
        if from < to {
            self.cut = self.remove(from, to);
        }
    }

    /// Where the grapheme before the cursor begins.
    fn left(&self) -> usize {
        let mut graphemes = GraphemeCursor::new(self.cursor, self.line.len(), true);
        graphemes.prev_boundary(&self.line, 0).ok().flatten().unwrap_or(0)
    }

    /// Where the grapheme under the cursor ends.
    fn right(&self) -> usize {
        let mut graphemes = GraphemeCursor::new(self.cursor, self.line.len(), true);
        graphemes.next_boundary(&self.line, 0).ok().flatten().unwrap_or(self.line.len())
    }

    /// Where the word before the cursor begins.
    fn word_left(&self) -> usize {
        self.line[..self.cursor].unicode_word_indices().next_back().map_or(0, |(at, _)| at)
    }

    /// Where the next word ends.
    fn word_right(&self) -> usize {
        let rest = &self.line[self.cursor..];
        let word = rest.unicode_word_indices().next();
        word.map_or(self.line.len(), |(at, word)| self.cursor + at + word.len())
    }

    /// Where what stands before the cursor begins, up to a blank.
    fn blank_left(&self) -> usize {
        let before = self.line[..self.cursor].trim_end();
        before
            .rfind(char::is_whitespace)
            .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8))
    }
}

#[cfg(test)]
mod tests;
