//! What a name can do: leave the shelf, name what is no file, or look like somebody else.

mod common;

use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use common::names::hostile_names;
use common::{RawClient, TestServer};
use rustix::fs::{CWD, FileType, Mode, mknodat};

const SECRET: &str = "what lies outside";

/// Names that are plain, although a careless server might make something else of them: not refused, but not there.
const HARMLESS_NAMES: [&str; 9] = [
    "%2e%2e%2fsecret",
    "%2e%2e",
    "INSIDE.TXT",
    "inside.txt%00",
    "inside.txt;x",
    "$HOME",
    "`id`",
    "secret",
    "é.txt",
];

#[test]
fn r25_path_corpus() {
    let mut outside = None;
    let server = TestServer::start_with(&["--no-rate-limit"], |files| {
        std::fs::write(files.join("inside.txt"), "inside").expect("a file");
        let secret = files.parent().expect("a folder").join("secret");
        std::fs::write(&secret, SECRET).expect("a file");
        outside = Some(secret);
    });
    let names = hostile_names();
    assert!(names.len() >= 300, "{}", names.len());
    let mut client = server.login("mallory");
    let mut ask = |request: String| {
        client.send(format!("{request}\n"));
        client.line()
    };
    for name in &names {
        for transport in ["tcp", "udp"] {
            let answer = ask(format!("GET_{transport} {name}"));
            assert!(answer.starts_with("ERR_bad-name GET "), "{answer:?} to {name:?}");
        }
        // An empty one asks for the list from its start.
        let answer = ask(format!("FILES_{name}"));
        assert!(answer.starts_with("ERR_bad-name FILES "), "{answer:?} to {name:?}");
    }
    for name in HARMLESS_NAMES {
        assert_eq!(ask(format!("GET_tcp {name}")), "ERR_no-file GET no such file", "{name:?}");
    }
    for control in ["\0", "\x1b", "\r", "\u{85}"] {
        let mut client = server.login("mallory2");
        client.send(format!("GET_tcp inside{control}.txt\nQUIT\n"));
        let answers = client.rest();
        assert!(answers[0].starts_with("ERR_bad-text GET "), "{answers:?}");
    }
    let secret = outside.expect("set above");
    assert_eq!(std::fs::read_to_string(secret).expect("a file"), SECRET);
}

/// A shelf with one plain file among everything that is none.
fn fill_with_odd_files(files: &Path) {
    let outside = files.parent().expect("a folder");
    let secret = outside.join("secret");
    std::fs::write(&secret, SECRET).expect("a file");
    std::fs::write(files.join("plain.txt"), "plain").expect("a file");
    symlink(&secret, files.join("symlink.txt")).expect("a link");
    symlink("plain.txt", files.join("inward-symlink.txt")).expect("a link");
    symlink("nowhere", files.join("dangling-symlink.txt")).expect("a link");
    std::fs::hard_link(&secret, files.join("hardlink.txt")).expect("a link");
    std::fs::create_dir(files.join("folder.txt")).expect("a folder");
    mknodat(CWD, files.join("fifo.txt"), FileType::Fifo, Mode::from_raw_mode(0o666), 0).expect("a FIFO");
    drop(std::os::unix::net::UnixListener::bind(files.join("socket.txt")).expect("a socket"));
    std::fs::write(files.join("unreadable.txt"), SECRET).expect("a file");
    let nobody_may = std::os::unix::fs::PermissionsExt::from_mode(0o000);
    std::fs::set_permissions(files.join("unreadable.txt"), nobody_may).expect("its owner may");
    // Only root may make one; /dev/null's number.
    let _ =
        mknodat(CWD, files.join("device.txt"), FileType::CharacterDevice, Mode::from_raw_mode(0o666), 0x103);
}

#[test]
fn r26_odd_files() {
    // Root may read everything: there the server runs as nobody, from a copy that nobody may execute.
    let binary_folder = tempfile::tempdir().expect("a folder");
    let everybody_may = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(binary_folder.path(), everybody_may).expect("its owner may");
    let command = if rustix::process::getuid().is_root() {
        let copy = binary_folder.path().join("server");
        std::fs::copy(env!("CARGO_BIN_EXE_server"), &copy).expect("a copy");
        let mut command = Command::new(copy);
        command.uid(65_534).gid(65_534);
        command
    } else {
        Command::new(env!("CARGO_BIN_EXE_server"))
    };
    let server = TestServer::spawn(command, &["--no-rate-limit"], |files| {
        let everybody_may: std::fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(files.parent().expect("a folder"), everybody_may).expect("its owner may");
        fill_with_odd_files(files);
    });
    assert!(server.greeting.contains(", 1 files in "), "{:?}", server.greeting);
    let mut client = server.login("alice");
    client.send("FILES\n");
    assert_eq!(client.line(), "FILES_1");
    assert!(client.line().ends_with(" plain.txt"));
    for odd in [
        "symlink",
        "inward-symlink",
        "dangling-symlink",
        "hardlink",
        "folder",
        "fifo",
        "socket",
        "unreadable",
        "device",
    ] {
        for transport in ["tcp", "udp"] {
            client.send(format!("GET_{transport} {odd}.txt\n"));
            // A FIFO or a device that is opened may block for ever, and then there is no line.
            assert_eq!(client.line(), "ERR_no-file GET no such file", "{odd}");
        }
    }
    let log = server.log();
    let warning = log.lines().find(|line| line.contains(" are not offered: "));
    assert!(warning.is_some_and(|line| line.contains("\"dangling-symlink.txt\"")), "{log}");
    client.send("GET_tcp plain.txt\n");
    assert!(client.line().starts_with("OFFER_1 tcp "));
}

