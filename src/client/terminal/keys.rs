//! What a terminal sends, as keys: octets in, in any pieces, [`Key`]s out. Nothing is read here.

use std::time::Duration;

/// After Escape, what belongs to the same key follows within this. Ours: a slow line carries it, and nobody sees it.
pub const ESCAPE_WAIT: Duration = Duration::from_millis(50);

/// More of a paste follows within this, or its end is lost. Ours: no line stalls so long often, and a person waits so long.
const PASTE_WAIT: Duration = Duration::from_secs(1);

/// The longest escape sequence that is looked at. Ours: those of real keys have less than ten octets.
const SEQUENCE_LEN_MAX: usize = 32;

/// The longest paste. Ours: hundreds of messages; whoever pastes more did not mean to talk.
pub const PASTE_LEN_MAX: usize = 1024 * 1024;

/// How a terminal begins and ends a paste, where it was asked to tell (xterm, "bracketed paste mode").
const PASTE_BEGIN: &[u8] = b"\x1b[200~";
const PASTE_END: &[u8] = b"\x1b[201~";

/// One key, or one paste.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// A character to be typed.
    Char(char),
    /// A letter with Ctrl, in lower case.
    Ctrl(char),
    /// A character with Alt, or behind Escape.
    Alt(char),
    /// Return.
    Enter,
    /// Tab.
    Tab,
    /// The key that deletes to the left.
    Backspace,
    /// The same with Alt: a word.
    AltBackspace,
    /// The key that deletes what is under the cursor.
    Delete,
    /// One place to the left.
    Left,
    /// One place to the right.
    Right,
    /// One line up.
    Up,
    /// One line down.
    Down,
    /// To the begin of the line.
    Home,
    /// To its end.
    End,
    /// One word to the left.
    WordLeft,
    /// One word to the right.
    WordRight,
    /// Escape alone.
    Escape,
    /// A text that was pasted, as one piece; its lines end with LF.
    Paste(String),
}

/// Octets on their way to keys.
#[derive(Debug, Default)]
pub struct Keys {
    pending: Vec<u8>,
    /// What has come of a paste.
    paste: Option<Vec<u8>>,
}

/// What stands at the begin of some octets: so many of them, and their key if they have one.
enum Step {
    /// The rest is still to come.
    Incomplete,
    Took(usize, Option<Key>),
    /// A paste begins behind so many octets.
    Paste(usize),
}

impl Keys {
    /// Takes what was read, and gives the keys that are complete.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Key> {
        self.pending.extend_from_slice(bytes);
        let mut keys = Vec::new();
        loop {
            if self.paste.is_some() {
                match self.take_paste() {
                    Some(key) => keys.push(key),
                    None => return keys,
                }
            }
            match step(&self.pending) {
                Step::Incomplete => return keys,
                Step::Took(len, key) => {
                    self.pending.drain(..len);
                    keys.extend(key);
                }
                Step::Paste(len) => {
                    self.pending.drain(..len);
                    self.paste = Some(Vec::new());
                }
            }
        }
    }

    /// How long to wait for more, where what has come has no end yet; then [`give_up`](Self::give_up).
    pub fn waits(&self) -> Option<Duration> {
        if self.paste.is_some() {
            return Some(PASTE_WAIT);
        }
        (self.pending.first() == Some(&0x1b)).then_some(ESCAPE_WAIT)
    }

    /// Nothing more has come for a while: what looked like the begin of a sequence was a key, and a paste whose end was
    /// lost is what has come of it.
    pub fn give_up(&mut self) -> Option<Key> {
        if let Some(mut paste) = self.paste.take() {
            paste.append(&mut self.pending);
            let cut = (1..PASTE_END.len()).rev().find(|&len| paste.ends_with(&PASTE_END[..len]));
            paste.truncate(paste.len() - cut.unwrap_or(0));
            return Some(pasted(&paste));
        }
        let was_escape = self.pending == [0x1b];
        self.pending.clear();
        was_escape.then_some(Key::Escape)
    }

    /// The paste, when its end has come.
    fn take_paste(&mut self) -> Option<Key> {
        let paste = self.paste.as_mut()?;
        let end = self.pending.windows(PASTE_END.len()).position(|window| window == PASTE_END);
        // The end may be cut in the middle.
        let len = end.unwrap_or(self.pending.len().saturating_sub(PASTE_END.len() - 1));
        let room = PASTE_LEN_MAX.saturating_sub(paste.len());
        paste.extend(self.pending.drain(..len).take(room));
        end?;
        self.pending.drain(..PASTE_END.len());
        Some(pasted(&self.paste.take()?))
    }
}

