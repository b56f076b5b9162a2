//! What many people in one room hear: one order for all (S35), and one owner of each nick (S37).
//!
//! Runs on every push S35 5 with 20 clients of 100 messages, S37 1,000; at night S35 100 with 50 clients of 2,000.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use common::{Dice, PATIENCE, RawClient, by_tier, server_with};
use crossbeam_channel::{Receiver, unbounded};
use packetboat::server::Limits;
use socket2::SockRef;

/// Messages of one client that the room has not repeated yet. Ours: all clients together stay below a full outbox.
const UNDER_WAY_MAX: usize = 8;

/// One stay in the room.
struct Stay {
    stream: TcpStream,
    /// What concerns this client alone: answers, and its own messages as the room repeats them.
    own: Receiver<String>,
    /// Everything that it hears, in order.
    view: JoinHandle<Vec<String>>,
    under_way: usize,
}

impl Stay {
    /// Comes in; who was killed a moment ago may still be there for the server.
    fn begin(addr: SocketAddr, nick: &str) -> Stay {
        let stream = TcpStream::connect(addr).expect("connected");
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        let (tell, own) = unbounded();
        let reader = BufReader::new(stream.try_clone().expect("a descriptor"));
        let mine = format!("MSG_{nick} ");
        let is_own = move |line: &str| {
            let answers = ["WELCOME_", "ERR_", "PONG_", "BYE_"];
            line.starts_with(&mine) || answers.iter().any(|answer| line.starts_with(answer))
        };
        let view = thread::spawn(move || {
            let mut view = Vec::new();
            // A connection that was killed ends with an error.
            for line in reader.lines().map_while(Result::ok) {
                if is_own(&line) {
                    let _ = tell.send(line.clone());
                }
                view.push(line);
            }
            view
        });
        let mut stay = Stay { stream, own, view, under_way: 0 };
        loop {
            stay.send(&format!("HELLO_{nick}\n"));
            let answer = stay.hear();
            if answer.starts_with("WELCOME_") {
                return stay;
            }
            assert!(answer.starts_with("ERR_nick-taken "), "{answer:?}");
        }
    }

    fn send(&mut self, line: &str) {
        self.stream.write_all(line.as_bytes()).expect("written");
    }

    fn hear(&self) -> String {
        self.own.recv_timeout(PATIENCE).expect("an answer in time")
    }

    fn say(&mut self, text: &str) {
        while self.under_way == UNDER_WAY_MAX {
            self.hear_one_of_ours();
        }
        self.send(&format!("ALL_{text}\n"));
        self.under_way += 1;
    }

    fn hear_one_of_ours(&mut self) {
        let line = self.hear();
        // A whisper to somebody who has just left is refused.
        self.under_way -= usize::from(line.starts_with("MSG_"));
        assert!(line.starts_with("MSG_") || line.starts_with("ERR_no-user PM "), "{line:?}");
    }

    /// Leaves: in order when everything that it said has been heard, or at once with a reset.
    fn end(mut self, is_killed: bool) -> Vec<String> {
        if is_killed {
            SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("a socket");
            let _ = self.stream.shutdown(std::net::Shutdown::Read);
            drop(self.stream);
            return self.view.join().expect("no panic");
        }
        while self.under_way > 0 {
            self.hear_one_of_ours();
        }
        self.send("QUIT\n");
        self.view.join().expect("no panic")
    }
}

/// What one client said and heard.
#[derive(Default)]
struct Record {
    /// Texts for the room that must have been heard.
    said: Vec<String>,
    /// Texts on the way when it was killed: heard or not.
    unsure: Vec<String>,
    /// Whispers: text and whom it was for.
    whispered: Vec<(String, usize)>,
    /// What it heard in each stay.
    views: Vec<Vec<String>>,
}

fn name(client: usize) -> String {
    format!("client{client:02}")
}

/// One client's life; those that wander leave and come back.
fn live(
    addr: SocketAddr,
    client: usize,
    clients: usize,
    messages: usize,
    seed: u64,
    first: Stay,
) -> (Stay, Record) {
    let mut dice = Dice(seed << 16 | (client as u64 + 1));
    let wanders = client % 5 == 4;
    let (mut stay, mut record) = (first, Record::default());
    for number in 0..messages {
        if dice.below(10) == 0 {
            let to = dice.below(clients);
            let text = format!("whisper {client} {to} {number}");
            stay.send(&format!("PM_{} {text}\n", name(to)));
            record.whispered.push((text, to));
        }
        let text = format!("said {client} {number}");
        stay.say(&text);
        record.said.push(text);
        if wanders && dice.below(messages / 4 + 1) == 0 {
            let is_killed = dice.below(2) == 0;
            if is_killed {
                let sure = record.said.len() - stay.under_way;
                record.unsure.extend(record.said.split_off(sure));
            }
            record.views.push(stay.end(is_killed));
            stay = Stay::begin(addr, &name(client));
        }
    }
    while stay.under_way > 0 {
        stay.hear_one_of_ours();
    }
    (stay, record)
}

