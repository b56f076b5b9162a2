//! F7: the books of ranges and numbers against naive models that keep every octet and every packet on its own.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::{Duration, Instant};

use packetboat::rudp::ranges::RangeSet;
use packetboat::rudp::recv_window::{REPLAY_WINDOW, RecvNumbers, RecvWindow};
use packetboat::rudp::send_window::{PAYLOAD_LEN_MIN, SendWindow};
use packetboat::rudp::sent::{Carried, SentPacket, SentPackets, TRACKED_MAX};
use packetboat::wire::packet::{ACK_WORDS_MAX, Body, Kind, emit_ack};

use super::bytes::Bytes;

/// Ours: a longer script shows nothing that a short one does not.
const STEPS_MAX: usize = 400;

/// The first octet chooses the books, the rest is what happens to them.
pub(crate) fn f7_ranges(data: &[u8]) {
    let mut script = Bytes(data);
    match script.u8() % 5 {
        0 => range_set(&mut script),
        1 => send_window(&mut script),
        2 => recv_window(&mut script),
        3 => recv_numbers(&mut script),
        _ => sent_packets(&mut script),
    }
}

fn range(script: &mut Bytes<'_>) -> Range<u64> {
    let start = u64::from(script.u8());
    start..start + u64::from(script.u8() % 64)
}

/// The parts of `range` that are (or are not) in the model.
fn runs(range: Range<u64>, wanted: impl Fn(u64) -> bool) -> Vec<Range<u64>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    for at in range.filter(|&at| wanted(at)) {
        match runs.last_mut() {
            Some(run) if run.end == at => run.end += 1,
            _ => runs.push(at..at + 1),
        }
    }
    runs
}

fn range_set(script: &mut Bytes<'_>) {
    let (mut set, mut model) = (RangeSet::default(), BTreeSet::new());
    for _ in 0..STEPS_MAX {
        if script.is_empty() {
            break;
        }
        let (insert, range) = (script.u8().is_multiple_of(2), range(script));
        let gaps = runs(range.clone(), |at| !model.contains(&at));
        assert_eq!(set.gaps(range.clone()).collect::<Vec<_>>(), gaps, "gaps of {range:?}");
        let missing: u64 = gaps.iter().map(|gap| gap.end - gap.start).sum();
        if insert {
            assert_eq!(set.insert(range.clone()), missing, "{range:?} inserted");
            model.extend(range);
        } else {
            assert_eq!(set.remove(range.clone()), range.end - range.start - missing, "{range:?} removed");
            model.retain(|at| !range.contains(at));
        }
        assert_eq!((set.len(), set.is_empty()), (model.len() as u64, model.is_empty()));
        assert_eq!(set.prefix(), (0..).take_while(|at| model.contains(at)).count() as u64);
        assert_eq!(set.first(), runs(0..320, |at| model.contains(&at)).first().cloned());
    }
}

fn send_window(script: &mut Bytes<'_>) {
    let size = u64::from(script.u16() % 2_048);
    let mut window = SendWindow::new(0, size);
    let (mut acked, mut lost) = (BTreeSet::new(), BTreeSet::new());
    let (mut snd_nxt, mut credit) = (0, 0);
    let mut sent: Vec<Range<u64>> = Vec::new();
    for _ in 0..STEPS_MAX {
        if script.is_empty() {
            break;
        }
        let (op, argument) = (script.u8() % 6, script.u8());
        match op {
            0 | 1 => {
                let payload_max = 1 + u64::from(argument % 200);
                let idle = op == 1;
                let next = window.next(payload_max, idle);
                let end = size.min(credit).min(snd_nxt + payload_max);
                let new_len = end.saturating_sub(snd_nxt);
                let worth_it = new_len == payload_max || end == size || (idle && new_len >= PAYLOAD_LEN_MIN);
                let model = match runs(0..size, |at| lost.contains(&at)).first() {
                    Some(run) => Some(run.start..run.end.min(run.start + payload_max)),
                    None => (new_len > 0 && worth_it).then_some(snd_nxt..end),
                };
                assert_eq!(next, model);
                let Some(range) = next else { continue };
                assert_eq!(window.on_sent(&range), range.start < snd_nxt, "whether it was sent before");
                lost.retain(|at| !range.contains(at));
                snd_nxt = snd_nxt.max(range.end);
                sent.push(range);
            }
            2 => {
                credit = credit.max(u64::from(argument) * 16);
                window.on_credit(u64::from(argument) * 16);
            }
            3 | 4 => {
                let Some(range) = sent.get(usize::from(argument) % sent.len().max(1)).cloned() else {
                    continue;
                };
                if op == 3 {
                    let new = range.clone().filter(|at| acked.insert(*at)).count() as u64;
                    lost.retain(|at| !range.contains(at));
                    assert_eq!(window.on_acked(&range), new, "octets that were not acknowledged before");
                } else {
                    lost.extend(range.clone().filter(|at| !acked.contains(at)));
                    window.on_lost(&range);
                }
            }
            _ => {
                window.go_back();
                lost.extend((0..).take_while(|at| acked.contains(at)).count() as u64..snd_nxt);
            }
        }
        assert_eq!(window.acked_bytes(), acked.len() as u64);
        assert_eq!(window.is_delivered(), acked.len() as u64 == size);
        assert_eq!(window.snd_una(), (0..).take_while(|at| acked.contains(at)).count() as u64);
    }
}

