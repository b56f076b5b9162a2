//! Sets of octets of a file, kept as disjoint ranges.

use std::collections::BTreeMap;
use std::ops::Range;

/// Two offsets of 8 octets, in a tree whose nodes have room for eleven ranges, hold five at least, and know one another.
const RANGE_MEMORY_LEN: usize = 48;

/// A set of file offsets. Neighbouring ranges are joined, so a file that arrives in order is one range.
#[derive(Debug, Default, Clone)]
pub struct RangeSet {
    /// Start to end; disjoint, not touching, not empty.
    ranges: BTreeMap<u64, u64>,
    len: u64,
}

impl RangeSet {
    /// How many offsets are in the set.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many disjoint ranges it takes.
    pub fn ranges(&self) -> usize {
        self.ranges.len()
    }

    /// How many offsets from 0 on are in the set without a gap.
    pub fn prefix(&self) -> u64 {
        self.ranges.first_key_value().map_or(0, |(&start, &end)| if start == 0 { end } else { 0 })
    }

    /// The lowest range.
    pub fn first(&self) -> Option<Range<u64>> {
        self.ranges.first_key_value().map(|(&start, &end)| start..end)
    }

    /// Octets of memory that the set holds, by the most that it can be.
    pub fn memory_len(&self) -> usize {
        self.ranges.len() * RANGE_MEMORY_LEN
    }

    /// Adds a range; tells how many offsets were new. O(log n), amortised.
    pub fn insert(&mut self, range: Range<u64>) -> u64 {
        if range.is_empty() {
            return 0;
        }
        // The common case: what arrives continues the last range, and nothing lies beyond it.
        if let Some(mut last) = self.ranges.last_entry()
            && (*last.key()..=*last.get()).contains(&range.start)
        {
            let added = range.end.saturating_sub(*last.get());
            *last.get_mut() += added;
            self.len += added;
            return added;
        }
        let len_before = self.len;
        let (mut start, mut end) = (range.start, range.end);
        while let Some((&old_start, &old_end)) = self.ranges.range(..=end).next_back() {
            if old_end < start {
                break;
            }
            start = start.min(old_start);
            end = end.max(old_end);
            self.len -= old_end - old_start;
            self.ranges.remove(&old_start);
        }
        self.ranges.insert(start, end);
        self.len += end - start;
        self.len - len_before
    }

    /// Takes a range out; tells how many of its offsets were in the set.
    pub fn remove(&mut self, range: Range<u64>) -> u64 {
        let len_before = self.len;
        while let Some((&start, &end)) = self.ranges.range(..range.end).next_back() {
            if end <= range.start || range.is_empty() {
                break;
            }
            self.ranges.remove(&start);
            self.len -= end - start;
            for rest in [start..range.start, range.end..end] {
                if !rest.is_empty() {
                    self.ranges.insert(rest.start, rest.end);
                    self.len += rest.end - rest.start;
                }
            }
            if start < range.start {
                break;
            }
        }
        len_before - self.len
    }

    /// The parts of `range` that are not in the set, in order.
    pub fn gaps(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
        // The common case: what is asked for lies beyond all that is here, and nothing has to be searched.
        let is_beyond = self.ranges.last_key_value().is_none_or(|(_, &end)| end <= range.start);
        let before = if is_beyond { None } else { self.ranges.range(..range.start).next_back() };
        let mut inside =
            (!is_beyond).then(|| self.ranges.range(range.start..range.end)).into_iter().flatten();
        let mut from = before.map_or(range.start, |(_, &end)| end.max(range.start));
        std::iter::from_fn(move || {
            while from < range.end {
                let (start, end) =
                    inside.next().map_or((range.end, range.end), |(&start, &end)| (start, end));
                let gap = from..start;
                from = end;
                if !gap.is_empty() {
                    return Some(gap);
                }
            }
            None
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn behaves_like_a_set_of_numbers(steps in prop::collection::vec((any::<bool>(), 0u64..60, 0u64..20), 1..60)) {
            let (mut set, mut model) = (RangeSet::default(), BTreeSet::new());
            for (insert, start, len) in steps {
                let range = start..start + len;
                let missing: Vec<u64> = range.clone().filter(|x| !model.contains(x)).collect();
                let gaps: Vec<u64> = set.gaps(range.clone()).flatten().collect();
                prop_assert_eq!(&gaps, &missing);
                if insert {
                    prop_assert_eq!(set.insert(range.clone()), missing.len() as u64);
                    model.extend(range);
                } else {
                    prop_assert_eq!(set.remove(range.clone()), len - missing.len() as u64);
                    model.retain(|x| !range.contains(x));
                }
                prop_assert_eq!(set.len(), model.len() as u64);
                prop_assert_eq!(set.prefix(), (0..).take_while(|x| model.contains(x)).count() as u64);
                prop_assert_eq!(set.first().map(|r| r.start), model.first().copied());
                let ends: Vec<_> = set.ranges.iter().collect();
                prop_assert!(ends.windows(2).all(|pair| pair[0].1 < pair[1].0), "neighbours are joined");
            }
        }
    }
}
