//! A file over its own TCP connection: `DATA_<token>` by the client, then exactly the announced octets, either way.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::sink::Sink;
use super::{Progress, TransferError};
use crate::rudp::{SPEED_BYTES_MIN, SPEED_TIME};
use crate::wire::message::{ClientMessage, Secret};

/// Handed to the system at once; between two of them progress is told and `cancelled` looked at. Ours: a hundredth of
/// a second on a fast link.
const CHUNK_LEN: usize = 1024 * 1024;

/// One read of the receiver takes at most this.
const READ_LEN: usize = 256 * 1024;

/// How long to wait for the server to accept the connection.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// A blocked read or write looks at `cancelled` and at the speed this often.
const CHECK_EVERY: Duration = Duration::from_millis(250);

/// Connects to where a file was offered or accepted, and presents the token.
pub fn connect(server: SocketAddr, token: &Secret) -> Result<TcpStream, TransferError> {
    let stream = TcpStream::connect_timeout(&server, CONNECT_MAX).map_err(lost)?;
    (&stream).write_all(ClientMessage::Data(token.clone()).emit().as_bytes()).map_err(lost)?;
    Ok(stream)
}

/// Sends these octets of `file`, with which it ends, then closes the sending half and waits for the peer to close.
/// Blocks; ends soon after `cancelled` is set or the stream is shut down.
pub fn send(
    stream: &TcpStream,
    file: &File,
    wanted: Range<u64>,
    progress: &Progress,
    cancelled: &AtomicBool,
) -> Result<(), TransferError> {
    let unreadable = |source| TransferError::File { what: "read the file".into(), source };
    stream.set_write_timeout(Some(CHECK_EVERY)).map_err(lost)?;
    let mut pace = Pace::new(Instant::now());
    let Range { start: mut sent, end: size } = wanted;
    while sent < size {
        if cancelled.load(Ordering::Relaxed) {
            return Err(TransferError::Cancelled);
        }
        let chunk_len = CHUNK_LEN.min(usize::try_from(size - sent).unwrap_or(CHUNK_LEN));
        // The octets never enter this process. A peer that reads slowly leaves a part of the chunk for later.
        match rustix::fs::sendfile(stream, file, Some(&mut sent), chunk_len) {
            Ok(0) => {
                let source = io::Error::new(io::ErrorKind::UnexpectedEof, "it became shorter meanwhile");
                return Err(unreadable(source));
            }
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error @ Errno::IO) => return Err(unreadable(error.into())),
            Err(error) => return Err(lost(error.into())),
        }
        progress.set(sent, 0);
        pace.check(sent, Instant::now())?;
    }
    stream.shutdown(Shutdown::Write).map_err(lost)?;
    // The peer closes once it has everything: only then may the socket go (a close with unread octets is a reset).
    let mut patient = Patient::new(stream, cancelled)?;
    match patient.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(TransferError::Lost("the other side sent octets of its own".into())),
    }
}

/// Receives what is wanted of a file into `sink`: first the octets that were read before, then what comes. Blocks; ends
/// soon after `cancelled` is set. What stands at or behind `granted` is not read before that grows.
pub fn receive(
    stream: &TcpStream,
    read_before: &[u8],
    sink: &mut Sink,
    progress: &Progress,
    granted: &AtomicU64,
    cancelled: &AtomicBool,
) -> Result<(), TransferError> {
    let mut patient = Patient::new(stream, cancelled)?;
    let mut buffer = vec![0; READ_LEN];
    let (mut received, size) = (sink.start(), sink.size());
    if read_before.len() as u64 > size - received {
        return Err(TransferError::Lost(TOO_MUCH.into()));
    }
    write(sink, received, read_before)?;
    received += read_before.len() as u64;
    while received < size {
        let granted = size.min(granted.load(Ordering::Relaxed));
        if granted <= received {
            // Nobody is slow but the person here; the other side sees to it that this ends.
            patient.pause()?;
            continue;
        }
        let want = buffer.len().min(usize::try_from(granted - received).unwrap_or(usize::MAX));
        let read_len = patient.read(&mut buffer[..want])?;
        if read_len == 0 {
            let what = format!("the other side closed it after {received} of {size} bytes");
            return Err(TransferError::Lost(what));
        }
        let written_from = Instant::now();
        progress.note_bytes(written_from);
        write(sink, received, &buffer[..read_len])?;
        received += read_len as u64;
        progress.set(received, 0);
        // Our disk's time is not the peer's.
        patient.pace.began_at += written_from.elapsed();
    }
    patient.pace.began_at = Instant::now();
    match patient.read(&mut buffer[..1])? {
        // The sender waits for this; the socket itself may live on for as long as the file is verified.
        0 => _ = stream.shutdown(Shutdown::Write),
        _ => return Err(TransferError::Lost(TOO_MUCH.into())),
    }
    Ok(())
}

