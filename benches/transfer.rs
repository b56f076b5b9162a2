//! Files between the real programs, against kernel TCP in the same run: how fast, and at what cost.
//!
//! `scripts/bench-transfer` runs it, on the loopback interface or between two network namespaces, and prints a table.
//! Ours and the peer alternate; every file is compared with its BLAKE3 digest. Our clock is that of `--json`: from the
//! request to the last octet written (or, of a file that is put, acknowledged); the peer's begins with `connect`. A second
//! peer, kernel TCP that seals what it moves as ours does, tells what the cipher alone costs.
#![allow(clippy::print_stdout, clippy::cast_precision_loss, reason = "a benchmark that prints figures")]
#![allow(missing_docs, unreachable_pub, reason = "a benchmark has no interface")]

mod kernel_tcp;
mod programs;

use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use programs::{Place, Running};
use rustix::process::{Pid, Signal, kill_process};

/// The seeds' largest file.
const LARGE: usize = 67_739_648;
const MIB: usize = 1 << 20;

const SERVER: &str = env!("CARGO_BIN_EXE_server");
const CLIENT: &str = env!("CARGO_BIN_EXE_client");

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Get,
    /// The server has never read the file before: it makes the digest meanwhile.
    GetNew,
    Put,
}

/// What is moved.
struct Case {
    name: &'static str,
    way: Way,
    transport: &'static str,
    files: usize,
    len: usize,
    /// What both programs are told besides.
    cc: Option<&'static str>,
    /// Clients that share the files; 0: one-shot commands.
    rooms: usize,
}

const CASES: [Case; 11] = [
    Case { name: "get", way: Way::Get, transport: "udp", cc: None, files: 1, len: LARGE, rooms: 0 },
    Case {
        name: "get, digest unknown",
        way: Way::GetNew,
        transport: "udp",
        cc: None,
        files: 1,
        len: LARGE,
        rooms: 0,
    },
    Case { name: "get --tcp", way: Way::Get, transport: "tcp", cc: None, files: 1, len: LARGE, rooms: 0 },
    Case {
        name: "get --tcp --cc cubic",
        way: Way::Get,
        transport: "tcp",
        cc: Some("cubic"),
        files: 1,
        len: LARGE,
        rooms: 0,
    },
    Case { name: "put", way: Way::Put, transport: "udp", cc: None, files: 1, len: LARGE, rooms: 0 },
    Case { name: "put --tcp", way: Way::Put, transport: "tcp", cc: None, files: 1, len: LARGE, rooms: 0 },
    Case {
        name: "put --tcp --cc cubic",
        way: Way::Put,
        transport: "tcp",
        cc: Some("cubic"),
        files: 1,
        len: LARGE,
        rooms: 0,
    },
    Case {
        name: "get 8 x 8 MiB",
        way: Way::Get,
        transport: "udp",
        cc: None,
        files: 8,
        len: 8 * MIB,
        rooms: 1,
    },
    Case { name: "get 64 x 1 MiB", way: Way::Get, transport: "udp", cc: None, files: 64, len: MIB, rooms: 8 },
    Case {
        name: "put 8 x 8 MiB",
        way: Way::Put,
        transport: "udp",
        cc: None,
        files: 8,
        len: 8 * MIB,
        rooms: 1,
    },
    Case { name: "put 64 x 1 MiB", way: Way::Put, transport: "udp", cc: None, files: 64, len: MIB, rooms: 8 },
];

/// What the person asked for.
struct Options {
    runs: usize,
    /// Only cases whose name begins so.
    only: Option<String>,
    server_place: Place,
    client_place: Place,
    ip: IpAddr,
    /// What both programs are told besides.
    server_options: Vec<String>,
}

