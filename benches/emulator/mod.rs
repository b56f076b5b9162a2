//! Runs programs over an emulated link: `linkem`, found by the environment variable `LINKEM`, makes two network namespaces
//! with a modelled bottleneck between them, and counts what passes.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde::Deserialize;

/// The server's end of the link, for the clients.
pub const SERVER_IP: &str = "10.77.0.1";

/// What a link does to packets, both ways alike. The queue is one bandwidth-delay product unless an option says otherwise.
#[derive(Debug, Clone)]
pub struct Link {
    pub mbit_per_s: u64,
    pub rtt_ms: u64,
    /// Random, behind the bottleneck.
    pub loss: f64,
    /// More of the emulator's options.
    pub options: Vec<String>,
}

impl Link {
    pub fn new(mbit_per_s: u64, rtt_ms: u64, loss: f64) -> Link {
        Link { mbit_per_s, rtt_ms, loss, options: Vec::new() }
    }

    pub fn bdp_bytes(&self) -> f64 {
        (self.mbit_per_s * 125 * self.rtt_ms) as f64
    }
}

/// When clients may start: once the server listens there.
#[derive(Debug, Clone, Copy)]
pub enum Ready {
    Tcp(u16),
    Udp(u16),
}

/// What the emulator counted in one direction.
#[derive(Debug, Default, Clone, Deserialize)]
pub struct Counters {
    pub packets_in: u64,
    /// Octets of IP offered by the sending side.
    pub bytes_in: u64,
    pub drop_queue: u64,
    pub drop_loss: u64,
    pub mean_queue_bytes: f64,
    /// How late the emulator itself was, on average.
    pub late_mean_us: f64,
    /// Packets lost outside of the model.
    pub device_drops: u64,
}

/// What a client cost.
#[derive(Debug, Clone, Deserialize)]
pub struct Client {
    /// From its start to its end.
    pub wall_s: f64,
    pub exit: i32,
    pub timed_out: bool,
}

/// The emulator's report.
#[derive(Debug, Clone, Deserialize)]
pub struct Report {
    pub clients: Vec<Client>,
    /// From the server to the clients.
    pub down: Counters,
    pub up: Counters,
}

/// One run: what the programs have said, line by line, and what the emulator has counted.
#[derive(Debug)]
pub struct Outcome {
    pub lines: Vec<String>,
    pub report: Report,
    /// What they have said on stderr.
    pub complaints: String,
}

impl Outcome {
    /// Every client came to a good end.
    pub fn is_good(&self) -> bool {
        self.report.clients.iter().all(|client| client.exit == 0 && !client.timed_out)
    }

    /// Likewise, for whom it is a must.
    pub fn expect_good(self) -> Outcome {
        assert!(self.is_good(), "a client failed, {:?}: {}", self.report.clients, self.complaints);
        self
    }

    /// The emulator's own trouble, or a machine too busy for it: then the run says nothing.
    pub fn trouble(&self) -> Option<String> {
        let Report { down, up, .. } = &self.report;
        let drops = down.device_drops + up.device_drops;
        let late_us = down.late_mean_us.max(up.late_mean_us);
        if drops > 0 {
            Some(format!("{drops} packets were lost outside of the model"))
        } else {
            (late_us > 300.0).then(|| format!("the emulator was {late_us:.0} us late on average"))
        }
    }
}

/// The emulator, and where it may write.
#[derive(Debug)]
pub struct Emulator {
    program: PathBuf,
    folder: tempfile::TempDir,
}

impl Emulator {
    /// `None` where there is none, or not the right to use it, and then it says so.
    pub fn find() -> Option<Emulator> {
        let Some(program) = std::env::var_os("LINKEM") else {
            println!("SKIPPED: no link emulator (LINKEM=/path/to/linkem)");
            return None;
        };
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: the link emulator needs root");
            return None;
        }
        Some(Emulator { program: program.into(), folder: tempfile::tempdir().expect("a folder") })
    }

    /// Runs a server and, once it is `ready`, the clients, which must end within `patience_s`. The commands are
    /// words, none of which has a quotation mark in it.
    pub fn run(
        &self,
        link: &Link,
        seed: u64,
        ready: Ready,
        patience_s: u64,
        server: &[String],
        clients: &[Vec<String>],
    ) -> Outcome {
        let report = self.folder.path().join("report.json");
        let mut command = Command::new(&self.program);
        command.args(["--rate", &format!("{}mbit", link.mbit_per_s)]);
        command.args(["--rtt", &format!("{}ms", link.rtt_ms)]);
        command.args(["--loss", &link.loss.to_string()]);
        command.args(["--seed", &seed.to_string()]);
        match ready {
            Ready::Tcp(port) => command.args(["--ready-tcp", &port.to_string()]),
            Ready::Udp(port) => command.args(["--ready-udp", &port.to_string()]),
        };
        command.args(["--timeout", &format!("{patience_s}s"), "--json"]).arg(&report);
        command.args(&link.options).arg("run").arg(quoted(server)).args(clients.iter().map(|it| quoted(it)));
        // That of an earlier run shall not speak for this one.
        let _ = std::fs::remove_file(&report);
        let output =
            command.stdin(Stdio::null()).stderr(Stdio::piped()).output().expect("LINKEM is a program");
        let complaints = String::from_utf8_lossy(&output.stderr);
        let report = std::fs::read_to_string(&report).unwrap_or_else(|_| panic!("{command:?}: {complaints}"));
        let report: Report = serde_json::from_str(&report).expect("the emulator's report");
        let lines = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
        Outcome { lines, report, complaints: complaints.into_owned() }
    }
}

/// For the emulator's shell.
fn quoted(words: &[String]) -> String {
    words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ")
}
