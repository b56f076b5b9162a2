//! The accept thread: takes connections in, gives each a reader thread, and ends the offers nobody takes up.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use log::{debug, warn};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use socket2::{Domain, Protocol, Socket, Type};

use super::hub::Hub;
use super::vital::Vital;
use super::{moves, session};
use crate::transfer::wake::Waker;
use crate::wire::ErrorCode;
use crate::wire::message::ServerMessage;

/// Connections that the system holds until we accept them. Ours: std asks for 128, and a burst overflows that.
const BACKLOG: i32 = 1024;
/// A reader thread's stack. Ours: a conversation is a few frames deep; thousands of clients must fit.
const READER_STACK_BYTES: usize = 256 * 1024;
/// How long to leave accepting alone when the process is out of descriptors or memory.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(200);
/// What goes wrong at each connection is said once in this time.
const WARN_INTERVAL: Duration = Duration::from_secs(10);
/// How often open offers are looked at.
const EXPIRE_INTERVAL: Duration = Duration::from_secs(5);
/// How often unfinished uploads are looked at. Ours: a small part of the day that they are kept.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// Binds and listens.
pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A server that is started again need not wait for the connections of the last one to be forgotten.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Starts a reader thread, or tells that the system refuses it: `Builder::spawn`.
pub(super) type Spawn = fn(Builder, Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>>;

/// Starts the thread, named `accept`; it ends once `hub` closes and `waker` is woken.
pub(super) fn start(
    listener: TcpListener,
    hub: Arc<Hub>,
    waker: Arc<Waker>,
    spawn: Spawn,
) -> io::Result<JoinHandle<()>> {
    let acceptor = Acceptor { listener, hub, waker, spawn, readers: 0, warned_at: None };
    Builder::new().name("accept".into()).spawn(move || acceptor.run())
}

struct Acceptor {
    listener: TcpListener,
    hub: Arc<Hub>,
    waker: Arc<Waker>,
    spawn: Spawn,
    /// Reader threads started so far: their names.
    readers: u64,
    warned_at: Option<Instant>,
}

impl Acceptor {
    fn run(mut self) {
        let _vital = Vital("accept");
        let mut expire_at = Instant::now() + EXPIRE_INTERVAL;
        let mut sweep_at = Instant::now() + SWEEP_INTERVAL;
        while !self.hub.is_closing() {
            match self.listener.accept() {
                Ok((stream, peer)) => self.admit(stream, peer),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => {
                        self.wait(true, expire_at.saturating_duration_since(Instant::now()));
                    }
                    // The peer has gone again.
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => {}
                    _ => {
                        let few = error.raw_os_error() == Some(Errno::MFILE.raw_os_error());
                        let remedy = if few { "; raise `ulimit -n`" } else { "" };
                        self.warn(&format!("cannot accept connections for now: {error}{remedy}"));
                        self.wait(false, EXHAUSTED_PAUSE);
                    }
                },
            }
            let now = Instant::now();
            if expire_at <= now {
                moves::expire(&self.hub, now);
                expire_at = now + EXPIRE_INTERVAL;
            }
            if sweep_at <= now {
                self.hub.shelf.remove_old_leftovers();
                sweep_at = now + SWEEP_INTERVAL;
            }
        }
    }

    /// Waits for the waker, and for a connection if asked to.
    fn wait(&self, for_connection: bool, timeout: Duration) {
        let connection = if for_connection { PollFlags::IN } else { PollFlags::empty() };
        let mut fds = [PollFd::new(&self.waker, PollFlags::IN), PollFd::new(&self.listener, connection)];
        let timeout = Timespec::try_from(timeout).ok();
        // Interrupted: the loop comes back here.
        let _ = poll(&mut fds, timeout.as_ref());
    }

    fn admit(&mut self, stream: TcpStream, peer: SocketAddr) {
        debug!("connection from {peer}");
        // Lines are joined by the writer; Nagle's rule would only delay them. A peer that has gone cannot be set.
        let _ = stream.set_nodelay(true);
        let stream = Arc::new(stream);
        let seat = match self.hub.admit(Arc::clone(&stream), peer) {
            Ok(seat) => Arc::new(seat),
            Err(error) => {
                let line = busy(&error.to_string()).emit();
                // Without waiting: a new socket takes one line.
                let _ = send(&stream, line.as_bytes(), SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
                return;
            }
        };
        self.readers += 1;
        let reader = Builder::new().name(format!("reader-{}", self.readers)).stack_size(READER_STACK_BYTES);
        let readers_seat = Arc::clone(&seat);
        if let Err(error) = (self.spawn)(reader, Box::new(move || session::run(readers_seat))) {
            self.warn(&format!("no thread for a connection: {error}"));
            seat.tell([busy("the server cannot take more connections now")]);
        }
    }

    fn warn(&mut self, words: &str) {
        let now = Instant::now();
        if self.warned_at.is_none_or(|at| at + WARN_INTERVAL <= now) {
            warn!("{words}");
            self.warned_at = Some(now);
        }
    }
}

/// What somebody hears who cannot come in now.
fn busy(words: &str) -> ServerMessage {
    ServerMessage::Err { code: ErrorCode::Busy, request: "HELLO".into(), words: words.to_owned() }
}

#[cfg(test)]
mod tests;
