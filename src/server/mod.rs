//! The server: a room and a shelf behind one TCP port, one blocking reader thread per client, one writer for all,
//! or two for more than a thousand.
//!
//! ```text
//! listener --- a Seat ---> session (reader-N) --- requests ---> hub (one lock)
//!                                                                |  deliveries, in one order
//!    sockets <--- joined lines --- writer (or two) <-------------+
//! ```
//!
//! [`Server::start`] starts it all, and returns; [`Server::shutdown`] ends it all.

mod challenge;
#[cfg(feature = "deadlock-detection")]
mod deadlock;
mod downloads;
mod end;
mod hub;
mod limits;
mod listener;
mod machine;
mod moves;
pub mod options;
mod outbox;
mod pause;
mod probes;
mod requests;
mod session;
mod system;
mod transfers;
mod uploads;
mod vital;
mod writer;
mod writers;

pub use limits::{Limits, Rate};
pub use system::raise_descriptor_limit;

use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use log::{error, warn};

use crate::transfer::disk::Disk;
use crate::transfer::pool::{Pool, PoolConfig};
use crate::transfer::shelf::Shelf;
use crate::transfer::tuning::Tuning;
use crate::transfer::wake::Waker;
use crate::wire::text::sanitise;
use hub::Hub;
use system::Capacity;
use writers::Writers;

/// How long the readers may take to end when the server does. Ours: with the writer's own bound it stays below 5 s.
const READERS_END_MAX: Duration = Duration::from_secs(3);

/// How a server is set up.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The address and port of the room; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// The UDP port of the first worker, the others follow; 0 lets the system choose. `None` is the port after
    /// `listen`'s, or 0 where that is 0.
    pub udp_port: Option<u16>,
    /// How many transfer workers, each with its own UDP port.
    pub workers: usize,
    /// The folder whose files are offered.
    pub files: PathBuf,
    /// What each peer is granted.
    pub limits: Limits,
    /// How the UDP sockets and connections behave.
    pub tuning: Tuning,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 55_000),
            udp_port: None,
            workers: std::thread::available_parallelism().map_or(1, |cores| cores.get().min(4)),
            files: PathBuf::from("files"),
            limits: Limits::default(),
            tuning: Tuning::default(),
        }
    }
}

/// Why a server cannot start: what happened, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The folder of files cannot be opened.
    #[error("cannot open the folder of files {path:?}: {source}; make it, or name another with --files DIR")]
    Files {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The TCP port is somebody else's.
    #[error("port {} is in use on {}; name another with --listen {}", .0.port(), .0.ip(), SocketAddr::new(.0.ip(), 0))]
    PortInUse(SocketAddr),
    /// The address or port cannot be had for another reason.
    #[error("cannot listen on {address}: {source}; name another address with --listen ADDR:PORT")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The workers' ports would go beyond 65535.
    #[error(
        "{workers} UDP ports do not fit above {base}; name a lower one with --udp-port BASE, or 0 for any"
    )]
    UdpRange {
        /// The first port.
        base: u32,
        /// How many were to follow each other.
        workers: usize,
    },
    /// A UDP port cannot be had.
    #[error(
        "cannot open the UDP ports from {base} on: {source}; name others with --udp-port BASE, or 0 for any"
    )]
    Udp {
        /// The first port.
        base: u16,
        /// What the system said.
        source: io::Error,
    },
    /// The system refused a thread or a descriptor.
    #[error("the system refuses what a server needs: {0}")]
    System(#[from] io::Error),
}

/// A running server. Dropping it shuts it down.
#[derive(Debug)]
pub struct Server {
    hub: Arc<Hub>,
    accept_waker: Arc<Waker>,
    accept_thread: Option<JoinHandle<()>>,
    local_addr: SocketAddr,
    udp_ports: Vec<u16>,
    file_count: usize,
}

