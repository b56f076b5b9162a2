//! Where the server is, as a person writes it: `HOST`, `HOST:PORT`, `[::1]:55000`, `::1`, `chat://alice@HOST:PORT`.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// The variable of the environment that names the server where the command line does not.
pub const SERVER_VARIABLE: &str = "PACKETBOAT_SERVER";

/// Where a server listens unless told otherwise.
pub const PORT_DEFAULT: u16 = 55_000;

/// A server's host and port, and the nick where the address brings one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// A name, an IPv4 address, or an IPv6 address without its brackets.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
    /// `alice` of `chat://alice@host`.
    pub nick: Option<String>,
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        let url = text.strip_prefix("chat://");
        let (nick, rest) = match url.unwrap_or(text).split_once('@') {
            Some((nick, rest)) if url.is_some() && !nick.is_empty() => (Some(nick.to_owned()), rest),
            Some(_) => return Err("a nick before the host is written chat://NICK@HOST".into()),
            None => (None, url.unwrap_or(text)),
        };
        let rest = if url.is_some() { rest.strip_suffix('/').unwrap_or(rest) } else { rest };
        let (host, port) = split_port(rest)?;
        let host_like = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
        if host.is_empty() || !host.chars().all(host_like) {
            return Err("this is not a host: write HOST, HOST:PORT or [IPV6]:PORT".into());
        }
        let port = match port {
            Some(port) => port.parse().ok().filter(|&port| port != 0).ok_or("a port is 1 to 65535")?,
            None => PORT_DEFAULT,
        };
        Ok(Address { host: host.into(), port, nick })
    }
}

/// Splits `HOST[:PORT]`; a colon within an IPv6 address is none before a port.
fn split_port(text: &str) -> Result<(&str, Option<&str>), String> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or("the ] after the IPv6 address is missing")?;
        return match after.strip_prefix(':') {
            _ if !is_ipv6(host) => Err("between [ and ] stands an IPv6 address".into()),
            Some(port) => Ok((host, Some(port))),
            None if after.is_empty() => Ok((host, None)),
            None => Err("after ] comes :PORT or nothing".into()),
        };
    }
    if is_ipv6(text) {
        return Ok((text, None));
    }
    match text.split_once(':') {
        Some((_, port)) if port.contains(':') => Err("this is no IPv6 address; write [IPV6]:PORT".into()),
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((text, None)),
    }
}

/// An IPv6 address, with a zone (`fe80::1%eth0`) or without.
fn is_ipv6(text: &str) -> bool {
    text.split('%').next().unwrap_or(text).parse::<Ipv6Addr>().is_ok()
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        for (text, host, port, nick) in [
            ("127.0.0.1", "127.0.0.1", 55_000, None),
            ("localhost:7", "localhost", 7, None),
            ("::1", "::1", 55_000, None),
            ("[::1]", "::1", 55_000, None),
            ("[::1]:56000", "::1", 56_000, None),
            ("fe80::1%eth0", "fe80::1%eth0", 55_000, None),
            ("chat://alice@host:55001", "host", 55_001, Some("alice")),
            ("chat://host/", "host", 55_000, None),
            ("chat://alice@[::1]:5", "::1", 5, Some("alice")),
        ] {
            let expected = Address { host: host.into(), port, nick: nick.map(str::to_owned) };
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for bad in [
            "",
            ":1",
            "host:",
            "host:0",
            "host:65536",
            "host:x",
            "[::1",
            "[host]:1",
            "[::1]x",
            "a:b:c",
            "a b",
            "a@b",
            "chat://@host",
            "http://host",
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad:?}");
        }
        assert_eq!("[::1]:5".parse::<Address>().expect("an address").to_string(), "[::1]:5");
    }
}
