//! One-shot commands: one errand, then leave. For scripts, and for people in a hurry.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::downloads::{Downloads, Reaction, Want};
use super::error::ClientError;
use super::event::{Event, Events};
use super::listing::{FileList, Roll, Step};
use super::report::{Fetched, Report};
use super::show::Screen;
use super::{Action, DOWNLOADS_FOLDER};
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
    /// Fetch a file, to the disk.
    Get(Want),
    /// Fetch a file, for standard output; it waits in a folder of its own until it is verified.
    GetToStdout(Want, PrivateFolder),
    /// Print what happens.
    Listen,
}

impl Errand {
    /// Checks the command; `None` for talk.
    pub fn prepare(action: &Action, json: bool) -> Result<Option<Errand>, ClientError> {
        Ok(Some(match action {
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
                let refused = |_| ClientError::Refused {
                    code: ErrorCode::BadName,
                    words: format!("no shared file can be called {name:?}"),
                };
                let name = FileName::parse(name).map_err(refused)?;
                prepare_get(name, output.as_deref(), *transport, json)?
            }
        }))
    }
}

fn prepare_get(
    name: FileName,
    output: Option<&Path>,
    transport: Option<Transport>,
    json: bool,
) -> Result<Errand, ClientError> {
    let want = |name, target| Want {
        name,
        target,
        transport: transport.unwrap_or(Transport::Udp),
        fall_back: transport.is_none(),
    };
    match output {
        None => Ok(Errand::Get(want(name.clone(), Target::Folder(DOWNLOADS_FOLDER.into(), name)))),
        Some(path) if path == Path::new("-") => {
            if json {
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
            Ok(Errand::Get(want(name, Target::Path(path.to_owned()))))
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
    downloads: &mut Downloads,
    screen: &mut Screen,
) -> Result<(), ClientError> {
    let mut one_shot = OneShot { events, screen, last_code: None };
    match errand {
        Errand::Msg(text, to) => one_shot.msg(&text, to.as_ref()),
        Errand::Who => one_shot.who(guest),
        Errand::Files => one_shot.files(),
        Errand::Listen => one_shot.listen(),
        Errand::Get(want) => {
            one_shot.get(downloads, want).map(Report::Transfer).and_then(|r| one_shot.screen.show(&r))
        }
        Errand::GetToStdout(want, folder) => one_shot.get_to_stdout(downloads, want, folder),
    }?;
    events.leave(LEAVE_MAX);
    Ok(())
}

struct OneShot<'a> {
    events: &'a mut Events,
    screen: &'a mut Screen,
    /// The code of the server's last line, where that was an ERR.
    last_code: Option<ErrorCode>,
}

impl OneShot<'_> {
    /// The next thing that the server says within `patience`; every end of the session is an error here.
    fn hear(&mut self, patience: Option<Duration>) -> Result<ServerMessage, ClientError> {
        let deadline = patience.map(|patience| Instant::now() + patience);
        loop {
            match self.events.next(deadline) {
                Event::Server(ServerMessage::Bye(reason)) => {
                    return Err(ClientError::bye(reason, self.last_code));
                }
                Event::Server(message) => {
                    self.last_code = message.error_code();
                    return Ok(message);
                }
                Event::Lost(why) => return Err(ClientError::Lost(why)),
                Event::Signal(signal) => return Err(ClientError::Signal(signal)),
                Event::Tick => return Err(no_answer()),
                Event::Transfer(_) | Event::Typed(_) => {}
            }
        }
    }

    fn msg(&mut self, text: &str, to: Option<&Nick>) -> Result<(), ClientError> {
        for piece in text::pieces(text) {
            self.events.session.say(&match to {
                Some(to) => ClientMessage::Pm(to.clone(), piece.into()),
                None => ClientMessage::All(piece.into()),
            });
        }
        self.events.session.say(&ClientMessage::Ping(SAID.into()));
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
        self.events.session.say(&ClientMessage::Who);
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
        self.events.session.say(&ClientMessage::Files(None));
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
                Step::Ask(after) => self.events.session.say(&ClientMessage::Files(Some(after))),
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
        downloads: &mut Downloads,
        want: Want,
        folder: PrivateFolder,
    ) -> Result<(), ClientError> {
        self.screen.lines_to_stderr = true;
        let fetched = self.get(downloads, want)?;
        let what = format!("read {}", fetched.path);
        let file = File::open(&fetched.path).map_err(|source| ClientError::System { what, source })?;
        // Only the open file is left of it, so that nothing stays behind however the copying ends.
        drop(folder);
        self.screen.copy(file)?;
        self.screen.show(&Report::Transfer(Fetched { path: "-".into(), ..fetched }))
    }

    fn get(&mut self, downloads: &mut Downloads, want: Want) -> Result<Fetched, ClientError> {
        let is_late = |since: Instant| since.elapsed() > ANSWER_MAX;
        let mut bar = None;
        let mut reactions = downloads.ask(want);
        loop {
            for reaction in reactions {
                match reaction {
                    Reaction::Say(message) => self.events.session.say(&message),
                    Reaction::Tell(Report::Started { name, bytes, .. }) => bar = Some(self.bar(name, bytes)),
                    Reaction::Tell(Report::Progress { .. }) => {}
                    Reaction::Tell(report) => self.screen.show(&report)?,
                    Reaction::Fetched(fetched) => return Ok(fetched),
                    Reaction::Failed(failed) => return Err(failed.into()),
                    Reaction::Refused { name, code, words } => {
                        return Err(ClientError::NotOffered { name: name.to_string(), code, words });
                    }
                }
            }
            reactions = match self.events.next(Some(Instant::now() + TICK)) {
                Event::Server(ServerMessage::Bye(reason)) => match ClientError::bye(reason, self.last_code) {
                    ClientError::Closed(reason) => downloads.on_lost(&reason),
                    kicked => return Err(kicked),
                },
                Event::Server(message) => {
                    self.last_code = message.error_code();
                    // The talk of the others is not what was asked for.
                    downloads.on_server(message).unwrap_or_default()
                }
                Event::Transfer(event) => downloads.on_transfer(event),
                Event::Lost(why) => downloads.on_lost(&why),
                Event::Signal(signal) => return Err(ClientError::Signal(signal)),
                Event::Tick if downloads.unanswered_since().is_some_and(is_late) => return Err(no_answer()),
                Event::Tick => downloads.on_tick(Instant::now()),
                Event::Typed(_) => Vec::new(),
            };
            if let (Some(bar), Some(view)) = (&bar, downloads.views().first()) {
                bar.set_position(view.moved_bytes);
            }
        }
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

fn no_answer() -> ClientError {
    ClientError::Lost(format!("no answer within {} s", ANSWER_MAX.as_secs()))
}
