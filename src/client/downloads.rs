//! Every download of this client, from its GET to the file under its name, while the chat goes on.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

use super::download::{Asked, Download, Moving, Stage};
pub use super::download::{Failed, Reaction, TransferEvent, View, Want};
use super::report::{Fetched, Report};
use crate::transfer::disk::Disk;
use crate::transfer::pool::{Pool, PoolConfig, ReceiveRequest};
use crate::transfer::sink::Sink;
use crate::transfer::tuning::Tuning;
use crate::transfer::{TransferError, stream};
use crate::wire::ErrorCode;
use crate::wire::message::{ClientMessage, Done, Offer, ServerMessage, TransferId, Transport};

/// Endings not yet looked at. Ours: far more than a server lets one client have under way.
const ENDINGS_MAX: usize = 1_024;

/// How long the digest may come after the last octet. Ours: a server reads 5 GiB again in a few seconds.
const DIGEST_WAIT_MAX: Duration = Duration::from_secs(60);

/// So many offers that nobody has taken up does a server allow one client (docs/PROTOCOL.md, section 4).
const OPEN_MAX: usize = 4;

/// So many transfers does a server allow one client (likewise).
const TRANSFERS_MAX: usize = 8;

/// A server that is busy although we keep to that is asked again after this, or when a download ends. Ours: it has seen
/// by then what we have seen.
const BUSY_WAIT: Duration = Duration::from_secs(1);

/// Without any UDP packet for so long, TCP is tried. Ours: five SYNs at the longest interval.
const FALL_BACK_AFTER: Duration = Duration::from_secs(15);

/// How long a person who insists on UDP waits for its first packet: as long as an open may take.
const NO_ANSWER_MAX: Duration = Duration::from_secs(60);

/// How long the ends of cancelled transfers are waited for, so that their files are removed.
const CLOSE_MAX: Duration = Duration::from_millis(700);

/// All downloads. It speaks and shows nothing itself, but answers with [`Reaction`]s.
#[derive(Debug)]
pub struct Downloads {
    server: SocketAddr,
    rtt: Duration,
    tuning: Tuning,
    number_next: u32,
    /// Those whose GET is not said yet, in order.
    waiting: VecDeque<Asked>,
    /// The server was busy: nothing more is asked for until then.
    busy_until: Option<Instant>,
    /// GETs without an answer, in order: the answers keep it.
    asked: VecDeque<Asked>,
    under_way: BTreeMap<TransferId, Download>,
    pool: Option<Pool>,
    disk: Option<Disk>,
    tell: Sender<TransferEvent>,
    events: Receiver<TransferEvent>,
}

impl Downloads {
    /// Nothing under way; the pool and the disk thread start with the first download.
    pub fn new(server: SocketAddr, rtt: Duration, tuning: Tuning) -> Downloads {
        let (tell, events) = crossbeam_channel::bounded(ENDINGS_MAX);
        Downloads {
            server,
            rtt,
            tuning,
            number_next: 1,
            waiting: VecDeque::new(),
            busy_until: None,
            asked: VecDeque::new(),
            under_way: BTreeMap::new(),
            pool: None,
            disk: None,
            tell,
            events,
        }
    }

    /// Where the threads of the transfers tell their ends; to be handed to [`on_transfer`](Self::on_transfer).
    pub fn events(&self) -> Receiver<TransferEvent> {
        self.events.clone()
    }

