//! The first process of the machine.

use std::ffi::CString;
use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};

use super::report::Report;
use super::{OBJECTS, everything};

/// On the kernel's command line; keeps `boot` from switching off the first process of anything else.
const VARIABLE: &str = "SHUNT_GUEST";
/// The report goes to the second serial port: the first is the kernel's.
const REPORT: &str = "/dev/ttyS1";
/// Kernel modules, and their names in the order of loading.
const MODULES: &str = "/modules";
const MODULE_ORDER: &str = "/modules/order";

/// Type and place of what a host has mounted.
const MOUNTS: [(&str, &str); 7] = [
    ("devtmpfs", "/dev"),
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("cgroup2", "/sys/fs/cgroup"),
    ("bpf", "/sys/fs/bpf"),
    ("tmpfs", "/tmp"),
    ("tmpfs", "/run"),
];

/// Sets up the machine, runs everything, switches the machine off.
pub(super) fn run() -> Result<()> {
    if std::process::id() != 1 || std::env::var_os(VARIABLE).is_none() {
        bail!(
            "this is not a virtual machine of `cargo xtask kernels`: `guest run` tries the machine at hand"
        );
    }
    let done = set_up().and_then(|mut report| {
        load_modules(&mut report);
        everything(&mut report, Path::new(OBJECTS));
        report.end()
    });
    if let Err(error) = &done {
        super::complain(error);
    }
    nix::unistd::sync();
    match reboot(RebootMode::RB_POWER_OFF) {
        Ok(never) => match never {},
        Err(error) => bail!("cannot switch off: {error}"),
    }
}

fn set_up() -> Result<Report> {
    for (kind, place) in MOUNTS {
        mount(Some(kind), place, Some(kind), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("cannot mount {kind} on {place}"))?;
    }
    let mut report = Report::open(Path::new(REPORT))?;
    let version = fs::read_to_string("/proc/version").context("cannot read the kernel's version")?;
    report.note("machine", "kernel", &version);
    Ok(report)
}

fn load_modules(report: &mut Report) {
    let order = fs::read_to_string(MODULE_ORDER).unwrap_or_default();
    let mut loaded = 0;
    for module in order.lines() {
        match load_module(module) {
            Ok(()) => loaded += 1,
            Err(error) => report.failed("machine", &format!("module {module}"), &format!("{error:#}")),
        }
    }
    report.note("machine", "modules", &format!("{loaded} loaded"));
}

fn load_module(name: &str) -> Result<()> {
    let path = Path::new(MODULES).join(name);
    let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
    match finit_module(&file, &CString::default(), ModuleInitFlags::empty()) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
