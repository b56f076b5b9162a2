//! The lines of the control connection as types: what a client asks, what the server says.
//!
//! `parse` and `emit` are inverse; fields are separated by exactly one space and the last one takes the rest.

mod fields;

use std::fmt;

use jiff::Timestamp;

use fields::{
    emit_accept, emit_done, emit_offer, emit_probe, emit_secret, parse_accept, parse_done, parse_entry,
    parse_id, parse_number, parse_offer, parse_probe, parse_probed, parse_put, parse_resume, parse_secret,
    parse_transport, ping_text, to_count,
};

use super::name::{FileName, Nick};
use super::{ErrorCode, WireError, line, text};

/// The version of both protocols, told in WELCOME.
pub const VERSION: u32 = 1;

/// How many FILE lines answer one FILES at most.
pub const FILES_PER_PAGE: usize = 256;

/// The octets of a transfer's secret: the key of its packets, or the token of its TCP stream.
pub const SECRET_LEN: usize = 32;

/// A resumed transfer begins at a multiple of this, and so many octets before it are compared. Ours: what a second try
/// may send once more at most.
pub const PREFIX_LEN: u64 = 1 << 20;

/// The octets of a PING's text as it travels. Ours: enough for a number or a time.
pub const PING_LEN_MAX: usize = 64;

/// Names one transfer of a server: in control lines, in logs, and as the connection id of its packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransferId(pub u32);

impl fmt::Display for TransferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How the bytes of a file travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Reliable UDP, [`crate::rudp`].
    Udp,
    /// A TCP connection of its own.
    Tcp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        })
    }
}

/// 32 octets known to both ends of one transfer alone; never shown by `Debug`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(pub [u8; SECRET_LEN]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A file of the shelf as lists show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// Octets.
    pub size: u64,
    /// When it last changed, in whole seconds.
    pub mtime: Timestamp,
    /// Its name.
    pub name: FileName,
}

/// The server's promise of one transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The transfer's number.
    pub id: TransferId,
    /// How it will travel.
    pub transport: Transport,
    /// The server's port for it: a worker's UDP port, or the TCP port of the room.
    pub port: u16,
    /// The key (UDP) or the token (TCP).
    pub secret: Secret,
    /// The file.
    pub file: FileEntry,
    /// Its BLAKE3 digest where the server knows it already; else DONE brings it.
    pub digest: Option<blake3::Hash>,
}

/// What of a file is there already: everything before `offset`, the last [`PREFIX_LEN`] octets of which have `digest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    /// Octets; a multiple of [`PREFIX_LEN`], and not 0.
    pub offset: u64,
    /// The BLAKE3 digest of the octets from `offset` less [`PREFIX_LEN`] to `offset`.
    pub digest: blake3::Hash,
}

/// The server takes a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accept {
    /// The transfer's number.
    pub id: TransferId,
    /// How it will travel.
    pub transport: Transport,
    /// The server's port for it, as in an [`Offer`].
    pub port: u16,
    /// The key (UDP) or the token (TCP).
    pub secret: Secret,
    /// What the server has of an earlier try; the transfer begins behind it.
    pub prefix: Option<Prefix>,
    /// Whoever shows this may go on with the upload later.
    pub resume_token: Secret,
    /// The file's name.
    pub name: FileName,
}

/// The server answers probes: packets that only ask whether they arrive ([`crate::rudp::probe`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The number that the packets carry.
    pub id: TransferId,
    /// The UDP port of the worker that answers.
    pub port: u16,
    /// Their key.
    pub secret: Secret,
    /// The time of the server, in whole milliseconds.
    pub time: Timestamp,
}

/// How one side's part of a transfer ended, as DONE tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// By the side that sends the file: size and digest of what it has read.
    Sent {
        /// Octets.
        size: u64,
        /// BLAKE3 over all of them.
        digest: blake3::Hash,
    },
    /// By the side that received it: complete, verified, on disk under its name.
    Kept,
    /// By either side: its part ended early, and why.
    Failed(ErrorCode),
}

