//! Programs are on every interface, soon after it appears.

use std::path::Path;
use std::time::Duration;

use aya::maps::{HashMap, Map, MapData};

use shunt::kernel::Dataplane as _;
use shunt_abi::address::{word, words};
use shunt_abi::interface::{InterfaceValue, TUNNEL};
use shunt_abi::name;

use crate::fixtures::{Pod, dataplane, in_namespace, index_of, links, pins, run, run_all, services, within};

/// Far longer than the 100 ms that it should take.
const LONG: Duration = Duration::from_secs(10);

fn is_served(bpffs: &Path, index: u32) -> bool {
    let links = links(bpffs);
    ["ingress", "egress"].iter().all(|direction| links.contains(&format!("{direction}-{index}")))
}

#[test]
fn interfaces_that_appear_are_served_soon_and_forgotten_when_they_go() {
    in_namespace(|bpffs| {
        run("ip link add before type veth peer name peer0");
        let mut dataplane = dataplane(bpffs);
        dataplane.restore(&services(1)).unwrap();
        let before = || is_served(bpffs, index_of("before")) && is_served(bpffs, index_of("lo"));
        assert!(within(LONG, before).is_some());
        for round in 0..5 {
            let pod = Pod::new();
            run(&format!("ip link add later{round} type veth peer name eth0 netns {}", pod.process()));
            let index = index_of(&format!("later{round}"));
            let took = within(LONG, || is_served(bpffs, index)).expect("is served");
            println!("served after {took:?}");
            run(&format!("ip link del later{round}"));
            assert!(within(LONG, || !is_served(bpffs, index)).is_some(), "round {round}");
        }
    });
}

#[test]
fn a_bridge_is_served_at_its_ports() {
    in_namespace(|bpffs| {
        run("ip link add br0 type bridge");
        run("ip link add port0 type veth peer name pod0");
        run("ip link set port0 master br0");
        let mut dataplane = dataplane(bpffs);
        dataplane.restore(&services(1)).unwrap();
        assert!(within(LONG, || is_served(bpffs, index_of("port0"))).is_some());
        assert!(!is_served(bpffs, index_of("br0")));
    });
}

#[test]
fn interfaces_that_went_while_no_agent_ran_leave_nothing() {
    in_namespace(|bpffs| {
        run("ip link add gone type veth peer name peer0");
        let mut first = dataplane(bpffs);
        first.restore(&services(1)).unwrap();
        let index = index_of("gone");
        assert!(within(LONG, || is_served(bpffs, index)).is_some());
        drop(first);
        // The watcher ends with the dataplane, a second later at most.
        std::thread::sleep(Duration::from_millis(1200));
        run("ip link del gone");
        dataplane(bpffs).restore(&services(1)).unwrap();
        assert_eq!(links(bpffs), ["egress-1", "ingress-1"]);
    });
}

/// What the programs are told of an interface.
fn described(bpffs: &Path, interface: &str) -> Option<InterfaceValue> {
    let data = MapData::from_pin(pins(bpffs).join(name::INTERFACES)).unwrap();
    let map: HashMap<_, u32, InterfaceValue> = Map::HashMap(data).try_into().unwrap();
    map.get(&index_of(interface), 0).ok()
}

#[test]
fn the_programs_know_the_first_address_of_each_interface_as_it_changes() {
    in_namespace(|bpffs| {
        run_all(
            "ip link add lower type veth peer name lowerp
             ip link add tunnel type vxlan id 5 dstport 4789 dev lower
             ip link add br0 type bridge
             ip link add port0 type veth peer name pod0
             ip link set port0 master br0
             ip link set lower up",
        );
        let mut dataplane = dataplane(bpffs);
        dataplane.restore(&services(1)).unwrap();
        let told = |interface: &str, flags: u32, v4: Option<[u8; 4]>, v6: Option<&str>| {
            let source4 = v4.map_or(0, |address| word(address.into()));
            let source6 = v6.map_or([0; 4], |address| words(address.parse().unwrap()));
            let is_told = |value: InterfaceValue| {
                (value.flags & TUNNEL, value.source4, value.source6) == (flags, source4, source6)
            };
            let in_time = within(LONG, || described(bpffs, interface).is_some_and(is_told));
            assert!(in_time.is_some(), "{:?}", described(bpffs, interface));
        };
        told("tunnel", TUNNEL, None, None);
        run_all(
            "ip addr add 10.6.1.0/32 dev tunnel
             ip addr add 10.6.1.9/32 dev tunnel
             ip addr add fd00:6:1::/128 dev tunnel nodad
             ip addr add fe80::5/64 dev tunnel nodad
             ip addr add 192.0.2.1/24 dev lower
             ip addr add 192.0.2.2/24 dev lower
             ip addr add 10.7.0.1/24 dev br0",
        );
        told("tunnel", TUNNEL, Some([10, 6, 1, 0]), Some("fd00:6:1::"));
        told("lower", 0, Some([192, 0, 2, 1]), None);
        told("port0", 0, Some([10, 7, 0, 1]), None);
        run_all("ip addr del 10.6.1.0/32 dev tunnel\nip addr flush dev lower");
        told("tunnel", TUNNEL, Some([10, 6, 1, 9]), Some("fd00:6:1::"));
        told("lower", 0, None, None);
    });
}
