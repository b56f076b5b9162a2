//! The control session: one TCP connection to the server, from the connect to the last line.
//!
//! A reader thread turns lines into messages and a writer thread writes whole lines, each over a bounded channel: a
//! server that reads slowly (its way of limiting rates) never keeps us from hearing it.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use socket2::{SockRef, TcpKeepalive};

use super::address::Address;
use super::error::{ClientError, NotConnected};
use super::unconfirmed::Unconfirmed;
use crate::wire::line::LineBuffer;
use crate::wire::message::{ClientMessage, ServerMessage};
use crate::wire::name::Nick;
use crate::wire::{ErrorCode, WireError};

/// How long each address of the host may take to answer.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// How long the server may take to answer HELLO. Ours: as long as it waits for a HELLO.
const WELCOME_MAX: Duration = Duration::from_secs(10);

/// A peer that vanished without a word is noticed after about this. Ours: below the server's idle limit of 150 s.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Messages heard and not yet looked at. Ours: as many as the server keeps for one client.
const INCOMING_MAX: usize = 1_024;

/// Lines handed to the writer thread and not yet written. Ours: few, so that what is typed waits where it can be seen.
const OUTGOING_MAX: usize = 16;

/// A connection that has not said HELLO with success yet.
#[derive(Debug)]
pub struct Lobby {
    address: Address,
    stream: TcpStream,
    server: SocketAddr,
    buffer: LineBuffer,
}

/// What the server says to a HELLO.
#[derive(Debug)]
pub enum Answer {
    /// We are in.
    Welcome(Session),
    /// Not now, or not under this nick.
    Refused {
        /// Why, for programs.
        code: ErrorCode,
        /// Why, for people.
        words: String,
        /// Where another HELLO may be said, after `nick-taken` alone.
        lobby: Lobby,
    },
}

/// What the reader thread tells.
#[derive(Debug)]
pub enum Incoming {
    /// A line that means something.
    Message(ServerMessage),
    /// The end of the session, and why. Nothing follows.
    Closed(String),
}

/// A session after WELCOME.
#[derive(Debug)]
pub struct Session {
    /// What we are called.
    pub nick: Nick,
    /// The server's address.
    pub server: SocketAddr,
    /// The round trip of HELLO and WELCOME.
    pub rtt: Duration,
    /// What the server says.
    pub incoming: Receiver<Incoming>,
    stream: TcpStream,
    outgoing: Sender<ClientMessage>,
    /// The writer thread's end of it, to take back what it has not taken.
    outgoing_end: Receiver<ClientMessage>,
    /// How many lines we have said.
    pub lines_said: u32,
    /// What the writer thread cannot take yet.
    pending: VecDeque<ClientMessage>,
    unconfirmed: Unconfirmed,
    is_open: bool,
}

/// Connects to the first address of the host that answers.
pub fn connect(address: &Address) -> Result<Lobby, ClientError> {
    let failed = |why| ClientError::Connect { address: address.to_string(), why };
    let resolved = (address.host.as_str(), address.port).to_socket_addrs();
    let addresses = resolved.map_err(|error| failed(NotConnected::UnknownHost(error.to_string())))?;
    connect_to_any(address, addresses)
}

fn connect_to_any(
    address: &Address,
    addresses: impl IntoIterator<Item = SocketAddr>,
) -> Result<Lobby, ClientError> {
    let (mut why, mut tried) = (NotConnected::NoAddress, Vec::new());
    for server in addresses {
        match TcpStream::connect_timeout(&server, CONNECT_MAX)
            .and_then(|stream| prepare(&stream).map(|()| stream))
        {
            Ok(stream) => {
                return Ok(Lobby { address: address.clone(), stream, server, buffer: LineBuffer::default() });
            }
            Err(error) => why = explain(&error, server),
        }
        tried.push(server.ip().to_string());
    }
    let mut address = address.to_string();
    if tried.len() > 1 {
        address = format!("{address} (tried {})", tried.join(" and "));
    }
    Err(ClientError::Connect { address, why })
}

/// The kernel gives up a vanished peer in time, and a short line does not wait for company.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    let keepalive = TcpKeepalive::new().with_time(SILENCE_MAX / 2).with_interval(SILENCE_MAX / 6);
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(SILENCE_MAX))?;
    stream.set_nodelay(true)
}

fn explain(error: &io::Error, server: SocketAddr) -> NotConnected {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            NotConnected::Refused { is_local: server.ip().to_canonical().is_loopback() }
        }
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => NotConnected::NoAnswer(CONNECT_MAX.as_secs()),
        _ => NotConnected::System(error.to_string()),
    }
}

