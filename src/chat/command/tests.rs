//! What a person types, and what it is taken for.

use super::*;
use proptest::prelude::*;

fn nick(text: &str) -> Nick {
    Nick::parse(text).expect("a nick")
}

fn get(file: &str, save_as: Option<&str>, transport: Option<Transport>) -> Command {
    let name = |text: &str| FileName::parse(text).expect("a name");
    Command::Get { file: Wanted::Name(name(file)), save_as: save_as.map(name), transport }
}

fn parsed(line: &str) -> Command {
    parse(line).expect(line).expect(line)
}

#[test]
fn what_is_no_command_is_said() {
    for said in ["hello", "Disconnect", " /quit", "get_users"] {
        assert_eq!(parsed(said), Command::Say(said.into()));
    }
    assert_eq!(parsed("//etc/passwd"), Command::Say("/etc/passwd".into()));
    assert_eq!(parsed("///"), Command::Say("//".into()));
    assert_eq!(parsed("two  spaces \r\n"), Command::Say("two  spaces ".into()));
    for nothing in ["", "  ", "\r\n", "\t"] {
        assert_eq!(parse(nothing), Ok(None), "{nothing:?}");
    }
}

#[test]
fn every_command_is_read() {
    for (lines, command) in [
        (&["/all", "/ALL "][..], Command::All),
        (&["/query bob", "/query  bob "], Command::Query(nick("bob"))),
        (&["/who"], Command::Who),
        (&["/files"], Command::Files),
        (&["/quit"], Command::Quit),
        (&["/get a.txt"], get("a.txt", None, None)),
        (&["/transfers"], Command::Transfers),
        (&["/cancel 3"], Command::Cancel(3)),
        (&["/nick rob"], Command::Nick(nick("rob"))),
        (&["/help"], Command::Help(None)),
        (&["/help /get", "/HELP  /get"], Command::Help(Some("/get".into()))),
        (&["/msg bob see /x  y"], Command::Msg(nick("bob"), "see /x  y".into())),
        (&["/r yes"], Command::Reply("yes".into())),
    ] {
        for line in lines {
            assert_eq!(parsed(line), command, "{line}");
        }
    }
}

#[test]
fn a_file_is_asked_for_by_name_or_number() {
    assert_eq!(
        parsed("/get 2 --tcp"),
        Command::Get { file: Wanted::Number(2), save_as: None, transport: Some(Transport::Tcp) }
    );
    let udp = Some(Transport::Udp);
    assert_eq!(parsed("/get big video.mp4 as my film.mp4"), get("big video.mp4", Some("my film.mp4"), None));
    assert_eq!(parsed("/get a b as c --udp"), get("a b", Some("c"), udp));
    assert_eq!(parsed("/get --udp a b"), get("a b", None, udp));
    assert_eq!(parsed("/get \"same as before.txt\""), get("same as before.txt", None, None));
    assert_eq!(parsed("/get \"2\" as \"x as y\""), get("2", Some("x as y"), None));
    assert_eq!(parsed("/get a--tcp"), get("a--tcp", None, None));
    for bad in [
        "/get a --tcp --udp",
        "/get a --udp --tcp",
        "/get --udp a --tcp",
        "/get",
        "/get --tcp",
        "/get ../x",
        "/get a as ../x",
        "/get \"a\" b",
        "/get \"",
    ] {
        assert!(parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_mistyped_command_is_never_said() {
    for (line, meant) in [
        ("/quti", Some("/quit")),
        ("/hlep me", Some("/help")),
        ("/file", Some("/files")),
        ("/whisper", None),
        ("/x", None),
        ("/", None),
    ] {
        let word = line.split(' ').next().expect("a word");
        assert_eq!(parse(line), Err(CommandError::Unknown(word.into(), meant)));
    }
    for line in ["/quit now", "/all hi", "/query", "/query a b", "/msg bob", "/cancel x"] {
        assert!(parse(line).is_err(), "{line}");
    }
    let told = parse("/\u{1b}[2J").expect_err("no command").to_string();
    assert!(told.contains("/help") && !told.contains('\u{1b}'), "{told}");
}

#[test]
fn every_refusal_names_the_next_step() {
    for (line, next_step) in [
        ("/nonsense", "(/help lists them;"),
        ("/quit now", "type it alone"),
        ("/msg bob", "type /msg NICK TEXT"),
        ("/query 1x", "/who lists who is here"),
        ("/get ../x", "/files lists what there is"),
    ] {
        let told = parse(line).expect_err(line).to_string();
        assert!(told.contains(next_step), "{line}: {told}");
    }
}

#[test]
fn a_nick_that_looks_like_a_command_is_noticed() {
    let words = ["msg", "who", "files", "get", "listen"];
    for (nick, meant) in [
        ("fles", Some("files")),
        ("Files", Some("files")),
        ("lsten", Some("listen")),
        ("gte", Some("get")),
        ("whoo", Some("who")),
        ("alice", None),
        ("pat", None),
        ("bob", None),
        ("guest-1f", None),
    ] {
        assert_eq!(meant_word(nick, &words), meant, "{nick}");
    }
}

#[test]
fn help_names_every_command() {
    let help: Vec<String> = help().collect();
    assert!(help.iter().any(|line| line.starts_with("/get NAME|NUMBER")), "{help:?}");
    assert!(help.iter().all(|line| line.len() <= 100), "{help:?}");
    for name in names() {
        let about = help_about(name).expect(name);
        assert!(help.contains(&about[0]), "{about:?}");
        assert_eq!(help_about(&name[1..]).as_ref(), Ok(&about));
    }
    assert!(help_about("get").expect("a command").len() > 1);
    assert_eq!(help_about("quti"), Err(CommandError::Unknown("/quti".into(), Some("/quit"))));
}

proptest! {
    #[test]
    fn no_line_panics(line in "(/|/get |/put )?\\PC{0,40}") {
        if let Err(error) = parse(&line) {
            prop_assert!(!error.to_string().chars().any(char::is_control));
        }
    }
}
