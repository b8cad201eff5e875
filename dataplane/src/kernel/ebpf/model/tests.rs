//! Changes become writes that lead programs to the right backends at every moment, and what was written is found again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shunt_abi::backend::{ELIGIBLE_INTERNAL, HOST, LOCAL};
use shunt_abi::frontend::{self, FrontendValue};
use shunt_abi::known::Role;

use super::super::adopt::{Observed, adopt};
use super::super::audit::Differences;
use super::super::ranges::GRACE;
use super::super::service::Surroundings;
use super::super::write::{Destination, Step, Writes};
use super::samples::{carry_out, destination, frontend, ip, reached, spec};
use super::{Capacities, Model};
use crate::domain::{IpFamily, Protocol};
use crate::kernel::ebpf::masquerade::Need;
use crate::plan::{
    Change, Changes, Frontend, FrontendAddress, FrontendKind, FrontendSpec, Globals, Policy, Table, Target,
};

pub(super) const ROOM: Capacities =
    Capacities { backends: 100, pool: 100, services: 100, frontends: 100, source_ranges: 100 };

/// A model with the maps it writes.
pub(super) struct Lab {
    room: Capacities,
    pub(super) model: Model,
    pub(super) maps: Observed,
    pub(super) table: Table,
    pub(super) now: Instant,
}

impl Lab {
    fn new() -> Self {
        Self::with(ROOM)
    }

    pub(super) fn with(room: Capacities) -> Self {
        Self {
            room,
            model: Model::new(Surroundings::default(), room, 1),
            maps: Observed::default(),
            table: Table::default(),
            now: Instant::now(),
        }
    }

    pub(super) fn change(&mut self, frontend: Frontend, new: Option<FrontendSpec>) -> Writes {
        self.now += GRACE * 2;
        let new = new.map(Arc::new);
        let old = match &new {
            Some(spec) => self.table.frontends.insert(frontend, Arc::clone(spec)),
            None => self.table.frontends.remove(&frontend),
        };
        self.apply(&Changes { frontends: vec![Change { frontend, old, new }], globals: None })
    }

    pub(super) fn apply(&mut self, changes: &Changes) -> Writes {
        let writes = self.model.apply(changes, self.now);
        carry_out(&mut self.maps, &writes);
        assert_eq!(Differences::between(&self.model, &self.maps).lines(), [""; 0]);
        assert_eq!(self.model.frontends(), self.maps.frontends.len() as u64);
        writes
    }

    fn accept_node_ports_at(&mut self, addresses: &[&str]) {
        self.table.globals.node_port_addresses = addresses.iter().map(|text| ip(text)).collect();
        let globals = Some(self.table.globals.clone());
        self.apply(&Changes { frontends: Vec::new(), globals });
    }

    /// As an agent that starts.
    pub(super) fn adopt(&self) -> (Model, Writes) {
        let around = self.model.around.clone();
        adopt(&self.maps, &self.table, around, (self.room, 1000), self.now + GRACE)
    }

    pub(super) fn value(&self, address: &str, port: u16) -> FrontendValue {
        self.maps.frontends[&destination(address, port)]
    }
}

fn node_port(port: u16) -> Frontend {
    Frontend { address: FrontendAddress::NodePort(IpFamily::V4), port, protocol: Protocol::Tcp }
}

pub(super) fn external(name: &str, endpoints: &[&str]) -> FrontendSpec {
    let kind = FrontendKind::ExternalIp;
    FrontendSpec { kind, policy: Policy::ExternalCluster, ..spec(name, endpoints) }
}

pub(super) const VIP: &str = "10.96.0.1";

#[test]
fn a_service_is_a_backend_each_a_pool_and_a_frontend() {
    let mut lab = Lab::new();
    let writes = lab.change(frontend(VIP, 80), Some(spec("web", &["10.0.0.1:8080", "10.0.0.2:8080!"])));
    assert_eq!(reached(&lab.maps, destination(VIP, 80)).unwrap(), ["10.0.0.1:8080", "10.0.0.2:8080"]);
    let flags: Vec<_> = lab.maps.backends.values().map(|backend| backend.flags).collect();
    assert_eq!(flags, [ELIGIBLE_INTERNAL, ELIGIBLE_INTERNAL | LOCAL]);
    assert_eq!(lab.value(VIP, 80).flags, frontend::INTERNAL);
    assert!(lab.maps.frontends.contains_key(&Destination::whole(ip(VIP))));
    assert!(matches!(
        writes.before[..],
        [Step::ResetService(1), Step::Backend(..), Step::Backend(..), Step::Pool(..)]
    ));
    assert!(writes.known.contains(&(Role::Backend, destination("10.0.0.1", 8080))));
}