impl Lobby {
    /// Says HELLO and waits for the answer.
    pub fn hello(mut self, nick: &Nick, quiet: bool) -> Result<Answer, ClientError> {
        let address = self.address.to_string();
        let failed = |why| ClientError::Connect { address: address.clone(), why };
        let refused = |error: io::Error| failed(NotConnected::System(error.to_string()));
        let said_at = Instant::now();
        let hello = ClientMessage::Hello { nick: nick.clone(), quiet }.emit();
        (&self.stream).write_all(hello.as_bytes()).map_err(refused)?;
        loop {
            let left = (said_at + WELCOME_MAX).saturating_duration_since(Instant::now());
            match next_message(&mut self.buffer, &self.stream, left).map_err(&failed)? {
                ServerMessage::Welcome(nick) => {
                    let rtt = said_at.elapsed();
                    let opened = Session::open(self.stream, self.buffer, nick, self.server, rtt);
                    return opened.map(Answer::Welcome).map_err(refused);
                }
                ServerMessage::Err { code, words, .. } => {
                    return Ok(Answer::Refused { code, words, lobby: self });
                }
                ServerMessage::Bye(reason) => return Err(failed(NotConnected::Closed(reason))),
                // Whatever else a server may say before its WELCOME is not for us yet.
                _ => {}
            }
        }
    }
}

