//! F1: however a byte stream is cut, its lines are those of the whole.

use packetboat::rudp::split_mix_64;
use packetboat::wire::WireError;
use packetboat::wire::line::{LINE_LEN_MAX, LineBuffer};

use super::bytes::Bytes;

/// This octet and a count stand for so many times 17 of the octet before: lines of any length fit into a short input.
const REPEAT: u8 = 0xfe;

/// Ours: each read moves what is left of a line, so that longer inputs take their time.
const OCTET_BY_OCTET_MAX: usize = 1_024;

type Line = Result<Vec<u8>, WireError>;

/// The seed of the cuts, then the stream.
pub(crate) fn f1_line(data: &[u8]) {
    let mut script = Bytes(data);
    let mut seed = script.u64();
    let input = expand(script.0);
    let whole = reference(&input);
    assert_eq!(cut(&input, |_| usize::MAX), whole, "in one piece");
    if input.len() <= OCTET_BY_OCTET_MAX {
        assert_eq!(cut(&input, |_| 1), whole, "octet by octet");
    }
    let size = 1 + split_mix_64(&mut seed) % 5_000;
    let pieces = cut(&input, |_| 1 + usize::try_from(split_mix_64(&mut seed) % size).expect("small"));
    assert_eq!(pieces, whole, "cut at random");
}

fn expand(script: &[u8]) -> Vec<u8> {
    let (mut out, mut last) = (Vec::new(), b'x');
    let mut octets = script.iter();
    while let Some(&octet) = octets.next() {
        if octet == REPEAT {
            let count = octets.next().copied().unwrap_or_default();
            out.extend(std::iter::repeat_n(last, 17 * usize::from(count)));
        } else {
            last = octet;
            out.push(octet);
        }
    }
    out
}

/// The lines of a stream and what is left of it, octet by octet as the words of the protocol have it.
fn reference(input: &[u8]) -> (Vec<Line>, Vec<u8>) {
    let (mut lines, mut line, mut is_discarding) = (Vec::new(), Vec::new(), false);
    for &octet in input {
        match octet {
            b'\n' if is_discarding => is_discarding = false,
            _ if is_discarding => {}
            b'\n' => {
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                lines.push(Ok(std::mem::take(&mut line)));
            }
            _ => line.push(octet),
        }
        if line.len() == LINE_LEN_MAX {
            lines.push(Err(WireError::LineTooLong));
            line.clear();
            is_discarding = true;
        }
    }
    (lines, line)
}

/// The same from the framer, fed with pieces of these lengths.
fn cut(input: &[u8], mut len: impl FnMut(usize) -> usize) -> (Vec<Line>, Vec<u8>) {
    let (mut buffer, mut lines, mut rest) = (LineBuffer::default(), Vec::new(), input);
    while !rest.is_empty() {
        let (mut piece, after) = rest.split_at(len(rest.len()).min(rest.len()));
        rest = after;
        while !piece.is_empty() {
            let before = piece.len();
            let read = buffer.read_from(&mut piece).expect("a slice can be read");
            assert!(read > 0 && read == before - piece.len() && read <= LINE_LEN_MAX);
            while let Some(line) = buffer.next_line() {
                lines.push(line.map(<[u8]>::to_vec));
            }
        }
    }
    let tail = buffer.take_rest();
    assert!(tail.len() < LINE_LEN_MAX && lines.iter().flatten().all(|line| line.len() < LINE_LEN_MAX));
    (lines, tail)
}
