//! What becomes of transfers when the session is lost, regained, or gone for good.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Transfers;
use crate::client::transfer::{Asked, Failed, Hand, Reaction};
use crate::transfer::TransferError;

/// Whether there is a session to ask in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    Up,
    /// It is being regained.
    Away,
    /// There is one again, but something of the last one is under way still: its number may mean another file now.
    Settling,
    /// There will be none.
    Over,
}

impl Transfers {
    /// The session is gone and being regained: what is complete here is still kept, everything else is asked for again
    /// in the next one.
    pub fn on_disconnected(&mut self, why: &str) -> Vec<Reaction> {
        self.link = Link::Away;
        let (cancelled, mut waiting): (VecDeque<Asked>, VecDeque<Asked>) =
            self.asked.drain(..).partition(|asked| asked.cancelled);
        waiting.append(&mut self.waiting);
        self.waiting = waiting;
        // What they hold is asked for anew: others may want it meanwhile.
        self.waiting.iter_mut().for_each(|asked| asked.hand = Hand::Nothing);
        let mut reactions = fail_all(cancelled, &|| TransferError::Cancelled);
        reactions.extend(self.let_go(why));
        reactions
    }

    /// Ends what is under way, unless it can be completed here.
    fn let_go(&mut self, why: &str) -> Vec<Reaction> {
        let mut reactions = Vec::new();
        for id in self.under_way.keys().copied().collect::<Vec<_>>() {
            self.use_offered_digest(id);
            reactions.extend(self.keep_if_complete(id));
            reactions.extend(self.abandon(id, TransferError::Lost(why.into())));
        }
        reactions
    }

    /// There is a session again: what waits for it goes on.
    pub fn on_reconnected(&mut self, server: SocketAddr, rtt: Duration) -> Vec<Reaction> {
        self.link = Link::Settling;
        self.busy_until = None;
        self.carrier.set_server(server, rtt);
        self.ask_next(Instant::now())
    }

    /// The session is gone for good: what is complete here is still kept, everything else has failed.
    pub fn on_lost(&mut self, why: &str) -> Vec<Reaction> {
        self.link = Link::Over;
        let unbegun: VecDeque<Asked> = self.asked.drain(..).chain(self.waiting.drain(..)).collect();
        let mut reactions = fail_all(unbegun, &|| TransferError::Lost(why.into()));
        reactions.extend(self.let_go(why));
        reactions
    }
}

fn fail_all(asked: VecDeque<Asked>, error: &dyn Fn() -> TransferError) -> Vec<Reaction> {
    let failed =
        |Asked { want, begun, .. }| Reaction::Failed(Failed { name: want.name, error: error(), begun });
    asked.into_iter().map(failed).collect()
}
