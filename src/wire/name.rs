//! Names that are safe to hold: nicknames and file names. A value of these types cannot break its rule.

use std::fmt;
use std::hash::{Hash, Hasher};

use unicode_normalization::{UnicodeNormalization, is_nfc};
use unicode_script::{Script, UnicodeScript};

use super::WireError;
use super::text::is_printable;

/// The longest nickname, in characters.
pub const NICK_CHARS_MAX: usize = 24;

/// Nobody may speak as these.
const NICKS_RESERVED: [&str; 6] = ["server", "system", "all", "everyone", "admin", "root"];

/// A nickname: 1 to 24 characters, letters of **one** script in NFC, ASCII digits and `_` `.` `-`; a letter comes first.
///
/// Two nicks are equal when they are equal under case folding, so `Bob` and `bob` are one person; it shows as it was
/// written. One script only, so that a Cyrillic `а` cannot hide among Latin letters.
#[derive(Debug, Clone)]
pub struct Nick(String);

impl Nick {
    /// Reads a nickname; never repairs one.
    pub fn parse(text: &str) -> Result<Nick, WireError> {
        let ok = (1..=NICK_CHARS_MAX).contains(&text.chars().count())
            && is_nfc(text)
            && text.starts_with(char::is_alphabetic)
            && text.chars().all(|c| c.is_alphabetic() || c.is_ascii_digit() || matches!(c, '_' | '.' | '-'))
            && text.chars().all(is_printable)
            && one_script(text)
            && !NICKS_RESERVED.contains(&fold(text).as_str());
        if ok { Ok(Nick(text.to_owned())) } else { Err(WireError::BadNick) }
    }

    /// The nick as its owner wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn one_script(text: &str) -> bool {
    let mut scripts = text.chars().filter(|c| c.is_alphabetic()).map(|c| c.script());
    let Some(first) = scripts.next() else { return false };
    !matches!(first, Script::Common | Script::Inherited | Script::Unknown) && scripts.all(|s| s == first)
}

/// Full case folding, near enough: by way of the upper case, so that `ß` meets `SS` and both sigmas meet.
fn fold(text: &str) -> String {
    // The same for most nicks, and much shorter: every hash of a nick begins here, under the hub's lock.
    if text.is_ascii() { text.to_ascii_lowercase() } else { fold_unicode(text) }
}

fn fold_unicode(text: &str) -> String {
    text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).nfc().collect()
}

impl PartialEq for Nick {
    fn eq(&self, other: &Self) -> bool {
        fold(&self.0) == fold(&other.0)
    }
}

impl Eq for Nick {}

impl Hash for Nick {
    fn hash<H: Hasher>(&self, state: &mut H) {
        fold(&self.0).hash(state);
    }
}

impl fmt::Display for Nick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The longest file name, in octets.
pub const FILE_NAME_LEN_MAX: usize = 128;

/// The devices of Windows that no file may be called, with any extension, on any system.
const WINDOWS_DEVICES: [&str; 6] = ["con", "prn", "aux", "nul", "conin$", "conout$"];

/// A file name that is one plain path component everywhere: joining it to a folder names a direct child of that folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName(String);

