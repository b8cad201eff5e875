//! The whole command line.
//!
//! Flags are spelled as Go's pflag does: `--flag=value` and `--flag value`, `--flag` or `--flag=false` for booleans,
//! `-v 2`, `-v=2`, `--v=2`, underscores for dashes, the last one of a repeated flag (lists add up). Anything that is not a
//! flag or a subcommand is refused.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::str::FromStr;

use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches};

pub use super::agent_flags::{ApiFlags, OwnFlags, ProcessFlags, ServerFlags};
pub use super::flag_values::{FeatureGates, VerbosityPatterns};
pub use super::host_flags::{ConntrackFlags, HostFlags, LogFlags};
pub use super::proxy_flags::{IptablesFlags, IpvsFlags, ProxyFlags};

use super::flag_values::{BOOL, DURATION, LIST, NUMBER};
use crate::domain::Protocol;

/// The command line.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "shunt", about = "Kubernetes service proxy: a drop-in replacement for kube-proxy")]
#[command(disable_version_flag = true, disable_help_subcommand = true, args_override_self = true)]
#[command(args_conflicts_with_subcommands = false, subcommand_value_name = "SUBCOMMAND")]
pub struct Args {
    /// The process itself.
    #[command(flatten, next_help_heading = "Process")]
    pub process: ProcessFlags,
    /// shunt's own flags.
    #[command(flatten, next_help_heading = "shunt's own")]
    pub own: OwnFlags,
    /// API server and node.
    #[command(flatten, next_help_heading = "API server and node")]
    pub api: ApiFlags,
    /// Health and metrics.
    #[command(flatten, next_help_heading = "Health and metrics")]
    pub servers: ServerFlags,
    /// Services.
    #[command(flatten, next_help_heading = "Services")]
    pub proxy: ProxyFlags,
    /// All modes but ipvs.
    #[command(flatten, next_help_heading = "Modes")]
    pub iptables: IptablesFlags,
    /// ipvs mode.
    #[command(flatten, next_help_heading = "Modes")]
    pub ipvs: IpvsFlags,
    /// Connection tracking.
    #[command(flatten, next_help_heading = "Host")]
    pub conntrack: ConntrackFlags,
    /// The host.
    #[command(flatten, next_help_heading = "Host")]
    pub host: HostFlags,
    /// Logs.
    #[command(flatten, next_help_heading = "Logs")]
    pub logs: LogFlags,
    /// What to do instead of running the agent.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Names of the flags that were given, without dashes: `hostname-override`.
    #[arg(skip)]
    pub given: BTreeSet<String>,
    /// All flags, hidden ones too, in alphabetical order, with the value given or the default: what /flagz shows.
    #[arg(skip)]
    pub flags: Vec<(String, String)>,
}

/// What to do instead of running the agent.
#[derive(Clone, Debug, PartialEq, Eq, clap::Subcommand)]
pub enum Command {
    /// Remove everything that shunt and kube-proxy have left on this node.
    Cleanup {
        /// Only what shunt has left: kube-proxy's rules are in use again.
        #[arg(long)]
        own: bool,
    },
    /// Show what is programmed, health and lag.
    Status(Client),
    /// List the frontends, pools and policies of this node.
    Services(Client),
    /// Say which frontend, policy and endpoints a connection would meet, as planned and as the kernel has it.
    Explain {
        /// Where the connection comes from: an address, or the word node.
        #[arg(value_name = "FROM")]
        from: Source,
        /// Where it goes to: IP:PORT/PROTOCOL, protocol tcp, udp or sctp.
        #[arg(value_name = "TO:PORT/PROTO")]
        to: Target,
        /// Also run such a packet through the programs that are loaded, and show what becomes of it (mode ebpf).
        #[arg(long)]
        probe: bool,
        /// The agent to ask.
        #[command(flatten)]
        client: Client,
    },
}

/// Which running agent a subcommand asks, and how it shows the answer.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct Client {
    /// Metrics address of the running agent.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:10249")]
    pub metrics_address: SocketAddr,
    /// Form of the answer.
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    pub output: Output,
}