/// What one run has shown.
#[derive(Default)]
struct Sample {
    seconds: f64,
    /// From the start of the programs to their end.
    wall_seconds: f64,
    cpu: Duration,
    client_rss_bytes: u64,
    resent: u64,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first.starts_with("tcp-")) {
        return kernel_tcp::run(&arguments).expect("files move over TCP");
    }
    let options = parse(&arguments);
    println!(
        "| case | MB/s: median (min-max) | with start and end of the programs | kernel TCP | ratio: median (min-max) \
         | sealed TCP | ratio to it | CPU s/GB | of TCP | of sealed TCP | resent | RSS server, client |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    for case in &CASES {
        if options.only.as_ref().is_none_or(|only| only.split(',').any(|only| only == case.name)) {
            run_case(case, &options);
        }
    }
}

fn parse(arguments: &[String]) -> Options {
    let mut options = Options {
        runs: 7,
        only: None,
        server_place: Place(None),
        client_place: Place(None),
        ip: [127, 0, 0, 1].into(),
        server_options: Vec::new(),
    };
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().expect("a value").clone();
        match argument.as_str() {
            "--quick" => options.runs = 2,
            "--runs" => options.runs = value().parse().expect("a number"),
            "--only" => options.only = Some(value()),
            "--server-in" => options.server_place = Place(Some(value())),
            "--clients-in" => options.client_place = Place(Some(value())),
            "--address" => options.ip = value().parse().expect("an address"),
            "--server-option" => options.server_options.push(value()),
            // Cargo says so to every benchmark.
            "--bench" => {}
            other => panic!("{other} is not known here"),
        }
    }
    options
}

/// The folders of a case, and what lies in them.
struct Bench<'a> {
    case: &'a Case,
    options: &'a Options,
    folder: tempfile::TempDir,
    digests: Vec<blake3::Hash>,
    server: Running,
    address: String,
}

fn run_case(case: &Case, options: &Options) {
    let mut bench = Bench::start(case, options);
    // The first of each is not counted: it fills the caches.
    bench.ours();
    bench.kernel_tcp("");
    bench.kernel_tcp("-sealed");
    let (mut ours, mut plain, mut sealed) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..options.runs {
        if run % 2 == 0 {
            ours.push(bench.ours());
        }
        plain.push(bench.kernel_tcp(""));
        if run % 2 == 1 {
            ours.push(bench.ours());
        }
        sealed.push(bench.kernel_tcp("-sealed"));
    }
    bench.print(&ours, &plain, &sealed);
}

