//! The disk thread: everything that may stall for seconds (digests of whole files, fsync, rename), one job after another.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use crossbeam_channel::{Receiver, SendError, Sender};

use super::TransferError;
use super::sink::{Sink, digest_of};

/// Jobs that may wait. Ours: one digest and one file to keep for each of 1,024 transfers, so that nobody who hands in
/// a job ever waits.
const JOBS_MAX: usize = 2 * 1_024;

/// Digests remembered. Ours: the files of a large shelf.
const DIGESTS_MAX: usize = 256;

/// A file that changed this recently may change again within the same tick of its filesystem's clock.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

type ThenDigest = Box<dyn FnOnce(io::Result<blake3::Hash>) + Send>;
type ThenKept = Box<dyn FnOnce(Result<PathBuf, TransferError>) + Send>;

enum Job {
    Digest(File, u64, ThenDigest),
    Keep(Sink, blake3::Hash, ThenKept),
}

/// The handle of the disk thread; dropping it lets the jobs under way finish and ends the thread.
#[derive(Debug)]
pub struct Disk {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Disk {
    /// Starts the thread, named `disk`.
    pub fn start() -> io::Result<Disk> {
        let (jobs, todo) = crossbeam_channel::bounded(JOBS_MAX);
        let thread = thread::Builder::new().name("disk".into()).spawn(move || work(&todo))?;
        Ok(Disk { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Reads `size` octets of `file` from its start and tells `then` their BLAKE3 digest.
    pub fn digest(
        &self,
        file: File,
        size: u64,
        then: impl FnOnce(io::Result<blake3::Hash>) + Send + 'static,
    ) {
        self.hand_in(Job::Digest(file, size, Box::new(then)));
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
            Err(SendError(Job::Digest(_, _, then))) => then(Err(ended())),
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

fn work(todo: &Receiver<Job>) {
    let mut digests = Digests::default();
    for job in todo {
        match job {
            Job::Digest(file, size, then) => then(digests.digest(&file, size)),
            Job::Keep(sink, digest, then) => then(sink.keep(digest)),
        }
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
    fn digest(&mut self, file: &File, size: u64) -> io::Result<blake3::Hash> {
        let before = Fingerprint::of(file)?;
        let whole = before.size == size;
        if let Some((_, digest)) = self.0.iter().find(|(known, _)| whole && *known == before) {
            return Ok(*digest);
        }
        let digest = digest_of(file, size)?;
        if whole && before.settled(SystemTime::now()) && Fingerprint::of(file)? == before {
            self.0.truncate(DIGESTS_MAX - 1);
            self.0.push_front((before, digest));
        }
        Ok(digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::sink::Target;
    use crate::wire::name::FileName;
    use std::io::Write;
    use std::sync::mpsc;

    #[test]
    fn jobs_are_done_in_order_and_dropping_waits_for_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = Disk::start().expect("a thread");
        let (told, results) = mpsc::channel();
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(b"hello").expect("written");
        for size in [5, 4, 6] {
            let told = told.clone();
            disk.digest(file.try_clone().expect("a handle"), size, move |digest| {
                told.send(format!("{:?}", digest.map_err(|error| error.kind()))).expect("heard");
            });
        }
        let target = Target::Folder(folder.path().into(), FileName::parse("a").expect("a name"));
        let mut sink = Sink::create(&target, 5).expect("a sink");
        sink.write(0, b"hello").expect("written");
        disk.keep(sink, blake3::hash(b"hello"), move |kept| {
            told.send(format!("{}", kept.expect("kept").display())).expect("heard");
        });
        drop(disk);
        let results: Vec<String> = results.into_iter().collect();
        assert_eq!(
            results,
            [
                format!("Ok({:?})", blake3::hash(b"hello")),
                format!("Ok({:?})", blake3::hash(b"hell")),
                "Err(UnexpectedEof)".into(),
                folder.path().join("a").display().to_string(),
            ]
        );
    }

    #[test]
    fn only_a_settled_whole_file_is_remembered_and_a_change_is_seen() {
        let now = SystemTime::now();
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(b"one").expect("written");
        let mut digests = Digests::default();
        assert_eq!(digests.digest(&file, 3).expect("read"), blake3::hash(b"one"));
        assert!(digests.0.is_empty(), "written this moment");
        let fingerprint = Fingerprint::of(&file).expect("a file");
        assert!(!fingerprint.settled(now) && fingerprint.settled(now + Duration::from_secs(10)));
        digests.0.push_front((fingerprint, blake3::hash(b"remembered")));
        assert_eq!(digests.digest(&file, 3).expect("known"), blake3::hash(b"remembered"));
        assert_eq!(digests.digest(&file, 2).expect("read"), blake3::hash(b"on"));
        file.write_all(b"!").expect("written");
        assert_eq!(digests.digest(&file, 4).expect("read"), blake3::hash(b"one!"));
    }
}