#[test]
fn a_changed_pool_is_a_new_range_and_what_is_gone_is_freed_afterwards() {
    let mut lab = Lab::new();
    lab.change(frontend(VIP, 80), Some(spec("web", &["10.0.0.1:80", "10.0.0.2:80"])));
    let old = lab.value(VIP, 80);
    let writes = lab.change(frontend(VIP, 80), Some(spec("web", &["10.0.0.2:80", "10.0.0.3:80"])));
    let new = lab.value(VIP, 80);
    assert_ne!(old.inside_offset, new.inside_offset);
    assert!(matches!(writes.before[..], [Step::Backend(3, _), Step::Pool(2, _)]));
    assert!(matches!(writes.after[..], [Step::Backend(1, value)] if value.generation == 0));
    assert_eq!(writes.frontends.len(), 1, "the whole address stays as it is");
}

#[test]
fn frontends_of_one_service_port_share_a_pool() {
    let mut lab = Lab::new();
    lab.change(frontend(VIP, 80), Some(spec("web", &["10.0.0.1:80"])));
    let writes = lab.change(frontend("192.0.2.1", 80), Some(external("web", &["10.0.0.1:80"])));
    assert_eq!(lab.value(VIP, 80).inside_offset, lab.value("192.0.2.1", 80).inside_offset);
    assert!(!writes.before.iter().any(|step| matches!(step, Step::Pool(..))));
    assert_eq!(lab.value(VIP, 80).service, lab.value("192.0.2.1", 80).service);
    lab.change(frontend(VIP, 80), None);
    assert_eq!(reached(&lab.maps, destination("192.0.2.1", 80)).unwrap(), ["10.0.0.1:80"]);
}

#[test]
fn everything_is_gone_when_the_last_frontend_is() {
    let mut lab = Lab::new();
    lab.change(frontend(VIP, 80), Some(spec("web", &["10.0.0.1:80"])));
    lab.change(frontend(VIP, 80), None);
    assert!(lab.maps.frontends.is_empty() && lab.maps.backends.is_empty());
    assert_eq!((lab.model.resources.backends.used(), lab.model.resources.pool.used()), (0, 0));
    assert!(lab.model.services.is_empty() && lab.model.numbers.is_empty());
}

#[test]
fn nobody_eligible_rejects_or_drops() {
    let mut lab = Lab::new();
    lab.change(frontend(VIP, 80), Some(spec("web", &[])));
    assert_eq!(
        lab.value(VIP, 80).flags,
        frontend::INTERNAL | frontend::INSIDE_REJECT | frontend::OUTSIDE_REJECT
    );
    lab.change(
        frontend(VIP, 80),
        Some(FrontendSpec { inside: Target::Drop, ..spec("web", &["10.0.0.1:80"]) }),
    );
    assert_eq!(lab.value(VIP, 80).flags, frontend::INTERNAL);
    assert_eq!((lab.value(VIP, 80).inside_length, lab.maps.backends.len()), (0, 1), "it still serves");
}

#[test]
fn a_node_port_is_a_frontend_at_each_address_that_accepts_them() {
    let mut lab = Lab::new();
    lab.accept_node_ports_at(&["192.0.2.1", "fd00::1"]);
    lab.change(node_port(30080), Some(external("web", &["10.0.0.1:80"])));
    let addresses =
        |lab: &Lab| lab.maps.frontends.keys().map(|key| key.address.to_string()).collect::<Vec<_>>();
    assert_eq!(addresses(&lab), ["192.0.2.1"]);
    lab.accept_node_ports_at(&["192.0.2.1", "192.0.2.7"]);
    assert_eq!(addresses(&lab), ["192.0.2.1", "192.0.2.7"]);
    lab.accept_node_ports_at(&[]);
    assert!(lab.maps.frontends.is_empty());
}

#[test]
fn an_external_ip_of_this_node_hides_the_node_port_of_the_same_number() {
    let mut lab = Lab::new();
    lab.accept_node_ports_at(&["192.0.2.1"]);
    lab.change(node_port(30080), Some(external("a", &["10.0.0.1:80"])));
    lab.change(frontend("192.0.2.1", 30080), Some(external("b", &["10.0.0.2:80"])));
    assert_eq!(reached(&lab.maps, destination("192.0.2.1", 30080)).unwrap(), ["10.0.0.2:80"]);
    lab.change(frontend("192.0.2.1", 30080), None);
    assert_eq!(reached(&lab.maps, destination("192.0.2.1", 30080)).unwrap(), ["10.0.0.1:80"]);
}

#[test]
fn a_frontend_that_changes_hands_is_never_absent() {
    let mut lab = Lab::new();
    lab.change(frontend(VIP, 80), Some(spec("a", &["10.0.0.1:80"])));
    let writes = lab.change(frontend(VIP, 80), Some(spec("b", &["10.0.0.2:80"])));
    assert!(writes.frontends[&destination(VIP, 80)].is_some());
    assert_eq!(reached(&lab.maps, destination(VIP, 80)).unwrap(), ["10.0.0.2:80"]);
    assert!(writes.frontends.values().all(Option::is_some));
}

