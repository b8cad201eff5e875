//! Virtual servers of kube-proxy's ipvs mode.

use super::command::run;
use super::{Leftover, StepError, device};

/// Holds the addresses of Services.
pub(super) const DEVICE: &str = "kube-ipvs0";

/// Without the device, virtual servers are somebody else's.
pub(super) fn detect() -> Vec<Leftover> {
    if !device::exists(DEVICE) {
        return Vec::new();
    }
    let count = server_count();
    let servers = (count > 0).then_some(Leftover::IpvsServers { count });
    servers.into_iter().chain([Leftover::IpvsDevice]).collect()
}

/// Whether there were any.
pub(super) fn remove_servers() -> Result<bool, StepError> {
    if server_count() == 0 {
        return Ok(false);
    }
    run("ipvsadm", &["-C"])?;
    Ok(true)
}

fn server_count() -> usize {
    // Missing as long as the module is not loaded.
    std::fs::read_to_string("/proc/thread-self/net/ip_vs").map_or(0, |table| count_servers(&table))
}

/// A line for each virtual server begins with its protocol, or `FWM` for a firewall mark; those of its destinations
/// begin with an arrow.
fn count_servers(table: &str) -> usize {
    let is_server = |line: &&str| {
        line.split_whitespace().next().is_some_and(|word| matches!(word, "TCP" | "UDP" | "SCTP" | "FWM"))
    };
    table.lines().filter(is_server).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_counted_without_headings_and_destinations() {
        let table = "IP Virtual Server version 1.2.1 (size=4096)\n\
            Prot LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n\
            TCP  0A600001:01BB rr  \n  -> AC120002:192B      Masq    1      2          0\n\
            UDP  0A60000A:0035 rr  \nTCP  [fd96:0000:0000:0000:0000:0000:0000:0001]:01BB rr  \n";
        assert_eq!(count_servers(table), 3);
        assert_eq!(count_servers(""), 0);
    }
}
