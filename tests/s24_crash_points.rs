//! S24: a process is cut off at each of its calls to the file system, and then comes back; and what would be left if the
//! machine itself had gone down.
//!
//! strace kills the process at the entry of its N-th call of one kind, so that whatever it has done before is there and
//! nothing after. On every push every call but the writes, and each tenth of those; at night all.
#![cfg(target_os = "linux")]
#![allow(clippy::cast_possible_truncation, reason = "the numbers of a test are small")]

mod moves;

use std::collections::HashMap;
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use moves::{MIB, Scene, are_identical, make_file, names, noted, part_and_state, transfer};
use tempfile::TempDir;

/// 24 writes of 256 KiB, six whole MiB to go on from, and a rest.
const SIZE: u64 = 6 * MIB + 12_345;

/// How long anything may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// The calls that change what a crash would leave.
const CALLS: &str = "?open,openat,?creat,write,writev,pwrite64,pwritev,pwritev2,fallocate,ftruncate,fsync,fdatasync,\
                     ?rename,?renameat,renameat2,?link,linkat,?unlink,unlinkat";

/// So slow that it is synced once on its way.
const SYNCED_ON_ITS_WAY: [&str; 4] = ["--cc", "fixed:12", "--simulate", "delay=10ms"];

/// Whether a process may trace another here; says so where not.
fn can_trace() -> bool {
    let traced =
        Command::new("strace").args(["-f", "-qq", "-e", "trace=none", "true"]).stderr(Stdio::null()).status();
    let can = traced.is_ok_and(|status| status.success());
    if !can {
        #[expect(clippy::print_stderr, reason = "the one who runs the tests should know")]
        {
            eprintln!("s24_crash_points is SKIPPED: strace is not there, or must not trace");
        }
    }
    can
}

/// Traces what follows on its command line; kills it at the `when`-th call of this name on one of these paths.
fn strace(paths: &[PathBuf], log: &Path, kill_at: Option<&(String, usize)>) -> Command {
    let mut command = Command::new("strace");
    // -D: the traced process is our child, and strace our grandchild.
    let kinds = format!("trace={CALLS}");
    command.args(["-D", "-f", "-q", "-y", "-s", "600", "-e", &kinds, "-o"]).arg(log);
    for path in paths {
        command.arg("-P").arg(path);
    }
    if let Some((name, when)) = kill_at {
        command.arg("-e").arg(format!("inject={name}:signal=SIGKILL:when={when}"));
    }
    command
}

/// Waits until strace has written down how the process of this number has ended.
fn await_end(log: &Path, pid: u32) {
    let began = Instant::now();
    let ended = |line: &str| line.starts_with(&format!("{pid} ")) && line.contains("+++ ");
    while !fs::read_to_string(log).unwrap_or_default().lines().any(ended) {
        assert!(began.elapsed() < PATIENCE, "strace does not end");
        std::thread::yield_now();
    }
}

/// The paths that belong to a file on its way, as a process with this folder may name them.
fn paths_of(final_name: &Path, working_folder: &Path) -> Vec<PathBuf> {
    let folder = final_name.parent().expect("a folder");
    let [part, state] = part_and_state(final_name);
    let absolute = [folder.to_owned(), final_name.to_owned(), part, state];
    let relative =
        absolute.iter().filter_map(|path| Some(path.strip_prefix(working_folder).ok()?.to_owned()));
    relative.chain(absolute.clone()).collect()
}

/// A call as strace tells it.
#[derive(Debug)]
struct Call {
    thread: u32,
    name: String,
    arguments: String,
    result: String,
    /// The lines of its entry and of its return.
    lines: Range<usize>,
}

fn calls(log: &Path) -> Vec<Call> {
    let log = fs::read_to_string(log).expect("strace's log");
    let mut calls: Vec<Call> = Vec::new();
    let mut unfinished: HashMap<u32, usize> = HashMap::new();
    for (number, line) in log.lines().enumerate() {
        let (thread, line) = line.split_once(' ').expect("a thread's number");
        let (thread, line) = (thread.parse().expect("a number"), line.trim_start());
        if line.starts_with("<... ") {
            if let Some(at) = unfinished.remove(&thread) {
                calls[at].lines.end = number;
                calls[at].result = line.rsplit_once(" = ").expect("a result").1.to_owned();
            }
            continue;
        }
        let Some((name, rest)) = line.split_once('(') else { continue };
        let (arguments, result) = match rest.strip_suffix(" <unfinished ...>") {
            Some(arguments) => {
                unfinished.insert(thread, calls.len());
                (arguments, "?")
            }
            None => rest.rsplit_once(" = ").expect("a result"),
        };
        let arguments = arguments.trim_end().trim_end_matches(')').to_owned();
        calls.push(Call {
            thread,
            name: name.to_owned(),
            arguments,
            result: result.to_owned(),
            lines: number..number,
        });
    }
    calls
}

