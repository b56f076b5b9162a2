//! A writer thread: it owns the sending halves of many control connections, in a small room those of all.
//!
//! What it is told arrives through one channel, so the order of the commands is the order in which everybody hears
//! everything. It never waits for a single client: each has its own bounded queue, and who does not read is dropped
//! alone.

use std::collections::BTreeSet;
use std::io;
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use log::{debug, error, warn};
use parking_lot::Mutex;
use rustix::event::{PollFlags, Timespec};

use super::limits::Limits;
use super::machine::thread::{self, JoinHandle};
use super::machine::{AtomicUsize, HashMap, Instant, PollFd, TcpStream, poll};
use super::outbox::{Flushed, Gauge, Line, Outbox, QueueLimits};
use super::pause::Pause;
use super::vital::Vital;
use crate::chat::room::{Audience, MemberId};
use crate::transfer::wake::Waker;

/// Commands obeyed before their lines are sent. Ours: enough to join, few enough not to fill a queue of 1,024.
const COMMANDS_PER_TURN: usize = 64;
/// After a turn that took so long, those who wait for what it has sent get a moment to speak, and what they say goes out
/// together in the next. Ours: with 1,000 clients a turn takes 15 ms, nearly all of it for as many system calls.
const LONG_TURN: Duration = Duration::from_millis(1);
/// That moment is this part of the turn, and no longer than [`REST_MAX`].
const REST_PART: u32 = 16;
/// The longest of these moments.
const REST_MAX: Duration = Duration::from_millis(1);
/// After a turn of this length it is a quarter, half of that length at most. Ours: with 10,000 clients two writers share the cores
/// with those who speak, and send each line alone if they never wait (670,000 lines/s; so 890,000 and more).
const VERY_LONG_TURN: Duration = Duration::from_millis(30);
/// How long a client that is being closed may take to read what is left for it.
const CLOSE_FLUSH_MAX: Duration = Duration::from_secs(2);
/// The same when the server ends: it has promised to be gone in five seconds.
const STOP_FLUSH_MAX: Duration = Duration::from_secs(1);

fn rest_after(took: Duration) -> Duration {
    if took >= VERY_LONG_TURN { (took / 4).min(VERY_LONG_TURN / 2) } else { (took / REST_PART).min(REST_MAX) }
}

#[derive(Debug)]
enum Command {
    Add(MemberId, Arc<TcpStream>, Arc<Gauge>),
    Enter(MemberId),
    Send(Audience, Line),
    Forget(MemberId),
    Close(MemberId),
    Stop,
}

/// The handle of the thread. Its methods never block, so they may be called under the hub's lock;
/// [`wait_for_calm_until`](Self::wait_for_calm_until) and [`stop`](Self::stop) alone do, and must not.
#[derive(Debug)]
pub(super) struct Writer {
    commands: Sender<Command>,
    /// Above this many waiting commands the readers pause.
    backlog_max: usize,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    limits: QueueLimits,
    waker: Waker,
    /// How many connections are its own.
    clients: AtomicUsize,
    /// Where its readers wait for it.
    pause: Pause,
}

impl Writer {
    /// Starts the thread, named `writer`.
    pub(super) fn start(limits: &Limits) -> io::Result<Writer> {
        // Not bounded by itself, since nobody may block on it under the lock. What bounds it is `wait_for_calm`: each
        // reader calls it before each request, so beyond that limit there is one request of each reader at most.
        let (commands, receiver) = crossbeam_channel::unbounded();
        let shared = Arc::new(Shared {
            limits: QueueLimits::new(limits),
            waker: Waker::new()?,
            clients: AtomicUsize::new(0),
            pause: Pause::default(),
        });
        let state = State {
            shared: Arc::clone(&shared),
            commands: receiver,
            peers: HashMap::new(),
            unsent: Vec::new(),
            blocked: BTreeSet::new(),
            stopping: false,
        };
        let thread = thread::Builder::new().name("writer".into()).spawn(move || state.run())?;
        let thread = Mutex::new(Some(thread));
        Ok(Writer { commands, backlog_max: limits.backlog_max, shared, thread })
    }

    /// Takes the sending half of a new connection, which is not in the room yet.
    pub(super) fn add(&self, id: MemberId, stream: Arc<TcpStream>, gauge: Arc<Gauge>) {
        self.shared.clients.fetch_add(1, Ordering::Relaxed);
        self.command(Command::Add(id, stream, gauge));
    }

    /// From now on this connection hears what is said to the room.
    pub(super) fn enter(&self, id: MemberId) {
        self.command(Command::Enter(id));
    }

