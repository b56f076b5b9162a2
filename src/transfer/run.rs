//! Octets that arrive packet by packet and are written in one piece.

use std::io;

use super::sink::Sink;

/// Octets that follow each other are joined up to this size, as many as four batches bring, before they go to the sink
/// (measured: a write per segment is 3.6 times slower).
const RUN_LEN_MAX: usize = 256 * 1024;

/// Octets of one file that follow each other and are not yet written. A worker has one for all of its transfers and
/// empties it before it acknowledges anything: so it stays in the processor's cache, a thousand transfers need no
/// more of it than one, and what the other side believes to be here is in the system's care.
#[derive(Debug)]
pub(super) struct Run {
    octets: Vec<u8>,
    offset: u64,
}

impl Run {
    pub(super) fn new() -> Run {
        Run { octets: Vec::with_capacity(RUN_LEN_MAX), offset: 0 }
    }

    /// Takes octets of the file in `sink`.
    ///
    /// What lies behind the run (a gap that is filled) goes straight to its place; what lies beyond it begins the next
    /// run, so that a lost packet costs one write more and not one for each packet after it.
    pub(super) fn join(&mut self, sink: &mut Sink, offset: u64, octets: &[u8]) -> io::Result<()> {
        let end = self.offset + self.octets.len() as u64;
        if offset < end && !self.octets.is_empty() {
            return sink.write(offset, octets);
        }
        if offset != end || self.octets.len() + octets.len() > RUN_LEN_MAX {
            self.write_to(sink)?;
            self.offset = offset;
        }
        self.octets.extend_from_slice(octets);
        Ok(())
    }

    /// Hands what is joined to the system.
    pub(super) fn write_to(&mut self, sink: &mut Sink) -> io::Result<()> {
        let written = if self.octets.is_empty() { Ok(()) } else { sink.write(self.offset, &self.octets) };
        self.clear();
        written
    }

    /// Forgets what is joined.
    pub(super) fn clear(&mut self) {
        self.offset += self.octets.len() as u64;
        self.octets.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::part::Origin;
    use crate::transfer::sink::Target;

    const PIECE_LEN: usize = 1_000;
    const PIECES: usize = 600;

    /// Hands these pieces of a file to a run, looks at the length of the file on the disk after each, and at its content
    /// at the end.
    fn lens_on_disk(order: &[usize]) -> Vec<u64> {
        let folder = tempfile::tempdir().expect("a folder");
        let content: Vec<u8> =
            (0..PIECES).flat_map(|piece| piece.to_le_bytes().repeat(PIECE_LEN / 8)).collect();
        let target = Target::Path(folder.path().join("a"));
        let mut sink = Sink::create(&target, &Origin::new(content.len() as u64)).expect("a sink");
        let (mut run, mut lens) = (Run::new(), Vec::new());
        for &piece in order {
            let from = piece * PIECE_LEN;
            run.join(&mut sink, from as u64, &content[from..from + PIECE_LEN]).expect("joined");
            lens.push(std::fs::metadata(sink.part_path()).expect("there").len());
        }
        run.write_to(&mut sink).expect("written");
        run.write_to(&mut sink).expect("nothing is left");
        sink.keep(blake3::hash(&content)).expect("the file");
        lens
    }

    #[test]
    fn what_follows_is_written_together() {
        let lens = lens_on_disk(&(0..PIECES).collect::<Vec<_>>());
        let writes = lens.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert_eq!(writes, PIECES * PIECE_LEN / RUN_LEN_MAX, "{lens:?}");
    }

    #[test]
    fn a_gap_that_is_filled_does_not_end_the_run() {
        // 1 is lost, 2 begins a run, 1 comes late; 3 and all others still join what 2 began.
        let mut order: Vec<usize> = vec![0, 2, 1];
        order.extend(3..PIECES);
        let lens = lens_on_disk(&order);
        assert_eq!(lens[..5], [0, 1_000, 2_000, 2_000, 2_000]);
    }

    #[test]
    fn what_comes_in_no_order_gives_the_file() {
        let order: Vec<usize> = (0..PIECES).map(|i| i * 7 % PIECES).collect();
        lens_on_disk(&order);
    }
}
