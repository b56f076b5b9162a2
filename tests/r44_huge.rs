//! R44: files larger than 4 GiB, whose offsets need more than 32 bits.
//!
//! On every push the last 3 MiB of a sparse file of 4 GiB and a little are fetched over UDP: the rest is there already, as
//! if an earlier try had left it. At night 5 GiB are fetched from the start, over UDP and TCP.
#![allow(clippy::cast_possible_truncation, reason = "the numbers of a test are small")]

mod moves;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::thread;
use std::time::Duration;

use moves::{MIB, Scene, names, part_and_state, transfer};
use packetboat::rudp::split_mix_64;

const GIB: u64 = 1 << 30;

/// Goal R44: what a transfer may add to the memory of either process.
const MEMORY_KIB_MAX: u64 = 16 * 1_024;

/// Where the file is more than a hole: around the 32nd bit, and at its end.
fn content(size: u64) -> Vec<(u64, Vec<u8>)> {
    [(0, 100_000), (4 * GIB - MIB, 2 * MIB), (size - 3 * MIB - 500_000, 3 * MIB + 500_000)]
        .into_iter()
        .map(|(offset, len)| {
            let mut seed = offset;
            let words = std::iter::repeat_with(|| split_mix_64(&mut seed).to_le_bytes());
            (offset, words.flatten().take(len as usize).collect())
        })
        .collect()
}

/// The first `len` octets of the file of this size.
fn make_sparse(path: &Path, size: u64, len: u64) {
    let file = File::create(path).expect("a file");
    file.set_len(len).expect("a filesystem that knows holes");
    for (offset, octets) in content(size) {
        let len = octets.len().min(len.saturating_sub(offset) as usize);
        file.write_all_at(&octets[..len], offset).expect("written");
    }
}

fn peak_kib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.split_whitespace().next()?.parse().ok()
}

/// Fetches the file, and gives what was told of it and the most memory that the client has had.
fn fetch(scene: &Scene, arguments: &[&str]) -> (serde_json::Value, u64) {
    let mut child = scene.client(arguments).spawn().expect("it starts");
    let mut peak = 0;
    while child.try_wait().expect("a child").is_none() {
        peak = peak_kib(child.id()).unwrap_or(peak);
        thread::park_timeout(Duration::from_millis(5));
    }
    (transfer(&child.wait_with_output().expect("it ran")), peak)
}

/// Fetches a file of this size, of which `start` octets are there; the second time by another way.
fn fetch_huge(size: u64, start: u64, ways: &[&str]) {
    // Where files live in memory, a hole is read in no time; but what is fetched as a whole has no holes.
    let in_memory = Path::new("/dev/shm");
    let scene = if start > 0 && in_memory.is_dir() { Scene::below(in_memory) } else { Scene::new() };
    let original = scene.shelf.path().join("huge.bin");
    make_sparse(&original, size, size);
    fs::write(scene.shelf.path().join("small.bin"), "small").expect("a file");
    let server = scene.start();
    // A small file shows what the processes take in any case.
    let (_, client_before) = fetch(&scene, &["get", "small.bin"]);
    let server_before = peak_kib(server.child.id()).expect("it runs");
    for way in ways {
        let final_name = scene.downloads().join("huge.bin");
        if start > 0 {
            let [part, state] = part_and_state(&final_name);
            make_sparse(&part, size, start);
            let mtime = fs::metadata(&original).expect("it").mtime();
            let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
            let text = format!(
                r#"{{"version":1,"name":"huge.bin","size":{size},"mtime_s":{mtime},"token":null,"boot":"{}","written":{start},"synced":{start}}}"#,
                boot.trim()
            );
            fs::write(state, format!("{text:511}\n")).expect("a file");
        }
        let (event, client_peak) = fetch(&scene, &["get", "huge.bin", way]);
        assert_eq!((event["resumed_from"].as_u64(), event["bytes"].as_u64()), (Some(start), Some(size)));
        // Both ends have read all of theirs for the digest; here the octets that are no hole are compared again.
        let got = File::open(&final_name).expect("it");
        assert_eq!(got.metadata().expect("its size").len(), size);
        for (offset, octets) in content(size) {
            let mut found = vec![0; octets.len()];
            got.read_exact_at(&mut found, offset).expect("read");
            assert!(found == octets, "at {offset} over {way}");
        }
        assert_eq!(names(&scene.downloads()), ["huge.bin", "small.bin"]);
        fs::remove_file(final_name).expect("it");
        let server_peak = peak_kib(server.child.id()).expect("it runs");
        for (who, before, peak) in
            [("client", client_before, client_peak), ("server", server_before, server_peak)]
        {
            assert!(
                peak <= before + MEMORY_KIB_MAX,
                "the {who} has grown from {before} to {peak} KiB over {way}"
            );
        }
    }
}

#[test]
fn r44_the_end_of_a_huge_file_is_fetched() {
    let size = 4 * GIB + 8 * MIB + 12_345;
    fetch_huge(size, (size - 3 * MIB) / MIB * MIB, moves::by_tier(&["--udp"][..], &["--udp", "--tcp"]));
}

#[test]
fn r44_a_huge_file_is_fetched() {
    if !moves::is_night() {
        eprintln!("r44_a_huge_file_is_fetched is SKIPPED: 5 GiB are for the night (PACKETBOAT_TIER=N)");
        return;
    }
    fetch_huge(5 * GIB, 0, &["--udp", "--tcp"]);
}
