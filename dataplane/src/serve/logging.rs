//! Logs: text or JSON on standard error, with kube-proxy's `-v` levels.
//!
//! | `-v` | the agent | kube, hyper, tower | everything else |
//! | --- | --- | --- | --- |
//! | 0, 1 | info | warn | warn |
//! | 2, 3 | info | info | warn |
//! | 4, 5 | debug | info | warn |
//! | 6, 7 | trace | debug | info |
//! | 8 and more | trace | trace | debug |

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::Level;
use tracing::subscriber::SetGlobalDefaultError;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::writer::{BoxMakeWriter, MakeWriterExt};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

/// Modules that `--vmodule` patterns can name, by their last part.
const MODULES: [&str; 14] = [
    "shunt::cli",
    "shunt::config",
    "shunt::domain",
    "shunt::kernel",
    "shunt::kernel::conntrack",
    "shunt::kernel::monitor",
    "shunt::kernel::netlink",
    "shunt::kernel::nftables",
    "shunt::kernel::sysctl",
    "shunt::kernel::takeover",
    "shunt::plan",
    "shunt::reconcile",
    "shunt::serve",
    "shunt::watch",
];

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object a line.
    Json,
}

/// What the command line and the configuration say about logs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// `--logging-format`.
    pub format: LogFormat,
    /// `-v`.
    pub verbosity: u8,
    /// `--vmodule`: `pattern=N` pairs, separated by commas; patterns with `*` and `?` name modules.
    pub vmodule: String,
    /// Errors and warnings go to standard error, the rest to standard output.
    pub split_stream: bool,
}

/// Why logs cannot be written as asked.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// `--vmodule` is not understood.
    #[error("--vmodule: {entry:?} is not of the form pattern=N")]
    Vmodule {
        /// The part that is wrong.
        entry: String,
    },
    /// The filter is not understood.
    #[error("log filter")]
    Filter(#[from] ParseError),
    /// Logs were set up before.
    #[error("logs are set up already")]
    Twice(#[from] SetGlobalDefaultError),
    /// The subscriber is gone.
    #[error("the log level cannot be changed")]
    Reload(#[from] reload::Error),
}

/// Changes the level of a running agent. Clones change the same.
#[derive(Clone)]
pub struct LogHandle(Arc<Reloadable>);

struct Reloadable {
    filter: reload::Handle<EnvFilter, Registry>,
    vmodule: String,
    verbosity: Mutex<u8>,
}

impl fmt::Debug for LogHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogHandle").field(&self.verbosity()).finish()
    }
}

impl LogHandle {
    /// The level now, as for `-v`.
    pub fn verbosity(&self) -> u8 {
        *self.0.verbosity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the level, as `-v` does; `--vmodule` stays.
    pub fn set_verbosity(&self, verbosity: u8) -> Result<(), LoggingError> {
        self.0.filter.reload(filter(verbosity, &self.0.vmodule)?)?;
        *self.0.verbosity.lock().unwrap_or_else(PoisonError::into_inner) = verbosity;
        Ok(())
    }
}

/// Sets up logs for the process; once.
pub fn init_logging(options: &LogOptions) -> Result<LogHandle, LoggingError> {
    let (subscriber, handle) = subscriber(options, writer(options.split_stream))?;
    tracing::subscriber::set_global_default(subscriber)?;
    Ok(handle)
}

fn writer(split_stream: bool) -> BoxMakeWriter {
    if split_stream {
        BoxMakeWriter::new(io::stderr.with_max_level(Level::WARN).or_else(io::stdout))
    } else {
        BoxMakeWriter::new(io::stderr)
    }
}

fn subscriber<W>(
    options: &LogOptions,
    writer: W,
) -> Result<(impl tracing::Subscriber + Send + Sync + use<W>, LogHandle), LoggingError>
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(filter(options.verbosity, &options.vmodule)?);
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(writer);
    let lines = match options.format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let handle = LogHandle(Arc::new(Reloadable {
        filter: handle,
        vmodule: options.vmodule.clone(),
        verbosity: Mutex::new(options.verbosity),
    }));
    Ok((Registry::default().with(filter).with(lines), handle))
}

fn filter(verbosity: u8, vmodule: &str) -> Result<EnvFilter, LoggingError> {
    let (agent, libraries, rest) = match verbosity {
        0..=1 => ("info", "warn", "warn"),
        2..=3 => ("info", "info", "warn"),
        4..=5 => ("debug", "info", "warn"),
        6..=7 => ("trace", "debug", "info"),
        8.. => ("trace", "trace", "debug"),
    };
    let mut directives = vec![rest.to_owned(), format!("shunt={agent}")];
    directives.extend(
        ["kube", "kube_client", "kube_runtime", "hyper", "hyper_util", "tower"]
            .map(|library| format!("{library}={libraries}")),
    );
    directives.extend(vmodule_directives(vmodule)?);
    Ok(EnvFilter::builder().parse(directives.join(","))?)
}

/// Go patterns name source files; the nearest thing here are modules.
fn vmodule_directives(vmodule: &str) -> Result<Vec<String>, LoggingError> {
    let mut directives = Vec::new();
    for entry in vmodule.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let wrong = || LoggingError::Vmodule { entry: entry.to_owned() };
        let (pattern, level) = entry.split_once('=').ok_or_else(wrong)?;
        let level = match level.parse::<u8>().ok().ok_or_else(wrong)? {
            0..=3 => "info",
            4..=5 => "debug",
            6.. => "trace",
        };
        let name = |module: &'static str| module.rsplit("::").next().unwrap_or(module);
        let named = MODULES.into_iter().filter(|module| matches(pattern.as_bytes(), name(module).as_bytes()));
        directives.extend(named.map(|module| format!("{module}={level}")));
    }
    Ok(directives)
}

/// Shell pattern with `*` and `?`.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            matches(rest, name) || name.split_first().is_some_and(|(_, shorter)| matches(pattern, shorter))
        }
        (Some((&expected, rest)), Some((&found, shorter))) => {
            (expected == b'?' || expected == found) && matches(rest, shorter)
        }
        _ => false,
    }
}

/// A handle that works without a global subscriber.
#[cfg(test)]
pub(crate) fn detached_handle() -> LogHandle {
    let (subscriber, handle) = subscriber(&LogOptions::default(), io::sink).expect("default options");
    // The handle is only good while its subscriber lives.
    std::mem::forget(subscriber);
    handle
}

#[cfg(test)]
#[path = "logging_tests.rs"]
pub(crate) mod tests;
