//! F8: whatever three clients send, the server lives, the room is what a model says, everybody else hears exactly that,
//! and nothing stays behind.
//!
//! The server is a real one, in this process, the same for all inputs.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};
use std::{fs, thread};

use packetboat::server::{Limits, Server, ServerConfig};
use packetboat::wire::WireError;
use packetboat::wire::line::LINE_LEN_MAX;
use packetboat::wire::message::{ClientMessage, ServerMessage};
use packetboat::wire::name::Nick;
use tempfile::TempDir;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Ours: a longer conversation finds nothing more.
const OPS_MAX: usize = 48;

/// Whether a thread of the server, or of the client, has panicked.
static PANICKED: AtomicBool = AtomicBool::new(false);

/// Sockets and threads of this process are counted: one input at a time has them.
pub(super) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes panics of the threads that the product starts; whoever looks at an input's end fails by them.
pub(super) fn watch_panics() {
    const OURS: [&str; 8] =
        ["accept", "writer", "reader", "transfer", "disk", "stdin", "tcp-transfer", "reconnect"];
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let name = thread::current().name().unwrap_or_default().to_owned();
            if OURS.iter().any(|ours| name.starts_with(ours)) {
                PANICKED.store(true, Ordering::Relaxed);
            }
            before(info);
        }));
    });
}

pub(super) fn assert_no_panic() {
    assert!(!PANICKED.swap(false, Ordering::Relaxed), "a thread has panicked");
}

static SCENE: Mutex<Option<Scene>> = Mutex::new(None);

struct Scene {
    server: Server,
    files: TempDir,
    observer: Peer,
    sockets: usize,
}

/// One client's end, with what the model knows of it.
struct Peer {
    stream: BufReader<TcpStream>,
    framer: Framer,
    state: State,
}

#[derive(Debug, Clone, PartialEq)]
enum State {
    Stranger { is_first: bool },
    Member { nick: Nick, is_quiet: bool, strikes: u32 },
    Gone,
}

/// What a line did, by the model.
enum Effect {
    /// The client is still here, and can be asked.
    Stays,
    /// It must say HELLO again.
    Again,
    /// The server has closed.
    Closed,
}

/// Each line of the input is a step; its first octet says what it is and of which client: `1` to `3` a line, `A` to `C`
/// the beginning of one, `x` to `z` a line that is too long, `a` to `c` a new connection in place of the old.
pub(crate) fn f8_session(data: &[u8]) {
    let _alone = alone();
    watch_panics();
    let mut place = SCENE.lock().unwrap_or_else(PoisonError::into_inner);
    // What fails here takes its server with it.
    let mut scene = place.take().unwrap_or_else(Scene::new);
    scene.play(data);
    *place = Some(scene);
}

