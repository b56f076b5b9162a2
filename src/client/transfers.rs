//! Every transfer of this client, from its request to its end, while the chat goes on.
//!
//! What is particular to one direction is in `getting` and `putting`; what a person may do is in `control`, what the loss of
//! the session does in `link`, what an end brings in `ends`; what moves octets is the `carrier`.

mod control;
mod ends;
mod getting;
mod link;
mod putting;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use super::carrier::Carrier;
use super::report::{Report, percent};
use super::tokens::Tokens;
use super::transfer::{Asked, Gate, Hand, Side, Stage, Transfer};
pub use super::transfer::{Failed, Reaction, TransferEvent, View, Want, What};
use crate::transfer::TransferError;
use crate::transfer::part::remove_old_leftovers;
use crate::transfer::tuning::Tuning;
use crate::wire::ErrorCode;
use crate::wire::message::{ClientMessage, Done, ServerMessage, TransferId};
use link::Link;

/// Ends not yet looked at. Ours: far more than a server lets one client have under way.
const ENDS_MAX: usize = 1_024;

/// How long the digest may come after the last octet. Ours: a server reads 5 GiB again from a slow disk.
const DIGEST_WAIT_MAX: Duration = Duration::from_secs(600);

/// How long the server may take to verify and sync what was put. Ours: 5 GiB on a slow disk.
const VERIFY_WAIT_MAX: Duration = Duration::from_secs(600);

/// How long a person may think about the question at 40 %: then the server takes the transfer for dead.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// So many offers that nobody has taken up does a server allow one client (docs/PROTOCOL.md, section 4).
const OPEN_MAX: usize = 4;

/// So many transfers does a server allow one client (likewise).
const TRANSFERS_MAX: usize = 8;

/// A server that is busy although we keep to that is asked again after this, or when a transfer ends. Ours: it has seen
/// by then what we have seen.
const BUSY_WAIT: Duration = Duration::from_secs(1);

/// So often is it asked about an upload that goes on. Ours: an earlier one that still runs there ends within seconds.
const BUSY_MAX: u32 = 30;

/// Without any UDP packet for so long, TCP is tried. Ours: five SYNs at the longest interval.
const FALL_BACK_AFTER: Duration = Duration::from_secs(15);

/// How long a person who insists on UDP waits for its first packet: as long as an open may take.
const NO_ANSWER_MAX: Duration = Duration::from_secs(60);

/// All transfers. It speaks and shows nothing itself, but answers with [`Reaction`]s.
#[derive(Debug)]
pub struct Transfers {
    carrier: Carrier,
    tokens: Tokens,
    number_next: u32,
    /// Those whose request is not said yet, in order.
    waiting: VecDeque<Asked>,
    /// Requests without an answer, in order: the answers keep it.
    asked: VecDeque<Asked>,
    under_way: BTreeMap<TransferId, Transfer>,
    /// Those that broke off, or that somebody has paused.
    paused: Vec<Asked>,
    /// The server was busy: nothing more is asked for until then.
    busy_until: Option<Instant>,
    link: Link,
    /// The folders from which old leftovers are gone: looked through once, each.
    swept: BTreeSet<PathBuf>,
    events: Receiver<TransferEvent>,
}

impl Transfers {
    /// Nothing under way; the threads start with the first transfer.
    pub fn new(server: SocketAddr, rtt: Duration, tuning: Tuning) -> Transfers {
        let (tell, events) = crossbeam_channel::bounded(ENDS_MAX);
        Transfers {
            carrier: Carrier::new(server, rtt, tuning, tell),
            tokens: Tokens::of_this_user(&server.to_string()),
            number_next: 1,
            waiting: VecDeque::new(),
            asked: VecDeque::new(),
            under_way: BTreeMap::new(),
            paused: Vec::new(),
            busy_until: None,
            link: Link::Up,
            swept: BTreeSet::new(),
            events,
        }
    }

    /// Where the threads of the transfers tell their ends; to be handed to [`on_transfer`](Self::on_transfer).
    pub fn events(&self) -> Receiver<TransferEvent> {
        self.events.clone()
    }

