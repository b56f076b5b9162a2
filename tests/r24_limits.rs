//! Each limit and one beyond, every way to leave, and the end of the server.

mod common;

use std::time::{Duration, Instant};

use common::{PATIENCE, RawClient, TestServer, by_tier, server_with};
use packetboat::server::{Limits, Rate, Server};
use socket2::SockRef;

/// How long the server may take to end. The figure of the goals binds at night, on a machine that does nothing else.
fn end_max() -> Duration {
    by_tier(PATIENCE, Duration::from_secs(5))
}

fn login(server: &Server, nick: &str) -> RawClient {
    let mut client = RawClient::connect(server.local_addr());
    client.send(format!("HELLO_{nick}\n"));
    assert!(client.line().starts_with("WELCOME_"));
    client
}

/// Closes with a reset, as a crashed or killed peer does.
fn reset(client: RawClient) {
    SockRef::from(&client.stream).set_linger(Some(Duration::ZERO)).expect("a socket");
    drop(client);
}

#[test]
fn r24_the_room_is_full() {
    let server = TestServer::start(&["--max-clients", "2"]);
    let alice = server.login("alice quiet");
    let mut bob = server.login("bob");
    let mut carol = server.connect();
    carol.send("HELLO_carol\n");
    assert_eq!(carol.rest(), ["ERR_busy HELLO the room is full"]);
    reset(alice);
    // The place is free once alice's thread has noticed; that nobody tells bob of a quiet member.
    loop {
        let mut carol = server.connect();
        carol.send("HELLO_carol\n");
        if carol.line() == "WELCOME_carol v=1 max=4096" {
            break;
        }
    }
    assert_eq!(bob.line(), "JOIN_carol");
}

#[test]
fn r7_the_65th_stranger_evicts_the_oldest() {
    let server = TestServer::start(&[]);
    let mut member = server.login("member");
    let mut strangers: Vec<RawClient> = (0..64).map(|_| server.connect()).collect();
    for stranger in &mut strangers {
        stranger.send("HEL");
    }
    let mut late = server.login("late");
    assert_eq!(strangers[0].rest(), [""; 0], "closed at once, without a word");
    strangers[1].send("LO_survivor\n");
    assert_eq!(strangers[1].line(), "WELCOME_survivor v=1 max=4096");
    late.send("ALL_hello\n");
    assert_eq!(member.line_but(&["JOIN_"]), "MSG_late hello");
}

#[test]
fn r7_five_hundred_slow_strangers() {
    let server = TestServer::start(&["--login-timeout", "3600"]);
    let threads_before = server.status("Threads");
    let strangers: Vec<RawClient> = (0..500).map(|_| server.connect()).collect();
    let asked_at = Instant::now();
    let mut honest = server.login("honest");
    // R7 allows 250 ms at the 99th percentile; this is a single sample on a machine that runs other tests. What would be
    // wrong is to wait until strangers are sent away, after an hour here.
    assert!(asked_at.elapsed() < PATIENCE, "{:?}", asked_at.elapsed());
    honest.send("WHO\n");
    assert_eq!(honest.line(), "USERS_1 honest");
    // Those evicted are ending.
    while server.status("Threads") - threads_before > 64 + 1 {
        assert!(asked_at.elapsed() < PATIENCE, "threads for {} strangers", strangers.len());
    }
}

#[test]
fn r24_who_says_nothing_is_sent_away() {
    let (server, _files) =
        server_with(Limits { login_timeout: Duration::from_millis(200), ..Limits::default() });
    let mut silent = RawClient::connect(server.local_addr());
    assert_eq!(silent.rest(), ["ERR_timeout HELLO no HELLO within 0 s"]);
    let mut dripping = RawClient::connect(server.local_addr());
    let started_at = Instant::now();
    // Many bytes within the time limit, each before an answer can be there.
    dripping.stream.set_read_timeout(Some(Duration::from_millis(20))).expect("a socket");
    while dripping.stream.peek(&mut [0]).is_err() {
        assert!(started_at.elapsed() < PATIENCE, "it may say HELLO for ever");
        dripping.try_send("H");
    }
    dripping.stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    assert!(dripping.rest()[0].starts_with("ERR_timeout"), "bytes without a line do not count");
}

#[test]
fn r24_who_asks_for_a_taken_nick_again_and_again_is_sent_away() {
    let (login_timeout, silence_max) = (Duration::from_secs(1), Duration::from_secs(4));
    let (server, _files) =
        server_with(Limits { login_timeout, silence_max, rate: None, ..Limits::default() });
    let mut alice = login(&server, "alice");
    let mut stubborn = RawClient::connect(server.local_addr());
    let started_at = Instant::now();
    loop {
        // She is there, and keeps her nick.
        alice.send("PONG_\n");
        stubborn.try_send("HELLO_alice\n");
        let line = stubborn.line();
        if line.starts_with("ERR_timeout HELLO") {
            break;
        }
        assert_eq!(line, "ERR_nick-taken HELLO somebody here has this nickname");
        assert!(started_at.elapsed() < PATIENCE, "it may say HELLO for ever");
    }
}

