//! Files that are put on the shelf: from ACCEPT to the server's word that it has them.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use rustix::fs::{CWD, Mode, OFlags};

use super::{FALL_BACK_AFTER, NO_ANSWER_MAX, Transfers};
use crate::client::carrier::Route;
use crate::client::tokens::Tokens;
use crate::client::transfer::{Asked, Hand, Put, Reaction, Side, Source, Transfer, What};
use crate::transfer::{TransferError, digest_before};
use crate::wire::message::{Accept, ClientMessage, Done, PREFIX_LEN, Prefix, TransferId};

/// PUT, with the token of an earlier try where there was one.
pub(super) fn request(
    asked: &mut Asked,
    path: &Path,
    tokens: &Tokens,
) -> Result<ClientMessage, TransferError> {
    let file = open(path)
        .map_err(|source| TransferError::File { what: format!("read {}", path.display()), source })?;
    let size = file.metadata().map(|meta| meta.len()).map_err(unreadable)?;
    let name = asked.want.name.clone();
    let resume_token = if asked.anew { None } else { tokens.load(path, &name) };
    let message = ClientMessage::Put {
        transport: asked.want.transport,
        size,
        resume_token: resume_token.clone(),
        name,
    };
    asked.hand = Hand::Source(Source { file, size, resume_token });
    Ok(message)
}

/// Only regular files have a size and can be sent again; opening a FIFO would wait for its writer.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(CWD, path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "only plain files can be put on the shelf"));
    }
    Ok(file)
}

fn unreadable(source: io::Error) -> TransferError {
    TransferError::File { what: "read the file".into(), source }
}

impl Transfers {
    pub(super) fn on_accept(&mut self, accept: Accept) -> Vec<Reaction> {
        let id = accept.id;
        let Some(mut asked) = self.asked.pop_front() else {
            log::warn!("transfer {id}: accepted unasked");
            return Vec::new();
        };
        let is_answer = accept.name == asked.want.name
            && accept.transport == asked.want.transport
            && !self.under_way.contains_key(&id);
        let (What::Put { path }, Hand::Source(source), true) =
            (asked.want.what.clone(), std::mem::replace(&mut asked.hand, Hand::Nothing), is_answer)
        else {
            return self.decline(id, asked, TransferError::Lost("the server accepted something else".into()));
        };
        if asked.cancelled {
            return self.decline(id, asked, TransferError::Cancelled);
        }
        let Source { file, size, .. } = source;
        match is_ours(&file, size, accept.prefix) {
            Ok(true) => {}
            Ok(false) => {
                let said = ClientMessage::Done(id, Done::Failed(TransferError::Changed.code()));
                return vec![Reaction::Say(said), self.ask_anew(asked)];
            }
            Err(error) => return self.decline(id, asked, unreadable(error)),
        }
        self.tokens.save(&path, &asked.want.name, &accept.resume_token);
        let start = accept.prefix.map_or(0, |prefix| prefix.offset);
        let open_max = if asked.want.fall_back { FALL_BACK_AFTER } else { NO_ANSWER_MAX };
        let begun = file.try_clone().map_err(unreadable).and_then(|unread| {
            Ok((unread, self.carrier.send(Route::of_accept(&accept, open_max), file, start..size)?))
        });
        match begun {
            Ok((unread, moving)) => {
                let put = Put { unread: Some(unread), digest: None, sent_at: None, unwanted: Arc::default() };
                self.start(id, Transfer::new(asked, size, start, moving, Side::Put(put)))
            }
            Err(error) => self.decline(id, asked, error),
        }
    }

    /// Has a file that is put read for its digest, once. Not at its start: what is sent in a moment needs the processor
    /// for its way (measured on two cores: 67 MB in 87 ms with it, in 70 without, and both as long to the server's last word).
    pub(super) fn read_for_digest(&mut self, id: TransferId) -> Result<(), TransferError> {
        let Some(Transfer { side: Side::Put(put), size, .. }) = self.under_way.get_mut(&id) else {
            return Ok(());
        };
        match put.unread.take() {
            Some(file) => self.carrier.digest(id, file, *size, Arc::clone(&put.unwanted)),
            None => Ok(()),
        }
    }

    pub(super) fn on_read(
        &mut self,
        id: TransferId,
        read: Result<blake3::Hash, TransferError>,
    ) -> Vec<Reaction> {
        let Some(transfer) = self.under_way.get_mut(&id) else { return Vec::new() };
        let Side::Put(put) = &mut transfer.side else { return Vec::new() };
        match read {
            Ok(digest) => {
                put.digest = Some(digest);
                let size = transfer.size;
                vec![Reaction::Say(ClientMessage::Done(id, Done::Sent { size, digest }))]
            }
            Err(error) => self.abandon(id, error),
        }
    }

    pub(super) fn on_sent(
        &mut self,
        id: TransferId,
        sent: Result<(), TransferError>,
        at: Instant,
    ) -> Vec<Reaction> {
        let Some(transfer) = self.under_way.get_mut(&id) else { return Vec::new() };
        let Side::Put(put) = &mut transfer.side else { return Vec::new() };
        match (transfer.failure.take(), sent) {
            (None, Ok(())) => {
                put.sent_at = Some(at);
                self.read_for_digest(id).map_or_else(|error| self.abandon(id, error), |()| Vec::new())
            }
            (Some(_), Err(error @ TransferError::File { .. })) => self.fail(id, error),
            (Some(failure), _) => self.fail(id, failure),
            (None, Err(error)) => self.fail(id, error),
        }
    }

    /// The server has the file, verified and under its name.
    pub(super) fn on_put(&mut self, id: TransferId) -> Vec<Reaction> {
        let Some(transfer) = self.under_way.get(&id) else { return Vec::new() };
        let (Side::Put(put), What::Put { path }) = (&transfer.side, &transfer.asked.want.what) else {
            return Vec::new();
        };
        let Some(digest) = put.digest else {
            return self
                .abandon(id, TransferError::Lost("the server has verified what it cannot know".into()));
        };
        self.tokens.forget(path, &transfer.asked.want.name);
        // Our worker may not have told yet that all is there.
        let took = put.sent_at.unwrap_or_else(Instant::now).saturating_duration_since(transfer.asked.at);
        let path = path.display().to_string();
        self.finish(id, took, digest, path)
    }
}

/// Whether the server's part of the file is a part of ours.
fn is_ours(file: &File, size: u64, prefix: Option<Prefix>) -> io::Result<bool> {
    let Some(Prefix { offset, digest }) = prefix else { return Ok(true) };
    Ok(offset <= size && digest_before(file, offset, PREFIX_LEN)? == digest)
}
