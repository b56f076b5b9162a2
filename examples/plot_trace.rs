//! Draws what `--trace FILE` has written: `plot_trace FILE [-o OUT.svg] [--transfer NUMBER]`.
//!
//! Four panels over time: the octets of the file that were sent and what was acknowledged, with those sent again and those
//! found lost; the window and what is in flight; the round trip; the rate. A sender's trace has all of it. A receiver's has
//! but the packets that came.
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a picture")]
#![allow(missing_docs, unreachable_pub, dead_code, reason = "an example has no interface")]

#[path = "../benches/plot/mod.rs"]
mod plot;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::ExitCode;

use plot::{BLACK_LINE, BLUE, GREEN, Mark, Panel, Series, VERMILION};
use serde_json::Value;

/// The rate is that of slices of this time, in milliseconds; of short transfers of a fiftieth of it all.
const SLICE_MS: f64 = 100.0;

const WHERE: &str = "Where in the file";

/// What one transfer's lines tell, times in milliseconds since its first.
#[derive(Debug, Default)]
struct Story {
    began_ms: Option<f64>,
    ends_ms: f64,
    sent: Vec<(f64, f64)>,
    resent: Vec<(f64, f64)>,
    lost: Vec<(f64, f64)>,
    acked: Vec<(f64, f64)>,
    cwnd: Vec<(f64, f64)>,
    in_flight: Vec<(f64, f64)>,
    srtt: Vec<(f64, f64)>,
    min_rtt: Vec<(f64, f64)>,
    pace: Vec<(f64, f64)>,
    /// When which octets left, and when which came or were acknowledged.
    left: Vec<(f64, f64)>,
    arrived: Vec<(f64, f64)>,
    /// Where each packet's octets begin.
    offsets: HashMap<u64, f64>,
    highest: f64,
}

impl Story {
    fn take(&mut self, event: &Value) -> Option<()> {
        let (name, data) = (event["name"].as_str()?, &event["data"]);
        let time_ms = event["time"].as_f64()?;
        let at = time_ms - *self.began_ms.get_or_insert(time_ms);
        self.ends_ms = at;
        let number = data["header"]["packet_number"].as_u64();
        let is_data = data["header"]["packet_type"] == "Data";
        match name.trim_start_matches("quic:") {
            "packet_sent" if is_data => {
                let (offset, number) = (data["offset"].as_f64()?, number?);
                self.left.push((at, data["raw"]["length"].as_f64()?));
                self.offsets.insert(number, offset);
                // Whoever goes on behind the highest octet sends it for the first time.
                let is_new = self.sent.is_empty() || offset > self.highest;
                self.highest = self.highest.max(offset);
                if is_new { &mut self.sent } else { &mut self.resent }.push((at, offset / 1e6));
            }
            "packet_received" if is_data => self.arrived.push((at, data["raw"]["length"].as_f64()?)),
            "packet_lost" => {
                let offset = self.offsets.get(&number?)?;
                self.lost.push((at, offset / 1e6));
            }
            "packets_acked" => {
                self.arrived.push((at, data["bytes"].as_f64()?));
                self.acked.push((at, data["snd_una"].as_f64()? / 1e6));
            }
            "recovery_metrics_updated" => {
                let of = |key: &str| data[key].as_f64();
                self.cwnd.push((at, of("congestion_window")? / 1e3));
                self.in_flight.push((at, of("bytes_in_flight")? / 1e3));
                self.srtt.push((at, of("smoothed_rtt")?));
                self.min_rtt.push((at, of("min_rtt")?));
                // The first window has no pace.
                if let Some(pace) = of("pacing_rate").filter(|pace| *pace < 1e12) {
                    self.pace.push((at, pace / 1e6));
                }
            }
            _ => {}
        }
        Some(())
    }

    /// Mbit/s over time.
    fn rate(&self, octets: &[(f64, f64)]) -> Vec<(f64, f64)> {
        let slice_ms = SLICE_MS.min(self.ends_ms / 50.0).max(1e-3);
        let mut slices = BTreeMap::<u64, f64>::new();
        for (at, octets) in octets {
            *slices.entry((at / slice_ms).floor() as u64).or_default() += octets;
        }
        slices
            .iter()
            .map(|(slice, octets)| ((*slice as f64 + 0.5) * slice_ms, octets * 8.0 / 1e3 / slice_ms))
            .collect()
    }

