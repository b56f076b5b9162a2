//! C1: in no order of their steps do readers, writer and shutdown wait for each other, lose a line or mix an order up.
//!
//! The room is the product's. Around it stands a model of hub and writer, one step for what each does under the lock or in
//! one turn: sockets and threads cannot be scheduled by hand, and a seam for that would be paid for by whoever reads the
//! server. So what is checked is the design, as `src/server/hub.rs` and `src/server/writer.rs` describe it; that the code is
//! that design, S35, R8 and R40 look at from outside.
//!
//! Schedules on every push 250 random ones and 250 by PCT (Burckhardt and others, 2010) of depth 3; at night 10,000 each.
#![allow(clippy::cast_possible_truncation, reason = "the numbers of a test are small")]

use std::collections::{BTreeMap, VecDeque};

use packetboat::chat::room::{Audience, Delivery, MemberId, Room};
use packetboat::rudp::split_mix_64;
use packetboat::wire::name::Nick;

/// As in the product, but small: commands that make readers pause, lines of an outbox, lines that a socket holds.
const BACKLOG_MAX: usize = 3;
const OUTBOX_MAX: usize = 6;
const SOCKET_MAX: usize = 2;

const CLIENTS: usize = 4;

enum Command {
    Enter(MemberId),
    Send(Audience, String),
    Close(MemberId),
    Stop,
}

/// What the writer holds for one connection.
#[derive(Default)]
struct Peer {
    is_in_room: bool,
    is_closing: bool,
    outbox: VecDeque<String>,
}

/// What is between server and client: lines on their way, and whether more will come.
#[derive(Default)]
struct Socket {
    lines: VecDeque<String>,
    is_closed: bool,
}

/// What a client does next.
#[derive(Debug, Clone, PartialEq)]
enum Op {
    Hello,
    Say(String),
    Whisper(usize, String),
    Rename,
    Who,
    Quit,
}

/// Where a client's reader is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Stage {
    Talking,
    Left,
    Gone,
}

struct Client {
    ops: VecDeque<Op>,
    stage: Stage,
    /// It takes nothing from its socket.
    is_deaf: bool,
    /// Lines queued for it alone or by the room and not yet taken by its socket.
    gauge: usize,
    heard: Vec<String>,
    /// It was dropped for its slowness.
    is_dropped: bool,
    whispered: Vec<(usize, String)>,
}

/// Whose step it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Actor {
    /// The server's reader of a client.
    Reader(usize),
    /// The client itself takes a line.
    Ear(usize),
    Writer,
    /// The writer's clock: it gives up somebody who takes nothing.
    Clock,
    Shutdown,
}

struct Model {
    room: Room,
    commands: VecDeque<Command>,
    peers: BTreeMap<usize, Peer>,
    sockets: Vec<Socket>,
    clients: Vec<Client>,
    is_closing: bool,
    is_stopped: bool,
    shuts_down: bool,
    /// What was said to all, in the order of the lock.
    history: Vec<String>,
}

fn id(client: usize) -> MemberId {
    MemberId(client as u64 + 1)
}

impl Model {
    fn new(seed: &mut u64) -> Model {
        let clients = (0..CLIENTS)
            .map(|client| {
                let mut ops = VecDeque::from([Op::Hello]);
                for number in 0..3 + split_mix_64(seed) % 6 {
                    ops.push_back(match split_mix_64(seed) % 8 {
                        0 => Op::Whisper(
                            (split_mix_64(seed) % CLIENTS as u64) as usize,
                            format!("w {client} {number}"),
                        ),
                        1 => Op::Rename,
                        2 => Op::Who,
                        _ => Op::Say(format!("{client} {number}")),
                    });
                }
                ops.push_back(Op::Quit);
                Client {
                    ops,
                    stage: Stage::Talking,
                    is_deaf: split_mix_64(seed).is_multiple_of(6),
                    gauge: 0,
                    heard: Vec::new(),
                    is_dropped: false,
                    whispered: Vec::new(),
                }
            })
            .collect();
        Model {
            room: Room::default(),
            commands: VecDeque::new(),
            peers: (0..CLIENTS).map(|client| (client, Peer::default())).collect(),
            sockets: (0..CLIENTS).map(|_| Socket::default()).collect(),
            clients,
            is_closing: false,
            is_stopped: false,
            shuts_down: split_mix_64(seed).is_multiple_of(4),
            history: Vec::new(),
        }
    }

    fn is_over(&self) -> bool {
        let all_gone = self.clients.iter().all(|client| client.stage == Stage::Gone);
        all_gone && self.commands.is_empty() && self.peers.is_empty()
    }

    /// `wait_for_calm`.
    fn is_calm(&self, client: usize) -> bool {
        let is_high = self.clients[client].gauge > OUTBOX_MAX / 2 && self.peers.contains_key(&client);
        self.commands.len() <= BACKLOG_MAX && !is_high
    }

    fn may_flush(&self, client: usize) -> bool {
        let has_room = self.sockets[client].lines.len() < SOCKET_MAX;
        self.peers.get(&client).is_some_and(|peer| !peer.outbox.is_empty() && has_room)
    }

