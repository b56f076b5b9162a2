//! The hub: who is connected and who is in the room, behind one lock that is only ever held to look up, insert,
//! remove and enqueue.

mod strangers;

use std::collections::BTreeSet;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use log::{debug, info};
use parking_lot::{Condvar, Mutex};

use super::challenge::Pulse;
use super::limits::Limits;
use super::machine::{AtomicBool, HashMap, Instant, TcpStream};
use super::outbox::{self, Gauge, Line};
use super::probes::Probes;
use super::transfers::{Transfer, Transfers};
use super::writers::Writers;
use crate::chat::room::{Audience, Delivery, MemberId, NickTaken, Room};
use crate::transfer::disk::Disk;
use crate::transfer::pool::Pool;
use crate::transfer::shelf::Shelf;
use crate::wire::message::{ServerMessage, TransferId};
use crate::wire::name::Nick;

/// What all threads of a server share.
#[derive(Debug)]
pub(super) struct Hub {
    pub(super) limits: Limits,
    pub(super) writers: Writers,
    pub(super) shelf: Shelf,
    pub(super) pool: Pool,
    pub(super) disk: Disk,
    /// The room's own port, told in offers over TCP.
    pub(super) tcp_port: u16,
    pub(super) state: Mutex<State>,
    closing: AtomicBool,
    /// Told whenever a connection has come into the room, has become a transfer's, was heard in vain, or has gone.
    moved: Condvar,
}

/// What the lock guards.
#[derive(Debug, Default)]
pub(super) struct State {
    room: Room,
    /// The answer to WHO after so many changes of the room, for everybody who asks before the next.
    roster: Option<(u64, Arc<[Line]>)>,
    connections: HashMap<MemberId, Connection>,
    /// Who has not said HELLO yet; the smallest is the oldest.
    unregistered: BTreeSet<MemberId>,
    /// Control connections of each address.
    per_ip: HashMap<IpAddr, usize>,
    last_id: u64,
    pub(super) transfers: Transfers,
    pub(super) probes: Probes,
}

#[derive(Debug)]
struct Connection {
    stream: Arc<TcpStream>,
    gauge: Arc<Gauge>,
    ip: IpAddr,
    /// It carries a file, not lines.
    is_data: bool,
    pulse: Arc<Pulse>,
    admitted_at: Instant,
    /// Its first line has been acted upon.
    was_heard: bool,
    /// When somebody else wanted its nick last.
    challenged_at: Option<Instant>,
}

