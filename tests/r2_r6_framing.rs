//! What a byte stream can do to lines: cut anywhere, coalesced, endless, not text at all, or another protocol.

mod common;

use common::{Dice, RawClient, TestServer, by_tier};

/// Forty lines with everything that one client alone can be answered.
const SCRIPT: &str = concat!(
    "HELLO_alice\n",
    "ALL_snake_case stays_whole\n",
    "all_lower case protocol\r\n",
    "ALL_tab\\t, newline\\n, backslash\\\\, \\u{1F600} and \\u{1b}\n",
    "ALL_Grüße, 你好, שלום 🦀\n",
    "PM_alice to myself_\n",
    "PM_Alice in capitals\n",
    "PM_bob nobody\n",
    "PM_bob\n",
    "PM_\n",
    "ALL_\n",
    "ALL\n",
    "WHO\n",
    "WHO_\r\n",
    "who_whatever\n",
    "FILES\n",
    "FILES_a.txt\n",
    "FILES_zzz\n",
    "FILES_../x\n",
    "nonsense\n",
    "\n",
    "\r\n",
    "_\n",
    "two words\n",
    "GET_tcp absent.txt\n",
    "GET_tcp ../secret\n",
    "GET_pigeon a.txt\n",
    "GET\n",
    "HELLO_again\n",
    "NICK_carol\n",
    "ALL_carol_speaks\n",
    "NICK_1carol\n",
    "NICK_CAROL\n",
    "PING_a b c\n",
    "PING\n",
    "PONG_unasked\n",
    "DONE_1 ok\n",
    "DONE_x\n",
    "DATA_00\n",
    "QUIT\n",
);

fn server() -> TestServer {
    TestServer::start_with(&["--no-rate-limit"], |files| {
        std::fs::write(files.join("a.txt"), "a").expect("a file");
        std::fs::write(files.join("b_c.txt"), "bcd").expect("a file");
    })
}

/// What the server answers to the script, written in these pieces.
fn answers(server: &TestServer, pieces: &[&[u8]]) -> Vec<String> {
    let mut client = server.connect();
    for piece in pieces {
        client.send(piece);
    }
    client.rest()
}

#[test]
fn r2_every_split() {
    let script = SCRIPT.as_bytes();
    assert_eq!(SCRIPT.lines().count(), 40);
    let server = server();
    let whole = answers(&server, &[script]);
    assert_eq!(whole.last().map(String::as_str), Some("BYE_"));
    assert_eq!(whole.iter().filter(|line| line.starts_with("MSG_")).count(), 5, "{whole:#?}");
    for cut in 1..script.len() {
        let (head, tail) = script.split_at(cut);
        assert_eq!(answers(&server, &[head, tail]), whole, "cut at {cut}");
    }
    let bytes: Vec<&[u8]> = script.chunks(1).collect();
    assert_eq!(answers(&server, &bytes), whole, "byte by byte");
}

