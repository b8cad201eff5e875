//! The ways in which an agent translates, and what differs between them.

use std::ffi::OsString;

use anyhow::{Context, Result};

use crate::lab::{Protocol, Surroundings};

/// How an agent is told to translate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Rules of nftables.
    Nftables,
    /// BPF programs on interfaces, and on the sockets of the node and its pods.
    Ebpf,
    /// BPF programs on interfaces alone.
    PerPacket,
    /// The same, past the host's stack where that can be.
    Accelerated,
}

impl Mode {
    /// All that tests are made for, but the one of which only packets' ways differ from another's.
    pub const ALL: [Self; 3] = [Self::Nftables, Self::Ebpf, Self::PerPacket];

    /// A name for tests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nftables => "nftables",
            Self::Ebpf => "ebpf",
            Self::PerPacket => "per_packet",
            Self::Accelerated => "accelerated",
        }
    }

    /// `mode` of the agent's configuration file.
    pub fn setting(self) -> &'static str {
        match self {
            Self::Nftables => "nftables",
            Self::Ebpf | Self::PerPacket | Self::Accelerated => "ebpf",
        }
    }

    /// Whether BPF programs translate.
    pub fn is_ebpf(self) -> bool {
        self != Self::Nftables
    }

    /// Arguments for an agent in these surroundings, besides the configuration file.
    pub fn arguments(self, surroundings: &Surroundings) -> Result<Vec<OsString>> {
        let sockets = match self {
            Self::Nftables => return Ok(Vec::new()),
            Self::Ebpf => "all",
            Self::PerPacket | Self::Accelerated => "off",
        };
        let cgroup = surroundings.cgroup().context("mode ebpf is tested with a cgroup of version 2")?;
        let mut arguments: Vec<OsString> =
            vec!["--cgroup-root".into(), cgroup.path().into(), "--socket-lb".into(), sockets.into()];
        if self == Self::Accelerated {
            arguments.extend(["--acceleration".into(), "tc".into()]);
        }
        Ok(arguments)
    }

    /// The source that the endpoint of a connection sees.
    pub fn source(self, connection: &Connection) -> Source {
        let own = if self == Self::Accelerated { Self::PerPacket } else { self };
        let mut differences = DIFFERENCES.iter().filter(|difference| difference.modes.contains(&own));
        match differences.find(|difference| (difference.applies)(connection)) {
            Some(difference) => difference.source,
            None if connection.masqueraded_by_kube_proxy => Source::Masqueraded,
            None => Source::Client,
        }
    }
}

/// Makes a test of a function that takes a [`Mode`], for each mode: `NAME::nftables`, `NAME::ebpf`,
/// `NAME::per_packet`; or for some of them.
#[macro_export]
macro_rules! in_each_mode {
    ($($test:ident),+ $(,)?) => { $(
        mod $test {
            #[test]
            fn nftables() {
                super::$test($crate::Mode::Nftables);
            }
            #[test]
            fn ebpf() {
                super::$test($crate::Mode::Ebpf);
            }
            #[test]
            fn per_packet() {
                super::$test($crate::Mode::PerPacket);
            }
        }
    )+ };
}

/// What an endpoint sees as the source of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The client's own address.
    Client,
    /// Another one.
    Masqueraded,
}

/// A connection that was translated, as the source address depends on it.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts of one situation")]
pub struct Connection {
    /// The protocol.
    pub protocol: Protocol,
    /// Whether endpoints see another source under kube-proxy.
    pub masqueraded_by_kube_proxy: bool,
    /// The agent masquerades whatever it can (`masqueradeAll`).
    pub masquerade_all: bool,
    /// The client is on the node that translates, or in one of its pods.
    pub client_is_here: bool,
    /// The endpoint is.
    pub endpoint_is_here: bool,
    /// Client and endpoint are one pod.
    pub to_itself: bool,
}

/// Something that a mode does better than kube-proxy: the tests expect exactly this, and README has it in these words.
#[derive(Debug, Clone, Copy)]
pub struct Difference {
    /// The modes.
    pub modes: &'static [Mode],
    /// The situation, in words.
    pub situation: &'static str,
    /// What kube-proxy does then, in words.
    pub kube_proxy: &'static str,
    /// What shunt does, in words.
    pub shunt: &'static str,
    /// Whether a connection is in that situation.
    pub applies: fn(&Connection) -> bool,
    /// What its endpoint sees.
    pub source: Source,
}

