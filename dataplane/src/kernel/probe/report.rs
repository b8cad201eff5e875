//! The answer of the probe.

use std::fmt;

/// Which part of the eBPF dataplane needs a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The per-packet path: without it mode `ebpf` cannot work.
    Datapath,
    /// Socket load balancing (`--socket-lb`).
    SocketLb,
    /// `--acceleration tc` and `xdp`.
    Acceleration,
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Datapath => "datapath",
            Self::SocketLb => "socket-lb",
            Self::Acceleration => "acceleration",
        })
    }
}

/// One thing that the kernel can or cannot do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// A short name, the same on every kernel.
    pub name: &'static str,
    /// Who needs it.
    pub need: Need,
    /// Whether it worked.
    pub available: bool,
    /// What was seen, or why it is not available.
    pub detail: String,
}

impl Feature {
    /// A feature from the outcome of trying it: what was seen, or the reason why not.
    pub(super) fn tried(name: &'static str, need: Need, outcome: Result<String, String>) -> Self {
        let available = outcome.is_ok();
        let (Ok(detail) | Err(detail)) = outcome;
        Self { name, need, available, detail }
    }
}

/// Everything that was tried, in the order of trying.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The features.
    pub features: Vec<Feature>,
}

impl Report {
    /// What `need` asks for and this kernel lacks.
    pub fn missing(&self, need: Need) -> impl Iterator<Item = &Feature> {
        self.features.iter().filter(move |feature| feature.need == need && !feature.available)
    }

    /// Whether everything that `need` asks for is there.
    pub fn supports(&self, need: Need) -> bool {
        !self.features.is_empty() && self.missing(need).next().is_none()
    }

    /// One line that says whether `need` is met and, if not, what is missing and why; for logs.
    pub fn summary(&self, need: Need) -> String {
        let missing: Vec<String> =
            self.missing(need).map(|feature| format!("{} ({})", feature.name, feature.detail)).collect();
        if missing.is_empty() {
            format!("{need}: supported")
        } else {
            format!("{need}: not supported, missing {}", missing.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feature(name: &'static str, need: Need, outcome: Result<&str, &str>) -> Feature {
        Feature::tried(name, need, outcome.map(str::to_owned).map_err(str::to_owned))
    }

    #[test]
    fn a_need_is_met_when_all_of_its_own_features_are_there() {
        let report = Report {
            features: vec![
                feature("hash map", Need::Datapath, Ok("created")),
                feature("connect4 link", Need::SocketLb, Err("no cgroup v2")),
            ],
        };
        assert!(report.supports(Need::Datapath));
        assert!(!report.supports(Need::SocketLb));
        assert_eq!(report.summary(Need::Datapath), "datapath: supported");
        assert_eq!(
            report.summary(Need::SocketLb),
            "socket-lb: not supported, missing connect4 link (no cgroup v2)"
        );
    }

    #[test]
    fn a_report_in_which_nothing_was_tried_supports_nothing() {
        assert!(!Report::default().supports(Need::Datapath));
    }
}
