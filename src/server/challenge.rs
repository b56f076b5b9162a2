//! The challenge: is the holder of a nick still there, when somebody at its address wants the nick back?
//!
//! The reader that listens to the holder and the hub that challenges it share one atomic byte. Two writes for each
//! `read` are all that it costs, and none of them waits.

use std::sync::atomic::Ordering;

use super::machine::AtomicU8;

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

    /// What a reader and two challengers do, one step after another.
    const READER: [fn(&Pulse) -> bool; 5] = [listen, Pulse::hear, listen, Pulse::hear, listen];
    const CHALLENGER: [fn(&Pulse) -> bool; 2] = [Pulse::challenge, Pulse::displace];

    fn listen(pulse: &Pulse) -> bool {
        pulse.listen();
        true
    }

    /// Every step is one atomic operation, so that these are all orders there can be.
    fn every_order(steps: [usize; 3], order: &mut Vec<usize>, check: &mut impl FnMut(&[usize])) {
        if steps == [0; 3] {
            return check(order);
        }
        for who in (0..3).filter(|&who| steps[who] > 0) {
            let mut left = steps;
            left[who] -= 1;
            order.push(who);
            every_order(left, order, check);
            order.pop();
        }
    }

    #[test]
    fn c1_in_no_order_is_a_client_displaced_that_has_answered() {
        let (mut orders, mut displacements) = (0, 0);
        every_order([READER.len(), 2, 2], &mut Vec::new(), &mut |order| {
            let pulse = Pulse::default();
            let (mut at, mut challenged_at, mut displaced_at) = ([0; 3], None, None);
            for (step, &who) in order.iter().enumerate() {
                // A reader that was told of its end does nothing more.
                if who == 0 && displaced_at.is_some() && at[0] % 2 == 1 {
                    assert!(!Pulse::hear(&pulse), "{order:?}: displaced, and heard all the same");
                    break;
                }
                let act = if who == 0 { READER[at[0]] } else { CHALLENGER[at[who]] };
                at[who] += 1;
                match (who, act(&pulse), at[who]) {
                    (0, heard, _) => {
                        assert!(heard, "{order:?}: too late although nobody has displaced it");
                        // What it heard answers the challenge.
                        challenged_at = challenged_at.filter(|_| at[0] % 2 == 1);
                    }
                    (_, true, 1) => {
                        assert_eq!(challenged_at.replace(step), None, "{order:?}: two challenges at once");
                    }
                    (_, true, _) => {
                        assert!(challenged_at.is_some(), "{order:?}: displaced unasked");
                        assert_eq!(displaced_at.replace(step), None, "{order:?}: displaced twice");
                        displacements += 1;
                    }
                    _ => {}
                }
            }
            orders += 1;
        });
        // 9! / (5! 2! 2!)
        assert_eq!(orders, 756);
        assert!(displacements > 0);
    }
}
