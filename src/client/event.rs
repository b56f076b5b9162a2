//! Everything that can happen to a running client, in one queue.

use std::io;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Select};

use super::session::{Incoming, Session};
use super::transfers::TransferEvent;
use super::typed::{self, Typed};
use crate::wire::message::{ClientMessage, ServerMessage};

/// One thing that happened.
#[derive(Debug)]
pub enum Event {
    /// The server said something (never PING: that is answered already).
    Server(ServerMessage),
    /// The session has ended, and why.
    Lost(String),
    /// A transfer came to its end, or to its name.
    Transfer(TransferEvent),
    /// A person typed.
    Typed(Typed),
    /// The system asks us to end.
    Signal(i32),
    /// The time asked for has come.
    Tick,
}

/// Where events come from.
#[derive(Debug)]
pub struct Events {
    /// The control session.
    pub session: Session,
    transfers: Receiver<TransferEvent>,
    typed: Option<Receiver<Typed>>,
    signals: Receiver<i32>,
    lost: bool,
    /// Whose turn is it? A flood of one kind must not hide the other.
    typed_next: bool,
}

impl Events {
    /// Joins the sources; `typed` only where lines are read.
    pub fn new(
        session: Session,
        transfers: Receiver<TransferEvent>,
        typed: Option<Receiver<Typed>>,
        signals: Receiver<i32>,
    ) -> Events {
        Events { session, transfers, typed, signals, lost: false, typed_next: false }
    }

    /// Waits for the next event, at most until `deadline`. What is typed waits until what was typed before is on its
    /// way: so a pipe is read no faster than the server takes it.
    pub fn next(&mut self, deadline: Option<Instant>) -> Event {
        loop {
            if let Some(event) = self.try_next() {
                return event;
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Event::Tick;
            }
            self.wait(deadline);
        }
    }

    /// The next event, if it is there already.
    pub fn try_next(&mut self) -> Option<Event> {
        self.session.push_out();
        self.poll()
    }

    /// Reads standard input from now on, where that is not done yet.
    pub fn read_typed(&mut self) -> io::Result<()> {
        if self.typed.is_none() {
            self.typed = Some(typed::start()?);
        }
        Ok(())
    }

    /// Says QUIT and waits for the end of the session, at most so long.
    pub fn leave(&mut self, patience: Duration) {
        self.session.say(&ClientMessage::Quit);
        let deadline = Instant::now() + patience;
        while !self.lost {
            if let Event::Tick | Event::Signal(_) | Event::Server(ServerMessage::Bye(_)) =
                self.next(Some(deadline))
            {
                return;
            }
        }
    }

    fn poll(&mut self) -> Option<Event> {
        if let Ok(signal) = self.signals.try_recv() {
            return Some(Event::Signal(signal));
        }
        if let Ok(event) = self.transfers.try_recv() {
            return Some(Event::Transfer(event));
        }
        self.typed_next = !self.typed_next;
        if self.typed_next {
            self.poll_typed().or_else(|| self.poll_server())
        } else {
            self.poll_server().or_else(|| self.poll_typed())
        }
    }

    fn poll_typed(&mut self) -> Option<Event> {
        if self.session.waits_for().is_some() {
            return None;
        }
        let typed = self.typed.as_ref()?.try_recv().ok()?;
        if matches!(typed, Typed::End) {
            self.typed = None;
        }
        Some(Event::Typed(typed))
    }

    fn poll_server(&mut self) -> Option<Event> {
        while !self.lost {
            match self.session.incoming.try_recv().ok()? {
                Incoming::Message(ServerMessage::Ping(text)) => self.session.pong(text),
                Incoming::Message(message) => return Some(Event::Server(message)),
                Incoming::Closed(why) => {
                    self.lost = true;
                    return Some(Event::Lost(why));
                }
            }
        }
        None
    }

    fn wait(&self, deadline: Option<Instant>) {
        let mut select = Select::new();
        select.recv(&self.signals);
        select.recv(&self.transfers);
        if !self.lost {
            select.recv(&self.session.incoming);
        }
        match self.session.waits_for() {
            Some(outgoing) => {
                select.send(outgoing);
            }
            None => {
                self.typed.as_ref().map(|typed| select.recv(typed));
            }
        }
        match deadline {
            Some(deadline) => {
                let _ = select.ready_deadline(deadline);
            }
            None => {
                select.ready();
            }
        }
    }
}