    fn can(&self, actor: Actor) -> bool {
        match actor {
            Actor::Reader(client) => match self.clients[client].stage {
                Stage::Gone => false,
                Stage::Left => true,
                Stage::Talking => {
                    let has_ended = self.clients[client].is_dropped || self.is_closing;
                    has_ended || self.is_calm(client)
                }
            },
            Actor::Ear(client) => !self.clients[client].is_deaf && !self.sockets[client].lines.is_empty(),
            Actor::Writer => !self.commands.is_empty() || (0..CLIENTS).any(|client| self.may_flush(client)),
            Actor::Clock => self.blocked().is_some(),
            Actor::Shutdown => self.shuts_down && !self.is_closing,
        }
    }

    /// Somebody whose socket takes nothing and who does not read.
    fn blocked(&self) -> Option<usize> {
        let is_blocked = |client: &usize| {
            let is_stuck = self.clients[*client].is_deaf && !self.may_flush(*client);
            is_stuck && self.peers.get(client).is_some_and(|peer| !peer.outbox.is_empty())
        };
        (0..CLIENTS).find(is_blocked)
    }

    fn step(&mut self, actor: Actor) {
        match actor {
            Actor::Reader(client) => self.read(client),
            Actor::Ear(client) => {
                let line = self.sockets[client].lines.pop_front().expect("it can");
                self.clients[client].heard.push(line);
            }
            Actor::Writer => {
                if let Some(command) = self.commands.pop_front() {
                    self.obey(command);
                }
                (0..CLIENTS).for_each(|client| self.flush(client));
            }
            Actor::Clock => {
                let client = self.blocked().expect("it can");
                self.drop_peer(client);
            }
            Actor::Shutdown => {
                self.is_closing = true;
                self.send(Audience::All, "SYS_the server closes".into());
                for client in 0..CLIENTS {
                    self.send(Audience::One(id(client)), "BYE_".into());
                    self.commands.push_back(Command::Close(id(client)));
                }
                self.commands.push_back(Command::Stop);
            }
        }
    }

    /// What is said under the lock goes into the channel before anybody else has the lock.
    fn send(&mut self, to: Audience, line: String) {
        if let Audience::One(one) = to {
            self.clients[one.0 as usize - 1].gauge += 1;
        }
        self.commands.push_back(Command::Send(to, line));
    }

    fn deliver(&mut self, deliveries: Vec<Delivery>) {
        for Delivery { to, message } in deliveries {
            let line = message.emit().trim_end().to_owned();
            // Each text is said once.
            if line.starts_with("MSG_") {
                self.history.push(line.clone());
            }
            self.send(to, line);
        }
    }

    fn read(&mut self, client: usize) {
        if self.clients[client].stage == Stage::Left {
            self.clients[client].stage = Stage::Gone;
            return;
        }
        let op = match self.clients[client].is_dropped || self.is_closing {
            true => Op::Quit,
            false => self.clients[client].ops.pop_front().expect("it ends with Quit"),
        };
        let deliveries = match op {
            Op::Hello => {
                let nick = Nick::parse(&format!("n{client}")).expect("a nick");
                self.commands.push_back(Command::Enter(id(client)));
                self.room.join(id(client), nick, client.is_multiple_of(2)).expect("its own nick")
            }
            Op::Say(text) => self.room.say(id(client), text),
            Op::Whisper(to, text) => {
                self.clients[client].whispered.push((to, text.clone()));
                self.room.whisper(id(client), &Nick::parse(&format!("n{to}")).expect("a nick"), text)
            }
            Op::Rename => self.room.rename(id(client), Nick::parse(&format!("N{client}")).expect("a nick")),
            Op::Who => self.room.who(id(client)),
            Op::Quit => {
                self.clients[client].stage = Stage::Left;
                let deliveries = self.room.leave(id(client));
                self.deliver(deliveries);
                self.commands.push_back(Command::Close(id(client)));
                return;
            }
        };
        self.deliver(deliveries);
    }

    fn obey(&mut self, command: Command) {
        let of = |id: MemberId| id.0 as usize - 1;
        match command {
            Command::Enter(id) => {
                if let Some(peer) = self.peers.get_mut(&of(id)) {
                    peer.is_in_room = true;
                }
            }
            Command::Send(Audience::One(id), line) => self.push(of(id), line),
            Command::Send(to, line) => {
                for client in 0..CLIENTS {
                    let hears = to != Audience::AllBut(id(client));
                    if hears
                        && self.peers.get(&client).is_some_and(|peer| peer.is_in_room && !peer.is_closing)
                    {
                        self.clients[client].gauge += 1;
                        self.push(client, line.clone());
                    }
                }
            }
            Command::Close(id) => {
                if let Some(peer) = self.peers.get_mut(&of(id)) {
                    peer.is_closing = true;
                }
            }
            Command::Stop => {
                self.is_stopped = true;
                self.peers.values_mut().for_each(|peer| peer.is_closing = true);
            }
        }
    }

