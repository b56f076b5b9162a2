//! The connection to the server: lost, regained, or given up.

use super::Console;
use crate::client::error::ClientError;
use crate::client::event::Event;
use crate::client::listing::{FileList, Roll};
use crate::client::report::Report;
use crate::wire::message::ClientMessage;

impl Console<'_> {
    /// The session is being regained. What is typed meanwhile waits for it.
    pub(super) fn on_lost(&mut self, why: String, unconfirmed: usize) -> Result<(), ClientError> {
        let reactions = self.transfers.on_disconnected(&why);
        self.screen.show(&Report::Lost { reason: why })?;
        if unconfirmed > 0 {
            self.notice(&format!("{} may not have arrived: what you said last", lines(unconfirmed)))?;
        }
        self.react(reactions)
    }

    /// A new session: what the last one was asked for is asked for again.
    pub(super) fn on_reconnected(&mut self) -> Result<(), ClientError> {
        let session = &mut self.events.session;
        let report = Report::Reconnected { nick: session.nick.to_string() };
        if let Some(roll) = &mut self.roll {
            *roll = Roll::default();
            session.say(ClientMessage::Who);
        }
        if let Some(list) = &mut self.file_list {
            *list = FileList::default();
            session.say(ClientMessage::Files(None));
        }
        let reactions = self.transfers.on_reconnected(session.server, session.rtt);
        self.screen.own_nick = session.nick.to_string();
        self.ask_who_is_here();
        self.screen.show(&report)?;
        self.react(reactions)
    }

    /// The session is over for good.
    pub(super) fn give_up(&mut self, error: ClientError) -> Result<(), ClientError> {
        match &error {
            ClientError::Lost(why) | ClientError::Closed(why) | ClientError::Kicked(why) => {
                self.finish_transfers(why)
            }
            error => self.finish_transfers(&error.to_string()),
        }?;
        self.tell_unsaid()?;
        Err(error)
    }

    /// Nothing that was typed while the server was away is lost without a word.
    pub(super) fn tell_unsaid(&mut self) -> Result<(), ClientError> {
        match self.events.session.unsaid() {
            count if count > 0 && !self.events.is_connected() => self.screen.complain(
                "unsaid",
                &format!("{} not said: the server is away; say it again when it is back", lines(count)),
            ),
            _ => Ok(()),
        }
    }

    /// Forgets what is left of a paste, and tells how much that is.
    pub(super) fn tell_unsaid_paste(&mut self) -> Result<(), ClientError> {
        match std::mem::take(&mut self.events.pasted).len() {
            0 => Ok(()),
            count => self.screen.complain("unsaid", &format!("{} of the paste not said", lines(count))),
        }
    }

    /// The session is over: what is complete is still verified and kept, the rest is told to have failed.
    fn finish_transfers(&mut self, why: &str) -> Result<(), ClientError> {
        let reactions = self.transfers.on_lost(why);
        self.react(reactions)?;
        while !self.transfers.is_idle() {
            match self.events.next(None) {
                Event::Transfer(event) => {
                    let reactions = self.transfers.on_transfer(event);
                    self.react(reactions)?;
                }
                Event::Signal(signal) => return Err(ClientError::Signal(signal)),
                _ => {}
            }
        }
        Ok(())
    }
}

fn lines(count: usize) -> String {
    if count == 1 { "1 line".into() } else { format!("{count} lines") }
}
