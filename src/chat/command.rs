//! What a person may type in the room: one line becomes one [`Command`], without any effect.
//!
//! A line that begins with `/` is a command, and `//x` says `/x`. The bare words of older rooms are in [`legacy`].
//!
//! [`legacy`]: super::legacy

mod help;

use std::fmt;

pub use self::help::{help, help_about, names};
use crate::wire::message::Transport;
use crate::wire::name::{FileName, Nick};
use crate::wire::text::sanitise;

/// What one typed line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Say it to whoever is being talked to: the room, or one person.
    Say(String),
    /// Talk to the room from now on.
    All,
    /// Talk to this person alone from now on.
    Query(Nick),
    /// Whisper once.
    Msg(Nick, String),
    /// Whisper to whoever whispered last.
    Reply(String),
    /// Who is here?
    Who,
    /// What is on the shelf?
    Files,
    /// Fetch a file.
    Get {
        /// Which one.
        file: Wanted,
        /// The name to give it here, where it is not to keep its own.
        save_as: Option<FileName>,
        /// How its octets shall travel, where it matters.
        transport: Option<Transport>,
    },
    /// Put a file on the shelf.
    Put {
        /// Where it lies here.
        path: String,
        /// The name to give it there, where it is not to keep its own.
        save_as: Option<FileName>,
        /// How its octets shall travel, where it matters.
        transport: Option<Transport>,
    },
    /// How far are the transfers?
    Transfers,
    /// End this transfer, and remove what has come of it.
    Cancel(u32),
    /// End this transfer for now.
    Pause(u32),
    /// Go on with this transfer.
    Resume(u32),
    /// Answer the question about this transfer, or about the only one: shall it go on?
    Answer(Option<u32>, bool),
    /// Be called so from now on.
    Nick(Nick),
    /// What can be typed? Or: what about this command?
    Help(Option<String>),
    /// Leave.
    Quit,
}

/// A file as a person names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// By its name.
    Name(FileName),
    /// By its number in the list shown last, from 1.
    Number(usize),
}

/// The commands: what to type, what it takes, what it does. `/help` shows it, and nothing else is known.
const COMMANDS: [(&str, &str, &str); 18] = [
    ("/all", "", "talk to everyone (set_msg_all)"),
    ("/query", "NICK", "talk to NICK alone (set_msgNICK)"),
    ("/msg", "NICK TEXT", "whisper once"),
    ("/r", "TEXT", "answer whoever whispered last"),
    ("/who", "", "who is here (get_users)"),
    ("/files", "", "what can be fetched (get_list_file)"),
    ("/get", "NAME|NUMBER [as NAME] [--udp|--tcp]", "fetch a file (download_file NAME)"),
    ("/put", "PATH [as NAME] [--udp|--tcp]", "put a file on the shelf"),
    ("/transfers", "", "how far downloads and uploads are"),
    ("/pause", "N", "stop transfer N, to go on later"),
    ("/resume", "N", "go on with transfer N"),
    ("/cancel", "N", "end transfer N for good"),
    ("/yes", "[N]", "let transfer N go on, when asked"),
    ("/no", "[N]", "end transfer N, when asked"),
    ("/nick", "NICK", "be called NICK"),
    ("/help", "[COMMAND]", "this list, or more of one command"),
    ("/quit", "", "leave (disconnect)"),
    ("//...", "", "say something that begins with /"),
];

/// A line that is meant as a command and is none. It is never said to the room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandError {
    /// No such command; perhaps this one was meant.
    Unknown(String, Option<&'static str>),
    /// The command is there, but takes something else.
    Usage(&'static str, &'static str),
    /// Not a nickname.
    Nick(String),
    /// Not a file name.
    FileName(String),
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(word, meant) => {
                write!(f, "there is no command {}", sanitise(word))?;
                if let Some(meant) = meant {
                    write!(f, ", did you mean {meant}?")?;
                }
                f.write_str(" (/help lists them; to say a line that begins with / type // instead)")
            }
            Self::Usage(command, "") => write!(f, "{command} takes nothing more: type it alone"),
            Self::Usage(command, takes) => write!(f, "type {command} {takes}"),
            Self::Nick(text) => {
                write!(f, "{:?} cannot be a nickname; /who lists who is here", sanitise(text))
            }
            Self::FileName(text) => {
                write!(f, "{:?} cannot be the name of a file; /files lists what there is", sanitise(text))
            }
        }
    }
}

