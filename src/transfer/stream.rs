//! A file over its own TCP connection: `DATA_<token>`, then exactly the announced octets.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::sink::Sink;
use super::{Progress, TransferError};
use crate::wire::message::{ClientMessage, Secret};

/// Handed to the system at once; between two of them progress is told and `cancelled` looked at. Ours: a hundredth of
/// a second on a fast link.
const CHUNK_LEN: u64 = 1024 * 1024;

/// One read of the receiver takes at most this.
const READ_LEN: usize = 256 * 1024;

/// How long the peer may move nothing at all. Ours: the idle limit of the UDP way.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// How long to wait for the server to accept the connection.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// A blocked read looks at `cancelled` this often.
const CANCEL_CHECK: Duration = Duration::from_millis(250);

/// Sends `size` octets of `file`, then closes the sending half and waits for the peer to close. Blocks; ends soon after
/// `cancelled` is set or the stream is shut down.
pub fn send(
    stream: &TcpStream,
    file: &File,
    size: u64,
    progress: &Progress,
    cancelled: &AtomicBool,
) -> Result<(), TransferError> {
    let unreadable = |source| TransferError::File { what: "read the file".into(), source };
    let (mut file, mut stream) = (file, stream);
    file.rewind().map_err(unreadable)?;
    stream.set_write_timeout(Some(IDLE_MAX)).map_err(lost)?;
    let mut sent = 0;
    while sent < size {
        if cancelled.load(Ordering::Relaxed) {
            return Err(TransferError::Cancelled);
        }
        // On Linux the standard library does this by sendfile: the octets never enter this process.
        let copied = io::copy(&mut file.take(CHUNK_LEN.min(size - sent)), &mut stream).map_err(lost)?;
        if copied == 0 {
            let source = io::Error::new(io::ErrorKind::UnexpectedEof, "it became shorter meanwhile");
            return Err(unreadable(source));
        }
        sent += copied;
        progress.set(sent, 0);
    }
    stream.shutdown(Shutdown::Write).map_err(lost)?;
    // The peer closes once it has everything: only then may the socket go (a close with unread octets is a reset).
    let mut patient = Patient::new(stream, cancelled)?;
    match patient.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(TransferError::Lost("the other side sent octets of its own".into())),
    }
}

/// Connects, presents the token and receives the whole file into `sink`. Blocks; ends soon after `cancelled` is set.
pub fn receive(
    server: SocketAddr,
    token: &Secret,
    mut sink: Sink,
    progress: &Progress,
    cancelled: &AtomicBool,
) -> Result<Sink, TransferError> {
    let stream = TcpStream::connect_timeout(&server, CONNECT_MAX).map_err(lost)?;
    (&stream).write_all(ClientMessage::Data(token.clone()).emit().as_bytes()).map_err(lost)?;
    let mut patient = Patient::new(&stream, cancelled)?;
    let mut buffer = vec![0; READ_LEN];
    let mut received = 0;
    while received < sink.size() {
        let want = buffer.len().min(usize::try_from(sink.size() - received).unwrap_or(usize::MAX));
        let read_len = patient.read(&mut buffer[..want])?;
        if read_len == 0 {
            return Err(TransferError::Lost(format!(
                "the server closed it after {received} of {} bytes",
                sink.size()
            )));
        }
        let write_failed = |sink: &Sink, source| {
            let what = format!("write {}", sink.part_path().display());
            TransferError::File { what, source }
        };
        sink.write(received, &buffer[..read_len]).map_err(|source| write_failed(&sink, source))?;
        received += read_len as u64;
        if received == sink.size() {
            sink.flush().map_err(|source| write_failed(&sink, source))?;
        }
        progress.set(received, 0);
    }
    match patient.read(&mut buffer[..1])? {
        0 => Ok(sink),
        _ => Err(TransferError::Lost("the server sent more than it had announced".into())),
    }
}

fn lost(error: io::Error) -> TransferError {
    TransferError::Lost(match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "the other side is silent".into(),
        _ => error.to_string(),
    })
}

/// Reads that block, but not for ever: they end when the peer is silent too long, and soon after `cancelled` is set.
struct Patient<'a> {
    stream: &'a TcpStream,
    cancelled: &'a AtomicBool,
}

impl<'a> Patient<'a> {
    fn new(stream: &'a TcpStream, cancelled: &'a AtomicBool) -> Result<Self, TransferError> {
        stream.set_read_timeout(Some(CANCEL_CHECK)).map_err(lost)?;
        Ok(Self { stream, cancelled })
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, TransferError> {
        // A read that finds octets never looks at the clock: `since` starts with the first silence.
        let mut since = None;
        loop {
            if self.cancelled.load(Ordering::Relaxed) {
                return Err(TransferError::Cancelled);
            }
            match self.stream.read(buffer) {
                Ok(read_len) => return Ok(read_len),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    if since.get_or_insert_with(Instant::now).elapsed() >= IDLE_MAX {
                        return Err(lost(error));
                    }
                }
                Err(error) => return Err(lost(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::sink::Target;
    use crate::wire::name::FileName;
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;
    use std::thread;

    const TOKEN: Secret = Secret([7; 32]);

    fn sink(folder: &std::path::Path, size: u64) -> Sink {
        Sink::create(&Target::Folder(folder.into(), FileName::parse("a").expect("a name")), size)
            .expect("a sink")
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
            let received =
                receive(server, &TOKEN, sink(folder.path(), size), &progress, &AtomicBool::new(false));
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
            send(&stream, &file, 3_000_000, &progress, &AtomicBool::new(false)).expect("sent");
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
            let error = send(&stream, &file, 200, &Progress::default(), &AtomicBool::new(false));
            assert!(matches!(error, Err(TransferError::File { .. })), "{error:?}");
        });
        assert!(sink.is_err());
    }

    #[test]
    fn both_ends_can_be_cancelled() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let server = listener.local_addr().expect("its address");
        let folder = tempfile::tempdir().expect("a folder");
        let cancelled = AtomicBool::new(true);
        let received = receive(server, &TOKEN, sink(folder.path(), 10), &Progress::default(), &cancelled);
        assert!(matches!(received, Err(TransferError::Cancelled)));
        let (stream, _) = listener.accept().expect("the client");
        let file = tempfile::tempfile().expect("a file");
        let sent = send(&stream, &file, 10, &Progress::default(), &cancelled);
        assert!(matches!(sent, Err(TransferError::Cancelled)));
    }
}
