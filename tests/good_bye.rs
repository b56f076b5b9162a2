//! Whoever has heard the good-bye of the server is out of the room: a script may come again at once under its nick.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use common::{RawClient, server_with};
use log::{LevelFilter, Log, Metadata, Record};
use packetboat::server::Limits;

/// How many threads it has held up.
static HELD_UP: AtomicUsize = AtomicUsize::new(0);

/// Holds up the thread of a client that ends, where it tells why; else the moment is too short to be met.
struct Brake;

impl Log for Brake {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let is_reader = thread::current().name().is_some_and(|name| name.starts_with("reader-"));
        if is_reader && record.args().to_string().starts_with("connection ") {
            HELD_UP.fetch_add(1, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(200));
        }
    }

    fn flush(&self) {}
}

#[test]
fn the_nick_is_free_for_who_has_heard_the_good_bye() {
    log::set_logger(&Brake).expect("no other logger");
    log::set_max_level(LevelFilter::Debug);
    let (server, _files) = server_with(Limits { rate: None, strikes_max: 1, ..Limits::default() });
    for round in 0..6 {
        let mut alice = RawClient::connect(server.local_addr());
        assert_eq!(alice.ask("HELLO_alice"), "WELCOME_alice v=1 max=4096", "round {round}");
        let held_up = HELD_UP.load(Ordering::SeqCst);
        if round % 2 == 0 {
            assert_eq!(alice.ask("QUIT"), "BYE_");
        } else {
            assert!(alice.ask("ALL_\u{1}").starts_with("ERR_bad-text ALL "));
            assert_eq!(alice.line(), "ERR_strikes ALL too many bad lines");
            assert_eq!(alice.line(), "BYE_too many bad lines");
        }
        assert!(HELD_UP.load(Ordering::SeqCst) > held_up, "the good-bye was said before it could be held up");
    }
}
