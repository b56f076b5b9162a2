//! One-shot commands: one errand, then leave. For scripts, and for people in a hurry.

use std::fs::File;
use std::time::{Duration, Instant};

use super::bar::Bar;
use super::errand::{Errand, PrivateFolder};
use super::error::ClientError;
use super::event::{Event, Events};
use super::listing::{FileList, Roll, Step};
use super::report::{self, Finished, Report};
use super::show::Screen;
use super::transfers::{Reaction, Transfers, View, Want};
use super::typed::Typed;
use crate::wire::message::{ClientMessage, PREFIX_LEN, ServerMessage};
use crate::wire::name::Nick;
use crate::wire::text;

/// How long the server may owe us an answer, or the next line of one, whatever else it says meanwhile. Ours: with its
/// default limits it never takes a second.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// How long to wait for the server's good-bye.
const LEAVE_MAX: Duration = Duration::from_secs(5);

/// How often the progress bar moves.
const TICK: Duration = Duration::from_millis(100);

/// The PING behind a message: its PONG says that everything before it has been dealt with.
const SAID: &str = "said";

/// Does the errand and leaves.
pub fn run(
    errand: Errand,
    guest: bool,
    events: &mut Events,
    transfers: &mut Transfers,
    screen: &mut Screen,
) -> Result<(), ClientError> {
    let mut one_shot = OneShot { events, screen };
    match errand {
        Errand::Msg(text, to) => one_shot.msg(&text, to.as_ref()),
        Errand::Who => one_shot.who(guest),
        Errand::Files => one_shot.files(),
        Errand::Listen => one_shot.listen(),
        Errand::Doctor(tuning) => one_shot.doctor(&tuning),
        Errand::Move(want) => {
            one_shot.transfer(transfers, want).map(Report::Transfer).and_then(|r| one_shot.screen.show(&r))
        }
        Errand::GetToStdout(want, folder) => one_shot.get_to_stdout(transfers, want, folder),
    }?;
    events.leave(LEAVE_MAX);
    Ok(())
}

/// One errand under way.
pub(super) struct OneShot<'a> {
    pub(super) events: &'a mut Events,
    pub(super) screen: &'a mut Screen,
}

