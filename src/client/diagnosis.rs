//! What measurements of the way to a server mean, in words: pure, for `doctor`.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use crate::rudp::PACKET_LEN_MIN;
use crate::rudp::probe::Probe;
use crate::wire::text::sanitise;

/// A share of lost packets that is not worth a word. Ours: one of a hundred happens on any wireless line.
const LOSS_OK: f64 = 0.02;

/// Clocks that differ by no more are the same. Ours: nobody sees less in a list of files.
const CLOCK_OK_S: f64 = 5.0;

/// What was found of one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and could be better.
    Warning,
    /// It could not be tested.
    Unknown,
    /// It does not work.
    Failed,
}

impl Verdict {
    /// Whether files travel over UDP all the same.
    pub fn is_well(self) -> bool {
        matches!(self, Self::Ok | Self::Warning)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Unknown => "unknown",
            Self::Failed => "failed",
        })
    }
}

/// What was found of one thing, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// `tcp`, `udp`, `packet-size`, `loss` or `clock`.
    pub check: &'static str,
    /// How it is.
    pub result: Verdict,
    /// What was found.
    pub text: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<8} {:<12} {}", self.result, self.check, sanitise(&self.text))?;
        match &self.advice {
            Some(advice) => write!(f, "\n{:22}what to do: {advice}", ""),
            None => Ok(()),
        }
    }
}

/// All of it in one sentence, with the numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Diagnosis {
    /// The worst of the checks.
    pub result: Verdict,
    /// The sentence.
    pub text: String,
    /// The server's address.
    pub server: String,
    /// The round trip over TCP.
    pub tcp_rtt_ms: f64,
    /// What was measured over UDP, where that could be.
    #[serde(flatten)]
    pub udp: Option<UdpNumbers>,
}

/// What was measured over UDP.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UdpNumbers {
    /// The server's port.
    pub udp_port: u16,
    /// Packets sent,
    pub packets_sent: usize,
    /// of which so many reached the server,
    pub packets_arrived: u32,
    /// and so many answers came back.
    pub packets_returned: usize,
    /// The largest packet that was answered; 0 where none was.
    pub packet_len: usize,
    /// The round trip, where anything was answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub udp_rtt_ms: Option<f64>,
    /// How far the server's clock is ahead of ours.
    pub clock_offset_s: f64,
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "* {}", self.text)
    }
}

/// What was measured.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) server: SocketAddr,
    pub(super) nick: String,
    pub(super) tcp_rtt: Duration,
    /// The size of packets that files would travel in.
    pub(super) full_len: usize,
    pub(super) udp: Result<Measured, Untested>,
}

/// What was measured over UDP.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) port: u16,
    pub(super) probes: Vec<Probe>,
    pub(super) arrived: u32,
    pub(super) clock_offset_s: f64,
}

/// Why nothing was measured.
#[derive(Debug)]
pub(super) enum Untested {
    /// The server does not know of probes.
    OldServer,
    /// The server does not want to, in its words.
    Refused(String),
    /// There is no UDP here.
    NoSocket(String),
}

/// Says what it all means.
pub(super) fn diagnose(facts: &Facts) -> (Vec<Check>, Diagnosis) {
    let Facts { server, nick, tcp_rtt, full_len, udp } = facts;
    let tcp_text = format!("connected to {server} as {nick}, round trip {}", ms_text(*tcp_rtt));
    let mut checks = vec![check("tcp", Verdict::Ok, tcp_text, None)];
    match udp {
        Ok(measured) => checks.extend(measured.checks(*server, *full_len)),
        Err(untested) => checks.push(untested.check()),
    }
    let result = checks.iter().map(|check| check.result).max().unwrap_or(Verdict::Ok);
    let text = match result {
        Verdict::Ok => format!("all is well: files travel over UDP in packets of {full_len} octets"),
        Verdict::Warning => "it works: files travel over UDP, see the warnings".into(),
        Verdict::Unknown => "whether files can travel over UDP is not known, see above".into(),
        Verdict::Failed => "files cannot travel over UDP here: --tcp works at once, and without --udp a \
                            transfer turns to TCP by itself after 15 s"
            .into(),
    };
    let udp = udp.as_ref().ok().map(Measured::numbers);
    let diagnosis = Diagnosis { result, text, server: server.to_string(), tcp_rtt_ms: ms(*tcp_rtt), udp };
    (checks, diagnosis)
}

fn check(check: &'static str, result: Verdict, text: String, advice: Option<&str>) -> Check {
    Check { check, result, text, advice: advice.map(str::to_owned) }
}

