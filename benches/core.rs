//! How fast the pure core is: two connections, memory to memory, every packet sealed, no sockets, a virtual clock.
//!
//! `cargo bench --bench core` prints processor time, and octets of the file per second of it; who else is busy on the
//! machine does not matter much. `cargo bench --bench core -- --list` names the cases.

mod pipe;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use packetboat::rudp::recv_window::RecvNumbers;
use packetboat::rudp::seal::{Keys, reconstruct};
use packetboat::rudp::{Connection, PACKET_LEN_IPV4, Role};
use packetboat::wire::message::TransferId;
use packetboat::wire::packet::{DATA_OVERHEAD, HEADER_LEN, Header, Kind, TAG_LEN, emit_ack};
use pipe::{BATCH_LEN, FAR, Link, NEAR, Pipe, configs, copy_from, copy_to};
use rustix::time::{ClockId, clock_gettime};

const FILE_LEN: usize = 64 << 20;

/// The processor time of this thread that `times` runs of `work` take.
fn busy_time(times: u64, mut work: impl FnMut()) -> Duration {
    let busy = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).expect("time goes forward");
    let before = busy();
    (0..times).for_each(|_| work());
    busy() - before
}

/// Sender and receiver together.
fn transfer(criterion: &mut Criterion) {
    let (source, mut file, mut spare) = (vec![0x5a; FILE_LEN], vec![1; FILE_LEN], Vec::new());
    let mut group = criterion.benchmark_group("transfer");
    group.throughput(Throughput::Bytes(FILE_LEN as u64)).sample_size(10);
    for (name, link) in [("near", NEAR), ("far", FAR), ("far-lossy", Link { lost_one_in: 100, ..FAR })] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|times| busy_time(times, || run(&source, &mut file, link, &mut spare)))
        });
    }
    group.finish();
}

fn run(source: &[u8], file: &mut [u8], link: Link, spare: &mut Vec<Vec<u8>>) {
    let mut pipe = Pipe::new(source, file, link, spare, Instant::now());
    pipe.run(source.len() as u64);
    assert_eq!(pipe.sender.stats().packets_lost > 0, link.lost_one_in < u64::MAX);
}

/// A peer that is no [`Connection`]: it notes the numbers that came, and acknowledges all of them.
struct Peer {
    keys: Keys,
    numbers: RecvNumbers,
    next_number: u64,
}

impl Peer {
    fn note(&mut self, packet: &[u8]) {
        let header = Header::parse(packet).expect("it was just sent");
        let number = reconstruct(header.number_low, self.numbers.expected());
        self.numbers.on_lowest_tracked(number.saturating_sub(4_096));
        self.numbers.insert(number);
    }

    fn seal(&mut self, kind: Kind, packet: &mut [u8]) {
        let number = self.next_number;
        self.next_number += 1;
        let number_low = u32::try_from(number).expect("a short transfer");
        Header { kind, id: TransferId(7), number_low }.emit(packet);
        self.keys.seal(number, packet);
    }

    fn ack(&mut self, packet: &mut [u8]) -> usize {
        let (first_word, words) = self.numbers.ack_words().expect("something came");
        let len = HEADER_LEN + emit_ack(&mut packet[HEADER_LEN..], 0, u64::MAX, first_word, words) + TAG_LEN;
        self.seal(Kind::Ack, &mut packet[..len]);
        len
    }
}

/// The sender alone; what it hears is one ACK per batch.
fn send(criterion: &mut Criterion) {
    let source = vec![0x5a; FILE_LEN];
    let mut group = criterion.benchmark_group("send");
    group.throughput(Throughput::Bytes(FILE_LEN as u64)).sample_size(10);
    group.bench_function("one-ack-per-batch", |bencher| {
        bencher.iter_custom(|times| busy_time(times, || send_all(&source)))
    });
    group.finish();
}

