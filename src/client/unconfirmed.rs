//! What has been said and may not have arrived: counted, to be told when the connection is lost.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::session::SILENCE_MAX;
use crate::wire::message::ClientMessage;

/// The texts handed to the connection, in order, that nothing has confirmed.
#[derive(Debug, Default)]
pub struct Unconfirmed(VecDeque<Said>);

#[derive(Debug)]
struct Said {
    /// What is said to the room comes back; a whisper does not.
    to_room: bool,
    at: Instant,
}

impl Unconfirmed {
    /// This has been handed over.
    pub fn on_said(&mut self, message: &ClientMessage, now: Instant) {
        let to_room = match message {
            ClientMessage::All(_) => true,
            ClientMessage::Pm(..) => false,
            _ => return,
        };
        while self.0.front().is_some_and(|said| said.is_settled(now)) {
            self.0.pop_front();
        }
        self.0.push_back(Said { to_room, at: now });
    }

    /// The last of them was not handed over after all.
    pub fn on_unsaid(&mut self, message: &ClientMessage) {
        if matches!(message, ClientMessage::All(_) | ClientMessage::Pm(..)) {
            self.0.pop_back();
        }
    }

    /// The server has answered the oldest text to the room, and so has seen everything before it.
    pub fn on_answered(&mut self) {
        if let Some(at) = self.0.iter().position(|said| said.to_room) {
            self.0.drain(..=at);
        }
    }

    /// The server has seen everything that was said until then.
    pub fn on_taken(&mut self, said_until: Instant) {
        while self.0.front().is_some_and(|said| said.at <= said_until) {
            self.0.pop_front();
        }
    }

    /// How many texts to the room the server has not answered yet.
    pub fn unanswered(&self) -> usize {
        self.0.iter().filter(|said| said.to_room).count()
    }

    /// How many may not have arrived.
    pub fn count(&self, now: Instant) -> usize {
        self.0.iter().filter(|said| !said.is_settled(now)).count()
    }
}

impl Said {
    /// The connection would have been given up by now, had the other system not confirmed the octets of a whisper.
    fn is_settled(&self, now: Instant) -> bool {
        const CERTAIN_AFTER: Duration = SILENCE_MAX.saturating_mul(2);
        !self.to_room && now.saturating_duration_since(self.at) > CERTAIN_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::name::Nick;

    #[test]
    fn an_answer_confirms_what_was_said_before_it() {
        let (mut said, start) = (Unconfirmed::default(), Instant::now());
        let all = ClientMessage::All("hi".into());
        let whisper = ClientMessage::Pm(Nick::parse("bob").expect("a nick"), "psst".into());
        for message in [&whisper, &all, &ClientMessage::Who, &whisper, &all, &whisper] {
            said.on_said(message, start);
        }
        assert_eq!(said.count(start), 5);
        assert_eq!(said.unanswered(), 2);
        said.on_answered();
        assert_eq!(said.count(start), 3, "the first whisper and the first text to the room have arrived");
        said.on_unsaid(&whisper);
        said.on_unsaid(&ClientMessage::Who);
        assert_eq!(said.count(start), 2);
        assert_eq!(
            said.count(start + SILENCE_MAX * 3),
            1,
            "an old whisper has arrived, an unheard text has not"
        );
        said.on_said(&all, start + SILENCE_MAX);
        said.on_taken(start);
        assert_eq!(said.count(start), 1, "what was said later is not confirmed");
    }
}
