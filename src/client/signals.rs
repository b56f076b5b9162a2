//! SIGINT, SIGTERM and SIGHUP: a clean end within a second, whatever the client is doing.

use std::io;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::terminal;

/// How long a clean end may take before the process simply ends. Ours: a person who pressed ^C waits no longer.
const GRACE: Duration = Duration::from_millis(900);

/// What the signal thread tells, and whether anybody is there to hear it.
#[derive(Debug)]
pub struct SignalSource {
    /// The signals that came.
    pub signals: Receiver<i32>,
    heard: Arc<AtomicBool>,
}

impl SignalSource {
    /// Starts the thread, named `signals`. It ends with the process.
    pub fn start() -> io::Result<SignalSource> {
        let (tell, signals) = crossbeam_channel::bounded(1);
        let heard = Arc::new(AtomicBool::new(false));
        let source = SignalSource { signals, heard: Arc::clone(&heard) };
        let hooked = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        thread::Builder::new().name("signals".into()).spawn(move || watch(hooked, &tell, &heard))?;
        Ok(source)
    }

    /// From now on somebody waits for signals and ends cleanly; before this they end the process at once.
    pub fn listen(&self) -> Receiver<i32> {
        self.heard.store(true, Ordering::Release);
        self.signals.clone()
    }
}

fn watch(mut hooked: Signals, tell: &Sender<i32>, heard: &AtomicBool) {
    if let Some(signal) = hooked.forever().next() {
        // The main thread may be blocked, in a write to a terminal that nobody reads: then it does not end in time.
        if heard.load(Ordering::Acquire) && tell.try_send(signal).is_ok() {
            thread::sleep(GRACE);
        }
        terminal::restore();
        process::exit(128 + signal);
    }
}
