//! Files over long and lossy links: our `get` against kernel TCP on the same emulated link in the same run.
//!
//! `scripts/bench-links` runs it and says what it needs. Ours and the peers alternate; every file that is complete is
//! compared with its BLAKE3 digest. Our clock is that of `--json`, from the request to the last octet written; that of TCP begins
//! with `connect`.
#![allow(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "a benchmark that prints figures"
)]
#![allow(missing_docs, unreachable_pub, dead_code, reason = "a benchmark has no interface")]

mod emulator;
mod kernel_tcp;
mod peers;
mod storms;

use std::io::Write as _;
use std::path::PathBuf;

use emulator::{Emulator, Link};
use peers::{PACKET_IP_LEN, PAYLOAD_LEN, Peer, Sample, Shelf};
use serde_json::json;

/// The seeds' largest file.
const LARGE: u64 = 67_739_648;
const MIB: u64 = 1 << 20;

/// Long enough that a storm of the third second meets it.
const STORM_LEN: u64 = 32 * MIB;

/// A TCP that is not done by then is judged by what came.
const TCP_LIMIT_S: u64 = 12;
const TCP_LIMIT_LONG_S: u64 = 20;

/// The goals: on the wire there are so many octets per octet of the file, divided by the share that is not lost,
const WIRE_MAX: f64 = 1.065;

/// and in the queue at loss 0 such a part of a BDP, at most;
const QUEUE_MAX: f64 = 0.25;

/// the first octet comes within two round trips and this,
const FIRST_BYTE_MAX_MS: f64 = 5.0;

/// and so many packets are sent again for each that is lost, at most.
const RESENT_MAX: f64 = 1.2;

/// A link of the goals, in Mbit/s and ms, and what is to be reached on it.
struct Case {
    link: (u64, u64),
    loss: f64,
    bytes: u64,
    must: f64,
    aim: f64,
}

const fn case(link: (u64, u64), loss: f64, must: f64, aim: f64) -> Case {
    let bytes = if link.1 == 600 { 16 * MIB } else { LARGE };
    Case { link, loss, bytes, must, aim }
}

const CASES: [Case; 10] = [
    case((100, 40), 0.0, 91.5, 93.0),
    case((100, 40), 0.001, 91.0, 92.5),
    case((100, 40), 0.01, 89.5, 91.5),
    case((100, 40), 0.05, 85.0, 87.5),
    case((100, 40), 0.10, 78.0, 82.5),
    case((100, 40), 0.20, 65.0, 72.0),
    case((1_000, 2), 0.0, 900.0, 930.0),
    case((1_000, 2), 0.01, 890.0, 915.0),
    case((20, 600), 0.0, 13.7, 15.0),
    case((20, 600), 0.02, 12.6, 13.7),
];

impl Case {
    fn name(&self) -> String {
        format!("{}x{}@{}", self.link.0, self.link.1, self.loss * 100.0)
    }

    /// What the link would carry of a file under our header.
    fn limit(&self) -> f64 {
        self.link.0 as f64 * (1.0 - self.loss) * PAYLOAD_LEN as f64 / PACKET_IP_LEN
    }
}

/// What the person asked for.
struct Options {
    seeds: u64,
    /// Only cases whose name begins so.
    only: Vec<String>,
    with_tcp: bool,
    with_uftp: bool,
    share: bool,
    storms: bool,
    json: Option<PathBuf>,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if peers::play_role(&arguments) {
        return;
    }
    let options = parse(&arguments);
    let Some(emulator) = Emulator::find() else { return };
    if options.share {
        return print_shares(&emulator, &options);
    }
    if options.storms {
        let all_well = storms::run(&emulator, &Shelf::new(STORM_LEN), options.seeds);
        std::process::exit(i32::from(!all_well));
    }
    let mut results = Vec::new();
    println!(
        "| link | loss | Mbit/s (min-max) | whole program | of the limit | TCP cubic | TCP bbr | to the better TCP | \
         wire/file x (1 - p) | mean queue, BDP | first octet, RTT | resent/lost | must, aim |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    for case in CASES.iter().filter(|case| options.wants(case)) {
        let samples = run_case(case, &emulator, &options);
        print_case(case, &samples);
        results.push(json!({
            "link": case.name(), "bytes": case.bytes, "limit_mbit_per_s": case.limit(),
            "must": case.must, "aim": case.aim, "samples": samples,
        }));
    }
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&results).expect("plain data");
        std::fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

