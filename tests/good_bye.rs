//! Whoever has heard the good-bye of the server is out of the room: a script may come again at once under its nick.

mod common;

use std::thread;
use std::time::Duration;

use common::{RawClient, server_with};
use log::{LevelFilter, Log, Metadata, Record};
use packetboat::server::Limits;

/// Holds up the thread of a client that ends, where it tells why; else the moment is too short to be met.
struct Brake;

impl Log for Brake {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let is_reader = thread::current().name().is_some_and(|name| name.starts_with("reader-"));
        if is_reader && record.args().to_string().starts_with("connection ") {
            thread::sleep(Duration::from_millis(200));
        }
    }

    fn flush(&self) {}
}

#[test]
fn the_nick_is_free_for_who_has_heard_the_good_bye() {
    log::set_logger(&Brake).expect("no other logger");
    log::set_max_level(LevelFilter::Debug);
    let (server, _files) = server_with(Limits { rate: None, ..Limits::default() });
    for round in 0..5 {
        let mut alice = RawClient::connect(server.local_addr());
        assert_eq!(alice.ask("HELLO_alice"), "WELCOME_alice v=1 max=4096", "round {round}");
        assert_eq!(alice.ask("QUIT"), "BYE_");
    }
}
