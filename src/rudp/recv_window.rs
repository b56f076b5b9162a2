//! The receiver's books: which packet numbers came (to acknowledge, to refuse replays), which octets of the file are here.

use std::collections::VecDeque;
use std::ops::Range;

use super::ranges::RangeSet;
use crate::wire::packet::ACK_WORDS_MAX;

/// How many numbers back a packet may be: the next power of two above five windows of
/// [`TRACKED_MAX`](super::sent::TRACKED_MAX); what is older is dropped.
pub const REPLAY_WINDOW: u64 = 65_536;

/// The packet numbers that were kept. One bitmap serves the ACKs and the refusal of replays.
#[derive(Debug, Default)]
pub struct RecvNumbers {
    /// The number of the first bit; a multiple of 64.
    base: u64,
    words: VecDeque<u64>,
    largest: Option<u64>,
    /// Below this the sender wants to know nothing.
    lowest_tracked: u64,
}

impl RecvNumbers {
    /// The number expected next.
    pub fn expected(&self) -> u64 {
        self.largest.map_or(0, |largest| largest + 1)
    }

    /// Octets of memory that they hold.
    pub(super) fn memory_len(&self) -> usize {
        self.words.capacity() * size_of::<u64>()
    }

    /// Whether a packet of this number can be a new one: not seen, and not too old to tell.
    pub fn is_new(&self, number: u64) -> bool {
        let Some(distance) = number.checked_sub(self.base) else { return false };
        let word = usize::try_from(distance / 64).ok().and_then(|i| self.words.get(i));
        word.is_none_or(|word| word & (1 << (number % 64)) == 0)
    }

    /// Notes a number that [is new](Self::is_new); tells whether it is the largest so far.
    pub fn insert(&mut self, number: u64) -> bool {
        debug_assert!(self.is_new(number));
        if number >= self.base + 2 * REPLAY_WINDOW {
            self.words.clear();
        }
        if self.words.is_empty() {
            self.base = self.base.max((number & !63).saturating_sub(REPLAY_WINDOW));
        }
        while number >= self.base + 64 * self.words.len() as u64 {
            self.words.push_back(0);
            if self.words.len() as u64 * 64 > REPLAY_WINDOW {
                self.words.pop_front();
                self.base += 64;
            }
        }
        let index = usize::try_from((number - self.base) / 64).expect("within the window");
        self.words[index] |= 1 << (number % 64);
        let newest = self.largest.is_none_or(|largest| number > largest);
        if newest {
            self.largest = Some(number);
        }
        newest
    }

    /// The sender no longer tracks what lies below `number`; it never takes that back.
    pub fn on_lowest_tracked(&mut self, number: u64) {
        self.lowest_tracked = self.lowest_tracked.max(number);
    }

    /// The bitmap for an ACK, from the word of the lowest tracked number to that of the largest: the index of the first
    /// word, and the words. `None` when nothing came.
    pub fn ack_words(&self) -> Option<(u32, impl ExactSizeIterator<Item = u64> + '_)> {
        let last = usize::try_from((self.largest?.checked_sub(self.base)?) / 64).ok()?;
        let lowest = self.lowest_tracked.clamp(self.base, self.largest?);
        let first = usize::try_from((lowest - self.base) / 64).ok()?;
        // A peer may jump ahead to numbers that no ACK can name.
        u32::try_from(self.base / 64 + last as u64).ok()?;
        let first_word = u32::try_from(self.base / 64 + first as u64).ok()?;
        Some((first_word, self.words.range(first..=last).copied()))
    }
}

/// Ours: what came may lie in so many pieces, as many as an honest sender tracks packets at once
/// ([`TRACKED_MAX`](super::sent::TRACKED_MAX)). One that leaves a gap behind each octet would fill the memory with them.
const RANGES_MAX: usize = (ACK_WORDS_MAX - 2) * 64;

/// The octets of the file that have come.
#[derive(Debug)]
pub struct RecvWindow {
    size: u64,
    window_bytes: u64,
    /// The credit that a larger window has given.
    promised: u64,
    /// A person has not agreed to more yet.
    granted: u64,
    kept: RangeSet,
}

impl RecvWindow {
    /// For the octets `wanted` of a file that ends with them; those before are here. The sender may be `window_bytes`
    /// ahead of the first gap, and never beyond `granted`.
    pub fn new(wanted: Range<u64>, window_bytes: u64, granted: u64) -> RecvWindow {
        let mut kept = RangeSet::default();
        kept.insert(0..wanted.start);
        RecvWindow { size: wanted.end, window_bytes, promised: 0, granted, kept }
    }

    /// From now on the sender may be so far ahead of the first gap; the credit it has is not taken back.
    pub fn set_window(&mut self, window_bytes: u64) {
        self.promised = self.credit();
        self.window_bytes = window_bytes;
    }

    /// The sender may go on to this offset.
    pub fn grant(&mut self, granted: u64) {
        self.granted = self.granted.max(granted);
    }

    /// The lowest octet that has not come (RFC 9293, 3.3.1).
    pub fn rcv_nxt(&self) -> u64 {
        self.kept.prefix()
    }

