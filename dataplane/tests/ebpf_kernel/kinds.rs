//! Kinds of interfaces, as far as this kernel has them.

use std::process::Command;

use shunt::kernel::Dataplane as _;
use shunt::kernel::ebpf::Ebpf;

use crate::fixtures::{Pod, dataplane, in_namespace, index_of, links, run_all};
use crate::network::{VIP, ask, backend, pod, table};

/// What a kind needs besides its name, and whether its devices are served themselves.
const KINDS: [(&str, &str, bool); 16] = [
    ("veth", "", true),
    ("bridge", "", false),
    ("ifb", "", true),
    ("dummy", "", true),
    ("vxlan", "id 5 dstport 4789", true),
    ("vxlan", "dstport 4790 gpe external", true),
    ("geneve", "id 5 remote 192.0.2.9", true),
    ("bond", "", true),
    ("ipip", "local 192.0.2.8 remote 192.0.2.9", true),
    ("sit", "local 192.0.2.8 remote 192.0.2.9", true),
    ("gre", "local 192.0.2.8 remote 192.0.2.9", true),
    ("gretap", "local 192.0.2.8 remote 192.0.2.9", true),
    ("wireguard", "", true),
    ("vlan", "id 7", true),
    ("macvlan", "", true),
    ("ipvlan", "", true),
];

#[test]
fn every_kind_of_interface_that_the_kernel_has_is_served() {
    in_namespace(|bpffs| {
        run_all("ip link add lower type veth peer name lowerp");
        let mut expected = Vec::new();
        for (number, (kind, words, is_served)) in KINDS.iter().enumerate() {
            let lower = if ["vlan", "macvlan", "ipvlan"].contains(kind) { "link lower" } else { "" };
            let command = format!("link add {lower} name kind{number} type {kind} {words}");
            let outcome = Command::new("ip").args(command.split_whitespace()).output().unwrap();
            if outcome.status.success() {
                expected.push((format!("kind{number}"), *is_served));
            } else {
                let reason = String::from_utf8_lossy(&outcome.stderr).into_owned();
                assert!(reason.contains("Unknown device type"), "{kind}: {reason}");
                println!("this kernel has no {kind}");
            }
        }
        run_all("ip tuntap add dev tun7 mode tun\nip tuntap add dev tap7 mode tap");
        expected.extend([("tun7".into(), true), ("tap7".into(), true)]);
        assert!(expected.len() > 4, "veth, bridge, tun and tap are everywhere");
        let mut dataplane = dataplane(bpffs);
        dataplane.restore(&table(true)).unwrap();
        let served = |name: &str| {
            let qdisc = crate::fixtures::run(&format!("tc qdisc show dev {name}"));
            links(bpffs).contains(&format!("ingress-{}", index_of(name))) || qdisc.contains("clsact")
        };
        for (name, is_served) in expected {
            assert_eq!(served(&name), is_served, "{name}");
        }
    });
}

fn count(dataplane: &Ebpf, event: &str) -> u64 {
    dataplane.observations().events.iter().find(|found| found.event == event).unwrap().count
}

/// A client on another machine, beyond `wire` on 192.0.2.0/24, reaches the service by the device that `both` sets up on
/// either side (`{own}` and `{other}` are the last numbers of addresses), and is translated once.
fn through(both: &str) {
    let both = both.to_owned();
    in_namespace(move |bpffs| {
        let _backend = backend();
        let client: Pod = pod("wire", "192.0.2");
        let on = |own: &str, other: &str| both.replace("{own}", own).replace("{other}", other);
        run_all(&on("1", "2"));
        client.run(&on("2", "1"));
        let mut dataplane = dataplane(bpffs);
        dataplane.restore(&table(true)).unwrap();
        for connection in 1..=5 {
            assert_eq!(ask(&client, VIP).unwrap(), "10.6.0.2");
            assert_eq!(count(&dataplane, "flow_new"), connection, "each is one flow, whatever it passes");
        }
        assert_eq!(count(&dataplane, "masqueraded") + count(&dataplane, "flow_adopted"), 0);
    });
}

#[test]
fn clients_reach_services_through_vxlan() {
    through(
        "ip link add overlay type vxlan id 5 dstport 4789 remote 192.0.2.{other}
         ip addr add 10.6.0.{own}/24 dev overlay
         ip link set dev overlay up
         ip route replace 172.30.0.0/16 via 10.6.0.{other}",
    );
}

#[test]
fn clients_reach_services_through_a_tunnel_without_link_layer_headers() {
    through(
        "ip link add tunnel type vxlan dstport 4790 gpe external
         ip addr add 10.6.0.{own}/32 dev tunnel
         ip link set dev tunnel up
         ip route add 10.6.0.{other}/32 encap ip id 5 dst 192.0.2.{other} dev tunnel src 10.6.0.{own}
         ip route replace 172.30.0.0/16 encap ip id 5 dst 192.0.2.{other} dev tunnel src 10.6.0.{own}",
    );
}

#[test]
fn clients_reach_services_through_a_macvlan() {
    in_namespace(|bpffs| {
        let _backend = backend();
        let client = Pod::new();
        run_all(&format!(
            "ip link add wire type veth peer name eth0 netns {}
             ip link set dev wire up
             ip link add link wire name upper type macvlan mode bridge
             ip addr add 10.6.0.1/24 dev upper
             ip link set dev upper up",
            client.process()
        ));
        client.run(
            "ip addr add 10.6.0.2/24 dev eth0
             ip link set dev eth0 up
             ip route add default via 10.6.0.1",
        );
        let mut dataplane = dataplane(bpffs);
        dataplane.restore(&table(true)).unwrap();
        for connection in 1..=5 {
            assert_eq!(ask(&client, VIP).unwrap(), "10.6.0.2");
            assert_eq!(
                count(&dataplane, "flow_new"),
                connection,
                "at the macvlan, whose address frames are for"
            );
        }
    });
}

#[test]
fn pods_on_one_bridge_reach_each_other_through_services() {
    in_namespace(|bpffs| {
        let _backend = backend();
        run_all("ip link add cni0 type bridge\nip addr add 10.6.0.1/24 dev cni0\nip link set dev cni0 up");
        let client = Pod::new();
        run_all(&format!(
            "ip link add port type veth peer name eth0 netns {}
             ip link set dev port master cni0 up",
            client.process()
        ));
        client.run(
            "ip addr add 10.6.0.2/24 dev eth0\nip link set dev eth0 up\nip route add default via 10.6.0.1",
        );
        let mut dataplane = dataplane(bpffs);
        dataplane.restore(&table(true)).unwrap();
        assert_eq!(ask(&client, VIP).unwrap(), "10.6.0.2");
        assert_eq!(count(&dataplane, "flow_new"), 1);
    });
}
