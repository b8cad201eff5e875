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
    /// What is done without it, if there is a way; a feature without one is required.
    pub without: Option<&'static str>,
}

impl Feature {
    /// A feature from the outcome of trying it: what was seen, or the reason why not.
    pub(super) fn tried(name: &'static str, need: Need, outcome: Result<String, String>) -> Self {
        let available = outcome.is_ok();
        let (Ok(detail) | Err(detail)) = outcome;
        Self { name, need, available, detail, without: None }
    }

    /// The same, but there is a way without it: this one.
    pub(super) fn or_else(self, without: &'static str) -> Self {
        Self { without: Some(without), ..self }
    }

    fn is_lacking(&self, need: Need) -> bool {
        self.need == need && !self.available
    }
}

/// Everything that was tried, in the order of trying.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The features.
    pub features: Vec<Feature>,
}

impl Report {
    /// What `need` cannot do without and this kernel lacks.
    pub fn missing(&self, need: Need) -> impl Iterator<Item = &Feature> {
        self.features.iter().filter(move |feature| feature.is_lacking(need) && feature.without.is_none())
    }

    /// What `need` has another way for, and this kernel lacks.
    pub fn replaced(&self, need: Need) -> impl Iterator<Item = &Feature> {
        self.features.iter().filter(move |feature| feature.is_lacking(need) && feature.without.is_some())
    }

    /// Whether everything that `need` asks for is there.
    pub fn supports(&self, need: Need) -> bool {
        !self.features.is_empty() && self.missing(need).next().is_none()
    }

    /// One line that says whether `need` is met, and what is missing, why, and what is done without it; for logs and
    /// the status.
    pub fn summary(&self, need: Need) -> String {
        let missing: Vec<String> =
            self.missing(need).map(|feature| format!("{} ({})", feature.name, feature.detail)).collect();
        if !missing.is_empty() {
            return format!("{need}: not supported, missing {}", missing.join(", "));
        }
        let replaced = self.replaced(need).map(|feature| {
            let Feature { name, detail, without, .. } = feature;
            format!("; without {name} ({detail}): {}", without.unwrap_or_default())
        });
        format!("{need}: supported{}", replaced.collect::<String>())
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
    fn what_there_is_another_way_for_does_not_stop_a_need_and_is_named() {
        let missing = Err("not supported by this kernel");
        let report = Report {
            features: vec![
                feature("tc program", Need::Datapath, Ok("loaded")),
                feature("tcx link", Need::Datapath, missing).or_else("clsact filters take their place"),
                feature("XDP program", Need::Acceleration, missing),
            ],
        };
        assert!(report.supports(Need::Datapath));
        assert_eq!(report.missing(Need::Datapath).count(), 0);
        assert_eq!(
            report.summary(Need::Datapath),
            "datapath: supported; without tcx link (not supported by this kernel): clsact filters take their place"
        );
        assert!(!report.supports(Need::Acceleration));
    }

    #[test]
    fn a_report_in_which_nothing_was_tried_supports_nothing() {
        assert!(!Report::default().supports(Need::Datapath));
    }
}
