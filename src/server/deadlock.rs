//! For tests at night alone (feature `deadlock-detection`): ends a process whose threads wait for each other's locks.

use std::io::{self, Write as _};
use std::sync::Once;
use std::thread::{self, Builder};
use std::time::Duration;

use parking_lot::deadlock::check_deadlock;

/// How often the locks are looked at.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// Starts the thread, named `deadlocks`, once for all servers of the process.
pub(super) fn watch() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        // Without it the tests are those of every day.
        let _ = Builder::new().name("deadlocks".into()).spawn(|| {
            loop {
                thread::sleep(CHECK_EVERY);
                let deadlocks = check_deadlock();
                for thread in deadlocks.iter().flatten() {
                    let (id, backtrace) = (thread.thread_id(), thread.backtrace());
                    let _ = writeln!(io::stderr(), "deadlock: thread {id:?}\n{backtrace:?}");
                }
                if !deadlocks.is_empty() {
                    std::process::abort();
                }
            }
        });
    });
}