const TOO_MUCH: &str = "the other side sent more than it had announced";

fn write(sink: &mut Sink, offset: u64, octets: &[u8]) -> Result<(), TransferError> {
    sink.write(offset, octets).map_err(|source| TransferError::File {
        what: format!("write {}", sink.part_path().display()),
        source,
    })
}

fn lost(error: io::Error) -> TransferError {
    TransferError::Lost(error.to_string())
}

/// The least speed, as over UDP: less than [`SPEED_BYTES_MIN`] in [`SPEED_TIME`] is not worth a transfer.
struct Pace {
    /// When this stretch of the way began, and how many octets had moved by then.
    began_at: Instant,
    moved_bytes: u64,
}

impl Pace {
    fn new(now: Instant) -> Pace {
        Pace { began_at: now, moved_bytes: 0 }
    }

    /// `moved_bytes` have moved in all by `now`.
    fn check(&mut self, moved_bytes: u64, now: Instant) -> Result<(), TransferError> {
        if moved_bytes - self.moved_bytes >= SPEED_BYTES_MIN {
            *self = Pace { began_at: now, moved_bytes };
        } else if now.saturating_duration_since(self.began_at) >= SPEED_TIME {
            let (bytes, seconds) = (moved_bytes - self.moved_bytes, SPEED_TIME.as_secs());
            return Err(TransferError::Lost(match bytes {
                0 => "the other side is silent".into(),
                _ => format!("the other side is too slow ({bytes} bytes in {seconds} s)"),
            }));
        }
        Ok(())
    }
}

/// Reads that block, but not for ever: they end when the peer is too slow, and soon after `cancelled` is set.
struct Patient<'a> {
    stream: &'a TcpStream,
    cancelled: &'a AtomicBool,
    pace: Pace,
    read_bytes: u64,
}

impl<'a> Patient<'a> {
    fn new(stream: &'a TcpStream, cancelled: &'a AtomicBool) -> Result<Self, TransferError> {
        stream.set_read_timeout(Some(CHECK_EVERY)).map_err(lost)?;
        Ok(Self { stream, cancelled, pace: Pace::new(Instant::now()), read_bytes: 0 })
    }

