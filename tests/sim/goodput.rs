//! How fast a file moves in virtual time, and at what cost: the same figures for benchmarks and for tests.

use std::time::Duration;

use packetboat::rudp::congestion::ControllerKind;
use packetboat::rudp::{ArqScheme, Event};
use packetboat::wire::packet::DATA_OVERHEAD;

use super::link::{IP_UDP_LEN, Link};
use super::{World, configs, ms};

/// A way to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    pub arq: ArqScheme,
    pub controller: ControllerKind,
}

impl Way {
    pub const fn new(arq: ArqScheme, controller: ControllerKind) -> Way {
        Way { arq, controller }
    }

    /// Every scheme with every controller.
    pub fn all() -> Vec<Way> {
        let controllers =
            [ControllerKind::Fixed(64), ControllerKind::Aimd, ControllerKind::Cubic, ControllerKind::Bbr];
        let schemes = ArqScheme::ALL.into_iter();
        schemes.flat_map(|arq| controllers.map(|controller| Way { arq, controller })).collect()
    }

    pub fn name(self) -> String {
        format!("{}, {}", self.arq, self.controller)
    }

    /// One more download over the links of `world`.
    pub fn add(self, world: &mut World, size: u64, start: Duration) {
        let flow = world.ends.len() as u64 / 2;
        let rtt = world.up.link.delay + world.down.link.delay;
        let (mut client, mut server) = configs(size, rtt, world.seed ^ (flow << 32));
        for config in [&mut client, &mut server] {
            (config.arq, config.controller) = (Some(self.arq), Some(self.controller));
        }
        world.add(client, server, start);
    }

    /// Moves a file over the link; what came by the limit counts.
    pub fn run(self, link: &Link, size: u64, seed: u64, limit: Duration) -> Run {
        let mut world = World::new(link, link, seed);
        self.add(&mut world, size, Duration::ZERO);
        let delivered = |world: &World| world.client().time_of(&Event::Delivered);
        while delivered(&world).is_none() && world.now < limit && world.step() {}
        let took = delivered(&world).unwrap_or(world.now);
        let kept = world.client().kept.bytes as f64;
        let lost = (world.down.meter.lost + world.down.meter.overflowed) as f64;
        Run {
            took,
            mbit_per_s: kept * 8.0 / 1e6 / took.as_secs_f64(),
            wire: world.down.meter.entered_bytes as f64 / kept,
            queue_mean_bytes: world.down.meter.queue_mean_bytes(took),
            resent_per_lost: world.server().connection.stats().packets_resent as f64 / lost.max(1.0),
        }
    }
}

/// What one run brought.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    pub took: Duration,
    pub mbit_per_s: f64,
    /// Octets on the wire, with IP, for each octet of the file that came.
    pub wire: f64,
    pub queue_mean_bytes: f64,
    /// DATA packets that were sent again for each that was lost.
    pub resent_per_lost: f64,
}

/// The same by TCP's model, in Mbit/s.
pub fn reno_mbit_per_s(link: &Link, size: u64, seed: u64, limit: Duration) -> f64 {
    let mut world = World::new(link, link, seed);
    world.add_reno(Duration::ZERO);
    let arrived = |world: &World| world.renos[0].slices.iter().sum::<u64>();
    let mut time = Duration::ZERO;
    while arrived(&world) < size && time < limit {
        time += ms(10);
        world.run_until(time);
    }
    arrived(&world) as f64 * 8.0 / 1e6 / time.as_secs_f64()
}

/// What the link would carry of a file under our header, in Mbit/s.
pub fn limit_mbit_per_s(link: &Link, loss: f64) -> f64 {
    let packet_len = packetboat::rudp::PACKET_LEN_DATA as f64;
    let header_share = (packet_len - DATA_OVERHEAD as f64) / (packet_len + IP_UDP_LEN as f64);
    link.bytes_per_s as f64 * 8.0 / 1e6 * header_share * (1.0 - loss)
}

/// The median of one figure of several runs.
pub fn median<T>(runs: &[T], figure: impl Fn(&T) -> f64) -> f64 {
    let mut figures: Vec<f64> = runs.iter().map(figure).collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
