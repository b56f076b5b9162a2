//! One client's conversation, from its first byte to its last, on a thread of its own that blocks in `read`.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use log::debug;
use rustix::event::{PollFlags, Timespec};

use super::end::{End, linger};
use super::hub::{NotAdmitted, Seat};
use super::limits::{Bucket, Excess};
use super::machine::{Instant, PollFd, TcpStream, ioctl_fionread, poll};
use super::outbox::{self, Line};
use super::requests::{BadLine, parse, protocol_of};
use super::{downloads, moves, probes, uploads};
use crate::wire::ErrorCode;
use crate::wire::line::{LINE_LEN_MAX, LineBuffer};
use crate::wire::message::{ClientMessage, Done, ServerMessage};
use crate::wire::name::Nick;

#[derive(Debug, Clone, Copy)]
enum Stage {
    /// It has until then to say HELLO, and however often its nick is taken, not beyond `ends_by`.
    Unregistered { until: Instant, ends_by: Instant, is_first_line: bool },
    /// It is in the room.
    Member { heard_at: Instant, pinged_at: Option<Instant> },
}

/// Octets that may wait for the rate for as long as they like. Ours: a paste of two long lines, or of some hundred others.
const BEHIND_MAX: u64 = 2 * LINE_LEN_MAX as u64;

struct Session {
    seat: Arc<Seat>,
    buffer: LineBuffer,
    stage: Stage,
    strikes: u32,
    bucket: Option<Bucket>,
    /// Since when lines have been waiting for the rate, with more than [`BEHIND_MAX`] octets behind them.
    pressed_since: Option<Instant>,
    /// The socket's current read timeout; setting it costs a system call.
    timeout: Duration,
}

/// Talks to one client until either side has had enough. Everything the client holds is free when this returns.
pub(super) fn run(seat: Arc<Seat>) {
    let now = Instant::now();
    let limits = &seat.hub.limits;
    let ends_by = now + limits.login_timeout.max(limits.silence_max);
    let mut session = Session {
        seat: Arc::clone(&seat),
        buffer: LineBuffer::default(),
        stage: Stage::Unregistered { until: now + limits.login_timeout, ends_by, is_first_line: true },
        strikes: 0,
        bucket: limits.rate.map(|rate| Bucket::new(rate, now)),
        pressed_since: None,
        timeout: Duration::ZERO,
    };
    let end = session.converse();
    debug!("connection {}: {end}", seat.id.0);
    seat.hub.leave(seat.id, end.farewell());
    if end.is_explained() {
        linger(&seat.stream);
    }
}

impl Session {
    fn converse(&mut self) -> End {
        loop {
            while let Some(line) = self.buffer.next_line() {
                let request = parse(line);
                if let Err(end) = self.handle_line(request) {
                    return end;
                }
            }
            if let Err(end) = self.read() {
                return end;
            }
        }
    }

