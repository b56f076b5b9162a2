//! The disk thread: everything that may stall for seconds (digests of whole files, fsync, rename).
//!
//! Files to keep come first, one after another. Digests take turns, a slice of each file at a time, so that a large
//! file delays nobody's small one; and one that nobody waits for any more is given up.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError, SendError, Sender, TryRecvError};

use super::TransferError;
use super::digest::{Followed, Slices};
use super::sink::Sink;

/// The octets that a digest reads in one turn. Ours: a few hundredths of a second.
const SLICE_LEN: u64 = 64 * 1024 * 1024;

/// Digests remembered. Ours: the files of a large shelf.
const DIGESTS_MAX: usize = 256;

/// A file that changed this recently may change again within the same tick of its filesystem's clock.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// How often files that are being written are looked at. Ours: a small part of the time that a large one takes.
const FOLLOW_EVERY: Duration = Duration::from_millis(100);

type ThenDigest = Box<dyn FnOnce(Result<blake3::Hash, TransferError>) + Send>;
type ThenKept = Box<dyn FnOnce(Result<PathBuf, TransferError>) + Send>;

enum Job {
    Digest(Digesting),
    Follow(Following),
    Keep(Sink, blake3::Hash, ThenKept),
    Look,
}

/// A digest that is wanted, as far as it has come.
struct Digesting {
    file: File,
    size: u64,
    unwanted: Arc<AtomicBool>,
    then: ThenDigest,
    _held: Arc<()>,
    /// The file before its first slice, and what has been read of it.
    begun: Option<Box<(Fingerprint, Slices)>>,
}

/// A file that is followed as it is written.
struct Following {
    followed: Arc<Followed>,
    _held: Arc<()>,
}

/// The handle of the disk thread; dropping it lets the jobs under way finish and ends the thread.
#[derive(Debug)]
pub struct Disk {
    jobs: Option<Sender<Job>>,
    /// Every file that the thread has open for a digest holds one more of it.
    held: Arc<()>,
    thread: Option<JoinHandle<()>>,
}

impl Disk {
    /// Starts the thread, named `disk`.
    pub fn start() -> io::Result<Disk> {
        // Not bounded by itself: workers hand jobs in, and the thread tells workers of what it has done, so neither may
        // wait for the other. What bounds it is whoever begins transfers: each hands in one file to keep at most, and
        // `held_count` tells of the rest.
        let (jobs, todo) = crossbeam_channel::unbounded();
        let thread = thread::Builder::new().name("disk".into()).spawn(move || work(&todo))?;
        Ok(Disk { jobs: Some(jobs), held: Arc::default(), thread: Some(thread) })
    }

    /// Files to digest or to follow that the thread has, also those that nobody waits for any more and that it has not
    /// given up yet.
    pub fn held_count(&self) -> usize {
        Arc::strong_count(&self.held) - 1
    }

    /// Reads `size` octets of `file` from its start and tells `then` their BLAKE3 digest, or [`TransferError::Changed`]
    /// where somebody wrote to it meanwhile. Once `unwanted` is set it stops, and `then` hears nothing.
    pub fn digest(
        &self,
        file: File,
        size: u64,
        unwanted: Arc<AtomicBool>,
        then: impl FnOnce(Result<blake3::Hash, TransferError>) + Send + 'static,
    ) {
        let (then, held) = (Box::new(then), Arc::clone(&self.held));
        self.hand_in(Job::Digest(Digesting { file, size, unwanted, then, _held: held, begun: None }));
    }

    /// Reads a file as it is written, so that little is left to read for its digest at the end, and syncs it from time to
    /// time.
    pub fn follow(&self, followed: Arc<Followed>) {
        self.hand_in(Job::Follow(Following { followed, _held: Arc::clone(&self.held) }));
    }

    /// One of the files that are followed is complete: the thread goes on with it at once.
    pub fn look(&self) {
        self.hand_in(Job::Look);
    }

    /// Verifies, syncs and renames a complete sink, and tells `then` where the file lies now.
    pub fn keep(
        &self,
        sink: Sink,
        digest: blake3::Hash,
        then: impl FnOnce(Result<PathBuf, TransferError>) + Send + 'static,
    ) {
        self.hand_in(Job::Keep(sink, digest, Box::new(then)));
    }

    fn hand_in(&self, job: Job) {
        let jobs = self.jobs.as_ref().expect("only drop takes it");
        let ended = || io::Error::other("the disk thread has ended");
        match jobs.send(job) {
            Ok(()) => {}
            Err(SendError(Job::Follow(_) | Job::Look)) => {}
            Err(SendError(Job::Digest(digesting))) => (digesting.then)(Err(unreadable(ended()))),
            Err(SendError(Job::Keep(_, _, then))) => {
                then(Err(TransferError::File { what: "keep the file".into(), source: ended() }));
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.jobs = None;
        // The last job may hold the last handle: a thread cannot wait for itself.
        if let Some(thread) = self.thread.take_if(|thread| thread.thread().id() != thread::current().id())
            && thread.join().is_err()
        {
            log::error!("disk: the thread panicked");
        }
    }
}

fn unreadable(source: io::Error) -> TransferError {
    TransferError::File { what: "read the file".into(), source }
}

/// What the thread has taken on.
#[derive(Default)]
struct Work {
    known: Digests,
    under_way: VecDeque<Digesting>,
    followed: VecDeque<Following>,
}

/// An error of ours costs the job that it interrupts, not the thread: there is no other for the next. Here ends what
/// [`or_failed`] does not see: whoever is told may panic too.
fn work(todo: &Receiver<Job>) {
    let mut work = Work::default();
    while catch_unwind(AssertUnwindSafe(|| work.run(todo))).is_err() {
        log::error!("disk: a job has panicked");
    }
}

/// Does a part of a job. Should it panic, that is a failure like another, so that whoever waits hears of it.
fn or_failed<T>(what: &str, work: impl FnOnce() -> Result<T, TransferError>) -> Result<T, TransferError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        log::error!("disk: a job has panicked");
        let source = io::Error::other("an error in this program, not in the file");
        Err(TransferError::File { what: what.into(), source })
    })
}

