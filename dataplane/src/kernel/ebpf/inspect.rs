//! What the maps hold for a destination, read from the kernel and not from the model.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use shunt_abi::address::{from_words, word, words};
use shunt_abi::affinity::{AffinityKey4, AffinityKey6, AffinityValue};
use shunt_abi::backend::{BackendValue, HOST, LOCAL};
use shunt_abi::frontend::{self, FrontendValue};
use shunt_abi::name;

use super::map::MapError;
use super::maps::{self, Maps};
use super::write::Destination;
use crate::kernel::inspection::Inspected;
use crate::plan::explain::Question;

/// How many endpoints of a pool are told.
const SHOWN: usize = 16;

/// Names of the frontend flags.
const FLAGS: [(u32, &str); 9] = [
    (frontend::INTERNAL, "cluster IP"),
    (frontend::SPLIT, "own pool for outside"),
    (frontend::INSIDE_REJECT, "rejects when empty"),
    (frontend::OUTSIDE_REJECT, "rejects outside when empty"),
    (frontend::RANGES, "source ranges"),
    (frontend::MASQUERADE_ALL, "masquerades all"),
    (frontend::MASQUERADE_REMOTE, "masquerades outside to remote"),
    (frontend::WHOLE_ADDRESS, "whole address"),
    (frontend::SOCKET_ONLY, "for sockets of this node"),
];

/// Notes what a packet of this question meets; the frontend's value is what decides.
pub(super) fn maps(
    maps: &Maps,
    directory: &Path,
    question: &Question,
    inspected: &mut Inspected,
) -> Result<(), MapError> {
    let to = question.to;
    let protocol = question.protocol.number();
    let exact = Destination { address: to.ip(), port: to.port(), protocol };
    let map = if to.is_ipv4() { name::FRONTENDS4 } else { name::FRONTENDS6 };
    if let Some(value) = maps.read_frontend(exact)? {
        inspected.note(map, describe(&value));
        pool(maps, "inside pool", (value.inside_offset, value.inside_length), inspected)?;
        if value.flags & frontend::SPLIT != 0 {
            pool(maps, "outside pool", (value.outside_offset, value.outside_length), inspected)?;
        }
        return affinity(maps, directory, (question.from, &value), inspected);
    }
    match maps.read_frontend(Destination::whole(to.ip()))? {
        Some(value) => inspected.note(map, format!("no such port; {}", describe(&value))),
        None => inspected.note(map, "no such frontend"),
    }
    Ok(())
}

fn describe(value: &FrontendValue) -> String {
    let named = FLAGS.iter().filter(|(bit, _)| value.flags & bit != 0);
    let flags: Vec<&str> = named.map(|(_, name)| *name).collect();
    let sticky = match value.affinity_seconds {
        0 => String::new(),
        seconds => format!(", client affinity of {seconds} s"),
    };
    format!("number {}: {}{sticky}", value.service, flags.join(", "))
}

fn pool(
    maps: &Maps,
    object: &str,
    (offset, length): (u32, u32),
    inspected: &mut Inspected,
) -> Result<(), MapError> {
    let mut shown = Vec::new();
    for place in (offset..offset.saturating_add(length)).take(SHOWN) {
        let id = maps.pool.get(&place)?.unwrap_or(0);
        shown.push(backend(id, maps.backends.get(&id)?));
    }
    let more = usize::try_from(length).unwrap_or(usize::MAX).saturating_sub(SHOWN);
    let mut text = if length == 0 { "empty".to_owned() } else { shown.join(", ") };
    if more > 0 {
        text = format!("{text}, and {more} more");
    }
    inspected.note(object, text);
    Ok(())
}

fn backend(id: u32, value: Option<BackendValue>) -> String {
    let Some(value) = value.filter(|value| value.generation != 0) else {
        return format!("nobody (backend {id})");
    };
    let place = match value.flags {
        flags if flags & HOST != 0 => ", this node itself",
        flags if flags & LOCAL != 0 => ", on this node",
        _ => "",
    };
    format!("{} (backend {id}{place})", socket(&value))
}

fn socket(value: &BackendValue) -> SocketAddr {
    let address: IpAddr = from_words(value.address).to_canonical();
    SocketAddr::new(address, u16::from_be(value.port))
}

/// The endpoint that this client had last.
fn affinity(
    maps: &Maps,
    directory: &Path,
    (from, frontend): (IpAddr, &FrontendValue),
    inspected: &mut Inspected,
) -> Result<(), MapError> {
    if frontend.affinity_seconds == 0 {
        return Ok(());
    }
    let service = frontend.service;
    let entry: Option<AffinityValue> = match from {
        IpAddr::V4(from) => {
            maps::open(directory, name::AFFINITY4)?.get(&AffinityKey4 { client: word(from), service })?
        }
        IpAddr::V6(from) => {
            maps::open(directory, name::AFFINITY6)?.get(&AffinityKey6 { client: words(from), service })?
        }
    };
    let text = match entry {
        None => "this client had no endpoint yet".to_owned(),
        Some(entry) => {
            let value = maps.backends.get(&entry.backend)?;
            let good = value.is_some_and(|value| value.generation == entry.generation);
            let standing = if good { "" } else { ", which is gone" };
            format!("this client had {}{standing}", backend(entry.backend, value))
        }
    };
    inspected.note("affinity", text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_told_by_name() {
        let value = FrontendValue {
            flags: frontend::INTERNAL | frontend::INSIDE_REJECT,
            service: 7,
            affinity_seconds: 60,
            ..FrontendValue::default()
        };
        assert_eq!(describe(&value), "number 7: cluster IP, rejects when empty, client affinity of 60 s");
    }

    #[test]
    fn a_backend_that_is_free_is_nobody() {
        assert_eq!(backend(3, Some(BackendValue::default())), "nobody (backend 3)");
        let address = words(std::net::Ipv4Addr::new(10, 244, 1, 5).to_ipv6_mapped());
        let value = BackendValue { address, port: 80_u16.to_be(), flags: LOCAL, generation: 9 };
        assert_eq!(backend(3, Some(value)), "10.244.1.5:80 (backend 3, on this node)");
    }
}
