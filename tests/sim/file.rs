//! The file that travels: made where it is read, checked where it arrives, stored nowhere.

use std::io;
use std::ops::Range;

/// Eight octets of the file.
fn word(index: u64) -> [u8; 8] {
    let mixed = (index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).to_le_bytes()
}

/// The octets of the file from `offset` on.
pub fn fill(offset: u64, out: &mut [u8]) {
    let head_len = out.len().min((offset.next_multiple_of(8) - offset) as usize);
    let (head, rest) = out.split_at_mut(head_len);
    if !head.is_empty() {
        head.copy_from_slice(&word(offset / 8)[(offset % 8) as usize..][..head_len]);
    }
    let mut index = offset.div_ceil(8);
    let (words, tail) = rest.as_chunks_mut::<8>();
    for place in words {
        *place = word(index);
        index += 1;
    }
    let tail_len = tail.len();
    tail.copy_from_slice(&word(index)[..tail_len]);
}

/// Reads the file as a connection asks for it.
pub fn read(offset: u64, octets: &mut [u8]) -> io::Result<()> {
    fill(offset, octets);
    Ok(())
}

/// Whether these are the octets of the file from `offset` on.
pub fn is_at(offset: u64, octets: &[u8]) -> bool {
    let mut expected = [0; 2_048];
    let expected = &mut expected[..octets.len()];
    fill(offset, expected);
    expected == octets
}

/// Which octets of a file are kept: a bit each, as far as octets have come.
#[derive(Debug)]
pub struct Kept {
    size: u64,
    words: Vec<u64>,
    pub bytes: u64,
}

impl Kept {
    pub fn new(size: u64) -> Kept {
        Kept { size, words: Vec::new(), bytes: 0 }
    }

    /// Notes octets; an error says which half of I5 is broken.
    pub fn insert(&mut self, range: Range<u64>) -> Result<(), &'static str> {
        if range.end > self.size {
            return Err("outside the file");
        }
        self.bytes += range.end - range.start;
        let words_len = self.words.len().max(range.end.div_ceil(64) as usize);
        self.words.resize(words_len, 0);
        let mut at = range.start;
        while at < range.end {
            let len = (64 - at % 64).min(range.end - at);
            let mask = (u64::MAX >> (64 - len)) << (at % 64);
            let word = &mut self.words[(at / 64) as usize];
            if *word & mask != 0 {
                return Err("an octet was kept twice");
            }
            *word |= mask;
            at += len;
        }
        Ok(())
    }

    /// The octets that are kept without a gap from the start of the file.
    pub fn prefix(&self) -> u64 {
        let whole = self.words.iter().take_while(|&&word| word == u64::MAX).count();
        let rest = self.words.get(whole).map_or(0, |word| word.trailing_ones());
        whole as u64 * 64 + u64::from(rest)
    }

    pub fn is_complete(&self) -> bool {
        self.bytes == self.size
    }
}