/// All differences; of those that apply to a connection the first counts.
pub const DIFFERENCES: [Difference; 3] = [
    Difference {
        modes: &[Mode::Ebpf],
        situation: "a pod reaches itself through its Service, socket load balancing",
        kube_proxy: "it sees its node",
        shunt: "it sees itself",
        applies: |connection| {
            connection.to_itself && connection.protocol != Protocol::Sctp && !connection.masquerade_all
        },
        source: Source::Client,
    },
    Difference {
        modes: &[Mode::Ebpf, Mode::PerPacket],
        situation: "external address under `externalTrafficPolicy: Cluster`, or a cluster IP from outside; the endpoint \
                    is on this node",
        kube_proxy: "the endpoint sees the node",
        shunt: "the client's address is kept",
        applies: |connection| {
            connection.endpoint_is_here && !connection.to_itself && !connection.masquerade_all
        },
        source: Source::Client,
    },
    Difference {
        modes: &[Mode::Ebpf],
        situation: "the same from a pod, the endpoint is on another node, socket load balancing",
        kube_proxy: "the endpoint sees the node",
        shunt: "the pod's address is kept",
        applies: |connection| {
            connection.client_is_here && connection.protocol != Protocol::Sctp && !connection.masquerade_all
        },
        source: Source::Client,
    },
];

#[cfg(test)]
mod tests {
    use super::{Connection, DIFFERENCES, Mode, Source};
    use crate::lab::Protocol;

    const OUTSIDE: Connection = Connection {
        protocol: Protocol::Tcp,
        masqueraded_by_kube_proxy: true,
        masquerade_all: false,
        client_is_here: false,
        endpoint_is_here: false,
        to_itself: false,
    };

    const README: &str = include_str!("../../README.md");

    /// Situation, what kube-proxy does and what shunt does, of README's rows on source addresses.
    fn rows() -> Vec<[&'static str; 3]> {
        let (_, section) = README.split_once("**Source addresses, mode ebpf**").unwrap();
        let lines = section.lines().skip_while(|line| !line.starts_with('|'));
        let table = lines.take_while(|line| line.starts_with('|')).skip(2);
        let cells = |line: &'static str| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>();
        table.map(|line| cells(line).try_into().unwrap()).collect()
    }

    #[test]
    fn readme_lists_exactly_these_differences() {
        // Where both masquerade, endpoints see no difference.
        let both_masquerade = |row: &[&str; 3]| row[1..].iter().all(|cell| cell.starts_with("masqueraded"));
        let mut listed: Vec<_> = rows().into_iter().filter(|row| !both_masquerade(row)).collect();
        let mut expected = DIFFERENCES.map(|each| [each.situation, each.kube_proxy, each.shunt]);
        listed.sort_unstable();
        expected.sort_unstable();
        assert_eq!(listed, expected);
    }

    fn sources(connection: Connection) -> [Source; 3] {
        Mode::ALL.map(|mode| mode.source(&connection))
    }

    #[test]
    fn the_source_address_is_kept_where_replies_pass_the_node_anyway() {
        use Source::{Client, Masqueraded};
        let local = Connection { endpoint_is_here: true, ..OUTSIDE };
        let itself = Connection { client_is_here: true, to_itself: true, ..local };
        let pod = Connection { client_is_here: true, ..OUTSIDE };
        assert_eq!(sources(OUTSIDE), [Masqueraded; 3]);
        assert_eq!(sources(pod), [Masqueraded, Client, Masqueraded]);
        assert_eq!(sources(local), [Masqueraded, Client, Client]);
        assert_eq!(sources(itself), [Masqueraded, Client, Masqueraded]);
        assert_eq!(sources(Connection { protocol: Protocol::Sctp, ..itself }), [Masqueraded; 3]);
        assert_eq!(sources(Connection { masquerade_all: true, ..local }), [Masqueraded; 3]);
        assert_eq!(sources(Connection { masqueraded_by_kube_proxy: false, ..OUTSIDE }), [Client; 3]);
    }
}
