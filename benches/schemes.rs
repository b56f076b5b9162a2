//! The textbook's schemes beside each other and beside TCP, as tables and as pictures.
//!
//! `scripts/bench-schemes` runs it. In virtual time everything follows from the seeds; with a link emulator (`LINKEM`) the real
//! programs and the kernel's TCP say what is left of it. The pictures go to `docs/pictures`.
#![allow(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "a benchmark that prints and draws figures"
)]
#![allow(missing_docs, unreachable_pub, dead_code, reason = "a benchmark has no interface")]

mod emulator;
mod kernel_tcp;
mod peers;
mod plot;
#[allow(unreachable_pub, dead_code, unused_imports, reason = "shared by test crates")]
#[path = "../tests/sim/mod.rs"]
mod sim;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use emulator::Emulator;
use packetboat::rudp::ArqScheme::{self, GoBackN, SelectiveRepeat, StopAndWait};
use packetboat::rudp::congestion::ControllerKind::{Aimd, Bbr, Cubic, Fixed};
use packetboat::rudp::trace::TraceEvent;
use parking_lot::Mutex;
use peers::{Peer, Sample, Shelf};
use plot::{BLACK_LINE, BLUE, GREEN, Mark, Panel, Series, VERMILION};
use sim::goodput::{Way, limit_mbit_per_s, median, reno_mbit_per_s};
use sim::{LARGE, Link, Loss, MIB, World, ms, secs};

const LOSSES: [f64; 5] = [0.0, 0.01, 0.05, 0.10, 0.20];
const MBIT_PER_S: u64 = 100;
const RTT_MS: u64 = 40;

/// The files: nobody is sent a larger one than is worth some seconds.
const SIZES: [u64; 4] = [64 << 10, MIB / 2, 4 * MIB, LARGE];
const WORTH: Duration = secs(16);

/// In virtual time, what came by then counts; and TCP is judged by its first seconds.
const LIMIT: Duration = secs(300);
const TCP_LIMIT_S: u64 = 8;

const SEEDS: u64 = 3;

/// Mbit/s at each loss.
type Row = (String, Vec<f64>);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if peers::play_role(&arguments) {
        return;
    }
    let pictures = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/pictures");
    std::fs::create_dir_all(&pictures).expect("a folder");
    let simulated = simulate();
    println!(
        "Simulated, {MBIT_PER_S} Mbit/s, {RTT_MS} ms, a queue of one BDP, losses both ways behind it; Mbit/s of the file:\n"
    );
    print_table(&simulated);
    draw_goodput(&pictures.join("goodput-over-loss.svg"), &simulated);
    draw_one_loss(&pictures.join("one-loss.svg"));
    draw_windows(&pictures.join("window-and-queue.svg"));
    println!("\nThe same link emulated in real time, the real programs; Mbit/s of the file:\n");
    if let Some(emulator) = Emulator::find() {
        print_table(&emulate(&emulator));
    }
}

fn link(loss: f64) -> Link {
    Link { loss: Loss::random(loss), ..Link::of(MBIT_PER_S, ms(RTT_MS / 2)) }
}

/// The largest file that this way moves in a time that is worth it.
fn size(way: Way, loss: f64) -> u64 {
    let worth = |&&size: &&u64| way.run(&link(loss), size, 1, LIMIT).took <= WORTH;
    *SIZES.iter().rev().find(worth).unwrap_or(&SIZES[0])
}

fn simulate() -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for way in Way::all() {
        let of = |loss| {
            let size = size(way, loss);
            let runs: Vec<_> = (1..=SEEDS).map(|seed| way.run(&link(loss), size, seed, LIMIT)).collect();
            median(&runs, |run| run.mbit_per_s)
        };
        rows.push((way.name(), LOSSES.map(of).to_vec()));
    }
    let reno = |loss| {
        let runs: Vec<f64> =
            (1..=SEEDS).map(|seed| reno_mbit_per_s(&link(loss), LARGE, seed, secs(TCP_LIMIT_S))).collect();
        median(&runs, |run| *run)
    };
    rows.push(("TCP Reno (a model)".into(), LOSSES.map(reno).to_vec()));
    rows.push((
        "the limit at our header".into(),
        LOSSES.map(|loss| limit_mbit_per_s(&link(loss), loss)).to_vec(),
    ));
    rows
}

