//! The sender's view of the file: what was sent, what arrived, what has to be sent again, how far the peer lets us go.

use std::ops::Range;

use super::ranges::RangeSet;

/// Ours (S31): the smallest packet that is worth its header; a peer that grants less at a time is made to wait.
pub const PAYLOAD_LEN_MIN: u64 = 64;

/// Which octets of the file to send next. The file itself is the retransmission store; this knows only offsets.
#[derive(Debug)]
pub struct SendWindow {
    size: u64,
    snd_nxt: u64,
    credit: u64,
    acked: RangeSet,
    lost: RangeSet,
}

impl SendWindow {
    /// For a file of `size` octets. The peer has those before `start`, and has granted none of the rest.
    pub fn new(start: u64, size: u64) -> SendWindow {
        let mut acked = RangeSet::default();
        acked.insert(0..start);
        SendWindow { size, snd_nxt: start, credit: 0, acked, lost: RangeSet::default() }
    }

    /// The lowest octet that is not acknowledged (RFC 9293, 3.3.1).
    pub fn snd_una(&self) -> u64 {
        self.acked.prefix()
    }

    /// Octets that the peer has, in order or not.
    pub fn acked_bytes(&self) -> u64 {
        self.acked.len()
    }

    /// Octets of memory that it holds.
    pub(super) fn memory_len(&self) -> usize {
        self.acked.memory_len() + self.lost.memory_len()
    }

    /// Whether the peer has everything.
    pub fn is_delivered(&self) -> bool {
        self.acked.len() == self.size
    }

    /// The file's size in octets.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The peer lets us send up to this offset; it never takes a grant back.
    pub fn on_credit(&mut self, credit: u64) {
        self.credit = self.credit.max(credit);
    }

    /// What to send next: the lowest lost octets, else new ones as far as the credit reaches.
    ///
    /// A part of a packet is sent only at the end of the file, or when nothing is in flight (`idle`) that could bring
    /// more credit (sender's silly window avoidance, RFC 9293, 3.8.6.2.1).
    pub fn next(&self, payload_max: u64, idle: bool) -> Option<Range<u64>> {
        if let Some(lost) = self.lost.first() {
            return Some(lost.start..lost.end.min(lost.start + payload_max));
        }
        let end = self.size.min(self.credit).min(self.snd_nxt + payload_max);
        let len = end.checked_sub(self.snd_nxt).filter(|&len| len > 0)?;
        let worth_it = len == payload_max || end == self.size || (idle && len >= PAYLOAD_LEN_MIN);
        worth_it.then_some(self.snd_nxt..end)
    }

    /// These octets, as [`next`](Self::next) gave them, are on their way; tells whether they had been before.
    pub fn on_sent(&mut self, range: &Range<u64>) -> bool {
        if range.start == self.snd_nxt {
            self.snd_nxt = range.end;
            return false;
        }
        self.lost.remove(range.clone());
        true
    }

    /// The peer has these octets; tells how many of them it had not acknowledged before.
    pub fn on_acked(&mut self, range: &Range<u64>) -> u64 {
        self.lost.remove(range.clone());
        self.acked.insert(range.clone())
    }

    /// Everything that is not acknowledged without a gap before it was thrown away by the receiver: go-back-N.
    pub fn go_back(&mut self) {
        self.lost.insert(self.snd_una()..self.snd_nxt);
    }

    /// The packet with these octets is lost: what no other packet has brought is sent again.
    pub fn on_lost(&mut self, range: &Range<u64>) {
        for gap in self.acked.gaps(range.clone()) {
            self.lost.insert(gap);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_octets_come_first_and_acknowledged_ones_never_again() {
        let mut window = SendWindow::new(0, 1_000);
        window.on_credit(1_000);
        for start in [0, 300, 600] {
            assert_eq!(window.next(300, false), Some(start..start + 300));
            assert!(!window.on_sent(&(start..start + 300)));
        }
        assert_eq!(window.on_acked(&(0..300)), 300);
        assert_eq!(window.on_acked(&(100..400)), 100, "only the new ones count");
        window.on_lost(&(300..600));
        assert_eq!(window.next(150, false), Some(400..550), "in the size of now");
        assert!(window.on_sent(&(400..550)));
        assert_eq!(window.next(300, false), Some(550..600));
        assert_eq!(window.on_acked(&(550..600)), 50, "it was only late");
        assert_eq!(window.next(300, false), Some(900..1_000));
        assert_eq!((window.snd_una(), window.acked_bytes()), (400, 450));
    }

    #[test]
    fn credit_bounds_new_octets_and_small_grants_wait() {
        let mut window = SendWindow::new(0, 1_000);
        assert_eq!(window.next(300, true), None);
        window.on_credit(100);
        assert_eq!(window.next(300, false), None, "something in flight will bring more credit");
        assert_eq!(window.next(300, true), Some(0..100));
        window.on_sent(&(0..100));
        window.on_credit(101);
        assert_eq!(window.next(300, true), None, "one octet at a time is not worth a packet");
        window.on_credit(50);
        window.on_credit(2_000);
        assert_eq!(window.next(300, false), Some(100..400));
        window.on_lost(&(0..100));
        assert_eq!(window.next(300, false), Some(0..100), "what is lost was granted before");
    }

    #[test]
    fn an_empty_file_is_delivered_from_the_start() {
        assert!(SendWindow::new(0, 0).is_delivered());
        assert_eq!(SendWindow::new(0, 0).next(300, true), None);
    }
}