/// What a view holds for everybody.
fn room_lines(view: &[String]) -> Vec<&str> {
    let is_for_all = |line: &&str| ["MSG_", "JOIN_", "LEAVE_"].iter().any(|name| line.starts_with(name));
    view.iter().map(String::as_str).filter(is_for_all).collect()
}

fn one_history(clients: usize, messages: usize, seed: u64) {
    let limits = Limits { rate: None, challenge_after: Duration::from_millis(1), ..Limits::default() };
    let (server, _files) = server_with(limits);
    let addr = server.local_addr();
    let mut referee = Stay::begin(addr, "referee");
    let stays: Vec<Stay> = (0..clients).map(|client| Stay::begin(addr, &name(client))).collect();
    referee.say("begin");
    referee.hear_one_of_ours();
    let lives: Vec<_> = stays
        .into_iter()
        .enumerate()
        .map(|(client, stay)| thread::spawn(move || live(addr, client, clients, messages, seed, stay)))
        .collect();
    let lived: Vec<(Stay, Record)> = lives.into_iter().map(|life| life.join().expect("a life")).collect();
    // Heard: nobody who leaves now is part of the history.
    referee.say("end");
    referee.hear_one_of_ours();
    let records: Vec<Record> = lived
        .into_iter()
        .map(|(stay, mut record)| {
            record.views.push(leave_after_end(stay));
            record
        })
        .collect();
    let reference = leave_after_end(referee);
    check(&room_lines(&reference), &records, seed);
}

/// Leaves once the referee's last word has been heard.
fn leave_after_end(mut stay: Stay) -> Vec<String> {
    stay.send("PING_all heard\n");
    while stay.hear() != "PONG_all heard" {}
    stay.under_way = 0;
    stay.end(false)
}

/// The history between the referee's words.
fn between<'a>(lines: &[&'a str]) -> Vec<&'a str> {
    let begin = lines.iter().position(|line| *line == "MSG_referee begin").map_or(0, |at| at + 1);
    let end = lines.iter().position(|line| *line == "MSG_referee end").unwrap_or(lines.len());
    lines[begin..end].to_vec()
}

fn check(reference: &[&str], records: &[Record], seed: u64) {
    let order = between(reference);
    let places: BTreeMap<&str, usize> = order.iter().enumerate().map(|(at, line)| (*line, at)).collect();

    // Every message once, by somebody who said it, in the order in which each said his.
    let mut heard: Vec<BTreeSet<&str>> = vec![BTreeSet::new(); records.len()];
    let mut last = vec![None; records.len()];
    for line in order.iter().filter(|line| line.starts_with("MSG_")) {
        let text = line.split_once(' ').expect("a text").1;
        let numbers: Vec<usize> =
            text.split(' ').skip(1).map(|word| word.parse().expect("a number")).collect();
        let [client, number] = numbers[..] else { panic!("seed {seed}: a phantom {line:?}") };
        assert!(line.starts_with(&format!("MSG_{} ", name(client))), "seed {seed}: {line:?}");
        assert!(last[client] < Some(number), "seed {seed}: {line:?} after {:?}", last[client]);
        last[client] = Some(number);
        heard[client].insert(text);
    }
    for (client, record) in records.iter().enumerate() {
        let said: BTreeSet<&str> = record.said.iter().map(String::as_str).collect();
        let unsure: BTreeSet<&str> = record.unsure.iter().map(String::as_str).collect();
        let lost: Vec<_> = said.difference(&heard[client]).collect();
        assert!(lost.is_empty(), "seed {seed}: lost of {client}: {lost:?}");
        let never_said = heard[client].iter().find(|text| !said.contains(*text) && !unsure.contains(*text));
        assert_eq!(never_said, None, "seed {seed}: a phantom of {client}");
    }

    // Everybody saw the same: all of it, or what there was between coming and going.
    let mut whispers = BTreeSet::new();
    for (client, record) in records.iter().enumerate() {
        let stayed = record.views.len() == 1;
        for view in &record.views {
            let seen = between(&room_lines(view));
            if stayed {
                let differs = seen.iter().zip(&order).position(|(a, b)| a != b);
                assert_eq!((differs, seen.len()), (None, order.len()), "seed {seed}: view of {client}");
            }
            let Some(first) =
                seen.iter().find_map(|line| places.get(line).filter(|_| line.starts_with("MSG_")))
            else {
                continue;
            };
            let skipped = seen.iter().position(|line| line.starts_with("MSG_")).expect("just found");
            let same = seen[skipped..].iter().zip(&order[*first..]).all(|(a, b)| a == b);
            assert!(same && first + seen.len() - skipped <= order.len(), "seed {seed}: a stay of {client}");
        }
        for line in record.views.iter().flatten().filter(|line| line.starts_with("PM_")) {
            let (from, text) = line.split_once(' ').expect("a text");
            let is_known = records.iter().enumerate().any(|(sender, record)| {
                from == format!("PM_{}", name(sender)) && record.whispered.contains(&(text.into(), client))
            });
            assert!(is_known, "seed {seed}: client {client} heard {line:?}");
            assert!(whispers.insert(text), "seed {seed}: twice {text:?}");
        }
    }
    for (client, record) in records.iter().enumerate().filter(|(_, record)| record.views.len() == 1) {
        for (text, to) in record.whispered.iter().filter(|(_, to)| records[*to].views.len() == 1) {
            assert!(whispers.contains(text.as_str()), "seed {seed}: lost {text:?} of {client} to {to}");
        }
    }
}

