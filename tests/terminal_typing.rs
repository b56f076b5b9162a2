//! The line being typed, in a real pseudo-terminal: nothing tears it, and every key does what people expect.

mod common;

use std::fs;

use common::pty::Terminal;
use common::{RawClient, TestServer};

fn server() -> TestServer {
    TestServer::start(&["--no-rate-limit"])
}

/// alice at a terminal, in the room and with a prompt.
fn alice(server: &TestServer, columns: u16, rows: u16) -> Terminal {
    alice_with(server, columns, rows, &[], &[])
}

fn alice_with(
    server: &TestServer,
    columns: u16,
    rows: u16,
    options: &[&str],
    variables: &[(&str, &str)],
) -> Terminal {
    let address = server.addr.to_string();
    let arguments = [&[address.as_str(), "alice"][..], options].concat();
    let terminal = Terminal::start(columns, rows, env!("CARGO_BIN_EXE_client"), &arguments, variables);
    terminal.wait("the list of members, and a prompt", |rows| {
        let told = rows.join(" ").contains("here: ");
        told && rows.iter().rfind(|row| !row.is_empty()).is_some_and(|row| row.starts_with("alice>"))
    });
    terminal
}

/// The rows that the line being typed stands on: from the last prompt to the end. Nothing while the prompt is being
/// drawn: what a program writes may be read in pieces.
fn typed(rows: &[String]) -> String {
    let begin = rows.iter().rposition(|row| row.starts_with("alice>")).unwrap_or(rows.len());
    rows[begin..].concat()
}

/// Types a long line letter by letter while somebody else says a line for each of them, in one write with the next.
fn type_through_a_flood(columns: u16) {
    let server = server();
    let mut bob = server.login("bob");
    // High enough that nothing is scrolled away.
    let terminal = alice(&server, columns, 400);
    let line: String = (0..120).map(|i| char::from(b'a' + i % 26)).collect();
    for (i, c) in line.chars().enumerate() {
        bob.send(format!("ALL_message {i} has been said\nALL_and {i} more\n"));
        terminal.press(&c.to_string());
    }
    bob.send("ALL_that was all\n");
    terminal.wait_for("<bob> that was all");
    let rows = terminal.wait("the whole line", |rows| typed(rows) == format!("alice> {line}"));
    let said: Vec<&String> = rows.iter().filter(|row| row.contains("<bob>")).collect();
    assert_eq!(said.len(), 241, "{rows:#?}");
    for (i, pair) in said[..240].chunks(2).enumerate() {
        assert!(pair[0].ends_with(&format!("<bob> message {i} has been said")), "{pair:?}");
        assert!(pair[1].ends_with(&format!("<bob> and {i} more")), "{pair:?}");
    }
    // Nothing of the line is left above.
    let begin = rows.iter().rposition(|row| row.starts_with("alice>")).expect("a prompt");
    assert!(rows[..begin].iter().all(|row| !row.contains("abcdef")), "{rows:#?}");
    terminal.press("\r");
    bob.line_but(&["MSG_bob", "JOIN", "PING"])
        .strip_prefix(&format!("MSG_alice {line}"))
        .expect("said as typed");
}

#[test]
fn r29_a_flood_does_not_tear_what_is_typed_at_80_columns() {
    type_through_a_flood(80);
}

#[test]
fn r29_a_flood_does_not_tear_a_line_of_four_rows_at_40_columns() {
    type_through_a_flood(40);
}

#[test]
fn r29_a_flood_does_not_tear_what_is_typed_at_300_columns() {
    type_through_a_flood(300);
}

#[test]
fn a_resized_window_keeps_the_line() {
    let server = server();
    let mut bob = server.login("bob");
    let terminal = alice(&server, 80, 40);
    let line = "a line of which nobody shall lose a word when the window becomes another one";
    terminal.press(line);
    terminal.wait("the line", |rows| typed(rows) == format!("alice> {line}"));
    for columns in [40, 120, 50, 80] {
        terminal.resize(columns, 40);
        bob.send(format!("ALL_now {columns} columns\n"));
        terminal.wait_for(&format!("<bob> now {columns} columns"));
        let rows = terminal.wait("the line again", |rows| typed(rows) == format!("alice> {line}"));
        let said = rows.iter().rposition(|row| row.contains("<bob>")).expect("said");
        assert!(rows[said + 1].starts_with("alice>"), "{rows:#?}");
    }
    terminal.press("!\r");
    assert_eq!(bob.line_but(&["MSG_bob", "JOIN"]), format!("MSG_alice {line}!"));
}

