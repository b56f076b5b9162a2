//! The shelf: the folder whose regular files the server offers.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::{self, Access, AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::part;
use super::sink::Target;
use crate::wire::message::FileEntry;
use crate::wire::name::FileName;

/// An open folder. Files are found relative to it, never by path, and no link is followed.
#[derive(Debug)]
pub struct Shelf {
    folder: OwnedFd,
    path: PathBuf,
}

/// Why a file cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ShelfError {
    /// Nothing of this name that may be offered: absent, a link, a folder, a device, unreadable ...
    #[error("no such file")]
    NoFile,
    /// The system refused for another reason.
    #[error("the file cannot be read: {0}")]
    Io(#[from] io::Error),
}

impl Shelf {
    /// Opens the folder.
    pub fn open(path: &Path) -> io::Result<Shelf> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = fs::openat(CWD, path, flags, Mode::empty())?;
        Ok(Shelf { folder, path: path.canonicalize()? })
    }

    /// Where a file that is put on the shelf shall lie; it must not exist. It is made by its path: whoever moves the folder
    /// of a running server ends its uploads.
    pub fn place(&self, name: &FileName) -> Target {
        Target::Path(self.path.join(name.as_str()))
    }

    /// Whether anything has this name, be it offered or not.
    pub fn has(&self, name: &FileName) -> bool {
        fs::statat(&self.folder, name.as_str(), AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// The octets of everything that lies here, unfinished files too.
    pub fn used_bytes(&self) -> io::Result<u64> {
        let mut bytes = part::leftover_bytes(&self.path);
        for found in Dir::read_from(&self.folder)? {
            let found = found?;
            let stat = fs::statat(&self.folder, found.file_name(), AtFlags::SYMLINK_NOFOLLOW);
            let is_visible = !found.file_name().to_bytes().starts_with(b".");
            if let Ok(stat) = stat
                && is_visible
                && is_offered(&stat)
            {
                bytes = bytes.saturating_add(u64::try_from(stat.st_size).unwrap_or(0));
            }
        }
        Ok(bytes)
    }

    /// Removes unfinished uploads that nobody has gone on with for a day.
    pub fn remove_old_leftovers(&self) {
        part::remove_old_leftovers(&self.path);
    }

    /// Every file that may be offered, in order of name (octets).
    pub fn list(&self) -> io::Result<Vec<FileEntry>> {
        let mut entries = Vec::new();
        for found in Dir::read_from(&self.folder)? {
            let found = found?;
            let name = found.file_name().to_str().ok().and_then(|name| FileName::parse(name).ok());
            entries.extend(name.and_then(|name| self.entry(name)));
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// The entries that somebody may have meant to offer and that are not offered, in order: links, hard links,
    /// unreadable files, bad names. Folders and hidden files are not among them.
    pub fn passed_over(&self) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for found in Dir::read_from(&self.folder)? {
            let found = found?;
            let bytes = found.file_name().to_bytes();
            let is_folder = || {
                let stat = fs::statat(&self.folder, found.file_name(), AtFlags::SYMLINK_NOFOLLOW);
                stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
            };
            let name = std::str::from_utf8(bytes).ok().and_then(|name| FileName::parse(name).ok());
            if !bytes.starts_with(b".") && name.and_then(|name| self.entry(name)).is_none() && !is_folder() {
                names.push(OsStr::from_bytes(bytes).to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// What the list shows of a file, if it may be offered. It is not opened: opening a device can have effects.
    fn entry(&self, name: FileName) -> Option<FileEntry> {
        let stat = fs::statat(&self.folder, name.as_str(), AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let readable =
            || fs::accessat(&self.folder, name.as_str(), Access::READ_OK, AtFlags::empty()).is_ok();
        if is_offered(&stat) && readable() { Some(describe(&stat, name)) } else { None }
    }

    /// Opens a file of the shelf.
    pub fn open_file(&self, name: &FileName) -> Result<(File, FileEntry), ShelfError> {
        // NONBLOCK: opening a FIFO would wait for its writer. It means nothing to a regular file.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = fs::openat(&self.folder, name.as_str(), flags, Mode::empty()).map_err(refusal)?;
        let stat = fs::fstat(&fd).map_err(io::Error::from)?;
        if !is_offered(&stat) {
            return Err(ShelfError::NoFile);
        }
        Ok((File::from(fd), describe(&stat, name.clone())))
    }
}

/// Only a regular file with a single name: a hard link may lead out of the folder as well as a symbolic one.
fn is_offered(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_nlink == 1
}

fn describe(stat: &Stat, name: FileName) -> FileEntry {
    FileEntry {
        size: u64::try_from(stat.st_size).expect("a regular file has no negative size"),
        mtime: Timestamp::from_second(stat.st_mtime).unwrap_or_default(),
        name,
    }
}

/// Whatever the name is that is no file of ours, the answer is the same: it says nothing about what lies there.
fn refusal(errno: Errno) -> ShelfError {
    match errno {
        Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::IO => ShelfError::Io(errno.into()),
        _ => ShelfError::NoFile,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::os::unix::fs::symlink;

    fn name(text: &str) -> FileName {
        FileName::parse(text).expect("a file name")
    }

    #[test]
    fn plain_files_are_listed_in_order_and_opened() {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in [("b.txt", "bee"), ("a.txt", ""), ("Z", "zz"), (".c.part", "half")] {
            std::fs::write(folder.path().join(name), text).expect("a file");
        }
        let shelf = Shelf::open(folder.path()).expect("a shelf");
        let list: Vec<_> =
            shelf.list().expect("a list").into_iter().map(|e| (e.name.to_string(), e.size)).collect();
        assert_eq!(list, [("Z".to_owned(), 2), ("a.txt".into(), 0), ("b.txt".into(), 3)]);
        let (mut file, entry) = shelf.open_file(&name("b.txt")).expect("a file");
        let mut text = String::new();
        file.read_to_string(&mut text).expect("readable");
        assert_eq!((entry.size, text.as_str()), (3, "bee"));
    }

    #[test]
    fn what_is_no_plain_file_is_neither_listed_nor_opened() {
        let outside = tempfile::tempdir().expect("a folder");
        let secret = outside.path().join("secret");
        std::fs::write(&secret, "secret").expect("a file");
        let folder = tempfile::tempdir().expect("a folder");
        symlink(&secret, folder.path().join("symlink")).expect("a link");
        std::fs::hard_link(&secret, folder.path().join("hardlink")).expect("a link");
        std::fs::create_dir(folder.path().join("folder")).expect("a folder");
        let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).expect("bound");
        fs::mknodat(CWD, folder.path().join("fifo"), FileType::Fifo, Mode::RUSR, 0).expect("a FIFO");
        let shelf = Shelf::open(folder.path()).expect("a shelf");
        assert_eq!(shelf.list().expect("a list"), []);
        for odd in ["symlink", "hardlink", "folder", "socket", "fifo", "absent"] {
            assert!(matches!(shelf.open_file(&name(odd)), Err(ShelfError::NoFile)), "{odd}");
        }
        for name in [".hidden", "bad:name"] {
            std::fs::write(folder.path().join(name), "").expect("a file");
        }
        let passed_over = shelf.passed_over().expect("a list");
        assert_eq!(passed_over, ["bad:name", "fifo", "hardlink", "socket", "symlink"]);
    }
}