/// Where to cut: strace counts the calls of each kind in each thread.
fn points(calls: &[Call]) -> Vec<(String, usize)> {
    let mut counts: HashMap<(u32, &str), usize> = HashMap::new();
    let mut points = Vec::new();
    for call in calls {
        let when = counts.entry((call.thread, &call.name)).or_default();
        *when += 1;
        let is_mere_look = matches!(&*call.name, "open" | "openat") && !call.arguments.contains("O_CREAT");
        let is_one_of_many = call.name == "pwrite64" && *when % 10 != 1;
        let point = (call.name.clone(), *when);
        if (moves::is_night() || !is_mere_look && !is_one_of_many) && !points.contains(&point) {
            points.push(point);
        }
    }
    assert!(points.len() > 8, "{calls:#?}");
    points
}

/// I6: the final name exists only with the whole content, and nothing else can be seen.
fn assert_nothing_wrong(final_name: &Path, original: &Path, others: &[&str], at: &(String, usize)) {
    let name = final_name.file_name().and_then(|name| name.to_str()).expect("UTF-8");
    if final_name.exists() {
        assert!(are_identical(final_name, original), "{at:?}: its name, but not its content");
    }
    let hidden = [format!(".{name}.part"), format!(".{name}.part.state")];
    let folder = final_name.parent().expect("a folder");
    let foreign = |found: &String| found != name && !hidden.contains(found) && !others.contains(&&**found);
    assert!(!names(folder).iter().any(foreign), "{at:?}: {:?}", names(folder));
}

/// Where a later try has to begin at the earliest.
fn resumes_from(final_name: &Path) -> u64 {
    if final_name.exists() { 0 } else { noted(final_name).min(SIZE - 1) / MIB * MIB }
}

fn was_killed(output: &Output) -> bool {
    use std::os::unix::process::ExitStatusExt as _;
    output.status.signal() == Some(9)
}

#[test]
fn s24_a_client_that_is_cut_off_at_any_call_goes_on() {
    if !can_trace() {
        return;
    }
    let scene = Scene::new();
    let original = scene.shelf.path().join("big.bin");
    make_file(&original, SIZE, 24);
    let _server = scene.start();
    let downloads = scene.downloads();
    let (final_name, log) = (downloads.join("big.bin"), scene.home.path().join("strace"));
    let traced = |kill_at: Option<&(String, usize)>| {
        let _ = fs::remove_dir_all(&downloads);
        let mut command = strace(&paths_of(&final_name, scene.home.path()), &log, kill_at);
        command.arg(env!("CARGO_BIN_EXE_client"));
        let child = scene.client_by(command, &["get", "big.bin"]).spawn().expect("it starts");
        let pid = child.id();
        let output = child.wait_with_output().expect("it runs");
        await_end(&log, pid);
        output
    };
    transfer(&traced(None));
    let points = points(&calls(&log));
    let mut cut_off = 0;
    for at in &points {
        let output = traced(Some(at));
        cut_off += usize::from(was_killed(&output));
        // The number of calls may differ by a few from run to run.
        assert!(output.status.success() || was_killed(&output), "{at:?}: {output:?}");
        assert_nothing_wrong(&final_name, &original, &[], at);
        let (was_complete, resumes_from) = (final_name.exists(), resumes_from(&final_name));
        let event = transfer(&scene.run(&["get", "big.bin"]));
        assert!(
            event["resumed_from"].as_u64() >= Some(resumes_from),
            "{at:?}: {resumes_from} were there: {event}"
        );
        // Whoever fetches a file that is there gets another.
        let expected: &[&str] = if was_complete { &["big (1).bin", "big.bin"] } else { &["big.bin"] };
        assert_eq!(names(&downloads), expected, "{at:?}");
        assert!(expected.iter().all(|name| are_identical(&downloads.join(name), &original)), "{at:?}");
    }
    assert!(cut_off >= points.len() - points.len() / 8, "{cut_off} of {points:?} were reached");
}

