//! Removal of what killed processes left behind.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::cgroup;
use super::mounts::NAMESPACE_DIRECTORY;
use super::registry::{Leftover, NAME_PREFIX, remove};

/// Removes namespaces (with the processes inside), cgroups and directories of
/// labs whose process no longer exists.
pub(crate) fn remove_leftovers_of_dead_processes() {
    for name in leftover_names(Path::new(NAMESPACE_DIRECTORY)) {
        for id in processes_inside(&name) {
            remove(&Leftover::Process(id));
        }
        remove(&Leftover::Namespace(name));
    }
    if let Some(mount) = cgroup::mount_point() {
        for name in leftover_names(&mount) {
            remove(&Leftover::Cgroup(mount.join(name)));
        }
    }
    let temporary = std::env::temp_dir();
    for name in leftover_names(&temporary) {
        remove(&Leftover::Directory(temporary.join(name)));
    }
}

fn leftover_names(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| owner_of(name).is_some_and(|owner| !Path::new("/proc").join(owner).exists()))
        .collect()
}

/// The process id in a lab name, or `None` for other people's names.
fn owner_of(name: &str) -> Option<&str> {
    let (owner, _) = name.strip_prefix(NAME_PREFIX)?.split_once('-')?;
    (!owner.is_empty() && owner.bytes().all(|byte| byte.is_ascii_digit())).then_some(owner)
}

/// Processes whose network namespace is the named one.
fn processes_inside(name: &str) -> Vec<i32> {
    let Ok(wanted) = fs::metadata(Path::new(NAMESPACE_DIRECTORY).join(name)) else { return Vec::new() };
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|id| {
            fs::metadata(format!("/proc/{id}/ns/net"))
                .is_ok_and(|found| found.ino() == wanted.ino() && found.dev() == wanted.dev())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::owner_of;

    #[test]
    fn only_names_of_the_lab_have_an_owner() {
        assert_eq!(owner_of("shuntlab123-4-node"), Some("123"));
        assert_eq!(owner_of("shuntlab-4-node"), None);
        assert_eq!(owner_of("shuntlab12x-4"), None);
        assert_eq!(owner_of("cni-1234"), None);
    }
}
