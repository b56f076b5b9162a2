//! What carries the client's transfers: the UDP worker, the threads of TCP transfers, the disk thread.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::transfer::{Moving, TransferEvent};
use crate::transfer::disk::Disk;
use crate::transfer::pool::{Cargo, Opener, Pool, PoolConfig, Request};
use crate::transfer::sink::Sink;
use crate::transfer::tuning::Tuning;
use crate::transfer::{TransferError, stream};
use crate::wire::message::{Accept, Offer, Secret, TransferId, Transport};

/// How the server wants a transfer to come to it.
#[derive(Debug)]
pub(super) struct Route {
    id: TransferId,
    transport: Transport,
    port: u16,
    secret: Secret,
    /// How long to wait for the first UDP packet.
    open_max: Duration,
}

impl Route {
    pub(super) fn of_offer(offer: &Offer, open_max: Duration) -> Route {
        let Offer { id, transport, port, .. } = *offer;
        Route { id, transport, port, secret: offer.secret.clone(), open_max }
    }

    pub(super) fn of_accept(accept: &Accept, open_max: Duration) -> Route {
        let Accept { id, transport, port, .. } = *accept;
        Route { id, transport, port, secret: accept.secret.clone(), open_max }
    }
}

/// The threads; each starts when it is needed first.
#[derive(Debug)]
pub(super) struct Carrier {
    server: SocketAddr,
    rtt: Duration,
    tuning: Tuning,
    pool: Option<Pool>,
    disk: Option<Disk>,
    tell: Sender<TransferEvent>,
}

impl Carrier {
    pub(super) fn new(
        server: SocketAddr,
        rtt: Duration,
        tuning: Tuning,
        tell: Sender<TransferEvent>,
    ) -> Carrier {
        Carrier { server, rtt, tuning, pool: None, disk: None, tell }
    }

    /// The server is reached at another address, or in another time.
    pub(super) fn set_server(&mut self, server: SocketAddr, rtt: Duration) {
        if server.is_ipv4() != self.server.is_ipv4() {
            self.close();
        }
        (self.server, self.rtt) = (server, rtt);
    }

