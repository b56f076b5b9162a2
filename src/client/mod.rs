//! The client: a session with a server and its faces, the console for people and one-shot commands for scripts.
//!
//! The main thread owns all state and waits in one place, [`event::Events::next`]; threads for the two halves of the
//! session, for its regaining, standard input, signals and transfers tell it what happened over bounded channels.

pub mod address;
pub mod ask;
mod bar;
mod carrier;
pub mod console;
pub mod diagnosis;
mod doctor;
pub mod errand;
pub mod error;
pub mod event;
pub mod listing;
pub mod look;
mod next_step;
pub mod oneshot;
pub mod reconnect;
pub mod report;
pub mod session;
pub mod show;
pub mod signals;
pub mod terminal;
mod tokens;
pub mod transfer;
pub mod transfers;
pub mod typed;
pub mod unconfirmed;

use std::io::{self, IsTerminal, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use self::address::Address;
use self::error::ClientError;
use self::event::Events;
use self::reconnect::Plan;
use self::session::{Answer, Session};
use self::show::{ColorWhen, Screen};
use self::signals::SignalSource;
use self::terminal::Terminal;
use self::transfers::Transfers;
use crate::chat::legacy::{LegacyWords, Obeyed};
use crate::transfer::tuning::Tuning;
use crate::wire::ErrorCode;
use crate::wire::message::Transport;
use crate::wire::name::Nick;

/// Where downloads go unless told otherwise.
pub const DOWNLOADS_FOLDER: &str = "downloads";

/// How often another guest name is tried. Ours: two of 65,536 rarely meet, eight never.
const GUEST_NAMES_MAX: usize = 8;

/// How long a lost session is tried to be regained where a person waits for it. Ours: a server's machine has started
/// again by then.
const RECONNECT_PERSON: Duration = Duration::from_secs(5 * 60);

/// The same for scripts. Ours: a server has started again by then, and nobody is there to end the waiting.
const RECONNECT_SCRIPT: Duration = Duration::from_secs(60);

/// How long the server may take to say good-bye to somebody who is ending anyway.
const FAREWELL_MAX: Duration = Duration::from_millis(300);

/// What the client shall do.
#[derive(Debug, Clone)]
pub struct Options {
    /// The server.
    pub address: Address,
    /// The nick, where one is given beside the address.
    pub nick: Option<String>,
    /// What to do there.
    pub action: Action,
    /// One JSON object per event or result, and nothing else on standard output.
    pub json: bool,
    /// Tell less.
    pub quiet: bool,
    /// Lines as the terminal itself edits them, and nothing that moves its cursor.
    pub plain: bool,
    /// When colours are used.
    pub color: ColorWhen,
    /// Never ask a person.
    pub no_input: bool,
    /// Answer every question with yes.
    pub yes: bool,
    /// Which typed lines are commands.
    pub obeyed: Obeyed,
    /// How long a lost session is tried to be regained; zero is not at all.
    pub reconnect_for: Option<Duration>,
    /// How the UDP socket and its connections behave.
    pub tuning: Tuning,
}

/// What to do on the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Talk, on a terminal or through a pipe.
    Talk,
    /// Say one thing.
    Msg {
        /// What.
        text: String,
        /// To whom, if not to the room.
        to: Option<String>,
    },
    /// List who is here.
    Who,
    /// List what is on the shelf.
    Files,
    /// Fetch one file.
    Get {
        /// Its name on the shelf.
        name: String,
        /// Where it shall lie; `-` is standard output, absent is the downloads folder.
        output: Option<PathBuf>,
        /// How its octets shall travel, where it matters.
        transport: Option<Transport>,
    },
    /// Put one file on the shelf.
    Put {
        /// Where it lies.
        path: PathBuf,
        /// Its name there, where it is not to keep its own.
        save_as: Option<String>,
        /// How its octets shall travel, where it matters.
        transport: Option<Transport>,
    },
    /// Print what happens.
    Listen,
    /// Test the way to the server.
    Doctor,
}

impl Action {
    /// Whether others see who does it. The rest is done by guests, and a nick from the environment is not claimed for it.
    pub fn is_seen(&self) -> bool {
        !matches!(self, Action::Who | Action::Files | Action::Get { .. } | Action::Doctor)
    }
}

/// Runs the client to its end and gives the exit code; what failed has been told.
pub fn run(options: &Options) -> u8 {
    let talk = options.action == Action::Talk;
    let mut screen = Screen {
        json: options.json,
        quiet: options.quiet,
        interactive: talk && !options.json && io::stdin().is_terminal() && io::stdout().is_terminal(),
        ..Screen::default()
    };
    let ended = try_run(options, &mut screen);
    let Err(error) = ended else {
        screen.finish();
        return 0;
    };
    // Whoever has pressed ^C twice knows why this ends.
    let is_told = matches!(error, ClientError::OutputClosed)
        || screen.interactive && matches!(error, ClientError::Signal(signal_hook::consts::SIGINT));
    // While the terminal is still ours: there lines are broken between words.
    if !is_told && let Err(error) = screen.erase().and_then(|()| screen.complain_of(&error)) {
        log::debug!("the failure could not be told: {error}");
    }
    screen.finish();
    error.exit_code()
}

