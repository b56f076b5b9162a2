//! The packets we have sent: which are in flight, acknowledged, lost; and which numbers were never sent.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

use super::delivery::Snapshot;
use crate::wire::packet::{ACK_WORDS_MAX, Ack};

/// How many numbers may lie between the lowest tracked and the next: what the bitmap of one ACK covers, less the two
/// words that alignment can waste.
pub const TRACKED_MAX: u64 = (ACK_WORDS_MAX as u64 - 2) * 64;

/// How many numbers the books hold at most: ours. ACKs are booked as well, behind a packet that the peer may never
/// acknowledge; one that acknowledges nothing for so long gets no more of them.
pub const BOOKED_MAX: u64 = TRACKED_MAX * 3 / 2;

/// Ours: the books double up to [`TRACKED_MAX`], and beyond that grow by so many packets at a time: I3 bounds them.
const BOOKS_STEP: usize = 512;

/// What a packet carried, as far as it matters when it is acknowledged or lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carried {
    /// Octets of the file.
    Data {
        /// Where they begin.
        offset: u64,
        /// How many.
        len: u16,
    },
    /// Octets of the file that a later packet, a probe, carries too: when this one is lost nothing is queued, for the
    /// probe's own loss would be.
    Copied {
        /// Where they begin.
        offset: u64,
        /// How many.
        len: u16,
    },
    /// The end of our data.
    Fin,
    /// A question whether the peer is there.
    Ping,
    /// Nothing that wants an ACK.
    Nothing,
}

impl Carried {
    /// These octets of the file, as many as a packet holds.
    pub fn data(octets: &Range<u64>) -> Carried {
        let len = u16::try_from(octets.end - octets.start).expect("shorter than a datagram");
        Carried::Data { offset: octets.start, len }
    }

    /// Its octets of the file, when it has any.
    pub fn octets(self) -> Option<Range<u64>> {
        match self {
            Self::Data { offset, len } | Self::Copied { offset, len } => {
                Some(offset..offset + u64::from(len))
            }
            Self::Fin | Self::Ping | Self::Nothing => None,
        }
    }
}

/// A packet in the books.
#[derive(Debug, Clone)]
pub struct SentPacket {
    /// What it carried.
    pub carried: Carried,
    /// Its UDP payload in octets.
    pub len: usize,
    /// When it was sent.
    pub sent_at: Instant,
    /// What had been delivered then; only for what wants an ACK.
    pub snapshot: Option<Snapshot>,
}

/// 64 numbers: a bit each.
#[derive(Debug, Clone, Copy, Default)]
struct Word {
    /// Was sent, not skipped.
    sent: u64,
    /// Is in flight.
    in_flight: u64,
    /// Was declared lost a short while ago; a late ACK shows that it was only late.
    lost: u64,
}

/// What an ACK brought to light.
#[derive(Debug, Default)]
pub struct AckOutcome {
    /// Octets (of packets) that left the network: newly acknowledged ones that were in flight.
    pub acked_bytes: u64,
    /// When the newest packet that is acknowledged for the first time was sent.
    pub newest_sent_at: Option<Instant>,
    /// Whether that packet is the largest the ACK names: only then does its time make an RTT sample (RFC 9002, 5.1).
    pub is_largest_new: bool,
    /// Packets declared lost that had arrived after all.
    pub spurious: u32,
}

/// The peer acknowledged a number that was never sent: it acknowledges what it has not received.
#[derive(Debug, PartialEq, Eq)]
pub struct OptimisticAck;

/// Every packet from the lowest still of interest to the newest.
#[derive(Debug, Default)]
pub struct SentPackets {
    /// The number of the first one kept; a multiple of 64.
    base: u64,
    packets: VecDeque<SentPacket>,
    words: VecDeque<Word>,
    bytes_in_flight: u64,
    in_flight: u64,
    largest_acked: Option<u64>,
}

impl SentPackets {
    /// The number of the next packet.
    pub fn next_number(&self) -> u64 {
        self.base + self.packets.len() as u64
    }

    /// Octets of memory that the books hold.
    pub(super) fn memory_len(&self) -> usize {
        self.packets.capacity() * size_of::<SentPacket>() + self.words.capacity() * size_of::<Word>()
    }

    /// Octets of packets in flight.
    pub fn bytes_in_flight(&self) -> u64 {
        self.bytes_in_flight
    }

