//! What a transfer costs in memory: nothing per packet, and never more than its window, whatever the peer does.

#[path = "../benches/pipe/mod.rs"]
mod pipe;

use std::time::{Duration, Instant};

use packetboat::rudp::seal::{Keys, Role};
use packetboat::rudp::{Connection, Receipt};
use packetboat::wire::message::TransferId;
use packetboat::wire::packet::{Body, HEADER_LEN, Header, Kind, TAG_LEN};
use pipe::{BATCH_LEN, FAR, Link, NEAR, Pipe};

#[test]
fn no_packet_of_the_steady_state_allocates() {
    const WARM_BYTES: u64 = 24 << 20;
    let (source, mut file) = (vec![0x5a; 64 << 20], vec![0; 64 << 20]);
    for link in [NEAR, FAR] {
        let mut spare = vec![vec![0; BATCH_LEN]; 1_024];
        let mut pipe = Pipe::new(&source, &mut file, link, &mut spare, Instant::now());
        pipe.run(WARM_BYTES);
        let packets_before = pipe.sender.stats().packets_sent;
        let counted = allocation_counter::measure(|| pipe.run(64 << 20));
        let packets = pipe.sender.stats().packets_sent - packets_before;
        assert!(packets > 20_000, "{packets} packets are no steady state");
        assert!(
            counted.count_total <= 16,
            "{link:?}: {} allocations for {packets} packets",
            counted.count_total
        );
    }
}

#[test]
fn i3_a_connection_holds_what_it_says() {
    // The filters of a controller.
    const UNCOUNTED_BYTES_MAX: i64 = 2_048;
    let (source, mut file) = (vec![0x5a; 64 << 20], vec![0; 64 << 20]);
    let lossy = Link { lost_one_in: 100, ..FAR };
    let mut spare = Vec::new();
    let mut pipe = Pipe::new(&source, &mut file, lossy, &mut spare, Instant::now());
    pipe.run(32 << 20);
    let fresh = pipe::configs(0, lossy);
    for (end, config) in [(&mut pipe.sender, fresh.0), (&mut pipe.receiver, fresh.1)] {
        let end = std::mem::replace(end, Connection::new(config, Instant::now()));
        let said = (end.memory_len() - size_of::<Connection>()) as i64;
        let held = -allocation_counter::measure(|| drop(end)).bytes_current;
        // Of a tree's nodes the most is said that they can take.
        assert!((held - UNCOUNTED_BYTES_MAX..=2 * held).contains(&said), "{held} octets held, {said} said");
    }
}

/// A peer that has the key, and asks again and again, but never says what it has received.
struct Mute {
    keys: Keys,
    next_number: u32,
}

impl Mute {
    fn packet(&mut self, kind: Kind, body: &Body<'_>) -> Vec<u8> {
        let mut packet = vec![0; HEADER_LEN + 64];
        let len = HEADER_LEN + body.emit(&mut packet[HEADER_LEN..]) + TAG_LEN;
        packet.truncate(len);
        Header { kind, id: TransferId(7), number_low: self.next_number }.emit(&mut packet);
        self.keys.seal(self.next_number.into(), &mut packet);
        self.next_number += 1;
        packet
    }
}

#[test]
fn i3_a_peer_that_never_acknowledges_cannot_make_the_books_grow() {
    const BOOKS_BYTES_MAX: u64 = 2 << 20;
    let mut now = Instant::now();
    let mut end = Connection::new(pipe::configs(64 << 20, NEAR).1, now);
    let mut mute = Mute { keys: Keys::new(&pipe::KEY, Role::Server), next_number: 0 };
    let mut buffer = vec![0; BATCH_LEN];
    let counted = allocation_counter::measure(|| {
        for turn in 0..200_000 {
            // Now and then a silence, so that the end asks whether anybody is there; that question stays open.
            now += Duration::from_millis(if turn % 50_000 == 1 { 4_000 } else { 0 });
            end.handle_timeout(now);
            while end.poll_transmit(now, &mut buffer, &mut |_, _| Ok(())).is_some() {}
            let mut ping = mute.packet(Kind::Ping, &Body::Ping { back: 0 });
            assert!(matches!(
                end.handle_datagram(now, &mut ping, &mut |_, _| Ok(())),
                Receipt::Accepted { .. }
            ));
        }
    });
    assert!(counted.bytes_max <= BOOKS_BYTES_MAX, "{} octets held", counted.bytes_max);
}
