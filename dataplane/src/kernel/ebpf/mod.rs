//! Services as BPF programs: on every interface of the node (tc), and on the sockets of a cgroup.
//!
//! # Parts
//!
//! Pure: `service` (what one Service port is in the maps), `model` (all of them; changes -> writes), `adopt` (what
//! an earlier agent left -> model and writes), `ids`, `ranges` and `room` (numbers and places), `audit`, `flows`,
//! `patience` and `chains` (when a flow is over, and what goes with it). Talking to the kernel: `sys`, `map` and `maps`;
//! `collector`, `flow_maps` and `established` (flows); `programs` and `loading`; `attachments` with `link`, `classic`, `order`,
//! `contest`, `markers`, `interfaces` and `sources`; `monitor` and `watcher`; `sockets` and `namespaces`; `opt_outs`;
//! `masquerade`. Answering questions: `observe`, `inspect`, `trial`. `dataplane` puts them behind the trait, `shared` is
//! what threads share.
//!
//! # What stays when the agent ends
//!
//! Maps and links are pinned (`directory`), so packets are translated on. The next agent takes the maps over, writes
//! the differences and puts its programs behind the links. One whose maps have other layouts (`schema`) or other sizes
//! (`sizes`) fills maps of its own and copies what flows and clients hold (`predecessor`, `translation`).
//!
//! # Threads
//!
//! The agent's task owns the dataplane. One thread looks after interfaces, addresses and what others do to ours
//! (`watcher`), one collects flows and destroys sockets (`worker`), and where sockets are balanced one finds the cgroups of
//! pods that opted out (`opt_outs`). They end when the dataplane is dropped.

mod acceleration;
mod adopt;
mod attached;
mod attachments;
mod audit;
mod balancing;
mod cgroup;
mod chains;
mod classic;
mod cleanup;
mod collector;
mod contest;
mod dataplane;
mod description;
mod directory;
mod established;
mod failure;
mod flow_maps;
mod flows;
mod hook;
mod ids;
mod inspect;
mod interfaces;
mod known;
mod link;
mod loading;
mod map;
mod maps;
mod markers;
mod masquerade;
mod masquerade_ports;
mod model;
mod monitor;
mod namespaces;
mod node_config;
mod observe;
mod opt_outs;
mod order;
mod patience;
mod placement;
mod predecessor;
#[cfg(feature = "program-log")]
mod program_log;
mod programs;
mod ranges;
mod retire;
mod room;
mod route;
mod route_mtus;
mod schema;
#[cfg(test)]
mod scratch;
mod service;
mod settings;
mod shared;
mod shortcuts;
mod sizes;
mod sockets;
mod sorted_map;
mod sources;
mod sys;
mod translation;
mod trial;
mod watcher;
#[cfg(feature = "workbench")]
pub mod workbench;
mod worker;
mod write;

pub use attached::{AttachedError, AttachedProgram, Direction, Verdict};
pub use cgroup::path_of as cgroup_path;
pub use cleanup::{cleanup, is_present};
pub use dataplane::Ebpf;
pub use opt_outs::OptOuts;
pub use order::{NoOrder, Order};
pub use retire::retire;
pub use settings::{Attaching, Settings, Sockets};
pub use sizes::{Sizes, Wanted as WantedSizes};

/// An error with its sources, in one line. Of texts with many lines (the verifier's log) the first line and what comes
/// before the statistics at the end.
fn words(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut text = String::new();
    for cause in causes.map(|cause| gist(&cause.to_string())) {
        // Layers of errors repeat each other's text.
        if !text.contains(&cause) {
            text = if text.is_empty() { cause } else { format!("{text}: {cause}") };
        }
    }
    text
}

fn gist(text: &str) -> String {
    const STATISTICS: [&str; 3] = ["verification time", "stack depth", "processed"];
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.len() <= 2 {
        return lines.join("; ");
    }
    tracing::debug!("{text}");
    let telling = lines.iter().filter(|line| !STATISTICS.iter().any(|start| line.starts_with(start)));
    let telling: Vec<&str> = telling.copied().collect();
    let first = telling.first().into_iter();
    first.chain(telling.iter().skip(1).rev().take(2).rev()).copied().collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::gist;

    #[test]
    fn of_a_verifier_log_the_point_is_kept() {
        let log = "the program is refused:\n0: r1 = r2\n1: r3 = r4\nR4 offset is outside of the packet\n\
                   verification time 3 usec\nstack depth 0\nprocessed 2 insns\n";
        assert_eq!(gist(log), "the program is refused:; 1: r3 = r4; R4 offset is outside of the packet");
        assert_eq!(gist("short"), "short");
    }
}
