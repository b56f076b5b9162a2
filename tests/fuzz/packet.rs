//! F3: what comes from the network is read without a panic, and what was read is written as it came.

use std::collections::BTreeSet;

use packetboat::rudp::seal::{Keys, Role, reconstruct};
use packetboat::wire::packet::{
    ACK_WORDS_MAX, Ack, Body, DATA_PREFIX_LEN, HEADER_LEN, Header, Kind, OFFSET_MAX, TAG_LEN, emit_ack,
};

/// A datagram, as it would be before it is sealed: header, then body.
pub(crate) fn f3_packet(data: &[u8]) {
    refuses_without_the_key(data);
    let Ok(header) = Header::parse(data) else {
        assert!(data.len() < HEADER_LEN || !(1..=7).contains(&data[0]), "a whole header of a known kind");
        return;
    };
    let mut again = [0; HEADER_LEN];
    header.emit(&mut again);
    assert_eq!(again, data[..HEADER_LEN]);
    let expected = data.iter().fold(0u64, |sum, &octet| sum.rotate_left(5) ^ u64::from(octet)) >> 2;
    let number = reconstruct(header.number_low, expected);
    assert_eq!(number & 0xffff_ffff, u64::from(header.number_low));
    assert!(number.abs_diff(expected) <= 1 << 31 || number >> 32 == 0);

    let bytes = &data[HEADER_LEN..];
    let Ok(body) = Body::parse(header.kind, bytes) else { return };
    let mut out = vec![0; bytes.len()];
    let len = body.emit(&mut out);
    assert_eq!(out[..len], bytes[..len], "{body:?}");
    match body {
        Body::Data { offset, data, .. } => {
            assert!(offset <= OFFSET_MAX && data == &bytes[DATA_PREFIX_LEN..] && len == DATA_PREFIX_LEN);
        }
        Body::Syn(_) | Body::SynAck { .. } => assert!(len <= bytes.len(), "the rest is padding"),
        _ => assert_eq!(len, bytes.len(), "nothing is left over"),
    }
    // Without its padding, a body reads as the same.
    if !matches!(header.kind, Kind::Data) {
        assert_eq!(Body::parse(header.kind, &out[..len]), Ok(body));
    }
    if let Body::Ack(ack) = body {
        words_are_consistent(&ack);
    }
}

/// Reads a datagram as a connection would, and nothing more: what that costs is ours, not the watcher's.
pub(crate) fn read(data: &[u8]) -> u64 {
    let Ok(header) = Header::parse(data) else { return 0 };
    match Body::parse(header.kind, &data[HEADER_LEN..]) {
        Ok(Body::Ack(ack)) => {
            ack.words().map(|(base, word)| base ^ word).fold(ack.largest(), u64::wrapping_add)
        }
        Ok(Body::Data { offset, data, .. }) => offset + data.len() as u64,
        _ => 0,
    }
}

/// The words tell of the numbers that the octets do, and print to the same octets by the way that a receiver takes.
fn words_are_consistent(ack: &Ack<'_>) {
    let words: Vec<(u64, u64)> = ack.words().collect();
    assert!((1..=ACK_WORDS_MAX).contains(&words.len()));
    assert!(words.iter().all(|(base, _)| base % 64 == 0));
    assert!(words.windows(2).all(|pair| pair[0].0 + 64 == pair[1].0), "one after another");
    let numbers: BTreeSet<u64> = words
        .iter()
        .flat_map(|&(base, word)| {
            (0..64).filter(move |bit| word & (1 << bit) != 0).map(move |bit| base + bit)
        })
        .collect();
    assert_eq!(numbers.last(), Some(&ack.largest()));
    let mut out = [0; 16 + 8 * ACK_WORDS_MAX];
    let bits: Vec<u64> = words.iter().map(|&(_, word)| word).collect();
    let len = emit_ack(&mut out, ack.delay_us, ack.credit, ack.first_word, bits.into_iter());
    assert_eq!(Body::parse(Kind::Ack, &out[..len]), Ok(Body::Ack(*ack)));
}

/// Nobody who has not the key gets anything to open.
fn refuses_without_the_key(data: &[u8]) {
    let mut datagram = data.to_vec();
    let number = data.first().map_or(0, |&octet| u64::from(octet) << 18);
    let opened = Keys::new(&[3; 32], Role::Client).open(number, &mut datagram);
    assert_eq!(opened, None);
    if data.len() < HEADER_LEN + TAG_LEN {
        assert_eq!(datagram, data, "too short to be touched");
    }
}
