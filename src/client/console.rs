//! The console: a person, or a pipe, talks in the room.

mod heard;
mod link;
mod moving;
mod typing;

use self::typing::Typing;

use std::time::{Duration, Instant};

use super::error::ClientError;
use super::event::{Event, Events};
use super::listing::{FileList, Roll};
use super::report::Report;
use super::show::Screen;
use super::transfers::Transfers;
use super::typed::Typed;
use crate::chat::command::{self, Command, Wanted};
use crate::chat::legacy::LegacyWords;
use crate::wire::message::{ClientMessage, FileEntry, ServerMessage};
use crate::wire::name::Nick;
use crate::wire::text;

/// How often transfers are looked at.
const TICK: Duration = Duration::from_millis(250);

/// How long the server may be silent once the input has ended. Ours: as long as a transfer may.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// For each line that we have said it may be silent longer by this: so slowly does a server take them at its default
/// rate, and whispers are answered by nothing.
const SILENCE_PER_LINE: Duration = Duration::from_millis(200);

/// How long `/quit` waits for the server's good-bye.
const QUIT_MAX: Duration = Duration::from_secs(2);

/// Talks until the input ends, `/quit` is typed or the session is over.
pub fn talk(
    events: &mut Events,
    transfers: &mut Transfers,
    screen: &mut Screen,
    never_asks: bool,
    legacy: LegacyWords,
) -> Result<(), ClientError> {
    let mut console = Console {
        events,
        transfers,
        partner: None,
        whisperer: None,
        shelf: Vec::new(),
        file_list: None,
        by_number: Vec::new(),
        roll: None,
        leaving: Leaving::No,
        never_asks,
        legacy,
        heard_at: Instant::now(),
        tick_at: Instant::now(),
        typing: screen.terminal.as_ref().map(|_| Typing::new()),
        screen,
    };
    let end = console.run();
    console.tell_unsaid_paste()?;
    end
}

/// How far the end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaving {
    No,
    /// The input has ended: what is under way shall end well first.
    WhenIdle,
    /// QUIT has been said after everything else. A server that takes lines slowly needs its time to come to it.
    AfterBye,
    /// `/quit`: no longer than until then.
    By(Instant),
}

struct Console<'a> {
    events: &'a mut Events,
    transfers: &'a mut Transfers,
    screen: &'a mut Screen,
    /// Whom we talk to alone.
    partner: Option<Nick>,
    /// Who whispered last.
    whisperer: Option<Nick>,
    /// The files as they were shown last: their numbers can be typed.
    shelf: Vec<FileEntry>,
    file_list: Option<FileList>,
    /// Files asked for by number while the list was on its way.
    by_number: Vec<Command>,
    roll: Option<Roll>,
    leaving: Leaving,
    /// Nobody is asked whether a download shall go on, or a paste be said: it does, and it is.
    never_asks: bool,
    legacy: LegacyWords,
    /// When anything happened last.
    heard_at: Instant,
    /// When transfers are looked at next, whatever happens until then.
    tick_at: Instant,
    /// The line being typed, at a terminal where we edit it.
    typing: Option<Typing>,
}

