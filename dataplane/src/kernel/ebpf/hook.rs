//! The two places at which packets of an interface meet programs.

use shunt_abi::name;

use super::sys::AttachType;

/// One of them, by whichever way programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hook {
    /// The program for it.
    pub(super) program: &'static str,
    /// The attach point of links.
    pub(super) tcx: AttachType,
    /// The parent of classic filters (`TC_H_CLSACT` with `TC_H_MIN_INGRESS` or `TC_H_MIN_EGRESS`).
    pub(super) parent: u32,
    /// Begins the names of pins.
    pub(super) name: &'static str,
}

/// Packets that enter by an interface, and those that leave by it.
pub(super) const HOOKS: [Hook; 2] = [
    Hook {
        program: name::INGRESS_PROGRAM,
        tcx: AttachType::TcxIngress,
        parent: 0xffff_fff2,
        name: "ingress",
    },
    Hook { program: name::EGRESS_PROGRAM, tcx: AttachType::TcxEgress, parent: 0xffff_fff3, name: "egress" },
];