fn emulate(emulator: &Emulator) -> Vec<Row> {
    let shelves = SIZES.map(|size| (size, Shelf::new(size)));
    let run = |peer: &Peer, loss: f64, size: u64| {
        let (_, shelf) = shelves.iter().find(|shelf| shelf.0 == size).expect("there is one for each size");
        let emulated = emulator::Link::new(MBIT_PER_S, RTT_MS, loss);
        Sample::mbit_per_s(&peers::run(emulator, &emulated, shelf, peer, 1))
    };
    let mut rows = Vec::new();
    for way in Way::all() {
        let options = peers::words(&["--arq", &way.arq.to_string(), "--cc", &way.controller.to_string()]);
        let peer = Peer::Ours(options);
        rows.push((way.name(), LOSSES.map(|loss| run(&peer, loss, size(way, loss))).to_vec()));
    }
    for congestion in ["cubic", "bbr"] {
        let peer = Peer::Tcp { congestion, limit_s: TCP_LIMIT_S };
        rows.push((format!("TCP {congestion}"), LOSSES.map(|loss| run(&peer, loss, LARGE)).to_vec()));
    }
    rows
}

fn percents() -> Vec<String> {
    LOSSES.iter().map(|loss| format!("{:.0} %", loss * 100.0)).collect()
}

fn print_table(rows: &[Row]) {
    println!("| way | {} |\n|---|{}", percents().join(" | "), "---|".repeat(LOSSES.len()));
    for (name, figures) in rows {
        let text =
            |figure: &f64| if *figure < 10.0 { format!("{figure:.2}") } else { format!("{figure:.1}") };
        let figures: Vec<String> = figures.iter().map(text).collect();
        println!("| {name} | {} |", figures.join(" | "));
    }
}

fn draw_goodput(path: &Path, rows: &[Row]) {
    let series = |name: &str, title: &str, colour: usize, mark: Mark| {
        let (_, figures) = rows.iter().find(|row| row.0 == name).expect("it was measured");
        let points = figures.iter().enumerate().map(|(index, figure)| (index as f64, *figure));
        Series::new(title, colour, mark, points.collect())
    };
    let limit = || series("the limit at our header", "limit of the link", BLACK_LINE, Mark::Dashes);
    let tcp = |colour| series("TCP Reno (a model)", "TCP Reno", colour, Mark::DottedLine);
    let panel = |title: &str, series: Vec<Series>| Panel {
        title: title.into(),
        x_label: "loss, each way".into(),
        y_label: "Mbit/s (powers of ten)".into(),
        x: Some(-0.2..4.2),
        y: Some(0.1..1e3),
        is_log: true,
        choices: percents(),
        legend_right: true,
        series,
    };
    let dotted = Mark::DottedLine;
    let controllers = panel(
        "Selective repeat, by congestion control",
        vec![
            limit(),
            series("selective-repeat, bbr", "bbr (the default)", BLUE, dotted),
            series("selective-repeat, fixed:64", "fixed, 64 packets", GREEN, dotted),
            series("selective-repeat, aimd", "aimd", 3, dotted),
            series("selective-repeat, cubic", "cubic", VERMILION, dotted),
            tcp(5),
        ],
    );
    let schemes = panel(
        "Congestion control bbr, by scheme",
        vec![
            limit(),
            series("selective-repeat, bbr", "selective repeat (the default)", BLUE, dotted),
            series("go-back-n, bbr", "go-back-N", VERMILION, dotted),
            series("stop-and-wait, bbr", "stop-and-wait", GREEN, dotted),
            tcp(5),
        ],
    );
    let title = "Goodput over loss: 100 Mbit/s, 40 ms (simulated)";
    plot::draw(path, title, (1_100, 560), &[vec![controllers, schemes]]).expect("a picture");
}

/// What an end tells while it works, with its time.
type Told = Arc<Mutex<Vec<(Duration, TraceEvent)>>>;

fn listen(world: &mut World, end: usize) -> Told {
    let (told, epoch) = (Told::default(), Mutex::new(None::<Instant>));
    let sink = Arc::clone(&told);
    world.ends[end].connection.set_trace(Box::new(move |now, event| {
        let since = now.saturating_duration_since(*epoch.lock().get_or_insert(now));
        sink.lock().push((since, event.clone()));
    }));
    told
}

