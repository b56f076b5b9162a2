//! F10: whatever a state file says, and whatever the unfinished file beside it holds, the final file is the right one or
//! there is none.

use std::cell::RefCell;
use std::fs;
use std::path::Path;

use packetboat::transfer::part::{Origin, remove_old_leftovers};
use packetboat::transfer::sink::{Sink, Target};
use packetboat::wire::message::PREFIX_LEN;
use tempfile::TempDir;

use super::bytes::Bytes;

/// Two MiB and a little: there are three places to begin.
const SIZE: u64 = 2 * PREFIX_LEN + 7;

thread_local! {
    /// Made once: an input costs a few writes, not a folder.
    static SCENE: RefCell<Option<(TempDir, Vec<u8>)>> = const { RefCell::new(None) };
}

/// Four octets on the unfinished file, then the state as it would lie on the disk. `@BOOT@` stands for this start of the
/// machine.
pub(crate) fn f10_leftover(data: &[u8]) {
    SCENE.with_borrow_mut(|scene| {
        let (folder, content) = scene.get_or_insert_with(|| {
            let content = (0..SIZE).map(|at| (at * 31 % 251).to_le_bytes()[0]).collect();
            (TempDir::new().expect("a folder"), content)
        });
        check(folder.path(), content, data);
    });
}

fn check(folder: &Path, content: &[u8], data: &[u8]) {
    let mut script = Bytes(data);
    let (kind, at, extra) = (script.u8(), script.u16(), script.u8());
    let (part, state) = (folder.join(".a.part"), folder.join(".a.part.state"));
    let mut octets = content.to_vec();
    match kind % 4 {
        0 => {}
        // One octet is another.
        1 => octets[usize::from(at) * 32] ^= extra | 1,
        2 => octets.truncate(usize::from(at) * 32),
        // It goes on behind its end.
        _ => octets.extend(std::iter::repeat_n(extra, 1 + usize::from(at))),
    }
    fs::write(&part, &octets).expect("written");
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let text = String::from_utf8_lossy(script.0).replace("@BOOT@", boot.trim());
    let text = if extra % 2 == 0 { format!("{text:512}").into_bytes() } else { script.0.to_vec() };
    fs::write(&state, text).expect("written");
    // Whoever sweeps up finds the same files.
    if at % 8 == 0 {
        remove_old_leftovers(folder);
    }
    let target = Target::Path(folder.join("a"));
    let is_ours = |origin: &Origin| kind & 0x80 != 0 || origin.size == SIZE;
    if let Some(mut sink) = Sink::leftover(&target, is_ours) {
        let start = sink.start();
        assert!(start > 0 && start % PREFIX_LEN == 0 && start < sink.size(), "{start} of {}", sink.size());
        assert!(start <= octets.len() as u64, "{start} of {}", octets.len());
        assert!(sink.prefix().expect("readable").is_some_and(|prefix| prefix.offset == start));
        let rest = usize::try_from(start).ok().and_then(|start| content.get(start..)).unwrap_or_default();
        // An origin of another size takes less, and is not what was promised.
        let _ = sink.write(start, rest);
        let kept = sink.keep(blake3::hash(content));
        assert_eq!(kept.is_ok(), folder.join("a").exists());
    }
    if let Ok(kept) = fs::read(folder.join("a")) {
        assert!(kept == content, "a wrong file has the final name");
        fs::remove_file(folder.join("a")).expect("it is there");
    }
    // What is nobody's leftover is nobody's.
    for left in [part, state] {
        let _ = fs::remove_file(left);
    }
    assert_eq!(fs::read_dir(folder).expect("the folder").count(), 0, "something else is left");
}
