//! The limits as flags of the command line, each with its default.

use std::time::Duration;

use clap::Args;

use super::limits::{Limits, Rate};

/// More would need more memory maps than Linux grants a process (65,530), four for each reader thread.
pub const CLIENTS_MAX: u64 = 12_000;
/// Each of them may be looked at, under the lock of the room, when one more comes.
const STRANGERS_MAX: u64 = 1_024;
/// Half of a queue must hold the longest line and some more.
const OUTBOX_BYTES_MIN: u64 = 16 * 1024;

/// The flags.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitArgs {
    /// Members at a time, 12000 at most
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u64).range(1..=CLIENTS_MAX))]
    max_clients: u64,
    /// Connections that have not said HELLO yet, 1024 at most; one more and the oldest has to go
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=STRANGERS_MAX))]
    max_unregistered: u64,
    /// How long they may take to say it
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = parse_seconds)]
    login_timeout: Duration,
    /// Control connections of one IP address (loopback is exempt)
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = at_least(1))]
    max_per_ip: u64,
    /// Characters of a nickname, 24 at most
    #[arg(long, value_name = "N", default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=24))]
    max_nick: u64,
    /// Characters of what somebody says, 2000 at most; a line has 4096 bytes
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..=2000))]
    max_text: u64,
    /// Lines that one client may say at once
    #[arg(long, value_name = "LINES", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    rate_burst: u32,
    /// Lines in a second from then on: more are read later
    #[arg(long, value_name = "LINES", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// How long lines may wait behind each other because of the rate, before their client is sent away
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = parse_seconds)]
    max_pressure: Duration,
    /// Let everybody ask as fast as they can: for trusted networks and benches
    #[arg(long)]
    no_rate_limit: bool,
    /// Lines no correct client sends (too long, not UTF-8, control characters), before theirs is sent away
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    max_strikes: u32,
    /// Lines that may wait for one client, before it is too slow
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = at_least(16))]
    max_outbox_lines: u64,
    /// Their bytes, 16K at least
    #[arg(long, value_name = "SIZE", default_value = "256K", value_parser = parse_outbox_size)]
    max_outbox: u64,
    /// How long a client may take none of them
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = parse_seconds)]
    max_blocked: Duration,
    /// A member who is silent for so long is asked whether it is there; at the latest after 3/5 of the next
    #[arg(long, value_name = "SECONDS", default_value = "90", value_parser = parse_seconds)]
    ping_after: Duration,
    /// One who is silent for so long is sent away
    #[arg(long, value_name = "SECONDS", default_value = "150", value_parser = parse_seconds)]
    max_silence: Duration,
    /// Transfers of one member
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = at_least(1))]
    max_transfers_each: u64,
    /// Transfers of all members
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = at_least(1))]
    max_transfers: u64,
    /// Offers of one member that nobody has taken up yet
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = at_least(1))]
    max_offers: u64,
    /// How long an offer stays open
    #[arg(long, value_name = "SECONDS", default_value = "75", value_parser = parse_seconds)]
    offer_lifetime: Duration,
    /// Take no files
    #[arg(long)]
    no_uploads: bool,
    /// The largest file to take, in bytes or as 500M, 2G (powers of 1024)
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = parse_size)]
    max_upload: u64,
    /// How large uploads may make the shelf
    #[arg(long, value_name = "SIZE", default_value = "10G", value_parser = parse_size)]
    max_shelf: u64,
}

