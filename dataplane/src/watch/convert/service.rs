//! v1 Service -> [`Service`].

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;

use super::{Converted, Names, Problems, namespace};
use crate::domain::{IpFamily, ObjectKind, Service, ServiceName, ServicePort, ServiceType, TrafficPolicy};
use crate::watch::wire;

const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";
const SOURCE_RANGES_ANNOTATION: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const DEFAULT_AFFINITY_SECONDS: u32 = 10_800;
const LONGEST_AFFINITY_SECONDS: u32 = 86_400;

/// Converts a Service. `None` if this proxy does not serve it: headless, `ExternalName`, or another proxy's.
pub fn service(object: &wire::Service<'_>, names: &Names) -> Converted<Option<Service>> {
    let mut problems = Problems::of(ObjectKind::Service, &object.metadata);
    let service = is_ours(object).then(|| convert(object, names, &mut problems));
    problems.with(service)
}

fn is_ours(object: &wire::Service<'_>) -> bool {
    let spec = &object.spec;
    let first = spec.cluster_ip.as_ref().filter(|ip| !ip.is_empty()).or(spec.cluster_ips.first());
    let has_cluster_ip = first.is_some_and(|ip| !ip.is_empty() && &**ip != "None");
    has_cluster_ip
        && spec.kind.as_deref() != Some("ExternalName")
        && !object.metadata.labels.contains(PROXY_NAME_LABEL)
}

fn convert(object: &wire::Service<'_>, names: &Names, problems: &mut Problems) -> Service {
    let (meta, spec) = (&object.metadata, &object.spec);
    let kind = kind(spec, problems);
    let external_ips = external_ips(spec, problems);
    let external_policy =
        policy("spec.externalTrafficPolicy", spec.external_traffic_policy.as_deref(), problems);
    let externally_accessible = kind != ServiceType::ClusterIp || !external_ips.is_empty();
    let external_policy = if externally_accessible { external_policy } else { TrafficPolicy::Cluster };
    let (source_ranges, all_unusable) = source_ranges(object, problems);
    Service {
        name: ServiceName { namespace: names.shared(namespace(meta)), name: names.shared(&meta.name) },
        uid: (*meta.uid).into(),
        created: meta.creation_timestamp.as_deref().map_or(0, |text| created(text, problems)),
        kind,
        cluster_ips: cluster_ips(spec, problems),
        external_ips,
        load_balancer_ips: if all_unusable { Vec::new() } else { load_balancer_ips(object, problems) },
        source_ranges,
        ports: ports(spec, names, problems),
        internal_policy: policy(
            "spec.internalTrafficPolicy",
            spec.internal_traffic_policy.as_deref(),
            problems,
        ),
        external_policy,
        affinity_seconds: affinity(spec, problems),
        health_check_node_port: health_check_node_port(spec, kind, external_policy, problems),
    }
}

fn kind(spec: &wire::ServiceSpec<'_>, problems: &mut Problems) -> ServiceType {
    match spec.kind.as_deref() {
        None | Some("" | "ClusterIP") => ServiceType::ClusterIp,
        Some("NodePort") => ServiceType::NodePort,
        Some("LoadBalancer") => ServiceType::LoadBalancer,
        Some(other) => {
            problems.report("spec.type", format!("{other:?} is not a known type; taken as ClusterIP"));
            ServiceType::ClusterIp
        }
    }
}

fn created(text: &str, problems: &mut Problems) -> i64 {
    match text.parse::<Timestamp>() {
        Ok(time) => time.as_second(),
        Err(error) => {
            problems.report("metadata.creationTimestamp", format!("{text:?} is not a time: {error}"));
            0
        }
    }
}

fn cluster_ips(spec: &wire::ServiceSpec<'_>, problems: &mut Problems) -> Vec<IpAddr> {
    if spec.cluster_ips.is_empty() {
        let single = spec.cluster_ip.as_ref();
        return single
            .and_then(|text| problems.ip(|| "spec.clusterIP".to_owned(), text))
            .into_iter()
            .collect();
    }
    let mut addresses: Vec<IpAddr> = Vec::with_capacity(spec.cluster_ips.len());
    for (index, text) in spec.cluster_ips.iter().enumerate() {
        let field = || format!("spec.clusterIPs[{index}]");
        let Some(address) = problems.ip(field, text) else { continue };
        let family = IpFamily::of(address);
        if addresses.iter().any(|other| IpFamily::of(*other) == family) {
            problems.report(field(), format!("{address} is a second {family} address"));
        } else {
            addresses.push(address);
        }
    }
    addresses
}

fn external_ips(spec: &wire::ServiceSpec<'_>, problems: &mut Problems) -> Vec<IpAddr> {
    let mut addresses = Vec::with_capacity(spec.external_ips.len());
    for (index, text) in spec.external_ips.iter().enumerate() {
        if let Some(address) = problems.ip(|| format!("spec.externalIPs[{index}]"), text) {
            push_new(&mut addresses, address);
        }
    }
    addresses
}

