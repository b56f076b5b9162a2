//! What a person may do with transfers by their numbers.

use std::time::Instant;

use super::{Transfers, getting};
use crate::client::transfer::{Asked, Failed, Gate, Reaction, Side, Transfer, View, What};
use crate::transfer::TransferError;
use crate::transfer::sink::Sink;
use crate::wire::message::TransferId;

impl Transfers {
    fn id_of(&self, number: u32) -> Option<TransferId> {
        self.under_way.iter().find(|(_, transfer)| transfer.asked.number == number).map(|(&id, _)| id)
    }

    /// Ends the transfer of this number, and what has come of it; `None` when there is none.
    pub fn cancel(&mut self, number: u32) -> Option<Vec<Reaction>> {
        let cancelled = |asked: Asked| {
            let error = TransferError::Cancelled;
            vec![Reaction::Failed(Failed { name: asked.want.name, error, begun: false })]
        };
        if let Some(at) = self.waiting.iter().position(|asked| asked.number == number) {
            return self.waiting.remove(at).map(cancelled);
        }
        if let Some(at) = self.paused.iter().position(|asked| asked.number == number) {
            let asked = self.paused.remove(at);
            match &asked.want.what {
                What::Get { target, .. } => _ = getting::leftover(target).map(Sink::discard),
                What::Put { path } => self.tokens.forget(path, &asked.want.name),
            }
            return Some(cancelled(asked));
        }
        if let Some(asked) = self.asked.iter_mut().find(|asked| asked.number == number) {
            asked.cancelled = true;
            return Some(Vec::new());
        }
        let mut reactions = self.abandon(self.id_of(number)?, TransferError::Cancelled);
        reactions.extend(self.ask_next(Instant::now()));
        Some(reactions)
    }

    /// Ends the transfer of this number so that it can go on later; `None` when there is none that could.
    pub fn pause(&mut self, number: u32) -> Option<Vec<Reaction>> {
        if let Some(at) = self.waiting.iter().position(|asked| asked.number == number) {
            self.paused.extend(self.waiting.remove(at));
            return Some(Vec::new());
        }
        let mut reactions = self.abandon(self.id_of(number)?, TransferError::Paused);
        reactions.extend(self.ask_next(Instant::now()));
        Some(reactions)
    }

    /// Goes on with a transfer that was paused or broke off; `None` when there is none of this number.
    pub fn resume(&mut self, number: u32) -> Option<Vec<Reaction>> {
        let at = self.paused.iter().position(|asked| asked.number == number)?;
        let mut asked = self.paused.remove(at);
        asked.said_at = None;
        self.waiting.push_back(asked);
        Some(self.ask_next(Instant::now()))
    }

    /// The person answers the question at 40 %: of this transfer, or of the only one. `None` when nothing was asked.
    pub fn answer(&mut self, number: Option<u32>, goes_on: bool) -> Option<Vec<Reaction>> {
        let is_asked = |transfer: &Transfer| {
            let asks = matches!(&transfer.side, Side::Get(get) if matches!(get.gate, Gate::Asked(_)));
            asks && number.is_none_or(|number| transfer.asked.number == number)
        };
        let (&id, transfer) = self.under_way.iter_mut().find(|(_, transfer)| is_asked(transfer))?;
        if !goes_on {
            return Some(self.abandon(id, TransferError::Declined));
        }
        if let Side::Get(get) = &mut transfer.side {
            get.gate = Gate::Open;
        }
        self.carrier.grant_all(id, &transfer.moving);
        Some(Vec::new())
    }

    /// Every transfer, in the order of their numbers.
    pub fn views(&self) -> Vec<View> {
        let asked = self.asked.iter().map(|asked| asked.view("asked for"));
        let waiting = self.waiting.iter().map(|asked| asked.view("waiting"));
        let paused = self.paused.iter().map(|asked| asked.view("paused (/resume N goes on)"));
        let under_way = self.under_way.values().map(Transfer::view);
        let mut views: Vec<View> = under_way.chain(asked).chain(waiting).chain(paused).collect();
        views.sort_by_key(|view| view.number);
        views
    }
}
