//! What waits for one client: the bounded queue that the writer thread empties, and the gauge that its reader watches.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags};

use super::limits::Limits;
use super::machine::{AtomicBool, AtomicUsize, Instant, TcpStream, send, sendmsg};
use crate::wire::message::ServerMessage;

/// One or more finished lines, shared by everybody who gets them.
pub(super) type Line = Arc<[u8]>;

/// One message as a finished line.
pub(super) fn line(message: &ServerMessage) -> Line {
    message.emit().into_bytes().into()
}

/// Lines joined into one `sendmsg`. Ours: a packet or two of chat lines; the kernel takes up to 1,024.
const LINES_PER_SEND: usize = 64;

/// How much is under way to one client, from the moment it is queued: one who does not take its answers may not ask
/// for more.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    waiting_weight: AtomicUsize,
    closed: AtomicBool,
    /// Which of the writers empties the queue: the first, or the second.
    is_of_second: bool,
}

impl Gauge {
    /// Of a queue that the second writer empties.
    pub(super) fn of_second() -> Gauge {
        Gauge { is_of_second: true, ..Gauge::default() }
    }

    pub(super) fn is_of_second(&self) -> bool {
        self.is_of_second
    }

    /// Counts a line that is handed to the writer for this client alone.
    pub(super) fn add(&self, line: &Line, limits: &QueueLimits) {
        self.waiting_weight.fetch_add(limits.weight(line), Ordering::Relaxed);
    }

    /// Whether the client has so much to read that its reader pauses: half of what the queue may hold.
    pub(super) fn is_high(&self, limits: &QueueLimits) -> bool {
        self.waiting_weight.load(Ordering::Relaxed) > limits.bytes_max / 2
            && !self.closed.load(Ordering::Relaxed)
    }
}

/// When a client is too slow.
#[derive(Debug, Clone, Copy)]
pub(super) struct QueueLimits {
    lines_max: usize,
    bytes_max: usize,
    blocked_max: Duration,
}

impl QueueLimits {
    pub(super) fn new(limits: &Limits) -> QueueLimits {
        QueueLimits {
            lines_max: limits.outbox_lines_max,
            bytes_max: limits.outbox_bytes_max,
            blocked_max: limits.blocked_max,
        }
    }

    /// Octets; a short line counts as its share of the queue, so that one number stands for both limits.
    fn weight(&self, line: &Line) -> usize {
        line.len().max(self.bytes_max / self.lines_max.max(1))
    }
}

/// What became of an attempt to empty a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flushed {
    /// Nothing waits any more.
    Empty,
    /// The socket takes no more for now.
    Blocked,
    /// The connection is gone.
    Lost,
}

/// The queue of one client and the sending half of its connection.
#[derive(Debug)]
pub(super) struct Outbox {
    stream: Arc<TcpStream>,
    gauge: Arc<Gauge>,
    limits: QueueLimits,
    queue: VecDeque<Line>,
    queued_bytes: usize,
    /// Octets of the first line that are sent already.
    sent_len: usize,
    /// Since when the socket takes nothing.
    blocked_since: Option<Instant>,
}

