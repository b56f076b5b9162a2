//! The client as scripts see it: exit codes, standard output and the disk, against a scripted server.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::{self, JoinHandle};

use tempfile::TempDir;

const TOKEN: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const MTIME: &str = "2026-11-20T10:00:00Z";

/// The server's end of one control connection.
struct Peer {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
}

impl Peer {
    /// The next line without its LF; empty at the end of the stream.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("a line");
        line.trim_end_matches('\n').to_owned()
    }

    fn say(&mut self, line: &str) {
        // The client may be gone already, in the scripts where it is meant to.
        let _ = writeln!(self.writer, "{line}");
    }

    /// Hears `asked` and answers.
    fn answer(&mut self, asked: &str, answers: &[&str]) {
        assert_eq!(self.line(), asked);
        answers.iter().for_each(|answer| self.say(answer));
    }

    /// Closes; what the client still says is read, because a socket closed with unread octets is reset.
    fn hang_up(&mut self) {
        let _ = self.writer.shutdown(Shutdown::Write);
        let _ = io::copy(&mut self.reader, &mut io::sink());
    }

    fn good_bye(&mut self) {
        self.answer("QUIT_", &["BYE_"]);
        assert_eq!(self.line(), "", "nothing after QUIT");
    }
}

/// Plays a server: logs in whoever comes under the nick asked for, then follows the script.
fn server(script: impl FnOnce(&mut Peer, &TcpListener) + Send + 'static) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    let thread = thread::spawn(move || {
        let mut peer = accept(&listener);
        let hello = peer.line();
        let nick = hello.strip_prefix("HELLO_").expect("HELLO first").trim_end_matches(" quiet");
        let welcome = format!("WELCOME_{nick} v=1 max=4096");
        peer.say(&welcome);
        script(&mut peer, &listener);
        peer.hang_up();
    });
    (address, thread)
}

fn accept(listener: &TcpListener) -> Peer {
    let (stream, _) = listener.accept().expect("a client");
    Peer { reader: BufReader::new(stream.try_clone().expect("a handle")), writer: stream }
}

