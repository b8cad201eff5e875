//! Somebody else changes the rules, or what BPF programs need.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::json;
use shunt_abi::frontend::{FrontendKey4, FrontendValue};
use shunt_tests::Mode;
use shunt_tests::agent::{CHANGE_PATIENCE, Scene, eventually};
use shunt_tests::lab::{Process, empty_pinned_map};

use super::{WEB, difference, scene_with_web};

/// A changed table is to be noticed and repaired within this time.
const REPAIR_PATIENCE: Duration = Duration::from_secs(5);

fn repairs(scene: &Scene) -> f64 {
    scene.metrics().expect("metrics").count("shunt_repairs_total", &[])
}

/// Lines of our table without what changes by itself: clients that are remembered for a time.
fn own_rules(scene: &Scene) -> String {
    let rules = scene.output("nft", &["list", "table", "ip", "shunt"]).unwrap_or_default();
    let mut lines: Vec<_> = rules.lines().filter(|line| !line.contains(" expires ")).collect();
    // What is made anew comes last.
    lines.sort_unstable();
    lines.join("\n")
}

/// Changes something, and waits until everything is as before and the repair is counted.
fn break_and_wait(scene: &Scene, what: &str, change: &[&str]) {
    let (rules, counted) = (own_rules(scene), repairs(scene));
    let started = Instant::now();
    scene.output("nft", change).unwrap_or_else(|error| panic!("{what}: {error:#}"));
    while own_rules(scene) != rules || repairs(scene) <= counted {
        assert!(
            started.elapsed() < REPAIR_PATIENCE,
            "{what}: not repaired, or not counted ({counted} -> {}): {:#?}\n{}",
            repairs(scene),
            difference(&rules, &own_rules(scene)),
            scene.agent.log_tail()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    scene.assert_works(WEB, 2).unwrap_or_else(|error| panic!("{what}: {error:#}"));
}

/// The first line of the table's text that has these words.
fn line_with(scene: &Scene, words: &[&str]) -> String {
    let rules = scene.output("nft", &["list", "table", "ip", "shunt"]).expect("nft runs");
    let found = rules.lines().find(|line| words.iter().all(|word| line.contains(word)));
    found.unwrap_or_else(|| panic!("no line with {words:?} in {rules}")).trim().to_owned()
}

#[test]
fn flushed_and_edited_rules_are_repaired_within_five_seconds_and_counted() {
    let scene = scene_with_web(Mode::Nftables, 2);
    // Its clients are recorded in a set of its own.
    let sticky = serde_json::json!({"clusterIP": "10.96.0.12", "sessionAffinity": "ClientIP",
                                    "ports": [{"port": 80, "targetPort": 8080}]});
    scene.publish_spec("sticky", &sticky, &[0]).expect("applies");
    scene.wait_for_answer("10.96.0.12:80").expect("works");
    break_and_wait(&scene, "flush ruleset", &["flush", "ruleset"]);
    break_and_wait(&scene, "delete table", &["delete", "table", "ip", "shunt"]);
    let key = "10.96.0.10 . tcp . 80";
    break_and_wait(
        &scene,
        "delete an element",
        &["delete", "element", "ip", "shunt", "service-ips", &format!("{{ {key} }}")],
    );
    break_and_wait(&scene, "empty a map", &["flush", "map", "ip", "shunt", "service-ips"]);
    let chain = line_with(&scene, &["chain", "{"]).replace("chain ", "").replace(" {", "");
    break_and_wait(&scene, "empty a chain", &["flush", "chain", "ip", "shunt", &chain]);
    break_and_wait(&scene, "add a rule", &["insert", "rule", "ip", "shunt", &chain, "counter", "drop"]);
    let other = "{ 10.96.0.77 . tcp . 80 : drop }";
    break_and_wait(
        &scene,
        "add an element",
        &["add", "element", "ip", "shunt", "no-endpoint-services", other],
    );
    assert!(scene.agent.log().contains("somebody else changed"), "{}", scene.agent.log_tail());
}

#[test]
fn changes_while_the_agent_is_down_are_repaired_at_its_start() {
    let mut scene = scene_with_web(Mode::Nftables, 2);
    let rules = own_rules(&scene);
    scene.agent.kill().expect("is killed");
    scene.nft("delete element ip shunt service-ips { 10.96.0.10 . tcp . 80 }").expect("nft runs");
    scene
        .nft("add chain ip shunt odd { type filter hook forward priority 0 ; policy drop ; }")
        .expect("nft runs");
    scene.start().expect("starts");
    scene.wait_for_answer(WEB).expect("works again");
    assert_eq!(own_rules(&scene), rules);
}

#[test]
fn tables_of_others_and_busy_neighbours_are_left_alone() {
    let scene = scene_with_web(Mode::Nftables, 2);
    let neighbour = "table ip neighbour {\n set s {\n type ipv4_addr\n }\n chain c {\n \
                     type filter hook forward priority 5\n ip saddr @s drop\n }\n }";
    scene.nft(neighbour).expect("nft runs");
    let before = repairs(&scene);
    for last in 1..=50 {
        scene.nft(&format!("add element ip neighbour s {{ 192.0.2.{last} }}")).expect("nft runs");
    }
    scene.publish("web", "10.96.0.10", &[0]).expect("applies");
    std::thread::sleep(Duration::from_millis(500));
    assert!((repairs(&scene) - before).abs() < 0.5, "a neighbour's changes are none of ours");
    let theirs = scene.output("nft", &["list", "set", "ip", "neighbour", "s"]).expect("nft runs");
    assert!(theirs.contains("192.0.2.50"), "{theirs}");
    // Without anything to do the table is not written to.
    let rules = scene.output("nft", &["-a", "list", "table", "ip", "shunt"]).expect("nft runs");
    scene.nft("delete table ip neighbour").expect("nft runs");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(scene.output("nft", &["-a", "list", "table", "ip", "shunt"]).expect("nft runs"), rules);
}

/// What an agent of mode ebpf has in the kernel, besides elements of maps.
#[derive(Debug, PartialEq)]
struct Kernel {
    links: Vec<String>,
    rules: String,
}

impl Kernel {
    fn of(scene: &Scene) -> Self {
        let found = scene.output("find", &["/sys/fs/bpf/shunt", "-path", "*/links/*"]).expect("find runs");
        let mut links: Vec<_> = found.lines().map(str::to_owned).collect();
        links.sort();
        Self { links, rules: scene.ruleset().expect("rules") }
    }
}

/// A scene of mode ebpf with a service that needs the masquerade rule, and what is in its kernel then.
fn scene_with_rule(mode: Mode) -> (Scene, Kernel) {
    let scene = scene_with_web(mode, 2);
    let balanced = json!({"type": "NodePort", "clusterIP": "10.96.0.20",
                          "ports": [{"port": 80, "targetPort": 8080, "nodePort": 30080}]});
    let mut elsewhere = scene.slice("balanced", &[0]).expect("a slice");
    elsewhere["endpoints"][0]["nodeName"] = json!("node-b");
    scene.api.put(shunt_tests::stage::service("balanced", &balanced)).expect("applies");
    scene.api.put(elsewhere).expect("applies");
    eventually("the rule is there", CHANGE_PATIENCE, || {
        Ok(Kernel::of(&scene).rules.contains("masquerade").then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", scene.agent.log_tail()));
    let kernel = Kernel::of(&scene);
    assert!(kernel.links.len() >= 4, "{kernel:?}");
    (scene, kernel)
}

/// A process that sees what is mounted on the node, where its pins are.
fn witness(scene: &Scene) -> (Process, PathBuf) {
    let words: Vec<OsString> = ["sleep", "120"].map(OsString::from).into();
    let log = scene.agent.directory().join("witness.log");
    let process = scene.node().surroundings().start(&words, &log).expect("starts");
    let pins = scene.output("find", &["/sys/fs/bpf/shunt", "-name", "FRONTENDS4"]).expect("find runs");
    let path = PathBuf::from(format!("/proc/{}/root{}", process.id(), pins.trim()));
    (process, path)
}

/// Services are forgotten, programs detached, and rules flushed.
fn destroy(scene: &Scene, frontends: &std::path::Path) {
    let removed = empty_pinned_map::<FrontendKey4, FrontendValue>(frontends).expect("a map");
    assert!(removed >= 2, "{removed} frontends");
    scene.assert_works(WEB, 1).expect_err("nobody knows the service");
    let unlink = ["/sys/fs/bpf/shunt", "-path", "*/links/*", "-delete"];
    scene.output("find", &unlink).expect("find runs");
    scene.output("nft", &["flush", "ruleset"]).expect("nft runs");
}

fn removed_programs_services_and_rules_are_repaired_within_five_seconds_and_counted(mode: Mode) {
    let (scene, kernel) = scene_with_rule(mode);
    let (mut witness, frontends) = witness(&scene);
    for round in 1..=2 {
        let counted = repairs(&scene);
        let started = Instant::now();
        destroy(&scene, &frontends);
        while Kernel::of(&scene) != kernel || repairs(&scene) <= counted {
            assert!(
                started.elapsed() < REPAIR_PATIENCE,
                "round {round}: not repaired, or not counted ({counted} -> {}): {kernel:?} -> {:?}\n{}",
                repairs(&scene),
                Kernel::of(&scene),
                scene.agent.log_tail()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        scene.assert_works(WEB, 5).unwrap_or_else(|error| panic!("round {round}: {error:#}"));
    }
    assert!(scene.agent.log().contains("somebody else changed"), "{}", scene.agent.log_tail());
    witness.kill().expect("ends");
}

#[test]
fn removed_programs_services_and_rules_are_repaired_on_sockets() {
    removed_programs_services_and_rules_are_repaired_within_five_seconds_and_counted(Mode::Ebpf);
}

#[test]
fn removed_programs_services_and_rules_are_repaired_per_packet() {
    removed_programs_services_and_rules_are_repaired_within_five_seconds_and_counted(Mode::PerPacket);
}

fn what_was_removed_while_the_agent_was_down_is_there_after_its_start(mode: Mode) {
    let (mut scene, kernel) = scene_with_rule(mode);
    let (mut witness, frontends) = witness(&scene);
    scene.agent.kill().expect("is killed");
    destroy(&scene, &frontends);
    scene.start().expect("starts");
    scene.wait_for_answer(WEB).expect("works again");
    eventually("everything is back", CHANGE_PATIENCE, || Ok((Kernel::of(&scene) == kernel).then_some(())))
        .unwrap_or_else(|error| panic!("{error}: {kernel:?} -> {:?}", Kernel::of(&scene)));
    witness.kill().expect("ends");
}

#[test]
fn what_was_removed_while_no_agent_ran_is_there_after_its_start_on_sockets() {
    what_was_removed_while_the_agent_was_down_is_there_after_its_start(Mode::Ebpf);
}

#[test]
fn what_was_removed_while_no_agent_ran_is_there_after_its_start_per_packet() {
    what_was_removed_while_the_agent_was_down_is_there_after_its_start(Mode::PerPacket);
}