impl FileName {
    /// Reads a file name; refuses, never repairs.
    pub fn parse(text: &str) -> Result<FileName, WireError> {
        let ok = (1..=FILE_NAME_LEN_MAX).contains(&text.len())
            && text.chars().all(|c| is_printable(c) && !r#"/\:*?"<>|"#.contains(c))
            && is_nfc(text)
            && !text.starts_with(['.', '-', '~'])
            && !text.starts_with(char::is_whitespace)
            && !text.ends_with('.')
            && !text.ends_with(char::is_whitespace)
            && !is_windows_device(text);
        if ok { Ok(FileName(text.to_owned())) } else { Err(WireError::BadFileName) }
    }

    /// The name as it is on disk and on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same file beside others of its name: `name (1).ext`, cut if it would grow too long.
    pub fn numbered(&self, number: u32) -> FileName {
        let (stem, extension) = match self.0.rfind('.') {
            Some(dot) if dot > 0 => self.0.split_at(dot),
            _ => (self.0.as_str(), ""),
        };
        let suffix = format!(" ({number})");
        let mut room = FILE_NAME_LEN_MAX.saturating_sub(suffix.len() + extension.len()).min(stem.len());
        // An extension that fills the whole name leaves no room for a stem: it is cut like a stem.
        if room == 0 {
            return FileName::parse(&format!("file{suffix}")).expect("a plain name");
        }
        while !stem.is_char_boundary(room) {
            room -= 1;
        }
        let numbered = format!("{}{suffix}{extension}", &stem[..room]);
        FileName::parse(&numbered).unwrap_or_else(|_| FileName(format!("file{suffix}")))
    }
}

/// `CON`, `nul.txt`, `COM1 .log`, `LPT¹`: what stands before the first dot decides.
fn is_windows_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name).trim_end().to_lowercase();
    let port = ["com", "lpt"].iter().find_map(|port| stem.strip_prefix(port));
    let numbered = port.is_some_and(|number| {
        let mut digits = number.chars();
        matches!((digits.next(), digits.next()), (Some('0'..='9' | '¹' | '²' | '³'), None))
    });
    numbered || WINDOWS_DEVICES.contains(&stem.as_str())
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::{Component, Path};

    #[test]
    fn nicks_follow_the_rule() {
        for good in ["a", "alice", "bob_b", "x-1.y", "Émile", "Юлия", "山田", "אמית", &"n".repeat(24)]
        {
            assert!(Nick::parse(good).is_ok(), "{good:?}");
        }
        for bad in [
            "",
            "1a",
            "_a",
            "a b",
            "a\u{430}",
            "e\u{301}mile",
            "a\u{200d}",
            "Server",
            "ROOT",
            "a\u{301}",
            &"n".repeat(25),
        ] {
            assert_eq!(Nick::parse(bad).map(|_| ()), Err(WireError::BadNick), "{bad:?}");
        }
    }

    #[test]
    fn nicks_are_one_under_case_folding() {
        let nick = |text| Nick::parse(text).expect("a nick");
        assert_eq!(nick("Bob"), nick("bOB"));
        assert_eq!(nick("Straße"), nick("STRASSE"));
        assert_eq!(nick("ΣΊΣΥΦΟΣ"), nick("Σίσυφος"));
        assert_ne!(nick("bob"), nick("bob_"));
    }

    #[test]
    fn a_number_is_put_before_the_extension() {
        let numbered = |name: &str| FileName::parse(name).expect("a name").numbered(1).to_string();
        assert_eq!(numbered("big video.mp4"), "big video (1).mp4");
        assert_eq!(numbered("Makefile"), "Makefile (1)");
        assert_eq!(numbered("a.tar.gz"), "a.tar (1).gz");
        let long = numbered(&format!("{}.txt", "é".repeat(62)));
        assert!(long.len() <= FILE_NAME_LEN_MAX && long.ends_with("é (1).txt"), "{long}");
    }

    #[test]
    fn devices_of_windows_are_no_files() {
        for bad in ["con", "NUL.txt", "Com1.log", "COM1 .x", "lpt¹", "aux", "CONIN$"] {
            assert_eq!(FileName::parse(bad), Err(WireError::BadFileName), "{bad:?}");
        }
        for good in ["console", "com10", "nulled.txt", "company.txt", "comme"] {
            assert!(FileName::parse(good).is_ok(), "{good:?}");
        }
    }

    proptest! {
        #[test]
        fn an_accepted_name_is_a_direct_child(text in "[ -~\u{80}-\u{2100}]{0,20}") {
            if let Ok(name) = FileName::parse(&text) {
                let path = Path::new("/shelf").join(name.as_str());
                prop_assert_eq!(path.parent(), Some(Path::new("/shelf")));
                prop_assert!(path.components().all(|part| !matches!(part, Component::ParentDir | Component::CurDir)));
                prop_assert!(FileName::parse(name.numbered(7).as_str()).is_ok());
            }
        }
    }
}