#[test]
fn s35_everybody_hears_one_history() {
    let (runs, clients, messages) = by_tier((5, 20, 100), (100, 50, 2_000));
    for seed in 1..=runs {
        one_history(clients, messages, seed);
    }
}

/// Who wants the nick: from outside with HELLO, from inside with NICK.
struct Claimant {
    client: RawClient,
    own: Option<String>,
}

const NICK: &str = "Race";

impl Claimant {
    fn new(addr: SocketAddr, number: usize) -> Claimant {
        let mut client = RawClient::connect(addr);
        let own = (number.is_multiple_of(5)).then(|| format!("member{number}"));
        if let Some(own) = &own {
            client.send(format!("HELLO_{own}\n"));
            assert_eq!(client.line(), format!("WELCOME_{own} v=1 max=4096"));
        }
        Claimant { client, own }
    }

    /// Whether it has won: what it hears of others means nothing.
    fn has_won(&mut self) -> bool {
        let (won, lost) = match &self.own {
            Some(own) => (format!("NICK_{own} "), "ERR_nick-taken NICK "),
            None => ("WELCOME_".to_owned(), "ERR_nick-taken HELLO "),
        };
        loop {
            let line = self.client.line();
            if line.starts_with(&won) || line.starts_with(lost) {
                return line.starts_with(&won);
            }
        }
    }

    /// Gives the nick back.
    fn retreat(mut self, addr: SocketAddr, number: usize) -> Claimant {
        let Some(own) = &self.own else {
            self.client.send("QUIT\n");
            self.client.rest();
            return Claimant::new(addr, number);
        };
        self.client.send(format!("NICK_{own}\n"));
        while !self.client.line().ends_with(&format!(" {own}")) {}
        self
    }
}

#[test]
fn s37_a_nick_has_one_winner() {
    const CLAIMANTS: usize = 100;
    const ROUNDS: usize = 1_000;
    let hour = Duration::from_secs(3_600);
    let limits = Limits {
        rate: None,
        unregistered_max: 2 * CLAIMANTS,
        login_timeout: hour,
        challenge_after: hour,
        ..Limits::default()
    };
    let (server, _files) = server_with(limits);
    let addr = server.local_addr();
    let mut claimants: Vec<Claimant> = (0..CLAIMANTS).map(|number| Claimant::new(addr, number)).collect();
    let spellings = [NICK, "race", "RACE", "rAcE"];
    for round in 1..=ROUNDS {
        let mut dice = Dice(round as u64);
        let mut order: Vec<usize> = (0..CLAIMANTS).collect();
        (1..CLAIMANTS).rev().for_each(|at| order.swap(at, dice.below(at + 1)));
        for number in order {
            let spelling = spellings[dice.below(spellings.len())];
            let Claimant { client, own } = &mut claimants[number];
            let request = if own.is_some() { "NICK" } else { "HELLO" };
            client.send(format!("{request}_{spelling}\n"));
        }
        let winners: Vec<usize> = (0..CLAIMANTS).filter(|&number| claimants[number].has_won()).collect();
        assert_eq!(winners.len(), 1, "round {round}: {winners:?}");
        let winner = claimants.remove(winners[0]);
        claimants.insert(winners[0], winner.retreat(addr, winners[0]));
    }
    let asker = &mut claimants[0].client;
    asker.send("WHO\n");
    let users = asker.line_but(&["JOIN_", "LEAVE_", "NICK_", "PING_"]);
    let mut members: Vec<String> =
        (0..CLAIMANTS).step_by(5).map(|number| format!("member{number}")).collect();
    members.sort();
    assert_eq!(users, format!("USERS_{} {}", members.len(), members.join(" ")));
}
