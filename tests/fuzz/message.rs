//! F2: what a line means is written as a line that means the same, and always as the same line.

use packetboat::wire::line::LINE_LEN_MAX;
use packetboat::wire::message::{ClientMessage, ServerMessage};

/// A line without its LF; both sides read it.
pub(crate) fn f2_message(data: &[u8]) {
    let Some(line) = data.split(|&octet| octet == b'\n').next() else { return };
    if let Ok(message) = ClientMessage::parse(line) {
        let printed = message.emit();
        let again = ClientMessage::parse(body(&printed));
        assert_eq!(again.as_ref(), Ok(&message), "{printed:?}");
        assert_eq!(again.map(|again| again.emit()), Ok(printed));
    }
    if let Ok(message) = ServerMessage::parse(line) {
        let printed = message.emit();
        let again = ServerMessage::parse(body(&printed));
        assert_eq!(again.as_ref(), Ok(&message), "{printed:?}");
        assert_eq!(again.map(|again| again.emit()), Ok(printed));
    }
}

/// A printed line without its LF, which is its only one; nothing in it can be taken for another line.
fn body(printed: &str) -> &[u8] {
    assert!(printed.len() <= LINE_LEN_MAX, "{} octets", printed.len());
    let body = printed.strip_suffix('\n').expect("it ends with a LF");
    assert!(!body.contains(char::is_control), "{body:?}");
    body.as_bytes()
}
