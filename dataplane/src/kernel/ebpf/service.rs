//! One Service port in one family: what the maps hold for it, and what they should.
//!
//! Everything about it is computed anew when anything about it changes, and compared with what is held: that costs in
//! proportion to the Service, whatever else there is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use ipnet::IpNet;
use shunt_abi::address::mapped_words;
use shunt_abi::{backend, frontend, name};
use shunt_abi::{backend::BackendValue, frontend::FrontendValue};

use super::ids::{Id, Ids};
use super::masquerade::Need;
use super::placement::{HeldPool, Placement};
use super::ranges::Ranges;
use super::room::Room;
use super::sorted_map::SortedMap;
use super::write::{Destination, SourceRange, Step, Writes};
use crate::domain::IpFamily;
use crate::plan::{Frontend, FrontendAddress, FrontendKind, FrontendSpec, PerFamily, Policy, Target};

/// What the values depend on besides the Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Surroundings {
    /// Where node ports are accepted.
    pub(super) node_port_addresses: BTreeSet<IpAddr>,
    /// All addresses of this node.
    pub(super) host_addresses: BTreeSet<IpAddr>,
    /// Every client of a cluster IP is masqueraded.
    pub(super) masquerade_all: bool,
    /// The families in which local pods can be told from others.
    pub(super) pods_are_known: BTreeSet<IpFamily>,
    /// Addresses with ports that belong to a Service themselves: a node port of the same number does not hide them.
    pub(super) explicit: BTreeMap<Destination, usize>,
}

/// Numbers and places that Services share.
#[derive(Debug)]
pub(super) struct Resources {
    pub(super) backends: Ids,
    pub(super) pool: Ranges,
    pub(super) frontends: PerFamily<Room>,
    pub(super) source_ranges: PerFamily<Room>,
}

impl Resources {
    /// Whether something of the map is left.
    pub(super) fn is_left(&self, map: &str, family: IpFamily, now: Instant) -> bool {
        match map {
            name::BACKENDS => self.backends.is_left(now),
            name::POOL => self.pool.is_left(now),
            name::RANGES4 | name::RANGES6 => self.source_ranges.get(family).is_left(),
            name::FRONTENDS4 | name::FRONTENDS6 => self.frontends.get(family).is_left(),
            _ => true,
        }
    }
}

/// The map of a family's frontends.
const fn frontends_map(family: IpFamily) -> &'static str {
    match family {
        IpFamily::V4 => name::FRONTENDS4,
        IpFamily::V6 => name::FRONTENDS6,
    }
}

/// A backend with its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) id: Id,
    pub(super) flags: u16,
}

/// A Service port in one family.
#[derive(Clone, Debug, Default)]
pub(super) struct Service {
    /// Its number, shared by the families.
    pub(super) id: u32,
    pub(super) frontends: SortedMap<Frontend, Arc<FrontendSpec>>,
    pub(super) backends: SortedMap<SocketAddr, Held>,
    pub(super) pools: Vec<HeldPool>,
    pub(super) values: SortedMap<Destination, FrontendValue>,
    /// Cluster IPs among the values' addresses: each has a value of its own in the model.
    pub(super) whole: Vec<IpAddr>,
    pub(super) source_ranges: BTreeSet<IpNet>,
    /// Frontends that are not there, or not with all of their endpoints, and the map that has no room for them.
    pub(super) short: BTreeMap<Frontend, &'static str>,
    /// Whether some of its packets need the masquerade rule.
    pub(super) masquerades: Need,
}

impl Service {
    /// Brings what is held to what it should be, as far as there is room; the difference goes to `writes`. What is held
    /// already comes before what is new.
    pub(super) fn update(
        &mut self,
        family: IpFamily,
        around: &Surroundings,
        resources: &mut Resources,
        writes: &mut Writes,
        now: Instant,
    ) {
        self.short.clear();
        let flags = self.backend_flags(around);
        self.hold_backends(&flags, resources, writes, now);
        self.update_source_ranges(resources.source_ranges.get_mut(family), writes);
        let (values, pools) = self.wanted_values(around, resources, writes, now);
        let values = self.admit(values, family, resources);
        self.replace_values(values, writes);
        for old in std::mem::replace(&mut self.pools, pools) {
            if !self.pools.iter().any(|pool| pool.range == old.range) {
                resources.pool.give(old.range, now);
            }
        }
        self.release_backends(&flags, resources, writes, now);
        let needs = self.frontends.values().map(|spec| needs_masquerade(spec, around));
        self.masquerades = needs.max().unwrap_or_default();
    }

