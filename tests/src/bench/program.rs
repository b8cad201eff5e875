//! A proxy under test: its configuration file and its process.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::arguments::Proxy;
use super::cpu::Usage;
use super::seat::Seat;
use crate::lab::{Process, Surroundings};

/// How a proxy is started on a node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setup<'a> {
    pub(super) proxy: &'a Proxy,
    /// Name of the node.
    pub(super) node: &'a str,
    pub(super) kubeconfig: &'a str,
    /// Addresses of pods, for detecting local traffic.
    pub(super) cluster_cidr: &'a str,
    /// Whose sockets are balanced, if the proxy does that.
    pub(super) seat: Option<&'a Seat>,
    pub(super) verbosity: u8,
    /// Where its output goes; replaced if it is there.
    pub(super) log: &'a Path,
}

/// A proxy that runs; killed when dropped.
#[derive(Debug)]
pub(super) struct Running {
    process: Process,
    log: PathBuf,
    /// The program to ask it by, if it is one that answers.
    asked: Option<String>,
}

impl Running {
    /// Writes the configuration and starts the program.
    pub(super) fn start(setup: &Setup<'_>, surroundings: &Surroundings) -> Result<Self> {
        let write = |name: &str, text: &str| -> Result<PathBuf> {
            let path = surroundings.directory().join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            Ok(path)
        };
        let kubeconfig = write("kubeconfig", setup.kubeconfig)?;
        let config = write("config.yaml", &configuration(setup, &kubeconfig))?;
        if let Some(folder) = setup.log.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        fs::write(setup.log, "").with_context(|| format!("cannot write {}", setup.log.display()))?;
        let mut command = vec![setup.proxy.program.clone().into_os_string()];
        command.extend(["--config".into(), config.into_os_string()]);
        command.extend(["--hostname-override".into(), setup.node.into()]);
        if setup.proxy.mode == "ebpf" {
            let sockets = if setup.proxy.socket_lb { "all" } else { "off" };
            command.extend(["--socket-lb".into(), sockets.into()]);
        }
        if setup.proxy.accelerated {
            command.extend(["--acceleration".into(), "tc".into()]);
        }
        if let Some(seat) = setup.seat {
            command.extend(["--cgroup-root".into(), seat.path().into()]);
        }
        if setup.verbosity > 0 {
            command.extend(["-v".into(), setup.verbosity.to_string().into()]);
        }
        let process = surroundings.start(&command, setup.log)?;
        let asked = setup.proxy.is_shunt().then(|| setup.proxy.program.display().to_string());
        Ok(Self { process, log: setup.log.to_owned(), asked })
    }

    pub(super) fn id(&self) -> i32 {
        self.process.id()
    }

    /// What it has used; fails, with its last words, if it has ended.
    pub(super) fn usage(&mut self) -> Result<Usage> {
        self.check()?;
        Usage::of(self.id())
    }

    /// Fails, with its last words, if it has ended.
    pub(super) fn check(&mut self) -> Result<()> {
        if let Some(status) = self.process.status()? {
            bail!(
                "the proxy ended by itself ({status}); its log is {}:\n{}",
                self.log.display(),
                self.tail()
            );
        }
        Ok(())
    }

    /// Fails if shunt does not have as many services as there are, all of them programmed. Of other proxies nothing is
    /// known.
    pub(super) fn ensure_complete(&self, surroundings: &Surroundings, services: usize) -> Result<()> {
        let Some(program) = &self.asked else { return Ok(()) };
        let answer = surroundings.output(program, &["status", "-o", "json"])?;
        let status: Value = serde_json::from_str(&answer).context("reading the agent's status")?;
        let number = |pointer: &str| status.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
        let (known, frontends) = (number("/services"), number("/frontends"));
        let elements = number("/programmed/elements").max(number("/programmed/frontends"));
        let refused = status.pointer("/refused").and_then(Value::as_array).map_or(0, Vec::len);
        let all = u64::try_from(services)?;
        ensure!(
            known == all && frontends >= 2 * all && elements >= frontends && refused == 0,
            "of {all} services {known} are known, with {frontends} frontends; {elements} are in the kernel, {refused} \
             refused"
        );
        Ok(())
    }

    /// The end of its log.
    pub(super) fn tail(&self) -> String {
        const LINES: usize = 10;
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default().join("\n")
    }
}

/// Values are kube-proxy's defaults, but for the limits of connection tracking, which belong to the machine.
fn configuration(setup: &Setup<'_>, kubeconfig: &Path) -> String {
    let configuration = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": setup.proxy.mode,
        "hostnameOverride": setup.node,
        "bindAddress": "0.0.0.0",
        "clientConnection": {"kubeconfig": kubeconfig},
        "detectLocalMode": "ClusterCIDR",
        "clusterCIDR": setup.cluster_cidr,
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    });
    configuration.to_string()
}
