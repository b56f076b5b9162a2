//! Files that are wanted here or there, and what follows from their transfers.

use super::Console;
use crate::chat::command::Wanted;
use crate::client::DOWNLOADS_FOLDER;
use crate::client::errand::put_name;
use crate::client::error::ClientError;
use crate::client::report::{self, Report};
use crate::client::terminal::complete::expand_home;
use crate::client::transfers::{Reaction, Want, What};
use crate::transfer::sink::Target;
use crate::wire::message::Transport;
use crate::wire::name::FileName;

impl Console<'_> {
    pub(super) fn fetch(
        &mut self,
        file: Wanted,
        save_as: Option<FileName>,
        transport: Option<Transport>,
    ) -> Result<(), ClientError> {
        let name = match file {
            Wanted::Name(name) => name,
            Wanted::Number(number) => {
                let entry = number.checked_sub(1).and_then(|at| self.shelf.get(at));
                let Some(entry) = entry else {
                    let message = format!("the list shown last has no file {number}; /files shows the list");
                    return self.screen.complain("no-file", &message);
                };
                entry.name.clone()
            }
        };
        let target = Target::Folder(DOWNLOADS_FOLDER.into(), save_as.unwrap_or_else(|| name.clone()));
        let asks = self.screen.interactive && !self.never_asks;
        self.want(name, What::Get { target, asks }, transport)
    }

    pub(super) fn put(
        &mut self,
        path: &str,
        save_as: Option<FileName>,
        transport: Option<Transport>,
    ) -> Result<(), ClientError> {
        // Here no shell has done it.
        let path = expand_home(path);
        match put_name(&path, save_as) {
            Ok(name) => self.want(name, What::Put { path }, transport),
            Err(error) => self.screen.complain_of(&error),
        }
    }

    fn want(&mut self, name: FileName, what: What, transport: Option<Transport>) -> Result<(), ClientError> {
        let fall_back = transport.is_none();
        let transport = transport.unwrap_or(Transport::Udp);
        let reactions = self.transfers.ask(Want { name, what, transport, fall_back });
        self.react(reactions)
    }

    pub(super) fn react(&mut self, reactions: Vec<Reaction>) -> Result<(), ClientError> {
        for reaction in reactions {
            match reaction {
                Reaction::Say(message) => self.events.session.say(message),
                Reaction::Tell(report) => self.screen.show(&report)?,
                Reaction::Ask(view) => {
                    let (name, size) = (view.name.to_string(), view.size.unwrap_or_default());
                    let asked = report::question(&name, view.moved_bytes, size, view.took);
                    let (number, answers) = (view.number, "/yes or /no");
                    self.screen.show(&Report::Question { number, text: format!("{asked} {answers}") })?;
                }
                Reaction::Finished(finished) => self.screen.show(&Report::Transfer(finished))?,
                Reaction::Failed(failed) => self.screen.complain_of(&failed.into())?,
                Reaction::Refused { name, code, words } => {
                    self.screen.complain_of(&ClientError::NotOffered {
                        name: name.to_string(),
                        code,
                        words,
                    })?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn react_or(
        &mut self,
        reactions: Option<Vec<Reaction>>,
        otherwise: &str,
    ) -> Result<(), ClientError> {
        match reactions {
            Some(reactions) => self.react(reactions),
            None => self.screen.complain("command", otherwise),
        }
    }
}
