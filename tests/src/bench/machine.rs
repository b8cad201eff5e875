//! What the benchmark ran on.

use std::fs;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// Facts of the machine. What cannot be found out is empty or 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Model of the first processor.
    pub cpu: String,
    /// Number of processors.
    pub cpus: usize,
    /// Memory in bytes.
    pub memory: u64,
    /// Kernel release and version.
    pub kernel: String,
    /// Whether and how it is virtual.
    pub virtualization: String,
    /// Distribution.
    pub system: String,
    /// What nft(8) says of itself.
    pub nft: String,
    /// Mitigation against Spectre v2, which makes indirect calls slower.
    pub spectre_v2: String,
}

impl Machine {
    /// Looks around.
    pub(super) fn look() -> Self {
        let cpu_info = read("/proc/cpuinfo");
        let cpus = cpu_info.lines().filter(|line| line.starts_with("processor")).count();
        let memory = field(&read("/proc/meminfo"), "MemTotal");
        let kibibytes: u64 = memory.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0);
        let release = read("/etc/os-release");
        let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("");
        Self {
            cpu: field(&cpu_info, "model name"),
            cpus,
            memory: kibibytes * 1024,
            kernel: read("/proc/sys/kernel/osrelease"),
            virtualization: if cpu_info.contains(" hypervisor") { "virtual machine" } else { "" }.to_owned(),
            system: name.trim_matches('"').to_owned(),
            nft: output("nft", "--version"),
            spectre_v2: read("/sys/devices/system/cpu/vulnerabilities/spectre_v2"),
        }
    }
}

/// The load average of the last minute, and the number of processes that run or could.
pub(super) fn load() -> (f64, usize) {
    let text = read("/proc/loadavg");
    let mut words = text.split(' ');
    let load = words.next().and_then(|word| word.parse().ok()).unwrap_or(0.0);
    let running = words.nth(2).and_then(|word| word.split('/').next()?.parse().ok()).unwrap_or(0);
    (load, running)
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn field(text: &str, name: &str) -> String {
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or("");
    line.split_once(':').map_or("", |(_, value)| value).trim().to_owned()
}

fn output(program: &str, argument: &str) -> String {
    let output = Command::new(program).arg(argument).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}
