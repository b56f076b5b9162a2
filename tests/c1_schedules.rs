//! C1: in no order of their steps do readers, writers and shutdown wait for each other, lose a line or mix an order up.
//!
//! Hub, writers and readers are the product's, built upon the threads, locks, channels and atomics of `shuttle`
//! (`tests/schedules`): it runs one step of one thread after another, in an order that it chooses, and finds threads
//! that wait for ever. It does so at random and by PCT (Burckhardt and others, 2010) of depth 3: 500 schedules each, at
//! night 10,000. What is said, how small the queues are, who takes nothing, who wants whose nick, whether there are two
//! writers and when the server is shut down is chosen by chance for each schedule.
//!
//! A wait for a lock or a word from somebody never times out here, so whoever is forgotten is found, also where the
//! product would look again after a while. A failure is the same when the test runs again; SHUTTLE_RANDOM_SEED has it
//! search elsewhere, SHUTTLE_CAPTURE_BACKTRACE=1 tells where threads wait.
#![allow(clippy::print_stdout, reason = "figures, for whoever asks with --nocapture")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use packetboat_schedules::shuttle::rand::{Rng, thread_rng};
use packetboat_schedules::shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use packetboat_schedules::shuttle::{Config, FailurePersistence, MaxSteps, Runner};
use packetboat_schedules::{Client, Kind, Limits, Running, start};

const CLIENTS: usize = 3;

const SEED: u64 = 1;

/// Commands that a writer may be given while its readers ought to pause: of each client Add, one request and its end,
/// which are 6 at most, and the good-byes of the shutdown.
const UNPAUSED_MAX: usize = CLIENTS * (1 + 6 + 2) + 2;

/// What one client is going to do.
#[derive(Debug)]
struct Plan {
    nick: String,
    renamed: String,
    kind: Kind,
    says: Vec<String>,
    /// To whom, and what.
    whispers: Vec<(usize, String)>,
    lines: Vec<String>,
}

impl Plan {
    /// Each text is said once, and tells by whom and as its how manieth.
    fn new(client: usize, is_wanted: bool, takes_over: bool) -> Plan {
        let mut chance = thread_rng();
        let nick = if takes_over { "N0".into() } else { format!("n{client}") };
        let kind = match chance.gen_range(0..8) {
            0 | 1 => Kind::Stubborn,
            2 => Kind::Deaf,
            3..=5 if is_wanted => Kind::Deaf,
            _ => Kind::Lively,
        };
        let mut plan = Plan {
            lines: vec![format!("HELLO_{nick}\n"); if takes_over { 3 } else { 1 }],
            renamed: format!("r{client}"),
            nick,
            kind,
            says: Vec::new(),
            whispers: Vec::new(),
        };
        let mut is_renamed = false;
        for number in 0..chance.gen_range(2..7) {
            let text = format!("{client} {number}");
            plan.lines.push(match chance.gen_range(0..8) {
                0 | 1 => {
                    let to = chance.gen_range(0..CLIENTS);
                    plan.whispers.push((to, text.clone()));
                    format!("PM_n{to} {text}\n")
                }
                2 if !is_renamed => {
                    is_renamed = true;
                    format!("NICK_{}\n", plan.renamed)
                }
                3 => "WHO_\n".into(),
                _ => {
                    plan.says.push(text.clone());
                    format!("ALL_{text}\n")
                }
            });
        }
        // Of the others, some just fall silent; some have never said anything.
        if kind != Kind::Lively && chance.gen_ratio(1, 6) {
            (plan.says, plan.whispers, plan.lines) = Default::default();
        } else if kind == Kind::Lively || chance.gen_bool(0.5) {
            plan.lines.push("QUIT_\n".into());
        }
        plan
    }
}

/// What is the case in one schedule, beside the clients' plans.
#[derive(Debug)]
struct Circumstances {
    /// Nobody is dropped but who takes nothing at all.
    is_roomy: bool,
    /// The last one wants the nick of the first.
    takes_over: bool,
    /// Somebody shuts the server down at some moment, and not only when all have left.
    is_shut_down: bool,
}

/// How often something has happened: a test in which it never does says nothing about it.
#[derive(Debug, Default)]
struct Tally {
    schedules: AtomicUsize,
    said: AtomicUsize,
    whispered: AtomicUsize,
    cut: AtomicUsize,
    taken_over: AtomicUsize,
    shut_down: AtomicUsize,
    unheard: AtomicUsize,
    had_two_writers: AtomicUsize,
}

