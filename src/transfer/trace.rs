//! `--trace FILE`: what the connections of this process do, as JSON lines in qlog's vocabulary.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::rudp::State;
use crate::rudp::trace::{Trace, TraceEvent};
use crate::wire::message::TransferId;

/// An open trace file, shared by all connections of the process.
///
/// Lines are buffered and written by the worker that makes them: a trace may slow transfers down, which is why it has
/// to be asked for.
#[derive(Clone)]
pub struct TraceFile {
    shared: Arc<Shared>,
}

struct Shared {
    began_at: Instant,
    /// `None` once a write has failed.
    out: Mutex<Option<BufWriter<File>>>,
}

impl TraceFile {
    /// Makes the file (an old one is overwritten) and writes qlog's head.
    pub fn create(path: &Path) -> io::Result<TraceFile> {
        let out = BufWriter::new(File::create(path)?);
        let trace =
            TraceFile { shared: Arc::new(Shared { began_at: Instant::now(), out: Mutex::new(Some(out)) }) };
        trace.write(&json!({
            "qlog_version": "0.4",
            "qlog_format": "NDJSON",
            "title": "packetboat",
            "trace": { "common_fields": { "time_format": "relative", "reference_time": 0 } },
        }));
        Ok(trace)
    }

    /// A callback that writes the events of one connection.
    pub fn of(&self, id: TransferId) -> Trace {
        let trace = self.clone();
        Box::new(move |now, event| {
            let time_ms = ms(now.saturating_duration_since(trace.shared.began_at));
            let (name, data) = describe(event);
            trace
                .write(&json!({ "time": time_ms, "name": name, "group_id": id.0.to_string(), "data": data }));
            // A process may end at any time after its last transfer.
            if matches!(event, TraceEvent::State { new: State::Closed | State::TimeWait, .. }) {
                trace.flush();
            }
        })
    }

    fn write(&self, line: &Value) {
        self.try_to(|out| writeln!(out, "{line}"));
    }

    fn flush(&self) {
        self.try_to(Write::flush);
    }

    fn try_to(&self, act: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) {
        let mut out = self.shared.out.lock();
        if let Some(error) = out.as_mut().and_then(|out| act(out).err()) {
            log::error!("the trace ends here: {error}");
            *out = None;
        }
    }
}

impl std::fmt::Debug for TraceFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TraceFile")
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The event's name in qlog and its data. `offset` and the states are ours.
fn describe(event: &TraceEvent) -> (&'static str, Value) {
    match event {
        TraceEvent::PacketSent { number, kind, len, offset } => {
            let header = json!({ "packet_type": format!("{kind:?}"), "packet_number": number });
            ("quic:packet_sent", json!({ "header": header, "raw": { "length": len }, "offset": offset }))
        }
        TraceEvent::PacketReceived { number, kind, len } => {
            let header = json!({ "packet_type": format!("{kind:?}"), "packet_number": number });
            ("quic:packet_received", json!({ "header": header, "raw": { "length": len } }))
        }
        TraceEvent::PacketsAcked { bytes, snd_una } => {
            ("quic:packets_acked", json!({ "bytes": bytes, "snd_una": snd_una }))
        }
        TraceEvent::PacketLost { number } => {
            ("quic:packet_lost", json!({ "header": { "packet_number": number } }))
        }
        TraceEvent::Metrics { cwnd, bytes_in_flight, srtt, min_rtt, pacing_rate } => (
            "quic:recovery_metrics_updated",
            json!({
                "congestion_window": cwnd,
                "bytes_in_flight": bytes_in_flight,
                "smoothed_rtt": ms(*srtt),
                "min_rtt": ms(*min_rtt),
                // qlog counts bits.
                "pacing_rate": pacing_rate.map(|rate| rate.saturating_mul(8)),
            }),
        ),
        TraceEvent::State { old, new } => {
            ("quic:connection_state_updated", json!({ "old": format!("{old:?}"), "new": format!("{new:?}") }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::packet::Kind;

    #[test]
    fn each_event_is_one_line_of_json_that_names_its_transfer() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let trace = TraceFile::create(file.path()).expect("a trace");
        let now = Instant::now();
        let mut of_seven = trace.of(TransferId(7));
        of_seven(
            now,
            &TraceEvent::PacketSent { number: 5, kind: Kind::Data, len: 1_472, offset: Some(1_439) },
        );
        of_seven(now, &TraceEvent::State { old: State::Listen, new: State::SynReceived });
        drop((of_seven, trace));
        let text = std::fs::read_to_string(file.path()).expect("readable");
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0]["qlog_format"], "NDJSON");
        assert_eq!(lines[1]["name"], "quic:packet_sent");
        assert_eq!(lines[1]["data"]["header"]["packet_number"], 5);
        assert_eq!(lines[1]["data"]["offset"], 1_439);
        assert_eq!(lines[2]["group_id"], "7");
        assert_eq!(lines[2]["data"]["new"], "SynReceived");
    }

    #[test]
    fn a_full_disk_ends_the_trace_and_nothing_else() {
        let trace = TraceFile::create(Path::new("/dev/full")).expect("opened");
        let mut callback = trace.of(TransferId(1));
        for number in 0..1_000 {
            callback(Instant::now(), &TraceEvent::PacketLost { number });
        }
        assert!(trace.shared.out.lock().is_none());
    }
}