/// What a client says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientMessage {
    /// `HELLO_<nick> [quiet]`: come in; quietly, without JOIN and LEAVE.
    Hello {
        /// The nick asked for.
        nick: Nick,
        /// For one-shot commands.
        quiet: bool,
    },
    /// `ALL_<text>`: say it to the room.
    All(String),
    /// `PM_<nick> <text>`: whisper.
    Pm(Nick, String),
    /// `WHO`: who is here?
    Who,
    /// `FILES` or `FILES_<after-name>`: what is on the shelf, after this name?
    Files(Option<FileName>),
    /// `GET_<udp|tcp> <name>`: offer me this file.
    Get(Transport, FileName),
    /// `RESUME_<udp|tcp> <offset> <digest> <name>`: offer me the rest of this file.
    Resume(Transport, Prefix, FileName),
    /// `PUT_<udp|tcp> <size> <resume token or -> <name>`: take this file.
    Put {
        /// How its octets shall travel.
        transport: Transport,
        /// Octets.
        size: u64,
        /// From an earlier [`Accept`], to go on with that.
        resume_token: Option<Secret>,
        /// The name it shall have on the shelf.
        name: FileName,
    },
    /// `DONE_<id> ok`, `DONE_<id> <size> <digest>`, `DONE_<id> <error code>`.
    Done(TransferId, Done),
    /// `NICK_<nick>`: call me this from now on.
    Nick(Nick),
    /// `PING_<any text>`: are you there?
    Ping(String),
    /// `PONG_<text of the PING>`.
    Pong(String),
    /// `PROBE`: answer probes of mine; `PROBE_<id>`: how many of them have come? There will be no more.
    Probe(Option<TransferId>),
    /// `QUIT`: good-bye.
    Quit,
    /// `DATA_<token>`: the first and only line of a file's own TCP connection.
    Data(Secret),
}

/// What the server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerMessage {
    /// `WELCOME_<nick> v=1 max=4096`: you are in.
    Welcome(Nick),
    /// `MSG_<nick> <text>`: somebody said this to the room.
    Msg(Nick, String),
    /// `PM_<nick> <text>`: somebody whispers to you.
    Pm(Nick, String),
    /// `JOIN_<nick>`.
    Join(Nick),
    /// `LEAVE_<nick>`.
    Leave(Nick),
    /// `NICK_<old> <new>`.
    Nick(Nick, Nick),
    /// `SYS_<text>`: the server itself speaks.
    Sys(String),
    /// `USERS_<total> <nick> ...`, repeated until `total` nicks are given.
    Users(usize, Vec<Nick>),
    /// `FILES_<n>`: so many files follow the name asked for; the first 256 of them come now as FILE lines.
    Files(usize),
    /// `FILE_<size> <mtime> <name>`.
    File(FileEntry),
    /// `OFFER_<id> <udp|tcp> <port> <secret> <size> <mtime> <digest or -> <name>`.
    Offer(Offer),
    /// `ACCEPT_<id> <udp|tcp> <port> <secret> <offset> <digest or -> <resume token> <name>`.
    Accept(Box<Accept>),
    /// `SHARED_<nick> <size> <name>`: somebody has put a file on the shelf.
    Shared(Nick, u64, FileName),
    /// `DONE_<id> <size> <digest>`, `DONE_<id> ok`, `DONE_<id> <error code>`.
    Done(TransferId, Done),
    /// `ERR_<code> <protocol> <words>`: the request named was refused.
    Err {
        /// Why, for programs.
        code: ErrorCode,
        /// The request's protocol name (with the transfer's number for `DONE`), as far as it could be read.
        request: String,
        /// Why, for people.
        words: String,
    },
    /// `PING_<text>`: are you there? Answer PONG with the same text.
    Ping(String),
    /// `PONG_<text>`.
    Pong(String),
    /// `PROBE_<id> <port> <secret> <time>`.
    Probe(Probe),
    /// `PROBED_<id> <packets>`: so many probes have come.
    Probed(TransferId, u32),
    /// `BYE_<reason>`: the server closes now.
    Bye(String),
}