#[test]
fn r24_texts_and_nicks_may_have_to_be_shorter() {
    let server = TestServer::start(&["--max-text", "5", "--max-nick", "3"]);
    let mut alice = server.connect();
    assert_eq!(alice.ask("HELLO_alix"), "ERR_bad-nick HELLO a nickname may have 3 characters at most");
    assert_eq!(alice.rest(), [""; 0], "closed like any other bad HELLO");
    let mut ali = server.login("ali");
    assert_eq!(ali.ask("ALL_äöüßé"), "MSG_ali äöüßé");
    for (request, name) in [("ALL_123456", "ALL"), ("PM_ali 123456", "PM"), ("ALL_äöüßéx", "ALL")] {
        assert_eq!(ali.ask(request), format!("ERR_too-long {name} a text may have 5 characters at most"));
    }
    assert_eq!(ali.ask("NICK_alix"), "ERR_bad-nick NICK a nickname may have 3 characters at most");
    assert_eq!(ali.ask("NICK_bob"), "NICK_ali bob");
}

#[test]
fn r24_a_silent_member_is_asked_then_sent_away() {
    let (server, _files) = server_with(Limits {
        ping_after: Duration::from_millis(300),
        silence_max: Duration::from_millis(4_900),
        ..Limits::default()
    });
    let mut alice = login(&server, "alice");
    assert_eq!(alice.line(), "PING_");
    alice.send("PONG_\n");
    assert_eq!(alice.line(), "PING_");
    assert_eq!(alice.rest(), ["ERR_timeout - nothing was heard for 4 s", "BYE_timeout"]);
    let mut next = login(&server, "alice");
    next.send("QUIT\n");
}

#[test]
fn r24_who_waits_for_the_rate_is_not_silent() {
    let (server, _files) = server_with(Limits {
        rate: Some(Rate { burst: 1, interval: Duration::from_millis(50) }),
        ping_after: Duration::from_millis(200),
        silence_max: Duration::from_secs(1),
        ..Limits::default()
    });
    let mut alice = RawClient::connect(server.local_addr());
    // All of them are read at once, and acted upon in 1.5 s: meanwhile nothing can be heard.
    alice.send(format!("HELLO_alice\n{}", "WHO\n".repeat(30)));
    assert!(alice.line().starts_with("WELCOME_"));
    for number in 1..=30 {
        assert_eq!(alice.line(), "USERS_1 alice", "answer {number}");
    }
    assert_eq!(alice.line(), "PING_", "only now is she silent");
}

#[test]
fn r24_the_rate_is_kept_by_not_reading() {
    let server = TestServer::start(&[]);
    for (nick, request, answer) in [("alice", "ALL_", "MSG_alice "), ("bob", "PING_", "PONG_")] {
        let mut member = server.login(&format!("{nick} quiet"));
        let started_at = Instant::now();
        // HELLO was the first of twenty; then five lines in a second.
        member.send((1..=24).map(|number| format!("{request}{number}\n")).collect::<String>());
        for number in 1..=24 {
            assert_eq!(member.line(), format!("{answer}{number}"));
        }
        let all = started_at.elapsed();
        assert!((Duration::from_millis(800)..PATIENCE).contains(&all), "{request} {all:?}");
    }
}

#[test]
fn r8_a_client_that_never_reads_is_dropped_alone() {
    let server = TestServer::start(&["--no-rate-limit"]);
    let _lazy = server.login("lazy");
    let mut alice = server.login("alice");
    let text = "x".repeat(2_000);
    let mut said = 0;
    // The system's own buffers come first: some megabytes.
    loop {
        alice.send(format!("ALL_{said} {}\n", &text[..1_990]));
        let mut line = alice.line();
        let is_dropped = line == "LEAVE_lazy";
        if is_dropped {
            line = alice.line();
        }
        assert!(line.starts_with(&format!("MSG_alice {said} ")), "{line}");
        if is_dropped {
            break;
        }
        said += 1;
        assert!(said < 20_000, "40 MB wait for lazy");
    }
    let mut again = server.login("lazy");
    again.send("QUIT\n");
}

#[test]
fn the_nick_is_free_however_its_session_ended() {
    let server = TestServer::start(&["--no-rate-limit"]);
    let mut observer = server.login("observer");
    for round in 0..20 {
        for how in ["QUIT", "close", "reset", "strikes", "half a line"] {
            let mut bob = server.login("bob");
            assert_eq!(observer.line(), "JOIN_bob", "{how}, round {round}");
            match how {
                "QUIT" => bob.send("QUIT\n"),
                "strikes" => bob.send("ALL_\x01\n".repeat(5)),
                "half a line" => bob.send("ALL_never sai"),
                _ => {}
            }
            if how == "reset" {
                reset(bob)
            } else {
                drop(bob)
            }
            assert_eq!(observer.line(), "LEAVE_bob", "{how}, round {round}");
        }
    }
}

