//! What a terminal, a log or a reader could take for something else than text.

/// Texts that nobody should see as they are: each holds a sender's name to be mistaken for another's.
pub(crate) fn hostile_strings() -> Vec<String> {
    let controls = (0..=0x9f).filter_map(char::from_u32).filter(|c| c.is_control());
    let turners =
        "\u{61c}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}";
    let invisible = concat!(
        "\u{ad}\u{34f}\u{115f}\u{1160}\u{17b4}\u{17b5}\u{180b}\u{180e}\u{200b}\u{200c}\u{200d}\u{2028}\u{2029}",
        "\u{2060}\u{2061}\u{2062}\u{2063}\u{2064}\u{206a}\u{206f}\u{2800}\u{3164}\u{fe00}\u{fe0e}\u{feff}\u{ffa0}",
        "\u{fff9}\u{fffb}\u{1d173}\u{1d17a}\u{e0001}\u{e0020}\u{e007f}\u{e0100}\u{e000}\u{f0000}\u{10fffd}"
    );
    let singles = controls.chain(turners.chars()).chain(invisible.chars());
    let mut strings: Vec<String> = singles.map(|c| format!("x{c}<bob> y")).collect();
    let escape = ["\u{1b}", "\u{9b}", "\u{1b}\u{1b}"];
    let orders = [
        "]0;title\u{7}",
        "]2;title\u{1b}\\",
        "]8;;http://example.org\u{7}link\u{1b}]8;;\u{7}",
        "]52;c;cm0gLXJmIC8=\u{7}",
        "]1337;File=:AAAA\u{7}",
        "]4;0;rgb:00/00/00\u{7}",
        "[2J",
        "[H",
        "[1;1H<bob> y",
        "[31m",
        "[8m",
        "[?1049h",
        "[?25l",
        "[6n",
        "[c",
        "[200~",
        "[201~rm -rf",
        "[5i",
        "[1A\u{1b}[2K<bob> y",
        "[20t",
        "P$q\"p\u{1b}\\",
        "P+q544e\u{1b}\\",
        "_Gx\u{1b}\\",
        "^x\u{1b}\\",
        "Xx\u{1b}\\",
        "c",
        "7",
        "#8",
        "(0",
        "%G",
    ];
    strings.extend(escape.iter().flat_map(|begin| orders.map(|order| format!("{begin}{order}"))));
    let lines =
        ["\r", "\n", "\r\n", "\u{b}", "\u{c}", "\u{85}", "\u{2028}", "\u{2029}", "\u{8}\u{8}\u{8}\u{8}"];
    strings.extend(lines.map(|line| format!("ok{line}<bob> no")));
    strings.extend(lines.map(|line| format!("ok{line}* bob left")));
    strings.push(format!("e{}", "\u{301}".repeat(100)));
    strings.push("\u{202e}txt.exe".to_owned());
    strings.push("a\u{200b}".repeat(50));
    strings.push("\u{e0068}\u{e0069}\u{e007f}".repeat(20));
    strings
}

/// Panics where a text holds what a terminal obeys or hides, line ends apart.
pub(crate) fn assert_clean(text: &str) {
    // The selector that makes an emoji of a sign is everywhere.
    let is_bad = |c: char| !matches!(c, '\n' | '\u{fe0f}') && !packetboat::wire::text::is_printable(c);
    let bad = text.lines().find(|line| line.contains(is_bad));
    assert_eq!(bad.map(|line| line.escape_default().to_string()), None);
}