impl ClientMessage {
    /// Reads one line (without its LF).
    pub fn parse(bytes: &[u8]) -> Result<ClientMessage, WireError> {
        let (protocol, payload) = line::split(bytes)?;
        Ok(match protocol.as_str() {
            "HELLO" => {
                let (nick, quiet) = match payload.strip_suffix(" quiet") {
                    Some(nick) => (nick, true),
                    None => (payload, false),
                };
                Self::Hello { nick: Nick::parse(nick)?, quiet }
            }
            "ALL" => Self::All(text::parse(payload)?),
            "PM" => {
                let (to, text) = payload.split_once(' ').ok_or(WireError::BadField("PM_<nick> <text>"))?;
                Self::Pm(Nick::parse(to)?, text::parse(text)?)
            }
            "WHO" => Self::Who,
            "FILES" if payload.is_empty() => Self::Files(None),
            "FILES" => Self::Files(Some(FileName::parse(payload)?)),
            "GET" => {
                let (transport, name) =
                    payload.split_once(' ').ok_or(WireError::BadField("GET_<udp|tcp> <name>"))?;
                Self::Get(parse_transport(transport)?, FileName::parse(name)?)
            }
            "RESUME" => parse_resume(payload)?,
            "PUT" => parse_put(payload)?,
            "DONE" => parse_done(payload).map(|(id, done)| Self::Done(id, done))?,
            "NICK" => Self::Nick(Nick::parse(payload)?),
            "PING" => Self::Ping(ping_text(payload)?),
            "PONG" => Self::Pong(ping_text(payload)?),
            "PROBE" if payload.is_empty() => Self::Probe(None),
            "PROBE" => Self::Probe(Some(parse_id(payload)?)),
            "QUIT" => Self::Quit,
            "DATA" => Self::Data(parse_secret(payload)?),
            _ => return Err(WireError::UnknownProtocol),
        })
    }

    /// The line that says this, LF included.
    pub fn emit(&self) -> String {
        let payload = match self {
            Self::Hello { nick, quiet: false } => format!("HELLO_{nick}"),
            Self::Hello { nick, quiet: true } => format!("HELLO_{nick} quiet"),
            Self::All(text) => format!("ALL_{}", text::escape(text)),
            Self::Pm(to, text) => format!("PM_{to} {}", text::escape(text)),
            Self::Who => "WHO_".into(),
            Self::Files(None) => "FILES_".into(),
            Self::Files(Some(after)) => format!("FILES_{after}"),
            Self::Get(transport, name) => format!("GET_{transport} {name}"),
            Self::Resume(transport, Prefix { offset, digest }, name) => {
                format!("RESUME_{transport} {offset} {digest} {name}")
            }
            Self::Put { transport, size, resume_token, name } => {
                let token = resume_token.as_ref().map_or_else(|| "-".into(), emit_secret);
                format!("PUT_{transport} {size} {token} {name}")
            }
            Self::Done(id, done) => emit_done(*id, done),
            Self::Nick(nick) => format!("NICK_{nick}"),
            Self::Ping(text) => format!("PING_{}", text::escape(text)),
            Self::Pong(text) => format!("PONG_{}", text::escape(text)),
            Self::Probe(None) => "PROBE_".into(),
            Self::Probe(Some(id)) => format!("PROBE_{id}"),
            Self::Quit => "QUIT_".into(),
            Self::Data(token) => format!("DATA_{}", emit_secret(token)),
        };
        payload + "\n"
    }
}

