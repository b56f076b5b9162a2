//! F9: whatever a server says, the client neither panics nor hangs, shows nothing that a terminal obeys, and writes nowhere
//! but into its downloads; what has a name there is what was promised.
//!
//! The client is the product's: its session, its events, its transfers and what it reports. Only the screen is ours.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use packetboat::client::address::Address;
use packetboat::client::error::ClientError;
use packetboat::client::event::{Event, Events};
use packetboat::client::listing::{FileList, Roll, Step};
use packetboat::client::reconnect::Plan;
use packetboat::client::report::Report;
use packetboat::client::session::{self, Answer, Session};
use packetboat::client::transfers::{Reaction, Transfers, Want, What};
use packetboat::transfer::Progress;
use packetboat::transfer::pool::{Cargo, Opener, Pool, PoolConfig, Request};
use packetboat::transfer::sink::Target;
use packetboat::transfer::tuning::Tuning;
use packetboat::wire::message::{ClientMessage, Secret, ServerMessage, TransferId, Transport};
use packetboat::wire::name::{FileName, Nick};
use tempfile::TempDir;

use super::room::{alone, assert_no_panic, watch_panics};
use super::screen::assert_one_clean_line;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long the server waits for something that the client need not do.
const PAUSE: Duration = Duration::from_millis(30);

/// Ours: a longer script finds nothing more.
const OPS_MAX: usize = 32;

/// `@KEY@` in a line.
const KEY: Secret = Secret([7; 32]);

/// What must stay as it is, beside the downloads.
const OUTSIDE: &str = "what lies outside";

/// What is made once: an input costs a few threads and sockets.
struct Scene {
    pool: Pool,
    folder: TempDir,
}

/// What one input has for itself: nobody who comes late to the one before comes here.
struct Run<'a> {
    listener: TcpListener,
    pool: &'a Pool,
    folder: &'a Path,
}

/// Files that have come to their names: scripts in which none does would show little.
pub(crate) static FINISHED: AtomicUsize = AtomicUsize::new(0);

static SCENE: Mutex<Option<Scene>> = Mutex::new(None);

/// The first octet says what the client wants; then each line is a step of the server. Its first octet says what it is: `D`
/// serves a TCP transfer with these octets, `U` holds them ready for a UDP one (number 7), `P` waits until the client has
/// come so far, `<` says it without a line end, `L` makes a line of it that is too long; with anything else the rest is a line.
pub(crate) fn f9_client(data: &[u8]) {
    let _alone = alone();
    watch_panics();
    let mut place = SCENE.lock().unwrap_or_else(PoisonError::into_inner);
    let scene = place.take().unwrap_or_else(Scene::new);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    Run { listener, pool: &scene.pool, folder: scene.folder.path() }.play(data);
    assert_no_panic();
    *place = Some(scene);
}

impl Scene {
    fn new() -> Scene {
        let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let config = PoolConfig { ip, base_port: 0, workers: 1, tuning: Tuning::default() };
        let folder = TempDir::new().expect("a folder");
        fs::write(folder.path().join("outside"), OUTSIDE).expect("written");
        Scene { pool: Pool::start(&config).expect("a port"), folder }
    }
}

