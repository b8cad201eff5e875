//! Real packets past the host's stack: nothing else is different, and no conversation meets the firewall.

use std::net::SocketAddr;

use shunt_abi::{
    backend::LOCAL,
    frontend::{INTERNAL, MASQUERADE_REMOTE},
};

use crate::{
    lab::{Acceleration, Addresses, FAMILIES, Lab, PORT, Place, firewall_counts, in_lab_with},
    packet::{TCP, UDP},
};

const WAYS: [Acceleration; 2] = [Acceleration::ToNeighbours, Acceleration::IntoPods];

fn offer(lab: &mut Lab, family: &Addresses, address: &str, flags: u32) -> SocketAddr {
    let frontend = format!("{address}:30080");
    for protocol in [TCP, UDP] {
        lab.world.service_with(&frontend, protocol, &[&format!("{}:{PORT}", family.other_pod)], LOCAL, flags);
    }
    frontend.parse().unwrap()
}

fn accelerated(lab: &mut Lab) -> u64 {
    lab.world.counts().get("accelerated").copied().unwrap_or_default()
}

#[test]
fn pods_reach_each_other_past_the_stack_in_both_directions() {
    for way in WAYS {
        in_lab_with(way, |lab| {
            for family in &FAMILIES {
                let frontend = offer(lab, family, family.cluster_ip, INTERNAL);
                // The first conversation teaches the node its neighbours.
                for protocol in [TCP, UDP] {
                    lab.ask(Place::Pod, protocol, frontend).unwrap();
                }
                for protocol in [TCP, UDP] {
                    let before = lab.world.counts();
                    let (who, seen) = lab.ask(Place::Pod, protocol, frontend).unwrap_or_else(|error| {
                        panic!(
                            "{way:?} {frontend} {protocol}: {error} {:?} {}",
                            lab.world.counts(),
                            firewall_counts()
                        )
                    });
                    assert_eq!(who, "OtherPod");
                    assert_eq!(seen.ip().to_string(), family.pod.trim_matches(['[', ']']));
                    let after = lab.world.counts();
                    let more = |name| after.get(name).unwrap_or(&0) - before.get(name).unwrap_or(&0);
                    println!(
                        "{way:?} {frontend} {protocol}: forward {} reverse {} accelerated {} fragments {}",
                        more("forward"),
                        more("reverse"),
                        more("accelerated"),
                        more("fragment")
                    );
                    if protocol == TCP {
                        assert_eq!(more("accelerated"), more("forward") + more("reverse"));
                    } else {
                        assert!(more("accelerated") >= 2);
                    }
                }
            }
        });
    }
}

#[test]
fn clients_outside_reach_pods_past_the_stack_through_node_ports() {
    for way in WAYS {
        in_lab_with(way, |lab| {
            for family in &FAMILIES {
                let frontend = offer(lab, family, family.node, MASQUERADE_REMOTE);
                for protocol in [TCP, UDP, TCP, UDP] {
                    let before = accelerated(lab);
                    let (who, seen) = lab.ask(Place::Outsider, protocol, frontend).unwrap_or_else(|error| {
                        panic!(
                            "{way:?} {frontend} {protocol}: {error} {:?} {}",
                            lab.world.counts(),
                            firewall_counts()
                        )
                    });
                    assert_eq!(who, "OtherPod");
                    assert_eq!(seen.ip().to_string(), family.outsider.trim_matches(['[', ']']));
                    println!("{way:?} {frontend} {protocol}: accelerated {}", accelerated(lab) - before);
                }
                assert!(accelerated(lab) > 0);
            }
        });
    }
}
