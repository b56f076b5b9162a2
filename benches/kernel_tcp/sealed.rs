//! The same bytes under the same cipher: every 1,440 octets are sealed and opened, as ours are in their packets.
//!
//! This is no protocol, only its least cost: a transport for sealed packets that took no time of its own would be as fast.

use std::io::{self, Read, Write};

use ring::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, Tag, UnboundKey};

/// What one of our packets holds, rounded: whole blocks of the cipher.
const PIECE_LEN: usize = 1_440;
const TAG_LEN: usize = 16;

/// One frame: its pieces, then their tags. About as long as the plain peer's reads.
const PIECES: usize = 45;
const FRAME_LEN: usize = PIECES * (PIECE_LEN + TAG_LEN);

struct Cipher {
    key: LessSafeKey,
    number: u64,
}

impl Cipher {
    fn new() -> Cipher {
        let key = UnboundKey::new(&AES_128_GCM, &[7; 16]).expect("16 octets are a key of AES-128");
        Cipher { key: LessSafeKey::new(key), number: 0 }
    }

    fn nonce(&mut self) -> Nonce {
        self.number += 1;
        let mut nonce = [0; NONCE_LEN];
        nonce[NONCE_LEN - 8..].copy_from_slice(&self.number.to_be_bytes());
        Nonce::assume_unique_for_key(nonce)
    }
}

/// Sends all that comes from the file.
pub fn send(mut file: impl Read, mut stream: impl Write) -> io::Result<()> {
    let (mut cipher, mut frame) = (Cipher::new(), vec![0; FRAME_LEN]);
    loop {
        let len = fill(&mut file, &mut frame[..PIECES * PIECE_LEN])?;
        if len == 0 {
            return Ok(());
        }
        let (octets, tags) = frame.split_at_mut(len);
        let mut tags_len = 0;
        for piece in octets.chunks_mut(PIECE_LEN) {
            let nonce = cipher.nonce();
            let tag = cipher.key.seal_in_place_separate_tag(nonce, Aad::empty(), piece);
            tags[tags_len..][..TAG_LEN].copy_from_slice(tag.expect("a short piece").as_ref());
            tags_len += TAG_LEN;
        }
        stream.write_all(&frame[..len + tags_len])?;
    }
}

/// Hands all that comes to `keep`, opened.
pub fn receive(mut stream: impl Read, mut keep: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let (mut cipher, mut frame) = (Cipher::new(), vec![0; FRAME_LEN]);
    loop {
        let frame_len = fill(&mut stream, &mut frame)?;
        if frame_len == 0 {
            return Ok(());
        }
        let pieces = frame_len.div_ceil(PIECE_LEN + TAG_LEN);
        let (octets, tags) = frame[..frame_len].split_at_mut(frame_len - pieces * TAG_LEN);
        for (piece, tag) in octets.chunks_mut(PIECE_LEN).zip(tags.chunks(TAG_LEN)) {
            let (nonce, tag) = (cipher.nonce(), Tag::try_from(tag).expect("16 octets are a tag"));
            let opened = cipher.key.open_in_place_separate_tag(nonce, Aad::empty(), tag, piece, 0..);
            opened.map_err(|_| io::Error::other("a piece is not what was sealed"))?;
        }
        keep(octets)?;
    }
}

/// Reads until the buffer is full or nothing more comes.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < buffer.len() {
        match from.read(&mut buffer[len..])? {
            0 => break,
            read_len => len += read_len,
        }
    }
    Ok(len)
}
