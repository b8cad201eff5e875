use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::kernel::nftables::samples::{frontend, local, node_port, remote, spec};
use crate::plan::{Policy, Target};

type Wanted = BTreeMap<Frontend, Arc<FrontendSpec>>;

/// A table that does what it is told, and fails the test where the kernel would refuse.
#[derive(Debug, Default, PartialEq, Eq)]
struct Kernel {
    elements: BTreeSet<Placed>,
    units: BTreeSet<String>,
}

impl Kernel {
    fn follow(&mut self, difference: &Difference) {
        for (set, elements) in &difference.remove {
            for element in elements {
                assert!(self.elements.remove(&(*set, element.clone())), "not there: {element:?}");
            }
        }
        for unit in &difference.create {
            for dependency in unit.dependencies() {
                assert!(
                    self.units.contains(&dependency.name()),
                    "{} before {}",
                    unit.name(),
                    dependency.name()
                );
            }
            assert!(self.units.insert(unit.name()), "twice: {}", unit.name());
        }
        for (set, elements) in &difference.add {
            for element in elements {
                let taken =
                    self.elements.iter().any(|(other, known)| other == set && known.key == element.key);
                assert!(!taken, "already there: {element:?}");
                self.elements.insert((*set, element.clone()));
            }
        }
        for unit in &difference.delete {
            assert!(self.units.remove(&unit.name()), "not there: {}", unit.name());
        }
    }
}

fn step(model: &mut Model, from: &Wanted, to: &Wanted) -> Difference {
    let frontends: BTreeSet<_> = from.keys().chain(to.keys()).copied().collect();
    let changed: Vec<_> = frontends.into_iter().filter(|key| from.get(key) != to.get(key)).collect();
    let specs = |key| (from.get(key).map(|spec| &**spec), to.get(key).map(|spec| &**spec));
    model.change(changed.iter().map(|key| (key, specs(key).0, specs(key).1)), None)
}

fn table(entries: Vec<(Frontend, FrontendSpec)>) -> Wanted {
    entries.into_iter().map(|(frontend, spec)| (frontend, Arc::new(spec))).collect()
}

fn sizes(elements: &Elements) -> Vec<(String, usize)> {
    elements.iter().map(|(set, list)| (set.name().into_owned(), list.len())).collect()
}

#[test]
fn an_endpoint_more_is_its_element_and_another_verdict() {
    let vip = frontend("172.30.0.1:80");
    let before = table(vec![(vip, spec(Policy::Internal, remote(&["10.0.0.1:80", "10.0.0.2:80"])))]);
    let after =
        table(vec![(vip, spec(Policy::Internal, remote(&["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"])))]);
    let mut model = Model::new(IpFamily::V4);
    step(&mut model, &Wanted::new(), &before);
    let difference = step(&mut model, &before, &after);
    assert_eq!(sizes(&difference.remove), [("service-ips".to_owned(), 1)]);
    assert_eq!(sizes(&difference.add), [("service-ips".to_owned(), 1), ("tcp-endpoints".to_owned(), 1)]);
    let names = |units: &[Unit]| units.iter().map(Unit::name).collect::<Vec<_>>();
    assert_eq!(names(&difference.create), ["cluster-ip-tcp-3"]);
    assert_eq!(names(&difference.delete), ["cluster-ip-tcp-2"]);
}

#[test]
fn an_endpoint_that_moves_is_one_element_whatever_the_number_of_services() {
    let moved = |to| spec(Policy::Internal, remote(&["10.0.0.1:80", to]));
    let at = |n: u8| frontend(&format!("172.30.0.{n}:80"));
    let before = table((1..=200).map(|n| (at(n), moved("10.0.0.2:80"))).collect());
    let mut after = before.clone();
    after.insert(at(7), Arc::new(moved("10.0.0.3:80")));
    let mut model = Model::new(IpFamily::V4);
    step(&mut model, &Wanted::new(), &before);
    let difference = step(&mut model, &before, &after);
    assert_eq!(sizes(&difference.remove), [("tcp-endpoints".to_owned(), 1)]);
    assert_eq!(sizes(&difference.add), [("tcp-endpoints".to_owned(), 1)]);
    assert!(difference.create.is_empty() && difference.delete.is_empty());
}

