//! S34: eight clients chat and four files travel while everything fails that can: the link, either program, the disk.
//! Then the faults stop, and everything must come to its end.
//!
//! The room is the product's, and so is every connection with its invariants I1 to I10. What stands between them, the
//! session that asks again for a file that broke off, is a model here: it goes on where a crash has left the file.
//!
//! Seeds on every push 200; at night as many as fit an hour (`PACKETBOAT_SWARM_SECONDS`). A failure names its seed, and
//! `PACKETBOAT_SWARM_SEED` runs that one alone.
#![allow(clippy::cast_possible_truncation, reason = "the numbers of a test are small")]

#[allow(unreachable_pub, dead_code, unused_imports, reason = "shared by test crates")]
mod sim;

use std::collections::BTreeMap;
use std::env;
use std::time::{Duration, Instant};

use packetboat::chat::room::{Audience, Delivery, MemberId, Room};
use packetboat::rudp::{Config, ConnectionError, Direction};
use packetboat::wire::message::{ServerMessage, TransferId};
use packetboat::wire::name::Nick;
use sim::end::Hostile;
use sim::link::Wire;
use sim::{Link, Loss, Random, World, configs, is_night, ms, secs};

const CLIENTS: usize = 8;

const FILES: usize = 4;

/// So soon after the last fault all must be over.
const END_MAX: Duration = secs(60);

/// A file that broke off is asked for again after this, then after twice that, up to the second.
const RETRY: (Duration, Duration) = (ms(250), secs(5));

/// What a crash leaves of a file is noted in steps of this. The product's are of a MiB; the files here are smaller.
const STEP: u64 = 16 << 10;

/// An end whose program is gone.
struct Dead;

impl Hostile for Dead {
    fn handle(&mut self, _: Duration, _: &mut [u8], _: &mut Vec<Vec<u8>>) {}
}

/// A file on its way, over one connection after another.
struct File {
    size: u64,
    is_upload: bool,
    client: usize,
    /// The flow that carries it now.
    flow: Option<usize>,
    /// What is safe at the receiver.
    start: u64,
    retry_at: Duration,
    pause: Duration,
    attempts: u32,
    is_done: bool,
}

/// What one program has been through.
#[derive(Default)]
struct Program {
    /// It is down until then.
    down_until: Option<Duration>,
}

struct Swarm {
    world: World,
    random: Random,
    files: Vec<File>,
    clients: Vec<Program>,
    server: Program,
    chat: Chat,
    disk_errors: f64,
    calm_at: Duration,
}

/// A rate or size between these, each power of two as likely as the others.
fn log_between(random: &mut Random, low: f64, high: f64) -> f64 {
    low * (high / low).powf(random.unit())
}

fn faulty_link(random: &mut Random) -> Link {
    let on_off = random.chance(0.3).then(|| (ms(200 + random.below(5_000)), ms(50 + random.below(2_000))));
    Link {
        delay: ms(random.below(501)),
        bytes_per_s: log_between(random, 8_000.0, 125_000_000.0) as u64,
        queue_bytes: 1_500 * log_between(random, 2.0, 256.0) as u64,
        loss: Loss::random(0.4 * random.unit()),
        duplicate: 0.5 * random.unit(),
        corrupt: 0.1 * random.unit(),
        reorder: 0.5 * random.unit(),
        reorder_delay: ms(1 + random.below(1_000)),
        on_off,
        ..Link::default()
    }
}

impl Swarm {
    fn new(seed: u64) -> Swarm {
        let mut random = Random(seed);
        let (up, down) = (faulty_link(&mut random), faulty_link(&mut random));
        let files = (0..FILES)
            .map(|number| File {
                size: random.below(if is_night() { 2 << 20 } else { 256 << 10 }),
                is_upload: number % 2 == 0,
                client: random.below(CLIENTS as u64) as usize,
                flow: None,
                start: 0,
                retry_at: ms(random.below(2_000)),
                pause: RETRY.0,
                attempts: 0,
                is_done: false,
            })
            .collect();
        Swarm {
            world: World::new(&up, &down, seed),
            files,
            clients: (0..CLIENTS).map(|_| Program::default()).collect(),
            server: Program::default(),
            chat: Chat::default(),
            disk_errors: 0.1 * random.unit(),
            calm_at: secs(5 + random.below(40)),
            random,
        }
    }