    /// Blocks until there are new bytes. Only now can the client be silent: until here it had lines to wait for.
    fn read(&mut self) -> Result<(), End> {
        if let Stage::Member { .. } = self.stage {
            self.stage = Stage::Member { heard_at: Instant::now(), pinged_at: None };
        }
        self.seat.pulse.listen();
        loop {
            let now = Instant::now();
            self.on_silence(now)?;
            self.set_timeout(now)?;
            match self.buffer.read_from(&mut &*self.seat.stream) {
                Ok(0) => return Err(End::Eof),
                Ok(_) if self.seat.pulse.hear() => return Ok(()),
                Ok(_) => return Err(End::Displaced),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => {}
                    _ => return Err(End::Lost(error)),
                },
            }
        }
    }

    /// Asks, or gives up, when the client has been silent for long enough.
    fn on_silence(&mut self, now: Instant) -> Result<(), End> {
        let limits = &self.seat.hub.limits;
        match self.stage {
            Stage::Unregistered { until, .. } if until <= now => {
                let words = format!("no HELLO within {} s", limits.login_timeout.as_secs());
                self.refuse(ErrorCode::Timeout, "HELLO", words);
                Err(End::NoHello)
            }
            // It has this long to answer, however late it was asked: the machine may have been asleep.
            Stage::Member { pinged_at: Some(pinged_at), .. } if pinged_at + limits.answer_max() <= now => {
                let words = format!("nothing was heard for {} s", limits.silence_max.as_secs());
                self.refuse(ErrorCode::Timeout, "-", words);
                Err(End::Timeout)
            }
            Stage::Member { heard_at, pinged_at: None } if heard_at + limits.ping_after <= now => {
                self.seat.tell([ServerMessage::Ping(String::new())]);
                self.stage = Stage::Member { heard_at, pinged_at: Some(now) };
                Ok(())
            }
            Stage::Unregistered { .. } | Stage::Member { .. } => Ok(()),
        }
    }

    fn set_timeout(&mut self, now: Instant) -> io::Result<()> {
        let limits = &self.seat.hub.limits;
        let timeout = match self.stage {
            Stage::Unregistered { until, .. } => until.saturating_duration_since(now),
            // Always the same while the client talks: no system call then. It is late by what the last line took.
            Stage::Member { pinged_at: None, .. } => limits.ping_after,
            Stage::Member { pinged_at: Some(pinged_at), .. } => {
                (pinged_at + limits.answer_max()).saturating_duration_since(now)
            }
        };
        let timeout = timeout.max(Duration::from_millis(1));
        if timeout != self.timeout {
            self.seat.stream.set_read_timeout(Some(timeout))?;
            self.timeout = timeout;
        }
        Ok(())
    }

    fn handle_line(&mut self, request: Result<ClientMessage, BadLine>) -> Result<(), End> {
        // Whoever leaves need not wait for it.
        if !matches!(request, Ok(ClientMessage::Quit)) {
            self.pace()?;
        }
        self.seat.hub.writers.wait_for_calm(&self.seat.gauge);
        if self.seat.hub.is_closing() {
            return Err(End::Closing);
        }
        if let Ok(message) = &request
            && let Some(Excess { code, request, words }) = self.seat.hub.limits.excess(message)
        {
            self.refuse(code, request, words);
            let is_member = matches!(self.stage, Stage::Member { .. });
            return if is_member { Ok(()) } else { Err(End::Refused) };
        }
        match self.stage {
            Stage::Unregistered { is_first_line, ends_by, .. } => {
                self.handle_login(request, is_first_line, ends_by)
            }
            Stage::Member { .. } => match request {
                Ok(message) => self.handle_request(message),
                Err(bad) => self.strike(bad),
            },
        }
    }

    /// The chat rate is kept by not reading: the client's own socket fills, and nobody else notices. Whoever goes on for
    /// too long without waiting for its turn is closed.
    fn pace(&mut self) -> Result<(), End> {
        let Some(bucket) = &mut self.bucket else { return Ok(()) };
        let now = Instant::now();
        let wait = bucket.take(now);
        if wait.is_zero() {
            return Ok(());
        }
        // A moment without anything to read would be too sharp a test: whoever answers each answer at once may never leave
        // one. What waits in our own buffer counts as what waits in the socket, however much of it was read at once.
        if waiting_bytes(&self.seat.stream) + self.buffer.waiting_len() as u64 <= BEHIND_MAX {
            self.pressed_since = None;
        } else if *self.pressed_since.get_or_insert(now) + self.seat.hub.limits.pressure_max <= now {
            self.refuse(ErrorCode::TooFast, "-", "more lines than may be said, for too long");
            return Err(End::Flood);
        }
        // Nothing is asked for, so only the end of both directions (a reset, or our own shutdown) ends the pause early.
        let mut fds = [PollFd::new(&*self.seat.stream, PollFlags::empty())];
        let wait = Timespec::try_from(wait).ok();
        match poll(&mut fds, wait.as_ref()) {
            Ok(1..) => Err(End::Lost(io::ErrorKind::ConnectionReset.into())),
            Ok(0) | Err(_) => Ok(()),
        }
    }

    /// Before login one wrong word is the last: it may be a browser that somebody has sent here.
    fn handle_login(
        &mut self,
        request: Result<ClientMessage, BadLine>,
        is_first: bool,
        ends_by: Instant,
    ) -> Result<(), End> {
        match request {
            Ok(ClientMessage::Hello { nick, quiet }) => self.hello(&nick, quiet, ends_by),
            Ok(ClientMessage::Data(token)) if is_first => {
                // Bytes buffered behind the line belong to the file.
                let read_before = self.buffer.take_rest();
                moves::serve(&self.seat, &token, &read_before);
                Err(End::Data)
            }
            Ok(ClientMessage::Quit) => Err(End::Quit),
            Ok(message) => {
                self.refuse(
                    ErrorCode::Login,
                    protocol_of(message.emit().as_bytes()),
                    "say HELLO_<nick> first",
                );
                Err(End::Refused)
            }
            Err(bad) => {
                self.refuse(bad.error.code(), &bad.request, bad.error.to_string());
                Err(End::Refused)
            }
        }
    }

    fn hello(&mut self, nick: &Nick, quiet: bool, ends_by: Instant) -> Result<(), End> {
        match self.seat.hub.join(&self.seat, nick, quiet) {
            Ok(()) => {
                self.stage = Stage::Member { heard_at: Instant::now(), pinged_at: None };
                Ok(())
            }
            Err(error @ NotAdmitted::Nick(_)) => {
                self.refuse(ErrorCode::NickTaken, "HELLO", error.to_string());
                let until = ends_by.min(Instant::now() + self.seat.hub.limits.login_timeout);
                self.stage = Stage::Unregistered { until, ends_by, is_first_line: false };
                Ok(())
            }
            Err(error) => {
                self.refuse(ErrorCode::Busy, "HELLO", error.to_string());
                Err(End::Refused)
            }
        }
    }

    /// Not inlined: what all these requests need would be on the stack of everybody who only logs in.
    #[inline(never)]
    fn handle_request(&mut self, message: ClientMessage) -> Result<(), End> {
        let Seat { hub, id, .. } = &*self.seat;
        let id = *id;
        match message {
            ClientMessage::All(text) => hub.in_room(|room| room.say(id, text)),
            ClientMessage::Pm(to, text) => hub.in_room(|room| room.whisper(id, &to, text)),
            ClientMessage::Nick(nick) => hub.in_room(|room| room.rename(id, nick)),
            ClientMessage::Who => return self.tell_in_turn(hub.who(&self.seat)),
            ClientMessage::Files(after) => match downloads::list(hub, after.as_ref()) {
                Ok(lines) => return self.tell_in_turn(lines.iter().map(outbox::line)),
                Err(error) => self.refuse(ErrorCode::File, "FILES", error.to_string()),
            },
            ClientMessage::Get(transport, name) => {
                if let Err(error) = downloads::offer(&self.seat, transport, &name, None) {
                    self.refuse(error.code(), "GET", error.to_string());
                }
            }
            ClientMessage::Resume(transport, prefix, name) => {
                if let Err(error) = downloads::offer(&self.seat, transport, &name, Some(prefix)) {
                    self.refuse(error.code(), "RESUME", error.to_string());
                }
            }
            ClientMessage::Put { transport, size, resume_token, name } => {
                if let Err(error) = uploads::accept(&self.seat, transport, size, &name, resume_token) {
                    self.refuse(error.code(), "PUT", error.to_string());
                }
            }
            ClientMessage::Done(transfer, Done::Sent { size, digest }) => {
                hub.on_upload_read(id, transfer, size, digest);
            }
            ClientMessage::Done(transfer, Done::Kept) => hub.on_client_done(id, transfer, None),
            ClientMessage::Done(transfer, Done::Failed(code)) => hub.on_client_done(id, transfer, Some(code)),
            ClientMessage::Probe(None) => {
                if let Err(error) = probes::start(&self.seat) {
                    self.refuse(ErrorCode::Busy, "PROBE", error.to_string());
                }
            }
            ClientMessage::Probe(Some(probe)) => {
                if !probes::end(&self.seat, probe) {
                    self.refuse(ErrorCode::BadRequest, "PROBE", "no probe of yours has this number");
                }
            }
            ClientMessage::Ping(text) => self.seat.tell([ServerMessage::Pong(text)]),
            ClientMessage::Pong(_) => {}
            ClientMessage::Hello { .. } => self.refuse(ErrorCode::Login, "HELLO", "you are in already"),
            ClientMessage::Data(_) => {
                self.refuse(ErrorCode::BadRequest, "DATA", "a file has a connection of its own");
            }
            ClientMessage::Quit => return Err(End::Quit),
        }
        Ok(())
    }

    /// A long answer is more than a client's queue may hold, so it waits until enough of it is taken; but not for ever, with
    /// all that is kept for it.
    fn tell_in_turn(&self, lines: impl Iterator<Item = Line>) -> Result<(), End> {
        let Seat { hub, gauge, .. } = &*self.seat;
        let until = Instant::now() + hub.limits.silence_max;
        for line in lines {
            if !hub.writers.wait_for_calm_until(gauge, until) {
                return Err(End::Slow);
            }
            if hub.is_closing() {
                return Ok(());
            }
            hub.writers.send_one(self.seat.id, gauge, line);
        }
        Ok(())
    }

    /// Answers a bad line. Those that no correct client sends count, and there is a last one.
    fn strike(&mut self, bad: BadLine) -> Result<(), End> {
        self.refuse(bad.error.code(), &bad.request, bad.error.to_string());
        if !bad.error.is_strike() {
            return Ok(());
        }
        self.strikes += 1;
        if self.strikes < self.seat.hub.limits.strikes_max {
            return Ok(());
        }
        self.refuse(ErrorCode::Strikes, &bad.request, "too many bad lines");
        Err(End::Strikes)
    }

    fn refuse(&self, code: ErrorCode, request: &str, words: impl Into<String>) {
        let (request, words) = (request.to_owned(), words.into());
        self.seat.tell([ServerMessage::Err { code, request, words }]);
    }
}

/// How many bytes of the client wait to be read.
fn waiting_bytes(stream: &TcpStream) -> u64 {
    ioctl_fionread(stream).unwrap_or(0)
}