#[test]
fn a_shared_element_stays_until_its_last_user_goes() {
    let at = |port: u16| frontend(&format!("172.30.0.1:{port}"));
    let both = table(vec![
        (at(80), spec(Policy::Internal, local(&["10.0.0.1:80"]))),
        (at(81), spec(Policy::Internal, local(&["10.0.0.1:80"]))),
    ]);
    let one = table(vec![(at(81), spec(Policy::Internal, local(&["10.0.0.1:80"])))]);
    let mut model = Model::new(IpFamily::V4);
    step(&mut model, &Wanted::new(), &both);
    let difference = step(&mut model, &both, &one);
    assert!(!difference.remove.contains_key(&StaticSet::ClusterIps));
    let difference = step(&mut model, &one, &Wanted::new());
    assert_eq!(difference.remove[&StaticSet::ClusterIps].len(), 1);
    assert_eq!(difference.remove[&StaticSet::Hairpins].len(), 1);
    assert_eq!((model.elements(), model.units()), (0, 0));
}

#[test]
fn what_does_not_show_in_the_kernel_changes_nothing() {
    let vip = frontend("172.30.0.1:80");
    let before = table(vec![(vip, spec(Policy::Internal, remote(&["10.0.0.1:80"])))]);
    let serving = FrontendSpec {
        serving: Arc::new(["10.0.0.9:80".parse().unwrap()]),
        ..spec(Policy::Internal, remote(&["10.0.0.1:80"]))
    };
    let mut model = Model::new(IpFamily::V4);
    step(&mut model, &Wanted::new(), &before);
    assert!(step(&mut model, &before, &table(vec![(vip, serving)])).is_empty());
}

#[test]
fn the_other_family_is_somebody_elses() {
    let vip = frontend("[fd00::1]:80");
    let wanted = table(vec![(vip, spec(Policy::Internal, remote(&["[fd00::2]:80"])))]);
    assert!(step(&mut Model::new(IpFamily::V4), &Wanted::new(), &wanted).is_empty());
}

fn any_target() -> impl Strategy<Value = Target> {
    prop_oneof![
        Just(Target::Reject),
        Just(Target::Drop),
        proptest::collection::btree_set(1..5_u8, 1..4).prop_map(|hosts| {
            let endpoints: Vec<_> = hosts.iter().map(|host| format!("10.0.0.{host}:80")).collect();
            local(&endpoints.iter().map(String::as_str).collect::<Vec<_>>())
        }),
    ]
}

fn any_spec() -> impl Strategy<Value = FrontendSpec> {
    let policy =
        prop_oneof![Just(Policy::Internal), Just(Policy::ExternalCluster), Just(Policy::ExternalLocal)];
    let affinity = prop_oneof![Just(None), Just(Some(60)), Just(Some(10800))];
    (policy, any_target(), any_target(), affinity, any::<bool>()).prop_map(
        |(policy, inside, outside, affinity_seconds, guarded)| FrontendSpec {
            outside,
            affinity_seconds,
            source_ranges: guarded.then(|| Arc::from(["10.0.0.0/8".parse().unwrap()])),
            ..spec(policy, inside)
        },
    )
}

fn any_table() -> impl Strategy<Value = Wanted> {
    let key = prop_oneof![
        (1..4_u8, 80..82_u16).prop_map(|(host, port)| frontend(&format!("172.30.0.{host}:{port}"))),
        (30000..30002_u16).prop_map(node_port),
    ];
    proptest::collection::btree_map(key, any_spec().prop_map(Arc::new), 0..6)
}

proptest! {
    #[test]
    fn a_chain_of_changes_ends_where_filling_from_nothing_does(tables in proptest::collection::vec(any_table(), 1..6)) {
        let mut model = Model::new(IpFamily::V4);
        let mut kernel = Kernel::default();
        let mut before = Wanted::new();
        for table in tables {
            kernel.follow(&step(&mut model, &before, &table));
            let mut fresh = Kernel::default();
            fresh.follow(&step(&mut Model::new(IpFamily::V4), &Wanted::new(), &table));
            prop_assert_eq!(&kernel, &fresh);
            prop_assert_eq!(model.elements(), kernel.elements.len() as u64);
            prop_assert_eq!(model.units(), kernel.units.len());
            before = table;
        }
    }
}
