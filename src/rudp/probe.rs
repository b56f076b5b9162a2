//! Probes: sealed packets that only ask whether they arrive, there and back. They belong to no connection.
//!
//! [`Echo`] is the server's end: it answers each number once, by a packet as long. [`Prober`] is the client's.

use std::time::{Duration, Instant};

use super::PACKET_LEN_IPV4;
use super::seal::{Keys, Role};
use crate::wire::message::{Secret, TransferId};
use crate::wire::packet::{HEADER_LEN, Header, Kind, TAG_LEN};

/// How many numbers are answered, from 0. Ours: enough to see a loss of some percent, and less than 400 kB.
pub const PROBES_MAX: u32 = 256;

/// How long they are answered. Ours: a client sends them within two seconds.
pub const PROBE_LIFE: Duration = Duration::from_secs(10);

/// The octets of the smallest probe.
pub const PROBE_LEN_MIN: usize = HEADER_LEN + TAG_LEN;

/// The server's end.
#[derive(Debug)]
pub struct Echo {
    client_keys: Keys,
    server_keys: Keys,
    /// The numbers that have come: none is answered twice, so that no nonce is used twice.
    seen: [bool; PROBES_MAX as usize],
    until: Instant,
}

impl Echo {
    /// One that answers until [`PROBE_LIFE`] has passed.
    pub fn new(secret: &Secret, now: Instant) -> Echo {
        Echo {
            client_keys: Keys::new(&secret.0, Role::Client),
            server_keys: Keys::new(&secret.0, Role::Server),
            seen: [false; PROBES_MAX as usize],
            until: now + PROBE_LIFE,
        }
    }

    /// Whether it still answers.
    pub fn is_alive(&self, now: Instant) -> bool {
        now < self.until
    }

    /// Makes a probe its own answer, in place; `false` for everything that gets none.
    pub fn answer(&mut self, now: Instant, datagram: &mut [u8]) -> bool {
        let Ok(Header { kind: Kind::Probe, number_low, .. }) = Header::parse(datagram) else { return false };
        let number = u64::from(number_low);
        if !self.is_alive(now)
            || datagram.len() > PACKET_LEN_IPV4
            || number_low >= PROBES_MAX
            || self.client_keys.open(number, datagram).is_none()
        {
            return false;
        }
        let seen = usize::try_from(number_low).ok().and_then(|at| self.seen.get_mut(at));
        if seen.is_none_or(|seen| std::mem::replace(seen, true)) {
            return false;
        }
        // Nobody has octets of theirs sent by us.
        let body_end = datagram.len() - TAG_LEN;
        datagram[HEADER_LEN..body_end].fill(0);
        self.server_keys.seal(number, datagram);
        true
    }
}

/// One probe as its sender knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// Its octets.
    pub len: usize,
    /// When it was sent.
    pub sent_at: Instant,
    /// The time to its answer, if that came.
    pub rtt: Option<Duration>,
}

/// The client's end.
#[derive(Debug)]
pub struct Prober {
    id: TransferId,
    client_keys: Keys,
    server_keys: Keys,
    probes: Vec<Probe>,
}

impl Prober {
    /// One for this promise of a server.
    pub fn new(id: TransferId, secret: &Secret) -> Prober {
        Prober {
            id,
            client_keys: Keys::new(&secret.0, Role::Client),
            server_keys: Keys::new(&secret.0, Role::Server),
            probes: Vec::new(),
        }
    }

    /// The next probe, of so many octets: at least [`PROBE_LEN_MIN`]. There are [`PROBES_MAX`] at most.
    pub fn probe(&mut self, now: Instant, len: usize) -> Vec<u8> {
        let number = u32::try_from(self.probes.len()).expect("few");
        let mut packet = vec![0; len];
        Header { kind: Kind::Probe, id: self.id, number_low: number }.emit(&mut packet);
        self.client_keys.seal(number.into(), &mut packet);
        self.probes.push(Probe { len, sent_at: now, rtt: None });
        packet
    }

    /// Notes an answer; whatever is none is ignored.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &mut [u8]) {
        let Ok(Header { kind: Kind::Probe, id, number_low }) = Header::parse(datagram) else { return };
        let probe = usize::try_from(number_low).ok().and_then(|at| self.probes.get_mut(at));
        let Some(probe) = probe.filter(|probe| id == self.id && probe.len == datagram.len()) else { return };
        if probe.rtt.is_none() && self.server_keys.open(number_low.into(), datagram).is_some() {
            probe.rtt = Some(now.saturating_duration_since(probe.sent_at));
        }
    }

    /// What was sent, and what came of it.
    pub fn probes(&self) -> &[Probe] {
        &self.probes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: TransferId = TransferId(7);

    fn secret() -> Secret {
        Secret([7; 32])
    }

    #[test]
    fn a_probe_is_answered_once_by_one_as_long() {
        let now = Instant::now();
        let (mut prober, mut echo) = (Prober::new(ID, &secret()), Echo::new(&secret(), now));
        for len in [PROBE_LEN_MIN, 200, PACKET_LEN_IPV4] {
            let probe = prober.probe(now, len);
            let mut answer = probe.clone();
            assert!(echo.answer(now, &mut answer) && answer.len() == len);
            assert!(!echo.answer(now, &mut probe.clone()), "the same number again");
            assert!(!echo.answer(now, &mut answer.clone()), "an answer is no probe");
            prober.handle_datagram(now, &mut probe.clone());
            assert_eq!(prober.probes().last().and_then(|probe| probe.rtt), None, "a probe is no answer");
            let later = now + Duration::from_millis(3);
            prober.handle_datagram(later, &mut answer);
            assert_eq!(prober.probes().last().and_then(|probe| probe.rtt), Some(Duration::from_millis(3)));
        }
    }

    #[test]
    fn nothing_else_is_answered() {
        let now = Instant::now();
        let mut echo = Echo::new(&secret(), now);
        let refused = |echo: &mut Echo, now, probe: &[u8]| !echo.answer(now, &mut probe.to_vec());
        let probe = Prober::new(ID, &secret()).probe(now, 100);
        for bit in 0..probe.len() * 8 {
            // The id is a matter of who finds the echo; the seal covers it all the same.
            let mut flipped = probe.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(refused(&mut echo, now, &flipped), "bit {bit}");
        }
        assert!(refused(&mut echo, now, &Prober::new(ID, &Secret([8; 32])).probe(now, 100)), "another key");
        assert!(
            refused(&mut echo, now, &Prober::new(ID, &secret()).probe(now, PACKET_LEN_IPV4 + 1)),
            "too long"
        );
        assert!(refused(&mut echo, now + PROBE_LIFE, &probe), "too late");
        for len in 0..PROBE_LEN_MIN {
            assert!(refused(&mut echo, now, &probe[..len]), "{len} octets");
        }
        let mut prober = Prober::new(ID, &secret());
        for number in 0..PROBES_MAX + 10 {
            let mut probe = prober.probe(now, 100);
            assert_eq!(echo.answer(now, &mut probe), number < PROBES_MAX, "number {number}");
        }
    }
}
