//! Maps that are full: what is there works on, what has no room is named, and comes when there is room.

use std::sync::Arc;

use shunt::domain::{ServiceName, ServicePortName};
use shunt::kernel::Dataplane as _;
use shunt::kernel::ebpf::{Ebpf, Settings, Sizes};
use shunt::plan::{Change, Changes, Policy, Table};

use crate::fixtures::{change, frontend, in_namespace, services, settings, sizes, spec};
use crate::traffic::{Lab, exchange, open};

/// Service ports with one IPv4 frontend each.
fn many(count: u32) -> Table {
    let mut table = Table::default();
    for number in 0..count {
        let mut spec = spec(Policy::ExternalCluster, &["10.9.9.9:80"]);
        let service = ServiceName::new("default", format!("s{number:05}"));
        spec.owner = Arc::new(ServicePortName { service, ..(*spec.owner).clone() });
        let at = format!("192.{}.{}.{}:80", 1 + number / 62_500, number / 250 % 250, number % 250);
        table.frontends.insert(frontend(&at), Arc::new(spec));
    }
    table
}

#[test]
fn what_does_not_fit_is_left_out_in_one_pass_and_named() {
    in_namespace(|bpffs| {
        let mut dataplane =
            Ebpf::new(Settings { sizes: Sizes { frontends: 1_000, ..sizes() }, ..settings(bpffs) }).unwrap();
        let mut table = many(5_000);
        let applied = dataplane.restore(&table).unwrap();
        assert!(applied.written > 1_000);
        let left_out = dataplane.left_out().unwrap();
        assert_eq!(left_out.len(), 4_000);
        let words = &left_out[0].1;
        assert!(
            words.contains("FRONTENDS4") && words.contains("1000") && words.contains("maps.frontends"),
            "{words}"
        );
        assert_eq!(dataplane.left_out(), None, "told once");
        assert_eq!(dataplane.audit(&table).unwrap(), 0, "what is left out is no difference");
        // What is there can be changed, and what goes makes room.
        let (&first, old) = table.frontends.first_key_value().unwrap();
        let mut new = (**old).clone();
        new.serving = ["10.9.9.8:80".parse().unwrap()].into();
        let changes = change(&mut table, first, Some(new));
        dataplane.apply(&changes).unwrap();
        assert_eq!(dataplane.left_out(), None);
        let changes = change(&mut table, first, None);
        dataplane.apply(&changes).unwrap();
        assert_eq!(dataplane.left_out().unwrap().len(), 3_999);
        assert_eq!(dataplane.audit(&table).unwrap(), 0);
    });
}

#[test]
fn with_a_larger_map_everything_has_room() {
    in_namespace(|bpffs| {
        let table = many(200);
        let small = Settings { sizes: Sizes { frontends: 100, ..sizes() }, ..settings(bpffs) };
        let mut first = Ebpf::new(small).unwrap();
        first.restore(&table).unwrap();
        assert_eq!(first.left_out().unwrap().len(), 100);
        drop(first);
        let mut second = Ebpf::new(settings(bpffs)).unwrap();
        second.restore(&table).unwrap();
        assert_eq!(second.left_out(), Some(vec![]));
        assert_eq!(second.audit(&table).unwrap(), 0);
    });
}

#[test]
fn when_the_flow_map_is_full_connections_are_still_made_and_it_is_counted() {
    in_namespace(|bpffs| {
        let lab = Lab::new(&[8080]);
        let sizes = Sizes { flows: 10, ..sizes() };
        let mut dataplane = Ebpf::new(Settings { sizes, ..settings(bpffs) }).unwrap();
        let mut table = services(0);
        let at = frontend("172.30.0.200:80");
        change(&mut table, at, Some(spec(Policy::Internal, &["10.2.0.2:8080"])));
        dataplane.restore(&table).unwrap();
        lab.client
            .spawn(|| {
                let to = "172.30.0.200:80".parse().unwrap();
                let mut streams: Vec<_> = (0..40).map(|_| open(to)).collect();
                for _ in 0..3 {
                    streams.iter_mut().for_each(exchange);
                }
            })
            .join()
            .unwrap();
        let seen = dataplane.observations();
        let count = |event| seen.events.iter().find(|found| found.event == event).unwrap().count;
        assert_eq!((count("flow_established"), count("flow_new")), (10, 40));
        assert!(count("flows_full") >= 30, "{}", count("flows_full"));
        assert_eq!(dataplane.audit(&table).unwrap(), 0);
        let changes = Changes {
            frontends: vec![Change { frontend: at, old: table.frontends.remove(&at), new: None }],
            globals: None,
        };
        dataplane.apply(&changes).unwrap();
    });
}
