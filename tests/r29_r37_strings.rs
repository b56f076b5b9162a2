//! Strings that are not what they seem: on the way to a terminal (R29) and into the log (R37), and whispers that stay
//! among two (R32).

mod common;

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::strings::{assert_clean, hostile_strings};
use common::{Dice, RawClient, TestServer, eventually};
use packetboat::wire::text::{escape, is_printable};
use tempfile::TempDir;

/// A client process that only listens; what it shows goes into files.
struct Watcher {
    child: Child,
    folder: TempDir,
}

impl Watcher {
    fn start(addr: SocketAddr, args: &[&str]) -> Watcher {
        let folder = TempDir::new().expect("a folder");
        let file = |name: &str| File::create(folder.path().join(name)).expect("a file");
        let child = Command::new(env!("CARGO_BIN_EXE_client"))
            .arg(addr.to_string())
            .args(args)
            .current_dir(folder.path())
            .env("XDG_STATE_HOME", folder.path())
            .stdin(Stdio::null())
            .stdout(file("out"))
            .stderr(file("err"))
            .spawn()
            .expect("the client starts");
        Watcher { child, folder }
    }

    fn shown(&self, name: &str) -> String {
        let octets = fs::read(self.folder.path().join(name)).expect("there");
        String::from_utf8(octets).expect("UTF-8")
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a line travels as it is, without a strike.
fn is_plain(text: &str) -> bool {
    !text.contains(char::is_control)
}

/// Unicode's own tables, as another crate has them.
#[test]
fn r29_nothing_that_unicode_calls_invisible_is_printable() {
    const INVISIBLE: &str =
        r"[\p{Cc}\p{Cf}\p{Co}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\p{Bidi_Control}]";
    let parsed = regex_syntax::parse(INVISIBLE).expect("a class");
    let regex_syntax::hir::HirKind::Class(regex_syntax::hir::Class::Unicode(class)) = parsed.kind() else {
        panic!("{parsed:?}")
    };
    let ranges = class.ranges();
    assert!(ranges.len() >= 20, "{ranges:?}");
    // Private use is two whole planes: its ends will do.
    for c in ranges.iter().flat_map(|range| (range.start()..=range.end()).take(4_096).chain([range.end()])) {
        assert!(c == '\u{fe0f}' || !is_printable(c), "U+{:04X}", u32::from(c));
    }
}

#[test]
fn r29_what_members_say_reaches_a_terminal_as_text() {
    let strings = hostile_strings();
    assert!(strings.len() >= 200, "{}", strings.len());
    let server = TestServer::start(&["--no-rate-limit"]);
    let watcher = Watcher::start(server.addr, &["watcher", "listen"]);
    let programs = Watcher::start(server.addr, &["programs", "listen", "--json"]);
    eventually("both listen", || !watcher.shown("out").is_empty() && !programs.shown("out").is_empty());
    let mut mallory = server.login("mallory");
    for text in &strings {
        let escaped = escape(text);
        mallory.send(format!("ALL_{escaped}\nPM_watcher {escaped}\nPM_programs {escaped}\n"));
        mallory
            .send(format!("NICK_{}\nPUT_tcp 5 - {escaped}\nGET_tcp {escaped}\n", escaped.replace(' ', "")));
        if is_plain(text) {
            mallory.send(format!("ALL_{text}\nPM_watcher {text}\nNICK_{text}\nPUT_tcp 5 - {text}\n"));
        } else {
            let mut raw = server.connect();
            raw.send(format!("HELLO_raw quiet\nALL_{text}\nPM_watcher {text}\nNICK_{text}\nQUIT\n"));
            assert!(raw.rest().first().is_some_and(|line| line.starts_with("WELCOME_raw ")));
        }
        // Before its line end it may be a plain name.
        if text.contains('\n') {
            continue;
        }
        let mut nameless = server.connect();
        nameless.send(format!("HELLO_{text}\nQUIT\n"));
        let answers = nameless.rest();
        assert!(!answers.iter().any(|line| line.starts_with("WELCOME_")), "{answers:?} to {text:?}");
    }
    mallory.send("PING_all\n");
    while mallory.line() != "PONG_all" {}
    mallory.send("ALL_that was all\n");
    eventually("all is shown", || watcher.shown("out").contains("<mallory> that was all"));
    eventually("all is told", || programs.shown("out").contains("that was all"));
    let shown = watcher.shown("out");
    assert_clean(&shown);
    assert_clean(&watcher.shown("err"));
    let whispered = shown.lines().filter(|line| line.starts_with("[mallory whispers] ")).count();
    assert!(whispered >= strings.len(), "{whispered} of {}", strings.len());
    for line in shown.lines() {
        // A line end that is not escaped begins a line of its own speaker.
        let known = [
            "* you are watcher at ",
            "* mallory joined",
            "<mallory> ",
            "[mallory whispers] ",
            "<raw> ",
            "[raw whispers] ",
        ];
        let known = known.iter().any(|begin| line.starts_with(begin));
        assert!(known || line == "* programs joined" || line == "* programs left", "{line:?}");
    }
    let told = programs.shown("out");
    assert_clean(&told);
    for line in told.lines() {
        let event: serde_json::Value = serde_json::from_str(line).expect("one object on each line");
        let from = event.get("from").and_then(|from| from.as_str());
        assert!(from.is_none_or(|from| from == "mallory" || from == "raw"), "{line}");
    }
    let heard = |text: &String| {
        told.lines().any(|line| {
            serde_json::from_str::<serde_json::Value>(line).is_ok_and(|event| event["text"] == text.as_str())
        })
    };
    assert!(strings.iter().all(heard), "programs get the text itself");
}

/// Plays a server that says these lines to whoever comes, and then good-bye.
fn hostile_server(lines: Vec<String>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("bound");
    thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a client");
        let mut reader = BufReader::new(stream.try_clone().expect("a handle"));
        let _ = reader.read_line(&mut String::new());
        let mut said = "WELCOME_alice v=1 max=4096\n".to_owned();
        lines.iter().for_each(|line| said.extend([line, "\n"]));
        let _ = (&stream).write_all(said.as_bytes());
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = std::io::copy(&mut reader, &mut std::io::sink());
    });
    addr
}

