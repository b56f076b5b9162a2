//! `client HOST doctor`: what of the way to a server works, what does not, and what to do about it.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::TryRecvError;
use jiff::Timestamp;

use super::diagnosis::{Facts, Measured, Untested, diagnose};
use super::error::ClientError;
use super::event::Event;
use super::oneshot::OneShot;
use super::report::Report;
use crate::rudp::probe::Probe;
use crate::rudp::{PACKET_LEN_IPV4, PACKET_LEN_IPV6, PACKET_LEN_MIN};
use crate::transfer::probe::{Target, run};
use crate::transfer::tuning::Tuning;
use crate::wire::ErrorCode;
use crate::wire::message::{self, ClientMessage, ServerMessage};

/// Round trips of the control connection that are measured. Ours: the median of a few is not the slow first one.
const PINGS: usize = 5;

/// How many packets are sent to see what is lost.
const PROBES: usize = 120;

/// The octets of most of them. Ours: small, so that the size of a packet and the loss on the way are told apart.
const SMALL_LEN: usize = 200;

/// How long the last answers are waited for, at least and at most. Ours: it is all over within 5 s.
const WAIT_MIN: Duration = Duration::from_millis(800);
const WAIT_MAX: Duration = Duration::from_millis(2_500);

/// How long each answer of the server is waited for, whatever else it says meanwhile. Ours: one that is slower is not well.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// How often a signal is looked for while probes are under way.
const TICK: Duration = Duration::from_millis(50);

impl OneShot<'_> {
    /// Looks at everything, and tells it. An error where files cannot travel over UDP, or nobody knows.
    pub(super) fn doctor(&mut self, tuning: &Tuning) -> Result<(), ClientError> {
        let (server, nick) = (self.events.session.server, self.events.session.nick.to_string());
        let tcp_rtt = self.measure_tcp()?;
        let full_len = full_len(server, tuning);
        let udp = self.measure_udp(server, tcp_rtt, full_len, tuning)?;
        let (checks, diagnosis) = diagnose(&Facts { server, nick, tcp_rtt, full_len, udp });
        for check in checks {
            self.screen.show(&Report::Check(check))?;
        }
        let (is_well, text) = (diagnosis.result.is_well(), diagnosis.text.clone());
        // A failure is told to people once, as every other.
        if is_well || self.screen.json {
            self.screen.show(&Report::Diagnosis(diagnosis))?;
        }
        if is_well { Ok(()) } else { Err(ClientError::Unwell(text)) }
    }

    fn measure_tcp(&mut self) -> Result<Duration, ClientError> {
        let mut rtts = Vec::new();
        for number in 0..PINGS {
            let (text, asked_at) = (format!("doctor {number}"), Instant::now());
            self.events.session.say(ClientMessage::Ping(text.clone()));
            self.answer(ANSWER_MAX, |message| {
                matches!(message, ServerMessage::Pong(answer) if answer == text).then_some(())
            })?;
            rtts.push(asked_at.elapsed());
        }
        rtts.sort_unstable();
        Ok(rtts[PINGS / 2])
    }

    fn measure_udp(
        &mut self,
        server: SocketAddr,
        tcp_rtt: Duration,
        full_len: usize,
        tuning: &Tuning,
    ) -> Result<Result<Measured, Untested>, ClientError> {
        let asked_at = Timestamp::now();
        self.events.session.say(ClientMessage::Probe(None));
        let promise = match self.answer(ANSWER_MAX, |message| match message {
            ServerMessage::Probe(promise) => Some(Ok(promise)),
            ServerMessage::Err { code: ErrorCode::Unknown, .. } => Some(Err(Untested::OldServer)),
            ServerMessage::Err { words, .. } => Some(Err(Untested::Refused(words))),
            _ => None,
        })? {
            Ok(promise) => promise,
            Err(untested) => return Ok(Err(untested)),
        };
        let now = Timestamp::now();
        let clock_offset_s = promise.time.duration_since(asked_at).as_secs_f64()
            - now.duration_since(asked_at).as_secs_f64() / 2.0;
        let patience = (tcp_rtt * 3).clamp(WAIT_MIN, WAIT_MAX);
        let probes = match self.probe(server, &promise, plan(full_len), patience, tuning)? {
            Ok(probes) => probes,
            Err(error) => return Ok(Err(Untested::NoSocket(error.to_string()))),
        };
        self.events.session.say(ClientMessage::Probe(Some(promise.id)));
        self.answer(ANSWER_MAX, |message| match message {
            ServerMessage::Probed(id, arrived) if id == promise.id => {
                // No server has had more than were sent.
                let arrived = arrived.min(u32::try_from(probes.len()).unwrap_or(u32::MAX));
                let probes = probes.clone();
                Some(Ok(Measured { port: promise.port, probes, arrived, clock_offset_s }))
            }
            ServerMessage::Err { words, .. } => Some(Err(Untested::Refused(words))),
            _ => None,
        })
    }

    /// Sends probes on a thread of their own, named `probe`, so that a signal still ends the client.
    fn probe(
        &mut self,
        mut server: SocketAddr,
        promise: &message::Probe,
        lens: Vec<usize>,
        patience: Duration,
        tuning: &Tuning,
    ) -> Result<std::io::Result<Vec<Probe>>, ClientError> {
        server.set_port(promise.port);
        let target = Target { server, id: promise.id, secret: promise.secret.clone() };
        let (tell, outcome) = crossbeam_channel::bounded(1);
        let simulate = tuning.simulate.clone();
        let work = move || _ = tell.send(run(&target, &lens, patience, simulate.as_ref()));
        let failed = |source| ClientError::System { what: "start a thread".into(), source };
        thread::Builder::new().name("probe".into()).spawn(work).map_err(failed)?;
        loop {
            match outcome.try_recv() {
                Ok(outcome) => return Ok(outcome),
                Err(TryRecvError::Disconnected) => unreachable!("the thread tells before it ends"),
                Err(TryRecvError::Empty) => {}
            }
            match self.events.next(Some(Instant::now() + TICK)) {
                Event::Signal(signal) => return Err(ClientError::Signal(signal)),
                Event::GaveUp(error) => return Err(error),
                _ => {}
            }
        }
    }
}

/// The largest packet that files would travel in.
fn full_len(server: SocketAddr, tuning: &Tuning) -> usize {
    let full = if server.ip().to_canonical().is_ipv4() { PACKET_LEN_IPV4 } else { PACKET_LEN_IPV6 };
    tuning.packet_len_max.unwrap_or(full).min(full)
}

/// The lengths of the probes: small ones, and among them some of either size of a file's packets.
fn plan(full_len: usize) -> Vec<usize> {
    let len = |place| match place % 12 {
        5 => PACKET_LEN_MIN,
        11 => full_len,
        _ => SMALL_LEN,
    };
    (0..PROBES).map(len).collect()
}
