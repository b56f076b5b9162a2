//! What the client tells: one [`Report`] per event or result, as a line for people or as JSON for programs.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::diagnosis::{Check, Diagnosis};
use crate::wire::message::{FileEntry, ServerMessage};
use crate::wire::text::{is_printable, sanitise};

/// The version of the JSON events (`docs/JSON.md`), in every object as `v`.
pub const JSON_VERSION: u32 = 1;

/// One event or result. As JSON it is an object whose `type` is the variant's name in kebab case.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Report {
    /// We are in the room.
    Welcome {
        /// What we are called.
        nick: String,
        /// The server's address.
        server: String,
    },
    /// The connection is lost, and the client tries to come back.
    Lost {
        /// What happened.
        reason: String,
    },
    /// We are in the room again.
    Reconnected {
        /// What we are called.
        nick: String,
    },
    /// Somebody said something to the room.
    Message {
        /// Who.
        from: String,
        /// What.
        text: String,
    },
    /// Somebody whispered to us.
    Whisper {
        /// Who.
        from: String,
        /// What.
        text: String,
    },
    /// We said something: to one person, or to the room.
    Sent {
        /// To whom; the room where absent.
        to: Option<String>,
        /// What.
        text: String,
    },
    /// Somebody came.
    Join {
        /// Who.
        nick: String,
    },
    /// Somebody left.
    Leave {
        /// Who.
        nick: String,
    },
    /// Somebody, perhaps we, changed the nick.
    Nick {
        /// The nick before.
        old: String,
        /// The nick now.
        new: String,
    },
    /// The server speaks.
    System {
        /// What.
        text: String,
    },
    /// Who is here.
    Users {
        /// Everyone.
        nicks: Vec<String>,
    },
    /// What is on the shelf.
    Files {
        /// In order of name.
        files: Vec<FileLine>,
    },
    /// Somebody has put a file on the shelf.
    Shared {
        /// Who.
        nick: String,
        /// The file.
        name: String,
        /// Its size.
        bytes: u64,
    },
    /// A file begins to come, or to go.
    Started {
        /// The transfer's number in this client.
        number: u32,
        /// The file.
        name: String,
        /// Which way it goes.
        direction: Direction,
        /// Its size.
        bytes: u64,
        /// `udp` or `tcp`.
        transport: String,
    },
    /// A transfer on its way.
    Progress {
        /// The transfer's number in this client.
        number: u32,
        /// The file.
        name: String,
        /// Which way it goes.
        direction: Direction,
        /// What has arrived.
        bytes: u64,
        /// What there is, once that is known.
        #[serde(skip_serializing_if = "Option::is_none")]
        size: Option<u64>,
        /// What is happening with it.
        stage: &'static str,
    },
    /// A person is asked whether a transfer shall go on.
    Question {
        /// The transfer's number in this client.
        number: u32,
        /// What is asked.
        text: String,
    },
    /// A file is where it was wanted, verified, under its name.
    Transfer(Finished),
    /// The client itself has something to say.
    Notice {
        /// What.
        text: String,
    },
    /// What `doctor` has found of one thing.
    Check(Check),
    /// What it has found in all.
    Diagnosis(Diagnosis),
    /// The server says good-bye.
    Bye {
        /// Why, where it was not asked to.
        reason: String,
    },
    /// Something failed; people read it on stderr.
    Error {
        /// One word for programs.
        code: String,
        /// A sentence for people.
        message: String,
        /// The file that it is about.
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
}

/// A file of the shelf.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FileLine {
    /// Its name.
    pub name: String,
    /// Its size in octets.
    pub size: u64,
    /// When it last changed, in UTC.
    pub mtime: String,
}

impl From<&FileEntry> for FileLine {
    fn from(entry: &FileEntry) -> Self {
        Self { name: entry.name.to_string(), size: entry.size, mtime: entry.mtime.to_string() }
    }
}

/// Which way a file goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// From the shelf to here.
    Get,
    /// From here to the shelf.
    Put,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Get => "download",
            Self::Put => "upload",
        })
    }
}