fn client(folder: &Path, address: SocketAddr, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_client"));
    command.arg(address.to_string()).args(arguments).current_dir(folder).env("TMPDIR", folder);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs the client against a script in an empty folder.
fn run(
    arguments: &[&str],
    script: impl FnOnce(&mut Peer, &TcpListener) + Send + 'static,
) -> (Output, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let (address, thread) = server(script);
    let output = client(folder.path(), address, arguments).output().expect("the client runs");
    thread.join().unwrap_or_else(|_| panic!("the script failed; {}", told(&output)));
    (output, folder)
}

/// Runs the client with this input on a pipe.
fn run_pipe(
    input: &[u8],
    script: impl FnOnce(&mut Peer, &TcpListener) + Send + 'static,
) -> (Output, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let (address, thread) = server(script);
    let mut child =
        client(folder.path(), address, &["alice"]).stdin(Stdio::piped()).spawn().expect("the client runs");
    child.stdin.take().expect("a pipe").write_all(input).expect("written");
    let output = child.wait_with_output().expect("it ends");
    thread.join().unwrap_or_else(|_| panic!("the script failed; {}", told(&output)));
    (output, folder)
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

fn told(output: &Output) -> String {
    format!("{:?}, stdout: {}, stderr: {}", output.status, stdout(output), stderr(output))
}

fn assert_exit(output: &Output, code: i32, words: &str) {
    assert_eq!(output.status.code(), Some(code), "{}", told(output));
    assert!(stderr(output).contains(words), "{}", told(output));
    assert!(!stderr(output).contains("panicked"), "{}", told(output));
}

fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

/// Offers `size` octets of `name` over TCP, sends `content`, and tells the digest of `digest_of`.
fn serve_file(
    peer: &mut Peer,
    listener: &TcpListener,
    name: &str,
    size: usize,
    content: &[u8],
    digest_of: &[u8],
) {
    let port = listener.local_addr().expect("an address").port();
    let offer = format!("OFFER_7 tcp {port} {TOKEN} {size} {MTIME} - {name}");
    peer.answer(&format!("GET_tcp {name}"), &[&offer]);
    let mut stream = accept(listener);
    assert_eq!(stream.line(), format!("DATA_{TOKEN}"));
    // A client that has seen enough closes early.
    let _ = stream.writer.write_all(content);
    let _ = stream.writer.shutdown(Shutdown::Write);
    peer.say(&format!("DONE_7 {size} {}", blake3::hash(digest_of)));
}

#[test]
fn no_server_is_one_clear_line_and_exit_3() {
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address");
    let folder = tempfile::tempdir().expect("a folder");
    let output = client(folder.path(), closed, &["alice"]).output().expect("it runs");
    assert_exit(&output, 3, "cargo run --bin server");
    assert_eq!(stderr(&output).lines().count(), 1, "{}", told(&output));

    let mut unknown = Command::new(env!("CARGO_BIN_EXE_client"));
    let output = unknown.args(["no-such-host.invalid", "alice", "who"]).output().expect("it runs");
    assert_exit(&output, 3, "the host is unknown");
}

#[test]
fn what_answers_but_is_no_server_is_said() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    let thread = thread::spawn(move || {
        let mut peer = accept(&listener);
        peer.say("HTTP/1.1 400 Bad Request");
        peer.hang_up();
    });
    let folder = tempfile::tempdir().expect("a folder");
    let output = client(folder.path(), address, &["who"]).output().expect("it runs");
    assert_exit(&output, 3, "not a Packetboat server");
    thread.join().expect("served");
}

#[test]
fn a_wrong_command_line_is_exit_2() {
    for arguments in
        [&["host:0"][..], &["127.0.0.1", "alice", "get"], &[], &["127.0.0.1", "get", "x", "--udp", "--tcp"]]
    {
        let output = Command::new(env!("CARGO_BIN_EXE_client")).args(arguments).output().expect("it runs");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", told(&output));
    }
    let help = Command::new(env!("CARGO_BIN_EXE_client")).arg("--help").output().expect("it runs");
    assert!(help.status.success() && stdout(&help).starts_with("Examples:"), "{}", told(&help));
}

#[test]
fn a_nick_taken_or_impossible_is_exit_4() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    let thread = thread::spawn(move || {
        let mut peer = accept(&listener);
        peer.answer("HELLO_alice", &["ERR_nick-taken HELLO somebody here has this nickname"]);
        assert_eq!(peer.line(), "");
    });
    let folder = tempfile::tempdir().expect("a folder");
    let output = client(folder.path(), address, &["alice"]).output().expect("it runs");
    assert_exit(&output, 4, "somebody here has this nickname");
    thread.join().expect("asked once");
    let output = client(folder.path(), address, &["1x"]).output().expect("it runs");
    assert_exit(&output, 4, "begins with a letter");
}

#[test]
fn a_guest_tries_another_name_when_its_own_is_taken() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    let thread = thread::spawn(move || {
        let mut first = accept(&listener);
        let hello = first.line();
        assert!(hello.starts_with("HELLO_guest-") && hello.ends_with(" quiet"), "{hello}");
        first.say("ERR_nick-taken HELLO taken");
        let mut second = accept(&listener);
        let hello = second.line();
        let nick =
            hello.strip_prefix("HELLO_").and_then(|rest| rest.strip_suffix(" quiet")).expect("a guest");
        second.say(&format!("WELCOME_{nick} v=1 max=4096"));
        let users = format!("USERS_3 alice {nick}");
        second.answer("WHO_", &["MSG_alice hi", &users, "USERS_3 bob"]);
        second.good_bye();
    });
    let folder = tempfile::tempdir().expect("a folder");
    let output = client(folder.path(), address, &["who"]).output().expect("it runs");
    thread.join().expect("the script");
    assert_exit(&output, 0, "");
    assert_eq!(stdout(&output), "alice\nbob\n");
}

#[test]
fn a_message_is_confirmed_before_the_client_leaves() {
    let (output, _folder) = run(&["alice", "msg", "see you\nat 5"], |peer, _| {
        peer.answer("ALL_see you\\nat 5", &["MSG_alice see you\\nat 5"]);
        peer.answer("PING_said", &["PONG_said"]);
        peer.good_bye();
    });
    assert_exit(&output, 0, "");
    assert_eq!(stdout(&output), "");

    let (output, _folder) = run(&["alice", "msg", "hi", "--to", "bob", "--json"], |peer, _| {
        peer.answer("PM_bob hi", &["ERR_no-user PM nobody here is called bob"]);
    });
    assert_exit(&output, 5, "nobody here is called bob");
    let json: serde_json::Value = serde_json::from_str(&stdout(&output)).expect("one object");
    assert_eq!((json["type"].as_str(), json["code"].as_str()), (Some("error"), Some("no-user")));
}