fn pasted(octets: &[u8]) -> Key {
    let text = String::from_utf8_lossy(octets).replace("\r\n", "\n").replace('\r', "\n");
    Key::Paste(text.chars().filter(|&c| c == '\n' || c == '\t' || !c.is_control()).collect())
}

/// The text of keys that came at once, if nobody types so: several lines, and nothing but text. A terminal that does not
/// mark a paste sends it so.
pub fn unmarked_paste(keys: &[Key]) -> Option<String> {
    let text: Option<String> = keys
        .iter()
        .map(|key| match key {
            Key::Char(c) => Some(*c),
            Key::Enter => Some('\n'),
            Key::Tab => Some('\t'),
            _ => None,
        })
        .collect();
    // Text stands behind the first Enter that ends one, and there is another Enter.
    text.filter(|text| {
        text.split('\n').filter(|line| !line.is_empty()).count() > 1 && text.matches('\n').count() > 1
    })
}

fn step(input: &[u8]) -> Step {
    let Some(&first) = input.first() else { return Step::Incomplete };
    match first {
        b'\r' | b'\n' => Step::Took(1, Some(Key::Enter)),
        b'\t' => Step::Took(1, Some(Key::Tab)),
        0x7f | 0x08 => Step::Took(1, Some(Key::Backspace)),
        0x1b => step_escape(input),
        0 => Step::Took(1, None),
        1..=26 => Step::Took(1, Some(Key::Ctrl(char::from(first - 1 + b'a')))),
        28..=31 => Step::Took(1, None),
        _ => step_char(input),
    }
}

fn step_char(input: &[u8]) -> Step {
    let len = match input[0] {
        0..0x80 => 1,
        0xc0..0xe0 => 2,
        0xe0..0xf0 => 3,
        0xf0..0xf8 => 4,
        _ => return Step::Took(1, None),
    };
    let Some(bytes) = input.get(..len) else { return Step::Incomplete };
    match std::str::from_utf8(bytes).ok().and_then(|text| text.chars().next()) {
        Some(c) if !c.is_control() => Step::Took(len, Some(Key::Char(c))),
        Some(_) => Step::Took(len, None),
        // Not UTF-8: go on behind the octet that broke it.
        None => Step::Took(1, None),
    }
}

fn step_escape(input: &[u8]) -> Step {
    match input.get(1) {
        None => Step::Incomplete,
        Some(b'[') => step_csi(input),
        // SS3, which some terminals send for the arrows and Home and End.
        Some(b'O') => match input.get(2) {
            None => Step::Incomplete,
            Some(&last) => Step::Took(3, arrow(last, false)),
        },
        Some(0x7f | 0x08) => Step::Took(2, Some(Key::AltBackspace)),
        Some(0x1b) => Step::Took(1, Some(Key::Escape)),
        Some(_) => match step_char(&input[1..]) {
            Step::Took(len, Some(Key::Char(c))) => Step::Took(len + 1, Some(Key::Alt(c))),
            Step::Took(len, _) => Step::Took(len + 1, None),
            other => other,
        },
    }
}

/// `ESC [ parameters final` (ECMA-48, 5.4).
fn step_csi(input: &[u8]) -> Step {
    if input.starts_with(PASTE_BEGIN) {
        return Step::Paste(PASTE_BEGIN.len());
    }
    let Some(at) = input[2..].iter().position(|byte| !(0x20..0x40).contains(byte)) else {
        // Without an end it is no key of any terminal.
        return if input.len() < SEQUENCE_LEN_MAX { Step::Incomplete } else { Step::Took(input.len(), None) };
    };
    let (parameters, last) = (&input[2..2 + at], input[2 + at]);
    // `1;5C` is an arrow with Ctrl, `1;3C` one with Alt.
    let with_modifier = parameters.contains(&b';');
    let key = match (last, parameters.split(|&byte| byte == b';').next().unwrap_or_default()) {
        (b'~', b"1" | b"7") => Some(Key::Home),
        (b'~', b"4" | b"8") => Some(Key::End),
        (b'~', b"3") => Some(Key::Delete),
        _ => arrow(last, with_modifier),
    };
    Step::Took(at + 3, key)
}

