//! System programs that the tests and the demo call, and the Debian packages they are in.

use std::process::Command;

use anyhow::{Result, bail};

use crate::process;

/// A program, and the package that has it on Debian and Ubuntu.
pub(crate) type Program = (&'static str, &'static str);

const PROGRAMS: [Program; 9] = [
    ("nft", "nftables"),
    ("ip", "iproute2"),
    ("tc", "iproute2"),
    ("conntrack", "conntrack"),
    ("iptables", "iptables"),
    ("ipset", "ipset"),
    ("nsenter", "util-linux"),
    ("sysctl", "procps"),
    ("modprobe", "kmod"),
];

/// Sees to it that what tests and demo call is there.
pub(crate) fn ensure() -> Result<()> {
    ensure_all(&PROGRAMS)
}

/// Sees to it that every program is there: installs what is missing where this is root on a Debian-like system,
/// otherwise fails with a message that names it.
pub(crate) fn ensure_all(programs: &[Program]) -> Result<()> {
    let missing: Vec<Program> =
        programs.iter().copied().filter(|(program, _)| process::find(program).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages = packages_of(&missing);
    if !nix::unistd::geteuid().is_root() || process::find("apt-get").is_none() {
        bail!("{}", request(&missing, &packages));
    }
    process::say(&format!("installing {}", packages.join(" ")));
    install(&packages)?;
    match missing.into_iter().find(|(program, _)| process::find(program).is_none()) {
        Some((program, package)) => bail!("package {package} is installed, but has no program {program}"),
        None => Ok(()),
    }
}

fn packages_of(programs: &[Program]) -> Vec<&'static str> {
    let mut packages: Vec<&str> = programs.iter().map(|(_, package)| *package).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

fn request(missing: &[Program], packages: &[&str]) -> String {
    let programs: Vec<&str> = missing.iter().map(|(program, _)| *program).collect();
    format!(
        "these programs are missing: {}. On Debian or Ubuntu: sudo apt-get install {}",
        programs.join(", "),
        packages.join(" ")
    )
}

fn install(packages: &[&str]) -> Result<()> {
    // Fresh images have no package lists; an update that fails in part may still be enough.
    if let Err(error) = process::run(apt_get().arg("update")) {
        process::say(&format!("going on with the package lists that are there: {error}"));
    }
    process::run(apt_get().args(["install", "--yes", "--no-install-recommends"]).args(packages))
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.arg("--quiet").env("DEBIAN_FRONTEND", "noninteractive").stdin(std::process::Stdio::null());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_package_is_asked_for_once() {
        assert_eq!(
            packages_of(&[("tc", "iproute2"), ("nft", "nftables"), ("ip", "iproute2")]),
            ["iproute2", "nftables"]
        );
    }

    #[test]
    fn the_request_names_programs_and_packages() {
        assert_eq!(
            request(&[("nft", "nftables")], &["nftables"]),
            "these programs are missing: nft. On Debian or Ubuntu: sudo apt-get install nftables"
        );
    }
}
