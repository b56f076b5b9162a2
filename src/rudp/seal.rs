//! Packet protection: every packet is sealed with AES-128-GCM under keys that the two ends of one transfer share.

use ring::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf;

use crate::wire::message::SECRET_LEN;
use crate::wire::packet::{HEADER_LEN, TAG_LEN};

/// A key serves this many packet numbers, then the next is derived: RFC 9001 (6.6) limits AES-GCM to 2^23 packets.
pub const NUMBERS_PER_KEY_LOG2: u32 = 22;

const KEY_LEN: usize = 16;

/// Who sealed a packet; each direction has keys of its own, so a packet can never be reflected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The end that opens the connection.
    Client,
    /// The end that made the offer.
    Server,
}

impl Role {
    /// The other end.
    pub fn peer(self) -> Role {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// The keys of one direction.
pub struct Keys {
    secret: hkdf::Prk,
    sealer: Role,
    current: Epoch,
    /// Packets of two epochs arrive mixed around a change of keys.
    previous: Option<Epoch>,
}

struct Epoch {
    index: u32,
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
}

struct OkmLen(usize);

impl hkdf::KeyType for OkmLen {
    fn len(&self) -> usize {
        self.0
    }
}

impl Epoch {
    /// HKDF-Expand (RFC 5869, 2.3; the secret is uniform, so nothing is to be extracted) with the info
    /// `packetboat 1 <c|s> <epoch, 4 octets>` gives 16 octets of key and 12 of IV.
    fn derive(secret: &hkdf::Prk, sealer: Role, index: u32) -> Epoch {
        let sealer: &[u8] = match sealer {
            Role::Client => b"c ",
            Role::Server => b"s ",
        };
        let mut okm = [0; KEY_LEN + NONCE_LEN];
        secret
            .expand(&[b"packetboat 1 ", sealer, &index.to_be_bytes()], OkmLen(okm.len()))
            .and_then(|expanded| expanded.fill(&mut okm))
            .expect("HKDF gives up to 8,160 octets");
        let (key, iv) = okm.split_first_chunk::<KEY_LEN>().expect("the key comes first");
        let key = UnboundKey::new(&AES_128_GCM, key).expect("16 octets are a key of AES-128");
        Epoch { index, key: LessSafeKey::new(key), iv: iv.try_into().expect("the IV is the rest") }
    }

    /// The IV with the packet number mixed into its last eight octets (RFC 9001, 5.3).
    fn nonce(&self, number: u64) -> Nonce {
        let mut nonce = self.iv;
        for (octet, mix) in nonce[NONCE_LEN - 8..].iter_mut().zip(number.to_be_bytes()) {
            *octet ^= mix;
        }
        Nonce::assume_unique_for_key(nonce)
    }
}

impl Keys {
    /// The keys under which `sealer` seals, from the secret of the offer.
    pub fn new(secret: &[u8; SECRET_LEN], sealer: Role) -> Keys {
        let secret = hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, secret);
        let current = Epoch::derive(&secret, sealer, 0);
        Keys { secret, sealer, current, previous: None }
    }

    /// Seals a packet in place: `packet` is header, body and room for the tag. `number` must never have been used.
    pub fn seal(&mut self, number: u64, packet: &mut [u8]) {
        let (header, sealed) = packet.split_at_mut(HEADER_LEN);
        let (body, tag) = sealed.split_at_mut(sealed.len() - TAG_LEN);
        let epoch = self.epoch(number).expect("numbers only grow");
        let computed = epoch
            .key
            .seal_in_place_separate_tag(epoch.nonce(number), Aad::from(&*header), body)
            .expect("a datagram is shorter than the limit of GCM");
        tag.copy_from_slice(computed.as_ref());
    }

    /// Opens a packet in place and gives its body; `None` when it was not sealed by the peer under this number.
    pub fn open<'a>(&mut self, number: u64, packet: &'a mut [u8]) -> Option<&'a [u8]> {
        if packet.len() < HEADER_LEN + TAG_LEN {
            return None;
        }
        let (header, sealed) = packet.split_at_mut(HEADER_LEN);
        let index = epoch_of(number);
        if index > self.current.index {
            // A forged number must not cost the keys in use: they change only once the new ones have opened a packet.
            let next = Epoch::derive(&self.secret, self.sealer, index);
            let body = next.key.open_in_place(next.nonce(number), Aad::from(&*header), sealed).ok()?;
            self.previous = Some(std::mem::replace(&mut self.current, next));
            return Some(body);
        }
        let epoch = self.epoch(number)?;
        epoch.key.open_in_place(epoch.nonce(number), Aad::from(&*header), sealed).ok().map(|body| &*body)
    }

    /// The epoch of a number of ours (any later one), or one of the two last of the peer's.
    fn epoch(&mut self, number: u64) -> Option<&Epoch> {
        let index = epoch_of(number);
        if index > self.current.index {
            let next = Epoch::derive(&self.secret, self.sealer, index);
            self.previous = Some(std::mem::replace(&mut self.current, next));
        }
        if index == self.current.index {
            Some(&self.current)
        } else {
            self.previous.as_ref().filter(|e| e.index == index)
        }
    }
}

