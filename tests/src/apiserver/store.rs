//! Objects, their versions, and the log of changes that watches read.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::allocate::Allocator;
use super::patch::{Patch, PatchKind};
use super::resource::Resource;
use super::{defaults, validate};

/// Why a write or a read did not happen; each is one HTTP status.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum StoreError {
    /// 404.
    #[error("{0} not found")]
    NotFound(String),
    /// 409, reason `AlreadyExists`.
    #[error("{0} already exists")]
    AlreadyExists(String),
    /// 409, reason `Conflict`.
    #[error("{0}: the object has been modified")]
    Conflict(String),
    /// 410, reason `Expired`.
    #[error("too old resource version: {0}")]
    Expired(u64),
    /// 422.
    #[error("{0}")]
    Invalid(String),
    /// 400.
    #[error("{0}")]
    BadRequest(String),
}

/// Namespace (empty if the resource has none) and name.
pub(super) type Key = (String, String);

/// An object at one version.
#[derive(Debug)]
pub struct Stored {
    /// The object.
    pub value: Value,
    /// The object as it goes over the wire.
    pub json: Bytes,
}

/// One change, as watches see it.
#[derive(Clone, Debug)]
pub struct LogEntry {
    /// Version the change made.
    pub version: u64,
    /// What changed.
    pub resource: &'static Resource,
    /// The object before; `None` when it was created.
    pub before: Option<Arc<Stored>>,
    /// The object after; `None` when it was deleted.
    pub after: Option<Arc<Stored>>,
}

/// One page of a list.
#[derive(Debug)]
pub struct Page {
    /// Objects of the page.
    pub items: Vec<Arc<Stored>>,
    /// Key to go on after, if there is more.
    pub next: Option<Key>,
    /// Version of the list.
    pub version: u64,
}

/// All objects. Cheap to clone: clones are the same store.
#[derive(Clone, Debug)]
pub struct Store {
    state: Arc<Mutex<State>>,
    version: Arc<watch::Sender<u64>>,
}

#[derive(Debug)]
struct State {
    objects: BTreeMap<(&'static str, &'static str), BTreeMap<Key, Arc<Stored>>>,
    log: VecDeque<LogEntry>,
    /// Watches and continued lists from versions below this are answered with 410.
    oldest: u64,
    version: u64,
    allocator: Allocator,
    /// What each manager has applied last.
    applied: BTreeMap<Applied, Value>,
}

/// Group and plural of a resource, key of an object, name of a manager.
type Applied = (&'static str, &'static str, Key, String);

/// The log keeps this many changes before old ones are forgotten, as a server's watch cache does.
const LOG_LIMIT: usize = 200_000;

impl Default for Store {
    fn default() -> Self {
        let state = State {
            objects: BTreeMap::new(),
            log: VecDeque::new(),
            oldest: 0,
            version: 1,
            allocator: Allocator::default(),
            applied: BTreeMap::new(),
        };
        Self { state: Arc::new(Mutex::new(state)), version: Arc::new(watch::Sender::new(1)) }
    }
}

impl Store {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows the newest version.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// The newest version.
    pub fn current_version(&self) -> u64 {
        self.lock().version
    }

    /// Forgets all versions before the newest: older watches and list continuations get 410.
    pub fn compact(&self) {
        let mut state = self.lock();
        state.oldest = state.version;
        state.log.clear();
    }

    /// Creates or replaces an object of any served kind; returns it as stored.
    pub fn put(&self, object: Value) -> Result<Value, StoreError> {
        let resource = resource_of(&object)?;
        let key = key_of(resource, &object)?;
        let exists = self.get(resource, &key).is_ok();
        if exists { self.replace(resource, object, &key, false) } else { self.create(resource, object) }
    }

    /// One object.
    pub fn get(&self, resource: &'static Resource, key: &Key) -> Result<Arc<Stored>, StoreError> {
        let state = self.lock();
        state
            .of(resource)
            .and_then(|map| map.get(key))
            .cloned()
            .ok_or_else(|| StoreError::NotFound(title(resource, key)))
    }

    /// Creates an object.
    pub fn create(&self, resource: &'static Resource, mut object: Value) -> Result<Value, StoreError> {
        defaults::name_generated(&mut object);
        let key = key_of(resource, &object)?;
        let mut state = self.lock();
        if state.of(resource).is_some_and(|map| map.contains_key(&key)) {
            return Err(StoreError::AlreadyExists(title(resource, &key)));
        }
        defaults::created(&mut object, state.version + 1);
        self.write(&mut state, resource, key, object)
    }

