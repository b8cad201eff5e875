//! A UDP frontend as far as its flows are concerned.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::domain::Protocol;
use crate::plan::{Change, Frontend, FrontendSpec, Table};

/// A UDP frontend and the endpoints to which its flows may lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpFrontend {
    /// The frontend; its protocol is UDP.
    pub frontend: Frontend,
    /// All endpoints that still serve, eligible on this node or not; empty if the Service has none or is deleted.
    pub serving: Arc<[SocketAddr]>,
}

impl UdpFrontend {
    /// The frontend with the endpoints of `spec`, or none if it is gone. `None` for other protocols than UDP.
    pub fn new(frontend: Frontend, spec: Option<&FrontendSpec>) -> Option<Self> {
        let serving = || spec.map_or_else(|| Arc::from([]), |spec| Arc::clone(&spec.serving));
        (frontend.protocol == Protocol::Udp).then(|| Self { frontend, serving: serving() })
    }

    /// What a change asks to be cleaned: `None` if no flow can have become stale by it (another protocol, or
    /// endpoints were only added to some that were there before).
    pub fn of_change(change: &Change) -> Option<Self> {
        let old = change.old.as_ref().map_or(&[][..], |spec| &spec.serving);
        let new = change.new.as_ref().map_or(&[][..], |spec| &spec.serving);
        let only_grew = !old.is_empty() && old.iter().all(|endpoint| new.contains(endpoint));
        if only_grew {
            return None;
        }
        Self::new(change.frontend, change.new.as_deref())
    }

    /// Every UDP frontend of a table, for [`super::Conntrack::clean_all`].
    pub fn of_table(table: &Table) -> Vec<Self> {
        table.frontends.iter().filter_map(|(frontend, spec)| Self::new(*frontend, Some(spec))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ServiceName, ServicePortName};
    use crate::plan::{FrontendAddress, FrontendKind, Policy, Target};

    const DNS: Frontend = Frontend {
        address: FrontendAddress::Ip(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 96, 0, 10))),
        port: 53,
        protocol: Protocol::Udp,
    };

    fn spec(serving: &[&str]) -> Arc<FrontendSpec> {
        Arc::new(FrontendSpec {
            owner: Arc::new(ServicePortName {
                service: ServiceName { namespace: "kube-system".into(), name: "dns".into() },
                port: "dns".into(),
                protocol: Protocol::Udp,
            }),
            kind: FrontendKind::ClusterIp,
            policy: Policy::Internal,
            inside: Target::Reject,
            outside: Target::Reject,
            affinity_seconds: None,
            source_ranges: None,
            serving: serving.iter().map(|text| text.parse().unwrap()).collect(),
        })
    }

    fn change(frontend: Frontend, old: Option<&[&str]>, new: Option<&[&str]>) -> Option<usize> {
        let change = Change { frontend, old: old.map(spec), new: new.map(spec) };
        UdpFrontend::of_change(&change).map(|found| found.serving.len())
    }

    #[test]
    fn frontends_of_other_protocols_have_nothing_to_clean() {
        for protocol in [Protocol::Tcp, Protocol::Sctp] {
            assert_eq!(change(Frontend { protocol, ..DNS }, Some(&["10.1.0.1:53"]), None), None);
        }
    }

    #[test]
    fn adding_endpoints_to_some_has_nothing_to_clean() {
        let old: &[&str] = &["10.1.0.1:53"];
        assert_eq!(change(DNS, Some(old), Some(&["10.1.0.1:53", "10.1.0.2:53"])), None);
        assert_eq!(change(DNS, Some(old), Some(old)), None);
    }

    #[test]
    fn endpoints_that_go_and_the_first_ones_that_come_ask_for_cleaning() {
        let one: &[&str] = &["10.1.0.1:53"];
        assert_eq!(change(DNS, Some(one), Some(&["10.1.0.2:53"])), Some(1));
        assert_eq!(change(DNS, Some(one), Some(&[])), Some(0));
        assert_eq!(change(DNS, Some(one), None), Some(0));
        assert_eq!(change(DNS, Some(&[]), Some(one)), Some(1));
        assert_eq!(change(DNS, None, Some(one)), Some(1));
    }

    #[test]
    fn a_table_yields_its_udp_frontends_only() {
        let mut table = Table::default();
        table.frontends.insert(DNS, spec(&["10.1.0.1:53"]));
        table.frontends.insert(Frontend { protocol: Protocol::Tcp, ..DNS }, spec(&["10.1.0.1:53"]));
        let found = UdpFrontend::of_table(&table);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].frontend, DNS);
        assert_eq!(*found[0].serving, ["10.1.0.1:53".parse().unwrap()]);
    }
}
