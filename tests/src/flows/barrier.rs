//! A service of the runner's own, by which it sees that a step is in effect.
//!
//! It is changed after everything else of a step; once packets show its new
//! state, all earlier changes have been programmed.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};

use crate::lab::Family;

/// Where the barrier's endpoints listen.
pub(crate) const TARGET_PORT: u16 = 9;
const FIRST_PORT: u16 = 20_000;
const NAMESPACE: &str = "barrier-system";

/// The state of the barrier after one step, for one IP version.
#[derive(Debug, Clone)]
pub(crate) struct Barrier {
    family: Family,
    frontend: SocketAddr,
    endpoint: SocketAddr,
}

impl Barrier {
    /// The barrier of step `number`: another port and another endpoint each.
    pub(crate) fn new(family: Family, number: u16) -> Self {
        let (address, endpoint): (IpAddr, IpAddr) = match family {
            Family::V4 => {
                let [high, low] = (number + 1).to_be_bytes();
                ([198, 18, 0, 1].into(), [198, 19, high, low].into())
            }
            Family::V6 => {
                ([0x2001, 2, 0, 0, 0, 0, 0, 1].into(), [0x2001, 2, 0, 1, 0, 0, 0, number + 1].into())
            }
        };
        Self {
            family,
            frontend: SocketAddr::new(address, FIRST_PORT + number),
            endpoint: SocketAddr::new(endpoint, TARGET_PORT),
        }
    }

    /// Whom to ask.
    pub(crate) fn frontend(&self) -> SocketAddr {
        self.frontend
    }

    /// Who answers once the barrier is in effect.
    pub(crate) fn endpoint(&self) -> SocketAddr {
        self.endpoint
    }

    /// The barrier's IP version.
    pub(crate) fn family(&self) -> Family {
        self.family
    }

    /// The Service and the EndpointSlice.
    pub(crate) fn objects(&self) -> [Value; 2] {
        let (family, name) = match self.family {
            Family::V4 => ("IPv4", "barrier-v4"),
            Family::V6 => ("IPv6", "barrier-v6"),
        };
        let address = self.frontend.ip();
        let service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"namespace": NAMESPACE, "name": name},
            "spec": {
                "type": "ClusterIP", "clusterIP": address, "clusterIPs": [address],
                "ipFamilies": [family], "ipFamilyPolicy": "SingleStack",
                "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
                "ports": [{"name": "barrier", "protocol": "TCP", "port": self.frontend.port(),
                           "targetPort": TARGET_PORT}],
            },
        });
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"namespace": NAMESPACE, "name": name,
                         "labels": {"kubernetes.io/service-name": name}},
            "addressType": family,
            "endpoints": [{"addresses": [self.endpoint.ip()], "nodeName": "elsewhere",
                           "conditions": {"ready": true, "serving": true, "terminating": false}}],
            "ports": [{"name": "barrier", "protocol": "TCP", "port": TARGET_PORT}],
        });
        [service, slice]
    }
}
