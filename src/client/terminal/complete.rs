//! Tab: what the word before the cursor may become.

use std::fs;
use std::path::PathBuf;

use super::editor::Editor;
use crate::chat::command;
use crate::wire::text::is_printable;

/// More entries of a folder are not looked at. Ours: nobody chooses among them by Tab.
const ENTRIES_MAX: usize = 10_000;

/// What is known to complete from.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Who is here, but for ourselves.
    pub nicks: &'a [String],
    /// What is on the shelf, where that is known.
    pub files: Option<&'a [String]>,
}

/// What Tab has led to.
#[derive(Debug, PartialEq, Eq)]
pub enum Completed {
    /// The line has grown, or nothing fits.
    Done,
    /// These fit, and they have no longer begin in common.
    Choices(Vec<String>),
    /// The names of the shelf are needed.
    FilesWanted,
}

/// What may stand at a place of the line.
struct Choices {
    /// Where the word begins, in octets.
    from: usize,
    /// What it may become, and what follows when it is the only one.
    words: Vec<(String, &'static str)>,
}

/// Completes what stands before the cursor.
pub fn complete(editor: &mut Editor, known: Known<'_>) -> Completed {
    let (line, cursor) = editor.line();
    let before = &line[..cursor];
    let Some(Choices { from, mut words }) = choices(before, known) else { return Completed::FilesWanted };
    let typed = before[from..].to_lowercase();
    words.retain(|(word, _)| word.to_lowercase().starts_with(&typed));
    words.sort();
    words.dedup();
    match words.as_slice() {
        [] => Completed::Done,
        [(word, after)] => {
            let word = format!("{word}{after}");
            editor.replace(from, &word);
            Completed::Done
        }
        [(first, _), others @ ..] => {
            let mut common = first.as_str();
            for (other, _) in others {
                common = &common[..common_len(common, other)];
            }
            if common.len() > before.len() - from {
                editor.replace(from, common);
                return Completed::Done;
            }
            Completed::Choices(words.into_iter().map(|(word, _)| last_part(&word)).collect())
        }
    }
}

fn common_len(one: &str, other: &str) -> usize {
    one.char_indices()
        .zip(other.chars())
        .find(|((_, a), b)| a != b)
        .map_or(one.len().min(other.len()), |((at, _), _)| at)
}

/// What is shown of a path: what is before it is the same for all.
fn last_part(word: &str) -> String {
    let name = word.trim_end_matches('/');
    word[name.rfind('/').map_or(0, |at| at + 1)..].to_owned()
}

/// What may stand where the cursor is; `None` when the shelf has to be asked first.
fn choices(before: &str, known: Known<'_>) -> Option<Choices> {
    let argument = |commands: &[&str]| {
        let command = commands.iter().find(|command| {
            before.get(..command.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(command))
        })?;
        let rest = &before[command.len()..];
        rest.starts_with(' ').then(|| before.len() - rest.trim_start().len())
    };
    let all = |words: &[String], after| words.iter().map(|word| (word.clone(), after)).collect();
    if let Some(from) = argument(&["/get", "download_file", "download"]) {
        return known.files.map(|files| Choices { from, words: all(files, "") });
    }
    if let Some(from) = argument(&["/put"]) {
        return Some(Choices { from, words: paths(&before[from..]) });
    }
    if let Some(from) = argument(&["/help"]) {
        return Some(Choices { from, words: commands("") });
    }
    if let Some(from) = argument(&["/query", "/msg", "set_msg"])
        && !before[from..].contains(' ')
    {
        return Some(Choices {
            from,
            words: all(known.nicks, if before.starts_with("/msg") { " " } else { "" }),
        });
    }
    if before.starts_with('/') && !before.contains(' ') {
        return Some(Choices { from: 0, words: commands(" ") });
    }
    let from = before.rfind(' ').map_or(0, |at| at + 1);
    Some(Choices { from, words: all(known.nicks, if from == 0 { ": " } else { " " }) })
}

fn commands(after: &'static str) -> Vec<(String, &'static str)> {
    command::names().map(|name| (name.to_owned(), after)).collect()
}

/// The paths that begin so.
fn paths(typed: &str) -> Vec<(String, &'static str)> {
    let (folder, begin) = typed.split_at(typed.rfind('/').map_or(0, |at| at + 1));
    let place = if folder.is_empty() { PathBuf::from(".") } else { expand_home(folder) };
    let entries = fs::read_dir(place).into_iter().flatten().take(ENTRIES_MAX).filter_map(Result::ok);
    let names = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        // A name that cannot be typed cannot be completed; a hidden one has to be asked for.
        if !name.chars().all(is_printable) || name.starts_with('.') != begin.starts_with('.') {
            return None;
        }
        let is_folder = fs::metadata(entry.path()).is_ok_and(|meta| meta.is_dir());
        Some((format!("{folder}{name}{}", if is_folder { "/" } else { "" }), ""))
    });
    names.collect()
}

/// `~/x` as a path: nobody but a shell would do it for us.
pub fn expand_home(path: &str) -> PathBuf {
    let home = || std::env::var_os("HOME").map(PathBuf::from);
    path.strip_prefix("~/").and_then(|rest| Some(home()?.join(rest))).unwrap_or_else(|| path.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(line: &str) -> (String, Completed) {
        let nicks = ["Alice", "alfred", "bob"].map(str::to_owned);
        let files = ["lore.txt", "sun set.png", "sun.png"].map(str::to_owned);
        let mut editor = Editor::default();
        editor.insert(line);
        let completed = complete(&mut editor, Known { nicks: &nicks, files: Some(&files) });
        (editor.line().0.to_owned(), completed)
    }

    #[test]
    fn tab_completes_what_can_stand_there() {
        for (line, longer) in [
            ("b", "bob: "),
            ("hi AL", "hi AL"),
            ("hi ali", "hi Alice "),
            ("/que", "/query "),
            ("/query b", "/query bob"),
            ("/msg ALF", "/msg alfred "),
            ("/msg bob al", "/msg bob al"),
            ("/get l", "/get lore.txt"),
            ("/get su", "/get sun"),
            ("/get sun ", "/get sun set.png"),
            ("download_file L", "download_file lore.txt"),
            ("/help /qui", "/help /quit"),
            ("nobody", "nobody"),
        ] {
            assert_eq!(completed(line).0, longer, "{line}");
        }
        let names = |names: &[&str]| Completed::Choices(names.iter().map(|&name| name.to_owned()).collect());
        assert_eq!(completed("/get sun").1, names(&["sun set.png", "sun.png"]));
        assert_eq!(completed("al").1, names(&["Alice", "alfred"]));
        let mut editor = Editor::default();
        editor.insert("/get x");
        assert_eq!(complete(&mut editor, Known { nicks: &[], files: None }), Completed::FilesWanted);
    }

    #[test]
    fn paths_are_completed_and_hidden_ones_only_when_asked_for() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["report.pdf", ".secret", "bad\u{1b}name"] {
            fs::write(folder.path().join(name), "").expect("written");
        }
        fs::create_dir(folder.path().join("sub")).expect("a folder");
        let root = folder.path().display();
        for (typed, longer) in [("re", "report.pdf"), ("s", "sub/"), (".s", ".secret"), ("bad", "bad")] {
            assert_eq!(completed(&format!("/put {root}/{typed}")).0, format!("/put {root}/{longer}"));
        }
        let shown = Completed::Choices(vec!["report.pdf".into(), "sub/".into()]);
        assert_eq!(completed(&format!("/put {root}/")).1, shown);
    }
}
