use serde_json::{Value, json};

use super::*;
use crate::domain::{EndpointSlice, IpFamily, Node, Service, ServicePort, ServiceType, TrafficPolicy};
use crate::watch::wire;

/// `base` with the fields of `patch` laid over it, as a JSON merge patch.
fn merged(mut base: Value, patch: Value) -> Value {
    match (&mut base, patch) {
        (Value::Object(base), Value::Object(patch)) => {
            for (key, value) in patch {
                let old = base.remove(&key).unwrap_or_default();
                base.insert(key, merged(old, value));
            }
        }
        (_, patch) => base = patch,
    }
    base
}

fn convert_service(patch: Value) -> Converted<Option<Service>> {
    let base = json!({
        "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "creationTimestamp": "2026-01-02T03:04:05Z"},
        "spec": {"clusterIP": "172.30.0.1", "ports": [{"name": "http", "port": 80, "targetPort": "web"}]},
    });
    let text = merged(base, patch).to_string();
    service(&serde_json::from_str::<wire::Service<'_>>(&text).unwrap(), &Names::default())
}

fn good_service(patch: Value) -> Service {
    let converted = convert_service(patch);
    assert_eq!(converted.problems, [], "problems");
    converted.value.unwrap()
}

fn fields(problems: &[Problem]) -> Vec<&str> {
    problems.iter().map(|problem| problem.field.as_str()).collect()
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn a_minimal_service_gets_the_defaults_of_the_api_server() {
    let service = good_service(json!({}));
    assert_eq!(
        service,
        Service {
            name: crate::domain::ServiceName::new("shop", "web"),
            uid: "u1".into(),
            created: 1_767_323_045,
            kind: ServiceType::ClusterIp,
            cluster_ips: ips(&["172.30.0.1"]),
            external_ips: Vec::new(),
            load_balancer_ips: Vec::new(),
            source_ranges: Vec::new(),
            ports: vec![ServicePort {
                name: "http".into(),
                protocol: Protocol::Tcp,
                port: 80,
                node_port: None
            }],
            internal_policy: TrafficPolicy::Cluster,
            external_policy: TrafficPolicy::Cluster,
            affinity_seconds: None,
            health_check_node_port: None,
        }
    );
}

#[test]
fn null_means_not_given() {
    let nulls = json!({
        "metadata": {"labels": null, "annotations": null},
        "spec": {
            "clusterIPs": null, "externalIPs": null, "type": null, "sessionAffinity": null,
            "sessionAffinityConfig": null, "loadBalancerSourceRanges": null, "healthCheckNodePort": null,
        },
        "status": {"loadBalancer": null},
    });
    assert_eq!(good_service(nulls), good_service(json!({})));
}

#[test]
fn services_that_are_not_ours_are_left_out_without_a_problem() {
    let cases = [
        ("headless", json!({"spec": {"clusterIP": "None"}})),
        ("headless with a list", json!({"spec": {"clusterIP": "None", "clusterIPs": ["None"]}})),
        ("without an address yet", json!({"spec": {"clusterIP": ""}})),
        ("headless by its list alone", json!({"spec": {"clusterIP": null, "clusterIPs": ["None"]}})),
        ("ExternalName", json!({"spec": {"type": "ExternalName", "externalName": "example.org"}})),
        (
            "another proxy's",
            json!({"metadata": {"labels": {"service.kubernetes.io/service-proxy-name": "x"}}}),
        ),
        (
            "another proxy's, empty",
            json!({"metadata": {"labels": {"service.kubernetes.io/service-proxy-name": ""}}}),
        ),
    ];
    for (name, patch) in cases {
        assert_eq!(convert_service(patch), Converted { value: None, problems: Vec::new() }, "{name}");
    }
}

#[test]
fn a_service_labelled_headless_that_has_an_address_is_served() {
    let service = good_service(json!({"metadata": {"labels": {"service.kubernetes.io/headless": ""}}}));
    assert_eq!(service.cluster_ips, ips(&["172.30.0.1"]));
}

#[test]
fn addresses_of_both_families_and_old_spellings_are_taken() {
    let service = good_service(json!({
        "spec": {
            "type": "LoadBalancer",
            "clusterIP": "172.030.099.011", "clusterIPs": ["172.030.099.011", "fd00:10::1"],
            "externalIPs": ["192.168.099.022", "192.168.99.22", "2001:db8::1"],
            "loadBalancerSourceRanges": [" 203.0.113.000/025", "2001:db8::1/32 "],
        },
        "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.004"}]}},
    }));
    assert_eq!(service.cluster_ips, ips(&["172.30.99.11", "fd00:10::1"]));
    assert_eq!(service.external_ips, ips(&["192.168.99.22", "2001:db8::1"]));
    assert_eq!(service.load_balancer_ips, ips(&["1.2.3.4"]));
    let ranges: Vec<_> = service.source_ranges.iter().map(ToString::to_string).collect();
    assert_eq!(ranges, ["203.0.113.0/25", "2001:db8::/32"]);
}

