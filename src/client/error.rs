//! Why a run of the client fails, in words for the person and as an exit code for scripts.

use std::fmt;
use std::io;

use rustix::io::Errno;
use rustix::process::Signal;

use super::address::Address;
use super::next_step;
use super::transfers::Failed;
use crate::transfer::TransferError;
use crate::wire::ErrorCode;
use crate::wire::name::Nick;
use crate::wire::text::sanitise;

/// Why the client ends early. `Display` says it to the person, with what to do next.
#[derive(Debug)]
pub enum ClientError {
    /// The command line asks for what cannot be.
    Usage(String),
    /// No server, or none that lets us in.
    Connect {
        /// Where it should be.
        address: String,
        /// What happened.
        why: NotConnected,
    },
    /// The session broke off.
    Lost(String),
    /// The server closed the session and not because of us.
    Closed(String),
    /// The server closed the session because of us.
    Kicked(String),
    /// No nickname was to be had.
    Nick(String),
    /// The server refused what was asked.
    Refused {
        /// Why, for programs.
        code: ErrorCode,
        /// Why, for people.
        words: String,
    },
    /// The server does not offer a file.
    NotOffered {
        /// The file.
        name: String,
        /// Why, for programs.
        code: ErrorCode,
        /// Why, for people.
        words: String,
    },
    /// A file was not fetched.
    Transfer {
        /// The file.
        name: String,
        /// What happened.
        source: TransferError,
    },
    /// This system refused something.
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// `doctor` has found that files cannot travel over UDP, or could not find out.
    Unwell(String),
    /// Whoever read our output has gone: a quiet end (`| head -1`).
    OutputClosed,
    /// A signal asked for the end.
    Signal(i32),
}

/// Why there is no session with a server.
#[derive(Debug, thiserror::Error)]
pub enum NotConnected {
    /// Its name means nothing.
    #[error("the host is unknown ({0})")]
    UnknownHost(String),
    /// Its name means no address.
    #[error("the host has no address")]
    NoAddress,
    /// Its machine says that nobody listens.
    #[error("nobody listens there")]
    Refused {
        /// Whether it is this machine.
        is_local: bool,
    },
    /// Nothing came back in so many seconds.
    #[error("no answer within {0} s")]
    NoAnswer(u64),
    /// The system refused.
    #[error("{0}")]
    System(String),
    /// Something else listens there.
    #[error("what answers there is not a Packetboat server")]
    NotPacketboat,
    /// It had nothing to say.
    #[error("the server closed the connection at once")]
    ClosedAtOnce,
    /// It did not answer HELLO in so many seconds.
    #[error("no welcome within {0} s")]
    NoWelcome(u64),
    /// It said good-bye first.
    #[error("the server closed the session: {}", reason(.0))]
    Closed(String),
    /// It does not let us in.
    #[error("{}", sanitise(.words))]
    Refusal {
        /// Why, for programs.
        code: ErrorCode,
        /// Why, for people.
        words: String,
    },
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match next_step::after(self) {
            "" => f.write_str(&self.what()),
            next => write!(f, "{}; {next}", self.what()),
        }
    }
}

impl std::error::Error for ClientError {}

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

impl ClientError {
    /// What happened, without the next step.
    pub fn what(&self) -> String {
        match self {
            Self::Usage(text) | Self::Nick(text) | Self::Unwell(text) => text.clone(),
            Self::Connect { address, why } => format!("cannot connect to {address}: {why}"),
            Self::Lost(why) => format!("the connection to the server is lost: {why}"),
            Self::Closed(why) => format!("the server closed the session: {}", reason(why)),
            Self::Kicked(why) => {
                format!("the server closed the session because of this client: {}", reason(why))
            }
            Self::Refused { words, .. } => sanitise(words),
            Self::NotOffered { name, words, .. } => format!("{}: {}", sanitise(name), sanitise(words)),
            Self::Transfer { name, source } => format!("{}: {source}", sanitise(name)),
            Self::System { what, source } => format!("cannot {what}: {source}"),
            Self::OutputClosed => "the output was closed".into(),
            Self::Signal(_) => "ended by a signal".into(),
        }
    }

    /// The server does not let us in under this nick.
    pub fn refused_nick(nick: &Nick, code: ErrorCode, words: &str) -> ClientError {
        Self::Nick(format!("{nick} ({code}): {}", sanitise(words)))
    }

    /// The server does not let us in.
    pub fn refused_login(address: &Address, code: ErrorCode, words: String) -> ClientError {
        Self::Connect { address: address.to_string(), why: NotConnected::Refusal { code, words } }
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
            // A terminal that has gone says so, perhaps before its SIGHUP is seen.
            _ if Errno::from_io_error(&source) == Some(Errno::IO) => Self::Signal(Signal::HUP.as_raw()),
            _ => Self::System { what: "write the output".into(), source },
        }
    }

    /// The exit code, as `client --help` documents it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::OutputClosed => 0,
            Self::System { source, .. } if source.kind() == io::ErrorKind::NotFound => 5,
            Self::System { .. } | Self::Unwell(_) => 1,
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
            Self::Unwell(_) => "doctor".into(),
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
