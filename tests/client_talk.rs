//! Talk on a pipe: what is said, what comes back, and in which words, against a scripted server.

mod common;

use std::io::Write as _;

use common::scripted::*;

/// Every control character, what hides or turns text, and sequences that terminals obey; as they travel, escaped.
fn hostile_texts() -> Vec<String> {
    let turners =
        "\u{2028}\u{2029}\u{202a}\u{202d}\u{202e}\u{2066}\u{2069}\u{200b}\u{200e}\u{200f}\u{feff}\u{e0041}";
    let singles = (0..=0x9f).filter_map(char::from_u32).filter(|c| c.is_control()).chain(turners.chars());
    let sequences = [
        "\u{1b}]0;title\u{7}",
        "\u{1b}]52;c;eA==\u{7}",
        "\u{1b}[2J",
        "\u{1b}[201~",
        "\u{9b}31m",
        "\u{1b}P1$x\u{1b}\\",
        "ok\r<bob> no",
        "ok\n<bob> no",
        "a\u{8}\u{8}b",
    ];
    let texts = singles.map(|c| format!("x{c}<bob> y")).chain(sequences.map(str::to_owned));
    texts.map(|text| packetboat::wire::text::escape(&text)).collect()
}

#[test]
fn r29_hostile_texts_never_reach_the_terminal_as_controls() {
    let (output, _folder) = run_pipe(b"hi\n", |peer, _| {
        peer.answer("ALL_hi", &[r"MSG_eve one\n<bob> two\u{1b}[2J"]);
        for text in hostile_texts() {
            for line in ["MSG_eve ", "PM_eve ", "SYS_", "ERR_busy ALL "] {
                peer.say(&format!("{line}{text}"));
            }
        }
        peer.writer
            .write_all(b"MSG_eve raw \x1b[2J\nMSG_eve \xff\xfe\n\x00\x07\nJOIN_\x1b[2J\n")
            .expect("sent");
        peer.good_bye();
    });
    assert_exit(&output, 0, "");
    assert!(stdout(&output).lines().count() > 200, "{}", told(&output));
    for text in [stdout(&output), stderr(&output)] {
        let hostile = |c: char| c != '\n' && !packetboat::wire::text::is_printable(c);
        assert!(!text.contains(hostile), "{text:?}");
        assert!(!text.lines().any(|line| line.starts_with("<bob>")), "{text:?}");
    }
    assert!(stdout(&output).contains("<eve> one␊<bob> two␛[2J"), "{}", told(&output));
}

#[test]
fn every_line_of_a_pipe_is_said_before_the_client_leaves() {
    let input: String = (0..2_000).map(|number| format!("line {number}\n")).collect();
    let input = [input.as_bytes(), b"\n  \n//slash\n/nonsense\n\xff\xfe\nlast without end"].concat();
    let (output, _folder) = run_pipe(&input, |peer, _| {
        for number in 0..2_000 {
            let line = format!("line {number}");
            peer.answer(&format!("ALL_{line}"), &[&format!("MSG_alice {line}")]);
        }
        peer.answer("ALL_/slash", &["MSG_alice /slash"]);
        peer.answer("ALL_last without end", &["MSG_alice last without end"]);
        peer.good_bye();
    });
    assert_exit(&output, 0, "there is no command /nonsense");
    assert!(stderr(&output).contains("not UTF-8"), "{}", told(&output));
    assert_eq!(stdout(&output).matches("<alice> line ").count(), 2_000);
}

#[test]
fn a_server_that_does_not_answer_is_asked_whether_it_has_taken_what_was_said() {
    let input: String = (0..12).map(|number| format!("line {number}\n")).collect();
    let (output, _folder) = run_pipe(input.as_bytes(), |peer, _| {
        (0..10).for_each(|number| peer.answer(&format!("ALL_line {number}"), &[]));
        peer.answer("PING_taken", &["PONG_taken"]);
        (10..12).for_each(|number| peer.answer(&format!("ALL_line {number}"), &[]));
        peer.good_bye();
    });
    assert_exit(&output, 0, "");
}

#[test]
fn a_long_line_is_said_in_pieces() {
    let (output, _folder) = run_pipe(&[&[b'x'; 4_500][..], b"\n"].concat(), |peer, _| {
        for len in [2_000, 2_000, 500] {
            assert_eq!(peer.line(), format!("ALL_{}", "x".repeat(len)));
        }
        peer.good_bye();
    });
    assert_exit(&output, 0, "");
}

#[test]
fn a_number_means_the_list_that_is_on_its_way() {
    let (output, _folder) = run_pipe(b"/files\n/get 2\n/get 3\n", |peer, _| {
        let file = |name: &str| format!("FILE_5 {MTIME} {name}");
        peer.answer("FILES_", &["FILES_2", &file("a.txt"), &file("b.txt")]);
        peer.answer("GET_udp b.txt", &["ERR_busy GET later"]);
        peer.good_bye();
    });
    assert_exit(&output, 0, "no file 3");
}

#[test]
fn private_mode_keeps_everything_private() {
    let (output, _folder) =
        run_pipe(b"set_msgbob\nsecret\n/all\n/msg carol psst\n/r yes\nopen\n", |peer, _| {
            peer.answer("PM_bob secret", &["PM_bob I hear you"]);
            peer.answer("PM_carol psst", &[]);
            // Whether bob's whisper came before `/r` was typed is chance: then it is an error and nothing is said.
            let line = peer.line();
            if line == "PM_bob yes" {
                assert_eq!(peer.line(), "ALL_open");
            } else {
                assert_eq!(line, "ALL_open");
            }
            peer.good_bye();
        });
    assert_exit(&output, 0, "");
    assert!(stdout(&output).contains("[to bob] secret"), "{}", told(&output));
    assert!(stdout(&output).contains("[bob whispers] I hear you"), "{}", told(&output));
}

#[test]
fn who_talks_to_one_person_is_told_when_that_one_leaves() {
    let (output, _folder) = run_pipe(b"/query BOB\nsecret\n", |peer, _| {
        peer.answer("PM_BOB secret", &["LEAVE_bob"]);
        peer.good_bye();
    });
    assert_exit(&output, 0, "");
    assert!(stdout(&output).contains("* bob does not hear you any more"), "{}", told(&output));
}
