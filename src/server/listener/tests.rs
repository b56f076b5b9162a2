//! A system that refuses threads, played by the function that starts them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use super::*;
use crate::server::hub::tests::hub;

const REFUSED: &str = "ERR_busy HELLO the server cannot take more connections now\n";

type Reader = Box<dyn FnOnce() + Send>;

fn refusal() -> io::Result<JoinHandle<()>> {
    Err(io::Error::from_raw_os_error(Errno::AGAIN.raw_os_error()))
}

/// An accept thread over this hub; dropping it ends the thread.
struct Accepting {
    hub: Arc<Hub>,
    waker: Arc<Waker>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Accepting {
    fn new(spawn: Spawn) -> Accepting {
        let (hub, _) = hub();
        let listener = bind((Ipv4Addr::LOCALHOST, 0).into()).expect("bound");
        let (address, waker) =
            (listener.local_addr().expect("an address"), Arc::new(Waker::new().expect("one")));
        let thread = start(listener, Arc::clone(&hub), Arc::clone(&waker), spawn).expect("a thread");
        Accepting { hub, waker, address, thread: Some(thread) }
    }

    /// Connects, and says HELLO under this nick.
    fn hello(&self, nick: &str) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(self.address).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
        // Where it is refused it may be closed already.
        let _ = stream.write_all(format!("HELLO_{nick}\n").as_bytes());
        BufReader::new(stream)
    }

    fn first_line(&self, nick: &str) -> (String, BufReader<TcpStream>) {
        let (mut line, mut client) = (String::new(), self.hello(nick));
        client.read_line(&mut line).expect("a line");
        (line, client)
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        self.hub.close("the test is over");
        self.waker.wake();
        self.thread.take().expect("dropped once").join().expect("the accept thread has not panicked");
    }
}

#[test]
fn r13_every_second_thread_is_refused() {
    static STARTED: AtomicUsize = AtomicUsize::new(0);
    fn every_second(builder: Builder, reader: Reader) -> io::Result<JoinHandle<()>> {
        if STARTED.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
            refusal()
        } else {
            builder.spawn(reader)
        }
    }
    let accepting = Accepting::new(every_second);
    let mut members = Vec::new();
    for number in 0..20 {
        let (line, mut client) = accepting.first_line(&format!("n{number}"));
        if number % 2 == 0 {
            assert_eq!(line, REFUSED);
            // Closed; with a reset where its HELLO was not read.
            assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)));
        } else {
            assert_eq!(line, format!("WELCOME_n{number} v=1 max=4096\n"));
            members.push(client);
        }
    }
    let (who, _) = (accepting.hub.state.lock().who(), members);
    assert!(who[0].starts_with(b"USERS_10 "), "{who:?}");
}

#[test]
fn r13_no_thread_at_all_and_then_one() {
    static REFUSES: AtomicBool = AtomicBool::new(true);
    fn none_at_first(builder: Builder, reader: Reader) -> io::Result<JoinHandle<()>> {
        if REFUSES.load(Ordering::Relaxed) { refusal() } else { builder.spawn(reader) }
    }
    let accepting = Accepting::new(none_at_first);
    for _ in 0..100 {
        assert_eq!(accepting.first_line("alice").0, REFUSED);
    }
    REFUSES.store(false, Ordering::Relaxed);
    let (line, _alice) = accepting.first_line("alice");
    assert_eq!(line, "WELCOME_alice v=1 max=4096\n");
}