#[test]
fn s24_a_server_that_is_cut_off_at_any_call_goes_on() {
    if !can_trace() {
        return;
    }
    let scene = Scene::new();
    let original = scene.home.path().join("mine.bin");
    make_file(&original, SIZE, 42);
    let (final_name, log) = (scene.shelf.path().join("mine.bin"), scene.home.path().join("strace"));
    let put = ["put", "mine.bin", "--reconnect-for", "0"];
    // A run under strace; tells whether the client was content.
    let traced = |kill_at: Option<&(String, usize)>| {
        for name in names(scene.shelf.path()) {
            fs::remove_file(scene.shelf.path().join(name)).expect("a file");
        }
        let _ = fs::remove_dir_all(scene.home.path().join("state"));
        let mut command = strace(&paths_of(&final_name, Path::new("/nowhere")), &log, kill_at);
        command.arg(env!("CARGO_BIN_EXE_server"));
        let server = scene.start_by(command);
        let was_content = !server.greeting.is_empty() && scene.run(&put).status.success();
        let pid = server.child.id();
        server.kill();
        await_end(&log, pid);
        was_content
    };
    assert!(traced(None), "{}", scene.log());
    let points = points(&calls(&log));
    let mut cut_off = 0;
    for at in &points {
        let was_content = traced(Some(at));
        cut_off += usize::from(!was_content);
        assert_nothing_wrong(&final_name, &original, &[], at);
        let (was_complete, resumes_from) = (final_name.exists(), resumes_from(&final_name));
        assert!(was_complete || !was_content, "{at:?}: the client was told that it is there");
        let server = scene.start();
        let output = scene.run(&put);
        if was_complete {
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(!output.status.success() && said.contains("exists"), "{at:?}: {output:?}");
        } else {
            let event = transfer(&output);
            assert!(
                event["resumed_from"].as_u64() >= Some(resumes_from),
                "{at:?}: {resumes_from} were there: {event}"
            );
        }
        assert_eq!(names(scene.shelf.path()), ["mine.bin"], "{at:?}");
        assert!(are_identical(&final_name, &original), "{at:?}");
        server.kill();
    }
    // The last of them come when the client is content already.
    assert!(cut_off >= points.len() - points.len() / 8 - 2, "{cut_off} of {points:?} were reached");
}

/// What the calls of one run say about a crash of the machine. A write is only safe once an fsync that began after it
/// has returned; until then it may be lost, whatever becomes of the others. Names are there once their folder is synced.
fn assert_safe_on_the_disk(calls: &[Call], final_name: &Path) {
    let [part, state] = part_and_state(final_name);
    let is_on = |call: &Call, path: &Path| call.arguments.contains(&format!("<{}>", path.display()));
    let syncs_of = |path| {
        let syncs = calls.iter().filter(|call| matches!(&*call.name, "fsync" | "fdatasync"));
        syncs.filter(move |call| is_on(call, path) && call.result == "0").map(|call| call.lines.clone())
    };
    // Offset and octets, as a write tells them behind what it writes.
    let place = |call: &Call| {
        let mut numbers =
            call.arguments.rsplitn(3, ", ").map(|number| number.parse::<u64>().expect("a number"));
        let (offset, len) = (numbers.next().expect("an offset"), numbers.next().expect("a length"));
        assert_eq!(call.result, len.to_string(), "in one piece: {call:?}");
        offset..offset + len
    };
    let writes: Vec<(Range<usize>, Range<u64>)> = calls
        .iter()
        .filter(|call| call.name == "pwrite64" && is_on(call, &part))
        .map(|call| (call.lines.clone(), place(call)))
        .collect();
    assert!(writes.len() >= 20, "{calls:#?}");
    assert!(!calls.iter().any(
        |call| matches!(&*call.name, "write" | "writev" | "pwritev" | "ftruncate") && is_on(call, &part)
    ));
    // Up to where everything is written by those who have returned before this line.
    let prefix = |before: usize| {
        let mut done: Vec<_> =
            writes.iter().filter(|(lines, _)| lines.end < before).map(|(_, place)| place).collect();
        done.sort_by_key(|place| place.start);
        done.iter()
            .fold(0, |prefix, place| if place.start <= prefix { prefix.max(place.end) } else { prefix })
    };

    // (a) All that was written is on the disk before it gets its name.
    let rename =
        calls.iter().find(|call| call.name.starts_with("rename") && call.result == "0").expect("a rename");
    let last_write = writes.iter().map(|(lines, _)| lines.end).max().expect("there are many");
    let synced = syncs_of(&part).any(|sync| sync.start > last_write && sync.end < rename.lines.start);
    assert!(synced, "renamed before it was synced: {calls:#?}");
    assert_eq!(prefix(rename.lines.start), SIZE);

    // (b) The state never claims more than there is, nor that something is on the disk which is not.
    let mut claims = 0;
    for call in calls.iter().filter(|call| call.name == "pwrite64" && is_on(call, &state)) {
        let text =
            call.arguments.split_once('"').and_then(|(_, text)| text.rsplit_once('"')).expect("a text").0;
        let text = text.replace("\\\"", "\"").replace("\\n", "");
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let (written, synced) =
            (json["written"].as_u64().expect("one"), json["synced"].as_u64().expect("one"));
        assert!(written <= prefix(call.lines.start), "claims {written}: {calls:#?}");
        let on_disk =
            syncs_of(&part).filter(|sync| sync.end < call.lines.start).map(|sync| prefix(sync.start)).max();
        assert!(synced <= on_disk.unwrap_or(0), "claims {synced} of {on_disk:?}: {calls:#?}");
        claims += u32::from(synced > 0);
    }
    assert!(claims > 0, "it was never synced on its way: {calls:#?}");

    // (c) Its name is on the disk before anybody is told.
    let folder = final_name.parent().expect("a folder");
    assert!(
        syncs_of(folder).any(|sync| sync.start > rename.lines.end),
        "the folder is not synced: {calls:#?}"
    );
}