/// Tells why there is nothing to run, and gives the exit code.
pub fn fail(json: bool, error: &ClientError) -> u8 {
    let mut screen = Screen { json, ..Screen::default() };
    if let Err(error) = screen.complain_of(error) {
        log::debug!("the failure could not be told: {error}");
    }
    error.exit_code()
}

fn try_run(options: &Options, screen: &mut Screen) -> Result<(), ClientError> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |source| ClientError::System { what, source }
    };
    let signals = SignalSource::start().map_err(failed("wait for signals"))?;
    // What cannot be done is refused before anybody is bothered.
    let errand = errand::Errand::prepare(options)?;
    let (session, guest) = log_in(options, screen)?;
    let mut transfers = Transfers::new(session.server, session.rtt, options.tuning.clone());
    if screen.interactive && !options.plain && terminal::can_edit() {
        screen.terminal = Terminal::open().inspect_err(|error| log::info!("a plain terminal: {error}")).ok();
    }
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    screen.colour = match options.color {
        ColorWhen::Auto => screen.terminal.is_some() && !no_color,
        ColorWhen::Always => true,
        ColorWhen::Never => false,
    };
    let never_asks = options.yes || options.no_input;
    // Whom nobody may ask is no person either: lines are what they are, however fast they come.
    let inputs = screen.terminal.as_ref().map(|_| terminal::start(!never_asks)).transpose();
    let inputs = inputs.map_err(failed("read the terminal"))?;
    let typed = match (&errand, &inputs) {
        (None, None) => Some(typed::start().map_err(failed("read standard input"))?),
        _ => None,
    };
    let plan = Plan {
        address: options.address.clone(),
        quiet: options.action != Action::Talk,
        patience: match options.action {
            // Their answer would come from another session than their question.
            Action::Msg { .. } | Action::Who | Action::Files | Action::Doctor => Duration::ZERO,
            _ if screen.interactive => options.reconnect_for.unwrap_or(RECONNECT_PERSON),
            _ => options.reconnect_for.unwrap_or(RECONNECT_SCRIPT),
        },
    };
    let mut events = Events::new(session, plan, transfers.events(), typed, signals.listen());
    events.inputs = inputs;
    let ended = match errand {
        None => {
            console::talk(&mut events, &mut transfers, screen, never_asks, LegacyWords::new(options.obeyed))
        }
        Some(errand) => oneshot::run(errand, guest, &mut events, &mut transfers, screen),
    };
    transfers.close();
    if ended.is_err() {
        events.leave(FAREWELL_MAX);
    }
    ended
}

/// Connects and says HELLO until a nick is accepted; tells also whether it is a guest's.
fn log_in(options: &Options, screen: &mut Screen) -> Result<(Session, bool), ClientError> {
    let one_shot = options.action != Action::Talk;
    let may_ask = !options.no_input && io::stdin().is_terminal() && io::stderr().is_terminal();
    let mut wish = options.nick.clone().or_else(|| options.address.nick.clone());
    if wish.is_none() && !one_shot && may_ask {
        // Nobody chooses a nickname for a server that is not there.
        session::connect(&options.address)?;
        wish = ask_nick(screen)?;
    }
    let mut guest_names = 0;
    loop {
        let guest = wish.is_none();
        let text = wish.take().map_or_else(guest_name, Ok)?;
        // A new connection each time: while a person thinks, the server closes one that has not said HELLO.
        let refusal = match Nick::parse(&text) {
            Ok(nick) => match session::connect(&options.address)?.hello(&nick, one_shot)? {
                Answer::Welcome(session) => return Ok((session, guest)),
                Answer::Refused {
                    code: code @ (ErrorCode::NickTaken | ErrorCode::BadNick), words, ..
                } => {
                    format!("{nick} ({code}): {words}")
                }
                Answer::Refused { code, words, .. } => {
                    return Err(ClientError::refused_login(&options.address, code, words));
                }
            },
            Err(error) => format!("{text:?}: {error}"),
        };
        guest_names += 1;
        if guest && guest_names < GUEST_NAMES_MAX {
            continue;
        }
        if !may_ask {
            return Err(ClientError::Nick(refusal));
        }
        screen.complain("nick", &refusal)?;
        wish = ask_nick(screen)?;
    }
}

/// The nick that a person chooses; `None` for one who only presses Enter.
fn ask_nick(screen: &mut Screen) -> Result<Option<String>, ClientError> {
    match screen.ask("your nickname: ")? {
        Some(answer) => Ok(Some(answer).filter(|answer| !answer.is_empty())),
        None => {
            // The question's line ends.
            let _ = writeln!(io::stderr());
            Err(ClientError::Nick("no nickname was given".into()))
        }
    }
}

fn guest_name() -> Result<String, ClientError> {
    let mut bytes = [0; 2];
    getrandom::fill(&mut bytes).map_err(|error| ClientError::System {
        what: "get random numbers for a guest name".into(),
        source: io::Error::other(error),
    })?;
    Ok(format!("guest-{:04x}", u16::from_be_bytes(bytes)))
}
