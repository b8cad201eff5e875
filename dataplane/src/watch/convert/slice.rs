//! discovery.k8s.io/v1 EndpointSlice -> [`EndpointSlice`].

use jiff::Timestamp;

use super::{Converted, Names, Problems, address, namespace};
use crate::domain::{
    Endpoint, EndpointPort, EndpointSlice, Hints, IpFamily, ObjectKind, ServiceName, SliceName,
};
use crate::watch::wire;

const SERVICE_LABEL: &str = "kubernetes.io/service-name";
const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";
const TRIGGER_ANNOTATION: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// A slice as the proxy sees it; `None` if it is not the proxy's business.
pub type SliceUse = Option<EndpointSlice>;

/// Converts an EndpointSlice. `None` without a Service, for headless Services and for names instead of addresses.
pub fn endpoint_slice(object: &wire::EndpointSlice<'_>, names: &Names) -> Converted<SliceUse> {
    let mut problems = Problems::of(ObjectKind::EndpointSlice, &object.metadata);
    let slice = convert(object, names, &mut problems);
    problems.with(slice)
}

fn convert(object: &wire::EndpointSlice<'_>, names: &Names, problems: &mut Problems) -> SliceUse {
    let meta = &object.metadata;
    let service = meta.labels.get(SERVICE_LABEL).filter(|name| !name.is_empty())?;
    if meta.labels.contains(HEADLESS_LABEL) {
        return None;
    }
    let family = family(object, problems)?;
    let namespace = names.shared(namespace(meta));
    Some(EndpointSlice {
        name: SliceName { namespace: namespace.clone(), name: names.shared(&meta.name) },
        service: ServiceName { namespace, name: names.shared(service) },
        family,
        ports: ports(object, names, problems),
        endpoints: object
            .endpoints
            .iter()
            .enumerate()
            .filter_map(|(index, entry)| endpoint(index, entry, family, names, problems))
            .collect(),
        trigger_time_ns: meta.annotations.get(TRIGGER_ANNOTATION).and_then(nanoseconds),
    })
}

/// `addressType`; where a hand-written slice has none, the family of its first address.
fn family(object: &wire::EndpointSlice<'_>, problems: &mut Problems) -> Option<IpFamily> {
    match object.address_type.as_deref() {
        Some("IPv4") => Some(IpFamily::V4),
        Some("IPv6") => Some(IpFamily::V6),
        Some("FQDN") => None,
        Some(other) => {
            problems.report("addressType", format!("{other:?} is not IPv4, IPv6 or FQDN"));
            None
        }
        None => {
            let first = object.endpoints.iter().find_map(|endpoint| endpoint.addresses.first());
            first.map_or(Some(IpFamily::V4), |text| address::parse_ip(text).map(IpFamily::of))
        }
    }
}

fn ports(object: &wire::EndpointSlice<'_>, names: &Names, problems: &mut Problems) -> Vec<EndpointPort> {
    let mut ports = Vec::with_capacity(object.ports.len());
    for (index, entry) in object.ports.iter().enumerate() {
        // Without a number the slice means "all ports"; kube-proxy skips such an entry, and so do we.
        if entry.port.is_none() {
            continue;
        }
        let Some(port) = problems.port(|| format!("ports[{index}].port"), entry.port) else { continue };
        let field = || format!("ports[{index}].protocol");
        let Some(protocol) = problems.protocol(field, entry.protocol.as_ref()) else { continue };
        ports.push(EndpointPort { name: names.shared(&entry.name), protocol, port });
    }
    ports
}

fn endpoint(
    index: usize,
    entry: &wire::Endpoint<'_>,
    family: IpFamily,
    names: &Names,
    problems: &mut Problems,
) -> Option<Endpoint> {
    let field = || format!("endpoints[{index}].addresses[0]");
    let Some(text) = entry.addresses.first() else {
        problems.report(format!("endpoints[{index}].addresses"), "no address is given");
        return None;
    };
    let address = problems.ip(field, text)?;
    if IpFamily::of(address) != family {
        problems.report(field(), format!("{address} is not {family}"));
        return None;
    }
    Some(Endpoint {
        address,
        ready: entry.conditions.ready.unwrap_or(true),
        serving: entry.conditions.serving.unwrap_or(true),
        terminating: entry.conditions.terminating.unwrap_or(false),
        node: entry.node_name.as_ref().filter(|name| !name.is_empty()).map(|name| names.shared(name)),
        hints: hints(&entry.hints, names),
    })
}

fn hints(hints: &wire::Hints<'_>, names: &Names) -> Option<Box<Hints>> {
    if hints.for_zones.is_empty() && hints.for_nodes.is_empty() {
        return None;
    }
    let shared = |list: &[wire::HintName<'_>]| list.iter().map(|hint| names.shared(&hint.name)).collect();
    Some(Box::new(Hints { zones: shared(&hints.for_zones), nodes: shared(&hints.for_nodes) }))
}

fn nanoseconds(text: &str) -> Option<i64> {
    text.parse::<Timestamp>().ok().and_then(|time| i64::try_from(time.as_nanosecond()).ok())
}
