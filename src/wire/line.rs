//! Framing of the control connection: finds whole lines in a byte stream that may be cut anywhere.

use std::io::{self, Read};

use super::WireError;

/// The longest line, its LF included. Ours: room for a text of 2,000 characters.
pub const LINE_LEN_MAX: usize = 4096;
/// What a buffer holds between long lines and bursts of short ones. Ours: nearly every line fits, and thousands of clients
/// are silent at once.
const SHORT_LEN: usize = 512;

/// The longest protocol name (`ALPHA *15( ALPHA / DIGIT / "-" )`).
pub const PROTOCOL_LEN_MAX: usize = 16;

/// Holds the bytes of at most one unfinished line; never grows beyond [`LINE_LEN_MAX`].
#[derive(Debug)]
pub struct LineBuffer {
    /// Short, or as long as the longest line.
    bytes: Box<[u8]>,
    /// What was read and not yet given out: `bytes[start..end]`.
    start: usize,
    end: usize,
    /// The bytes before this one hold no LF.
    scanned: usize,
    /// The last read filled all there was: more may be waiting.
    was_filled: bool,
    /// An over-long line is under way: drop everything up to its LF.
    discarding: bool,
}

impl Default for LineBuffer {
    fn default() -> Self {
        let bytes = vec![0; SHORT_LEN].into();
        Self { bytes, start: 0, end: 0, scanned: 0, was_filled: false, discarding: false }
    }
}

impl LineBuffer {
    /// Reads once from `input` into the free space. `Ok(0)` is the end of the stream; call only after
    /// [`next_line`](Self::next_line) has answered `None`.
    pub fn read_from(&mut self, input: &mut impl Read) -> io::Result<usize> {
        self.make_room();
        // If nothing comes in time, the next wait costs no more than a short buffer.
        self.was_filled = false;
        let free = &mut self.bytes[self.end..];
        let read_len = input.read(free)?;
        self.was_filled = read_len == free.len();
        self.end += read_len;
        Ok(read_len)
    }

    /// How many octets were read and not yet given out.
    pub fn waiting_len(&self) -> usize {
        self.end - self.start
    }

    fn make_room(&mut self) {
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.scanned -= self.start;
        self.start = 0;
        if self.was_filled || self.end == self.bytes.len() {
            self.resize(LINE_LEN_MAX);
        } else if self.end < SHORT_LEN && !self.discarding {
            self.resize(SHORT_LEN);
        }
    }

    fn resize(&mut self, len: usize) {
        if len == self.bytes.len() {
            return;
        }
        let mut bytes = vec![0; len];
        bytes[..self.end].copy_from_slice(&self.bytes[..self.end]);
        self.bytes = bytes.into();
    }

    /// The next whole line without its LF and without one CR before it, or that a line was too long (told once per line).
    pub fn next_line(&mut self) -> Option<Result<&[u8], WireError>> {
        loop {
            let Some(found) = self.bytes[self.scanned..self.end].iter().position(|&b| b == b'\n') else {
                return self.no_lf();
            };
            let (line_start, lf) = (self.start, self.scanned + found);
            self.start = lf + 1;
            self.scanned = self.start;
            if std::mem::take(&mut self.discarding) {
                continue;
            }
            let line = &self.bytes[line_start..lf];
            return Some(Ok(line.strip_suffix(b"\r").unwrap_or(line)));
        }
    }

    /// Takes out what was read behind the last line: it belongs to whoever reads the stream from now on.
    pub fn take_rest(&mut self) -> Vec<u8> {
        let rest = self.bytes[self.start..self.end].to_vec();
        (self.start, self.end, self.scanned) = (0, 0, 0);
        rest
    }

    fn no_lf(&mut self) -> Option<Result<&[u8], WireError>> {
        self.scanned = self.end;
        let full = self.end - self.start == LINE_LEN_MAX;
        if self.discarding || full {
            (self.start, self.end, self.scanned) = (0, 0, 0);
        }
        if full && !self.discarding {
            self.discarding = true;
            return Some(Err(WireError::LineTooLong));
        }
        None
    }
}

