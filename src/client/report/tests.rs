//! How reports read, for people and for programs.

use super::*;

#[test]
fn sizes_read_well() {
    for (bytes, text) in [
        (0, "0 B"),
        (812, "812 B"),
        (1_000, "1.0 kB"),
        (70_558, "70.6 kB"),
        (999_999, "1.0 MB"),
        (67_739_648, "67.7 MB"),
        (221_000_000, "221 MB"),
        (u64::MAX, "18446 PB"),
    ] {
        assert_eq!(size_text(bytes), text);
    }
    assert_eq!((percent(0, 0), percent(999, 1_000), percent(u64::MAX, u64::MAX)), (100, 99, 100));
}

#[test]
fn a_fetched_file_is_one_line_and_one_object() {
    let fetched = Finished {
        name: "big.mp4".into(),
        direction: Direction::Get,
        resumed_from: 0,
        bytes: 67_739_648,
        seconds: 0.307,
        first_byte_seconds: Some(0.081),
        transport: "udp".into(),
        resent: 12,
        digest: "ab".into(),
        path: "downloads/big.mp4".into(),
    };
    assert_eq!(
        fetched.to_string(),
        "fetched big.mp4: 67.7 MB in 0.3 s (221 MB/s, udp, 12 packets resent), BLAKE3 ok, downloads/big.mp4"
    );
    let json: serde_json::Value = serde_json::from_str(&Report::Transfer(fetched).to_json()).expect("JSON");
    assert_eq!((json["type"].as_str(), json["resent"].as_u64()), (Some("transfer"), Some(12)));
    assert_eq!(json["first_byte_seconds"].as_f64(), Some(0.081));
}

#[test]
fn nothing_a_stranger_says_moves_the_cursor() {
    let hostile = "a\nb\u{1b}[2J\u{9b}\u{202e}\u{7f}\u{e0001}";
    let report = Report::Message { from: "eve".into(), text: hostile.into() };
    assert!(report.to_string().chars().all(is_printable), "{report}");
    let json = report.to_json();
    assert!(json.chars().all(is_printable), "{json}");
    let back: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(back["text"], hostile);
}
