//! What the server says, and what the console makes of it.

use super::Console;
use crate::client::error::ClientError;
use crate::client::listing::Step;
use crate::client::report::Report;
use crate::wire::message::{ClientMessage, ServerMessage};
use crate::wire::name::Nick;

impl Console<'_> {
    pub(super) fn on_server(&mut self, message: ServerMessage) -> Result<(), ClientError> {
        let message = match self.transfers.on_server(message) {
            Ok(reactions) => return self.react(reactions),
            Err(message) => message,
        };
        let own = &mut self.events.session.nick;
        let report = match message {
            // At a terminal it stands there already, behind the prompt.
            ServerMessage::Msg(from, _) if self.screen.interactive && from == *own => return Ok(()),
            ServerMessage::Nick(old, new) => {
                let known = [Some(own), self.partner.as_mut(), self.whisperer.as_mut()];
                let pasted = self.events.pasted.iter_mut().filter_map(|pasted| pasted.to.as_mut());
                for nick in known.into_iter().flatten().chain(pasted).filter(|nick| **nick == old) {
                    *nick = new.clone();
                }
                Report::Nick { old: old.to_string(), new: new.to_string() }
            }
            ServerMessage::Users(total, nicks) => return self.on_users(total, nicks),
            ServerMessage::Files(count) => {
                let step = self.file_list.as_mut().map(|list| list.on_count(count));
                return self.on_list_step(step);
            }
            ServerMessage::File(entry) => {
                let step = self.file_list.as_mut().map(|list| list.on_file(entry));
                return self.on_list_step(step);
            }
            ServerMessage::Err { code, request, words } => {
                match request.as_str() {
                    "FILES" => {
                        self.file_list = None;
                        self.by_number.clear();
                    }
                    "WHO" => self.roll = None,
                    _ => {}
                }
                return self.screen.complain_of(&ClientError::Refused { code, words });
            }
            other => {
                if let ServerMessage::Pm(from, _) = &other {
                    self.whisperer = Some(from.clone());
                }
                let Some(report) = Report::of(other) else { return Ok(()) };
                report
            }
        };
        self.screen.own_nick = self.events.session.nick.to_string();
        self.typing.iter_mut().for_each(|typing| typing.on_report(&report));
        self.screen.show(&report)?;
        match (&report, &self.partner) {
            (Report::Leave { nick }, Some(partner)) if Nick::parse(nick).as_ref() == Ok(partner) => {
                let text = format!("{nick} does not hear you any more; /all talks to everyone again");
                self.notice(&text)
            }
            _ => Ok(()),
        }
    }

    fn on_users(&mut self, total: usize, nicks: Vec<Nick>) -> Result<(), ClientError> {
        let Some(mut roll) = self.roll.take() else { return Ok(()) };
        if !roll.on_users(total, nicks) {
            self.roll = Some(roll);
            return Ok(());
        }
        let nicks: Vec<String> = roll.nicks.iter().map(Nick::to_string).collect();
        if self.on_members(&nicks)? { Ok(()) } else { self.screen.show(&Report::Users { nicks }) }
    }

    fn on_list_step(&mut self, step: Option<Step>) -> Result<(), ClientError> {
        match step {
            Some(Step::Ask(after)) => self.events.session.say(ClientMessage::Files(Some(after))),
            Some(Step::Complete) => {
                let entries = self.file_list.take().unwrap_or_default().entries;
                if !self.on_shelf(entries.iter().map(|entry| entry.name.to_string()))? {
                    // The numbers that can be typed are those of a list that was seen.
                    self.shelf = entries;
                    let files = self.shelf.iter().map(Into::into).collect();
                    self.screen.show(&Report::Files { files })?;
                }
                return std::mem::take(&mut self.by_number)
                    .into_iter()
                    .try_for_each(|get| self.on_command(get));
            }
            Some(Step::Wait) | None => {}
        }
        Ok(())
    }
}