/// Whether a nick is let in, found out with a connection of its own.
fn is_welcome(server: &TestServer, nick: &str) -> bool {
    let mut client: RawClient = server.connect();
    client.send(format!("HELLO_{nick} quiet\nQUIT\n"));
    let answers = client.rest();
    let is_welcome = answers[0] == format!("WELCOME_{nick} v=1 max=4096");
    let is_refused = answers.len() == 1 && answers[0].starts_with("ERR_bad-nick HELLO ");
    assert!(is_welcome != is_refused, "{answers:?} to {nick:?}");
    is_welcome
}

#[test]
fn r30_nick_rules() {
    let server = TestServer::start(&[]);
    let mut good: Vec<String> = [
        "a",
        "Z",
        "alice",
        "Alice",
        "bob_b",
        "a-b",
        "a.b",
        "x1",
        "x_",
        "x-",
        "x.",
        "Émile",
        "straße",
        "STRASSE",
        "ñandú",
        "Юлия",
        "Ελένη",
        "אמית",
        "山田",
        "サトウ",
        "수진",
        "आशा",
        "ქეთი",
        "Ուլիքս",
        "ሰላም",
        "server1",
        "serve",
        "roots",
        "all_",
        "adminx",
        "guest-1f3a",
        "quiet",
        "a1234567890_.-",
    ]
    .map(str::to_owned)
    .to_vec();
    good.extend((1..=24).map(|len| "n".repeat(len)));
    good.extend((0..40).map(|number| format!("user{number}")));
    let mut bad: Vec<String> = [
        "",
        "1a",
        "_a",
        "-a",
        ".a",
        " a",
        "a ",
        "a b",
        "a\tb",
        "a,b",
        "a/b",
        "a:b",
        "a@b",
        "a#b",
        "a!b",
        "a'b",
        "a\"b",
        "a\\b",
        "a*b",
        "a+b",
        "<a>",
        "a~",
        "é\u{301}x\u{301}",
        "e\u{301}mile",
        "a\u{200d}b",
        "a\u{202e}b",
        "a\u{feff}",
        "a\u{ad}b",
        "🦀",
        "a🦀",
        "a１",
        "aª²",
        "a€",
    ]
    .map(str::to_owned)
    .to_vec();
    // One letter of another script that looks the same: а, е, о, р, с, ѕ, і and Greek ο, α, ν.
    for (latin, twin) in ["а", "е", "о", "р", "с", "ѕ", "і", "ο", "α", "ν"]
        .iter()
        .flat_map(|twin| ["bob", "alice", "x"].map(|latin| (latin, twin)))
    {
        bad.extend([format!("{latin}{twin}"), format!("{twin}{latin}")]);
    }
    for reserved in ["server", "system", "all", "everyone", "admin", "root"] {
        bad.extend([
            reserved.to_owned(),
            reserved.to_uppercase(),
            format!("{}{}", reserved[..1].to_uppercase(), &reserved[1..]),
        ]);
    }
    bad.extend([25, 26, 100, 1000].map(|len| "n".repeat(len)));
    assert!(good.len() + bad.len() >= 200, "{}", good.len() + bad.len());
    for nick in &good {
        assert!(is_welcome(&server, nick), "{nick:?} is a good nick");
    }
    for nick in bad.iter().filter(|nick| !nick.contains('\t')) {
        assert!(!is_welcome(&server, nick), "{nick:?} is a bad nick");
    }
}

#[test]
fn r30_one_nick_is_one_person_in_any_case() {
    let server = TestServer::start(&["--no-rate-limit"]);
    let _holders = ["Bob", "straße", "ΣΊΣΥΦΟΣ", "юлия"].map(|nick| server.login(&format!("{nick} quiet")));
    let mut late = server.connect();
    for taken in ["bob", "BOB", "bOb", "STRASSE", "Strasse", "σίσυφος", "Σίσυφοσ", "ЮЛИЯ"] {
        late.send(format!("HELLO_{taken}\n"));
        assert_eq!(late.line(), "ERR_nick-taken HELLO somebody here has this nickname", "{taken}");
    }
    late.send("HELLO_bobby\n");
    assert_eq!(late.line(), "WELCOME_bobby v=1 max=4096");
}
