//! The system below the server: sockets that hold little, the clients at their other ends, and what moves the clock.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice, Read};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags};
use shuttle::rand::{Rng as _, thread_rng};
use shuttle::sync::atomic::{AtomicBool, Ordering};

use crate::clock::{self, Instant};
use crate::sync::{self, Condvar, Mutex, MutexGuard};

/// Octets that a socket holds until its client takes them. Less than most lines, so that these are sent in pieces.
const SOCKET_LEN_MAX: usize = 24;

// One system for each schedule; all its threads run on one thread of the real system.
std::thread_local! {
    static KERNEL: RefCell<Option<Arc<Kernel>>> = const { RefCell::new(None) };
}

/// What a client does with what it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It takes everything, sooner or later, answers PING, and closes when the server has.
    Lively,
    /// It takes everything, and does not close.
    Stubborn,
    /// It takes nothing.
    Deaf,
}

impl Kind {
    /// Whether it gets all that it is told.
    pub fn hears(self) -> bool {
        self != Kind::Deaf
    }
}

/// One client: what it will say, what it has heard, and its connection.
#[derive(Debug, Clone)]
pub struct Client {
    pub kind: Kind,
    /// Lines that the server has not read yet.
    pub says: VecDeque<String>,
    /// All it has taken from its socket.
    pub heard: Vec<u8>,
    /// The server has closed both halves at once, whatever was still to be sent.
    pub was_cut: bool,
    /// Octets on their way to it.
    socket: VecDeque<u8>,
    has_closed: bool,
    server_reads_no_more: bool,
    server_writes_no_more: bool,
    read_timeout: Option<Duration>,
}

impl Client {
    /// Something has come, or the end.
    fn has_news(&self) -> bool {
        let sees_end = self.server_writes_no_more && !self.has_closed;
        self.kind != Kind::Deaf && (!self.socket.is_empty() || (self.kind == Kind::Lively && sees_end))
    }

    fn take(&mut self) {
        if self.socket.is_empty() {
            self.has_closed = true;
            return;
        }
        let taken_len = thread_rng().gen_range(1..=self.socket.len());
        self.heard.extend(self.socket.drain(..taken_len));
        if self.kind == Kind::Lively && self.heard.ends_with(b"PING_\n") {
            self.says.push_front("PONG_\n".into());
        }
    }

    fn is_readable(&self) -> bool {
        !self.says.is_empty() || self.has_closed || self.server_reads_no_more
    }

    fn is_writable(&self) -> bool {
        self.socket.len() < SOCKET_LEN_MAX || self.server_writes_no_more
    }
}

#[derive(Default)]
struct State {
    clients: Vec<Client>,
    /// Descriptors of wakers; `true`: readable.
    events: Vec<bool>,
    /// When those who wait will do so no longer.
    deadlines: Vec<Instant>,
    /// Writers that run, and how many of them wait for something to happen.
    writers: usize,
    waiting_writers: usize,
    is_halted: bool,
    /// How often a client has taken something.
    takes: usize,
}

impl State {
    /// Nothing will be written before something happens.
    fn are_idle(&self) -> bool {
        self.waiting_writers > 0 && self.waiting_writers == self.writers
    }
}

/// The system of one schedule.
#[derive(Default)]
pub struct Kernel {
    state: Mutex<State>,
    changed: Condvar,
    /// What the network waits for.
    stirred: Condvar,
}

impl Kernel {
    /// A new one, in the place of the last.
    pub fn boot() -> Arc<Kernel> {
        let kernel = Arc::new(Kernel::default());
        clock::start();
        sync::LONGEST_QUEUE.set(0);
        KERNEL.set(Some(Arc::clone(&kernel)));
        kernel
    }

    fn current() -> Arc<Kernel> {
        KERNEL.with_borrow(|kernel| Arc::clone(kernel.as_ref().expect("booted")))
    }

