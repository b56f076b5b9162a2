//! F4: two connections under a script of time, loss, disorder, noise, and packets forged with the right key.

use std::time::Duration;

use packetboat::rudp::congestion::ControllerKind;
use packetboat::rudp::seal::Keys;
use packetboat::rudp::{
    ArqScheme, Config, ConnectionError, Direction, PACKET_LEN_IPV4, PACKET_LEN_IPV6, PACKET_LEN_MIN, Receipt,
    Role,
};
use packetboat::wire::message::{Secret, TransferId};
use packetboat::wire::packet::{
    Body, DATA_OVERHEAD, HEADER_LEN, Header, Kind, Reason, Setup, TAG_LEN, emit_ack,
};

use super::bytes::Bytes;
use super::world::{Flying, World, octet};

/// Ours: a longer script is slow, and shows nothing that a short one does not.
const STEPS_MAX: usize = 300;

/// Who has met nothing worse than a bad link for this time still gets the file: all timers that give up are longer.
const PATIENCE: Duration = Duration::from_secs(20);

const KEY: [u8; 32] = [9; 32];

/// See the [module](self). The first octets say who sends what by which rules.
pub(crate) fn f4_connection(data: &[u8]) {
    let mut script = Bytes(data);
    let (client, server) = configs(&mut script);
    let mut world = World::new(client, server);
    let mut is_honest = true;
    for _ in 0..STEPS_MAX {
        if script.is_empty() {
            break;
        }
        is_honest &= step(&mut world, &mut script);
    }
    for role in [Role::Client, Role::Server] {
        world.end(role).connection.grant(u64::MAX);
    }
    world.drain();
    let patience_lasts = world.elapsed() < PATIENCE;
    world.finish();
    if is_honest && patience_lasts {
        let ends = (&world.client.closed, &world.server.closed);
        assert_eq!(ends, (&Some(Ok(())), &Some(Ok(()))), "an honest transfer over a bad link");
    }
}

/// The first octets of a script: both ends' sides of the offer.
pub(crate) fn configs(script: &mut Bytes<'_>) -> (Config, Config) {
    let (rules, shape) = (script.u8(), script.u8());
    let size = u64::from(script.u16()) << (shape % 3);
    let controllers = [
        ControllerKind::Bbr,
        ControllerKind::Cubic,
        ControllerKind::Aimd,
        ControllerKind::Fixed(u16::from(shape >> 3) + 1),
    ];
    let (client_way, server_way) = match rules & 1 {
        0 => (Direction::Receive, Direction::Send),
        _ => (Direction::Send, Direction::Receive),
    };
    let client = Config {
        role: Role::Client,
        direction: client_way,
        id: TransferId(7),
        key: Secret(KEY),
        size,
        start: 0,
        packet_len_max: [PACKET_LEN_MIN, PACKET_LEN_IPV6, PACKET_LEN_IPV4, 1_300][usize::from(shape >> 6)],
        window_bytes: [2_048, 16_384, 262_144, 8 << 20][usize::from(rules >> 5 & 3)],
        burst_len: [65_536, 4 << 20][usize::from(rules >> 7)],
        rtt_guess: Duration::from_millis(u64::from(shape >> 2 & 7) * 20),
        open_max: Duration::from_secs(60),
        arq: Some(ArqScheme::ALL[usize::from(rules >> 1 & 3) % 3]),
        controller: Some(controllers[usize::from(rules >> 3 & 3)]),
        granted: if shape & 32 == 0 { u64::MAX } else { size / 2 },
        seed: size ^ u64::from(rules),
    };
    let server = Config {
        role: Role::Server,
        direction: server_way,
        packet_len_max: PACKET_LEN_IPV4,
        open_max: Duration::from_secs(75),
        seed: !client.seed,
        ..client.clone()
    };
    (client, server)
}

