//! Which dataplane is to run, as far as it can be told before it is tried.

use crate::config::{Mode, Settings, SocketLb};
use crate::kernel::probe::{Need, Report};

/// What came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    /// `Ebpf` or `Nftables`.
    pub(super) mode: Mode,
    /// Why.
    pub(super) reason: String,
}

impl Choice {
    /// Mode `ebpf` was chosen by what the kernel has, and does not come up.
    pub(super) fn fall_back(error: &anyhow::Error) -> Self {
        Self { mode: Mode::Nftables, reason: format!("mode ebpf does not come up: {error:#}") }
    }
}

/// How a mode is written.
pub(super) const fn name(mode: Mode) -> &'static str {
    match mode {
        Mode::Auto => "auto",
        Mode::Ebpf => "ebpf",
        Mode::Nftables => "nftables",
    }
}

/// Chooses. The kernel is asked only if the configuration leaves the choice. What socket load balancing needs does not
/// decide: packets can be translated one by one without it.
pub(super) fn choose(configured: Mode, ask_kernel: impl FnOnce() -> Report) -> (Choice, Option<Report>) {
    let by_configuration = |mode| (Choice { mode, reason: "as configured".to_owned() }, None);
    match configured {
        Mode::Ebpf | Mode::Nftables => by_configuration(configured),
        Mode::Auto => {
            let report = ask_kernel();
            (by_kernel(&report), Some(report))
        }
    }
}

fn by_kernel(report: &Report) -> Choice {
    if report.supports(Need::Datapath) {
        let reason = "this kernel has all that mode ebpf needs".to_owned();
        return Choice { mode: Mode::Ebpf, reason };
    }
    Choice { mode: Mode::Nftables, reason: report.summary(Need::Datapath) }
}

/// Settings that have no effect in the mode that runs.
pub(super) fn notes(mode: Mode, settings: &Settings) -> Vec<String> {
    let wanted = settings.localhost_node_ports;
    let served = match mode {
        // What is lost with a kernel that cannot balance sockets, the dataplane says itself.
        Mode::Ebpf => (true, true),
        Mode::Auto | Mode::Nftables => (super::dataplane::names_loopback(settings), false),
    };
    let missing = [("127.0.0.1", wanted.ipv4, served.0), ("::1", wanted.ipv6, served.1)];
    let missing = missing.into_iter().filter(|(_, wanted, served)| *wanted && !*served);
    let addresses: Vec<_> = missing.map(|(address, ..)| address).collect();
    let mut notes = Vec::new();
    if !addresses.is_empty() {
        notes.push(format!("node ports are not accepted on {} in mode nftables", addresses.join(" and ")));
    }
    if mode != Mode::Ebpf && settings.ebpf.socket_lb == SocketLb::Host {
        notes.push("socketLB has no effect in mode nftables".to_owned());
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::probe::Feature;

    fn report(features: &[(&'static str, Need, bool)]) -> Report {
        let feature = |&(name, need, available): &(&'static str, Need, bool)| Feature {
            name,
            need,
            available,
            detail: "as tried".to_owned(),
            without: None,
        };
        Report { features: features.iter().map(feature).collect() }
    }

    #[test]
    fn what_is_configured_is_run_and_the_kernel_is_not_asked() {
        for mode in [Mode::Ebpf, Mode::Nftables] {
            let (choice, report) = choose(mode, || panic!("asked"));
            assert_eq!((choice.mode, report), (mode, None));
        }
    }

    #[test]
    fn auto_is_ebpf_where_the_packet_path_has_all_it_needs_whatever_else_is_missing() {
        let all = [
            ("tc program", Need::Datapath, true),
            ("cgroup connect4 link", Need::SocketLb, false),
            ("XDP program", Need::Acceleration, false),
        ];
        let (choice, seen) = choose(Mode::Auto, || report(&all));
        assert_eq!(choice.mode, Mode::Ebpf);
        assert_eq!(seen.unwrap().features.len(), 3);
    }

    #[test]
    fn auto_is_nftables_where_something_is_missing_and_the_reason_names_it() {
        let lacking = [("BPF file system", Need::Datapath, false), ("tc program", Need::Datapath, true)];
        let (choice, _) = choose(Mode::Auto, || report(&lacking));
        assert_eq!(choice.mode, Mode::Nftables);
        assert!(choice.reason.contains("missing BPF file system (as tried)"), "{}", choice.reason);
        assert_eq!(choose(Mode::Auto, Report::default).0.mode, Mode::Nftables);
    }

    #[test]
    fn a_dataplane_that_does_not_come_up_leaves_its_reason() {
        let error = anyhow::anyhow!("map FLOWS4: no memory").context("mode ebpf");
        let choice = Choice::fall_back(&error);
        assert_eq!(choice.mode, Mode::Nftables);
        assert!(choice.reason.contains("map FLOWS4: no memory"), "{}", choice.reason);
    }
}
