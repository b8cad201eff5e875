//! Frontends that an earlier agent programmed and that are no more.

use std::collections::BTreeSet;

use super::element::owner;
use super::read::Actual;
use super::set::StaticSet;
use crate::domain::IpFamily;
use crate::plan::{Frontend, Table};

/// Frontends that are in the kernel and not in the table.
pub(super) fn withdrawn(actual: &Actual, family: IpFamily, table: &Table) -> BTreeSet<Frontend> {
    let sets = [
        StaticSet::ServiceIps,
        StaticSet::ServiceNodePorts,
        StaticSet::NoEndpointServices,
        StaticSet::NoEndpointNodePorts,
    ];
    let elements = |set: StaticSet| {
        let found = actual.elements.get(set.name().as_ref());
        found.into_iter().flatten().filter_map(move |element| owner(set, family, element))
    };
    let programmed = sets.into_iter().flat_map(elements);
    programmed.filter(|frontend| !table.frontends.contains_key(frontend)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::domain::Protocol;
    use crate::kernel::nftables::element::{Element, Key};
    use crate::kernel::nftables::expression::Verdict;
    use crate::plan::FrontendAddress;

    #[test]
    fn frontends_in_the_kernel_that_no_service_has_are_found_by_address_and_by_node_port() {
        let key = Key::new().protocol(Protocol::Udp).port(30053);
        let addressed = Key::new().address([10, 96, 0, 53].into()).protocol(Protocol::Udp).port(53);
        let members = [(StaticSet::NoEndpointNodePorts, key), (StaticSet::ServiceIps, addressed)];
        let elements = members
            .map(|(set, key)| (set.name().as_ref().into(), [Element::verdict(key, Verdict::Drop)].into()));
        let actual = Actual {
            flags: 0,
            sets: HashMap::new(),
            chains: HashMap::new(),
            rules: HashMap::new(),
            elements: elements.into(),
        };
        let found = withdrawn(&actual, IpFamily::V4, &Table::default());
        let frontend = |address, port| Frontend { address, port, protocol: Protocol::Udp };
        let wanted = [
            frontend(FrontendAddress::Ip([10, 96, 0, 53].into()), 53),
            frontend(FrontendAddress::NodePort(IpFamily::V4), 30053),
        ];
        assert_eq!(found, wanted.into());
    }
}