    fn panels(&self) -> Vec<Vec<Panel>> {
        // Seconds from a few hundred milliseconds on.
        let (unit, per_ms) = if self.ends_ms >= 1_000.0 { ("s", 1e-3) } else { ("ms", 1.0) };
        let series = |name: &str, colour: usize, mark: Mark, points: &[(f64, f64)]| {
            Series::new(name, colour, mark, points.iter().map(|(at, y)| (at * per_ms, *y)).collect())
        };
        let panel = |title: &str, y_label: &str, series: Vec<Series>| Panel {
            title: title.into(),
            x_label: unit.into(),
            y_label: y_label.into(),
            x: Some(0.0..self.ends_ms.max(1.0) * per_ms),
            legend_right: title != WHERE,
            series: series.into_iter().filter(|series| !series.points.is_empty()).collect(),
            ..Panel::default()
        };
        let (left, arrived) = (self.rate(&self.left), self.rate(&self.arrived));
        vec![
            vec![
                panel(
                    WHERE,
                    "MB",
                    vec![
                        series("sent for the first time", BLUE, Mark::Dots, &self.sent),
                        series("acknowledged up to", BLACK_LINE, Mark::Line, &self.acked).in_steps(),
                        series("found lost", VERMILION, Mark::Crosses, &self.lost),
                        series("sent again", GREEN, Mark::Dots, &self.resent),
                    ],
                ),
                panel(
                    "Window",
                    "kB",
                    vec![
                        series("cwnd", VERMILION, Mark::Line, &self.cwnd),
                        series("in flight", BLUE, Mark::Line, &self.in_flight),
                    ],
                ),
            ],
            vec![
                panel(
                    "Round trip",
                    "ms",
                    vec![
                        series("smoothed", BLUE, Mark::Line, &self.srtt),
                        series("smallest", BLACK_LINE, Mark::Dashes, &self.min_rtt),
                    ],
                ),
                panel(
                    "Rate of packets",
                    "Mbit/s",
                    vec![
                        series("pace", VERMILION, Mark::Dashes, &self.pace),
                        series("sent", BLUE, Mark::Line, &left),
                        series("acknowledged, or come", GREEN, Mark::Line, &arrived),
                    ],
                ),
            ],
        ]
    }
}

/// What the person asked for.
struct Arguments {
    trace: PathBuf,
    out: PathBuf,
    transfer: Option<String>,
}

fn parse() -> Result<Arguments, String> {
    const USAGE: &str = "usage: plot_trace FILE [-o OUT.svg] [--transfer NUMBER]";
    let (mut trace, mut out, mut transfer) = (None, None, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(USAGE);
        match argument.as_str() {
            "-o" => out = Some(PathBuf::from(value()?)),
            "--transfer" => transfer = Some(value()?),
            other if other.starts_with('-') || trace.is_some() => return Err(USAGE.into()),
            other => trace = Some(PathBuf::from(other)),
        }
    }
    let trace = trace.ok_or(USAGE)?;
    let out = out.unwrap_or_else(|| trace.with_extension("svg"));
    Ok(Arguments { trace, out, transfer })
}

fn run() -> Result<String, String> {
    let Arguments { trace, out, transfer } = parse()?;
    let failed = |error: std::io::Error| format!("cannot read {}: {error}", trace.display());
    let mut stories = BTreeMap::<String, Story>::new();
    let mut is_trace = false;
    for line in BufReader::new(File::open(&trace).map_err(failed)?).lines() {
        // The last line of a process that was killed may be cut.
        let Ok(event) = serde_json::from_str::<Value>(&line.map_err(failed)?) else { continue };
        is_trace |= event["qlog_format"] == "NDJSON";
        if let Some(id) = event["group_id"].as_str() {
            stories.entry(id.to_owned()).or_default().take(&event);
        }
    }
    if !is_trace {
        return Err(format!("{} was not written by --trace", trace.display()));
    }
    // The longest, where nobody has chosen.
    let longest = || stories.iter().max_by_key(|(_, story)| story.left.len() + story.arrived.len());
    let chosen = match &transfer {
        Some(id) => stories.get_key_value(id),
        None => longest(),
    };
    let (id, story) = chosen.ok_or_else(|| {
        let known: Vec<&str> = stories.keys().map(String::as_str).collect();
        format!("{} has no such transfer; there are: {}", trace.display(), known.join(", "))
    })?;
    plot::draw(&out, &format!("Transfer {id}"), (1_100, 760), &story.panels())?;
    Ok(format!("{}: transfer {id} of {}", out.display(), stories.len()))
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "it tells the person what it did")]
fn main() -> ExitCode {
    match run() {
        Ok(done) => {
            println!("{done}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("plot_trace: {error}");
            ExitCode::FAILURE
        }
    }
}
