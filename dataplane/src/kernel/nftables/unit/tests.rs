use super::*;
use crate::kernel::nftables::samples::settings;

fn entry(policy: Policy, inside: Pick, outside: Pick) -> Unit {
    Unit::Entry(Entry { protocol: Protocol::Tcp, by: By::Address, policy, guarded: false, inside, outside })
}

fn rules(unit: &Unit, settings: &FamilySettings) -> Vec<Rule> {
    unit.parts(settings).chain.rules
}

fn cidrs(texts: &[&str]) -> LocalDetector {
    LocalDetector::Cidrs(texts.iter().map(|text| text.parse().unwrap()).collect())
}

fn mark() -> Rule {
    Rule::new().set_mark_bits(0x4000)
}

#[test]
fn cluster_ip_traffic_is_marked_unless_it_comes_from_local_pods() {
    let unit = entry(Policy::Internal, Pick::Slots(2), Pick::Nothing);
    let (range, other) = ("10.0.0.0/8".parse().unwrap(), "192.168.0.0/20".parse().unwrap());
    let outside_both = Rule::new()
        .source_compared_to(Comparison::NotEqual, &range)
        .source_compared_to(Comparison::NotEqual, &other);
    let cases = [
        (LocalDetector::None, None),
        (cidrs(&["10.0.0.0/8", "192.168.0.0/20"]), Some(outside_both)),
        (
            LocalDetector::BridgeInterface("cni0".into()),
            Some(Rule::new().input_interface(Comparison::NotEqual, "cni0", false)),
        ),
        (
            LocalDetector::InterfaceNamePrefix("veth".into()),
            Some(Rule::new().input_interface(Comparison::NotEqual, "veth", true)),
        ),
    ];
    for (detector, condition) in cases {
        let expected = condition.map(|rule| rule.set_mark_bits(0x4000));
        let found = rules(&unit, &settings(detector));
        let marks: Vec<_> = found.iter().take(found.len() - 2).cloned().collect();
        assert_eq!(marks, expected.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn masquerade_all_marks_every_client_of_a_cluster_ip() {
    let settings = FamilySettings { masquerade_all: true, ..settings(cidrs(&["10.0.0.0/8"])) };
    let unit = entry(Policy::Internal, Pick::Slots(1), Pick::Nothing);
    assert_eq!(rules(&unit, &settings)[0], mark());
}

#[test]
fn external_traffic_is_always_marked() {
    let unit = entry(Policy::ExternalCluster, Pick::Slots(1), Pick::Nothing);
    assert_eq!(rules(&unit, &settings(LocalDetector::None))[0], mark());
}

#[test]
fn a_pool_of_several_falls_back_to_its_first_slot() {
    let unit = entry(Policy::Internal, Pick::Slots(3), Pick::Nothing);
    let slots: Vec<_> = rules(&unit, &settings(LocalDetector::None))
        .iter()
        .flat_map(|rule| rule.expressions.clone())
        .filter_map(|step| match step {
            crate::kernel::nftables::expression::Expression::Random { modulus, .. } => Some(modulus),
            _ => None,
        })
        .collect();
    assert_eq!(slots, [3, 1]);
}

#[test]
fn under_a_local_policy_pods_and_the_node_go_inside_and_only_the_node_is_marked() {
    let unit = entry(Policy::ExternalLocal, Pick::Slots(3), Pick::Slots(1));
    let found = rules(&unit, &settings(cidrs(&["10.0.0.0/8"])));
    let pods = Rule::new().source_compared_to(Comparison::Equal, &"10.0.0.0/8".parse().unwrap());
    let node = || Rule::new().source_is_this_node();
    let inside = "endpoints-tcp-3";
    let expected = [pods.goto(inside), node().set_mark_bits(0x4000), node().goto(inside)];
    assert_eq!(found[..3], expected);
    assert_eq!(found.len(), 4);
    assert_eq!(unit.dependencies().iter().map(Unit::name).collect::<Vec<_>>(), [inside]);
}

#[test]
fn without_a_detector_pods_are_not_told_apart() {
    let unit = entry(Policy::ExternalLocal, Pick::Slots(3), Pick::Nothing);
    assert_eq!(rules(&unit, &settings(LocalDetector::None)).len(), 2);
}

#[test]
fn whoever_belongs_inside_is_not_served_from_outside() {
    let unit = entry(Policy::ExternalLocal, Pick::Nothing, Pick::Slots(1));
    let found = rules(&unit, &settings(cidrs(&["10.0.0.0/8"])));
    let pods = Rule::new().source_compared_to(Comparison::Equal, &"10.0.0.0/8".parse().unwrap());
    assert_eq!(found[0], pods.verdict(Verdict::Return));
}

#[test]
fn a_guard_without_endpoints_only_drops() {
    let unit = Unit::Entry(Entry {
        protocol: Protocol::Tcp,
        by: By::Address,
        policy: Policy::ExternalLocal,
        guarded: true,
        inside: Pick::Nothing,
        outside: Pick::Nothing,
    });
    assert_eq!(unit.name(), "guarded-external-local-tcp-none-none");
    let found = rules(&unit, &settings(cidrs(&["10.0.0.0/8"])));
    assert_eq!(found.len(), 1);
}
