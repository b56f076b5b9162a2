//! The sink: a file on its way to disk. Its final name exists only with the complete, verified content.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::TransferError;
use crate::wire::name::FileName;

/// Contiguous octets are joined into writes of this size (measured: a write per segment is 3.6 times slower).
const RUN_LEN_MAX: usize = 256 * 1024;

/// The octets that one read of a whole-file digest takes.
const DIGEST_READ_LEN: usize = 1024 * 1024;

/// How many downloads of one name may run, and how many `name (N).ext` may lie there. Ours: more is a mistake.
const SAME_NAMES_MAX: u32 = 9_999;

/// The octets of the target's name that its `.part` file repeats, so that any name that fits a folder has a `.part`.
const PART_NAME_LEN_MAX: usize = 200;

/// Where a received file shall lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// In this folder (made if absent) under this name, or `name (1).ext` where that exists.
    Folder(PathBuf, FileName),
    /// At exactly this path, which must not exist.
    Path(PathBuf),
}

impl Target {
    /// The folder that holds the final file and its `.part`.
    fn folder(&self) -> &Path {
        match self {
            Self::Folder(folder, _) => folder,
            Self::Path(path) => match path.parent() {
                Some(parent) if parent != Path::new("") => parent,
                _ => Path::new("."),
            },
        }
    }

    fn file_name(&self) -> Option<&OsStr> {
        match self {
            Self::Folder(_, name) => Some(OsStr::new(name.as_str())),
            Self::Path(path) => path.file_name(),
        }
    }
}

/// An open `.part` file of a known final size; removed when dropped before [`Sink::keep`].
#[derive(Debug)]
pub struct Sink {
    part: PartFile,
    target: Target,
    size: u64,
    /// Octets that follow each other and are not yet written; they begin at `run_offset`.
    run: Vec<u8>,
    run_offset: u64,
}

impl Sink {
    /// Makes the `.part` file beside the target.
    pub fn create(target: &Target, size: u64) -> Result<Sink, TransferError> {
        let folder = target.folder();
        match target {
            Target::Folder(..) => fs::create_dir_all(folder)
                .map_err(|source| failed(format!("make the folder {}", folder.display()), source))?,
            Target::Path(path) if exists(path) => {
                return Err(TransferError::Exists(path.display().to_string()));
            }
            Target::Path(_) => {}
        }
        let name = target.file_name().ok_or_else(|| {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "the path does not end in a name");
            failed(format!("make a file at {}", folder.display()), source)
        })?;
        let part = PartFile::create(folder, name)
            .map_err(|source| failed(format!("make a file in {}", folder.display()), source))?;
        Ok(Sink { part, target: target.clone(), size, run: Vec::with_capacity(RUN_LEN_MAX), run_offset: 0 })
    }

    /// The octets that the complete file has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Takes octets of the file at any offset; contiguous ones are joined into large writes.
    ///
    /// What lies behind the joined run (a gap that is filled) goes straight to its place; what lies beyond it begins
    /// the next run, so that a lost packet costs one write more and not one for each packet after it.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        let end = offset.checked_add(data.len() as u64);
        if end.is_none_or(|end| end > self.size) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "octets beyond the end of the file"));
        }
        let run_end = self.run_offset + self.run.len() as u64;
        if offset < run_end {
            return self.part.file.write_all_at(data, offset);
        }
        if offset > run_end || self.run.len() + data.len() > RUN_LEN_MAX {
            self.flush()?;
            self.run_offset = offset;
        }
        if data.len() < RUN_LEN_MAX {
            self.run.extend_from_slice(data);
            return Ok(());
        }
        self.part.file.write_all_at(data, offset)?;
        self.run_offset = offset + data.len() as u64;
        Ok(())
    }

    /// Hands what is still joined to the system.
    pub fn flush(&mut self) -> io::Result<()> {
        self.part.file.write_all_at(&self.run, self.run_offset)?;
        self.run_offset += self.run.len() as u64;
        self.run.clear();
        Ok(())
    }

    /// Verifies the digest, syncs, renames without overwriting, syncs the folder; tells where the file lies now.
    pub fn keep(mut self, digest: blake3::Hash) -> Result<PathBuf, TransferError> {
        let part = self.part.path.display().to_string();
        self.flush().map_err(|source| failed(format!("write {part}"), source))?;
        let actual = digest_of(&self.part.file, self.size)
            .map_err(|source| failed(format!("read {part} again"), source))?;
        if actual != digest {
            return Err(TransferError::Digest { expected: digest, actual });
        }
        self.part.file.sync_all().map_err(|source| failed(format!("write {part}"), source))?;
        let path = self.rename()?;
        if let Err(error) = File::open(self.target.folder()).and_then(|folder| folder.sync_all()) {
            log::warn!("{}: the folder could not be synced: {error}", self.target.folder().display());
        }
        Ok(path)
    }

    fn rename(&mut self) -> Result<PathBuf, TransferError> {
        match &self.target {
            Target::Path(path) => match self.part.rename(path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    Err(TransferError::Exists(path.display().to_string()))
                }
                Err(source) => Err(failed(format!("make {}", path.display()), source)),
                Ok(()) => Ok(path.clone()),
            },
            Target::Folder(folder, name) => {
                for number in 0..=SAME_NAMES_MAX {
                    let name = if number == 0 { name.clone() } else { name.numbered(number) };
                    let path = folder.join(name.as_str());
                    match self.part.rename(&path) {
                        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                        Err(source) => return Err(failed(format!("make {}", path.display()), source)),
                        Ok(()) => return Ok(path),
                    }
                }
                Err(TransferError::Exists(folder.join(name.as_str()).display().to_string()))
            }
        }
    }

    /// The `.part` file's path.
    pub fn part_path(&self) -> &Path {
        &self.part.path
    }
}

