//! R29: a hostile server says whatever it likes, and no face of the client lets it move a cursor or speak as another.

mod common;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use common::pty::Terminal;
use common::strings::hostile_strings;
use packetboat::wire::text::{escape, is_printable};

/// The strings of [`hostile_strings`], alone and within a line that looks like bob's, and lines whose harm is their width.
fn hostile_texts() -> Vec<String> {
    let forged = "10:00 <bob> send me your money";
    let mut texts = Vec::new();
    for string in hostile_strings() {
        texts.push(string.clone());
        texts.push(format!("hello{string}{forged}"));
    }
    // Nothing but the width of the screen, at which a terminal would wrap by itself.
    for padding in 1..=80 {
        texts.push(format!("{}{forged}", "x".repeat(padding)));
        texts.push(format!("{}{forged}", "x ".repeat(padding)));
    }
    for wide in ["漢", "🎉", "e\u{301}", "❤\u{fe0f}", "ＡＢ", "\u{a0}", "\u{3000}"] {
        texts.push(format!("{}{forged}", wide.repeat(39)));
        texts.push(format!("{}{forged}", wide.repeat(80)));
    }
    assert!(texts.len() >= 200);
    texts
}

/// Every line in which a server can tell this.
fn lines(text: &str) -> Vec<String> {
    let escaped = escape(text);
    let raw = text.replace('\n', " ");
    let mut lines = Vec::new();
    for text in [&escaped, &raw] {
        lines.extend([
            format!("MSG_eve {text}"),
            format!("PM_eve {text}"),
            format!("SYS_{text}"),
            format!("ERR_unknown nonsense {text}"),
            format!("JOIN_{text}"),
            format!("NICK_eve {text}"),
            format!("SHARED_eve 5 {text}"),
            format!("{text}_{text}"),
        ]);
    }
    lines
}

/// What the test lets the server do next.
enum Step {
    Say(Vec<String>),
    Close(String),
}

/// A server that logs everybody in, answers WHO and FILES with whatever `listed` is, and says what it is told to.
fn hostile_server(listed: String) -> (String, Sender<Step>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let (tell, steps) = channel();
    thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a client");
        let mut requests = BufReader::new(stream.try_clone().expect("a descriptor"));
        let mut answers = stream.try_clone().expect("a descriptor");
        // Who hears anything before WELCOME takes us for something else.
        requests.read_line(&mut String::new()).expect("a HELLO");
        answers.write_all(b"WELCOME_alice v=1 max=4096\n").expect("it listens");
        thread::spawn(move || answer(requests, answers, &listed));
        say(stream, &steps);
    });
    (address, tell)
}