    /// The ends of a flow: client and server.
    fn ends(flow: usize) -> [usize; 2] {
        [2 * flow, 2 * flow + 1]
    }

    fn run(&mut self) {
        while self.world.now < self.calm_at {
            self.step();
            self.disturb();
        }
        self.calm_down();
        let deadline = self.world.now + END_MAX;
        while !self.files.iter().all(|file| file.is_done) {
            assert!(self.world.now < deadline, "not over: {}", self.describe());
            self.step();
        }
        // What is still closing needs no more than its own time limits.
        self.world.run(self.world.now + secs(120));
        self.chat.end();
    }

    /// A slice of time, then what the sessions make of it.
    fn step(&mut self) {
        let until = self.world.now + ms(100);
        self.world.run_until(until);
        self.come_back();
        for number in 0..self.files.len() {
            self.tend(number);
        }
        self.chat.step(&mut self.random);
    }

    /// Ends, retries and successes of one file.
    fn tend(&mut self, number: usize) {
        let now = self.world.now;
        let file = &mut self.files[number];
        if file.is_done {
            return;
        }
        let is_up = self.server.down_until.is_none() && self.clients[file.client].down_until.is_none();
        let Some(flow) = file.flow else {
            if is_up && file.retry_at <= now {
                self.begin(number);
            }
            return;
        };
        let ends = Self::ends(flow);
        let receiver = ends[usize::from(file.is_upload)];
        if self.world.ends[receiver].kept.is_complete() && self.world.ends[receiver].hostile.is_none() {
            // Its digest is compared and its owner told over the control connection.
            file.is_done = is_up;
            return;
        }
        let dead = ends.map(|end| self.world.ends[end].hostile.is_some());
        let failed = ends.map(|end| self.world.ends[end].failed().is_some());
        if !dead.iter().chain(&failed).any(|&is_so| is_so) {
            return;
        }
        // The control connection tells the other side at once, or breaks off as well.
        for (end, is_dead) in ends.into_iter().zip(dead) {
            if !is_dead && self.world.ends[end].closed_at().is_none() {
                self.world.ends[end].connection.abort(ConnectionError::Cancelled);
                self.world.drain(end, Vec::new());
            }
        }
        let here = self.world.ends[receiver].kept.prefix().min(file.size);
        let safe = match dead[usize::from(file.is_upload)] {
            false => here,
            // What was not synced is lost, more or less of it.
            true => file.start.max(self.random.below(here + 1)),
        };
        file.start = file.start.max(safe / STEP * STEP);
        // The last octet at least has to come anew, or there would be nothing to open.
        if file.start == file.size {
            file.start = file.start.saturating_sub(STEP);
        }
        file.flow = None;
        file.retry_at = now + file.pause;
        file.pause = (file.pause * 2).min(RETRY.1);
    }

    fn begin(&mut self, number: usize) {
        let file = &mut self.files[number];
        file.attempts += 1;
        assert!(file.attempts < 1_000, "file {number} begins again and again");
        let id = TransferId((number as u32) << 16 | file.attempts);
        let (client, server) = configs(file.size, ms(100), self.world.seed ^ u64::from(id.0) << 8);
        let (to_client, to_server) = match file.is_upload {
            true => (Direction::Send, Direction::Receive),
            false => (Direction::Receive, Direction::Send),
        };
        let client = Config { id, direction: to_client, start: file.start, ..client };
        let server = Config { id, direction: to_server, start: file.start, ..server };
        file.flow = Some(self.world.add(client, server, self.world.now + ms(1)));
    }

