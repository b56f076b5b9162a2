//! R40: an error in the program itself, wherever it strikes, costs one client or one transfer and nobody else anything.
//!
//! Panics are injected by the logger: wherever a thread of the product says something, the logger of this test can panic
//! in its place. That is the only seam, and in production there is nothing of it.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use common::files::{TRANSPORTS, UdpEnd, accepted, content, fetch_tcp, offered, promise, stream};
use common::{PATIENCE, RawClient, eventually, server_with};
use log::{Level, LevelFilter, Log, Metadata, Record};
use packetboat::server::Limits;
use packetboat::wire::message::{Done, ServerMessage};

/// The members who must not notice.
const BYSTANDERS: usize = 49;

/// Where the next panic is to be.
struct Trap {
    /// The beginning of the thread's name.
    thread: &'static str,
    /// Records of such threads until then.
    after: usize,
}

static TRAP: Mutex<Option<Trap>> = Mutex::new(None);

/// The places where panics have been, and how many.
static SPRUNG: Mutex<(BTreeSet<String>, usize)> = Mutex::new((BTreeSet::new(), 0));

struct Panicker;

impl Log for Panicker {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let name = thread::current().name().unwrap_or_default().to_owned();
        // What tells of a panic must be heard.
        if record.level() == Level::Error || thread::panicking() {
            return;
        }
        {
            let mut trap = TRAP.lock().unwrap_or_else(PoisonError::into_inner);
            match &mut *trap {
                Some(Trap { thread, after: 0 }) if name.starts_with(*thread) => *trap = None,
                Some(Trap { thread, after }) if name.starts_with(*thread) => {
                    *after -= 1;
                    return;
                }
                _ => return,
            }
        }
        let place = format!("{}:{}", record.file().unwrap_or_default(), record.line().unwrap_or_default());
        {
            let mut sprung = SPRUNG.lock().unwrap_or_else(PoisonError::into_inner);
            sprung.0.insert(place.clone());
            sprung.1 += 1;
        }
        panic!("injected in {name} at {place}");
    }

    fn flush(&self) {}
}

fn is_armed() -> bool {
    TRAP.lock().unwrap_or_else(PoisonError::into_inner).is_some()
}

fn arm(thread: &'static str, after: usize) {
    *TRAP.lock().unwrap_or_else(PoisonError::into_inner) = Some(Trap { thread, after });
}

/// A client that may be cut off at any moment: what it cannot do it leaves.
struct Victim(RawClient);

impl Victim {
    fn come(addr: SocketAddr) -> Victim {
        let victim = Victim(RawClient::connect(addr));
        victim.0.stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        victim
    }

    /// Says this, and hears the first line that begins so; `None` when the server has closed.
    fn ask(&mut self, request: &str, answer: &str) -> Option<String> {
        self.0.try_send(request);
        self.0.line_or_end(&[answer, "ERR_"])
    }
}

/// Everything that makes the reader of a client speak.
fn converse(addr: SocketAddr, nick: &str) -> Option<()> {
    let mut victim = Victim::come(addr);
    victim.ask(&format!("HELLO_{nick}\n"), "WELCOME_")?;
    // Somebody else claims the nick, and is told to go.
    Victim::come(addr).ask(&format!("HELLO_{nick}\n"), "WELCOME_");
    let offer = victim.ask("GET_tcp a.bin\n", "OFFER_")?;
    let offer = offered(&offer);
    fetch_tcp(addr, &offer.secret);
    victim.ask(&format!("DONE_{} ok\nPING_kept\n", offer.id), "PONG_kept")?;
    let accept = victim.ask(&format!("PUT_tcp 5 - {nick}.txt\n"), "ACCEPT_")?;
    let accept = accepted(&accept);
    drop(stream(addr, &accept.secret, b"hello"));
    victim.ask(&promise(accept.id, b"hello"), "DONE_")?;
    drop(stream(addr, &offer.secret, b"a token that was used"));
    let again = victim.ask("GET_tcp a.bin\n", "OFFER_")?;
    victim.ask(&format!("DONE_{} incomplete\nPING_failed\n", offered(&again).id), "PONG_failed")?;
    victim.ask("QUIT\n", "BYE_").map(drop)
}

