//! `--json`: every object of real runs is what `docs/JSON.md` says, and every event of that page is seen.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;

use common::TestServer;
use common::scripted::*;
use serde_json::{Map, Value};

/// What stands in the table of every event: for each type its fields with the values that they may have.
struct Schema(BTreeMap<String, BTreeMap<String, String>>);

impl Schema {
    fn read() -> Schema {
        let page = include_str!("../docs/JSON.md");
        let table = page.split("<!-- events -->").nth(1).expect("the table");
        let (mut types, mut name): (BTreeMap<_, BTreeMap<_, _>>, String) = Default::default();
        for row in table.lines().filter(|line| line.starts_with('|')).skip(2) {
            let cells: Vec<&str> = row.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
            let [_, of_type, field, value, ..] = cells[..] else { panic!("{row}") };
            if !of_type.is_empty() {
                name = of_type.into();
            }
            let fields = types.entry(name.clone()).or_default();
            if !field.is_empty() {
                fields.insert(field.to_owned(), value.to_owned());
            }
        }
        Schema(types)
    }

    /// Fails where a line is not one of the objects that the page describes; gives its type.
    fn check(&self, line: &str) -> String {
        let object: Map<String, Value> = serde_json::from_str(line).expect(line);
        let name = object["type"].as_str().expect(line);
        let fields = self.0.get(name).unwrap_or_else(|| panic!("docs/JSON.md has no {name}: {line}"));
        let fields: BTreeMap<_, _> = fields.iter().chain(&self.0["every one"]).collect();
        for (field, value) in &object {
            let told = fields.get(field).unwrap_or_else(|| panic!("docs/JSON.md has no {field}: {line}"));
            assert!(fits(value, told), "{field} is no {told}: {line}");
        }
        for (field, told) in fields {
            assert!(told.ends_with('?') || object.contains_key(field), "no {field}: {line}");
        }
        assert_eq!(object["v"], 1, "{line}");
        name.to_owned()
    }
}

fn fits(value: &Value, told: &str) -> bool {
    match told.trim_end_matches('?') {
        "string" => value.is_string(),
        "string or null" => value.is_string() || value.is_null(),
        "integer" => value.is_u64(),
        "number" => value.is_number(),
        "array of strings" => value.as_array().is_some_and(|all| all.iter().all(Value::is_string)),
        "array of files" => value.as_array().is_some_and(|all| all.iter().all(is_file)),
        other => panic!("docs/JSON.md: what is {other:?}?"),
    }
}

fn is_file(value: &Value) -> bool {
    let Some(file) = value.as_object() else { return false };
    let is_time = file["mtime"].as_str().is_some_and(|time| time.ends_with('Z'));
    file.len() == 3 && file["name"].is_string() && file["size"].is_u64() && is_time
}

/// Plays a conversation in which everything happens that can.
fn play(peer: &mut Peer, listener: &TcpListener) {
    let port = listener.local_addr().expect("an address").port();
    peer.answer("ALL_hi", &["MSG_alice hi", "JOIN_bob", "PM_bob psst", "NICK_bob rob", "LEAVE_rob"]);
    peer.answer("PM_bob yo", &["SYS_soon", "SHARED_bob 5 x.txt", "FUTURE_line"]);
    peer.answer("WHO_", &["USERS_2 alice bob"]);
    peer.answer("GET_tcp lore.txt", &[&format!("OFFER_7 tcp {port} {TOKEN} 5 {MTIME} - lore.txt")]);
    let mut stream = accept(listener);
    assert_eq!(stream.line(), format!("DATA_{TOKEN}"));
    // The transfer waits until the conversation has come to what is said behind it.
    peer.answer("ALL_after", &["ERR_busy ALL later"]);
    stream.say("hell");
    stream.hang_up();
    peer.say(&format!("DONE_7 5 {}", blake3::hash(b"hell\n")));
    let mut rest = [peer.line(), peer.line()];
    rest.sort();
    assert_eq!(rest, ["DONE_7 ok", "FILES_"]);
    // The list is owed when the connection ends, and is asked for again.
    peer.hang_up();
    let mut again = accept(listener);
    again.answer("HELLO_alice", &["WELCOME_alice v=1 max=4096"]);
    again.answer("FILES_", &["FILES_1", &format!("FILE_5 {MTIME} lore.txt")]);
    again.good_bye();
}

#[test]
fn every_event_of_the_page_is_seen_and_is_what_the_page_says() {
    let schema = Schema::read();
    let typed = "hi\n/query bob\nyo\n/all\n/who\n/get lore.txt --tcp\n/transfers\nafter\n/files\n/nonsense\n";
    let (talked, _folder) = run_pipe_with(&["alice", "--json"], typed.as_bytes(), play);
    assert_exit(&talked, 0, "there is no command /nonsense");
    let server = TestServer::start(&[]);
    let (folder, doctor) = (tempfile::tempdir().expect("a folder"), ["doctor", "--json"]);
    let examined = client(folder.path(), server.addr, &doctor).output().expect("it runs");
    assert_exit(&examined, 0, "");
    let lines = stdout(&talked) + &stdout(&examined);
    let seen: BTreeSet<String> = lines.lines().map(|line| schema.check(line)).collect();
    let told: BTreeSet<String> = schema.0.into_keys().filter(|name| name != "every one").collect();
    assert_eq!(seen, told, "{}", common::scripted::told(&talked));
}

#[test]
fn a_one_shot_prints_one_object_and_an_error_is_one() {
    let schema = Schema::read();
    let (output, _folder) = run(&["alice", "msg", "hi", "--json"], |peer, _| {
        peer.answer("ALL_hi", &["MSG_alice hi"]);
        peer.answer("PING_said", &["PONG_said"]);
        peer.good_bye();
    });
    assert_eq!(schema.check(stdout(&output).trim_end()), "sent");
    let (output, _folder) = run(&["get", "x", "--json"], |peer, _| {
        peer.answer("GET_udp x", &["ERR_no-file GET no such file"]);
    });
    assert_exit(&output, 5, "no such file");
    assert_eq!(schema.check(stdout(&output).trim_end()), "error");
}

#[test]
fn a_failure_before_the_session_is_an_object_too() {
    let schema = Schema::read();
    let folder = tempfile::tempdir().expect("a folder");
    let trace = folder.path().join("missing/trace.jsonl");
    let trace = trace.to_str().expect("UTF-8");
    let address = "127.0.0.1:1".parse().expect("an address");
    let arguments = ["who", "--json", "--trace", trace];
    let output = client(folder.path(), address, &arguments).output().expect("the client runs");
    assert_exit(&output, 5, "; check the path");
    assert_eq!(schema.check(stdout(&output).trim_end()), "error");
}
