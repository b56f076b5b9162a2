//! What could stop a connection for ever: a window below one packet, a grant that is lost once, a peer
//! that never gets beyond its SYN, or only asks. Goals S16, S23, S30, S31 and invariant I9.
#![allow(clippy::cast_possible_truncation, reason = "the numbers of a test are small")]

#[allow(unreachable_pub, dead_code, unused_imports, reason = "shared by test crates")]
mod sim;

use std::time::Duration;

use packetboat::rudp::congestion::ControllerKind;
use packetboat::rudp::{Config, Event, FIN_MAX, State};
use packetboat::wire::packet::Kind;
use sim::end::Hostile;
use sim::forge::{Forger, Liar};
use sim::{Link, Loss, World, configs, file, ms, secs};

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

/// A server sends the whole file, and then asks and asks instead of saying FIN.
#[test]
fn i9_a_receiver_with_everything_does_not_wait_for_fin_for_ever() {
    const SIZE: u64 = 1_000;
    let (client, server) = configs(SIZE, ms(30), 1);
    let mut world = World::new(&Link::default(), &Link::default(), 1);
    world.add(client, server.clone(), Duration::ZERO);
    world.play(1, Asker { forger: Forger::new(&server), is_sent: false, wake_at: secs(1) });
    world.run_until(secs(90));
    assert!(world.client().kept.is_complete(), "{}", world.describe());
    assert_eq!(world.client().failed(), None, "the file is here: {}", world.describe());
    let delivered_at = world.client().time_of(&Event::Delivered).expect("it is complete");
    assert_eq!(world.client().closed_at(), Some(delivered_at + FIN_MAX), "{}", world.describe());
}

/// Answers the SYN, sends the file, and asks once a second.
struct Asker {
    forger: Forger,
    is_sent: bool,
    wake_at: Duration,
}

impl Hostile for Asker {
    fn handle(&mut self, _: Duration, datagram: &mut [u8], out: &mut Vec<Vec<u8>>) {
        let Some(opened) = self.forger.open(datagram) else { return };
        if opened.kind == Kind::Syn && !std::mem::replace(&mut self.is_sent, true) {
            let mut octets = [0; 1_000];
            file::fill(0, &mut octets);
            out.push(self.forger.open_with(Some(opened.number), 0));
            out.push(self.forger.data(0, &octets));
        }
    }

    fn wake(&mut self, now: Duration, out: &mut Vec<Vec<u8>>) {
        out.push(self.forger.ping());
        self.wake_at = now + secs(1);
    }

    fn wake_at(&self) -> Option<Duration> {
        Some(self.wake_at)
    }
}
