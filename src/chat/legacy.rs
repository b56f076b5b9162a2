//! The code words of older chat rooms, as the commands of today.
//!
//! People know them from the Python projects of which this room is an heir: `set_msg_all`, `get_users`, `download NAME` and
//! so on. They count exactly as they are spelled here (`Disconnect` is said); each is told its modern form once.

use std::borrow::Cow;

/// The words, and what is typed today; with what stands behind a word that takes something.
const WORDS: [(&str, &str); 7] = [
    ("set_msg_all", "/all"),
    ("get_users", "/who"),
    ("get_list_file", "/files"),
    ("disconnect", "/quit"),
    ("set_msg", "/query"),
    ("download_file", "/get"),
    ("download", "/get"),
];

/// Which lines are commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obeyed {
    /// Those that begin with `/`, and the older words.
    Both,
    /// Those that begin with `/`.
    Commands,
    /// None: every line is said as it is, a log's for example.
    Nothing,
}

/// Reads the older words, and knows which of them have been told their modern form in this session.
#[derive(Debug, Clone)]
pub struct LegacyWords {
    obeyed: Obeyed,
    told: [bool; WORDS.len()],
}

impl LegacyWords {
    /// A new session's.
    pub fn new(obeyed: Obeyed) -> LegacyWords {
        LegacyWords { obeyed, told: [false; WORDS.len()] }
    }

    /// The line as it is typed today, and what to tell about it where its word has not been told yet.
    pub fn translate<'a>(&mut self, line: &'a str) -> (Cow<'a, str>, Option<String>) {
        let word = match self.obeyed {
            Obeyed::Both => split(line.trim_end()),
            Obeyed::Commands => None,
            // Whoever types this wants to say what stands behind the first `/`.
            Obeyed::Nothing if line.starts_with('/') => return (format!("/{line}").into(), None),
            Obeyed::Nothing => None,
        };
        let Some((word, argument)) = word else { return (line.into(), None) };
        let (old, new) = WORDS[word];
        let is_told = std::mem::replace(&mut self.told[word], true);
        let hint = (!is_told).then(|| format!("{old} is {new} today; both work"));
        let line = if argument.is_empty() { new.into() } else { format!("{new} {argument}") };
        (line.into(), hint)
    }
}

/// The place of the line's word in [`WORDS`], and what stands behind it; `None` for what is plainly said.
fn split(line: &str) -> Option<(usize, &str)> {
    let place = |word| WORDS.iter().position(|(old, _)| *old == word);
    if let Some(word) = place(line) {
        return Some((word, ""));
    }
    if let Some((word @ ("download_file" | "download" | "set_msg"), argument)) = line.split_once(' ') {
        return Some((place(word)?, argument.trim()));
    }
    // `set_msgBob` is its own word. `set_msgs are odd` is a sentence; `set_msg1x` was meant as a command and must not be
    // told to everyone.
    let nick = line.strip_prefix("set_msg").filter(|nick| !nick.contains(' '))?;
    Some((place("set_msg")?, nick))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::command::{self, Command, Wanted};
    use crate::wire::name::{FileName, Nick};

    fn typed(line: &str) -> String {
        LegacyWords::new(Obeyed::Both).translate(line).0.into_owned()
    }

    #[test]
    fn every_word_does_what_it_did() {
        let nick = |text| Nick::parse(text).expect("a nick");
        let get = |text| Command::Get {
            file: Wanted::Name(FileName::parse(text).expect("a name")),
            save_as: None,
            transport: None,
        };
        for (line, command) in [
            ("set_msg_all", Command::All),
            ("set_msgAmit", Command::Query(nick("Amit"))),
            ("set_msg Amit ", Command::Query(nick("Amit"))),
            ("get_users", Command::Who),
            ("get_users ", Command::Who),
            ("get_list_file", Command::Files),
            ("download_file a b.txt", get("a b.txt")),
            ("download a.txt", get("a.txt")),
            ("disconnect", Command::Quit),
        ] {
            assert_eq!(command::parse(&typed(line)), Ok(Some(command)), "{line}");
        }
        for unfinished in ["set_msg", "set_msg1x", "download", "download_file", "download ../x"] {
            assert!(command::parse(&typed(unfinished)).is_err(), "{unfinished}: refused, and not said");
        }
    }

    #[test]
    fn everything_else_is_said() {
        for said in [
            "Disconnect",
            "disconnect now",
            "Set_msg_all",
            "set_msgs are odd",
            " get_users",
            "get_users?",
            "downloads",
            "udp is cool",
            "/all",
        ] {
            assert_eq!(LegacyWords::new(Obeyed::Both).translate(said), (said.into(), None));
        }
    }

    #[test]
    fn the_modern_form_is_told_once_and_nothing_counts_where_it_is_turned_off() {
        let mut words = LegacyWords::new(Obeyed::Both);
        let hints: Vec<Option<String>> = ["get_users", "get_users", "set_msgbob", "set_msg bob"]
            .map(|line| words.translate(line).1)
            .into();
        assert_eq!(
            hints,
            [
                Some("get_users is /who today; both work".into()),
                None,
                Some("set_msg is /query today; both work".into()),
                None
            ]
        );
        for (word, _) in WORDS {
            assert_eq!(LegacyWords::new(Obeyed::Commands).translate(word), (word.into(), None));
        }
    }

    #[test]
    fn a_line_that_is_said_as_it_is_obeys_nothing() {
        let mut words = LegacyWords::new(Obeyed::Nothing);
        for line in ["/usr/bin/x: failed", "//", "/quit", "disconnect", "hello"] {
            let (typed, hint) = words.translate(line);
            assert_eq!((command::parse(&typed), hint), (Ok(Some(Command::Say(line.into()))), None));
        }
    }
}
