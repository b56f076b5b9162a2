//! Texts: how they travel (escapes) and how a person sees them (sanitised).

use std::fmt::Write as _;

use super::WireError;

/// The longest text in characters, after its escapes are undone. Ours: a screenful.
pub const TEXT_CHARS_MAX: usize = 2_000;

/// The longest text in octets as it travels, so that no relayed line outgrows [`super::line::LINE_LEN_MAX`]:
/// the longest prefix is `MSG_` with a nick of 24 characters of 4 octets, a space, and CR LF.
pub const TEXT_LEN_MAX: usize = 3_900;

/// Writes `text` as it travels: control characters and the backslash become escapes.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str(r"\\"),
            '\n' => out.push_str(r"\n"),
            '\t' => out.push_str(r"\t"),
            c if c.is_control() => {
                write!(out, r"\u{{{:x}}}", u32::from(c)).expect("a String takes everything")
            }
            c => out.push(c),
        }
    }
    out
}

/// Undoes [`escape`]; any other `\x` is an error.
pub fn unescape(payload: &str) -> Result<String, WireError> {
    let mut out = String::with_capacity(payload.len());
    let mut rest = payload;
    while let Some((plain, after)) = rest.split_once('\\') {
        out.push_str(plain);
        let mut chars = after.chars();
        match chars.next() {
            Some('\\') => out.push('\\'),
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('u') => {
                let (c, after) = parse_code_point(chars.as_str()).ok_or(WireError::BadEscape)?;
                out.push(c);
                chars = after.chars();
            }
            _ => return Err(WireError::BadEscape),
        }
        rest = chars.as_str();
    }
    out.push_str(rest);
    Ok(out)
}

/// Reads `{1-6 hex}`, and gives the character and what follows.
fn parse_code_point(input: &str) -> Option<(char, &str)> {
    let (hex, after) = input.strip_prefix('{')?.split_once('}')?;
    if !(1..=6).contains(&hex.len()) || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    Some((char::from_u32(u32::from_str_radix(hex, 16).ok()?)?, after))
}

/// Reads a text that somebody says: escapes undone, not empty, within both limits however it is relayed.
pub fn parse(payload: &str) -> Result<String, WireError> {
    let text = unescape(payload)?;
    if text.is_empty() {
        return Err(WireError::EmptyText);
    }
    if text.chars().count() > TEXT_CHARS_MAX || escape(&text).len() > TEXT_LEN_MAX {
        return Err(WireError::TextTooLong);
    }
    Ok(text)
}

/// Cuts a text of any length into pieces that [`parse`] accepts once escaped; never inside a character.
pub fn pieces(text: &str) -> Vec<&str> {
    let (mut out, mut start, mut chars, mut len) = (Vec::new(), 0, 0, 0);
    for (at, c) in text.char_indices() {
        let c_len = escape(c.encode_utf8(&mut [0; 4])).len();
        if chars == TEXT_CHARS_MAX || len + c_len > TEXT_LEN_MAX {
            out.push(&text[start..at]);
            (start, chars, len) = (at, 0, 0);
        }
        chars += 1;
        len += c_len;
    }
    if start < text.len() {
        out.push(&text[start..]);
    }
    out
}

/// Whether a character may reach a terminal as it is: no control, bidirectional, zero-width or other invisible
/// character, nor one that ends a line (Unicode 16, general categories Cc, Cf, Zl, Zp, and the fillers and selectors).
pub fn is_printable(c: char) -> bool {
    !matches!(c,
        '\0'..='\x1f' | '\x7f'..='\u{9f}'
        | '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{8e2}'
        | '\u{890}' | '\u{891}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0e}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1345f}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
        | '\u{e000}'..='\u{f8ff}' | '\u{f0000}'..='\u{10ffff}')
}

/// How many marks may sit on one letter on the screen. Ours: Vietnamese and pointed Hebrew need three.
const MARKS_MAX: usize = 4;

/// A text as a person may see it, on one line: what is not printable becomes a visible mark (`␊`, `␛`, `<U+202E>`),
/// and a pile of combining marks is cut. Doing it twice changes nothing.
pub fn sanitise(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut marks = 0;
    for c in text.chars() {
        let mark = unicode_normalization::char::is_combining_mark(c);
        marks = if mark { marks + 1 } else { 0 };
        match c {
            // The block "Control Pictures" has U+0000..U+001F in order.
            '\0'..='\x1f' => out.extend(char::from_u32(0x2400 + u32::from(c))),
            '\x7f' => out.push('␡'),
            // The selector that makes an emoji an emoji: harmless, and everywhere.
            '\u{fe0f}' => out.push(c),
            c if !is_printable(c) => {
                write!(out, "<U+{:04X}>", u32::from(c)).expect("a String takes everything")
            }
            _ if mark && marks > MARKS_MAX => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escapes_are_the_documented_ones() {
        assert_eq!(escape("a\\b\nc\td\u{1b}e"), r"a\\b\nc\td\u{1b}e");
        assert_eq!(unescape(r"see you\nat 5"), Ok("see you\nat 5".into()));
        assert_eq!(unescape(r"\u{1F600}\u{a}"), Ok("\u{1F600}\n".into()));
        for bad in [r"\", r"\x", r"\u", r"\u{}", r"\u{1234567}", r"\u{d800}", r"\u{12", r"\u{+1}", r"\N"] {
            assert_eq!(unescape(bad), Err(WireError::BadEscape), "{bad:?}");
        }
    }

    #[test]
    fn a_text_has_both_its_limits() {
        assert!(parse(&"x".repeat(TEXT_CHARS_MAX)).is_ok());
        assert_eq!(parse(&"x".repeat(TEXT_CHARS_MAX + 1)), Err(WireError::TextTooLong));
        assert!(parse(&r"\\".repeat(TEXT_LEN_MAX / 2)).is_ok());
        assert_eq!(parse(&r"\\".repeat(TEXT_LEN_MAX / 2 + 1)), Err(WireError::TextTooLong));
        assert_eq!(parse(""), Err(WireError::EmptyText));
    }

    #[test]
    fn nothing_invisible_reaches_a_terminal() {
        assert_eq!(sanitise("a\nb\x1b[2J\u{7f}"), "a␊b␛[2J␡");
        assert_eq!(sanitise("x\u{202e}y\u{200b}"), "x<U+202E>y<U+200B>");
        assert_eq!(
            sanitise(&format!("z{}", "\u{301}".repeat(100))),
            format!("z{}", "\u{301}".repeat(MARKS_MAX))
        );
        assert_eq!(sanitise("שלום 你好 ❤️"), "שלום 你好 ❤️");
    }

    proptest! {
        #[test]
        fn unescape_undoes_escape(text in any::<String>()) {
            prop_assert_eq!(unescape(&escape(&text)), Ok(text));
        }

        #[test]
        fn f5_sanitised_text_is_printable_and_stays_as_it_is(text in any::<String>()) {
            let shown = sanitise(&text);
            let clean = shown.chars().all(|c| is_printable(c) || c == '\u{fe0f}');
            prop_assert!(clean);
            prop_assert_eq!(sanitise(&shown), shown.clone());
            prop_assert!(shown.len() <= 10 * text.len());
        }

        #[test]
        fn pieces_join_to_the_text_and_each_can_be_said(text in "(\\PC|\n|\\\\){0,6000}") {
            let pieces = pieces(&text);
            prop_assert_eq!(pieces.concat(), text.as_str());
            for piece in pieces {
                prop_assert_eq!(parse(&escape(piece)), Ok(piece.to_owned()));
            }
        }
    }
}
