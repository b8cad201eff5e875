//! Start, restart, damage and end.

use std::fs;
use std::time::Duration;

use shunt::kernel::ebpf::{self, Ebpf, Settings, Sockets};
use shunt::kernel::{Applied, Dataplane as _, Disposition};
use shunt::plan::Policy;

use crate::fixtures::{
    change, dataplane, frontend, in_namespace, links, pins, run, services, settings, spec, within,
};

fn count(dataplane: &Ebpf, kind: &str) -> u64 {
    dataplane.programmed().into_iter().find(|(name, _)| *name == kind).unwrap().1
}

#[test]
fn an_agent_that_starts_takes_over_what_is_pinned_and_writes_nothing() {
    in_namespace(|bpffs| {
        let mut table = services(20);
        let mut first = dataplane(bpffs);
        let applied = first.restore(&table).unwrap();
        assert!(applied.written > 100, "{applied:?}");
        let changes =
            change(&mut table, frontend("172.30.0.1:80"), Some(spec(Policy::Internal, &["10.9.9.9:80"])));
        first.apply(&changes).unwrap();
        assert_eq!(first.audit(&table).unwrap(), 0);
        let before = links(bpffs);
        assert_eq!(before, ["egress-1", "ingress-1"]);
        drop(first);
        let mut second = dataplane(bpffs);
        assert_eq!(second.restore(&table).unwrap(), Applied::default());
        assert_eq!(second.audit(&table).unwrap(), 0);
        assert_eq!(links(bpffs), before);
        assert_eq!(count(&second, "frontends"), 80, "one each and one for the whole address, both families");
    });
}

#[test]
fn nothing_is_left_after_cleanup() {
    in_namespace(|bpffs| {
        let mut table = services(1);
        change(&mut table, frontend("192.0.2.1:80"), Some(spec(Policy::ExternalCluster, &["10.9.9.9:80"])));
        let mut dataplane = dataplane(bpffs);
        dataplane.restore(&table).unwrap();
        assert!(ebpf::is_present(bpffs));
        assert!(run("nft list tables").contains("shunt-ebpf"));
        dataplane.cleanup().unwrap();
        assert!(!ebpf::is_present(bpffs));
        assert!(!bpffs.join("shunt").exists());
        assert_eq!(run("nft list tables"), "");
        assert!(!run("tc qdisc show dev lo").contains("clsact"));
        ebpf::cleanup(bpffs).unwrap();
    });
}

#[test]
fn the_masquerade_rule_is_there_only_while_it_is_needed() {
    in_namespace(|bpffs| {
        let mut table = services(0);
        let mut dataplane = dataplane(bpffs);
        dataplane.restore(&table).unwrap();
        assert_eq!(run("nft list tables"), "");
        let at = frontend("192.0.2.1:80");
        let changes = change(&mut table, at, Some(spec(Policy::ExternalCluster, &["10.9.9.9:80"])));
        dataplane.apply(&changes).unwrap();
        let rules = run("nft list table ip shunt-ebpf");
        assert!(rules.contains("masquerade") && rules.contains("0x00004000"), "{rules}");
        let changes = change(&mut table, at, None);
        dataplane.apply(&changes).unwrap();
        // Not before it is known that no connection needs it.
        let gone = within(Duration::from_mins(1), || run("nft list tables").is_empty());
        assert!(gone.is_some());
    });
}

#[test]
fn a_lost_link_and_a_lost_rule_are_found_and_repaired() {
    in_namespace(|bpffs| {
        let mut table = services(3);
        change(&mut table, frontend("192.0.2.1:80"), Some(spec(Policy::ExternalCluster, &["10.9.9.9:80"])));
        let mut dataplane = dataplane(bpffs);
        dataplane.restore(&table).unwrap();
        assert_eq!(dataplane.audit(&table).unwrap(), 0);
        fs::remove_file(pins(bpffs).join("links/ingress-1")).unwrap();
        run("nft delete table ip shunt-ebpf");
        assert_eq!(dataplane.audit(&table).unwrap(), 2);
        dataplane.restore(&table).unwrap();
        assert_eq!(dataplane.audit(&table).unwrap(), 0);
        assert_eq!(links(bpffs), ["egress-1", "ingress-1"]);
    });
}

#[test]
fn while_connections_of_another_mode_live_the_kernel_goes_on_translating_them() {
    in_namespace(|bpffs| {
        let mut first = dataplane(bpffs);
        first.restore(&services(0)).unwrap();
        assert!(!run("nft list ruleset").contains("type nat"));
        drop(first);
        // The other mode came between.
        let mut second = dataplane(bpffs);
        second.set_takes_over(true);
        second.restore(&services(0)).unwrap();
        // Without any chain of type nat the kernel would stop to translate what connection tracking knows.
        assert!(run("nft list ruleset").contains("type nat hook postrouting"));
        drop(second);
        let mut third = dataplane(bpffs);
        third.restore(&services(0)).unwrap();
        assert!(
            run("nft list ruleset").contains("type nat hook postrouting"),
            "such connections may live on"
        );
    });
}

#[test]
fn leaving_the_mode_without_connections_removes_everything() {
    in_namespace(|bpffs| {
        let mut dataplane = dataplane(bpffs);
        dataplane.restore(&services(2)).unwrap();
        drop(dataplane);
        ebpf::retire(bpffs, 3600).unwrap();
        let gone = within(Duration::from_secs(5), || !ebpf::is_present(bpffs));
        assert!(gone.is_some());
    });
}

#[test]
fn what_cannot_work_here_is_refused_with_the_flag_that_helps() {
    in_namespace(|bpffs| {
        let nowhere = Settings { bpffs_root: "/proc".into(), ..settings(bpffs) };
        let error = Ebpf::new(nowhere).unwrap_err();
        assert_eq!(error.disposition(), Disposition::Fatal);
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("--bpffs-root"), "{cause}");
    });
}

#[test]
fn without_a_cgroup_packets_are_translated_and_that_is_said() {
    in_namespace(|bpffs| {
        let no_cgroup = Settings {
            cgroup_root: bpffs.to_owned(),
            sockets: Sockets::All,
            loopback_node_ports: true,
            ..settings(bpffs)
        };
        let table = services(1);
        let mut dataplane = Ebpf::new(no_cgroup).unwrap();
        dataplane.restore(&table).unwrap();
        assert_eq!(links(bpffs), ["egress-1", "ingress-1"]);
        assert_eq!(dataplane.audit(&table).unwrap(), 0, "what cannot be there is not missed");
        let [lost, loopback] = dataplane.shortcomings().try_into().unwrap();
        assert!(lost.contains("--cgroup-root") && lost.contains(&bpffs.display().to_string()), "{lost}");
        assert!(lost.contains("packets are translated one by one"), "{lost}");
        assert!(loopback.contains("loopback"), "{loopback}");
        assert!(dataplane.opt_outs().is_none());
    });
}
