//! What a process has used, from `/proc`.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Processor time and memory of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Usage {
    /// User and system time, with that of its children that have ended.
    pub(super) cpu: Duration,
    /// Resident memory in bytes, now.
    pub(super) resident: u64,
    /// The most it ever was.
    pub(super) peak: u64,
}

impl Usage {
    pub(super) fn of(process: i32) -> Result<Self> {
        let read = |file: &str| {
            let path = format!("/proc/{process}/{file}");
            fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
        };
        let (stat, status) = (read("stat")?, read("status")?);
        let cpu = cpu_time(&stat, ticks_per_second()?).context("reading a process's times")?;
        let bytes = |name| kibibytes(&status, name).map(|number| number * 1024);
        Ok(Self {
            cpu,
            resident: bytes("VmRSS:").context("a process without VmRSS")?,
            peak: bytes("VmHWM:").context("a process without VmHWM")?,
        })
    }
}

/// Waits until a process uses less than a twentieth of a processor for half a second; fails after `patience`.
pub(super) fn settle(process: i32, patience: Duration) -> Result<()> {
    const WINDOW: Duration = Duration::from_millis(500);
    let deadline = Instant::now() + patience;
    loop {
        let before = Usage::of(process)?.cpu;
        std::thread::sleep(WINDOW);
        if Usage::of(process)?.cpu.saturating_sub(before) <= WINDOW / 20 {
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < deadline, "the proxy is still busy after {patience:?}");
    }
}

/// Fields 14 to 17 of `/proc/PID/stat`; the second field may hold spaces and parentheses.
fn cpu_time(stat: &str, ticks: u64) -> Option<Duration> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<u64> = rest.split_whitespace().skip(11).take(4).map_while(|f| f.parse().ok()).collect();
    (fields.len() == 4).then(|| Duration::from_millis(fields.iter().sum::<u64>() * 1000 / ticks))
}

fn kibibytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn ticks_per_second() -> Result<u64> {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).context("asking for CLK_TCK")?;
    u64::try_from(ticks.context("no CLK_TCK")?).context("CLK_TCK out of range")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_process_and_children_are_added() {
        let stat = "42 (a) b) c) S 1 42 42 0 -1 4194304 9 8 7 6 100 50 30 20 20 0 1 0 5 6 7";
        assert_eq!(cpu_time(stat, 100), Some(Duration::from_secs(2)));
    }

    #[test]
    fn this_process_uses_memory() {
        let usage = Usage::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(usage.resident > 0 && usage.peak >= usage.resident);
    }
}