    /// Sends finished lines to one client.
    pub(super) fn send_one(&self, id: MemberId, gauge: &Gauge, line: Line) {
        gauge.add(&line, &self.shared.limits);
        self.command(Command::Send(Audience::One(id), line));
    }

    /// Sends a finished line to the room, or to all but one.
    pub(super) fn send_room(&self, to: Audience, line: Line) {
        self.command(Command::Send(to, line));
    }

    /// Gives a connection up that becomes a transfer's; nothing was sent on it.
    pub(super) fn forget(&self, id: MemberId) {
        self.command(Command::Forget(id));
    }

    /// Sends what waits for this client, for a bounded time, then closes the sending half.
    pub(super) fn close(&self, id: MemberId) {
        self.command(Command::Close(id));
    }

    /// Sends everything that waits, for a bounded time, closes all connections and ends the thread. Doing it twice
    /// changes nothing; dropping the writer does it too.
    pub(super) fn stop(&self) {
        self.ask_to_stop();
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            error!("the writer thread panicked");
        }
    }

    /// Begins to stop, without waiting for it.
    pub(super) fn ask_to_stop(&self) {
        self.command(Command::Stop);
    }

    /// How many connections it has.
    pub(super) fn clients(&self) -> usize {
        self.shared.clients.load(Ordering::Relaxed)
    }

    /// Blocks a reader as long as the writer is behind as a whole, or a client of this writer's does not take its answers,
    /// but no longer than `until`; `false` if it was in vain.
    pub(super) fn wait_for_calm_until(&self, gauge: Option<&Gauge>, until: Instant) -> bool {
        let limits = &self.shared.limits;
        let is_behind = || self.commands.len() > self.backlog_max;
        let is_busy = || is_behind() || gauge.is_some_and(|gauge| gauge.is_high(limits));
        self.shared.pause.wait_while(is_busy, until)
    }

    fn command(&self, command: Command) {
        // Fails only after `stop`: then there is nobody left to tell.
        if self.commands.send(command).is_ok() {
            self.shared.waker.wake();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop();
    }
}

#[derive(Debug)]
struct Peer {
    outbox: Outbox,
    in_room: bool,
    /// It is in `unsent`.
    is_unsent: bool,
    /// It gets nothing more, and is closed once its queue is empty or this moment comes.
    closing_by: Option<Instant>,
}

/// What the thread owns.
#[derive(Debug)]
struct State {
    shared: Arc<Shared>,
    commands: Receiver<Command>,
    peers: HashMap<MemberId, Peer>,
    /// Who got something in this turn.
    unsent: Vec<MemberId>,
    /// Whose sockets take nothing: `poll` watches them.
    blocked: BTreeSet<MemberId>,
    stopping: bool,
}

impl State {
    fn run(mut self) {
        let _vital = Vital("writer");
        loop {
            let turn_began = Instant::now();
            for _ in 0..COMMANDS_PER_TURN {
                match self.commands.try_recv() {
                    Ok(command) => self.obey(command),
                    Err(_) => break,
                }
            }
            for id in std::mem::take(&mut self.unsent) {
                self.flush(id);
            }
            self.shared.pause.look_again();
            if self.stopping && self.peers.is_empty() {
                return self.end();
            }
            let took = turn_began.elapsed();
            if took >= LONG_TURN {
                thread::sleep(rest_after(took));
            }
            self.wait();
        }
    }

