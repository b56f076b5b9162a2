//! The writer threads of a server. One serves a small room; a large one is shared out between two, so that a line reaches
//! thousands on more than one core.
//!
//! A client keeps its writer, and both are told everything in the hub's order: so everybody still hears everything in one
//! order.

use std::io;
use std::iter;
use std::sync::{Arc, OnceLock};

use log::warn;

use super::limits::Limits;
use super::machine::{Instant, TcpStream};
use super::outbox::{Gauge, Line};
use super::pause::PAUSE_CHECK;
use super::writer::Writer;
use crate::chat::room::{Audience, MemberId};

/// The handles of the threads. Its methods never wait for a thread, so they may be called under the hub's lock, and those
/// that tell the room something must be, for one order; [`wait_for_calm`](Self::wait_for_calm), its like and
/// [`stop`](Self::stop) alone do wait, and must not.
#[derive(Debug)]
pub(super) struct Writers {
    limits: Limits,
    cores: usize,
    first: Writer,
    /// Started when it is needed for the first time; nothing in it if the system refused.
    second: OnceLock<Option<Writer>>,
}

impl Writers {
    /// Starts the first; a second one will only be where there is another core for it.
    pub(super) fn start(limits: &Limits, cores: usize) -> io::Result<Writers> {
        let first = Writer::start(limits)?;
        Ok(Writers { limits: limits.clone(), cores, first, second: OnceLock::new() })
    }

    /// Takes the sending half of a new connection, which is not in the room yet; gives what tells of its queue. Under the
    /// hub's lock: a writer that starts hears all that is said from then on.
    pub(super) fn add(&self, id: MemberId, stream: Arc<TcpStream>) -> Arc<Gauge> {
        let gauge = Arc::new(if self.second_has_fewer() { Gauge::of_second() } else { Gauge::default() });
        self.of(&gauge).add(id, stream, Arc::clone(&gauge));
        gauge
    }

    /// Whether a new client is the second one's.
    fn second_has_fewer(&self) -> bool {
        if self.cores < 2 || self.first.clients() < self.limits.one_writer_max {
            return false;
        }
        let start = || {
            let refused =
                |error: &io::Error| warn!("one thread writes to all, the system refuses another: {error}");
            Writer::start(&self.limits).inspect_err(refused).ok()
        };
        self.second.get_or_init(start).as_ref().is_some_and(|second| second.clients() < self.first.clients())
    }

    fn second(&self) -> Option<&Writer> {
        self.second.get().and_then(Option::as_ref)
    }

    /// All that run.
    fn all(&self) -> impl Iterator<Item = &Writer> {
        iter::once(&self.first).chain(self.second())
    }

    /// The writer that has a connection.
    pub(super) fn of(&self, gauge: &Gauge) -> &Writer {
        self.second().filter(|_| gauge.is_of_second()).unwrap_or(&self.first)
    }

    /// Sends finished lines to one client.
    pub(super) fn send_one(&self, id: MemberId, gauge: &Gauge, line: Line) {
        self.of(gauge).send_one(id, gauge, line);
    }

    /// Sends a finished line to the room, or to all but one.
    pub(super) fn send_room(&self, to: Audience, line: &Line) {
        self.all().for_each(|writer| writer.send_room(to, Arc::clone(line)));
    }

    /// Ends all threads as [`Writer::stop`] does, at the same time. When the hub admits nobody any more, so none starts.
    pub(super) fn stop(&self) {
        self.all().for_each(Writer::ask_to_stop);
        self.all().for_each(Writer::stop);
    }

    /// Blocks a reader as long as its client does not take its answers, or a writer is behind as a whole.
    pub(super) fn wait_for_calm(&self, gauge: &Gauge) {
        while !self.wait_for_calm_until(gauge, Instant::now() + PAUSE_CHECK) {}
    }

    /// The same, but no longer than `until`; `false` if it was in vain.
    pub(super) fn wait_for_calm_until(&self, gauge: &Gauge, until: Instant) -> bool {
        // Only its own knows when the gauge falls.
        self.of(gauge).wait_for_calm_until(Some(gauge), until)
            && self.all().all(|writer| writer.wait_for_calm_until(None, until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::net::TcpListener;
    use std::time::Duration;

    /// Two clients in a room for which one writer is enough, and three more.
    fn come(cores: usize) -> (Writers, Vec<(Arc<Gauge>, TcpStream)>) {
        let limits = Limits { one_writer_max: 2, ..Limits::default() };
        let writers = Writers::start(&limits, cores).expect("a thread");
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let come = |id: u64| {
            assert!(id > 2 || writers.second().is_none(), "not needed yet");
            let client = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
            client.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
            let gauge = writers.add(MemberId(id), Arc::new(listener.accept().expect("accepted").0));
            writers.of(&gauge).enter(MemberId(id));
            (gauge, client)
        };
        let clients = (1..=5).map(come).collect();
        (writers, clients)
    }

    #[test]
    fn above_what_one_can_do_the_writer_with_fewer_clients_gets_the_next() {
        let (writers, clients) = come(2);
        let are_of_second: Vec<bool> = clients.iter().map(|(gauge, _)| gauge.is_of_second()).collect();
        assert_eq!(are_of_second, [false, false, true, true, false]);
        writers.send_room(Audience::AllBut(MemberId(1)), &Arc::from(&b"MSG_x\n"[..]));
        for (id, (gauge, _)) in (1..).zip(&clients) {
            writers.send_one(MemberId(id), gauge, Arc::from(&b"BYE_\n"[..]));
        }
        writers.stop();
        for (number, (_, mut client)) in clients.into_iter().enumerate() {
            let mut heard = String::new();
            client.read_to_string(&mut heard).expect("closed");
            assert_eq!(heard, if number == 0 { "BYE_\n" } else { "MSG_x\nBYE_\n" });
        }
    }

    #[test]
    fn one_core_has_one_writer() {
        let (writers, clients) = come(1);
        assert!(writers.second().is_none() && clients.iter().all(|(gauge, _)| !gauge.is_of_second()));
    }
}
