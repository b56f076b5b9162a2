//! A server that runs: its writers, its network, and a reader for each who comes in.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use shuttle::thread::{Builder, JoinHandle};

use super::hub::Hub;
use super::limits::Limits;
use super::session;
use super::writers::Writers;
use crate::clock::Instant;
use crate::kernel::{Client, Kernel, Kind};
use crate::sync;
use crate::transfer::disk::Disk;
use crate::transfer::pool::Pool;
use crate::transfer::shelf::Shelf;

/// Started within a schedule, and to be ended there.
pub struct Running {
    hub: Arc<Hub>,
    kernel: Arc<Kernel>,
}

impl Running {
    /// Starts the writers, of which there may be two, and the network.
    pub fn start(limits: &Limits) -> (Running, JoinHandle<()>) {
        let kernel = Kernel::boot();
        let writers = Writers::start(limits, 2).expect("a thread");
        let hub = Arc::new(Hub::new(limits.clone(), writers, Shelf, Pool, Disk, 0));
        let networks_kernel = Arc::clone(&kernel);
        (Running { hub, kernel }, start("network", move || networks_kernel.run_network()))
    }

    /// What the accept thread does with a new connection; gives its reader, unless the server closes.
    pub fn connect(&self, kind: Kind, says: impl IntoIterator<Item = String>) -> Option<JoinHandle<()>> {
        let stream = Arc::new(self.kernel.connect(kind, says));
        let seat = Arc::new(self.hub.admit(stream, SocketAddr::from(([127, 0, 0, 1], 1))).ok()?);
        Some(start("reader", move || session::run(seat)))
    }

    /// `Server::shutdown`, as far as it concerns the room.
    pub fn shutdown(&self) {
        self.hub.close("the server closes");
        self.hub.writers.stop();
        assert_eq!(self.hub.wait_until_empty(Instant::now() + Duration::from_secs(3)), 0);
    }

    /// The same at some moment: when the clients have taken something so many times, or when all of them have been served.
    pub fn shut_down_after(&self, takes: usize, clients: usize) {
        self.kernel.wait_for_takes(takes, clients);
        self.shutdown();
    }

    /// The answer to WHO.
    pub fn who(&self) -> String {
        let lines = self.hub.state.lock().who();
        lines.iter().map(|line| String::from_utf8_lossy(line)).collect()
    }

    /// How many writers there are.
    pub fn writers(&self) -> usize {
        self.kernel.writers()
    }

    /// How many commands have waited for a writer at a time.
    pub fn longest_backlog(&self) -> usize {
        sync::LONGEST_QUEUE.get()
    }

    /// Ends the network; what has become of the clients, in the order in which they came.
    pub fn end(&self, network: JoinHandle<()>) -> Vec<Client> {
        self.kernel.halt();
        network.join().expect("no panic");
        self.kernel.clients()
    }
}

/// Starts a thread of the schedule.
pub fn start(name: &str, run: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    Builder::new().name(name.into()).spawn(run).expect("a thread")
}
