//! A client's line, read as a request, or as what its ERR line names.

use crate::wire::WireError;
use crate::wire::line::PROTOCOL_LEN_MAX;
use crate::wire::message::ClientMessage;

/// A line that says nothing we know, with what its ERR says.
#[derive(Debug)]
pub(super) struct BadLine {
    pub(super) error: WireError,
    pub(super) request: String,
}

/// Reads one line of a client.
pub(super) fn parse(line: Result<&[u8], WireError>) -> Result<ClientMessage, BadLine> {
    let line = line.map_err(|error| BadLine { error, request: "-".into() })?;
    ClientMessage::parse(line).map_err(|error| BadLine { error, request: protocol_of(line).to_owned() })
}

/// The protocol name of a line as it was written, or `-` where there is none.
pub(super) fn protocol_of(line: &[u8]) -> &str {
    let name = line.split(|&byte| byte == b'_').next().unwrap_or_default();
    let is_name = name.first().is_some_and(u8::is_ascii_alphabetic)
        && name.len() <= PROTOCOL_LEN_MAX
        && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
    std::str::from_utf8(name).ok().filter(|_| is_name).unwrap_or("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_request_as_it_was_written() {
        for (line, name) in [
            (&b"nonsense"[..], "nonsense"),
            (b"Get_udp ../x", "Get"),
            (b"ALL_\xff", "ALL"),
            (b"GET / HTTP/1.1", "-"),
            (b"", "-"),
            (b"_x", "-"),
            (b"ABCDEFGHIJKLMNOPQ_x", "-"),
            (b"\x16\x03\x01", "-"),
        ] {
            assert_eq!(protocol_of(line), name, "{line:?}");
        }
    }
}