impl Scene {
    fn new() -> Scene {
        let files = TempDir::new().expect("a folder");
        fs::write(files.path().join("a.txt"), "hello").expect("written");
        let long = Duration::from_secs(3_600);
        let limits = Limits {
            rate: None,
            login_timeout: long,
            challenge_after: long,
            ping_after: long,
            silence_max: 2 * long,
            // What is left behind makes itself felt soon.
            transfers_max: 3 * 8 + 4,
            ..Limits::default()
        };
        let config = ServerConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            workers: 1,
            files: files.path().to_owned(),
            limits,
            ..ServerConfig::default()
        };
        let server = Server::start(config).expect("it starts");
        let mut observer = Peer::connect(server.local_addr());
        let _ = observer.feed(b"HELLO_observer\n", &[]);
        assert_eq!(observer.sync(), ["WELCOME_observer v=1 max=4096"]);
        let sockets = sockets();
        Scene { server, files, observer, sockets }
    }

    fn play(&mut self, data: &[u8]) {
        let addr = self.server.local_addr();
        let mut peers: Vec<Peer> = (0..3).map(|_| Peer::connect(addr)).collect();
        for op in data.split(|&octet| octet == b'\n').take(OPS_MAX) {
            let Some((&kind, text)) = op.split_first() else { continue };
            let who = usize::from(kind % 3);
            let heard = match kind {
                b'a'..=b'c' => {
                    let old = std::mem::replace(&mut peers[who], Peer::connect(addr));
                    self.wait_for_leave(old)
                }
                b'A'..=b'C' => {
                    peers[who].feed_half(text);
                    Vec::new()
                }
                b'x'..=b'z' => self.say(&mut peers, who, &[text, &[b'x'; 5_000], b"\n"].concat()),
                _ => self.say(&mut peers, who, &[text, b"\n"].concat()),
            };
            let told: Vec<String> =
                self.observer.sync().into_iter().filter(|line| !line.starts_with("PING_")).collect();
            assert_eq!(told, heard, "after {}", op.escape_ascii());
        }
        self.check_users(&peers);
        for peer in peers {
            let left = self.wait_for_leave(peer);
            assert_eq!(self.observer.sync(), left);
        }
        self.check_users(&[]);
        self.check_nothing_is_left();
        assert_no_panic();
    }

    /// A client sends this; gives what the observer must hear.
    fn say(&mut self, peers: &mut [Peer], who: usize, octets: &[u8]) -> Vec<String> {
        let mut others: Vec<Nick> = peers
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != who)
            .filter_map(|(_, peer)| peer.nick())
            .collect();
        others.extend(self.observer.nick());
        let (effect, heard) = peers[who].feed(octets, &others);
        match effect {
            Some(Effect::Stays) => _ = peers[who].sync(),
            Some(Effect::Again) => peers[who].read_until(|line| line.starts_with("ERR_nick-taken ")),
            Some(Effect::Closed) => peers[who].read_to_end(),
            None => {}
        }
        heard
    }

    /// A connection goes without a word; gives what the observer must hear of it.
    fn wait_for_leave(&mut self, peer: Peer) -> Vec<String> {
        let Peer { stream, state, .. } = peer;
        drop(stream);
        let State::Member { nick, is_quiet, .. } = state else { return Vec::new() };
        let begin = Instant::now();
        while self.who().contains(&nick) {
            assert!(begin.elapsed() < PATIENCE, "{nick} does not leave");
        }
        if is_quiet { Vec::new() } else { vec![line_of(&ServerMessage::Leave(nick))] }
    }

    /// The members as the server tells; what else is heard meanwhile is kept.
    fn who(&mut self) -> Vec<Nick> {
        self.observer.write(b"WHO\n");
        let mut nicks = Vec::new();
        let mut others = Vec::new();
        for line in self.observer.sync() {
            match ServerMessage::parse(line.as_bytes()) {
                Ok(ServerMessage::Users(_, named)) => nicks.extend(named),
                _ => others.push(line),
            }
        }
        self.observer.framer.unheard.extend(others);
        nicks
    }

    fn check_users(&mut self, peers: &[Peer]) {
        let names = |nicks: Vec<Nick>| {
            let mut names: Vec<String> = nicks.iter().map(Nick::to_string).collect();
            names.sort();
            names
        };
        let mut expected: Vec<Nick> = peers.iter().filter_map(Peer::nick).collect();
        expected.extend(self.observer.nick());
        assert_eq!(names(self.who()), names(expected), "the user list");
    }

    /// I9: no thread, socket, file or transfer of those who have gone.
    fn check_nothing_is_left(&mut self) {
        let names = || {
            let entries = fs::read_dir(self.files.path()).expect("the shelf").filter_map(Result::ok);
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        let (begin, mut looks) = (Instant::now(), 0);
        while (reader_threads(), sockets(), names()) != (1, self.sockets, vec!["a.txt".to_owned()]) {
            let left = (reader_threads(), sockets(), names());
            // A process that was stopped meanwhile finds twenty seconds gone at its first look.
            let is_late = begin.elapsed() > Duration::from_secs(20) && looks > 1_000;
            assert!(!is_late, "readers, sockets and files: {left:?}");
            looks += 1;
            thread::yield_now();
        }
        self.observer.write(b"GET_tcp a.txt\n");
        let offer = self.observer.sync();
        let id = offer.iter().find_map(|line| line.strip_prefix("OFFER_")?.split(' ').next());
        let id = id.unwrap_or_else(|| panic!("no place for a transfer: {offer:?}"));
        self.observer.write(format!("DONE_{id} cancelled\n").as_bytes());
        let _ = self.observer.sync();
    }
}

fn line_of(message: &ServerMessage) -> String {
    message.emit().strip_suffix('\n').expect("a whole line").to_owned()
}

fn reader_threads() -> usize {
    let tasks = fs::read_dir("/proc/self/task").expect("Linux").filter_map(Result::ok);
    let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).unwrap_or_default();
    tasks.map(name).filter(|name| name.starts_with("reader-")).count()
}

