//! Many connections at once, and what they cost the server.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use socket2::{Domain, SockRef, Socket, Type};

use super::TestServer;

/// A connection from one of a thousand addresses of 127/8.
pub(crate) fn connect_from(number: usize, server: SocketAddr) -> TcpStream {
    let [host, net] = [number % 250 + 1, number / 250 % 4 + 1].map(|part| u8::try_from(part).expect("small"));
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 1, net, host)), 0);
    socket.bind(&address.into()).expect("all of 127/8 is ours");
    socket.connect(&server.into()).expect("connected");
    socket.into()
}

/// Closes with a reset, as a crashed or killed peer does.
pub(crate) fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a socket");
    drop(stream);
}

/// The value that this share of them does not exceed.
pub(crate) fn quantile(all: &mut [Duration], share: f64) -> Duration {
    all.sort();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length")]
    let at = ((all.len() - 1) as f64 * share).round() as usize;
    all[at]
}

impl TestServer {
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("it runs");
    }

    /// The processor time that it has used so far.
    pub(crate) fn processor_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("Linux");
        let (_, fields) = stat.rsplit_once(')').expect("the name is in parentheses");
        // Fields 14 and 15 of proc(5), in hundredths of a second.
        let ticks =
            fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().expect("ticks"));
        Duration::from_millis(ticks.sum::<u64>() * 10)
    }

    /// Lets it have so many descriptors from now on; gives the limit until now.
    pub(crate) fn limit_descriptors(&self, count: u64) -> u64 {
        let limit = Rlimit { current: Some(count), maximum: None };
        let old = prlimit(Some(self.pid()), Resource::Nofile, Rlimit { maximum: self.hard_limit(), ..limit });
        old.expect("our own child").current.unwrap_or(u64::MAX)
    }

    fn hard_limit(&self) -> Option<u64> {
        rustix::process::getrlimit(Resource::Nofile).maximum
    }
}
