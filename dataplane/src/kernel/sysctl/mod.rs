//! Kernel settings that kube-proxy makes, and a look at those it relies on.
//!
//! A setting is read first and written only if it has to change. What the process may not write (a read-only
//! `/proc/sys`, another network namespace than the first) gives a warning: Services work with the values that are
//! there. A value that the kernel refuses is an error.

mod conntrack_limits;
mod preflight;
mod process;
mod root;

pub use conntrack_limits::{ConntrackSettings, apply_conntrack, conntrack_max};
pub use preflight::{Warning, preflight};
pub use process::{enable_local_sources_on_loopback, enable_route_localnet, set_oom_score_adj};
pub use root::{Report, SysctlError, SysctlRoot};
