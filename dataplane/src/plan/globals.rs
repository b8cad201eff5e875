//! What does not belong to one Service.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::{LoopbackNodePorts, NodePortAddresses, NodeView, PlanSettings};
use crate::domain::IpFamily;

/// The addresses of this node on which node ports are accepted.
pub(super) fn node_port_addresses(
    settings: &PlanSettings,
    node: &NodeView<'_>,
    interface_addresses: &BTreeSet<IpAddr>,
) -> BTreeSet<IpAddr> {
    let mut found: BTreeSet<IpAddr> = match &settings.node_port_addresses {
        NodePortAddresses::Primary => {
            IpFamily::ALL.iter().filter_map(|family| *node.primary.get(*family)).collect()
        }
        NodePortAddresses::Cidrs(cidrs) => {
            interface_addresses.iter().copied().filter(|address| selected(*address, cidrs)).collect()
        }
    };
    let loopback = |address: &IpAddr| *settings.loopback_node_ports.get(IpFamily::of(*address));
    found.retain(|address| !address.is_loopback() || loopback(address) != LoopbackNodePorts::Never);
    let always = LOCALHOST.iter().filter(|address| loopback(address) == LoopbackNodePorts::Always);
    found.extend(always.filter(|address| interface_addresses.contains(address)));
    found
}

/// The loopback address of each family that everybody means.
const LOCALHOST: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

fn selected(address: IpAddr, cidrs: &[IpNet]) -> bool {
    let family = IpFamily::of(address);
    let mut own = cidrs.iter().filter(|cidr| IpFamily::of(cidr.addr()) == family).peekable();
    if own.peek().is_none() {
        return !address.is_loopback();
    }
    own.any(|cidr| cidr.contains(&address) && (!address.is_loopback() || cidr.network().is_loopback()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Node;

    fn selection(setting: NodePortAddresses, bind_address: Option<&str>) -> Vec<String> {
        selection_with(setting, bind_address, LoopbackNodePorts::IfNamed)
    }

    fn selection_with(
        setting: NodePortAddresses,
        bind_address: Option<&str>,
        loopback: LoopbackNodePorts,
    ) -> Vec<String> {
        let mut settings = PlanSettings::new("node");
        settings.node_port_addresses = setting;
        settings.loopback_node_ports.v4 = loopback;
        settings.bind_address = bind_address.map(|address| address.parse().unwrap());
        let addresses = ["192.168.0.2", "192.168.0.3", "fd00::2"].map(|a| a.parse().unwrap()).to_vec();
        let node = Node { addresses, ..Node::default() };
        let interfaces =
            ["127.0.0.1", "::1", "192.168.0.2", "10.0.0.2", "fd00::2", "fe80::1"].map(|a| a.parse().unwrap());
        let view = NodeView::new(&settings, Some(&node));
        let selected = node_port_addresses(&settings, &view, &interfaces.into_iter().collect());
        selected.iter().map(ToString::to_string).collect()
    }

    fn cidrs(list: &[&str]) -> NodePortAddresses {
        NodePortAddresses::Cidrs(list.iter().map(|cidr| cidr.parse().unwrap()).collect())
    }

    #[test]
    fn primary_means_the_first_address_of_each_family() {
        assert_eq!(selection(NodePortAddresses::Primary, None), ["192.168.0.2", "fd00::2"]);
    }

    #[test]
    fn the_bind_address_is_the_primary_address_of_its_family_unless_unspecified() {
        assert_eq!(selection(NodePortAddresses::Primary, Some("10.9.9.9")), ["10.9.9.9", "fd00::2"]);
        assert_eq!(selection(NodePortAddresses::Primary, Some("0.0.0.0")), ["192.168.0.2", "fd00::2"]);
    }

    #[test]
    fn ranges_select_interface_addresses() {
        assert_eq!(selection(cidrs(&["192.168.0.0/16", "fd00::/64"]), None), ["192.168.0.2", "fd00::2"]);
    }

    #[test]
    fn everything_means_everything_but_loopback() {
        let all = ["10.0.0.2", "192.168.0.2", "fd00::2", "fe80::1"];
        assert_eq!(selection(cidrs(&["0.0.0.0/0", "::/0"]), None), all);
        assert_eq!(selection(cidrs(&[]), None), all);
    }

    #[test]
    fn a_family_without_ranges_has_all_its_addresses() {
        assert_eq!(selection(cidrs(&["10.0.0.0/8"]), None), ["10.0.0.2", "fd00::2", "fe80::1"]);
    }

    #[test]
    fn loopback_is_selected_only_by_a_loopback_range() {
        assert_eq!(selection(cidrs(&["127.0.0.0/8", "::1/128"]), None), ["127.0.0.1", "::1"]);
    }

    #[test]
    fn a_family_can_have_its_loopback_address_always_or_never() {
        let with = |setting, loopback| selection_with(setting, None, loopback);
        let primary = ["127.0.0.1", "192.168.0.2", "fd00::2"];
        assert_eq!(with(NodePortAddresses::Primary, LoopbackNodePorts::Always), primary);
        let some = with(cidrs(&["10.0.0.0/8", "fd00::/64"]), LoopbackNodePorts::Always);
        assert_eq!(some, ["10.0.0.2", "127.0.0.1", "fd00::2"]);
        let never = with(cidrs(&["127.0.0.0/8", "::1/128"]), LoopbackNodePorts::Never);
        assert_eq!(never, ["::1"], "the other family is named");
    }
}