/// What a client shows of a server that says these lines.
fn shown_by(args: &[&str], lines: Vec<String>) -> (String, String) {
    let mut watcher = Watcher::start(hostile_server(lines), args);
    eventually("the client ends", || watcher.child.try_wait().expect("a child").is_some());
    (watcher.shown("out"), watcher.shown("err"))
}

#[test]
fn r29_what_a_server_says_reaches_a_terminal_as_text() {
    let strings = hostile_strings();
    let each = |form: &dyn Fn(&str, &str) -> Vec<String>| -> Vec<String> {
        strings.iter().flat_map(|text| form(text, &escape(text))).collect()
    };
    let events = each(&|raw, escaped| {
        ["MSG_mallory ", "PM_mallory ", "SYS_", "ERR_busy ALL ", "JOIN_", "LEAVE_", "MSG_", "NICK_mallory "]
            .iter()
            .flat_map(|line| [format!("{line}{raw}"), format!("{line}{escaped}")])
            .chain([format!("SHARED_mallory 5 {raw}"), format!("ERR_busy {escaped} x"), format!("{raw}_x")])
            .collect()
    });
    for bye in ["BYE_", "BYE_\\u{1b}[2J\\n<bob> x"] {
        let lines = [events.clone(), vec![bye.to_owned()]].concat();
        let (out, err) = shown_by(&["alice", "listen", "--reconnect-for", "0"], lines);
        assert_clean(&out);
        assert_clean(&err);
        assert!(out.lines().count() > 2 * strings.len(), "{out}");
        for line in out.lines() {
            let begins = ["* ", "<mallory> ", "[mallory whispers] "];
            assert!(begins.iter().any(|begin| line.starts_with(begin)), "{line:?}");
        }
    }
    let entries = each(&|raw, escaped| {
        [raw, escaped].map(|name| format!("FILE_5 2026-11-20T10:00:00Z {name}")).to_vec()
    });
    let files = [vec![format!("FILES_{}", entries.len())], entries, vec!["FILES_0".into()]].concat();
    let users = each(&|raw, _| vec![format!("USERS_2 {raw} bob")]);
    for (command, lines) in [("files", files), ("who", users)] {
        let (out, err) = shown_by(&["alice", command], lines);
        assert_clean(&out);
        assert_clean(&err);
    }
    for text in &strings {
        let refused = format!("ERR_no-file GET {}", escape(text));
        let (out, err) = shown_by(&["alice", "get", "a.txt"], vec![refused]);
        assert_clean(&out);
        assert_clean(&err);
        assert!(err.lines().count() >= 1, "it says why");
    }
}

/// Each event is one line as the logger begins them, and nothing in it is what it should not be.
fn assert_log(log: &str, secrets: &[String]) {
    assert_clean(log);
    for line in log.lines() {
        let is_event = line.starts_with('[') && line.contains("Z ") && line.contains(" packetboat");
        assert!(is_event, "{line:?} begins no event");
    }
    for secret in secrets {
        assert!(!log.contains(secret.as_str()), "{secret:?} is in the log");
    }
}