impl Run<'_> {
    fn downloads(&self) -> PathBuf {
        self.folder.join("downloads")
    }

    fn play(&self, data: &[u8]) {
        let (wishes, script) = data.split_first().unwrap_or((&0, &[]));
        let said = thread::scope(|scope| {
            let serving = scope.spawn(|| self.serve(wishes & 0x80 == 0, script));
            self.visit(*wishes);
            serving.join().expect("the server's side does not panic")
        });
        self.check_files(&said);
    }

    /// The server; gives everything that it has said.
    fn serve(&self, welcomes: bool, script: &[u8]) -> Vec<u8> {
        let (stream, _) = self.listener.accept().expect("the client comes");
        stream.set_read_timeout(Some(PAUSE)).expect("a socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        let mut server = Talker { stream: BufReader::new(stream), said: Vec::new() };
        if welcomes {
            server.say(b"WELCOME_alice v=1 max=4096\n");
        }
        for (number, op) in script.split(|&octet| octet == b'\n').take(OPS_MAX).enumerate() {
            let Some((&kind, rest)) = op.split_first() else { continue };
            match kind {
                b'D' => self.serve_data(rest),
                b'U' => self.hold_ready(rest),
                b'P' => server.wait_for_client(number),
                b'<' => server.say(&self.filled_in(rest)),
                b'L' => server.say(&[rest, &[b'x'; 5_000], b"\n"].concat()),
                _ => server.say(&[&self.filled_in(rest)[..], b"\n"].concat()),
            }
        }
        let _ = server.stream.get_ref().shutdown(Shutdown::Write);
        // A socket closed with unread octets is reset.
        let _ = server.stream.get_ref().set_read_timeout(Some(PATIENCE));
        let _ = std::io::copy(&mut server.stream, &mut std::io::sink());
        self.pool.cancel(TransferId(7));
        server.said
    }

    fn filled_in(&self, line: &[u8]) -> Vec<u8> {
        let tcp = self.listener.local_addr().expect("bound").port();
        let mut out = String::new();
        let mut whole = Vec::new();
        // What is not UTF-8 has no places to fill in.
        match std::str::from_utf8(line) {
            Ok(text) => out.push_str(text),
            Err(_) => whole.extend_from_slice(line),
        }
        let digest = |of: &[u8]| blake3::hash(of).to_string();
        let out = out
            .replace("@TCP@", &tcp.to_string())
            .replace("@UDP@", &self.pool.ports()[0].to_string())
            .replace("@KEY@", &blake3::Hash::from_bytes(KEY.0).to_string())
            .replace("@HELLO@", &digest(b"hello"))
            .replace("@OTHER@", &digest(b"other"));
        whole.extend_from_slice(out.as_bytes());
        whole
    }

    /// The next connection gets these octets behind its token, if it comes.
    fn serve_data(&self, octets: &[u8]) {
        self.listener.set_nonblocking(true).expect("a socket");
        let begin = Instant::now();
        let accepted = loop {
            match self.listener.accept() {
                Ok((stream, _)) => break Some(stream),
                Err(_) if begin.elapsed() > PAUSE => break None,
                Err(_) => thread::yield_now(),
            }
        };
        self.listener.set_nonblocking(false).expect("a socket");
        let Some(stream) = accepted else { return };
        stream.set_nonblocking(false).expect("a socket");
        stream.set_read_timeout(Some(PAUSE)).expect("a socket");
        let mut stream = BufReader::new(stream);
        let _ = stream.read_line(&mut String::new());
        let _ = stream.get_mut().write_all(octets);
        let _ = stream.get_mut().shutdown(Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    }

    /// Who opens transfer 7 over UDP with the key gets these octets.
    fn hold_ready(&self, octets: &[u8]) {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(octets).expect("written");
        let cargo = Cargo::Send { file, wanted: 0..octets.len() as u64, ended: Box::new(|_| ()) };
        let opener = Opener::Peer(Ipv4Addr::LOCALHOST.into());
        let (rtt, progress) = (Duration::from_millis(1), Arc::new(Progress::default()));
        self.pool
            .start_transfer(Request { id: TransferId(7), key: KEY, opener, cargo, rtt, progress }, u64::MAX);
    }

    /// The client, until the server is gone.
    fn visit(&self, wishes: u8) {
        let port = self.listener.local_addr().expect("bound").port();
        let address = Address { host: "127.0.0.1".into(), port, nick: None };
        let nick = Nick::parse("alice").expect("a nick");
        let lobby = session::connect(&address).expect("connected");
        match lobby.hello(&nick, false) {
            Ok(Answer::Welcome(session)) => self.converse(session, address, wishes),
            Ok(Answer::Refused { code, words, .. }) => show_error(&ClientError::Refused { code, words }),
            Err(error) => show_error(&error),
        }
    }

    fn converse(&self, mut session: Session, address: Address, wishes: u8) {
        let mut transfers = Transfers::new(session.server, session.rtt, Tuning::default());
        let transport = if wishes & 1 == 0 { Transport::Tcp } else { Transport::Udp };
        let mut wants = Vec::new();
        if wishes & 2 != 0 {
            let name = FileName::parse("a.txt").expect("a name");
            let target = Target::Folder(self.downloads(), name.clone());
            let what = What::Get { target, asks: true };
            wants.push(Want { name, what, transport, fall_back: wishes & 4 != 0 });
        }
        if wishes & 8 != 0 {
            // Open by the time that the server hears of it; a path that is gone leaves no token behind.
            let path = self.folder.join("own.txt");
            fs::write(&path, "hello").expect("written");
            let name = FileName::parse("own.txt").expect("a name");
            wants.push(Want { name, what: What::Put { path }, transport, fall_back: false });
        }
        let mut lists = (wishes & 16 != 0).then(FileList::default);
        let mut roll = (wishes & 32 != 0).then(Roll::default);
        if lists.is_some() {
            session.say(ClientMessage::Files(None));
            session.say(ClientMessage::Who);
        }
        let asked: Vec<Reaction> = wants.into_iter().flat_map(|want| transfers.ask(want)).collect();
        let _ = fs::remove_file(self.folder.join("own.txt"));

        // Nobody types, and no signal comes.
        let (_no_signal, signals) = crossbeam_channel::bounded(0);
        let plan = Plan { address, quiet: false, patience: Duration::ZERO };
        let mut events = Events::new(session, plan, transfers.events(), None, signals);
        self.react(&mut events, &mut transfers, asked);
        let begin = Instant::now();
        let mut is_over = false;
        while !(is_over && transfers.is_idle()) {
            assert!(begin.elapsed() < PATIENCE, "it hangs");
            let reactions = match events.next(Some(Instant::now() + Duration::from_millis(20))) {
                Event::Server(message) => match transfers.on_server(message) {
                    Ok(reactions) => reactions,
                    Err(message) => {
                        hear(&mut events, message, &mut lists, &mut roll);
                        Vec::new()
                    }
                },
                Event::Transfer(event) => transfers.on_transfer(event),
                Event::GaveUp(error) => {
                    show_error(&error);
                    is_over = true;
                    transfers.on_lost("the server is gone")
                }
                Event::Tick => transfers.on_tick(Instant::now()),
                event => panic!("{event:?} from nobody"),
            };
            self.react(&mut events, &mut transfers, reactions);
        }
        transfers.close();
    }

    fn react(&self, events: &mut Events, transfers: &mut Transfers, reactions: Vec<Reaction>) {
        for reaction in reactions {
            match reaction {
                Reaction::Say(message) => events.session.say(message),
                Reaction::Tell(report) => show(&report),
                Reaction::Ask(view) => {
                    show(&view.report());
                    let more = transfers.answer(None, true).unwrap_or_default();
                    self.react(events, transfers, more);
                }
                Reaction::Finished(finished) => {
                    FINISHED.fetch_add(1, Ordering::Relaxed);
                    let path = Path::new(&finished.path);
                    let is_down = path.parent() == Some(&self.downloads()) && path.is_file();
                    assert!(is_down || path.ends_with("own.txt"), "{finished:?}");
                    show(&Report::Transfer(finished));
                }
                Reaction::Failed(failed) => show_error(&failed.into()),
                Reaction::Refused { name, code, words } => {
                    show_error(&ClientError::NotOffered { name: name.to_string(), code, words });
                }
            }
        }
    }

    /// I6, and nothing outside; then the folder is as before.
    fn check_files(&self, said: &[u8]) {
        let names = |folder: &Path| -> BTreeSet<String> {
            let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
        };
        let mut around = names(self.folder);
        around.remove("downloads");
        assert_eq!(around.into_iter().collect::<Vec<_>>(), ["outside"]);
        let outside = fs::read_to_string(self.folder.join("outside")).expect("there");
        assert_eq!(outside, OUTSIDE);
        let said = String::from_utf8_lossy(said).to_lowercase();
        for name in names(&self.downloads()) {
            let path = self.downloads().join(&name);
            assert!(fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file()), "{name}");
            if !name.starts_with('.') {
                let digest = blake3::hash(&fs::read(&path).expect("readable")).to_string();
                assert!(said.contains(&digest), "{name} is not what was promised");
            }
        }
        let _ = fs::remove_dir_all(self.downloads());
    }
}

