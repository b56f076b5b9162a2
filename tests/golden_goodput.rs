//! The goodput of every scheme and controller in virtual time, against what it was when somebody looked last.
//!
//! `tests/golden_goodput.md` has the figures. They follow from the seeds alone, so a change of more than [`TOLERANCE`] is a change
//! of the protocol's behaviour. When it is a wanted one: `PACKETBOAT_RENEW=1 cargo test --test golden_goodput` writes the file anew,
//! and its difference belongs into the same commit.

#![allow(clippy::cast_possible_truncation, reason = "the numbers of a test are small")]

#[allow(unreachable_pub, dead_code, unused_imports, reason = "shared by test crates")]
mod sim;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use packetboat::rudp::ArqScheme;
use sim::goodput::{Way, median};
use sim::{Link, Loss, MIB, ms, secs};

const LOSSES: [f64; 5] = [0.0, 0.01, 0.05, 0.10, 0.20];

const SEEDS: u64 = 3;

/// A golden figure and today's may differ by this share: rounding in another standard library shifts an ACK, not a picture.
const TOLERANCE: f64 = 0.05;

/// Small files, so that all this takes seconds.
fn size(arq: ArqScheme) -> u64 {
    match arq {
        ArqScheme::StopAndWait => 32 << 10,
        ArqScheme::GoBackN => MIB / 2,
        ArqScheme::SelectiveRepeat => 2 * MIB,
    }
}

/// Mbit/s at each loss: the median of the seeds.
fn measure(way: Way) -> Vec<f64> {
    let of = |loss: f64| {
        let link = Link { loss: Loss::random(loss), ..Link::of(20, ms(20)) };
        let runs: Vec<_> = (0..SEEDS).map(|seed| way.run(&link, size(way.arq), seed, secs(600))).collect();
        median(&runs, |run| run.mbit_per_s)
    };
    LOSSES.map(of).to_vec()
}

fn line(way: Way, figures: &[f64]) -> String {
    let figures: Vec<String> = figures.iter().map(|figure| format!("{figure:.3}")).collect();
    format!("| {} | {} |", way.name(), figures.join(" | "))
}

fn table() -> String {
    let mut table = String::from(
        "Mbit/s of small files over 20 Mbit/s, 40 ms, a queue of one BDP, losses both ways, in virtual time; medians of three\n\
         seeds. `tests/golden_goodput.rs` compares with it and tells how to renew it. Small files: start-up is a part of it.\n\n\
         | way | 0 % | 1 % | 5 % | 10 % | 20 % |\n|---|---|---|---|---|---|\n",
    );
    for way in Way::all() {
        writeln!(table, "{}", line(way, &measure(way))).expect("a string takes it");
    }
    table
}

#[test]
fn goodput_is_what_it_was() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden_goodput.md");
    if std::env::var_os("PACKETBOAT_RENEW").is_some() {
        return fs::write(path, table()).expect("writable");
    }
    let golden = fs::read_to_string(path).expect("it lies beside this file");
    let mut changed = Vec::new();
    for way in Way::all() {
        let measured = measure(way);
        let old = golden.lines().find(|old| old.starts_with(&format!("| {} |", way.name())));
        let old = old.unwrap_or_else(|| panic!("there is no line for {}", way.name()));
        let figures = old.split('|').skip(2).take(LOSSES.len());
        let figures: Vec<f64> = figures.map(|figure| figure.trim().parse().expect("a number")).collect();
        assert_eq!(figures.len(), LOSSES.len(), "{old}");
        // A thousandth is the last digit that the file has.
        let differs = |(old, new): (&f64, &f64)| (new - old).abs() > old * TOLERANCE + 0.001;
        if figures.iter().zip(&measured).any(differs) {
            changed.push(format!("{old}\nis now\n{}", line(way, &measured)));
        }
    }
    assert!(
        changed.is_empty(),
        "goodput has changed (this file's head tells what to do):\n{}",
        changed.join("\n")
    );
}