#[test]
fn only_load_balancer_addresses_that_are_vips_count() {
    let service = good_service(json!({
        "spec": {"type": "LoadBalancer"},
        "status": {"loadBalancer": {"ingress": [
            {"ip": "10.1.0.1"},
            {"ip": "10.1.0.2", "ipMode": "VIP"},
            {"ip": "10.1.0.3", "ipMode": "Proxy"},
            {"hostname": "lb.example.org"},
            {"ip": "10.1.0.1"},
        ]}},
    }));
    assert_eq!(service.load_balancer_ips, ips(&["10.1.0.1", "10.1.0.2"]));
}

#[test]
fn the_annotation_gives_source_ranges_where_the_spec_has_none() {
    let annotation = json!({"metadata": {"annotations": {"service.beta.kubernetes.io/load-balancer-source-ranges": "10.0.0.0/8, 10.1.2.0/24"}}});
    assert_eq!(good_service(annotation.clone()).source_ranges.len(), 2);
    let both = merged(annotation, json!({"spec": {"loadBalancerSourceRanges": ["192.0.2.0/24"]}}));
    assert_eq!(good_service(both).source_ranges, ["192.0.2.0/24".parse().unwrap()]);
}

#[test]
fn source_ranges_that_cannot_be_used_do_not_open_the_load_balancer() {
    let patch = |ranges: Value| {
        json!({
            "spec": {"type": "LoadBalancer", "loadBalancerSourceRanges": ranges},
            "status": {"loadBalancer": {"ingress": [{"ip": "10.1.0.1"}]}},
        })
    };
    let one_bad = convert_service(patch(json!(["10.0.0.0/8", "10.0.0.0/99"])));
    assert_eq!(fields(&one_bad.problems), ["spec.loadBalancerSourceRanges[1]"]);
    assert_eq!(one_bad.value.unwrap().load_balancer_ips, ips(&["10.1.0.1"]));
    let all_bad = convert_service(patch(json!(["nonsense"])));
    assert_eq!(
        fields(&all_bad.problems),
        ["spec.loadBalancerSourceRanges[0]", "spec.loadBalancerSourceRanges"]
    );
    assert_eq!(all_bad.value.unwrap().load_balancer_ips, ips(&[]));
}

#[test]
fn external_policy_counts_only_with_external_addresses() {
    let local = |spec: Value| {
        good_service(merged(json!({"spec": {"externalTrafficPolicy": "Local"}}), json!({"spec": spec})))
            .external_policy
    };
    assert_eq!(local(json!({})), TrafficPolicy::Cluster);
    assert_eq!(local(json!({"externalIPs": ["192.0.2.1"]})), TrafficPolicy::Local);
    assert_eq!(local(json!({"type": "NodePort"})), TrafficPolicy::Local);
    assert_eq!(local(json!({"type": "LoadBalancer", "healthCheckNodePort": 30000})), TrafficPolicy::Local);
}

