//! Debian's package `rust-src`. It has many compiler versions in its suites, is for all architectures and depends on
//! nothing, so it is downloaded and unpacked aside, through an apt configuration of its own that is thrown away.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::find_library;
use crate::process;

/// Suites that may have the version, the likeliest first.
const SUITES: [&str; 4] = ["trixie-backports", "forky", "sid", "trixie"];

/// Downloads the package of compiler `version` into `scratch` and unpacks it; returns its folder `library`.
pub(super) fn unpack_package(version: &str, scratch: &Path) -> Result<PathBuf> {
    for tool in ["apt-get", "apt-cache", "dpkg-deb"] {
        process::find(tool).with_context(|| format!("{tool} is not here"))?;
    }
    for suite in SUITES {
        let apt = Apt::new(scratch, suite)?;
        if let Err(error) = apt.update() {
            process::say(&format!("suite {suite}: {error}"));
            continue;
        }
        if let Some(package) = apt.package_version(version)? {
            return apt.unpack(&package);
        }
    }
    bail!("none of the suites {} has rust-src {version}", SUITES.join(", "))
}

/// An apt that knows one suite and writes only into its own folder.
struct Apt {
    folder: PathBuf,
}

impl Apt {
    fn new(scratch: &Path, suite: &str) -> Result<Self> {
        let folder = scratch.join(suite);
        for child in ["sources", "lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(child))?;
        }
        fs::write(folder.join("sources/one.sources"), source(suite))?;
        fs::write(folder.join("apt.conf"), configuration(&folder))?;
        Ok(Self { folder })
    }

    fn update(&self) -> Result<()> {
        process::run(self.command("apt-get").args(["--quiet", "--error-on=any", "update"]))
    }

    /// The package version of compiler `version`, if the suite has it.
    fn package_version(&self, version: &str) -> Result<Option<String>> {
        let table = process::output(self.command("apt-cache").args(["madison", "rust-src"]))?;
        Ok(find_version(&table, version))
    }

    fn unpack(&self, package: &str) -> Result<PathBuf> {
        let package = format!("rust-src={package}");
        process::run(self.command("apt-get").args(["--quiet", "download", &package]))?;
        let archive = self.archive()?;
        let unpacked = self.folder.join("unpacked");
        process::run(Command::new("dpkg-deb").arg("-x").arg(archive).arg(&unpacked))?;
        find_library(&unpacked.join("usr/src"))
    }

    fn archive(&self) -> Result<PathBuf> {
        let mut names = fs::read_dir(&self.folder)?.filter_map(|entry| entry.ok().map(|entry| entry.path()));
        names
            .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .context("apt-get download left no package")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.folder).env("APT_CONFIG", self.folder.join("apt.conf"));
        command
    }
}

fn source(suite: &str) -> String {
    format!(
        "Types: deb\nURIs: http://deb.debian.org/debian\nSuites: {suite}\nComponents: main\n\
         Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    )
}

fn configuration(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "Dir::Etc::SourceList \"/dev/null\";\nDir::Etc::SourceParts \"{folder}/sources\";\n\
         Dir::State::Lists \"{folder}/lists\";\nDir::Cache \"{folder}/cache\";\n\
         APT::Sandbox::User \"root\";\n"
    )
}

/// Lines of the table read `rust-src | 1.95.0+dfsg1-2~bpo13+1 | http://... Packages`.
fn find_version(table: &str, version: &str) -> Option<String> {
    table
        .lines()
        .filter_map(|line| line.split('|').nth(1))
        .map(str::trim)
        .find(|package| package.strip_prefix(version).is_some_and(|rest| rest.starts_with(['+', '-'])))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_of_exactly_this_compiler_is_chosen() {
        let table = " rust-src | 1.96.1+dfsg1-2~bpo13+1 | http://x Packages\n \
                      rust-src | 1.95.0+dfsg1-2~bpo13+1 | http://x Packages\n";
        assert_eq!(find_version(table, "1.95.0").as_deref(), Some("1.95.0+dfsg1-2~bpo13+1"));
        assert_eq!(find_version(table, "1.95"), None);
        assert_eq!(find_version(table, "1.9"), None);
    }
}
