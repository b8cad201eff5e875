use super::*;
use crate::domain::LocalDetector;
use crate::kernel::nftables::model::Model;
use crate::kernel::nftables::samples::{frontend, remote, settings, spec};
use crate::plan::Policy;

fn desired() -> Desired {
    let settings = settings(LocalDetector::None);
    let (at, spec) =
        (frontend("172.30.0.1:80"), spec(Policy::Internal, remote(&["10.0.0.1:80", "10.0.0.2:80"])));
    let filling = Model::new(settings.family).change(std::iter::once((&at, None, Some(&spec))), None);
    Desired::new(&settings, filling)
}

fn bytes(write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut Writer::new(&mut bytes));
    bytes
}

/// What the kernel would dump after creating it.
fn dumped(desired: Desired) -> Actual {
    let mut actual = Actual::default();
    for (definition, elements) in desired.sets {
        let name = Arc::clone(&definition.name);
        actual.sets.insert(Arc::clone(&name), bytes(|writer| encode::set(writer, &definition)));
        actual.elements.insert(name, elements.unwrap_or_default().into_iter().collect());
    }
    for chain in desired.chains {
        let name = Arc::clone(&chain.name);
        actual.rules.insert(Arc::clone(&name), chain.rules.iter().map(encode::expressions).collect());
        actual.chains.insert(name, bytes(|writer| encode::chain(writer, &chain)));
    }
    actual
}

#[test]
fn what_is_as_it_should_be_needs_nothing() {
    assert_eq!(operations(desired(), dumped(desired())), Work::default());
}

#[test]
fn a_chain_with_other_rules_is_filled_anew() {
    let mut actual = dumped(desired());
    actual.rules.get_mut("nat-prerouting").unwrap().pop();
    let work = operations(desired(), actual);
    assert_eq!(work.required[0], Operation::ClearChain("nat-prerouting".into()));
    assert_eq!(work.required.len(), 3);
    assert!(work.cleanup.is_empty());
}

#[test]
fn strange_chains_and_sets_are_emptied_first_and_deleted_last() {
    let mut actual = dumped(desired());
    actual.chains.insert("mine".into(), bytes(|writer| encode::chain_name(writer, "mine")));
    actual.rules.insert("mine".into(), vec![Vec::new()]);
    actual.sets.insert("own".into(), bytes(|writer| encode::set_name(writer, "own")));
    let work = operations(desired(), actual);
    assert_eq!(work.required, [Operation::ClearChain("mine".into()), Operation::ClearSet("own".into())]);
    assert_eq!(work.cleanup, [Operation::DeleteChain("mine".into()), Operation::DeleteSet("own".into())]);
}

#[test]
fn only_the_elements_that_differ_are_written() {
    let mut actual = dumped(desired());
    let endpoints = actual.elements.get_mut("tcp-endpoints").unwrap();
    let missing = endpoints.iter().min().unwrap().clone();
    endpoints.remove(&missing);
    let work = operations(desired(), actual);
    assert_eq!(work.required, [Operation::AddElements("tcp-endpoints".into(), vec![missing])]);
}

#[test]
fn a_set_of_another_type_a_moved_hook_or_a_sleeping_table_is_replaced_as_a_whole() {
    let mut other_set = dumped(desired());
    let wrong = SetDefinition {
        name: "cluster-ips".into(),
        ..StaticSet::ServiceIps.definition(crate::domain::IpFamily::V4)
    };
    other_set.sets.insert("cluster-ips".into(), bytes(|writer| encode::set(writer, &wrong)));
    let mut no_hook = dumped(desired());
    no_hook.chains.insert("nat-output".into(), bytes(|writer| encode::chain_name(writer, "nat-output")));
    let sleeping = Actual { flags: 1, ..dumped(desired()) };
    for actual in [other_set, no_hook, sleeping] {
        let work = operations(desired(), actual);
        assert_eq!(work.required[..2], [Operation::DeleteTable, Operation::AddTable]);
        assert_eq!(work.required[1..], desired().create());
    }
}
