//! Every limit of the server, with its default, and the token bucket behind the chat rate.

use std::time::Duration;

use super::machine::Instant;
use crate::wire::ErrorCode;
use crate::wire::message::ClientMessage;
use crate::wire::name::{NICK_CHARS_MAX, Nick};
use crate::wire::text::TEXT_CHARS_MAX;

/// How much the server grants to one peer, one address, and all together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Members in the room; one more gets `ERR_busy`.
    pub clients_max: usize,
    /// Connections that have not said HELLO yet; one more evicts the oldest of them.
    pub unregistered_max: usize,
    /// Characters of a nick; fewer than the protocol allows, or as many.
    pub nick_chars_max: usize,
    /// Characters of a text that somebody says; fewer than the protocol allows, or as many.
    pub text_chars_max: usize,
    /// Control connections from one address. Loopback is exempt: there everybody has the same one.
    pub per_ip_max: usize,
    /// How long a connection may take to say HELLO.
    pub login_timeout: Duration,
    /// Bad lines (too long, not UTF-8, control characters) of one member; this many close the connection.
    pub strikes_max: u32,
    /// How fast one member may ask; `None` for trusted networks and benches.
    pub rate: Option<Rate>,
    /// How long lines of one member may wait behind each other because of the rate.
    pub pressure_max: Duration,
    /// Finished lines waiting for one client; above it the client is too slow.
    pub outbox_lines_max: usize,
    /// Their octets; above it the client is too slow.
    pub outbox_bytes_max: usize,
    /// Commands that wait for a writer; above it all readers pause.
    pub backlog_max: usize,
    /// Up to so many clients, one writer serves all; above it a second one takes its share.
    pub one_writer_max: usize,
    /// How long a client with waiting lines may take none of them.
    pub blocked_max: Duration,
    /// After this silence a member is asked whether it is there.
    pub ping_after: Duration,
    /// After this silence the connection is closed; more than `ping_after`, so that there is time to answer.
    pub silence_max: Duration,
    /// A holder of a nick that somebody at its address wants is asked whether it is there; silent for so long from then
    /// on, it loses the nick.
    pub challenge_after: Duration,
    /// Transfers of one member at a time, open offers included.
    pub transfers_per_client: usize,
    /// Offers of one member that nobody has taken up yet.
    pub offers_per_client: usize,
    /// Transfers of all members at a time.
    pub transfers_max: usize,
    /// How long an offer stays open.
    pub offer_lifetime: Duration,
    /// How long an upload that has arrived waits for its digest.
    pub digest_wait: Duration,
    /// Whether files may be put on the shelf.
    pub uploads: bool,
    /// Octets of one file that is put on the shelf.
    pub upload_max: u64,
    /// Octets of the whole shelf; what would go beyond is not taken.
    pub shelf_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            clients_max: 4096,
            unregistered_max: 64,
            nick_chars_max: NICK_CHARS_MAX,
            text_chars_max: TEXT_CHARS_MAX,
            per_ip_max: 16,
            login_timeout: Duration::from_secs(10),
            strikes_max: 5,
            rate: Some(Rate::default()),
            pressure_max: Duration::from_secs(30),
            outbox_lines_max: 1024,
            outbox_bytes_max: 256 * 1024,
            // Ours: a few milliseconds of the writer's work.
            backlog_max: 1024,
            // Ours: a turn takes one writer 15 ms then, and waking a second one costs more than it brings.
            one_writer_max: 1024,
            blocked_max: Duration::from_secs(10),
            ping_after: Duration::from_secs(90),
            silence_max: Duration::from_secs(150),
            challenge_after: Duration::from_secs(3),
            transfers_per_client: 8,
            offers_per_client: 4,
            transfers_max: 1024,
            offer_lifetime: Duration::from_secs(75),
            digest_wait: Duration::from_secs(60),
            uploads: true,
            upload_max: 1 << 30,
            shelf_max: 10 << 30,
        }
    }
}

/// A request that asks for more than this server allows, where the protocol would allow it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Excess {
    pub(super) code: ErrorCode,
    pub(super) request: &'static str,
    pub(super) words: String,
}

impl Limits {
    /// How long a silent member that was asked whether it is there may take to answer.
    pub(super) fn answer_max(&self) -> Duration {
        self.silence_max.saturating_sub(self.ping_after)
    }

    /// What is too much about a request.
    pub(super) fn excess(&self, message: &ClientMessage) -> Option<Excess> {
        let (request, text) = match message {
            ClientMessage::All(text) => ("ALL", text),
            ClientMessage::Pm(_, text) => ("PM", text),
            ClientMessage::Hello { nick, .. } => return self.long_nick("HELLO", nick),
            ClientMessage::Nick(nick) => return self.long_nick("NICK", nick),
            _ => return None,
        };
        // As many octets are as many characters at most, and need not be counted.
        let is_long = text.len() > self.text_chars_max && text.chars().count() > self.text_chars_max;
        let words = || format!("a text may have {} characters at most", self.text_chars_max);
        is_long.then(|| Excess { code: ErrorCode::TooLong, request, words: words() })
    }

    fn long_nick(&self, request: &'static str, nick: &Nick) -> Option<Excess> {
        let is_long = nick.as_str().chars().count() > self.nick_chars_max;
        let words = || format!("a nickname may have {} characters at most", self.nick_chars_max);
        is_long.then(|| Excess { code: ErrorCode::BadNick, request, words: words() })
    }
}

/// How fast one member may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Lines taken at once from someone who was silent.
    pub burst: u32,
    /// From then on, one line in each of these.
    pub interval: Duration,
}

impl Default for Rate {
    fn default() -> Self {
        Self { burst: 20, interval: Duration::from_millis(200) }
    }
}

/// A token bucket, kept as the moment when it will be full again.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: Rate,
    full_at: Instant,
}

impl Bucket {
    /// A full bucket.
    pub(super) fn new(rate: Rate, now: Instant) -> Bucket {
        Bucket { rate, full_at: now }
    }

    /// Takes the token of one line, and tells how long to wait before that line is acted upon.
    pub(super) fn take(&mut self, now: Instant) -> Duration {
        self.full_at = self.full_at.max(now) + self.rate.interval;
        self.full_at.saturating_duration_since(now + self.rate.interval * self.rate.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_free_then_lines_are_spaced() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Rate::default(), start);
        let mut now = start;
        for line in 1..=20 {
            assert_eq!(bucket.take(now), Duration::ZERO, "line {line}");
        }
        for line in 21..=30 {
            let wait = bucket.take(now);
            assert_eq!(wait, Duration::from_millis(200), "line {line}");
            now += wait;
        }
        now += Duration::from_secs(4);
        for line in 1..=20 {
            assert_eq!(bucket.take(now), Duration::ZERO, "line {line} after four seconds of silence");
        }
        assert!(bucket.take(now) > Duration::ZERO);
    }
}
