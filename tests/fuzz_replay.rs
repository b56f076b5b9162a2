//! The fuzz targets without a fuzzer: every file of the corpus, then mutations of them from a seed.
//!
//! `PACKETBOAT_FUZZ_TIMES` says how many mutations per target, `PACKETBOAT_FUZZ_SEED` which. An input that fails is
//! written to a file, whose path is printed; `PACKETBOAT_FUZZ_INPUT` replays that one alone.

#![expect(clippy::print_stdout, reason = "the seed of a failure has to be seen")]

mod fuzz;

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::{env, fs, panic};

use fuzz::bytes::Bytes;
use fuzz::world::World;
use fuzz::{TARGETS, Target, connection, hostile, packet};
use packetboat::rudp::{State, split_mix_64};
use packetboat::wire::packet::{Header, Kind};

/// What an input may make us hold at once, beside the file itself: both ends, what is on the link, and the watchers.
const HELD_BYTES_MAX: u64 = 64 << 20;

/// Ours: longer inputs take longer and find nothing more.
const INPUT_LEN_MAX: usize = 1_024;

#[test]
fn f1_lines_are_the_same_at_every_cut() {
    fuzz("f1_line", 30_000);
}

#[test]
fn f2_messages_are_printed_as_they_are_read() {
    fuzz("f2_message", 300_000);
}

#[test]
fn f3_packets_are_read_and_written_alike() {
    fuzz("f3_packet", 1_500_000);
}

#[test]
fn f4_connections_survive_any_script() {
    fuzz("f4_connection", 3_000);
}

#[test]
fn f5_nothing_hidden_reaches_a_terminal() {
    fuzz("f5_sanitiser", 100_000);
}

#[test]
fn f6_names_are_those_of_the_rule() {
    fuzz("f6_name", 300_000);
}

#[test]
fn f7_ranges_equal_their_models() {
    fuzz("f7_ranges", 10_000);
}

#[test]
fn f8_the_room_equals_its_model_whatever_three_clients_send() {
    fuzz("f8_session", 700);
}

#[test]
fn f9_a_hostile_server_gets_nothing_past_the_client() {
    fuzz("f9_client", 300);
    let finished = hostile::FINISHED.load(Ordering::Relaxed);
    assert!(finished >= 8, "{finished} files have arrived in all scripts");
}

#[test]
fn f10_leftovers_become_the_right_file_or_none() {
    fuzz("f10_leftover", 2_000);
}

#[test]
fn one_input_is_replayed() {
    let Some(path) = env::var_os("PACKETBOAT_FUZZ_INPUT").map(PathBuf::from) else { return };
    let input = fs::read(&path).expect("PACKETBOAT_FUZZ_INPUT is a file");
    let name = path.to_string_lossy().into_owned();
    let (_, target) =
        TARGETS.into_iter().find(|(target, _)| name.contains(target)).expect("its path names its target");
    target(&input);
}

/// Found by reading along: the probe timer outlived what it was set for, and TIME-WAIT asked a peer that was gone.
#[test]
fn time_wait_has_no_questions() {
    let (client, server) = connection::configs(&mut Bytes(&[0b1111_0100, 128, 0, 100]));
    let mut world = World::new(client, server);
    // Everything arrives but the ACK of the server's FIN: the client's own FIN has to do.
    while world.server.connection.state() != State::TimeWait {
        if world.link.is_empty() {
            assert!(world.advance_to_timer());
            continue;
        }
        world.advance(Duration::from_millis(1));
        let flying = world.link.remove(0);
        let is_ack = Header::parse(&flying.octets).is_ok_and(|header| header.kind == Kind::Ack);
        if !(is_ack && world.server.connection.state() == State::FinWait1) {
            world.deliver(flying, false);
        }
    }
    let before = world.server.connection.stats();
    while world.server.closed.is_none() {
        world.advance_to_timer();
    }
    assert_eq!(world.server.connection.stats(), before, "nothing was sent, no probe timer fired");
}

fn number(variable: &str, default: u64) -> u64 {
    env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

/// Replays the corpus of a target, then that many mutations.
fn fuzz(name: &str, iterations: u64) {
    let (_, target) = TARGETS.into_iter().find(|(target, _)| *target == name).expect("a target");
    let corpus = corpus(name);
    for (path, input) in &corpus {
        check(name, target, input, &path.display().to_string());
    }
    let seed = number("PACKETBOAT_FUZZ_SEED", 1);
    let iterations = iterations * number("PACKETBOAT_FUZZ_TIMES", 1);
    println!("{name}: {} files, then {iterations} mutations from seed {seed}", corpus.len());
    let mut random = Random(seed);
    for iteration in 0..iterations {
        let input = mutate(&corpus, &mut random);
        check(name, target, &input, &format!("seed {seed}, iteration {iteration}"));
    }
}

fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).expect("a corpus").map(|entry| entry.expect("a file").path()).collect();
    paths.sort();
    assert!(paths.len() >= 10, "the corpus of {name} is too small");
    paths.into_iter().map(|path| (path.clone(), fs::read(path).expect("readable"))).collect()
}

/// Runs one input; when it fails, keeps it.
fn check(name: &str, target: Target, input: &[u8], origin: &str) {
    let mut outcome = Ok(());
    let held = allocation_counter::measure(|| outcome = panic::catch_unwind(|| target(input)));
    let read = allocation_counter::measure(|| _ = black_box(packet::read(input)));
    if outcome.is_ok() && held.bytes_max <= HELD_BYTES_MAX && read.count_total == 0 {
        return;
    }
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-failed"));
    fs::write(&path, input).expect("the target directory is writable");
    panic!(
        "{name} fails by {origin}, holding {} octets; PACKETBOAT_FUZZ_INPUT={}",
        held.bytes_max,
        path.display()
    );
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(split_mix_64(&mut self.0) % bound.max(1) as u64).expect("below a usize")
    }

    fn octet(&mut self) -> u8 {
        split_mix_64(&mut self.0).to_be_bytes()[0]
    }
}

/// One of the corpus, changed a few times.
fn mutate(corpus: &[(PathBuf, Vec<u8>)], random: &mut Random) -> Vec<u8> {
    let pick = |random: &mut Random| corpus[random.below(corpus.len())].1.clone();
    let mut input = pick(random);
    for _ in 0..=random.below(8) {
        let at = random.below(input.len());
        match random.below(8) {
            0 | 1 if !input.is_empty() => input[at] ^= 1 << random.below(8),
            2 if !input.is_empty() => input[at] = [0, 1, 0x7f, 0x80, 0xff, random.octet()][random.below(6)],
            3 => input.truncate(at),
            4 => {
                let octets: Vec<u8> = (0..random.below(16)).map(|_| random.octet()).collect();
                input.splice(at..at, octets);
            }
            5 => {
                let end = (at + random.below(16)).min(input.len());
                input.drain(at..end);
            }
            // The head of one, the tail of another.
            6 => {
                let other = pick(random);
                input.truncate(at);
                input.extend(&other[random.below(other.len())..]);
            }
            // Something again.
            _ => {
                let end = (at + random.below(32)).min(input.len());
                let again = input[at..end].to_vec();
                input.splice(at..at, again);
            }
        }
    }
    input.truncate(INPUT_LEN_MAX);
    input
}
