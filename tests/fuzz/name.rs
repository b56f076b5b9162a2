//! F6: an accepted file name is one plain component everywhere, and exactly the names of the rule are accepted; nicknames
//! likewise.

use std::path::{Component, Path};

use packetboat::wire::name::{FileName, Nick};
use packetboat::wire::text::is_printable;
use unicode_normalization::is_nfc;
use unicode_script::{Script, UnicodeScript};

/// A name, in UTF-8 as far as it is that.
pub(crate) fn f6_name(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    assert_eq!(Nick::parse(&text).is_ok(), may_be_nick(&text), "nick {text:?}");
    let parsed = FileName::parse(&text);
    assert_eq!(parsed.is_ok(), may_be_file(&text), "file {text:?}");
    let Ok(name) = parsed else { return };
    assert_eq!(name.as_str(), text, "never repaired");
    for name in [name.clone(), name.numbered(1), name.numbered(9_999)] {
        assert!(FileName::parse(name.as_str()).as_ref() == Ok(&name), "{name}");
        let path = Path::new("/shelf").join(name.as_str());
        let parts: Vec<Component<'_>> = path.components().collect();
        assert!(
            matches!(parts[..], [Component::RootDir, Component::Normal(_), Component::Normal(last)] if last == name.as_str()),
            "{parts:?}"
        );
    }
}

/// The words of docs/PROTOCOL.md about file names, one after another.
fn may_be_file(text: &str) -> bool {
    let chars: Vec<char> = text.chars().collect();
    let (Some(&first), Some(&last)) = (chars.first(), chars.last()) else { return false };
    if text.len() > 128 || !is_nfc(text) || !chars.iter().all(|&c| is_printable(c)) {
        return false;
    }
    if chars.iter().any(|c| ['/', '\\', ':', '*', '?', '"', '<', '>', '|'].contains(c)) {
        return false;
    }
    if ['.', '-', '~'].contains(&first) || first.is_whitespace() || last == '.' || last.is_whitespace() {
        return false;
    }
    let mut devices: Vec<String> =
        ["con", "prn", "aux", "nul", "conin$", "conout$"].map(String::from).to_vec();
    for port in ["com", "lpt"] {
        devices.extend("0123456789\u{b9}\u{b2}\u{b3}".chars().map(|number| format!("{port}{number}")));
    }
    let before_dot: String = chars.into_iter().take_while(|&c| c != '.').collect();
    !devices.contains(&before_dot.trim_end().to_lowercase())
}

/// The same of nicknames.
fn may_be_nick(text: &str) -> bool {
    let count = text.chars().count();
    if !(1..=24).contains(&count) || !is_nfc(text) || !text.chars().all(is_printable) {
        return false;
    }
    let mut script = None;
    for (at, c) in text.chars().enumerate() {
        if c.is_alphabetic() {
            if *script.get_or_insert(c.script()) != c.script() {
                return false;
            }
        } else if at == 0 || !(c.is_ascii_digit() || ['_', '.', '-'].contains(&c)) {
            return false;
        }
    }
    let folded: String = text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect();
    let is_reserved = ["server", "system", "all", "everyone", "admin", "root"].contains(&folded.as_str());
    let has_script = !matches!(script, None | Some(Script::Common | Script::Inherited | Script::Unknown));
    has_script && !is_reserved
}