impl Outbox {
    pub(super) fn new(stream: Arc<TcpStream>, gauge: Arc<Gauge>, limits: QueueLimits) -> Outbox {
        Outbox {
            stream,
            gauge,
            limits,
            queue: VecDeque::new(),
            queued_bytes: 0,
            sent_len: 0,
            blocked_since: None,
        }
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(super) fn gauge(&self) -> &Gauge {
        &self.gauge
    }

    /// Queues a line that its sender has counted on the [`Gauge`].
    pub(super) fn push(&mut self, line: Line) {
        self.queued_bytes += line.len();
        self.queue.push_back(line);
    }

    /// Whether more waits than a client may leave unread.
    pub(super) fn is_over(&self) -> bool {
        self.queue.len() > self.limits.lines_max || self.queued_bytes > self.limits.bytes_max
    }

    /// When a client that takes nothing at all has used up its patience.
    pub(super) fn give_up_at(&self) -> Option<Instant> {
        self.blocked_since.map(|since| since + self.limits.blocked_max)
    }

    /// Sends as much as the socket takes, without waiting.
    pub(super) fn flush(&mut self, now: Instant) -> Flushed {
        while !self.queue.is_empty() {
            match self.send() {
                Ok(sent_len) => {
                    self.on_sent(sent_len);
                    self.blocked_since = None;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.blocked_since.get_or_insert(now);
                    return Flushed::Blocked;
                }
                Err(_) => return Flushed::Lost,
            }
        }
        // A queue that was long once does not stay so.
        if self.queue.capacity() > LINES_PER_SEND {
            self.queue.shrink_to(LINES_PER_SEND);
        }
        Flushed::Empty
    }

    /// One system call. The reader shares the descriptor, so it stays blocking and each call says that it must not.
    fn send(&self) -> Result<usize, Errno> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        if self.queue.len() == 1 {
            // The common case of a calm room, and the cheaper call.
            return send(&self.stream, &self.queue[0][self.sent_len..], flags);
        }
        let mut slices = [IoSlice::new(&[]); LINES_PER_SEND];
        let mut skip_len = self.sent_len;
        let mut count = 0;
        for (slice, line) in slices.iter_mut().zip(&self.queue) {
            *slice = IoSlice::new(&line[std::mem::take(&mut skip_len)..]);
            count += 1;
        }
        sendmsg(&self.stream, &slices[..count], &mut SendAncillaryBuffer::default(), flags)
    }

    fn on_sent(&mut self, sent_len: usize) {
        self.sent_len += sent_len;
        while let Some(line) = self.queue.front().filter(|line| line.len() <= self.sent_len) {
            self.sent_len -= line.len();
            self.queued_bytes -= line.len();
            self.gauge.waiting_weight.fetch_sub(self.limits.weight(line), Ordering::Relaxed);
            self.queue.pop_front();
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.gauge.closed.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::net::TcpListener;

    fn connected() -> (Arc<TcpStream>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let client = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
        (Arc::new(listener.accept().expect("accepted").0), client)
    }

    #[test]
    fn lines_arrive_whole_and_in_order_through_a_full_socket() {
        let (server, mut client) = connected();
        let limits = QueueLimits::new(&Limits::default());
        let gauge = Arc::new(Gauge::default());
        let mut outbox = Outbox::new(server, Arc::clone(&gauge), limits);
        let mut sent = Vec::new();
        let mut blocked = false;
        for number in 0..20_000 {
            let line: Line = format!("MSG_alice {number} {}\n", "x".repeat(1_000)).into_bytes().into();
            sent.extend_from_slice(&line);
            gauge.add(&line, &limits);
            outbox.push(line);
            blocked |= outbox.flush(Instant::now()) == Flushed::Blocked;
        }
        assert!(blocked && outbox.is_over() && gauge.is_high(&limits), "20 MB do not fit into a socket");
        let mut received = vec![0; sent.len()];
        let mut at = 0;
        while at < received.len() {
            at += client.read(&mut received[at..]).expect("readable");
            outbox.flush(Instant::now());
        }
        assert!(received == sent, "every octet in its place");
        assert!(!outbox.is_over() && !gauge.is_high(&limits));
        assert_eq!(gauge.waiting_weight.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn r24_a_queue_holds_its_limit_and_not_one_more() {
        for (line_len, fits) in [(10, 1_024), (1_024, 256), (4_096, 64)] {
            let (server, _client) = connected();
            let mut outbox = Outbox::new(server, Arc::default(), QueueLimits::new(&Limits::default()));
            let line: Line = vec![b'x'; line_len].into();
            for number in 0..fits {
                outbox.push(Arc::clone(&line));
                assert!(!outbox.is_over(), "line {number} of {line_len} octets");
            }
            outbox.push(line);
            assert!(outbox.is_over(), "one of {line_len} octets more");
        }
    }

    #[test]
    fn a_client_that_is_gone_is_noticed() {
        let (server, client) = connected();
        let mut outbox = Outbox::new(server, Arc::default(), QueueLimits::new(&Limits::default()));
        drop(client);
        let lost = (0..1_000).any(|_| {
            let line: Line = Arc::from(&b"MSG_alice hello\n"[..]);
            outbox.gauge().add(&line, &outbox.limits);
            outbox.push(line);
            outbox.flush(Instant::now()) == Flushed::Lost
        });
        assert!(lost);
    }
}