fn parse(arguments: &[String]) -> Options {
    let mut options = Options {
        seeds: 3,
        only: Vec::new(),
        with_tcp: true,
        with_uftp: false,
        share: false,
        storms: false,
        json: None,
    };
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().expect("a value").clone();
        match argument.as_str() {
            "--quick" => options.seeds = 1,
            "--seeds" => options.seeds = value().parse().expect("a number"),
            "--only" => options.only.extend(value().split(',').map(str::to_owned)),
            "--no-tcp" => options.with_tcp = false,
            "--with-uftp" => options.with_uftp = true,
            "--share" => options.share = true,
            "--storms" => options.storms = true,
            "--json" => options.json = Some(value().into()),
            // Cargo says so to every benchmark.
            "--bench" => {}
            other => panic!("{other} is not known here"),
        }
    }
    options
}

impl Options {
    fn wants(&self, case: &Case) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| case.name().starts_with(only.as_str()))
    }
}

fn run_case(case: &Case, emulator: &Emulator, options: &Options) -> Vec<Sample> {
    let shelf = Shelf::new(case.bytes);
    let link = Link::new(case.link.0, case.link.1, case.loss);
    let limit_s = if case.link.1 == 600 { TCP_LIMIT_LONG_S } else { TCP_LIMIT_S };
    let mut peers = vec![Peer::Ours(Vec::new())];
    if options.with_tcp {
        peers.extend(["cubic", "bbr"].map(|congestion| Peer::Tcp { congestion, limit_s }));
    }
    if options.with_uftp {
        peers.push(Peer::Uftp { kbit_per_s: case.link.0 * 950 });
    }
    let mut samples = Vec::new();
    for seed in 1..=options.seeds {
        for peer in &peers {
            let mut sample = peers::run(emulator, &link, &shelf, peer, seed);
            if sample.trouble.is_some() {
                sample = peers::run(emulator, &link, &shelf, peer, seed);
            }
            samples.push(sample);
        }
        // Whoever was first is last the next time.
        peers.rotate_left(1);
    }
    samples
}

fn print_case(case: &Case, samples: &[Sample]) {
    let of = |name: &str| samples.iter().filter(|sample| sample.peer == name).collect::<Vec<_>>();
    let ours = of("packetboat");
    let speed = Spread::of(&ours, Sample::mbit_per_s);
    let tcp = ["cubic", "bbr"].map(|congestion| of(&format!("tcp {congestion}")));
    let better = tcp.iter().filter(|it| !it.is_empty()).map(|it| Spread::of(it, Sample::mbit_per_s).median);
    let better = better.fold(f64::NAN, f64::max);
    let bdp_bytes = Link::new(case.link.0, case.link.1, 0.0).bdp_bytes();
    let (rtt_ms, is_clean) = (case.link.1 as f64, case.loss == 0.0);
    let wire = Spread::of(&ours, Sample::wire_per_byte).median * (1.0 - case.loss);
    let queue = Spread::of(&ours, |sample| sample.queue_mean_bytes / bdp_bytes).median;
    let first_ms = Spread::of(&ours, |sample| sample.first_byte_seconds.unwrap_or(f64::NAN) * 1e3).median;
    let resent = Spread::of(&ours, Sample::resent_per_lost).median;
    let is_late = is_clean && first_ms > 2.0 * rtt_ms + FIRST_BYTE_MAX_MS;
    println!(
        "| {} Mbit/s, {} ms | {} % | **{:.1}** ({:.1}-{:.1}) | {:.1} | {:.1} % | {} | {} | {:.2} | {:.3}{} | {:.2}{} | {:.2}{} | {}{} | {:.1}, {:.1}: {} |",
        case.link.0,
        case.link.1,
        case.loss * 100.0,
        speed.median,
        speed.min,
        speed.max,
        Spread::of(&ours, Sample::whole_mbit_per_s).median,
        speed.median / case.limit() * 100.0,
        peer_text(&tcp[0]),
        peer_text(&tcp[1]),
        speed.median / better,
        wire,
        mark(wire > WIRE_MAX),
        queue,
        mark(is_clean && queue > QUEUE_MAX),
        first_ms / rtt_ms,
        mark(is_late),
        if is_clean { "-".into() } else { format!("{resent:.2}") },
        mark(case.loss == 0.05 && resent > RESENT_MAX),
        case.must,
        case.aim,
        if speed.median >= case.aim {
            "aim"
        } else if speed.median >= case.must {
            "must"
        } else {
            "**missed**"
        },
    );
    let uftp = of("uftp");
    if !uftp.is_empty() {
        println!("| | | uftp: {} | | | | | | | | | | |", peer_text(&uftp));
    }
    for trouble in samples.iter().filter_map(|sample| sample.trouble.as_ref().map(|why| (sample, why))) {
        println!("<!-- not to be trusted: {}, seed {}: {} -->", trouble.0.peer, trouble.0.seed, trouble.1);
    }
    let _ = std::io::stdout().flush();
}

