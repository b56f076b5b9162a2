//! Probes: a member asks whether its UDP packets come here, and whether ours go back.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use jiff::Timestamp;

use super::hub::Seat;
use super::moves;
use crate::chat::room::MemberId;
use crate::rudp::probe::PROBE_LIFE;
use crate::wire::message::{Probe, ServerMessage, TransferId};

/// How many members are probing at the same time. Ours: each may have some 400 kB answered in [`PROBE_LIFE`].
const PROBING_MAX: usize = 64;

/// Who is probing: one probe for each member.
#[derive(Debug, Default)]
pub(super) struct Probes {
    by_owner: HashMap<MemberId, Probing>,
    last_id: u32,
}

#[derive(Debug)]
struct Probing {
    id: TransferId,
    arrived: Arc<AtomicU32>,
    until: Instant,
}

/// Why nobody is probed just now.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotProbed {
    #[error("too many probe at the same time")]
    Busy,
    #[error("the system gives no random numbers: {0}")]
    Random(#[from] getrandom::Error),
}

impl Probes {
    /// Begins a probe. Those that are over by that, the owner's last one and all whose time has passed, are given back.
    fn insert(
        &mut self,
        owner: MemberId,
        now: Instant,
    ) -> Result<(TransferId, Arc<AtomicU32>, Vec<TransferId>), NotProbed> {
        let others =
            self.by_owner.iter().filter(|(member, probing)| **member != owner && now < probing.until);
        if others.count() >= PROBING_MAX {
            return Err(NotProbed::Busy);
        }
        let is_over = |member: MemberId, probing: &Probing| member == owner || probing.until <= now;
        let over = self.by_owner.extract_if(|member, probing| is_over(*member, probing));
        let over: Vec<TransferId> = over.map(|(_, probing)| probing.id).collect();
        self.last_id = self.last_id.wrapping_add(1).max(1);
        let (id, arrived) = (TransferId(self.last_id), Arc::new(AtomicU32::new(0)));
        self.by_owner.insert(owner, Probing { id, arrived: Arc::clone(&arrived), until: now + PROBE_LIFE });
        Ok((id, arrived, over))
    }

    /// Ends the owner's probe; gives its number, and how many packets have come.
    pub(super) fn remove(&mut self, owner: MemberId) -> Option<(TransferId, u32)> {
        let Probing { id, arrived, .. } = self.by_owner.remove(&owner)?;
        Some((id, arrived.load(Ordering::Relaxed)))
    }
}

/// Answers PROBE: from now on a worker answers packets.
pub(super) fn start(seat: &Seat) -> Result<(), NotProbed> {
    let hub = &seat.hub;
    let secret = moves::new_secret()?;
    let (id, arrived, over) = hub.state.lock().probes.insert(seat.id, Instant::now())?;
    over.into_iter().for_each(|over| hub.pool.end_probe(over));
    let port = hub.pool.start_probe(id, &secret, seat.peer.ip(), arrived);
    let time = Timestamp::now().round(jiff::Unit::Millisecond).unwrap_or(Timestamp::UNIX_EPOCH);
    seat.tell([ServerMessage::Probe(Probe { id, port, secret, time })]);
    Ok(())
}

/// Answers `PROBE_<id>`; `false` when the member has no such probe.
pub(super) fn end(seat: &Seat, id: TransferId) -> bool {
    let hub = &seat.hub;
    let ended = {
        let mut state = hub.state.lock();
        let is_it = state.probes.by_owner.get(&seat.id).is_some_and(|probing| probing.id == id);
        if is_it { state.probes.remove(seat.id) } else { None }
    };
    let Some((id, arrived)) = ended else { return false };
    hub.pool.end_probe(id);
    seat.tell([ServerMessage::Probed(id, arrived)]);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_member_has_one_probe_and_there_are_not_too_many() {
        let (mut probes, now) = (Probes::default(), Instant::now());
        let (first, ..) = probes.insert(MemberId(1), now).expect("room");
        let (second, arrived, over) = probes.insert(MemberId(1), now).expect("in its place");
        assert_eq!((over, first == second), (vec![first], false));
        arrived.store(3, Ordering::Relaxed);
        for member in 2..=64 {
            probes.insert(MemberId(member), now).expect("room");
        }
        assert!(matches!(probes.insert(MemberId(65), now), Err(NotProbed::Busy)));
        assert_eq!(probes.remove(MemberId(1)), Some((second, 3)));
        probes.insert(MemberId(65), now).expect("room again");
        probes
            .insert(MemberId(66), now + PROBE_LIFE + Duration::from_millis(1))
            .expect("the others are over");
        assert_eq!(probes.by_owner.len(), 1);
    }
}
