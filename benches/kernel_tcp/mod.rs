//! The peer of the comparison: files over plain kernel TCP (cubic), with blocking reads and writes of 64 KiB.
//!
//! The benchmark runs itself once for each end, as `tcp-send ...` and `tcp-receive ...`: one connection and one thread
//! for each file, and no more than the same work asks for. Whoever listens prints its address, whoever connects prints
//! the seconds from before `connect` to the last octet written.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use socket2::{Domain, Socket, Type};

const READ_LEN: usize = 64 * 1024;

/// One end: `tcp-send|tcp-receive ADDRESS COUNT FOLDER`; it listens where the port is 0. File `i` of the folder is `fi`.
pub fn run(arguments: &[String]) -> io::Result<()> {
    let [role, address, count, folder] = arguments else { return Err(io::ErrorKind::InvalidInput.into()) };
    let address: SocketAddr = address.parse().map_err(io::Error::other)?;
    let count: usize = count.parse().map_err(io::Error::other)?;
    let (sends, folder) = (role == "tcp-send", Path::new(folder));
    if address.port() == 0 {
        listen(sends, address, count, folder)
    } else {
        connect(sends, address, count, folder)
    }
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_tcp_congestion(b"cubic")?;
    Ok(socket)
}

fn listen(sends: bool, address: SocketAddr, count: usize, folder: &Path) -> io::Result<()> {
    let socket = socket(address)?;
    socket.bind(&address.into())?;
    socket.listen(1_024)?;
    let listener = TcpListener::from(socket);
    writeln!(io::stdout(), "{}", listener.local_addr()?)?;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|_| {
                let (stream, _) = listener.accept()?;
                Ok(scope.spawn(move || {
                    let mut index = [0];
                    (&stream).read_exact(&mut index)?;
                    move_file(sends, &stream, &folder.join(format!("f{}", index[0])))
                }))
            })
            .collect::<io::Result<_>>()?;
        threads.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
    })
}

fn connect(sends: bool, address: SocketAddr, count: usize, folder: &Path) -> io::Result<()> {
    let barrier = Barrier::new(count + 1);
    let barrier = &barrier;
    let began = thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|index| {
                scope.spawn(move || {
                    barrier.wait();
                    let socket = socket(address)?;
                    socket.connect(&address.into())?;
                    let stream = TcpStream::from(socket);
                    (&stream).write_all(&[u8::try_from(index).map_err(io::Error::other)?])?;
                    move_file(sends, &stream, &folder.join(format!("f{index}")))
                })
            })
            .collect();
        let began = Instant::now();
        barrier.wait();
        threads.into_iter().try_for_each(|thread| thread.join().expect("no panic")).map(|()| began)
    })?;
    writeln!(io::stdout(), "{}", began.elapsed().as_secs_f64())
}

/// The sender waits until the receiver, who has written everything, closes.
fn move_file(sends: bool, mut stream: &TcpStream, path: &Path) -> io::Result<()> {
    let mut buffer = vec![0; READ_LEN];
    let mut copy = |from: &mut dyn Read, to: &mut dyn Write| loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            read_len => to.write_all(&buffer[..read_len])?,
        }
    };
    if sends {
        copy(&mut File::open(path)?, &mut stream)?;
        stream.shutdown(Shutdown::Write)?;
        stream.read(&mut [0]).map(drop)
    } else {
        copy(&mut stream, &mut File::create(path)?)
    }
}
