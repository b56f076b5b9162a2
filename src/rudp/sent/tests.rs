//! What the books say of every packet.

use super::*;
use crate::wire::packet::{Body, Kind, emit_ack};

/// An ACK of these numbers.
fn ack(numbers: &[u64], with: impl FnOnce(&Ack<'_>)) {
    let last = numbers.iter().max().expect("a number") / 64;
    let mut words = vec![0u64; usize::try_from(last + 1).expect("small")];
    for number in numbers {
        words[usize::try_from(number / 64).expect("small")] |= 1 << (number % 64);
    }
    let mut out = [0; 1_200];
    let len = emit_ack(&mut out, 0, 0, 0, words.into_iter());
    let Ok(Body::Ack(ack)) = Body::parse(Kind::Ack, &out[..len]) else { panic!("an ACK") };
    with(&ack);
}

fn push(sent: &mut SentPackets, carried: Carried, len: usize, now: Instant) -> u64 {
    sent.push(SentPacket { carried, len, sent_at: now, snapshot: None })
}

fn data(number: u64) -> Carried {
    Carried::Data { offset: number * 100, len: 100 }
}

const DELAY: Duration = Duration::from_millis(10);

#[test]
fn what_is_overtaken_by_three_is_lost_and_may_still_arrive() {
    let (now, mut sent) = (Instant::now(), SentPackets::default());
    for number in 0..5 {
        assert_eq!(push(&mut sent, data(number), 120, now), number);
    }
    ack(&[1, 2], |ack| assert_eq!(sent.on_ack(ack, |_, _, _| ()).expect("sent").acked_bytes, 240));
    assert_eq!(
        sent.detect_lost(now, 3, DELAY, |_, _| panic!("only two have overtaken it")),
        Some(now + DELAY)
    );
    ack(&[1, 2, 3], |ack| assert_eq!(sent.on_ack(ack, |_, _, _| ()).expect("sent").acked_bytes, 120));
    let mut lost = Vec::new();
    assert_eq!(sent.detect_lost(now, 3, DELAY, |_, packet| lost.push(packet.carried)), None);
    assert_eq!(lost, [data(0)]);
    assert_eq!((sent.bytes_in_flight(), sent.lowest_tracked()), (120, 0));
    ack(&[0, 3], |ack| assert_eq!(sent.on_ack(ack, |_, _, _| ()).expect("sent").spurious, 1));
    assert_eq!(sent.lowest_tracked(), 4);
}

#[test]
fn what_is_late_is_lost_by_time_but_not_what_is_newer_than_every_ack() {
    let (now, mut sent) = (Instant::now(), SentPackets::default());
    (0..3).for_each(|number| _ = push(&mut sent, data(number), 100, now));
    ack(&[1], |ack| _ = sent.on_ack(ack, |_, _, _| ()).expect("sent"));
    let mut lost = 0;
    assert_eq!(sent.detect_lost(now + DELAY, 3, DELAY, |_, _| lost += 1), None);
    assert_eq!((lost, sent.bytes_in_flight()), (1, 100));
}

#[test]
fn an_ack_of_a_number_that_was_skipped_or_not_sent_is_found_out() {
    let (now, mut sent) = (Instant::now(), SentPackets::default());
    push(&mut sent, data(0), 100, now);
    sent.skip(now);
    push(&mut sent, data(2), 100, now);
    ack(&[0, 1], |ack| assert!(sent.on_ack(ack, |_, _, _| ()).is_err()));
    ack(&[3], |ack| assert!(sent.on_ack(ack, |_, _, _| ()).is_err()));
    ack(&[1_000], |ack| assert!(sent.on_ack(ack, |_, _, _| ()).is_err()));
    ack(&[0, 2], |ack| assert!(sent.on_ack(ack, |_, _, _| ()).is_ok()));
}

#[test]
fn the_books_stay_small_and_an_old_ack_is_harmless() {
    let (now, mut sent) = (Instant::now(), SentPackets::default());
    for number in 0..10_000 {
        assert_eq!(push(&mut sent, data(number), 100, now), number);
        if number % 50 == 49 {
            let numbers: Vec<u64> = (number - 49..=number).collect();
            ack(&numbers, |ack| assert_eq!(sent.on_ack(ack, |_, _, _| ()).expect("sent").acked_bytes, 5_000));
        }
    }
    assert!(sent.packets.len() <= 128 && sent.bytes_in_flight() == 0);
    ack(&[3, 9_999], |ack| assert_eq!(sent.on_ack(ack, |_, _, _| ()).expect("sent").acked_bytes, 0));
}

#[test]
fn no_more_is_tracked_than_one_ack_can_tell() {
    let (now, mut sent) = (Instant::now(), SentPackets::default());
    while sent.has_room() {
        push(&mut sent, Carried::Ping, 50, now);
    }
    assert_eq!(sent.next_number(), TRACKED_MAX);
    assert!(!sent.make_room(), "all are in flight");
}

#[test]
fn lost_packets_do_not_keep_new_ones_waiting() {
    let (now, mut sent) = (Instant::now(), SentPackets::default());
    while sent.has_room() {
        push(&mut sent, Carried::Ping, 50, now);
    }
    let numbers: Vec<u64> = (1..TRACKED_MAX).collect();
    ack(&numbers, |ack| _ = sent.on_ack(ack, |_, _, _| ()).expect("sent"));
    assert_eq!(sent.detect_lost(now, 3, DELAY, |_, _| ()), None, "no timer is set");
    assert!(!sent.is_any_in_flight() && !sent.has_room());
    assert!(sent.make_room() && sent.has_room());
}