    /// What goes wrong in this slice of time.
    fn disturb(&mut self) {
        let now = self.world.now;
        if self.random.chance(0.01) {
            self.world.up.is_cut = !self.world.up.is_cut;
        }
        if self.random.chance(0.01) {
            self.world.down.is_cut = !self.world.down.is_cut;
        }
        if self.random.chance(0.004) && self.server.down_until.is_none() {
            self.server.down_until = Some(now + ms(self.random.below(5_000)));
            self.chat.restart();
            (0..FILES).for_each(|number| self.kill(number, true));
        }
        for client in 0..CLIENTS {
            if self.random.chance(0.002) && self.clients[client].down_until.is_none() {
                self.clients[client].down_until = Some(now + ms(self.random.below(5_000)));
                self.chat.leave(client);
                (0..FILES)
                    .filter(|&number| self.files[number].client == client)
                    .collect::<Vec<_>>()
                    .into_iter()
                    .for_each(|number| self.kill(number, false));
            }
        }
        for number in 0..FILES {
            let Some(flow) = self.files[number].flow else { continue };
            for end in Self::ends(flow) {
                self.world.ends[end].is_unreadable = self.random.chance(self.disk_errors / 10.0);
                self.world.ends[end].is_unwritable = self.random.chance(self.disk_errors / 10.0);
            }
        }
    }

    /// The program at one end of a file's connection dies.
    fn kill(&mut self, number: usize, is_server: bool) {
        let Some(flow) = self.files[number].flow.filter(|_| !self.files[number].is_done) else { return };
        self.world.play(Self::ends(flow)[usize::from(is_server)], Dead);
    }

    fn come_back(&mut self) {
        let now = self.world.now;
        let programs = self.clients.iter_mut().chain([&mut self.server]);
        for program in programs.filter(|program| program.down_until.is_some_and(|until| until <= now)) {
            program.down_until = None;
        }
    }

    /// From now on nothing fails any more, on a link like any other.
    fn calm_down(&mut self) {
        // A queue that is full of a slow link's packets would be one more fault.
        for wire in [&mut self.world.up, &mut self.world.down] {
            *wire = Wire::new(Link::default(), self.world.seed);
        }
        for end in &mut self.world.ends {
            (end.is_unreadable, end.is_unwritable) = (false, false);
        }
        for program in self.clients.iter_mut().chain([&mut self.server]) {
            program.down_until = None;
        }
    }

    fn describe(&self) -> String {
        let file = |file: &File| {
            format!(
                "\n  {} of {} octets: flow {:?}, from {}, {} attempts, {}",
                if file.is_upload { "upload" } else { "download" },
                file.size,
                file.flow,
                file.start,
                file.attempts,
                if file.is_done { "done" } else { "not done" }
            )
        };
        let files: String = self.files.iter().map(file).collect();
        format!("{files}\n{}", self.world.describe())
    }
}

/// The room and what each of the eight has heard in it, against a model of who is there.
#[derive(Default)]
struct Chat {
    room: Room,
    /// Member, nick and what was heard, of each client that is in.
    members: BTreeMap<usize, (MemberId, String, Vec<String>)>,
    last_id: u64,
    said: u64,
    /// What was said to all, in order, since the server began.
    history: Vec<String>,
}

impl Chat {
    fn step(&mut self, random: &mut Random) {
        let client = random.below(CLIENTS as u64) as usize;
        let Some((id, nick, _)) = self.members.get(&client).cloned() else {
            return self.join(client, random);
        };
        match random.below(12) {
            0 => self.leave(client),
            1 => {
                let wish = format!("n{}", random.below(CLIENTS as u64 + 4));
                let is_taken = self.members.values().any(|(other, taken, _)| *taken == wish && *other != id);
                let deliveries = self.room.rename(id, Nick::parse(&wish).expect("a nick"));
                if !is_taken {
                    self.members.get_mut(&client).expect("it is in").1.clone_from(&wish);
                }
                let is_refused =
                    matches!(deliveries[..], [Delivery { message: ServerMessage::Err { .. }, .. }]);
                assert_eq!(is_refused, is_taken, "{nick} wants to be {wish}");
                self.deliver(deliveries);
            }
            2 => {
                let to = random.below(CLIENTS as u64) as usize;
                let Some((to_id, to_nick, _)) = self.members.get(&to).cloned() else { return };
                let deliveries =
                    self.room.whisper(id, &Nick::parse(&to_nick).expect("a nick"), "psst".into());
                assert!(matches!(deliveries[..], [Delivery { to: Audience::One(one), .. }] if one == to_id));
                self.deliver(deliveries);
            }
            3 => {
                let deliveries = self.room.who(id);
                let [Delivery { message: ServerMessage::Users(count, _), .. }] = &deliveries[..] else {
                    panic!("one line is enough: {deliveries:?}")
                };
                assert_eq!(*count, self.members.len());
            }
            _ => {
                self.said += 1;
                let deliveries = self.room.say(id, self.said.to_string());
                self.deliver(deliveries);
            }
        }
    }

