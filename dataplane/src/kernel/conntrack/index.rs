//! Finding the frontend of a flow among many.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;

use super::staleness::leads_astray;
use super::{Flow, UdpFrontend};
use crate::domain::IpFamily;
use crate::plan::{FrontendAddress, Globals};

/// Frontends by what a client addresses; says of a flow in constant time what [`super::is_stale`] says with each of
/// them. An address outdoes a node port, as it does in the dataplane.
pub(super) struct FrontendIndex<'a> {
    addresses: HashMap<SocketAddr, Arc<[SocketAddr]>>,
    node_ports: HashMap<(IpFamily, u16), Arc<[SocketAddr]>>,
    node_port_addresses: &'a BTreeSet<IpAddr>,
    /// Where a translated flow without a frontend is the remainder of a deleted Service.
    orphan_ranges: Vec<IpNet>,
}

impl<'a> FrontendIndex<'a> {
    /// An index of these; flows without a frontend are somebody else's.
    pub(super) fn new(frontends: &[UdpFrontend], node_port_addresses: &'a BTreeSet<IpAddr>) -> Self {
        let mut index = Self {
            addresses: HashMap::new(),
            node_ports: HashMap::new(),
            node_port_addresses,
            orphan_ranges: Vec::new(),
        };
        for UdpFrontend { frontend, serving } in frontends {
            let serving = sorted(serving);
            match frontend.address {
                FrontendAddress::Ip(address) => {
                    index.addresses.insert(SocketAddr::new(address, frontend.port), serving);
                }
                FrontendAddress::NodePort(family) => {
                    index.node_ports.insert((family, frontend.port), serving);
                }
            }
        }
        index
    }

    /// The index of all there are: translated flows into the ServiceCIDRs without a frontend are stale.
    pub(super) fn of_all(frontends: &[UdpFrontend], globals: &'a Globals) -> Self {
        let orphan_ranges = globals.service_cidrs.iter().copied().collect();
        Self { orphan_ranges, ..Self::new(frontends, &globals.node_port_addresses) }
    }

    /// Whether the flow is stale.
    pub(super) fn is_stale(&self, flow: &Flow) -> bool {
        let destination = flow.original.destination;
        match self.serving(destination) {
            Some(serving) => leads_astray(flow, serving.is_empty(), |end| serving.binary_search(end).is_ok()),
            None => flow.is_translated() && self.is_orphan(destination.ip()),
        }
    }

    fn serving(&self, destination: SocketAddr) -> Option<&[SocketAddr]> {
        let by_node_port = || {
            let port = self.node_ports.get(&(IpFamily::of(destination.ip()), destination.port()))?;
            self.node_port_addresses.contains(&destination.ip()).then_some(port)
        };
        self.addresses.get(&destination).or_else(by_node_port).map(|serving| &**serving)
    }

    fn is_orphan(&self, address: IpAddr) -> bool {
        self.orphan_ranges.iter().any(|range| range.contains(&address))
    }
}

