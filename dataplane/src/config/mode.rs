//! Proxy modes: what may be written, what it means here, and which section of the document belongs to it.

use super::document::KubeProxyConfiguration;
use super::duration::GoDuration;

/// What the agent is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// eBPF where the kernel has all that it needs, else nftables; decided at start.
    Auto,
    /// nftables.
    Nftables,
    /// eBPF.
    Ebpf,
}

/// What `mode` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WrittenMode {
    Unset,
    Auto,
    Nftables,
    Ebpf,
    Iptables,
    Ipvs,
}

impl WrittenMode {
    /// Reads `mode`, or says what could stand there.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        Ok(match text {
            "" => Self::Unset,
            "auto" => Self::Auto,
            "nftables" => Self::Nftables,
            "ebpf" => Self::Ebpf,
            "iptables" => Self::Iptables,
            "ipvs" => Self::Ipvs,
            _ => {
                return Err(
                    "must be auto, ebpf, nftables or blank; blank, iptables and ipvs are taken as nftables",
                );
            }
        })
    }

    /// What is run for it. What only kube-proxy writes stays with what is closest to it: swapping the image is no reason
    /// to change the way that packets take.
    pub(super) const fn mode(self) -> Mode {
        match self {
            Self::Auto => Mode::Auto,
            Self::Ebpf => Mode::Ebpf,
            Self::Unset | Self::Nftables | Self::Iptables | Self::Ipvs => Mode::Nftables,
        }
    }
}

/// The settings that kube-proxy keeps once for each mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ModeSection {
    /// Key of the section.
    pub(super) name: &'static str,
    pub(super) masquerade_all: bool,
    pub(super) masquerade_bit: i32,
    pub(super) sync_period: GoDuration,
    pub(super) min_sync_period: GoDuration,
}

impl ModeSection {
    /// The section that counts in a document with defaults.
    ///
    /// A file that was written for kube-proxy keeps its meaning: `iptables` and `ipvs` use their own sections (ipvs has
    /// its mark and masqueradeAll under `iptables`), `nftables` and `ebpf` use `nftables`. Without a mode, or with
    /// `auto`, it is `nftables` if anything there differs from the defaults, else `iptables`: for kube-proxy no mode
    /// means iptables, so that is where an untouched file has its settings.
    pub(super) fn of(document: &KubeProxyConfiguration, mode: WrittenMode) -> Self {
        match mode {
            WrittenMode::Iptables => Self::iptables(document),
            WrittenMode::Ipvs => Self::ipvs(document),
            WrittenMode::Nftables | WrittenMode::Ebpf => Self::nftables(document),
            WrittenMode::Unset | WrittenMode::Auto => {
                let (iptables, nftables) = (Self::iptables(document), Self::nftables(document));
                let is_same = nftables == Self { name: nftables.name, ..iptables };
                if is_same || document.nftables.is_untouched() { iptables } else { nftables }
            }
        }
    }

    fn iptables(document: &KubeProxyConfiguration) -> Self {
        let section = &document.iptables;
        Self {
            name: "iptables",
            masquerade_all: section.masquerade_all,
            masquerade_bit: section.masquerade_bit.unwrap_or_default(),
            sync_period: section.sync_period,
            min_sync_period: section.min_sync_period,
        }
    }

    fn ipvs(document: &KubeProxyConfiguration) -> Self {
        Self {
            name: "ipvs",
            sync_period: document.ipvs.sync_period,
            min_sync_period: document.ipvs.min_sync_period,
            ..Self::iptables(document)
        }
    }

    fn nftables(document: &KubeProxyConfiguration) -> Self {
        let section = &document.nftables;
        Self {
            name: "nftables",
            masquerade_all: section.masquerade_all,
            masquerade_bit: section.masquerade_bit.unwrap_or_default(),
            sync_period: section.sync_period,
            min_sync_period: section.min_sync_period,
        }
    }
}
