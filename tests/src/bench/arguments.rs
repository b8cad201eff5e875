//! What to run.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum as _};

use super::processors::Processors;

/// Measures shunt's control plane and datapath, in network namespaces (needs root).
#[derive(Debug, Clone, Parser)]
#[command(name = "cargo xtask bench", disable_help_subcommand = true)]
#[expect(clippy::struct_excessive_bools, reason = "switches of a command line")]
pub struct Arguments {
    /// Only the control plane: start, changes, churn, memory.
    #[arg(long)]
    control_plane: bool,
    /// Only the datapath: latencies of connections beside plain routing.
    #[arg(long)]
    datapath: bool,
    /// Only the BPF programs: nanoseconds per packet.
    #[arg(long)]
    per_packet: bool,
    /// Numbers of services, each with two ports and two endpoints [default: 1,1000,10000,30000; quick: 1,10000].
    #[arg(long, value_delimiter = ',')]
    services: Vec<usize>,
    /// Fewer samples: about two minutes.
    #[arg(long)]
    quick: bool,
    /// The agent [default: `shunt` beside this program].
    #[arg(long)]
    shunt: Option<PathBuf>,
    /// Another build of the agent, whose lanes of the datapath part are measured in the same rounds as `before: ...`.
    #[arg(long)]
    before: Option<PathBuf>,
    /// A kube-proxy program to measure in the same way.
    #[arg(long)]
    kube_proxy: Option<PathBuf>,
    /// Modes to run that kube-proxy in.
    #[arg(long, value_delimiter = ',', default_value = "nftables")]
    kube_proxy_modes: Vec<String>,
    /// Rounds of the datapath part, each going through all lanes [default: 7; quick: 3].
    #[arg(long)]
    rounds: Option<usize>,
    /// Lanes of control plane and datapath (there besides `direct`), by parts of their names, or by `=` and the whole name
    /// [default: all].
    #[arg(long, value_name = "LANE,LANE")]
    lanes: Vec<String>,
    /// Measures of the datapath part, by parts of their names, or by `=` and the whole name: `connect` is seven of them,
    /// `=connect` is one, and a comma with a space belongs to a name: `=connect,=connect, apart` [default: all].
    #[arg(long, value_name = "MEASURE,MEASURE")]
    measures: Vec<String>,
    /// Cases of the control plane, after the start [default: all].
    #[arg(long, value_enum, value_delimiter = ',')]
    cases: Vec<ControlCase>,
    /// `-v` level of the agents; their logs are kept beside the report from level 1 on.
    #[arg(long, default_value_t = 0)]
    verbosity: u8,
    /// Where to write the report.
    #[arg(long, default_value = "target/bench/report.json")]
    output: PathBuf,
    /// Measures nothing: compares a report with an older one, and tells what changed beyond the noise. Exit status: 0
    /// nothing of shunt's got worse, 3 something did, 1 they cannot be compared.
    #[arg(long, num_args = 1..=2, value_names = ["OLD", "NEW"], conflicts_with = "draw")]
    compare: Vec<PathBuf>,
    /// Measures nothing: draws the page of a report again.
    #[arg(long, value_name = "REPORT")]
    draw: Option<PathBuf>,
}

/// A case of the control plane that can be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum ControlCase {
    /// One changed EndpointSlice, nothing else going on.
    Change,
    /// A new service.
    NewService,
    /// 50 changes a second.
    Churn,
    /// The API server goes away and comes back.
    Outage,
}

/// One proxy program to measure.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "properties that do not exclude each other")]
pub(super) struct Proxy {
    /// Name of the lane.
    pub(super) lane: String,
    pub(super) program: PathBuf,
    /// `mode` in its configuration.
    pub(super) mode: String,
    /// Whether sockets are balanced when they connect; only mode `ebpf` can.
    pub(super) socket_lb: bool,
    /// Whether a service with endpoints on another node is there, which may need masquerading.
    pub(super) remote: bool,
    /// Whether conversations go past the services, straight to the pods: what traffic pays that is none of its business.
    pub(super) bystander: bool,
    /// Whether packets between pods of its node leave the host's stack out.
    pub(super) accelerated: bool,
    /// Whether its control plane is measured too.
    pub(super) control: bool,
    /// The most services it is asked to bear.
    pub(super) up_to: usize,
}