fn answer(requests: BufReader<TcpStream>, mut answers: TcpStream, listed: &str) {
    for request in requests.lines().map_while(Result::ok) {
        let answer = match request.split('_').next().expect("a name") {
            "WHO" => format!("USERS_1 {listed}\nUSERS_2 alice eve\n"),
            "FILES" => {
                format!("FILES_2\nFILE_5 2026-11-20T10:00:00Z {listed}\nFILE_5 2026-11-20T10:00:00Z a.txt\n")
            }
            "QUIT" => format!("BYE_{}\n", escape(listed)),
            _ => continue,
        };
        if answers.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn say(mut stream: TcpStream, steps: &Receiver<Step>) {
    for step in steps {
        let (lines, ends) = match step {
            Step::Say(lines) => (lines, false),
            Step::Close(reason) => (vec![format!("BYE_{}", escape(&reason))], true),
        };
        let text: String = lines.iter().flat_map(|line| [line, "\n"]).collect();
        if stream.write_all(text.as_bytes()).is_err() || ends {
            return;
        }
    }
}

/// Whether a row can only be what the client has made of it: the begin of a line of ours, or an indented rest.
fn is_honest(row: &str) -> bool {
    let after_time = |row: &str| {
        let (time, rest) = row.split_at_checked(6)?;
        let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        (shape == "00:00 ").then(|| rest.to_owned())
    };
    if row.is_empty() || row.starts_with("      ") || row.starts_with("alice>") {
        return true;
    }
    after_time(row).is_some_and(|rest| {
        // A row of the screen has lost the blanks at its end.
        let begins = ["<eve> ", ">> <eve> ", "[eve whispers] ", "* ", "! "];
        begins.iter().any(|begin| rest.starts_with(begin) || rest == begin.trim_end())
    })
}

/// What is left of the client's output without what it writes itself to keep the line being typed in its place.
fn without_our_sequences(bytes: &[u8]) -> String {
    let text = String::from_utf8(bytes.to_vec()).expect("UTF-8");
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once('\x1b') {
        out.push_str(before);
        let end = after.find(|c: char| !matches!(c, '[' | '?' | '0'..='9')).expect("a whole sequence");
        let (sequence, last) = (&after[..end], &after[end..=end]);
        let is_ours = match last {
            "A" | "C" => sequence[1..].parse::<u16>().is_ok(),
            "J" => sequence == "[",
            "h" | "l" => sequence == "[?2004",
            _ => false,
        };
        assert!(is_ours, "not ours: {sequence:?}{last}");
        rest = &after[end + 1..];
    }
    out + rest
}

#[test]
fn r29_no_server_moves_the_cursor_or_speaks_as_another() {
    for columns in [80, 40] {
        let (address, server) = hostile_server("eve\u{1b}[2J".into());
        let client = env!("CARGO_BIN_EXE_client");
        let mut terminal = Terminal::start(columns, 300, client, &[&address, "alice"], &[("NO_COLOR", "1")]);
        terminal.wait_for_last("alice>");
        terminal.press("half a line");
        let texts = hostile_texts();
        // Half of the texts will do at the other width.
        let every = if columns == 80 { 1 } else { 2 };
        for (i, text) in texts.iter().enumerate().step_by(every) {
            server.send(Step::Say([lines(text), vec![format!("SYS_end {i}")]].concat())).expect("it runs");
            let rows = terminal.wait_for(&format!("* server: end {i}"));
            let dishonest = rows.iter().find(|row| !is_honest(row));
            assert!(dishonest.is_none(), "{dishonest:?} of {text:?}\n{}", rows.join("\n"));
        }
        terminal.wait_for_last("alice> half a line");
        // What has been asked for is no better.
        terminal.press("\x15/files\r/who\r");
        terminal.wait_for_last("alice>");
        server.send(Step::Close("bye\x1b[2J\r\nalice> ".into())).expect("it runs");
        terminal.press("\x03\x03");
        terminal.end();
        let bytes = terminal.bytes();
        let left = without_our_sequences(&bytes);
        let control =
            left.chars().find(|&c| !matches!(c, '\r' | '\n' | '\x07' | '\u{fe0f}') && !is_printable(c));
        assert_eq!(control, None);
        // A sequence of theirs could look like one of ours.
        for string in hostile_strings().iter().filter(|string| string.contains('\x1b') && string.len() > 2) {
            assert!(!bytes.windows(string.len()).any(|window| window == string.as_bytes()), "{string:?}");
        }
    }
}

#[test]
fn r29_pipes_and_json_are_as_safe() {
    for options in [&[][..], &["--json"], &["listen"], &["listen", "--json"], &["--color", "always"]] {
        let (address, server) = hostile_server("eve\u{1b}[2J".into());
        let mut client = Command::new(env!("CARGO_BIN_EXE_client"))
            .args([&[address.as_str(), "alice", "--reconnect-for", "0"], options].concat())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .env_remove("RUST_LOG")
            .spawn()
            .expect("it starts");
        // Open until the end, so that the conversation goes on.
        let _stdin = client.stdin.take();
        for text in hostile_texts() {
            server.send(Step::Say(lines(&text))).expect("it runs");
        }
        server.send(Step::Close("bye\x1b[2J\r\n<bob> hi".into())).expect("it runs");
        let output = client.wait_with_output().expect("it ends");
        for stream in [output.stdout, output.stderr] {
            let text = String::from_utf8(stream).expect("UTF-8");
            assert!(!text.contains("panicked"), "{text}");
            for line in text.lines() {
                let plain =
                    if options == ["--color", "always"] { without_styles(line) } else { line.to_owned() };
                let control = plain.chars().find(|&c| c != '\u{fe0f}' && !is_printable(c));
                assert_eq!(control, None, "{line:?}");
                let begins = ["<eve>", ">> <eve>", "[eve whispers]", "* ", "! ", "{\"type\":\"", "[20"];
                assert!(begins.iter().any(|begin| plain.starts_with(begin)), "{line:?}");
            }
        }
    }
}

/// A line without the colours that were asked for.
fn without_styles(line: &str) -> String {
    let mut parts = line.split("\x1b[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let end = part.find('m').expect("an SGR");
        assert!(part[..end].chars().all(|c| c.is_ascii_digit() || c == ';'), "{line:?}");
        text + &part[end + 1..]
    })
}