#[test]
fn wide_and_right_to_left_text_keeps_the_layout() {
    let server = server();
    let mut bob = server.login("bob");
    let terminal = alice(&server, 40, 40);
    for text in [
        "שלום לכולם",
        "مرحبا بالجميع",
        "你好，世界。今天天气很好，我们去公园吧。",
        "🎉🎉🎉 party",
        "e\u{301}te\u{301}",
    ] {
        bob.send(format!("ALL_{text}\n"));
        terminal.wait(text, |rows| {
            let all: String = rows.iter().map(|row| row.trim_start()).collect();
            all.contains(&text.replace(' ', "")) || all.replace(' ', "").contains(&text.replace(' ', ""))
        });
    }
    // Editing in the middle of it, with the cursor where it belongs.
    terminal.press("漢字かな交じり文");
    terminal.wait_for_last("alice> 漢字かな交じり文");
    terminal.press("\x1b[D\x1b[D\x7fX");
    terminal.wait_for_last("alice> 漢字かな交Xり文");
    assert_eq!(terminal.cursor().1, 7 + 2 * 5 + 1);
    terminal.press("\r");
    assert_eq!(bob.line_but(&["MSG_bob", "JOIN"]), "MSG_alice 漢字かな交Xり文");
}

#[test]
fn a_paste_of_many_lines_is_one_question() {
    let server = server();
    let mut bob = server.login("bob");
    let terminal = alice(&server, 80, 40);
    let lines: Vec<String> = (0..200).map(|i| format!("pasted line {i}")).collect();
    let paste = format!("\x1b[200~{}\x1b[201~", lines.join("\r"));
    terminal.press("half ");
    terminal.press(&paste);
    let rows = terminal.wait_for_last("say 200 lines to everyone? [y/n/j]");
    assert!(rows.iter().any(|row| row == "  | ... 197 more"), "{rows:#?}");
    terminal.press("n");
    // What was half typed is still there, and nothing was said.
    terminal.wait_for_last("alice> half");
    terminal.press("a line\r");
    assert_eq!(bob.line_but(&["JOIN"]), "MSG_alice half a line");
    terminal.press(&paste);
    terminal.wait_for_last("say 200 lines to everyone? [y/n/j]");
    terminal.press("y");
    for line in &lines {
        assert_eq!(bob.line(), format!("MSG_alice {line}"));
    }
    terminal.press("\x1b[200~/quit\n/who\n\x1b[201~");
    terminal.wait_for_last("say 2 lines to everyone? [y/n/j]");
    terminal.press("j");
    terminal.wait_for_last("alice> /quit /who");
    terminal.press("\x03\x1b[200~one line\n\x1b[201~");
    terminal.wait_for_last("alice> one line");
    terminal.press("\r");
    assert_eq!(bob.line(), "MSG_alice one line");
}

#[test]
fn a_paste_that_is_too_long_for_a_line_is_not_lost_without_a_word() {
    let server = server();
    let terminal = alice(&server, 80, 40);
    let half = "x".repeat(40_000);
    terminal.press(&format!("\x1b[200~{half}\r{half}\x1b[201~"));
    terminal.wait_for_last("say 2 lines to everyone? [y/n/j]");
    terminal.press("j");
    terminal.wait_for("! too long for one line, not taken");
    terminal.wait_for_last("say 2 lines to everyone? [y/n/j]");
    terminal.press("n");
    terminal.wait_for_last("alice>");
    terminal.press(&format!("\x1b[200~{half}{half}\x1b[201~"));
    terminal.wait("told again", |rows| {
        rows.iter().filter(|row| row.contains("! too long for one line")).count() == 2
    });
}