/// How lanes of an older build are told from those of the one that is measured, which goals are for.
const BEFORE: &str = "before: ";

/// kube-proxy's first sync takes a minute in its nftables mode at this number of services, and grows faster than that.
const KUBE_PROXY_UP_TO: usize = 10_000;

impl Proxy {
    fn new(lane: &str, program: &Path, mode: &str) -> Self {
        Self {
            lane: lane.to_owned(),
            program: program.to_owned(),
            mode: mode.to_owned(),
            socket_lb: false,
            remote: true,
            bystander: false,
            accelerated: false,
            control: true,
            up_to: usize::MAX,
        }
    }

    /// The ways of the eBPF dataplane: with services that need no masquerading, by socket, by packet, and by packet past the
    /// host's stack, and with one that does, which brings connection tracking; and traffic that goes past it.
    fn ebpf(program: &Path) -> [Self; 5] {
        let lane = |name| Self::new(name, program, "ebpf");
        [
            Self { socket_lb: true, remote: false, ..lane("shunt ebpf") },
            Self { remote: false, control: false, ..lane("shunt ebpf per-packet") },
            Self { accelerated: true, remote: false, control: false, ..lane("shunt ebpf, accelerated") },
            Self { control: false, ..lane("shunt ebpf, masquerading") },
            Self { bystander: true, remote: false, control: false, ..lane("shunt ebpf, bystander") },
        ]
    }

    /// The same of an older build.
    fn of_before(self) -> Self {
        Self { lane: format!("{BEFORE}{}", self.lane), control: false, ..self }
    }

    /// Whether its programs count what they have programmed, in shunt's metrics.
    pub(super) fn is_shunt(&self) -> bool {
        self.lane.strip_prefix(BEFORE).unwrap_or(&self.lane).starts_with("shunt")
    }
}

/// The settled form of [`Arguments`].
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "parts that are wanted or not")]
pub(super) struct Plan {
    pub(super) control_plane: bool,
    pub(super) datapath: bool,
    pub(super) per_packet: bool,
    pub(super) quick: bool,
    pub(super) services: Vec<usize>,
    pub(super) proxies: Vec<Proxy>,
    pub(super) rounds: usize,
    /// Changes of one EndpointSlice that are timed.
    pub(super) changes: usize,
    /// New services that are timed.
    pub(super) new_services: usize,
    /// Changes in the churn, at 50 a second.
    pub(super) churn: usize,
    /// Parts of the names of wanted lanes; all for none.
    pub(super) lanes: Vec<String>,
    /// Parts of the names of wanted measures; all for none.
    measures: Vec<String>,
    /// How long the API server is away.
    pub(super) outage: Duration,
    /// At which numbers of services that is tried: it takes long, and depends little on them.
    pub(super) outage_at: Vec<usize>,
    /// Cases of the control plane to go through.
    pub(super) cases: Vec<ControlCase>,
    /// Samples of a datapath measure in one round, if the lane is fast enough.
    pub(super) samples: usize,
    /// How long a lane may take for them; also how long rates are counted.
    pub(super) window: Duration,
    /// Where conversations of two threads take place.
    pub(super) processors: Processors,
    pub(super) verbosity: u8,
    pub(super) output: PathBuf,
}

impl Plan {
    /// Whether a lane is to be measured.
    pub(super) fn wants(&self, lane: &str) -> bool {
        is_wanted(&self.lanes, lane)
    }

    /// Whether a measure of the datapath part is to be taken.
    pub(super) fn wants_measure(&self, measure: &str) -> bool {
        is_wanted(&self.measures, measure)
    }
}