    /// The offset up to which the sender may send.
    pub fn credit(&self) -> u64 {
        let ahead = self.rcv_nxt().saturating_add(self.window_bytes);
        self.size.min(self.granted).min(ahead).max(self.promised)
    }

    /// Octets that are here, in order or not.
    pub fn kept_bytes(&self) -> u64 {
        self.kept.len()
    }

    /// Octets of memory that it holds.
    pub(super) fn memory_len(&self) -> usize {
        self.kept.memory_len()
    }

    /// Whether the whole file is here.
    pub fn is_complete(&self) -> bool {
        self.kept.len() == self.size
    }

    /// The file's size in octets.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether the sender was allowed to send these octets. Such as leave no gap always are, within the credit; others
    /// only while there are not too many gaps.
    pub fn allows(&self, range: &Range<u64>) -> bool {
        range.end <= self.credit() && (range.start <= self.rcv_nxt() || self.kept.ranges() < RANGES_MAX)
    }

    /// The first part of these octets that is still missing.
    pub fn first_gap(&self, range: Range<u64>) -> Option<Range<u64>> {
        self.kept.gaps(range).next()
    }

    /// These octets are here now.
    pub fn keep(&mut self, range: Range<u64>) {
        self.kept.insert(range);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn acked(numbers: &RecvNumbers) -> BTreeSet<u64> {
        let Some((first, words)) = numbers.ack_words() else { return BTreeSet::new() };
        words
            .enumerate()
            .flat_map(|(i, word)| {
                let base = (u64::from(first) + i as u64) * 64;
                (0..64).filter(move |bit| word & (1 << bit) != 0).map(move |bit| base + bit)
            })
            .collect()
    }

    #[test]
    fn a_number_is_new_once_and_never_when_it_is_too_old() {
        let mut numbers = RecvNumbers::default();
        assert!(numbers.insert(100));
        assert!(!numbers.insert(3));
        assert!(!numbers.is_new(100) && !numbers.is_new(3) && numbers.is_new(4));
        numbers.insert(100 + REPLAY_WINDOW);
        assert!(!numbers.is_new(4), "too old to tell");
        assert!(numbers.is_new(101 + 64));
        numbers.insert(1 << 40);
        assert!(!numbers.is_new(100 + REPLAY_WINDOW) && numbers.is_new((1 << 40) - 1));
        assert!(numbers.words.len() as u64 * 64 <= REPLAY_WINDOW + 64);
    }

    proptest! {
        #[test]
        fn an_ack_names_what_came_and_is_tracked(order in prop::collection::vec(0u64..2_000, 1..200), lowest in 0u64..2_000) {
            let (mut numbers, mut model) = (RecvNumbers::default(), BTreeSet::new());
            for number in order {
                prop_assert_eq!(numbers.is_new(number), model.insert(number));
                if numbers.is_new(number) {
                    numbers.insert(number);
                }
            }
            numbers.on_lowest_tracked(lowest);
            let largest = *model.last().expect("at least one");
            let named = acked(&numbers);
            prop_assert!(named.is_subset(&model));
            prop_assert!(model.range(lowest.min(largest)..).all(|number| named.contains(number)));
        }
    }

    #[test]
    fn an_ack_names_no_number_beyond_its_first_word() {
        let mut numbers = RecvNumbers::default();
        let words_end = 64 << 32;
        numbers.insert(words_end - 64);
        assert!(numbers.ack_words().is_some());
        numbers.insert(words_end);
        numbers.on_lowest_tracked(words_end - 64 * 500);
        assert!(numbers.ack_words().is_none());
    }

    #[test]
    fn credit_runs_ahead_of_the_first_gap_and_ends_with_the_file() {
        let mut window = RecvWindow::new(0..1_000, 300, u64::MAX);
        assert_eq!(window.credit(), 300);
        window.keep(100..200);
        assert_eq!(window.credit(), 300);
        assert!(!window.allows(&(250..301)));
        window.keep(0..100);
        assert_eq!((window.rcv_nxt(), window.credit()), (200, 500));
        window.keep(200..900);
        assert_eq!(window.credit(), 1_000);
    }

    #[test]
    fn gaps_without_number_are_not_kept() {
        let mut window = RecvWindow::new(0..1 << 20, 1 << 20, u64::MAX);
        let mut scattered = (1..).map(|i| 2 * i..2 * i + 1);
        assert_eq!(
            scattered
                .by_ref()
                .take_while(|range| {
                    let allowed = window.allows(range);
                    if allowed {
                        window.keep(range.clone())
                    }
                    allowed
                })
                .count(),
            RANGES_MAX
        );
        assert!(window.allows(&(0..2)), "what fills the first gap is");
        window.keep(0..2);
        assert!(window.allows(&(3..4)));
    }

    #[test]
    fn nothing_is_granted_beyond_what_a_person_agreed_to() {
        let mut window = RecvWindow::new(0..1_000, 300, 400);
        window.keep(0..300);
        assert_eq!(window.credit(), 400);
        window.grant(u64::MAX);
        window.grant(10);
        assert_eq!(window.credit(), 600);
    }
}