impl ServerMessage {
    /// Reads one line (without its LF).
    pub fn parse(bytes: &[u8]) -> Result<ServerMessage, WireError> {
        let (protocol, payload) = line::split(bytes)?;
        let two = || payload.split_once(' ').ok_or(WireError::BadField("two fields"));
        Ok(match protocol.as_str() {
            "WELCOME" => Self::Welcome(Nick::parse(payload.split(' ').next().unwrap_or(payload))?),
            "MSG" => Self::Msg(Nick::parse(two()?.0)?, text::parse(two()?.1)?),
            "PM" => Self::Pm(Nick::parse(two()?.0)?, text::parse(two()?.1)?),
            "JOIN" => Self::Join(Nick::parse(payload)?),
            "LEAVE" => Self::Leave(Nick::parse(payload)?),
            "NICK" => Self::Nick(Nick::parse(two()?.0)?, Nick::parse(two()?.1)?),
            "SYS" => Self::Sys(text::unescape(payload)?),
            "USERS" => {
                let mut fields = payload.split(' ');
                let total =
                    fields.next().and_then(parse_number).ok_or(WireError::BadField("USERS_<total>"))?;
                Self::Users(to_count(total)?, fields.map(Nick::parse).collect::<Result<_, _>>()?)
            }
            "FILES" => {
                Self::Files(to_count(parse_number(payload).ok_or(WireError::BadField("FILES_<count>"))?)?)
            }
            "FILE" => Self::File(parse_entry(payload)?),
            "OFFER" => Self::Offer(parse_offer(payload)?),
            "ACCEPT" => Self::Accept(parse_accept(payload)?.into()),
            "SHARED" => {
                let (nick, rest) = two()?;
                let (size, name) =
                    rest.split_once(' ').ok_or(WireError::BadField("SHARED_<nick> <size> <name>"))?;
                let size = parse_number(size).ok_or(WireError::BadField("a size"))?;
                Self::Shared(Nick::parse(nick)?, size, FileName::parse(name)?)
            }
            "DONE" => parse_done(payload).map(|(id, done)| Self::Done(id, done))?,
            "ERR" => {
                let mut fields = payload.splitn(3, ' ');
                let code =
                    fields.next().and_then(ErrorCode::parse).ok_or(WireError::BadField("ERR_<code>"))?;
                // A name has nothing to escape; an escaped space would be a field's end when it is written again.
                let request = fields.next().unwrap_or_default();
                if request.contains('\\') {
                    return Err(WireError::BadField("ERR_<code> <protocol>"));
                }
                Self::Err {
                    code,
                    request: request.into(),
                    words: text::unescape(fields.next().unwrap_or_default())?,
                }
            }
            "PING" => Self::Ping(ping_text(payload)?),
            "PONG" => Self::Pong(ping_text(payload)?),
            "PROBE" => Self::Probe(parse_probe(payload)?),
            "PROBED" => parse_probed(payload).map(|(id, packets)| Self::Probed(id, packets))?,
            "BYE" => Self::Bye(text::unescape(payload)?),
            _ => return Err(WireError::UnknownProtocol),
        })
    }

    /// The line that says this, LF included.
    pub fn emit(&self) -> String {
        let payload = match self {
            Self::Welcome(nick) => format!("WELCOME_{nick} v={VERSION} max={}", line::LINE_LEN_MAX),
            Self::Msg(from, text) => format!("MSG_{from} {}", text::escape(text)),
            Self::Pm(from, text) => format!("PM_{from} {}", text::escape(text)),
            Self::Join(nick) => format!("JOIN_{nick}"),
            Self::Leave(nick) => format!("LEAVE_{nick}"),
            Self::Nick(old, new) => format!("NICK_{old} {new}"),
            Self::Sys(text) => format!("SYS_{}", text::escape(text)),
            Self::Users(total, nicks) => {
                let names: String = nicks.iter().map(|nick| format!(" {nick}")).collect();
                format!("USERS_{total}{names}")
            }
            Self::Files(count) => format!("FILES_{count}"),
            Self::File(entry) => format!("FILE_{} {} {}", entry.size, entry.mtime, entry.name),
            Self::Offer(offer) => emit_offer(offer),
            Self::Accept(accept) => emit_accept(accept),
            Self::Shared(nick, size, name) => format!("SHARED_{nick} {size} {name}"),
            Self::Done(id, done) => emit_done(*id, done),
            Self::Err { code, request, words } => {
                format!("ERR_{code} {} {}", text::escape(request), text::escape(words))
            }
            Self::Ping(text) => format!("PING_{}", text::escape(text)),
            Self::Pong(text) => format!("PONG_{}", text::escape(text)),
            Self::Probe(probe) => emit_probe(probe),
            Self::Probed(id, packets) => format!("PROBED_{id} {packets}"),
            Self::Bye(reason) => format!("BYE_{}", text::escape(reason)),
        };
        payload + "\n"
    }

    /// The code of an ERR line.
    pub fn error_code(&self) -> Option<ErrorCode> {
        match self {
            Self::Err { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// The USERS lines for these nicks, each within the line limit.
    pub fn users(nicks: &[Nick]) -> Vec<ServerMessage> {
        // A nick has 24 characters of at most 4 octets, and a space before it.
        const NICKS_PER_LINE: usize = 40;
        if nicks.is_empty() {
            return vec![Self::Users(0, Vec::new())];
        }
        nicks.chunks(NICKS_PER_LINE).map(|chunk| Self::Users(nicks.len(), chunk.to_vec())).collect()
    }
}

#[cfg(test)]
mod tests;