/// Plans come sorted; deleting live flows is too high a price for one that does not.
fn sorted(serving: &Arc<[SocketAddr]>) -> Arc<[SocketAddr]> {
    if serving.is_sorted() {
        return Arc::clone(serving);
    }
    let mut copy = serving.to_vec();
    copy.sort_unstable();
    copy.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Protocol;
    use crate::kernel::conntrack::{Tuple, is_stale};
    use crate::plan::Frontend;
    use proptest::prelude::*;

    fn flow(destination: SocketAddr, leads_to: SocketAddr) -> Flow {
        let client = "10.9.9.9:4000".parse().unwrap();
        Flow {
            original: Tuple { source: client, destination },
            reply: Tuple { source: leads_to, destination: client },
            id: 1,
            zone: 0,
            original_zone: 0,
        }
    }

    fn any_socket() -> impl Strategy<Value = SocketAddr> {
        let ip =
            prop_oneof!["10\\.96\\.0\\.[1-4]", "10\\.1\\.0\\.[1-4]", "192\\.0\\.2\\.[1-2]", "fd00::[1-4]"];
        (ip, 1_u16..4).prop_map(|(ip, port)| SocketAddr::new(ip.parse().unwrap(), port))
    }

    fn any_frontend() -> impl Strategy<Value = UdpFrontend> {
        let address = prop_oneof![
            any_socket().prop_map(|socket| FrontendAddress::Ip(socket.ip())),
            Just(FrontendAddress::NodePort(IpFamily::V4)),
            Just(FrontendAddress::NodePort(IpFamily::V6)),
        ];
        (address, 1_u16..4, proptest::collection::vec(any_socket(), 0..3)).prop_map(
            |(address, port, serving)| UdpFrontend {
                frontend: Frontend { address, port, protocol: Protocol::Udp },
                serving: serving.into(),
            },
        )
    }

    fn node_addresses() -> BTreeSet<IpAddr> {
        ["192.0.2.1", "fd00::1"].iter().map(|text| text.parse().unwrap()).collect()
    }

    proptest! {
        #[test]
        fn says_the_same_as_the_plain_rule_of_a_single_frontend(
            frontend in any_frontend(), destination in any_socket(), leads_to in any_socket()
        ) {
            let (flow, node_addresses) = (flow(destination, leads_to), node_addresses());
            let index = FrontendIndex::new(std::slice::from_ref(&frontend), &node_addresses);
            prop_assert_eq!(index.is_stale(&flow), is_stale(&flow, &frontend, &node_addresses));
        }

        #[test]
        fn a_flow_that_no_frontend_calls_stale_stays(
            frontends in proptest::collection::vec(any_frontend(), 0..6), destination in any_socket(), leads_to in any_socket()
        ) {
            let (flow, node_addresses) = (flow(destination, leads_to), node_addresses());
            let index = FrontendIndex::new(&frontends, &node_addresses);
            if !frontends.iter().any(|frontend| is_stale(&flow, frontend, &node_addresses)) {
                prop_assert!(!index.is_stale(&flow));
            }
        }
    }

    #[test]
    fn an_address_outdoes_the_node_port_of_the_same_number() {
        let frontend = |address, serving: &str| UdpFrontend {
            frontend: Frontend { address, port: 2, protocol: Protocol::Udp },
            serving: [serving.parse().unwrap()].into(),
        };
        let both = [
            frontend(FrontendAddress::Ip("192.0.2.1".parse().unwrap()), "10.1.0.1:2"),
            frontend(FrontendAddress::NodePort(IpFamily::V4), "10.1.0.2:2"),
        ];
        let node_addresses = node_addresses();
        let index = FrontendIndex::new(&both, &node_addresses);
        let destination = "192.0.2.1:2".parse().unwrap();
        assert!(!index.is_stale(&flow(destination, "10.1.0.1:2".parse().unwrap())));
        assert!(index.is_stale(&flow(destination, "10.1.0.2:2".parse().unwrap())));
    }

    #[test]
    fn only_translated_flows_into_the_service_range_are_orphans() {
        let globals = Globals {
            node_port_addresses: node_addresses(),
            service_cidrs: ["10.96.0.0/16".parse().unwrap()].into(),
            ..Globals::default()
        };
        let index = FrontendIndex::of_all(&[], &globals);
        let stale = |to: &str, by: &str| index.is_stale(&flow(to.parse().unwrap(), by.parse().unwrap()));
        assert!(stale("10.96.0.1:53", "10.1.0.1:53"), "of a deleted Service");
        assert!(!stale("10.96.0.1:53", "10.96.0.1:53"), "untranslated");
        assert!(!stale("203.0.113.1:53", "10.1.0.1:53"), "translated by somebody else");
        assert!(
            !FrontendIndex::new(&[], &globals.node_port_addresses)
                .is_stale(&flow("10.96.0.1:53".parse().unwrap(), "10.1.0.1:53".parse().unwrap()))
        );
    }
}