/// One step of the script; `false` when it was more than a bad link can do.
fn step(world: &mut World, script: &mut Bytes<'_>) -> bool {
    let (op, argument) = (script.u8(), script.u8());
    let place = usize::from(argument) % world.link.len().max(1);
    match op % 16 {
        0..=2 if !world.link.is_empty() => {
            let oldest = world.link.remove(0);
            world.deliver(oldest, false);
        }
        3 if !world.link.is_empty() => {
            let late = world.link.remove(place);
            world.deliver(late, false);
        }
        4 if !world.link.is_empty() => _ = world.link.remove(place),
        5 if !world.link.is_empty() => {
            let copy = world.link[place].clone();
            world.link.push(copy);
        }
        6 if !world.link.is_empty() => {
            let mut noisy = world.link[place].clone();
            let bit = usize::from(script.u16()) % (noisy.octets.len() * 8);
            noisy.octets[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(world.deliver(noisy, false), Receipt::Refused, "bit {bit} was flipped");
        }
        7 => world.link.truncate(place),
        8 => _ = world.advance_to_timer(),
        9 => world.advance(Duration::from_micros(u64::from(argument) << (op >> 4))),
        10 | 11 => {
            world.advance(Duration::from_micros(u64::from(argument) * 100));
            for flying in std::mem::take(&mut world.link) {
                world.deliver(flying, false);
            }
        }
        12 => {
            let flying = Flying { to: role(op), octets: script.take(argument.into()).to_vec() };
            assert_eq!(world.deliver(flying, false), Receipt::Refused, "nobody sealed it");
        }
        13 if argument >= 250 => {
            let error = if argument > 252 { ConnectionError::File } else { ConnectionError::Cancelled };
            world.end(role(op)).connection.abort(error);
            world.drain();
            return false;
        }
        13 => {
            world.end(role(op)).connection.grant(u64::from(argument) << (op >> 4));
            world.drain();
        }
        14 | 15 => {
            let forged = forge(world, script, role(op), argument);
            world.deliver(forged, true);
            return false;
        }
        _ => {}
    }
    true
}

fn role(op: u8) -> Role {
    if op & 32 == 0 { Role::Client } else { Role::Server }
}

/// A packet to `to` that is sealed with its peer's key, under a number near or far from the peer's own.
fn forge(world: &mut World, script: &mut Bytes<'_>, to: Role, argument: u8) -> Flying {
    let peers_next = world.end(to.peer()).next_number();
    let distance = u64::from(script.u8());
    let number = match argument & 3 {
        0 | 1 => peers_next + distance,
        2 => peers_next.saturating_sub(distance),
        _ => peers_next + (distance << (argument >> 2 & 31)),
    };
    let mut octets = vec![0; HEADER_LEN];
    let kind = forge_body(world, script, to, &mut octets);
    octets.extend([0; TAG_LEN]);
    let [.., a, b, c, d] = number.to_be_bytes();
    Header { kind, id: TransferId(7), number_low: u32::from_be_bytes([a, b, c, d]) }.emit(&mut octets);
    Keys::new(&KEY, to.peer()).seal(number, &mut octets);
    Flying { to, octets }
}

/// Appends a body: any octets, or one that is likely to mean something.
fn forge_body(world: &mut World, script: &mut Bytes<'_>, to: Role, packet: &mut Vec<u8>) -> Kind {
    let (choice, back) = (script.u8(), u16::from(script.u8()));
    let size = world.end(to).config.size;
    let mut put = |body: Body<'_>| {
        let mut out = [0; 64];
        let len = body.emit(&mut out);
        packet.extend(&out[..len]);
    };
    match choice % 9 {
        0 => {
            packet.extend(script.take(back.into()));
            [Kind::Syn, Kind::SynAck, Kind::Ack, Kind::Data, Kind::Fin, Kind::Ping, Kind::Rst]
                [usize::from(choice >> 3) % 7]
        }
        1 | 2 => {
            let offset = u64::from(script.u32()) % (size + size / 8 + 1);
            let len = usize::from(script.u16()) % (PACKET_LEN_IPV4 - DATA_OVERHEAD);
            put(Body::Data { back, offset, data: &[] });
            // Wrong octets, or the right ones.
            packet.extend((offset..).take(len).map(|at| octet(at) ^ u8::from(choice & 128 != 0)));
            Kind::Data
        }
        3 | 4 => {
            forge_ack(world, script, to, packet);
            Kind::Ack
        }
        5 => {
            put(Body::Fin {
                back,
                size: if choice & 128 == 0 { size * u64::from(choice >> 6 & 1) } else { script.u64() },
            });
            Kind::Fin
        }
        6 => {
            put(Body::Ping { back: script.u16() });
            Kind::Ping
        }
        7 => {
            let setup = Setup {
                arq: script.u8() % 5,
                controller: script.u8() % 6,
                controller_arg: script.u16(),
                packet_len: script.u16(),
                burst_len: script.u32(),
                credit: script.u64(),
            };
            let is_answer = choice & 128 == 0;
            put(if is_answer { Body::SynAck { echo: back.into(), setup } } else { Body::Syn(setup) });
            packet.resize(packet.len() + usize::from(script.u16() % 1_400), 0);
            if is_answer { Kind::SynAck } else { Kind::Syn }
        }
        _ => {
            put(Body::Rst {
                reason: [Reason::Cancelled, Reason::File, Reason::Protocol][usize::from(choice >> 5) % 3],
            });
            Kind::Rst
        }
    }
}

/// An ACK near what was sent last: of any numbers, or only of those that were sent.
fn forge_ack(world: &mut World, script: &mut Bytes<'_>, to: Role, packet: &mut Vec<u8>) {
    let numbers = &world.end(to).numbers;
    let shape = script.u8();
    let first_word = numbers.last().map_or(0, |last| last / 64).saturating_sub(u64::from(shape >> 4));
    let is_true = shape & 8 == 0;
    let words: Vec<u64> = (first_word..=first_word + u64::from(shape & 7))
        .map(|word| {
            let sent = (0..64)
                .filter(|bit| numbers.contains(&(word * 64 + bit)))
                .fold(0, |bits, bit| bits | 1 << bit);
            if is_true { script.u64() & sent } else { script.u64() }
        })
        .collect();
    let mut out = [0; 16 + 8 * 8];
    let first_word = u32::try_from(first_word).expect("few packets");
    let (delay_us, credit) = (script.u32(), u64::from(script.u32()));
    let len = emit_ack(&mut out, delay_us, credit, first_word, words.into_iter());
    packet.extend(&out[..len]);
}