#[test]
fn the_masquerade_rule_is_needed_for_remote_backends_of_external_addresses_only() {
    let mut lab = Lab::new();
    lab.change(frontend("192.0.2.1", 80), Some(external("web", &["10.0.0.1:80!"])));
    lab.change(frontend(VIP, 80), Some(spec("web", &["10.0.0.1:80"])));
    assert_eq!(lab.model.masquerades(IpFamily::V4), Need::None);
    lab.change(frontend("192.0.2.1", 80), Some(external("web", &["10.0.0.1:80"])));
    assert_eq!(lab.model.masquerades(IpFamily::V4), Need::Always);
    assert_eq!(lab.model.masquerades(IpFamily::V6), Need::None);
    lab.change(frontend("192.0.2.1", 80), None);
    assert_eq!(lab.model.masquerades(IpFamily::V4), Need::None);
}

#[test]
fn remote_backends_of_a_cluster_ip_need_the_rule_on_demand_where_pods_are_known() {
    let mut lab = Lab::new();
    lab.model.around.pods_are_known.insert(IpFamily::V4);
    lab.change(frontend(VIP, 80), Some(spec("web", &["10.0.0.1:80!"])));
    assert_eq!(lab.model.masquerades(IpFamily::V4), Need::None);
    lab.change(frontend(VIP, 80), Some(spec("web", &["10.0.0.1:80!", "10.0.0.2:80"])));
    assert_eq!(lab.model.masquerades(IpFamily::V4), Need::OnDemand);
    lab.change(frontend("192.0.2.1", 80), Some(external("other", &["10.0.0.2:80"])));
    assert_eq!(lab.model.masquerades(IpFamily::V4), Need::Always);
    lab.change(frontend("192.0.2.1", 80), None);
    lab.change(frontend(VIP, 80), None);
    assert_eq!(lab.model.masquerades(IpFamily::V4), Need::None);
}

#[test]
fn source_ranges_come_before_the_frontend_and_go_after_it() {
    let mut lab = Lab::new();
    let with = |ranges: &[&str]| FrontendSpec {
        source_ranges: Some(ranges.iter().map(|text| text.parse().unwrap()).collect()),
        ..external("web", &["10.0.0.1:80"])
    };
    lab.change(frontend("192.0.2.1", 80), Some(with(&["203.0.113.0/24"])));
    assert_eq!(lab.value("192.0.2.1", 80).flags & frontend::RANGES, frontend::RANGES);
    let writes = lab.change(frontend("192.0.2.1", 80), Some(with(&["198.51.100.0/24"])));
    assert!(matches!(writes.before[..], [Step::AddRange(_)]));
    assert!(matches!(writes.after[..], [Step::RemoveRange(_)]));
    lab.change(frontend("192.0.2.1", 80), None);
    assert!(lab.maps.source_ranges.is_empty());
}

#[test]
fn endpoints_at_addresses_of_this_node_are_known_as_such() {
    let mut lab = Lab::new();
    lab.change(frontend(VIP, 80), Some(spec("web", &["192.0.2.1:80!"])));
    let writes = lab.model.set_host_addresses(BTreeSet::from([ip("192.0.2.1")]), lab.now);
    carry_out(&mut lab.maps, &writes);
    assert_eq!(lab.maps.backends[&1].flags, ELIGIBLE_INTERNAL | LOCAL | HOST);
    assert!(writes.frontends.is_empty());
}

#[test]
fn an_agent_that_starts_writes_nothing_where_all_is_right() {
    let mut lab = Lab::new();
    lab.accept_node_ports_at(&["192.0.2.1"]);
    lab.change(frontend(VIP, 80), Some(spec("web", &["10.0.0.1:80", "10.0.0.2:80"])));
    lab.change(node_port(30080), Some(external("web", &["10.0.0.1:80"])));
    lab.change(frontend("fd00::1", 80), Some(spec("web", &["[fd01::1]:80"])));
    let ranges = Some(["203.0.113.0/24".parse().unwrap()].into());
    lab.change(
        frontend("192.0.2.9", 443),
        Some(FrontendSpec { source_ranges: ranges, ..external("b", &[]) }),
    );
    let (model, writes) = lab.adopt();
    let Writes { before, frontends, after, .. } = writes;
    assert!(
        before.is_empty() && frontends.is_empty() && after.is_empty(),
        "{before:?} {frontends:?} {after:?}"
    );
    assert_eq!(Differences::between(&model, &lab.maps).lines(), [""; 0]);
}

