//! One transfer in a worker's care: its connection, its file, and whom to tell.

use std::io;
use std::net::IpAddr;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::pool::Cargo;
use super::run::Run;
use super::socket::Path;
use super::{Progress, TransferError};
use crate::rudp::{Connection, ConnectionError, Event, PACKET_LEN_IPV4, Receipt};
use crate::wire::ErrorCode;
use crate::wire::message::TransferId;
use crate::wire::packet::Reason;

/// A transfer in a worker's care.
pub(super) struct Transfer {
    pub(super) id: TransferId,
    pub(super) connection: Connection,
    /// Only from this address are datagrams taken.
    pub(super) peer_ip: IpAddr,
    /// Where to send; a server learns it from the SYN.
    pub(super) path: Option<Path>,
    /// `None` when it is delivered, or has failed: the connection only closes.
    pub(super) cargo: Option<Cargo>,
    pub(super) progress: Arc<Progress>,
    /// What the file refused.
    pub(super) failure: Option<io::Error>,
    pub(super) deadline: Option<Instant>,
    pub(super) is_ready: bool,
    /// The window that its connection was told last.
    pub(super) window_bytes: u64,
    /// Its part of its worker's load.
    pub(super) share: Option<Share>,
}

/// One transfer in the care of a worker: counted from when it is handed over until it is gone, however that happens.
#[derive(Debug)]
pub(super) struct Share(Arc<AtomicUsize>);

