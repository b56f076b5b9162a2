//! The sink: a file on its way to disk. Its final name exists only with the complete, verified content.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::TransferError;
use super::digest::{Followed, digest_before};
use super::part::{Origin, PartFile};
use crate::rudp::ranges::RangeSet;
use crate::wire::message::{PREFIX_LEN, Prefix};
use crate::wire::name::FileName;

/// Contiguous octets are joined into writes of this size (measured: a write per segment is 3.6 times slower).
const RUN_LEN_MAX: usize = 256 * 1024;

/// How many `name (N).ext` may lie in one folder. Ours: more is a mistake.
const SAME_NAMES_MAX: u32 = 9_999;

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
    pub fn folder(&self) -> &Path {
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

/// An unfinished file of a known final size. Dropped, it stays as a leftover for a later try, where it is worth that;
/// [`discard`](Sink::discard) removes it, [`keep`](Sink::keep) finishes it.
#[derive(Debug)]
pub struct Sink {
    part: Box<PartFile>,
    target: Box<Target>,
    size: u64,
    /// Where this try began: everything before was there.
    start: u64,
    /// Octets that follow each other and are not yet written; they begin at `run_offset`.
    run: Vec<u8>,
    run_offset: u64,
    written: RangeSet,
    followed: Arc<Followed>,
}

impl Sink {
    /// Makes the `.part` file beside the target.
    pub fn create(target: &Target, origin: &Origin) -> Result<Sink, TransferError> {
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
        PartFile::create(folder, name, origin)
            .and_then(|part| Sink::new(part, target.clone()))
            .map_err(|source| failed(format!("make a file in {}", folder.display()), source))
    }

    /// Takes up what an earlier try has left of the file for this target; `None` where there is nothing that `is_ours`
    /// accepts.
    pub fn leftover(target: &Target, is_ours: impl Fn(&Origin) -> bool) -> Option<Sink> {
        if matches!(target, Target::Path(path) if exists(path)) {
            return None;
        }
        let leftovers = PartFile::leftovers(target.folder(), target.file_name()?);
        let part = leftovers.into_iter().find(|part| is_ours(part.origin()))?;
        Sink::new(part, target.clone()).ok()
    }

    /// Whether somebody works on what `is_ours` accepts for this target.
    pub fn is_in_use(target: &Target, is_ours: impl Fn(&Origin) -> bool) -> bool {
        let name = target.file_name();
        name.is_some_and(|name| PartFile::origins(target.folder(), name).iter().any(is_ours))
    }

    fn new(mut part: PartFile, target: Target) -> io::Result<Sink> {
        let (start, synced, size) = (part.prefix(), part.synced(), part.origin().size);
        part.note(start, synced)?;
        let mut written = RangeSet::default();
        written.insert(0..start);
        let followed = Followed::new(part.file().try_clone()?, part.state_file().try_clone()?, start, synced);
        let run = Vec::with_capacity(RUN_LEN_MAX);
        Ok(Sink {
            part: part.into(),
            target: target.into(),
            size,
            start,
            run,
            run_offset: start,
            written,
            followed,
        })
    }

    /// The octets that the complete file has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Where this try begins: everything before is here from an earlier one.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// What the file will be.
    pub fn origin(&self) -> &Origin {
        self.part.origin()
    }

    /// What the other side has to compare before it goes on; `None` at the start of the file.
    pub fn prefix(&self) -> io::Result<Option<Prefix>> {
        if self.start == 0 {
            return Ok(None);
        }
        let digest = digest_before(self.part.file(), self.start, PREFIX_LEN)?;
        Ok(Some(Prefix { offset: self.start, digest }))
    }

    /// The handle by which the disk thread follows what is written.
    pub fn followed(&self) -> Arc<Followed> {
        Arc::clone(&self.followed)
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
            return self.write_through(offset, data);
        }
        if offset > run_end || self.run.len() + data.len() > RUN_LEN_MAX {
            self.flush()?;
            self.run_offset = offset;
        }
        if data.len() < RUN_LEN_MAX {
            self.run.extend_from_slice(data);
            return Ok(());
        }
        self.run_offset = offset + data.len() as u64;
        self.write_through(offset, data)
    }

    /// Hands what is still joined to the system.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.run.is_empty() {
            return Ok(());
        }
        let mut run = std::mem::take(&mut self.run);
        let offset = self.run_offset;
        self.run_offset += run.len() as u64;
        let written = self.write_through(offset, &run);
        run.clear();
        self.run = run;
        written
    }

    fn write_through(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.part.file().write_all_at(data, offset)?;
        let prefix_before = self.written.prefix();
        self.written.insert(offset..offset + data.len() as u64);
        let prefix = self.written.prefix();
        self.followed.on_written(prefix);
        // Noted as often as a later try could begin further on for it.
        if prefix / PREFIX_LEN > prefix_before / PREFIX_LEN {
            self.part.note(prefix, self.followed.synced())?;
        }
        Ok(())
    }

    /// Verifies the digest, syncs, renames without overwriting, syncs the folder; tells where the file lies now. What is
    /// worth nothing to a later try ([`TransferError::is_resumable`]) is removed.
    pub fn keep(mut self, digest: blake3::Hash) -> Result<PathBuf, TransferError> {
        let kept = self.verify(digest).and_then(|()| self.rename());
        match &kept {
            Ok(_) => {
                let folder = self.target.folder();
                if let Err(error) = File::open(folder).and_then(|folder| folder.sync_all()) {
                    log::warn!("{}: the folder could not be synced: {error}", folder.display());
                }
            }
            Err(error) if error.is_resumable() => {}
            Err(_) => self.part.remove(),
        }
        kept
    }

    /// Sees to it that everything is on the disk, and is what it should be.
    fn verify(&mut self, digest: blake3::Hash) -> Result<(), TransferError> {
        let part = self.part.path().display().to_string();
        self.flush().and_then(|()| self.cut()).map_err(|source| failed(format!("write {part}"), source))?;
        self.followed.on_over();
        let actual = self.followed.finish(self.size);
        let actual = actual.map_err(|source| failed(format!("read and sync {part}"), source))?;
        if actual != digest {
            return Err(TransferError::Digest { expected: digest, actual });
        }
        Ok(())
    }

    /// We never write behind the end; whoever has lengthened a leftover must not lengthen the file.
    fn cut(&self) -> io::Result<()> {
        let file = self.part.file();
        if file.metadata()?.len() > self.size { file.set_len(self.size) } else { Ok(()) }
    }

    fn rename(&mut self) -> Result<PathBuf, TransferError> {
        match &*self.target {
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

    /// Removes the unfinished file.
    pub fn discard(mut self) {
        self.part.remove();
    }

    /// The `.part` file's path.
    pub fn part_path(&self) -> &Path {
        self.part.path()
    }
}

impl Drop for Sink {
    /// What has come so far is noted for a later try.
    fn drop(&mut self) {
        self.followed.on_over();
        if self.part.is_over() {
            return;
        }
        let noted = self.flush().and_then(|()| self.part.note(self.written.prefix(), self.followed.synced()));
        if let Err(error) = noted {
            log::debug!("{}: could not be noted: {error}", self.part.path().display());
        }
    }
}

fn failed(what: String, source: io::Error) -> TransferError {
    TransferError::File { what, source }
}

/// Whether anything has this path, a link into nowhere too.
fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
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
        let mut sink = Sink::create(&target, &Origin::new(600_000)).expect("a sink");
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
        let mut sink =
            Sink::create(&Target::Folder(folder.path().into(), name("a")), &Origin::new(10)).expect("a sink");
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
            let mut sink = Sink::create(
                &Target::Folder(folder.path().into(), name("a.txt")),
                &Origin::new(text.len() as u64),
            )
            .expect("a sink");
            sink.write(0, text.as_bytes()).expect("written");
            sink.keep(blake3::hash(text.as_bytes())).expect("kept")
        };
        assert_eq!(kept("one"), folder.path().join("a.txt"));
        assert_eq!(kept("two"), folder.path().join("a (1).txt"));
        assert_eq!(kept("three"), folder.path().join("a (2).txt"));
        assert_eq!(fs::read(folder.path().join("a.txt")).expect("read"), b"one");

        let path = Target::Path(folder.path().join("a.txt"));
        assert!(matches!(Sink::create(&path, &Origin::new(1)), Err(TransferError::Exists(_))));
        let late = folder.path().join("late");
        let sink = Sink::create(&Target::Path(late.clone()), &Origin::new(0)).expect("a sink");
        fs::write(&late, "somebody was faster").expect("written");
        assert!(matches!(sink.keep(blake3::hash(b"")), Err(TransferError::Exists(_))));
        assert_eq!(fs::read(&late).expect("read"), b"somebody was faster");
        assert_eq!(names(folder.path()), ["a (1).txt", "a (2).txt", "a.txt", "late"]);
    }

    #[test]
    fn a_damaged_or_dropped_file_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let target = Target::Folder(folder.path().into(), name("a"));
        let mut sink = Sink::create(&target, &Origin::new(3)).expect("a sink");
        sink.write(0, b"abd").expect("written");
        assert_eq!(names(folder.path()), [".a.part", ".a.part.state"]);
        assert!(matches!(sink.keep(blake3::hash(b"abc")), Err(TransferError::Digest { .. })));
        let mut short = Sink::create(&target, &Origin::new(3)).expect("a sink");
        short.write(0, b"ab").expect("written");
        assert!(matches!(short.keep(blake3::hash(b"ab")), Err(TransferError::File { .. })));
        drop(Sink::create(&target, &Origin::new(3)).expect("a sink"));
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn two_downloads_of_one_name_do_not_meet_and_an_empty_leftover_is_reused() {
        let folder = tempfile::tempdir().expect("a folder");
        let target = Target::Folder(folder.path().into(), name("a"));
        fs::write(folder.path().join(".a.part"), "").expect("written");
        let first = Sink::create(&target, &Origin::new(0)).expect("a sink");
        let second = Sink::create(&target, &Origin::new(0)).expect("a sink");
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
        let sink =
            Sink::create(&Target::Folder(folder.path().into(), name("a")), &Origin::new(0)).expect("a sink");
        assert_eq!(sink.part_path(), folder.path().join(".a.2.part"));
        drop(sink);
        assert_eq!(fs::read(&precious).expect("read"), b"keep me");
    }

    #[test]
    fn an_absent_folder_is_made_for_a_folder_target_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let error =
            Sink::create(&Target::Path(folder.path().join("no/a")), &Origin::new(1)).expect_err("no folder");
        assert!(error.to_string().contains("No such file or directory"), "{error}");
        assert!(Sink::create(&Target::Path("/".into()), &Origin::new(1)).is_err());
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
            let mut sink = Sink::create(&Target::Folder(folder.path().into(), name("a")), &Origin::new(700_000)).expect("a sink");
            for (from, len) in pieces {
                sink.write(from as u64, &content[from..(from + len).min(content.len())]).expect("written");
            }
            prop_assert!(sink.keep(blake3::hash(&content)).is_ok());
        }
    }
}
