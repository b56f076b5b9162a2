//! The lines, written and read back.

use super::*;
use proptest::prelude::*;

const HEX: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

fn client(line: &str) -> Result<ClientMessage, WireError> {
    ClientMessage::parse(line.as_bytes())
}

#[test]
fn every_request_is_its_own_line_again() {
    for line in [
        "HELLO_alice",
        "HELLO_guest-1f quiet",
        r"ALL_snake_case stays_whole\n",
        r"PM_bob_b see you\nat 5",
        "WHO_",
        "FILES_",
        "FILES_big video.mp4",
        "GET_udp big video.mp4",
        "DONE_7 ok",
        "DONE_7 digest",
        &format!("DONE_7 70558 {HEX}"),
        "NICK_bob",
        "PING_x y",
        "PONG_",
        "PROBE_",
        "PROBE_7",
        "QUIT_",
        &format!("DATA_{HEX}"),
    ] {
        assert_eq!(client(line).expect(line).emit(), format!("{line}\n"));
    }
}

#[test]
fn every_answer_is_its_own_line_again() {
    for line in [
        "WELCOME_alice v=1 max=4096",
        "MSG_alice snake_case stays_whole",
        "PM_bob_b hi",
        "JOIN_bob",
        "LEAVE_bob",
        "NICK_bob rob",
        "SYS_the server closes",
        "USERS_2 alice bob_b",
        "USERS_0",
        "FILES_2",
        "FILE_67739648 2026-11-20T10:00:00Z big video.mp4",
        &format!("OFFER_7 udp 55001 {HEX} 5 2026-11-20T10:00:00Z - big video.mp4"),
        &format!("OFFER_7 tcp 55000 {HEX} 5 2026-11-20T10:00:00Z {HEX} lore.txt"),
        "DONE_4294967295 ok",
        "ERR_unknown nonsense no such request",
        "PING_1",
        &format!("PROBE_7 55001 {HEX} 2026-11-20T10:00:00.123Z"),
        "PROBED_7 120",
        "BYE_",
    ] {
        assert_eq!(ServerMessage::parse(line.as_bytes()).expect(line).emit(), format!("{line}\n"));
    }
}

#[test]
fn names_are_read_in_any_case_and_nonsense_is_refused() {
    assert_eq!(client("wHo"), Ok(ClientMessage::Who));
    assert_eq!(client("quit_ignored"), Ok(ClientMessage::Quit));
    assert_eq!(client("nonsense"), Err(WireError::UnknownProtocol));
    assert_eq!(client("HELLO_alice loud"), Err(WireError::BadNick));
    assert_eq!(client("GET_udp ../etc/passwd"), Err(WireError::BadFileName));
    assert_eq!(client(&format!("PING_{}", "x".repeat(PING_LEN_MAX + 1))), Err(WireError::PingTooLong));
    for bad in [
        "PROBE_x",
        "GET_carrier-pigeon x",
        "GET_udp",
        "DONE_7",
        "DONE_07 ok",
        "DONE_-1 ok",
        "DONE_99999999999 ok",
    ] {
        assert_eq!(client(bad).map_err(|error| error.code()), Err(ErrorCode::BadRequest), "{bad}");
    }
}

#[test]
fn the_longest_text_of_the_longest_nick_fits_a_line() {
    let nick = Nick::parse(&"𐐀".repeat(24)).expect("letters of four octets");
    let text = text::parse(&"é".repeat(text::TEXT_LEN_MAX / 2)).expect("within both limits");
    assert!(ServerMessage::Msg(nick.clone(), text).emit().len() <= line::LINE_LEN_MAX);
    let crowd = vec![nick; 1_000];
    assert!(ServerMessage::users(&crowd).iter().all(|users| users.emit().len() <= line::LINE_LEN_MAX));
}

proptest! {
    #[test]
    fn whatever_parses_prints_to_a_line_that_parses_the_same(line in r"(ALL|PM|HELLO|GET|DONE|PING|x)_(udp |7 |bob )?\PC{0,40}") {
        if let Ok(message) = client(&line) {
            let printed = message.emit();
            prop_assert_eq!(client(printed.trim_end_matches('\n')), Ok(message));
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = ClientMessage::parse(&bytes);
        let _ = ServerMessage::parse(&bytes);
    }
}
