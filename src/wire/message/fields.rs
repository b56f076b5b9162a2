//! The fields of the lines that have many.

use super::{
    Accept, ClientMessage, Done, FileEntry, Offer, PING_LEN_MAX, PREFIX_LEN, Prefix, Probe, Secret,
    TransferId, Transport,
};
use crate::wire::name::FileName;
use crate::wire::{ErrorCode, WireError, text};

/// A number as the protocol writes it: decimal digits alone, no sign, no leading zero.
pub(super) fn parse_number(field: &str) -> Option<u64> {
    let plain = field.bytes().all(|b| b.is_ascii_digit()) && (field == "0" || !field.starts_with('0'));
    if plain { field.parse().ok() } else { None }
}

pub(super) fn to_count(number: u64) -> Result<usize, WireError> {
    usize::try_from(number).map_err(|_| WireError::BadField("a count"))
}

pub(super) fn parse_transport(field: &str) -> Result<Transport, WireError> {
    match field {
        "udp" => Ok(Transport::Udp),
        "tcp" => Ok(Transport::Tcp),
        _ => Err(WireError::BadField("udp or tcp")),
    }
}

pub(super) fn parse_id(field: &str) -> Result<TransferId, WireError> {
    let number = parse_number(field).and_then(|number| u32::try_from(number).ok());
    number.map(TransferId).ok_or(WireError::BadField("the number of a transfer"))
}

pub(super) fn parse_digest(field: &str) -> Result<blake3::Hash, WireError> {
    blake3::Hash::from_hex(field).map_err(|_| WireError::BadField("a digest is 64 hex digits"))
}

/// Secrets have the length and spelling of a digest.
pub(super) fn parse_secret(field: &str) -> Result<Secret, WireError> {
    let hash = blake3::Hash::from_hex(field).map_err(|_| WireError::BadField("a token is 64 hex digits"))?;
    Ok(Secret(hash.into()))
}

pub(super) fn emit_secret(secret: &Secret) -> String {
    blake3::Hash::from_bytes(secret.0).to_hex().to_string()
}

pub(super) fn ping_text(payload: &str) -> Result<String, WireError> {
    if payload.len() > PING_LEN_MAX {
        return Err(WireError::PingTooLong);
    }
    text::unescape(payload)
}

pub(super) fn parse_entry(payload: &str) -> Result<FileEntry, WireError> {
    let mut fields = payload.splitn(3, ' ');
    let mut next = || fields.next().ok_or(WireError::BadField("FILE_<size> <mtime> <name>"));
    Ok(FileEntry {
        size: parse_number(next()?).ok_or(WireError::BadField("a size"))?,
        mtime: next()?.parse().map_err(|_| WireError::BadField("a time"))?,
        name: FileName::parse(next()?)?,
    })
}

pub(super) fn parse_offer(payload: &str) -> Result<Offer, WireError> {
    let mut fields = payload.splitn(8, ' ');
    let mut next = || fields.next().ok_or(WireError::BadField("an OFFER has eight"));
    let id = parse_id(next()?)?;
    let transport = parse_transport(next()?)?;
    let port = next()?.parse().map_err(|_| WireError::BadField("a port"))?;
    let secret = parse_secret(next()?)?;
    let size = parse_number(next()?).ok_or(WireError::BadField("a size"))?;
    let mtime = next()?.parse().map_err(|_| WireError::BadField("a time"))?;
    let digest = match next()? {
        "-" => None,
        hex => Some(parse_digest(hex)?),
    };
    let name = FileName::parse(next()?)?;
    Ok(Offer { id, transport, port, secret, file: FileEntry { size, mtime, name }, digest })
}

pub(super) fn emit_offer(offer: &Offer) -> String {
    let digest = offer.digest.map_or_else(|| "-".into(), |digest| digest.to_hex().to_string());
    let FileEntry { size, mtime, name } = &offer.file;
    let secret = emit_secret(&offer.secret);
    format!("OFFER_{} {} {} {secret} {size} {mtime} {digest} {name}", offer.id, offer.transport, offer.port)
}

pub(super) fn parse_prefix(offset: &str, digest: &str) -> Result<Prefix, WireError> {
    let offset = parse_number(offset).filter(|&offset| offset > 0 && offset % PREFIX_LEN == 0);
    let offset = offset.ok_or(WireError::BadField("an offset is a multiple of 1048576"))?;
    Ok(Prefix { offset, digest: parse_digest(digest)? })
}

