//! The demo itself: it ends well, cleans up, and says clearly why it cannot run.
#![expect(clippy::expect_used, reason = "a failure of a step is a failure of the test")]

use std::process::{Command, Output};

use shunt_tests::flows::shunt_program;

fn demo(arguments: &[&str]) -> (u32, Output) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    command.args(arguments).arg("--agent").arg(shunt_program().expect("the agent is built"));
    let child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn();
    let child = child.expect("the demo starts");
    (child.id(), child.wait_with_output().expect("the demo ends"))
}

fn leftovers(process: u32) -> Vec<String> {
    let mine = format!("shuntlab{process}-");
    let cgroups = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(std::path::PathBuf::from);
    let directories = ["/run/netns".into(), std::env::temp_dir()].into_iter().chain(cgroups);
    let directories: Vec<_> = directories.collect();
    let entries = directories.iter().filter_map(|path| std::fs::read_dir(path).ok()).flatten();
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.starts_with(&mine)).collect()
}

#[test]
fn every_claim_of_the_demo_holds_and_nothing_is_left_in_mode_nftables() {
    every_claim_holds_and_nothing_is_left("nftables");
}

#[test]
fn every_claim_of_the_demo_holds_and_nothing_is_left_in_mode_ebpf() {
    every_claim_holds_and_nothing_is_left("ebpf");
}

fn every_claim_holds_and_nothing_is_left(mode: &str) {
    let (id, output) = demo(&["--mode", mode]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains(&format!("shunt in mode {mode} on both nodes")), "{text}");
    assert!(text.contains("A rolling update") && text.contains(" 0 failed"), "{text}");
    assert!(!text.contains('\u{1b}'), "colours where nobody looks");
    assert_eq!(leftovers(id), Vec::<String>::new());
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    let (_, output) = demo(&["--mode", "ipvs"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && errors.contains("nftables, auto, ebpf"), "{errors}");
}