impl Server {
    /// Opens the shelf, the ports and the threads; when this returns, clients can connect.
    pub fn start(config: ServerConfig) -> Result<Server, ServerError> {
        #[cfg(feature = "deadlock-detection")]
        deadlock::watch();
        let ServerConfig { listen, files, limits, .. } = &config;
        let not_files = |source| ServerError::Files { path: files.clone(), source };
        let shelf = Shelf::open(files).map_err(not_files)?;
        let file_count = shelf.list().map_err(not_files)?.len();
        warn_of_passed_over(&shelf, files);
        shelf.remove_old_leftovers();
        let listener = listener::bind(*listen).map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => ServerError::PortInUse(*listen),
            _ => ServerError::Listen { address: *listen, source },
        })?;
        let local_addr = listener.local_addr()?;
        let base_port = udp_base(&config)?;
        let pool_config =
            PoolConfig { ip: listen.ip(), base_port, workers: config.workers, tuning: config.tuning.clone() };
        let pool =
            Pool::start(&pool_config).map_err(|source| ServerError::Udp { base: base_port, source })?;
        let udp_ports = pool.ports().to_vec();
        let disk = Disk::start()?;
        // Last, when what the server itself needs is taken.
        let limits = within_capacity(limits);
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let writers = Writers::start(&limits, cores)?;
        let hub = Arc::new(Hub::new(limits, writers, shelf, pool, disk, local_addr.port()));
        let accept_waker = Arc::new(Waker::new()?);
        let accept_thread =
            listener::start(listener, Arc::clone(&hub), Arc::clone(&accept_waker), Builder::spawn)?;
        Ok(Server {
            hub,
            accept_waker,
            accept_thread: Some(accept_thread),
            local_addr,
            udp_ports,
            file_count,
        })
    }

    /// Where clients connect to.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The workers' UDP ports.
    pub fn udp_ports(&self) -> &[u16] {
        &self.udp_ports
    }

    /// How many files the shelf held at the start.
    pub fn file_count(&self) -> usize {
        self.file_count
    }

    /// Says good-bye to everybody, sends what waits, and ends every thread, in less than five seconds. Doing it twice
    /// changes nothing.
    pub fn shutdown(&mut self) {
        let Some(accept_thread) = self.accept_thread.take() else { return };
        let deadline = Instant::now() + READERS_END_MAX;
        self.hub.close("the server closes");
        self.accept_waker.wake();
        if accept_thread.join().is_err() {
            error!("the accept thread panicked");
        }
        self.hub.pool.shutdown();
        self.hub.writers.stop();
        let left = self.hub.wait_until_empty(deadline);
        if left > 0 {
            warn!("{left} connections did not end in time");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown();
    }
}

/// Whoever put a link on the shelf wonders why nobody sees it.
fn warn_of_passed_over(shelf: &Shelf, files: &Path) {
    /// Ours: enough to recognise what they are.
    const NAMES_TOLD_MAX: usize = 5;
    let names = shelf.passed_over().unwrap_or_default();
    if names.is_empty() {
        return;
    }
    // A name can be anything but a line of the log.
    let shown = |name: &OsString| format!("\"{}\"", sanitise(&name.to_string_lossy()));
    let mut told: Vec<String> = names.iter().take(NAMES_TOLD_MAX).map(shown).collect();
    if names.len() > NAMES_TOLD_MAX {
        told.push("...".into());
    }
    let (entries, are) = if names.len() == 1 { ("entry", "is") } else { ("entries", "are") };
    warn!(
        "{} {entries} of {} {are} not offered: {} (links, unreadable files or names for one system only)",
        names.len(),
        files.display(),
        told.join(", ")
    );
}

fn udp_base(config: &ServerConfig) -> Result<u16, ServerError> {
    let base = match (config.udp_port, config.listen.port()) {
        (Some(port), _) => u32::from(port),
        (None, 0) => 0,
        (None, tcp_port) => u32::from(tcp_port) + 1,
    };
    let too_high = || ServerError::UdpRange { base, workers: config.workers };
    let last = u32::try_from(config.workers).map_err(|_| too_high())?.saturating_add(base).saturating_sub(1);
    if base != 0 && last > u32::from(u16::MAX) {
        return Err(too_high());
    }
    u16::try_from(base).map_err(|_| too_high())
}

/// What the system cannot carry is not promised.
fn within_capacity(limits: &Limits) -> Limits {
    let mut limits = limits.clone();
    let Some(Capacity { clients, strangers, remedy }) = system::capacity(&limits) else { return limits };
    if clients < limits.clients_max {
        let wanted = limits.clients_max;
        warn!("this system allows {clients} clients, and {wanted} are wanted: {remedy}");
        limits.clients_max = clients;
    }
    limits.unregistered_max = limits.unregistered_max.min(strangers);
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_udp_ports_follow_the_rooms_port() {
        let base = |listen: u16, udp_port, workers| {
            let listen = SocketAddr::from(([127, 0, 0, 1], listen));
            udp_base(&ServerConfig { listen, udp_port, workers, ..ServerConfig::default() }).ok()
        };
        assert_eq!(base(55_000, None, 2), Some(55_001));
        assert_eq!(base(0, None, 2), Some(0));
        assert_eq!(base(55_000, Some(0), 2), Some(0));
        assert_eq!(base(0, Some(6_000), 2), Some(6_000));
        assert_eq!(base(65_533, None, 2), Some(65_534));
        assert_eq!(base(65_533, None, 3), None);
        assert_eq!(base(65_535, None, 1), None);
    }
}
