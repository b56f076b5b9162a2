//! Files on their way to disk, by themselves.

use super::*;
use crate::transfer::part::tests::names;
use proptest::prelude::*;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

fn name(text: &str) -> FileName {
    FileName::parse(text).expect("a file name")
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| u8::try_from(i * 31 % 251).expect("below 251")).collect()
}

#[test]
fn a_file_in_any_order_is_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let content = pattern(600_000);
    let target = Target::Folder(folder.path().join("new/deep"), name("a.bin"));
    let mut sink = Sink::create(&target, &Origin::new(600_000)).expect("a sink");
    for (from, to) in
        [(0, 1_000), (5_000, 400_000), (1_000, 3_000), (400_000, 600_000), (2_000, 5_000), (0, 10)]
    {
        sink.write(from as u64, &content[from..to]).expect("written");
    }
    let path = sink.keep(blake3::hash(&content)).expect("kept");
    assert_eq!(path, folder.path().join("new/deep/a.bin"));
    assert_eq!(fs::read(&path).expect("read"), content);
    assert_eq!(names(path.parent().expect("a parent")), ["a.bin"]);
    let mode = fs::metadata(&path).expect("there").permissions().mode();
    assert_eq!(mode & 0o111, 0, "not executable");
}

#[test]
fn a_file_that_becomes_complete_at_once_is_noted_as_far_as_a_later_try_can_use_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let (size, target) = ((3 << 20) + 10, Target::Folder(folder.path().into(), name("a")));
    let mut sink = Sink::create(&target, &Origin::new(size as u64)).expect("a sink");
    let content = pattern(size);
    sink.write(1_000, &content[1_000..]).expect("written");
    sink.write(0, &content[..1_000]).expect("the gap is filled");
    let state = fs::read_to_string(folder.path().join(".a.part.state")).expect("a state");
    assert!(state.contains(&format!("\"written\":{size},")), "{state}");
    sink.keep(blake3::hash(&content)).expect("kept");
}

#[test]
fn nothing_is_written_outside_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut sink =
        Sink::create(&Target::Folder(folder.path().into(), name("a")), &Origin::new(10)).expect("a sink");
    for (offset, len) in [(0, 11), (10, 1), (u64::MAX, 1), (u64::MAX - 1, 9)] {
        assert!(sink.write(offset, &pattern(len)).is_err(), "{len} at {offset}");
    }
    sink.write(0, &pattern(10)).expect("exactly");
    sink.write(10, b"").expect("nothing, at the end");
    sink.keep(blake3::hash(&pattern(10))).expect("kept");
}

#[test]
fn an_existing_file_is_never_touched() {
    let folder = tempfile::tempdir().expect("a folder");
    let kept = |text: &str| {
        let mut sink = Sink::create(
            &Target::Folder(folder.path().into(), name("a.txt")),
            &Origin::new(text.len() as u64),
        )
        .expect("a sink");
        sink.write(0, text.as_bytes()).expect("written");
        sink.keep(blake3::hash(text.as_bytes())).expect("kept")
    };
    assert_eq!(kept("one"), folder.path().join("a.txt"));
    assert_eq!(kept("two"), folder.path().join("a (1).txt"));
    assert_eq!(kept("three"), folder.path().join("a (2).txt"));
    assert_eq!(fs::read(folder.path().join("a.txt")).expect("read"), b"one");

    let path = Target::Path(folder.path().join("a.txt"));
    assert!(matches!(Sink::create(&path, &Origin::new(1)), Err(TransferError::Exists(_))));
    let late = folder.path().join("late");
    let sink = Sink::create(&Target::Path(late.clone()), &Origin::new(0)).expect("a sink");
    fs::write(&late, "somebody was faster").expect("written");
    assert!(matches!(sink.keep(blake3::hash(b"")), Err(TransferError::Exists(_))));
    assert_eq!(fs::read(&late).expect("read"), b"somebody was faster");
    assert_eq!(names(folder.path()), ["a (1).txt", "a (2).txt", "a.txt", "late"]);
}