    /// Replaces an object (or only its `status`). A `resourceVersion` in the new object must be the current one.
    pub fn replace(
        &self,
        resource: &'static Resource,
        object: Value,
        key: &Key,
        status_only: bool,
    ) -> Result<Value, StoreError> {
        let mut state = self.lock();
        let old = state.of(resource).and_then(|map| map.get(key)).cloned();
        let old = old.ok_or_else(|| StoreError::NotFound(title(resource, key)))?;
        let wanted = object.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or("");
        let current = old.value.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or("");
        if !wanted.is_empty() && wanted != current {
            return Err(StoreError::Conflict(title(resource, key)));
        }
        let object = defaults::carried_over(&old.value, object, status_only);
        self.write(&mut state, resource, key.clone(), object)
    }

    /// Changes an object by a patch; server-side apply creates what is not there.
    pub fn patch(&self, resource: &'static Resource, key: &Key, patch: &Patch) -> Result<Value, StoreError> {
        loop {
            let versioned = patch.change.pointer("/metadata/resourceVersion").is_some();
            match self.patch_once(resource, key, patch) {
                // Somebody else was quicker; only a patch that names a version minds.
                Err(StoreError::Conflict(_)) if !versioned => {}
                result => return result,
            }
        }
    }

    fn patch_once(&self, resource: &'static Resource, key: &Key, patch: &Patch) -> Result<Value, StoreError> {
        let manager = match &patch.kind {
            PatchKind::Apply(manager) => Some(manager.as_str()),
            PatchKind::Merge | PatchKind::Strategic => None,
        };
        let identity = (resource.group, resource.plural, key.clone(), manager.unwrap_or("").to_owned());
        let previous = self.lock().applied.get(&identity).cloned();
        let old = self.get(resource, key);
        let object = match &old {
            Ok(old) => patch.applied_to(resource.kind, &old.value, previous.as_ref()),
            Err(_) => patch.change.clone(),
        };
        if patch.strict {
            validate::strictly(resource.kind, &object)?;
        }
        let made = match old {
            Ok(_) => self.replace(resource, object, key, patch.status_only)?,
            Err(_) if manager.is_some() => self.create(resource, object)?,
            Err(error) => return Err(error),
        };
        if manager.is_some() {
            self.lock().applied.insert(identity, patch.change.clone());
        }
        Ok(made)
    }

    /// Deletes an object; returns what it was.
    pub fn delete(&self, resource: &'static Resource, key: &Key) -> Result<Value, StoreError> {
        let mut state = self.lock();
        let old =
            state.of_mut(resource).remove(key).ok_or_else(|| StoreError::NotFound(title(resource, key)))?;
        state.allocator.release(&old.value);
        state.applied.retain(|(group, plural, of, _), _| {
            (*group, *plural, of) != (resource.group, resource.plural, key)
        });
        let version = state.version + 1;
        let mut last = old.value.clone();
        defaults::set_version(&mut last, version);
        let last = Arc::new(Stored { json: encode(&last), value: last });
        state.push(LogEntry { version, resource, before: Some(last), after: None });
        self.version.send_replace(version);
        Ok(old.value.clone())
    }

    /// Deletes the object of that kind (in whatever API group) and name; `namespace` counts where there are namespaces.
    pub fn remove(&self, kind: &str, namespace: &str, name: &str) -> Result<Value, StoreError> {
        let key = |resource: &Resource| {
            let namespace = if resource.namespaced { namespace } else { "" };
            (namespace.to_owned(), name.to_owned())
        };
        let mut found =
            Resource::all_of_kind(kind).filter(|resource| self.get(resource, &key(resource)).is_ok());
        let resource = found.next().ok_or_else(|| StoreError::NotFound(format!("{kind} {name:?}")))?;
        self.delete(resource, &key(resource))
    }

    /// All objects of that kind, in whatever API group.
    pub fn all(&self, kind: &str) -> Vec<Value> {
        let state = self.lock();
        let maps = Resource::all_of_kind(kind).filter_map(|resource| state.of(resource));
        maps.flat_map(BTreeMap::values).map(|stored| stored.value.clone()).collect()
    }