fn epoch_of(number: u64) -> u32 {
    u32::try_from(number >> NUMBERS_PER_KEY_LOG2).unwrap_or(u32::MAX)
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("sealer", &self.sealer).field("epoch", &self.current.index).finish()
    }
}

/// The full number whose low 32 bits arrived, the one nearest to the next expected (RFC 9000, A.3).
pub fn reconstruct(number_low: u32, expected: u64) -> u64 {
    const WINDOW: u64 = 1 << 32;
    let candidate = (expected & !(WINDOW - 1)) | u64::from(number_low);
    if candidate + WINDOW / 2 <= expected {
        candidate + WINDOW
    } else if candidate > expected + WINDOW / 2 && candidate >= WINDOW {
        candidate - WINDOW
    } else {
        candidate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(len: usize) -> Vec<u8> {
        (0..len).map(|i| i.to_le_bytes()[0]).collect()
    }

    #[test]
    fn only_the_peer_opens_a_packet_and_only_unchanged() {
        let secret = [7; SECRET_LEN];
        let mut sealed = packet(100);
        Keys::new(&secret, Role::Client).seal(5, &mut sealed);
        let open = |secret: &[u8; SECRET_LEN], sealer, number, packet: &[u8]| {
            Keys::new(secret, sealer).open(number, &mut packet.to_vec()).map(<[u8]>::to_vec)
        };
        assert_eq!(open(&secret, Role::Client, 5, &sealed), Some(packet(100)[HEADER_LEN..84].to_vec()));
        assert_eq!(open(&secret, Role::Client, 6, &sealed), None, "another number");
        assert_eq!(open(&secret, Role::Server, 5, &sealed), None, "the other direction");
        assert_eq!(open(&[8; SECRET_LEN], Role::Client, 5, &sealed), None, "another secret");
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(&secret, Role::Client, 5, &flipped), None, "bit {bit} flipped");
        }
    }

    #[test]
    fn keys_change_every_four_million_numbers_and_packets_may_cross_the_change() {
        let secret = [7; SECRET_LEN];
        let (mut ours, mut theirs) = (Keys::new(&secret, Role::Server), Keys::new(&secret, Role::Server));
        let change = 1 << NUMBERS_PER_KEY_LOG2;
        let mut seal = |number| {
            let mut sealed = packet(60);
            ours.seal(number, &mut sealed);
            sealed
        };
        let (before, after, late) = (seal(change - 2), seal(change), seal(change - 1));
        assert!(theirs.open(change - 2, &mut before.clone()).is_some());
        assert!(theirs.open(9 * change, &mut after.clone()).is_none(), "a forged number changes no keys");
        assert!(theirs.open(change, &mut after.clone()).is_some());
        assert!(theirs.open(change - 1, &mut late.clone()).is_some());
    }

    #[test]
    fn numbers_are_reconstructed_around_the_expected_one() {
        for expected in [0u64, 1, 1 << 31, (1 << 32) - 1, 1 << 32, 10 << 32, (10 << 32) + 5] {
            for near in
                [expected.saturating_sub(1 << 30), expected.saturating_sub(1), expected, expected + (1 << 30)]
            {
                let low = u32::try_from(near & 0xffff_ffff).expect("32 bits");
                assert_eq!(reconstruct(low, expected), near, "{near} near {expected}");
            }
        }
    }
}