/// One schedule.
fn live(tally: &Tally) {
    let mut chance = thread_rng();
    let circumstances = Circumstances {
        is_roomy: chance.gen_ratio(2, 3),
        takes_over: chance.gen_ratio(1, 4),
        is_shut_down: chance.gen_ratio(1, 3),
    };
    let is_roomy = circumstances.is_roomy;
    let day = Duration::from_secs(24 * 60 * 60);
    let backlog_max = if chance.gen_bool(0.5) { 2 } else { 1_000 };
    let limits = Limits {
        rate: None,
        login_timeout: day,
        challenge_after: Duration::ZERO,
        outbox_lines_max: if is_roomy { 1_000 } else { 5 },
        outbox_bytes_max: if is_roomy { 100_000 } else { 200 },
        backlog_max,
        one_writer_max: if chance.gen_bool(0.5) { 1 } else { CLIENTS },
        ..Limits::default()
    };
    let plans: Vec<Plan> = (0..CLIENTS)
        .map(|client| {
            let takes_over = |by: usize| circumstances.takes_over && client == by;
            Plan::new(client, takes_over(0), takes_over(CLIENTS - 1))
        })
        .collect();

    let (server, network) = Running::start(&limits);
    let server = Arc::new(server);
    let shut_down = circumstances.is_shut_down.then(|| {
        let server = Arc::clone(&server);
        let takes = chance.gen_range(0..80);
        start("shutdown", move || server.shut_down_after(takes, CLIENTS))
    });
    let readers: Vec<_> =
        plans.iter().map(|plan| server.connect(plan.kind, plan.lines.iter().cloned())).collect();
    let come = readers.iter().flatten().count();
    readers.into_iter().flatten().for_each(|reader| reader.join().expect("no panic"));
    match shut_down {
        Some(shut_down) => shut_down.join().expect("no panic"),
        None => server.shutdown(),
    }
    assert!(server.longest_backlog() <= backlog_max + UNPAUSED_MAX, "{} commands", server.longest_backlog());
    let who = server.who();
    tally.had_two_writers.fetch_add(server.writers() - 1, Ordering::Relaxed);
    let clients = server.end(network);

    let heard: Vec<Heard> = clients.iter().map(Heard::new).collect();
    let story = Story { circumstances: &circumstances, plans: &plans, clients: &clients, heard: &heard };
    story.check(come, &who);
    story.count(tally);
}

/// What one client has heard, line by line.
#[derive(Debug, Default)]
struct Heard {
    lines: Vec<String>,
    /// What the room heard from its own JOIN to its own LEAVE, both included.
    room: Vec<String>,
    is_in: bool,
    has_bye: bool,
    has_sys: bool,
}

impl Heard {
    fn new(client: &Client) -> Heard {
        let text = String::from_utf8(client.heard.clone()).expect("UTF-8");
        // Who was cut off may have heard half a line.
        let complete = text.rfind('\n').map_or("", |last| &text[..last]);
        assert!(client.was_cut || !client.kind.hears() || text.len() <= complete.len() + 1);
        let lines: Vec<String> = complete.lines().map(str::to_owned).collect();
        let mut heard = Heard::default();
        let mut nick = String::new();
        for line in &lines {
            let (protocol, rest) = line.split_once('_').expect("a line");
            match protocol {
                "WELCOME" => {
                    assert!(!heard.is_in, "welcome is one once: {lines:?}");
                    heard.is_in = true;
                    nick = rest.split(' ').next().expect("a nick").to_owned();
                    heard.room.push(format!("JOIN_{nick}"));
                }
                "MSG" | "JOIN" | "LEAVE" | "NICK" | "SYS" => {
                    assert!(heard.is_in && !heard.has_sys, "{line:?} is not for it: {lines:?}");
                    heard.has_sys = protocol == "SYS";
                    if let Some(new) = line.strip_prefix(&format!("NICK_{nick} ")) {
                        nick = new.to_owned();
                    }
                    heard.room.push(line.clone());
                }
                "BYE" => heard.has_bye = true,
                "PM" | "ERR" | "USERS" | "PING" => {}
                _ => panic!("{line:?} is nothing that a server says: {lines:?}"),
            }
        }
        // Everything that was for it has come: then that was what the room heard before it left.
        let is_whole = heard.is_in && client.kind.hears() && !client.was_cut;
        if is_whole && !heard.has_sys {
            heard.room.push(format!("LEAVE_{nick}"));
        }
        heard.lines = lines;
        heard
    }
}