    /// The IANA number that all of its frontends and backends have; 0 if there are none.
    pub(super) fn protocol(&self) -> u8 {
        self.frontends.keys().next().map_or(0, |frontend| frontend.protocol.number())
    }

    /// Every endpoint that is or may still be talked to, with the flags it has.
    fn backend_flags(&self, around: &Surroundings) -> BTreeMap<SocketAddr, u16> {
        let mut flags = BTreeMap::new();
        for spec in self.frontends.values() {
            for socket in spec.serving.iter() {
                flags.entry(*socket).or_insert(0);
            }
            let (inside, outside) = match spec.policy {
                Policy::Internal => (backend::ELIGIBLE_INTERNAL, None),
                Policy::ExternalCluster => (backend::ELIGIBLE_INSIDE, None),
                Policy::ExternalLocal => (backend::ELIGIBLE_INSIDE, Some(backend::ELIGIBLE_OUTSIDE)),
            };
            let pools = [(&spec.inside, Some(inside)), (&spec.outside, outside)];
            for (target, eligible) in pools.into_iter().filter_map(|(target, flag)| Some((target, flag?))) {
                for chosen in target.backends() {
                    let local = if chosen.local { backend::LOCAL } else { 0 };
                    *flags.entry(chosen.socket()).or_insert(0) |= eligible | local;
                }
            }
        }
        for (socket, flags) in &mut flags {
            if around.host_addresses.contains(&socket.ip()) {
                *flags |= backend::HOST;
            }
        }
        flags
    }

    fn hold_backends(
        &mut self,
        wanted: &BTreeMap<SocketAddr, u16>,
        resources: &mut Resources,
        writes: &mut Writes,
        now: Instant,
    ) {
        let protocol = self.protocol();
        for (socket, &flags) in wanted {
            let held = match self.backends.get(socket) {
                Some(held) if held.flags == flags => continue,
                Some(held) => Held { flags, ..*held },
                // Without a number it is in no pool.
                None => match resources.backends.take(now) {
                    Some(id) => Held { id, flags },
                    None => continue,
                },
            };
            self.backends.insert(*socket, held);
            writes.know_backend(*socket, protocol);
            writes.before.push(Step::Backend(held.id.index, backend_value(*socket, held)));
        }
    }

    fn release_backends(
        &mut self,
        wanted: &BTreeMap<SocketAddr, u16>,
        resources: &mut Resources,
        writes: &mut Writes,
        now: Instant,
    ) {
        self.backends.retain(|socket, held| {
            let stays = wanted.contains_key(socket);
            if !stays {
                writes.after.push(Step::Backend(held.id.index, BackendValue::default()));
                resources.backends.give(held.id.index, now);
            }
            stays
        });
    }

    fn update_source_ranges(&mut self, room: &mut Room, writes: &mut Writes) {
        let ranges = self.frontends.values().filter_map(|spec| spec.source_ranges.as_deref());
        let wanted: BTreeSet<IpNet> = ranges.flatten().copied().collect();
        let of = |range: &IpNet| SourceRange { service: self.id, range: *range };
        let gone = self.source_ranges.difference(&wanted);
        writes.after.extend(gone.inspect(|_| room.give()).map(of).map(Step::RemoveRange));
        let (held, new): (BTreeSet<_>, BTreeSet<_>) =
            wanted.iter().partition(|range| self.source_ranges.contains(*range));
        let new: BTreeSet<IpNet> = new.into_iter().filter(|_| room.take()).collect();
        writes.before.extend(new.iter().map(of).map(Step::AddRange));
        self.source_ranges = held.into_iter().chain(new).collect();
    }

