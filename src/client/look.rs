//! How a report looks at a terminal: the words are those of [`Report`]; time, colours and marks come here.

use super::report::Report;
use super::terminal::rows::{Span, Style};
use crate::wire::text::sanitise;

/// The colours of nicks. Ours: of the sixteen those that can be read on black and on white, and not red, which is for
/// what went wrong.
const NICK_STYLES: [Style; 10] = [
    Style("32"),
    Style("33"),
    Style("35"),
    Style("36"),
    Style("34"),
    Style("1;34"),
    Style("1;33"),
    Style("1;35"),
    Style("1;36"),
    Style("1;32"),
];

/// The colour of a nick: the same wherever it is seen (FNV-1a, 32 bits).
pub fn nick_style(nick: &str) -> Style {
    let hash = nick
        .to_lowercase()
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let places = u32::try_from(NICK_STYLES.len()).expect("a short list");
    NICK_STYLES[usize::try_from(hash % places).expect("a small number")]
}

/// Whether a report calls for us: somebody names us, or speaks to us alone.
pub fn calls(report: &Report, own_nick: &str) -> bool {
    match report {
        Report::Message { from, text } => from != own_nick && mentions(text, own_nick),
        Report::Whisper { .. } | Report::Question { .. } => true,
        _ => false,
    }
}

/// Whether a text has this nick as a word of its own.
fn mentions(text: &str, nick: &str) -> bool {
    let (text, nick) = (text.to_lowercase(), nick.to_lowercase());
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    !nick.is_empty()
        && text.match_indices(&nick).any(|(at, _)| {
            let before = text[..at].chars().next_back();
            let after = text[at + nick.len()..].chars().next();
            !before.is_some_and(is_word) && !after.is_some_and(is_word)
        })
}

/// The lines of a report, each as the pieces it is made of; `time` stands before what happens now.
pub fn lines(report: &Report, own_nick: &str, time: Option<&str>) -> Vec<Vec<Span>> {
    let is_list = matches!(report, Report::Files { files } if !files.is_empty());
    let time = time.filter(|_| !is_list).map(|time| Span::new(Style::DIM, format!("{time} ")));
    let spans = match report {
        Report::Message { from, text } => {
            let called = calls(report, own_nick);
            let mut spans = vec![
                Span::new(nick_style(from), format!("<{from}>")),
                Span::new(if called { Style::BOLD } else { Style::PLAIN }, format!(" {}", sanitise(text))),
            ];
            if called {
                spans.insert(0, Span::new(Style::CALL, ">> "));
            }
            spans
        }
        Report::Whisper { from, text } => vec![
            Span::new(Style::PRIVATE, "["),
            Span::new(nick_style(from), from),
            Span::new(Style::PRIVATE, " whispers]"),
            Span::new(Style::PLAIN, format!(" {}", sanitise(text))),
        ],
        Report::Sent { to: Some(to), text } => vec![
            Span::new(Style::PRIVATE, "[to "),
            Span::new(nick_style(to), to),
            Span::new(Style::PRIVATE, "]"),
            Span::new(Style::PLAIN, format!(" {}", sanitise(text))),
        ],
        other => {
            let style = match other {
                Report::Error { .. } | Report::Lost { .. } => Style::BAD,
                Report::Question { .. } => Style::CALL,
                Report::Transfer(_) | Report::Reconnected { .. } => Style::GOOD,
                Report::Join { .. } | Report::Leave { .. } | Report::Nick { .. } => Style::DIM,
                _ => Style::PLAIN,
            };
            let text = other.to_string();
            let line = |line: &str| time.iter().cloned().chain([Span::new(style, line)]).collect();
            return text.split('\n').map(line).collect();
        }
    };
    vec![time.into_iter().chain(spans).collect()]
}

/// The prompt: who we are, and to whom a line will go.
pub fn prompt(nick: &str, partner: Option<&str>, is_away: bool) -> Vec<Span> {
    let mut spans = vec![Span::new(nick_style(nick), nick)];
    if let Some(partner) = partner {
        spans.push(Span::new(Style::PRIVATE, "->"));
        spans.push(Span::new(nick_style(partner), partner));
    }
    if is_away {
        spans.push(Span::new(Style::BAD, " (away)"));
    }
    spans.push(Span::new(Style::PLAIN, "> "));
    spans
}

/// Words in columns would be torn by a narrow screen: they are joined, and wrapped like any line.
pub fn choices(words: &[String]) -> Vec<Span> {
    vec![Span::new(Style::DIM, sanitise(&words.join("  ")))]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(report: &Report) -> String {
        lines(report, "bob", Some("10:55")).concat().iter().map(|span| span.text.as_str()).collect()
    }

    #[test]
    fn the_words_are_those_of_the_report_and_never_colour_alone() {
        let message = |text: &str| Report::Message { from: "alice".into(), text: text.into() };
        assert_eq!(text(&message("hi all")), "10:55 <alice> hi all");
        assert_eq!(text(&message("hi Bob!")), "10:55 >> <alice> hi Bob!");
        assert_eq!(
            text(&message("bobsled, thingumabob, bob_b")),
            "10:55 <alice> bobsled, thingumabob, bob_b"
        );
        assert_eq!(text(&message("a\u{1b}[2J\nb")), "10:55 <alice> a␛[2J␊b");
        for report in [
            Report::Whisper { from: "alice".into(), text: "psst\r".into() },
            Report::Sent { to: Some("alice".into()), text: "yes".into() },
            Report::Join { nick: "carol".into() },
            Report::Error { code: "x".into(), message: "no\n".into(), name: None },
        ] {
            assert_eq!(text(&report), format!("10:55 {report}"));
        }
        assert!(!calls(&Report::Message { from: "bob".into(), text: "bob".into() }, "bob"));
    }

    #[test]
    fn a_nick_has_one_colour() {
        assert_eq!(nick_style("Alice"), nick_style("alice"));
        let styles: std::collections::HashSet<&str> =
            ["alice", "bob", "carol", "dave", "eve", "frank"].map(|nick| nick_style(nick).0).into();
        assert!(styles.len() > 2, "{styles:?}");
    }
}