fn failed(what: String, source: io::Error) -> TransferError {
    TransferError::File { what, source }
}

/// Whether anything has this path, a link into nowhere too.
fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// The BLAKE3 digest of the first `size` octets of a file, whose own position stays where it is.
fn digest_of(file: &File, size: u64) -> io::Result<blake3::Hash> {
    let mut slices = Slices::default();
    while !slices.advance(file, size, size, &AtomicBool::new(false))? {}
    Ok(slices.digest())
}

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
        let mut buffer = vec![0; DIGEST_READ_LEN.min(usize::try_from(size).unwrap_or(DIGEST_READ_LEN))];
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

/// The unfinished file. It is locked as long as it is open, so that another run knows a leftover from one in use.
#[derive(Debug)]
struct PartFile {
    file: File,
    path: PathBuf,
    renamed: bool,
}

impl PartFile {
    /// `.NAME.part`, or `.NAME.1.part` and up while the ones before are in use.
    fn create(folder: &Path, name: &OsStr) -> io::Result<PartFile> {
        let name = &name.as_bytes()[..name.len().min(PART_NAME_LEN_MAX)];
        for number in 0..=SAME_NAMES_MAX {
            let suffix = if number == 0 { ".part".into() } else { format!(".{number}.part") };
            let path = folder.join(OsString::from_vec([b".", name, suffix.as_bytes()].concat()));
            if let Some(file) = open_part(&path)? {
                return Ok(PartFile { file, path, renamed: false });
            }
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, "too many downloads of this name are under way"))
    }

    /// Gives the file its final name; never overwrites.
    fn rename(&mut self, to: &Path) -> io::Result<()> {
        match rustix::fs::renameat_with(CWD, &self.path, CWD, to, RenameFlags::NOREPLACE) {
            Ok(()) => self.renamed = true,
            // Filesystems that know no such flag: a second name is never made over an existing one either. The first
            // one goes when this value is dropped.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => fs::hard_link(&self.path, to)?,
            Err(errno) => return Err(errno.into()),
        }
        Ok(())
    }
}