    fn wanted_values(
        &mut self,
        around: &Surroundings,
        resources: &mut Resources,
        writes: &mut Writes,
        now: Instant,
    ) -> (Vec<Wanted>, Vec<HeldPool>) {
        let mut values = Vec::new();
        let mut pools = Placement { held: &self.pools, placed: Vec::new(), resources, writes, now };
        for (&at, spec) in self.frontends.iter() {
            let mut place = |target: &Target| {
                let backends = target.backends();
                let held = backends.iter().filter_map(|chosen| self.backends.get(&chosen.socket()));
                let ids: Vec<u32> = held.map(|held| held.id.index).collect();
                if ids.len() < backends.len() {
                    self.short.insert(at, name::BACKENDS);
                }
                let wanted = ids.len();
                let range = pools.place(ids);
                if range.len() < wanted {
                    self.short.insert(at, name::POOL);
                }
                // Clients of a pool without room are told so.
                (range.clone(), range.is_empty() && !backends.is_empty())
            };
            let (inside, inside_rejects) = place(&spec.inside);
            let (outside, outside_rejects) =
                if spec.policy == Policy::ExternalLocal { place(&spec.outside) } else { (0..0, false) };
            let rejects = if inside_rejects { frontend::INSIDE_REJECT } else { 0 }
                | if outside_rejects { frontend::OUTSIDE_REJECT } else { 0 };
            let value = FrontendValue {
                flags: frontend_flags(spec, around) | rejects,
                service: self.id,
                inside_offset: inside.start,
                inside_length: inside.end - inside.start,
                outside_offset: outside.start,
                outside_length: outside.end - outside.start,
                affinity_seconds: spec.affinity_seconds.unwrap_or(0),
                pad: 0,
            };
            values.extend(destinations(at, around).map(|destination| {
                let sockets = if destination.address.is_loopback() { frontend::SOCKET_ONLY } else { 0 };
                let value = FrontendValue { flags: value.flags | sockets, ..value };
                Wanted { frontend: at, destination, value }
            }));
        }
        (values, pools.placed)
    }

    /// Those of the values that there is room for: first what is there already.
    fn admit(
        &mut self,
        wanted: Vec<Wanted>,
        family: IpFamily,
        resources: &mut Resources,
    ) -> BTreeMap<Destination, FrontendValue> {
        let room = resources.frontends.get_mut(family);
        let still: BTreeSet<Destination> = wanted.iter().map(|wanted| wanted.destination).collect();
        for _gone in self.values.keys().filter(|destination| !still.contains(destination)) {
            room.give();
        }
        let mut admitted = BTreeMap::new();
        for Wanted { frontend, destination, value } in wanted {
            if self.lacks_source_ranges(frontend) {
                // Clients in a range that is not there are refused, which is the safe side.
                self.short
                    .insert(frontend, if family == IpFamily::V4 { name::RANGES4 } else { name::RANGES6 });
            }
            if self.values.contains_key(&destination) || room.take() {
                admitted.insert(destination, value);
            } else {
                self.short.insert(frontend, frontends_map(family));
            }
        }
        admitted
    }

    fn lacks_source_ranges(&self, frontend: Frontend) -> bool {
        let ranges = self.frontends.get(&frontend).and_then(|spec| spec.source_ranges.as_deref());
        ranges.is_some_and(|ranges| ranges.iter().any(|range| !self.source_ranges.contains(range)))
    }

    fn replace_values(&mut self, values: BTreeMap<Destination, FrontendValue>, writes: &mut Writes) {
        for (destination, value) in &values {
            if self.values.get(destination) != Some(value) {
                writes.set(*destination, *value);
            }
        }
        for gone in self.values.keys().filter(|destination| !values.contains_key(destination)) {
            writes.remove(*gone);
        }
        self.values = values.into_iter().collect();
    }

