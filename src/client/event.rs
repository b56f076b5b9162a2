//! Everything that can happen to a running client, in one queue. It owns the session, and regains it when it is lost.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Select, TryRecvError};

use super::error::ClientError;
use super::reconnect::{Plan, Regaining};
use super::session::{Incoming, Session};
use super::terminal::Input;
use super::transfers::TransferEvent;
use super::typed::{self, Typed};
use crate::wire::ErrorCode;
use crate::wire::message::{ClientMessage, ServerMessage};
use crate::wire::name::Nick;

/// So many lines are read while the server is away: what has to be said waits. Ours: more than a person types.
const READ_AWAY_MAX: usize = 1_000;

/// One thing that happened.
#[derive(Debug)]
pub enum Event {
    /// The server said something: never PING, which is answered already, and BYE only after our QUIT.
    Server(ServerMessage),
    /// The session has ended; it is being regained.
    Lost {
        /// What happened.
        why: String,
        /// How many texts of ours may not have arrived.
        unconfirmed: usize,
    },
    /// There is a session again, with a server that knows nothing of the one before.
    Reconnected,
    /// The session has ended, and will not be regained. Nothing more comes from a server.
    GaveUp(ClientError),
    /// A transfer came to its end, or to its name.
    Transfer(TransferEvent),
    /// A line was typed.
    Typed(Typed),
    /// The next line of a paste may be said.
    Pasted(Pasted),
    /// A person did something at the terminal.
    Input(Input),
    /// The system asks us to end.
    Signal(i32),
    /// The time asked for has come.
    Tick,
}

/// A line of a paste that the person wants to be said: never a command.
#[derive(Debug)]
pub struct Pasted {
    /// To whom alone.
    pub to: Option<Nick>,
    /// The line.
    pub text: String,
}

/// Where events come from.
#[derive(Debug)]
pub struct Events {
    /// The control session. While it is away, what is said here waits for the next one.
    pub session: Session,
    plan: Plan,
    link: Link,
    transfers: Receiver<TransferEvent>,
    typed: Option<Receiver<Typed>>,
    /// Keys, where a person edits lines at a terminal. They are heard at once, whatever the server takes.
    pub inputs: Option<Receiver<Input>>,
    /// Lines of a paste: each is an event when the server takes more.
    pub pasted: VecDeque<Pasted>,
    /// Whispers of the paste since the server last answered.
    whispered: usize,
    signals: Receiver<i32>,
    /// The code of the server's last line, where that was an ERR.
    last_code: Option<ErrorCode>,
    /// We have said QUIT.
    leaving: bool,
    /// Lines read since the session was lost.
    read_away: usize,
    /// Whose turn is it? A flood of one kind must not hide the other.
    typed_next: bool,
    /// Since then what is typed waits until the server has answered what was said to the room.
    held_since: Option<Instant>,
    /// When we have asked whether it has taken all of that.
    asked_at: Option<Instant>,
}

/// Texts to the room that may be without an answer before the next line is read. Ours: half of what a server takes at
/// once; it slows whoever says more, and closes one who goes on regardless (docs/PROTOCOL.md, section 4).
pub(super) const AHEAD_MAX: usize = 10;

/// A server that owes answers for so long is asked whether it has taken what they are for. Ours: more than twice what
/// one needs at its default rate for what we are ahead.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// The PING that asks so.
const TAKEN: &str = "taken";

/// The PING behind pasted whispers, which are answered by nothing themselves.
const WHISPERED: &str = "whispered";

/// How we stand with the server.
#[derive(Debug)]
enum Link {
    Up,
    Away(Regaining),
    Down,
}

