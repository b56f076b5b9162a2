//! What the server says on a command line it cannot obey: one clear line, what to do next, the documented exit code.

use std::net::{TcpListener, UdpSocket};
use std::process::{Command, Output, Stdio};

fn server(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_server"));
    command.args(args).stdin(Stdio::null()).env_remove("RUST_LOG").output().expect("it runs")
}

/// Its exit code and what it wrote on stderr; nothing may be on stdout.
fn refusal(args: &[&str]) -> (Option<i32>, String) {
    let output = server(args);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_port_in_use_is_named() {
    let files = tempfile::tempdir().expect("a folder");
    let files = files.path().to_str().expect("UTF-8");
    let taken = TcpListener::bind("127.0.0.1:0").and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (address, _listener) = taken.expect("bound");
    let (code, words) = refusal(&["--listen", &address.to_string(), "--udp-port", "0", "--files", files]);
    assert_eq!(code, Some(1));
    let port = address.port();
    assert_eq!(
        words,
        format!("server: port {port} is in use on 127.0.0.1; name another with --listen 127.0.0.1:0\n")
    );

    let taken = UdpSocket::bind("127.0.0.1:0").and_then(|socket| Ok((socket.local_addr()?, socket)));
    let (address, _socket) = taken.expect("bound");
    let udp_port = address.port().to_string();
    let (code, words) =
        refusal(&["--listen", "127.0.0.1:0", "--udp-port", &udp_port, "--workers", "1", "--files", files]);
    assert_eq!(code, Some(1));
    assert!(words.contains(&udp_port) && words.contains("--udp-port"), "{words}");
    assert_eq!(words.lines().count(), 1, "{words}");
}

#[test]
fn a_shelf_that_is_not_there_is_named() {
    for nowhere in ["/nonexistent/shelf", "/dev/null"] {
        let (code, words) = refusal(&["--listen", "127.0.0.1:0", "--files", nowhere]);
        assert_eq!(code, Some(1));
        assert!(words.contains(nowhere) && words.contains("--files DIR"), "{words}");
        assert_eq!(words.lines().count(), 1, "{words}");
    }
}

#[test]
fn a_wrong_option_exits_2() {
    for args in [&["--nonsense"][..], &["--listen", "nowhere"], &["--workers", "0"], &["-v", "-q"]] {
        let (code, words) = refusal(args);
        assert_eq!(code, Some(2), "{args:?}");
        assert!(!words.is_empty());
    }
    assert_eq!(server(&["--version"]).status.code(), Some(0));
}
