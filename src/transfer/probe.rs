//! The client's probes on a real socket: sent at a steady pace, and the answers waited for.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::fault::{Fault, FaultSpec, OnPath, Way};
use super::socket::{DATAGRAM_LEN_MAX, Path, Socket};
use crate::rudp::probe::{Probe, Prober};
use crate::wire::message::{Secret, TransferId};

/// The time from one probe to the next. Ours: with the plan of the doctor below 400 kbit/s, which no line calls a burst.
const PACE: Duration = Duration::from_millis(10);

/// What a server has promised, and how to reach it.
#[derive(Debug, Clone)]
pub struct Target {
    /// The server's address with the port of its worker.
    pub server: SocketAddr,
    /// The number of the probe,
    pub id: TransferId,
    /// and its key.
    pub secret: Secret,
}

/// The socket on its path, with the faults that are simulated.
struct Line {
    socket: Socket,
    path: Path,
    fault: Option<Fault>,
}

/// Sends probes of these lengths, and tells what came of each. Blocks until all are answered, or no more answers are
/// waited for: that is so long after the last probe.
pub fn run(
    target: &Target,
    lens: &[usize],
    patience: Duration,
    simulate: Option<&FaultSpec>,
) -> io::Result<Vec<Probe>> {
    let ip: IpAddr = match target.server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let mut line = Line {
        socket: Socket::bind((ip, 0).into())?,
        path: Path { peer: target.server, local: None },
        fault: simulate.cloned().map(|spec| Fault::new(spec, 0)),
    };
    let mut prober = Prober::new(target.id, &target.secret);
    let mut buffer = vec![0; DATAGRAM_LEN_MAX];
    let mut next_at = Instant::now();
    for &len in lens {
        line.listen(&mut prober, &mut buffer, next_at);
        let now = Instant::now();
        let packet = prober.probe(now, len);
        line.send(now, packet);
        next_at += PACE;
    }
    let until = Instant::now() + patience;
    while prober.probes().iter().any(|probe| probe.rtt.is_none()) && Instant::now() < until {
        line.listen(&mut prober, &mut buffer, until.min(Instant::now() + PACE));
    }
    Ok(prober.probes().to_vec())
}

impl Line {
    fn send(&mut self, now: Instant, packet: Vec<u8>) {
        match &mut self.fault {
            Some(fault) => fault.enter(now, Way::Out, self.path, &packet),
            // What the socket refuses is one more loss.
            None => _ = self.socket.send(self.path, &packet, packet.len()),
        }
    }

    /// Hears answers until then.
    fn listen(&mut self, prober: &mut Prober, buffer: &mut [u8], until: Instant) {
        loop {
            while let Some(received) = self.socket.recv(buffer) {
                let now = Instant::now();
                for packet in buffer[..received.len].chunks_mut(received.segment_len) {
                    match &mut self.fault {
                        Some(fault) => fault.enter(now, Way::In, received.path, packet),
                        None => prober.handle_datagram(now, packet),
                    }
                }
            }
            let now = Instant::now();
            while let Some(OnPath { way, path, mut datagram }) =
                self.fault.as_mut().and_then(|fault| fault.leave(now))
            {
                match way {
                    Way::In => prober.handle_datagram(now, &mut datagram),
                    Way::Out => _ = self.socket.send(path, &datagram, datagram.len()),
                }
            }
            if now >= until {
                return;
            }
            let wake_at = self.fault.as_ref().and_then(Fault::poll_timeout).map_or(until, |at| at.min(until));
            let timeout = Timespec::try_from(wake_at.saturating_duration_since(now)).ok();
            // An interrupted wait is one that was short.
            let _ = poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], timeout.as_ref());
        }
    }
}
