//! The real programs through everything that an emulated link can do to packets: whatever arrives is what was sent.

use crate::emulator::{Emulator, Link};
use crate::peers::{self, Shelf};

/// A download may break off where the control connection is damaged too; the same command goes on, at most so often.
const TRIES_MAX: u64 = 4;

/// What happens, and the emulator's words for it.
const STORMS: [(&str, &[&str]); 7] = [
    ("a fifth comes 15 ms late", &["--reorder", "20%", "--reorder-delay", "15ms"]),
    ("jitter of 10 ms that overtakes", &["--jitter", "10ms", "--jitter-reorders"]),
    ("a tenth comes twice", &["--dup", "10%"]),
    ("a hundredth is damaged, the checksums right again", &["--corrupt", "1%", "--corrupt-fix"]),
    ("nothing for 2 s", &["--outage", "1500ms,2s"]),
    ("losses in bursts of eight, 5 % of all", &["--burst", "5%,8"]),
    (
        "all of it",
        &[
            "--jitter",
            "5ms",
            "--jitter-reorders",
            "--loss",
            "3%",
            "--dup",
            "2%",
            "--reorder",
            "5%",
            "--corrupt",
            "0.3%",
            "--corrupt-fix",
            "--outage",
            "2s,2s",
        ],
    ),
];

/// Downloads and uploads the file through every storm; `false` when one of them did not get through.
pub fn run(emulator: &Emulator, shelf: &Shelf, seeds: u64) -> bool {
    let mut all_well = true;
    for (storm, options) in STORMS {
        let mut link = Link::new(100, 40, 0.0);
        link.options = peers::words(options);
        for seed in 1..=seeds {
            let got = attempt(|try_number| peers::get(emulator, &link, shelf, seed + 100 * try_number));
            let put = attempt(|try_number| peers::put(emulator, &link, shelf, seed + 100 * try_number));
            println!("{storm}, seed {seed}: get {}, put {}", told(got), told(put));
            all_well &= got.is_some() && put.is_some();
        }
    }
    all_well
}

/// At which try it got through. That what arrived is right, each try checks itself.
fn attempt(mut transfer: impl FnMut(u64) -> bool) -> Option<u64> {
    (1..=TRIES_MAX).find(|try_number| transfer(*try_number))
}

fn told(tries: Option<u64>) -> String {
    match tries {
        Some(1) => "identical".into(),
        Some(tries) => format!("identical at try {tries}"),
        None => "NEVER COMPLETE".into(),
    }
}
