//! The agent's program: started, asked, stopped.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::eventually;
use crate::Mode;
use crate::flows::shunt_program;
use crate::lab::{Process, Surroundings, log_tail, log_text};

/// How long a program that ends by itself may take.
const END_PATIENCE: Duration = Duration::from_secs(15);
const LOG_LINES: usize = 30;

/// A program that has come to its end.
#[derive(Debug, Clone)]
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// What it said, standard output and error together.
    pub output: String,
}

impl Ended {
    /// The exit code; fails if a signal ended it.
    pub fn code(&self) -> Result<i32> {
        self.status.code().with_context(|| format!("{}: {}", self.status, self.output))
    }

    /// What it said, if it ended well.
    pub fn success(self) -> Result<String> {
        ensure!(self.status.success(), "{}: {}", self.status, self.output);
        Ok(self.output)
    }
}

/// The agent on a node.
#[derive(Debug)]
pub struct AgentRun {
    process: Option<Process>,
    directory: PathBuf,
    log: PathBuf,
    /// Runs of other programs, for the names of their logs.
    runs: AtomicU32,
    /// The configuration file, written anew at each start.
    pub config: Value,
    /// A second document in it, of kind ShuntConfiguration.
    pub own_config: Option<Value>,
    /// What it is told besides.
    arguments: Vec<OsString>,
    /// `NAME=VALUE` for its environment.
    pub environment: Vec<OsString>,
}

/// Settings that tests begin with. Limits of connection tracking belong to the whole machine and are left alone.
fn default_config(mode: Mode, kubeconfig: &Path) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": mode.setting(),
        "clientConnection": {"kubeconfig": kubeconfig},
        "clusterCIDR": "10.244.0.0/16",
        "nodePortAddresses": ["192.168.50.0/24"],
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    })
}

impl AgentRun {
    /// An agent that does not run yet, with a kubeconfig.
    pub fn prepare(mode: Mode, surroundings: &Surroundings, kubeconfig: &str) -> Result<Self> {
        let directory = surroundings.directory();
        let path = directory.join("kubeconfig.conf");
        fs::write(&path, kubeconfig).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self {
            process: None,
            directory: directory.to_owned(),
            log: directory.join("agent.log"),
            runs: AtomicU32::new(0),
            config: default_config(mode, &path),
            arguments: mode.arguments(surroundings)?,
            own_config: None,
            environment: Vec::new(),
        })
    }

    /// Has it translate in another way from its next start on.
    pub fn change_mode(&mut self, mode: Mode, surroundings: &Surroundings) -> Result<()> {
        if let Some(setting) = self.config.get_mut("mode") {
            *setting = json!(mode.setting());
        }
        self.arguments = mode.arguments(surroundings)?;
        Ok(())
    }

    /// Where its files are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where its configuration file is.
    pub fn config_file(&self) -> PathBuf {
        self.directory.join("config.conf")
    }

    /// Writes the configuration file; JSON is YAML.
    pub fn write_config(&self) -> Result<()> {
        let own = self.own_config.as_ref().map(|own| format!("\n---\n{own}")).unwrap_or_default();
        fs::write(self.config_file(), format!("{}{own}", self.config))
            .context("cannot write the configuration file")
    }

    /// Writes the configuration file and starts the program with it.
    pub fn start(&mut self, surroundings: &Surroundings, node: &str) -> Result<()> {
        self.write_config()?;
        let mut words: Vec<OsString> = vec!["--config".into(), self.config_file().into()];
        words.extend(["--hostname-override".into(), node.into()]);
        words.extend(self.arguments.iter().cloned());
        self.start_with(surroundings, words)
    }

    /// Starts the program with these arguments alone.
    pub fn start_with(&mut self, surroundings: &Surroundings, arguments: Vec<OsString>) -> Result<()> {
        let mut words = vec![OsString::from("env")];
        words.extend(self.environment.iter().cloned());
        words.push(shunt_program()?.into_os_string());
        words.extend(arguments);
        self.process = Some(surroundings.start(&words, &self.log)?);
        Ok(())
    }

    /// The process id.
    pub fn id(&self) -> Result<i32> {
        Ok(self.process.as_ref().context("the agent was not started")?.id())
    }

    /// Fails if it has ended by itself.
    pub fn check(&mut self) -> Result<()> {
        if let Some(process) = &mut self.process
            && let Some(status) = process.status()?
        {
            anyhow::bail!("the agent ended by itself: {status}\n{}", self.log_tail());
        }
        Ok(())
    }

    /// Waits until it ends by itself.
    pub fn wait_for_end(&mut self) -> Result<Ended> {
        let mut process = self.process.take().context("the agent was not started")?;
        let status = wait(&mut process).with_context(|| self.log_tail())?;
        Ok(Ended { status, output: self.log() })
    }

    /// Asks it to end; fails if it has to be killed or fails itself.
    pub fn stop(&mut self) -> Result<()> {
        self.check()?;
        let mut process = self.process.take().context("the agent was not started")?;
        let (status, killed) = process.stop()?;
        ensure!(!killed && status.success(), "asked to end: {status}\n{}", self.log_tail());
        Ok(())
    }

    /// Kills it without notice.
    pub fn kill(&mut self) -> Result<()> {
        self.check()?;
        self.process.take().context("the agent was not started")?.kill()?;
        Ok(())
    }

    /// Runs the program with other arguments to its end.
    pub fn run<W: AsRef<OsStr>>(&self, surroundings: &Surroundings, arguments: &[W]) -> Result<Ended> {
        let number = self.runs.fetch_add(1, Ordering::Relaxed);
        let log = self.directory.join(format!("run-{number}.log"));
        let mut words = vec![shunt_program()?.into_os_string()];
        words.extend(arguments.iter().map(|word| word.as_ref().to_owned()));
        let status = wait(&mut surroundings.start(&words, &log)?)?;
        let output = fs::read(&log).context("cannot read what a program said")?;
        Ok(Ended { status, output: String::from_utf8_lossy(&output).into_owned() })
    }

    /// All it has said so far, in all its lives.
    pub fn log(&self) -> String {
        log_text(&self.log)
    }

    /// The last lines of it.
    pub fn log_tail(&self) -> String {
        log_tail(&self.log, LOG_LINES)
    }
}

fn wait(process: &mut Process) -> Result<ExitStatus> {
    eventually("the program ends", END_PATIENCE, || process.status())
}