/// What is left to do for one who has left.
#[derive(Debug)]
struct Departed {
    id: MemberId,
    nick: Option<Nick>,
    stream: Option<Arc<TcpStream>>,
    transfers: Vec<(TransferId, Transfer)>,
    probe: Option<TransferId>,
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
    pub(super) pulse: Arc<Pulse>,
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
        writers: Writers,
        shelf: Shelf,
        pool: Pool,
        disk: Disk,
        tcp_port: u16,
    ) -> Hub {
        let (state, closing, moved) = (Mutex::default(), AtomicBool::new(false), Condvar::new());
        Hub { limits, writers, shelf, pool, disk, tcp_port, state, closing, moved }
    }

    /// Gives a new connection its place among the unregistered; the oldest of them goes if there are too many.
    pub(super) fn admit(
        self: &Arc<Self>,
        stream: Arc<TcpStream>,
        peer: SocketAddr,
    ) -> Result<Seat, NotAdmitted> {
        let pulse = Arc::new(Pulse::default());
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
        let gauge = self.writers.add(id, Arc::clone(&stream));
        let connection = Connection {
            stream: Arc::clone(&stream),
            gauge: Arc::clone(&gauge),
            ip,
            is_data: false,
            pulse: Arc::clone(&pulse),
            admitted_at: Instant::now(),
            was_heard: false,
            challenged_at: None,
        };
        state.connections.insert(id, connection);
        state.unregistered.insert(id);
        let evicted = self.evict_one_above(self.limits.unregistered_max, &mut state);
        drop(state);
        if let Some((id, stream)) = evicted {
            debug!("connection {}: evicted, too many have not said HELLO", id.0);
            let _ = stream.shutdown(Shutdown::Both);
        }
        Ok(Seat { hub: Arc::clone(self), id, stream, peer, gauge, pulse })
    }

    /// Everybody who may be here and everything that may travel: so many threads at most, also those that are ending.
    fn connections_max(&self) -> usize {
        let Limits { clients_max, unregistered_max, transfers_max, .. } = self.limits;
        clients_max.saturating_add(unregistered_max).saturating_add(transfers_max)
    }

    /// Lets a connection into the room. Whoever holds the nick at the same address and is not there any more, goes.
    pub(super) fn join(&self, seat: &Seat, nick: &Nick, quiet: bool) -> Result<(), NotAdmitted> {
        let mut state = self.state.lock();
        if self.is_closing() {
            return Err(NotAdmitted::Closing);
        }
        let displaced = self.challenge(&mut state, seat, nick).map(|id| self.depart(&mut state, id, None));
        if state.room.len() >= self.limits.clients_max {
            return Err(NotAdmitted::Full);
        }
        let deliveries = match state.room.join(seat.id, nick.clone(), quiet) {
            Ok(deliveries) => deliveries,
            Err(taken) => {
                self.on_heard(&mut state, seat.id);
                return Err(taken.into());
            }
        };
        state.unregistered.remove(&seat.id);
        self.writers.of(&seat.gauge).enter(seat.id);
        self.deliver(&state, deliveries);
        drop(state);
        self.moved.notify_all();
        if let Some(departed) = displaced {
            // Its reader sees the end of the stream and does the rest.
            let _ = departed.stream.as_ref().map(|stream| stream.shutdown(Shutdown::Both));
            self.after(departed);
        }
        info!("{nick} joined from {} (connection {})", seat.peer, seat.id.0);
        Ok(())
    }

    /// Somebody wants a nick. Its holder, if at the same address, is asked whether it is there, or is given back when
    /// it has not said anything since it was asked long enough ago.
    fn challenge(&self, state: &mut State, seat: &Seat, nick: &Nick) -> Option<MemberId> {
        let holder = state.room.holder(nick)?;
        let connection = state.connections.get_mut(&holder)?;
        if connection.ip != seat.peer.ip().to_canonical() {
            return None;
        }
        let now = Instant::now();
        if connection.pulse.challenge() {
            connection.challenged_at = Some(now);
            debug!("connection {}: challenged by connection {}", holder.0, seat.id.0);
            let ping = ServerMessage::Ping(String::new());
            self.deliver(state, vec![Delivery { to: Audience::One(holder), message: ping }]);
            return None;
        }
        let is_late = connection.challenged_at? + self.limits.challenge_after <= now;
        (is_late && connection.pulse.displace()).then_some(holder)
    }

    /// Does something in the room, and tells everybody what it says they must be told, in one order for all.
    pub(super) fn in_room(&self, act: impl FnOnce(&mut Room) -> Vec<Delivery>) {
        let mut state = self.state.lock();
        let deliveries = act(&mut state.room);
        self.deliver(&state, deliveries);
    }

    /// Queues the first line that tells who is here, before anybody can come or go; gives the lines behind it back, which
    /// may be more than the client's queue may hold.
    pub(super) fn who(&self, seat: &Seat) -> impl Iterator<Item = Line> + use<> {
        let mut state = self.state.lock();
        let lines = state.who();
        self.writers.send_one(seat.id, &seat.gauge, Arc::clone(&lines[0]));
        (1..lines.len()).map(move |number| Arc::clone(&lines[number]))
    }

    /// Tells one connection something, if it still is there.
    pub(super) fn tell(&self, id: MemberId, message: ServerMessage) {
        let state = self.state.lock();
        self.deliver(&state, vec![Delivery { to: Audience::One(id), message }]);
    }

    fn deliver(&self, state: &State, deliveries: Vec<Delivery>) {
        for Delivery { to, message } in deliveries {
            let line = outbox::line(&message);
            match to {
                Audience::One(id) => {
                    if let Some(connection) = state.connections.get(&id) {
                        self.writers.send_one(id, &connection.gauge, line);
                    }
                }
                Audience::All | Audience::AllBut(_) => self.writers.send_room(to, &line),
            }
        }
    }

    /// Turns an unregistered connection into one that carries a file.
    pub(super) fn on_data(&self, state: &mut State, id: MemberId) {
        state.unregistered.remove(&id);
        self.moved.notify_all();
        if let Some(connection) = state.connections.get_mut(&id) {
            connection.is_data = true;
            let ip = connection.ip;
            self.writers.of(&connection.gauge).forget(id);
            state.uncount(ip);
        }
    }

    /// Ends somebody's membership: the nick is free, the others know, the transfers end, what waits is still sent. The
    /// farewell is the last of it: who hears that can come again under its nick. Doing it twice changes nothing.
    pub(super) fn leave(&self, id: MemberId, farewell: Option<ServerMessage>) {
        let departed = self.depart(&mut self.state.lock(), id, farewell);
        self.after(departed);
    }

    /// The part of it under the lock.
    fn depart(&self, state: &mut State, id: MemberId, farewell: Option<ServerMessage>) -> Departed {
        let nick = state.room.nick(id).cloned();
        let stream = state.connections.get(&id).map(|connection| Arc::clone(&connection.stream));
        let deliveries = state.room.leave(id);
        let transfers = state.transfers.remove_owned(id);
        let probe = state.probes.remove(id).map(|(probe, _)| probe);
        self.deliver(state, deliveries);
        let to = Audience::One(id);
        self.deliver(state, farewell.map(|message| Delivery { to, message }).into_iter().collect());
        if let Some(connection) = state.connections.get(&id) {
            self.writers.of(&connection.gauge).close(id);
        }
        self.on_heard(state, id);
        Departed { id, nick, stream, transfers, probe }
    }

    /// The part of it that may take its time.
    fn after(&self, Departed { id, nick, transfers, probe, .. }: Departed) {
        self.end_transfers(transfers);
        if let Some(probe) = probe {
            self.pool.end_probe(probe);
        }
        if let Some(nick) = nick {
            info!("{nick} left (connection {})", id.0);
        }
    }

    fn remove(&self, id: MemberId) {
        self.leave(id, None);
        let mut state = self.state.lock();
        state.unregistered.remove(&id);
        if let Some(connection) = state.connections.remove(&id).filter(|connection| !connection.is_data) {
            state.uncount(connection.ip);
        }
        self.moved.notify_all();
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
            self.writers.of(&connection.gauge).close(id);
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
        while !state.connections.is_empty() && !self.moved.wait_until(&mut state, deadline).timed_out() {}
        state.connections.len()
    }
}

impl State {
    /// What a member is called.
    pub(super) fn nick(&self, id: MemberId) -> Option<Nick> {
        self.room.nick(id).cloned()
    }

    /// Who is here, as finished lines. All who ask in the same room share them: they may be asked for by everybody at once,
    /// and be taken slowly.
    pub(super) fn who(&mut self) -> Arc<[Line]> {
        let changes = self.room.changes();
        match &self.roster {
            Some((as_of, lines)) if *as_of == changes => Arc::clone(lines),
            _ => {
                let lines: Arc<[Line]> = self.room.who_is_here().iter().map(outbox::line).collect();
                self.roster = Some((changes, Arc::clone(&lines)));
                lines
            }
        }
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
        self.hub.writers.send_one(self.id, &self.gauge, lines.into_bytes().into());
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.hub.remove(self.id);
    }
}

#[cfg(test)]
pub(super) mod tests;
