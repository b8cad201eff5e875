//! Which backend a new flow gets.

use std::collections::BTreeMap;

use crate::{
    packet::{Packet, SYN, TCP},
    world::World,
};

#[test]
fn connections_are_spread_evenly_and_every_backend_is_reached() {
    for (client, frontend, backends) in [
        ("10.244.1.5", "10.96.0.10:80", ["10.244.2.1:8080", "10.244.2.2:8080", "10.244.2.3:8080"]),
        ("[fd00:1::5]", "[fd00:96::10]:80", ["[fd00:2::1]:8080", "[fd00:2::2]:8080", "[fd00:2::3]:8080"]),
    ] {
        let mut world = World::new();
        world.service(frontend, TCP, &backends);
        let mut reached = BTreeMap::new();
        for port in 0..3000 {
            let packet = Packet::tcp(&format!("{client}:{}", 30_000 + port), frontend, SYN);
            *reached.entry(world.ingress(&packet).packet().destination.to_string()).or_insert(0) += 1;
        }
        assert_eq!(reached.len(), 3, "{reached:?}");
        // Expected 1000 with a deviation of 26.
        assert!(reached.values().all(|count| (870..1130).contains(count)), "{reached:?}");
    }
}