/// Who says a text: it begins with that.
fn speaker(text: &str) -> usize {
    text.split(' ').next().and_then(|number| number.parse().ok()).expect("a number")
}

struct Story<'a> {
    circumstances: &'a Circumstances,
    plans: &'a [Plan],
    clients: &'a [Client],
    heard: &'a [Heard],
}

impl Story<'_> {
    /// Whether all that was for it has come, until it left by itself or the server closed.
    fn is_whole(&self, client: usize) -> bool {
        let Client { kind, was_cut, .. } = self.clients[client];
        kind.hears() && !was_cut && self.heard[client].is_in
    }

    fn check(&self, come: usize, who: &str) {
        let Circumstances { is_roomy, takes_over, is_shut_down } = *self.circumstances;
        let story = || format!("{:#?} {:#?} {:#?}", self.circumstances, self.plans, self.heard);
        assert!(who.starts_with("USERS_0"), "somebody is still here: {who:?}, {}", story());
        assert!(is_shut_down || come == CLIENTS, "{come} came, {}", story());
        self.check_order(&story);
        for client in 0..self.heard.len() {
            self.check_texts(client, &story);
            // Nobody who takes what it is told loses anything, unless its queue is small or its nick is another's.
            if is_roomy && self.plans[client].kind.hears() && !(takes_over && client == 0) {
                assert!(!self.clients[client].was_cut, "{client} was cut off, {}", story());
            }
            if self.is_whole(client) && !(takes_over && client == 0) {
                let Heard { has_bye, has_sys, .. } = self.heard[client];
                assert!(has_bye && (is_shut_down || !has_sys), "{client} has no BYE, {}", story());
            }
        }
        let are_whole = (0..CLIENTS).all(|client| client < come && self.is_whole(client));
        if are_whole && !is_shut_down && !takes_over {
            self.check_whispers(&story);
        }
    }

    /// One order of all that the room heard, and each client heard a part of it without a gap.
    fn check_order(&self, story: &impl Fn() -> String) {
        let (mut next, mut previous) = (BTreeMap::new(), BTreeMap::new());
        let mut all = BTreeSet::new();
        for (client, heard) in self.heard.iter().enumerate() {
            let distinct: BTreeSet<&String> = heard.room.iter().collect();
            assert_eq!(distinct.len(), heard.room.len(), "{client} heard something twice, {}", story());
            all.extend(distinct);
            for pair in heard.room.windows(2) {
                let after = *next.entry(&pair[0]).or_insert(&pair[1]);
                assert_eq!(after, &pair[1], "after {:?} {client} heard another line, {}", pair[0], story());
                let before = *previous.entry(&pair[1]).or_insert(&pair[0]);
                assert_eq!(before, &pair[0], "before {:?} {client} heard another line, {}", pair[1], story());
            }
        }
        let mut in_order = 0;
        for first in all.iter().filter(|line| !previous.contains_key(*line)) {
            let chain = std::iter::successors(Some(*first), |line| next.get(*line).copied());
            in_order += chain.count();
        }
        assert_eq!(in_order, all.len(), "the order goes round in a circle, {}", story());
    }

    /// All it heard was said, by the one it seems to come from and in that one's order; whispers were for it.
    fn check_texts(&self, client: usize, story: &impl Fn() -> String) {
        let mut last: BTreeMap<usize, &str> = BTreeMap::new();
        for line in &self.heard[client].lines {
            let Some((protocol @ ("MSG" | "PM"), rest)) = line.split_once('_') else { continue };
            let (nick, text) = rest.split_once(' ').expect("a text");
            let by = speaker(text);
            let Plan { nick: first, renamed, says, whispers, .. } = &self.plans[by];
            assert!(nick == first || nick == renamed, "{client} heard {line:?}, {}", story());
            let is_said = match protocol {
                "MSG" => says.iter().any(|said| said == text),
                _ => whispers.iter().any(|(to, said)| said == text && self.is_called(client, *to)),
            };
            assert!(is_said, "{client} heard {line:?}, {}", story());
            // One digit each, so they compare as text.
            let before = last.insert(by, text);
            assert!(before.is_none_or(|before| before < text), "{client} heard {line:?} late, {}", story());
        }
        // Who has stayed until it left heard all that it said.
        let Heard { room, has_sys, .. } = &self.heard[client];
        let was_taken_over = self.circumstances.takes_over && client == 0;
        if self.is_whole(client) && !has_sys && !was_taken_over {
            let own = room.iter().filter(|line| line.starts_with("MSG_"));
            let own = own.filter_map(|line| line.split_once(' ').map(|(_, text)| text));
            let own: Vec<&str> = own.filter(|text| speaker(text) == client).collect();
            assert_eq!(own, self.plans[client].says, "{client} misses what it said, {}", story());
        }
    }

    /// Whether a whisper to `n<number>` may be for this one.
    fn is_called(&self, client: usize, number: usize) -> bool {
        self.plans[client].nick.eq_ignore_ascii_case(&format!("n{number}"))
    }

    /// Where all have stayed until they left: each whisper has come, or its sender knows that nobody is called so.
    fn check_whispers(&self, story: &impl Fn() -> String) {
        for (client, plan) in self.plans.iter().enumerate() {
            let of_mine = |line: &&String| {
                line.strip_prefix("PM_")
                    .and_then(|rest| rest.split_once(' '))
                    .is_some_and(|(_, text)| speaker(text) == client)
            };
            let arrived = self.heard.iter().flat_map(|heard| &heard.lines).filter(of_mine).count();
            let refused = self.heard[client].lines.iter().filter(|line| line.starts_with("ERR_no-user PM"));
            let known = arrived + refused.count();
            assert_eq!(known, plan.whispers.len(), "whispers of {client} are lost, {}", story());
        }
    }

    fn count(&self, tally: &Tally) {
        let lines = || self.heard.iter().flat_map(|heard| &heard.lines);
        let add = |counter: &AtomicUsize, count: usize| counter.fetch_add(count, Ordering::Relaxed);
        add(&tally.schedules, 1);
        add(&tally.said, lines().filter(|line| line.starts_with("MSG_")).count());
        add(&tally.whispered, lines().filter(|line| line.starts_with("PM_")).count());
        add(&tally.cut, self.clients.iter().filter(|client| client.was_cut).count());
        // First the nick was another's, then it was not.
        let is_refused =
            |heard: &Heard| heard.lines.iter().any(|line| line.starts_with("ERR_nick-taken HELLO"));
        add(&tally.taken_over, self.heard.iter().filter(|heard| heard.is_in && is_refused(heard)).count());
        add(&tally.shut_down, self.heard.iter().filter(|heard| heard.has_sys).count());
        add(&tally.unheard, lines().filter(|line| line.starts_with("ERR_no-user PM")).count());
    }
}

