//! The hub: who is connected and who is in the room, behind one lock that is only ever held to look up, insert,
//! remove and enqueue.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use log::{debug, info};
use parking_lot::{Condvar, Mutex};

use super::limits::Limits;
use super::outbox::{Gauge, Line};
use super::transfers::Transfers;
use super::writer::Writer;
use crate::chat::room::{Audience, Delivery, MemberId, NickTaken, Room};
use crate::transfer::disk::Disk;
use crate::transfer::pool::Pool;
use crate::transfer::shelf::Shelf;
use crate::wire::message::ServerMessage;
use crate::wire::name::Nick;

/// What all threads of a server share.
#[derive(Debug)]
pub(super) struct Hub {
    pub(super) limits: Limits,
    pub(super) writer: Writer,
    pub(super) shelf: Shelf,
    pub(super) pool: Pool,
    pub(super) disk: Disk,
    /// The room's own port, told in offers over TCP.
    pub(super) tcp_port: u16,
    pub(super) state: Mutex<State>,
    closing: AtomicBool,
    /// Told whenever a connection has gone.
    left: Condvar,
}

/// What the lock guards.
#[derive(Debug, Default)]
pub(super) struct State {
    room: Room,
    connections: HashMap<MemberId, Connection>,
    /// Who has not said HELLO yet; the smallest is the oldest.
    unregistered: BTreeSet<MemberId>,
    /// Control connections of each address.
    per_ip: HashMap<IpAddr, usize>,
    last_id: u64,
    pub(super) transfers: Transfers,
}

#[derive(Debug)]
struct Connection {
    stream: Arc<TcpStream>,
    gauge: Arc<Gauge>,
    ip: IpAddr,
    /// It carries a file, not lines.
    is_data: bool,
}

/// One connection's place in the hub, held by its reader. However that thread ends, dropping this gives the place and
/// the nick free.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) hub: Arc<Hub>,
    pub(super) id: MemberId,
    pub(super) stream: Arc<TcpStream>,
    pub(super) peer: SocketAddr,
    pub(super) gauge: Arc<Gauge>,
}

/// Why somebody cannot come in now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotAdmitted {
    #[error("too many connections come from your address")]
    Address,
    #[error("the room is full")]
    Full,
    #[error("the server closes")]
    Closing,
    #[error(transparent)]
    Nick(#[from] NickTaken),
}

impl Hub {
    pub(super) fn new(
        limits: Limits,
        writer: Writer,
        shelf: Shelf,
        pool: Pool,
        disk: Disk,
        tcp_port: u16,
    ) -> Hub {
        let (state, closing, left) = (Mutex::default(), AtomicBool::new(false), Condvar::new());
        Hub { limits, writer, shelf, pool, disk, tcp_port, state, closing, left }
    }

    /// Gives a new connection its place among the unregistered; the oldest of them goes if there are too many.
    pub(super) fn admit(
        self: &Arc<Self>,
        stream: Arc<TcpStream>,
        peer: SocketAddr,
    ) -> Result<Seat, NotAdmitted> {
        let gauge = Arc::new(Gauge::default());
        let ip = peer.ip().to_canonical();
        let mut state = self.state.lock();
        if self.is_closing() {
            return Err(NotAdmitted::Closing);
        }
        if state.connections.len() >= self.connections_max() {
            return Err(NotAdmitted::Full);
        }
        let from_ip = state.per_ip.entry(ip).or_default();
        if *from_ip >= self.limits.per_ip_max && !ip.is_loopback() {
            return Err(NotAdmitted::Address);
        }
        *from_ip += 1;
        state.last_id += 1;
        let id = MemberId(state.last_id);
        let connection =
            Connection { stream: Arc::clone(&stream), gauge: Arc::clone(&gauge), ip, is_data: false };
        state.connections.insert(id, connection);
        state.unregistered.insert(id);
        self.writer.add(id, Arc::clone(&stream), Arc::clone(&gauge));
        let evicted = state.evict_one_above(self.limits.unregistered_max);
        drop(state);
        if let Some((id, stream)) = evicted {
            debug!("connection {}: evicted, too many have not said HELLO", id.0);
            let _ = stream.shutdown(Shutdown::Both);
        }
        Ok(Seat { hub: Arc::clone(self), id, stream, peer, gauge })
    }

