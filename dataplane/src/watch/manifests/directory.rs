//! Which files of the directory have changed, and what they hold.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::document::{self, Broken, Document, Syntax};

/// What tells one version of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fingerprint {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The directory, with the versions of its files that were read.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    read: BTreeMap<OsString, Fingerprint>,
}

/// A file that has changed since the last scan.
#[derive(Debug)]
pub(super) struct Change {
    /// Name within the directory.
    pub(super) file: PathBuf,
    /// What it holds now.
    pub(super) content: Content,
}

/// What a file holds.
#[derive(Debug)]
pub(super) enum Content {
    /// These documents.
    Documents(Vec<Document>),
    /// Something that cannot be read.
    Broken(Broken),
    /// Nothing: it is gone.
    Gone,
}

impl Directory {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, read: BTreeMap::new() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the files that are new or have changed, but for those that are `being_written`.
    pub(super) fn scan(&mut self, being_written: &[OsString]) -> io::Result<Vec<Change>> {
        let present = self.manifests()?;
        let mut changes = Vec::new();
        self.read.retain(|name, _| {
            let stays = present.contains_key(name);
            if !stays {
                changes.push(Change { file: name.into(), content: Content::Gone });
            }
            stays
        });
        for (name, (fingerprint, syntax)) in present {
            if self.read.get(&name) == Some(&fingerprint) || being_written.contains(&name) {
                continue;
            }
            let content = read(&self.path.join(&name), syntax);
            changes.push(Change { file: PathBuf::from(&name), content });
            self.read.insert(name, fingerprint);
        }
        Ok(changes)
    }

    fn manifests(&self) -> io::Result<BTreeMap<OsString, (Fingerprint, Syntax)>> {
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            let Some(syntax) = syntax(&name) else { continue };
            // Follows links: a ConfigMap volume is made of them. One that leads nowhere is a file that is not there.
            let Ok(meta) = std::fs::metadata(self.path.join(&name)) else { continue };
            if meta.is_file() {
                files.insert(name, (fingerprint(&meta), syntax));
            }
        }
        Ok(files)
    }
}

fn syntax(name: &OsStr) -> Option<Syntax> {
    if name.as_encoded_bytes().starts_with(b".") {
        return None;
    }
    match Path::new(name).extension()?.to_str()? {
        "yaml" | "yml" => Some(Syntax::Yaml),
        "json" => Some(Syntax::Json),
        _ => None,
    }
}

fn fingerprint(meta: &std::fs::Metadata) -> Fingerprint {
    Fingerprint {
        device: meta.dev(),
        inode: meta.ino(),
        size: meta.size(),
        modified: (meta.mtime(), meta.mtime_nsec()),
        changed: (meta.ctime(), meta.ctime_nsec()),
    }
}

fn read(path: &Path, syntax: Syntax) -> Content {
    let parsed = std::fs::read_to_string(path)
        .map_err(|error| Broken { line: None, field: String::new(), reason: error.to_string() })
        .and_then(|text| document::parse(&text, syntax));
    match parsed {
        Ok(documents) => Content::Documents(documents),
        Err(broken) => Content::Broken(broken),
    }
}