    /// How the ends are told. The channel is wide, and nobody listens any more when the client is ending.
    fn teller(&self) -> impl Fn(TransferEvent) + Send + 'static {
        let tell = self.tell.clone();
        move |event| _ = tell.try_send(event)
    }

    /// Begins to fetch what the sink wants, up to what is granted.
    pub(super) fn receive(
        &mut self,
        route: Route,
        mut sink: Sink,
        granted: u64,
    ) -> Result<Moving, TransferError> {
        let (moving, tell, id) = (Moving::new(granted), self.teller(), route.id);
        self.disk()?.follow(sink.followed());
        let ended = move |sink, arrived| tell(TransferEvent::Arrived(id, sink, arrived, Instant::now()));
        match route.transport {
            Transport::Udp => {
                let cargo = Cargo::Receive { sink, ended: Box::new(ended) };
                self.start_udp(route, cargo, &moving, granted)?;
            }
            Transport::Tcp => {
                let Moving { progress, cancelled, granted } = moving.clone();
                self.start_tcp(route, move |connected| {
                    let arrived = connected.and_then(|stream| {
                        progress.begin();
                        stream::receive(&stream, b"", &mut sink, &progress, &granted, &cancelled)
                    });
                    ended(sink, arrived);
                })?;
            }
        }
        Ok(moving)
    }

    /// Begins to send these octets of a file.
    pub(super) fn send(
        &mut self,
        route: Route,
        file: File,
        wanted: Range<u64>,
    ) -> Result<Moving, TransferError> {
        let (moving, tell, id) = (Moving::new(u64::MAX), self.teller(), route.id);
        let ended = move |sent| tell(TransferEvent::Sent(id, sent, Instant::now()));
        match route.transport {
            Transport::Udp => {
                let cargo = Cargo::Send { file, wanted, ended: Box::new(ended) };
                self.start_udp(route, cargo, &moving, u64::MAX)?;
            }
            Transport::Tcp => {
                let (Moving { progress, cancelled, .. }, tuning) = (moving.clone(), self.tuning.clone());
                self.start_tcp(route, move |connected| {
                    ended(connected.and_then(|stream| {
                        tuning.prefer(&stream);
                        progress.begin();
                        stream::send(&stream, &file, wanted, &progress, &cancelled)
                    }));
                })?;
            }
        }
        Ok(moving)
    }

    fn start_udp(
        &mut self,
        route: Route,
        cargo: Cargo,
        moving: &Moving,
        granted: u64,
    ) -> Result<(), TransferError> {
        let mut server = self.server;
        server.set_port(route.port);
        let opener = Opener::Us { server, open_max: route.open_max };
        let (rtt, progress) = (self.rtt, Arc::clone(&moving.progress));
        let request = Request { id: route.id, key: route.secret, opener, cargo, rtt, progress };
        self.pool()?.start_transfer(request, granted);
        Ok(())
    }

    fn start_tcp(
        &self,
        route: Route,
        work: impl FnOnce(Result<std::net::TcpStream, TransferError>) + Send + 'static,
    ) -> Result<(), TransferError> {
        let mut server = self.server;
        server.set_port(route.port);
        thread::Builder::new()
            .name(format!("tcp-transfer-{}", route.id))
            .spawn(move || work(stream::connect(server, &route.secret)))
            .map(drop)
            .map_err(|source| system("start a thread", source))
    }

    /// Lets the sender of a file go on to the end.
    pub(super) fn grant_all(&self, id: TransferId, moving: &Moving) {
        moving.granted.store(u64::MAX, Ordering::Relaxed);
        if let Some(pool) = &self.pool {
            pool.grant(id, u64::MAX);
        }
    }

    /// Ends a transfer; its thread tells when.
    pub(super) fn stop(&self, id: TransferId, moving: &Moving) {
        moving.cancelled.store(true, Ordering::Relaxed);
        if let Some(pool) = &self.pool {
            pool.cancel(id);
        }
    }

    /// Reads a file that is put for its digest.
    pub(super) fn digest(
        &mut self,
        id: TransferId,
        file: File,
        size: u64,
        unwanted: Arc<AtomicBool>,
    ) -> Result<(), TransferError> {
        let tell = self.teller();
        self.disk()?.digest(file, size, unwanted, move |read| tell(TransferEvent::Read(id, read)));
        Ok(())
    }

    /// Verifies a file and gives it its name.
    pub(super) fn keep(
        &mut self,
        id: TransferId,
        sink: Sink,
        digest: blake3::Hash,
    ) -> Result<(), TransferError> {
        let tell = self.teller();
        self.disk()?.keep(sink, digest, move |kept| tell(TransferEvent::Kept(id, kept)));
        Ok(())
    }

    /// Ends the UDP worker; what it has is told first.
    pub(super) fn close(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.shutdown();
        }
    }

    fn disk(&mut self) -> Result<&Disk, TransferError> {
        if self.disk.is_none() {
            self.disk = Some(Disk::start().map_err(|source| system("start a thread", source))?);
        }
        Ok(self.disk.as_ref().expect("just made"))
    }

    fn pool(&mut self) -> Result<&Pool, TransferError> {
        if self.pool.is_none() {
            let ip: IpAddr = match self.server {
                SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            let config = PoolConfig { ip, base_port: 0, workers: 1, tuning: self.tuning.clone() };
            self.pool = Some(Pool::start(&config).map_err(|source| system("open a UDP socket", source))?);
        }
        Ok(self.pool.as_ref().expect("just made"))
    }
}

fn system(what: &str, source: io::Error) -> TransferError {
    TransferError::File { what: what.into(), source }
}
