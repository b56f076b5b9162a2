//! Lists that come in several lines: who is here, and what is on the shelf, page after page.

use crate::wire::message::{FILES_PER_PAGE, FileEntry};
use crate::wire::name::{FileName, Nick};

/// More entries than this are not believed. Ours: a list that a person can still search, and a bound for our memory.
const ENTRIES_MAX: usize = 100_000;

/// What to do after another line of a list.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// More lines of this page follow.
    Wait,
    /// The page is full: ask for what comes after this name.
    Ask(FileName),
    /// That was all.
    Complete,
}

/// A list of files on its way; asked for with `FILES`, continued with `FILES_<after-name>`.
#[derive(Debug, Default)]
pub struct FileList {
    /// What has come so far, in the server's order.
    pub entries: Vec<FileEntry>,
    /// FILE lines of this page still to come.
    page_left: usize,
    /// More follow behind this page.
    more: bool,
}

impl FileList {
    /// `FILES_<count>`: so many follow, the first page of them now.
    pub fn on_count(&mut self, count: usize) -> Step {
        self.page_left = count.min(FILES_PER_PAGE);
        self.more = count > FILES_PER_PAGE;
        if self.page_left == 0 { Step::Complete } else { Step::Wait }
    }

    /// `FILE_...`; one that nobody announced is ignored.
    pub fn on_file(&mut self, entry: FileEntry) -> Step {
        let Some(left) = self.page_left.checked_sub(1) else { return Step::Wait };
        self.page_left = left;
        // Names ascend, so a page that begins again would never end.
        let ascends = self.entries.last().is_none_or(|last| last.name < entry.name);
        if !ascends || self.entries.len() == ENTRIES_MAX {
            self.more = false;
        } else {
            self.entries.push(entry);
        }
        match (left, self.more, self.entries.last()) {
            (0, true, Some(last)) => Step::Ask(last.name.clone()),
            (0, ..) => Step::Complete,
            _ => Step::Wait,
        }
    }
}

/// A list of members on its way: `USERS_<total> nick ...` until the total is there.
#[derive(Debug, Default)]
pub struct Roll {
    /// Who has been named so far.
    pub nicks: Vec<Nick>,
}

impl Roll {
    /// One USERS line; `true` when it was the last.
    pub fn on_users(&mut self, total: usize, nicks: Vec<Nick>) -> bool {
        // A line that names nobody cannot be continued.
        let last = nicks.is_empty();
        self.nicks.extend(nicks);
        last || self.nicks.len() >= total.min(ENTRIES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: usize) -> FileEntry {
        let name = FileName::parse(&format!("file{number:04}")).expect("a name");
        FileEntry { size: 1, mtime: jiff::Timestamp::UNIX_EPOCH, name }
    }

    #[test]
    fn pages_are_asked_for_until_the_last() {
        let mut list = FileList::default();
        assert_eq!(list.on_count(300), Step::Wait);
        for number in 0..255 {
            assert_eq!(list.on_file(entry(number)), Step::Wait);
        }
        assert_eq!(list.on_file(entry(255)), Step::Ask(entry(255).name));
        assert_eq!(list.on_count(44), Step::Wait);
        for number in 256..299 {
            assert_eq!(list.on_file(entry(number)), Step::Wait);
        }
        assert_eq!(list.on_file(entry(299)), Step::Complete);
        assert_eq!(list.entries.len(), 300);
        assert_eq!(FileList::default().on_count(0), Step::Complete);
    }

    #[test]
    fn a_server_that_repeats_itself_comes_to_an_end() {
        let mut list = FileList::default();
        assert_eq!(list.on_file(entry(9)), Step::Wait, "unannounced");
        for last in [Step::Ask(entry(FILES_PER_PAGE - 1).name), Step::Complete] {
            list.on_count(1_000_000);
            (0..FILES_PER_PAGE - 1).for_each(|number| assert_eq!(list.on_file(entry(number)), Step::Wait));
            assert_eq!(list.on_file(entry(FILES_PER_PAGE - 1)), last);
        }
    }

    #[test]
    fn a_roll_is_complete_with_its_total() {
        let nick = |text: &str| Nick::parse(text).expect("a nick");
        let mut roll = Roll::default();
        assert!(!roll.on_users(3, vec![nick("a"), nick("b")]));
        assert!(roll.on_users(3, vec![nick("c")]));
        assert!(Roll::default().on_users(7, Vec::new()));
    }
}
