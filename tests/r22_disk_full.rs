//! A disk that fills up while files are put on it. Needs a small filesystem of its own, so only root can run it.
#![expect(clippy::print_stderr, reason = "who skips a story says why")]

mod common;

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::Command;
use std::thread;

use common::files::{MIB, TRANSPORTS, UdpEnd, content, names, stream};
use common::{PATIENCE, RawClient, TestServer, eventually};
use packetboat::wire::message::ServerMessage;
use tempfile::TempDir;

/// A filesystem of this size in memory, gone when dropped.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// `None` where the system does not let us.
    fn mount(size: usize) -> Option<SmallDisk> {
        let folder = TempDir::new().expect("a folder");
        let options = format!("size={size},mode=755");
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder.path()).output();
        match mount {
            Ok(output) if output.status.success() => Some(SmallDisk(folder)),
            refused => {
                eprintln!("skipped: a small filesystem cannot be mounted: {refused:?}");
                None
            }
        }
    }

    fn free_bytes(&self) -> u64 {
        let stat = rustix::fs::statvfs(self.0.path()).expect("a filesystem");
        stat.f_bfree * stat.f_frsize
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// A server whose shelf is a small disk.
fn server_on(disk: &SmallDisk) -> TestServer {
    TestServer::start_with(&["--no-rate-limit"], |files: &Path| {
        fs::remove_dir(files).expect("an empty folder");
        std::os::unix::fs::symlink(disk.0.path(), files).expect("a link");
    })
}

/// Puts more there than fits; gives what the server says of it.
fn overfill(server: &TestServer, number: usize) -> String {
    let mut client: RawClient = server.login(&format!("nick{number} quiet"));
    let udp = UdpEnd::new();
    let file = content(16 * MIB, number as u64);
    let transport = ["tcp", "udp", "tcp"][number % 3];
    client.send(format!("PUT_{transport} {} - big {number}\n", file.len()));
    let answer = client.line();
    let Ok(ServerMessage::Accept(accept)) = ServerMessage::parse(answer.as_bytes()) else { return answer };
    if transport == "tcp" {
        // Closed early, be it with a reset.
        let _ = stream(server.addr, &accept.secret, &file).read(&mut [0]);
    } else {
        let sending = udp.send(server.addr.ip(), &accept, &file, 0..file.len() as u64);
        sending.ended.recv_timeout(PATIENCE).expect("an end").expect_err("it does not fit");
    }
    let line = client.line();
    assert_eq!(
        names(&server.files()).iter().filter(|name| name.contains(&format!("big {number}"))).count(),
        0
    );
    line.replace(&format!("DONE_{} ", accept.id), "DONE ")
}

#[test]
fn r22_disk_full() {
    let Some(disk) = SmallDisk::mount(8 * MIB) else { return };
    let server = server_on(&disk);
    let free_bytes = disk.free_bytes();
    let mut alice = server.login("alice");
    let udp = UdpEnd::new();
    for round in 0..common::by_tier(3, 30) {
        let outcomes: Vec<String> = thread::scope(|scope| {
            let server = &server;
            let threads: Vec<_> =
                (0..3).map(|number| scope.spawn(move || overfill(server, 3 * round + number))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        for outcome in &outcomes {
            let full = outcome == "DONE disk-full" || outcome.starts_with("ERR_disk-full PUT ");
            assert!(full, "{outcomes:?}");
        }
        // Whoever has heard of it can use the room at once.
        assert_eq!(names(&server.files()), [""; 0]);
        assert_eq!(disk.free_bytes(), free_bytes, "{outcomes:?}");
        assert_eq!(alice.ask("ALL_still here"), "MSG_alice still here");
        let small = content(MIB, round as u64);
        for transport in TRANSPORTS {
            let name = format!("small {transport}");
            assert!(alice.put_whole(&udp, transport, &small, &name).ends_with(" ok"));
            assert_eq!(alice.line(), format!("SHARED_alice {MIB} {name}"));
            fs::remove_file(server.files().join(name)).expect("it is there");
        }
        // Whoever reads along for the digest lets go of them a little later.
        eventually("the small ones' room", || disk.free_bytes() == free_bytes);
    }
}

#[test]
fn r22_no_room_even_for_the_note_is_said_at_once() {
    let Some(disk) = SmallDisk::mount(MIB) else { return };
    let server = server_on(&disk);
    fs::write(server.files().join("filler"), vec![0; MIB]).expect("all of it");
    let mut alice = server.login("alice");
    for transport in TRANSPORTS {
        let answer = alice.ask(format!("PUT_{transport} 5 - a"));
        assert!(answer.starts_with("ERR_disk-full PUT "), "{answer}");
        assert_eq!(names(&server.files()), ["filler"]);
    }
    assert_eq!(alice.ask("ALL_still here"), "MSG_alice still here");
}
