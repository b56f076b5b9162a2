//! Unfinished files: `.NAME.part` beside the place of the finished one, and `.NAME.part.state`, which tells how far it is.
//!
//! Whoever works on one holds its lock, so that another run knows a leftover from a file in use.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::wire::message::PREFIX_LEN;

/// How many unfinished files of one name there may be. Ours: more is a mistake.
const SAME_NAMES_MAX: u32 = 9_999;

/// The octets of the target's name that its `.part` file repeats, so that any name that fits a folder has a `.part`.
const PART_NAME_LEN_MAX: usize = 200;

/// A leftover that nobody has touched for so long is removed.
pub const LEFTOVER_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// The state is padded to this and written over itself at once: a sector of any disk, so that it is old or new.
const STATE_LEN: usize = 512;

/// What an unfinished file will be once it is finished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Octets of the whole file.
    pub size: u64,
    /// When the original last changed, in seconds since 1970, where that is known.
    pub mtime_s: Option<i64>,
    /// The BLAKE3 digest of the token that lets its owner go on, where one is needed.
    pub token: Option<String>,
}

impl Origin {
    /// A file of so many octets, and nothing more is known.
    pub fn new(size: u64) -> Origin {
        Origin { size, mtime_s: None, token: None }
    }
}

/// How far an unfinished file is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    version: u32,
    /// Of the file that it will be: `.a.1.part` may be that of `a` as well as that of `a.1`.
    name: String,
    #[serde(flatten)]
    origin: Origin,
    /// Which start of this machine wrote it.
    boot: String,
    /// Everything before this offset was handed to the system.
    written: u64,
    /// Everything before this offset was on the disk.
    synced: u64,
}

/// The version of [`State`] that this program writes, and the only one it reads.
const STATE_VERSION: u32 = 1;

/// An unfinished file, locked. Dropped, it stays as a leftover where that is worth something; else it is removed.
#[derive(Debug)]
pub struct PartFile {
    file: File,
    path: PathBuf,
    state: State,
    state_file: File,
    /// Renamed or removed: nothing is left to look after.
    is_over: bool,
}

