//! Styled text cut into the rows of a terminal: widths as terminals count them, and no row wider than the screen.
//!
//! A row that a terminal would have to wrap by itself could begin with anything that somebody else has chosen, and look
//! like another one's line. So lines are wrapped here, and what follows the first row is indented.

use std::fmt::Write as _;
use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::wire::text::sanitise;

/// How a text looks: the parameters of SGR (ECMA-48, 8.3.117), of the 16 colours that every terminal has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Style(pub &'static str);

impl Style {
    /// As the terminal writes.
    pub const PLAIN: Style = Style("");
    /// What may be overlooked.
    pub const DIM: Style = Style("2");
    /// What must not be overlooked.
    pub const BOLD: Style = Style("1");
    /// What went well.
    pub const GOOD: Style = Style("32");
    /// What asks for an answer, or names us.
    pub const CALL: Style = Style("1;33");
    /// What is private.
    pub const PRIVATE: Style = Style("35");
    /// What went wrong.
    pub const BAD: Style = Style("31");
}

/// A piece of a line. What others have chosen in it is sanitised already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// How it looks.
    pub style: Style,
    /// What it says.
    pub text: String,
}

impl Span {
    /// A piece of this look.
    pub fn new(style: Style, text: impl Into<String>) -> Span {
        Span { style, text: text.into() }
    }
}

/// What a terminal treats as one character.
#[derive(Debug, Clone)]
struct Cell {
    text: String,
    columns: usize,
    style: Style,
}

impl Cell {
    fn is_blank(&self) -> bool {
        self.text == " "
    }
}

/// The rows of one line, wrapped between words where that is possible, the second and following ones indented.
pub fn wrap(spans: &[Span], columns: usize, indent: usize, colour: bool) -> Vec<String> {
    // Terminals disagree about joined characters: the widest opinion counts, so that none wraps by itself.
    let widest = |text: &str| text.width().max(text.chars().filter_map(UnicodeWidthChar::width).sum());
    let mut cells = Vec::new();
    for Span { style, text } in spans {
        let graphemes = text.graphemes(true);
        cells.extend(graphemes.map(|g| Cell { text: g.into(), columns: widest(g), style: *style }));
    }
    let indent = indent.min(columns / 4);
    let rows = break_between_words(&cells, columns.max(2), (columns - indent).max(2));
    let emit = |(at, row): (usize, Range<usize>)| {
        let indent = if at == 0 { 0 } else { indent };
        format!("{:indent$}{}", "", emit(&cells[row], colour))
    };
    rows.into_iter().enumerate().map(emit).collect()
}

fn break_between_words(cells: &[Cell], first: usize, rest: usize) -> Vec<Range<usize>> {
    let mut rows = Vec::new();
    let (mut begin, mut used) = (0, 0);
    // Behind the last blank of this row.
    let mut word = 0;
    let mut at = 0;
    while at < cells.len() {
        let room = if rows.is_empty() { first } else { rest };
        if used + cells[at].columns > room && at > begin {
            if cells[at].is_blank() {
                // Nobody misses a blank at the end of a row.
                rows.push(begin..at);
                (begin, word, used) = (at + 1, at + 1, 0);
                at += 1;
                continue;
            }
            let end = if word > begin { word } else { at };
            rows.push(begin..end);
            // Measured again: what moves down may be too wide for a row that is indented.
            (begin, word, used, at) = (end, end, 0, end);
            continue;
        }
        used += cells[at].columns;
        at += 1;
        if cells[at - 1].is_blank() {
            word = at;
        }
    }
    rows.push(begin..cells.len());
    rows
}

fn emit(cells: &[Cell], colour: bool) -> String {
    let mut out = String::new();
    let mut style = Style::PLAIN;
    for cell in cells {
        if colour && cell.style != style {
            let reset = if style == Style::PLAIN { "" } else { "\x1b[m" };
            out.push_str(reset);
            if cell.style != Style::PLAIN {
                write!(out, "\x1b[{}m", cell.style.0).expect("a String takes everything");
            }
            style = cell.style;
        }
        out.push_str(&cell.text);
    }
    if style != Style::PLAIN {
        out.push_str("\x1b[m");
    }
    out
}

/// The prompt and the line being typed, as they stand on the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The rows, none wider than the screen was.
    pub rows: Vec<String>,
    /// How wide each of them is.
    pub widths: Vec<usize>,
    /// In which row the cursor stands.
    pub cursor_row: usize,
    /// In which column.
    pub cursor_column: usize,
}

impl Layout {
    /// Of a line whose cursor stands before the octet `cursor`. Where it needs more than `rows_max` rows, those around
    /// the cursor are shown.
    pub fn new(
        prompt: &[Span],
        line: &str,
        cursor: usize,
        columns: usize,
        rows_max: usize,
        colour: bool,
    ) -> Layout {
        let mut cells = Vec::new();
        for Span { style, text } in prompt {
            cells.extend(text.graphemes(true).map(|g| Cell {
                text: g.into(),
                columns: g.width(),
                style: *style,
            }));
        }
        // The cell that the cursor stands on.
        let mut on = None;
        for (at, grapheme) in line.grapheme_indices(true) {
            if at >= cursor {
                on.get_or_insert(cells.len());
            }
            for shown in sanitise(grapheme).graphemes(true) {
                cells.push(Cell { text: shown.into(), columns: shown.width(), style: Style::PLAIN });
            }
        }
        let on = on.unwrap_or(cells.len());
        let (mut rows, mut widths) = (Vec::new(), Vec::new());
        let (mut begin, mut used, mut place) = (0, 0, (0, 0));
        // Behind the last cell stands the cursor, or could.
        for at in 0..=cells.len() {
            let needed = cells.get(at).map_or(1, |cell| cell.columns);
            if used + needed > columns && at > begin {
                rows.push(emit(&cells[begin..at], colour));
                widths.push(used);
                (begin, used) = (at, 0);
            }
            if at == on {
                // What takes no room may stand behind a full row.
                place = (rows.len(), used.min(columns - 1));
            }
            used += needed;
        }
        rows.push(emit(&cells[begin..], colour));
        widths.push(used - 1);
        let first = (place.0 + 1).saturating_sub(rows_max.max(1));
        let end = rows.len().min(first + rows_max.max(1));
        Layout {
            rows: rows[first..end].to_vec(),
            widths: widths[first..end].to_vec(),
            cursor_row: place.0 - first,
            cursor_column: place.1,
        }
    }

