//! Datagrams of the reliable-UDP protocol: one packet each, a clear header and a sealed body.
//!
//! ```text
//!  0        1              5              9                            n-16      n
//! +--------+--------------+--------------+----------------------------+---------+
//! | kind   | transfer id  | number, low  | body, sealed               | tag     |
//! +--------+--------------+--------------+----------------------------+---------+
//! ```
//!
//! All integers are big-endian. The header is the associated data of the seal ([`crate::rudp::seal`]).

use super::WireError;
use super::message::TransferId;

/// Octets of the clear header.
pub const HEADER_LEN: usize = 9;

/// Octets of the AEAD's tag behind the body.
pub const TAG_LEN: usize = 16;

/// Octets of a DATA body before the file's: how far back the lowest tracked number is (2), offset (6).
pub const DATA_PREFIX_LEN: usize = 8;

/// What one DATA packet costs beside the file's octets.
pub const DATA_OVERHEAD: usize = HEADER_LEN + DATA_PREFIX_LEN + TAG_LEN;

/// The largest file offset that DATA can name (48 bits).
pub const OFFSET_MAX: u64 = (1 << 48) - 1;

/// How many bitmap words of 64 numbers an ACK carries at most: ours, so that the largest ACK (9 + 16 + 130 x 8 + 16 octets)
/// fits the packet of 1,200 octets that passes every path.
pub const ACK_WORDS_MAX: usize = 130;

/// The kinds of packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Opens: the first leg, by the client.
    Syn = 1,
    /// Opens: the second leg, by the server.
    SynAck = 2,
    /// Tells which numbers were kept, and how far the peer may send. The third leg is one of these.
    Ack = 3,
    /// Octets of the file.
    Data = 4,
    /// No more data will come from this side.
    Fin = 5,
    /// Wants an ACK, carries nothing.
    Ping = 6,
    /// Ends the connection at once.
    Rst = 7,
    /// Asks whether it arrives, and is the answer; it belongs to no connection ([`crate::rudp::probe`]).
    Probe = 8,
}

impl Kind {
    fn parse(octet: u8) -> Option<Kind> {
        [Self::Syn, Self::SynAck, Self::Ack, Self::Data, Self::Fin, Self::Ping, Self::Rst, Self::Probe]
            .into_iter()
            .find(|&kind| kind as u8 == octet)
    }
}

/// The clear header of every packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the body is.
    pub kind: Kind,
    /// The transfer it belongs to; tells connections apart, proves nothing.
    pub id: TransferId,
    /// The low 32 bits of the packet number.
    pub number_low: u32,
}

impl Header {
    /// Reads the header of a datagram.
    pub fn parse(datagram: &[u8]) -> Result<Header, WireError> {
        let mut input = Input(datagram);
        let kind = Kind::parse(input.u8()?).ok_or(WireError::PacketKind)?;
        Ok(Header { kind, id: TransferId(input.u32()?), number_low: input.u32()? })
    }

    /// Writes it into the first [`HEADER_LEN`] octets of `out`.
    pub fn emit(&self, out: &mut [u8]) {
        out[0] = self.kind as u8;
        out[1..5].copy_from_slice(&self.id.0.to_be_bytes());
        out[5..9].copy_from_slice(&self.number_low.to_be_bytes());
    }
}

/// What both ends propose in SYN and SYN-ACK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setup {
    /// The number of the scheme that the sender of the file shall use; the SYN-ACK tells the one in use.
    pub arq: u8,
    /// Likewise the congestion controller,
    pub controller: u8,
    /// and its argument.
    pub controller_arg: u16,
    /// The largest UDP payload the proposer sends; its SYN or SYN-ACK is padded to the size to confirm.
    pub packet_len: u16,
    /// Octets that the proposer's socket can hold at once.
    pub burst_len: u32,
    /// The file offset up to which the peer may send.
    pub credit: u64,
}

/// A parsed body. Borrows what it does not need to copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body<'a> {
    /// See [`Kind::Syn`].
    Syn(Setup),
    /// Answers the SYN whose number has these low 32 bits.
    SynAck {
        /// Which SYN.
        echo: u32,
        /// What the server agrees to.
        setup: Setup,
    },
    /// See [`Kind::Ack`].
    Ack(Ack<'a>),
    /// See [`Kind::Data`].
    Data {
        /// The packet's number less the lowest number that the sender still tracks.
        back: u16,
        /// Where in the file the octets begin.
        offset: u64,
        /// The octets.
        data: &'a [u8],
    },
    /// See [`Kind::Fin`].
    Fin {
        /// As in DATA.
        back: u16,
        /// The octets of the file that this side has sent in all.
        size: u64,
    },
    /// See [`Kind::Ping`].
    Ping {
        /// As in DATA.
        back: u16,
    },
    /// See [`Kind::Rst`].
    Rst {
        /// Why.
        reason: Reason,
    },
}

