//! API objects -> `domain` types, with kube-proxy's reading of every field.
//!
//! Pure. A field that cannot be used becomes a [`Problem`] that names the object and the field; the rest of the
//! object is used. Fields that the API server would have defaulted get the same defaults here, so that hand-written
//! manifests mean what they mean in a cluster.

pub mod address;
mod names;
mod node;
mod pod;
mod service;
mod service_cidr;
mod slice;

use std::net::IpAddr;

use ipnet::IpNet;

use super::wire::{Meta, Text};
use crate::domain::{ObjectKind, Problem, Protocol};

pub use names::Names;
pub use node::node;
pub use pod::pod;
pub use service::service;
pub use service_cidr::service_cidr;
pub use slice::{SliceUse, endpoint_slice};

/// What an object comes down to, and what was wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Converted<T> {
    /// The usable part.
    pub value: T,
    /// The unusable parts.
    pub problems: Vec<Problem>,
}

/// Collects the problems of one object.
struct Problems {
    kind: ObjectKind,
    object: String,
    list: Vec<Problem>,
}

impl Problems {
    fn of(kind: ObjectKind, meta: &Meta<'_>) -> Self {
        Self { kind, object: meta.display_name(), list: Vec::new() }
    }

    fn report(&mut self, field: impl Into<String>, reason: impl Into<String>) {
        self.list.push(Problem {
            kind: self.kind,
            object: self.object.clone(),
            field: field.into(),
            reason: reason.into(),
        });
    }

    /// Parses the address at `field`.
    fn ip(&mut self, field: impl FnOnce() -> String, text: &str) -> Option<IpAddr> {
        let address = address::parse_ip(text);
        if address.is_none() {
            self.report(field(), format!("{text:?} is not an IP address"));
        }
        address
    }

    /// Parses the ranges in the list at `field`, without the white space around them.
    fn cidrs<'t>(&mut self, field: &str, texts: impl Iterator<Item = &'t str>) -> Vec<IpNet> {
        let mut ranges = Vec::new();
        for (index, text) in texts.enumerate() {
            match address::parse_cidr(text.trim()) {
                Some(range) => ranges.push(range),
                None => self.report(format!("{field}[{index}]"), format!("{text:?} is not a CIDR range")),
            }
        }
        ranges
    }

    /// Checks a port number that has to be there.
    fn port(&mut self, field: impl FnOnce() -> String, port: Option<i64>) -> Option<u16> {
        let number = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
        if number.is_none() {
            let reason = match port {
                Some(port) => format!("{port} is not a port number (1 to 65535)"),
                None => "no port number is given".to_owned(),
            };
            self.report(field(), reason);
        }
        number
    }

    /// Parses a protocol; TCP if none is given.
    fn protocol(&mut self, field: impl FnOnce() -> String, text: Option<&Text<'_>>) -> Option<Protocol> {
        let Some(text) = text.filter(|text| !text.is_empty()) else { return Some(Protocol::Tcp) };
        let protocol = Protocol::parse(text);
        if protocol.is_none() {
            self.report(field(), format!("{:?} is not TCP, UDP or SCTP", &**text));
        }
        protocol
    }

    fn with<T>(self, value: T) -> Converted<T> {
        Converted { value, problems: self.list }
    }
}

/// The namespace of an object that must have one.
fn namespace<'a>(meta: &'a Meta<'_>) -> &'a str {
    if meta.namespace.is_empty() { "default" } else { &meta.namespace }
}

#[cfg(test)]
mod tests;