fn load_balancer_ips(object: &wire::Service<'_>, problems: &mut Problems) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for (index, ingress) in object.status.load_balancer.ingress.iter().enumerate() {
        let field = |name: &str| format!("status.loadBalancer.ingress[{index}].{name}");
        if ingress.ip.is_empty() {
            continue;
        }
        match ingress.ip_mode.as_deref() {
            None | Some("VIP") => {}
            Some("Proxy") => continue,
            Some(other) => {
                problems.report(field("ipMode"), format!("{other:?} is not VIP or Proxy"));
                continue;
            }
        }
        if let Some(address) = problems.ip(|| field("ip"), &ingress.ip) {
            push_new(&mut addresses, address);
        }
    }
    addresses
}

fn push_new(addresses: &mut Vec<IpAddr>, address: IpAddr) {
    if !addresses.contains(&address) {
        addresses.push(address);
    }
}

/// The ranges, and whether ranges were asked for but none can be used.
///
/// An empty list means "open to all", which is the opposite of what such a Service asks for: its load balancer
/// addresses are then not served.
fn source_ranges(object: &wire::Service<'_>, problems: &mut Problems) -> (Vec<IpNet>, bool) {
    let listed = &object.spec.load_balancer_source_ranges;
    let annotation = object.metadata.annotations.get(SOURCE_RANGES_ANNOTATION).unwrap_or_default();
    let (field, texts): (_, Vec<&str>) = if listed.is_empty() {
        let field = format!("metadata.annotations[{SOURCE_RANGES_ANNOTATION}]");
        (field, annotation.split(',').filter(|text| !text.trim().is_empty()).collect())
    } else {
        ("spec.loadBalancerSourceRanges".to_owned(), listed.iter().map(|text| &**text).collect())
    };
    let ranges = problems.cidrs(&field, texts.iter().copied());
    let all_unusable = ranges.is_empty() && !texts.is_empty();
    if all_unusable {
        problems.report(field, "no range can be used: the load balancer addresses are not served");
    }
    (ranges, all_unusable)
}

fn ports(spec: &wire::ServiceSpec<'_>, names: &Names, problems: &mut Problems) -> Vec<ServicePort> {
    let mut ports: Vec<ServicePort> = Vec::with_capacity(spec.ports.len());
    for (index, entry) in spec.ports.iter().enumerate() {
        let field = |name: &str| format!("spec.ports[{index}].{name}");
        let Some(port) = problems.port(|| field("port"), entry.port) else { continue };
        let Some(protocol) = problems.protocol(|| field("protocol"), entry.protocol.as_ref()) else {
            continue;
        };
        if ports.iter().any(|other| *other.name == *entry.name && other.protocol == protocol) {
            problems
                .report(field("name"), format!("a second {protocol} port has the name {:?}", &*entry.name));
            continue;
        }
        let node_port = entry
            .node_port
            .filter(|port| *port != 0)
            .and_then(|node_port| problems.port(|| field("nodePort"), Some(node_port)));
        ports.push(ServicePort { name: names.shared(&entry.name), protocol, port, node_port });
    }
    ports
}

fn policy(field: &str, text: Option<&str>, problems: &mut Problems) -> TrafficPolicy {
    match text {
        None | Some("" | "Cluster") => TrafficPolicy::Cluster,
        Some("Local") => TrafficPolicy::Local,
        Some(other) => {
            problems.report(field, format!("{other:?} is not Cluster or Local; taken as Cluster"));
            TrafficPolicy::Cluster
        }
    }
}

fn affinity(spec: &wire::ServiceSpec<'_>, problems: &mut Problems) -> Option<u32> {
    match spec.session_affinity.as_deref() {
        None | Some("" | "None") => None,
        Some("ClientIP") => Some(affinity_seconds(spec.session_affinity_config, problems)),
        Some(other) => {
            problems
                .report("spec.sessionAffinity", format!("{other:?} is not None or ClientIP; taken as None"));
            None
        }
    }
}

fn affinity_seconds(config: wire::AffinityConfig, problems: &mut Problems) -> u32 {
    let Some(seconds) = config.client_ip.timeout_seconds else { return DEFAULT_AFFINITY_SECONDS };
    u32::try_from(seconds).ok().filter(|seconds| (1..=LONGEST_AFFINITY_SECONDS).contains(seconds)).unwrap_or_else(
        || {
            problems.report(
                "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
                format!("{seconds} is not within 1 and {LONGEST_AFFINITY_SECONDS}; {DEFAULT_AFFINITY_SECONDS} is used"),
            );
            DEFAULT_AFFINITY_SECONDS
        },
    )
}

fn health_check_node_port(
    spec: &wire::ServiceSpec<'_>,
    kind: ServiceType,
    external_policy: TrafficPolicy,
    problems: &mut Problems,
) -> Option<u16> {
    if kind != ServiceType::LoadBalancer || external_policy != TrafficPolicy::Local {
        return None;
    }
    let port = spec.health_check_node_port.filter(|port| *port != 0);
    problems.port(|| "spec.healthCheckNodePort".to_owned(), port)
}