#[test]
fn a_taken_nick_leaves_the_connection_open() {
    let server = TestServer::start(&[]);
    let mut alice = server.login("alice");
    let mut other = server.connect();
    other.send("HELLO_ALICE\n");
    assert_eq!(other.line(), "ERR_nick-taken HELLO somebody here has this nickname");
    other.send("HELLO_bob\nNICK_alice\nNICK_robert\n");
    assert_eq!(other.line(), "WELCOME_bob v=1 max=4096");
    assert_eq!(other.line(), "ERR_nick-taken NICK somebody here has this nickname");
    assert_eq!(other.line(), "NICK_bob robert");
    // HELLO has asked her whether she is there.
    assert_eq!(alice.line_but(&["PING_"]), "JOIN_bob");
    assert_eq!(alice.line(), "NICK_bob robert");
}

#[test]
fn everybody_hears_everything_in_one_order() {
    let server = TestServer::start(&["--no-rate-limit"]);
    let mut members: Vec<RawClient> =
        (0..8).map(|number| server.login(&format!("m{number} quiet"))).collect();
    let heard: Vec<Vec<String>> = std::thread::scope(|scope| {
        let threads: Vec<_> = members
            .iter_mut()
            .map(|member| {
                scope.spawn(|| {
                    for number in 0..50 {
                        member.send(format!("ALL_{number}\n"));
                    }
                    (0..8 * 50).map(|_| member.line()).collect()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("it heard all")).collect()
    });
    for other in &heard[1..] {
        assert_eq!(*other, heard[0]);
    }
}

#[test]
fn r38_the_server_says_good_bye() {
    let mut server = TestServer::start(&[]);
    // Connections are accepted in order: it is inside when the members are.
    let mut stranger = server.connect();
    stranger.send("HEL");
    let mut members: Vec<RawClient> =
        (0..50).map(|number| server.login(&format!("m{number} quiet"))).collect();
    let (status, took) = server.terminate();
    assert!(status.success(), "{status}: {}", server.log());
    assert!(took < end_max(), "{took:?}");
    for member in &mut members {
        assert_eq!(member.rest(), ["SYS_the server closes", "BYE_the server closes"]);
    }
    assert_eq!(stranger.rest(), ["BYE_the server closes"]);
}

#[test]
fn r38_the_server_ends_although_somebody_does_not_read() {
    let mut server = TestServer::start(&["--no-rate-limit"]);
    let mut deaf = server.login("deaf");
    // Its own echoes fill every buffer until the server pauses its reader.
    deaf.stream.set_write_timeout(Some(Duration::from_millis(300))).expect("a socket");
    for _ in 0..20_000 {
        if std::io::Write::write_all(&mut deaf.stream, format!("ALL_{}\n", "x".repeat(1_900)).as_bytes())
            .is_err()
        {
            break;
        }
    }
    let (status, took) = server.terminate();
    assert!(status.success() && took < end_max(), "{status}, {took:?}: {}", server.log());
}

#[test]
fn r38_the_server_ends_although_it_reads_a_large_file() {
    let mut server = TestServer::start_with(&[], |files| {
        let sparse = std::fs::File::create(files.join("huge.bin")).and_then(|file| file.set_len(100 << 30));
        sparse.expect("a sparse file");
    });
    let mut alice = server.login("alice");
    alice.send("GET_tcp huge.bin\n");
    assert!(alice.line().starts_with("OFFER_1 "), "and now its digest is being computed");
    let (status, took) = server.terminate();
    assert!(status.success() && took < end_max(), "{status}, {took:?}: {}", server.log());
}

#[test]
fn r37_the_log_holds_no_secrets_and_one_event_is_one_line() {
    let mut server = TestServer::start_with(&["-v"], |files| {
        std::fs::write(files.join("a.txt"), "content of a").expect("a file");
    });
    let mut alice = server.login("alice");
    let mut bob = server.login("bob");
    alice
        .send("PM_bob the-private-text\nALL_the-public-text\nGET_tcp a.txt\nfo\x1b[31mo\nnon\u{202e}sense\n");
    assert_eq!(bob.line(), "PM_alice the-private-text");
    let offer = alice.line_but(&["JOIN_", "MSG_"]);
    let token = offer.split(' ').nth(3).expect("a token").to_owned();
    alice.send("QUIT\n");
    alice.rest();
    server.terminate();
    let log = server.log();
    let joined = format!("alice joined from {}", std::net::SocketAddr::new(common::host(), 0));
    assert!(log.contains(joined.trim_end_matches('0')), "{log}");
    for secret in ["the-private-text", "the-public-text", "content of a", &token] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
    assert!(log.chars().all(|c| c == '\n' || !c.is_control()), "{log:?}");
}