#[test]
fn files_come_page_after_page() {
    let (output, _folder) = run(&["files", "--json"], |peer, _| {
        let file = |number: usize| format!("FILE_70558 {MTIME} file {number:03}.txt");
        peer.answer("FILES_", &["FILES_257"]);
        (0..256).for_each(|number| peer.say(&file(number)));
        peer.answer("FILES_file 255.txt", &["FILES_1", &file(256)]);
        peer.good_bye();
    });
    assert_exit(&output, 0, "");
    let json: serde_json::Value = serde_json::from_str(&stdout(&output)).expect("one object");
    assert_eq!(json["files"].as_array().expect("a list").len(), 257);
    assert_eq!(json["files"][256]["name"], "file 256.txt");

    let (output, _folder) = run(&["files"], |peer, _| {
        peer.answer("FILES_", &["FILES_1", &format!("FILE_70558 {MTIME} lore.txt")]);
        peer.good_bye();
    });
    assert_eq!(stdout(&output), "  1   70.6 kB  2026-11-20 10:00  lore.txt\n");
}

#[test]
fn a_file_over_tcp_is_verified_and_kept() {
    let (output, folder) = run(&["get", "lore.txt", "--tcp", "--json"], |peer, listener| {
        serve_file(peer, listener, "lore.txt", 5, b"hello", b"hello");
        assert_eq!(peer.line(), "DONE_7 ok");
        peer.good_bye();
    });
    assert_exit(&output, 0, "");
    let json: serde_json::Value = serde_json::from_str(&stdout(&output)).expect("one object");
    for (key, value) in [("type", "transfer"), ("name", "lore.txt"), ("transport", "tcp")] {
        assert_eq!(json[key], value, "{json}");
    }
    assert_eq!((json["bytes"].as_u64(), json["path"].as_str()), (Some(5), Some("downloads/lore.txt")));
    assert!(json["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{json}");
    assert!(json["first_byte_seconds"].as_f64() <= json["seconds"].as_f64(), "{json}");
    assert!(json["first_byte_seconds"].as_f64() > Some(0.0), "{json}");
    assert_eq!(json["digest"], blake3::hash(b"hello").to_string());
    assert_eq!(fs::read(folder.path().join("downloads/lore.txt")).expect("kept"), b"hello");
    assert_eq!(names(&folder.path().join("downloads")), ["lore.txt"]);
}

#[test]
fn a_file_for_stdout_is_verified_first() {
    let (output, folder) = run(&["get", "lore.txt", "--tcp", "-o", "-"], |peer, listener| {
        serve_file(peer, listener, "lore.txt", 5, b"hello", b"hello");
        assert_eq!(peer.line(), "DONE_7 ok");
        peer.good_bye();
    });
    assert_exit(&output, 0, "fetched lore.txt");
    assert_eq!(output.stdout, b"hello");
    assert!(names(folder.path()).is_empty(), "{:?}", names(folder.path()));

    let (output, folder) = run(&["get", "lore.txt", "--tcp", "-o", "-"], |peer, listener| {
        serve_file(peer, listener, "lore.txt", 5, b"hellO", b"hello");
        assert_eq!(peer.line(), "DONE_7 digest");
    });
    assert_exit(&output, 7, "damaged");
    assert_eq!(output.stdout, b"");
    assert!(names(folder.path()).is_empty(), "{:?}", names(folder.path()));
}

#[test]
fn a_damaged_file_is_exit_7_and_leaves_nothing() {
    let (output, folder) = run(&["get", "lore.txt", "--tcp", "-o", "mine.txt"], |peer, listener| {
        serve_file(peer, listener, "lore.txt", 5, b"hellO", b"hello");
        assert_eq!(peer.line(), "DONE_7 digest");
    });
    assert_exit(&output, 7, "damaged");
    assert!(names(folder.path()).is_empty(), "{:?}", names(folder.path()));
}

#[test]
fn a_server_that_vanishes_or_sends_too_much_leaves_nothing() {
    let get_mine = ["get", "lore.txt", "--tcp", "-o", "mine.txt", "--reconnect-for", "0"];
    let (output, folder) = run(&get_mine, |peer, listener| {
        let port = listener.local_addr().expect("an address").port();
        peer.answer("GET_tcp lore.txt", &[&format!("OFFER_7 tcp {port} {TOKEN} 5 {MTIME} - lore.txt")]);
        let mut stream = accept(listener);
        stream.line();
        stream.writer.write_all(b"hel").expect("sent");
    });
    assert_exit(&output, 6, "lore.txt");
    assert!(names(folder.path()).is_empty(), "{:?}", names(folder.path()));

    let (output, folder) = run(&["get", "lore.txt", "--tcp", "-o", "mine.txt"], |peer, listener| {
        serve_file(peer, listener, "lore.txt", 5, b"hello, and more", b"hello");
        assert_eq!(peer.line(), "DONE_7 incomplete");
    });
    assert_exit(&output, 6, "more than it had announced");
    assert!(names(folder.path()).is_empty(), "{:?}", names(folder.path()));

    let (output, _folder) = run(&["get", "lore.txt", "--tcp", "--reconnect-for", "0"], |peer, _| {
        assert_eq!(peer.line(), "GET_tcp lore.txt");
    });
    assert_exit(&output, 3, "the connection to the server is lost");
}

#[test]
fn a_complete_file_is_kept_when_the_session_ends_and_the_offer_told_its_digest() {
    let (output, folder) = run(&["get", "lore.txt", "--tcp"], |peer, listener| {
        let port = listener.local_addr().expect("an address").port();
        let digest = blake3::hash(b"hello");
        peer.answer(
            "GET_tcp lore.txt",
            &[&format!("OFFER_7 tcp {port} {TOKEN} 5 {MTIME} {digest} lore.txt")],
        );
        let mut stream = accept(listener);
        stream.line();
        stream.writer.write_all(b"hello").expect("sent");
        stream.writer.shutdown(Shutdown::Write).expect("shut down");
        // The client closes its side once it has everything; only then is the session cut.
        assert_eq!(stream.line(), "");
    });
    assert_exit(&output, 0, "");
    assert_eq!(names(&folder.path().join("downloads")), ["lore.txt"]);
}

#[test]
fn an_absent_file_is_exit_5_and_an_existing_target_exit_9() {
    let (output, folder) = run(&["get", "nothing.txt"], |peer, _| {
        peer.answer("GET_udp nothing.txt", &["ERR_no-file GET no such file"]);
    });
    assert_exit(&output, 5, "nothing.txt: no such file");
    assert!(names(folder.path()).is_empty());
    let (output, _folder) = run(&["get", "nothing.txt", "--json"], |peer, _| {
        peer.answer("GET_udp nothing.txt", &["ERR_no-file GET no such file"]);
    });
    let json: serde_json::Value = serde_json::from_str(&stdout(&output)).expect("one object");
    assert_eq!((json["code"].as_str(), json["name"].as_str()), (Some("no-file"), Some("nothing.txt")));

    // Nobody listens at this port: neither case may need a server.
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address");
    for bad in ["../etc/passwd", "/etc/passwd", ".hidden", "a\nb"] {
        let output = client(folder.path(), closed, &["get", bad]).output().expect("it runs");
        assert_exit(&output, 5, "no shared file can be called");
    }
    fs::write(folder.path().join("mine.txt"), "precious").expect("written");
    let output =
        client(folder.path(), closed, &["get", "lore.txt", "-o", "mine.txt"]).output().expect("it runs");
    assert_exit(&output, 9, "exists already");
    assert_eq!(fs::read(folder.path().join("mine.txt")).expect("there"), b"precious");
}

#[test]
fn an_existing_download_gets_a_number_and_talk_goes_on_meanwhile() {
    let (output, folder) =
        run_pipe(b"/get lore.txt --tcp\ndownload_file lore.txt --tcp\nhello\n", |peer, listener| {
            let port = listener.local_addr().expect("an address").port();
            assert_eq!(peer.line(), "GET_tcp lore.txt");
            assert_eq!(peer.line(), "GET_tcp lore.txt");
            peer.answer("ALL_hello", &["MSG_alice hello"]);
            let token = |id: u32| format!("{id:064x}");
            for id in [7, 8] {
                peer.say(&format!("OFFER_{id} tcp {port} {} 5 {MTIME} - lore.txt", token(id)));
            }
            for _ in [7, 8] {
                let mut stream = accept(listener);
                let first = stream.line() == format!("DATA_{}", token(7));
                stream.writer.write_all(if first { b"first" } else { b"other" }).expect("sent");
            }
            peer.say(&format!("DONE_7 5 {}", blake3::hash(b"first")));
            peer.say(&format!("DONE_8 5 {}", blake3::hash(b"other")));
            let mut done = [peer.line(), peer.line()];
            done.sort();
            assert_eq!(done, ["DONE_7 ok", "DONE_8 ok"]);
            peer.good_bye();
        });
    assert_exit(&output, 0, "");
    assert!(stdout(&output).contains("<alice> hello"), "{}", told(&output));
    let kept = names(&folder.path().join("downloads"));
    assert_eq!(kept, ["lore (1).txt", "lore.txt"]);
}

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
        peer.answer("ALL_/slash", &[]);
        peer.answer("ALL_last without end", &[]);
        peer.good_bye();
    });
    assert_exit(&output, 0, "there is no command /nonsense");
    assert!(stderr(&output).contains("not UTF-8"), "{}", told(&output));
    assert_eq!(stdout(&output).matches("<alice> line ").count(), 2_000);
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