fn recv_window(script: &mut Bytes<'_>) {
    let (size, window_bytes) = (u64::from(script.u16() % 2_048), u64::from(script.u8()) * 4);
    let mut granted = u64::from(script.u8()) * 16;
    let mut window = RecvWindow::new(0..size, window_bytes, granted);
    let mut kept = BTreeSet::new();
    for _ in 0..STEPS_MAX {
        if script.is_empty() {
            break;
        }
        let (op, at, len) = (script.u8(), u64::from(script.u16() % 2_200), u64::from(script.u8()));
        let rcv_nxt = (0..).take_while(|at| kept.contains(at)).count() as u64;
        let credit = size.min(granted).min(rcv_nxt + window_bytes);
        assert_eq!((window.rcv_nxt(), window.credit()), (rcv_nxt, credit));
        let range = at..at + len;
        assert_eq!(window.allows(&range), range.end <= credit);
        let gaps = runs(range.clone(), |at| !kept.contains(&at));
        assert_eq!(window.first_gap(range.clone()), gaps.first().cloned());
        if op.is_multiple_of(8) {
            granted = granted.max(at);
            window.grant(at);
        } else if window.allows(&range) {
            window.keep(range.clone());
            kept.extend(range);
        }
        assert_eq!(window.kept_bytes(), kept.len() as u64);
        assert_eq!(window.is_complete(), kept.len() as u64 == size);
    }
}

fn recv_numbers(script: &mut Bytes<'_>) {
    let (mut numbers, mut model) = (RecvNumbers::default(), BTreeSet::new());
    let (mut from, mut lowest) = (0u64, 0);
    for _ in 0..STEPS_MAX {
        if script.is_empty() {
            break;
        }
        let (op, argument) = (script.u8(), u64::from(script.u16()));
        match op % 8 {
            // Far jumps, and back: around the window of replays.
            0 => from = from.saturating_add(argument << (op >> 3)).min(1 << 37),
            1 => from = from.saturating_sub(argument << (op >> 4)),
            2 => {
                lowest = lowest.max(from + argument % 4_096);
                numbers.on_lowest_tracked(from + argument % 4_096);
            }
            _ => {
                let number = from + argument % 1_024;
                let largest = model.last().copied();
                let seen = model.contains(&number);
                let is_new = numbers.is_new(number);
                assert!(!(seen && is_new), "{number} was seen before");
                if !seen && largest.is_none_or(|largest| number + REPLAY_WINDOW - 128 > largest) {
                    assert!(is_new, "{number} is new and not old, the largest is {largest:?}");
                }
                if is_new {
                    let newest = numbers.insert(number);
                    assert_eq!(newest, largest.is_none_or(|largest| number > largest));
                    model.insert(number);
                }
            }
        }
        assert_eq!(numbers.expected(), model.last().map_or(0, |largest| largest + 1));
        acks_name_what_came(&numbers, &model, lowest);
    }
}

