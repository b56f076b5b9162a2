//! Why a run of the client fails, in words for the person and as an exit code for scripts.

use std::io;

use super::address::Address;
use super::transfers::Failed;
use crate::transfer::TransferError;
use crate::wire::ErrorCode;
use crate::wire::name::Nick;
use crate::wire::text::sanitise;

/// Why the client ends early. `Display` says it to the person, with what to do next.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The command line asks for what cannot be.
    #[error("{0}")]
    Usage(String),
    /// No server, or none that lets us in.
    #[error("cannot connect to {address}: {why}")]
    Connect {
        /// Where it should be.
        address: String,
        /// What happened, and what to try.
        why: String,
    },
    /// The session broke off.
    #[error("the connection to the server is lost: {0}")]
    Lost(String),
    /// The server closed the session and not because of us.
    #[error("the server closed the session: {}", reason(.0))]
    Closed(String),
    /// The server closed the session because of us.
    #[error("the server closed the session because of this client: {}", reason(.0))]
    Kicked(String),
    /// No nickname was to be had.
    #[error("{0}; choose another nickname")]
    Nick(String),
    /// The server refused what was asked.
    #[error("{}{}", sanitise(.words), hint(*.code))]
    Refused {
        /// Why, for programs.
        code: ErrorCode,
        /// Why, for people.
        words: String,
    },
    /// The server does not offer a file.
    #[error("{}: {}{}", sanitise(.name), sanitise(.words), hint(*.code))]
    NotOffered {
        /// The file.
        name: String,
        /// Why, for programs.
        code: ErrorCode,
        /// Why, for people.
        words: String,
    },
    /// A file was not fetched.
    #[error("{}: {source}{}", sanitise(.name), remedy(.source))]
    Transfer {
        /// The file.
        name: String,
        /// What happened.
        source: TransferError,
    },
    /// This system refused something.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// Whoever read our output has gone: a quiet end (`| head -1`).
    #[error("the output was closed")]
    OutputClosed,
    /// A signal asked for the end.
    #[error("ended by a signal")]
    Signal(i32),
}

impl From<Failed> for ClientError {
    fn from(Failed { name, error, begun }: Failed) -> ClientError {
        match error {
            TransferError::Lost(why) if !begun => Self::Lost(why),
            source => Self::Transfer { name: name.to_string(), source },
        }
    }
}

fn reason(text: &str) -> String {
    if text.is_empty() { "no reason given".into() } else { sanitise(text) }
}

fn hint(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::NoFile | ErrorCode::BadName => " (the command `files` lists what there is)",
        ErrorCode::NoUser => " (the command `who` lists who is here)",
        ErrorCode::Busy => " (try again later)",
        ErrorCode::Exists => " (nothing is overwritten: choose another name with `as NAME`)",
        _ => "",
    }
}

fn remedy(error: &TransferError) -> &'static str {
    match error {
        TransferError::File { source, .. }
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) =>
        {
            "; free some space there, then fetch it again"
        }
        TransferError::Lost(_) | TransferError::Refused(ErrorCode::Incomplete) => {
            "; the same command goes on where it broke off"
        }
        TransferError::Digest { .. }
        | TransferError::Changed
        | TransferError::Refused(ErrorCode::Changed) => "; nothing of it was kept, try it again",
        TransferError::NoAnswer => "; --tcp needs no UDP",
        TransferError::Exists(_) => "; choose another name, it is never overwritten",
        _ => "",
    }
}

impl ClientError {
    /// The server does not let us in under this nick.
    pub fn refused_nick(nick: &Nick, code: ErrorCode, words: &str) -> ClientError {
        Self::Nick(format!("{nick} ({code}): {}", sanitise(words)))
    }

    /// The server does not let us in.
    pub fn refused_login(address: &Address, code: ErrorCode, words: String) -> ClientError {
        let why = Self::Refused { code, words }.to_string();
        Self::Connect { address: address.to_string(), why }
    }

    /// The server said BYE unasked. `last_code` is that of the ERR just before it: a client that is thrown
    /// out is told why first.
    pub fn bye(reason: String, last_code: Option<ErrorCode>) -> ClientError {
        let by_reason = reason.split([' ', ':']).next().and_then(ErrorCode::parse);
        match by_reason.or(last_code) {
            Some(ErrorCode::Strikes | ErrorCode::TooFast | ErrorCode::Timeout) => Self::Kicked(reason),
            _ => Self::Closed(reason),
        }
    }