    fn join(&mut self, client: usize, random: &mut Random) {
        let wish = format!("n{}", random.below(CLIENTS as u64 + 4));
        let is_taken = self.members.values().any(|(_, taken, _)| *taken == wish);
        self.last_id += 1;
        let id = MemberId(self.last_id);
        let joined = self.room.join(id, Nick::parse(&wish).expect("a nick"), random.chance(0.2));
        assert_eq!(joined.is_err(), is_taken, "{wish}");
        let Ok(deliveries) = joined else { return };
        self.members.insert(client, (id, wish, Vec::new()));
        self.deliver(deliveries);
    }

    fn leave(&mut self, client: usize) {
        let Some((id, _, heard)) = self.members.remove(&client) else { return };
        self.check(&heard);
        let deliveries = self.room.leave(id);
        self.deliver(deliveries);
    }

    fn deliver(&mut self, deliveries: Vec<Delivery>) {
        for Delivery { to, message } in deliveries {
            let line = message.emit();
            if let ServerMessage::Msg(..) = message {
                self.history.push(line.clone());
            }
            for (id, _, heard) in self.members.values_mut() {
                let hears = match to {
                    Audience::One(one) => one == *id,
                    Audience::All => true,
                    Audience::AllBut(but) => but != *id,
                };
                if hears {
                    heard.push(line.clone());
                }
            }
        }
    }

    /// What somebody heard of the room is a piece of its history without a gap.
    fn check(&self, heard: &[String]) {
        let said: Vec<&String> = heard.iter().filter(|line| line.starts_with("MSG_")).collect();
        let Some(first) = said.first() else { return };
        let at = self.history.iter().position(|line| line == *first).expect("it was said");
        assert!(self.history[at..].iter().zip(&said).all(|(a, b)| a == *b), "a gap or another order");
        assert!(at + said.len() <= self.history.len(), "more than was said");
    }

    /// The server is another one.
    fn restart(&mut self) {
        std::mem::take(&mut self.members).values().for_each(|(_, _, heard)| self.check(heard));
        (self.room, self.history) = (Room::default(), Vec::new());
    }

    fn end(&mut self) {
        (0..CLIENTS).for_each(|client| self.leave(client));
        assert!(self.room.is_empty(), "somebody is left");
    }
}

#[test]
fn s34_everything_comes_to_its_end_once_the_faults_stop() {
    let number = |variable: &str| env::var(variable).ok().map(|text| text.parse::<u64>().expect("a number"));
    if let Some(seed) = number("PACKETBOAT_SWARM_SEED") {
        return Swarm::new(seed).run();
    }
    let hour = Duration::from_secs(number("PACKETBOAT_SWARM_SECONDS").unwrap_or(3_600));
    let (begin, mut seed, mut broken) = (Instant::now(), 0, 0);
    while if is_night() { begin.elapsed() < hour } else { seed < 200 } {
        let mut swarm = Swarm::new(seed);
        swarm.run();
        broken += swarm.files.iter().map(|file| u64::from(file.attempts) - 1).sum::<u64>();
        seed += 1;
    }
    println!("s34: {seed} seeds, {broken} transfers broke off and went on, in {:?}", begin.elapsed());
    assert!(broken > 0, "the faults have to be felt");
}