    fn push(&mut self, client: usize, line: String) {
        let Some(peer) = self.peers.get_mut(&client).filter(|peer| !peer.is_closing) else { return };
        peer.outbox.push_back(line);
        if peer.outbox.len() > OUTBOX_MAX {
            self.flush(client);
            if self.peers.get(&client).is_some_and(|peer| peer.outbox.len() > OUTBOX_MAX) {
                self.drop_peer(client);
            }
        }
    }

    fn flush(&mut self, client: usize) {
        while self.may_flush(client) {
            let line = self.peers.get_mut(&client).and_then(|peer| peer.outbox.pop_front());
            self.sockets[client].lines.extend(line);
            self.clients[client].gauge -= 1;
        }
        if self.peers.get(&client).is_some_and(|peer| peer.is_closing && peer.outbox.is_empty()) {
            self.peers.remove(&client);
            self.sockets[client].is_closed = true;
        }
    }

    fn drop_peer(&mut self, client: usize) {
        if self.peers.remove(&client).is_some() {
            self.sockets[client].is_closed = true;
            self.clients[client].is_dropped = true;
        }
    }

    /// S35's properties.
    fn check(&self, schedule: &str) {
        assert!(self.room.is_empty() && self.sockets.iter().all(|socket| socket.is_closed), "{schedule}");
        for (number, client) in self.clients.iter().enumerate() {
            let heard: Vec<&String> =
                client.heard.iter().filter(|line| self.history.contains(line)).collect();
            let from = heard.first().and_then(|first| self.history.iter().position(|line| line == *first));
            let from = from.unwrap_or_default();
            let same = heard.iter().zip(&self.history[from..]).all(|(a, b)| *a == b);
            assert!(same, "{schedule}: {number} heard {heard:?} of {:?}", self.history);
            // Between its WELCOME and its end nothing is missing of what it said itself.
            let own = |lines: &[String]| -> Vec<String> {
                let mine = format!("MSG_n{number} ");
                lines
                    .iter()
                    .filter(|line| line.to_lowercase().starts_with(&mine.to_lowercase()))
                    .cloned()
                    .collect()
            };
            let stayed = !client.is_deaf && !client.is_dropped && !self.is_closing;
            if stayed {
                assert_eq!(own(&client.heard), own(&self.history), "{schedule}: {number} misses its own");
                assert_eq!(
                    client.heard.first().map(String::as_str),
                    Some(&*format!("WELCOME_n{number} v=1 max=4096"))
                );
            }
            for line in client.heard.iter().filter(|line| line.starts_with("PM_")) {
                let text = line.split_once(' ').expect("a text").1.to_owned();
                let is_known =
                    self.clients.iter().any(|other| other.whispered.contains(&(number, text.clone())));
                assert!(is_known, "{schedule}: {number} heard {line:?}");
            }
        }
    }
}

fn actors() -> Vec<Actor> {
    let both = (0..CLIENTS).flat_map(|client| [Actor::Reader(client), Actor::Ear(client)]);
    both.chain([Actor::Writer, Actor::Clock, Actor::Shutdown]).collect()
}

/// Runs one schedule; `choose` says who of those that can is next.
fn run(seed: u64, kind: &str, mut choose: impl FnMut(usize, &[Actor]) -> Actor) {
    let schedule = format!("{kind} schedule {seed}");
    let mut model = Model::new(&mut seed.wrapping_mul(0x9e37_79b9));
    let all = actors();
    for step in 0.. {
        assert!(step < 10_000, "{schedule}: it never ends");
        let able: Vec<Actor> = all.iter().copied().filter(|&actor| model.can(actor)).collect();
        if able.is_empty() {
            let stages: Vec<Stage> = model.clients.iter().map(|client| client.stage).collect();
            assert!(model.is_over(), "{schedule}: everybody waits for somebody, {stages:?}");
            break;
        }
        model.step(choose(step, &able));
    }
    model.check(&schedule);
}

fn random(seed: u64) {
    let mut chance = seed;
    run(seed, "random", |_, able| able[(split_mix_64(&mut chance) % able.len() as u64) as usize]);
}

/// The one of highest priority runs; at two moments by chance, whoever runs becomes the last.
fn pct(seed: u64) {
    const STEPS: u64 = 150;
    let mut chance = !seed;
    let mut ranks: BTreeMap<Actor, u64> =
        actors().into_iter().map(|actor| (actor, 10 + split_mix_64(&mut chance) % 1_000_000)).collect();
    let changes = [split_mix_64(&mut chance) % STEPS, split_mix_64(&mut chance) % STEPS];
    run(seed, "PCT", |step, able| {
        let first =
            |ranks: &BTreeMap<Actor, u64>| *able.iter().max_by_key(|actor| ranks[actor]).expect("one");
        if let Some(rank) = changes.iter().position(|&at| at == step as u64) {
            let running = first(&ranks);
            ranks.insert(running, rank as u64);
        }
        first(&ranks)
    });
}

#[test]
fn c1_nobody_waits_for_ever_and_everybody_hears_one_order() {
    let is_night = std::env::var_os("PACKETBOAT_TIER").is_some_and(|tier| tier == "N");
    for seed in 0..if is_night { 10_000 } else { 250 } {
        random(seed);
        pct(seed);
    }
}
