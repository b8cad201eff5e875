//! kube-proxy's packet-flow tables, and cases of our own, as real packets.
//!
//! Each case of `tests/data/cases` and `tests/data/cases-own` is a test of its
//! own in each mode: `nftables/NAME`, `ebpf/NAME`, `per_packet/NAME`. Where the
//! modes differ is said in `shunt_tests::mode`. Needs root, iproute2 and the built agent. See `tests/data/README.md`
//! for the environment variables that are looked at.

use std::env::var;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};
use libtest_mimic::{Arguments, Failed, Trial};
use shunt_tests::Mode;
use shunt_tests::flows::{AgentProgram, Backend, Case, FeedKind, Options, cases_in, run, shunt_program};

/// Cases mostly wait, so more of them run at a time than there are processors.
const CASES_AT_A_TIME: usize = 4;
/// Folder, label, and how its cases show objects to the agent: so both ways
/// are used by many cases.
const FOLDERS: [(&str, &str, FeedKind); 2] =
    [("cases", "kube-proxy", FeedKind::ApiServer), ("cases-own", "own", FeedKind::Manifests)];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(CASES_AT_A_TIME);
    match trials() {
        Ok(trials) => libtest_mimic::run(&arguments, trials).exit_code(),
        Err(error) => {
            let trial = Trial::test("cases_can_be_listed", move || Err(Failed::from(format!("{error:#}"))));
            libtest_mimic::run(&arguments, vec![trial]).exit_code()
        }
    }
}

fn trials() -> Result<Vec<Trial>> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
    let wanted_feed = wanted_feed()?;
    let mut trials = Vec::new();
    for (folder, label, feed) in FOLDERS {
        let feed = wanted_feed.unwrap_or(feed);
        for case in cases_in(&data.join(folder), Backend::Nftables)? {
            for mode in Mode::ALL {
                let (case, name) = (case.clone(), format!("{}/{}", mode.name(), case.name));
                trials.push(Trial::test(name, move || check(&case, feed, mode)).with_kind(label));
            }
        }
    }
    Ok(trials)
}

fn wanted_feed() -> Result<Option<FeedKind>> {
    match var("SHUNT_FEED").as_deref() {
        Ok("api") => Ok(Some(FeedKind::ApiServer)),
        Ok("manifests") => Ok(Some(FeedKind::Manifests)),
        Ok(other) => bail!("SHUNT_FEED is {other:?}; known are \"api\" and \"manifests\""),
        Err(_unset) => Ok(None),
    }
}

fn check(case: &Case, feed: FeedKind, mode: Mode) -> Result<(), Failed> {
    let failures = shunt_program()
        .and_then(|program| run(case, &Options { feed, ..Options::new(AgentProgram::Agent(program), mode) }));
    match failures {
        Ok(failures) if failures.is_empty() => Ok(()),
        Ok(failures) => {
            let lines: Vec<_> = failures.iter().map(ToString::to_string).collect();
            Err(lines.join("\n").into())
        }
        Err(error) => Err(format!("{error:#}").into()),
    }
}
