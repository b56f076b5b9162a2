//! One-shot commands as they are asked for, checked as far as that is possible without a server.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use super::error::ClientError;
use super::transfers::{Want, What};
use super::{Action, DOWNLOADS_FOLDER, Options};
use crate::transfer::TransferError;
use crate::transfer::sink::Target;
use crate::transfer::tuning::Tuning;
use crate::wire::ErrorCode;
use crate::wire::message::Transport;
use crate::wire::name::{FileName, Nick};

/// A one-shot command that has been checked as far as that is possible without a server.
#[derive(Debug)]
pub enum Errand {
    /// Say one thing.
    Msg(String, Option<Nick>),
    /// List who is here.
    Who,
    /// List the shelf.
    Files,
    /// Fetch a file to the disk, or put one on the shelf.
    Move(Want),
    /// Fetch a file, for standard output; it waits in a folder of its own until it is verified.
    GetToStdout(Want, PrivateFolder),
    /// Print what happens.
    Listen,
    /// Test the way to the server, as these choices make it.
    Doctor(Tuning),
}

impl Errand {
    /// Checks the command; `None` for talk.
    pub fn prepare(options: &Options) -> Result<Option<Errand>, ClientError> {
        Ok(Some(match &options.action {
            Action::Talk => return Ok(None),
            Action::Msg { text, .. } if text.is_empty() => {
                return Err(ClientError::Usage("there is nothing to say".into()));
            }
            Action::Msg { text, to } => {
                let refused = |nick: &String| ClientError::Refused {
                    code: ErrorCode::NoUser,
                    words: format!("nobody can be called {nick:?}"),
                };
                let to = to.as_ref().map(|nick| Nick::parse(nick).map_err(|_| refused(nick))).transpose()?;
                Self::Msg(text.clone(), to)
            }
            Action::Who => Self::Who,
            Action::Files => Self::Files,
            Action::Listen => Self::Listen,
            Action::Doctor => Self::Doctor(options.tuning.clone()),
            Action::Get { name, output, transport } => {
                let name = FileName::parse(name).map_err(|_| ClientError::NotOffered {
                    name: name.clone(),
                    code: ErrorCode::BadName,
                    words: "no shared file can be called so".into(),
                })?;
                prepare_get(name, output.as_deref(), *transport, options)?
            }
            Action::Put { path, save_as, transport } => {
                let save_as = save_as.as_ref().map(|name| parse_name(name)).transpose()?;
                let name = put_name(path, save_as)?;
                // Whether it can be read is better known before anybody is bothered.
                let what = || format!("read {}", path.display());
                fs::metadata(path).map_err(|source| ClientError::System { what: what(), source })?;
                Self::Move(want(name, What::Put { path: path.clone() }, *transport))
            }
        }))
    }
}

fn parse_name(text: &str) -> Result<FileName, ClientError> {
    let words = || format!("no shared file can be called {text:?}");
    FileName::parse(text).map_err(|_| ClientError::Refused { code: ErrorCode::BadName, words: words() })
}

/// The name that a file from here shall have on the shelf.
pub(super) fn put_name(path: &Path, save_as: Option<FileName>) -> Result<FileName, ClientError> {
    let own = || path.file_name().and_then(|name| FileName::parse(name.to_str()?).ok());
    save_as.or_else(own).ok_or_else(|| ClientError::Refused {
        code: ErrorCode::BadName,
        words: format!("{}: no shared file can be called so", path.display()),
    })
}

fn want(name: FileName, what: What, transport: Option<Transport>) -> Want {
    Want { name, what, transport: transport.unwrap_or(Transport::Udp), fall_back: transport.is_none() }
}

fn prepare_get(
    name: FileName,
    output: Option<&Path>,
    transport: Option<Transport>,
    options: &Options,
) -> Result<Errand, ClientError> {
    let has_person = io::stdin().is_terminal() && io::stderr().is_terminal();
    let asks = has_person && !options.yes && !options.no_input && !options.json;
    let want = |name, target| want(name, What::Get { target, asks }, transport);
    match output {
        None => Ok(Errand::Move(want(name.clone(), Target::Folder(DOWNLOADS_FOLDER.into(), name)))),
        Some(path) if path == Path::new("-") => {
            if options.json {
                return Err(ClientError::Usage("--json and -o - cannot both have standard output".into()));
            }
            let folder = PrivateFolder::make()?;
            let target = Target::Folder(folder.0.clone(), name.clone());
            Ok(Errand::GetToStdout(want(name, target), folder))
        }
        Some(path) => {
            if fs::symlink_metadata(path).is_ok() {
                let source = TransferError::Exists(path.display().to_string());
                return Err(ClientError::Transfer { name: name.to_string(), source });
            }
            Ok(Errand::Move(want(name, Target::Path(path.to_owned()))))
        }
    }
}

/// A folder under the system's one for temporary files, removed with all that is in it when dropped.
#[derive(Debug)]
pub struct PrivateFolder(PathBuf);

impl PrivateFolder {
    fn make() -> Result<PrivateFolder, ClientError> {
        use std::os::unix::fs::DirBuilderExt;
        let failed = |what: String| move |source| ClientError::System { what, source };
        let mut name = [0; 8];
        getrandom::fill(&mut name)
            .map_err(std::io::Error::other)
            .map_err(failed("get random numbers for a folder's name".into()))?;
        let path = std::env::temp_dir().join(format!("packetboat-{:016x}", u64::from_be_bytes(name)));
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(failed(format!("make the folder {}", path.display())))?;
        Ok(PrivateFolder(path))
    }
}

impl Drop for PrivateFolder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            log::warn!("{}: could not be removed: {error}", self.0.display());
        }
    }
}
