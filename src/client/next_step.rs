//! What to do about an error: every one that a person is told ends with its next step.

use std::io;

use super::address::{Address, SERVER_VARIABLE};
use super::error::{ClientError, NotConnected};
use crate::transfer::TransferError;
use crate::wire::ErrorCode;

/// The next step after an error; empty only where nobody is told anything, or somebody wanted it so.
pub(super) fn after(error: &ClientError) -> &'static str {
    match error {
        ClientError::Usage(_) => "see client --help",
        ClientError::Connect { address, why: NotConnected::UnknownHost(_) } if is_instead(address) => {
            "check its spelling: it was taken as HOST, and PACKETBOAT_SERVER was passed over (a nickname goes into \
             PACKETBOAT_NICK, or behind the host, as in client HOST NICK)"
        }
        ClientError::Connect { why, .. } => after_no_connection(why),
        ClientError::Lost(_) => "look whether the server still runs, then do it again",
        ClientError::Closed(_) => "come back later",
        ClientError::Kicked(_) => "mend that before you come back",
        ClientError::Nick(_) => "choose another nickname",
        // It was to be fetched: what is put under a bad name is refused before.
        ClientError::NotOffered { code: ErrorCode::BadName, .. } => after_code(ErrorCode::NoFile),
        ClientError::Refused { code, .. } | ClientError::NotOffered { code, .. } => after_code(*code),
        ClientError::Transfer { source, .. } => after_transfer(source),
        ClientError::System { source, .. } => after_io(source),
        ClientError::Unwell(_) => "what to do about it stands beside each check",
        ClientError::OutputClosed | ClientError::Signal(_) => "",
    }
}

/// Whether the environment names another server than this one, so that it may be no server at all.
fn is_instead(address: &str) -> bool {
    let named = std::env::var(SERVER_VARIABLE).ok().and_then(|server| server.parse::<Address>().ok());
    named.is_some_and(|server| server.to_string() != address)
}

fn after_no_connection(why: &NotConnected) -> &'static str {
    match why {
        NotConnected::UnknownHost(_) | NotConnected::NoAddress => {
            "check its spelling, or write its IP address"
        }
        NotConnected::Refused { is_local: true } => {
            "check the port, or start the server with: cargo run --bin server"
        }
        NotConnected::Refused { is_local: false } => {
            "check the port, and that the server was started with --listen 0.0.0.0:55000 (else it serves its own \
             machine alone)"
        }
        NotConnected::NoAnswer(_) => {
            "check the address, and whether a firewall lets TCP to this port through"
        }
        NotConnected::System(_) => "check the address and the network",
        NotConnected::NotPacketboat => "check host and port",
        NotConnected::ClosedAtOnce | NotConnected::NoWelcome(_) | NotConnected::Closed(_) => {
            "try it again in a moment"
        }
        NotConnected::Refusal { code, .. } => after_code(*code),
    }
}

fn after_code(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::TooLong => "say it in shorter pieces",
        ErrorCode::BadText => "leave out what is no plain text",
        ErrorCode::Unknown | ErrorCode::BadRequest => {
            "client and server are not of the same age: bring the older one up to date"
        }
        ErrorCode::BadNick | ErrorCode::NickTaken => "choose another nickname",
        ErrorCode::NoFile => "the command `files` lists what there is",
        ErrorCode::BadName => "fetch a name that `files` lists, or put it under another one with --as",
        ErrorCode::NoUser => "the command `who` lists who is here",
        ErrorCode::Busy | ErrorCode::Timeout => "try it again later",
        ErrorCode::Login | ErrorCode::Strikes => "connect again",
        ErrorCode::TooFast => "connect again, and say fewer lines at once",
        ErrorCode::File => "tell whoever runs the server, its folder or disk has a fault",
        ErrorCode::DiskFull => "tell whoever runs the server, its disk is full",
        ErrorCode::Incomplete => "the same command goes on where it broke off",
        ErrorCode::Digest | ErrorCode::Changed => "nothing of it was kept, try it again",
        ErrorCode::Cancelled => "ask for it again to have it after all",
        ErrorCode::Exists => "nothing is overwritten: choose another name with --as (in the room: as NAME)",
        ErrorCode::TooLarge => "put a smaller file, or have the server started with a larger --max-upload",
        ErrorCode::NoUploads => "ask whoever runs the server, it was started with --no-uploads",
    }
}