    /// Whether nothing is wanted and nothing under way; what is paused does not count.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.asked.is_empty() && self.under_way.is_empty()
    }

    /// Since when the server owes an answer to a request.
    pub fn unanswered_since(&self) -> Option<Instant> {
        self.asked.front()?.said_at
    }

    /// Asks for a file, or lets it wait its turn.
    pub fn ask(&mut self, want: Want) -> Vec<Reaction> {
        let (number, at) = (self.number_next, Instant::now());
        self.number_next += 1;
        self.waiting.push_back(Asked {
            number,
            want,
            at,
            said_at: None,
            has_company: false,
            busy_count: 0,
            cancelled: false,
            begun: false,
            anew: false,
            hand: Hand::Nothing,
        });
        self.ask_next(at)
    }

    /// Says as many requests as the server allows.
    fn ask_next(&mut self, now: Instant) -> Vec<Reaction> {
        let mut reactions = Vec::new();
        if self.link == Link::Settling && self.under_way.is_empty() {
            self.link = Link::Up;
            // A connection that is still closing may have a number that means another file now.
            self.carrier.close();
        }
        while self.link == Link::Up && self.busy_until.is_none_or(|until| until <= now) {
            let offers = self.under_way.values().filter(|transfer| transfer.is_open()).count();
            let asked = self.asked.len();
            if asked + offers >= OPEN_MAX || asked + self.under_way.len() >= TRANSFERS_MAX {
                break;
            }
            let Some(mut next) = self.waiting.pop_front() else { break };
            if next.said_at.replace(now).is_none() {
                next.at = now;
            }
            next.has_company = asked + self.under_way.len() > 0;
            match self.request(&mut next) {
                Ok(request) => {
                    reactions.push(Reaction::Say(request));
                    self.asked.push_back(next);
                }
                Err(error) => {
                    reactions.push(Reaction::Failed(Failed { name: next.want.name, error, begun: false }));
                }
            }
        }
        reactions
    }

    fn request(&mut self, asked: &mut Asked) -> Result<ClientMessage, TransferError> {
        match asked.want.what.clone() {
            What::Get { target, .. } => {
                if self.swept.insert(target.folder().to_owned()) {
                    remove_old_leftovers(target.folder());
                }
                Ok(getting::request(asked, &target))
            }
            What::Put { path } => putting::request(asked, &path, &self.tokens),
        }
    }

    /// Takes what the server says about transfers; gives back what is about something else.
    pub fn on_server(&mut self, message: ServerMessage) -> Result<Vec<Reaction>, ServerMessage> {
        let is_ours =
            |request: &str| ["GET", "RESUME", "PUT"].iter().any(|ours| request.eq_ignore_ascii_case(ours));
        let mut reactions = match message {
            ServerMessage::Offer(offer) => self.on_offer(offer),
            ServerMessage::Accept(accept) => self.on_accept(*accept),
            ServerMessage::Done(id, done) => self.on_done(id, done),
            ServerMessage::Err { code, ref request, ref words } if is_ours(request) => {
                let Some(asked) = self.asked.pop_front() else { return Err(message) };
                self.on_refused(asked, code, words)
            }
            other => return Err(other),
        };
        reactions.extend(self.ask_next(Instant::now()));
        Ok(reactions)
    }

    fn on_refused(&mut self, mut asked: Asked, code: ErrorCode, words: &str) -> Vec<Reaction> {
        let holds_token = matches!(&asked.hand, Hand::Source(source) if source.resume_token.is_some());
        let may_wait = asked.has_company || holds_token && asked.busy_count < BUSY_MAX;
        if code == ErrorCode::Busy && may_wait && !asked.cancelled {
            // The server counts something that has ended here already.
            asked.busy_count += 1;
            self.busy_until = Some(Instant::now() + BUSY_WAIT);
            self.waiting.push_front(asked);
            return Vec::new();
        }
        if code == ErrorCode::Changed && !asked.cancelled && !asked.anew {
            if let Hand::Leftover(leftover) = std::mem::replace(&mut asked.hand, Hand::Nothing) {
                leftover.discard();
            }
            return vec![self.ask_anew(asked)];
        }
        // Its end may have been lost with the session.
        let perhaps_ours = code == ErrorCode::Exists && asked.begun;
        let words = if perhaps_ours {
            format!("{words}; perhaps the earlier try put it there")
        } else {
            words.into()
        };
        vec![Reaction::Refused { name: asked.want.name, code, words }]
    }

    /// Asks once more, for the whole file; gives the word about it.
    fn ask_anew(&mut self, mut asked: Asked) -> Reaction {
        let text = format!("{} has changed since the first try: it starts anew", asked.want.name);
        asked.anew = true;
        self.waiting.push_front(asked);
        Reaction::Tell(Report::Notice { text })
    }

    /// What the server has agreed to cannot be used.
    fn decline(&self, id: TransferId, asked: Asked, error: TransferError) -> Vec<Reaction> {
        let said = ClientMessage::Done(id, Done::Failed(error.code()));
        vec![Reaction::Say(said), Reaction::Failed(Failed { name: asked.want.name, error, begun: true })]
    }

    /// A transfer begins; gives the words about it.
    fn start(&mut self, id: TransferId, mut transfer: Transfer) -> Vec<Reaction> {
        transfer.asked.begun = true;
        let Transfer { asked, size, start, .. } = &transfer;
        let mut words = Vec::new();
        if *start > 0 {
            let text = format!("resuming {} at {} %", asked.want.name, percent(*start, *size));
            words.push(Reaction::Tell(Report::Notice { text }));
        }
        words.push(Reaction::Tell(Report::Started {
            number: asked.number,
            name: asked.want.name.to_string(),
            direction: asked.want.direction(),
            bytes: *size,
            transport: asked.want.transport.to_string(),
        }));
        self.under_way.insert(id, transfer);
        words
    }

    fn on_done(&mut self, id: TransferId, done: Done) -> Vec<Reaction> {
        let Some(transfer) = self.under_way.get_mut(&id) else { return Vec::new() };
        match (done, &mut transfer.side) {
            (Done::Sent { size, digest }, Side::Get(get)) => {
                get.promised.get_or_insert((size, digest));
                self.keep_if_complete(id)
            }
            (Done::Kept, Side::Put(_)) => self.on_put(id),
            (Done::Failed(code), _) => self.abandon(id, TransferError::Refused(code)),
            (Done::Sent { .. }, Side::Put(_)) | (Done::Kept, Side::Get(_)) => Vec::new(),
        }
    }

    /// Takes what a thread of a transfer tells.
    pub fn on_transfer(&mut self, event: TransferEvent) -> Vec<Reaction> {
        let mut reactions = match event {
            TransferEvent::Arrived(id, sink, arrived, at) => self.on_arrived(id, sink, arrived, at),
            TransferEvent::Sent(id, sent, at) => self.on_sent(id, sent, at),
            TransferEvent::Read(id, read) => self.on_read(id, read),
            TransferEvent::Kept(id, kept) => self.on_kept(id, kept),
        };
        reactions.extend(self.ask_next(Instant::now()));
        reactions
    }

    /// What the passing of time brings: words on the way of long transfers, the question at 40 %, and ends of waiting.
    pub fn on_tick(&mut self, now: Instant) -> Vec<Reaction> {
        let (mut reactions, mut late, mut unread) = (Vec::new(), Vec::new(), Vec::new());
        for (&id, transfer) in &mut self.under_way {
            reactions.extend(transfer.milestone(now).map(Reaction::Tell));
            let moved_bytes = transfer.moving.progress.moved_bytes();
            let lost = |why: &str| TransferError::Lost(why.into());
            match &mut transfer.side {
                Side::Get(get) => match (&get.stage, get.gate) {
                    (Stage::Arrived(_, at), _) if now.saturating_duration_since(*at) > DIGEST_WAIT_MAX => {
                        late.push((id, lost("the server never told the digest")));
                    }
                    (Stage::Moving, Gate::At(offset)) if moved_bytes >= offset => {
                        get.gate = Gate::Asked(now);
                        reactions.push(Reaction::Ask(transfer.view()));
                    }
                    (_, Gate::Asked(at)) if now.saturating_duration_since(at) > ANSWER_MAX => {
                        late.push((id, TransferError::Declined));
                    }
                    _ => {}
                },
                Side::Put(put) => {
                    unread.extend(put.unread.is_some().then_some(id));
                    if put.sent_at.is_some_and(|at| now.saturating_duration_since(at) > VERIFY_WAIT_MAX) {
                        late.push((id, lost("the server never said that it has the file")));
                    }
                }
            }
        }
        for id in unread {
            late.extend(self.read_for_digest(id).err().map(|error| (id, error)));
        }
        for (id, error) in late {
            reactions.extend(self.abandon(id, error));
        }
        reactions.extend(self.ask_next(now));
        reactions
    }
}

#[cfg(test)]
mod tests;
