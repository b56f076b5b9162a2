//! The tokens that let this user go on with uploads, kept from one run of the client to the next.

use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::transfer::part::LEFTOVER_LIFE;
use crate::wire::message::Secret;
use crate::wire::name::FileName;

/// What the client keeps of this user: `$XDG_STATE_HOME/packetboat`, or `~/.local/state/packetboat` (XDG Base Directory
/// Specification).
pub(super) fn state_folder() -> Option<PathBuf> {
    let from = |variable, below: &str| {
        let path = PathBuf::from(std::env::var_os(variable)?).join(below);
        path.is_absolute().then_some(path)
    };
    let state = from("XDG_STATE_HOME", "").or_else(|| from("HOME", ".local/state"))?;
    Some(state.join("packetboat"))
}

/// One small file for each upload that has begun and not ended. Where they cannot be kept, an upload that breaks off
/// begins at its start.
#[derive(Debug)]
pub(super) struct Tokens {
    folder: Option<PathBuf>,
    server: String,
}

impl Tokens {
    /// In the folder `uploads` of [`state_folder`].
    pub(super) fn of_this_user(server: &str) -> Tokens {
        let folder = state_folder().map(|state| state.join("uploads"));
        Tokens { folder, server: server.to_owned() }
    }

    fn place(&self, path: &Path, name: &FileName) -> Option<PathBuf> {
        let path = path.canonicalize().ok()?;
        let key = [self.server.as_bytes(), path.as_os_str().as_bytes(), name.as_str().as_bytes()].join(&0);
        Some(self.folder.as_ref()?.join(&*blake3::hash(&key).to_hex()))
    }

    /// The token of an upload of this file under this name that has begun and not ended.
    pub(super) fn load(&self, path: &Path, name: &FileName) -> Option<Secret> {
        let token = fs::read_to_string(self.place(path, name)?).ok()?;
        Some(Secret(blake3::Hash::from_hex(token.trim()).ok()?.into()))
    }

    /// An upload has begun.
    pub(super) fn save(&self, path: &Path, name: &FileName, token: &Secret) {
        let Some(place) = self.place(path, name) else { return };
        self.forget_old();
        if let Err(error) = write(&place, token) {
            log::info!("{}: an upload that breaks off cannot be resumed: {error}", place.display());
        }
    }

    /// What no server knows any more.
    fn forget_old(&self) {
        let entries = self.folder.as_ref().and_then(|folder| fs::read_dir(folder).ok()).into_iter().flatten();
        for entry in entries.filter_map(Result::ok) {
            let age = entry.metadata().and_then(|meta| meta.modified()).map(|at| at.elapsed());
            if let Ok(Ok(age)) = age
                && age > LEFTOVER_LIFE
            {
                // Somebody else was faster.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// An upload has ended.
    pub(super) fn forget(&self, path: &Path, name: &FileName) {
        if let Some(place) = self.place(path, name) {
            // Where it could not be made there is nothing to remove.
            let _ = fs::remove_file(place);
        }
    }
}

fn write(place: &Path, token: &Secret) -> io::Result<()> {
    let folder = place.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(place)?;
    writeln!(file, "{}", blake3::Hash::from_bytes(token.0).to_hex())
}
