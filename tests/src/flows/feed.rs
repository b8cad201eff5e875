//! How objects reach the agent.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use super::objects::text;

/// Objects by kind, namespace and name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ObjectSet {
    objects: BTreeMap<(String, String, String), Value>,
}

impl ObjectSet {
    /// Adds an object, or replaces the one of the same identity.
    pub fn put(&mut self, object: Value) {
        let identity =
            ["/kind", "/metadata/namespace", "/metadata/name"].map(|path| text(&object, path).to_owned());
        self.objects.insert(identity.into(), object);
    }

    /// Removes an object, if it is there.
    pub fn remove(&mut self, kind: &str, namespace: &str, name: &str) {
        self.objects.remove(&(kind.to_owned(), namespace.to_owned(), name.to_owned()));
    }

    /// All objects with their identities.
    pub fn iter(&self) -> impl Iterator<Item = (&(String, String, String), &Value)> {
        self.objects.iter()
    }

    pub(crate) fn get(&self, identity: &(String, String, String)) -> Option<&Value> {
        self.objects.get(identity)
    }
}

impl FromIterator<Value> for ObjectSet {
    fn from_iter<I: IntoIterator<Item = Value>>(objects: I) -> Self {
        let mut set = Self::default();
        objects.into_iter().for_each(|object| set.put(object));
        set
    }
}

/// By which way objects reach the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedKind {
    /// A directory of manifests.
    Manifests,
    /// An API server.
    ApiServer,
}

/// Shows objects to the agent: a directory of manifests, or an API server.
pub trait ObjectFeed: Send {
    /// Brings about that exactly these objects exist. Changes are sent in the
    /// order of the set, removals first.
    fn replace(&mut self, objects: &ObjectSet) -> Result<()>;

    /// Adds or changes one object; when it takes effect, so has everything
    /// before it.
    fn put_last(&mut self, object: Value) -> Result<()>;

    /// Arguments by which the agent finds the objects.
    fn arguments(&self) -> Vec<OsString>;

    /// Path of a kubeconfig for the configuration file, if there is one.
    fn kubeconfig(&self) -> Option<PathBuf> {
        None
    }
}

/// One file per object in a directory the agent watches (`--manifests`).
///
/// Files change by renaming a finished file over them, so that a half-written
/// one is never seen.
#[derive(Debug)]
pub struct ManifestDirectory {
    directory: PathBuf,
    drafts: PathBuf,
    current: ObjectSet,
}

impl ManifestDirectory {
    /// Makes the directory below `parent`.
    pub fn create(parent: &Path) -> Result<Self> {
        let (directory, drafts) = (parent.join("manifests"), parent.join("drafts"));
        for path in [&directory, &drafts] {
            fs::create_dir(path).with_context(|| format!("cannot make {}", path.display()))?;
        }
        Ok(Self { directory, drafts, current: ObjectSet::default() })
    }

    /// The directory the agent watches.
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// Writes a file with any content, as an editor might.
    pub fn write_file(&self, name: &str, content: &str) -> Result<()> {
        let draft = self.drafts.join(name);
        fs::write(&draft, content).with_context(|| format!("cannot write {}", draft.display()))?;
        fs::rename(&draft, self.directory.join(name)).with_context(|| format!("cannot put {name} in place"))
    }

    /// Removes a file written by [`Self::write_file`].
    pub fn remove_file(&self, name: &str) -> Result<()> {
        fs::remove_file(self.directory.join(name)).with_context(|| format!("cannot remove {name}"))
    }
}

fn file_name((kind, namespace, name): &(String, String, String)) -> String {
    format!("{kind}-{namespace}-{name}.json").to_lowercase().replace('/', "_")
}

impl ObjectFeed for ManifestDirectory {
    fn replace(&mut self, objects: &ObjectSet) -> Result<()> {
        let gone: Vec<_> = self.current.iter().filter(|(id, _)| objects.get(id).is_none()).collect();
        for (identity, _) in gone {
            self.remove_file(&file_name(identity))?;
        }
        for (identity, object) in objects.iter() {
            if self.current.get(identity) != Some(object) {
                self.write_file(&file_name(identity), &serde_json::to_string_pretty(object)?)?;
            }
        }
        self.current = objects.clone();
        Ok(())
    }

    fn put_last(&mut self, object: Value) -> Result<()> {
        let mut objects = self.current.clone();
        objects.put(object);
        self.replace(&objects)
    }

    fn arguments(&self) -> Vec<OsString> {
        vec!["--manifests".into(), self.directory.clone().into()]
    }
}