    /// How many packets are in flight.
    pub fn packets_in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Whether a packet in flight wants an ACK.
    pub fn is_any_in_flight(&self) -> bool {
        self.in_flight > 0
    }

    /// The lowest number whose acknowledgement still matters; the next number when there is none.
    pub fn lowest_tracked(&self) -> u64 {
        let open = self.words.iter().position(|word| word.in_flight | word.lost != 0);
        open.map_or(self.next_number(), |i| {
            let word = self.words[i];
            self.base + 64 * i as u64 + u64::from((word.in_flight | word.lost).trailing_zeros())
        })
    }

    /// Whether another packet can be tracked.
    pub fn has_room(&self) -> bool {
        self.next_number() - self.lowest_tracked() < TRACKED_MAX
    }

    /// Whether an ACK, which wants none itself, can be booked.
    pub fn has_room_for_ack(&self) -> bool {
        (self.packets.len() as u64) < BOOKED_MAX
    }

    /// Whether another packet can be tracked, if need be instead of lost ones: that they were only late is good to know,
    /// but no ACK and no timer need come to make room for what has to be sent.
    pub fn make_room(&mut self) -> bool {
        while !self.has_room() {
            let Some(word) = self.words.iter_mut().find(|word| word.in_flight | word.lost != 0) else {
                break;
            };
            let oldest = (word.in_flight | word.lost) & (word.in_flight | word.lost).wrapping_neg();
            if word.in_flight & oldest != 0 {
                return false;
            }
            word.lost ^= oldest;
        }
        true
    }

    /// Books a packet that wants no ACK, and gives its number.
    pub fn push_unacked(&mut self, len: usize, now: Instant) -> u64 {
        self.push(SentPacket { carried: Carried::Nothing, len, sent_at: now, snapshot: None })
    }

    /// Books a packet and gives its number.
    pub fn push(&mut self, packet: SentPacket) -> u64 {
        let (in_flight, len) = (packet.carried != Carried::Nothing, packet.len);
        let number = self.push_number(packet);
        let word = self.words.back_mut().expect("push_number has seen to it");
        word.sent |= 1 << (number % 64);
        if in_flight {
            word.in_flight |= 1 << (number % 64);
            self.in_flight += 1;
            self.bytes_in_flight += len as u64;
        }
        number
    }

    /// Leaves the next number out for ever: whoever acknowledges it has not looked.
    pub fn skip(&mut self, now: Instant) {
        self.push_number(SentPacket { carried: Carried::Nothing, len: 0, sent_at: now, snapshot: None });
    }

    fn push_number(&mut self, packet: SentPacket) -> u64 {
        let number = self.next_number();
        if number.is_multiple_of(64) {
            self.retire();
            self.words.push_back(Word::default());
        }
        if self.packets.len() == self.packets.capacity() {
            let len = self.packets.len();
            self.packets.reserve_exact(if (len as u64) < TRACKED_MAX { len.max(64) } else { BOOKS_STEP });
        }
        self.packets.push_back(packet);
        number
    }

    /// Forgets the oldest words that are of no more interest.
    fn retire(&mut self) {
        while self.words.front().is_some_and(|word| word.in_flight | word.lost == 0) {
            self.words.pop_front();
            self.packets.drain(..64);
            self.base += 64;
        }
    }

    /// When a packet was sent, while it is in the books.
    pub fn sent_at(&self, number: u64) -> Option<Instant> {
        let index = usize::try_from(number.checked_sub(self.base)?).ok()?;
        self.packets.get(index).map(|packet| packet.sent_at)
    }