impl Events {
    /// Joins the sources; `typed` only where lines are read.
    pub fn new(
        session: Session,
        plan: Plan,
        transfers: Receiver<TransferEvent>,
        typed: Option<Receiver<Typed>>,
        signals: Receiver<i32>,
    ) -> Events {
        Events {
            session,
            plan,
            link: Link::Up,
            transfers,
            typed,
            inputs: None,
            pasted: VecDeque::new(),
            whispered: 0,
            signals,
            last_code: None,
            leaving: false,
            read_away: 0,
            typed_next: false,
            held_since: None,
            asked_at: None,
        }
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

    /// Whether there is a session to talk in.
    pub fn is_connected(&self) -> bool {
        matches!(self.link, Link::Up)
    }

    /// Says QUIT, once and behind everything else. From now on nothing is regained.
    pub fn quit(&mut self) {
        let is_said = std::mem::replace(&mut self.leaving, true);
        if !self.is_connected() {
            self.link = Link::Down;
        } else if !is_said {
            self.session.say(ClientMessage::Quit);
        }
    }

    /// Says QUIT and waits for the end of the session, at most so long.
    pub fn leave(&mut self, patience: Duration) {
        self.quit();
        let deadline = Instant::now() + patience;
        while self.is_connected() {
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
        if let Some(input) = self.inputs.as_ref().and_then(|inputs| inputs.try_recv().ok()) {
            if input == Input::End {
                self.inputs = None;
            }
            return Some(Event::Input(input));
        }
        if let Ok(event) = self.transfers.try_recv() {
            return Some(Event::Transfer(event));
        }
        // Not one more for each answer: nothing of ours must wait at the server for a moment.
        match self.session.unanswered() {
            0 => (self.held_since, self.asked_at) = (None, None),
            AHEAD_MAX.. => _ = self.held_since.get_or_insert_with(Instant::now),
            _ => {}
        }
        self.ask_if_taken();
        self.typed_next = !self.typed_next;
        if self.typed_next {
            self.poll_typed().or_else(|| self.poll_link())
        } else {
            self.poll_link().or_else(|| self.poll_typed())
        }
    }

    /// A server that answers less than it takes must not hold anybody up for ever: its PONG tells that it has taken all.
    fn ask_if_taken(&mut self) {
        if self.asks_at().is_some_and(|at| at <= Instant::now()) {
            self.asked_at = Some(Instant::now());
            self.session.say(ClientMessage::Ping(TAKEN.into()));
        }
    }

    /// When that is to be asked.
    fn asks_at(&self) -> Option<Instant> {
        self.held_since
            .filter(|_| self.is_connected() && self.asked_at.is_none())
            .map(|since| since + ANSWER_MAX)
    }

    /// The answer to it.
    fn on_taken(&mut self) {
        if let Some(asked_at) = self.asked_at.take() {
            self.session.on_taken(asked_at);
            self.held_since = self.held_since.map(|_| Instant::now());
        }
    }

    /// Whether the server takes more than it has got.
    fn may_say(&self) -> bool {
        self.is_connected() && self.held_since.is_none() && self.session.waits_for().is_none()
    }

    /// Where lines are typed, when one more may be read.
    fn typed(&self) -> Option<&Receiver<Typed>> {
        let may_read = match self.link {
            Link::Up => self.may_say(),
            // Commands have to be heard; the rest waits.
            Link::Away(_) | Link::Down => self.read_away < READ_AWAY_MAX,
        };
        self.typed.as_ref().filter(|_| may_read)
    }

    fn poll_typed(&mut self) -> Option<Event> {
        self.poll_pasted().or_else(|| self.poll_line())
    }

    fn poll_pasted(&mut self) -> Option<Event> {
        if !self.may_say() || self.whispered == AHEAD_MAX {
            return None;
        }
        let pasted = self.pasted.pop_front()?;
        if pasted.to.is_some() {
            self.whispered += 1;
            if self.whispered == AHEAD_MAX {
                self.session.say(ClientMessage::Ping(WHISPERED.into()));
            }
        }
        Some(Event::Pasted(pasted))
    }

    fn poll_line(&mut self) -> Option<Event> {
        let typed = self.typed()?.try_recv().ok()?;
        if matches!(typed, Typed::End) {
            self.typed = None;
        }
        self.read_away += usize::from(!self.is_connected());
        Some(Event::Typed(typed))
    }

    fn poll_link(&mut self) -> Option<Event> {
        match &self.link {
            Link::Up => self.poll_server(),
            Link::Away(regaining) => {
                let outcome = match regaining.outcome.try_recv() {
                    Err(TryRecvError::Empty) => return None,
                    Err(TryRecvError::Disconnected) => {
                        Err(ClientError::Lost("the thread that should regain it has ended".into()))
                    }
                    Ok(outcome) => outcome,
                };
                Some(self.on_regained(outcome))
            }
            Link::Down => None,
        }
    }

    fn poll_server(&mut self) -> Option<Event> {
        loop {
            match self.session.incoming.try_recv().ok()? {
                Incoming::Message(ServerMessage::Ping(text)) => self.session.pong(text),
                Incoming::Message(ServerMessage::Bye(reason)) if !self.leaving => {
                    return Some(self.on_end(ClientError::bye(reason, self.last_code)));
                }
                Incoming::Message(message) => {
                    match &message {
                        ServerMessage::Pong(text) if text == WHISPERED => self.whispered = 0,
                        ServerMessage::Pong(text) if text == TAKEN => self.on_taken(),
                        _ => {}
                    }
                    self.last_code = message.error_code();
                    self.session.on_heard(&message);
                    return Some(Event::Server(message));
                }
                Incoming::Closed(why) => return Some(self.on_end(ClientError::Lost(why))),
            }
        }
    }

    fn on_end(&mut self, error: ClientError) -> Event {
        let unconfirmed = self.session.close();
        (self.link, self.read_away, self.whispered) = (Link::Down, 0, 0);
        // A PONG of this session comes no more: the next one is asked anew.
        self.asked_at = None;
        let (ClientError::Lost(why) | ClientError::Closed(why)) = &error else {
            return Event::GaveUp(error);
        };
        if self.leaving || self.plan.patience.is_zero() {
            return Event::GaveUp(error);
        }
        let why = why.clone();
        match self.plan.start(self.session.nick.clone(), why.clone()) {
            Ok(regaining) => {
                self.link = Link::Away(regaining);
                Event::Lost { why, unconfirmed }
            }
            Err(source) => Event::GaveUp(ClientError::System { what: "start a thread".into(), source }),
        }
    }

    fn on_regained(&mut self, outcome: Result<Session, ClientError>) -> Event {
        match outcome {
            Ok(mut session) => {
                session.take_over(&mut self.session);
                self.session = session;
                self.link = Link::Up;
                self.last_code = None;
                Event::Reconnected
            }
            Err(error) => {
                self.link = Link::Down;
                Event::GaveUp(error)
            }
        }
    }

    fn wait(&self, deadline: Option<Instant>) {
        let deadline = deadline.into_iter().chain(self.asks_at()).min();
        let mut select = Select::new();
        select.recv(&self.signals);
        select.recv(&self.transfers);
        match &self.link {
            Link::Up => {
                select.recv(&self.session.incoming);
            }
            Link::Away(regaining) => {
                select.recv(&regaining.outcome);
            }
            Link::Down => {}
        }
        if let Some(outgoing) = self.session.waits_for() {
            select.send(outgoing);
        }
        self.typed().map(|typed| select.recv(typed));
        self.inputs.as_ref().map(|inputs| select.recv(inputs));
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