fn run(scheduler: impl Scheduler + 'static) {
    let mut config = Config::new();
    // Of memory orders weaker than SeqCst, which are not told apart.
    config.silence_warnings = true;
    config.failure_persistence = FailurePersistence::None;
    config.stack_size = 256 * 1024;
    config.max_steps = MaxSteps::FailAfter(100_000);
    let tally = Arc::new(Tally::default());
    let schedules = Arc::clone(&tally);
    Runner::new(scheduler, config).run(move || live(&schedules));
    println!("{tally:?}");
    let Tally { schedules, said, whispered, cut, taken_over, shut_down, unheard, had_two_writers } = &*tally;
    assert_eq!(schedules.load(Ordering::Relaxed), schedule_count());
    for count in [said, whispered, cut, taken_over, shut_down, unheard, had_two_writers] {
        assert!(count.load(Ordering::Relaxed) > 0, "something never happens: {tally:?}");
    }
}

fn schedule_count() -> usize {
    let is_night = std::env::var_os("PACKETBOAT_TIER").is_some_and(|tier| tier == "N");
    if is_night { 10_000 } else { 500 }
}

#[test]
fn c1_in_random_orders_nobody_waits_for_ever_and_everybody_hears_one_order() {
    run(RandomScheduler::new_from_seed(SEED, schedule_count()));
}

#[test]
fn c1_in_orders_of_pct_nobody_waits_for_ever_and_everybody_hears_one_order() {
    run(PctScheduler::new_from_seed(SEED, 3, schedule_count()));
}