/// Which numbers were kept: a bitmap in words of 64 numbers, aligned to multiples of 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack<'a> {
    /// Microseconds between the arrival of the largest number and this ACK.
    pub delay_us: u32,
    /// The file offset up to which the peer may send.
    pub credit: u64,
    /// The word of the first bit is `64 * first_word`.
    pub first_word: u32,
    words: &'a [u8],
}

impl<'a> Ack<'a> {
    /// The words in ascending order with the number of their lowest bit.
    pub fn words(&self) -> impl DoubleEndedIterator<Item = (u64, u64)> + use<'a> {
        let first = u64::from(self.first_word);
        let (chunks, _) = self.words.as_chunks::<8>();
        chunks.iter().enumerate().map(move |(i, chunk)| ((first + i as u64) * 64, u64::from_be_bytes(*chunk)))
    }

    /// The largest number that was kept: an ACK without one is not well-formed.
    pub fn largest(&self) -> u64 {
        let (base, word) = self.words().next_back().expect("parse refuses an empty bitmap");
        base + 63 - u64::from(word.leading_zeros())
    }
}

/// Why a connection was ended with RST.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A person or the program wanted it.
    Cancelled = 1,
    /// The file could not be read or written.
    File = 2,
    /// The peer broke the protocol.
    Protocol = 3,
}

impl Body<'_> {
    /// Reads the opened body of a packet of this kind. Never allocates.
    pub fn parse(kind: Kind, bytes: &[u8]) -> Result<Body<'_>, WireError> {
        let mut input = Input(bytes);
        let body = match kind {
            // What follows the setup is padding.
            Kind::Syn => return input.setup().map(Body::Syn),
            Kind::SynAck => return Ok(Body::SynAck { echo: input.u32()?, setup: input.setup()? }),
            Kind::Ack => return input.ack().map(Body::Ack),
            Kind::Data => return Ok(Body::Data { back: input.u16()?, offset: input.u48()?, data: input.0 }),
            Kind::Fin => Body::Fin { back: input.u16()?, size: input.u64()? },
            Kind::Ping => Body::Ping { back: input.u16()? },
            Kind::Rst => Body::Rst {
                reason: match input.u8()? {
                    1 => Reason::Cancelled,
                    2 => Reason::File,
                    3 => Reason::Protocol,
                    _ => return Err(WireError::PacketKind),
                },
            },
            Kind::Probe => return Err(WireError::PacketKind),
        };
        if input.0.is_empty() { Ok(body) } else { Err(WireError::PacketLength) }
    }

    /// Writes the body (without padding) to the start of `out` and gives its length. `out` must be long enough.
    ///
    /// The octets of DATA are not copied: they are read straight behind the prefix.
    pub fn emit(&self, out: &mut [u8]) -> usize {
        let mut output = Output { out, len: 0 };
        match *self {
            Body::Syn(setup) => output.setup(&setup),
            Body::SynAck { echo, setup } => {
                output.put(&echo.to_be_bytes());
                output.setup(&setup);
            }
            Body::Ack(ack) => {
                output.put(&ack.delay_us.to_be_bytes());
                output.put(&ack.credit.to_be_bytes());
                output.put(&ack.first_word.to_be_bytes());
                output.put(ack.words);
            }
            Body::Data { back, offset, data: _ } => {
                output.put(&back.to_be_bytes());
                output.put(&offset.to_be_bytes()[2..]);
            }
            Body::Fin { back, size } => {
                output.put(&back.to_be_bytes());
                output.put(&size.to_be_bytes());
            }
            Body::Ping { back } => output.put(&back.to_be_bytes()),
            Body::Rst { reason } => output.put(&[reason as u8]),
        }
        output.len
    }
}

/// Writes an ACK's body to the start of `out` and gives its length; of more than [`ACK_WORDS_MAX`] words, the last ones.
pub fn emit_ack(
    out: &mut [u8],
    delay_us: u32,
    credit: u64,
    first_word: u32,
    words: impl ExactSizeIterator<Item = u64>,
) -> usize {
    let dropped = words.len().saturating_sub(ACK_WORDS_MAX);
    let dropped_words = u32::try_from(dropped).expect("a bitmap has 1,024 words at most");
    let mut output = Output { out, len: 0 };
    output.put(&delay_us.to_be_bytes());
    output.put(&credit.to_be_bytes());
    output.put(&(first_word + dropped_words).to_be_bytes());
    for word in words.skip(dropped) {
        output.put(&word.to_be_bytes());
    }
    output.len
}

