//! The kernels, where Debian has them, and what each may lack.

use clap::builder::PossibleValuesParser;

/// A kernel to try.
pub(super) struct Kernel {
    /// What it is called here.
    pub(super) name: &'static str,
    /// Archives and suites that have it, tried in order: old suites move.
    pub(super) suites: &'static [(&'static str, &'static str)],
    /// Features that this kernel does not have, by the beginning of their names. Nothing else may be missing.
    pub(super) lacks: &'static [&'static str],
}

const MAIN: &str = "http://deb.debian.org/debian";
const SECURITY: &str = "http://deb.debian.org/debian-security";
const ARCHIVE: &str = "http://archive.debian.org/debian";
const ARCHIVE_SECURITY: &str = "http://archive.debian.org/debian-security";

/// The package whose dependencies are the kernel of a suite.
pub(super) const PACKAGE: &str = "linux-image-amd64";

/// What accelerates takes more than verifiers of the earlier kernels look at.
const ACCELERATED: &str = "shunt-datapath shunt_ingress_accelerated";

/// Before 5.14 programs see the headers outside of such a tunnel's, so in mode ebpf nothing that comes by it is translated.
const IPIP: &str = "clients come through IPIP";

pub(super) const KERNELS: [Kernel; 4] = [
    Kernel {
        name: "5.10",
        suites: &[
            (SECURITY, "bullseye-security"),
            (MAIN, "bullseye"),
            (ARCHIVE_SECURITY, "bullseye-security"),
            (ARCHIVE, "bullseye"),
        ],
        // Links of kind tcx came with 6.6, the helpers with 5.18 and 5.12.
        lacks: &["tcx link", "bpf_set_retval", "bpf_check_mtu", ACCELERATED, IPIP],
    },
    Kernel {
        name: "6.1",
        suites: &[(MAIN, "bookworm"), (ARCHIVE, "bookworm")],
        lacks: &["tcx link", ACCELERATED],
    },
    Kernel { name: "6.12", suites: &[(MAIN, "trixie"), (ARCHIVE, "trixie")], lacks: &[] },
    Kernel { name: "newest", suites: &[(MAIN, "sid")], lacks: &[] },
];

/// What `--kernel` takes.
pub(super) fn names() -> PossibleValuesParser {
    PossibleValuesParser::new(KERNELS.map(|kernel| kernel.name))
}
