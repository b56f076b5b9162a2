use super::*;
use crate::transfer::part::Origin;
use crate::transfer::sink::Target;
use crate::wire::name::FileName;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::Write;
use std::sync::mpsc;
use std::time::Instant;

#[test]
fn every_job_is_done_and_dropping_waits_for_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Disk::start().expect("a thread");
    let (told, results) = mpsc::channel();
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(b"hello").expect("written");
    for size in [5, 4, 6] {
        let told = told.clone();
        disk.digest(file.try_clone().expect("a handle"), size, Arc::default(), move |digest| {
            told.send(digest.map_or_else(|error| error.to_string(), |digest| digest.to_string()))
                .expect("heard");
        });
    }
    let target = Target::Folder(folder.path().into(), FileName::parse("a").expect("a name"));
    let mut sink = Sink::create(&target, &Origin::new(5)).expect("a sink");
    sink.write(0, b"hello").expect("written");
    disk.keep(sink, blake3::hash(b"hello"), move |kept| {
        told.send(format!("{}", kept.expect("kept").display())).expect("heard");
    });
    drop(disk);
    let mut results: Vec<String> = results.into_iter().collect();
    let mut expected = [
        blake3::hash(b"hello").to_string(),
        blake3::hash(b"hell").to_string(),
        "cannot read the file: the file ends early".into(),
        folder.path().join("a").display().to_string(),
    ];
    results.sort();
    expected.sort();
    assert_eq!(results, expected);
}

#[test]
fn a_huge_file_delays_nobody_and_is_given_up_when_nobody_waits_for_it() {
    /// Far more than anything reads within this test.
    const HUGE_LEN: u64 = 100 << 30;
    let folder = tempfile::tempdir().expect("a folder");
    let huge = tempfile::tempfile().expect("a file");
    huge.set_len(HUGE_LEN).expect("a sparse file");
    let mut small = tempfile::tempfile().expect("a file");
    small.write_all(b"hello").expect("written");
    let disk = Disk::start().expect("a thread");
    let unwanted = Arc::new(AtomicBool::new(false));
    let (told, results) = mpsc::channel();
    for _ in 0..3 {
        let (huge, told) = (huge.try_clone().expect("a handle"), told.clone());
        disk.digest(huge, HUGE_LEN, Arc::clone(&unwanted), move |_| {
            told.send("huge".to_owned()).expect("heard");
        });
    }
    let small_told = told.clone();
    disk.digest(small, 5, Arc::default(), move |digest| {
        small_told.send(digest.expect("read").to_string()).expect("heard");
    });
    let heard = |what| results.recv_timeout(Duration::from_secs(60)).expect(what);
    assert_eq!(heard("a digest"), blake3::hash(b"hello").to_string(), "ahead of the huge ones");
    let target = Target::Folder(folder.path().into(), FileName::parse("a").expect("a name"));
    disk.keep(Sink::create(&target, &Origin::new(0)).expect("a sink"), blake3::hash(b""), move |kept| {
        told.send(kept.expect("kept").display().to_string()).expect("heard");
    });
    assert_eq!(heard("a file"), folder.path().join("a").display().to_string());
    unwanted.store(true, Ordering::Relaxed);
    drop(disk);
    assert!(results.recv().is_err(), "nobody is told of a digest that nobody wants");
}

#[test]
fn only_a_settled_whole_file_is_remembered_and_a_change_is_seen() {
    let now = SystemTime::now();
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(b"one").expect("written");
    let mut digests = Digests::default();
    let digest = |digests: &mut Digests, file: &File, size| {
        let file = file.try_clone().expect("a handle");
        let then = Box::new(|_| {});
        let mut job =
            Digesting { file, size, unwanted: Arc::default(), then, _held: Arc::default(), begun: None };
        digests.advance(&mut job).expect("readable").expect("a single slice")
    };
    assert_eq!(digest(&mut digests, &file, 3), blake3::hash(b"one"));
    assert!(digests.0.is_empty(), "written this moment");
    let fingerprint = Fingerprint::of(&file).expect("a file");
    assert!(!fingerprint.settled(now) && fingerprint.settled(now + Duration::from_secs(10)));
    digests.0.push_front((fingerprint, blake3::hash(b"remembered")));
    assert_eq!(digest(&mut digests, &file, 3), blake3::hash(b"remembered"));
    assert_eq!(digest(&mut digests, &file, 2), blake3::hash(b"on"));
    file.write_all(b"!").expect("written");
    assert_eq!(digest(&mut digests, &file, 4), blake3::hash(b"one!"));
}