/// A transfer that came to its good end.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finished {
    /// The file's name on the shelf.
    pub name: String,
    /// Which way it went.
    pub direction: Direction,
    /// Its octets.
    pub bytes: u64,
    /// So many of them had moved at an earlier try.
    pub resumed_from: u64,
    /// From the request to the last octet written, or acknowledged by the server; before its verification.
    pub seconds: f64,
    /// Likewise until the first octet of this try came; nobody knows it of a file that was put.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_byte_seconds: Option<f64>,
    /// `udp` or `tcp`.
    pub transport: String,
    /// Packets that carried octets for a second time.
    pub resent: u64,
    /// Its BLAKE3 digest, which has been verified.
    pub digest: String,
    /// Where it lies here; `-` for standard output.
    pub path: String,
}

impl Report {
    /// What the server said, where it is an event that anybody may be told as it is.
    pub fn of(message: ServerMessage) -> Option<Report> {
        Some(match message {
            ServerMessage::Msg(from, text) => Self::Message { from: from.to_string(), text },
            ServerMessage::Pm(from, text) => Self::Whisper { from: from.to_string(), text },
            ServerMessage::Join(nick) => Self::Join { nick: nick.to_string() },
            ServerMessage::Leave(nick) => Self::Leave { nick: nick.to_string() },
            ServerMessage::Nick(old, new) => Self::Nick { old: old.to_string(), new: new.to_string() },
            ServerMessage::Sys(text) => Self::System { text },
            ServerMessage::Shared(nick, bytes, name) => {
                Self::Shared { nick: nick.to_string(), name: name.to_string(), bytes }
            }
            _ => return None,
        })
    }

    /// The JSON object, without a line end. Nothing in it can move a terminal's cursor: what is not printable is escaped.
    pub fn to_json(&self) -> String {
        let mut json =
            serde_json::to_string(self).expect("strings, numbers and lists can be written as JSON");
        // Behind the rest, so that whoever looks sees the type first.
        json.truncate(json.len() - 1);
        json.push_str(&format!(",\"v\":{JSON_VERSION}}}"));
        let mut out = String::with_capacity(json.len());
        for c in json.chars() {
            // Outside of strings JSON is ASCII, so every such character stands within one.
            if is_printable(c) {
                out.push(c);
            } else {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
        out
    }
}

/// The lines for people, without the last line end. Texts of other people are sanitised, so that each stays on its own
/// line and nobody can speak as another.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Welcome { nick, server } => write!(f, "* you are {nick} at {server}"),
            Self::Lost { reason } => write!(f, "* connection lost ({}); trying again", sanitise(reason)),
            Self::Reconnected { nick } => write!(f, "* back as {nick}"),
            Self::Message { from, text } => write!(f, "<{from}> {}", sanitise(text)),
            Self::Whisper { from, text } => write!(f, "[{from} whispers] {}", sanitise(text)),
            Self::Sent { to: Some(to), text } => write!(f, "[to {to}] {}", sanitise(text)),
            Self::Sent { to: None, text } => write!(f, "[said] {}", sanitise(text)),
            Self::Join { nick } => write!(f, "* {nick} joined"),
            Self::Leave { nick } => write!(f, "* {nick} left"),
            Self::Nick { old, new } => write!(f, "* {old} is now {new}"),
            Self::System { text } => write!(f, "* server: {}", sanitise(text)),
            Self::Users { nicks } if nicks.is_empty() => f.write_str("* nobody is here"),
            Self::Users { nicks } => write!(f, "* {} here: {}", nicks.len(), nicks.join(", ")),
            Self::Files { files } if files.is_empty() => f.write_str("* the shelf is empty"),
            Self::Files { files } => write_files(f, files),
            Self::Shared { nick, name, bytes } => write!(f, "* {nick} put {name} ({})", size_text(*bytes)),
            Self::Started { number, name, direction, bytes, transport } => {
                write!(f, "* {direction} {number}: {name}, {} over {transport}", size_text(*bytes))
            }
            Self::Progress { number, name, direction, size: None, stage, .. } => {
                write!(f, "* {direction} {number}: {name}, {stage}")
            }
            Self::Progress { number, name, direction, bytes, size: Some(size), stage } => {
                let (moved, whole) = (size_text(*bytes), size_text(*size));
                write!(
                    f,
                    "* {direction} {number}: {name}, {} % ({moved} of {whole}), {stage}",
                    percent(*bytes, *size)
                )
            }
            Self::Question { text, .. } => write!(f, "? {text}"),
            Self::Transfer(finished) => finished.fmt(f),
            Self::Notice { text } => write!(f, "* {}", sanitise(text)),
            Self::Check(check) => check.fmt(f),
            Self::Diagnosis(diagnosis) => diagnosis.fmt(f),
            Self::Bye { reason } if reason.is_empty() => f.write_str("* good-bye"),
            Self::Bye { reason } => write!(f, "* the server says good-bye: {}", sanitise(reason)),
            Self::Error { message, .. } => write!(f, "! {}", sanitise(message)),
        }
    }
}