    /// Output that cannot be written: quiet when its reader has gone.
    pub fn output(source: io::Error) -> ClientError {
        match source.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::System { what: "write the output".into(), source },
        }
    }

    /// The exit code, as `client --help` documents it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::OutputClosed => 0,
            Self::System { source, .. } if source.kind() == io::ErrorKind::NotFound => 5,
            Self::System { .. } => 1,
            Self::Usage(_) => 2,
            Self::Connect { .. } | Self::Lost(_) | Self::Closed(_) => 3,
            Self::Nick(_) => 4,
            Self::Refused { code, .. } | Self::NotOffered { code, .. } => match code {
                ErrorCode::NickTaken | ErrorCode::BadNick => 4,
                ErrorCode::NoUser | ErrorCode::NoFile | ErrorCode::BadName => 5,
                ErrorCode::Exists => 9,
                _ => 1,
            },
            Self::Transfer { source, .. } => match source {
                TransferError::File { .. } => 1,
                TransferError::Refused(ErrorCode::NoFile) => 5,
                TransferError::Refused(ErrorCode::Exists) => 9,
                TransferError::Lost(_)
                | TransferError::NoAnswer
                | TransferError::Refused(_)
                | TransferError::Cancelled
                | TransferError::Changed
                | TransferError::Paused => 6,
                TransferError::Digest { .. } => 7,
                TransferError::Declined => 8,
                TransferError::Exists(_) => 9,
            },
            Self::Kicked(_) => 10,
            // As shells count: 130 for SIGINT, 143 for SIGTERM.
            Self::Signal(signal) => u8::try_from(128 + signal).unwrap_or(1),
        }
    }

    /// The file that it is about.
    pub fn file_name(&self) -> Option<&str> {
        match self {
            Self::NotOffered { name, .. } | Self::Transfer { name, .. } => Some(name),
            _ => None,
        }
    }

    /// One word for programs.
    pub fn code(&self) -> String {
        match self {
            Self::Usage(_) => "usage".into(),
            Self::Connect { .. } => "connect".into(),
            Self::Lost(_) | Self::Closed(_) => "lost".into(),
            Self::Kicked(_) => "kicked".into(),
            Self::Nick(_) => "nick".into(),
            Self::Refused { code, .. } | Self::NotOffered { code, .. } => code.to_string(),
            Self::Transfer { source: TransferError::Exists(_), .. } => "exists".into(),
            Self::Transfer { source, .. } => source.code().to_string(),
            Self::System { .. } | Self::OutputClosed => "system".into(),
            Self::Signal(_) => "signal".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_can_tell_failures_apart() {
        let transfer = |source| ClientError::Transfer { name: "a".into(), source };
        let refused = |code| ClientError::Refused { code, words: String::new() };
        let hash = blake3::hash(b"");
        for (error, exit_code) in [
            (ClientError::OutputClosed, 0),
            (ClientError::Usage(String::new()), 2),
            (ClientError::Lost(String::new()), 3),
            (refused(ErrorCode::NickTaken), 4),
            (refused(ErrorCode::NoUser), 5),
            (refused(ErrorCode::NoFile), 5),
            (refused(ErrorCode::Busy), 1),
            (transfer(TransferError::Lost(String::new())), 6),
            (transfer(TransferError::Digest { expected: hash, actual: hash }), 7),
            (transfer(TransferError::Exists(String::new())), 9),
            (ClientError::Kicked(String::new()), 10),
            (ClientError::Signal(2), 130),
            (ClientError::Signal(15), 143),
        ] {
            assert_eq!(error.exit_code(), exit_code, "{error:?}");
        }
    }

    #[test]
    fn a_full_disk_says_what_to_do_and_hostile_words_stay_words() {
        let source = io::Error::from(io::ErrorKind::StorageFull);
        let full = TransferError::File { what: "write a".into(), source };
        let told = ClientError::Transfer { name: "a".into(), source: full }.to_string();
        assert!(told.contains("free some space"), "{told}");
        assert!(!ClientError::Kicked("\x1b[2J".into()).to_string().contains('\x1b'));
    }
}
