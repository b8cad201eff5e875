//! What can be wrong with a configuration.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::domain::IpFamily;

/// A value that is not allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Path of the field: `iptables.masqueradeBit`, `nodePortAddresses[1]`.
    pub path: String,
    /// What it holds.
    pub value: String,
    /// What it should hold.
    pub reason: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: invalid value {:?}: {}", self.path, self.value, self.reason)
    }
}

/// All values that are not allowed, never none; displayed one a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldErrors(pub Vec<FieldError>);

impl fmt::Display for FieldErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|error| write!(f, "\n  {error}"))
    }
}

/// Why there is no configuration to run with. None of these passes by itself: all are for the operator.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write the configuration to {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The configuration cannot be expressed as YAML.
    #[error("cannot write the configuration as YAML")]
    Serialize(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A document is not YAML, or a field is unknown or of the wrong type.
    #[error("{}:{line}:{column}: {}{reason}", file.display(), prefix(field))]
    Syntax {
        /// The file.
        file: PathBuf,
        /// Line, from 1.
        line: u64,
        /// Column, from 1.
        column: u64,
        /// Path of the field, empty if it is the document as a whole.
        field: String,
        /// What is wrong there.
        reason: String,
    },
    /// The file has no KubeProxyConfiguration, or more than one of a kind.
    #[error("{}: {reason}", file.display())]
    Documents {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Values that are not allowed.
    #[error("invalid configuration in {origin}:{errors}")]
    Invalid {
        /// The file, or "the command line".
        origin: String,
        /// All of them.
        errors: FieldErrors,
    },
    /// The name of the node is nothing but white space.
    #[error("hostnameOverride: the name is empty")]
    EmptyHostnameOverride,
    /// The operating system does not tell the host name.
    #[error("cannot get the host name; give the node's name with --hostname-override")]
    Hostname(#[source] io::Error),
    /// The configuration file cannot be watched.
    #[error("cannot watch the configuration file {}", path.display())]
    Watch {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: notify::Error,
    },
    /// Mode `NodeCIDR`, and the Node has no pod CIDRs (yet).
    #[error("detectLocalMode NodeCIDR: node {node:?} has no spec.podCIDRs")]
    NoPodCidrs {
        /// The node.
        node: String,
    },
    /// All pod ranges are of the family that this single-stack node does not serve.
    #[error("the node is {family}-only, but {field} has only ranges of the other family")]
    WrongFamily {
        /// The family served.
        family: IpFamily,
        /// `clusterCIDR`, or `spec.podCIDRs` of the Node.
        field: &'static str,
    },
}

fn prefix(field: &str) -> String {
    if field.is_empty() { String::new() } else { format!("{field}: ") }
}