    /// A connection that the client has opened.
    pub fn connect(&self, kind: Kind, says: impl IntoIterator<Item = String>) -> TcpStream {
        let mut state = self.state.lock();
        state.clients.push(Client {
            kind,
            says: says.into_iter().collect(),
            heard: Vec::new(),
            was_cut: false,
            socket: VecDeque::new(),
            has_closed: false,
            server_reads_no_more: false,
            server_writes_no_more: false,
            read_timeout: None,
        });
        TcpStream { client: state.clients.len() - 1 }
    }

    /// What has become of the clients, in the order in which they came.
    pub fn clients(&self) -> Vec<Client> {
        self.state.lock().clients.clone()
    }

    /// Waits until the clients have taken something so many times, or all of them, so many, have been served.
    pub fn wait_for_takes(&self, takes: usize, clients: usize) {
        let mut state = self.state.lock();
        while state.takes < takes
            && (state.clients.len() < clients
                || state.clients.iter().any(|client| !client.server_writes_no_more))
        {
            self.changed.wait(&mut state);
        }
    }

    /// How many writers have been started.
    pub fn writers(&self) -> usize {
        self.state.lock().events.len()
    }

    /// A writer has ended.
    pub fn on_writer_ended() {
        let kernel = Kernel::current();
        let mut state = kernel.state.lock();
        state.writers -= 1;
        kernel.change(&mut state);
    }

    /// Lets the network end once everything is taken.
    pub fn halt(&self) {
        let mut state = self.state.lock();
        state.is_halted = true;
        self.change(&mut state);
    }

    /// The network: one client after another takes something. When nothing is left to take and all writers wait, the
    /// clock moves on to the next moment for which somebody waits. So nobody who takes what comes is ever too slow.
    pub fn run_network(&self) {
        loop {
            let mut state = self.state.lock();
            let news: Vec<usize> =
                (0..state.clients.len()).filter(|&client| state.clients[client].has_news()).collect();
            let deadline = state.deadlines.iter().copied().min().filter(|_| state.are_idle());
            if !news.is_empty() {
                let client = news[thread_rng().gen_range(0..news.len())];
                state.clients[client].take();
                state.takes += 1;
                self.change(&mut state);
            } else if state.is_halted {
                return;
            } else if let Some(deadline) = deadline {
                clock::advance(deadline);
                self.change(&mut state);
            } else {
                self.stirred.wait(&mut state);
            }
        }
    }

    /// Everybody who waits looks again.
    fn change(&self, state: &mut State) {
        state.deadlines.clear();
        state.waiting_writers = 0;
        self.changed.notify_all();
        self.stirred.notify_all();
    }

    fn wait(&self, state: &mut MutexGuard<'_, State>, deadline: Option<Instant>) {
        state.deadlines.extend(deadline);
        self.stirred.notify_all();
        self.changed.wait(state);
    }
}

/// The server's end of a connection.
#[derive(Debug)]
pub struct TcpStream {
    client: usize,
}

impl TcpStream {
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        Kernel::current().state.lock().clients[self.client].read_timeout = timeout;
        Ok(())
    }

    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        let kernel = Kernel::current();
        let mut state = kernel.state.lock();
        let client = &mut state.clients[self.client];
        client.was_cut |= how == Shutdown::Both && !client.server_writes_no_more;
        client.server_reads_no_more |= how != Shutdown::Write;
        client.server_writes_no_more |= how != Shutdown::Read;
        kernel.change(&mut state);
        Ok(())
    }

    fn write(&self, parts: &[&[u8]]) -> Result<usize, Errno> {
        let kernel = Kernel::current();
        let mut state = kernel.state.lock();
        let client = &mut state.clients[self.client];
        if client.server_writes_no_more {
            return Err(Errno::PIPE);
        }
        let free = SOCKET_LEN_MAX - client.socket.len();
        if free == 0 {
            return Err(Errno::AGAIN);
        }
        let before = client.socket.len();
        client.socket.extend(parts.iter().copied().flatten().take(free));
        let written = client.socket.len() - before;
        kernel.change(&mut state);
        Ok(written)
    }
}

