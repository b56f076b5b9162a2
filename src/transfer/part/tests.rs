use super::*;
use std::fs::FileTimes;

const MIB: u64 = PREFIX_LEN;

fn origin() -> Origin {
    Origin { size: 3 * MIB, mtime_s: Some(7), token: Some("digest".into()) }
}

fn name() -> &'static OsStr {
    OsStr::new("a")
}

/// An unfinished file with so many octets, noted as written and synced.
fn part(folder: &Path, written: u64, synced: u64) -> PartFile {
    let mut part = PartFile::create(folder, name(), &origin()).expect("a part");
    part.file().set_len(written).expect("a file");
    part.note(written, synced).expect("noted");
    part
}

/// Everything in a folder, hidden or not.
pub(in crate::transfer) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

/// Writes a state over what is noted beside `.a.part`.
fn overwrite_state(folder: &Path, change: impl FnOnce(&mut State)) {
    let path = folder.join(".a.part.state");
    let mut state = read_state(&File::open(&path).expect("there")).expect("a state");
    change(&mut state);
    let mut text = serde_json::to_vec(&state).expect("JSON");
    text.resize(STATE_LEN, b' ');
    fs::write(path, text).expect("written");
}

#[test]
fn a_leftover_is_taken_up_where_it_was_and_one_in_use_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = part(folder.path(), 2 * MIB + 5, MIB);
    assert!(PartFile::leftovers(folder.path(), name()).is_empty(), "in use");
    assert_eq!(PartFile::origins(folder.path(), name()), [origin()], "but known");
    drop(first);
    let found = PartFile::leftovers(folder.path(), name());
    let [again] = &found[..] else { panic!("{found:?}") };
    assert_eq!((again.prefix(), again.synced(), again.origin()), (2 * MIB, MIB, &origin()));
    assert!(PartFile::leftovers(folder.path(), OsStr::new("b")).is_empty(), "another name");
    assert!(PartFile::leftovers(folder.path(), OsStr::new("a.1")).is_empty());
}

#[test]
fn a_prefix_is_whole_mib_and_never_the_whole_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut part = part(folder.path(), 0, 0);
    for (written, prefix) in
        [(0, 0), (MIB - 1, 0), (MIB, MIB), (2 * MIB - 1, MIB), (3 * MIB, 2 * MIB), (u64::MAX, 2 * MIB)]
    {
        part.note(written, written).expect("noted");
        assert_eq!((part.prefix(), part.synced()), (prefix, prefix), "{written}");
    }
    part.note(2 * MIB, 0).expect("noted");
    assert_eq!((part.prefix(), part.synced()), (2 * MIB, 0));
}

#[test]
fn after_another_start_of_the_machine_only_what_was_synced_counts() {
    let folder = tempfile::tempdir().expect("a folder");
    for boot in ["another start", ""] {
        drop(part(folder.path(), 2 * MIB, MIB));
        overwrite_state(folder.path(), |state| state.boot = boot.into());
        let mut found = PartFile::leftovers(folder.path(), name());
        assert_eq!(found.iter().map(PartFile::prefix).collect::<Vec<_>>(), [MIB], "{boot:?}");
        found.iter_mut().for_each(PartFile::remove);
    }
    drop(part(folder.path(), 2 * MIB, MIB - 1));
    overwrite_state(folder.path(), |state| state.boot = "another start".into());
    assert!(PartFile::leftovers(folder.path(), name()).is_empty());
    assert_eq!(names(folder.path()), [""; 0], "worth nothing, removed");
}

#[test]
fn no_more_is_there_than_the_file_has() {
    let folder = tempfile::tempdir().expect("a folder");
    let part = part(folder.path(), 2 * MIB, 2 * MIB);
    part.file().set_len(2 * MIB - 1).expect("cut");
    drop(part);
    let prefixes: Vec<u64> =
        PartFile::leftovers(folder.path(), name()).iter().map(PartFile::prefix).collect();
    assert_eq!(prefixes, [MIB]);
}