fn mark(is_missed: bool) -> &'static str {
    if is_missed { " (!)" } else { "" }
}

/// The median, and a dagger when it is of what came until the limit.
fn peer_text(samples: &[&Sample]) -> String {
    if samples.is_empty() {
        return "-".into();
    }
    let mbit_per_s = Spread::of(samples, Sample::mbit_per_s).median;
    let digits = if mbit_per_s < 10.0 { 2 } else { 1 };
    let dagger = if samples.iter().all(|sample| sample.is_complete) { "" } else { "†" };
    format!("{mbit_per_s:.digits$}{dagger}")
}

/// In the share's runs TCP begins so much earlier, and is at it for so long in all.
const SHARE_HEAD_START_S: u64 = 3;
const SHARE_LIMIT_S: u64 = 30;
const SHARE_TCP_PORT: u16 = 55_020;

/// Our share of the link, while our file moves, beside one TCP flow that was there before.
fn print_shares(emulator: &Emulator, options: &Options) {
    let shelf = Shelf::new(LARGE);
    let endless = tempfile::tempdir().expect("a folder");
    let file = std::fs::File::create(endless.path().join("f0")).expect("a file");
    file.set_len(1 << 30).expect("a sparse one");
    println!("| 100 Mbit/s, 40 ms | queue | our share (min-max) | goal |");
    println!("|---|---|---|---|");
    for (congestion, bdps, goal) in
        [("cubic", 1, "35 to 65 %"), ("cubic", 4, "at least 25 %"), ("bbr", 1, "-")]
    {
        let mut link = Link::new(100, 40, 0.0);
        let queue = format!("{:.0}", link.bdp_bytes() * f64::from(bdps));
        link.options = peers::words(&["--queue", &queue, "--stagger", &format!("{SHARE_HEAD_START_S}s")]);
        let discard = tempfile::tempdir().expect("a folder");
        let [send, receive] =
            peers::tcp(endless.path(), discard.path(), congestion, SHARE_TCP_PORT, SHARE_LIMIT_S);
        let mut shares = Vec::new();
        for seed in 1..=options.seeds {
            let servers = [peers::our_server(&shelf), send[1..].to_vec()].concat();
            let clients = [receive.clone(), peers::our_client(&shelf, &[])];
            let outcome =
                emulator.run(&link, seed, peers::READY, peers::PATIENCE_S, &servers, &clients).expect_good();
            let seconds = peers::fetched(&outcome)["seconds"].as_f64().expect("a number");
            let slice_s = kernel_tcp::SLICE.as_secs_f64();
            let from = (SHARE_HEAD_START_S as f64 / slice_s) as usize;
            let slices = (seconds / slice_s).ceil() as usize;
            let theirs: u64 = peers::moved(&outcome).slices.iter().skip(from).take(slices).sum();
            shares.push(LARGE as f64 / (LARGE + theirs) as f64 * 100.0);
            shelf.take();
        }
        shares.sort_by(f64::total_cmp);
        let (min, max) = (shares[0], shares[shares.len() - 1]);
        println!(
            "| beside TCP {congestion} | {bdps} BDP | {:.0} % ({min:.0}-{max:.0}) | {goal} |",
            shares[shares.len() / 2]
        );
    }
}

struct Spread {
    min: f64,
    median: f64,
    max: f64,
}

impl Spread {
    fn of(samples: &[&Sample], figure: impl Fn(&Sample) -> f64) -> Spread {
        let mut values: Vec<f64> = samples.iter().map(|sample| figure(sample)).collect();
        values.sort_by(f64::total_cmp);
        let median = (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0;
        Spread { min: values[0], median, max: values[values.len() - 1] }
    }
}
