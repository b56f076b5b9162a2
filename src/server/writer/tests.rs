//! A writer alone, with real sockets.

use super::*;
use std::io::Read as _;
use std::net::TcpListener;

#[test]
fn dropping_it_ends_its_thread() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let mut client = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
    client.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
    let (server, gauge) = (Arc::new(listener.accept().expect("accepted").0), Arc::default());
    let writer = Writer::start(&Limits::default()).expect("a thread");
    writer.add(MemberId(1), server, Arc::clone(&gauge));
    writer.send_one(MemberId(1), &gauge, Arc::from(&b"BYE_\n"[..]));
    drop(writer);
    let mut heard = String::new();
    client.read_to_string(&mut heard).expect("closed");
    assert_eq!(heard, "BYE_\n");
}

#[test]
fn r8_who_does_not_take_an_answer_is_not_waited_for_for_ever() {
    let (limits, gauge) = (Limits::default(), Gauge::default());
    let writer = Writer::start(&limits).expect("a thread");
    assert!(writer.wait_for_calm_until(Some(&gauge), Instant::now()), "nothing waits");
    gauge.add(&vec![b'x'; limits.outbox_bytes_max].into(), &QueueLimits::new(&limits));
    assert!(!writer.wait_for_calm_until(Some(&gauge), Instant::now() + Duration::from_millis(1)));
}