#[test]
fn s24_what_is_finished_or_noted_survives_a_crash_of_the_machine() {
    if !can_trace() {
        return;
    }
    let scene = Scene::new();
    let logs = TempDir::new().expect("a folder");
    let (there, here) = (scene.shelf.path().join("mine.bin"), scene.downloads().join("big.bin"));
    make_file(&scene.shelf.path().join("big.bin"), SIZE, 1);
    make_file(&scene.home.path().join("mine.bin"), SIZE, 2);
    let log = |name: &str| logs.path().join(name);
    let mut command = strace(&paths_of(&there, Path::new("/nowhere")), &log("server"), None);
    command.arg(env!("CARGO_BIN_EXE_server"));
    let server = scene.start_by(command);
    let put =
        scene.client(&[&["put", "mine.bin"], &SYNCED_ON_ITS_WAY[..]].concat()).spawn().expect("it starts");
    let mut command = strace(&paths_of(&here, scene.home.path()), &log("client"), None);
    command.arg(env!("CARGO_BIN_EXE_client"));
    let mut get = scene.client_by(command, &[&["get", "big.bin"], &SYNCED_ON_ITS_WAY[..]].concat());
    let get = get.spawn().expect("it starts");
    let (client_pid, server_pid) = (get.id(), server.child.id());
    transfer(&get.wait_with_output().expect("it runs"));
    transfer(&put.wait_with_output().expect("it runs"));
    server.kill();
    await_end(&log("client"), client_pid);
    await_end(&log("server"), server_pid);
    assert_safe_on_the_disk(&calls(&log("client")), &here);
    assert_safe_on_the_disk(&calls(&log("server")), &there);
}

/// Kills a client when three MiB of its file are noted, and loses octets in the middle of what was written.
fn lose(scene: &Scene, command: [&str; 2], final_name: &Path, machine_went_down: bool) {
    let mut child = scene.client(&[&command, &moves::SLOW[..]].concat()).spawn().expect("it starts");
    let began = Instant::now();
    while noted(final_name) < 3 * MIB {
        assert!(began.elapsed() < PATIENCE, "{} noted", noted(final_name));
        std::thread::yield_now();
    }
    child.kill().expect("it runs");
    child.wait().expect("it ran");
    let [part, state] = part_and_state(final_name);
    let file = File::options().read(true).write(true).open(part).expect("it is left");
    // The server notices the end of its client and lets go of the file; only then may somebody else write to it.
    file.lock().expect("a lock");
    file.write_all_at(&[0; 100_000], MIB + 500_000).expect("written");
    if machine_went_down {
        let text = fs::read_to_string(&state).expect("it is left");
        let mut json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        json["boot"] = "another".into();
        json["synced"] = MIB.into();
        fs::write(state, format!("{:511}\n", json.to_string())).expect("written");
    }
}

/// Only what was synced counts when the machine was started again; and what is lost all the same is found by the digest.
#[test]
fn s24_what_a_crash_of_the_machine_has_lost_is_moved_again() {
    for (machine_went_down, resumed_from) in [(true, MIB), (false, 0)] {
        let scene = Scene::new();
        make_file(&scene.shelf.path().join("big.bin"), SIZE, 3);
        make_file(&scene.home.path().join("mine.bin"), SIZE, 4);
        let _server = scene.start();
        for (command, name, from, to) in [
            (["get", "big.bin"], "big.bin", scene.shelf.path(), &*scene.downloads()),
            (["put", "mine.bin"], "mine.bin", scene.home.path(), scene.shelf.path()),
        ] {
            lose(&scene, command, &to.join(name), machine_went_down);
            let event = transfer(&scene.run(&command));
            assert_eq!(event["resumed_from"], resumed_from, "{event}");
            assert!(are_identical(&to.join(name), &from.join(name)), "{event}");
            assert!(!names(to).iter().any(|name| name.starts_with('.')), "{:?}", names(to));
        }
    }
}
