//! Cluster IPs and node ports for Services that do not bring their own.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::store::StoreError;

/// Hands out cluster IPs of 10.96.0.0/12 and node ports 30000 to 32767.
#[derive(Debug)]
pub(super) struct Allocator {
    next_ip: u32,
    used_ips: BTreeSet<String>,
    used_ports: BTreeSet<u64>,
}

impl Default for Allocator {
    fn default() -> Self {
        Self {
            next_ip: u32::from(Ipv4Addr::new(10, 96, 0, 10)),
            used_ips: BTreeSet::new(),
            used_ports: BTreeSet::new(),
        }
    }
}

impl Allocator {
    /// Fills in what a Service lacks; leaves other objects alone.
    pub(super) fn allocate(&mut self, object: &mut Value) -> Result<(), StoreError> {
        if object.get("kind").and_then(Value::as_str) != Some("Service") {
            return Ok(());
        }
        let Some(spec) = object.get_mut("spec").filter(|spec| spec.is_object()) else { return Ok(()) };
        let kind = spec.get("type").and_then(Value::as_str).unwrap_or("").to_owned();
        if kind == "ExternalName" {
            return Ok(());
        }
        self.cluster_ip(spec);
        let allocates = spec.get("allocateLoadBalancerNodePorts") != Some(&json!(false));
        if kind == "NodePort" || (kind == "LoadBalancer" && allocates) {
            self.node_ports(spec)?;
        }
        if kind == "LoadBalancer" && spec.get("externalTrafficPolicy") == Some(&json!("Local")) {
            let port = self.port_or_free(spec.get("healthCheckNodePort"))?;
            set(spec, "healthCheckNodePort", json!(port));
        }
        Ok(())
    }

    /// Gives back what a deleted Service had.
    pub(super) fn release(&mut self, object: &Value) {
        for address in object.pointer("/spec/clusterIPs").and_then(Value::as_array).into_iter().flatten() {
            self.used_ips.remove(address.as_str().unwrap_or(""));
        }
        for port in object.pointer("/spec/ports").and_then(Value::as_array).into_iter().flatten() {
            self.used_ports.remove(&port.get("nodePort").and_then(Value::as_u64).unwrap_or(0));
        }
    }

    fn cluster_ip(&mut self, spec: &mut Value) {
        let first = spec.pointer("/clusterIPs/0").or_else(|| spec.get("clusterIP")).and_then(Value::as_str);
        let address = match first {
            Some(address) if !address.is_empty() => address.to_owned(),
            _ => self.free_ip(),
        };
        self.used_ips.insert(address.clone());
        if spec.pointer("/clusterIPs/0").is_none() {
            set(spec, "clusterIPs", json!([address]));
        }
        set(spec, "clusterIP", json!(address));
        let families: Vec<&str> = spec
            .get("clusterIPs")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .filter(|ip| *ip != "None")
            .map(|ip| if ip.contains(':') { "IPv6" } else { "IPv4" })
            .collect();
        if !families.is_empty() && spec.get("ipFamilies").is_none() {
            let policy = if families.len() == 1 { "SingleStack" } else { "RequireDualStack" };
            let families = json!(families);
            set(spec, "ipFamilyPolicy", json!(policy));
            set(spec, "ipFamilies", families);
        }
    }

    fn free_ip(&mut self) -> String {
        loop {
            let address = Ipv4Addr::from(self.next_ip).to_string();
            self.next_ip += 1;
            if !self.used_ips.contains(&address) {
                return address;
            }
        }
    }

    fn node_ports(&mut self, spec: &mut Value) -> Result<(), StoreError> {
        for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
            let number = self.port_or_free(port.get("nodePort"))?;
            set(port, "nodePort", json!(number));
        }
        Ok(())
    }

    fn port_or_free(&mut self, wanted: Option<&Value>) -> Result<u64, StoreError> {
        let wanted = wanted.and_then(Value::as_u64).filter(|port| *port > 0);
        let free = || (30000..=32767).find(|port| !self.used_ports.contains(port));
        let port =
            wanted.or_else(free).ok_or_else(|| StoreError::Invalid("no node port is free".to_owned()))?;
        self.used_ports.insert(port);
        Ok(port)
    }
}

fn set(target: &mut Value, key: &str, value: Value) {
    if let Some(target) = target.as_object_mut() {
        target.insert(key.to_owned(), value);
    }
}