fn after_transfer(error: &TransferError) -> &'static str {
    match error {
        TransferError::File { source, .. } => after_io(source),
        TransferError::Lost(_) => after_code(ErrorCode::Incomplete),
        TransferError::Refused(code) => after_code(*code),
        TransferError::Digest { .. } | TransferError::Changed => after_code(ErrorCode::Changed),
        TransferError::NoAnswer => "--tcp needs no UDP, and `doctor` says where it ends",
        TransferError::Exists(_) => "choose another name, nothing is overwritten",
        TransferError::Cancelled => after_code(ErrorCode::Cancelled),
        TransferError::Paused => "/resume goes on with it",
        TransferError::Declined => "the same command with -y fetches it without a question",
    }
}

fn after_io(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free some space there, then do it again"
        }
        io::ErrorKind::NotFound => "check the path",
        io::ErrorKind::PermissionDenied => "check who may read and write there",
        _ => "mend that, then do it again (-v tells more)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An error of every kind, and of every code that a server or a transfer may give it.
    fn every_error() -> Vec<ClientError> {
        let (text, name) = (|| String::from("words"), || String::from("a.txt"));
        let io = |kind: io::ErrorKind| io::Error::from(kind);
        let connect = |why| ClientError::Connect { address: text(), why };
        let transfer = |source| ClientError::Transfer { name: name(), source };
        let hash = blake3::hash(b"");
        let mut all = vec![
            ClientError::Usage(text()),
            ClientError::Lost(text()),
            ClientError::Closed(text()),
            ClientError::Kicked(text()),
            ClientError::Nick(text()),
            ClientError::Unwell(text()),
            connect(NotConnected::UnknownHost(text())),
            connect(NotConnected::NoAddress),
            connect(NotConnected::Refused { is_local: true }),
            connect(NotConnected::Refused { is_local: false }),
            connect(NotConnected::NoAnswer(5)),
            connect(NotConnected::System(text())),
            connect(NotConnected::NotPacketboat),
            connect(NotConnected::ClosedAtOnce),
            connect(NotConnected::NoWelcome(5)),
            connect(NotConnected::Closed(text())),
            transfer(TransferError::Lost(text())),
            transfer(TransferError::NoAnswer),
            transfer(TransferError::Exists(text())),
            transfer(TransferError::Digest { expected: hash, actual: hash }),
            transfer(TransferError::Changed),
            transfer(TransferError::Cancelled),
            transfer(TransferError::Paused),
            transfer(TransferError::Declined),
        ];
        use io::ErrorKind::{NotFound, Other, PermissionDenied, QuotaExceeded, StorageFull};
        for kind in [StorageFull, QuotaExceeded, NotFound, PermissionDenied, Other] {
            all.push(ClientError::System { what: text(), source: io(kind) });
            all.push(transfer(TransferError::File { what: text(), source: io(kind) }));
        }
        for code in ErrorCode::every() {
            all.push(ClientError::Refused { code, words: text() });
            all.push(ClientError::NotOffered { name: name(), code, words: text() });
            all.push(connect(NotConnected::Refusal { code, words: text() }));
            all.push(transfer(TransferError::Refused(code)));
        }
        all
    }

    #[test]
    fn every_error_ends_with_its_next_step() {
        for error in every_error() {
            let told = error.to_string();
            let (what, next) = told.rsplit_once("; ").unwrap_or_else(|| panic!("{error:?}: {told}"));
            assert!(next.len() > 10 && what.len() > 4, "{told}");
            assert_eq!((what, next), (&*error.what(), after(&error)), "{error:?}");
            assert!(!what.ends_with(['.', ';']) && !told.contains('\n'), "one sentence: {told}");
        }
    }
}