#[test]
fn a_damaged_or_dropped_file_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let target = Target::Folder(folder.path().into(), name("a"));
    let mut sink = Sink::create(&target, &Origin::new(3)).expect("a sink");
    sink.write(0, b"abd").expect("written");
    assert_eq!(names(folder.path()), [".a.part", ".a.part.state"]);
    assert!(matches!(sink.keep(blake3::hash(b"abc")), Err(TransferError::Digest { .. })));
    let mut short = Sink::create(&target, &Origin::new(3)).expect("a sink");
    short.write(0, b"ab").expect("written");
    assert!(matches!(short.keep(blake3::hash(b"ab")), Err(TransferError::File { .. })));
    drop(Sink::create(&target, &Origin::new(3)).expect("a sink"));
    assert!(names(folder.path()).is_empty());
}

#[test]
fn two_downloads_of_one_name_do_not_meet_and_an_empty_leftover_is_reused() {
    let folder = tempfile::tempdir().expect("a folder");
    let target = Target::Folder(folder.path().into(), name("a"));
    fs::write(folder.path().join(".a.part"), "").expect("written");
    let first = Sink::create(&target, &Origin::new(0)).expect("a sink");
    let second = Sink::create(&target, &Origin::new(0)).expect("a sink");
    assert_eq!(first.part_path(), folder.path().join(".a.part"));
    assert_eq!(second.part_path(), folder.path().join(".a.1.part"));
    assert_eq!(second.keep(blake3::hash(b"")).expect("kept"), folder.path().join("a"));
    assert_eq!(first.keep(blake3::hash(b"")).expect("kept"), folder.path().join("a (1)"));
}

#[test]
fn a_link_in_the_place_of_the_part_file_is_not_followed() {
    let folder = tempfile::tempdir().expect("a folder");
    let precious = folder.path().join("precious");
    fs::write(&precious, "keep me").expect("written");
    std::os::unix::fs::symlink(&precious, folder.path().join(".a.part")).expect("linked");
    fs::hard_link(&precious, folder.path().join(".a.1.part")).expect("linked");
    let sink =
        Sink::create(&Target::Folder(folder.path().into(), name("a")), &Origin::new(0)).expect("a sink");
    assert_eq!(sink.part_path(), folder.path().join(".a.2.part"));
    drop(sink);
    assert_eq!(fs::read(&precious).expect("read"), b"keep me");
}

#[test]
fn an_absent_folder_is_made_for_a_folder_target_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let error =
        Sink::create(&Target::Path(folder.path().join("no/a")), &Origin::new(1)).expect_err("no folder");
    assert!(error.to_string().contains("No such file or directory"), "{error}");
    assert!(Sink::create(&Target::Path("/".into()), &Origin::new(1)).is_err());
}

#[test]
fn what_was_set_aside_does_not_stay_behind_in_a_leftover() {
    let folder = tempfile::tempdir().expect("a folder");
    let target = Target::Folder(folder.path().into(), name("a"));
    let mut sink = Sink::create(&target, &Origin::new(20 << 20)).expect("a sink");
    sink.write(0, &vec![1; 3 << 20]).expect("written");
    let part = sink.part_path().to_owned();
    let room = || fs::metadata(&part).expect("there").blocks() * 512;
    let before = room();
    drop(sink);
    // Where the filesystem sets nothing aside there is nothing to give back.
    assert!(room() <= before && room() <= (3 << 20) + (1 << 20), "{} of {before}", room());
    assert_eq!(fs::metadata(&part).expect("there").len(), 3 << 20);
    // A run that was killed could not give it back: the next one does.
    let file = File::options().write(true).open(&part).expect("there");
    let _ = rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 3 << 20, 8 << 20);
    drop(file);
    let sink = Sink::leftover(&target, |_| true).expect("a leftover");
    assert!(sink.start() == 3 << 20 && room() <= (3 << 20) + (1 << 20), "{}", room());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_cover_of_the_file_gives_the_file(
        mut pieces in prop::collection::vec((0usize..700_000, 1usize..300_000), 0..12),
        shuffled in any::<prop::sample::Index>(),
    ) {
        let content = pattern(700_000);
        pieces.extend((0..7).map(|i| (i * 100_000, 100_000)));
        let turn = shuffled.index(pieces.len());
        pieces.rotate_left(turn);
        let folder = tempfile::tempdir().expect("a folder");
        let mut sink = Sink::create(&Target::Folder(folder.path().into(), name("a")), &Origin::new(700_000)).expect("a sink");
        for (from, len) in pieces {
            sink.write(from as u64, &content[from..(from + len).min(content.len())]).expect("written");
        }
        prop_assert!(sink.keep(blake3::hash(&content)).is_ok());
    }
}
