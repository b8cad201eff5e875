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
    let directories = ["/run/netns".into(), std::env::temp_dir(), "/sys/fs/cgroup".into()];
    let entries = directories.iter().filter_map(|path| std::fs::read_dir(path).ok()).flatten();
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.starts_with(&mine)).collect()
}

#[test]
fn every_claim_of_the_demo_holds_and_nothing_is_left() {
    let (id, output) = demo(&[]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
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
