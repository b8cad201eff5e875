//! Programs are on every interface, soon after it appears.

use std::time::Duration;

use shunt::kernel::Dataplane as _;

use crate::fixtures::{Pod, dataplane, in_namespace, index_of, links, run, services, within};

/// Far longer than the 100 ms that it should take.
const LONG: Duration = Duration::from_secs(10);

fn is_served(bpffs: &std::path::Path, index: u32) -> bool {
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