impl std::error::Error for CommandError {}

/// Reads one typed line; `None` when there is nothing in it.
pub fn parse(line: &str) -> Result<Option<Command>, CommandError> {
    let line = line.trim_end_matches(['\r', '\n']);
    if line.trim().is_empty() {
        return Ok(None);
    }
    match line.strip_prefix('/') {
        Some(said) if said.starts_with('/') => Ok(Some(Command::Say(said.into()))),
        Some(_) => parse_slash(line.trim_end()).map(Some),
        None => Ok(Some(Command::Say(line.into()))),
    }
}

fn parse_slash(line: &str) -> Result<Command, CommandError> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let rest = rest.trim_start();
    let word = word.to_ascii_lowercase();
    let alone = |command: Command, name| if rest.is_empty() { Ok(command) } else { Err(usage(name)) };
    match word.as_str() {
        "/all" => alone(Command::All, "/all"),
        "/who" => alone(Command::Who, "/who"),
        "/files" => alone(Command::Files, "/files"),
        "/transfers" => alone(Command::Transfers, "/transfers"),
        "/help" if rest.contains(' ') => Err(usage("/help")),
        "/help" => Ok(Command::Help((!rest.is_empty()).then(|| rest.into()))),
        "/quit" => alone(Command::Quit, "/quit"),
        "/query" if !rest.is_empty() => parse_nick(rest).map(Command::Query),
        "/nick" if !rest.is_empty() => parse_nick(rest).map(Command::Nick),
        "/r" if !rest.is_empty() => Ok(Command::Reply(rest.into())),
        "/msg" => {
            let (nick, text) = rest.split_once(' ').ok_or(usage("/msg"))?;
            Ok(Command::Msg(parse_nick(nick)?, text.into()))
        }
        "/get" => parse_get(rest),
        "/put" => parse_put(rest),
        "/cancel" => rest.parse().map(Command::Cancel).map_err(|_| usage("/cancel")),
        "/pause" => rest.parse().map(Command::Pause).map_err(|_| usage("/pause")),
        "/resume" => rest.parse().map(Command::Resume).map_err(|_| usage("/resume")),
        "/yes" | "/no" => {
            let number = if rest.is_empty() { None } else { Some(rest.parse().map_err(|_| usage(&word))?) };
            Ok(Command::Answer(number, word == "/yes"))
        }
        "/query" | "/nick" | "/r" => Err(usage(&word)),
        _ => Err(CommandError::Unknown(word.clone(), meant(&word))),
    }
}

/// `NAME|NUMBER [as NAME] [--udp|--tcp]`.
fn parse_get(arguments: &str) -> Result<Command, CommandError> {
    let Arguments { file, is_quoted, save_as, transport } = parse_arguments(arguments, "/get")?;
    let file = match file.parse() {
        Ok(number) if !is_quoted => Wanted::Number(number),
        _ => Wanted::Name(parse_file_name(file)?),
    };
    Ok(Command::Get { file, save_as, transport })
}

/// `PATH [as NAME] [--udp|--tcp]`.
fn parse_put(arguments: &str) -> Result<Command, CommandError> {
    let Arguments { file, save_as, transport, .. } = parse_arguments(arguments, "/put")?;
    Ok(Command::Put { path: file.into(), save_as, transport })
}

struct Arguments<'a> {
    file: &'a str,
    is_quoted: bool,
    save_as: Option<FileName>,
    transport: Option<Transport>,
}

