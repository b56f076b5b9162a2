//! The challenge: is the holder of a nick still there, when somebody at its address wants the nick back?
//!
//! The reader that listens to the holder and the hub that challenges it share one atomic byte. Two writes for each
//! `read` are all that it costs, and none of them waits.

use std::sync::atomic::{AtomicU8, Ordering};

/// The reader has bytes to work on, so its client has just spoken.
const BUSY: u8 = 0;
/// The reader waits for the client.
const LISTENING: u8 = 1;
/// So it did when the challenge was sent, and nothing has been heard since.
const CHALLENGED: u8 = 2;
/// The challenge was not answered: the session is over.
const DISPLACED: u8 = 3;

/// What one connection's reader knows of its client's life. It moves by these steps and no others:
///
/// ```text
/// Busy --listen--> Listening --challenge--> Challenged --displace--> Displaced
///  ^                   |                        |
///  +------hear---------+---------hear-----------+
/// ```
#[derive(Debug, Default)]
pub(super) struct Pulse(AtomicU8);

impl Pulse {
    /// The reader begins to wait for bytes.
    pub(super) fn listen(&self) {
        self.0.store(LISTENING, Ordering::Relaxed);
    }

    /// The reader has got bytes; `false` when they come too late.
    pub(super) fn hear(&self) -> bool {
        self.0.swap(BUSY, Ordering::Relaxed) != DISPLACED
    }

    /// Whether the reader waits for bytes.
    pub(super) fn is_listening(&self) -> bool {
        self.0.load(Ordering::Relaxed) == LISTENING
    }

    /// A challenge begins; `false` where one stands already, or where none is needed.
    pub(super) fn challenge(&self) -> bool {
        self.step(LISTENING, CHALLENGED)
    }

    /// Nothing was heard since the challenge, and now it is too late; `false` where something was.
    pub(super) fn displace(&self) -> bool {
        self.step(CHALLENGED, DISPLACED)
    }

    // One byte that publishes nothing else: every order of these steps is a right one.
    fn step(&self, from: u8, to: u8) -> bool {
        self.0.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_challenge_without_an_answer_displaces() {
        let pulse = Pulse::default();
        assert!(!pulse.challenge(), "whoever has just spoken is there");
        pulse.listen();
        assert!(!pulse.displace(), "nobody has asked");
        assert!(pulse.challenge() && !pulse.challenge(), "one at a time");
        assert!(pulse.hear() && !pulse.displace(), "answered");
        pulse.listen();
        assert!(pulse.challenge() && pulse.displace() && !pulse.hear(), "too late");
    }
}
