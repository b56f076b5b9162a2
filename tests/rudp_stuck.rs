//! What could stop a connection for ever: a window below one packet, a grant that is lost once, a peer
//! that never gets beyond its SYN, or only asks. Goals S16, S23, S30 and S31.
#![allow(clippy::cast_possible_truncation, reason = "the numbers of a test are small")]

#[allow(unreachable_pub, dead_code, unused_imports, reason = "shared by test crates")]
mod sim;

use std::time::Duration;

use packetboat::rudp::congestion::ControllerKind;
use packetboat::rudp::{Config, State};
use packetboat::wire::packet::Kind;
use sim::end::Hostile;
use sim::forge::{Forger, Liar};
use sim::{Link, Loss, World, configs, ms, secs};

/// The first SYN is lost, and of its two copies the small one comes first: data are on their way when the large one comes.
#[test]
fn s16_a_packet_size_confirmed_late_fits_the_smallest_window() {
    for controller in [ControllerKind::Fixed(1), ControllerKind::Aimd] {
        let link = Link { loss: Loss::random(0.05), ..Link::default() };
        let mut world = World::new(&link, &link, 1);
        let (client, server) = configs(200_000, ms(30), 1);
        let with = |config| Config { controller: Some(controller), ..config };
        world.add(with(client), with(server), Duration::ZERO);
        world.cut(true);
        world.run_until(ms(50));
        world.cut(false);
        world.run(secs(120));
        world.assert_identical();
    }
}

/// A single ACK is lost, the one with the grant, while the receiver's own questions come through.
#[test]
fn s23_a_grant_that_is_lost_alone_does_not_stop_the_transfer() {
    let mut world = World::new(&Link::default(), &Link::default(), 1);
    let (client, server) = configs(200_000, ms(30), 1);
    world.add(Config { granted: 50_000, ..client }, server, Duration::ZERO);
    world.run_until(ms(5_300));
    world.up.link.drop = vec![world.up.meter.entered];
    world.client_mut().connection.grant(u64::MAX);
    world.run(secs(40));
    world.assert_identical();
}

/// Sends a SYN every five seconds.
struct Opener(Forger, Duration);

impl Hostile for Opener {
    fn handle(&mut self, _: Duration, _: &mut [u8], _: &mut Vec<Vec<u8>>) {}

    fn wake(&mut self, now: Duration, out: &mut Vec<Vec<u8>>) {
        out.push(self.0.open_with(None, 8 << 20));
        self.1 = now + secs(5);
    }

    fn wake_at(&self) -> Option<Duration> {
        Some(self.1)
    }
}

#[test]
fn s31_whoever_only_opens_is_let_go() {
    let mut world = World::download(200_000, &Link::default(), 1);
    let (client, _) = configs(200_000, ms(30), 1);
    world.play(0, Opener(Forger::new(&client), Duration::ZERO));
    world.run_until(secs(90));
    assert_eq!(world.server().connection.state(), State::Closed, "{}", world.describe());
}

/// A client asks and asks, and acknowledges nothing: its answers must not fill the memory until the slow are let go.
#[test]
fn s30_questions_without_acknowledgements_are_answered_up_to_a_bound() {
    let up = Link { bytes_per_s: 1_250_000_000, queue_bytes: 1 << 30, ..Link::default() };
    let (client, server) = configs(200_000, ms(30), 1);
    let mut world = World::new(&up, &Link::default(), 1);
    world.add(client.clone(), server, Duration::ZERO);
    let every = Duration::from_micros(300);
    world.play(
        0,
        Liar::new(&client, 1 << 30, Some(every), |receiver, _, packet, out| {
            if packet.is_none() {
                out.push(receiver.forger.seal(Kind::Ping, &[0, 0]));
            }
        }),
    );
    world.run_until(secs(30));
    let acks = world.server().sent(Kind::Ack).packets;
    assert!(acks < 40_000, "{acks} ACKs are in the books: {}", world.describe());
}