/// Splits a line at its **first** underscore into protocol name and payload, and checks both.
///
/// The name comes back in upper case; a bare name has an empty payload.
pub fn split(line: &[u8]) -> Result<(String, &str), WireError> {
    let text = std::str::from_utf8(line).map_err(|_| WireError::BadText)?;
    if text.chars().any(char::is_control) {
        return Err(WireError::BadText);
    }
    let (protocol, payload) = text.split_once('_').unwrap_or((text, ""));
    let name_like = protocol.starts_with(|c: char| c.is_ascii_alphabetic())
        && protocol.len() <= PROTOCOL_LEN_MAX
        && protocol.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if !name_like {
        return Err(WireError::BadProtocol);
    }
    Ok((protocol.to_ascii_uppercase(), payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every line of `input`, fed in pieces of the given sizes (the last size repeats).
    fn lines(input: &[u8], cuts: &[usize]) -> Vec<Result<Vec<u8>, WireError>> {
        let mut buffer = LineBuffer::default();
        let (mut rest, mut out) = (input, Vec::new());
        let mut cuts = cuts.iter().chain(std::iter::repeat(cuts.last().expect("a size"))).copied();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(cuts.next().expect("endless").min(rest.len()));
            rest = after;
            let mut piece = piece;
            while !piece.is_empty() {
                buffer.read_from(&mut piece).expect("a slice");
                while let Some(line) = buffer.next_line() {
                    out.push(line.map(<[u8]>::to_vec));
                }
            }
        }
        out
    }

    #[test]
    fn lines_are_the_same_at_every_cut() {
        let input = b"HELLO_alice\r\nALL_snake_case\n\nPM_bob \xc3\xa9\r\r\nunfinished";
        let whole = lines(input, &[usize::MAX]);
        assert_eq!(whole.len(), 4);
        assert_eq!(whole[3], Ok(b"PM_bob \xc3\xa9\r".to_vec()));
        for cut in 1..input.len() {
            assert_eq!(lines(input, &[cut, usize::MAX]), whole, "cut at {cut}");
            assert_eq!(lines(input, &[cut]), whole, "pieces of {cut}");
        }
    }

    #[test]
    fn the_limit_counts_the_lf_and_a_long_line_is_told_once() {
        let fits = [vec![b'a'; LINE_LEN_MAX - 1], b"\n".to_vec()].concat();
        assert_eq!(lines(&fits, &[100]), [Ok(vec![b'a'; LINE_LEN_MAX - 1])]);
        let long = [vec![b'a'; 3 * LINE_LEN_MAX], b"\nWHO\n".to_vec()].concat();
        for cut in [1, 100, LINE_LEN_MAX, usize::MAX] {
            assert_eq!(
                lines(&long, &[cut]),
                [Err(WireError::LineTooLong), Ok(b"WHO".to_vec())],
                "pieces of {cut}"
            );
        }
        let by_one = [vec![b'a'; LINE_LEN_MAX], b"\nWHO\n".to_vec()].concat();
        assert_eq!(lines(&by_one, &[7]), [Err(WireError::LineTooLong), Ok(b"WHO".to_vec())]);
    }

    #[test]
    fn the_memory_of_a_long_line_is_kept_no_longer_than_the_line() {
        let mut buffer = LineBuffer::default();
        let mut read = |bytes: &[u8]| {
            let (mut input, mut lines) = (bytes, 0);
            while !input.is_empty() {
                buffer.read_from(&mut input).expect("a slice");
                while buffer.next_line().is_some() {
                    lines += 1;
                }
            }
            (lines, buffer.bytes.len())
        };
        assert_eq!(read(&[b'a'; SHORT_LEN]), (0, SHORT_LEN));
        assert_eq!(read(b"a"), (0, LINE_LEN_MAX));
        assert_eq!(read(b"\nWHO"), (1, LINE_LEN_MAX));
        assert_eq!(read(b"\n"), (1, SHORT_LEN));
        assert_eq!(read(b"WHO\n"), (1, SHORT_LEN));
    }

    /// An input that has nothing for now.
    struct Silence;

    impl Read for Silence {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::WouldBlock.into())
        }
    }

    #[test]
    fn a_burst_of_short_lines_is_read_in_large_pieces() {
        let burst = b"PING_x\n".repeat(8 * LINE_LEN_MAX / 7);
        let (mut buffer, mut input) = (LineBuffer::default(), &burst[..]);
        let (mut read_lens, mut lines) = (Vec::new(), 0);
        while !input.is_empty() {
            read_lens.push(buffer.read_from(&mut input).expect("a slice"));
            while let Some(line) = buffer.next_line() {
                assert_eq!(line, Ok(&b"PING_x"[..]));
                lines += 1;
            }
        }
        assert_eq!(lines, burst.len() / 7);
        assert_eq!(read_lens[0], SHORT_LEN);
        assert!(read_lens.len() <= 2 + 8, "{read_lens:?}");
        // The last read has emptied the socket, so the next is to cost little, however long it waits.
        let mut piece = &b"PI"[..];
        buffer.read_from(&mut piece).expect("a slice");
        assert_eq!((buffer.bytes.len(), buffer.waiting_len()), (SHORT_LEN, 2));
    }

    #[test]
    fn who_falls_silent_with_a_full_buffer_costs_a_short_one_soon() {
        let (mut buffer, full) = (LineBuffer::default(), b"PING_x\r\n".repeat(SHORT_LEN / 8));
        buffer.read_from(&mut &full[..]).expect("a slice");
        while buffer.next_line().is_some() {}
        for len in [LINE_LEN_MAX, SHORT_LEN] {
            assert!(buffer.read_from(&mut Silence).is_err(), "nothing is there");
            assert_eq!(buffer.bytes.len(), len);
        }
    }

    #[test]
    fn a_line_splits_at_its_first_underscore() {
        assert_eq!(split(b"ALL_snake_case"), Ok(("ALL".into(), "snake_case")));
        assert_eq!(split(b"who"), Ok(("WHO".into(), "")));
        assert_eq!(split(b"Who_"), Ok(("WHO".into(), "")));
        for bad in ["", "_x", "1A_x", "hello world", "ABCDEFGHIJKLMNOPQ_x"] {
            assert_eq!(split(bad.as_bytes()), Err(WireError::BadProtocol), "{bad:?}");
        }
        for bad in
            [&b"ALL_\xff"[..], b"ALL_a\rb", b"ALL_\x00", b"ALL_\x1b[2J", "ALL_\u{9b}".as_bytes(), b"ALL_\x7f"]
        {
            assert_eq!(split(bad), Err(WireError::BadText), "{bad:?}");
        }
    }
}
