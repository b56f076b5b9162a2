//! What lies there when somebody was cut off (S24).

use super::tests::names;
use super::*;

const NAME: &str = "a";

/// A file of two MiB that was left when one was there.
fn leave(folder: &Path) {
    let mut part = PartFile::create(folder, NAME.as_ref(), &Origin::new(2 * PREFIX_LEN)).expect("a part");
    part.file().set_len(PREFIX_LEN).expect("a file");
    part.note(PREFIX_LEN, 0).expect("noted");
}

/// What can lie there when somebody was cut off between two calls: in `create`, `remove` and `rename`, and when the
/// machine was before anything of the state was on the disk.
#[test]
fn s24_what_is_worth_nothing_is_removed() {
    for (part_len, state) in [
        (Some(0), None),
        (Some(0), Some(&b""[..])),
        (Some(9), Some(b"")),
        (Some(9), Some(&[0; 512])),
        (None, Some(b"{}")),
    ] {
        let clean_ups: [fn(&Path); 2] = [remove_old_leftovers, |folder| {
            assert!(PartFile::leftovers(folder, NAME.as_ref()).is_empty());
        }];
        for clean_up in clean_ups {
            let folder = tempfile::tempdir().expect("a folder");
            if let Some(len) = part_len {
                File::create(folder.path().join(".a.part"))
                    .and_then(|file| file.set_len(len))
                    .expect("a file");
            }
            if let Some(state) = state {
                fs::write(folder.path().join(".a.part.state"), state).expect("a file");
            }
            clean_up(folder.path());
            assert!(names(folder.path()).is_empty(), "{part_len:?} {state:?}: {:?}", names(folder.path()));
        }
    }
}

#[test]
fn what_may_be_worth_something_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    leave(folder.path());
    // Another program's, and one of a later version of ours.
    fs::write(folder.path().join(".a.7.part"), "octets").expect("a file");
    fs::write(folder.path().join(".a.8.part"), "octets").expect("a file");
    fs::write(folder.path().join(".a.8.part.state"), r#"{"version":2}"#).expect("a file");
    let before = names(folder.path());
    remove_old_leftovers(folder.path());
    let leftovers = PartFile::leftovers(folder.path(), NAME.as_ref());
    assert_eq!(leftovers.iter().map(PartFile::prefix).collect::<Vec<_>>(), [PREFIX_LEN]);
    // Nor is what somebody works on touched.
    remove_old_leftovers(folder.path());
    assert_eq!(names(folder.path()), before);
}

#[test]
fn whoever_has_just_got_its_name_may_still_remove_its_state() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join(".a.part.state"), "of a file that is finished").expect("a file");
    let part = PartFile::create(folder.path(), NAME.as_ref(), &Origin::new(1)).expect("a part");
    assert_eq!(part.path(), folder.path().join(".a.1.part"));
    assert_eq!(names(folder.path()), [".a.1.part", ".a.1.part.state", ".a.part.state"]);
}
