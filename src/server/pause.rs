//! Where readers wait until a writer has caught up.

use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::machine::{AtomicUsize, Instant};

/// A paused reader looks again this often, even when nobody wakes it.
pub(super) const PAUSE_CHECK: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub(super) struct Pause {
    /// How many readers are paused.
    paused: AtomicUsize,
    lock: Mutex<()>,
    over: Condvar,
}

impl Pause {
    /// Blocks as long as something is busy, but no longer than `until`; `false` if it was in vain.
    pub(super) fn wait_while(&self, is_busy: impl Fn() -> bool, until: Instant) -> bool {
        if !is_busy() {
            return true;
        }
        self.paused.fetch_add(1, Ordering::SeqCst);
        let mut lock = self.lock.lock();
        while is_busy() && Instant::now() < until {
            self.over.wait_until(&mut lock, until.min(Instant::now() + PAUSE_CHECK));
        }
        drop(lock);
        self.paused.fetch_sub(1, Ordering::SeqCst);
        !is_busy()
    }

    /// Lets those who are paused look again, if there are any.
    pub(super) fn look_again(&self) {
        if self.paused.load(Ordering::SeqCst) > 0 {
            self.wake();
        }
    }

    /// The same, whether there are any or not.
    pub(super) fn wake(&self) {
        let _lock = self.lock.lock();
        self.over.notify_all();
    }
}