impl Work {
    fn run(&mut self, todo: &Receiver<Job>) {
        let mut is_behind = false;
        while self.take_jobs(todo, is_behind) {
            self.digest_a_slice();
            is_behind = self.follow();
        }
    }

    /// Takes what has come meanwhile; only without anything to do is it waited for. `false` when that was all.
    fn take_jobs(&mut self, todo: &Receiver<Job>, is_behind: bool) -> bool {
        let mut may_wait = !is_behind && self.under_way.is_empty();
        loop {
            let job = match std::mem::take(&mut may_wait) {
                false => todo.try_recv(),
                true if self.followed.is_empty() => todo.recv().map_err(|_| TryRecvError::Disconnected),
                true => todo.recv_timeout(FOLLOW_EVERY).map_err(|error| match error {
                    RecvTimeoutError::Timeout => TryRecvError::Empty,
                    RecvTimeoutError::Disconnected => TryRecvError::Disconnected,
                }),
            };
            match job {
                Ok(Job::Digest(digesting)) => self.under_way.push_back(digesting),
                Ok(Job::Follow(following)) => self.followed.push_back(following),
                // To be woken was all.
                Ok(Job::Look) => {}
                Ok(Job::Keep(sink, digest, then)) => then(or_failed("keep the file", || {
                    log::debug!("disk: {} is verified", sink.part_path().display());
                    sink.keep(digest)
                })),
                Err(TryRecvError::Disconnected) => return !self.under_way.is_empty(),
                Err(TryRecvError::Empty) => return true,
            }
        }
    }

    fn digest_a_slice(&mut self) {
        self.under_way.retain(|digesting| !digesting.unwanted.load(Ordering::Relaxed));
        let Some(mut digesting) = self.under_way.pop_front() else { return };
        match or_failed("read the file", || self.known.advance(&mut digesting)) {
            Ok(Some(digest)) => (digesting.then)(Ok(digest)),
            Ok(None) => self.under_way.push_back(digesting),
            Err(error) => (digesting.then)(Err(error)),
        }
    }

    /// Goes a slice on with the next file that is being written; tells whether it has more.
    fn follow(&mut self) -> bool {
        self.followed.retain(|following| !following.followed.is_over());
        let Some(following) = self.followed.pop_front() else { return false };
        let has_more = following.followed.follow(SLICE_LEN);
        self.followed.push_back(following);
        has_more
    }
}

/// What makes a file's content the same as before: any write changes its ctime, if not within the same tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fingerprint {
    dev: u64,
    ino: u64,
    size: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
}

impl Fingerprint {
    fn of(file: &File) -> io::Result<Fingerprint> {
        let meta = file.metadata()?;
        Ok(Fingerprint {
            dev: meta.dev(),
            ino: meta.ino(),
            size: meta.size(),
            mtime: (meta.mtime(), meta.mtime_nsec()),
            ctime: (meta.ctime(), meta.ctime_nsec()),
        })
    }

    fn settled(&self, now: SystemTime) -> bool {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let changed = Duration::from_secs(u64::try_from(self.ctime.0).unwrap_or(u64::MAX));
        now.checked_sub(changed).is_some_and(|age| age > SETTLED_AFTER)
    }
}

/// Digests of files that have not changed since; the oldest is forgotten first.
#[derive(Debug, Default)]
struct Digests(VecDeque<(Fingerprint, blake3::Hash)>);

impl Digests {
    /// Takes a digest one slice further; `None` where it is not complete yet.
    fn advance(&mut self, job: &mut Digesting) -> Result<Option<blake3::Hash>, TransferError> {
        if job.begun.is_none() {
            let before = Fingerprint::of(&job.file).map_err(unreadable)?;
            let whole = before.size == job.size;
            if let Some((_, digest)) = self.0.iter().find(|(known, _)| whole && *known == before) {
                return Ok(Some(*digest));
            }
            log::debug!("disk: a file of {} bytes is read for its digest", job.size);
            job.begun = Some(Box::new((before, Slices::default())));
        }
        let (before, slices) = &mut **job.begun.as_mut().expect("just begun");
        if !slices.advance(&job.file, job.size, SLICE_LEN, &job.unwanted).map_err(unreadable)? {
            return Ok(None);
        }
        // What was read is the file as it was at one moment, or it is nothing.
        if Fingerprint::of(&job.file).map_err(unreadable)? != *before {
            return Err(TransferError::Changed);
        }
        let digest = slices.digest();
        let whole = before.size == job.size;
        if whole && before.settled(SystemTime::now()) {
            self.0.truncate(DIGESTS_MAX - 1);
            self.0.push_front((*before, digest));
        }
        Ok(Some(digest))
    }
}

#[cfg(test)]
mod tests;