fn is_wanted(parts: &[String], name: &str) -> bool {
    let is_meant = |part: &String| part.strip_prefix('=').map_or(name.contains(part), |whole| whole == name);
    parts.is_empty() || parts.iter().any(is_meant)
}

/// Apart at commas, but not at those that a space comes after: some names have one.
fn names(lists: &[String]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for list in lists {
        for (index, part) in list.split(',').enumerate() {
            match names.last_mut().filter(|_| index > 0 && part.starts_with(' ')) {
                Some(name) => name.extend([",", part]),
                None => names.push(part.to_owned()),
            }
        }
    }
    names
}

impl Arguments {
    /// The reports to compare, the older one first; the newer one is the last that was written unless one is given.
    pub(super) fn compared(&self) -> Option<(PathBuf, PathBuf)> {
        let old = self.compare.first()?;
        Some((old.clone(), self.compare.get(1).unwrap_or(&self.output).clone()))
    }

    /// The report to draw.
    pub(super) fn drawn(&self) -> Option<&Path> {
        self.draw.as_deref()
    }

    pub(super) fn plan(&self) -> Result<Plan> {
        let all = !(self.control_plane || self.datapath || self.per_packet);
        let quick = self.quick;
        let pick = |thorough, fast| if quick { fast } else { thorough };
        let mut services = self.services.clone();
        if services.is_empty() {
            services = if quick { vec![1, 10_000] } else { vec![1, 1000, 10_000, 30_000] };
        }
        services.sort_unstable();
        services.dedup();
        let largest = services.last().copied().unwrap_or(0);
        ensure!((1..=60_000).contains(&largest), "--services: numbers are from 1 to 60000");
        ensure!(services.first() != Some(&0), "--services: numbers are from 1 to 60000");
        let rounds = self.rounds.unwrap_or_else(|| pick(7, 3));
        let outage_at = match (self.cases.is_empty(), quick) {
            (true, true) => Vec::new(),
            (true, false) => services.iter().copied().filter(|number| *number >= 1000).take(1).collect(),
            (false, _) => services.clone(),
        };
        ensure!(rounds > 0, "--rounds: at least one");
        Ok(Plan {
            control_plane: all || self.control_plane,
            datapath: all || self.datapath,
            per_packet: all || self.per_packet,
            quick,
            services,
            proxies: self.proxies()?,
            rounds,
            changes: pick(150, 40),
            new_services: pick(40, 10),
            churn: pick(500, 200),
            lanes: names(&self.lanes),
            measures: names(&self.measures),
            outage: Duration::from_secs(if quick { 5 } else { 30 }),
            outage_at,
            cases: if self.cases.is_empty() {
                ControlCase::value_variants().to_vec()
            } else {
                self.cases.clone()
            },
            samples: pick(2000, 800),
            window: Duration::from_millis(if quick { 60 } else { 120 }),
            processors: Processors::choose()?,
            verbosity: self.verbosity,
            output: self.output.clone(),
        })
    }

    fn proxies(&self) -> Result<Vec<Proxy>> {
        let beside = std::env::current_exe().context("finding this program")?.with_file_name("shunt");
        let shunt = existing(self.shunt.as_deref().unwrap_or(&beside), "--shunt")?;
        let mut proxies = vec![Proxy::new("shunt nftables", &shunt, "nftables")];
        proxies.extend(Proxy::ebpf(&shunt));
        if let Some(path) = &self.before {
            let program = existing(path, "--before")?;
            let all = std::iter::once(Proxy::new("shunt nftables", &program, "nftables"));
            proxies.extend(all.chain(Proxy::ebpf(&program)).map(Proxy::of_before));
        }
        if let Some(path) = &self.kube_proxy {
            let program = existing(path, "--kube-proxy")?;
            let modes = self.kube_proxy_modes.iter();
            proxies.extend(modes.map(|mode| Proxy {
                up_to: KUBE_PROXY_UP_TO,
                ..Proxy::new(&format!("kube-proxy {mode}"), &program, mode)
            }));
        }
        Ok(proxies)
    }
}

