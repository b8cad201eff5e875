//! Settings that are not about connection tracking.

use super::root::set_number;
use super::{Report, SysctlError, SysctlRoot};

/// Lets packets from 127.0.0.1 be translated to endpoints elsewhere, for node ports on loopback. It is switched on for
/// all interfaces and never off again, as in kube-proxy; rules must then drop what arrives from outside for loopback.
pub fn enable_route_localnet(root: &SysctlRoot) -> Result<Report, SysctlError> {
    let mut report = Report::default();
    report.set(&root.sysctl("net/ipv4/conf/all/route_localnet"), 1, |is, wanted| is != wanted)?;
    Ok(report)
}

/// Tells the kernel how readily to kill this process when memory is short, from -1000 (never) to 1000. Returns whether
/// it had to be changed. Lowering needs CAP_SYS_RESOURCE; kube-proxy only logs a failure.
pub fn set_oom_score_adj(root: &SysctlRoot, score: i16) -> Result<bool, SysctlError> {
    set_number(&root.path("proc/self/oom_score_adj"), i64::from(score), |is, wanted| is != wanted)
}

/// Lets packets with an address of this node as their source come in by the loopback interface: in mode ebpf, replies of
/// backends to a node port that the node itself has addressed come in there once more. No other interface is changed,
/// and on this one such packets are common.
pub fn enable_local_sources_on_loopback(root: &SysctlRoot) -> Result<Report, SysctlError> {
    let mut report = Report::default();
    report.set(&root.sysctl("net/ipv4/conf/lo/accept_local"), 1, |now, wanted| now != wanted)?;
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn route_localnet_is_written_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("proc/sys/net/ipv4/conf/all/route_localnet");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "0\n").unwrap();
        let root = SysctlRoot::at(folder.path());
        assert_eq!(enable_route_localnet(&root).unwrap().changed.len(), 1);
        assert_eq!(enable_route_localnet(&root).unwrap(), Report::default());
        assert_eq!(std::fs::read_to_string(path).unwrap(), "1");
    }

    #[test]
    fn the_score_is_written_only_if_it_differs() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("proc/self")).unwrap();
        std::fs::write(folder.path().join("proc/self/oom_score_adj"), "0\n").unwrap();
        let root = SysctlRoot::at(folder.path());
        assert!(set_oom_score_adj(&root, -999).unwrap());
        assert!(!set_oom_score_adj(&root, -999).unwrap());
    }

    #[test]
    fn a_score_that_the_kernel_refuses_is_an_error() {
        let error = set_oom_score_adj(&SysctlRoot::kernel(), 2000).unwrap_err();
        assert!(matches!(error, SysctlError::Write { value: 2000, .. }), "{error}");
    }
}
