//! One Service port in one family: what the maps hold for it, and what they should.
//!
//! Everything about it is computed anew when anything about it changes, and compared with what is held: that costs in
//! proportion to the Service, whatever else there is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use ipnet::IpNet;
use shunt_abi::address::mapped_words;
use shunt_abi::known::Role;
use shunt_abi::{backend, frontend};
use shunt_abi::{backend::BackendValue, frontend::FrontendValue};

use super::ids::{Id, Ids};
use super::masquerade::Need;
use super::ranges::Ranges;
use super::write::{Destination, SourceRange, Step, Writes};
use crate::domain::IpFamily;
use crate::plan::{Frontend, FrontendAddress, FrontendSpec, Policy, Target};

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
}

/// Something is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exhausted {
    /// The map.
    pub(super) map: &'static str,
}

/// A backend with its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) id: Id,
    pub(super) flags: u16,
}

/// A pool with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HeldPool {
    pub(super) ids: Vec<u32>,
    pub(super) range: Range<u32>,
}

/// A Service port in one family.
#[derive(Clone, Debug, Default)]
pub(super) struct Service {
    /// Its number, shared by the families.
    pub(super) id: u32,
    pub(super) frontends: BTreeMap<Frontend, Arc<FrontendSpec>>,
    pub(super) backends: BTreeMap<SocketAddr, Held>,
    pub(super) pools: Vec<HeldPool>,
    pub(super) values: BTreeMap<Destination, FrontendValue>,
    /// How many of the values are in the model's sum.
    pub(super) counted: usize,
    pub(super) source_ranges: BTreeSet<IpNet>,
    /// Whether some of its packets need the masquerade rule.
    pub(super) masquerades: Need,
}

impl Service {
    /// Brings what is held to what it should be; the difference goes to `writes`.
    pub(super) fn update(
        &mut self,
        around: &Surroundings,
        resources: &mut Resources,
        writes: &mut Writes,
        now: Instant,
    ) -> Result<(), Exhausted> {
        let flags = self.backend_flags(around);
        self.hold_backends(&flags, resources, writes, now)?;
        self.update_source_ranges(writes);
        let (values, pools) = self.wanted_values(around, resources, writes, now)?;
        self.replace_values(values, writes);
        for old in std::mem::replace(&mut self.pools, pools) {
            if !self.pools.iter().any(|pool| pool.range == old.range) {
                resources.pool.give(old.range, now);
            }
        }
        self.release_backends(&flags, resources, writes, now);
        let needs = self.frontends.values().map(|spec| needs_masquerade(spec, around));
        self.masquerades = needs.max().unwrap_or_default();
        Ok(())
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
    ) -> Result<(), Exhausted> {
        let protocol = self.frontends.keys().next().map_or(0, |frontend| frontend.protocol.number());
        for (socket, &flags) in wanted {
            let held = match self.backends.get(socket) {
                Some(held) if held.flags == flags => continue,
                Some(held) => Held { flags, ..*held },
                None => {
                    let map = shunt_abi::name::BACKENDS;
                    Held { id: resources.backends.take(now).ok_or(Exhausted { map })?, flags }
                }
            };
            self.backends.insert(*socket, held);
            let destination = Destination { address: socket.ip(), port: socket.port(), protocol };
            writes.known.push((Role::Backend, destination));
            writes.before.push(Step::Backend(held.id.index, backend_value(*socket, held)));
        }
        Ok(())
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

    fn update_source_ranges(&mut self, writes: &mut Writes) {
        let ranges = self.frontends.values().filter_map(|spec| spec.source_ranges.as_deref());
        let wanted: BTreeSet<IpNet> = ranges.flatten().copied().collect();
        let of = |range: &IpNet| SourceRange { service: self.id, range: *range };
        writes.before.extend(wanted.difference(&self.source_ranges).map(of).map(Step::AddRange));
        writes.after.extend(self.source_ranges.difference(&wanted).map(of).map(Step::RemoveRange));
        self.source_ranges = wanted;
    }

    fn wanted_values(
        &self,
        around: &Surroundings,
        resources: &mut Resources,
        writes: &mut Writes,
        now: Instant,
    ) -> Result<(BTreeMap<Destination, FrontendValue>, Vec<HeldPool>), Exhausted> {
        let mut values = BTreeMap::new();
        let mut pools: Vec<HeldPool> = Vec::new();
        for (at, spec) in &self.frontends {
            let mut place = |target: &Target| -> Result<Range<u32>, Exhausted> {
                let held = target.backends().iter().filter_map(|chosen| self.backends.get(&chosen.socket()));
                let ids: Vec<u32> = held.map(|held| held.id.index).collect();
                if let Some(pool) = pools.iter().chain(&self.pools).find(|pool| pool.ids == ids) {
                    let pool = pool.clone();
                    let range = pool.range.clone();
                    if !pools.contains(&pool) {
                        pools.push(pool);
                    }
                    return Ok(range);
                }
                let length = u32::try_from(ids.len()).unwrap_or(u32::MAX);
                let full = Exhausted { map: shunt_abi::name::POOL };
                let range = resources.pool.take(length, now).ok_or(full)?;
                if length > 0 {
                    writes.before.push(Step::Pool(range.start, ids.clone()));
                }
                pools.push(HeldPool { ids, range: range.clone() });
                Ok(range)
            };
            let inside = place(&spec.inside)?;
            let outside = if spec.policy == Policy::ExternalLocal { place(&spec.outside)? } else { 0..0 };
            let value = FrontendValue {
                flags: frontend_flags(spec, around),
                service: self.id,
                inside_offset: inside.start,
                inside_length: inside.end - inside.start,
                outside_offset: outside.start,
                outside_length: outside.end - outside.start,
                affinity_seconds: spec.affinity_seconds.unwrap_or(0),
                pad: 0,
            };
            values.extend(destinations(*at, around).map(|destination| {
                let sockets = if destination.address.is_loopback() { frontend::SOCKET_ONLY } else { 0 };
                (destination, FrontendValue { flags: value.flags | sockets, ..value })
            }));
        }
        Ok((values, pools))
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
        self.values = values;
    }
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
