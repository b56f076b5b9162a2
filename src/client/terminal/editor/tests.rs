//! What keys do to the line.

use super::*;
use proptest::prelude::*;

fn editor(lines: &[&str]) -> Editor {
    let mut history = History::default();
    lines.iter().for_each(|line| history.push(line, false));
    Editor::new(history)
}

/// Types keys: a letter is itself, `^X` is Ctrl, `<` and `>` are arrows, `{` and `}` Up and Down.
fn typed(editor: &mut Editor, keys: &str) {
    let mut keys = keys.chars();
    while let Some(key) = keys.next() {
        editor.handle(match key {
            '^' => Key::Ctrl(keys.next().expect("a letter")),
            '<' => Key::Left,
            '>' => Key::Right,
            '{' => Key::Up,
            '}' => Key::Down,
            '\x7f' => Key::Backspace,
            c => Key::Char(c),
        });
    }
}

fn line_after(lines: &[&str], keys: &str) -> String {
    let mut editor = editor(lines);
    typed(&mut editor, keys);
    let (line, at) = editor.line();
    format!("{}|{}", &line[..at], &line[at..])
}

#[test]
fn a_line_is_edited() {
    for (keys, line) in [
        ("abc<<X", "aX|bc"),
        ("abc^aX^eY", "XabcY|"),
        ("one two three^w", "one two |"),
        ("one two^a>>>^k^y^y", "one two two|"),
        ("one two^u^y", "one two|"),
        ("ab<\x7f", "|b"),
        ("ab^a^d", "|b"),
        ("e\u{301}x<<", "|e\u{301}x"),
        ("e\u{301}\x7f", "|"),
        ("\u{1f469}\u{200d}\u{1f467}!<\x7f", "|!"),
    ] {
        assert_eq!(line_after(&[], keys), line, "{keys:?}");
    }
}

#[test]
fn the_lines_before_come_back() {
    let before = ["first", "second", "a third"];
    for (keys, line) in [
        ("new{", "a third|"),
        ("{{{{{", "first|"),
        ("new{{}}", "new|"),
        ("^rse", "second|"),
        ("^rir", "a third|"),
        ("^rir^r", "first|"),
        ("^rir\x7f\x7ffirst", "first|"),
        ("new^rse^g", "new|"),
        ("^rse<X", "seconX|d"),
    ] {
        assert_eq!(line_after(&before, keys), line, "{keys:?}");
    }
    let mut searching = editor(&before);
    typed(&mut searching, "^rzzz");
    assert_eq!(searching.search(), Some(("zzz", false)));
}

#[test]
fn some_keys_are_for_the_caller() {
    let mut editor = editor(&[]);
    assert_eq!(editor.handle(Key::Ctrl('d')), Outcome::End);
    typed(&mut editor, "hi");
    assert_eq!(editor.handle(Key::Tab), Outcome::Complete);
    assert_eq!(editor.handle(Key::Paste("one\ntwo\n".into())), Outcome::Paste("one\ntwo".into()));
    assert_eq!(editor.handle(Key::Paste(" there\t!\n".into())), Outcome::Edited);
    assert_eq!(editor.handle(Key::Enter), Outcome::Line("hi there !".into()));
    typed(&mut editor, "gone");
    assert_eq!(editor.handle(Key::Ctrl('c')), Outcome::Interrupt);
    assert_eq!(editor.line(), ("", 0));
}

fn any_key() -> impl Strategy<Value = Key> {
    prop_oneof![
        4 => "\\PC".prop_map(|text| Key::Char(text.chars().next().unwrap_or('x'))),
        2 => prop::sample::select(vec!['a', 'b', 'd', 'e', 'f', 'h', 'k', 'n', 'p', 'r', 't', 'u', 'w', 'y']).prop_map(Key::Ctrl),
        1 => prop::sample::select(vec!['b', 'd', 'f']).prop_map(Key::Alt),
        2 => prop::sample::select(vec![Key::Left, Key::Right, Key::Up, Key::Down, Key::Home, Key::WordLeft,
                                       Key::WordRight, Key::Backspace, Key::Delete, Key::AltBackspace, Key::Escape]),
        1 => "\\PC{0,9}".prop_map(Key::Paste),
    ]
}

proptest! {
    #[test]
    fn the_cursor_stays_between_characters(keys in prop::collection::vec(any_key(), 0..80)) {
        let mut editor = editor(&["zwölf", "漢字 line", "e\u{301}e\u{301}"]);
        for key in keys {
            editor.handle(key);
            let (line, cursor) = editor.line();
            prop_assert!(line.is_char_boundary(cursor));
        }
    }
}