#[test]
fn the_health_check_port_belongs_to_load_balancers_with_local_policy() {
    let port = |spec: Value| {
        good_service(merged(json!({"spec": {"healthCheckNodePort": 31000}}), json!({"spec": spec})))
            .health_check_node_port
    };
    assert_eq!(port(json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"})), Some(31000));
    assert_eq!(port(json!({"type": "LoadBalancer"})), None);
    assert_eq!(port(json!({"type": "NodePort", "externalTrafficPolicy": "Local"})), None);
}

#[test]
fn affinity_lasts_as_long_as_given_or_three_hours() {
    let seconds = |spec: Value| good_service(json!({"spec": spec})).affinity_seconds;
    assert_eq!(seconds(json!({"sessionAffinity": "None"})), None);
    assert_eq!(seconds(json!({"sessionAffinity": "ClientIP"})), Some(10_800));
    let config = json!({"clientIP": {"timeoutSeconds": 15}});
    assert_eq!(seconds(json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": config})), Some(15));
}

#[test]
fn each_bad_field_of_a_service_is_named_and_the_rest_is_used() {
    let cases = [
        (json!({"spec": {"type": "Magic"}}), "spec.type"),
        (json!({"spec": {"clusterIP": "172.30.0.256"}}), "spec.clusterIP"),
        (json!({"spec": {"clusterIPs": ["172.30.0.1", "172.30.0.2"]}}), "spec.clusterIPs[1]"),
        (json!({"spec": {"externalIPs": ["10.0.0.1", "x"]}}), "spec.externalIPs[1]"),
        (json!({"spec": {"ports": [{"port": 80}, {"port": 65536, "name": "b"}]}}), "spec.ports[1].port"),
        (json!({"spec": {"ports": [{"port": 0}]}}), "spec.ports[0].port"),
        (json!({"spec": {"ports": [{"name": "a"}]}}), "spec.ports[0].port"),
        (json!({"spec": {"ports": [{"port": 80, "nodePort": -1}]}}), "spec.ports[0].nodePort"),
        (json!({"spec": {"ports": [{"port": 80, "protocol": "ICMP"}]}}), "spec.ports[0].protocol"),
        (json!({"spec": {"ports": [{"port": 80}, {"port": 81}]}}), "spec.ports[1].name"),
        (json!({"spec": {"internalTrafficPolicy": "Near"}}), "spec.internalTrafficPolicy"),
        (json!({"spec": {"externalTrafficPolicy": "Near"}}), "spec.externalTrafficPolicy"),
        (json!({"spec": {"sessionAffinity": "Cookie"}}), "spec.sessionAffinity"),
        (
            json!({"spec": {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86401}}}}),
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
        ),
        (
            json!({"spec": {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}}),
            "spec.healthCheckNodePort",
        ),
        (json!({"metadata": {"creationTimestamp": "yesterday"}}), "metadata.creationTimestamp"),
        (
            json!({"status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4", "ipMode": "Odd"}]}}}),
            "status.loadBalancer.ingress[0].ipMode",
        ),
        (
            json!({"status": {"loadBalancer": {"ingress": [{"ip": "1.2.3"}]}}}),
            "status.loadBalancer.ingress[0].ip",
        ),
    ];
    for (patch, field) in cases {
        let converted = convert_service(patch.clone());
        assert_eq!(fields(&converted.problems), [field], "{patch}");
        assert!(
            converted
                .problems
                .iter()
                .all(|problem| problem.object == "shop/web" && !problem.reason.is_empty())
        );
        assert!(converted.value.is_some(), "{patch}");
    }
}

