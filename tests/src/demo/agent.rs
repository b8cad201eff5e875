//! The agent on one node, started as kubeadm starts kube-proxy.

use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::machines::POD_CIDRS;
use crate::lab::{Node, Process, http_get, log_tail};

const HEALTH_PORT: u16 = 10_256;
const START_PATIENCE: Duration = Duration::from_secs(20);
const POLL_PAUSE: Duration = Duration::from_millis(20);
const LOG_LINES: usize = 12;

/// An agent; it is killed when dropped.
#[derive(Debug)]
pub(super) struct DemoAgent {
    node: String,
    command: Vec<OsString>,
    log: PathBuf,
    process: Option<Process>,
}

impl DemoAgent {
    /// Writes kubeconfig and configuration; nothing runs yet.
    pub(super) fn prepare(node: &Node, program: &Path, mode: &str, kubeconfig: &str) -> Result<Self> {
        let directory = node.surroundings().directory();
        let kubeconfig_file = directory.join("kubeconfig.conf");
        let config_file = directory.join("config.conf");
        write(&kubeconfig_file, kubeconfig)?;
        write(&config_file, &configuration(&kubeconfig_file, mode))?;
        let mut command: Vec<OsString> = vec![program.into(), "--config".into(), config_file.into()];
        command.extend(["--hostname-override".into(), node.name().into()]);
        if let Some(cgroup) = node.surroundings().cgroup() {
            // The sockets of this node and of its pods, and of nobody else on this machine.
            command.extend(["--cgroup-root".into(), cgroup.path().into()]);
        }
        Ok(Self { node: node.name().to_owned(), command, log: directory.join("agent.log"), process: None })
    }

    /// Starts it and waits until it says that it is healthy.
    pub(super) fn start(&mut self, node: &Node) -> Result<()> {
        self.process = Some(node.surroundings().start(&self.command, &self.log)?);
        let deadline = Instant::now() + START_PATIENCE;
        while !is_healthy(node)? {
            self.check()?;
            if Instant::now() > deadline {
                bail!(
                    "the agent on {} is not healthy after {START_PATIENCE:?}; its log ends:\n{}",
                    self.node,
                    self.log_tail()
                );
            }
            std::thread::sleep(POLL_PAUSE);
        }
        Ok(())
    }

    /// Fails if the agent ended by itself, with the last lines it said.
    pub(super) fn check(&mut self) -> Result<()> {
        if let Some(process) = &mut self.process
            && let Some(status) = process.status()?
        {
            bail!("the agent on {} ended by itself ({status}); it said:\n{}", self.node, self.log_tail());
        }
        Ok(())
    }

    /// Its process id, while it runs.
    pub(super) fn id(&self) -> Option<i32> {
        self.process.as_ref().map(Process::id)
    }

    /// Kills it without notice, as the kernel does when memory runs out.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.check()?;
        self.process.take().map(|mut process| process.kill()).transpose()?;
        Ok(())
    }

    /// Where its log is.
    pub(super) fn log(&self) -> &Path {
        &self.log
    }

    /// The last lines of its log.
    pub(super) fn log_tail(&self) -> String {
        log_tail(&self.log, LOG_LINES)
    }
}

fn is_healthy(node: &Node) -> Result<bool> {
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, HEALTH_PORT));
    let answer = node.host().worker().run(http_get(None, to, "/healthz".into(), POLL_PAUSE * 10))?;
    Ok(answer.is_ok_and(|answer| answer.status == 200))
}

/// kube-proxy's own configuration file, but for the mode. Conntrack limits belong to the whole machine, which is not
/// the demo's to change.
fn configuration(kubeconfig: &Path, mode: &str) -> String {
    format!(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\n\
         kind: KubeProxyConfiguration\n\
         bindAddress: 0.0.0.0\n\
         clientConnection:\n  kubeconfig: {}\n\
         clusterCIDR: {}\n\
         mode: {mode}\n\
         conntrack:\n  maxPerCore: 0\n  min: 0\n",
        kubeconfig.display(),
        POD_CIDRS.join(",")
    )
}

/// Writes a file that only its owner reads: it may hold a token.
pub(super) fn write(path: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = fs::File::options();
    options.write(true).create(true).truncate(true).mode(0o600);
    let written = options.open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| format!("cannot write {}", path.display()))
}
