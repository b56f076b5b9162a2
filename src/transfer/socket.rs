//! One UDP socket with the kernel's batching: GSO to send, GRO to receive. What is particular to Linux stays here.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use quinn_udp::{RecvMeta, UdpSockRef, UdpSocketState};
use socket2::SockRef;

/// What is asked of the kernel for each direction's buffer; it grants what its own limits allow. Ours: four round trips
/// of 10 ms at 800 Mbit/s.
const BUFFER_LEN: usize = 4 << 20;

/// A GRO buffer holds one coalesced datagram of at most 64 KiB.
pub const DATAGRAM_LEN_MAX: usize = 65_536;

/// Where a datagram came from, or goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// The other end.
    pub peer: SocketAddr,
    /// Our own address, so that a host with several answers from the one that was asked.
    pub local: Option<IpAddr>,
}

/// Received octets: packets of `segment_len` octets, the last may be shorter.
#[derive(Debug, Clone, Copy)]
pub struct Received {
    /// Whence.
    pub path: Path,
    /// Octets in all.
    pub len: usize,
    /// Octets of each packet.
    pub segment_len: usize,
}

/// A non-blocking UDP socket.
#[derive(Debug)]
pub struct Socket {
    io: UdpSocket,
    state: UdpSocketState,
    port: u16,
    burst_len: u32,
}

impl Socket {
    /// Binds, with large buffers.
    pub fn bind(address: SocketAddr) -> io::Result<Socket> {
        let io = UdpSocket::bind(address)?;
        let options = SockRef::from(&io);
        // What the system refuses it caps; less is slower, not wrong.
        let _ = options.set_recv_buffer_size(BUFFER_LEN);
        let _ = options.set_send_buffer_size(BUFFER_LEN);
        // The kernel charges its own overhead too: half of what it says is what surely fits.
        let burst_len = u32::try_from(options.recv_buffer_size()? / 2).unwrap_or(u32::MAX);
        let state = UdpSocketState::new(UdpSockRef::from(&io))?;
        let port = io.local_addr()?.port();
        Ok(Socket { io, state, port, burst_len })
    }

    /// The port it is bound to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Octets that surely fit its receive buffer.
    pub fn burst_len(&self) -> u32 {
        self.burst_len
    }

    /// How many packets one call may send. Ask before each batch: it falls to 1 where the system turns out to refuse.
    pub fn batch_packets_max(&self) -> usize {
        self.state.max_gso_segments()
    }

    /// Sends packets of `segment_len` octets (the last may be shorter). `false`: the buffer is full, nothing was sent.
    ///
    /// Any other failure is that of a datagram on its way: the protocol sends it again.
    pub fn send(&self, path: Path, packets: &[u8], segment_len: usize) -> bool {
        match self.try_send(path, packets, segment_len) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(error) if packets.len() > segment_len => {
                log::debug!("udp {}: a batch was refused ({error}), sending one by one", self.port);
                packets.chunks(segment_len).for_each(|packet| _ = self.try_send(path, packet, segment_len));
                true
            }
            Err(error) => {
                log::trace!("udp {}: cannot send to {}: {error}", self.port, path.peer);
                true
            }
        }
    }

    fn try_send(&self, path: Path, packets: &[u8], segment_len: usize) -> io::Result<()> {
        let transmit = quinn_udp::Transmit {
            destination: path.peer,
            ecn: None,
            contents: packets,
            segment_size: (packets.len() > segment_len).then_some(segment_len),
            src_ip: path.local,
        };
        self.state.try_send(UdpSockRef::from(&self.io), &transmit)
    }

    /// Receives what one call gives into `buffer` of [`DATAGRAM_LEN_MAX`] octets; `None` when nothing is there.
    pub fn recv(&self, buffer: &mut [u8]) -> Option<Received> {
        let mut meta = [RecvMeta::default()];
        let received = self.state.recv(UdpSockRef::from(&self.io), &mut [IoSliceMut::new(buffer)], &mut meta);
        let [meta] = meta;
        match received {
            Ok(_) => Some(Received {
                path: Path { peer: meta.addr, local: meta.dst_ip },
                len: meta.len,
                segment_len: meta.stride.max(1),
            }),
            Err(error) => {
                if error.kind() != io::ErrorKind::WouldBlock {
                    log::debug!("udp {}: cannot receive: {error}", self.port);
                }
                None
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, poll};

    fn receive(socket: &Socket, packets: usize) -> Vec<Vec<u8>> {
        let (mut buffer, mut out) = (vec![0; DATAGRAM_LEN_MAX], Vec::new());
        while out.len() < packets {
            poll(&mut [PollFd::new(socket, PollFlags::IN)], None).expect("poll");
            while let Some(received) = socket.recv(&mut buffer) {
                out.extend(buffer[..received.len].chunks(received.segment_len).map(<[u8]>::to_vec));
            }
        }
        out
    }

    #[test]
    fn a_batch_arrives_as_its_packets() {
        let bind = || Socket::bind(([127, 0, 0, 1], 0).into()).expect("a port");
        let (from, to) = (bind(), bind());
        let path = Path { peer: ([127, 0, 0, 1], to.port()).into(), local: None };
        let batch: Vec<u8> = (0..10 * 1_472 + 100u32).map(|i| (i % 251) as u8).collect();
        assert!(from.send(path, &batch, 1_472));
        assert_eq!(receive(&to, 11), batch.chunks(1_472).map(<[u8]>::to_vec).collect::<Vec<_>>());
        assert!(to.burst_len() > 65_536);
    }
}