fn convert_slice(patch: Value) -> Converted<Option<EndpointSlice>> {
    let base = json!({
        "metadata": {"name": "web-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": [{"addresses": ["10.180.00.001", "10.180.0.9"], "nodeName": "n1"}],
    });
    let text = merged(base, patch).to_string();
    endpoint_slice(&serde_json::from_str::<wire::EndpointSlice<'_>>(&text).unwrap(), &Names::default())
}

fn good_slice(patch: Value) -> EndpointSlice {
    let converted = convert_slice(patch);
    assert_eq!(converted.problems, [], "problems");
    converted.value.unwrap()
}

#[test]
fn a_slice_has_the_first_address_of_each_endpoint() {
    let slice = good_slice(json!({}));
    assert_eq!(slice.name.to_string(), "shop/web-1");
    assert_eq!(slice.service.to_string(), "shop/web");
    assert_eq!(slice.family, IpFamily::V4);
    assert_eq!(slice.endpoints.len(), 1);
    let endpoint = &slice.endpoints[0];
    assert_eq!(endpoint.address, "10.180.0.1".parse::<IpAddr>().unwrap());
    assert_eq!(endpoint.node.as_deref(), Some("n1"));
    assert_eq!((endpoint.ready, endpoint.serving, endpoint.terminating), (true, true, false));
    assert_eq!(endpoint.hints, None);
}

#[test]
fn conditions_that_are_not_given_read_as_kube_proxy_reads_them() {
    let cases = [
        (json!({}), (true, true, false)),
        (json!({"ready": null, "serving": null, "terminating": null}), (true, true, false)),
        (json!({"ready": false}), (false, true, false)),
        (json!({"ready": false, "serving": false}), (false, false, false)),
        (json!({"ready": false, "serving": true, "terminating": true}), (false, true, true)),
    ];
    for (conditions, wanted) in cases {
        let slice = good_slice(json!({"endpoints": [{"addresses": ["10.0.0.1"], "conditions": conditions}]}));
        let endpoint = &slice.endpoints[0];
        assert_eq!((endpoint.ready, endpoint.serving, endpoint.terminating), wanted, "{conditions}");
    }
}

#[test]
fn hints_name_zones_and_nodes() {
    let hints = json!({"forZones": [{"name": "z1"}, {"name": "z2"}], "forNodes": [{"name": "n1"}]});
    let slice = good_slice(json!({"endpoints": [{"addresses": ["10.0.0.1"], "hints": hints}]}));
    let hints = slice.endpoints[0].hints.clone().unwrap();
    assert_eq!(hints.zones, ["z1".into(), "z2".into()]);
    assert_eq!(hints.nodes, ["n1".into()]);
    let empty = good_slice(json!({"endpoints": [{"addresses": ["10.0.0.1"], "hints": {"forZones": []}}]}));
    assert_eq!(empty.endpoints[0].hints, None);
}

#[test]
fn ports_without_a_number_are_skipped_and_unnamed_ones_have_the_empty_name() {
    let slice = good_slice(
        json!({"ports": [{"name": "all"}, {"port": 53, "protocol": "UDP"}, {"name": null, "port": 80}]}),
    );
    let ports: Vec<_> = slice.ports.iter().map(|port| (&*port.name, port.protocol, port.port)).collect();
    assert_eq!(ports, [("", Protocol::Udp, 53), ("", Protocol::Tcp, 80)]);
}

#[test]
fn slices_that_are_not_ours_are_left_out_without_a_problem() {
    let cases = [
        ("no service", json!({"metadata": {"labels": {"kubernetes.io/service-name": ""}}})),
        ("headless", json!({"metadata": {"labels": {"service.kubernetes.io/headless": ""}}})),
        ("names", json!({"addressType": "FQDN", "endpoints": [{"addresses": ["example.org"]}]})),
    ];
    for (name, patch) in cases {
        assert_eq!(convert_slice(patch), Converted { value: None, problems: Vec::new() }, "{name}");
    }
}

#[test]
fn a_slice_without_address_type_has_the_family_of_its_first_address() {
    let slice = good_slice(json!({"addressType": null, "endpoints": [{"addresses": ["fd00::1"]}]}));
    assert_eq!(slice.family, IpFamily::V6);
    assert_eq!(good_slice(json!({"addressType": null, "endpoints": null})).family, IpFamily::V4);
}

#[test]
fn each_bad_field_of_a_slice_is_named_and_the_rest_is_used() {
    let good = json!({"addresses": ["10.0.0.1"]});
    let cases = [
        (json!({"endpoints": [good, {"addresses": ["10.0.0"]}]}), "endpoints[1].addresses[0]"),
        (json!({"endpoints": [good, {"addresses": ["fd00::1"]}]}), "endpoints[1].addresses[0]"),
        (json!({"endpoints": [good, {"addresses": []}]}), "endpoints[1].addresses"),
        (json!({"ports": [{"port": 70000}]}), "ports[0].port"),
        (json!({"ports": [{"port": 80, "protocol": "XTP"}]}), "ports[0].protocol"),
    ];
    for (patch, field) in cases {
        let converted = convert_slice(patch.clone());
        assert_eq!(fields(&converted.problems), [field], "{patch}");
        assert_eq!(converted.value.unwrap().endpoints.len(), 1, "{patch}");
    }
    let converted = convert_slice(json!({"addressType": "IPX"}));
    assert_eq!(fields(&converted.problems), ["addressType"]);
    assert_eq!(converted.value, None);
}

#[test]
fn the_trigger_time_is_in_nanoseconds() {
    let annotation = |text: &str| json!({"metadata": {"annotations": {"endpoints.kubernetes.io/last-change-trigger-time": text}}});
    let slice = good_slice(annotation("2026-01-02T03:04:05.123456789Z"));
    assert_eq!(slice.trigger_time_ns, Some(1_767_323_045_123_456_789));
    assert_eq!(good_slice(annotation("soon")).trigger_time_ns, None);
}

#[test]
fn names_are_shared_between_the_objects_that_use_them() {
    let names = Names::default();
    let text = json!({
        "metadata": {"name": "web-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.1"], "nodeName": "n1"}, {"addresses": ["10.0.0.2"], "nodeName": "n1"}],
    })
    .to_string();
    let slice = endpoint_slice(&serde_json::from_str(&text).unwrap(), &names).value.unwrap();
    let nodes: Vec<_> = slice.endpoints.iter().filter_map(|endpoint| endpoint.node.clone()).collect();
    assert!(std::sync::Arc::ptr_eq(&nodes[0], &nodes[1]));
    assert!(std::sync::Arc::ptr_eq(&slice.service.name, &names.shared("web")));
}