fn sockets() -> usize {
    let descriptors = fs::read_dir("/proc/self/fd").expect("Linux").filter_map(Result::ok);
    let targets = descriptors.filter_map(|entry| fs::read_link(entry.path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
}

impl Peer {
    fn connect(addr: SocketAddr) -> Peer {
        let stream = TcpStream::connect(addr).expect("connected");
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        let (framer, state) = (Framer::default(), State::Stranger { is_first: true });
        Peer { stream: BufReader::new(stream), framer, state }
    }

    fn nick(&self) -> Option<Nick> {
        if let State::Member { nick, .. } = &self.state { Some(nick.clone()) } else { None }
    }

    fn write(&mut self, octets: &[u8]) {
        // Who was closed may find out here.
        let _ = self.stream.get_mut().write_all(octets);
    }

    fn feed_half(&mut self, text: &[u8]) {
        if self.state != State::Gone {
            self.write(text);
            assert!(self.framer.feed(text).is_empty(), "too short for a line");
        }
    }

    /// Sends octets that end a line; gives what came of it, and what the observer, the last of the others, must hear.
    fn feed(&mut self, octets: &[u8], others: &[Nick]) -> (Option<Effect>, Vec<String>) {
        if self.state == State::Gone {
            return (None, Vec::new());
        }
        self.write(octets);
        let (mut effect, mut heard) = (Effect::Stays, Vec::new());
        for line in self.framer.feed(octets) {
            let parsed = line.and_then(|line| ClientMessage::parse(&line));
            effect = self.step(parsed, others, &mut heard);
            if let Effect::Closed = effect {
                if let State::Member { nick, is_quiet: false, .. } = &self.state {
                    heard.push(ServerMessage::Leave(nick.clone()));
                }
                self.state = State::Gone;
                break;
            }
        }
        (Some(effect), heard.iter().map(line_of).collect())
    }

    /// The model: what one line does, and what the observer hears of it.
    fn step(
        &mut self,
        line: Result<ClientMessage, WireError>,
        others: &[Nick],
        heard: &mut Vec<ServerMessage>,
    ) -> Effect {
        match &mut self.state {
            State::Gone => Effect::Closed,
            State::Stranger { is_first } => match line {
                Ok(ClientMessage::Hello { nick, .. }) if others.contains(&nick) => {
                    *is_first = false;
                    Effect::Again
                }
                Ok(ClientMessage::Hello { nick, quiet: is_quiet }) => {
                    if !is_quiet {
                        heard.push(ServerMessage::Join(nick.clone()));
                    }
                    self.state = State::Member { nick, is_quiet, strikes: 0 };
                    Effect::Stays
                }
                _ => Effect::Closed,
            },
            State::Member { nick, is_quiet, strikes } => {
                match line {
                    Ok(ClientMessage::Quit) => return Effect::Closed,
                    Ok(ClientMessage::All(text)) => heard.push(ServerMessage::Msg(nick.clone(), text)),
                    Ok(ClientMessage::Pm(to, text)) if others.last() == Some(&to) => {
                        heard.push(ServerMessage::Pm(nick.clone(), text));
                    }
                    Ok(ClientMessage::Nick(new)) if !others.contains(&new) => {
                        let old = std::mem::replace(nick, new.clone());
                        if !*is_quiet {
                            heard.push(ServerMessage::Nick(old, new));
                        }
                    }
                    Err(error) if error.is_strike() => {
                        *strikes += 1;
                        if *strikes == Limits::default().strikes_max {
                            return Effect::Closed;
                        }
                    }
                    _ => {}
                }
                Effect::Stays
            }
        }
    }

    /// Everything up to the answer to a question that nobody else asks.
    fn sync(&mut self) -> Vec<String> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let mark = format!("sync {} of {}", COUNT.fetch_add(1, Ordering::Relaxed), std::process::id());
        self.write(format!("PING_{mark}\n").as_bytes());
        let mut heard = std::mem::take(&mut self.framer.unheard);
        let pong = format!("PONG_{mark}");
        loop {
            match self.line() {
                Some(line) if line == pong => return heard,
                // The digest of an offer comes when it is there.
                Some(line) if line.starts_with("DONE_") => {}
                Some(line) => heard.push(line),
                None => panic!("closed after {heard:?}, {:?}", self.state),
            }
        }
    }

    fn read_until(&mut self, is_last: impl Fn(&str) -> bool) {
        loop {
            let line = self.line().expect("an answer, not the end");
            if is_last(&line) {
                return;
            }
        }
    }

    fn read_to_end(&mut self) {
        while self.line().is_some() {}
    }

    /// The next line, which must mean something; `None` at the end.
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
            Err(error) => panic!("{error} instead of a line, {:?}", self.state),
        }
        let line = line.strip_suffix('\n').expect("whole lines only").to_owned();
        assert!(line.len() < LINE_LEN_MAX && ServerMessage::parse(line.as_bytes()).is_ok(), "{line:?}");
        Some(line)
    }
}

/// What the server must make of a stream of octets, and what was heard in passing.
#[derive(Default)]
struct Framer {
    line: Vec<u8>,
    is_discarding: bool,
    unheard: Vec<String>,
}

impl Framer {
    fn feed(&mut self, octets: &[u8]) -> Vec<Result<Vec<u8>, WireError>> {
        let mut lines = Vec::new();
        for &octet in octets {
            match octet {
                b'\n' if std::mem::take(&mut self.is_discarding) => {}
                b'\n' => {
                    let line = std::mem::take(&mut self.line);
                    lines.push(Ok(line.strip_suffix(b"\r").unwrap_or(&line).to_vec()));
                }
                _ if self.is_discarding => {}
                _ => self.line.push(octet),
            }
            if self.line.len() == LINE_LEN_MAX {
                self.line.clear();
                self.is_discarding = true;
                lines.push(Err(WireError::LineTooLong));
            }
        }
        lines
    }
}