/// Form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A process in the node's own network namespace.
    Node,
    /// A pod, or a client outside of the cluster, with this address.
    Address(IpAddr),
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "node" {
            return Ok(Self::Node);
        }
        text.parse()
            .map(Self::Address)
            .map_err(|_not_ip| format!("{text:?} is neither an address nor the word node"))
    }
}

/// Where a connection goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Address and port.
    pub address: SocketAddr,
    /// Transport protocol.
    pub protocol: Protocol,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = |what: &str| format!("{text:?}: {what} (example: 10.96.0.10:53/udp, [fd00::a]:53/udp)");
        let (address, protocol) = text.split_once('/').ok_or_else(|| error("the protocol is missing"))?;
        Ok(Self {
            address: address.parse().map_err(|_not_one| error("not IP:PORT"))?,
            protocol: Protocol::parse(protocol)
                .ok_or_else(|| error("the protocol is not tcp, udp or sctp"))?,
        })
    }
}

impl Args {
    /// Reads a command line, whose first word is the name of the program. The error is also how `--help` is answered: it
    /// knows what to print where, and the exit code.
    pub fn parse_from<W: Into<OsString>>(words: impl IntoIterator<Item = W>) -> Result<Self, clap::Error> {
        let words = words.into_iter().map(|word| with_dashes(word.into()));
        let matches = command().try_get_matches_from(words)?;
        let mut args = <Self as FromArgMatches>::from_arg_matches(&matches)?;
        for argument in command().get_arguments() {
            let (Some(name), id) = (argument.get_long(), argument.get_id().as_str()) else { continue };
            if name == "help" {
                continue;
            }
            if matches.value_source(id) == Some(ValueSource::CommandLine) {
                args.given.insert(name.to_owned());
            }
            args.flags.push((name.to_owned(), raw_value(&matches, id)));
        }
        args.flags.sort();
        Ok(args)
    }

    /// The configuration file, if there is one.
    pub fn config_file(&self) -> Option<&Path> {
        Some(Path::new(&self.process.config)).filter(|path| !path.as_os_str().is_empty())
    }

    /// Where the configuration is to be written, instead of running the agent.
    pub fn write_config_to(&self) -> Option<&Path> {
        Some(Path::new(&self.process.write_config_to)).filter(|path| !path.as_os_str().is_empty())
    }

    /// Whether a flag was given; its name without dashes.
    pub fn is_given(&self, flag: &str) -> bool {
        self.given.contains(flag)
    }
}

/// The command with what derived attributes would say again and again.
fn command() -> clap::Command {
    Args::command().mut_args(|argument| {
        let has_empty_default = argument.get_default_values().iter().all(|value| value.is_empty());
        let argument = argument.hide_default_value(has_empty_default);
        let kind = argument.get_value_names().and_then(|names| names.first()).map(ToString::to_string);
        match kind.as_deref() {
            Some(BOOL) => argument.num_args(0..=1).require_equals(true).default_missing_value("true"),
            Some(NUMBER | DURATION) => argument.allow_hyphen_values(true),
            Some(LIST) => argument.action(clap::ArgAction::Append),
            _ => argument,
        }
    })
}

/// The value as it was written; lists with commas.
fn raw_value(matches: &ArgMatches, id: &str) -> String {
    let values = matches.get_raw(id).into_iter().flatten();
    values.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(",")
}

/// `--some_flag=a_b` as `--some-flag=a_b`.
fn with_dashes(word: OsString) -> OsString {
    let bytes = word.as_bytes();
    if !bytes.starts_with(b"--") {
        return word;
    }
    let name_end = bytes.iter().position(|byte| *byte == b'=').unwrap_or(bytes.len());
    let dashed = |(index, byte): (usize, &u8)| if *byte == b'_' && index < name_end { b'-' } else { *byte };
    OsString::from_vec(bytes.iter().enumerate().map(dashed).collect())
}