/// One packet of a small file is lost: what each scheme does about it.
fn draw_one_loss(path: &Path) {
    /// The server's datagram that is lost. The first is its SYN-ACK.
    const LOST: u64 = 10;
    let size = 40 * peers::PAYLOAD_LEN;
    let panel = |(arq, title): (ArqScheme, &str)| {
        let down = Link { drop: vec![LOST], ..Link::of(10, ms(20)) };
        let up = Link { drop: Vec::new(), ..down.clone() };
        let mut world = World::new(&up, &down, 1);
        Way::new(arq, Fixed(8)).add(&mut world, size, Duration::ZERO);
        let told = listen(&mut world, 1);
        world.run(secs(60));
        let (mut sent, mut resent, mut lost, mut acked, mut highest) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new(), None);
        let mut datagrams = 0;
        for (at, event) in told.lock().iter() {
            let at = at.as_secs_f64() * 1e3;
            match event {
                TraceEvent::PacketSent { offset, .. } => {
                    if let Some(offset) = *offset {
                        let segment = (at, (offset / peers::PAYLOAD_LEN) as f64);
                        let is_new = highest.is_none_or(|highest| offset > highest);
                        highest = highest.max(Some(offset));
                        if is_new { &mut sent } else { &mut resent }.push(segment);
                        if datagrams == LOST {
                            lost.push(segment);
                        }
                    }
                    datagrams += 1;
                }
                TraceEvent::PacketsAcked { snd_una: Some(snd_una), .. } => {
                    acked.push((at, *snd_una as f64 / peers::PAYLOAD_LEN as f64));
                }
                _ => {}
            }
        }
        let all = size as f64 / peers::PAYLOAD_LEN as f64;
        let ends = acked.iter().find(|point| point.1 >= all).expect("all of it came").0;
        Panel {
            title: format!("{title}: {ends:.0} ms"),
            x_label: "ms".into(),
            y_label: "segment".into(),
            x: Some(0.0..ends * 1.03),
            y: Some(-1.0..48.0),
            series: vec![
                Series::new("sent", BLUE, Mark::Dots, sent),
                Series::new("sent again", GREEN, Mark::Dots, resent),
                Series::new("lost on the way", VERMILION, Mark::Crosses, lost),
                Series::new("acknowledged up to", BLACK_LINE, Mark::Line, acked).in_steps(),
            ],
            ..Panel::default()
        }
    };
    let schemes =
        [(StopAndWait, "Stop-and-wait"), (GoBackN, "Go-back-N"), (SelectiveRepeat, "Selective repeat")];
    let title = "One packet is lost: 40 segments over 10 Mbit/s, 40 ms, a window of 8 packets (simulated)";
    plot::draw(path, title, (1_100, 430), &[schemes.map(panel).to_vec()]).expect("a picture");
}

/// The window, what is in flight and the queue over some seconds of a path without other losses.
fn draw_windows(path: &Path) {
    const SAMPLE_EVERY: Duration = ms(5);
    let link = Link::of(20, ms(20));
    let column = |(controller, title): (packetboat::rudp::congestion::ControllerKind, &str)| {
        let mut world = World::new(&link, &link, 1);
        Way::new(SelectiveRepeat, controller).add(&mut world, 1 << 40, Duration::ZERO);
        let (mut cwnd, mut queue, mut time) = (Vec::new(), Vec::new(), Duration::ZERO);
        while time < secs(6) {
            time += SAMPLE_EVERY;
            world.run_until(time);
            let at = time.as_secs_f64();
            let (_, window_bytes) = world.server().connection.in_flight_and_window();
            cwnd.push((at, window_bytes as f64 / 1e3));
            queue.push((at, world.down.queued_bytes(time) as f64 / 1e3));
        }
        let bdp = link.bdp_bytes() as f64 / 1e3;
        let panel = |title: &str, y_label: &str, y_max: f64, series| Panel {
            title: title.into(),
            x_label: "s".into(),
            y_label: y_label.into(),
            x: Some(0.0..6.0),
            y: Some(0.0..y_max),
            series,
            ..Panel::default()
        };
        let level = |name: &str| Series::new(name, BLACK_LINE, Mark::Dashes, vec![(0.0, bdp), (6.0, bdp)]);
        [
            panel(
                title,
                "cwnd, kB",
                5.4 * bdp,
                vec![Series::new("cwnd", BLUE, Mark::Line, cwnd).in_steps(), level("the path's BDP")],
            ),
            panel(
                "",
                "queue, kB",
                1.4 * bdp,
                vec![Series::new("queue", VERMILION, Mark::Line, queue), level("its size")],
            ),
        ]
    };
    let controllers =
        [(Fixed(64), "fixed, 64 packets"), (Aimd, "aimd"), (Cubic, "cubic"), (Bbr, "bbr (the default)")];
    let columns = controllers.map(column);
    let rows: Vec<Vec<Panel>> =
        (0..2).map(|row| columns.iter().map(|column| column[row].clone()).collect()).collect();
    let title = "Window and queue: selective repeat over 20 Mbit/s, 40 ms, no other loss (simulated)";
    plot::draw(path, title, (1_300, 620), &rows).expect("a picture");
}
