//! The worlds that stories begin with.

use std::time::Duration;

use packetboat::rudp::{Config, Direction};

use super::configs;
use super::link::Link;
use super::world::World;

impl World {
    /// One download of `size` octets over the same link both ways.
    pub fn download(size: u64, link: &Link, seed: u64) -> World {
        World::download_over(size, link, link, seed)
    }

    /// One download of `size` octets: the client of flow 0 receives.
    pub fn download_over(size: u64, up: &Link, down: &Link, seed: u64) -> World {
        let mut world = World::new(up, down, seed);
        world.add_download(size, Duration::ZERO);
        world
    }

    /// Another download; gives the number of its flow.
    pub fn add_download(&mut self, size: u64, start: Duration) -> usize {
        let flow = self.ends.len() as u64 / 2;
        let rtt = self.up.link.delay + self.down.link.delay;
        let (client, server) = configs(size, rtt, self.seed ^ (flow << 32));
        self.add(client, server, start)
    }

    /// One upload of `size` octets: the server of flow 0 receives.
    pub fn upload(size: u64, up: &Link, down: &Link, seed: u64) -> World {
        let mut world = World::new(up, down, seed);
        let (client, server) = configs(size, up.delay + down.delay, seed);
        let client = Config { direction: Direction::Send, ..client };
        let server = Config { direction: Direction::Receive, ..server };
        world.add(client, server, Duration::ZERO);
        world
    }
}