fn send_all(source: &[u8]) {
    let mut now = Instant::now();
    let (config, peer_config) = configs(source.len() as u64, NEAR);
    let (mut sender, mut peer_end) = (Connection::new(config, now), Connection::new(peer_config, now));
    let mut buffer = vec![0; BATCH_LEN];
    // A real SYN opens; then the peer is only an ear.
    let mut read = |offset, octets: &mut [u8]| copy_from(source, offset, octets);
    let syn = peer_end.poll_transmit(now, &mut buffer, &mut read).expect("a SYN");
    sender.handle_datagram(now, &mut buffer[..syn.len], &mut |_, _| Ok(()));
    let mut peer =
        Peer { keys: Keys::new(&pipe::KEY, Role::Client), numbers: RecvNumbers::default(), next_number: 1 };
    let mut ack = vec![0; 1_200];
    while !sender_is_done(&mut sender, source.len()) {
        now += Duration::from_micros(30);
        sender.handle_timeout(now);
        while let Some(transmit) = sender.poll_transmit(now, &mut buffer, &mut read) {
            buffer[..transmit.len].chunks(transmit.segment_len).for_each(|packet| peer.note(packet));
            now += Duration::from_micros(30);
            let len = peer.ack(&mut ack);
            sender.handle_datagram(now, &mut ack[..len], &mut |_, _| Ok(()));
        }
    }
}

fn sender_is_done(sender: &mut Connection, size: usize) -> bool {
    while sender.poll_event().is_some() {}
    sender.moved_bytes() == size as u64
}

/// The receiver alone, fed with packets sealed beforehand.
fn receive(criterion: &mut Criterion) {
    let mut file = vec![1; FILE_LEN];
    let packets = sealed_packets();
    let mut group = criterion.benchmark_group("receive");
    group.throughput(Throughput::Bytes(FILE_LEN as u64)).sample_size(10);
    group.bench_function("one-ack-per-batch", |bencher| {
        // Opening a packet writes over it, so each run needs its own.
        bencher.iter_custom(|times| {
            (0..times)
                .map(|_| packets.clone())
                .map(|mut packets| busy_time(1, || receive_all(&mut packets, &mut file)))
                .sum()
        });
    });
    group.finish();
}

/// The whole file in DATA packets, each of the full size but the last.
fn sealed_packets() -> Vec<u8> {
    let mut peer =
        Peer { keys: Keys::new(&pipe::KEY, Role::Server), numbers: RecvNumbers::default(), next_number: 0 };
    let payload_len = PACKET_LEN_IPV4 - DATA_OVERHEAD;
    let mut packets = vec![0x5a; FILE_LEN + FILE_LEN.div_ceil(payload_len) * DATA_OVERHEAD];
    for (packet, offset) in packets.chunks_mut(PACKET_LEN_IPV4).zip((0u64..).step_by(payload_len)) {
        let back = u16::try_from(peer.next_number.min(4_096)).expect("small");
        let data = packetboat::wire::packet::Body::Data { back, offset, data: &[] };
        data.emit(&mut packet[HEADER_LEN..]);
        peer.seal(Kind::Data, packet);
    }
    packets
}

fn receive_all(packets: &mut [u8], file: &mut [u8]) {
    let mut now = Instant::now();
    let mut receiver = Connection::new(configs(file.len() as u64, NEAR).1, now);
    let mut buffer = vec![0; BATCH_LEN];
    for batch in packets.chunks_mut(BATCH_LEN) {
        now += Duration::from_micros(30);
        for packet in batch.chunks_mut(PACKET_LEN_IPV4) {
            receiver.handle_datagram(now, packet, &mut |offset, octets| copy_to(file, offset, octets));
        }
        while receiver.poll_transmit(now, &mut buffer, &mut |_, _| Ok(())).is_some() {}
    }
    assert_eq!(receiver.moved_bytes(), file.len() as u64);
}

/// The cipher alone, on one packet that stays in the cache.
fn seal(criterion: &mut Criterion) {
    let mut keys = Keys::new(&pipe::KEY, Role::Server);
    let mut packet = vec![0x5a; PACKET_LEN_IPV4];
    let mut group = criterion.benchmark_group("cipher");
    group.throughput(Throughput::Bytes(PACKET_LEN_IPV4 as u64));
    group.bench_function("seal", |bencher| {
        bencher.iter_custom(|times| busy_time(times, || keys.seal(1, black_box(&mut packet))))
    });
    keys.seal(1, &mut packet);
    let mut copy = packet.clone();
    group.bench_function("copy-and-open", |bencher| {
        bencher.iter_custom(|times| {
            busy_time(times, || {
                copy.copy_from_slice(black_box(&packet));
                black_box(keys.open(1, &mut copy).expect("sealed under this number"));
            })
        });
    });
    group.finish();
}

criterion_group!(benches, transfer, send, receive, seal);
criterion_main!(benches);
