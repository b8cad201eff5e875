//! What the programs are told of an interface.

use std::collections::BTreeMap;

use shunt_abi::address::{word, words};
use shunt_abi::interface::{BRIDGE_PORT, InterfaceValue, NO_LINK_HEADER, POD, TUNNEL};

use super::interfaces::{Interface, Role};
use crate::domain::LocalDetector;
use crate::plan::PerFamily;

/// What carries packets of members is served at the master; a bridge is served at its ports.
pub(super) const fn is_served(interface: &Interface) -> bool {
    !interface.is_member && !matches!(interface.role, Role::Bridge)
}

/// The value for the programs; `all` has the masters.
pub(super) fn describe(
    interface: &Interface,
    all: &BTreeMap<u32, Interface>,
    detectors: &PerFamily<LocalDetector>,
) -> InterfaceValue {
    let master = all.get(&interface.master);
    let is_pod = |detector: &LocalDetector| match detector {
        LocalDetector::None | LocalDetector::Cidrs(_) => false,
        LocalDetector::BridgeInterface(name) => {
            interface.name == *name || master.is_some_and(|master| master.name == *name)
        }
        LocalDetector::InterfaceNamePrefix(prefix) => interface.name.starts_with(prefix.as_str()),
    };
    let flags = [
        (is_pod(&detectors.v4) || is_pod(&detectors.v6), POD),
        (interface.role == Role::BridgePort, BRIDGE_PORT),
        (interface.role == Role::Layer3, NO_LINK_HEADER),
        (matches!(interface.role, Role::Layer3 | Role::Overlay), TUNNEL),
    ];
    let flags = flags.into_iter().filter(|(holds, _)| *holds).fold(0, |flags, (_, bit)| flags | bit);
    let bridge = master.filter(|_| interface.role == Role::BridgePort);
    let address = bridge.map_or(interface.mac, |bridge| bridge.mac);
    let upper = bridge.map_or(interface.index, |bridge| bridge.index);
    let source4 = interface.sources.v4.map_or(0, word);
    let source6 = interface.sources.v6.map_or([0; 4], words);
    InterfaceValue { flags, address, pad: [0; 2], source4, source6, upper }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::ebpf::sources::Sources;

    fn interface(index: u32, name: &str, role: Role, master: u32) -> Interface {
        let mac = [2, 0, 0, 0, 0, u8::try_from(index).unwrap()];
        let sources = Sources::default();
        Interface { index, name: name.into(), role, master, mac, is_member: false, is_way_in: false, sources }
    }

    fn described(interface: &Interface, detector: LocalDetector) -> InterfaceValue {
        let bridge = self::interface(9, "cni0", Role::Bridge, 0);
        let detectors = PerFamily { v4: detector.clone(), v6: detector };
        describe(interface, &BTreeMap::from([(9, bridge)]), &detectors)
    }

    #[test]
    fn a_port_has_the_address_of_its_bridge_and_is_a_pod_with_it() {
        let port = interface(2, "veth1", Role::BridgePort, 9);
        let value = described(&port, LocalDetector::BridgeInterface("cni0".into()));
        assert_eq!((value.flags, value.address), (BRIDGE_PORT | POD, [2, 0, 0, 0, 0, 9]));
        let value = described(&port, LocalDetector::BridgeInterface("br0".into()));
        assert_eq!(value.flags, BRIDGE_PORT);
    }

    #[test]
    fn pods_are_told_by_the_name_and_tunnels_have_no_link_header() {
        let prefix = LocalDetector::InterfaceNamePrefix("cali".into());
        let value = described(&interface(2, "cali12", Role::Veth, 0), prefix.clone());
        assert_eq!((value.flags, value.address), (POD, [2, 0, 0, 0, 0, 2]));
        assert_eq!(described(&interface(3, "wg0", Role::Layer3, 0), prefix).flags, NO_LINK_HEADER | TUNNEL);
    }

    #[test]
    fn tunnels_are_known_with_their_addresses() {
        let (v4, v6) = ("10.244.1.0".parse().unwrap(), "fd00:244:1::fff0".parse().unwrap());
        let sources = Sources { v4: Some(v4), v6: Some(v6) };
        let tunnel = Interface { sources, ..interface(4, "flannel.1", Role::Overlay, 0) };
        let value = described(&tunnel, LocalDetector::None);
        assert_eq!((value.flags, value.source4, value.source6), (TUNNEL, word(v4), words(v6)));
        let none = described(&interface(4, "eth1", Role::Uplink, 0), LocalDetector::None);
        assert_eq!((none.flags, none.source4, none.source6), (0, 0, [0; 4]));
    }

    #[test]
    fn bridges_and_members_are_served_elsewhere() {
        assert!(!is_served(&interface(9, "cni0", Role::Bridge, 0)));
        assert!(!is_served(&Interface { is_member: true, ..interface(2, "eth0", Role::Uplink, 8) }));
        let kinds = [Role::Loopback, Role::Veth, Role::BridgePort, Role::Overlay, Role::Uplink, Role::Layer3];
        assert!(kinds.into_iter().all(|role| is_served(&interface(2, "any", role, 0))));
    }
}