#[test]
fn r2_random_cuts() {
    let server = server();
    let whole = answers(&server, &[SCRIPT.as_bytes()]);
    for seed in 1..=1_000 {
        let mut dice = Dice(seed);
        let (mut pieces, mut rest) = (Vec::new(), SCRIPT.as_bytes());
        while !rest.is_empty() {
            let (piece, after) = rest.split_at((1 + dice.below(60)).min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        assert_eq!(answers(&server, &pieces), whole, "seed {seed}");
    }
}

#[test]
fn r2_an_unterminated_tail_is_not_executed() {
    let server = server();
    let mut client = server.login("alice");
    client.send("ALL_whole\nALL_half");
    client.finish();
    assert_eq!(client.rest(), ["MSG_alice whole"]);
}

#[test]
fn r3_coalescing() {
    const MESSAGES: usize = 10_000;
    let server = server();
    let mut alice = server.login("alice");
    let mut bob = server.login("bob");
    assert_eq!(alice.line(), "JOIN_bob");
    let burst: String = (0..MESSAGES).map(|number| format!("ALL_message {number}\n")).collect();
    let mut writer = alice.stream.try_clone().expect("a descriptor");
    let writing = std::thread::spawn(move || std::io::Write::write_all(&mut writer, burst.as_bytes()));
    let hearing = std::thread::spawn(move || {
        for number in 0..MESSAGES {
            assert_eq!(bob.line(), format!("MSG_alice message {number}"));
        }
    });
    for number in 0..MESSAGES {
        assert_eq!(alice.line(), format!("MSG_alice message {number}"));
    }
    writing.join().expect("no panic").expect("written");
    hearing.join().expect("bob has heard it all");
}

#[test]
fn r4_giant_line() {
    let server = server();
    let mut client = server.login("alice");
    let mut giant = |mebibytes: usize| {
        client.send("ALL_");
        let mebibyte = vec![b'x'; 1 << 20];
        for _ in 0..mebibytes {
            client.send(&mebibyte);
        }
        client.send("\nPING_after\n");
        assert_eq!(client.line(), "ERR_too-long - a line may have 4096 bytes at most");
        assert_eq!(client.line(), "PONG_after", "it was told once");
    };
    giant(1);
    let before_kib = server.status("VmRSS");
    giant(by_tier(64, 1_024));
    let grown_kib = server.status("VmRSS").saturating_sub(before_kib);
    // 64 KiB are allowed; the kernel itself counts in batches of 32 pages per core.
    assert!(grown_kib <= 64 + 2 * 128, "grown by {grown_kib} KiB");
}

#[test]
fn r4_the_longest_line_and_one_octet_more() {
    let server = server();
    let mut client = server.login("alice");
    // 681 escapes of six octets and five letters behind `ALL_`: 4,096 with the LF.
    let fits = format!("ALL_{}aaaaa\n", r"\u{61}".repeat(681));
    assert_eq!(fits.len(), 4096);
    client.send(&fits);
    assert_eq!(client.line(), format!("MSG_alice {}", "a".repeat(686)));
    client.send(fits.replace("aaaaa\n", "aaaaaa\n"));
    assert_eq!(client.line(), "ERR_too-long - a line may have 4096 bytes at most");
    for strike in 2..=5 {
        client.send(format!("{}\n", "y".repeat(4096)));
        assert!(client.line().starts_with("ERR_too-long"), "strike {strike}");
    }
    assert_eq!(client.rest(), ["ERR_strikes - too many bad lines", "BYE_too many bad lines"]);
}

/// Byte sequences that no line may hold; the LF ends a line, and a CR right before it is part of the line's end.
fn bad_sequences() -> Vec<Vec<u8>> {
    let mut bad: Vec<Vec<u8>> = (0..0x20).filter(|&byte| byte != b'\n').map(|byte| vec![byte]).collect();
    bad.push(vec![0x7f]);
    bad.extend((0x80..=0x9f).map(|byte| vec![0xc2, byte]));
    bad.extend((0x80..=0xff).map(|byte| vec![byte]));
    let forms: [&[u8]; 12] = [
        b"\xc0\x80",         // overlong NUL
        b"\xc0\xaf",         // overlong slash
        b"\xe0\x80\xaf",     // the same in three octets
        b"\xf0\x80\x80\xaf", // and in four
        b"\xc1\xbf",
        b"\xed\xa0\x80",             // a surrogate
        b"\xed\xa0\xbd\xed\xb8\x80", // a pair of them
        b"\xf4\x90\x80\x80",         // above U+10FFFF
        b"\xf8\x88\x80\x80\x80",     // five octets
        b"\xfe\xff",
        b"\xe4\xbd", // cut short
        b"\x1b]0;title\x07",
    ];
    bad.extend(forms.map(<[u8]>::to_vec));
    bad
}

#[test]
fn r5_bad_bytes() {
    let server = server();
    let mut listener = server.login("listener");
    let mut lines = Vec::new();
    for sequence in bad_sequences() {
        for (before, after) in [("ALL_", "x"), ("ALL_x", "y z"), ("PM_listener x", "z")] {
            lines.push([before.as_bytes(), &sequence, after.as_bytes(), b"\n"].concat());
        }
    }
    for escape in [r"\x41", r"\", r"\u{110000}", r"\u{d800}", r"\u41", r"\N"] {
        lines.push(format!("ALL_{escape}\n").into_bytes());
    }
    assert!(lines.len() >= 500, "{}", lines.len());
    for four in lines.chunks(4) {
        let mut client = server.login("mallory quiet");
        for line in four {
            client.send(line);
            let answer = client.line();
            assert!(answer.starts_with("ERR_bad-text "), "{answer:?} to {line:?}");
        }
        client.send("PING_alive\nQUIT\n");
        assert_eq!(client.rest(), ["PONG_alive", "BYE_"]);
    }
    // An escape that is none happens to whoever types: that never closes.
    let mut client = server.login("mallory quiet");
    client.send(format!("{}QUIT\n", "ALL_C:\\dir\n".repeat(6)));
    let answers = client.rest();
    let words = "ERR_bad-text ALL after a backslash comes another one, n, t or u{hex}";
    assert_eq!((answers.len(), answers[0].as_str(), answers[6].as_str()), (7, words, "BYE_"), "{answers:?}");
    let mut client = server.login("mallory quiet");
    client.send(format!("{}QUIT\n", format!("ALL_{}\n", "x".repeat(2_001)).repeat(6)));
    assert_eq!(client.rest()[6], "BYE_", "nor does a text that is too long");
    client = server.login("mallory quiet");
    client.send(format!("PING_{}\nQUIT\n", "x".repeat(65)));
    assert_eq!(client.rest(), ["ERR_too-long PING PING and PONG may have 64 bytes at most", "BYE_"]);
    let mut client = server.login("mallory quiet");
    for line in &lines[..5] {
        client.send(line);
    }
    let answers = client.rest();
    assert_eq!(answers.len(), 7, "{answers:?}");
    assert_eq!(answers[5..], ["ERR_strikes ALL too many bad lines", "BYE_too many bad lines"]);
    listener.send("ALL_the only thing said\n");
    assert_eq!(listener.line(), "MSG_listener the only thing said");
}

#[test]
fn r6_cross_protocol() {
    let server = server();
    let mut listener = server.login("listener");
    let http = |method: &str| {
        let body = "HELLO_x\r\nALL_x\r\nHELLO_x\nALL_x\nPM_listener x\n";
        format!(
            "{method} / HTTP/1.1\r\nHost: 127.0.0.1:55000\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    };
    // A ClientHello holds LFs: supported_groups is extension 10.
    let tls = [
        &b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03"[..],
        &[7; 32],
        b"\x00\x00\x0a\x00\x04\nHELLO_x\nALL_x\n",
    ];
    let attempts: [Vec<u8>; 8] = [
        http("GET"),
        http("POST"),
        tls.concat(),
        b"SSH-2.0-OpenSSH_9.9\r\nHELLO_x\nALL_x\n".to_vec(),
        b"EHLO example.org\r\nHELLO_x\nALL_x\n".to_vec(),
        b"ALL_before login\nHELLO_x\nALL_x\n".to_vec(),
        b"HELLO_1x\nHELLO_x\nALL_x\n".to_vec(),
        [vec![b'x'; 5000], b"\nHELLO_x\nALL_x\n".to_vec()].concat(),
    ];
    for attempt in attempts {
        let mut client: RawClient = server.connect();
        client.try_send(&attempt);
        let answers = client.rest();
        assert_eq!(answers.len(), 1, "{answers:?} to {}", attempt.escape_ascii());
        assert!(answers[0].starts_with("ERR_"), "{answers:?}");
    }
    listener.send("ALL_the only thing said\n");
    assert_eq!(listener.line(), "MSG_listener the only thing said");
}
