//! How a conversation ends: why, with which last words, and what is waited for then.

use std::io::{self, Read as _};
use std::time::Duration;

use super::machine::{Instant, TcpStream};
use crate::wire::message::ServerMessage;

/// How long a client that was told good-bye may take to close its side. Closing with its bytes unread would reset the
/// connection and could take the last lines with it.
const LINGER_MAX: Duration = Duration::from_secs(1);

/// Why a conversation ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    #[error("the client has closed")]
    Eof,
    #[error("the connection is lost: {0}")]
    Lost(#[from] io::Error),
    #[error("the client said QUIT")]
    Quit,
    #[error("refused before login")]
    Refused,
    #[error("too many bad lines")]
    Strikes,
    #[error("too many lines for too long")]
    Flood,
    #[error("it takes an answer too slowly")]
    Slow,
    #[error("it has not said HELLO in time")]
    NoHello,
    #[error("silent for too long")]
    Timeout,
    #[error("somebody at its address has taken the nick back")]
    Displaced,
    #[error("the server closes")]
    Closing,
    #[error("it was a transfer's connection")]
    Data,
}

impl End {
    /// What the client is told when it is out of the room.
    pub(super) fn farewell(&self) -> Option<ServerMessage> {
        let reason = match self {
            End::Quit => "",
            End::Strikes => "too many bad lines",
            End::Flood => "too many lines",
            End::Timeout => "timeout",
            _ => return None,
        };
        Some(ServerMessage::Bye(reason.into()))
    }

    /// Whether the last that was said to the client tells it why.
    pub(super) fn is_explained(&self) -> bool {
        self.farewell().is_some() || matches!(self, End::Refused | End::NoHello)
    }
}

/// Reads what the client still sends, until it closes too. Not inlined, or every reader's stack would have this buffer on it
/// from the first moment.
#[inline(never)]
pub(super) fn linger(mut stream: &TcpStream) {
    let until = Instant::now() + LINGER_MAX;
    // Small: a stack that has been used stays in memory as long as its thread.
    let mut ignored = [0; 512];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || stream.set_read_timeout(Some(left)).is_err() {
            return;
        }
        match stream.read(&mut ignored) {
            Ok(1..) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => return,
        }
    }
}
