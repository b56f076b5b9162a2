//! What a person may choose of the connections of a process; the same flags on both binaries.

use std::io;
use std::net::TcpStream;
use std::path::PathBuf;

use clap::Args;

use super::fault::FaultSpec;
use super::trace::TraceFile;
use crate::rudp::congestion::ControllerKind;
use crate::rudp::{ArqScheme, PACKET_LEN_IPV4, PACKET_LEN_MIN};

/// The flags.
#[derive(Debug, Clone, Default, Args)]
pub struct TuningArgs {
    /// Simulate faults: loss=10%,delay=20ms,jitter=5ms,reorder=5%,dup=1% ...
    #[arg(long, global = true, value_name = "SPEC")]
    simulate: Option<FaultSpec>,

    /// How losses are repaired: stop-and-wait, go-back-n, selective-repeat
    #[arg(long, global = true, value_name = "SCHEME")]
    arq: Option<ArqScheme>,

    // Brackets in a doc comment would be links.
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        help = "Congestion control: fixed[:PACKETS], aimd, cubic or bbr; for TCP too"
    )]
    cc: Option<ControllerKind>,

    /// The largest UDP payload in bytes, 1200 to 1472
    #[arg(long, global = true, value_name = "BYTES", value_parser = parse_packet_len)]
    max_packet: Option<usize>,

    /// Write what the UDP connections do to FILE, as JSON lines (qlog)
    #[arg(long, global = true, value_name = "FILE")]
    trace: Option<PathBuf>,
}

fn parse_packet_len(text: &str) -> Result<usize, String> {
    let len = text.parse().ok().filter(|len| (PACKET_LEN_MIN..=PACKET_LEN_IPV4).contains(len));
    len.ok_or_else(|| format!("not a number from {PACKET_LEN_MIN} to {PACKET_LEN_IPV4}"))
}

/// What the flags ask for. What is left open is a client's leave to the server, and a server's to the defaults.
#[derive(Debug, Clone, Default)]
pub struct Tuning {
    /// Faults to simulate at every socket.
    pub simulate: Option<FaultSpec>,
    /// The scheme.
    pub arq: Option<ArqScheme>,
    /// The congestion controller.
    pub controller: Option<ControllerKind>,
    /// The largest UDP payload, where it is not that of a 1,500-octet IP packet.
    pub packet_len_max: Option<usize>,
    /// Where every connection tells what it does.
    pub trace: Option<TraceFile>,
}

impl Tuning {
    /// Has the system's TCP send with the controller that was asked for, where it has that; `aimd` is what it calls `reno`.
    /// What was left open is the system's choice.
    pub fn prefer(&self, stream: &TcpStream) {
        let name = match self.controller {
            None | Some(ControllerKind::Fixed(_)) => return,
            Some(ControllerKind::Aimd) => "reno",
            Some(ControllerKind::Cubic) => "cubic",
            Some(ControllerKind::Bbr) => "bbr",
        };
        if let Err(error) = rustix::net::sockopt::set_tcp_congestion(stream, name) {
            log::warn!("this system's TCP has no {name} for us ({error}): it uses its own choice");
        }
    }
}

impl TuningArgs {
    /// Opens the trace file, if one is asked for; the error says so.
    pub fn open(self) -> io::Result<Tuning> {
        let trace = self.trace.map(|path| {
            TraceFile::create(&path).map_err(|error| {
                io::Error::new(error.kind(), format!("cannot write the trace {}: {error}", path.display()))
            })
        });
        Ok(Tuning {
            simulate: self.simulate,
            arq: self.arq,
            controller: self.cc,
            packet_len_max: self.max_packet,
            trace: trace.transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::sockopt::tcp_congestion;
    use std::net::TcpListener;

    #[test]
    fn tcp_sends_with_the_controller_that_was_asked_for() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let stream = TcpStream::connect(listener.local_addr().expect("its address")).expect("connected");
        let own = tcp_congestion(&stream).expect("some");
        let prefer = |controller| Tuning { controller, ..Tuning::default() }.prefer(&stream);
        prefer(None);
        prefer(Some(ControllerKind::Fixed(8)));
        assert_eq!(tcp_congestion(&stream).expect("some"), own);
        // Every Linux has it built in.
        prefer(Some(ControllerKind::Aimd));
        assert_eq!(tcp_congestion(&stream).expect("some"), "reno");
    }
}
