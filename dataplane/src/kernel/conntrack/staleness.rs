//! Which flows are stale.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use super::{Flow, UdpFrontend};
use crate::domain::IpFamily;
use crate::plan::FrontendAddress;

/// Whether `flow` belongs to `frontend` and leads where it no longer should:
///
/// - endpoints serve: it leads to none of them, be it to one that is gone, be it nowhere because it started before
///   there were any;
/// - none serves: it was translated to one that is gone. Untranslated flows stay: they lead to the address itself, to
///   whoever owned it before there was a Service.
///
/// A flow belongs to a frontend if the client addressed its IP and port; to a node port, if it addressed that port of
/// one of `node_port_addresses`. The same port of any other host is none of ours.
pub fn is_stale(flow: &Flow, frontend: &UdpFrontend, node_port_addresses: &BTreeSet<IpAddr>) -> bool {
    let destination = flow.original.destination;
    let belongs = destination.port() == frontend.frontend.port
        && match frontend.frontend.address {
            FrontendAddress::Ip(address) => address == destination.ip(),
            FrontendAddress::NodePort(family) => {
                IpFamily::of(destination.ip()) == family && node_port_addresses.contains(&destination.ip())
            }
        };
    belongs && leads_astray(flow, frontend.serving.is_empty(), |endpoint| frontend.serving.contains(endpoint))
}

/// The same of a flow that is known to belong to the frontend.
pub(super) fn leads_astray(flow: &Flow, none_serves: bool, serves: impl Fn(&SocketAddr) -> bool) -> bool {
    // A virtual switch tracks packets to a Service before the host translates them, in a zone of its own, each time
    // anew: untranslated is normal there.
    if none_serves || !flow.is_in_default_zone() {
        return flow.is_translated() && !serves(&flow.reply.source);
    }
    !serves(&flow.reply.source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Protocol;
    use crate::kernel::conntrack::Tuple;
    use crate::plan::Frontend;

    fn flow(destination: &str, leads_to: &str) -> Flow {
        let client = if destination.starts_with('[') { "[fd00::9]:4000" } else { "10.9.9.9:4000" };
        let (client, destination) = (client.parse().unwrap(), destination.parse().unwrap());
        Flow {
            original: Tuple { source: client, destination },
            reply: Tuple { source: leads_to.parse().unwrap(), destination: client },
            id: 1,
            zone: 0,
            original_zone: 0,
        }
    }

    fn frontend(address: FrontendAddress, port: u16, serving: &[&str]) -> UdpFrontend {
        UdpFrontend {
            frontend: Frontend { address, port, protocol: Protocol::Udp },
            serving: serving.iter().map(|text| text.parse().unwrap()).collect(),
        }
    }

    fn vip(address: &str, port: u16, serving: &[&str]) -> UdpFrontend {
        frontend(FrontendAddress::Ip(address.parse().unwrap()), port, serving)
    }

    fn node_addresses() -> BTreeSet<IpAddr> {
        ["192.0.2.1", "fd00::1"].iter().map(|text| text.parse().unwrap()).collect()
    }

    #[track_caller]
    fn check(cases: &[(&str, Flow, UdpFrontend, bool)]) {
        for (case, flow, frontend, stale) in cases {
            assert_eq!(is_stale(flow, frontend, &node_addresses()), *stale, "{case}");
        }
    }

    #[test]
    fn flows_of_an_address_follow_its_serving_endpoints() {
        let one = vip("10.96.0.10", 53, &["10.1.0.1:5353"]);
        let none = vip("10.96.0.10", 53, &[]);
        let v6 = vip("fd96::10", 53, &["[fd01::1]:5353"]);
        check(&[
            ("leads to a serving endpoint", flow("10.96.0.10:53", "10.1.0.1:5353"), one.clone(), false),
            ("leads to one that is gone", flow("10.96.0.10:53", "10.1.0.2:5353"), one.clone(), true),
            (
                "leads to another port of a serving pod",
                flow("10.96.0.10:53", "10.1.0.1:53"),
                one.clone(),
                true,
            ),
            ("began before there were endpoints", flow("10.96.0.10:53", "10.96.0.10:53"), one.clone(), true),
            ("another port", flow("10.96.0.10:54", "10.1.0.2:5353"), one.clone(), false),
            ("another address", flow("10.96.0.11:53", "10.1.0.2:5353"), one, false),
            ("translated, none serves", flow("10.96.0.10:53", "10.1.0.1:5353"), none.clone(), true),
            ("untranslated, none serves", flow("10.96.0.10:53", "10.96.0.10:53"), none, false),
            ("IPv6, serving", flow("[fd96::10]:53", "[fd01::1]:5353"), v6.clone(), false),
            ("IPv6, gone", flow("[fd96::10]:53", "[fd01::2]:5353"), v6, true),
        ]);
    }

    #[test]
    fn flows_of_a_node_port_are_those_to_addresses_of_this_node() {
        let v4 = frontend(FrontendAddress::NodePort(IpFamily::V4), 30053, &["10.1.0.1:53"]);
        let v6 = frontend(FrontendAddress::NodePort(IpFamily::V6), 30053, &["[fd01::1]:53"]);
        check(&[
            ("leads to one that is gone", flow("192.0.2.1:30053", "10.1.0.2:53"), v4.clone(), true),
            ("leads to a serving endpoint", flow("192.0.2.1:30053", "10.1.0.1:53"), v4.clone(), false),
            ("the port of another host", flow("198.51.100.7:30053", "198.51.100.7:30053"), v4.clone(), false),
            ("translated, another host", flow("198.51.100.7:30053", "10.1.0.2:53"), v4.clone(), false),
            ("the other family", flow("[fd00::1]:30053", "[fd01::2]:53"), v4, false),
            ("IPv6", flow("[fd00::1]:30053", "[fd01::2]:53"), v6, true),
        ]);
    }

    #[test]
    fn an_endpoint_that_is_the_frontend_itself_is_not_a_missing_translation() {
        let own = frontend(FrontendAddress::NodePort(IpFamily::V4), 30053, &["192.0.2.1:30053"]);
        assert!(!is_stale(&flow("192.0.2.1:30053", "192.0.2.1:30053"), &own, &node_addresses()));
    }

    #[test]
    fn in_a_zone_of_its_own_an_untranslated_flow_is_normal() {
        let one = vip("10.96.0.10", 53, &["10.1.0.1:5353"]);
        let zoned = |leads_to| Flow { zone: 7, ..flow("10.96.0.10:53", leads_to) };
        assert!(!is_stale(&zoned("10.96.0.10:53"), &one, &node_addresses()));
        assert!(is_stale(&zoned("10.1.0.2:5353"), &one, &node_addresses()));
        let half = Flow { original_zone: 7, ..flow("10.96.0.10:53", "10.96.0.10:53") };
        assert!(!is_stale(&half, &one, &node_addresses()));
    }
}