impl Untested {
    fn check(&self) -> Check {
        let (text, advice) = match self {
            Self::OldServer => (
                "the server is older than this client and answers no probes".into(),
                "bring the server up to date, or just try: get NAME --udp",
            ),
            Self::Refused(words) => (format!("the server does not probe: {words}"), "try it again in 10 s"),
            Self::NoSocket(words) => (
                format!("no UDP socket can be had here: {words}"),
                "look at what this system forbids (a sandbox, a limit of open files); --tcp works meanwhile",
            ),
        };
        check("udp", Verdict::Unknown, text, Some(advice))
    }
}

impl Measured {
    /// How many were sent of this size, and how many were answered.
    fn count(&self, is_meant: impl Fn(usize) -> bool) -> (usize, usize) {
        let meant = || self.probes.iter().filter(|probe| is_meant(probe.len));
        (meant().count(), meant().filter(|probe| probe.rtt.is_some()).count())
    }

    fn passes(&self, len: usize) -> bool {
        self.count(|found| found == len).1 > 0
    }

    fn numbers(&self) -> UdpNumbers {
        let answered = || self.probes.iter().filter(|probe| probe.rtt.is_some());
        UdpNumbers {
            udp_port: self.port,
            packets_sent: self.probes.len(),
            packets_arrived: self.arrived,
            packets_returned: answered().count(),
            packet_len: answered().map(|probe| probe.len).max().unwrap_or(0),
            udp_rtt_ms: self.rtt().map(ms),
            clock_offset_s: self.clock_offset_s,
        }
    }

    /// The median of the round trips.
    fn rtt(&self) -> Option<Duration> {
        let mut rtts: Vec<Duration> = self.probes.iter().filter_map(|probe| probe.rtt).collect();
        rtts.sort_unstable();
        rtts.get(rtts.len() / 2).copied()
    }

    fn checks(&self, server: SocketAddr, full_len: usize) -> Vec<Check> {
        let Some(rtt) = self.rtt() else { return vec![self.blocked(server), self.clock()] };
        let text =
            format!("packets reach UDP port {} and are answered, round trip {}", self.port, ms_text(rtt));
        let udp = check("udp", Verdict::Ok, text, None);
        vec![udp, self.packet_size(full_len), self.loss(full_len), self.clock()]
    }

    fn blocked(&self, server: SocketAddr) -> Check {
        let (port, sent) = (self.port, self.probes.len());
        if self.arrived == 0 {
            let text = format!("none of {sent} packets reached UDP port {port} of {}", server.ip());
            let advice = "open the server's UDP ports (its first line names them) in the firewalls between, or \
                          look whether this network lets UDP out at all";
            return check("udp", Verdict::Failed, text, Some(advice));
        }
        let text = format!("{} of {sent} packets reached the server, but no answer comes back", self.arrived);
        let advice = "let answers to outgoing UDP in: the firewall or router on this side drops them";
        check("udp", Verdict::Failed, text, Some(advice))
    }

    fn packet_size(&self, full_len: usize) -> Check {
        if self.passes(full_len) {
            return check(
                "packet-size",
                Verdict::Ok,
                format!("packets of {full_len} octets pass both ways"),
                None,
            );
        }
        if self.passes(PACKET_LEN_MIN) {
            let text = format!("packets of {full_len} octets do not pass, those of {PACKET_LEN_MIN} do");
            let advice =
                "nothing: files travel in the smaller ones; a tunnel or VPN on the way is the usual reason";
            return check("packet-size", Verdict::Warning, text, Some(advice));
        }
        let text = format!("packets of {PACKET_LEN_MIN} octets do not pass, only smaller ones do");
        let advice = "raise the MTU of the tunnel or VPN on the way to 1280 at least";
        check("packet-size", Verdict::Failed, text, Some(advice))
    }

    fn loss(&self, full_len: usize) -> Check {
        // What is too large for the way is not lost by chance.
        let passing = |len: usize| len < PACKET_LEN_MIN || self.passes(len);
        let (sent, returned) = self.count(passing);
        let lost = sent - returned;
        let share = lost as f64 / sent.max(1) as f64;
        let mut text = format!("{returned} of {sent} packets were answered");
        let arrived = usize::try_from(self.arrived).unwrap_or(sent).min(sent);
        if lost > 0 && self.passes(full_len) {
            text = format!(
                "{text}: {} lost on the way there, {} on the way back",
                sent - arrived,
                arrived.saturating_sub(returned)
            );
        }
        if share <= LOSS_OK {
            return check("loss", Verdict::Ok, text, None);
        }
        let advice = "nothing must be done: what is lost is sent again, files only take longer; a weak wireless \
                      line or a full one is the usual reason";
        check("loss", Verdict::Warning, text, Some(advice))
    }

