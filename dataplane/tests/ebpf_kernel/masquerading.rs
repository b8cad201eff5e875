//! Connection tracking comes with the first client that needs it, not before.

use std::time::Duration;

use shunt::domain::IpFamily;
use shunt::kernel::Dataplane as _;
use shunt::plan::{Policy, Table};

use crate::fixtures::{change, dataplane, frontend, in_namespace, run, within};
use crate::network::{VIP, ask, backend, masquerades, pod, served, table};

#[test]
fn a_cluster_ip_is_masqueraded_from_its_first_client_outside_of_the_cluster_on() {
    in_namespace(|bpffs| {
        let _backend = backend();
        let (inside, outside) = (pod("inside", "10.1.0"), pod("outside", "192.0.2"));
        let mut table = table(false);
        let mut dataplane = dataplane(bpffs);
        dataplane.restore(&table).unwrap();
        assert_eq!(ask(&inside, VIP).unwrap(), "10.1.0.2");
        assert_eq!(run("nft list tables"), "", "nobody needs the rule");
        assert_eq!(ask(&outside, VIP).unwrap(), "10.2.0.1", "as the node");
        assert!(masquerades(IpFamily::V4) && !masquerades(IpFamily::V6));
        assert_eq!(ask(&outside, VIP).unwrap(), "10.2.0.1");
        assert_eq!(ask(&inside, VIP).unwrap(), "10.1.0.2");
        assert_eq!(dataplane.audit(&table).unwrap(), 0);
        // Its connections live on under the next agent.
        drop(dataplane);
        let mut second = crate::fixtures::dataplane(bpffs);
        second.restore(&table).unwrap();
        assert!(masquerades(IpFamily::V4));
        assert_eq!(ask(&outside, VIP).unwrap(), "10.2.0.1");
        let changes = change(&mut table, frontend(VIP), None);
        second.apply(&changes).unwrap();
        assert!(masquerades(IpFamily::V4), "connections may need it");
        assert!(within(Duration::from_mins(2), || run("nft list tables").is_empty()).is_some());
    });
}

#[test]
fn external_addresses_are_masqueraded_before_the_first_client_comes() {
    in_namespace(|bpffs| {
        let _backend = backend();
        let outside = pod("outside", "192.0.2");
        let mut table = Table::default();
        let at = "203.0.113.9:80";
        table.frontends.insert(frontend(at), served(Policy::ExternalCluster, false).into());
        let mut dataplane = dataplane(bpffs);
        dataplane.restore(&table).unwrap();
        assert!(masquerades(IpFamily::V4));
        assert_eq!(ask(&outside, at).unwrap(), "10.2.0.1");
        let waited = dataplane
            .observations()
            .events
            .iter()
            .any(|event| event.event.starts_with("drop_unmasq") && event.count > 0);
        assert!(!waited, "not even the first packet");
    });
}
