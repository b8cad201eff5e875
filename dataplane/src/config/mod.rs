//! What the agent is told: kube-proxy's flags and configuration file, and our own settings.
//!
//! A file is read strictly into documents (`file`, `document`, `shunt_document`), filled with kube-proxy's defaults
//! (`defaults`), overridden by the flags that win over a file (`flags`), checked (`validation`) and turned into typed
//! [`Settings`] (`effective`). Without a file, the flags make the document.
//!
//! Which flags count beside a file: logging flags, `--hostname-override`, `--master`, what to do instead of running
//! (`--cleanup`, `--init-only`, `--write-config-to`, `--version`), and shunt's own flags, `--proxy-mode` among them. They win
//! over the file. All others are ignored with a warning, as kube-proxy ignores them.

mod address;
mod defaults;
mod document;
mod duration;
mod effective;
mod error;
mod file;
mod flags;
mod load;
mod local_mode;
mod logging_document;
mod logging_validation;
mod map_document;
mod mode;
mod section;
mod settings;
mod shunt_document;
mod validation;
mod warnings;
mod watch;

#[cfg(test)]
mod tests;

pub use document::{
    ClientConnection, Conntrack as ConntrackDocument, DetectLocal, Iptables, Ipvs, KubeProxyConfiguration,
    Nftables, Winkernel,
};
pub use duration::{DurationError, GoDuration};
pub use error::{ConfigError, FieldError, FieldErrors};
pub use load::{Loaded, load, write};
pub use local_mode::LocalMode;
pub use logging_document::{
    FlushFrequency, FormatOptions, LoggingConfiguration, OutputOptions, Quantity, VModule,
};
pub use map_document::MapDocument;
pub use mode::Mode;
pub use settings::{
    Acceleration, Client, Conntrack, Ebpf, LocalhostNodePorts, LogFormat, Logging, NodePortAddresses,
    Servers, Settings, SocketLb,
};
pub use shunt_document::{ShuntConfiguration, Word};
pub use watch::watch_file;