    /// Whether nothing is wanted and nothing under way.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.asked.is_empty() && self.under_way.is_empty()
    }

    /// Since when the server owes an answer to a GET.
    pub fn unanswered_since(&self) -> Option<Instant> {
        self.asked.front()?.said_at
    }

    /// Asks for a file, or lets it wait its turn.
    pub fn ask(&mut self, want: Want) -> Vec<Reaction> {
        let number = self.number_next;
        self.number_next += 1;
        let at = Instant::now();
        self.waiting.push_back(Asked {
            number,
            want,
            at,
            said_at: None,
            has_company: false,
            cancelled: false,
        });
        self.ask_next(at)
    }

    /// Says as many GETs as the server allows.
    fn ask_next(&mut self, now: Instant) -> Vec<Reaction> {
        let mut gets = Vec::new();
        while self.busy_until.is_none_or(|until| until <= now) {
            let offers = self.under_way.values().filter(|download| download.is_open()).count();
            let asked = self.asked.len();
            if asked + offers >= OPEN_MAX || asked + self.under_way.len() >= TRANSFERS_MAX {
                break;
            }
            let Some(mut next) = self.waiting.pop_front() else { break };
            if next.said_at.replace(now).is_none() {
                next.at = now;
            }
            next.has_company = asked + self.under_way.len() > 0;
            gets.push(Reaction::Say(ClientMessage::Get(next.want.transport, next.want.name.clone())));
            self.asked.push_back(next);
        }
        gets
    }

    /// Takes what the server says about transfers; gives back what is about something else.
    pub fn on_server(&mut self, message: ServerMessage) -> Result<Vec<Reaction>, ServerMessage> {
        let mut reactions = match message {
            ServerMessage::Offer(offer) => self.on_offer(offer),
            ServerMessage::Done(id, done) => self.on_done(id, done),
            ServerMessage::Err { code, ref request, ref words } if request.eq_ignore_ascii_case("GET") => {
                let Some(asked) = self.asked.pop_front() else { return Err(message) };
                self.on_refused(asked, code, words)
            }
            other => return Err(other),
        };
        reactions.extend(self.ask_next(Instant::now()));
        Ok(reactions)
    }

    fn on_refused(&mut self, asked: Asked, code: ErrorCode, words: &str) -> Vec<Reaction> {
        if code == ErrorCode::Busy && asked.has_company && !asked.cancelled {
            // The server counts something that has ended here already.
            self.busy_until = Some(Instant::now() + BUSY_WAIT);
            self.waiting.push_front(asked);
            return Vec::new();
        }
        vec![Reaction::Refused { name: asked.want.name, code, words: words.to_owned() }]
    }

    fn on_offer(&mut self, offer: Offer) -> Vec<Reaction> {
        let id = offer.id;
        let Some(asked) = self.asked.pop_front() else {
            // Not answered: it ends by itself, and from a server that does not read, the answers would pile up here.
            log::warn!("transfer {id}: offered unasked");
            return Vec::new();
        };
        let is_answer = offer.file.name == asked.want.name && offer.transport == asked.want.transport;
        let error = if !is_answer || self.under_way.contains_key(&id) {
            TransferError::Lost("the server offered something else".into())
        } else if asked.cancelled {
            TransferError::Cancelled
        } else {
            match Sink::create(&asked.want.target, offer.file.size)
                .and_then(|sink| self.begin(&offer, sink, asked.want.fall_back))
            {
                Ok(moving) => {
                    let started = Report::Started {
                        number: asked.number,
                        name: asked.want.name.to_string(),
                        bytes: offer.file.size,
                        transport: offer.transport.to_string(),
                    };
                    self.under_way.insert(id, Download::new(asked, &offer, moving));
                    return vec![Reaction::Tell(started)];
                }
                Err(error) => error,
            }
        };
        let said = ClientMessage::Done(id, Done::Failed(error.code()));
        vec![Reaction::Say(said), Reaction::Failed(Failed { name: asked.want.name, error, begun: true })]
    }

    /// Starts moving the octets.
    fn begin(&mut self, offer: &Offer, sink: Sink, fall_back: bool) -> Result<Moving, TransferError> {
        let moving = Moving::default();
        let (id, rtt, tell, mut server) = (offer.id, self.rtt, self.tell.clone(), self.server);
        server.set_port(offer.port);
        let ended = move |arrived| {
            // The channel is wide, and nobody listens any more when the client is ending.
            let _ = tell.try_send(TransferEvent::Arrived(id, arrived, Instant::now()));
        };
        match offer.transport {
            Transport::Udp => self.pool()?.receive(ReceiveRequest {
                id,
                key: offer.secret.clone(),
                server,
                sink,
                rtt,
                open_max: if fall_back { FALL_BACK_AFTER } else { NO_ANSWER_MAX },
                progress: Arc::clone(&moving.progress),
                ended: Box::new(ended),
            }),
            Transport::Tcp => {
                let (token, Moving { progress, cancelled }) = (offer.secret.clone(), moving.clone());
                thread::Builder::new()
                    .name(format!("tcp-transfer-{id}"))
                    .spawn(move || ended(stream::receive(server, &token, sink, &progress, &cancelled)))
                    .map_err(|source| system("start a thread", source))?;
            }
        }
        Ok(moving)
    }

    fn pool(&mut self) -> Result<&Pool, TransferError> {
        if self.pool.is_none() {
            let ip: IpAddr = match self.server {
                SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            let config = PoolConfig { ip, base_port: 0, workers: 1, tuning: self.tuning.clone() };
            self.pool = Some(Pool::start(&config).map_err(|source| system("open a UDP socket", source))?);
        }
        Ok(self.pool.as_ref().expect("just made"))
    }

    fn on_done(&mut self, id: TransferId, done: Done) -> Vec<Reaction> {
        let Some(download) = self.under_way.get_mut(&id) else { return Vec::new() };
        match done {
            Done::Sent { size, digest } => {
                download.promised.get_or_insert((size, digest));
                self.keep_if_complete(id)
            }
            Done::Failed(code) => self.abandon(id, TransferError::Refused(code)),
            Done::Kept => Vec::new(),
        }
    }

    /// Takes what a thread of a transfer tells.
    pub fn on_transfer(&mut self, event: TransferEvent) -> Vec<Reaction> {
        let mut reactions = self.on_transfer_event(event);
        reactions.extend(self.ask_next(Instant::now()));
        reactions
    }

    fn on_transfer_event(&mut self, event: TransferEvent) -> Vec<Reaction> {
        match event {
            TransferEvent::Arrived(id, arrived, at) => {
                let Some(download) = self.under_way.get_mut(&id) else { return Vec::new() };
                match (download.failure.take(), arrived) {
                    (None, Ok(sink)) => {
                        download.stage = Stage::Arrived(sink, at);
                        self.keep_if_complete(id)
                    }
                    // The session ended first, but all is here and can be verified.
                    (Some(TransferError::Lost(_)), Ok(sink)) if download.promised.is_some() => {
                        download.stage = Stage::Arrived(sink, at);
                        self.keep_if_complete(id)
                    }
                    // Our own trouble comes first, whoever told of it first: the other side only saw us go.
                    (Some(_), Err(error @ TransferError::File { .. })) => self.end(id, Err(error)),
                    (Some(failure), _) => self.end(id, Err(failure)),
                    (None, Err(TransferError::NoAnswer)) if download.asked.want.fall_back => {
                        self.fall_back(id)
                    }
                    (None, Err(error)) => self.end(id, Err(error)),
                }
            }
            TransferEvent::Kept(id, kept) => self.end(id, kept),
        }
    }

    fn fall_back(&mut self, id: TransferId) -> Vec<Reaction> {
        let Some(Download { mut asked, .. }) = self.under_way.remove(&id) else { return Vec::new() };
        let text = format!("{}: {}; trying TCP", asked.want.name, TransferError::NoAnswer);
        asked.want.transport = Transport::Tcp;
        self.waiting.push_front(asked);
        vec![
            Reaction::Say(ClientMessage::Done(id, Done::Failed(ErrorCode::Incomplete))),
            Reaction::Tell(Report::Notice { text }),
        ]
    }

    fn keep_if_complete(&mut self, id: TransferId) -> Vec<Reaction> {
        let Some(download) = self.under_way.get_mut(&id) else { return Vec::new() };
        let (Some((size, digest)), Stage::Arrived(..)) = (download.promised, &download.stage) else {
            return Vec::new();
        };
        if size != download.size {
            let why = format!("the server announced {} bytes and sent {size}", download.size);
            return self.end(id, Err(TransferError::Lost(why)));
        }
        if self.disk.is_none() {
            match Disk::start() {
                Ok(disk) => self.disk = Some(disk),
                Err(source) => return self.end(id, Err(system("start a thread", source))),
            }
        }
        let (disk, tell) = (self.disk.as_ref().expect("just made"), self.tell.clone());
        match std::mem::replace(&mut download.stage, Stage::Moving) {
            Stage::Arrived(sink, at) => {
                download.stage = Stage::Keeping(digest, at.saturating_duration_since(download.asked.at));
                disk.keep(sink, digest, move |kept| {
                    let _ = tell.try_send(TransferEvent::Kept(id, kept));
                });
            }
            other => download.stage = other,
        }
        Vec::new()
    }

    /// The last word on a transfer, to the server and to the person.
    fn end(&mut self, id: TransferId, result: Result<PathBuf, TransferError>) -> Vec<Reaction> {
        let Some(download) = self.under_way.remove(&id) else { return Vec::new() };
        self.busy_until = None;
        let name = download.asked.want.name.clone();
        match (result, download.stage) {
            (Ok(path), Stage::Keeping(digest, took)) => vec![
                Reaction::Say(ClientMessage::Done(id, Done::Kept)),
                Reaction::Fetched(Fetched {
                    name: name.to_string(),
                    bytes: download.size,
                    seconds: took.as_secs_f64(),
                    transport: download.asked.want.transport.to_string(),
                    resent: download.moving.progress.resent_packets(),
                    digest: digest.to_string(),
                    path: path.display().to_string(),
                }),
            ],
            (result, _) => {
                let error = result.err().unwrap_or(TransferError::Cancelled);
                let said = ClientMessage::Done(id, Done::Failed(error.code()));
                vec![Reaction::Say(said), Reaction::Failed(Failed { name, error, begun: true })]
            }
        }
    }

    /// Ends a transfer for this reason: at once where nothing moves any more, else when its thread says so.
    fn abandon(&mut self, id: TransferId, why: TransferError) -> Vec<Reaction> {
        let Some(download) = self.under_way.get_mut(&id) else { return Vec::new() };
        match download.stage {
            Stage::Moving => {
                download.failure.get_or_insert(why);
                download.moving.cancelled.store(true, Ordering::Relaxed);
                if let Some(pool) =
                    self.pool.as_ref().filter(|_| download.asked.want.transport == Transport::Udp)
                {
                    pool.cancel(id);
                }
                Vec::new()
            }
            Stage::Arrived(..) => self.end(id, Err(why)),
            // All is here and the disk has it: that ends by itself, and well.
            Stage::Keeping(..) => Vec::new(),
        }
    }

    /// Ends the download of this number; `false` when there is none.
    pub fn cancel(&mut self, number: u32) -> Option<Vec<Reaction>> {
        if let Some(at) = self.waiting.iter().position(|asked| asked.number == number) {
            let asked = self.waiting.remove(at)?;
            let error = TransferError::Cancelled;
            return Some(vec![Reaction::Failed(Failed { name: asked.want.name, error, begun: false })]);
        }
        if let Some(asked) = self.asked.iter_mut().find(|asked| asked.number == number) {
            asked.cancelled = true;
            return Some(Vec::new());
        }
        let found = self.under_way.iter().find(|(_, download)| download.asked.number == number);
        let id = found.map(|(&id, _)| id)?;
        let mut reactions = self.abandon(id, TransferError::Cancelled);
        reactions.extend(self.ask_next(Instant::now()));
        Some(reactions)
    }

    /// The session is gone: what is complete here is still kept, everything else ends.
    pub fn on_lost(&mut self, why: &str) -> Vec<Reaction> {
        let mut reactions: Vec<Reaction> = self
            .asked
            .drain(..)
            .chain(self.waiting.drain(..))
            .map(|asked| {
                let error = TransferError::Lost(why.into());
                Reaction::Failed(Failed { name: asked.want.name, error, begun: false })
            })
            .collect();
        let ids: Vec<TransferId> = self.under_way.keys().copied().collect();
        for id in ids {
            if let Some(download) = self.under_way.get_mut(&id) {
                download.promised =
                    download.promised.or(download.offered.map(|digest| (download.size, digest)));
            }
            reactions.extend(self.keep_if_complete(id));
            reactions.extend(self.abandon(id, TransferError::Lost(why.into())));
        }
        reactions
    }

    /// What the passing of time brings: words on the way of long downloads, and the end of waiting for a digest.
    pub fn on_tick(&mut self, now: Instant) -> Vec<Reaction> {
        let (mut reactions, mut late) = (Vec::new(), Vec::new());
        for (&id, download) in &mut self.under_way {
            reactions.extend(download.milestone(now).map(Reaction::Tell));
            if let Stage::Arrived(_, at) = download.stage
                && now.saturating_duration_since(at) > DIGEST_WAIT_MAX
            {
                late.push(id);
            }
        }
        for id in late {
            reactions
                .extend(self.end(id, Err(TransferError::Lost("the server never told the digest".into()))));
        }
        reactions.extend(self.ask_next(now));
        reactions
    }

    /// Every download, in the order of their numbers.
    pub fn views(&self) -> Vec<View> {
        let asked = self.asked.iter().map(|asked| asked.view("asked for"));
        let waiting = self.waiting.iter().map(|asked| asked.view("waiting"));
        let under_way = self.under_way.values().map(Download::view);
        let mut views: Vec<View> = under_way.chain(asked).chain(waiting).collect();
        views.sort_by_key(|view| view.number);
        views
    }

    /// Ends everything, and waits a moment until the unfinished files are removed: those that nothing moves, at once.
    pub fn close(&mut self) {
        self.asked.clear();
        self.waiting.clear();
        self.under_way.retain(|_, download| !matches!(download.stage, Stage::Arrived(..)));
        for download in self.under_way.values() {
            download.moving.cancelled.store(true, Ordering::Relaxed);
        }
        if let Some(pool) = self.pool.take() {
            pool.shutdown();
        }
        let deadline = Instant::now() + CLOSE_MAX;
        while !self.under_way.is_empty() {
            match self.events.recv_deadline(deadline) {
                Ok(TransferEvent::Arrived(id, ..) | TransferEvent::Kept(id, _)) => self.under_way.remove(&id),
                Err(_) => return,
            };
        }
    }
}

fn system(what: &str, source: io::Error) -> TransferError {
    TransferError::File { what: what.into(), source }
}

#[cfg(test)]
mod tests;