    /// Its source ranges that are there.
    pub(super) fn ranges(&self) -> impl Iterator<Item = SourceRange> + '_ {
        self.source_ranges.iter().map(|range| SourceRange { service: self.id, range: *range })
    }

    /// Cluster IPs of which a port is there.
    pub(super) fn cluster_ips(&self) -> BTreeSet<IpAddr> {
        let own = self.frontends.iter().filter(|(_, spec)| spec.kind == FrontendKind::ClusterIp);
        let addresses = own.filter_map(|(frontend, _)| match frontend.address {
            FrontendAddress::Ip(address) => Some((address, own_destination(*frontend, address))),
            FrontendAddress::NodePort(_) => None,
        });
        addresses
            .filter(|(_, destination)| self.values.contains_key(destination))
            .map(|(address, _)| address)
            .collect()
    }
}

/// A value that a frontend should have.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    frontend: Frontend,
    destination: Destination,
    value: FrontendValue,
}

/// The backend as the maps have it.
pub(super) fn backend_value(socket: SocketAddr, held: Held) -> BackendValue {
    BackendValue {
        address: mapped_words(socket.ip()),
        port: socket.port().to_be(),
        flags: held.flags,
        generation: held.id.generation,
    }
}

/// What a frontend is in the maps: a node port is one for each address.
pub(super) fn destinations(
    frontend: Frontend,
    around: &Surroundings,
) -> impl Iterator<Item = Destination> + '_ {
    let at =
        move |address| Destination { address, port: frontend.port, protocol: frontend.protocol.number() };
    let (own, node) = match frontend.address {
        FrontendAddress::Ip(address) => (Some(at(address)), None),
        FrontendAddress::NodePort(family) => (None, Some(family)),
    };
    let node_ports = around
        .node_port_addresses
        .iter()
        .filter(move |address| node == Some(IpFamily::of(**address)))
        .map(move |address| at(*address))
        .filter(|destination| !around.explicit.contains_key(destination));
    own.into_iter().chain(node_ports)
}

/// A frontend of an address of its own, in the maps.
pub(super) const fn own_destination(frontend: Frontend, address: IpAddr) -> Destination {
    Destination { address, port: frontend.port, protocol: frontend.protocol.number() }
}

fn frontend_flags(spec: &FrontendSpec, around: &Surroundings) -> u32 {
    // Without masqueradeAll, clients keep their address where replies come back through this node anyway.
    let all = if around.masquerade_all { frontend::MASQUERADE_ALL } else { 0 };
    let policy = match spec.policy {
        Policy::Internal => {
            let remote = if masquerades_internally(spec, around) { frontend::MASQUERADE_REMOTE } else { 0 };
            frontend::INTERNAL | all | remote
        }
        Policy::ExternalCluster => frontend::MASQUERADE_REMOTE | all,
        Policy::ExternalLocal => frontend::SPLIT,
    };
    let reject = |target: &Target, flag| if *target == Target::Reject { flag } else { 0 };
    policy
        | reject(&spec.inside, frontend::INSIDE_REJECT)
        | reject(&spec.outside, frontend::OUTSIDE_REJECT)
        | if spec.source_ranges.is_some() { frontend::RANGES } else { 0 }
}

/// Clients of a cluster IP from outside of the cluster are masqueraded only if there is a way to tell them from pods.
fn masquerades_internally(spec: &FrontendSpec, around: &Surroundings) -> bool {
    let family = spec.inside.backends().first().map(|chosen| IpFamily::of(chosen.address));
    family.is_some_and(|family| around.pods_are_known.contains(&family))
}

fn needs_masquerade(spec: &FrontendSpec, around: &Surroundings) -> Need {
    let flags = frontend_flags(spec, around);
    let backends = spec.inside.backends();
    let has_remote = flags & frontend::MASQUERADE_REMOTE != 0 && backends.iter().any(|chosen| !chosen.local);
    if flags & frontend::MASQUERADE_ALL != 0 && !backends.is_empty() {
        Need::Always
    } else if has_remote {
        // Clients from outside come to external addresses; to cluster IPs they seldom do.
        if spec.policy == Policy::Internal { Need::OnDemand } else { Need::Always }
    } else {
        Need::None
    }
}