/// `FILE [as NAME] [--udp|--tcp]`; a file in double quotes may itself hold ` as ` or be a number.
fn parse_arguments<'a>(arguments: &'a str, command: &str) -> Result<Arguments<'a>, CommandError> {
    let mut rest = arguments;
    let mut transport = None;
    while let Some((without, which)) = strip_transport(rest) {
        if transport.replace(which).is_some() {
            return Err(usage(command));
        }
        rest = without;
    }
    let (file, save_as) = match rest.strip_prefix('"').and_then(|quoted| quoted.split_once('"')) {
        Some((file, "")) => (file, None),
        Some((file, after)) => {
            let save_as = after.trim_start().strip_prefix("as ").ok_or(usage(command))?;
            (file, Some(save_as.trim_start()))
        }
        None => match rest.rsplit_once(" as ") {
            Some((file, save_as)) => (file.trim_end(), Some(save_as.trim_start())),
            None => (rest, None),
        },
    };
    if file.is_empty() {
        return Err(usage(command));
    }
    let save_as = save_as.map(|name| parse_file_name(name.trim_matches('"'))).transpose()?;
    Ok(Arguments { file, is_quoted: rest.starts_with('"'), save_as, transport })
}

/// Takes `--udp` or `--tcp` off either end.
fn strip_transport(arguments: &str) -> Option<(&str, Transport)> {
    [("--udp", Transport::Udp), ("--tcp", Transport::Tcp)].into_iter().find_map(|(flag, which)| {
        let before = arguments.strip_suffix(flag).filter(|before| before.is_empty() || before.ends_with(' '));
        let after = || arguments.strip_prefix(flag).filter(|after| after.starts_with(' '));
        Some((before.or_else(after)?.trim(), which))
    })
}

fn parse_nick(text: &str) -> Result<Nick, CommandError> {
    Nick::parse(text).map_err(|_| CommandError::Nick(text.into()))
}

fn parse_file_name(text: &str) -> Result<FileName, CommandError> {
    FileName::parse(text).map_err(|_| CommandError::FileName(text.into()))
}

fn usage(name: &str) -> CommandError {
    let found = COMMANDS.iter().find(|(known, ..)| *known == name);
    let &(name, takes, _) = found.expect("only the names of COMMANDS are asked for");
    CommandError::Usage(name, takes)
}

/// The command that differs from this word by at most two letters.
fn meant(word: &str) -> Option<&'static str> {
    /// Ours: one slip of the finger, or two letters exchanged.
    const DISTANCE_MAX: usize = 2;
    let measure = |name| (edit_distance(word, name), letters(word) != letters(name), name);
    let (distance, _, nearest) = COMMANDS.iter().map(|&(name, ..)| measure(name)).min()?;
    // A short word differs little from anything: half of its letters at least must be right.
    (distance <= DISTANCE_MAX.min(word.len().saturating_sub(1) / 2)).then_some(nearest)
}

/// The command word of the command line that a nickname looks like: one letter is wrong, or two of a long word, or two
/// have changed places.
pub fn meant_word(nick: &str, words: &[&'static str]) -> Option<&'static str> {
    /// Ours: below it two wrong letters leave hardly any right.
    const LONG: usize = 5;
    let nick = nick.to_lowercase();
    let is_near = |word: &&&str| match edit_distance(&nick, word) {
        0 | 1 => true,
        2 => word.len() >= LONG || letters(word) == letters(&nick),
        _ => false,
    };
    words.iter().find(is_near).copied()
}

/// The letters of a word, whatever their places.
fn letters(word: &str) -> Vec<char> {
    let mut letters: Vec<char> = word.chars().collect();
    letters.sort_unstable();
    letters
}

/// How many letters must be inserted, deleted or replaced to make one word of the other (Levenshtein).
fn edit_distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().take(32).collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().take(32).enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, &b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests;