/// Panics where the disk thread speaks of the test's own jobs.
struct Panicker;

impl Panicker {
    const NAME: &str = "r40-interrupted";
    const SIZE: u64 = 40_404;
}

impl log::Log for Panicker {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let words = record.args().to_string();
        let is_ours = words.contains(Self::NAME) || words.contains(&format!("{} bytes", Self::SIZE));
        assert!(thread::panicking() || !is_ours, "injected: {words}");
    }

    fn flush(&self) {}
}

#[test]
fn r40_whoever_waits_for_a_job_that_panics_hears_of_it() {
    log::set_logger(&Panicker).expect("no other logger");
    log::set_max_level(log::LevelFilter::Debug);
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Disk::start().expect("a thread");
    let (told, results) = mpsc::channel();
    let file = tempfile::tempfile().expect("a file");
    file.set_len(Panicker::SIZE).expect("a sparse file");
    let digest_told = told.clone();
    disk.digest(file.try_clone().expect("a handle"), Panicker::SIZE, Arc::default(), move |digest| {
        digest_told.send(digest.expect_err("interrupted")).expect("heard");
    });
    let target = Target::Folder(folder.path().into(), FileName::parse(Panicker::NAME).expect("a name"));
    let kept_told = told.clone();
    disk.keep(Sink::create(&target, &Origin::new(0)).expect("a sink"), blake3::hash(b""), move |kept| {
        kept_told.send(kept.expect_err("interrupted")).expect("heard");
    });
    disk.digest(file, 1, Arc::default(), move |digest| {
        assert_eq!(digest.expect("the thread goes on"), blake3::hash(&[0]));
        told.send(TransferError::Cancelled).expect("heard");
    });
    drop(disk);
    let mut words: Vec<String> = results.into_iter().map(|error| error.to_string()).collect();
    words.sort();
    let interrupted = "an error in this program, not in the file";
    let expected =
        [format!("cannot keep the file: {interrupted}"), format!("cannot read the file: {interrupted}")];
    assert_eq!(words, ["cancelled", &expected[0], &expected[1]]);
}

#[test]
fn r40_nobody_who_hands_jobs_in_waits_and_files_to_keep_come_before_all_digests() {
    /// More than a server has by default, each far more than is read within this test.
    const DIGESTS: usize = 1_100;
    const HUGE_LEN: u64 = 100 << 30;
    const FOLLOWED: usize = 3_000;
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("a limit");
    let folder = tempfile::tempdir().expect("a folder");
    let sink = |name| {
        let target = Target::Folder(folder.path().into(), FileName::parse(name).expect("a name"));
        Sink::create(&target, &Origin::new(0)).expect("a sink")
    };
    let disk = Disk::start().expect("a thread");
    // The thread waits for whoever hands the jobs in; were that to wait for the thread, it would be in vain.
    let (go_on, may_go_on) = mpsc::channel();
    let (told, results) = mpsc::channel();
    let waited = told.clone();
    disk.digest(tempfile::tempfile().expect("a file"), 0, Arc::default(), move |_| {
        let word = may_go_on.recv_timeout(Duration::from_secs(60)).unwrap_or("nothing in time");
        waited.send(word.to_owned()).expect("heard");
    });
    let huge = tempfile::tempfile().expect("a file");
    huge.set_len(HUGE_LEN).expect("a sparse file");
    let unwanted = Arc::new(AtomicBool::new(false));
    for _ in 0..DIGESTS {
        disk.digest(huge.try_clone().expect("a handle"), HUGE_LEN, Arc::clone(&unwanted), |_| {});
    }
    let followed = sink("followed").followed();
    for _ in 0..FOLLOWED {
        disk.follow(Arc::clone(&followed));
    }
    disk.keep(sink("kept"), blake3::hash(b""), move |kept| {
        told.send(kept.expect("kept").display().to_string()).expect("heard");
    });
    assert_eq!(disk.held_count(), 1 + DIGESTS + FOLLOWED);
    go_on.send("all is handed in").expect("the thread waits");
    let heard = |what| results.recv_timeout(Duration::from_secs(60)).expect(what);
    assert_eq!(heard("the thread"), "all is handed in");
    assert_eq!(heard("a file"), folder.path().join("kept").display().to_string());
    assert!(disk.held_count() >= DIGESTS, "no digest is told");
    unwanted.store(true, Ordering::Relaxed);
    let until = Instant::now() + Duration::from_secs(60);
    while disk.held_count() > 0 {
        assert!(Instant::now() < until, "what nobody wants is given up");
        thread::yield_now();
    }
}
