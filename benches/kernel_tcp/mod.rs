//! The peer of the comparison: files over plain kernel TCP, with blocking reads and writes of 64 KiB.
//!
//! The benchmark runs itself once for each end, as `tcp-send ...` and `tcp-receive ...`: one connection and one thread
//! for each file, and no more than the same work asks for. Whoever listens prints its address, whoever connects prints
//! [what came of it](Moved), its clock beginning before `connect`. As `tcp-send-sealed ...` and `tcp-receive-sealed ...`
//! they seal and open what they move.

mod sealed;

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Barrier, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};

const READ_LEN: usize = 64 * 1024;

/// How often a receiver that has a limit looks at the clock.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Progress is counted in slices of this time.
pub const SLICE: Duration = Duration::from_millis(100);

/// What has come of the files, as one line of JSON.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Moved {
    /// From before `connect` to the last octet written, or to the limit.
    pub seconds: f64,
    /// To the first octet of the first file; a sender knows of none.
    pub first_byte_seconds: Option<f64>,
    /// Octets received; a sender counts none.
    pub bytes: u64,
    /// Those of each [`SLICE`].
    pub slices: Vec<u64>,
}

impl Moved {
    fn add(&mut self, at: Duration, bytes: u64) {
        self.first_byte_seconds.get_or_insert(at.as_secs_f64());
        self.bytes += bytes;
        let slice = usize::try_from(at.as_nanos() / SLICE.as_nanos()).expect("some minutes");
        self.slices.resize(self.slices.len().max(slice + 1), 0);
        self.slices[slice] += bytes;
    }

    fn join(mut self, other: &Moved) -> Moved {
        self.first_byte_seconds = match (self.first_byte_seconds, other.first_byte_seconds) {
            (Some(ours), Some(theirs)) => Some(ours.min(theirs)),
            (ours, theirs) => ours.or(theirs),
        };
        self.bytes += other.bytes;
        self.slices.resize(self.slices.len().max(other.slices.len()), 0);
        self.slices.iter_mut().zip(&other.slices).for_each(|(ours, theirs)| *ours += theirs);
        self
    }
}

/// One end of some files' way.
struct End<'a> {
    sends: bool,
    seals: bool,
    address: SocketAddr,
    /// File `i` of the folder is `fi`.
    count: usize,
    folder: &'a Path,
    congestion: &'a str,
    /// A receiver takes no more after this time.
    limit: Duration,
    began: OnceLock<Instant>,
}

/// One end: `tcp-send[-sealed]|tcp-receive[-sealed] listen|connect ADDRESS COUNT FOLDER CONGESTION [LIMIT-SECONDS]`.
pub fn run(arguments: &[String]) -> io::Result<()> {
    let [role, opener, address, count, folder, congestion, limit @ ..] = arguments else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let end = End {
        sends: role.starts_with("tcp-send"),
        seals: role.ends_with("-sealed"),
        address: address.parse().map_err(io::Error::other)?,
        count: count.parse().map_err(io::Error::other)?,
        folder: Path::new(folder),
        congestion,
        limit: match limit {
            [limit] => Duration::from_secs(limit.parse().map_err(io::Error::other)?),
            _ => Duration::MAX,
        },
        began: OnceLock::new(),
    };
    if opener == "listen" { end.listen() } else { end.connect() }
}

impl End<'_> {
    /// The time since it was asked for first.
    fn elapsed(&self) -> Duration {
        self.began.get_or_init(Instant::now).elapsed()
    }

    fn socket(&self) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(self.address), Type::STREAM, None)?;
        socket.set_tcp_congestion(self.congestion.as_bytes())?;
        Ok(socket)
    }

    fn listen(&self) -> io::Result<()> {
        let socket = self.socket()?;
        socket.bind(&self.address.into())?;
        socket.listen(1_024)?;
        let listener = TcpListener::from(socket);
        writeln!(io::stdout(), "{}", listener.local_addr()?)?;
        thread::scope(|scope| {
            let threads: Vec<_> = (0..self.count)
                .map(|_| {
                    let (stream, _) = listener.accept()?;
                    Ok(scope.spawn(move || {
                        let mut index = [0];
                        (&stream).read_exact(&mut index)?;
                        self.move_file(&stream, index[0])
                    }))
                })
                .collect::<io::Result<_>>()?;
            threads.into_iter().try_for_each(|thread| thread.join().expect("no panic").map(drop))
        })
    }

    fn connect(&self) -> io::Result<()> {
        let barrier = &Barrier::new(self.count + 1);
        let moved = thread::scope(|scope| {
            let threads: Vec<_> = (0..self.count)
                .map(|index| {
                    scope.spawn(move || {
                        barrier.wait();
                        let socket = self.socket()?;
                        socket.connect(&self.address.into())?;
                        let stream = TcpStream::from(socket);
                        let index = u8::try_from(index).map_err(io::Error::other)?;
                        (&stream).write_all(&[index])?;
                        self.move_file(&stream, index)
                    })
                })
                .collect();
            self.elapsed();
            barrier.wait();
            threads.into_iter().try_fold(Moved::default(), |moved, thread| {
                thread.join().expect("no panic").map(|other| moved.join(&other))
            })
        })?;
        let moved = Moved { seconds: self.elapsed().as_secs_f64(), ..moved };
        writeln!(io::stdout(), "{}", serde_json::to_string(&moved)?)
    }

    /// The sender waits until the receiver, who has written everything, closes.
    fn move_file(&self, mut stream: &TcpStream, index: u8) -> io::Result<Moved> {
        let path = self.folder.join(format!("f{index}"));
        if self.sends {
            let mut file = File::open(path)?;
            if self.seals {
                sealed::send(file, stream)?
            } else {
                copy(&mut file, &mut stream)?
            }
            stream.shutdown(Shutdown::Write)?;
            return stream.read(&mut [0]).map(|_| Moved::default());
        }
        if self.limit < Duration::MAX {
            stream.set_read_timeout(Some(LOOK_EVERY))?;
        }
        let (mut file, mut moved) = (File::create(path)?, Moved::default());
        if self.seals {
            sealed::receive(stream, |octets| {
                moved.add(self.elapsed(), octets.len() as u64);
                file.write_all(octets)
            })?;
            return Ok(moved);
        }
        let mut buffer = vec![0; READ_LEN];
        while self.elapsed() < self.limit {
            match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(read_len) => {
                    moved.add(self.elapsed(), read_len as u64);
                    file.write_all(&buffer[..read_len])?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(moved)
    }
}

fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; READ_LEN];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            read_len => to.write_all(&buffer[..read_len])?,
        }
    }
}