#[test]
fn a_mistyped_command_word_is_a_nick_with_a_hint() {
    let folder = tempfile::tempdir().expect("a folder");
    for (nick, hint) in [("fles", "client: you are `fles`; did you mean the command `files`?\n"), ("bob", "")]
    {
        let (address, thread) = server(|peer, _| peer.good_bye());
        let output = client(folder.path(), address, &[nick]).output().expect("it runs");
        thread.join().expect("the script");
        assert_exit(&output, 0, "");
        assert_eq!(stderr(&output), hint);
    }
}

#[test]
fn a_ping_is_answered_and_a_kick_is_exit_10() {
    let (output, _folder) = run(&["listen"], |peer, _| {
        peer.say("PING_are you there");
        assert_eq!(peer.line(), "PONG_are you there");
        peer.say("ERR_strikes ALL too many bad lines");
        peer.say("BYE_too many bad lines");
    });
    assert_exit(&output, 10, "too many bad lines");
    let (output, _folder) =
        run(&["listen", "--reconnect-for", "0"], |peer, _| peer.say("BYE_the server is going down"));
    assert_exit(&output, 3, "the server is going down");
}

#[test]
fn a_reader_that_leaves_is_a_quiet_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let (address, thread) = server(|peer, _| {
        // Lines until the client has noticed that nobody reads them.
        while writeln!(peer.writer, "MSG_bob hi").is_ok() {}
    });
    let mut child = client(folder.path(), address, &["listen"]).spawn().expect("it runs");
    let mut first = [0; 10];
    child.stdout.take().expect("a pipe").read_exact(&mut first).expect("a line, then closed");
    let output = child.wait_with_output().expect("it ends");
    thread.join().expect("the script");
    assert_exit(&output, 0, "");
    assert_eq!(stderr(&output), "");
}

#[test]
fn a_signal_ends_cleanly_with_its_code_and_removes_what_is_unfinished() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let folder = tempfile::tempdir().expect("a folder");
        let (begun, wait_begun) = std::sync::mpsc::channel();
        let (address, thread) = server(move |peer, listener| {
            let port = listener.local_addr().expect("an address").port();
            peer.answer("GET_tcp lore.txt", &[&format!("OFFER_7 tcp {port} {TOKEN} 5 {MTIME} - lore.txt")]);
            let mut stream = accept(listener);
            stream.line();
            stream.writer.write_all(b"hel").expect("sent");
            begun.send(()).expect("heard");
            assert_eq!(peer.line(), "QUIT_");
        });
        let child = client(folder.path(), address, &["get", "lore.txt", "--tcp"]).spawn().expect("it runs");
        wait_begun.recv().expect("begun");
        let killed = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status();
        assert!(killed.expect("kill runs").success());
        let output = child.wait_with_output().expect("it ends");
        thread.join().expect("the script");
        assert_exit(&output, code, "");
        let left = names(&folder.path().join("downloads"));
        assert!(left.is_empty(), "{left:?}");
    }
}