impl<'a> Bench<'a> {
    fn start(case: &'a Case, options: &'a Options) -> Bench<'a> {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["shelf", "source", "target"] {
            fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        let mut digests = Vec::new();
        for index in 0..case.files {
            let mut content = vec![0; case.len];
            getrandom::fill(&mut content).expect("randomness");
            digests.push(blake3::hash(&content));
            fs::write(folder.path().join("source").join(name(index)), &content).expect("written");
            if case.way != Way::Put {
                fs::write(folder.path().join("shelf").join(name(index)), &content).expect("written");
            }
        }
        // What is to be written back shall not be so while we measure; and a digest is kept of settled files alone.
        rustix::fs::sync();
        std::thread::sleep(Duration::from_secs(3));
        let mut command = options.server_place.command(SERVER);
        command.args([
            "--listen",
            &format!("{}:0", options.ip),
            "--files",
            "shelf",
            "--no-rate-limit",
            "--quiet",
        ]);
        command.args(case.cc.map(|name| format!("--cc={name}")));
        command.args(&options.server_options).stderr(std::process::Stdio::null()).current_dir(folder.path());
        let server = Running::start(&mut command);
        let first = server.line().text;
        let address = first.split(' ').nth(4).expect("packetboat 0.1.0 listening on ADDRESS").to_owned();
        Bench { case, options, folder, digests, server, address }
    }

    /// One run of ours.
    fn ours(&mut self) -> Sample {
        if self.case.way == Way::GetNew {
            // A new change time: what is remembered of the file is forgotten.
            let file = fs::File::options()
                .append(true)
                .open(self.folder.path().join("shelf").join(name(0)))
                .expect("there");
            file.set_modified(std::time::SystemTime::now()).expect("ours");
        }
        let cpu_before = self.server.cpu();
        let mut sample = if self.case.rooms == 0 { self.one_shot() } else { self.in_rooms() };
        sample.cpu += self.server.cpu() - cpu_before;
        self.check(if self.case.way == Way::Put { "shelf" } else { "target" });
        sample
    }

    fn client(&self) -> std::process::Command {
        let mut command = self.options.client_place.command(CLIENT);
        command.arg(&self.address).arg("--json").args(self.case.cc.map(|name| format!("--cc={name}")));
        command
    }

    fn one_shot(&self) -> Sample {
        let mut command = self.client();
        match self.case.way {
            Way::Put => command.args(["put", "source/f0"]),
            _ => command.args(["get", "f0", "-o", "target/f0"]),
        };
        command.arg(format!("--{}", self.case.transport)).current_dir(self.folder.path());
        let began = Instant::now();
        let client = Running::start(&mut command).watch_memory();
        let (_, event) = client.event("transfer");
        let cost = client.wait();
        Sample {
            seconds: event["seconds"].as_f64().expect("a number"),
            wall_seconds: began.elapsed().as_secs_f64(),
            cpu: cost.cpu,
            client_rss_bytes: cost.rss_bytes,
            resent: event["resent"].as_u64().expect("a number"),
        }
    }

    /// The clients are in the room when they are told, all at once, which files to move.
    fn in_rooms(&self) -> Sample {
        let rooms = self.case.rooms;
        let mut clients: Vec<_> = (0..rooms)
            .map(|room| {
                let mut command = self.client();
                command.args([&format!("member{room}"), "--no-input"]).current_dir(self.folder.path());
                let client = Running::start(&mut command).watch_memory();
                client.event("welcome");
                client
            })
            .collect();
        let began = Instant::now();
        for (room, client) in clients.iter_mut().enumerate() {
            let files = (room..self.case.files).step_by(rooms);
            let lines: String = files
                .map(|index| match self.case.way {
                    Way::Put => format!("/put source/f{index}\n"),
                    _ => format!("/get f{index}\n"),
                })
                .collect();
            client.say(&lines);
        }
        let mut sample = Sample::default();
        for (room, client) in clients.iter().enumerate() {
            let (end, resent) = last_end(client, (room..self.case.files).step_by(rooms).count());
            sample.seconds = sample.seconds.max(end.saturating_duration_since(began).as_secs_f64());
            sample.resent += resent;
        }
        for mut client in clients {
            client.say("/quit\n");
            let cost = client.wait();
            sample.cpu += cost.cpu;
            sample.client_rss_bytes = sample.client_rss_bytes.max(cost.rss_bytes);
        }
        sample.wall_seconds = began.elapsed().as_secs_f64();
        let downloads = self.folder.path().join("downloads");
        if downloads.exists() {
            fs::remove_dir(self.folder.path().join("target")).expect("empty");
            fs::rename(downloads, self.folder.path().join("target")).expect("ours");
        }
        sample
    }

    /// One run of the peer; `kind` is "" or "-sealed".
    fn kernel_tcp(&self, kind: &str) -> Sample {
        let program = std::env::current_exe().expect("this program");
        let count = self.case.files.to_string();
        let (server_role, client_role) =
            if self.case.way == Way::Put { ("tcp-receive", "tcp-send") } else { ("tcp-send", "tcp-receive") };
        let folder = |role| self.folder.path().join(if role == "tcp-send" { "source" } else { "target" });
        let any_port = format!("{}:0", self.options.ip);
        let began = Instant::now();
        let server = Running::start(
            self.options
                .server_place
                .command(&program)
                .args([&format!("{server_role}{kind}"), "listen", &any_port, &count])
                .arg(folder(server_role))
                .arg("cubic"),
        );
        let address = server.line().text;
        let client = Running::start(
            self.options
                .client_place
                .command(&program)
                .args([&format!("{client_role}{kind}"), "connect", &address, &count])
                .arg(folder(client_role))
                .arg("cubic"),
        );
        let moved: kernel_tcp::Moved = serde_json::from_str(&client.line().text).expect("what it has moved");
        let seconds = moved.seconds;
        let cpu = client.wait().cpu + server.wait().cpu;
        let wall_seconds = began.elapsed().as_secs_f64();
        self.check("target");
        Sample { seconds, wall_seconds, cpu, ..Sample::default() }
    }

    /// Every file is here, and is what it should be; then it goes.
    fn check(&self, folder: &str) {
        let folder = self.folder.path().join(folder);
        for (index, digest) in self.digests.iter().enumerate() {
            let path = folder.join(name(index));
            let content = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert_eq!(blake3::hash(&content), *digest, "{}", path.display());
            fs::remove_file(&path).expect("ours");
        }
        assert!(is_empty(&folder), "{} holds what nobody asked for", folder.display());
    }

    fn print(self, ours: &[Sample], plain: &[Sample], sealed: &[Sample]) {
        let bytes = (self.case.files * self.case.len) as f64;
        let speeds = |samples: &[Sample]| Spread::of(samples.iter().map(|s| bytes / s.seconds / 1e6));
        let whole = Spread::of(ours.iter().map(|s| bytes / s.wall_seconds / 1e6));
        let ratio = |peers: &[Sample]| {
            Spread::of(ours.iter().zip(peers).map(|(ours, peer)| peer.seconds / ours.seconds))
        };
        let (ratio, sealed_ratio) = (ratio(plain), ratio(sealed));
        let cpu = |samples: &[Sample]| {
            samples.iter().map(|s| s.cpu.as_secs_f64()).sum::<f64>() / samples.len() as f64 / bytes * 1e9
        };
        let resent = Spread::of(ours.iter().map(|s| s.resent as f64));
        let rss = |bytes: u64| bytes as f64 / MIB as f64;
        let client_rss = ours.iter().map(|s| s.client_rss_bytes).max().unwrap_or(0);
        let speed = speeds(ours);
        println!(
            "| {} | {:.0} ({:.0}-{:.0}) | {:.0} | {:.0} | {:.2} ({:.2}-{:.2}) | {:.0} | {:.2} | {:.2} | {:.2} | {:.2} | {:.0} \
             | {:.1}, {:.1} MiB |",
            self.case.name,
            speed.median,
            speed.min,
            speed.max,
            whole.median,
            speeds(plain).median,
            ratio.median,
            ratio.min,
            ratio.max,
            speeds(sealed).median,
            sealed_ratio.median,
            cpu(ours),
            cpu(plain),
            cpu(sealed),
            resent.median,
            rss(self.server.rss_bytes_max()),
            rss(client_rss),
        );
        let _ = std::io::stdout().flush();
        let pid = i32::try_from(self.server.id()).ok().and_then(Pid::from_raw).expect("a process");
        kill_process(pid, Signal::TERM).expect("ours");
        self.server.wait();
    }
}

/// When the last of `count` files was complete, and how many packets came again. A transfer that has started tells later how
/// long it took; what begins its time, the request, is a moment before it starts.
fn last_end(client: &Running, count: usize) -> (Instant, u64) {
    let (mut started, mut ended, mut resent) = (Vec::new(), Vec::new(), 0);
    while ended.len() < count {
        let line = client.line();
        if let Some(event) = line.event("started") {
            started.push((event["name"].to_string(), line.at));
        }
        if let Some(event) = line.event("transfer") {
            ended.push((event["name"].to_string(), event["seconds"].as_f64().expect("a number")));
            resent += event["resent"].as_u64().expect("a number");
        }
    }
    let ends = ended.iter().map(|(name, seconds)| {
        let (_, at) = started.iter().find(|(started, _)| started == name).expect("it has started");
        *at + Duration::from_secs_f64(*seconds)
    });
    (ends.max().expect("some files"), resent)
}

fn name(index: usize) -> String {
    format!("f{index}")
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).expect("a folder").next().is_none()
}

struct Spread {
    min: f64,
    median: f64,
    max: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Spread {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let median = (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0;
        Spread { min: values[0], median, max: values[values.len() - 1] }
    }
}