/// What the console makes of everything but transfers.
fn hear(events: &mut Events, message: ServerMessage, lists: &mut Option<FileList>, roll: &mut Option<Roll>) {
    match message {
        ServerMessage::Users(total, nicks) => {
            let Some(mut known) = roll.take() else { return };
            if known.on_users(total, nicks) {
                show(&Report::Users { nicks: known.nicks.iter().map(Nick::to_string).collect() });
            } else {
                *roll = Some(known);
            }
        }
        ServerMessage::Files(count) => {
            let step = lists.as_mut().map(|list| list.on_count(count));
            on_step(events, step, lists);
        }
        ServerMessage::File(entry) => {
            let step = lists.as_mut().map(|list| list.on_file(entry));
            on_step(events, step, lists);
        }
        ServerMessage::Err { code, words, .. } => show_error(&ClientError::Refused { code, words }),
        other => _ = Report::of(other).map(|report| show(&report)),
    }
}

fn on_step(events: &mut Events, step: Option<Step>, lists: &mut Option<FileList>) {
    match step {
        Some(Step::Ask(after)) => events.session.say(ClientMessage::Files(Some(after))),
        Some(Step::Complete) => {
            let files: Vec<_> = lists.take().unwrap_or_default().entries.iter().map(Into::into).collect();
            // One line each, and each begins with its number.
            for (at, line) in (Report::Files { files }).to_string().lines().enumerate() {
                assert_one_clean_line(line);
                let begins_right = line.trim_start().starts_with(&(at + 1).to_string());
                assert!(begins_right || line == "* the shelf is empty", "{line:?}");
            }
        }
        Some(Step::Wait) | None => {}
    }
}

fn show(report: &Report) {
    assert_one_clean_line(&report.to_string());
    assert_one_clean_line(&report.to_json());
}

fn show_error(error: &ClientError) {
    let name = error.file_name().map(str::to_owned);
    show(&Report::Error { code: error.code(), message: error.to_string(), name });
}

/// The server's end of the control connection.
struct Talker {
    stream: BufReader<TcpStream>,
    said: Vec<u8>,
}

impl Talker {
    fn say(&mut self, octets: &[u8]) {
        self.said.extend_from_slice(octets);
        // The client may be gone.
        let _ = self.stream.get_mut().write_all(octets);
    }

    /// Asks for a sign of life, and waits for it a moment.
    fn wait_for_client(&mut self, number: usize) {
        self.say(format!("PING_{number}\n").as_bytes());
        let pong = format!("PONG_{number}\n");
        let mut line = String::new();
        while self.stream.read_line(&mut line).is_ok_and(|len| len > 0) && line != pong {
            line.clear();
        }
    }
}