impl PartFile {
    /// Makes `.NAME.part`, or `.NAME.1.part` and up while the ones before are in use or worth something.
    pub fn create(folder: &Path, name: &OsStr, origin: &Origin) -> io::Result<PartFile> {
        for number in 0..=SAME_NAMES_MAX {
            let path = part_path(folder, name, number);
            let (file, how) = match create_part(&path)? {
                Some(file) => (file, OFlags::CREATE | OFlags::EXCL),
                None => match open_part(&path)? {
                    // An empty one is worth nothing to anybody.
                    Some(file) if file.metadata()?.len() == 0 => (file, OFlags::CREATE),
                    _ => continue,
                },
            };
            let state_file = take_state(&path, how);
            if how.contains(OFlags::EXCL) && !matches!(state_file, Ok(Some(_))) {
                // Without its state it would be a leftover that nobody ever takes up or removes.
                remove(&path);
            }
            let Some(state_file) = state_file? else { continue };
            let boot = boot_id();
            let (version, name) = (STATE_VERSION, name.to_string_lossy().into_owned());
            let state = State { version, name, origin: origin.clone(), boot, written: 0, synced: 0 };
            let mut part = PartFile { file, path, state, state_file, is_over: false };
            part.note(0, 0)?;
            return Ok(part);
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, "too many files of this name are under way"))
    }

    /// What earlier tries to make this file have left and nobody works on now, if it is worth something.
    pub fn leftovers(folder: &Path, name: &OsStr) -> Vec<PartFile> {
        remove_lone_states(folder, |path| is_part_of(path, name));
        let mut paths: Vec<PathBuf> = parts(folder).filter(|path| is_part_of(path, name)).collect();
        paths.sort();
        let parts = paths.into_iter().filter_map(Self::open);
        parts.filter(|part| part.state.name == name.to_string_lossy() && part.prefix() > 0).collect()
    }

    /// What the unfinished files of this name will be, also those in use.
    pub fn origins(folder: &Path, name: &OsStr) -> Vec<Origin> {
        let paths = parts(folder).filter(|path| is_part_of(path, name));
        let states = paths.filter_map(|path| read_state(&open_state(&path, OFlags::empty()).ok()?));
        states.filter(|state| state.name == name.to_string_lossy()).map(|state| state.origin).collect()
    }

    /// Takes a leftover over; `None` where it is in use, or not one of ours.
    fn open(path: PathBuf) -> Option<PartFile> {
        let file = open_part(&path).ok().flatten()?;
        let found = open_state(&path, OFlags::empty()).ok();
        let is_blank = found.as_ref().map_or(file.metadata().ok()?.len() == 0, is_blank);
        let Some((state_file, mut state)) =
            found.and_then(|found| read_state(&found).map(|state| (found, state)))
        else {
            // Whoever made it was cut off before it had a state, or while it was removed; or the machine was, before
            // the state was on the disk. What has octets and no state may be somebody else's.
            if is_blank {
                remove_both(&path);
            }
            return None;
        };
        // After a crash of the machine only what was synced is surely there.
        let boot = boot_id();
        if boot.is_empty() || state.boot != boot {
            (state.written, state.boot) = (state.synced, boot);
        }
        state.written = state.written.min(file.metadata().ok()?.len());
        let part = PartFile { file, path, state, state_file, is_over: false };
        part.trim();
        Some(part)
    }

    /// The open file, for reading and writing.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The open state, for syncing.
    pub fn state_file(&self) -> &File {
        &self.state_file
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it has its final name, or is removed.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// What it will be.
    pub fn origin(&self) -> &Origin {
        &self.state.origin
    }

    /// The octets from the start that are surely here: a multiple of [`PREFIX_LEN`], and less than the whole.
    pub fn prefix(&self) -> u64 {
        let State { origin, written, .. } = &self.state;
        (*written).min(origin.size.saturating_sub(1)) / PREFIX_LEN * PREFIX_LEN
    }

    /// The octets from the start that an earlier try had put on the disk.
    pub fn synced(&self) -> u64 {
        self.state.synced.min(self.prefix())
    }

    /// Notes how far the file is: what was written, and what is on the disk.
    pub fn note(&mut self, written: u64, synced: u64) -> io::Result<()> {
        (self.state.written, self.state.synced) = (written, synced);
        let mut text = serde_json::to_vec(&self.state).map_err(io::Error::other)?;
        text.resize(STATE_LEN - 1, b' ');
        text.push(b'\n');
        self.state_file.write_all_at(&text, 0)
    }

    /// Gives back the room that was set aside behind what is written.
    pub fn trim(&self) {
        let trimmed = self.file.metadata().and_then(|meta| {
            // Only where there is some: it makes the file look new, and an old leftover shall be seen to be old.
            let is_roomy = meta.blocks() * 512 > meta.len() + PREFIX_LEN;
            if is_roomy { self.file.set_len(meta.len()) } else { Ok(()) }
        });
        if let Err(error) = trimmed {
            log::debug!("{}: could not be trimmed: {error}", self.path.display());
        }
    }

    /// Gives the file its final name; never overwrites.
    pub fn rename(&mut self, to: &Path) -> io::Result<()> {
        match rustix::fs::renameat_with(CWD, &self.path, CWD, to, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            // Filesystems that know no such flag: a second name is never made over an existing one either.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                fs::hard_link(&self.path, to)?;
                remove(&self.path);
            }
            Err(errno) => return Err(errno.into()),
        }
        self.is_over = true;
        // Cut off before this, it leaves a state alone.
        remove(&state_path(&self.path));
        Ok(())
    }

    /// Removes the file.
    pub fn remove(&mut self) {
        if !std::mem::replace(&mut self.is_over, true) {
            // Others may still have it open, to read along or to verify it: its room is free now all the same. Cut off
            // before the end, it leaves an empty file.
            for file in [&self.file, &self.state_file] {
                if let Err(error) = file.set_len(0) {
                    log::debug!("{}: could not be emptied: {error}", self.path.display());
                }
            }
            remove_both(&self.path);
        }
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if !self.is_over && self.prefix() == 0 {
            self.remove();
        }
    }
}

/// Removes the leftovers of a folder that nobody works on and nobody has touched for a day, or that are worth nothing.
/// What has no state beside it is not known to be ours, and stays.
pub fn remove_old_leftovers(folder: &Path) {
    remove_lone_states(folder, |_| true);
    for path in parts(folder) {
        if !is_old(&path) {
            // What is worth nothing goes with this.
            drop(PartFile::open(path));
        } else if let Ok(Some(_held)) = open_part(&path)
            && state_path(&path).exists()
        {
            log::info!("{}: left over and a day old, removed", path.display());
            remove_both(&path);
        }
    }
}

fn is_old(path: &Path) -> bool {
    let modified = fs::symlink_metadata(path).and_then(|meta| meta.modified());
    let age = modified.ok().and_then(|at| SystemTime::now().duration_since(at).ok());
    age.is_some_and(|age| age > LEFTOVER_LIFE)
}

/// The octets that unfinished files take up in this folder: their gaps are not counted, and neither is what some
/// filesystems set aside for them to grow.
pub fn leftover_bytes(folder: &Path) -> u64 {
    let stats = parts(folder).filter_map(|part| fs::symlink_metadata(part).ok());
    stats.map(|stat| (stat.blocks() * 512).min(stat.len())).sum()
}

/// What may be unfinished files, by their names.
fn parts(folder: &Path) -> impl Iterator<Item = PathBuf> {
    names_that_end(folder, b".part")
}

/// What is hidden in a folder and ends so.
fn names_that_end(folder: &Path, end: &'static [u8]) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path())).filter(move |path| {
        let name = file_name(path);
        name.starts_with(b".") && name.ends_with(end)
    })
}

/// Removes the states of these files that have got their names: whoever gave them was cut off before it could.
fn remove_lone_states(folder: &Path, is_wanted: impl Fn(&Path) -> bool) {
    for state in names_that_end(folder, b".part.state") {
        let part = state.with_extension("");
        // Whoever holds the file's name is the only one who may make a state for it.
        if is_wanted(&part)
            && let Ok(Some(held)) = create_part(&part)
        {
            remove_both(&part);
            drop(held);
        }
    }
}