fn arrow(last: u8, with_modifier: bool) -> Option<Key> {
    Some(match (last, with_modifier) {
        (b'A', _) => Key::Up,
        (b'B', _) => Key::Down,
        (b'C', false) => Key::Right,
        (b'C', true) => Key::WordRight,
        (b'D', false) => Key::Left,
        (b'D', true) => Key::WordLeft,
        (b'H', _) => Key::Home,
        (b'F', _) => Key::End,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The keys of some octets that come in pieces of this length.
    fn keys(input: &[u8], piece_len: usize) -> Vec<Key> {
        let mut keys = Keys::default();
        input.chunks(piece_len).flat_map(|piece| keys.feed(piece)).collect()
    }

    #[test]
    fn keys_are_known_however_their_octets_are_cut() {
        let input = "aé漢\x1b[A\x1bOD\x1b[1;5C\x1b[3~\x1b[H\x1bf\x1b\x7f\x03\r\t\x7f\u{1f600}";
        let expected = [
            Key::Char('a'),
            Key::Char('é'),
            Key::Char('漢'),
            Key::Up,
            Key::Left,
            Key::WordRight,
            Key::Delete,
            Key::Home,
            Key::Alt('f'),
            Key::AltBackspace,
            Key::Ctrl('c'),
            Key::Enter,
            Key::Tab,
            Key::Backspace,
            Key::Char('\u{1f600}'),
        ];
        for piece_len in 1..=input.len() {
            assert_eq!(keys(input.as_bytes(), piece_len), expected, "pieces of {piece_len}");
        }
    }

    #[test]
    fn a_paste_is_one_key_and_holds_no_escape() {
        let input = b"x\x1b[200~one\r\ntwo\rthree\x1b[31m\x07\x1b[201~y";
        let paste = Key::Paste("one\ntwo\nthree[31m".into());
        for piece_len in 1..=input.len() {
            assert_eq!(
                keys(input, piece_len),
                [Key::Char('x'), paste.clone(), Key::Char('y')],
                "{piece_len}"
            );
        }
    }

    #[test]
    fn several_lines_at_once_are_a_paste() {
        let text = |input: &[u8]| unmarked_paste(&keys(input, 1000));
        assert_eq!(text(b"one\rtwo\r").as_deref(), Some("one\ntwo\n"));
        assert_eq!(text(b"one\r\ttwo\rthree").as_deref(), Some("one\n\ttwo\nthree"));
        assert_eq!(text(b"one\r\n\r\ntwo\r\n").as_deref(), Some("one\n\n\n\ntwo\n\n"));
        // Somebody types fast, leans on Enter, or a key is no text.
        for input in [&b"one\r"[..], b"one\rtw", b"\r\r\r", b"one\r\r", b"one\rtwo\x7f\r"] {
            assert_eq!(text(input), None, "{input:?}");
        }
    }

    #[test]
    fn escape_alone_is_a_key_after_a_while() {
        let mut keys = Keys::default();
        assert_eq!(keys.feed(b"\x1b"), []);
        assert!(keys.waits().is_some());
        assert_eq!(keys.give_up(), Some(Key::Escape));
        assert_eq!(keys.waits(), None);
        assert_eq!(keys.feed(b"[A"), [Key::Char('['), Key::Char('A')]);
    }

    #[test]
    fn a_paste_without_its_end_is_given_after_a_while() {
        let mut keys = Keys::default();
        assert_eq!(keys.feed(b"\x1b[200~one\rtwo\x1b[20"), []);
        assert!(keys.waits().is_some());
        assert_eq!(keys.give_up(), Some(Key::Paste("one\ntwo".into())));
        assert_eq!(keys.waits(), None);
        // Its end comes late.
        assert_eq!(keys.feed(b"\x1b[201~x"), [Key::Char('x')]);
    }

    proptest! {
        #[test]
        fn no_octets_become_a_control_character(input in any::<Vec<u8>>(), piece_len in 1_usize..9) {
            for key in keys(&input, piece_len) {
                if let Key::Char(c) = key {
                    prop_assert!(!c.is_control());
                }
            }
        }
    }
}