/// The bitmap of an ACK begins at the lowest number of interest that is not too old, and names all that came since.
fn acks_name_what_came(numbers: &RecvNumbers, model: &BTreeSet<u64>, lowest: u64) {
    let Some(&largest) = model.last() else {
        assert!(numbers.ack_words().is_none());
        return;
    };
    let (first_word, words) = numbers.ack_words().expect("something came");
    let first = u64::from(first_word) * 64;
    let words: Vec<u64> = words.collect();
    assert!(words.len() as u64 * 64 <= REPLAY_WINDOW + 64, "one bitmap per window");
    let bit = |at: u64| {
        words.get(usize::try_from((at - first) / 64).expect("small")).map(|word| word >> (at % 64) & 1)
    };
    assert_eq!(bit(largest), Some(1));
    let named: u64 = words.iter().map(|word| u64::from(word.count_ones())).sum();
    let came = model.range(first..).inspect(|&&at| assert_eq!(bit(at), Some(1), "{at} came")).count();
    assert_eq!(named, came as u64, "and nothing else did");
    assert!(first <= lowest.min(largest).max(largest.saturating_sub(REPLAY_WINDOW - 128)), "it reaches down");
}

/// What the model knows of a packet that was sent.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    InFlight,
    Lost,
    /// Acknowledged, given up, or of no interest from the start.
    Done,
}

struct Model {
    packets: BTreeMap<u64, (Fate, usize, Instant)>,
    next: u64,
    largest_acked: Option<u64>,
}

impl Model {
    fn with(&self, fate: Fate) -> impl Iterator<Item = (u64, usize, Instant)> {
        self.packets
            .iter()
            .filter(move |(_, packet)| packet.0 == fate)
            .map(|(&number, &(_, len, at))| (number, len, at))
    }

    fn check(&self, sent: &SentPackets) {
        assert_eq!(sent.next_number(), self.next);
        assert_eq!(sent.packets_in_flight(), self.with(Fate::InFlight).count() as u64);
        assert_eq!(sent.is_any_in_flight(), sent.packets_in_flight() > 0);
        assert_eq!(
            sent.bytes_in_flight(),
            self.with(Fate::InFlight).map(|(_, len, _)| len as u64).sum::<u64>()
        );
        let lowest = self
            .packets
            .iter()
            .find(|(_, packet)| packet.0 != Fate::Done)
            .map_or(self.next, |(&number, _)| number);
        assert_eq!(sent.lowest_tracked(), lowest);
        assert_eq!(sent.has_room(), self.next - lowest < TRACKED_MAX);
    }
}

fn sent_packets(script: &mut Bytes<'_>) {
    let mut now = Instant::now();
    let mut sent = SentPackets::default();
    let mut model = Model { packets: BTreeMap::new(), next: 0, largest_acked: None };
    for _ in 0..STEPS_MAX {
        if script.is_empty() {
            break;
        }
        let (op, argument) = (script.u8() % 10, script.u8());
        match op {
            0..=2 => push_some(&mut sent, &mut model, now, op, argument),
            3..=5 => {
                if !acknowledge(&mut sent, &mut model, script, argument) {
                    return;
                }
            }
            6 => now += Duration::from_millis(argument.into()),
            7 => detect_lost(&mut sent, &mut model, now, argument),
            8 => {
                let then = now - Duration::from_millis(argument.into());
                sent.forget_lost(then);
                // It stops at the first one that is younger: later numbers are not older.
                model
                    .packets
                    .values_mut()
                    .filter(|packet| packet.0 == Fate::Lost && packet.2 <= then)
                    .for_each(|packet| packet.0 = Fate::Done);
            }
            _ if argument == 255 => {
                sent.settle();
                model.packets.values_mut().for_each(|packet| packet.0 = Fate::Done);
            }
            _ if argument > 200 => {
                let mut lost = 0;
                sent.lose_all(|_, _| lost += 1);
                assert_eq!(lost, model.with(Fate::InFlight).count());
                model
                    .packets
                    .values_mut()
                    .filter(|packet| packet.0 == Fate::InFlight)
                    .for_each(|packet| packet.0 = Fate::Lost);
            }
            _ => copy_oldest(&mut sent, argument),
        }
        model.check(&sent);
    }
}

fn push_some(sent: &mut SentPackets, model: &mut Model, now: Instant, op: u8, argument: u8) {
    for _ in 0..=argument % 32 {
        let number = model.next;
        let len = 50 + usize::from(argument);
        let fate = match op {
            0 => {
                let carried = Carried::Data { offset: number * 1_000, len: argument.into() };
                assert_eq!(sent.push(SentPacket { carried, len, sent_at: now, snapshot: None }), number);
                Some(Fate::InFlight)
            }
            1 => {
                assert_eq!(sent.push_unacked(len, now), number);
                Some(Fate::Done)
            }
            _ => {
                sent.skip(now);
                None
            }
        };
        model.next += 1;
        if let Some(fate) = fate {
            model.packets.insert(number, (fate, len, now));
        }
    }
}