#[test]
fn r37_one_event_is_one_line_and_holds_no_secret() {
    let strings = hostile_strings();
    let server = TestServer::start_with(&["--no-rate-limit", "-v"], |files| {
        fs::write(files.join("a.txt"), "the content of a").expect("a file");
        for (number, text) in strings.iter().enumerate() {
            let name = format!("{number}{}", text.replace(['/', '\0'], ""));
            let path = Path::new(files).join(std::ffi::OsStr::from_bytes(name.as_bytes()));
            fs::write(path, "").expect("the system takes it");
        }
    });
    let mut secrets = vec!["the content of a".to_owned(), "private-text".into(), "public-text".into()];
    let mut hex = |line: &str| {
        let fields = line.split(' ').filter(|field| field.len() == 64);
        secrets.extend(fields.map(str::to_owned));
    };
    for (number, text) in strings.iter().enumerate() {
        let mut client = server.login("mallory quiet");
        let escaped = escape(text);
        client.send(format!(
            "ALL_public-text {escaped}\nPM_mallory private-text {escaped}\nPING_{escaped}\n{escaped}\n\
             NICK_{escaped}\nFILES_{escaped}\nDONE_7 {escaped}\n{escaped}_x\nGET_{escaped} a.txt\n"
        ));
        client.send(format!("GET_tcp a.txt\nPUT_udp 5 - up{number}.txt\n"));
        // No more of those that are strikes than are borne.
        client.send(format!("ALL_{text}\nGET_tcp {text}\nPUT_tcp 5 - {text}\n{text}\nQUIT\n"));
        client
            .rest()
            .iter()
            .filter(|line| line.starts_with("OFFER_") || line.starts_with("ACCEPT_"))
            .for_each(|line| hex(line));
        for before in ["HELLO_", "DATA_", ""] {
            let mut stranger = server.connect();
            stranger.try_send(format!("{before}{text}\nQUIT\n"));
            stranger.rest();
        }
    }
    assert!(secrets.len() > 2 * strings.len(), "keys and tokens were handed out");
    let log = server.log();
    assert!(log.lines().count() > 5 * strings.len(), "it was logged");
    assert_log(&log, &secrets);
}

#[test]
fn r37_a_flood_is_not_a_flood_of_lines() {
    const FLOOD: Duration = Duration::from_secs(2);
    let server = TestServer::start(&[]);
    let mut flooder = server.login("flooder");
    let mut bystander = server.login("bystander");
    let strangers = UdpSocket::bind("127.0.0.1:0").expect("a port");
    strangers.connect(("127.0.0.1", server.udp_port())).expect("an address");
    flooder.stream.set_nonblocking(true).expect("a socket");
    let (begin, mut sent) = (Instant::now(), 0);
    while begin.elapsed() < FLOOD {
        // Datagrams that begin as a SYN does, from nobody; lines as fast as they go.
        let _ = strangers.send(&[&[1, 0, 0, 0, 7], &[sent; 1_195][..]].concat());
        flooder.try_send("ALL_flood\nnonsense\n");
        let mut stranger = server.connect();
        stranger.try_send("nonsense\n");
        sent = sent.wrapping_add(1);
    }
    bystander.send("PING_still here\n");
    while bystander.line() != "PONG_still here" {}
    let lines = server.log().lines().count();
    let allowed = 100 * usize::try_from(begin.elapsed().as_secs()).expect("small");
    assert!(lines <= allowed, "{lines} lines in {:?}", begin.elapsed());
    assert_log(&server.log(), &["flood\n".into()]);
}

#[test]
fn r32_a_whisper_is_heard_by_one() {
    const CLIENTS: usize = 50;
    const WHISPERS: usize = 20;
    for verbose in [&["--no-rate-limit"][..], &["--no-rate-limit", "-v"]] {
        let server = TestServer::start(verbose);
        let mut clients: Vec<RawClient> =
            (0..CLIENTS).map(|number| server.login(&format!("client{number} quiet"))).collect();
        let mut dice = Dice(32);
        let mut whispered: Vec<Vec<String>> = vec![Vec::new(); CLIENTS];
        for number in 0..WHISPERS {
            for (from, client) in clients.iter_mut().enumerate() {
                let to = dice.below(CLIENTS);
                let text = format!("secret-{from}-{to}-{number}-end");
                client.send(format!("PM_client{to} {text}\nPM_CLIENT{to} {text}\nALL_aloud\n"));
                client.send(format!("PM_nobody {text}\nPM_client{to}x {text}\nPM_ {text}\n"));
                whispered[to].extend([format!("PM_client{from} {text}"), format!("PM_client{from} {text}")]);
            }
        }
        // Everybody has been answered before the first one leaves.
        let mut heard: Vec<Vec<String>> = Vec::new();
        for client in &mut clients {
            client.send("PING_all heard\n");
            let mut lines = Vec::new();
            while lines.last().is_none_or(|line| line != "PONG_all heard") {
                lines.push(client.line());
            }
            heard.push(lines);
        }
        for (client, lines) in clients.iter_mut().zip(&mut heard) {
            client.send("QUIT\n");
            lines.extend(client.rest());
        }
        for (number, (lines, mut wanted)) in heard.iter().zip(whispered).enumerate() {
            let mut secrets: Vec<&String> = lines.iter().filter(|line| line.contains("secret-")).collect();
            secrets.sort();
            wanted.sort();
            assert_eq!(secrets, wanted.iter().collect::<Vec<_>>(), "client {number}");
        }
        let log = server.log();
        assert!(log.contains("client7 joined"), "{log}");
        assert!(!log.contains("secret-") && !log.contains("aloud"), "{log}");
    }
}