/// Removes a file and its state. The names go while the lock is held: whoever waits for it then sees that they are gone.
fn remove_both(part: &Path) {
    remove(&state_path(part));
    remove(part);
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        log::warn!("{}: could not be removed: {error}", path.display());
    }
}

fn part_path(folder: &Path, name: &OsStr, number: u32) -> PathBuf {
    let suffix = if number == 0 { ".part".into() } else { format!(".{number}.part") };
    folder.join(OsString::from_vec([b".", cut(name), suffix.as_bytes()].concat()))
}

fn cut(name: &OsStr) -> &[u8] {
    &name.as_bytes()[..name.len().min(PART_NAME_LEN_MAX)]
}

fn file_name(path: &Path) -> &[u8] {
    path.file_name().map_or(&[], OsStr::as_bytes)
}

/// Whether this is `.NAME.part` or `.NAME.7.part`.
fn is_part_of(path: &Path, name: &OsStr) -> bool {
    let middle = file_name(path).strip_prefix(b".").and_then(|found| found.strip_prefix(cut(name)));
    let Some(number) = middle.and_then(|middle| middle.strip_suffix(b".part")) else { return false };
    number.is_empty() || number.starts_with(b".") && number[1..].iter().all(u8::is_ascii_digit)
}

fn state_path(part: &Path) -> PathBuf {
    let mut path = part.as_os_str().to_owned();
    path.push(".state");
    path.into()
}

/// Makes and locks this file; `None` when there is one.
fn create_part(path: &Path) -> io::Result<Option<File>> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    match rustix::fs::open(path, flags, Mode::from_raw_mode(0o666)) {
        Ok(fd) => {
            let file = File::from(fd);
            match file.try_lock() {
                // A filesystem without locks: a file just made is ours all the same. Unless somebody has found it in the
                // moment before it was locked, and has removed it.
                Ok(()) | Err(TryLockError::Error(_)) if leads_to(path, &file)? => Ok(Some(file)),
                _ => Ok(None),
            }
        }
        Err(Errno::EXIST) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Opens and locks a file that is there; `None` when it is in use, or is something else: a link, a folder, somebody
/// else's, or gone in this moment.
fn open_part(path: &Path) -> io::Result<Option<File>> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(fd) = rustix::fs::open(path, flags, Mode::empty()) else { return Ok(None) };
    let file = File::from(fd);
    if file.try_lock().is_err() {
        return Ok(None);
    }
    // Its last owner renames or removes it under the lock, so only a name that still leads here is a leftover.
    let opened = file.metadata()?;
    Ok((leads_to(path, &file)? && opened.is_file() && opened.nlink() == 1).then_some(file))
}

/// Whether this is the file's name now.
fn leads_to(path: &Path, file: &File) -> io::Result<bool> {
    let (opened, named) = (file.metadata()?, fs::symlink_metadata(path));
    Ok(named.is_ok_and(|named| named.dev() == opened.dev() && named.ino() == opened.ino()))
}

/// Makes the state of a `.part` file whose lock we hold; where the file is not new, an earlier state will do. `None`
/// where something else has its name: also the state of whoever has just given its file its name, and removes it now.
fn take_state(part: &Path, how: OFlags) -> io::Result<Option<File>> {
    let file = match open_state(part, how) {
        Ok(file) => file,
        Err(error) => {
            let foreign = [Errno::EXIST, Errno::LOOP, Errno::ISDIR, Errno::NXIO, Errno::ACCESS];
            let is_foreign = Errno::from_io_error(&error).is_some_and(|errno| foreign.contains(&errno));
            return if is_foreign { Ok(None) } else { Err(error) };
        }
    };
    let meta = file.metadata()?;
    let is_ours = meta.is_file() && meta.nlink() == 1 && (is_blank(&file) || read_state(&file).is_some());
    Ok(is_ours.then_some(file))
}

/// Opens the state of a `.part` file whose lock we hold.
fn open_state(part: &Path, create: OFlags) -> io::Result<File> {
    let flags = create | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    // What lets somebody go on with an upload is for our eyes only.
    Ok(rustix::fs::open(state_path(part), flags, Mode::from_raw_mode(0o600))?.into())
}

fn read_state(file: &File) -> Option<State> {
    let mut text = [0; STATE_LEN];
    file.read_exact_at(&mut text, 0).ok()?;
    let state: State = serde_json::from_slice(&text).ok()?;
    (state.version == STATE_VERSION).then_some(state)
}

/// Whether nothing has ever been written here, as far as the disk knows.
fn is_blank(file: &File) -> bool {
    let mut first = [0];
    file.read_at(&mut first, 0).is_ok() && first == [0]
}

/// Names this start of the machine; empty where the system does not tell, and then only what is synced counts.
fn boot_id() -> String {
    static BOOT_ID: LazyLock<String> = LazyLock::new(|| {
        fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
    });
    BOOT_ID.clone()
}

#[cfg(test)]
mod debris_tests;
#[cfg(test)]
pub(in crate::transfer) mod tests;
