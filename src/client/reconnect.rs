//! Regains a lost session: a thread that connects and says HELLO again, ever less often, until it is in or gives up.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::address::Address;
use super::error::ClientError;
use super::session::{self, Answer, Session};
use crate::wire::ErrorCode;
use crate::wire::name::Nick;

/// How long before the first attempt; each pause is twice the one before. Ours: a server that is started again needs
/// about that long.
const PAUSE_FIRST: Duration = Duration::from_millis(500);

/// No pause is longer. Ours: nobody waits much longer than the server was away.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// How often HELLO is said while our own lost connection still has the nick (docs/PROTOCOL.md, section 2).
const HELLO_INTERVAL: Duration = Duration::from_secs(1);

/// How long that is tried on one connection. Ours: the server needs 3 s; who has the nick then is somebody else.
const HELLO_MAX: Duration = Duration::from_secs(10);

/// How a lost session is regained.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The server.
    pub address: Address,
    /// Whether the room is not told of us.
    pub quiet: bool,
    /// How long to try; zero is not at all.
    pub patience: Duration,
}

/// A session being regained; dropping it ends the thread.
#[derive(Debug)]
pub struct Regaining {
    /// How it ended: one message.
    pub outcome: Receiver<Result<Session, ClientError>>,
    _stop: Sender<()>,
}

/// What one attempt came to, if not to a session.
#[derive(Debug)]
enum Failure {
    /// The next one may do better.
    Again(ClientError),
    /// The server does not want us.
    Final(ClientError),
}

struct Thread {
    plan: Plan,
    nick: Nick,
    deadline: Instant,
    stopped: Receiver<()>,
}

impl Plan {
    /// Starts the thread, named `reconnect`, for a session of this nick that was lost for the reason `why`.
    pub fn start(&self, nick: Nick, why: String) -> io::Result<Regaining> {
        let (tell, outcome) = crossbeam_channel::bounded(1);
        let (stop, stopped) = crossbeam_channel::bounded(0);
        let deadline = Instant::now() + self.patience;
        let mut thread = Thread { plan: self.clone(), nick, deadline, stopped };
        thread::Builder::new().name("reconnect".into()).spawn(move || {
            // Nobody listens any more when the client is ending.
            let _ = tell.send(thread.run(&why));
        })?;
        Ok(Regaining { outcome, _stop: stop })
    }
}

impl Thread {
    fn run(&mut self, why: &str) -> Result<Session, ClientError> {
        let mut pause = PAUSE_FIRST;
        let mut last = None;
        // The last attempt is made when the patience ends.
        while Instant::now() < self.deadline {
            if !self.wait(with_jitter(pause)) {
                break;
            }
            match self.attempt() {
                Ok(session) => return Ok(session),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Again(error)) => {
                    log::info!("session: not regained yet: {error}");
                    last = Some(error);
                }
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
        Err(match last {
            Some(error @ ClientError::Nick(_)) => error,
            Some(error) => ClientError::Lost(format!("{why}, and not regained: {}", error.what())),
            None => ClientError::Lost(why.to_owned()),
        })
    }

    fn attempt(&self) -> Result<Session, Failure> {
        let address = &self.plan.address;
        let mut lobby = session::connect(address).map_err(Failure::Again)?;
        let hello_until = self.deadline.min(Instant::now() + HELLO_MAX);
        loop {
            let (code, words) = match lobby.hello(&self.nick, self.plan.quiet).map_err(Failure::Again)? {
                Answer::Welcome(session) => return Ok(session),
                Answer::Refused { code: ErrorCode::NickTaken, lobby: same, .. }
                    if Instant::now() < hello_until && self.wait(HELLO_INTERVAL) =>
                {
                    lobby = same;
                    continue;
                }
                Answer::Refused { code, words, .. } => (code, words),
            };
            return Err(match code {
                ErrorCode::NickTaken => Failure::Again(ClientError::refused_nick(&self.nick, code, &words)),
                ErrorCode::BadNick => Failure::Final(ClientError::refused_nick(&self.nick, code, &words)),
                // `timeout`: a server that is so slow has other troubles than us.
                ErrorCode::Busy | ErrorCode::Timeout => {
                    Failure::Again(ClientError::refused_login(address, code, words))
                }
                _ => Failure::Final(ClientError::refused_login(address, code, words)),
            });
        }
    }

    /// Waits so long, at most until the patience ends; `false` when nobody wants the session any more.
    fn wait(&self, pause: Duration) -> bool {
        let until = self.deadline.min(Instant::now() + pause);
        self.stopped.recv_deadline(until) == Err(RecvTimeoutError::Timeout)
    }
}

/// Up to a fifth more or less: clients that lost the same server do not all come back at the same moment.
fn with_jitter(pause: Duration) -> Duration {
    let mut byte = [128];
    // Without chance it is the pause itself.
    let _ = getrandom::fill(&mut byte);
    pause * 4 / 5 + pause * 2 / 5 * u32::from(byte[0]) / 255
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_keeps_a_pause_about_as_it_is() {
        for pause in [PAUSE_FIRST, PAUSE_MAX] {
            for _ in 0..100 {
                let jittered = with_jitter(pause);
                assert!(jittered >= pause * 4 / 5 && jittered <= pause * 6 / 5, "{jittered:?}");
            }
        }
    }
}