#[test]
fn only_leftovers_are_removed_and_only_old_ones_that_nobody_works_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let long_ago = SystemTime::now() - LEFTOVER_LIFE - Duration::from_secs(9);
    let set_old = |name: &str| {
        let file = File::options().write(true).open(folder.path().join(name)).expect("there");
        file.set_times(FileTimes::new().set_modified(long_ago)).expect("ours");
    };
    let foreign = [".b.part", ".b.part.state.txt", ".part.c", "d.part"];
    for name in foreign {
        fs::write(folder.path().join(name), "not one of ours").expect("a file");
        set_old(name);
    }
    let left = || names(folder.path()).into_iter().filter(|name| !foreign.contains(&name.as_str()));
    let both = [".a.part", ".a.part.state"];
    let in_use = part(folder.path(), MIB, MIB);
    set_old(".a.part");
    remove_old_leftovers(folder.path());
    assert!(left().eq(both), "in use");
    drop(in_use);
    File::options()
        .write(true)
        .open(folder.path().join(".a.part"))
        .and_then(|file| file.set_modified(SystemTime::now() - LEFTOVER_LIFE + Duration::from_secs(600)))
        .expect("ours");
    remove_old_leftovers(folder.path());
    assert!(left().eq(both), "not a day old");
    // Whole, and with a state that is torn.
    for torn in [false, true] {
        if torn {
            drop(part(folder.path(), MIB, MIB));
            fs::write(folder.path().join(".a.part.state"), "{\"version\":").expect("written");
        }
        set_old(".a.part");
        remove_old_leftovers(folder.path());
        assert_eq!(left().count(), 0, "torn: {torn}");
    }
    assert_eq!(names(folder.path()), foreign);
}

#[test]
fn a_state_that_we_do_not_know_is_not_written_over() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(part(folder.path(), MIB, MIB));
    overwrite_state(folder.path(), |state| state.version = 2);
    assert!(PartFile::leftovers(folder.path(), name()).is_empty());
    let before = fs::read(folder.path().join(".a.part.state")).expect("there");
    let other = PartFile::create(folder.path(), name(), &origin()).expect("a part");
    assert_eq!(other.path(), folder.path().join(".a.1.part"));
    drop(other);
    assert_eq!(names(folder.path()), [".a.part", ".a.part.state"]);
    assert_eq!(fs::read(folder.path().join(".a.part.state")).expect("there"), before);
}

#[test]
fn what_unfinished_files_take_up_is_what_was_written_to_them() {
    let folder = tempfile::tempdir().expect("a folder");
    assert_eq!(leftover_bytes(folder.path()), 0);
    let sparse = part(folder.path(), MIB, 0);
    assert_eq!(leftover_bytes(folder.path()), 0, "a gap takes up nothing");
    sparse.file().write_all_at(&[1; 5], 0).expect("written");
    assert!((5..64 * 1024).contains(&leftover_bytes(folder.path())), "{}", leftover_bytes(folder.path()));
    fs::write(folder.path().join("a"), "visible").expect("a file");
    drop(sparse);
    assert!(leftover_bytes(folder.path()) < 64 * 1024);
}

#[test]
fn a_long_name_has_a_part_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let long = "n".repeat(255);
    let mut part = PartFile::create(folder.path(), OsStr::new(&long), &origin()).expect("a part");
    part.file().set_len(MIB).expect("a file");
    part.note(MIB, MIB).expect("noted");
    drop(part);
    let mut found = PartFile::leftovers(folder.path(), OsStr::new(&long));
    assert_eq!(found.len(), 1);
    found[0].rename(&folder.path().join(&long)).expect("renamed");
    assert!(found[0].rename(&folder.path().join("again")).is_err());
    assert_eq!(names(folder.path()), [long]);
}