    /// How many rows stand above the cursor's, now that the screen has so many columns: what has become too wide has
    /// been wrapped by the terminal.
    pub fn rows_above(&self, columns: usize) -> usize {
        let rows = |width: &usize| width.div_ceil(columns.max(1)).max(1);
        let above: usize = self.widths[..self.cursor_row].iter().map(rows).sum();
        above + self.cursor_column / columns.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plain(text: &str, columns: usize, indent: usize) -> Vec<String> {
        wrap(&[Span::new(Style::PLAIN, text)], columns, indent, false)
    }

    #[test]
    fn lines_are_wrapped_between_words() {
        assert_eq!(plain("one two three", 80, 2), ["one two three"]);
        assert_eq!(plain("one two three", 8, 2), ["one two ", "  three"]);
        assert_eq!(plain("one two three", 7, 1), ["one two", " three"]);
        assert_eq!(plain("abcdefghij", 4, 1), ["abcd", " efg", " hij"]);
        assert_eq!(plain("ab abcdefghij", 4, 0), ["ab ", "abcd", "efgh", "ij"]);
        assert_eq!(plain(" abcdefghi", 8, 6), [" ", "  abcdef", "  ghi"]);
        assert_eq!(plain("漢字漢字漢", 5, 0), ["漢字", "漢字", "漢"]);
        assert_eq!(plain("", 5, 0), [""]);
    }

    #[test]
    fn styles_end_with_their_row() {
        let spans = [Span::new(Style::BOLD, "ab cd"), Span::new(Style::PLAIN, " ef")];
        assert_eq!(wrap(&spans, 3, 0, true), ["\x1b[1mab \x1b[m", "\x1b[1mcd\x1b[m ", "ef"]);
        assert_eq!(wrap(&spans, 80, 0, false), ["ab cd ef"]);
    }

    #[test]
    fn the_cursor_stands_where_the_next_character_goes() {
        let prompt = [Span::new(Style::PLAIN, "me> ")];
        let place = |line: &str, cursor, columns| {
            let layout = Layout::new(&prompt, line, cursor, columns, 9, false);
            (layout.rows.clone(), layout.cursor_row, layout.cursor_column)
        };
        let rows = |rows: &[&str]| rows.iter().map(|&row| row.to_owned()).collect::<Vec<_>>();
        assert_eq!(place("", 0, 10), (rows(&["me> "]), 0, 4));
        assert_eq!(place("hello", 2, 10), (rows(&["me> hello"]), 0, 6));
        assert_eq!(place("hello!", 6, 10), (rows(&["me> hello!", ""]), 1, 0));
        assert_eq!(place("漢字漢字", 3, 10), (rows(&["me> 漢字漢", "字"]), 0, 6));
        assert_eq!(place("漢字漢字", 9, 10), (rows(&["me> 漢字漢", "字"]), 1, 0));
        assert_eq!(place("a\u{301}b", 3, 10), (rows(&["me> a\u{301}b"]), 0, 5));
        // A vowel of Hangul without its consonant has no width of its own.
        assert_eq!(place("漢字漢\u{d7b0}", 9, 10), (rows(&["me> 漢字漢\u{d7b0}", ""]), 0, 9));
        let tall = Layout::new(&prompt, &"x".repeat(100), 60, 10, 3, false);
        assert_eq!((tall.rows.len(), tall.cursor_row), (3, 2), "{tall:?}");
    }

    proptest! {
        #[test]
        fn no_row_is_too_wide_and_none_is_lost(text in "(\\PC| |漢){0,120}", columns in 4_usize..60) {
            let text = sanitise(&text);
            let rows = plain(&text, columns, 6);
            for row in &rows {
                // One character may be wider than all; a terminal of four columns shows nothing of it.
                prop_assert!(row.width() <= columns.max(6), "{row:?}");
            }
            let without_blanks = |text: &str| text.chars().filter(|&c| c != ' ').collect::<String>();
            prop_assert_eq!(without_blanks(&rows.concat()), without_blanks(&text));
        }

        #[test]
        fn the_line_being_typed_stays_on_the_screen(line in "(\\PC| |漢){0,120}", columns in 8_usize..60) {
            for (cursor, _) in line.grapheme_indices(true).chain([(line.len(), "")]) {
                let layout = Layout::new(&[], &line, cursor, columns, 4, false);
                prop_assert!(layout.rows.len() <= 4 && layout.cursor_row < layout.rows.len());
                prop_assert!(layout.cursor_column < columns, "{layout:?}");
            }
        }
    }
}