/// Gives an ACK as the script says; `false` when it was found out to be of what was not sent, which ends a connection.
fn acknowledge(sent: &mut SentPackets, model: &mut Model, script: &mut Bytes<'_>, argument: u8) -> bool {
    let first_word = model.next.saturating_sub(u64::from(argument) * 4) / 64;
    let words: Vec<u64> = (0..=argument % 3).map(|_| script.u64()).collect();
    let honest = !script.u8().is_multiple_of(8);
    let mut words: Vec<u64> = (first_word..)
        .zip(words)
        .map(|(word, bits)| if honest { bits & model.sent_bits(word) } else { bits })
        .collect();
    while words.last() == Some(&0) {
        words.pop();
    }
    let mut out = [0; 16 + 8 * ACK_WORDS_MAX];
    let first = u32::try_from(first_word).expect("small");
    let len = emit_ack(&mut out, 0, 0, first, words.iter().copied());
    let Ok(Body::Ack(ack)) = Body::parse(Kind::Ack, &out[..len]) else {
        assert!(words.is_empty());
        return true;
    };
    let mut told = Vec::new();
    let outcome = sent.on_ack(&ack, |number, packet, was_lost| told.push((number, packet.len, was_lost)));
    let named: Vec<u64> = (first_word..)
        .zip(&words)
        .flat_map(|(word, bits)| {
            (0..64).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| word * 64 + bit)
        })
        .collect();
    let never_sent = named.iter().any(|number| !model.packets.contains_key(number));
    let Ok(outcome) = outcome else {
        assert!(never_sent, "all of it was sent");
        return false;
    };
    if honest {
        assert!(!never_sent);
    }
    let news: Vec<(u64, Fate, usize, Instant)> = named
        .iter()
        .filter_map(|number| {
            let packet = model.packets.get_mut(number)?;
            let before = std::mem::replace(&mut packet.0, Fate::Done);
            (before != Fate::Done).then_some((*number, before, packet.1, packet.2))
        })
        .collect();
    let new = |&(number, fate, len, _): &_| (number, len, fate == Fate::Lost);
    assert_eq!(told, news.iter().map(new).collect::<Vec<_>>());
    let arrived = news.iter().filter(|packet| packet.1 == Fate::InFlight);
    assert_eq!(outcome.acked_bytes, arrived.map(|packet| packet.2 as u64).sum::<u64>());
    assert_eq!(outcome.spurious as usize, news.iter().filter(|packet| packet.1 == Fate::Lost).count());
    assert_eq!(outcome.newest_sent_at, news.last().map(|packet| packet.3));
    assert_eq!(outcome.is_largest_new, news.last().map(|packet| packet.0) == named.last().copied());
    model.largest_acked = model.largest_acked.max(named.last().copied());
    true
}

impl Model {
    /// Which numbers of a word were sent.
    fn sent_bits(&self, word: u64) -> u64 {
        (0..64)
            .filter(|bit| self.packets.contains_key(&(word * 64 + bit)))
            .fold(0, |bits, bit| bits | 1 << bit)
    }
}

fn detect_lost(sent: &mut SentPackets, model: &mut Model, now: Instant, argument: u8) {
    let (threshold, delay) =
        (u64::from(argument % 8) + 1, Duration::from_millis(u64::from(argument / 8) + 1));
    let mut lost = 0;
    let next_at = sent.detect_lost(now, threshold, delay, |_, _| lost += 1);
    let (mut expected, mut expected_at) = (0, None);
    for (&number, packet) in model.packets.iter_mut().filter(|(_, packet)| packet.0 == Fate::InFlight) {
        let Some(largest) = model.largest_acked.filter(|&largest| number <= largest) else { break };
        if largest - number < threshold && packet.2 + delay > now {
            expected_at = Some(packet.2 + delay);
            break;
        }
        packet.0 = Fate::Lost;
        expected += 1;
    }
    assert_eq!((lost, next_at), (expected, expected_at));
}

fn copy_oldest(sent: &mut SentPackets, argument: u8) {
    // Each packet is copied at most once, oldest first, and only when it fits.
    let mut copied: Vec<Range<u64>> = Vec::new();
    for _ in 0..argument % 4 {
        let Some(range) = sent.copy_oldest_data(argument.into()) else { break };
        assert!(range.end - range.start <= u64::from(argument));
        assert!(copied.last().is_none_or(|before| before.end <= range.start), "oldest first");
        copied.push(range);
    }
}