#[test]
fn an_agent_that_starts_keeps_numbers_and_removes_what_is_gone() {
    let mut lab = Lab::new();
    lab.change(frontend(VIP, 80), Some(spec("web", &["10.0.0.1:80", "10.0.0.2:80"])));
    lab.change(frontend("10.96.0.2", 80), Some(spec("old", &["10.0.0.9:80"])));
    let number = lab.value(VIP, 80).service;
    lab.table.frontends.remove(&frontend("10.96.0.2", 80));
    lab.table.frontends.insert(frontend(VIP, 80), Arc::new(spec("web", &["10.0.0.2:80", "10.0.0.3:80"])));
    let survivor = lab.maps.backends[&2];
    let (model, writes) = lab.adopt();
    carry_out(&mut lab.maps, &writes);
    assert_eq!(Differences::between(&model, &lab.maps).lines(), [""; 0]);
    assert_eq!(reached(&lab.maps, destination(VIP, 80)).unwrap(), ["10.0.0.2:80", "10.0.0.3:80"]);
    assert_eq!((lab.value(VIP, 80).service, lab.maps.backends[&2]), (number, survivor));
    assert_eq!(lab.maps.frontends.len(), 2);
    assert_eq!(lab.maps.backends.len(), 2);
    let newest = lab.maps.backends.values().map(|backend| backend.generation).max().unwrap();
    assert!(newest >= 1000, "generations of the earlier agent are not repeated: {newest}");
}

#[test]
fn endpoints_that_only_serve_keep_their_numbers_over_a_restart() {
    let mut lab = Lab::new();
    let serving = ["10.0.0.1:80".parse().unwrap(), "10.0.0.2:80".parse().unwrap()].into();
    lab.change(frontend(VIP, 80), Some(FrontendSpec { serving, ..spec("web", &["10.0.0.1:80"]) }));
    let (_, writes) = lab.adopt();
    assert!(writes.before.is_empty() && writes.after.is_empty(), "{writes:?}");
}

#[test]
fn damage_is_found_and_repaired() {
    let mut lab = Lab::new();
    lab.change(frontend(VIP, 80), Some(spec("web", &["10.0.0.1:80", "10.0.0.2:80"])));
    let right = lab.maps.clone();
    let damages: [fn(&mut Observed); 5] = [
        |maps| maps.frontends.clear(),
        |maps| maps.pool[0] = 77,
        |maps| assert!(maps.backends.remove(&2).is_some()),
        |maps| assert!(maps.frontends.insert(destination("10.9.9.9", 1), FrontendValue::default()).is_none()),
        |maps| maps.frontends.values_mut().for_each(|value| value.inside_length = u32::MAX),
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        lab.maps = right.clone();
        damage(&mut lab.maps);
        assert!(Differences::between(&lab.model, &lab.maps).number() > 0, "{number}");
        let (model, writes) = lab.adopt();
        carry_out(&mut lab.maps, &writes);
        assert_eq!(Differences::between(&model, &lab.maps).lines(), [""; 0], "{number}");
        assert_eq!(reached(&lab.maps, destination(VIP, 80)).unwrap().len(), 2, "{number}");
    }
}

#[test]
fn random_changes_always_lead_to_what_was_asked_for() {
    let mut state = 1_u64;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut lab = Lab::new();
    for round in 0..2_000 {
        let (name, port) = (format!("s{}", random(4)), 80 + u16::try_from(random(3)).unwrap());
        let place = frontend(&format!("10.96.0.{}", random(5)), port);
        let endpoints: Vec<_> =
            (0..random(5)).map(|number| format!("10.0.{}.{number}:80", random(3))).collect();
        let mut endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
        endpoints.sort_unstable();
        endpoints.dedup();
        let new = (random(4) > 0).then(|| spec(&name, &endpoints));
        if new.is_some() || lab.table.frontends.contains_key(&place) {
            lab.change(place, new.clone());
        }
        if let Some(spec) = new {
            let expected: Vec<_> =
                spec.inside.backends().iter().map(|chosen| chosen.socket().to_string()).collect();
            let FrontendAddress::Ip(address) = place.address else { unreachable!() };
            let found = reached(&lab.maps, destination(&address.to_string(), port)).unwrap();
            assert_eq!(found, expected, "round {round}");
        }
        if round % 50 == 0 {
            let (model, writes) = lab.adopt();
            carry_out(&mut lab.maps, &writes);
            lab.model = model;
            assert_eq!(Differences::between(&lab.model, &lab.maps).lines(), [""; 0], "round {round}");
            lab.now += Duration::from_secs(1);
        }
    }
}

#[test]
fn globals_without_other_addresses_touch_nothing() {
    let mut lab = Lab::new();
    lab.change(node_port(30080), Some(external("web", &["10.0.0.1:80"])));
    let globals = Some(Globals { health_check_node_ports: BTreeSet::from([1]), ..Globals::default() });
    assert_eq!(lab.apply(&Changes { frontends: Vec::new(), globals }), Writes::default());
}