/// Everything that makes a worker speak, here and there: both ends are in this process.
fn transfer(addr: SocketAddr, nick: &str) -> Option<()> {
    let udp = UdpEnd::at(Ipv4Addr::LOCALHOST, None);
    let mut victim = Victim::come(addr);
    victim.ask(&format!("HELLO_{nick}\n"), "WELCOME_")?;
    let offer = offered(&victim.ask("GET_udp a.bin\n", "OFFER_")?);
    let folder = tempfile::tempdir().expect("a folder");
    let (received, _) = udp.receive((addr.ip(), offer.port).into(), &offer, folder.path());
    // The worker of either end tells its owner; the other end is told by hand, as the client does it.
    let id = offer.id;
    let failed = format!("DONE_{id} ");
    if let Some(done) = victim.0.line_or_end(&[&failed])
        && let Ok(ServerMessage::Done(_, Done::Failed(_))) = ServerMessage::parse(done.as_bytes())
    {
        udp.0.cancel(id);
    }
    let arrived = received.recv_timeout(Duration::from_secs(1));
    victim.0.try_send(format!(
        "DONE_{id} {}\n",
        if matches!(arrived, Ok((_, Ok(())))) { "ok" } else { "incomplete" }
    ));
    udp.0.cancel(id);
    let accept = accepted(&victim.ask(&format!("PUT_udp 5 - {nick}.txt\n"), "ACCEPT_")?);
    let sent = udp.send(addr.ip(), &accept, b"hello", 0..5);
    victim.0.try_send(promise(accept.id, b"hello"));
    let _ = sent.ended.recv_timeout(Duration::from_secs(1));
    victim.ask("QUIT\n", "BYE_").map(drop)
}

/// Everybody else chats, the nick is free, no lock is held, files travel both ways.
fn check(addr: SocketAddr, others: &mut [RawClient], nick: &str, round: usize, shelf: &[u8]) {
    let speaker = round % others.len();
    others[speaker].send(format!("ALL_round {round}\n"));
    let heard = format!("MSG_other{speaker} round {round}");
    for other in others.iter_mut() {
        while other.line() != heard {}
    }
    let mut back = RawClient::connect(addr);
    eventually("the nick is free", || {
        back.send(format!("HELLO_{nick}\n"));
        back.line().starts_with("WELCOME_")
    });
    let udp = UdpEnd::new();
    // What the last victim has put arrives when it does.
    let next = |back: &mut RawClient| back.line_but(&["SHARED_", "JOIN_", "LEAVE_"]);
    for transport in TRANSPORTS {
        back.send(format!("GET_{transport} a.bin\n"));
        let offer = offered(&next(&mut back));
        let done = next(&mut back);
        let digest = blake3::hash(shelf);
        assert_eq!(done, format!("DONE_{} {} {digest}", offer.id, shelf.len()), "round {round}");
        let octets = match transport {
            "udp" => udp.fetch(addr, &offer, digest),
            _ => fetch_tcp(addr, &offer.secret),
        };
        assert_eq!(octets, shelf, "round {round} over {transport}");
        back.send(format!("PUT_{transport} 5 - {nick}-{transport}.txt\n"));
        let accept = accepted(&next(&mut back));
        back.deliver(&udp, transport, &accept, b"hello");
        assert_eq!(next(&mut back), format!("DONE_{} ok", accept.id), "round {round} over {transport}");
    }
    back.send("QUIT\n");
    back.rest();
}

fn login(addr: SocketAddr, number: usize) -> RawClient {
    let mut client = RawClient::connect(addr);
    client.send(format!("HELLO_other{number}\n"));
    assert!(client.line().starts_with("WELCOME_"));
    client
}

fn left_over(files: &Path) -> Vec<String> {
    common::files::names(files).into_iter().filter(|name| name.starts_with('.')).collect()
}

#[test]
fn r40_a_panic_costs_one_client_and_nobody_else_anything() {
    log::set_logger(&Panicker).expect("no other logger");
    log::set_max_level(LevelFilter::Trace);
    let hour = Duration::from_secs(3_600);
    let limits = Limits { rate: None, challenge_after: hour, ..Limits::default() };
    let (server, files) = server_with(limits);
    let addr = server.local_addr();
    let shelf = content(100_000, 40);
    fs::write(files.path().join("a.bin"), &shelf).expect("written");
    let mut others: Vec<RawClient> = (0..BYSTANDERS).map(|number| login(addr, number)).collect();
    let places = (0..18).map(|after| ("reader-", after)).chain((0..12).map(|after| ("transfer-", after)));
    for (round, (thread, after)) in places.enumerate() {
        let (nick, mut victim) = (format!("victim{round}"), String::new());
        arm(thread, after);
        for attempt in 0.. {
            assert!(attempt < 20, "nothing is said in {thread}* after {after}");
            // Another nick each time: who said too little may be leaving still.
            let nick = format!("{nick}-{attempt}");
            // How far it comes is the panic's to say.
            let _ = match thread {
                "reader-" => converse(addr, &nick),
                _ => transfer(addr, &nick),
            };
            if !is_armed() {
                victim = nick;
                break;
            }
        }
        check(addr, &mut others, &victim, round, &shelf);
    }
    let sprung = SPRUNG.lock().unwrap_or_else(PoisonError::into_inner);
    assert_eq!(sprung.1, 30, "{:?}", sprung.0);
    assert!(sprung.0.len() >= 10, "{:?}", sprung.0);
    drop(sprung);
    eventually("nothing unfinished is left", || left_over(files.path()).is_empty());
    drop(others);
    drop(server);
}
