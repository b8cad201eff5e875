//! Over folders that look like cgroups.

use super::*;

const UID: &str = "0a1b2c3d-1111-2222-3333-444455556666";
const SYSTEMD: &str = "kubepods.slice/kubepods-burstable.slice/\
                       kubepods-burstable-pod0a1b2c3d_1111_2222_3333_444455556666.slice";
const CGROUPFS: &str = "kubepods/besteffort/pod0a1b2c3d-1111-2222-3333-444455556666";
const GUARANTEED: &str = "kubepods.slice/kubepods-pod0a1b2c3d_1111_2222_3333_444455556666.slice";
const NESTED: &str = "kubelet.slice/kubelet-kubepods.slice/\
                      kubelet-kubepods-pod0a1b2c3d_1111_2222_3333_444455556666.slice";

fn pods(uids: &[&str]) -> BTreeSet<OptedOutPod> {
    let pod = |uid: &&str| OptedOutPod { uid: (*uid).into(), name: format!("a/{uid}").into() };
    uids.iter().map(pod).collect()
}

fn cgroup(folders: &[&str]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for folder in folders {
        fs::create_dir_all(root.path().join(folder)).unwrap();
    }
    root
}

fn inode(root: &tempfile::TempDir, folder: &str) -> u64 {
    fs::metadata(root.path().join(folder)).unwrap().ino()
}

#[test]
fn a_pod_is_found_whatever_driver_and_class_it_has() {
    for (folder, level) in [(SYSTEMD, 3), (CGROUPFS, 3), (GUARANTEED, 2), (NESTED, 3)] {
        let container = format!("{folder}/cri-containerd-1.scope");
        let root = cgroup(&[&container, "system.slice/kubelet.service", "kubepods/podother"]);
        let mut search = Search::default();
        let now = Instant::now();
        search.take(pods(&[UID]), now);
        assert!(search.look(root.path(), now), "{folder}");
        assert_eq!(search.found(true), (BTreeSet::from([inode(&root, folder)]), 1 << level), "{folder}");
        assert_eq!(search.pause(now), None, "nothing is left to look for");
        assert!(!search.look(root.path(), now));
    }
}

#[test]
fn below_the_root_of_the_hierarchy_every_level_that_is_possible_is_looked_at() {
    assert_eq!(levels_of(2, true), 0b100);
    assert_eq!(levels_of(2, false), 0b1_1111_1100);
    assert_eq!(levels_of(14, false), 0b1100_0000_0000_0000, "no level that programs do not know");
}

#[test]
fn a_pod_whose_cgroup_comes_later_is_looked_for_eagerly_at_first_and_named_after_a_while() {
    let root = cgroup(&["kubepods.slice"]);
    let start = Instant::now();
    let mut search = Search::default();
    search.take(pods(&[UID]), start);
    // None is a change too: what an earlier agent left has to go.
    assert!(search.look(root.path(), start));
    assert_eq!(search.found(true), (BTreeSet::new(), 0));
    assert_eq!(search.pause(start), Some(EAGER));
    assert!(!search.look(root.path(), start) && search.not_found(start).is_empty());
    let late = start + EAGERNESS;
    assert_eq!(search.pause(late), Some(PATIENT));
    search.look(root.path(), late);
    assert_eq!(search.not_found(late), [Arc::from(format!("a/{UID}"))]);
    fs::create_dir_all(root.path().join(SYSTEMD)).unwrap();
    assert!(search.look(root.path(), late) && search.not_found(late).is_empty());
}

#[test]
fn pods_that_are_gone_are_forgotten_and_others_keep_what_was_found() {
    let other = "kubepods/podother";
    let root = cgroup(&[SYSTEMD, other]);
    let now = Instant::now();
    let mut search = Search::default();
    search.take(pods(&[UID, "other"]), now);
    search.look(root.path(), now);
    assert_eq!(search.found(true).1, 0b1100);
    search.take(pods(&["other"]), now);
    assert!(search.look(root.path(), now));
    assert_eq!(search.found(true), (BTreeSet::from([inode(&root, other)]), 0b100));
    search.take(pods(&[]), now);
    assert!(search.look(root.path(), now));
    assert_eq!(search.found(true), (BTreeSet::new(), 0));
}
