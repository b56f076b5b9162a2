//! What `/help` and `/help COMMAND` show.

use super::{COMMANDS, CommandError, meant};

/// What is worth knowing beyond the one line of the list.
const MORE: [(&str, &[&str]); 12] = [
    ("/all", &["The prompt shows where a line goes: `alice>` is everyone."]),
    (
        "/query",
        &["The prompt then shows it: `alice->bob>`. /all talks to everyone again.", "Example: /query bob"],
    ),
    ("/msg", &["Where lines go otherwise stays as it is. Example: /msg bob see you at five"]),
    ("/r", &["Example: /r agreed"]),
    (
        "/get",
        &[
            "It goes to downloads/, and never over a file that is there. At 40 % of a large file you are asked.",
            "A number is one of the list that /files showed last. --tcp or --udp chooses how it travels.",
            "Examples: /get lore.txt, /get 4 as film.avi --tcp, /get \"a name as this\"",
        ],
    ),
    (
        "/put",
        &[
            "Everyone is told when it is there. ~/ is your home folder.",
            "Examples: /put report.pdf, /put ~/notes 2.txt as notes.txt",
        ],
    ),
    ("/pause", &["What has come stays. /transfers shows the numbers. Example: /pause 2"]),
    ("/resume", &["Also after it broke off. Example: /resume 2"]),
    ("/cancel", &["What has come of it is removed. Example: /cancel 2"]),
    ("/yes", &["Without N it answers the only question. Example: /yes"]),
    ("/no", &["What has come of the file is removed. Example: /no"]),
    ("/quit", &["So does ^D on an empty line, or ^C twice."]),
];

/// What `/help` shows, line by line.
pub fn help() -> impl Iterator<Item = String> {
    COMMANDS.iter().map(|&(name, takes, does)| line(name, takes, does))
}

fn line(name: &str, takes: &str, does: &str) -> String {
    format!("{:<41} {does}", format!("{name} {takes}"))
}

/// What `/help COMMAND` shows; the slash may be missing.
pub fn help_about(word: &str) -> Result<Vec<String>, CommandError> {
    let word = word.to_lowercase();
    let name = if word.starts_with('/') { word } else { format!("/{word}") };
    let Some(&(known, takes, does)) = COMMANDS.iter().find(|(known, ..)| *known == name) else {
        let meant = meant(&name);
        return Err(CommandError::Unknown(name, meant));
    };
    let more = MORE.iter().find(|(about, _)| *about == known).map_or(&[][..], |(_, more)| *more);
    Ok([line(known, takes, does)].into_iter().chain(more.iter().map(|&more| format!("  {more}"))).collect())
}

/// The names of all commands.
pub fn names() -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().map(|(name, ..)| *name).filter(|name| !name.starts_with("//"))
}
