//! Standard input as lines: a thread of its own, because a blocked read cannot be waited for beside other things.

use std::io::{self, BufRead, Read};
use std::thread;

use crossbeam_channel::{Receiver, Sender};

/// The longest line read. Ours: hundreds of messages; whoever sends more in one line did not mean to talk.
const LINE_LEN_MAX: u64 = 1024 * 1024;

/// Lines read ahead. Ours: few, the pipe itself waits.
const AHEAD_MAX: usize = 16;

/// What came from standard input.
#[derive(Debug, PartialEq, Eq)]
pub enum Typed {
    /// A line without its end.
    Line(String),
    /// A line that cannot be said, and why.
    Unreadable(&'static str),
    /// The end: nothing follows.
    End,
}

/// Starts the thread, named `stdin`. It ends with the input, or with the process.
pub fn start() -> io::Result<Receiver<Typed>> {
    let (tell, typed) = crossbeam_channel::bounded(AHEAD_MAX);
    thread::Builder::new().name("stdin".into()).spawn(move || read_lines(io::stdin().lock(), &tell))?;
    Ok(typed)
}

fn read_lines(mut input: impl BufRead, tell: &Sender<Typed>) {
    loop {
        let typed = read_line(&mut input).unwrap_or_else(|error| {
            log::warn!("stdin: cannot be read: {error}");
            Typed::End
        });
        let end = typed == Typed::End;
        if tell.send(typed).is_err() || end {
            return;
        }
    }
}

/// The next line; an unterminated last one counts.
fn read_line(input: &mut impl BufRead) -> io::Result<Typed> {
    let mut bytes = Vec::new();
    if input.take(LINE_LEN_MAX).read_until(b'\n', &mut bytes)? == 0 {
        return Ok(Typed::End);
    }
    if bytes.len() as u64 == LINE_LEN_MAX && !bytes.ends_with(b"\n") {
        input.skip_until(b'\n')?;
        return Ok(Typed::Unreadable("a line of more than 1 MiB was not sent: cut it into shorter ones"));
    }
    Ok(match String::from_utf8(bytes) {
        Ok(mut line) => {
            line.truncate(line.trim_end_matches(['\r', '\n']).len());
            Typed::Line(line)
        }
        Err(_) => Typed::Unreadable(
            "a line that is not UTF-8 was not sent: convert it first, with iconv for example",
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_one_and_bad_ones_are_told() {
        let long = vec![b'x'; 3 * 1024 * 1024];
        let input = [&b"hi\r\n\n\xff\xfe\n"[..], &long, b"\nlast"].concat();
        let (tell, typed) = crossbeam_channel::unbounded();
        read_lines(&input[..], &tell);
        drop(tell);
        let typed: Vec<Typed> = typed.into_iter().collect();
        assert!(matches!(typed[2..4], [Typed::Unreadable(_), Typed::Unreadable(_)]));
        assert_eq!(typed[0], Typed::Line("hi".into()));
        assert_eq!(typed[1], Typed::Line(String::new()));
        assert_eq!(typed[4..], [Typed::Line("last".into()), Typed::End]);
    }
}