/// The next line, as a message; for the login, where nothing else is to be done meanwhile.
fn next_message(
    buffer: &mut LineBuffer,
    mut stream: &TcpStream,
    patience: Duration,
) -> Result<ServerMessage, NotConnected> {
    let refused = |error: io::Error| NotConnected::System(error.to_string());
    let deadline = Instant::now() + patience;
    loop {
        if let Some(line) = buffer.next_line() {
            let message = line.and_then(ServerMessage::parse);
            return message.map_err(|_| NotConnected::NotPacketboat);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(NotConnected::NoWelcome(WELCOME_MAX.as_secs()));
        }
        stream.set_read_timeout(Some(left)).map_err(refused)?;
        match buffer.read_from(&mut stream) {
            Ok(0) => return Err(NotConnected::ClosedAtOnce),
            Ok(_) => {}
            Err(error) if is_transient(&error) => {}
            Err(error) => return Err(refused(error)),
        }
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

impl Session {
    fn open(
        stream: TcpStream,
        buffer: LineBuffer,
        nick: Nick,
        server: SocketAddr,
        rtt: Duration,
    ) -> io::Result<Session> {
        stream.set_read_timeout(None)?;
        let (tell, incoming) = crossbeam_channel::bounded(INCOMING_MAX);
        let (outgoing, outgoing_end) = crossbeam_channel::bounded(OUTGOING_MAX);
        let messages = outgoing_end.clone();
        let (read_half, write_half) = (stream.try_clone()?, stream.try_clone()?);
        thread::Builder::new().name("reader".into()).spawn(move || read_lines(read_half, buffer, &tell))?;
        thread::Builder::new().name("writer".into()).spawn(move || write_lines(write_half, &messages))?;
        Ok(Session {
            nick,
            server,
            rtt,
            incoming,
            stream,
            outgoing,
            outgoing_end,
            lines_said: 0,
            pending: VecDeque::new(),
            unconfirmed: Unconfirmed::default(),
            is_open: true,
        })
    }

    /// Says this as soon as the server takes it; never blocks. On a closed session it waits for [`take_over`].
    ///
    /// [`take_over`]: Self::take_over
    pub fn say(&mut self, message: ClientMessage) {
        self.lines_said = self.lines_said.saturating_add(1);
        self.pending.push_back(message);
        self.push_out();
    }

    /// Answers a PING before anything else that waits.
    pub fn pong(&mut self, text: String) {
        // A server that asks without taking the answers gets no more of them.
        if self.pending.len() < INCOMING_MAX {
            self.pending.push_front(ClientMessage::Pong(text));
        }
        self.push_out();
    }

    /// Hands on what the writer thread can take.
    pub fn push_out(&mut self) {
        while self.is_open
            && !self.outgoing.is_full()
            && let Some(message) = self.pending.pop_front()
        {
            self.unconfirmed.on_said(&message, Instant::now());
            // There is room, and we keep the other end ourselves. The reader tells when the session has ended.
            let _ = self.outgoing.try_send(message);
        }
    }

    /// Where messages wait for; `None` when none waits and more may be typed.
    pub fn waits_for(&self) -> Option<&Sender<ClientMessage>> {
        (self.is_open && !self.pending.is_empty()).then_some(&self.outgoing)
    }

    /// What the server says may confirm what we have said.
    pub fn on_heard(&mut self, message: &ServerMessage) {
        match message {
            ServerMessage::Msg(from, _) if *from == self.nick => self.unconfirmed.on_answered(),
            ServerMessage::Err { request, .. } if request.eq_ignore_ascii_case("ALL") => {
                self.unconfirmed.on_answered();
            }
            _ => {}
        }
    }

    /// How many texts to the room the server has not answered yet.
    pub fn unanswered(&self) -> usize {
        self.unconfirmed.unanswered()
    }

    /// The server has taken everything that was said until then.
    pub fn on_taken(&mut self, said_until: Instant) {
        self.unconfirmed.on_taken(said_until);
    }

    /// The connection is gone: nothing more is said on it. Tells how many texts may not have arrived; those that the
    /// writer thread had not taken wait again.
    pub fn close(&mut self) -> usize {
        self.is_open = false;
        if let Err(error) = self.stream.shutdown(Shutdown::Both) {
            log::debug!("session: already closed: {error}");
        }
        let not_taken: Vec<ClientMessage> = self.outgoing_end.try_iter().collect();
        for message in not_taken.into_iter().rev() {
            self.unconfirmed.on_unsaid(&message);
            self.pending.push_front(message);
        }
        self.unconfirmed.count(Instant::now())
    }

    /// How many things that a person has said wait for another session.
    pub fn unsaid(&self) -> usize {
        self.pending.iter().filter(|message| is_a_persons(message)).count()
    }

    /// Says here what `closed` could not say any more; answers and requests for lists and files meant that session alone.
    pub fn take_over(&mut self, closed: &mut Session) {
        closed.pending.drain(..).filter(is_a_persons).for_each(|message| self.say(message));
    }
}

fn is_a_persons(message: &ClientMessage) -> bool {
    matches!(message, ClientMessage::All(_) | ClientMessage::Pm(..) | ClientMessage::Nick(_))
}

impl Drop for Session {
    /// Wakes both threads, whatever they are blocked in; they end by themselves.
    fn drop(&mut self) {
        self.close();
    }
}

fn read_lines(mut stream: TcpStream, mut buffer: LineBuffer, tell: &Sender<Incoming>) {
    // One warning is enough: a hostile server could send as many bad lines as it likes.
    let mut level = log::Level::Warn;
    loop {
        while let Some(line) = buffer.next_line() {
            match line.and_then(ServerMessage::parse) {
                Ok(message) => {
                    if tell.send(Incoming::Message(message)).is_err() {
                        return;
                    }
                }
                // A newer server may say more than we know.
                Err(WireError::UnknownProtocol) => log::debug!("session: a line of an unknown protocol"),
                Err(error) => {
                    log::log!(level, "session: the server sent a bad line: {error}");
                    level = log::Level::Debug;
                }
            }
        }
        let why = match buffer.read_from(&mut stream) {
            Ok(0) => "the server went away without a word".to_owned(),
            Ok(_) => continue,
            Err(error) if is_transient(&error) => continue,
            Err(error) => error.to_string(),
        };
        // Nobody listens any more when we ended it ourselves.
        let _ = tell.send(Incoming::Closed(why));
        return;
    }
}

fn write_lines(mut stream: TcpStream, messages: &Receiver<ClientMessage>) {
    for message in messages {
        if let Err(error) = stream.write_all(message.emit().as_bytes()) {
            log::debug!("session: a line could not be written: {error}");
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn each_address_of_a_name_is_tried_and_told_when_none_answers() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let (there, name) = (listener.local_addr().expect("bound"), "host".parse().expect("an address"));
        // All of 127.x.y.z are this machine, and nobody listens at the others.
        let at = |last| SocketAddr::from(([127, 0, 0, last], there.port()));
        let lobby = connect_to_any(&name, [at(2), at(3), there, at(4)]).expect("the third answers");
        assert_eq!(lobby.server, there);
        let told = connect_to_any(&name, [at(2), at(3)]).expect_err("nobody there").to_string();
        assert!(
            told.starts_with("cannot connect to host:55000 (tried 127.0.0.2 and 127.0.0.3): nobody"),
            "{told}"
        );
        let told = connect_to_any(&name, []).expect_err("nowhere").to_string();
        assert!(told.starts_with("cannot connect to host:55000: the host has no address; "), "{told}");
    }
}
