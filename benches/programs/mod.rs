//! Runs the real programs, and reads what they say and what they cost.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use serde_json::Value;

/// How long a program may say nothing.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often the memory of a program that will end is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Where programs run: on this host, or in a network namespace.
#[derive(Debug, Clone, Default)]
pub struct Place(pub Option<String>);

impl Place {
    /// `program` at this place, to be run with its output read.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let program = program.as_ref();
        let mut command = match &self.0 {
            None => Command::new(program),
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(program);
                command
            }
        };
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command
    }
}

/// A line of output, and when it came.
#[derive(Debug)]
pub struct Line {
    pub at: Instant,
    pub text: String,
}

impl Line {
    /// The event that it is, of this type.
    pub fn event(&self, kind: &str) -> Option<Value> {
        let event: Value = serde_json::from_str(&self.text).ok()?;
        assert_ne!(event["type"], "error", "{}", self.text);
        (event["type"] == kind).then_some(event)
    }
}

/// A program that runs.
pub struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Line>,
    reader: Option<JoinHandle<()>>,
    looker: Option<JoinHandle<u64>>,
}

/// What a program that has ended has cost.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    pub cpu: Duration,
    pub rss_bytes: u64,
}

impl Running {
    pub fn start(command: &mut Command) -> Running {
        let mut child = command.spawn().expect("the program starts");
        let (tell, lines) = crossbeam_channel::unbounded();
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let reader = std::thread::spawn(move || {
            for text in stdout.lines() {
                let text = text.expect("UTF-8");
                let _ = tell.send(Line { at: Instant::now(), text });
            }
        });
        Running { stdin: child.stdin.take(), child, lines, reader: Some(reader), looker: None }
    }

    /// Looks at the memory until it ends: afterwards nobody can.
    pub fn watch_memory(mut self) -> Running {
        let pid = self.child.id();
        self.looker = Some(std::thread::spawn(move || {
            let mut rss_bytes = 0;
            while let Some(rss) = rss_bytes_max(pid) {
                rss_bytes = rss;
                std::thread::sleep(LOOK_EVERY);
            }
            rss_bytes
        }));
        self
    }

    pub fn say(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("it is not told to end yet");
        stdin.write_all(line.as_bytes()).expect("it listens");
    }

    pub fn line(&self) -> Line {
        self.lines.recv_timeout(PATIENCE).expect("a line in time")
    }

    /// The next event of this type; what else comes is passed over.
    pub fn event(&self, kind: &str) -> (Instant, Value) {
        loop {
            let line = self.line();
            if let Some(event) = line.event(kind) {
                return (line.at, event);
            }
        }
    }

    /// The processor time it has taken so far, as the system counts it (in hundredths of a second).
    pub fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("it runs");
        // proc_pid_stat(5): fields 14 and 15, and the second one ends with the last parenthesis.
        ticks(&stat, 14)
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn rss_bytes_max(&self) -> u64 {
        rss_bytes_max(self.child.id()).expect("it runs")
    }

    /// Waits for its end, which has to be a good one.
    pub fn wait(mut self) -> Cost {
        let before = children_cpu();
        self.stdin = None;
        let status = self.child.wait().expect("a child of ours");
        assert!(status.success(), "a program has failed: {status}");
        let cpu = children_cpu() - before;
        self.reader.take().expect("not waited for yet").join().expect("no panic");
        let rss_bytes = self.looker.take().map_or(0, |looker| looker.join().expect("no panic"));
        Cost { cpu, rss_bytes }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The processor time of all children that have ended. Each reading is cut to hundredths, so a difference may be wrong by
/// one either way; the sum of many is not.
fn children_cpu() -> Duration {
    ticks(&fs::read_to_string("/proc/self/stat").expect("Linux"), 16)
}

/// The sum of two fields of `/proc/PID/stat`, in the hundredths of a second that Linux shows to everyone.
fn ticks(stat: &str, first_field: usize) -> Duration {
    let (_, rest) = stat.rsplit_once(')').expect("a name in parentheses");
    let fields: Vec<u64> = rest.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
    Duration::from_millis(10 * (fields[first_field - 3] + fields[first_field - 2]))
}

fn rss_bytes_max(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(1_024 * line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?)
}
