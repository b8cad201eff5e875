//! A kernel and its modules, unpacked from Debian's packages, kept under `target/kernels/NAME`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::{
    catalogue::{Kernel, PACKAGE},
    index::{self, Package},
    modules,
};
use crate::{process, workspace::Workspace};

/// How long what the index said is taken to hold.
const FRESH: Duration = Duration::from_hours(24);
const KERNEL: &str = "vmlinuz";
const MODULES: &str = "modules";
const RELEASE: &str = "release";
/// What the folder was made of; a folder without it is not finished.
const ORIGIN: &str = "origin";

/// A folder with a kernel and the modules that the guest loads.
pub(super) struct Source(PathBuf);

impl Source {
    pub(super) fn folder(&self) -> &Path {
        &self.0
    }

    /// The kernel's image.
    pub(super) fn kernel(&self) -> PathBuf {
        self.0.join(KERNEL)
    }

    /// Modules, and a file `order`.
    pub(super) fn modules(&self) -> PathBuf {
        self.0.join(MODULES)
    }

    /// What `uname -r` will say.
    pub(super) fn release(&self) -> Result<String> {
        fs::read_to_string(self.0.join(RELEASE)).context("the release of a kernel is not noted")
    }
}

/// The kernel as Debian has it today. Fetches what is not there; without network, what was fetched on another day is
/// used, and said to be; with nothing fetched it is an error.
pub(super) fn provide(workspace: &Workspace, kernel: &Kernel) -> Result<Source> {
    let folder = workspace.target(&format!("kernels/{}", kernel.name));
    let had = fs::read_to_string(folder.join(ORIGIN)).ok();
    if had.as_deref().is_some_and(|had| had.ends_with(&modules::fingerprint()))
        && is_fresh(&folder.join(ORIGIN))
    {
        return Ok(Source(folder));
    }
    let found = look_up(kernel, &folder);
    match (found, had) {
        (Ok((_, origin)), Some(had)) if had == origin => {
            fs::write(folder.join(ORIGIN), origin).context("cannot note what was looked up")?;
        }
        (Ok((packages, origin)), _) => fetch(&folder, &packages, &origin)?,
        (Err(error), Some(had)) if had.ends_with(&modules::fingerprint()) => {
            process::say(&format!("{}: going on with what was fetched before: {error:#}", kernel.name));
        }
        (Err(error), _) => return Err(error),
    }
    Ok(Source(folder))
}

fn is_fresh(path: &Path) -> bool {
    let age =
        fs::metadata(path).and_then(|about| about.modified()).map(|time| time.elapsed().unwrap_or_default());
    age.is_ok_and(|age| age < FRESH)
}

/// A package and the archive it is in.
type Found = (String, Package);

/// The packages and a text that tells them from any others.
fn look_up(kernel: &Kernel, folder: &Path) -> Result<(Vec<Found>, String)> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut errors = Vec::new();
    for (archive, suite) in kernel.suites {
        match read_index(archive, suite, folder).and_then(|index| index::kernel_packages(&index, PACKAGE)) {
            Ok(packages) => {
                let lines: Vec<String> =
                    packages.iter().map(|package| format!("{} {}\n", package.sha256, package.file)).collect();
                let origin = lines.concat() + &modules::fingerprint();
                return Ok((
                    packages.into_iter().map(|package| ((*archive).to_owned(), package)).collect(),
                    origin,
                ));
            }
            Err(error) => errors.push(format!("{suite}: {error:#}")),
        }
    }
    bail!("Debian's kernel {} cannot be found: {}", kernel.name, errors.join("; "))
}

fn read_index(archive: &str, suite: &str, folder: &Path) -> Result<String> {
    let packed = folder.join("Packages.xz");
    download(&format!("{archive}/dists/{suite}/main/binary-amd64/Packages.xz"), &packed)?;
    let index = process::output(Command::new("xz").args(["--decompress", "--stdout"]).arg(&packed));
    fs::remove_file(&packed).with_context(|| format!("cannot remove {}", packed.display()))?;
    index
}

fn download(address: &str, to: &Path) -> Result<()> {
    let mut curl = Command::new("curl");
    curl.args([
        "--fail",
        "--silent",
        "--show-error",
        "--location",
        "--retry",
        "3",
        "--connect-timeout",
        "20",
    ]);
    process::output(curl.arg("--output").arg(to).arg(address)).map(drop)
}

/// Makes the folder anew.
fn fetch(folder: &Path, packages: &[Found], origin: &str) -> Result<()> {
    let remove = |path: &Path| if path.exists() { fs::remove_dir_all(path) } else { Ok(()) };
    remove(folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    let tree = folder.join("tree");
    fs::create_dir_all(&tree).with_context(|| format!("cannot make {}", tree.display()))?;
    for (archive, package) in packages {
        process::say(&format!("fetching {} {}", package.name, package.version));
        let file = folder.join("package.deb");
        download(&format!("{archive}/{}", package.file), &file)?;
        verify(&file, package)?;
        process::output(Command::new("dpkg-deb").arg("--extract").args([&file, &tree]))?;
        fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
    }
    let release = modules::release(&tree)?;
    fs::rename(image(&tree, &release)?, folder.join(KERNEL)).context("cannot move the kernel")?;
    modules::gather(&tree, &release, &folder.join(MODULES))?;
    fs::write(folder.join(RELEASE), release).context("cannot note the release of a kernel")?;
    remove(&tree).with_context(|| format!("cannot remove {}", tree.display()))?;
    fs::write(folder.join(ORIGIN), origin).context("cannot note what was fetched")
}

/// Where the kernel is: with others of its kind, or (from 7 on) with its modules.
fn image(tree: &Path, release: &str) -> Result<PathBuf> {
    let places = [format!("boot/vmlinuz-{release}"), format!("usr/lib/modules/{release}/vmlinuz")];
    let found = places.iter().map(|place| tree.join(place)).find(|path| path.is_file());
    found.with_context(|| format!("the packages have no {}", places.join(" and no ")))
}

fn verify(file: &Path, package: &Package) -> Result<()> {
    let said = process::output(Command::new("sha256sum").arg(file))?;
    let sum = said.split_whitespace().next().unwrap_or_default();
    if sum != package.sha256 {
        bail!("{} has SHA256 {sum}, where Debian's index has {}", package.file, package.sha256);
    }
    Ok(())
}