#[test]
fn many_lines_at_once_are_a_paste_where_the_terminal_does_not_mark_it() {
    let server = server();
    let mut bob = server.login("bob");
    let terminal = alice(&server, 80, 40);
    // More than a terminal gives at one read.
    let lines: Vec<String> = (0..1000).map(|i| format!("pasted line {i} y\r")).collect();
    terminal.press(&lines.concat());
    terminal.wait_for_last("say 1000 lines to everyone? [y/n/j]");
    terminal.press("n");
    terminal.wait_for_last("alice>");
    terminal.press("typed\r");
    assert_eq!(bob.line_but(&["JOIN"]), "MSG_alice typed");
}

#[test]
fn a_large_paste_is_said_no_faster_than_the_server_takes_it() {
    // Lines wait for the rate for no longer than half a second, or the client is thrown out.
    let server = TestServer::start(&["--rate", "50", "--max-pressure", "0.5"]);
    let mut bob = server.login("bob");
    let mut terminal = alice(&server, 80, 40);
    let lines: Vec<String> = (0..300).map(|i| format!("line {i}: {}", "x".repeat(40))).collect();
    let paste = format!("\x1b[200~{}\x1b[201~", lines.join("\r"));
    // To the room, and then to one person alone, whatever is typed meanwhile.
    terminal.press(&paste);
    terminal.wait_for_last("say 300 lines to everyone? [y/n/j]");
    terminal.press("y");
    assert_eq!(bob.line_but(&["JOIN"]), format!("MSG_alice {}", lines[0]));
    for line in &lines[1..] {
        assert_eq!(bob.line(), format!("MSG_alice {line}"));
    }
    terminal.press("/query bob\r");
    terminal.wait_for_last("alice->bob>");
    terminal.press(&paste);
    terminal.wait_for_last("say 300 lines to bob? [y/n/j]");
    terminal.press("y/all\r");
    assert_eq!(bob.line(), format!("PM_alice {}", lines[0]));
    for line in &lines[1..] {
        assert_eq!(bob.line(), format!("PM_alice {line}"));
    }
    // ^C stops it, and tells how much is left; so does leaving.
    terminal.press(&paste);
    terminal.wait_for_last("say 300 lines to everyone? [y/n/j]");
    terminal.press("y");
    assert_eq!(bob.line(), format!("MSG_alice {}", lines[0]));
    terminal.press("\x03");
    let rows = terminal.wait_for("of the paste not said");
    let told = rows.iter().find(|row| row.contains("of the paste not said")).expect("told");
    let left = told.split(" lines").next().and_then(|words| words.rsplit(' ').next()).expect("words");
    let left: usize = left.parse().expect("a number");
    terminal.press("that was it\r");
    let said: Vec<String> = (0..300 - left).map(|_| bob.line()).collect();
    assert!(left > 100 && said.last() == Some(&"MSG_alice that was it".to_owned()), "{left}: {said:#?}");
    terminal.press(&paste);
    terminal.wait_for_last("say 300 lines to everyone? [y/n/j]");
    terminal.press("y");
    assert_eq!(bob.line(), format!("MSG_alice {}", lines[0]));
    terminal.press("/quit\r");
    assert_eq!(terminal.end().code(), Some(0));
    let shown = String::from_utf8(terminal.bytes()).expect("UTF-8");
    assert_eq!(shown.matches("of the paste not said").count(), 2, "{shown}");
}

