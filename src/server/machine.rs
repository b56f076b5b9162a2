//! What the threads of the room have of the system: atomics, threads, the clock and the sockets. Also maps, for their
//! order is a matter of chance.
//!
//! The test C1 has others in their place, and in that of `parking_lot` and `crossbeam_channel`: so it can build the same
//! hub, writer and readers, and order their every step itself (`tests/schedules`).

pub(super) use std::collections::HashMap;
pub(super) use std::net::TcpStream;
pub(super) use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize};
pub(super) use std::thread;
pub(super) use std::time::Instant;

pub(super) use rustix::event::{PollFd, poll};
pub(super) use rustix::io::ioctl_fionread;
pub(super) use rustix::net::{send, sendmsg};
