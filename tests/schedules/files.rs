//! An empty place where the server moves files: nobody asks for any.

use std::io;

use super::hub::{Hub, Seat};
use crate::chat::room::MemberId;
use crate::wire::ErrorCode;
use crate::wire::message::{Secret, ServerMessage, TransferId, Transport};
use crate::wire::name::FileName;

/// Why nothing is moved.
#[derive(Debug, thiserror::Error)]
#[error("there are no files here")]
pub(super) struct NoFiles;

impl NoFiles {
    pub(super) fn code(&self) -> ErrorCode {
        ErrorCode::File
    }
}

impl Hub {
    pub(super) fn end_transfers(&self, _transfers: Vec<(TransferId, transfers::Transfer)>) {}

    pub(super) fn on_client_done(&self, _owner: MemberId, _id: TransferId, _failed: Option<ErrorCode>) {}

    pub(super) fn on_upload_read<D>(&self, _owner: MemberId, _id: TransferId, _size: u64, _digest: D) {}
}

pub(super) mod vital {
    use crate::kernel::Kernel;

    /// Held by each writer. A thread that panics ends the test anyway.
    pub(in super::super) struct Vital(pub(in super::super) &'static str);

    impl Drop for Vital {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                Kernel::on_writer_ended();
            }
        }
    }
}

pub(super) mod transfers {
    use super::{MemberId, TransferId};

    #[derive(Debug)]
    pub(in super::super) struct Transfer;

    #[derive(Debug, Default)]
    pub(in super::super) struct Transfers;

    impl Transfers {
        pub(in super::super) fn remove_owned(&mut self, _owner: MemberId) -> Vec<(TransferId, Transfer)> {
            Vec::new()
        }

        pub(in super::super) fn remove_all(&mut self) -> Vec<(TransferId, Transfer)> {
            Vec::new()
        }
    }
}

pub(super) mod probes {
    use super::{MemberId, NoFiles, Seat, TransferId};

    #[derive(Debug, Default)]
    pub(in super::super) struct Probes;

    impl Probes {
        pub(in super::super) fn remove(&mut self, _owner: MemberId) -> Option<(TransferId, u32)> {
            None
        }
    }

    pub(in super::super) fn start(_seat: &Seat) -> Result<(), NoFiles> {
        Err(NoFiles)
    }

    pub(in super::super) fn end(_seat: &Seat, _id: TransferId) -> bool {
        false
    }
}

pub(super) mod moves {
    use super::{Seat, Secret};

    pub(in super::super) fn serve(_seat: &Seat, _token: &Secret, _read_before: &[u8]) {}
}

pub(super) mod downloads {
    use super::{FileName, Hub, NoFiles, Seat, ServerMessage, Transport, io};
    use crate::wire::message::Prefix;

    pub(in super::super) fn offer(
        _seat: &Seat,
        _transport: Transport,
        _name: &FileName,
        _prefix: Option<Prefix>,
    ) -> Result<(), NoFiles> {
        Err(NoFiles)
    }

    pub(in super::super) fn list(_hub: &Hub, _after: Option<&FileName>) -> io::Result<Vec<ServerMessage>> {
        Ok(Vec::new())
    }
}

pub(super) mod uploads {
    use super::{FileName, NoFiles, Seat, Secret, Transport};

    pub(in super::super) fn accept(
        _seat: &Seat,
        _transport: Transport,
        _size: u64,
        _name: &FileName,
        _resume_token: Option<Secret>,
    ) -> Result<(), NoFiles> {
        Err(NoFiles)
    }
}
