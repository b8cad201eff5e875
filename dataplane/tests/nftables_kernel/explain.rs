//! What the kernel says about itself.

use shunt::domain::Protocol;
use shunt::kernel::{Dataplane as _, Inspected, Inspection};
use shunt::plan::explain::{Client, Question};

use crate::fixtures::{dataplane, every_shape, in_namespace, nft};

fn fact<'a>(inspected: &'a Inspected, object: &str) -> Option<&'a str> {
    inspected.facts.iter().find(|fact| fact.object == object).map(|fact| fact.value.as_str())
}

#[test]
fn elements_of_a_destination_are_read_from_the_kernel() {
    in_namespace(|| {
        let mut dataplane = dataplane();
        dataplane.restore(&every_shape()).unwrap();
        let mut inspect = |to: &str| {
            let question = Question {
                from: "10.0.0.5".parse().unwrap(),
                client: Client::Pod,
                to: to.parse().unwrap(),
                protocol: Protocol::Tcp,
            };
            dataplane.inspect(&Inspection { question, probe: true }).unwrap()
        };
        for (to, endpoints) in [
            ("172.30.0.1:80", "172.30.0.201:8080, 172.30.0.202:8080"),
            ("[fd00:30::1]:80", "[fd00:30::c9]:8080, [fd00:30::ca]:8080"),
        ] {
            let found = inspect(to);
            assert_eq!(fact(&found, "service-ips"), Some("chain cluster-ip-tcp-2"), "{found}");
            assert_eq!(fact(&found, "tcp-endpoints"), Some(endpoints), "{found}");
            assert!(fact(&found, "probe").unwrap().starts_with("not possible"), "{found}");
        }
        let node_port = inspect("192.168.0.2:30080");
        assert_eq!(fact(&node_port, "nodeport-ips"), Some("accepts node ports"), "{node_port}");
        assert!(fact(&node_port, "service-nodeports").is_some(), "{node_port}");
        let no_port = inspect("172.30.0.1:9999");
        assert!(fact(&no_port, "cluster-ips").unwrap().contains("rejected"), "{no_port}");
        // It is the kernel that is asked: what somebody else removes is gone.
        nft(&["flush", "map", "ip", "shunt", "service-ips"]);
        assert_eq!(fact(&inspect("172.30.0.1:80"), "service-ips"), None);
    });
}