    /// A page of the objects in `namespace` (all for `None`) that `select` takes, after `after`.
    /// `at` is the version of the first page when a list is continued.
    pub fn list(
        &self,
        resource: &'static Resource,
        namespace: Option<&str>,
        select: impl Fn(&Value) -> bool,
        limit: usize,
        after: Option<(&Key, u64)>,
    ) -> Result<Page, StoreError> {
        let state = self.lock();
        let version = after.map_or(state.version, |(_, version)| version);
        if version < state.oldest {
            return Err(StoreError::Expired(version));
        }
        let mut page = Page { items: Vec::new(), next: None, version };
        let mut last: Option<&Key> = None;
        for (key, stored) in state.of(resource).into_iter().flatten() {
            let skipped =
                after.is_some_and(|(after, _)| key <= after) || namespace.is_some_and(|n| n != key.0);
            if skipped || !select(&stored.value) {
                continue;
            }
            if limit > 0 && page.items.len() == limit {
                page.next = last.cloned();
                break;
            }
            page.items.push(Arc::clone(stored));
            last = Some(key);
        }
        Ok(page)
    }

    /// Changes of one resource after `version`, and the version they reach up to.
    pub fn changes(
        &self,
        resource: &'static Resource,
        version: u64,
    ) -> Result<(Vec<LogEntry>, u64), StoreError> {
        let state = self.lock();
        if version < state.oldest {
            return Err(StoreError::Expired(version));
        }
        let start = state.log.partition_point(|entry| entry.version <= version);
        let wanted = state.log.range(start..).filter(|entry| std::ptr::eq(entry.resource, resource));
        Ok((wanted.cloned().collect(), state.version))
    }

    fn write(
        &self,
        state: &mut State,
        resource: &'static Resource,
        key: Key,
        mut object: Value,
    ) -> Result<Value, StoreError> {
        defaults::fill_in(resource, &mut object);
        state.allocator.allocate(&mut object)?;
        if let Some(before) = state.of(resource).and_then(|map| map.get(&key)) {
            // A write that changes nothing is no change: no version, no event.
            defaults::copy_version(&before.value, &mut object);
            if before.value == object {
                return Ok(object);
            }
        }
        let version = state.version + 1;
        defaults::set_version(&mut object, version);
        let stored = Arc::new(Stored { json: encode(&object), value: object.clone() });
        let before = state.of_mut(resource).insert(key, Arc::clone(&stored));
        state.push(LogEntry { version, resource, before, after: Some(stored) });
        self.version.send_replace(version);
        Ok(object)
    }
}

impl State {
    fn of(&self, resource: &Resource) -> Option<&BTreeMap<Key, Arc<Stored>>> {
        self.objects.get(&(resource.group, resource.plural))
    }

    fn of_mut(&mut self, resource: &'static Resource) -> &mut BTreeMap<Key, Arc<Stored>> {
        self.objects.entry((resource.group, resource.plural)).or_default()
    }

    fn push(&mut self, entry: LogEntry) {
        self.version = entry.version;
        self.log.push_back(entry);
        while self.log.len() > LOG_LIMIT {
            self.oldest = self.log.pop_front().map_or(self.oldest, |entry| entry.version);
        }
    }
}

fn encode(object: &Value) -> Bytes {
    Bytes::from(object.to_string())
}

fn title(resource: &Resource, key: &Key) -> String {
    format!("{} {:?}", resource.plural, key.1)
}

/// The resource an object belongs to.
pub(super) fn resource_of(object: &Value) -> Result<&'static Resource, StoreError> {
    let text = |name| object.get(name).and_then(Value::as_str).unwrap_or("");
    Resource::of_kind(text("apiVersion"), text("kind"))
        .ok_or_else(|| StoreError::Invalid(format!("no resource for kind {:?}", text("kind"))))
}

/// Namespace (`default` if absent in a namespaced resource) and name of an object.
pub(super) fn key_of(resource: &Resource, object: &Value) -> Result<Key, StoreError> {
    let meta = |name| object.pointer(&format!("/metadata/{name}")).and_then(Value::as_str).unwrap_or("");
    let namespace = match (resource.namespaced, meta("namespace")) {
        (false, _) => "",
        (true, "") => "default",
        (true, namespace) => namespace,
    };
    if meta("name").is_empty() {
        return Err(StoreError::Invalid("metadata.name: Required value".to_owned()));
    }
    Ok((namespace.to_owned(), meta("name").to_owned()))
}

/// The Kubernetes `Status` object of an error, with its HTTP status code.
pub(super) fn status_object(error: &StoreError) -> (u16, Value) {
    let (code, reason) = match error {
        StoreError::NotFound(_) => (404, "NotFound"),
        StoreError::AlreadyExists(_) => (409, "AlreadyExists"),
        StoreError::Conflict(_) => (409, "Conflict"),
        StoreError::Expired(_) => (410, "Expired"),
        StoreError::Invalid(_) => (422, "Invalid"),
        StoreError::BadRequest(_) => (400, "BadRequest"),
    };
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": error.to_string(), "reason": reason, "code": code,
    });
    (code, status)
}
