//! The agent under test: its program, its configuration file, its life.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::case::{Case, Config};
use crate::Mode;
use crate::lab::{Process, Surroundings, log_tail, log_text};

/// Where the agent answers `/healthz`.
pub(crate) const HEALTHZ_PORT: u16 = 10_256;
/// Where the agent serves metrics.
pub(crate) const METRICS_PORT: u16 = 10_249;
/// Names the program to test in place of the one in the target directory.
const PROGRAM_VARIABLE: &str = "SHUNT_BIN";
const LOG_LINES: usize = 15;

/// What is run as the agent.
#[derive(Debug, Clone)]
pub enum AgentProgram {
    /// A program that takes the agent's arguments.
    Agent(PathBuf),
    /// Another program with arguments of its own, to test the runner with.
    Other(Vec<OsString>),
}

/// Finds the agent: `SHUNT_BIN`, else beside the test executable's directory
/// in the target directory. Fails, with advice, when there is none.
pub fn shunt_program() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(PROGRAM_VARIABLE) {
        let path = PathBuf::from(path);
        return path
            .canonicalize()
            .with_context(|| format!("{PROGRAM_VARIABLE} names {}, which is not there", path.display()));
    }
    // target/PROFILE/deps/packet_flows-HASH -> target/PROFILE/shunt
    let test = std::env::current_exe().context("cannot tell where the test executable is")?;
    let beside = test.ancestors().nth(2).context("the test executable is at an odd place")?.join("shunt");
    if !beside.exists() {
        bail!(
            "the agent is not built: {} is missing; run `cargo build -p shunt` (with --release for \
             release tests) or set {PROGRAM_VARIABLE}",
            beside.display()
        );
    }
    Ok(beside)
}

/// How an agent is started.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// What to run.
    pub program: AgentProgram,
    /// How it translates.
    pub mode: Mode,
    /// The node's name.
    pub node: String,
    /// Settings for the configuration file.
    pub settings: Config,
    /// Elements of the maps of established flows, if not as many as the agent thinks right.
    pub flows: Option<u32>,
    /// Path of a kubeconfig, if objects come from an API server.
    pub kubeconfig: Option<PathBuf>,
    /// Arguments by which the agent finds the objects.
    pub source: Vec<OsString>,
}

impl AgentConfig {
    /// The configuration for a case.
    pub(crate) fn for_case(case: &Case, program: AgentProgram, mode: Mode) -> Self {
        Self {
            program,
            mode,
            node: case.node.name.clone(),
            settings: case.config.clone(),
            flows: None,
            kubeconfig: None,
            source: Vec::new(),
        }
    }

    /// The configuration file. Lists and texts are written as JSON, which is
    /// YAML too.
    fn file(&self) -> String {
        let settings = &self.settings;
        let detect = &settings.local_detect;
        let detect_mode = match detect.mode.as_deref() {
            // Without a CIDR nothing counts as local.
            None | Some("None") => "ClusterCIDR",
            Some(mode) => mode,
        };
        let kubeconfig = self.kubeconfig.as_deref().unwrap_or(Path::new(""));
        let period = settings.sync_period.as_deref().unwrap_or("30s");
        let lines = [
            "apiVersion: kubeproxy.config.k8s.io/v1alpha1".to_owned(),
            "kind: KubeProxyConfiguration".to_owned(),
            format!("mode: {}", json!(self.mode.setting())),
            format!("hostnameOverride: {}", json!(self.node)),
            "bindAddress: 0.0.0.0".to_owned(),
            format!("healthzBindAddress: 0.0.0.0:{HEALTHZ_PORT}"),
            format!("metricsBindAddress: 127.0.0.1:{METRICS_PORT}"),
            format!("clientConnection:\n  kubeconfig: {}", json!(kubeconfig)),
            format!("detectLocalMode: {detect_mode}"),
            format!("clusterCIDR: {}", json!(detect.cluster_cidr)),
            "detectLocal:".to_owned(),
            format!("  bridgeInterface: {}", json!(detect.bridge_interface)),
            format!("  interfaceNamePrefix: {}", json!(detect.interface_name_prefix)),
            format!("nodePortAddresses: {}", json!(settings.node_port_addresses)),
            "conntrack:\n  maxPerCore: 0\n  min: 0".to_owned(),
            "  tcpEstablishedTimeout: 0s\n  tcpCloseWaitTimeout: 0s".to_owned(),
            "nftables:".to_owned(),
            format!("  masqueradeAll: {}", settings.masquerade_all),
            format!("  syncPeriod: {period}\n  minSyncPeriod: 100ms"),
            "iptables:".to_owned(),
            format!("  masqueradeAll: {}", settings.masquerade_all),
            format!("  localhostNodePorts: {}", settings.localhost_node_ports.unwrap_or(true)),
        ];
        let own = self.flows.map(|flows| {
            format!(
                "---\napiVersion: shunt.dev/v1alpha1\nkind: ShuntConfiguration\nmaps:\n  flows: {flows}\n"
            )
        });
        lines.join("\n") + "\n" + &own.unwrap_or_default()
    }
}

/// An agent that can be started and stopped.
#[derive(Debug)]
pub struct Agent {
    process: Option<Process>,
    command: Vec<OsString>,
    log: PathBuf,
}

impl Agent {
    /// Writes the configuration file; the agent does not run yet.
    pub fn prepare(config: &AgentConfig, surroundings: &Surroundings) -> Result<Self> {
        let directory = surroundings.directory();
        let file = directory.join("config.yaml");
        fs::write(&file, config.file()).with_context(|| format!("cannot write {}", file.display()))?;
        let command = match &config.program {
            AgentProgram::Agent(program) => {
                let mut words: Vec<OsString> = vec![program.clone().into(), "--config".into(), file.into()];
                words.extend(["--hostname-override".into(), config.node.clone().into()]);
                words.extend(config.source.iter().cloned());
                words.extend(config.mode.arguments(surroundings)?);
                words
            }
            AgentProgram::Other(words) => words.clone(),
        };
        Ok(Self { process: None, command, log: directory.join("agent.log") })
    }

    /// Starts the program in the node's surroundings.
    pub fn start(&mut self, surroundings: &Surroundings) -> Result<()> {
        self.process = Some(surroundings.start(&self.command, &self.log)?);
        Ok(())
    }

    /// Whether it was started and not stopped since.
    pub fn is_started(&self) -> bool {
        self.process.is_some()
    }

    /// Whether it was started and has ended by itself.
    pub fn has_ended(&self) -> bool {
        self.process.as_ref().is_some_and(Process::has_ended)
    }

    /// Fails if the agent ended by itself.
    pub fn check(&mut self) -> Result<()> {
        if let Some(process) = &mut self.process
            && let Some(status) = process.status()?
        {
            bail!("the agent ended by itself: {status}");
        }
        Ok(())
    }

    /// Asks the agent to end; fails if it has to be killed, or has ended before.
    pub fn stop(&mut self) -> Result<()> {
        self.check()?;
        if let Some(mut process) = self.process.take() {
            let (_, killed) = process.stop()?;
            anyhow::ensure!(!killed, "the agent did not end when asked to");
        }
        Ok(())
    }

    /// Kills the agent without notice.
    pub fn kill(&mut self) -> Result<()> {
        self.check()?;
        self.process.take().map(|mut process| process.kill()).transpose()?;
        Ok(())
    }

    /// All of the agent's output.
    pub fn log(&self) -> String {
        log_text(&self.log)
    }

    /// The last lines of the agent's output.
    pub fn log_tail(&self) -> String {
        log_tail(&self.log, LOG_LINES)
    }
}
