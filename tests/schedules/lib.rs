//! The server's hub, writers and readers, from the very files of the product, upon threads, locks, channels, atomics, a
//! clock and sockets whose steps `shuttle` orders. `tests/c1_schedules.rs` has clients use it and looks at what they hear.
//!
//! What is not the product's is here: in `sync` what the threads meet at, in `clock` and `kernel` the time, the sockets
//! and the clients at their other ends, in `files` an empty place where files would be moved, in `running` the start and
//! the end.

// The product's files have locks and channels of these names, and take ours for them.
extern crate self as crossbeam_channel;
extern crate self as parking_lot;

mod clock;
mod kernel;
mod sync;

pub use kernel::{Client, Kind};
pub use packetboat::chat;
pub use packetboat::wire;
pub use server::limits::Limits;
pub use server::running::{Running, start};
pub use shuttle;
pub use sync::{Condvar, Mutex, MutexGuard, Receiver, Sender, unbounded};

/// Of the product's `transfer`, what the hub holds.
mod transfer {
    pub(crate) mod disk {
        #[derive(Debug)]
        pub(crate) struct Disk;
    }

    pub(crate) mod pool {
        use crate::wire::message::TransferId;

        #[derive(Debug)]
        pub(crate) struct Pool;

        impl Pool {
            pub(crate) fn end_probe(&self, _probe: TransferId) {}
        }
    }

    pub(crate) mod shelf {
        #[derive(Debug)]
        pub(crate) struct Shelf;
    }

    pub(crate) mod wake {
        pub(crate) use crate::kernel::Waker;
    }
}

#[path = "../../src/server"]
#[allow(dead_code, reason = "the rest of the server is not here")]
mod server {
    mod challenge;
    mod end;
    mod hub;
    pub mod limits;
    mod outbox;
    mod pause;
    mod requests;
    mod session;
    mod writer;
    mod writers;

    #[path = "../../tests/schedules/files.rs"]
    mod files;
    #[path = "../../tests/schedules/running.rs"]
    pub mod running;

    use files::{downloads, moves, probes, transfers, uploads, vital};

    /// In the place of `src/server/machine.rs`.
    mod machine {
        pub(super) use crate::clock::Instant;
        pub(super) use crate::kernel::{PollFd, TcpStream, ioctl_fionread, poll, send, sendmsg};
        pub(super) use shuttle::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize};
        pub(super) use shuttle::thread;
        /// Always in the same order.
        pub(super) use std::collections::BTreeMap as HashMap;
    }
}