impl OneShot<'_> {
    /// The next thing that the server says within `patience`; a session that is not regained is an error.
    pub(super) fn hear(&mut self, patience: Option<Duration>) -> Result<ServerMessage, ClientError> {
        let deadline = patience.map(|patience| Instant::now() + patience);
        loop {
            match self.events.next(deadline) {
                Event::Server(message) => return Ok(message),
                Event::Lost { why, .. } => self.screen.show(&Report::Lost { reason: why })?,
                Event::Reconnected => self.show_reconnected()?,
                Event::GaveUp(error) => return Err(error),
                Event::Signal(signal) => return Err(ClientError::Signal(signal)),
                Event::Tick => return Err(no_answer()),
                Event::Transfer(_) | Event::Typed(_) | Event::Pasted(_) | Event::Input(_) => {}
            }
        }
    }

    /// Waits so long for the answer, among whatever the server says.
    pub(super) fn answer<T>(
        &mut self,
        patience: Duration,
        mut pick: impl FnMut(ServerMessage) -> Option<T>,
    ) -> Result<T, ClientError> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(no_answer());
            }
            if let Some(found) = pick(self.hear(Some(left))?) {
                return Ok(found);
            }
        }
    }

    fn show_reconnected(&mut self) -> Result<(), ClientError> {
        self.screen.show(&Report::Reconnected { nick: self.events.session.nick.to_string() })
    }

    fn msg(&mut self, text: &str, to: Option<&Nick>) -> Result<(), ClientError> {
        for piece in text::pieces(text) {
            self.events.session.say(match to {
                Some(to) => ClientMessage::Pm(to.clone(), piece.into()),
                None => ClientMessage::All(piece.into()),
            });
        }
        self.events.session.say(ClientMessage::Ping(SAID.into()));
        let own_nick = self.events.session.nick.clone();
        let mut is_said = false;
        while !is_said {
            is_said = self.answer(ANSWER_MAX, |message| match message {
                ServerMessage::Pong(text) if text == SAID => Some(Ok(true)),
                // One piece of many has been said.
                ServerMessage::Msg(from, _) if from == own_nick => Some(Ok(false)),
                other => refusal(other).map(Err),
            })??;
        }
        if self.screen.json {
            self.screen.show(&Report::Sent { to: to.map(Nick::to_string), text: text.into() })?;
        }
        Ok(())
    }

    fn who(&mut self, guest: bool) -> Result<(), ClientError> {
        self.events.session.say(ClientMessage::Who);
        let mut roll = Roll::default();
        let mut complete = false;
        while !complete {
            complete = self.answer(ANSWER_MAX, |message| match message {
                ServerMessage::Users(total, nicks) => Some(Ok(roll.on_users(total, nicks))),
                other => refusal(other).map(Err),
            })??;
        }
        // Who only looked in under a made-up name is not here.
        roll.nicks.retain(|nick| !guest || *nick != self.events.session.nick);
        let nicks: Vec<String> = roll.nicks.iter().map(Nick::to_string).collect();
        // An empty list is said to people, not to whoever reads the lines.
        self.screen.lines_to_stderr = nicks.is_empty();
        if self.screen.json || nicks.is_empty() {
            self.screen.show(&Report::Users { nicks })
        } else {
            self.screen.tell(nicks)
        }
    }

    fn files(&mut self) -> Result<(), ClientError> {
        self.events.session.say(ClientMessage::Files(None));
        let mut list = FileList::default();
        loop {
            let step = self.answer(ANSWER_MAX, |message| match message {
                ServerMessage::Files(count) => Some(Ok(list.on_count(count))),
                ServerMessage::File(entry) => Some(Ok(list.on_file(entry))),
                other => refusal(other).map(Err),
            })??;
            match step {
                Step::Wait => {}
                Step::Ask(after) => self.events.session.say(ClientMessage::Files(Some(after))),
                Step::Complete => break,
            }
        }
        self.screen.show(&Report::Files { files: list.entries.iter().map(Into::into).collect() })
    }

    fn listen(&mut self) -> Result<(), ClientError> {
        let session = &self.events.session;
        let welcome = Report::Welcome { nick: session.nick.to_string(), server: session.server.to_string() };
        self.screen.show(&welcome)?;
        loop {
            if let Some(report) = Report::of(self.hear(None)?) {
                self.screen.show(&report)?;
            }
        }
    }

    fn get_to_stdout(
        &mut self,
        transfers: &mut Transfers,
        want: Want,
        folder: PrivateFolder,
    ) -> Result<(), ClientError> {
        self.screen.lines_to_stderr = true;
        let fetched = self.transfer(transfers, want)?;
        let what = format!("read {}", fetched.path);
        let file = File::open(&fetched.path).map_err(|source| ClientError::System { what, source })?;
        // Only the open file is left of it, so that nothing stays behind however the copying ends.
        drop(folder);
        self.screen.copy(file)?;
        self.screen.show(&Report::Transfer(Finished { path: "-".into(), ..fetched }))
    }

    fn transfer(&mut self, transfers: &mut Transfers, want: Want) -> Result<Finished, ClientError> {
        let is_late = |since: Instant| since.elapsed() > ANSWER_MAX;
        let mut bar = Bar::hidden();
        let mut asked = None;
        let mut tick_at = Instant::now() + TICK;
        let mut reactions = transfers.ask(want);
        loop {
            for reaction in reactions {
                match reaction {
                    Reaction::Say(message) => self.events.session.say(message),
                    Reaction::Tell(Report::Started { .. }) => bar = self.bar(transfers.views().first()),
                    Reaction::Tell(Report::Progress { .. }) => {}
                    Reaction::Tell(report) => bar.suspend(|| self.screen.note(&report))?,
                    Reaction::Ask(view) => {
                        // A bar that moves would write over the question.
                        bar = Bar::hidden();
                        self.ask(&view)?;
                        asked = Some(view);
                    }
                    Reaction::Finished(finished) => return Ok(finished),
                    Reaction::Failed(failed) => return Err(failed.into()),
                    Reaction::Refused { name, code, words } => {
                        return Err(ClientError::NotOffered { name: name.to_string(), code, words });
                    }
                }
            }
            reactions = match self.events.next(Some(tick_at)) {
                // The talk of the others is not what was asked for.
                Event::Server(message) => transfers.on_server(message).unwrap_or_default(),
                Event::Lost { why, .. } => {
                    bar = Bar::hidden();
                    self.screen.note(&Report::Lost { reason: why.clone() })?;
                    transfers.on_disconnected(&why)
                }
                Event::Reconnected => {
                    let nick = self.events.session.nick.to_string();
                    self.screen.note(&Report::Reconnected { nick })?;
                    transfers.on_reconnected(self.events.session.server, self.events.session.rtt)
                }
                Event::GaveUp(ClientError::Lost(why) | ClientError::Closed(why)) => transfers.on_lost(&why),
                Event::GaveUp(error) => return Err(error),
                Event::Transfer(event) => transfers.on_transfer(event),
                Event::Signal(signal) => {
                    drop(bar);
                    return self.interrupted(transfers, signal);
                }
                Event::Typed(typed) => match (goes_on(&typed), &asked) {
                    (Some(goes_on), Some(view)) => {
                        bar = self.bar(Some(view));
                        transfers.answer(None, goes_on).unwrap_or_default()
                    }
                    (None, Some(view)) => self.ask(view).map(|()| Vec::new())?,
                    (_, None) => Vec::new(),
                },
                Event::Pasted(_) | Event::Input(_) | Event::Tick => Vec::new(),
            };
            // A room that talks all the time leaves no time for a tick.
            let now = Instant::now();
            if tick_at <= now {
                if transfers.unanswered_since().is_some_and(is_late) {
                    return Err(no_answer());
                }
                reactions.extend(transfers.on_tick(now));
                tick_at = now + TICK;
            }
            if let Some(view) = transfers.views().first() {
                bar.show(view);
            }
        }
    }

    /// Ends by a signal, and says what becomes of what has come.
    fn interrupted<T>(&mut self, transfers: &Transfers, signal: i32) -> Result<T, ClientError> {
        // What is for standard output has no place of its own.
        let is_kept = |view: &&View| view.moved_bytes >= PREFIX_LEN && !self.screen.lines_to_stderr;
        if let Some(view) = transfers.views().first().filter(is_kept) {
            let text = format!("{} is kept as far as it has come: the same command goes on", view.name);
            self.screen.note(&Report::Notice { text })?;
        }
        Err(ClientError::Signal(signal))
    }

    /// Asks whether a download shall go on; the answer comes as a typed line.
    fn ask(&mut self, view: &View) -> Result<(), ClientError> {
        let (name, size) = (view.name.to_string(), view.size.unwrap_or_default());
        let question = report::question(&name, view.moved_bytes, size, view.took);
        self.screen.ask_for_line(&format!("{question} [Y/n] "));
        let what = || "read the answer".to_owned();
        self.events.read_typed().map_err(|source| ClientError::System { what: what(), source })
    }

    /// A bar, where a person waits.
    fn bar(&self, view: Option<&View>) -> Bar {
        let shown = view.filter(|_| !self.screen.json && !self.screen.quiet);
        shown.map_or_else(Bar::hidden, Bar::start)
    }
}

/// What an answer means; `None` for one that means nothing.
fn goes_on(typed: &Typed) -> Option<bool> {
    match typed {
        Typed::Line(line) => match line.trim().to_lowercase().as_str() {
            "" | "y" | "yes" => Some(true),
            "n" | "no" => Some(false),
            _ => None,
        },
        Typed::Unreadable(_) => None,
        Typed::End => Some(false),
    }
}

/// The error that an ERR is.
fn refusal(message: ServerMessage) -> Option<ClientError> {
    match message {
        ServerMessage::Err { code, words, .. } => Some(ClientError::Refused { code, words }),
        _ => None,
    }
}

fn no_answer() -> ClientError {
    ClientError::Lost("the server does not answer".into())
}