impl From<LimitArgs> for Limits {
    fn from(args: LimitArgs) -> Limits {
        let rate = Rate { burst: args.rate_burst, interval: Duration::from_secs(1) / args.rate };
        Limits {
            clients_max: to_count(args.max_clients),
            unregistered_max: to_count(args.max_unregistered),
            nick_chars_max: to_count(args.max_nick),
            text_chars_max: to_count(args.max_text),
            per_ip_max: to_count(args.max_per_ip),
            login_timeout: args.login_timeout,
            strikes_max: args.max_strikes,
            rate: (!args.no_rate_limit).then_some(rate),
            pressure_max: args.max_pressure,
            outbox_lines_max: to_count(args.max_outbox_lines),
            outbox_bytes_max: to_count(args.max_outbox),
            blocked_max: args.max_blocked,
            ping_after: args.ping_after.min(args.max_silence * 3 / 5),
            silence_max: args.max_silence,
            transfers_per_client: to_count(args.max_transfers_each),
            offers_per_client: to_count(args.max_offers),
            transfers_max: to_count(args.max_transfers),
            offer_lifetime: args.offer_lifetime,
            uploads: !args.no_uploads,
            upload_max: args.max_upload,
            shelf_max: args.max_shelf,
            ..Limits::default()
        }
    }
}

/// A number for a limit on something that exists one by one.
fn at_least(least: u64) -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(least..=1_000_000)
}

fn to_count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// `70000`, `64K`, `500M`, `2G`, `1T`, also with `B` or `iB` behind the letter.
fn parse_size(text: &str) -> Result<u64, String> {
    let lower = text.to_ascii_lowercase();
    let plain = lower.strip_suffix("ib").or_else(|| lower.strip_suffix('b')).unwrap_or(&lower);
    let units = [("k", 10), ("m", 20), ("g", 30), ("t", 40)];
    let unit = units.into_iter().find_map(|(unit, bits)| Some((plain.strip_suffix(unit)?, bits)));
    let (digits, bits) = unit.unwrap_or((plain, 0));
    let size = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << bits));
    size.ok_or_else(|| "not a size such as 70000, 500M or 2G".to_owned())
}

fn parse_outbox_size(text: &str) -> Result<u64, String> {
    let size = parse_size(text)?;
    if (OUTBOX_BYTES_MIN..=1 << 30).contains(&size) { Ok(size) } else { Err("not from 16K to 1G".into()) }
}

/// `10` or `2.5`: more than nothing, a year at most.
fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.001..=31_536_000.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "not a number of seconds such as 10 or 2.5".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(Debug, clap::Parser)]
    struct Command {
        #[command(flatten)]
        limits: LimitArgs,
    }

    fn limits(args: &[&str]) -> Result<Limits, clap::Error> {
        Command::try_parse_from(["server"].iter().chain(args)).map(|command| command.limits.into())
    }

    #[test]
    fn no_flags_mean_the_defaults() {
        assert_eq!(limits(&[]).expect("valid"), Limits::default());
    }

    #[test]
    fn a_flag_changes_its_limit() {
        let changed =
            limits(&["--rate", "50", "--max-silence", "2.5", "--max-outbox", "16K"]).expect("valid");
        let rate = Some(Rate { burst: 20, interval: Duration::from_millis(20) });
        let (ping_after, silence_max) = (Duration::from_millis(1_500), Duration::from_millis(2_500));
        assert_eq!(
            changed,
            Limits { rate, ping_after, silence_max, outbox_bytes_max: 16_384, ..Limits::default() }
        );
        assert_eq!(limits(&["--no-rate-limit"]).expect("valid").rate, None);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (flag, values) in [
            ("--max-clients", &["0", "12001", "-1", "many"][..]),
            ("--max-nick", &["0", "25"]),
            ("--max-unregistered", &["0", "1025"]),
            ("--max-text", &["0", "2001"]),
            ("--rate", &["0", "1e9"]),
            ("--max-silence", &["0", "-1", "nan", "inf", "1e300"]),
            ("--max-outbox", &["16383", "2G", "1X"]),
            ("--max-upload", &["-1", "1e9", "99999999999999999999", "20000000T"]),
        ] {
            for value in values {
                assert!(limits(&[&format!("{flag}={value}")]).is_err(), "{flag}={value}");
            }
        }
        assert_eq!(limits(&["--max-clients=12000"]).expect("the most").clients_max, 12_000);
    }
}
