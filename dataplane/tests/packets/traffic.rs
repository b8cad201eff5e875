//! Real traffic through the programs.

use std::net::SocketAddr;

use shunt_abi::{
    backend::{HOST, LOCAL},
    frontend::{FrontendValue, INSIDE_REJECT, INTERNAL, MASQUERADE_REMOTE},
};

use crate::{
    lab::{Addresses, FAMILIES, Lab, PORT, Place, firewall_counts, in_lab},
    packet::{TCP, UDP},
};

/// The four kinds of backend: where it is, its address and its flags.
fn backends(family: &Addresses) -> [(Place, String, u16); 4] {
    [
        (Place::Pod, format!("{}:{PORT}", family.pod), LOCAL),
        (Place::OtherPod, format!("{}:{PORT}", family.other_pod), LOCAL),
        (Place::Remote, format!("{}:{PORT}", family.remote_pod), 0),
        (Place::Node, format!("{}:{PORT}", family.node), LOCAL | HOST),
    ]
}

/// Offers each backend under a port of its own (80 and on), on `address`.
fn offer(lab: &mut Lab, family: &Addresses, address: &str, flags: u32) -> Vec<(Place, SocketAddr)> {
    let mut offers = Vec::new();
    for ((place, backend, backend_flags), port) in backends(family).into_iter().zip(30_080..) {
        let frontend = format!("{address}:{port}");
        for protocol in [TCP, UDP] {
            lab.world.service_with(&frontend, protocol, &[&backend], backend_flags, flags);
        }
        offers.push((place, frontend.parse().unwrap()));
    }
    offers
}

/// Everybody of `clients` reaches every backend; failures are told all at once.
fn check(lab: &mut Lab, offers: &[(Place, SocketAddr)], clients: &[Place]) {
    let mut failures = Vec::new();
    for client in clients {
        for (server, frontend) in offers {
            for protocol in [TCP, UDP] {
                match lab.ask(*client, protocol, *frontend) {
                    Ok((who, _)) if who == format!("{server:?}") => {}
                    other => {
                        failures
                            .push(format!("{client:?} -> {frontend} ({server:?}), {protocol}: {other:?}"));
                    }
                }
            }
        }
    }
    let counts = lab.world.counts();
    assert!(failures.is_empty(), "{failures:#?}\n{counts:?}\n{}", firewall_counts());
}

#[test]
fn pods_reach_every_kind_of_backend_through_the_cluster_ip() {
    in_lab(|lab| {
        for family in &FAMILIES {
            let offers = offer(lab, family, family.cluster_ip, INTERNAL);
            check(lab, &offers, &[Place::Pod]);
        }
    });
}

#[test]
fn this_node_reaches_every_kind_of_backend_through_the_cluster_ip() {
    in_lab(|lab| {
        for family in &FAMILIES {
            let offers = offer(lab, family, family.cluster_ip, INTERNAL);
            check(lab, &offers, &[Place::Node]);
        }
    });
}

#[test]
fn everybody_reaches_every_kind_of_backend_through_a_node_port() {
    in_lab(|lab| {
        for family in &FAMILIES {
            let offers = offer(lab, family, family.node, MASQUERADE_REMOTE);
            check(lab, &offers, &[Place::Outsider, Place::Pod, Place::Node]);
        }
    });
}

#[test]
fn local_backends_see_who_their_client_is() {
    in_lab(|lab| {
        for family in &FAMILIES {
            for (place, frontend) in offer(lab, family, family.node, MASQUERADE_REMOTE) {
                for protocol in [TCP, UDP] {
                    let (_, seen) = lab.ask(Place::Outsider, protocol, frontend).unwrap();
                    let outsider = family.outsider.trim_matches(['[', ']']);
                    assert_eq!(
                        seen.ip().to_string() == outsider,
                        place != Place::Remote,
                        "{place:?} saw {seen}"
                    );
                }
            }
        }
    });
}

#[test]
fn what_nobody_serves_is_refused_at_once() {
    in_lab(|lab| {
        for family in &FAMILIES {
            let frontend = format!("{}:81", family.cluster_ip);
            for protocol in [TCP, UDP] {
                let value =
                    FrontendValue { flags: INTERNAL | INSIDE_REJECT, service: 1, ..FrontendValue::default() };
                lab.world.frontend(&frontend, protocol, value);
                for client in [Place::Pod, Place::Outsider, Place::Node] {
                    let error = lab.ask(client, protocol, frontend.parse().unwrap()).unwrap_err();
                    assert!(error.contains("refused"), "{client:?} {protocol} {frontend}: {error}");
                }
            }
        }
    });
}
