//! What kube-proxy fills in where the document says nothing. To it, an absent field, `null` and a zero value are one
//! and the same (`syncPeriod: 0s` is the default of 30 s), except where the type can tell them apart.

use super::address::{parse_ip, with_port};
use super::document::{API_VERSION, Conntrack, Iptables, Ipvs, KIND, KubeProxyConfiguration, Nftables};
use super::duration::GoDuration;
use super::logging_document::{FlushFrequency, LoggingConfiguration};

/// Port of the health server.
pub(super) const HEALTHZ_PORT: u16 = 10256;
/// Port of the metrics server.
pub(super) const METRICS_PORT: u16 = 10249;
/// `bindAddress`.
pub(super) const BIND_ADDRESS: &str = "0.0.0.0";

const MASQUERADE_BIT: i32 = 14;
const SYNC_PERIOD: GoDuration = GoDuration::from_secs(30);
const MIN_SYNC_PERIOD: GoDuration = GoDuration::from_secs(1);

impl KubeProxyConfiguration {
    /// The document that kube-proxy runs with when nothing is configured.
    pub fn with_defaults() -> Self {
        let mut document = Self::default();
        document.set_defaults();
        document
    }

    /// Fills in every field that was left out.
    pub fn set_defaults(&mut self) {
        API_VERSION.clone_into(&mut self.api_version);
        KIND.clone_into(&mut self.kind);
        fill(&mut self.bind_address, BIND_ADDRESS);
        self.set_address_defaults();
        self.oom_score_adj.get_or_insert(-999);
        self.config_sync_period = self.config_sync_period.or_default(GoDuration::from_secs(15 * 60));
        fill(&mut self.client_connection.content_type, "application/vnd.kubernetes.protobuf");
        if self.client_connection.qps == 0.0 {
            self.client_connection.qps = 5.0;
        }
        if self.client_connection.burst == 0 {
            self.client_connection.burst = 10;
        }
        self.iptables.set_defaults();
        self.ipvs.set_defaults();
        self.nftables.set_defaults();
        self.conntrack.set_defaults();
        self.logging.set_defaults();
    }

    /// The servers listen on the family of `bindAddress`; an address without a port gets the usual one.
    fn set_address_defaults(&mut self) {
        let is_ipv6 = parse_ip(&self.bind_address).is_some_and(|address| address.is_ipv6());
        let (any, loopback) = if is_ipv6 { ("::", "::1") } else { ("0.0.0.0", "127.0.0.1") };
        fill(&mut self.healthz_bind_address, any);
        self.healthz_bind_address = with_port(&self.healthz_bind_address, HEALTHZ_PORT);
        fill(&mut self.metrics_bind_address, loopback);
        self.metrics_bind_address = with_port(&self.metrics_bind_address, METRICS_PORT);
    }
}

impl Iptables {
    fn set_defaults(&mut self) {
        self.masquerade_bit.get_or_insert(MASQUERADE_BIT);
        self.localhost_node_ports.get_or_insert(true);
        self.sync_period = self.sync_period.or_default(SYNC_PERIOD);
        self.min_sync_period = self.min_sync_period.or_default(MIN_SYNC_PERIOD);
    }
}

impl Ipvs {
    /// Only this mode has no least time between two syncs.
    fn set_defaults(&mut self) {
        self.sync_period = self.sync_period.or_default(SYNC_PERIOD);
    }
}

impl Nftables {
    fn set_defaults(&mut self) {
        self.masquerade_bit.get_or_insert(MASQUERADE_BIT);
        self.sync_period = self.sync_period.or_default(SYNC_PERIOD);
        self.min_sync_period = self.min_sync_period.or_default(MIN_SYNC_PERIOD);
    }

    /// Whether nothing in the section differs from its defaults.
    pub(super) fn is_untouched(&self) -> bool {
        let mut untouched = Self::default();
        untouched.set_defaults();
        *self == untouched
    }
}

impl Conntrack {
    fn set_defaults(&mut self) {
        self.max_per_core.get_or_insert(32 * 1024);
        self.min.get_or_insert(128 * 1024);
        self.tcp_established_timeout.get_or_insert(GoDuration::from_secs(24 * 60 * 60));
        self.tcp_close_wait_timeout.get_or_insert(GoDuration::from_secs(60 * 60));
    }
}

impl LoggingConfiguration {
    fn set_defaults(&mut self) {
        fill(&mut self.format, "text");
        if self.flush_frequency.duration == GoDuration::ZERO {
            self.flush_frequency = FlushFrequency { duration: GoDuration::from_secs(5), as_text: true };
        }
    }
}

fn fill(field: &mut String, default: &str) {
    if field.is_empty() {
        default.clone_into(field);
    }
}