    /// Books an ACK and tells `on_acked` of each newly acknowledged packet, and whether it had counted as lost.
    pub fn on_ack(
        &mut self,
        ack: &Ack<'_>,
        mut on_acked: impl FnMut(u64, &SentPacket, bool),
    ) -> Result<AckOutcome, OptimisticAck> {
        let largest = ack.largest();
        let mut outcome = AckOutcome::default();
        for (word_base, bits) in ack.words() {
            // What was forgotten was acknowledged before, or given up.
            let Some(distance) = word_base.checked_sub(self.base) else { continue };
            let index = usize::try_from(distance / 64).unwrap_or(usize::MAX);
            let Some(word) = self.words.get_mut(index) else {
                if bits == 0 {
                    continue;
                }
                return Err(OptimisticAck);
            };
            if bits & !word.sent != 0 {
                return Err(OptimisticAck);
            }
            let mut news = bits & (word.in_flight | word.lost);
            while news != 0 {
                let bit = news & news.wrapping_neg();
                news ^= bit;
                let packet = &self.packets[index * 64 + bit.trailing_zeros() as usize];
                if word.lost & bit != 0 {
                    outcome.spurious += 1;
                } else {
                    outcome.acked_bytes += packet.len as u64;
                    self.in_flight -= 1;
                }
                outcome.newest_sent_at = Some(packet.sent_at);
                let number = word_base + u64::from(bit.trailing_zeros());
                outcome.is_largest_new = number == largest;
                on_acked(number, packet, word.lost & bit != 0);
            }
            word.in_flight &= !bits;
            word.lost &= !bits;
        }
        self.bytes_in_flight -= outcome.acked_bytes;
        self.largest_acked = self.largest_acked.max(Some(largest));
        Ok(outcome)
    }

    /// Declares lost what was overtaken by `packet_threshold` numbers or sent `loss_delay` before something that has
    /// arrived (RFC 9002, 6.1), and tells `on_lost` of each. Gives the time at which the next one will count as lost.
    pub fn detect_lost(
        &mut self,
        now: Instant,
        packet_threshold: u64,
        loss_delay: Duration,
        mut on_lost: impl FnMut(u64, &SentPacket),
    ) -> Option<Instant> {
        let largest = self.largest_acked?;
        for (i, word) in self.words.iter_mut().enumerate() {
            while word.in_flight != 0 {
                let bit = word.in_flight & word.in_flight.wrapping_neg();
                let index = i * 64 + bit.trailing_zeros() as usize;
                let number = self.base + index as u64;
                if number > largest {
                    return None;
                }
                let packet = &self.packets[index];
                if largest - number < packet_threshold && packet.sent_at + loss_delay > now {
                    return Some(packet.sent_at + loss_delay);
                }
                word.in_flight ^= bit;
                word.lost |= bit;
                self.in_flight -= 1;
                self.bytes_in_flight -= packet.len as u64;
                on_lost(number, packet);
            }
        }
        None
    }

    /// Declares lost all that is in flight, and tells `on_lost` of each.
    pub fn lose_all(&mut self, mut on_lost: impl FnMut(u64, &SentPacket)) {
        for (i, word) in self.words.iter_mut().enumerate() {
            let mut bits = word.in_flight;
            while bits != 0 {
                let index = i * 64 + bits.trailing_zeros() as usize;
                on_lost(self.base + index as u64, &self.packets[index]);
                bits &= bits - 1;
            }
            word.lost |= std::mem::take(&mut word.in_flight);
        }
        (self.in_flight, self.bytes_in_flight) = (0, 0);
    }

    /// Nothing that was sent matters any more.
    pub fn settle(&mut self) {
        self.words.iter_mut().for_each(|word| (word.in_flight, word.lost) = (0, 0));
        (self.in_flight, self.bytes_in_flight) = (0, 0);
    }

    /// Nothing that was sent matters any more, not even what: only numbers that were never used may follow.
    pub fn give_back(&mut self) {
        *self = SentPackets { base: self.next_number().next_multiple_of(64), ..SentPackets::default() };
    }

    /// Stops tracking lost packets that were sent before `then`.
    pub fn forget_lost(&mut self, then: Instant) {
        for (i, word) in self.words.iter_mut().enumerate() {
            while word.lost != 0 {
                let bit = word.lost & word.lost.wrapping_neg();
                if self.packets[i * 64 + bit.trailing_zeros() as usize].sent_at > then {
                    return;
                }
                word.lost ^= bit;
            }
        }
    }

    /// The octets of the oldest data in flight that no later packet carries; from now on the caller's copy does.
    pub fn copy_oldest_data(&mut self, payload_max: usize) -> Option<Range<u64>> {
        for (i, word) in self.words.iter().enumerate() {
            let mut bits = word.in_flight;
            while bits != 0 {
                let index = i * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                let packet = &mut self.packets[index];
                // A larger one, from before the packet size shrank, has to wait until it counts as lost.
                if let Carried::Data { offset, len } = packet.carried
                    && usize::from(len) <= payload_max
                {
                    packet.carried = Carried::Copied { offset, len };
                    return packet.carried.octets();
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