impl Console<'_> {
    fn run(&mut self) -> Result<(), ClientError> {
        let session = &self.events.session;
        let welcome = Report::Welcome { nick: session.nick.to_string(), server: session.server.to_string() };
        self.screen.own_nick = session.nick.to_string();
        self.screen.show(&welcome)?;
        if self.screen.interactive {
            self.notice("what you type is said to everyone; /help lists the commands")?;
        }
        self.ask_who_is_here();
        loop {
            if self.leaving != Leaving::No {
                self.tell_unsaid_paste()?;
            }
            if self.leaving == Leaving::WhenIdle && self.is_idle() && self.events.is_connected() {
                self.events.quit();
                self.leaving = Leaving::AfterBye;
            }
            let event = self.next_event()?;
            if !matches!(event, Event::Tick) || !self.transfers.is_idle() {
                self.heard_at = Instant::now();
            }
            match event {
                Event::Typed(typed) => self.on_typed(typed)?,
                Event::Input(input) => self.on_input(input)?,
                Event::Pasted(pasted) => self.on_pasted(pasted)?,
                // To our QUIT.
                Event::Server(ServerMessage::Bye(reason)) => {
                    return self.screen.show(&Report::Bye { reason });
                }
                Event::Server(message) => self.on_server(message)?,
                Event::Transfer(event) => {
                    let reactions = self.transfers.on_transfer(event);
                    self.react(reactions)?;
                }
                Event::Lost { why, unconfirmed } => self.on_lost(why, unconfirmed)?,
                Event::Reconnected => self.on_reconnected()?,
                Event::GaveUp(_) if matches!(self.leaving, Leaving::By(_)) => return Ok(()),
                Event::GaveUp(error) => return self.give_up(error),
                Event::Signal(signal) => return Err(ClientError::Signal(signal)),
                Event::Tick => {}
            }
            // A room that talks all the time leaves no time for a tick.
            let now = Instant::now();
            if matches!(self.leaving, Leaving::By(deadline) if deadline <= now) {
                return Ok(());
            }
            if self.give_up_at().is_some_and(|at| at <= now) {
                let why = "the input has ended, and nothing more is heard from the server";
                return Err(ClientError::Lost(why.into()));
            }
            if self.tick_at <= now {
                self.tick_at = now + TICK;
                let reactions = self.transfers.on_tick(now);
                self.react(reactions)?;
            }
        }
    }

    /// The next event; the prompt is shown when there is time for it.
    fn next_event(&mut self) -> Result<Event, ClientError> {
        if let Some(event) = self.events.try_next() {
            return Ok(event);
        }
        if self.leaving == Leaving::No {
            self.prompt()?;
        }
        Ok(self.events.next(self.deadline()))
    }

    fn is_idle(&self) -> bool {
        self.transfers.is_idle() && self.file_list.is_none() && self.roll.is_none()
    }

    fn deadline(&self) -> Option<Instant> {
        match self.leaving {
            Leaving::By(deadline) => Some(deadline),
            _ if self.transfers.is_idle() => self.give_up_at(),
            _ => Some(self.tick_at),
        }
    }

    /// When a server that says nothing after the end of the input is not waited for any more.
    fn give_up_at(&self) -> Option<Instant> {
        if !self.events.is_connected() {
            return None;
        }
        let patience = SILENCE_MAX.saturating_add(SILENCE_PER_LINE * self.events.session.lines_said);
        match self.leaving {
            Leaving::WhenIdle | Leaving::AfterBye if self.transfers.unanswered_since().is_none() => {
                Some(self.heard_at + patience)
            }
            Leaving::WhenIdle => self.transfers.unanswered_since().map(|since| since + patience),
            _ => None,
        }
    }

    fn prompt(&mut self) -> Result<(), ClientError> {
        if self.typing.is_some() {
            return self.draw();
        }
        let mut prompt = self.events.session.nick.to_string();
        if let Some(partner) = &self.partner {
            prompt = format!("{prompt}->{partner}");
        }
        if !self.events.is_connected() {
            prompt.push_str(" (away)");
        }
        self.screen.prompt(&format!("{prompt}> "))
    }

    fn notice(&mut self, text: &str) -> Result<(), ClientError> {
        self.screen.show(&Report::Notice { text: text.into() })
    }

    fn on_typed(&mut self, typed: Typed) -> Result<(), ClientError> {
        if typed != Typed::End {
            self.screen.on_typed();
        }
        match typed {
            _ if self.leaving != Leaving::No => Ok(()),
            Typed::Line(line) => self.on_line(&line),
            Typed::Unreadable(why) => self.screen.complain("bad-text", why),
            Typed::End => {
                self.leaving = Leaving::WhenIdle;
                Ok(())
            }
        }
    }

    fn on_line(&mut self, line: &str) -> Result<(), ClientError> {
        let (line, hint) = self.legacy.translate(line);
        hint.map_or(Ok(()), |hint| self.notice(&hint))?;
        match command::parse(&line) {
            Ok(Some(command)) => self.on_command(command),
            Ok(None) => Ok(()),
            Err(error) => self.screen.complain("command", &error.to_string()),
        }
    }

    fn on_command(&mut self, command: Command) -> Result<(), ClientError> {
        match command {
            Command::Say(text) => match self.partner.clone() {
                // At a terminal the line stands there already, behind a prompt that tells whom it is for.
                Some(partner) => self.whisper(&partner, &text, !self.screen.interactive),
                None => {
                    for piece in text::pieces(&text) {
                        self.events.session.say(ClientMessage::All(piece.into()));
                    }
                    Ok(())
                }
            },
            Command::All => {
                self.partner = None;
                self.notice("what you type is said to everyone")
            }
            Command::Query(nick) => {
                let text = format!("what you type is said to {nick} alone; /all talks to everyone again");
                self.partner = Some(nick);
                self.notice(&text)
            }
            Command::Msg(nick, text) => self.whisper(&nick, &text, true),
            Command::Reply(text) => match self.whisperer.clone() {
                Some(nick) => self.whisper(&nick, &text, true),
                None => {
                    self.screen.complain("command", "nobody has whispered to you yet; /msg NICK TEXT begins")
                }
            },
            Command::Who => {
                self.typing.iter_mut().for_each(Typing::show_roll);
                if self.roll.is_none() {
                    self.roll = Some(Roll::default());
                    self.events.session.say(ClientMessage::Who);
                }
                Ok(())
            }
            Command::Files => {
                self.typing.iter_mut().for_each(Typing::show_list);
                if self.file_list.is_none() {
                    self.file_list = Some(FileList::default());
                    self.events.session.say(ClientMessage::Files(None));
                }
                Ok(())
            }
            Command::Get { file: Wanted::Number(_), .. } if self.file_list.is_some() => {
                self.by_number.push(command);
                Ok(())
            }
            Command::Get { file, save_as, transport } => self.fetch(file, save_as, transport),
            Command::Transfers => {
                let views = self.transfers.views();
                if views.is_empty() {
                    return self.notice("no transfers are under way");
                }
                views.iter().try_for_each(|view| self.screen.show(&view.report()))
            }
            Command::Put { path, save_as, transport } => self.put(&path, save_as, transport),
            Command::Cancel(number) => {
                let reactions = self.transfers.cancel(number);
                self.react_or(
                    reactions,
                    &format!("no transfer has the number {number}; /transfers lists them"),
                )
            }
            Command::Pause(number) => {
                let reactions = self.transfers.pause(number);
                self.react_or(
                    reactions,
                    &format!(
                        "no transfer that could be paused has the number {number}; /transfers lists them"
                    ),
                )
            }
            Command::Resume(number) => {
                let reactions = self.transfers.resume(number);
                self.react_or(
                    reactions,
                    &format!("no transfer that is paused has the number {number}; /transfers lists them"),
                )
            }
            Command::Answer(number, goes_on) => {
                let reactions = self.transfers.answer(number, goes_on);
                self.react_or(reactions, "nothing was asked; /transfers lists what is under way")
            }
            Command::Nick(nick) => {
                self.events.session.say(ClientMessage::Nick(nick));
                Ok(())
            }
            Command::Help(None) => self.screen.tell(command::help()),
            Command::Help(Some(about)) => match command::help_about(&about) {
                Ok(lines) => self.screen.tell(lines),
                Err(error) => self.screen.complain("command", &error.to_string()),
            },
            Command::Quit => self.quit(),
        }
    }

    fn whisper(&mut self, to: &Nick, text: &str, is_shown: bool) -> Result<(), ClientError> {
        for piece in text::pieces(text) {
            self.events.session.say(ClientMessage::Pm(to.clone(), piece.into()));
            if is_shown {
                self.screen.show(&Report::Sent { to: Some(to.to_string()), text: piece.into() })?;
            }
        }
        Ok(())
    }

    fn quit(&mut self) -> Result<(), ClientError> {
        let under_way = self.transfers.views();
        if !under_way.is_empty() {
            let names: Vec<String> = under_way.iter().map(|view| view.name.to_string()).collect();
            let text = format!("not complete: {} (a later try goes on where it ends now)", names.join(", "));
            self.screen.complain("cancelled", &text)?;
            self.transfers.close();
        }
        let patience = if self.events.is_connected() { QUIT_MAX } else { Duration::ZERO };
        self.tell_unsaid()?;
        self.events.quit();
        self.leaving = Leaving::By(Instant::now() + patience);
        Ok(())
    }
}