#[test]
fn tab_completes_nicks_commands_shared_files_and_paths() {
    let server = TestServer::start_with(&["--no-rate-limit"], |files| {
        fs::write(files.join("lore of the sea.txt"), "x").expect("written");
        fs::write(files.join("lorry.txt"), "x").expect("written");
    });
    let mut robert = server.login("robert");
    let terminal = alice(&server, 80, 40);
    terminal.press("rob\t");
    terminal.wait_for_last("alice> robert:");
    terminal.press("hi\r");
    assert_eq!(robert.line_but(&["JOIN"]), "MSG_alice robert: hi");
    let _later = server.login("rosa");
    terminal.wait_for("* rosa joined");
    terminal.press("/que\tro\t");
    terminal.wait_for("robert  rosa");
    terminal.press("s\t\r");
    terminal.wait_for_last("alice->rosa>");
    terminal.press("/all\r");
    terminal.wait_for_last("alice>");
    // The names of the shelf are asked for when they are needed, and are not shown.
    terminal.press("/get lo\t");
    terminal.wait_for_last("alice> /get lor");
    terminal.press("\t");
    terminal.wait_for("lore of the sea.txt  lorry.txt");
    terminal.press("e\t\r");
    let rows = terminal.wait_for("fetched lore of the sea.txt");
    assert!(!rows.join("\n").contains("  1  "), "{rows:#?}");
    fs::write(terminal.folder.join("report.pdf"), "y").expect("written");
    terminal.press("/put rep\t\r");
    terminal.wait_for("put report.pdf: 1 B");
    terminal.press("/he\tput\r");
    terminal.wait_for("Examples: /put report.pdf");
}

#[test]
fn what_was_typed_can_be_found_again() {
    let server = server();
    let mut bob = server.login("bob");
    let terminal = alice(&server, 80, 40);
    for (line, said) in [
        ("first thing\r", "MSG_alice first thing"),
        ("/msg bob a secret\r", "PM_alice a secret"),
        ("second thing\r", "MSG_alice second thing"),
    ] {
        terminal.press(line);
        assert_eq!(bob.line_but(&["JOIN"]), said);
    }
    terminal.press("\x12first");
    terminal.wait_for_last("(search: first) first thing");
    terminal.press("\r");
    assert_eq!(bob.line(), "MSG_alice first thing");
    terminal.press("\x1b[A\x1b[A");
    terminal.wait_for_last("alice> second thing");
    terminal.press("\x03\x03");
    let history = terminal.folder.join(".local/state/packetboat/history");
    let kept = fs::read_to_string(&history).expect("a history");
    assert_eq!(kept, "first thing\nsecond thing\nfirst thing\n");
}

#[test]
fn the_prompt_shows_where_a_line_goes() {
    let server = server();
    let mut bob = server.login("bob");
    let terminal = alice(&server, 80, 40);
    terminal.press("/query bob\r");
    terminal.wait_for_last("alice->bob>");
    terminal.press("psst\r");
    assert_eq!(bob.line_but(&["JOIN"]), "PM_alice psst");
    terminal.wait_for("alice->bob> psst");
    bob.send("NICK_rob\n");
    terminal.wait_for_last("alice->rob>");
    terminal.press("half a");
    terminal.press("\x15/nick ally\r");
    terminal.wait_for_last("ally->rob>");
    terminal.press("/all\r");
    terminal.wait_for_last("ally>");
    terminal.press("//etc\r");
    terminal.wait_for("ally> //etc");
    terminal.press("/fiels\r");
    assert_eq!(bob.line_but(&["NICK"]), "MSG_ally /etc");
    terminal.wait_for("! there is no command /fiels, did you mean /files?");
    bob.send("ALL_hello Ally\nPM_ally you alone\n");
    terminal.wait_for(">> <rob> hello Ally");
    terminal.wait_for("[rob whispers] you alone");
    terminal.wait_for_bytes(b"\x07");
}

#[test]
fn the_end_of_the_input_does_not_wait_for_a_server_that_is_away() {
    let server = server();
    let mut terminal = alice(&server, 80, 40);
    drop(server);
    terminal.wait_for("* connection lost");
    terminal.press("nobody hears this\r");
    terminal.wait_for("alice (away)> nobody hears this");
    terminal.press("\x04");
    terminal.wait_for("! 1 line not said");
    assert_eq!(terminal.end().code(), Some(0));
}

#[test]
fn a_server_that_goes_away_is_seen_in_the_prompt() {
    let server = server();
    let terminal = alice(&server, 80, 40);
    terminal.press("half a line");
    terminal.wait_for_last("alice> half a line");
    let server = server.restart(&["--no-rate-limit"]);
    terminal.wait_for("* connection lost");
    terminal.wait_for("* back as alice");
    let mut bob: RawClient = server.login("bob");
    terminal.wait_for_last("alice> half a line");
    terminal.press(" more\r");
    assert_eq!(bob.line(), "MSG_alice half a line more");
}