fn convert_node(value: &Value) -> Converted<Node> {
    let text = value.to_string();
    node(&serde_json::from_str::<wire::Node<'_>>(&text).unwrap(), &Names::default())
}

#[test]
fn a_node_prefers_its_internal_addresses() {
    let converted = convert_node(&json!({
        "metadata": {"name": "n1", "uid": "u", "labels": {"topology.kubernetes.io/zone": "z1"}},
        "spec": {"podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24", "fd00:1::/64"]},
        "status": {"addresses": [
            {"type": "ExternalIP", "address": "192.0.2.1"},
            {"type": "Hostname", "address": "n1"},
            {"type": "InternalIP", "address": "10.9.0.001"},
            {"type": "InternalIP", "address": "fd00::9"},
            {"type": "ExternalIP", "address": "10.9.0.1"},
        ]},
    }));
    assert_eq!(converted.problems, []);
    let node = converted.value;
    assert_eq!(node.addresses, ips(&["10.9.0.1", "fd00::9", "192.0.2.1"]));
    assert_eq!(node.zone.as_deref(), Some("z1"));
    assert_eq!(node.pod_cidrs.len(), 2);
    assert!(!node.deleting && !node.autoscaler_drains);
}

#[test]
fn a_node_that_leaves_is_recognised() {
    let converted = convert_node(&json!({
        "metadata": {"name": "n1", "deletionTimestamp": "2026-01-02T03:04:05Z"},
        "spec": {"podCIDR": "10.0.0.0/24", "taints": [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]},
    }));
    assert!(converted.value.deleting && converted.value.autoscaler_drains);
    assert_eq!(converted.value.pod_cidrs, ["10.0.0.0/24".parse().unwrap()]);
}

#[test]
fn each_bad_field_of_a_node_is_named() {
    let converted = convert_node(&json!({
        "metadata": {"name": "n1"},
        "spec": {"podCIDRs": ["10.0.0.0/24", "10.0.0.0"]},
        "status": {"addresses": [{"type": "Hostname", "address": "n1"}, {"type": "InternalIP", "address": "n1"}]},
    }));
    assert_eq!(fields(&converted.problems), ["status.addresses[1].address", "spec.podCIDRs[1]"]);
    assert_eq!(
        converted.problems[0].to_string(),
        "nodes n1: status.addresses[1].address: \"n1\" is not an IP address"
    );
}

#[test]
fn a_service_cidr_has_one_range_a_family() {
    let text =
        json!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["172.30.0.0/16", "x", "fd00::/108"]}});
    let converted = service_cidr(&serde_json::from_str(&text.to_string()).unwrap());
    assert_eq!(converted.value, ["172.30.0.0/16".parse().unwrap(), "fd00::/108".parse().unwrap()]);
    assert_eq!(fields(&converted.problems), ["spec.cidrs[1]"]);
}