    /// Waits a moment for something here.
    fn pause(&mut self) -> Result<(), TransferError> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(TransferError::Cancelled);
        }
        thread::park_timeout(CHECK_EVERY);
        self.pace.began_at = Instant::now();
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, TransferError> {
        loop {
            if self.cancelled.load(Ordering::Relaxed) {
                return Err(TransferError::Cancelled);
            }
            self.pace.check(self.read_bytes, Instant::now())?;
            match self.stream.read(buffer) {
                Ok(read_len) => {
                    self.read_bytes += read_len as u64;
                    return Ok(read_len);
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                    ) => {}
                Err(error) => return Err(lost(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::part::Origin;
    use crate::transfer::sink::Target;
    use crate::wire::name::FileName;
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;

    const TOKEN: Secret = Secret([7; 32]);

    fn sink(folder: &std::path::Path, size: u64) -> Sink {
        Sink::create(
            &Target::Folder(folder.into(), FileName::parse("a").expect("a name")),
            &Origin::new(size),
        )
        .expect("a sink")
    }

    /// Connects, and receives the whole file.
    fn fetch(
        server: SocketAddr,
        mut sink: Sink,
        progress: &Progress,
        cancelled: &AtomicBool,
    ) -> Result<Sink, TransferError> {
        let stream = connect(server, &TOKEN)?;
        receive(&stream, b"", &mut sink, progress, &u64::MAX.into(), cancelled).map(|()| sink)
    }

    /// Serves one connection with `serve` after its first line, and receives `size` octets of it.
    fn receive_from(
        size: u64,
        serve: impl FnOnce(TcpStream) + Send,
    ) -> (tempfile::TempDir, Result<Sink, TransferError>) {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let server = listener.local_addr().expect("its address");
        let received = thread::scope(|scope| {
            scope.spawn(move || {
                let (stream, _) = listener.accept().expect("a client");
                let mut line = String::new();
                BufReader::new(&stream).read_line(&mut line).expect("a line");
                assert_eq!(line, ClientMessage::Data(TOKEN).emit());
                serve(stream);
            });
            let progress = Progress::default();
            let received = fetch(server, sink(folder.path(), size), &progress, &AtomicBool::new(false));
            assert!(received.is_err() || progress.moved_bytes() == size);
            received
        });
        (folder, received)
    }

    #[test]
    fn a_file_sent_is_the_file_received() {
        let content: Vec<u8> = (0..3_000_000u32).map(|i| i.to_le_bytes()[1]).collect();
        let path = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(path.path(), &content).expect("written");
        let file = File::open(path.path()).expect("open");
        let (_folder, sink) = receive_from(3_000_000, |stream| {
            let progress = Progress::default();
            send(&stream, &file, 0..3_000_000, &progress, &AtomicBool::new(false)).expect("sent");
            assert_eq!(progress.moved_bytes(), 3_000_000);
        });
        let path = sink.expect("received").keep(blake3::hash(&content)).expect("kept");
        assert_eq!(std::fs::read(path).expect("read"), content);
    }

    #[test]
    fn too_few_and_too_many_octets_are_errors_and_leave_nothing() {
        for sent in [&b""[..], b"123", b"1234567890+"] {
            let (folder, sink) = receive_from(10, |mut stream| stream.write_all(sent).expect("sent"));
            let error = sink.expect_err("not ten");
            assert!(matches!(error, TransferError::Lost(_)), "{error}");
            assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
        }
        let (_folder, sink) = receive_from(0, |_| {});
        assert_eq!(sink.expect("nothing is enough").size(), 0);
    }

    #[test]
    fn a_file_that_shrank_is_an_error_of_the_sender() {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(100).expect("100 octets");
        let (_folder, sink) = receive_from(200, |stream| {
            let error = send(&stream, &file, 0..200, &Progress::default(), &AtomicBool::new(false));
            assert!(matches!(error, Err(TransferError::File { .. })), "{error:?}");
        });
        assert!(sink.is_err());
    }

    #[test]
    fn a_peer_that_drips_is_left() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut pace = Pace::new(begin);
        for minute in 1..=10 {
            pace.check(minute * SPEED_BYTES_MIN, at(minute * 59)).expect("just fast enough");
        }
        pace.check(10 * SPEED_BYTES_MIN + 1, at(649)).expect("not yet");
        let slow = pace.check(11 * SPEED_BYTES_MIN - 1, at(650)).expect_err("less than the least");
        assert!(slow.to_string().ends_with("the other side is too slow (61439 bytes in 60 s)"), "{slow}");
        let silent = Pace::new(begin).check(0, at(60)).expect_err("nothing");
        assert!(silent.to_string().ends_with("the other side is silent"), "{silent}");
    }

    #[test]
    fn a_peer_that_reads_late_gets_every_octet_once() {
        let content: Vec<u8> = (0..9_000_000u32).map(|i| i.to_le_bytes()[1]).collect();
        let path = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(path.path(), &content).expect("written");
        let file = File::open(path.path()).expect("open");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut reader = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
        let (stream, _) = listener.accept().expect("the client");
        let progress = Progress::default();
        let received = thread::scope(|scope| {
            let sender =
                scope.spawn(|| send(&stream, &file, 0..9_000_000, &progress, &AtomicBool::new(false)));
            // Nothing is read until the sender has been blocked at least once.
            let begin = Instant::now();
            while progress.moved_bytes() == 0 || begin.elapsed() < 2 * CHECK_EVERY {
                assert!(begin.elapsed() < Duration::from_secs(30), "nothing was sent");
                thread::yield_now();
            }
            let mut received = Vec::new();
            reader.read_to_end(&mut received).expect("all");
            drop(reader);
            sender.join().expect("no panic").expect("sent");
            received
        });
        assert!(received == content, "{} bytes", received.len());
    }

    #[test]
    fn both_ends_can_be_cancelled() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let server = listener.local_addr().expect("its address");
        let folder = tempfile::tempdir().expect("a folder");
        let cancelled = AtomicBool::new(true);
        let received = fetch(server, sink(folder.path(), 10), &Progress::default(), &cancelled);
        assert!(matches!(received, Err(TransferError::Cancelled)));
        let (stream, _) = listener.accept().expect("the client");
        let file = tempfile::tempfile().expect("a file");
        let sent = send(&stream, &file, 0..10, &Progress::default(), &cancelled);
        assert!(matches!(sent, Err(TransferError::Cancelled)));
    }
}