    /// Everybody who may be here and everything that may travel: so many threads at most, also those that are ending.
    fn connections_max(&self) -> usize {
        let Limits { clients_max, unregistered_max, transfers_max, .. } = self.limits;
        clients_max.saturating_add(unregistered_max).saturating_add(transfers_max)
    }

    /// Lets a connection into the room.
    pub(super) fn join(&self, seat: &Seat, nick: &Nick, quiet: bool) -> Result<(), NotAdmitted> {
        let mut state = self.state.lock();
        if self.is_closing() {
            return Err(NotAdmitted::Closing);
        }
        if state.room.len() >= self.limits.clients_max {
            return Err(NotAdmitted::Full);
        }
        let deliveries = state.room.join(seat.id, nick.clone(), quiet)?;
        state.unregistered.remove(&seat.id);
        self.writer.enter(seat.id);
        self.deliver(&state, deliveries);
        drop(state);
        info!("{nick} joined from {} (connection {})", seat.peer, seat.id.0);
        Ok(())
    }

    /// Does something in the room, and tells everybody what it says they must be told, in one order for all.
    pub(super) fn in_room(&self, act: impl FnOnce(&mut Room) -> Vec<Delivery>) {
        let mut state = self.state.lock();
        let deliveries = act(&mut state.room);
        self.deliver(&state, deliveries);
    }

    /// Tells one connection something, if it still is there.
    pub(super) fn tell(&self, id: MemberId, message: ServerMessage) {
        let state = self.state.lock();
        self.deliver(&state, vec![Delivery { to: Audience::One(id), message }]);
    }

    fn deliver(&self, state: &State, deliveries: Vec<Delivery>) {
        for Delivery { to, message } in deliveries {
            let line: Line = message.emit().into_bytes().into();
            match to {
                Audience::One(id) => {
                    if let Some(connection) = state.connections.get(&id) {
                        self.writer.send_one(id, &connection.gauge, line);
                    }
                }
                Audience::All | Audience::AllBut(_) => self.writer.send_room(to, line),
            }
        }
    }

    /// Turns an unregistered connection into one that carries a file.
    pub(super) fn on_data(&self, state: &mut State, id: MemberId) {
        state.unregistered.remove(&id);
        if let Some(connection) = state.connections.get_mut(&id) {
            connection.is_data = true;
            let ip = connection.ip;
            state.uncount(ip);
        }
        self.writer.forget(id);
    }

    /// Ends somebody's membership: the nick is free, the others know, the transfers end, what waits is still sent.
    /// Doing it twice changes nothing.
    pub(super) fn leave(&self, id: MemberId) {
        let mut state = self.state.lock();
        let nick = state.room.nick(id).cloned();
        let deliveries = state.room.leave(id);
        let transfers = state.transfers.remove_owned(id);
        self.deliver(&state, deliveries);
        self.writer.close(id);
        drop(state);
        self.end_transfers(transfers);
        if let Some(nick) = nick {
            info!("{nick} left (connection {})", id.0);
        }
    }

    fn remove(&self, id: MemberId) {
        self.leave(id);
        let mut state = self.state.lock();
        state.unregistered.remove(&id);
        if let Some(connection) = state.connections.remove(&id).filter(|connection| !connection.is_data) {
            state.uncount(connection.ip);
        }
        self.left.notify_all();
    }

    /// Whether the server is ending.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// Says good-bye to everybody; their readers end as if the client had closed.
    pub(super) fn close(&self, reason: &str) {
        let mut state = self.state.lock();
        self.closing.store(true, Ordering::Relaxed);
        let sys = ServerMessage::Sys(reason.to_owned());
        self.deliver(&state, vec![Delivery { to: Audience::All, message: sys }]);
        let transfers = state.transfers.remove_all();
        let mut streams = Vec::new();
        for (&id, connection) in state.connections.iter().filter(|(_, connection)| !connection.is_data) {
            let to = Audience::One(id);
            self.deliver(&state, vec![Delivery { to, message: ServerMessage::Bye(reason.to_owned()) }]);
            self.writer.close(id);
            streams.push(Arc::clone(&connection.stream));
        }
        drop(state);
        self.end_transfers(transfers);
        for stream in streams {
            let _ = stream.shutdown(Shutdown::Read);
        }
    }