impl Share {
    pub(super) fn of(load: &Arc<AtomicUsize>) -> Share {
        load.fetch_add(1, Ordering::Relaxed);
        Share(Arc::clone(load))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Transfer {
    /// Whether a datagram from there can be the peer's.
    pub(super) fn is_from(&self, path: Path) -> bool {
        path.peer.ip().to_canonical() == self.peer_ip
    }

    pub(super) fn is_receiving(&self) -> bool {
        matches!(self.cargo, Some(Cargo::Receive { .. }))
    }

    /// Takes a datagram; what it brings of a file waits in `run` for [`write_run`](Self::write_run).
    pub(super) fn handle_datagram(&mut self, now: Instant, datagram: &mut [u8], run: &mut Run) -> Receipt {
        let (cargo, progress, failure) = (&mut self.cargo, &self.progress, &mut self.failure);
        self.connection.handle_datagram(now, datagram, &mut |offset, data| match cargo {
            Some(Cargo::Receive { sink, .. }) => {
                progress.note_bytes(now);
                run.join(sink, offset, data).map_err(|error| note(failure, error))
            }
            // The file is complete, so nothing of it can be new.
            _ => Err(io::ErrorKind::Unsupported.into()),
        })
    }

    /// Hands what has come of the file to the system.
    pub(super) fn write_run(&mut self, run: &mut Run) {
        if let Some(Cargo::Receive { sink, .. }) = &mut self.cargo
            && let Err(error) = run.write_to(sink)
        {
            self.failure.get_or_insert(error);
            self.connection.abort(ConnectionError::File);
        }
    }

    /// A batch for one send call: its octets, and those of each packet.
    pub(super) fn poll_transmit(&mut self, buffer: &mut [u8], packets_max: usize) -> Option<(usize, usize)> {
        let (cargo, failure) = (&self.cargo, &mut self.failure);
        let room = if packets_max < 2 { buffer.len().min(PACKET_LEN_IPV4) } else { buffer.len() };
        let transmit =
            self.connection.poll_transmit(Instant::now(), &mut buffer[..room], &mut |offset, octets| {
                match cargo {
                    Some(Cargo::Send { file, .. }) => {
                        file.read_exact_at(octets, offset).map_err(|error| note(failure, too_short(error)))
                    }
                    _ => Err(io::ErrorKind::Unsupported.into()),
                }
            })?;
        Some((transmit.len, transmit.segment_len))
    }

    pub(super) fn poll_events(&mut self) {
        self.progress.set(self.connection.moved_bytes(), self.connection.stats().packets_resent);
        if let Some(srtt) = self.connection.srtt() {
            self.progress.set_srtt(srtt);
        }
        while let Some(event) = self.connection.poll_event() {
            match event {
                Event::Established => {
                    log::debug!("transfer {}: established", self.id);
                    self.progress.begin();
                }
                Event::Delivered => self.finish(Ok(())),
                Event::Closed(Ok(())) => {}
                Event::Closed(Err(error)) => {
                    let error = self.describe(&error);
                    self.finish(Err(error));
                }
            }
        }
    }

    fn describe(&mut self, error: &ConnectionError) -> TransferError {
        match (error, self.failure.take()) {
            // Our own trouble comes first, whatever else ended it meanwhile.
            (_, Some(source)) => self.refused_by_file(source),
            (ConnectionError::Cancelled, _) => TransferError::Cancelled,
            // Whether it shall go on later, only the control connection tells.
            (ConnectionError::Reset(Reason::Cancelled), _) => TransferError::Refused(ErrorCode::Incomplete),
            (ConnectionError::Reset(Reason::File), _) => TransferError::Refused(ErrorCode::File),
            (ConnectionError::NoAnswer, _) => TransferError::NoAnswer,
            (error, _) => TransferError::Lost(error.to_string()),
        }
    }

    fn refused_by_file(&self, source: io::Error) -> TransferError {
        let what = match &self.cargo {
            Some(Cargo::Receive { sink, .. }) => format!("write {}", sink.part_path().display()),
            _ => "read the file".into(),
        };
        TransferError::File { what, source }
    }

    /// Tells the owner that no worker is there to take it.
    pub(super) fn finish_unstarted(mut self) {
        self.finish(Err(TransferError::Cancelled));
    }

    /// Tells the owner how it ended, once.
    pub(super) fn finish(&mut self, outcome: Result<(), TransferError>) {
        // All octets may have come, and the disk have had no room for the last of them.
        let outcome = match self.failure.take() {
            Some(source) if outcome.is_ok() => Err(self.refused_by_file(source)),
            _ => outcome,
        };
        match self.cargo.take() {
            Some(Cargo::Send { ended, .. }) => ended(outcome),
            Some(Cargo::Receive { sink, ended }) => ended(sink, outcome),
            None => {}
        }
    }
}

impl Drop for Transfer {
    /// Its worker has panicked: whoever waits for the end hears of one.
    fn drop(&mut self) {
        self.finish(Err(TransferError::Lost("an error in the program itself".into())));
    }
}

/// Keeps the first failure for the person, hands a like one to the connection.
fn note(failure: &mut Option<io::Error>, error: io::Error) -> io::Error {
    let kind = error.kind();
    failure.get_or_insert(error);
    kind.into()
}

/// Says it in words when a file ends before its octets do.
fn too_short(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => io::Error::new(error.kind(), "the file has become shorter"),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rudp::{Config, Direction, PACKET_LEN_IPV4, Role};
    use crate::transfer::part::Origin;
    use crate::transfer::sink::{Sink, Target};
    use crate::wire::message::{SECRET_LEN, Secret};
    use crossbeam_channel::unbounded;
    use std::time::Duration;

    #[test]
    fn a_disk_that_is_full_at_the_last_octets_is_told_once_although_all_have_come() {
        let folder = tempfile::tempdir().expect("a folder");
        let target = Target::Path(folder.path().join("a"));
        let sink = Sink::create(&target, &Origin::new(10)).expect("a sink");
        let (tell, told) = unbounded();
        let ended = Box::new(move |_: Sink, outcome| tell.send(outcome).expect("the test listens"));
        let config = Config {
            role: Role::Client,
            direction: Direction::Receive,
            id: TransferId(1),
            key: Secret([7; SECRET_LEN]),
            size: 10,
            start: 0,
            packet_len_max: PACKET_LEN_IPV4,
            window_bytes: 1 << 20,
            burst_len: 1 << 20,
            rtt_guess: Duration::from_millis(1),
            open_max: Duration::from_secs(1),
            arq: None,
            controller: None,
            granted: u64::MAX,
            seed: 1,
        };
        let mut transfer = Transfer {
            id: TransferId(1),
            connection: Connection::new(config, Instant::now()),
            peer_ip: [127, 0, 0, 1].into(),
            path: None,
            cargo: Some(Cargo::Receive { sink, ended }),
            progress: Arc::default(),
            failure: Some(io::ErrorKind::StorageFull.into()),
            deadline: None,
            is_ready: false,
            window_bytes: 0,
            share: None,
        };
        transfer.finish(Ok(()));
        transfer.finish(Ok(()));
        drop(transfer);
        let outcomes: Vec<Result<(), TransferError>> = told.iter().collect();
        let [Err(TransferError::File { what, source })] = &outcomes[..] else { panic!("{outcomes:?}") };
        assert!(
            what.starts_with("write ") && source.kind() == io::ErrorKind::StorageFull,
            "{what}: {source}"
        );
    }
}
