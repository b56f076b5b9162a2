//! S36: a server is killed at any moment while files go both ways, and comes back; the clients do by themselves.
//!
//! Rounds on every push 2 with 2 uploads and 2 downloads of 4 MiB; at night 20 with 5 and 5.
#![allow(clippy::cast_possible_truncation, reason = "the numbers of a test are small")]

mod moves;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use moves::{MIB, SLOW, Scene, are_identical, by_tier, make_file, names, noted, part_and_state, transfer};
use packetboat::rudp::split_mix_64;

/// How long anything may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(120);

/// One file on its way.
struct Moving {
    original: PathBuf,
    target: PathBuf,
    is_upload: bool,
    client: Child,
}

impl Moving {
    /// The octets that are there, finished or not.
    fn arrived(&self) -> u64 {
        let len = |path: &Path| fs::metadata(path).map(|meta| meta.len()).unwrap_or_default();
        let [part, _] = part_and_state(&self.target);
        len(&self.target).max(len(&part))
    }
}

fn start_all(scene: &Scene, each_way: usize, seed: u64) -> Vec<Moving> {
    let size = |number: usize| 4 * MIB + number as u64 * 54_321;
    let mut all = Vec::new();
    for number in 0..each_way {
        let (get, put) = (format!("get-{number}.bin"), format!("put-{number}.bin"));
        let shelved = scene.shelf.path().join(&get);
        make_file(&shelved, size(number), seed + number as u64);
        let own = scene.home.path().join(&put);
        make_file(&own, size(number), !(seed + number as u64));
        let downloaded = scene.downloads().join(&get);
        let uploaded = scene.shelf.path().join(&put);
        for (command, original, target) in
            [(["get", &get], shelved, downloaded), (["put", &put], own, uploaded)]
        {
            let client = scene.client(&[&command, &SLOW[..]].concat()).spawn().expect("it starts");
            all.push(Moving { original, target, is_upload: command[0] == "put", client });
        }
    }
    all
}

/// Kills and starts the server once, when about as much as chance wants has arrived.
fn killed_and_back(each_way: usize, seed: u64) {
    let mut chance = seed;
    let scene = Scene::new();
    let server = scene.start();
    let moving = start_all(&scene, each_way, seed);
    let total: u64 = moving.iter().map(|one| fs::metadata(&one.original).expect("it").len()).sum();
    // Not so late that all are through.
    let at = split_mix_64(&mut chance) % (total * 19 / 20);
    let began = Instant::now();
    // Who finds no server at all gives up at once, so each of them must have begun.
    let has_begun = |one: &Moving| one.arrived() > 0;
    while moving.iter().map(Moving::arrived).sum::<u64>() < at || !moving.iter().all(has_begun) {
        assert!(began.elapsed() < PATIENCE, "seed {seed}: nothing comes: {}", scene.log());
        std::thread::yield_now();
    }
    server.kill();

    let mut finished = Vec::new();
    for one in &moving {
        if one.target.exists() {
            assert!(
                are_identical(&one.target, &one.original),
                "seed {seed}: {} is not it",
                one.target.display()
            );
        }
        finished.push(one.is_upload && one.target.exists());
    }
    let is_right = |name: &String| {
        name.starts_with('.')
            || moving.iter().any(|one| one.target.ends_with(name) || one.original.ends_with(name))
    };
    assert!(names(scene.shelf.path()).iter().all(is_right), "seed {seed}: {:?}", names(scene.shelf.path()));
    let noted: Vec<u64> = moving.iter().map(|one| noted(&one.target)).collect();

    let _server = scene.start();
    for ((one, was_finished), noted) in moving.into_iter().zip(finished).zip(noted) {
        let output = one.client.wait_with_output().expect("it ends");
        assert!(one.target.exists(), "seed {seed}: no {}: {output:?}, {}", one.target.display(), scene.log());
        assert!(are_identical(&one.target, &one.original), "seed {seed}: {} is not it", one.target.display());
        if !output.status.success() && was_finished {
            // The server had no time to say so, and the name is taken.
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(said.contains("exists"), "seed {seed}: {output:?}");
            continue;
        }
        let event = transfer(&output);
        let size = fs::metadata(&one.original).expect("it").len();
        let resumable = noted.min(size - 1) / MIB * MIB;
        assert!(
            event["resumed_from"].as_u64() >= Some(resumable),
            "seed {seed}: {resumable} octets of {} were there: {event}, {}",
            one.target.display(),
            scene.log()
        );
    }
    for folder in [scene.shelf.path(), &scene.downloads()] {
        assert!(!names(folder).iter().any(|name| name.starts_with('.')), "seed {seed}: {:?}", names(folder));
    }
}

#[test]
fn s36_a_server_that_is_killed_and_comes_back_loses_nothing() {
    let (rounds, each_way) = by_tier((2, 2), (20, 5));
    for seed in 1..=rounds {
        killed_and_back(each_way, seed);
    }
}