fn existing(path: &Path, flag: &str) -> Result<PathBuf> {
    path.canonicalize().with_context(|| format!("{flag}: {} is not there", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(words: &[&str]) -> Plan {
        let own = std::env::current_exe().unwrap().display().to_string();
        let words = [&["bench", "--shunt", &own], words].concat();
        Arguments::try_parse_from(words).unwrap().plan().unwrap()
    }

    #[test]
    fn without_a_part_all_parts_are_measured() {
        let parts = |words| {
            let plan = plan(words);
            [plan.control_plane, plan.datapath, plan.per_packet]
        };
        assert_eq!(parts(&[]), [true; 3]);
        assert_eq!(parts(&["--per-packet"]), [false, false, true]);
        assert_eq!(parts(&["--datapath", "--control-plane"]), [true, true, false]);
    }

    #[test]
    fn the_api_server_goes_away_once_in_a_full_run_and_wherever_it_is_asked_for() {
        assert_eq!(plan(&[]).outage_at, [1000]);
        assert_eq!(plan(&["--quick"]).outage_at, [0; 0]);
        assert_eq!(plan(&["--quick", "--cases", "outage", "--services", "7,9"]).outage_at, [7, 9]);
    }

    #[test]
    fn lanes_without_remote_endpoints_need_no_connection_tracking() {
        let plan = plan(&["--kube-proxy", "/proc/self/exe", "--kube-proxy-modes", "nftables,iptables"]);
        let lanes = |wanted: fn(&Proxy) -> bool| -> Vec<String> {
            plan.proxies.iter().filter(|proxy| wanted(proxy)).map(|proxy| proxy.lane.clone()).collect()
        };
        assert_eq!(
            lanes(|proxy| !proxy.remote),
            ["shunt ebpf", "shunt ebpf per-packet", "shunt ebpf, accelerated", "shunt ebpf, bystander"]
        );
        assert_eq!(lanes(|proxy| proxy.socket_lb), ["shunt ebpf"]);
        let controlled = ["shunt nftables", "shunt ebpf", "kube-proxy nftables", "kube-proxy iptables"];
        assert_eq!(lanes(|proxy| proxy.control), controlled);
    }

    #[test]
    fn an_older_build_has_lanes_of_its_own_in_the_datapath_part_only() {
        let plan = plan(&["--before", "/proc/self/exe"]);
        let older: Vec<_> = plan.proxies.iter().filter(|proxy| proxy.lane.starts_with("before: ")).collect();
        assert_eq!(older.len(), 6);
        assert!(older.iter().all(|proxy| proxy.is_shunt() && !proxy.control));
    }

    #[test]
    fn a_measure_can_be_asked_for_by_its_whole_name() {
        let wanted = |words: &str| {
            let plan = plan(&["--measures", words]);
            let all = ["connect", "connect, apart", "CRR", "CRR at 2,000/s"];
            all.into_iter().filter(|name| plan.wants_measure(name)).collect::<Vec<_>>()
        };
        assert_eq!(wanted("connect"), ["connect", "connect, apart"]);
        assert_eq!(wanted("=connect"), ["connect"]);
        assert_eq!(wanted("=connect, apart,=CRR"), ["connect, apart", "CRR"]);
        assert_eq!(wanted("apart"), ["connect, apart"]);
        assert_eq!(wanted("2,=CRR"), ["CRR", "CRR at 2,000/s"]);
    }

    #[test]
    fn a_number_of_services_that_cannot_be_is_refused() {
        for number in ["0", "60001", "5,0"] {
            let arguments =
                Arguments::try_parse_from(["bench", "--shunt", "/proc/self/exe", "--services", number]);
            assert!(arguments.unwrap().plan().unwrap_err().to_string().contains("--services"));
        }
    }
}
