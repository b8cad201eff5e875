//! Kinds of interfaces that few machines at hand have modules of: clients outside come to the node through each.

use anyhow::Result;

use super::cases::{answer_through, cluster_ips, objects};
use super::node::{Client, NODE, OUTSIDE, Scene};
use super::report::Report;
use crate::Mode;

/// An interface between the node and the machine outside.
struct Kind {
    name: &'static str,
    /// Commands for ip(8) at either end that make `kind0`; `{own}` and `{other}` are the addresses below it.
    commands: &'static [&'static str],
    /// Whether it carries IPv6, too.
    is_dual: bool,
}

const KINDS: [Kind; 4] = [
    Kind { name: "VLAN", commands: &["link add link up0 name kind0 type vlan id 7"], is_dual: true },
    Kind {
        name: "bond",
        commands: &[
            "link add kind0 type bond mode active-backup miimon 100",
            "link add link up0 name lower0 type vlan id 8",
            "link set lower0 master kind0",
        ],
        is_dual: true,
    },
    Kind { name: "Geneve", commands: &["link add kind0 type geneve id 5 remote {other}"], is_dual: true },
    // Without link-layer headers.
    Kind { name: "IPIP", commands: &["link add kind0 type ipip local {own} remote {other}"], is_dual: false },
];

/// Addresses of the node and of the other machine on `kind0`, IPv4 and IPv6.
const ENDS: [[&str; 2]; 2] = [["10.60.0.1", "fd00:60::1"], ["10.60.0.2", "fd00:60::2"]];

/// A line for each kind.
pub(super) fn run(report: &mut Report, scene: &mut Scene, mode: Mode) {
    let part = mode.name();
    // Some checks before leave fewer.
    let all = objects(scene).and_then(|objects| scene.apply(objects));
    report.outcome(part, "all endpoints are back", &all.map(|()| String::new()));
    for kind in &KINDS {
        let name = format!("clients come through {}", kind.name);
        let outcome = through(scene, kind);
        match &outcome {
            // Some kernels show programs the headers outside of the tunnel's.
            Err(error) if mode.is_ebpf() && !kind.is_dual => {
                report.missing(part, &name, &format!("{error:#}"));
            }
            _ => report.outcome(part, &name, &outcome),
        }
    }
}

fn through(scene: &Scene, kind: &Kind) -> Result<String> {
    let families = if kind.is_dual { 2 } else { 1 };
    let ask = || cluster_ips().iter().take(families).map(|to| answer_through(scene, to)).collect();
    let answers: Result<Vec<_>> = set_up(scene, kind).and_then(|()| ask());
    let gone = take_down(scene);
    let answers = answers?;
    gone.map(|()| answers.join(", "))
}

fn set_up(scene: &Scene, kind: &Kind) -> Result<()> {
    let ends = [(Client::Node, NODE, OUTSIDE), (Client::Outside, OUTSIDE, NODE)];
    for ((machine, own, other), addresses) in ends.into_iter().zip(ENDS) {
        let fill = |command: &&str| command.replace("{own}", own).replace("{other}", other);
        let mut lines: Vec<String> = kind.commands.iter().map(fill).collect();
        lines.push("link set kind0 up".to_owned());
        let [four, six] = addresses;
        lines.push(format!("addr add {four}/24 dev kind0"));
        if kind.is_dual {
            lines.push(format!("addr add {six}/64 dev kind0 nodad"));
        }
        scene.ip(machine, &lines)?;
    }
    let [[four, six], _] = ENDS;
    let mut routes = vec![format!("route replace 10.96.0.0/16 via {four} dev kind0")];
    if kind.is_dual {
        routes.push(format!("route replace fd00:96::/64 via {six} dev kind0"));
    }
    scene.ip(Client::Outside, &routes)
}

fn take_down(scene: &Scene) -> Result<()> {
    for machine in [Client::Node, Client::Outside] {
        scene.ip(machine, &["link del kind0".to_owned()])?;
        // That of the bond stays. There is none of the others.
        let _none = scene.ip(machine, &["link del lower0".to_owned()]);
    }
    Ok(())
}
