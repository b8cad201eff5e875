//! The agent against an API server: what operators configure, see and break, with real packets.
//!
//! Needs root, iproute2, nft, iptables, conntrack and the built agent (or `SHUNT_BIN`).
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failure of a step is a failure of the test"
)]

mod api;
mod api_faults;
mod bad_objects;
mod cleanup;
mod command_line;
mod conntrack;
mod credentials;
mod health;
mod metrics;
mod modes;
mod node_cidr;
mod repair;
mod stuck;
mod subcommands;

use std::collections::BTreeSet;

use shunt_tests::Mode;
use shunt_tests::agent::{Scene, tcp};
use shunt_tests::lab::{Client, Outcome};

/// The service that most tests begin with.
const WEB: &str = "10.96.0.10:80";

fn is_answer(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Answer(_))
}

/// Lines that are in one of the texts only.
fn difference<'a>(before: &'a str, after: &'a str) -> BTreeSet<&'a str> {
    let lines = |text: &'a str| text.lines().collect::<BTreeSet<_>>();
    lines(before).symmetric_difference(&lines(after)).copied().collect()
}

/// Fails unless the rules on the node are these.
fn assert_unchanged(scene: &Scene, rules: &str) {
    let now = scene.ruleset().expect("rules");
    assert!(now == rules, "rules have changed: {:#?}\n{}", difference(rules, &now), scene.agent.log_tail());
}

/// A scene with so many pods, the agent and the service [`WEB`], which leads to the first pod.
fn scene_with_web(mode: Mode, pods: u8) -> Scene {
    let mut scene = Scene::create(mode, pods).expect("a scene");
    scene.start_with_web().expect("the agent serves");
    scene
}

/// Opens a connection from the asking pod, which is answered once.
fn open_connection(scene: &Scene, to: &str) -> Client {
    let asker = scene.asker().expect("a pod");
    let client = asker.open(tcp(to)).expect("connects");
    still_works(scene, client)
}

/// Uses a connection again.
fn still_works(scene: &Scene, client: Client) -> Client {
    let (client, outcome) = scene.asker().expect("a pod").ask_again(client).expect("asks");
    assert!(is_answer(&outcome), "the connection does not live on: {outcome:?}\n{}", scene.agent.log_tail());
    client
}
