//! The clock of a schedule, with the face of `std::time`: it moves when it is told to.

use std::cell::Cell;
use std::ops::{Add, Sub};
use std::time::Duration;

// All threads of a schedule run on one thread of the real system.
std::thread_local! {
    static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// A new schedule begins.
pub fn start() {
    NOW.set(Duration::ZERO);
}

/// It is this late now, if it is not later.
pub fn advance(to: Instant) {
    NOW.set(NOW.get().max(to.0));
}

/// A moment of the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(Duration);

impl Instant {
    pub fn now() -> Instant {
        Instant(NOW.get())
    }

    pub fn elapsed(&self) -> Duration {
        NOW.get() - self.0
    }

    pub fn saturating_duration_since(&self, earlier: Instant) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, duration: Duration) -> Instant {
        Instant(self.0 + duration)
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;

    fn sub(self, duration: Duration) -> Instant {
        Instant(self.0 - duration)
    }
}
