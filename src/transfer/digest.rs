//! Digests of whole files, read slice after slice: of a file that is there, or of one that is still being written.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The octets that one read takes. Ours: they stay in the processor's cache until they are hashed.
const READ_LEN: usize = 256 * 1024;

/// A file that is being written is synced this often. Ours: what a crash of the machine may cost.
const SYNC_EVERY: Duration = Duration::from_secs(5);

/// A digest of a file that is read slice after slice.
#[derive(Debug, Default)]
pub(super) struct Slices {
    hasher: blake3::Hasher,
    offset: u64,
}

impl Slices {
    /// Reads at most so many more of the file's first `size` octets, fewer once `cancelled` is set; tells whether that
    /// was all of them.
    pub(super) fn advance(
        &mut self,
        file: &File,
        size: u64,
        slice_len: u64,
        cancelled: &AtomicBool,
    ) -> io::Result<bool> {
        let end = size.min(self.offset.saturating_add(slice_len));
        if self.offset >= end {
            return Ok(self.offset >= size);
        }
        let mut buffer = vec![0; READ_LEN.min(usize::try_from(size).unwrap_or(READ_LEN))];
        while self.offset < end && !cancelled.load(Ordering::Relaxed) {
            let want = buffer.len().min(usize::try_from(end - self.offset).unwrap_or(usize::MAX));
            match file.read_at(&mut buffer[..want], self.offset) {
                Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file ends early")),
                Ok(read_len) => {
                    self.hasher.update(&buffer[..read_len]);
                    self.offset += read_len as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.offset >= size)
    }

    /// The digest of what has been read.
    pub(super) fn digest(&self) -> blake3::Hash {
        self.hasher.finalize()
    }
}

/// A file that is being written, as the disk thread follows it: it reads what is there for the digest, and syncs it.
#[derive(Debug)]
pub struct Followed {
    file: File,
    /// Tells how far the file is; its owner writes it.
    state: File,
    /// Everything before this is written.
    written: AtomicU64,
    /// Everything before this is on the disk.
    synced: AtomicU64,
    is_over: AtomicBool,
    seen: Mutex<Seen>,
}

/// What the disk thread has seen of a file.
#[derive(Debug)]
struct Seen {
    slices: Slices,
    synced_at: Instant,
    /// The system tells of octets that it could not write only once.
    failure: Option<io::Error>,
}

impl Followed {
    pub(super) fn new(file: File, state: File, written: u64, synced: u64) -> Arc<Followed> {
        Arc::new(Followed {
            file,
            state,
            written: written.into(),
            synced: synced.into(),
            is_over: AtomicBool::new(false),
            seen: Mutex::new(Seen { slices: Slices::default(), synced_at: Instant::now(), failure: None }),
        })
    }

    /// More is written.
    pub(super) fn on_written(&self, written: u64) {
        self.written.store(written, Ordering::Release);
    }

    /// Nobody writes any more.
    pub(super) fn on_over(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    pub(super) fn synced(&self) -> u64 {
        self.synced.load(Ordering::Acquire)
    }

    /// Reads a slice of what is written and not yet read, and syncs from time to time; tells whether there is more. What
    /// fails is told by [`finish`](Self::finish).
    pub(super) fn follow(&self, slice_len: u64) -> bool {
        let written = self.written.load(Ordering::Acquire);
        let mut seen = self.seen.lock();
        if seen.failure.is_some() {
            return false;
        }
        let followed =
            seen.slices.advance(&self.file, written, slice_len, &self.is_over).and_then(|has_all| {
                if seen.synced_at.elapsed() > SYNC_EVERY && written > self.synced() {
                    // What the state says was true before; what is true now it says the next time.
                    self.file.sync_data()?;
                    self.state.sync_data()?;
                    self.synced.store(written, Ordering::Release);
                    seen.synced_at = Instant::now();
                }
                Ok(!has_all)
            });
        followed.unwrap_or_else(|error| {
            seen.failure = Some(error);
            false
        })
    }

    /// The digest of the file's first `size` octets, all of which are written, and are on the disk when this returns.
    pub(super) fn finish(&self, size: u64) -> io::Result<blake3::Hash> {
        let mut seen = self.seen.lock();
        if let Some(failure) = seen.failure.take() {
            return Err(failure);
        }
        while !seen.slices.advance(&self.file, size, size, &AtomicBool::new(false))? {}
        self.file.sync_all()?;
        Ok(seen.slices.digest())
    }
}

/// The digest of `len` octets of a file that end at `end`: what a resumed transfer compares.
pub fn digest_before(file: &File, end: u64, len: u64) -> io::Result<blake3::Hash> {
    let len_before = usize::try_from(len.min(end)).map_err(io::Error::other)?;
    let mut bytes = vec![0; len_before];
    file.read_exact_at(&mut bytes, end - len_before as u64)?;
    Ok(blake3::hash(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn file(octets: &[u8]) -> File {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(octets).expect("written");
        file
    }

    #[test]
    fn a_digest_in_slices_is_the_digest() {
        let octets: Vec<u8> = (0..3_000_000u32).map(|i| i.to_le_bytes()[1]).collect();
        let file = file(&octets);
        for slice_len in [1 << 20, 999_983, u64::MAX] {
            let mut slices = Slices::default();
            let goes_on = AtomicBool::new(false);
            while !slices.advance(&file, 3_000_000, slice_len, &goes_on).expect("readable") {}
            assert_eq!(slices.digest(), blake3::hash(&octets), "{slice_len}");
        }
        let mut slices = Slices::default();
        assert!(!slices.advance(&file, 3_000_000, u64::MAX, &AtomicBool::new(true)).expect("given up"));
        assert!(
            slices.advance(&file, 3_000_001, u64::MAX, &AtomicBool::new(false)).is_err(),
            "it ends early"
        );
        assert!(Slices::default().advance(&file, 0, 1, &AtomicBool::new(false)).expect("nothing to read"));
    }

    #[test]
    fn a_file_is_followed_as_far_as_it_is_written() {
        let octets = [7; 3_000];
        let mut file = file(&octets[..1_000]);
        let state = tempfile::tempfile().expect("a file");
        let followed = Followed::new(file.try_clone().expect("a handle"), state, 0, 0);
        assert!(!followed.follow(500), "nothing is written yet");
        followed.on_written(1_000);
        assert!(followed.follow(500), "there is more");
        assert!(!followed.follow(500));
        assert_eq!(followed.synced(), 0, "not so often");
        file.write_all(&octets[1_000..]).expect("written");
        followed.on_written(3_000);
        followed.on_over();
        assert_eq!(followed.finish(3_000).expect("readable"), blake3::hash(&octets));
        assert!(followed.is_over() && followed.finish(3_001).is_err());
    }

    #[test]
    fn what_fails_while_a_file_is_followed_is_told_at_its_end() {
        let (file, state) = (file(b"short"), tempfile::tempfile().expect("a file"));
        let followed = Followed::new(file, state, 0, 0);
        followed.on_written(6);
        assert!(!followed.follow(u64::MAX) && !followed.follow(u64::MAX), "it is left alone then");
        let failure = followed.finish(5).expect_err("what follow has met");
        assert_eq!(failure.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn what_is_compared_are_the_last_octets_before() {
        let file = file(b"0123456789");
        assert_eq!(digest_before(&file, 8, 3).expect("readable"), blake3::hash(b"567"));
        assert_eq!(digest_before(&file, 2, 3).expect("readable"), blake3::hash(b"01"), "no more are there");
        assert_eq!(digest_before(&file, 0, 3).expect("readable"), blake3::hash(b""));
        assert!(digest_before(&file, 11, 3).is_err());
    }
}
