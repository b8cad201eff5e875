//! Addresses and ranges as Kubernetes has always taken them.
//!
//! Objects that were stored years ago may hold IPv4 numbers with leading zeros (`172.030.099.011`). kube-proxy reads
//! them as decimal, never octal, and so must we: a stricter reading would take a working Service away.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Parses an address; leading zeros are allowed in IPv4 parts, and an IPv4-mapped IPv6 address is the IPv4 address.
pub fn parse_ip(text: &str) -> Option<IpAddr> {
    if text.contains(':') {
        parse_v6(text).map(|address| IpAddr::V6(address).to_canonical())
    } else {
        parse_v4(text).map(IpAddr::V4)
    }
}

/// Parses a range in CIDR form, with the same tolerance; bits beyond the prefix are cleared.
pub fn parse_cidr(text: &str) -> Option<IpNet> {
    let (address, length) = text.split_once('/')?;
    let length: u8 = parse_decimal(length)?;
    let net = if address.contains(':') {
        let address = parse_v6(address)?;
        match (address.to_ipv4_mapped(), length.checked_sub(96)) {
            (Some(mapped), Some(length)) => IpNet::new(mapped.into(), length),
            _ => IpNet::new(address.into(), length),
        }
    } else {
        IpNet::new(parse_v4(address)?.into(), length)
    };
    net.ok().map(|net| net.trunc())
}

fn parse_v4(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        *octet = parse_decimal(parts.next()?)?;
    }
    parts.next().is_none().then(|| octets.into())
}

fn parse_v6(text: &str) -> Option<Ipv6Addr> {
    match text.rsplit_once(':') {
        Some((head, tail)) if tail.contains('.') => format!("{head}:{}", parse_v4(tail)?).parse().ok(),
        _ => text.parse().ok(),
    }
}

/// Digits only (no sign), any number of leading zeros.
fn parse_decimal(text: &str) -> Option<u8> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = text.trim_start_matches('0');
    if digits.is_empty() { Some(0) } else { digits.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_kube_proxy_reads_them() {
        let cases = [
            ("172.30.0.41", Some("172.30.0.41")),
            ("172.030.099.011", Some("172.30.99.11")),
            ("10.180.00.001", Some("10.180.0.1")),
            ("fd00:10::1", Some("fd00:10::1")),
            ("::ffff:192.168.010.001", Some("192.168.10.1")),
            ("64:ff9b::010.0.0.1", Some("64:ff9b::a00:1")),
            ("", None),
            ("None", None),
            ("256.0.0.1", None),
            ("1.2.3", None),
            ("1.2.3.4.5", None),
            ("1.2.3.+4", None),
            ("1.2..4", None),
            ("fe80::1%eth0", None),
            (" 10.0.0.1", None),
        ];
        for (text, wanted) in cases {
            assert_eq!(parse_ip(text), wanted.map(|ip| ip.parse().unwrap()), "{text:?}");
        }
    }

    #[test]
    fn ranges_are_read_as_kube_proxy_reads_them() {
        let cases = [
            ("203.0.113.000/025", Some("203.0.113.0/25")),
            ("10.1.2.3/8", Some("10.0.0.0/8")),
            ("0.0.0.0/0", Some("0.0.0.0/0")),
            ("2001:db8::1/32", Some("2001:db8::/32")),
            ("::ffff:10.1.2.3/120", Some("10.1.2.0/24")),
            ("10.0.0.0/33", None),
            ("10.0.0.0/-1", None),
            ("10.0.0.0", None),
            ("10.0.0.0/", None),
        ];
        for (text, wanted) in cases {
            assert_eq!(parse_cidr(text), wanted.map(|net| net.parse().unwrap()), "{text:?}");
        }
    }
}
