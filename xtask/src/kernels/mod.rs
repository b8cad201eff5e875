//! `cargo xtask kernels`: Debian's stock kernels in emulated machines, with the BPF programs and both dataplanes.
//!
//! For each kernel of [`catalogue`]: its packages are found in Debian's index and fetched ([`index`], [`source`]), an
//! initial file system is packed with the kernel modules, the agent and a guest program ([`modules`], [`libraries`],
//! [`initramfs`]), QEMU boots it without hardware help ([`machine`]), and what the guest reports over a serial line is
//! judged ([`protocol`], [`verdict`]). Everything is kept under `target/kernels`.

mod catalogue;
mod index;
mod initramfs;
mod libraries;
mod machine;
mod modules;
mod protocol;
mod source;
mod verdict;

use std::{
    collections::BTreeMap,
    fs,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    build_ebpf, packages,
    process::{self, cargo},
    workspace::Workspace,
};
use catalogue::{KERNELS, Kernel};
use verdict::Verdict;

/// Programs that are called, and the packages that have them.
const PROGRAMS: [packages::Program; 12] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("curl", "curl"),
    ("xz", "xz-utils"),
    ("sha256sum", "coreutils"),
    ("dpkg-deb", "dpkg"),
    ("strip", "binutils"),
    ("ldd", "libc-bin"),
    ("nft", "nftables"),
    ("ip", "iproute2"),
    ("tc", "iproute2"),
    ("setpriv", "util-linux"),
    ("env", "coreutils"),
];

/// Arguments of `cargo xtask kernels`.
#[derive(Default, clap::Args)]
pub(crate) struct Arguments {
    /// Only this kernel: 5.10, 6.1, 6.12 or newest; may be given several times
    #[arg(long = "kernel", value_name = "NAME", value_parser = catalogue::names())]
    kernels: Vec<String>,
    /// Machines at a time; as many as there are processors unless given
    #[arg(long, value_name = "NUMBER")]
    jobs: Option<usize>,
}

/// Boots the kernels and prints what each can do. Fails if one does not do what it should, or could not be tried.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    packages::ensure_all(&PROGRAMS)?;
    build_ebpf::run(workspace)?;
    // The agent optimized: emulation makes it slow enough. The guest as it is quickest to build.
    process::run(cargo(workspace).args(["build", "--release", "--locked", "--package", "shunt"]))?;
    process::run(cargo(workspace).args(["build", "--package", "shunt-tests", "--bin", "guest"]))?;
    let userland = initramfs::Userland::gather(workspace)?;
    let chosen: Vec<&Kernel> = KERNELS
        .iter()
        .filter(|kernel| {
            arguments.kernels.is_empty() || arguments.kernels.iter().any(|name| name == kernel.name)
        })
        .collect();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let verdicts = try_all(workspace, &chosen, &userland, arguments.jobs.unwrap_or(processors).max(1))?;
    conclude(&chosen, &verdicts)
}

/// Some kernels at a time. A kernel that cannot be tried has an error in place of a verdict.
fn try_all(
    workspace: &Workspace,
    kernels: &[&Kernel],
    userland: &initramfs::Userland,
    jobs: usize,
) -> Result<BTreeMap<&'static str, Result<Verdict>>> {
    let waiting = Mutex::new(kernels.iter().rev().copied().collect::<Vec<_>>());
    let verdicts = Mutex::new(BTreeMap::new());
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(kernel) = next() {
                    let verdict = try_one(workspace, kernel, userland);
                    verdicts.lock().unwrap_or_else(PoisonError::into_inner).insert(kernel.name, verdict);
                }
            });
        }
    });
    verdicts.into_inner().ok().context("a machine's thread did not end well")
}

fn try_one(workspace: &Workspace, kernel: &Kernel, userland: &initramfs::Userland) -> Result<Verdict> {
    let start = Instant::now();
    let source = source::provide(workspace, kernel)?;
    process::say(&format!("{}: booting Linux {}", kernel.name, source.release()?));
    let initramfs = source.folder().join("initramfs");
    fs::write(&initramfs, userland.pack(&source)?)
        .with_context(|| format!("cannot write {}", initramfs.display()))?;
    let lines = machine::run(kernel, &source, &initramfs)?;
    let verdict = Verdict::of(kernel, &source.release()?, &lines);
    process::say(&format!("{}: {} in {:.0?}", kernel.name, verdict.in_words(), start.elapsed()));
    Ok(verdict)
}

/// The table of all kernels, and what is wrong with each.
fn conclude(kernels: &[&Kernel], verdicts: &BTreeMap<&str, Result<Verdict>>) -> Result<()> {
    let tried: Vec<&Verdict> =
        kernels.iter().filter_map(|kernel| verdicts.get(kernel.name)?.as_ref().ok()).collect();
    for line in verdict::table(&tried) {
        process::say(&line);
    }
    let mut wrong = 0;
    for kernel in kernels {
        let problems = match verdicts.get(kernel.name) {
            Some(Ok(verdict)) => verdict.problems.clone(),
            Some(Err(error)) => vec![format!("{error:#}")],
            None => vec!["was not tried".to_owned()],
        };
        for problem in &problems {
            process::say(&format!("{}: {problem}", kernel.name));
        }
        wrong += usize::from(!problems.is_empty());
    }
    if wrong > 0 {
        bail!("{wrong} of {} kernels did not do what they should", kernels.len());
    }
    process::say(&format!("{} kernels, everything as it should be", kernels.len()));
    Ok(())
}
