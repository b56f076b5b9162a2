//! One-shot commands: one errand, then leave. For scripts, and for people in a hurry.

use std::fs::{self, File};
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::error::ClientError;
use super::event::{Event, Events};
use super::listing::{FileList, Roll, Step};
use super::report::{self, Finished, Report};
use super::show::Screen;
use super::transfers::{Reaction, Transfers, View, Want, What};
use super::typed::Typed;
use super::{Action, DOWNLOADS_FOLDER, Options};
use crate::transfer::TransferError;
use crate::transfer::sink::Target;
use crate::wire::ErrorCode;
use crate::wire::message::{ClientMessage, ServerMessage, Transport};
use crate::wire::name::{FileName, Nick};
use crate::wire::text;

/// How long the server may be silent when it owes an answer. Ours: with its default limits it never takes a second.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// How long to wait for the server's good-bye.
const LEAVE_MAX: Duration = Duration::from_secs(5);

/// How often the progress bar moves.
const TICK: Duration = Duration::from_millis(100);

/// The PING behind a message: its PONG says that everything before it has been dealt with.
const SAID: &str = "said";

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
            Action::Get { name, output, transport } => {
                let name = parse_name(name)?;
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
        words: format!("{}: no shared file can be called so; choose a name with `as NAME`", path.display()),
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
        Errand::Move(want) => {
            one_shot.transfer(transfers, want).map(Report::Transfer).and_then(|r| one_shot.screen.show(&r))
        }
        Errand::GetToStdout(want, folder) => one_shot.get_to_stdout(transfers, want, folder),
    }?;
    events.leave(LEAVE_MAX);
    Ok(())
}

struct OneShot<'a> {
    events: &'a mut Events,
    screen: &'a mut Screen,
}

impl OneShot<'_> {
    /// The next thing that the server says within `patience`; a session that is not regained is an error.
    fn hear(&mut self, patience: Option<Duration>) -> Result<ServerMessage, ClientError> {
        let deadline = patience.map(|patience| Instant::now() + patience);
        loop {
            match self.events.next(deadline) {
                Event::Server(message) => return Ok(message),
                Event::Lost { why, .. } => self.screen.show(&Report::Lost { reason: why })?,
                Event::Reconnected => self.show_reconnected()?,
                Event::GaveUp(error) => return Err(error),
                Event::Signal(signal) => return Err(ClientError::Signal(signal)),
                Event::Tick => return Err(no_answer()),
                Event::Transfer(_) | Event::Typed(_) => {}
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
        loop {
            match self.hear(Some(ANSWER_MAX))? {
                ServerMessage::Pong(text) if text == SAID => break,
                ServerMessage::Err { code, words, .. } => return Err(ClientError::Refused { code, words }),
                _ => {}
            }
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
            complete = match self.hear(Some(ANSWER_MAX))? {
                ServerMessage::Users(total, nicks) => roll.on_users(total, nicks),
                ServerMessage::Err { code, words, .. } => return Err(ClientError::Refused { code, words }),
                _ => false,
            };
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
            let step = match self.hear(Some(ANSWER_MAX))? {
                ServerMessage::Files(count) => list.on_count(count),
                ServerMessage::File(entry) => list.on_file(entry),
                ServerMessage::Err { code, words, .. } => return Err(ClientError::Refused { code, words }),
                _ => Step::Wait,
            };
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
        let mut bar = ProgressBar::hidden();
        let mut asked = None;
        let mut reactions = transfers.ask(want);
        loop {
            for reaction in reactions {
                match reaction {
                    Reaction::Say(message) => self.events.session.say(message),
                    Reaction::Tell(Report::Started { name, bytes, .. }) => bar = self.bar(name, bytes),
                    Reaction::Tell(Report::Progress { .. }) => {}
                    Reaction::Tell(report) => bar.suspend(|| self.screen.note(&report))?,
                    Reaction::Ask(view) => bar.suspend(|| self.ask(&view)).map(|()| asked = Some(view))?,
                    Reaction::Finished(finished) => return Ok(finished),
                    Reaction::Failed(failed) => return Err(failed.into()),
                    Reaction::Refused { name, code, words } => {
                        return Err(ClientError::NotOffered { name: name.to_string(), code, words });
                    }
                }
            }
            reactions = match self.events.next(Some(Instant::now() + TICK)) {
                // The talk of the others is not what was asked for.
                Event::Server(message) => transfers.on_server(message).unwrap_or_default(),
                Event::Lost { why, .. } => {
                    bar = ProgressBar::hidden();
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
                Event::Signal(signal) => return Err(ClientError::Signal(signal)),
                Event::Tick if transfers.unanswered_since().is_some_and(is_late) => return Err(no_answer()),
                Event::Tick => transfers.on_tick(Instant::now()),
                Event::Typed(typed) => match (goes_on(&typed), &asked) {
                    (Some(goes_on), Some(_)) => transfers.answer(None, goes_on).unwrap_or_default(),
                    (None, Some(view)) => bar.suspend(|| self.ask(view)).map(|()| Vec::new())?,
                    (_, None) => Vec::new(),
                },
            };
            if let Some(view) = transfers.views().first() {
                bar.set_position(view.moved_bytes);
            }
        }
    }

    /// Asks whether a download shall go on; the answer comes as a typed line.
    fn ask(&mut self, view: &View) -> Result<(), ClientError> {
        let (name, size) = (view.name.to_string(), view.size.unwrap_or_default());
        let question = report::question(&name, view.moved_bytes, size, view.since.elapsed());
        self.screen.ask_for_line(&format!("{question} [Y/n] "));
        let what = || "read the answer".to_owned();
        self.events.read_typed().map_err(|source| ClientError::System { what: what(), source })
    }

    /// A bar on standard error; indicatif shows it at a terminal alone, and it goes when dropped.
    fn bar(&self, name: String, bytes: u64) -> ProgressBar {
        if self.screen.json || self.screen.quiet {
            return ProgressBar::hidden();
        }
        let template = "{msg} {percent:>3} % [{bar:24}] {decimal_bytes} of {decimal_total_bytes}, \
                        {decimal_bytes_per_sec}, {eta} left";
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        ProgressBar::new(bytes).with_style(style).with_message(name)
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

fn no_answer() -> ClientError {
    ClientError::Lost(format!("no answer within {} s", ANSWER_MAX.as_secs()))
}
