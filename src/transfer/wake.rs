//! Wakes a thread that waits in `poll`: a descriptor that becomes readable.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, eventfd};

/// One thread waits for [`AsFd::as_fd`] to become readable and then calls [`clear`](Self::clear); any thread may wake it.
///
/// Waking a thread that is awake already costs one atomic swap and no system call.
#[derive(Debug)]
pub struct Waker {
    fd: OwnedFd,
    /// A wake-up is under way, or the waiting thread has not cleared the last one yet.
    woken: AtomicBool,
}

impl Waker {
    /// A waker that nobody has woken.
    pub fn new() -> io::Result<Waker> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Waker { fd, woken: AtomicBool::new(false) })
    }

    /// Wakes the thread. What was queued for it before this call, it will find after its next [`clear`](Self::clear).
    pub fn wake(&self) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            // Fails only when 2^64 - 2 wake-ups are pending, and then it is readable anyway.
            let _ = rustix::io::write(&self.fd, &1u64.to_ne_bytes());
        }
    }

    /// Makes the descriptor wait again; call it **before** looking at the queues, or a wake-up between may be lost.
    pub fn clear(&self) {
        // Nothing to read only means that nobody woke us. The flag falls last: a `wake` in between is one whose work
        // we are about to find.
        let _ = rustix::io::read(&self.fd, &mut [0; 8]);
        self.woken.swap(false, Ordering::AcqRel);
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    fn is_readable(waker: &Waker) -> bool {
        let mut fds = [PollFd::new(waker, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).expect("poll") == 1
    }

    #[test]
    fn a_wake_up_is_seen_until_it_is_cleared() {
        let waker = Waker::new().expect("a descriptor");
        assert!(!is_readable(&waker));
        waker.wake();
        waker.wake();
        assert!(is_readable(&waker));
        waker.clear();
        assert!(!is_readable(&waker));
        waker.wake();
        assert!(is_readable(&waker), "it wakes more than once");
    }
}
