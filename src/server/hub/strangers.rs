//! Strangers: connections that have not said HELLO yet. There is room for few, and one too many makes another go.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::MutexGuard;
use rustix::event::{PollFlags, Timespec};

use super::{Connection, Hub, State};
use crate::chat::room::MemberId;
use crate::server::machine::{Instant, PollFd, TcpStream, poll};

/// A stranger may be silent for so long before it has to make room for another, and if all must be heard first, the other
/// waits for so long. Ours: who has connected speaks at once, and its reader needs a fraction of this unless the machine is
/// busy; meanwhile the system keeps a thousand connections for us.
const STRANGER_GRACE: Duration = Duration::from_millis(20);

impl Hub {
    /// Takes one stranger out where there are too many: the oldest that has been heard and is not in for all that, or has
    /// nothing to say. In a crowd that comes at once most have said HELLO already, or have gone again, and only their
    /// readers have not got to it.
    pub(super) fn evict_one_above(
        &self,
        unregistered_max: usize,
        state: &mut MutexGuard<'_, State>,
    ) -> Option<(MemberId, Arc<TcpStream>)> {
        let until = Instant::now() + STRANGER_GRACE;
        while state.unregistered.len() > unregistered_max {
            let is_late = until <= Instant::now();
            let idle = state.unregistered.iter().copied().find(|id| {
                let stranger = &state.connections[id];
                let had_time = is_late || stranger.admitted_at.elapsed() >= STRANGER_GRACE;
                stranger.was_heard || (had_time && stranger.is_silent())
            });
            if let Some(id) = idle.or_else(|| state.unregistered.first().copied().filter(|_| is_late)) {
                state.unregistered.remove(&id);
                return Some((id, Arc::clone(&state.connections.get(&id)?.stream)));
            }
            self.moved.wait_until(state, until);
        }
        None
    }

    /// A stranger's first line has been acted upon, and it is not in the room: from now on it is the first to make room,
    /// whatever else it may have to say. Whoever waits for such a one is told.
    pub(super) fn on_heard(&self, state: &mut State, id: MemberId) {
        if state.unregistered.contains(&id)
            && let Some(stranger) = state.connections.get_mut(&id)
        {
            stranger.was_heard = true;
            self.moved.notify_all();
        }
    }
}

impl Connection {
    /// Whether its reader waits in vain.
    fn is_silent(&self) -> bool {
        self.pulse.is_listening() && !has_input(&self.stream)
    }
}

/// Whether bytes of the client wait to be read, or its end does.
fn has_input(stream: &TcpStream) -> bool {
    let mut fds = [PollFd::new(stream, PollFlags::IN)];
    !matches!(poll(&mut fds, Some(&Timespec::default())), Ok(0))
}