/// A line at a time.
impl Read for &TcpStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let kernel = Kernel::current();
        let mut state = kernel.state.lock();
        let deadline = state.clients[self.client].read_timeout.map(|timeout| Instant::now() + timeout);
        while !state.clients[self.client].is_readable() {
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            kernel.wait(&mut state, deadline);
        }
        let line = state.clients[self.client].says.pop_front().unwrap_or_default();
        buffer[..line.len()].copy_from_slice(line.as_bytes());
        Ok(line.len())
    }
}

/// `rustix::net::send`.
pub fn send(stream: &TcpStream, bytes: &[u8], _flags: SendFlags) -> Result<usize, Errno> {
    stream.write(&[bytes])
}

/// `rustix::net::sendmsg`.
pub fn sendmsg(
    stream: &TcpStream,
    parts: &[IoSlice<'_>],
    _ancillary: &mut SendAncillaryBuffer<'_, '_, '_>,
    _flags: SendFlags,
) -> Result<usize, Errno> {
    let parts: Vec<&[u8]> = parts.iter().map(|part| &**part).collect();
    stream.write(&parts)
}

/// `rustix::io::ioctl_fionread`.
pub fn ioctl_fionread(stream: &TcpStream) -> Result<u64, Errno> {
    let kernel = Kernel::current();
    let state = kernel.state.lock();
    Ok(state.clients[stream.client].says.iter().map(|line| line.len() as u64).sum())
}

/// `transfer::wake::Waker`, step by step as it is there. Each is a writer's.
#[derive(Debug)]
pub struct Waker {
    event: usize,
    woken: AtomicBool,
}

impl Waker {
    pub fn new() -> io::Result<Waker> {
        let kernel = Kernel::current();
        let mut state = kernel.state.lock();
        state.events.push(false);
        state.writers += 1;
        Ok(Waker { event: state.events.len() - 1, woken: AtomicBool::new(false) })
    }

    pub fn wake(&self) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            let kernel = Kernel::current();
            let mut state = kernel.state.lock();
            state.events[self.event] = true;
            kernel.change(&mut state);
        }
    }

    pub fn clear(&self) {
        Kernel::current().state.lock().events[self.event] = false;
        self.woken.swap(false, Ordering::AcqRel);
    }
}

/// What can be waited for.
trait Polled {
    fn is_ready(&self, state: &State, events: PollFlags) -> bool;
}

impl Polled for Waker {
    fn is_ready(&self, state: &State, events: PollFlags) -> bool {
        events.contains(PollFlags::IN) && state.events[self.event]
    }
}

impl Polled for TcpStream {
    fn is_ready(&self, state: &State, events: PollFlags) -> bool {
        let client = &state.clients[self.client];
        let is_readable = events.contains(PollFlags::IN) && client.is_readable();
        is_readable || (events.contains(PollFlags::OUT) && client.is_writable())
    }
}

/// `rustix::event::PollFd`.
pub struct PollFd<'a> {
    polled: &'a dyn Polled,
    events: PollFlags,
    revents: PollFlags,
}

impl<'a> PollFd<'a> {
    #[allow(private_bounds, reason = "the two above")]
    pub fn new<T: Polled>(polled: &'a T, events: PollFlags) -> PollFd<'a> {
        PollFd { polled, events, revents: PollFlags::empty() }
    }

    pub fn revents(&self) -> PollFlags {
        self.revents
    }
}

/// `rustix::event::poll`.
pub fn poll(fds: &mut [PollFd<'_>], timeout: Option<&Timespec>) -> Result<usize, Errno> {
    let timeout = timeout.map(|timeout| Duration::try_from(*timeout).expect("a duration"));
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let kernel = Kernel::current();
    let mut state = kernel.state.lock();
    loop {
        for fd in &mut *fds {
            let is_ready = fd.polled.is_ready(&state, fd.events);
            fd.revents = if is_ready { fd.events } else { PollFlags::empty() };
        }
        let ready = fds.iter().filter(|fd| !fd.revents.is_empty()).count();
        if ready > 0 || deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Ok(ready);
        }
        state.waiting_writers += 1;
        kernel.wait(&mut state, deadline);
    }
}
