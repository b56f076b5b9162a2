//! The session at the top of the README is played, and what the screen shows is what the README says.
//!
//! After a change of what the client prints, `PACKETBOAT_README=write cargo test --test readme` plays it into the README.

mod common;

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::RawClient;
use common::person::Person;
use tempfile::TempDir;

const SERVER: &str = "$ cargo run --bin server\n";
const TALK: &str = "$ cargo run --bin client 127.0.0.1 bob\n";
const FETCH: &str = "$ cargo run --bin client -- 127.0.0.1 bob get voyage.avi -y --simulate loss=10%\n";

/// A server with the five sample files, as whoever follows the README has it, but on ports of the system's choice.
struct Shelf {
    server: Child,
    greeting: String,
    address: SocketAddr,
    folder: TempDir,
}

impl Shelf {
    fn open() -> Shelf {
        let folder = tempfile::tempdir().expect("a folder");
        let files = folder.path().join("files");
        fs::create_dir(&files).expect("a folder");
        for name in ["lore.txt", "sunset.png", "tune.wav", "waves.gif"] {
            let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("files").join(name);
            fs::copy(sample, files.join(name)).expect("a sample file");
        }
        // Of its octets nobody sees more than how many they are.
        for (path, len) in
            [(files.join("voyage.avi"), 67_739_648), (folder.path().join("report.pdf"), 2_200_000)]
        {
            File::create(path).and_then(|file| file.set_len(len)).expect("a file");
        }
        let mut server = Command::new(env!("CARGO_BIN_EXE_server"))
            .args(["--listen", "127.0.0.1:0", "--workers", "2", "-q"])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut greeting = String::new();
        BufReader::new(server.stdout.take().expect("piped")).read_line(&mut greeting).expect("a line");
        let address =
            greeting.split(' ').nth(4).and_then(|address| address.parse().ok()).expect("an address");
        Shelf { server, greeting, address, folder }
    }

    fn client(&self, arguments: &[&str]) -> Person {
        let address = self.address.to_string();
        Person::start(self.folder.path(), &[&[&*address, "bob"], arguments].concat(), 120)
    }

    /// Ports as they are by default.
    fn with_default_ports(&self, text: &str) -> String {
        let text = text.replace(&self.address.to_string(), "127.0.0.1:55000");
        let udp = self.greeting.split_once("(udp ").and_then(|(_, rest)| rest.split_once(')'));
        text.replace(udp.expect("the greeting tells them").0, "55001-55002")
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Plays it all; gives the transcript.
fn play() -> String {
    let shelf = Shelf::open();
    let mut bob = shelf.client(&[]);
    bob.see_text("* 1 here: bob");
    bob.see_text("bob>");
    let mut alice = RawClient::connect(shelf.address);
    alice.send("HELLO_alice\nALL_hello bob, snake_case stays_whole\n");
    bob.see_text("stays_whole");
    say(&mut bob, "hello alice");
    hear(&mut alice, "MSG_bob hello alice");
    alice.send("PM_bob meet me at five\n");
    bob.see_text("meet me at five");
    say(&mut bob, "/r agreed");
    hear(&mut alice, "PM_bob agreed");
    for (typed, seen) in [
        ("/files", "waves.gif"),
        ("/get 1", "fetched lore.txt"),
        ("/get voyage.avi", "Go on?"),
        ("/yes", "fetched voyage.avi"),
        ("/put report.pdf", "bob put report.pdf (2.2 MB)"),
    ] {
        say(&mut bob, typed);
        bob.see_text(seen);
    }
    alice.send("PM_bob only you hear this\nQUIT\n");
    bob.see_text("alice left");
    say(&mut bob, "/quit");
    let talked = bob.end();
    let fetched = shelf.client(&["get", "voyage.avi", "-y", "--simulate", "loss=10%"]).end();
    assert_eq!((talked.0, fetched.0), (Some(0), Some(0)), "{talked:?} {fetched:?}");
    assert!(fetched.1.concat().contains("packets resent"), "{fetched:?}");
    let screen = |rows: Vec<String>| rows.iter().map(|row| format!("{row}\n")).collect::<String>();
    let (greeting, talked, fetched) = (&shelf.greeting, screen(talked.1), screen(fetched.1));
    shelf.with_default_ports(&format!("{SERVER}{greeting}\n{TALK}{talked}\n{FETCH}{fetched}"))
}

/// Types at a prompt, as a person does who looks at the screen.
fn say(bob: &mut Person, line: &str) {
    bob.see("the prompt", |rows| rows.iter().rfind(|row| !row.is_empty()).is_some_and(|row| row == "bob>"));
    bob.type_line(line);
}

fn hear(alice: &mut RawClient, line: &str) {
    while alice.line() != line {}
}

/// The line with what differs from run to run put out of sight: times, rates, and what was resent by chance.
fn masked(line: &str) -> String {
    let line = match line.split_once(" resent)") {
        Some((before, after)) => format!("{}){after}", before.rsplit_once(", ").expect("a count").0),
        None => line.to_owned(),
    };
    let is_number = |word: &str| word.trim_start_matches('(').starts_with(|c: char| c.is_ascii_digit());
    let is_unit = |word: &str| {
        let unit = word.trim_end_matches([',', ')', '.']);
        matches!(unit, "ms" | "s") || unit.ends_with("B/s")
    };
    let words: Vec<&str> = line.split(' ').collect();
    let mut out = Vec::new();
    for (at, &word) in words.iter().enumerate() {
        let is_clock =
            is_number(word) && (word.contains(':') && !word.ends_with(':') || word.matches('-').count() == 2);
        let is_measured = is_number(word) && words.get(at + 1).is_some_and(|next| is_unit(next));
        let is_its_unit = at > 0 && is_number(words[at - 1]) && is_unit(word);
        out.push(if is_clock || is_measured || is_its_unit { "~" } else { word });
    }
    out.join(" ")
}

/// What can be compared: a slow machine tells more on the way of a long transfer.
fn comparable(transcript: &str) -> Vec<String> {
    let is_milestone = |line: &&str| line.contains("* download") && line.contains(" % (");
    transcript.lines().filter(|line| !is_milestone(line)).map(masked).collect()
}

#[test]
fn the_readmes_session_is_what_the_screen_shows() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(&path).expect("the README");
    let begin = readme.find(SERVER).expect("the session begins with the server");
    let end = begin + readme[begin..].find("```").expect("the end of the block");
    let played = play();
    if std::env::var_os("PACKETBOAT_README").is_some_and(|value| value == "write") {
        let text = format!("{}{played}{}", &readme[..begin], &readme[end..]);
        fs::write(&path, text).expect("the README is ours");
        return;
    }
    assert_eq!(
        comparable(&played),
        comparable(&readme[begin..end]),
        "the README is on the right; the session as it is now:\n{played}"
    );
}

#[test]
fn only_what_differs_from_run_to_run_is_put_out_of_sight() {
    assert_eq!(
        masked("fetched a: 67.7 MB in 3.1 s (21.9 MB/s, udp, 12 packets resent), BLAKE3 ok, downloads/a"),
        "fetched a: 67.7 MB in ~ ~ ~ ~ udp), BLAKE3 ok, downloads/a"
    );
    assert_eq!(masked("  2    257 kB  2026-11-21 10:55  b.png"), "  2    257 kB  ~ ~  b.png");
    assert_eq!(
        masked("? a: 40 % is here (27.1 MB of 67.7 MB, 180 MB/s). Go on?"),
        "? a: 40 % is here (27.1 MB of 67.7 MB, ~ ~ Go on?"
    );
}
