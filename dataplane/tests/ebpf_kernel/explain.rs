//! What the kernel says about itself, and what becomes of a packet that is tried.

use shunt::domain::Protocol;
use shunt::kernel::ebpf::Ebpf;
use shunt::kernel::{Dataplane as _, Inspected, Inspection};
use shunt::plan::explain::{Client, Question};
use shunt::plan::{Policy, Target};

use crate::fixtures::{change, dataplane, frontend, in_namespace, run, services, spec};

/// A node with a link to a pod at 10.0.0.5 and fd00:1::5.
fn pod() {
    run("ip link add pod1 type veth peer name eth0");
    run("ip link set pod1 up");
    run("ip link set eth0 up");
    run("ip addr add 10.0.0.1/24 dev pod1");
    run("ip addr add fd00:1::1/64 dev pod1 nodad");
    run("ip route add default dev pod1");
}

fn inspect(dataplane: &mut Ebpf, (from, client): (&str, Client), to: &str, protocol: Protocol) -> Inspected {
    let question = Question { from: from.parse().unwrap(), client, to: to.parse().unwrap(), protocol };
    dataplane.inspect(&Inspection { question, probe: true }).unwrap()
}

fn fact<'a>(inspected: &'a Inspected, object: &str) -> &'a str {
    let fact = inspected.facts.iter().find(|fact| fact.object == object);
    assert!(fact.is_some(), "{object} is not in {inspected}");
    &fact.unwrap().value
}

#[test]
fn a_probe_shows_the_endpoint_that_a_pod_would_get_and_leaves_no_flow() {
    in_namespace(|bpffs| {
        pod();
        let mut dataplane = dataplane(bpffs);
        dataplane.restore(&services(2)).unwrap();
        let pod = ("10.0.0.5", Client::Pod);
        for _ in 0..3 {
            let inspected = inspect(&mut dataplane, pod, "172.30.0.2:80", Protocol::Tcp);
            assert!(fact(&inspected, "FRONTENDS4").contains("cluster IP"), "{inspected}");
            let pool = fact(&inspected, "inside pool");
            assert!(pool.contains("10.2.0.1:80") && pool.contains("10.2.0.2:80"), "{inspected}");
            assert_eq!(fact(&inspected, "programs"), "on 3 interfaces");
            let trial = inspected.probe.unwrap();
            assert_eq!(trial.sent, "10.0.0.5:1 -> 172.30.0.2:80 tcp SYN");
            assert!(trial.verdict.starts_with("next"), "{trial:?}");
            assert!(trial.became.starts_with("10.0.0.5:1 -> 10.2.0."), "{trial:?}");
        }
        let six = inspect(&mut dataplane, ("fd00:1::5", Client::Pod), "[fd00:30::2]:80", Protocol::Tcp);
        let trial = six.probe.as_ref().unwrap_or_else(|| panic!("{six}"));
        assert!(trial.became.starts_with("[fd00:1::5]:1 -> [fd00:2::"), "{six}");
        let flows = dataplane.observations().occupancy;
        assert!(flows.iter().filter(|(map, ..)| map.starts_with("FLOWS")).all(|(_, used, _)| *used == 0));
    });
}

#[test]
fn a_probe_of_a_refused_frontend_shows_the_answer_that_is_sent_back() {
    in_namespace(|bpffs| {
        pod();
        let mut table = services(1);
        let at = frontend("172.30.0.9:80");
        let refused = shunt::plan::FrontendSpec { inside: Target::Reject, ..spec(Policy::Internal, &[]) };
        change(&mut table, at, Some(refused));
        let mut dataplane = dataplane(bpffs);
        dataplane.restore(&table).unwrap();
        let inspected = inspect(&mut dataplane, ("10.0.0.5", Client::Pod), "172.30.0.9:80", Protocol::Tcp);
        assert_eq!(fact(&inspected, "inside pool"), "empty");
        let trial = inspected.probe.as_ref().unwrap();
        assert!(trial.became.starts_with("172.30.0.9:80 -> 10.0.0.5:1 tcp RST"), "{inspected}");
        let udp = inspect(&mut dataplane, ("10.0.0.5", Client::Pod), "172.30.0.9:81", Protocol::Udp);
        assert!(fact(&udp, "FRONTENDS4").starts_with("no such port"), "{udp}");
    });
}

#[test]
fn what_is_not_a_service_is_left_alone_and_what_cannot_be_tried_says_why() {
    in_namespace(|bpffs| {
        pod();
        let mut dataplane = dataplane(bpffs);
        dataplane.restore(&services(1)).unwrap();
        let other = inspect(&mut dataplane, ("10.0.0.5", Client::Pod), "192.0.2.7:443", Protocol::Sctp);
        assert_eq!(fact(&other, "FRONTENDS4"), "no such frontend");
        assert_eq!(other.probe.unwrap().became, "unchanged");
        run("ip link set pod1 down");
        let nowhere = inspect(&mut dataplane, ("10.0.0.5", Client::Pod), "172.30.0.1:80", Protocol::Udp);
        assert!(fact(&nowhere, "probe").contains("no route to 10.0.0.5"), "{nowhere}");
    });
}

#[test]
fn the_node_itself_is_tried_on_its_way_out() {
    in_namespace(|bpffs| {
        pod();
        let mut dataplane = dataplane(bpffs);
        dataplane.restore(&services(1)).unwrap();
        let node = inspect(&mut dataplane, ("127.0.0.1", Client::Node), "172.30.0.1:80", Protocol::Tcp);
        let trial = node.probe.as_ref().unwrap_or_else(|| panic!("{node}"));
        assert_eq!(
            (trial.program.as_str(), trial.interface.split(' ').next()),
            ("shunt_egress", Some("pod1"))
        );
        assert!(
            trial.became.starts_with("10.0.0.1:1 -> 10.1.0.") || trial.verdict.starts_with("sent"),
            "{node}"
        );
    });
}
