//! The lines typed before: in memory, and in a file of this user's alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

/// Lines remembered. Ours: weeks of talk, and a file of some 100 kB.
const LINES_MAX: usize = 1_000;

/// A file longer than this is not ours. Ours: all lines at their usual length, many times over.
const FILE_LEN_MAX: u64 = 4 * 1024 * 1024;

/// What was typed, oldest first.
#[derive(Debug, Default)]
pub struct History {
    lines: Vec<String>,
    /// Where lines are kept from one run to the next.
    file: Option<File>,
}

impl History {
    /// What earlier runs have left in this file; without one, or where it cannot be used, only this run counts.
    pub fn load(path: Option<PathBuf>) -> History {
        let Some(path) = path else { return History::default() };
        open(&path).unwrap_or_else(|error| {
            log::info!("{}: what is typed is remembered for this run alone: {error}", path.display());
            History::default()
        })
    }

    /// All of it, oldest first.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Remembers a line; a private one is not written to the disk.
    pub fn push(&mut self, line: &str, is_private: bool) {
        if line.trim().is_empty() || self.lines.last().is_some_and(|last| last == line) {
            return;
        }
        if self.lines.len() == LINES_MAX {
            self.lines.remove(0);
        }
        self.lines.push(line.to_owned());
        if !is_private
            && let Some(file) = &mut self.file
            && let Err(error) = file.write_all(format!("{line}\n").as_bytes())
        {
            log::info!("the history cannot be written any more: {error}");
            self.file = None;
        }
    }
}

fn open(path: &PathBuf) -> io::Result<History> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut options = OpenOptions::new();
    let file = options.append(true).create(true).mode(0o600).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() || meta.len() > FILE_LEN_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let text = String::from_utf8_lossy(&fs::read(path)?).into_owned();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    if lines.len() > 2 * LINES_MAX {
        lines.drain(..lines.len() - LINES_MAX);
        // Under another name first, so that a run that ends in the middle loses nothing.
        let shorter = path.with_extension("new");
        let mut options = OpenOptions::new();
        let mut new = options.write(true).create(true).truncate(true).mode(0o600).open(&shorter)?;
        new.write_all((lines.join("\n") + "\n").as_bytes())?;
        fs::rename(&shorter, path)?;
        return open(path);
    }
    let excess = lines.len().saturating_sub(LINES_MAX);
    Ok(History { lines: lines.split_off(excess), file: Some(file) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn lines_outlive_the_run_but_private_ones_do_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("packetboat/history");
        let mut history = History::load(Some(path.clone()));
        for (line, is_private) in
            [("hello", false), ("hello", false), ("/msg bob x", true), ("  ", false), ("/who", false)]
        {
            history.push(line, is_private);
        }
        assert_eq!(history.lines(), ["hello", "/msg bob x", "/who"]);
        assert_eq!(History::load(Some(path.clone())).lines(), ["hello", "/who"]);
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_long_file_is_cut_and_a_strange_one_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("history");
        fs::write(&path, (0..2_500).map(|i| format!("line {i}\n")).collect::<String>()).expect("written");
        assert_eq!(History::load(Some(path.clone())).lines().len(), LINES_MAX);
        assert_eq!(fs::read_to_string(&path).expect("a text").lines().next(), Some("line 1500"));
        let folder_instead = folder.path().join("folder");
        fs::create_dir(&folder_instead).expect("a folder");
        assert!(History::load(Some(folder_instead)).lines().is_empty());
    }
}