pub(super) fn parse_resume(payload: &str) -> Result<ClientMessage, WireError> {
    let fields: Vec<&str> = payload.splitn(4, ' ').collect();
    let [transport, offset, digest, name] = fields[..] else {
        return Err(WireError::BadField("RESUME_<udp|tcp> <offset> <digest> <name>"));
    };
    let prefix = parse_prefix(offset, digest)?;
    Ok(ClientMessage::Resume(parse_transport(transport)?, prefix, FileName::parse(name)?))
}

pub(super) fn parse_put(payload: &str) -> Result<ClientMessage, WireError> {
    let fields: Vec<&str> = payload.splitn(4, ' ').collect();
    let [transport, size, token, name] = fields[..] else {
        return Err(WireError::BadField("PUT_<udp|tcp> <size> <resume token or -> <name>"));
    };
    Ok(ClientMessage::Put {
        transport: parse_transport(transport)?,
        size: parse_number(size).ok_or(WireError::BadField("a size"))?,
        resume_token: if token == "-" { None } else { Some(parse_secret(token)?) },
        name: FileName::parse(name)?,
    })
}

pub(super) fn parse_accept(payload: &str) -> Result<Accept, WireError> {
    let mut fields = payload.splitn(8, ' ');
    let mut next = || fields.next().ok_or(WireError::BadField("an ACCEPT has eight"));
    Ok(Accept {
        id: parse_id(next()?)?,
        transport: parse_transport(next()?)?,
        port: next()?.parse().map_err(|_| WireError::BadField("a port"))?,
        secret: parse_secret(next()?)?,
        prefix: match (next()?, next()?) {
            ("0", "-") => None,
            (offset, digest) => Some(parse_prefix(offset, digest)?),
        },
        resume_token: parse_secret(next()?)?,
        name: FileName::parse(next()?)?,
    })
}

pub(super) fn emit_accept(accept: &Accept) -> String {
    let Accept { id, transport, port, name, .. } = accept;
    let (secret, token) = (emit_secret(&accept.secret), emit_secret(&accept.resume_token));
    let prefix = accept.prefix.map_or("0 -".into(), |prefix| format!("{} {}", prefix.offset, prefix.digest));
    format!("ACCEPT_{id} {transport} {port} {secret} {prefix} {token} {name}")
}

pub(super) fn parse_probe(payload: &str) -> Result<Probe, WireError> {
    let fields: Vec<&str> = payload.split(' ').collect();
    let [id, port, secret, time] = fields[..] else {
        return Err(WireError::BadField("PROBE_<id> <port> <secret> <time>"));
    };
    Ok(Probe {
        id: parse_id(id)?,
        port: port.parse().map_err(|_| WireError::BadField("a port"))?,
        secret: parse_secret(secret)?,
        time: time.parse().map_err(|_| WireError::BadField("a time"))?,
    })
}

pub(super) fn emit_probe(probe: &Probe) -> String {
    format!("PROBE_{} {} {} {}", probe.id, probe.port, emit_secret(&probe.secret), probe.time)
}

pub(super) fn parse_probed(payload: &str) -> Result<(TransferId, u32), WireError> {
    let (id, packets) = payload.split_once(' ').ok_or(WireError::BadField("PROBED_<id> <packets>"))?;
    let packets = parse_number(packets).and_then(|number| u32::try_from(number).ok());
    Ok((parse_id(id)?, packets.ok_or(WireError::BadField("a count of packets"))?))
}

pub(super) fn parse_done(payload: &str) -> Result<(TransferId, Done), WireError> {
    let fields: Vec<&str> = payload.split(' ').collect();
    match fields[..] {
        [id, "ok"] => Ok((parse_id(id)?, Done::Kept)),
        [id, word] => {
            let code = ErrorCode::parse(word).ok_or(WireError::BadField("ok, or why not"))?;
            Ok((parse_id(id)?, Done::Failed(code)))
        }
        [id, size, digest] => {
            let size = parse_number(size).ok_or(WireError::BadField("a size"))?;
            Ok((parse_id(id)?, Done::Sent { size, digest: parse_digest(digest)? }))
        }
        _ => Err(WireError::BadField("DONE_<id> ok, DONE_<id> <size> <digest> or DONE_<id> <code>")),
    }
}

pub(super) fn emit_done(id: TransferId, done: &Done) -> String {
    match done {
        Done::Sent { size, digest } => format!("DONE_{id} {size} {digest}"),
        Done::Kept => format!("DONE_{id} ok"),
        Done::Failed(code) => format!("DONE_{id} {code}"),
    }
}
