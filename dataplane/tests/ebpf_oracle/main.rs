//! The oracle against the programs: for random Services, endpoints and packets, what `plan::explain` says in plain Rust is what
//! the loaded BPF programs do. Every history runs through the agent's own code into real maps; every packet runs through the
//! real programs (`BPF_PROG_TEST_RUN`). Needs root.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![expect(clippy::print_stderr, reason = "figures for whoever runs the test")]

#[path = "../bpffs/mod.rs"]
mod bpffs;
#[path = "../namespace/mod.rs"]
mod namespace;

mod node;
mod objects;
mod oracle;

use std::cell::RefCell;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner};

use node::{Node, in_namespace};

/// Histories, each with a few plans on the way and some packets after each.
const HISTORIES: u32 = 60;
const PACKETS: usize = 80;

/// The histories are others each time, unless `PROPTEST_RNG_SEED` names those of an earlier run.
fn config() -> Config {
    let config =
        Config { cases: HISTORIES, failure_persistence: None, max_shrink_iters: 100, ..Config::default() };
    let rng_seed = match config.rng_seed {
        RngSeed::Random => RngSeed::Fixed(rand::random()),
        fixed @ RngSeed::Fixed(_) => fixed,
    };
    Config { rng_seed, ..config }
}

#[test]
fn programs_do_with_every_first_packet_what_the_oracle_says() {
    // What an audit finds is in the log.
    tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).with_test_writer().init();
    in_namespace(|bpffs| {
        let state = RefCell::new((Node::new(bpffs), oracle::Seen::default()));
        let histories = vec(vec(objects::any_event(), 6..24), 1..4);
        let packets = vec(any::<(Index, Index, Index)>(), PACKETS);
        let config = config();
        let seed = config.rng_seed;
        let outcome = TestRunner::new(config).run(&(histories, packets), |(plans, packets)| {
            let (node, seen) = &mut *state.borrow_mut();
            node.begin();
            for events in plans {
                node.take_in(events);
                for indices in &packets {
                    oracle::check(node, indices, seen)?;
                }
            }
            node.end().map_err(TestCaseError::fail)
        });
        // The generated indices say nothing to anybody: the reason has the packet, and what was expected of it.
        let reason = match outcome {
            Ok(()) => None,
            Err(TestError::Fail(reason, (plans, _))) => {
                Some(format!("{reason}\nwith seed {seed}, after {plans:#?}"))
            }
            Err(TestError::Abort(reason)) => Some(reason.to_string()),
        };
        assert_eq!(reason.unwrap_or_default(), "");
        // A test that only ever saw packets pass would say nothing.
        let (_, seen) = state.into_inner();
        assert!(seen.is_broad(), "with seed {seed}: {seen:?}");
        eprintln!("seed {seed}: {seen:?}");
    });
}