    /// What is told from now on is told to nobody, so that nobody need wait for it to be obeyed.
    fn end(self) {
        drop(self.commands);
        self.shared.pause.wake();
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Add(id, stream, gauge) => {
                let outbox = Outbox::new(stream, gauge, self.shared.limits);
                let peer = Peer { outbox, in_room: false, is_unsent: false, closing_by: None };
                self.peers.insert(id, peer);
            }
            Command::Enter(id) => {
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.in_room = true;
                }
            }
            Command::Send(Audience::One(id), line) => self.push(id, line),
            Command::Send(Audience::All, line) => self.push_room(None, &line),
            Command::Send(Audience::AllBut(id), line) => self.push_room(Some(id), &line),
            Command::Forget(id) => drop(self.remove(id)),
            Command::Close(id) => self.close(id, Instant::now() + CLOSE_FLUSH_MAX),
            Command::Stop => {
                self.stopping = true;
                let by = Instant::now() + STOP_FLUSH_MAX;
                for id in self.peers.keys().copied().collect::<Vec<_>>() {
                    self.close(id, by);
                }
            }
        }
    }

    fn push_room(&mut self, but: Option<MemberId>, line: &Line) {
        let mut over = Vec::new();
        for (&id, peer) in &mut self.peers {
            if peer.in_room && Some(id) != but && peer.closing_by.is_none() {
                peer.outbox.gauge().add(line, &self.shared.limits);
                over.extend(peer.push(id, Arc::clone(line), &mut self.unsent));
            }
        }
        for id in over {
            self.relieve(id);
        }
    }

    fn push(&mut self, id: MemberId, line: Line) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.closing_by.is_none() && peer.push(id, line, &mut self.unsent).is_some() {
            self.relieve(id);
        }
    }

    /// A queue is over its limit: that may be the haste of one turn, or a client that does not read.
    fn relieve(&mut self, id: MemberId) {
        self.flush(id);
        if self.peers.get(&id).is_some_and(|peer| peer.outbox.is_over()) {
            warn!("connection {}: closed, it does not read", id.0);
            self.drop_peer(id);
        }
    }

    fn close(&mut self, id: MemberId, by: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.closing_by = Some(by);
        self.flush(id);
    }

    fn flush(&mut self, id: MemberId) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.is_unsent = false;
        match peer.outbox.flush(Instant::now()) {
            Flushed::Empty => {
                self.blocked.remove(&id);
                if peer.closing_by.is_some() {
                    // The receiving half is the reader's to close.
                    let _ = peer.outbox.stream().shutdown(Shutdown::Write);
                    self.remove(id);
                }
            }
            Flushed::Blocked => {
                self.blocked.insert(id);
            }
            Flushed::Lost => {
                debug!("connection {}: lost while writing", id.0);
                self.drop_peer(id);
            }
        }
    }

    /// Closes both halves at once: the reader sees the end of its stream and does the rest.
    fn drop_peer(&mut self, id: MemberId) {
        if let Some(peer) = self.remove(id) {
            let _ = peer.outbox.stream().shutdown(Shutdown::Both);
        }
    }

    fn remove(&mut self, id: MemberId) -> Option<Peer> {
        self.blocked.remove(&id);
        let peer = self.peers.remove(&id)?;
        self.shared.clients.fetch_sub(1, Ordering::Relaxed);
        Some(peer)
    }

    /// Waits for a command, for a blocked socket, or for the moment when one of these is given up.
    fn wait(&mut self) {
        let commands_wait = !self.commands.is_empty();
        if commands_wait && self.blocked.is_empty() {
            return;
        }
        let now = Instant::now();
        let watched: Vec<MemberId> = self.blocked.iter().copied().collect();
        let mut fds = vec![PollFd::new(&self.shared.waker, PollFlags::IN)];
        let mut deadline: Option<Instant> = None;
        for id in &watched {
            let peer = &self.peers[id];
            fds.push(PollFd::new(peer.outbox.stream(), PollFlags::OUT));
            let peer_deadline = peer.outbox.give_up_at().into_iter().chain(peer.closing_by).min();
            deadline = deadline.into_iter().chain(peer_deadline).min();
        }
        let timeout = match deadline {
            _ if commands_wait => Some(Duration::ZERO),
            // One millisecond more, so that it is not woken just too early, again and again.
            Some(at) => Some(at.saturating_duration_since(now) + Duration::from_millis(1)),
            None => None,
        };
        // Interrupted, or out of memory: nothing is ready, and the loop comes back here.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let _ = poll(&mut fds, timeout.as_ref());
        let woken = !fds[0].revents().is_empty();
        let ready: Vec<bool> = fds[1..].iter().map(|fd| !fd.revents().is_empty()).collect();
        if woken {
            self.shared.waker.clear();
        }
        let now = Instant::now();
        for (id, ready) in watched.into_iter().zip(ready) {
            if ready {
                self.flush(id);
            }
            self.give_up(id, now);
        }
    }

    fn give_up(&mut self, id: MemberId, now: Instant) {
        let Some(peer) = self.peers.get(&id) else { return };
        if peer.outbox.give_up_at().is_some_and(|at| at <= now) {
            warn!("connection {}: closed, it read nothing for too long", id.0);
            self.drop_peer(id);
        } else if peer.closing_by.is_some_and(|at| at <= now) && self.blocked.contains(&id) {
            self.drop_peer(id);
        }
    }
}

impl Peer {
    /// Queues a line; gives the id back when the queue is now too long.
    fn push(&mut self, id: MemberId, line: Line, unsent: &mut Vec<MemberId>) -> Option<MemberId> {
        self.outbox.push(line);
        if !self.is_unsent && self.outbox.give_up_at().is_none() {
            self.is_unsent = true;
            unsent.push(id);
        }
        if self.outbox.is_over() { Some(id) } else { None }
    }
}

#[cfg(test)]
mod tests;
