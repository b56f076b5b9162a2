//! A client whose connection is lost comes back: with real processes, and against scripted servers.

mod common;

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use common::{Port, RawClient};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long anything may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(30);
const TOKEN: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const MTIME: &str = "2026-11-20T10:00:00Z";

/// A server process on a given port; killed when dropped.
struct ServerProcess(Child, #[expect(dead_code, reason = "removed with it")] TempDir);

impl ServerProcess {
    fn start(port: &Port) -> ServerProcess {
        let files = tempfile::tempdir().expect("a folder");
        let mut child = Command::new(env!("CARGO_BIN_EXE_server"))
            .args(["--listen", &port.address.to_string(), "--udp-port", "0", "--workers", "1", "-q"])
            .arg("--files")
            .arg(files.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut greeting = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut greeting).expect("a line");
        assert!(greeting.contains("listening"), "{greeting:?}");
        ServerProcess(child, files)
    }
}

impl Drop for ServerProcess {
    /// SIGKILL: no good-bye.
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A client process, whose output is read line by line.
struct ClientProcess {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Receiver<String>,
    _folder: TempDir,
}

impl ClientProcess {
    fn start(address: SocketAddr, arguments: &[&str]) -> ClientProcess {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new(env!("CARGO_BIN_EXE_client"));
        command.arg(address.to_string()).args(arguments).current_dir(&folder).env_remove("RUST_LOG");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the client runs");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let (tell, stdout) = channel();
        thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
        ClientProcess { stdin: child.stdin.take(), child, stdout, _folder: folder }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.stdin.as_ref().expect("open"), "{line}").expect("it reads");
    }

    /// Waits for the line that begins so, and gives it.
    fn hear(&self, beginning: &str) -> String {
        let mut heard = Vec::new();
        loop {
            match self.stdout.recv_timeout(PATIENCE) {
                Ok(line) if line.starts_with(beginning) => return line,
                Ok(line) => heard.push(line),
                Err(_) => panic!("no line begins with {beginning:?}: {heard:?}"),
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Ends its input and waits for its end; gives also what it said from now on, and on standard error.
    fn end(mut self) -> (ExitStatus, Vec<String>, String) {
        drop(self.stdin.take());
        self.wait()
    }

    /// The same while its input stays open.
    fn wait(mut self) -> (ExitStatus, Vec<String>, String) {
        let mut stderr = String::new();
        self.child.stderr.take().expect("piped").read_to_string(&mut stderr).expect("UTF-8");
        let status = self.child.wait().expect("a child");
        (status, self.stdout.iter().collect(), stderr)
    }
}

impl Drop for ClientProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn s36_a_talker_comes_back_to_a_server_that_was_killed() {
    let port = Port::hold();
    let server = ServerProcess::start(&port);
    let mut alice = ClientProcess::start(port.address, &["alice"]);
    alice.hear("* you are alice");
    alice.say("/nick alicia");
    alice.hear("* alice is now alicia");
    drop(server);
    alice.hear("* connection lost (the server went away without a word); trying again");
    alice.say("typed while away");
    alice.say("/transfers");
    alice.hear("* no transfers are under way");
    let _server = ServerProcess::start(&port);
    alice.hear("* back as alicia");
    alice.hear("<alicia> typed while away");
    let mut bob = RawClient::connect(port.address);
    bob.send("HELLO_bob\nALL_welcome back\n");
    alice.hear("<bob> welcome back");
    alice.say("thanks");
    assert_eq!(bob.line_but(&["WELCOME_", "MSG_bob"]), "MSG_alicia thanks");
    let (status, said, stderr) = alice.end();
    assert!(status.success() && stderr.is_empty(), "{status:?}: {stderr}");
    assert_eq!(said, ["<alicia> thanks", "* good-bye"]);
    assert_eq!(bob.line(), "LEAVE_alicia");
}

#[test]
fn s36_a_listener_comes_back_and_tells_programs() {
    let port = Port::hold();
    let server = ServerProcess::start(&port);
    let listener = ClientProcess::start(port.address, &["--json", "listen"]);
    let nick = |line: &str| {
        let json: serde_json::Value = serde_json::from_str(line).expect("JSON");
        json["nick"].as_str().expect("a nick").to_owned()
    };
    let guest = nick(&listener.hear(r#"{"type":"welcome""#));
    drop(server);
    listener.hear(r#"{"type":"lost","reason":"#);
    let _server = ServerProcess::start(&port);
    assert_eq!(nick(&listener.hear(r#"{"type":"reconnected""#)), guest);
    RawClient::connect(port.address).send("HELLO_bob\nALL_hi\n");
    listener.hear(r#"{"type":"message","from":"bob","text":"hi""#);
    listener.signal(Signal::TERM);
    assert_eq!(listener.wait().0.code(), Some(143));
}

#[test]
fn s36_a_server_that_stays_away_is_exit_3_and_nothing_typed_is_lost_without_a_word() {
    let port = Port::hold();
    let server = ServerProcess::start(&port);
    let mut alice = ClientProcess::start(port.address, &["alice", "--reconnect-for", "4"]);
    alice.hear("* you are alice");
    drop(server);
    alice.hear("* connection lost");
    alice.say("is anybody here");
    let (status, _, stderr) = alice.wait();
    assert_eq!(status.code(), Some(3), "{stderr}");
    for words in ["1 line not said", "without a word, and not regained", "nobody listens there"] {
        assert!(stderr.contains(words), "{stderr}");
    }

    let server = ServerProcess::start(&port);
    let alice = ClientProcess::start(port.address, &["alice", "--reconnect-for", "0"]);
    alice.hear("* you are alice");
    drop(server);
    let (status, said, _) = alice.wait();
    assert_eq!((status.code(), said.len()), (Some(3), 0), "at once: {said:?}");
}

#[test]
fn s36_whoever_waits_can_leave() {
    let port = Port::hold();
    for (how, code) in [("/quit", 0), ("INT", 130), ("TERM", 143)] {
        let server = ServerProcess::start(&port);
        let mut alice = ClientProcess::start(port.address, &["alice"]);
        alice.hear("* you are alice");
        drop(server);
        alice.hear("* connection lost");
        let asked_at = Instant::now();
        match how {
            "INT" => alice.signal(Signal::INT),
            "TERM" => alice.signal(Signal::TERM),
            _ => alice.say(how),
        }
        let (status, _, stderr) = alice.wait();
        assert_eq!(status.code(), Some(code), "{how}: {stderr}");
        // Else it would go on for a minute.
        assert!(asked_at.elapsed() < PATIENCE, "{how}: {:?}", asked_at.elapsed());
    }
}

/// Stands between clients and a server, and can cut the clients off without the server's knowledge.
fn cut_off(clients: &Receiver<TcpStream>) {
    clients.recv_timeout(PATIENCE).expect("a client").shutdown(Shutdown::Both).expect("connected");
}

#[test]
fn r11_a_client_takes_its_nick_back_from_its_half_open_connection() {
    let port = Port::hold();
    let _server = ServerProcess::start(&port);
    let proxy = TcpListener::bind("127.0.0.1:0").expect("a port");
    let proxy_address = proxy.local_addr().expect("its address");
    let (tell, clients) = channel();
    let server_address = port.address;
    thread::spawn(move || {
        // Kept open: the server does not learn that a client is gone.
        let mut servers = Vec::new();
        for client in proxy.incoming().map_while(Result::ok) {
            let server = TcpStream::connect(server_address).expect("connected");
            for (mut from, mut to) in [(&client, &server), (&server, &client)]
                .map(|(from, to)| (from.try_clone().expect("a handle"), to.try_clone().expect("a handle")))
            {
                thread::spawn(move || io::copy(&mut from, &mut to));
            }
            servers.push(server);
            tell.send(client).expect("the test goes on");
        }
    });
    let mut bob = RawClient::connect(port.address);
    bob.send("HELLO_bob\n");
    let alice = ClientProcess::start(proxy_address, &["alice"]);
    alice.hear("* you are alice");
    assert_eq!(bob.line_but(&["WELCOME_"]), "JOIN_alice");
    cut_off(&clients);
    alice.hear("* connection lost");
    let lost_at = Instant::now();
    alice.hear("* back as alice");
    // The first attempt comes after half a second; without it the server would wait for its own time limit.
    assert!(lost_at.elapsed() < PATIENCE, "{:?}", lost_at.elapsed());
    assert_eq!((bob.line(), bob.line()), ("LEAVE_alice".into(), "JOIN_alice".into()));
    let (status, _, stderr) = alice.end();
    assert!(status.success() && stderr.is_empty(), "{status:?}: {stderr}");
}

/// A server that is played: waits for a client on `listener`, and welcomes the nick.
fn welcome(listener: &TcpListener, nick: &str) -> RawClient {
    let mut client = RawClient::over(listener.accept().expect("a client").0);
    assert_eq!(client.line().trim_end_matches(" quiet"), format!("HELLO_{nick}"));
    client.send(format!("WELCOME_{nick} v=1 max=4096\n"));
    client
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    (listener, address)
}

#[test]
fn s36_nothing_is_said_twice_and_what_may_be_lost_is_told() {
    let (listener, address) = listen();
    let mut alice = ClientProcess::start(address, &["alice"]);
    let mut first = welcome(&listener, "alice");
    for line in ["one", "two", "/who", "/files", "/get 1 --tcp"] {
        alice.say(line);
    }
    for asked in ["ALL_one", "ALL_two", "WHO_", "FILES_"] {
        assert_eq!(first.line(), asked);
    }
    first.send("MSG_alice one\nUSERS_2 alice\n");
    alice.hear("<alice> one");
    drop(first);
    alice.hear("* connection lost");
    alice.hear("* 1 line may not have arrived");
    alice.say("three");
    let mut second = welcome(&listener, "alice");
    // The lists are asked for again, from their beginning; `two` is not said again.
    let mut asked = [second.line(), second.line(), second.line()];
    asked.sort();
    assert_eq!(asked, ["ALL_three", "FILES_", "WHO_"]);
    second.send(format!("USERS_2 bob alice\nFILES_1\nFILE_5 {MTIME} a.txt\n"));
    alice.hear("* 2 here: bob, alice");
    assert_eq!(second.line(), "GET_tcp a.txt");
    second.send("ERR_no-file GET no such file\nMSG_alice three\n");
    let waits_for_quit = thread::spawn(move || {
        assert_eq!(second.line(), "QUIT_");
        second.send("BYE_\n");
    });
    let (status, _, stderr) = alice.end();
    waits_for_quit.join().expect("said");
    assert!(status.success() && stderr.contains("a.txt: no such file"), "{status:?}: {stderr}");
}

#[test]
fn s36_a_file_is_asked_for_again() {
    let (listener, address) = listen();
    let get = ClientProcess::start(address, &["alice", "get", "lore.txt", "--tcp", "-o", "mine.txt"]);
    let offer = format!("OFFER_7 tcp {} {TOKEN} 5 {MTIME} - lore.txt\n", address.port());
    // Lost before its offer, then in the midst of it, then not.
    let mut session = welcome(&listener, "alice");
    assert_eq!(session.line(), "GET_tcp lore.txt");
    drop(session);
    let mut session = welcome(&listener, "alice");
    assert_eq!(session.line(), "GET_tcp lore.txt");
    session.send(&offer);
    let mut broken_off = RawClient::over(listener.accept().expect("a client").0);
    assert_eq!(broken_off.line(), format!("DATA_{TOKEN}"));
    broken_off.send("hel");
    drop(session);
    let mut session = welcome(&listener, "alice");
    assert_eq!(session.line(), "GET_tcp lore.txt");
    session.send(&offer);
    let mut data = RawClient::over(listener.accept().expect("a client").0);
    assert_eq!(data.line(), format!("DATA_{TOKEN}"));
    data.send("hello");
    data.finish();
    session.send(format!("DONE_7 5 {}\n", blake3::hash(b"hello")));
    assert_eq!((session.line(), session.line()), ("DONE_7 ok".into(), "QUIT_".into()));
    session.send("BYE_\n");
    let kept = std::fs::read(get._folder.path().join("mine.txt")).expect("kept");
    assert_eq!(kept, b"hello");
    let (status, said, stderr) = get.end();
    assert!(status.success() && said.len() == 1, "{status:?}: {said:?}");
    assert_eq!(stderr.lines().filter(|line| line.starts_with("* back as alice")).count(), 2, "{stderr:?}");
}

#[test]
fn s36_a_server_that_does_not_want_us_is_not_asked_again() {
    for (refusal, code) in [
        ("ERR_bad-nick HELLO this cannot be a nickname", 4),
        ("ERR_login HELLO not today", 3),
        ("ERR_strikes HELLO go away", 3),
    ] {
        let (listener, address) = listen();
        let alice = ClientProcess::start(address, &["alice"]);
        welcome(&listener, "alice").send("BYE_the server closes\n");
        alice.hear("* connection lost (the server closes)");
        let mut busy = RawClient::over(listener.accept().expect("a client").0);
        busy.line();
        busy.send("ERR_busy HELLO the room is full\n");
        let mut second = RawClient::over(listener.accept().expect("a client").0);
        second.line();
        second.send(format!("{refusal}\n"));
        let (status, _, stderr) = alice.wait();
        assert_eq!(status.code(), Some(code), "{refusal}: {stderr}");
    }
}
