//! Debian's package index: which packages a kernel consists of today.

use std::{cmp::Ordering, collections::BTreeSet};

use anyhow::{Context as _, Result};

/// Dependencies that are parts of a kernel, by the beginning of their names.
const PARTS: [&str; 4] = ["linux-image-", "linux-base-", "linux-binary-", "linux-modules-"];

/// A package of the index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
    /// Path below the archive.
    pub(super) file: String,
    /// Of the file, in hexadecimal digits.
    pub(super) sha256: String,
    depends: String,
}

/// The newest version of `name` and everything of it that is a part of a kernel, each once.
///
/// # Errors
/// Something is not in the index, or without file or checksum.
pub(super) fn kernel_packages(index: &str, name: &str) -> Result<Vec<Package>> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::from([name.to_owned()]);
    let mut open = vec![name.to_owned()];
    while let Some(name) = open.pop() {
        let package = newest(index, &name).with_context(|| format!("the index has no package {name}"))?;
        anyhow::ensure!(
            !package.file.is_empty() && package.sha256.len() == 64,
            "package {name} has no file or no SHA256 in the index"
        );
        open.extend(package.parts().filter(|part| seen.insert(part.clone())));
        found.push(package);
    }
    Ok(found)
}

/// The stanza of `name` with the highest version.
fn newest(index: &str, name: &str) -> Option<Package> {
    let first = format!("Package: {name}\n");
    let stanzas = index.split("\n\n").map(|stanza| stanza.trim_start_matches('\n'));
    let versions = stanzas.filter(|stanza| stanza.starts_with(&first)).map(Package::parse);
    versions.max_by(|one, other| compare(&one.version, &other.version))
}

impl Package {
    fn parse(stanza: &str) -> Self {
        let mut package = Self::default();
        for line in stanza.lines() {
            let Some((field, value)) = line.split_once(": ") else { continue };
            let place = match field {
                "Package" => &mut package.name,
                "Version" => &mut package.version,
                "Filename" => &mut package.file,
                "SHA256" => &mut package.sha256,
                "Depends" => &mut package.depends,
                _ => continue,
            };
            value.clone_into(place);
        }
        package
    }

    /// Names of dependencies that are parts of the kernel; of alternatives the first.
    fn parts(&self) -> impl Iterator<Item = String> {
        let words = self.depends.split(',').filter_map(|dependency| dependency.split_whitespace().next());
        words.filter(|name| PARTS.iter().any(|part| name.starts_with(part))).map(str::to_owned)
    }
}

/// Numbers by their value, everything else as text.
fn compare(one: &str, other: &str) -> Ordering {
    pieces(one).cmp(&pieces(other))
}

fn pieces(version: &str) -> Vec<(u64, &str)> {
    let starts_number = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
    let mut rest = version;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let is_number = starts_number(rest);
        let end = rest.find(|c: char| c.is_ascii_digit() != is_number).unwrap_or(rest.len());
        let (piece, after) = rest.split_at(end);
        pieces.push(if is_number { (piece.parse().unwrap_or(u64::MAX), "") } else { (0, piece) });
        rest = after;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stanza(name: &str, version: &str, depends: &str) -> String {
        let sha = "0".repeat(64);
        format!(
            "Package: {name}\nVersion: {version}\nDepends: {depends}\nDescription: a kernel\n with: colons\n\
             Filename: pool/{name}_{version}.deb\nSHA256: {sha}\n"
        )
    }

    #[test]
    fn the_parts_of_a_kernel_are_followed_and_nothing_else() {
        let index = [
            stanza("linux-image-amd64", "7.2-1", "linux-base, linux-image-7.2-amd64 (= 7.2-1)"),
            stanza(
                "linux-image-7.2-amd64",
                "7.2-1",
                "linux-binary-7.2-amd64 | x, linux-modules-7.2-amd64, kmod",
            ),
            stanza("linux-binary-7.2-amd64", "7.2-1", "linux-modules-7.2-amd64"),
            stanza("linux-modules-7.2-amd64", "7.2-1", ""),
            stanza("linux-image-6.1-amd64", "6.1-1", ""),
        ]
        .join("\n");
        let mut names: Vec<_> = kernel_packages(&index, "linux-image-amd64")
            .unwrap()
            .into_iter()
            .map(|package| package.file)
            .collect();
        names.sort();
        assert_eq!(
            names,
            [
                "pool/linux-binary-7.2-amd64_7.2-1.deb",
                "pool/linux-image-7.2-amd64_7.2-1.deb",
                "pool/linux-image-amd64_7.2-1.deb",
                "pool/linux-modules-7.2-amd64_7.2-1.deb",
            ]
        );
    }

    #[test]
    fn of_several_versions_the_highest_counts() {
        let index = [stanza("a", "5.10.99-1", ""), stanza("a", "5.10.257-1", ""), stanza("a", "5.9-1", "")]
            .join("\n");
        assert_eq!(newest(&index, "a").unwrap().version, "5.10.257-1");
    }

    #[test]
    fn what_the_index_does_not_have_is_named() {
        let index = stanza("linux-image-amd64", "1", "linux-image-gone");
        let error = kernel_packages(&index, "linux-image-amd64").unwrap_err().to_string();
        assert!(error.contains("linux-image-gone"), "{error}");
        let error = kernel_packages("Package: p\nVersion: 1\n", "p").unwrap_err().to_string();
        assert!(error.contains("no SHA256"), "{error}");
    }
}