    /// Waits until every connection has gone; tells how many have not by `deadline`.
    pub(super) fn wait_until_empty(&self, deadline: Instant) -> usize {
        let mut state = self.state.lock();
        while !state.connections.is_empty() && !self.left.wait_until(&mut state, deadline).timed_out() {}
        state.connections.len()
    }
}

impl State {
    /// What a member is called.
    pub(super) fn nick(&self, id: MemberId) -> Option<Nick> {
        self.room.nick(id).cloned()
    }

    fn evict_one_above(&mut self, unregistered_max: usize) -> Option<(MemberId, Arc<TcpStream>)> {
        if self.unregistered.len() <= unregistered_max {
            return None;
        }
        let id = self.unregistered.pop_first()?;
        Some((id, Arc::clone(&self.connections.get(&id)?.stream)))
    }

    fn uncount(&mut self, ip: IpAddr) {
        if let Some(count) = self.per_ip.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                self.per_ip.remove(&ip);
            }
        }
    }
}

impl Seat {
    /// Tells this client one or more things, in one piece.
    pub(super) fn tell(&self, messages: impl IntoIterator<Item = ServerMessage>) {
        let lines: String = messages.into_iter().map(|message| message.emit()).collect();
        self.hub.writer.send_one(self.id, &self.gauge, lines.into_bytes().into());
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.hub.remove(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::pool::PoolConfig;
    use crate::transfer::tuning::Tuning;
    use std::io::Read as _;
    use std::net::{Ipv4Addr, TcpListener};

    const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    /// A hub, and a source of connected sockets.
    fn hub() -> (Arc<Hub>, TcpListener) {
        let folder = tempfile::tempdir().expect("a folder");
        let shelf = Shelf::open(folder.path()).expect("a shelf");
        let pool =
            Pool::start(&PoolConfig { ip: LOCAL, base_port: 0, workers: 1, tuning: Tuning::default() });
        let limits = Limits::default();
        let writer = Writer::start(&limits).expect("a thread");
        let hub = Hub::new(limits, writer, shelf, pool.expect("a pool"), Disk::start().expect("a thread"), 0);
        (Arc::new(hub), TcpListener::bind((LOCAL, 0)).expect("bound"))
    }

    /// A connection that pretends to come from `ip`.
    fn admit(
        hub: &Arc<Hub>,
        listener: &TcpListener,
        ip: impl Into<IpAddr>,
    ) -> Result<(Seat, TcpStream), NotAdmitted> {
        let client = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
        let (server, _) = listener.accept().expect("accepted");
        Ok((hub.admit(Arc::new(server), SocketAddr::new(ip.into(), 1))?, client))
    }

    #[test]
    fn r24_one_address_has_sixteen_connections() {
        let (hub, listener) = hub();
        let (one, other) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
        let admit = |ip: IpAddr| admit(&hub, &listener, ip);
        let mut seats: Vec<_> = (0..16).map(|_| admit(one.into()).expect("there is room")).collect();
        assert_eq!(admit(one.into()).map(|_| ()), Err(NotAdmitted::Address));
        assert_eq!(
            admit(one.to_ipv6_mapped().into()).map(|_| ()),
            Err(NotAdmitted::Address),
            "the same address"
        );
        assert!(admit(other.into()).is_ok());
        seats.pop();
        assert!(admit(one.into()).is_ok(), "a place is free again");
        let loopback: Vec<_> = (0..40).map(|_| admit(LOCAL)).collect();
        assert!(loopback.iter().all(Result::is_ok), "there everybody has the same address");
    }

    #[test]
    fn a_place_and_its_nick_are_free_even_after_a_panic() {
        let (hub, listener) = hub();
        let nick = Nick::parse("alice").expect("a nick");
        let (seat, mut client) = admit(&hub, &listener, LOCAL).expect("there is room");
        hub.join(&seat, &nick, false).expect("a free nick");
        let panicked = std::thread::spawn(move || {
            let _seat = seat;
            panic!("on purpose");
        })
        .join();
        assert!(panicked.is_err());
        let mut heard = String::new();
        client.read_to_string(&mut heard).expect("closed in order");
        assert_eq!(heard, "WELCOME_alice v=1 max=4096\n");
        let (again, _client) = admit(&hub, &listener, LOCAL).expect("there is room");
        assert_eq!(hub.join(&again, &nick, false), Ok(()));
    }
}
