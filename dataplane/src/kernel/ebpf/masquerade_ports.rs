//! Which source ports masqueraded connections get.
//!
//! Connection tracking sees packets of this node's own clients before the programs translate them, and so does not know
//! which of their ports are taken towards a backend. Would a masqueraded connection to that backend get such a port, its
//! replies would look like the node's. So the ports are none that the kernel gives to clients, and none of those that
//! clusters have node ports from: to such a port, the reply to a datagram would look like a request.

use std::ops::RangeInclusive;

const LOCAL_PORTS: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// The API server's default; of another range an agent is not told.
const NODE_PORTS: RangeInclusive<u32> = 30000..=32767;

/// Ports below are for services of the system.
const FIRST: u32 = 1024;
const LAST: u32 = 65535;

/// With fewer, connections would not find any.
const FEWEST: u32 = 4096;

/// The ports; `None`, after a warning, if the node's own clients leave too few.
pub(super) fn choose() -> Option<RangeInclusive<u16>> {
    let local = std::fs::read_to_string(LOCAL_PORTS).ok().and_then(|text| parse(&text));
    let chosen = local.and_then(|local| largest_gap(&local));
    if chosen.is_none() {
        tracing::warn!(
            "{LOCAL_PORTS} leaves masqueraded connections fewer than {FEWEST} ports in a row: now and then one will get \
             the port of a connection of the node's own, and fail"
        );
    }
    chosen
}

fn parse(text: &str) -> Option<RangeInclusive<u32>> {
    let mut bounds = text.split_whitespace().map(str::parse);
    let (first, last) = (bounds.next()?.ok()?, bounds.next()?.ok()?);
    Some(first..=last)
}

fn largest_gap(local: &RangeInclusive<u32>) -> Option<RangeInclusive<u16>> {
    let mut taken = [local, &NODE_PORTS];
    taken.sort_by_key(|range| *range.start());
    let mut first = FIRST;
    let mut gaps = Vec::new();
    for range in taken {
        gaps.push((first, range.start().saturating_sub(1)));
        first = first.max(range.end().saturating_add(1));
    }
    gaps.push((first, LAST));
    let length = |(first, last): &(u32, u32)| (last + 1).saturating_sub(*first);
    let (first, last) = gaps.into_iter().max_by_key(length).filter(|gap| length(gap) >= FEWEST)?;
    Some(u16::try_from(first).ok()?..=u16::try_from(last).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_gap_beside_clients_and_node_ports_is_chosen() {
        let gap = |text| parse(text).and_then(|local| largest_gap(&local));
        assert_eq!(gap("32768\t60999\n"), Some(1024..=29999), "the kernel's default");
        assert_eq!(gap("1024 49151"), Some(49152..=65535));
        assert_eq!(gap("10240 65535"), Some(1024..=10239));
        assert_eq!(gap("1024 29999"), Some(32768..=65535));
        assert_eq!(gap("31000 31999"), Some(32768..=65535), "within the others");
    }

    #[test]
    fn too_few_ports_are_none() {
        let gap = |text| parse(text).and_then(|local| largest_gap(&local));
        assert_eq!(gap("1024 65535"), None);
        assert_eq!(gap("1 65535"), None);
        assert_eq!(gap("4000 65000"), None);
        assert_eq!(gap(""), None, "what cannot be understood");
    }
}
