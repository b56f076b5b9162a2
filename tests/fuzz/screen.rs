//! F5: whatever somebody says, what reaches a terminal is printable, on one line, and not much longer.

use packetboat::client::report::Report;
use packetboat::wire::text;

/// Bidirectional controls, what has no width, tags, variation selectors: none of it may reach a terminal. The one
/// exception is U+FE0F, which makes an emoji of a sign. Written down apart from the product's own list.
fn is_hidden(c: char) -> bool {
    let tricks = [
        0xad..=0xad,
        0x34f..=0x34f,
        0x61c..=0x61c,
        0x115f..=0x1160,
        0x17b4..=0x17b5,
        0x180b..=0x180f,
        0x200b..=0x200f,
        0x2028..=0x202e,
        0x2060..=0x206f,
        0x3164..=0x3164,
        0xfe00..=0xfe0e,
        0xfeff..=0xfeff,
        0xffa0..=0xffa0,
        0xfff0..=0xfffb,
        0x1bca0..=0x1bca3,
        0x1d173..=0x1d17a,
        0xe0000..=0xe0fff,
    ];
    c.is_control() || tricks.iter().any(|range| range.contains(&u32::from(c)))
}

/// Panics when a line for a terminal holds more than one line of printable characters.
pub(crate) fn assert_one_clean_line(line: &str) {
    let bad: Vec<char> = line.chars().filter(|&c| is_hidden(c)).collect();
    assert!(bad.is_empty(), "{bad:?} in {line:?}");
}

/// A text, in UTF-8 as far as it is that.
pub(crate) fn f5_sanitiser(data: &[u8]) {
    let text = String::from_utf8_lossy(data).into_owned();
    let shown = text::sanitise(&text);
    assert_one_clean_line(&shown);
    assert_eq!(text::sanitise(&shown), shown, "twice is as once");
    assert!(shown.len() <= 10 * text.len(), "{} octets of {}", shown.len(), text.len());
    assert!(longest_pile(&shown) <= 4, "{shown:?}");

    let message = Report::Message { from: "alice".into(), text: text.clone() };
    assert_one_clean_line(&message.to_string());
    assert!(message.to_string().starts_with("<alice> "));
    let json = message.to_json();
    assert_one_clean_line(&json);
    let read: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(read["text"].as_str(), Some(text.as_str()), "programs get it as it was");

    // As it travels: nothing is lost, and nothing ends the line.
    let escaped = text::escape(&text);
    assert!(!escaped.contains(char::is_control), "{escaped:?}");
    assert_eq!(text::unescape(&escaped).as_deref(), Ok(text.as_str()));
    let pieces = text::pieces(&text);
    assert_eq!(pieces.concat(), text);
    assert!(pieces.iter().all(|piece| text::parse(&text::escape(piece)).as_deref() == Ok(*piece)));
}

/// How many marks sit on one letter at most; the selector of emoji has no width.
fn longest_pile(text: &str) -> usize {
    let (mut longest, mut marks) = (0, 0);
    for c in text.chars().filter(|&c| c != '\u{fe0f}') {
        let is_mark = unicode_normalization::char::is_combining_mark(c);
        marks = if is_mark { marks + 1 } else { 0 };
        longest = longest.max(marks);
    }
    longest
}
