//! Bytes to types and back: control lines ([`mod@line`], [`message`]), the names and texts in them ([`name`],
//! [`text`]), and datagrams ([`packet`]). Nothing here reads a socket, and nothing trusts a length that a peer claims.

pub mod line;
pub mod message;
pub mod name;
pub mod packet;
pub mod text;

use std::fmt;

/// What is wrong with a line or a datagram, in the words that the peer is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A line of more than [`line::LINE_LEN_MAX`] octets.
    #[error("a line may have {} bytes at most", line::LINE_LEN_MAX)]
    LineTooLong,
    /// Not UTF-8, or a control character that must travel escaped.
    #[error("a line is UTF-8 without control characters")]
    BadText,
    /// A backslash that begins none of the escapes.
    #[error("after a backslash comes another one, n, t or u{{hex}}")]
    BadEscape,
    /// The line does not begin with a protocol name.
    #[error("a line begins with a protocol name and an underscore")]
    BadProtocol,
    /// A protocol name nobody knows.
    #[error("no such request")]
    UnknownProtocol,
    /// A text of more characters or octets than may be relayed.
    #[error("a text may have {} characters and {} bytes at most", text::TEXT_CHARS_MAX, text::TEXT_LEN_MAX)]
    TextTooLong,
    /// A PING or PONG of more octets than are sent back.
    #[error("PING and PONG may have {} bytes at most", message::PING_LEN_MAX)]
    PingTooLong,
    /// A text with nothing in it.
    #[error("there is no text")]
    EmptyText,
    /// A nickname against the rule of [`name::Nick`].
    #[error(
        "a nickname has 1 to 24 letters of one script, digits, '_', '.', '-', begins with a letter, and is not reserved"
    )]
    BadNick,
    /// A file name against the rule of [`name::FileName`].
    #[error("this is not a plain file name")]
    BadFileName,
    /// A field that is absent, or not what its place asks for.
    #[error("the fields are wrong: {0}")]
    BadField(&'static str),
    /// A datagram that ends before its fields do, or has octets left over.
    #[error("a packet of the wrong length")]
    PacketLength,
    /// A packet type, version or value nobody knows.
    #[error("a packet of an unknown kind")]
    PacketKind,
}

impl WireError {
    /// Whether no correct client sends this. A text that is too long, or a backslash where none may be, happens to
    /// whoever types.
    pub fn is_strike(&self) -> bool {
        matches!(self, Self::LineTooLong | Self::BadText)
    }

    /// The code that `ERR_<code>` carries for this error.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::LineTooLong | Self::TextTooLong | Self::PingTooLong => ErrorCode::TooLong,
            Self::BadText | Self::BadEscape => ErrorCode::BadText,
            Self::BadProtocol | Self::UnknownProtocol => ErrorCode::Unknown,
            Self::BadNick => ErrorCode::BadNick,
            Self::BadFileName => ErrorCode::BadName,
            Self::EmptyText | Self::BadField(_) | Self::PacketLength | Self::PacketKind => {
                ErrorCode::BadRequest
            }
        }
    }
}

/// The closed list of codes in an `ERR` line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// The line or text is longer than allowed.
    TooLong,
    /// Bad UTF-8, a control character or a bad escape.
    BadText,
    /// No such request.
    Unknown,
    /// The request's fields are absent or malformed.
    BadRequest,
    /// The nickname breaks the rule.
    BadNick,
    /// The nickname belongs to somebody here.
    NickTaken,
    /// The file name breaks the rule.
    BadName,
    /// HELLO has to come first, or came twice.
    Login,
    /// Nobody here has that nickname.
    NoUser,
    /// The shelf has no such file.
    NoFile,
    /// A limit is reached; later it may work.
    Busy,
    /// The peer was silent or slow for too long.
    Timeout,
    /// The file could not be read or written.
    File,
    /// The bytes do not have the digest that was announced.
    Digest,
    /// The transfer ended early.
    Incomplete,
    /// Too many bad lines.
    Strikes,
    /// More lines than the rate allows, for too long.
    TooFast,
    /// A person ended the transfer.
    Cancelled,
    /// The shelf has a file of this name, or somebody is about to put one there.
    Exists,
    /// More octets than may be put on the shelf.
    TooLarge,
    /// The server takes no uploads.
    NoUploads,
    /// The disk that the file should go to is full.
    DiskFull,
    /// The file is not what it was when its transfer began.
    Changed,
}

impl ErrorCode {
    const ALL: [(ErrorCode, &'static str); 23] = [
        (Self::TooLong, "too-long"),
        (Self::BadText, "bad-text"),
        (Self::Unknown, "unknown"),
        (Self::BadRequest, "bad-request"),
        (Self::BadNick, "bad-nick"),
        (Self::NickTaken, "nick-taken"),
        (Self::BadName, "bad-name"),
        (Self::Login, "login"),
        (Self::NoUser, "no-user"),
        (Self::NoFile, "no-file"),
        (Self::Busy, "busy"),
        (Self::Timeout, "timeout"),
        (Self::File, "file"),
        (Self::Digest, "digest"),
        (Self::Incomplete, "incomplete"),
        (Self::Strikes, "strikes"),
        (Self::TooFast, "too-fast"),
        (Self::Cancelled, "cancelled"),
        (Self::Exists, "exists"),
        (Self::TooLarge, "too-large"),
        (Self::NoUploads, "no-uploads"),
        (Self::DiskFull, "disk-full"),
        (Self::Changed, "changed"),
    ];

    /// Every code.
    pub fn every() -> impl Iterator<Item = ErrorCode> {
        Self::ALL.into_iter().map(|(code, _)| code)
    }

    /// The code of this word, if it is one.
    pub fn parse(word: &str) -> Option<ErrorCode> {
        Self::ALL.iter().find(|(_, name)| *name == word).map(|&(code, _)| code)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, word) = Self::ALL.iter().find(|(code, _)| code == self).expect("ALL lists every code");
        f.write_str(word)
    }
}
