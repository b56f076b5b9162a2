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
    /// Everything before this is written.
    written: AtomicU64,
    /// Everything before this is on the disk.
    synced: AtomicU64,
    is_over: AtomicBool,
    slices: Mutex<Slices>,
    synced_at: Mutex<Instant>,
}

impl Followed {
    pub(super) fn new(file: File, written: u64, synced: u64) -> Arc<Followed> {
        Arc::new(Followed {
            file,
            written: written.into(),
            synced: synced.into(),
            is_over: AtomicBool::new(false),
            slices: Mutex::default(),
            synced_at: Mutex::new(Instant::now()),
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

    /// Reads a slice of what is written and not yet read, and syncs from time to time; tells whether there is more.
    pub(super) fn follow(&self, slice_len: u64) -> io::Result<bool> {
        let written = self.written.load(Ordering::Acquire);
        let has_all = self.slices.lock().advance(&self.file, written, slice_len, &self.is_over)?;
        let mut synced_at = self.synced_at.lock();
        if synced_at.elapsed() > SYNC_EVERY && written > self.synced() {
            self.file.sync_data()?;
            self.synced.store(written, Ordering::Release);
            *synced_at = Instant::now();
        }
        Ok(!has_all)
    }

    /// The digest of the file's first `size` octets, all of which are written.
    pub(super) fn digest(&self, size: u64) -> io::Result<blake3::Hash> {
        let mut slices = self.slices.lock();
        while !slices.advance(&self.file, size, size, &AtomicBool::new(false))? {}
        Ok(slices.digest())
    }
}

/// The digest of `len` octets of a file that end at `end`: what a resumed transfer compares.
pub fn digest_before(file: &File, end: u64, len: u64) -> io::Result<blake3::Hash> {
    let len_before = usize::try_from(len.min(end)).map_err(io::Error::other)?;
    let mut bytes = vec![0; len_before];
    file.read_exact_at(&mut bytes, end - len_before as u64)?;
    Ok(blake3::hash(&bytes))
}