    fn clock(&self) -> Check {
        let offset_s = self.clock_offset_s;
        if offset_s.abs() <= CLOCK_OK_S {
            let text = format!("the server's clock and this one differ by {:.1} s", offset_s.abs());
            return check("clock", Verdict::Ok, text, None);
        }
        let side = if offset_s > 0.0 { "ahead of" } else { "behind" };
        let text = format!("the server's clock is {} {side} this one", span_text(offset_s.abs()));
        let advice = "set the one that is wrong (timedatectl tells); transfers do not mind, but the times of \
                      files are the server's";
        check("clock", Verdict::Warning, text, Some(advice))
    }
}

fn ms(time: Duration) -> f64 {
    // Microseconds are as exact as it gets.
    (time.as_secs_f64() * 1e6).round() / 1e3
}

fn ms_text(time: Duration) -> String {
    format!("{:.1} ms", ms(time))
}

/// `12 s`, `3 min`, `2 h`, `5 days`.
fn span_text(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7_200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.0} h", s / 3_600.0),
        s => format!("{:.0} days", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    /// What is told of 10 probes of each size, where so many of each were answered.
    fn told(answered: [usize; 3], arrived: u32, clock_offset_s: f64) -> (String, Diagnosis) {
        let probes = [200, 1_200, 1_472].into_iter().zip(answered).flat_map(|(len, answered)| {
            let rtt = move |at| (at < answered).then_some(Duration::from_millis(3));
            (0..10).map(move |at| Probe { len, sent_at: Instant::now(), rtt: rtt(at) })
        });
        let measured = Measured { port: 55_001, probes: probes.collect(), arrived, clock_offset_s };
        diagnosed(Ok(measured))
    }

    fn diagnosed(udp: Result<Measured, Untested>) -> (String, Diagnosis) {
        let server = ([192, 0, 2, 1], 55_000).into();
        let tcp_rtt = Duration::from_micros(2_500);
        let (checks, diagnosis) =
            diagnose(&Facts { server, nick: "alice".into(), tcp_rtt, full_len: 1_472, udp });
        for check in &checks {
            assert_eq!(check.advice.is_none(), check.result == Verdict::Ok, "{check}");
        }
        (checks.iter().map(|check| format!("{check}\n")).collect(), diagnosis)
    }

    #[test]
    fn what_is_wrong_is_said_in_words() {
        for (answered, arrived, offset, result, words) in [
            ([10, 10, 10], 30, 0.2, Verdict::Ok, "30 of 30 packets were answered"),
            ([0, 0, 0], 0, 0.0, Verdict::Failed, "none of 30 packets reached UDP port 55001 of 192.0.2.1"),
            ([0, 0, 0], 30, 0.0, Verdict::Failed, "30 of 30 packets reached the server, but no answer comes"),
            ([10, 10, 0], 20, 0.0, Verdict::Warning, "1472 octets do not pass, those of 1200 do"),
            ([10, 0, 0], 10, 0.0, Verdict::Failed, "packets of 1200 octets do not pass"),
            ([9, 8, 8], 28, 0.0, Verdict::Warning, "2 lost on the way there, 3 on the way back"),
            ([10, 10, 10], 30, 200.0, Verdict::Warning, "the server's clock is 3 min ahead of this one"),
            ([10, 10, 10], 30, -90_000.0, Verdict::Warning, "the server's clock is 25 h behind this one"),
        ] {
            let (text, diagnosis) = told(answered, arrived, offset);
            assert!(text.contains(words), "{text}");
            assert_eq!(diagnosis.result, result, "{text}");
            assert_eq!(diagnosis.result.is_well(), result <= Verdict::Warning);
        }
    }

    #[test]
    fn what_does_not_pass_by_its_size_is_not_lost() {
        let (text, diagnosis) = told([10, 10, 0], 20, 0.0);
        assert!(text.contains("ok       loss         20 of 20 packets were answered\n"), "{text}");
        let udp = diagnosis.udp.expect("measured");
        assert_eq!((udp.packet_len, udp.packets_returned, udp.udp_rtt_ms), (1_200, 20, Some(3.0)));
    }

    #[test]
    fn what_could_not_be_tested_is_not_called_well() {
        for untested in
            [Untested::OldServer, Untested::Refused("\x1b[2J".into()), Untested::NoSocket("no".into())]
        {
            let (text, diagnosis) = diagnosed(Err(untested));
            assert_eq!(diagnosis.result, Verdict::Unknown);
            assert!(text.contains("what to do: ") && !text.contains('\x1b'), "{text:?}");
        }
    }
}
