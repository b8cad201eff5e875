//! Services for benchmarks: each has a TCP and a UDP port and two endpoints.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use shunt::domain::{Cluster, EndpointSlice, Event, Service};
use shunt::plan::{Changes, Pending, PlanSettings, Planner};
use shunt::watch::convert::{self, Names};
use shunt::watch::wire;

/// As many as issues and benchmarks speak of.
pub(crate) const SERVICES: u32 = 10_000;

/// A Service as the API server sends it, less what nobody reads.
pub(crate) fn service_json(index: u32) -> String {
    let address = Ipv4Addr::from_bits(0x0a60_0000 + index + 1);
    format!(
        r#"{{"apiVersion":"v1","kind":"Service","metadata":{{"name":"service-{index:05}","namespace":"bench",
        "uid":"00000000-0000-4000-8000-{index:012}","creationTimestamp":"2026-01-01T00:00:00Z"}},
        "spec":{{"type":"ClusterIP","clusterIP":"{address}","clusterIPs":["{address}"],"ipFamilies":["IPv4"],
        "internalTrafficPolicy":"Cluster","sessionAffinity":"None","ports":[
        {{"name":"web","protocol":"TCP","port":80,"targetPort":8080}},
        {{"name":"dns","protocol":"UDP","port":53,"targetPort":5353}}]}},"status":{{"loadBalancer":{{}}}}}}"#
    )
}

/// Its EndpointSlice; `moved` has another second endpoint.
pub(crate) fn slice_json(index: u32, moved: bool) -> String {
    let endpoint = |number: u32| {
        let address = Ipv4Addr::from_bits(0x0b00_0000 + index * 4 + number);
        format!(
            r#"{{"addresses":["{address}"],"conditions":{{"ready":true,"serving":true,"terminating":false}},
            "nodeName":"node-{}","zone":"a"}}"#,
            number % 2
        )
    };
    let (first, second) = (endpoint(1), endpoint(if moved { 3 } else { 2 }));
    format!(
        r#"{{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{{"name":"service-{index:05}-x",
        "namespace":"bench","labels":{{"kubernetes.io/service-name":"service-{index:05}"}}}},
        "addressType":"IPv4","endpoints":[{first},{second}],"ports":[
        {{"name":"web","protocol":"TCP","port":8080}},{{"name":"dns","protocol":"UDP","port":5353}}]}}"#
    )
}

/// Reads a Service.
pub(crate) fn service(json: &str, names: &Names) -> Service {
    let object: wire::Service<'_> = serde_json::from_str(json).unwrap();
    convert::service(&object, names).value.unwrap()
}

/// Reads an EndpointSlice.
pub(crate) fn slice(json: &str, names: &Names) -> EndpointSlice {
    let object: wire::EndpointSlice<'_> = serde_json::from_str(json).unwrap();
    convert::endpoint_slice(&object, names).value.unwrap()
}

/// Events of so many Services.
pub(crate) fn events(services: u32) -> Vec<Event> {
    let names = Names::default();
    let both = (0..services).map(|index| {
        let service = Event::Service(Box::new(service(&service_json(index), &names)));
        [service, Event::Slice(Box::new(slice(&slice_json(index, false), &names)))]
    });
    both.flatten().collect()
}

/// Objects and their plan.
pub(crate) struct Planned {
    pub(crate) cluster: Cluster,
    pub(crate) planner: Planner,
    pub(crate) interfaces: BTreeSet<IpAddr>,
    /// The plan as changes to nothing.
    pub(crate) first: Changes,
}

impl Planned {
    pub(crate) fn new(services: u32) -> Self {
        let mut cluster = Cluster::default();
        for event in events(services) {
            cluster.apply(event);
        }
        let interfaces = BTreeSet::from([IpAddr::from([192, 0, 2, 1])]);
        let mut planner = planner();
        let first = planner.update_all(&cluster, &interfaces);
        assert_eq!(first.frontends.len(), usize::try_from(services).unwrap() * 2);
        Self { cluster, planner, interfaces, first }
    }

    /// Takes in another version of a slice, and plans.
    pub(crate) fn change(&mut self, slice: EndpointSlice) -> Changes {
        let mut pending = Pending::default();
        pending.add(self.cluster.apply(Event::Slice(Box::new(slice))));
        self.planner.update(&self.cluster, &self.interfaces, &pending)
    }
}

pub(crate) fn planner() -> Planner {
    Planner::new(PlanSettings::new("node-1"))
}

/// Both versions of the slice that changes.
pub(crate) fn versions() -> [EndpointSlice; 2] {
    let names = Names::default();
    [true, false].map(|moved| slice(&slice_json(SERVICES / 2, moved), &names))
}