/// The version of the packets, the first octet of SYN and SYN-ACK.
const VERSION: u8 = 1;

struct Output<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl Output<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.out[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn setup(&mut self, setup: &Setup) {
        self.put(&[VERSION, setup.arq, setup.controller]);
        self.put(&setup.controller_arg.to_be_bytes());
        self.put(&setup.packet_len.to_be_bytes());
        self.put(&setup.burst_len.to_be_bytes());
        self.put(&setup.credit.to_be_bytes());
    }
}

/// What is left to read of a packet.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (array, rest) = self.0.split_first_chunk().ok_or(WireError::PacketLength)?;
        self.0 = rest;
        Ok(*array)
    }

    fn u8(&mut self) -> Result<u8, WireError> {
        self.array().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Result<u16, WireError> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_be_bytes)
    }

    fn u48(&mut self) -> Result<u64, WireError> {
        let [a, b, c, d, e, f] = self.array()?;
        Ok(u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
    }

    fn u64(&mut self) -> Result<u64, WireError> {
        self.array().map(u64::from_be_bytes)
    }

    fn setup(&mut self) -> Result<Setup, WireError> {
        if self.u8()? != VERSION {
            return Err(WireError::PacketKind);
        }
        Ok(Setup {
            arq: self.u8()?,
            controller: self.u8()?,
            controller_arg: self.u16()?,
            packet_len: self.u16()?,
            burst_len: self.u32()?,
            credit: self.u64()?,
        })
    }

    fn ack(&mut self) -> Result<Ack<'a>, WireError> {
        let ack = Ack { delay_us: self.u32()?, credit: self.u64()?, first_word: self.u32()?, words: self.0 };
        let (words, rest) = self.0.as_chunks::<8>();
        let well_formed =
            rest.is_empty() && words.len() <= ACK_WORDS_MAX && words.last().is_some_and(|w| *w != [0; 8]);
        if well_formed { Ok(ack) } else { Err(WireError::PacketLength) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KINDS: [Kind; 7] =
        [Kind::Syn, Kind::SynAck, Kind::Ack, Kind::Data, Kind::Fin, Kind::Ping, Kind::Rst];

    #[test]
    fn a_header_is_nine_octets_in_network_order() {
        let header = Header { kind: Kind::Data, id: TransferId(0x0102_0304), number_low: 0x0506_0708 };
        let mut out = [0; HEADER_LEN];
        header.emit(&mut out);
        assert_eq!(out, [4, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(Header::parse(&out), Ok(header));
        assert_eq!(Header::parse(&out[..8]), Err(WireError::PacketLength));
        assert_eq!(Header::parse(&[0; 9]), Err(WireError::PacketKind));
    }

    #[test]
    fn an_ack_names_its_numbers() {
        let mut out = [0; 100];
        let len = emit_ack(&mut out, 5, 1 << 40, 3, [0b101, 1 << 63].into_iter());
        let Ok(Body::Ack(ack)) = Body::parse(Kind::Ack, &out[..len]) else { panic!("an ACK") };
        assert_eq!((ack.delay_us, ack.credit, ack.largest()), (5, 1 << 40, 319));
        assert_eq!(ack.words().collect::<Vec<_>>(), [(192, 0b101), (256, 1 << 63)]);
    }

    #[test]
    fn an_ack_without_a_largest_number_is_refused() {
        let mut out = [0; 100];
        for words in [&[][..], &[1, 0]] {
            let len = emit_ack(&mut out, 0, 0, 0, words.iter().copied());
            assert_eq!(Body::parse(Kind::Ack, &out[..len]), Err(WireError::PacketLength));
        }
    }

    #[test]
    fn a_bitmap_too_long_for_an_ack_keeps_its_newest_words() {
        let mut out = [0; 1_200];
        let words: Vec<u64> = (1..=200).collect();
        let len = emit_ack(&mut out, 0, 0, 10, words.into_iter());
        let Ok(Body::Ack(ack)) = Body::parse(Kind::Ack, &out[..len]) else { panic!("an ACK") };
        assert_eq!(ack.words().next(), Some((80 * 64, 71)));
        assert_eq!(ack.words().next_back(), Some((209 * 64, 200)));
        assert!(HEADER_LEN + len + TAG_LEN <= 1_200);
    }

    proptest! {
        #[test]
        fn whatever_parses_prints_to_the_same_octets(kind in prop::sample::select(&KINDS), bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(body) = Body::parse(kind, &bytes) {
                let mut out = [0; 64];
                let len = body.emit(&mut out);
                prop_assert_eq!(&out[..len], &bytes[..len]);
            }
        }
    }
}