impl Drop for PartFile {
    /// Removes the name while the lock is still held: whoever waits for the lock then sees that the name is gone.
    fn drop(&mut self) {
        if !self.renamed
            && let Err(error) = fs::remove_file(&self.path)
        {
            log::warn!("{}: could not be removed: {error}", self.path.display());
        }
    }
}

/// Makes and locks this file, or takes over a leftover; `None` when it is in use.
fn open_part(path: &Path) -> io::Result<Option<File>> {
    let new = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let leftover = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let (file, is_new) = match rustix::fs::open(path, new, Mode::from_raw_mode(0o666)) {
        Ok(fd) => (File::from(fd), true),
        Err(Errno::EXIST) => match rustix::fs::open(path, leftover, Mode::empty()) {
            Ok(fd) => (File::from(fd), false),
            // A link, a folder, somebody else's, or gone in this moment: the next number will do.
            Err(_) => return Ok(None),
        },
        Err(errno) => return Err(errno.into()),
    };
    match file.try_lock() {
        Ok(()) => {}
        // A filesystem without locks: a file just made is ours, anything else may be in use.
        Err(TryLockError::Error(_)) if is_new => return Ok(Some(file)),
        Err(_) => return Ok(None),
    }
    // Its last owner renames or removes it under the lock, so only a name that still leads here is a leftover.
    let (opened, named) = (file.metadata()?, fs::symlink_metadata(path));
    let same = named.is_ok_and(|named| named.dev() == opened.dev() && named.ino() == opened.ino());
    if !same || !opened.is_file() || opened.nlink() != 1 {
        return Ok(None);
    }
    file.set_len(0)?;
    Ok(Some(file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::PermissionsExt;

    fn name(text: &str) -> FileName {
        FileName::parse(text).expect("a file name")
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("a folder");
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
        names.sort();
        names
    }

    fn pattern(len: usize) -> Vec<u8> {
        (0..len).map(|i| u8::try_from(i * 31 % 251).expect("below 251")).collect()
    }

    #[test]
    fn a_file_in_any_order_is_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let content = pattern(600_000);
        let target = Target::Folder(folder.path().join("new/deep"), name("a.bin"));
        let mut sink = Sink::create(&target, 600_000).expect("a sink");
        for (from, to) in
            [(0, 1_000), (5_000, 400_000), (1_000, 3_000), (400_000, 600_000), (2_000, 5_000), (0, 10)]
        {
            sink.write(from as u64, &content[from..to]).expect("written");
        }
        let path = sink.keep(blake3::hash(&content)).expect("kept");
        assert_eq!(path, folder.path().join("new/deep/a.bin"));
        assert_eq!(fs::read(&path).expect("read"), content);
        assert_eq!(names(path.parent().expect("a parent")), ["a.bin"]);
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o111, 0, "not executable");
    }

    #[test]
    fn nothing_is_written_outside_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut sink = Sink::create(&Target::Folder(folder.path().into(), name("a")), 10).expect("a sink");
        for (offset, len) in [(0, 11), (10, 1), (u64::MAX, 1), (u64::MAX - 1, 9)] {
            assert!(sink.write(offset, &pattern(len)).is_err(), "{len} at {offset}");
        }
        sink.write(0, &pattern(10)).expect("exactly");
        sink.write(10, b"").expect("nothing, at the end");
        sink.keep(blake3::hash(&pattern(10))).expect("kept");
    }

    #[test]
    fn an_existing_file_is_never_touched() {
        let folder = tempfile::tempdir().expect("a folder");
        let kept = |text: &str| {
            let mut sink =
                Sink::create(&Target::Folder(folder.path().into(), name("a.txt")), text.len() as u64)
                    .expect("a sink");
            sink.write(0, text.as_bytes()).expect("written");
            sink.keep(blake3::hash(text.as_bytes())).expect("kept")
        };
        assert_eq!(kept("one"), folder.path().join("a.txt"));
        assert_eq!(kept("two"), folder.path().join("a (1).txt"));
        assert_eq!(kept("three"), folder.path().join("a (2).txt"));
        assert_eq!(fs::read(folder.path().join("a.txt")).expect("read"), b"one");

        let path = Target::Path(folder.path().join("a.txt"));
        assert!(matches!(Sink::create(&path, 1), Err(TransferError::Exists(_))));
        let late = folder.path().join("late");
        let sink = Sink::create(&Target::Path(late.clone()), 0).expect("a sink");
        fs::write(&late, "somebody was faster").expect("written");
        assert!(matches!(sink.keep(blake3::hash(b"")), Err(TransferError::Exists(_))));
        assert_eq!(fs::read(&late).expect("read"), b"somebody was faster");
        assert_eq!(names(folder.path()), ["a (1).txt", "a (2).txt", "a.txt", "late"]);
    }

    #[test]
    fn a_damaged_or_dropped_file_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let target = Target::Folder(folder.path().into(), name("a"));
        let mut sink = Sink::create(&target, 3).expect("a sink");
        sink.write(0, b"abd").expect("written");
        assert_eq!(names(folder.path()), [".a.part"]);
        assert!(matches!(sink.keep(blake3::hash(b"abc")), Err(TransferError::Digest { .. })));
        let mut short = Sink::create(&target, 3).expect("a sink");
        short.write(0, b"ab").expect("written");
        assert!(matches!(short.keep(blake3::hash(b"ab")), Err(TransferError::File { .. })));
        drop(Sink::create(&target, 3).expect("a sink"));
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn two_downloads_of_one_name_do_not_meet_and_a_leftover_is_reused() {
        let folder = tempfile::tempdir().expect("a folder");
        let target = Target::Folder(folder.path().into(), name("a"));
        fs::write(folder.path().join(".a.part"), "left over").expect("written");
        let first = Sink::create(&target, 0).expect("a sink");
        let second = Sink::create(&target, 0).expect("a sink");
        assert_eq!(first.part_path(), folder.path().join(".a.part"));
        assert_eq!(second.part_path(), folder.path().join(".a.1.part"));
        assert_eq!(second.keep(blake3::hash(b"")).expect("kept"), folder.path().join("a"));
        assert_eq!(first.keep(blake3::hash(b"")).expect("kept"), folder.path().join("a (1)"));
    }

    #[test]
    fn a_link_in_the_place_of_the_part_file_is_not_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let precious = folder.path().join("precious");
        fs::write(&precious, "keep me").expect("written");
        std::os::unix::fs::symlink(&precious, folder.path().join(".a.part")).expect("linked");
        fs::hard_link(&precious, folder.path().join(".a.1.part")).expect("linked");
        let sink = Sink::create(&Target::Folder(folder.path().into(), name("a")), 0).expect("a sink");
        assert_eq!(sink.part_path(), folder.path().join(".a.2.part"));
        drop(sink);
        assert_eq!(fs::read(&precious).expect("read"), b"keep me");
    }

    #[test]
    fn an_absent_folder_is_made_for_a_folder_target_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = Sink::create(&Target::Path(folder.path().join("no/a")), 1).expect_err("no folder");
        assert!(error.to_string().contains("No such file or directory"), "{error}");
        assert!(Sink::create(&Target::Path("/".into()), 1).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn any_cover_of_the_file_gives_the_file(
            mut pieces in prop::collection::vec((0usize..700_000, 1usize..300_000), 0..12),
            shuffled in any::<prop::sample::Index>(),
        ) {
            let content = pattern(700_000);
            pieces.extend((0..7).map(|i| (i * 100_000, 100_000)));
            let turn = shuffled.index(pieces.len());
            pieces.rotate_left(turn);
            let folder = tempfile::tempdir().expect("a folder");
            let mut sink = Sink::create(&Target::Folder(folder.path().into(), name("a")), 700_000).expect("a sink");
            for (from, len) in pieces {
                sink.write(from as u64, &content[from..(from + len).min(content.len())]).expect("written");
            }
            prop_assert!(sink.keep(blake3::hash(&content)).is_ok());
        }
    }
}
