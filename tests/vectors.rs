//! The test vectors of `docs/PROTOCOL.md`: whoever writes another client checks its packets against them.

use packetboat::rudp::seal::{Keys, Role};
use packetboat::wire::message::TransferId;
use packetboat::wire::packet::{Body, HEADER_LEN, Header, Kind, Reason, Setup, TAG_LEN, emit_ack};

/// The secret of the vectors: 00 01 02 ... 1f.
fn secret() -> [u8; 32] {
    std::array::from_fn(|i| u8::try_from(i).expect("below 32"))
}

const ID: TransferId = TransferId(0x0102_0304);

struct Vector {
    name: &'static str,
    sealer: Role,
    number: u64,
    kind: Kind,
    body: Vec<u8>,
}

fn body(body: &Body<'_>, data: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 64];
    let len = body.emit(&mut out);
    out.truncate(len);
    out.extend_from_slice(data);
    out
}

fn vectors() -> Vec<Vector> {
    let setup = |credit| Setup {
        arq: 3,
        controller: 4,
        controller_arg: 0,
        packet_len: 1_472,
        burst_len: 212_992,
        credit,
    };
    let mut ack = vec![0; 64];
    let len = emit_ack(&mut ack, 25, 8_388_608, 0, [0b1011_u64].into_iter());
    ack.truncate(len);
    let (client, server) = (Role::Client, Role::Server);
    let syn_ack = Body::SynAck { echo: 0, setup: setup(0) };
    let data = Body::Data { back: 2, offset: 1_439, data: &[] };
    vec![
        Vector {
            name: "SYN",
            sealer: client,
            number: 0,
            kind: Kind::Syn,
            body: body(&Body::Syn(setup(8_388_608)), b""),
        },
        Vector { name: "SYN-ACK", sealer: server, number: 0, kind: Kind::SynAck, body: body(&syn_ack, b"") },
        Vector { name: "ACK", sealer: client, number: 1, kind: Kind::Ack, body: ack },
        Vector {
            name: "DATA",
            sealer: server,
            number: 3,
            kind: Kind::Data,
            body: body(&data, b"packetboat"),
        },
        Vector {
            name: "DATA",
            sealer: server,
            number: 1 << 22,
            kind: Kind::Data,
            body: body(&data, b"packetboat"),
        },
        Vector {
            name: "FIN",
            sealer: server,
            number: 4,
            kind: Kind::Fin,
            body: body(&Body::Fin { back: 0, size: 1_449 }, b""),
        },
        Vector {
            name: "PING",
            sealer: client,
            number: 2,
            kind: Kind::Ping,
            body: body(&Body::Ping { back: 0 }, b""),
        },
        Vector {
            name: "RST",
            sealer: client,
            number: 3,
            kind: Kind::Rst,
            body: body(&Body::Rst { reason: Reason::Cancelled }, b""),
        },
        Vector { name: "PROBE", sealer: client, number: 5, kind: Kind::Probe, body: vec![0; 4] },
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As the page shows it: what is sealed, then the datagram.
fn show(vector: &Vector) -> String {
    let number_low = u32::try_from(vector.number & 0xffff_ffff).expect("32 bits");
    let mut packet = vec![0; HEADER_LEN];
    Header { kind: vector.kind, id: ID, number_low }.emit(&mut packet);
    packet.extend_from_slice(&vector.body);
    packet.extend_from_slice(&[0; TAG_LEN]);
    Keys::new(&secret(), vector.sealer).seal(vector.number, &mut packet);
    let by = if vector.sealer == Role::Client { "client" } else { "server" };
    format!(
        "{} by the {by}, number {}\n  body   {}\n  packet {}\n",
        vector.name,
        vector.number,
        hex(&vector.body),
        hex(&packet)
    )
}

#[test]
fn the_vectors_of_the_page_are_what_the_program_sends() {
    let shown: String = vectors().iter().map(show).collect();
    println!("{shown}");
    let page = include_str!("../docs/PROTOCOL.md");
    let block =
        page.split("<!-- test vectors -->").nth(1).expect("the page has the vectors between its marks");
    let block: String = block
        .lines()
        .filter(|line| !line.starts_with("```") && !line.is_empty())
        .flat_map(|line| [line, "\n"])
        .collect();
    assert_eq!(block, shown);
}

#[test]
fn the_vectors_open_to_their_bodies() {
    for vector in vectors() {
        let text = show(&vector);
        let packet = text.trim_end().rsplit(' ').next().expect("the packet comes last");
        let mut packet: Vec<u8> = (0..packet.len() / 2)
            .map(|i| u8::from_str_radix(&packet[2 * i..2 * i + 2], 16).expect("hex"))
            .collect();
        let opened = Keys::new(&secret(), vector.sealer).open(vector.number, &mut packet).map(<[u8]>::to_vec);
        assert_eq!(opened.as_deref(), Some(&vector.body[..]), "{}", vector.name);
        // A probe is no packet of a connection, so it has no body that one reads.
        let is_read = Body::parse(vector.kind, &vector.body).is_ok();
        assert_eq!(is_read, vector.kind != Kind::Probe, "{}", vector.name);
    }
}