fn write_files(f: &mut fmt::Formatter<'_>, files: &[FileLine]) -> fmt::Result {
    for (i, FileLine { name, size, mtime }) in files.iter().enumerate() {
        let line_end = if i + 1 == files.len() { "" } else { "\n" };
        // `2026-11-20T10:00:00Z`: minutes will do for people.
        let day = mtime.get(..10).unwrap_or(mtime);
        let time = mtime.get(11..16).unwrap_or_default();
        write!(f, "{:>3}  {:>8}  {day} {time}  {name}{line_end}", i + 1, size_text(*size))?;
    }
    Ok(())
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, direction, bytes, resumed_from, seconds, transport, resent, path, .. } = self;
        let done = if *direction == Direction::Get { "fetched" } else { "put" };
        let took =
            if *seconds < 0.1 { format!("{:.1} ms", seconds * 1e3) } else { format!("{seconds:.1} s") };
        write!(f, "{done} {name}: {}", size_text(*bytes))?;
        if *resumed_from > 0 {
            write!(f, ", the last {}", size_text(bytes - resumed_from))?;
        }
        write!(f, " in {took} ({}, {transport}", rate_text(bytes - resumed_from, *seconds))?;
        if *resent > 0 {
            write!(f, ", {resent} packet{} resent", if *resent == 1 { "" } else { "s" })?;
        }
        f.write_str("), BLAKE3 ok")?;
        match direction {
            Direction::Get => write!(f, ", {}", sanitise(path)),
            Direction::Put => Ok(()),
        }
    }
}

/// The question at 40 %: what is asked about a file of which so much came in this time.
pub fn question(name: &str, moved_bytes: u64, size: u64, took: Duration) -> String {
    let (share, moved, whole) = (percent(moved_bytes, size), size_text(moved_bytes), size_text(size));
    let rate = rate_text(moved_bytes, took.as_secs_f64());
    format!("{name}: {share} % is here ({moved} of {whole}, {rate}). Go on?")
}

/// How much of `size` is there, from 0 to 100; 100 only when all is.
pub fn percent(bytes: u64, size: u64) -> u64 {
    if size == 0 { 100 } else { u64::try_from(u128::from(bytes) * 100 / u128::from(size)).unwrap_or(100) }
}

/// `812 B`, `70.6 kB`, `67.7 MB`: three digits or so, in powers of 1,000.
pub fn size_text(bytes: u64) -> String {
    let mut unit_bytes = 1_000;
    for unit in ["kB", "MB", "GB", "TB"] {
        // Rounded; the next unit where this one would need a fourth digit.
        let tenths = (u128::from(bytes) * 10 + unit_bytes / 2) / unit_bytes;
        if tenths < 10 {
            return format!("{bytes} B");
        } else if tenths < 1_000 {
            return format!("{}.{} {unit}", tenths / 10, tenths % 10);
        } else if tenths < 9_995 {
            return format!("{} {unit}", (tenths + 5) / 10);
        }
        unit_bytes *= 1_000;
    }
    format!("{} PB", u128::from(bytes) / unit_bytes)
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a rate for people: a float cast saturates, and three digits are shown"
)]
fn rate_text(bytes: u64, seconds: f64) -> String {
    format!("{}/s", size_text((bytes as f64 / seconds.max(1e-6)) as u64))
}

#[cfg(test)]
mod tests;
