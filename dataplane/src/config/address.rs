//! Addresses, ranges and `host:port` texts, as kube-proxy reads them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;

/// An IP address. Decimal octets may have leading zeros, as in all of Kubernetes' older fields.
pub(super) fn parse_ip(text: &str) -> Option<IpAddr> {
    text.parse().ok().or_else(|| lenient_ipv4(text).map(IpAddr::V4))
}

fn lenient_ipv4(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0_u8; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next()?;
        let is_decimal = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        *octet = part.parse().ok().filter(|_| is_decimal)?;
    }
    parts.next().is_none().then(|| Ipv4Addr::from(octets))
}

/// A range, its host bits cleared.
pub(super) fn parse_cidr(text: &str) -> Option<IpNet> {
    let (address, length) = text.split_once('/')?;
    let is_decimal = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    let length = length.parse().ok().filter(|_| is_decimal)?;
    IpNet::new(parse_ip(address)?, length).ok().map(|range| range.trunc())
}

/// `text` with `port` if it is a bare IP address, and as it is otherwise (validation will say what is wrong with it).
pub(super) fn with_port(text: &str, port: u16) -> String {
    let bare = text.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(text);
    match parse_ip(bare) {
        Some(address) => SocketAddr::new(address, port).to_string(),
        None => text.to_owned(),
    }
}

/// The address and port of `IP:PORT` or `[IP]:PORT`, or what is wrong with each part.
pub(super) fn parse_host_port(text: &str) -> Result<SocketAddr, Vec<&'static str>> {
    let Some((host, port)) = split_host_port(text) else { return Err(vec!["must be IP:port"]) };
    let (address, port) = (parse_ip(host), port.parse::<u16>().ok().filter(|port| *port > 0));
    if let (Some(address), Some(port)) = (address, port) {
        return Ok(SocketAddr::new(address, port));
    }
    let mut problems = Vec::new();
    if address.is_none() {
        problems.push("must have a valid IP");
    }
    if port.is_none() {
        problems.push("must have a valid port, 1 to 65535");
    }
    Err(problems)
}

/// Splits at the last colon; a host with colons of its own needs brackets.
fn split_host_port(text: &str) -> Option<(&str, &str)> {
    let (host, port) = text.rsplit_once(':')?;
    match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').map(|inner| (inner, port)),
        None if host.contains(':') => None,
        None => Some((host, port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_may_have_leading_zeros() {
        assert_eq!(parse_ip("010.000.0.09"), Some("10.0.0.9".parse().unwrap()));
        for text in ["10.0.0", "10.0.0.0.0", "10.0.0.256", "10.0.0.+1", "10..0.1", "", "a.b.c.d"] {
            assert_eq!(parse_ip(text), None, "{text}");
        }
    }

    #[test]
    fn ranges_lose_their_host_bits() {
        assert_eq!(parse_cidr("10.1.2.3/8"), Some("10.0.0.0/8".parse().unwrap()));
        assert_eq!(parse_cidr("fd00::1/64"), Some("fd00::/64".parse().unwrap()));
        for text in ["10.0.0.0", "10.0.0.0/33", "fd00::/129", "10.0.0.0/+8", "10.0.0.0/", "/8"] {
            assert_eq!(parse_cidr(text), None, "{text}");
        }
    }

    #[test]
    fn a_port_is_added_only_to_bare_addresses() {
        assert_eq!(with_port("1.2.3.4", 5), "1.2.3.4:5");
        assert_eq!(with_port("fd00::1", 5), "[fd00::1]:5");
        assert_eq!(with_port("[fd00::1]", 5), "[fd00::1]:5");
        for text in ["1.2.3.4:9", "[fd00::1]:9", "localhost", ""] {
            assert_eq!(with_port(text, 5), text);
        }
    }

    #[test]
    fn each_wrong_part_of_a_host_and_port_is_named() {
        assert_eq!(parse_host_port("1.2.3.4:9"), Ok("1.2.3.4:9".parse().unwrap()));
        assert_eq!(parse_host_port("[::1]:9"), Ok("[::1]:9".parse().unwrap()));
        for text in ["1.2.3.4", "::1:9:", "fd00::1:9", "[::1]", ""] {
            assert_eq!(parse_host_port(text), Err(vec!["must be IP:port"]), "{text}");
        }
        let (ip, port) = ("must have a valid IP", "must have a valid port, 1 to 65535");
        assert_eq!(parse_host_port("localhost:9"), Err(vec![ip]));
        assert_eq!(parse_host_port("1.2.3.4:0"), Err(vec![port]));
        assert_eq!(parse_host_port(":http"), Err(vec![ip, port]));
    }
}
