//! The sink: a file on its way to disk. Its final name exists only with the complete, verified content.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FallocateFlags;

use super::TransferError;
use super::digest::{Followed, digest_before};
use super::part::{Origin, PartFile};
use crate::rudp::ranges::RangeSet;
use crate::wire::message::{PREFIX_LEN, Prefix};
use crate::wire::name::FileName;

/// Room is set aside so far ahead of what is written. Ours: one call in many writes, and little where a file stays unfinished.
const RESERVE_LEN: u64 = 8 * 1024 * 1024;

/// A write of this length, at a multiple of it, is the cheapest. Ours: the page cache takes memory in pieces as long as the
/// write, and longer ones are dear to find (measured on ext4: 67 MB in 62 ms, with writes of up to 256 KiB anywhere in 93).
const PIECE_LEN: u64 = 64 * 1024;

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
    written: RangeSet,
    /// Up to here the filesystem has set room aside.
    reserved: u64,
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
        let mut part = leftovers.into_iter().find(|part| is_ours(part.origin()))?;
        let (written, synced) = (part.prefix(), part.synced());
        part.note(written, synced).and_then(|()| Sink::new(part, target.clone())).ok()
    }

    /// Whether somebody works on what `is_ours` accepts for this target.
    pub fn is_in_use(target: &Target, is_ours: impl Fn(&Origin) -> bool) -> bool {
        let name = target.file_name();
        name.is_some_and(|name| PartFile::origins(target.folder(), name).iter().any(is_ours))
    }

    fn new(part: PartFile, target: Target) -> io::Result<Sink> {
        let (start, synced, size) = (part.prefix(), part.synced(), part.origin().size);
        let mut written = RangeSet::default();
        written.insert(0..start);
        let followed = Followed::new(part.file().try_clone()?, part.state_file().try_clone()?, start, synced);
        Ok(Sink { part: part.into(), target: target.into(), size, start, written, reserved: start, followed })
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

    /// Takes octets of the file at any offset, and hands them to the system.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        let end = offset.checked_add(data.len() as u64).filter(|&end| end <= self.size);
        let beyond = || io::Error::new(io::ErrorKind::InvalidInput, "octets beyond the end of the file");
        let end = end.ok_or_else(beyond)?;
        self.reserve(end);
        self.write_in_pieces(offset, data)?;
        let prefix_before = self.written.prefix();
        self.written.insert(offset..end);
        let prefix = self.written.prefix();
        self.followed.on_written(prefix);
        // Noted as often as a later try could begin further on for it.
        let usable = |prefix: u64| prefix.min(self.size.saturating_sub(1)) / PREFIX_LEN;
        if usable(prefix) > usable(prefix_before) {
            self.part.note(prefix, self.followed.synced())?;
        }
        Ok(())
    }

    /// No write goes beyond a multiple of [`PIECE_LEN`].
    fn write_in_pieces(&self, mut offset: u64, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let room = usize::try_from(PIECE_LEN - offset % PIECE_LEN).unwrap_or(usize::MAX);
            let (piece, rest) = data.split_at(room.min(data.len()));
            self.part.file().write_all_at(piece, offset)?;
            offset += piece.len() as u64;
            data = rest;
        }
        Ok(())
    }

    /// Has the filesystem set room aside for what comes next: a write then need not look for it (measured on ext4: a
    /// quarter to a half of its cost). Whether there is room is for the write to tell.
    fn reserve(&mut self, end: u64) {
        if end > self.reserved {
            let until = self.size.min(end.saturating_add(RESERVE_LEN));
            let (from, len) = (self.reserved, until - self.reserved);
            // Without a word of the file's length: how far it is, only its writes tell.
            if rustix::fs::fallocate(self.part.file(), FallocateFlags::KEEP_SIZE, from, len).is_err() {
                log::debug!("{}: no room can be set aside", self.part.path().display());
                self.reserved = u64::MAX;
            } else {
                self.reserved = until;
            }
        }
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
        self.cut().map_err(|source| failed(format!("write {part}"), source))?;
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
        if let Err(error) = self.part.note(self.written.prefix(), self.followed.synced()) {
            log::debug!("{}: could not be noted: {error}", self.part.path().display());
        }
        self.part.trim();
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
mod tests;
